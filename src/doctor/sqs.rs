//! Judges the two queues of an SQS buffer. Pure.

use std::time::Duration;

use super::{Finding, Sheet, bytes, clock_differs};
use crate::buffer::sqs::wanted::{
    DEAD_RETENTION_ADVISED, MESSAGE_BYTES, RECEIVES_ADVISED, RECEIVES_MIN, RETENTION_ADVISED, RETENTION_MIN,
};
use crate::buffer::sqs::{Inspected, Look, Options, QueueFacts, Seen};

/// What the buffer is used with.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// For how long a batch may be worked on, the end of the process included.
    pub batch_time: Duration,
}

/// SQS refuses calls that are 15 minutes off, and producers' event times that are 5 minutes ahead are refused by us: a
/// clock that is off by more than this is on its way there. Its answers name whole seconds.
const CLOCK_GAP_MS_MAX: i64 = 30_000;
const CREATE: &str = "`hookcache queues create` mends it";

pub fn judge(inspected: &Inspected, options: &Options, wanted: &Wanted) -> Vec<Finding> {
    let sheet = |key, url: &str, look| {
        let name = url.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let reached_at = options.endpoint_url.as_deref().unwrap_or(url);
        let has_tls = reached_at.starts_with("https://");
        QueueSheet { key, sheet: Sheet::new(format!("queue {name}")), has_tls, look }
    };
    let queue = sheet(options.keys.queue_url, &options.queue_url, &inspected.queue);
    let dead = sheet(options.keys.dead_letter_url, &options.dead_letter_url, &inspected.dead_letters);
    let mut findings = judge_queue(queue, &inspected.dead_letters, options, wanted);
    findings.extend(judge_dead_letters(dead, &inspected.queue));
    findings
}

struct QueueSheet<'a> {
    key: &'static str,
    sheet: Sheet,
    /// A queue that is reached by plain HTTP can't ask for TLS.
    has_tls: bool,
    look: &'a Look,
}

impl<'a> QueueSheet<'a> {
    /// What was seen, and what is to be said of any queue; otherwise why it was not seen.
    fn seen(&mut self) -> Option<&'a Seen> {
        let (key, sheet) = (self.key, &mut self.sheet);
        match self.look {
            Look::Refused(error) => sheet.refused("sqs-queue", error),
            Look::Away(why) => sheet.unseen(
                "sqs-queue",
                format!("can't be looked at: {why}"),
                format!("check {key}, buffer.endpoint_url and the network"),
            ),
            Look::Seen(seen) => {
                sheet.ok("sqs-queue", "a standard queue");
                permissions(seen, sheet);
                message_size(&seen.facts, sheet);
                encryption(&seen.facts, sheet);
                if self.has_tls {
                    tls_only(&seen.facts, sheet);
                }
                clock(seen, sheet);
                return Some(seen);
            }
        }
        None
    }
}

fn judge_queue(mut queue: QueueSheet<'_>, dead: &Look, options: &Options, wanted: &Wanted) -> Vec<Finding> {
    if let Some(Seen { facts, .. }) = queue.seen() {
        visibility(facts, options, wanted, &mut queue.sheet);
        retention(facts, &mut queue.sheet);
        if facts.number("DelaySeconds").is_some_and(|delay| delay > 0) {
            queue.sheet.note("sqs-delay", "it delays every message (DelaySeconds)", CREATE);
        }
        redrive(facts, dead, &mut queue.sheet);
    }
    queue.sheet.finish()
}

fn judge_dead_letters(mut dead: QueueSheet<'_>, queue: &Look) -> Vec<Finding> {
    if let Some(Seen { facts, .. }) = dead.seen() {
        let of_queue = match queue {
            Look::Seen(seen) => Some(&seen.facts),
            Look::Refused(_) | Look::Away(_) => None,
        };
        dead_retention(facts, of_queue, &mut dead.sheet);
        if let Some((dead_arn, arn)) = facts.arn().zip(of_queue.and_then(QueueFacts::arn)) {
            place(dead_arn, arn, facts, &mut dead.sheet);
        }
    }
    dead.sheet.finish()
}

fn permissions(seen: &Seen, sheet: &mut Sheet) {
    const CHECK: &str = "sqs-permissions";
    let lacking: Vec<&str> = seen.denied.iter().map(|action| action.permission()).collect();
    match lacking.is_empty() {
        true => sheet.ok(CHECK, "nothing that was tried is refused (sqs:ReceiveMessage is not tried)"),
        false => sheet.dangerous(
            CHECK,
            format!("SQS refuses {}", lacking.join(", ")),
            "allow it in the policy of the user or role whose credentials are used, or in that of the queue",
        ),
    }
}

