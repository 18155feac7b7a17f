//! Judges the registry of page links. Pure.

use super::{Finding, Sheet};
use crate::registry::inspect::{Inspected, State};

pub fn judge(inspected: &Inspected) -> Vec<Finding> {
    let mut sheet = Sheet::new("the registry");
    reached(&inspected.state, &mut sheet);
    proves_itself(inspected.proves_itself, &mut sheet);
    sheet.finish()
}

fn reached(state: &State, sheet: &mut Sheet) {
    const CHECK: &str = "registry-reached";
    match state {
        State::Empty => sheet.ok(CHECK, "its tables are made at the first start"),
        State::Fine => sheet.ok(CHECK, "it is there, and registry.key_file opens its secrets"),
        State::Refused(why) => sheet.refused(CHECK, why),
        State::Away(why) => {
            sheet.unseen(CHECK, format!("can't be looked at: {why}"), "check registry.url and the network");
        }
    }
}

fn proves_itself(proves: Option<bool>, sheet: &mut Sheet) {
    const CHECK: &str = "registry-tls";
    match proves {
        None => {}
        Some(true) => sheet.ok(CHECK, "it must prove who it is, by TLS"),
        Some(false) => sheet.note(
            CHECK,
            "it need not prove who it is: whoever sits between can read and change what is told to it",
            "add ?sslmode=verify-full to registry.url, and &sslrootcert=FILE where its certificate is of your own",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Severity;

    #[test]
    fn each_state_has_its_severity_and_its_way_out() {
        let why = "registry.key_file: it is wrong".to_owned();
        for (state, severity) in [
            (State::Empty, Severity::Ok),
            (State::Fine, Severity::Ok),
            (State::Refused(why.clone()), Severity::Dangerous),
            (State::Away("refused".to_owned()), Severity::Unseen),
        ] {
            let findings = judge(&Inspected { state, proves_itself: None });
            assert_eq!(findings.iter().map(|finding| finding.severity).collect::<Vec<_>>(), [severity]);
        }
        let told = judge(&Inspected { state: State::Refused(why), proves_itself: Some(false) });
        assert!(told[0].to_string().contains("registry.key_file: it is wrong"));
        assert_eq!(told[1].severity, Severity::Note);
        assert!(told[1].mend.as_deref().is_some_and(|mend| mend.contains("sslmode=verify-full")));
    }
}