fn message_size(facts: &QueueFacts, sheet: &mut Sheet) {
    const CHECK: &str = "sqs-message-size";
    match facts.number("MaximumMessageSize") {
        Some(most) if most < MESSAGE_BYTES => sheet.risky(
            CHECK,
            format!("it refuses messages above {} (MaximumMessageSize), and larger sets with them", bytes(most)),
            CREATE,
        ),
        _ => sheet.ok(CHECK, format!("up to {}", bytes(MESSAGE_BYTES))),
    }
}

fn encryption(facts: &QueueFacts, sheet: &mut Sheet) {
    const CHECK: &str = "sqs-encryption";
    match facts.is_encrypted() {
        true => sheet.ok(CHECK, "encrypted at rest"),
        false => sheet.note(CHECK, "not encrypted at rest, or an emulator that doesn't say so", CREATE),
    }
}

fn tls_only(facts: &QueueFacts, sheet: &mut Sheet) {
    const CHECK: &str = "sqs-tls";
    match facts.is_tls_only() {
        true => sheet.ok(CHECK, "calls without TLS are refused"),
        false => sheet.note(CHECK, "its policy doesn't refuse calls without TLS", CREATE),
    }
}

fn clock(seen: &Seen, sheet: &mut Sheet) {
    const CHECK: &str = "sqs-clock";
    // Where nothing was tried, nothing said what time it is.
    let Some(gap_ms) = seen.clock_gap_ms else { return };
    match clock_differs(gap_ms, CLOCK_GAP_MS_MAX) {
        None => sheet.ok(CHECK, "as this machine's"),
        Some(differs) => sheet.risky(
            CHECK,
            format!("{differs}: SQS refuses calls, and newer events lose to older ones"),
            "let NTP set this machine's clock",
        ),
    }
}

fn visibility(facts: &QueueFacts, options: &Options, wanted: &Wanted, sheet: &mut Sheet) {
    const CHECK: &str = "sqs-visibility";
    let ours = options.visibility;
    if ours < wanted.batch_time {
        return sheet.risky(
            CHECK,
            format!(
                "buffer.visibility ({ours:?}) is shorter than a batch may take ({:?}): a slow store has messages taken \
                 twice",
                wanted.batch_time
            ),
            "raise buffer.visibility, or lower store.write_timeout, store.connect_timeout and consumer.drain_deadline",
        );
    }
    match facts.seconds("VisibilityTimeout") {
        Some(theirs) if theirs < ours => sheet.note(
            CHECK,
            format!(
                "it hides what others take for {theirs:?}, less than buffer.visibility ({ours:?}), which hookcache itself \
                 asks for"
            ),
            CREATE,
        ),
        _ => sheet.ok(CHECK, format!("{ours:?}")),
    }
}

fn retention(facts: &QueueFacts, sheet: &mut Sheet) {
    const CHECK: &str = "sqs-retention";
    let Some(kept) = facts.seconds("MessageRetentionPeriod") else {
        return sheet.note(CHECK, "it doesn't tell how long it keeps messages", "see that it is 10 days");
    };
    let told = format!("it keeps messages for {}", hours(kept));
    let lost = format!("{told} (MessageRetentionPeriod): what lies there longer it forgets");
    match kept {
        kept if kept < RETENTION_MIN => sheet.risky(CHECK, lost, CREATE),
        kept if kept < RETENTION_ADVISED => sheet.note(CHECK, lost, CREATE),
        _ => sheet.ok(CHECK, told),
    }
}

fn redrive(facts: &QueueFacts, dead: &Look, sheet: &mut Sheet) {
    const CHECK: &str = "sqs-redrive";
    let Some(redrive) = facts.redrive() else {
        return sheet.note(
            CHECK,
            "no redrive policy: a message that ends every process that takes it is never given up",
            CREATE,
        );
    };
    if let Look::Seen(dead) = dead
        && dead.facts.arn().is_some_and(|arn| arn != redrive.target_arn)
    {
        return sheet.risky(
            CHECK,
            format!("it gives messages up to {}, not to buffer.dead_letter_url", redrive.target_arn),
            format!("{CREATE}, or correct buffer.dead_letter_url"),
        );
    }
    let told = format!("it gives a message up after {} receives (maxReceiveCount)", redrive.receives_max);
    match redrive.receives_max {
        count if count < RECEIVES_MIN => {
            sheet.risky(CHECK, format!("{told}, which a pause of the store may reach"), CREATE)
        }
        count if count < RECEIVES_ADVISED => {
            sheet.note(CHECK, format!("{told}; {RECEIVES_ADVISED} is advised"), CREATE)
        }
        _ => sheet.ok(CHECK, told),
    }
}

fn dead_retention(facts: &QueueFacts, of_queue: Option<&QueueFacts>, sheet: &mut Sheet) {
    const CHECK: &str = "sqs-retention";
    let Some(kept) = facts.seconds("MessageRetentionPeriod") else {
        return sheet.note(CHECK, "it doesn't tell how long it keeps dead letters", "see that it is 14 days");
    };
    let told = format!("it keeps dead letters for {}", hours(kept));
    let in_queue = of_queue.and_then(|queue| queue.seconds("MessageRetentionPeriod"));
    match in_queue {
        Some(in_queue) if kept < in_queue => sheet.risky(
            CHECK,
            format!(
                "{told}, less than the queue keeps messages ({}): one that it gives up late is gone",
                hours(in_queue)
            ),
            CREATE,
        ),
        _ if kept < DEAD_RETENTION_ADVISED => sheet.note(CHECK, told, CREATE),
        _ => sheet.ok(CHECK, told),
    }
}

/// Is it a queue of its own, where the other one can give messages up to it?
fn place(dead_arn: &str, arn: &str, facts: &QueueFacts, sheet: &mut Sheet) {
    const CHECK: &str = "sqs-dead-letters";
    // arn:aws:sqs:region:account:name
    let region = |arn: &str| arn.split(':').nth(3).map(str::to_owned);
    if dead_arn == arn {
        sheet.dangerous(CHECK, "it is the queue itself", "set buffer.dead_letter_url to another queue");
    } else if region(dead_arn) != region(arn) {
        sheet.risky(CHECK, "it is in another region, where the queue can't give messages up to it", CREATE);
    } else if facts.redrive_sources().is_some_and(|sources| sources.iter().all(|source| source != arn)) {
        sheet.risky(CHECK, "it doesn't let the queue give messages up to it (RedriveAllowPolicy)", CREATE);
    } else {
        sheet.ok(CHECK, "a queue of its own");
    }
}

fn hours(time: Duration) -> String {
    match time.as_secs() / 3_600 {
        hours if hours >= 48 && hours % 24 == 0 => format!("{} days", hours / 24),
        hours => format!("{hours} hours"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Severity::{self, Dangerous, Note, Ok, Risky, Unseen};
    use super::*;
    use crate::buffer::sqs::{Action, Keys, OpenError};

    const TLS_ONLY: &str = r#"{"Statement":[{"Effect":"Deny","Condition":{"Bool":{"aws:SecureTransport":"false"}}}]}"#;
    const QUEUE: [(&str, &str); 7] = [
        ("Policy", TLS_ONLY),
        ("QueueArn", "arn:aws:sqs:eu-west-1:1:q"),
        ("VisibilityTimeout", "60"),
        ("MessageRetentionPeriod", "864000"),
        ("MaximumMessageSize", "1048576"),
        ("SqsManagedSseEnabled", "true"),
        ("RedrivePolicy", r#"{"deadLetterTargetArn":"arn:aws:sqs:eu-west-1:1:d","maxReceiveCount":"1000"}"#),
    ];
    const DEAD: [(&str, &str); 6] = [
        ("Policy", TLS_ONLY),
        ("QueueArn", "arn:aws:sqs:eu-west-1:1:d"),
        ("MessageRetentionPeriod", "1209600"),
        ("MaximumMessageSize", "1048576"),
        ("SqsManagedSseEnabled", "true"),
        ("RedriveAllowPolicy", r#"{"redrivePermission":"byQueue","sourceQueueArns":["arn:aws:sqs:eu-west-1:1:q"]}"#),
    ];

    fn seen(base: &[(&str, &str)], change: &[(&str, &str)]) -> Look {
        let pairs = base.iter().chain(change).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Look::Seen(Seen { facts: QueueFacts::new(pairs.collect()), denied: vec![], clock_gap_ms: Some(0) })
    }

    fn of(queue: Look, dead_letters: Look) -> Vec<Finding> {
        let options = Options {
            queue_url: "https://h/1/q".into(),
            dead_letter_url: "https://h/1/d".into(),
            visibility: Duration::from_secs(60),
            ..Options::default()
        };
        judge(&Inspected { queue, dead_letters }, &options, &Wanted { batch_time: Duration::from_secs(15) })
    }

    /// The one finding that is not fine.
    fn only(findings: &[Finding]) -> (&'static str, Severity, &str) {
        let bad: Vec<&Finding> = findings.iter().filter(|finding| finding.severity > Ok).collect();
        assert_eq!(bad.len(), 1, "{bad:#?}");
        (bad[0].check, bad[0].severity, &bad[0].place)
    }

    #[test]
    fn queues_as_they_should_be_are_ok_in_every_check() {
        let findings = of(seen(&QUEUE, &[]), seen(&DEAD, &[]));
        assert!(findings.iter().all(|finding| finding.severity == Ok && finding.mend.is_none()), "{findings:#?}");
        assert_eq!(findings.len(), 17, "{findings:#?}");
    }

    #[test]
    fn each_attribute_is_judged() {
        let low = r#"{"deadLetterTargetArn":"arn:aws:sqs:eu-west-1:1:d","maxReceiveCount":3}"#;
        let lower = r#"{"deadLetterTargetArn":"arn:aws:sqs:eu-west-1:1:d","maxReceiveCount":500}"#;
        let elsewhere = r#"{"deadLetterTargetArn":"arn:aws:sqs:eu-west-1:1:other","maxReceiveCount":1000}"#;
        let of_queue = [
            ("VisibilityTimeout", "30", "sqs-visibility", Note),
            ("MessageRetentionPeriod", "3600", "sqs-retention", Risky),
            ("MessageRetentionPeriod", "345600", "sqs-retention", Note),
            ("MaximumMessageSize", "262144", "sqs-message-size", Risky),
            ("SqsManagedSseEnabled", "false", "sqs-encryption", Note),
            ("Policy", r#"{"Statement":{"Effect":"Allow"}}"#, "sqs-tls", Note),
            ("DelaySeconds", "5", "sqs-delay", Note),
            ("RedrivePolicy", "", "sqs-redrive", Note),
            ("RedrivePolicy", low, "sqs-redrive", Risky),
            ("RedrivePolicy", lower, "sqs-redrive", Note),
            ("RedrivePolicy", elsewhere, "sqs-redrive", Risky),
        ];
        for (name, value, check, severity) in of_queue {
            let findings = of(seen(&QUEUE, &[(name, value)]), seen(&DEAD, &[]));
            assert_eq!(only(&findings), (check, severity, "queue q"), "{name} = {value}");
        }
        let nobody = r#"{"redrivePermission":"byQueue","sourceQueueArns":[]}"#;
        let of_dead = [
            ("MessageRetentionPeriod", "345600", "sqs-retention", Risky),
            ("MessageRetentionPeriod", "1000000", "sqs-retention", Note),
            ("RedriveAllowPolicy", nobody, "sqs-dead-letters", Risky),
        ];
        for (name, value, check, severity) in of_dead {
            let findings = of(seen(&QUEUE, &[]), seen(&DEAD, &[(name, value)]));
            assert_eq!(only(&findings), (check, severity, "queue d"), "{name} = {value}");
        }
    }

    #[test]
    fn dead_letters_that_are_the_queue_itself_or_elsewhere_are_told() {
        for (arn, severity) in [("arn:aws:sqs:eu-west-1:1:q", Dangerous), ("arn:aws:sqs:us-east-1:1:d", Risky)] {
            let findings = of(seen(&QUEUE, &[]), seen(&DEAD, &[("QueueArn", arn)]));
            let place = findings.iter().find(|finding| finding.check == "sqs-dead-letters").unwrap();
            assert_eq!(place.severity, severity, "{arn}");
        }
    }

    #[test]
    fn what_no_attribute_says_is_judged_too() {
        let mut look = seen(&QUEUE, &[]);
        if let Look::Seen(seen) = &mut look {
            seen.denied = vec![Action::Send];
        }
        let findings = of(look, seen(&DEAD, &[]));
        assert_eq!(only(&findings), ("sqs-permissions", Dangerous, "queue q"));
        assert!(findings.iter().any(|finding| finding.found.contains("sqs:SendMessage")));
        let mut look = seen(&QUEUE, &[]);
        if let Look::Seen(seen) = &mut look {
            seen.clock_gap_ms = Some(-120_000);
        }
        assert_eq!(only(&of(look, seen(&DEAD, &[]))), ("sqs-clock", Risky, "queue q"));
        let away = of(Look::Away("no answer".into()), seen(&DEAD, &[]));
        assert_eq!(only(&away), ("sqs-queue", Unseen, "queue q"));
        let refused = of(seen(&QUEUE, &[]), Look::Refused(OpenError::SameQueue(Keys::default())));
        assert_eq!(only(&refused), ("sqs-queue", Dangerous, "queue d"));
    }

    #[test]
    fn a_visibility_below_the_time_of_a_batch_is_told() {
        let options = Options { visibility: Duration::from_secs(5), ..Options::default() };
        let inspected = Inspected { queue: seen(&QUEUE, &[]), dead_letters: seen(&DEAD, &[]) };
        let findings = judge(&inspected, &options, &Wanted { batch_time: Duration::from_secs(15) });
        assert_eq!(only(&findings).0, "sqs-visibility");
    }
}
