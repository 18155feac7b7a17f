//! What is known of a page, put into a sentence or two for a person who has been woken: what is wrong, and what to do.
//! The first thing in the way decides. Pure.

use super::json::{Dead, Explained, Known, Stored};
use crate::registry::Fetched;

/// `unread`: its last event was not followed by a read.
pub fn of(explained: &Explained, unread: bool) -> String {
    let Explained { site, not_active, known, stored, waiting, dead, .. } = explained;
    if let Some(why) = not_active {
        return format!("Nothing of this site is read: {why}.");
    }
    if let Some(advice) = of_dead(dead) {
        return advice;
    }
    let tasks = waiting.pages_queue.unwrap_or(0);
    if tasks > 0 {
        return format!(
            "It waits to be read: {tasks} of its events are in the queue. If they stay there, look whether a process with \
             the role pages runs, and in its log for the site {site}."
        );
    }
    if waiting.buffer.unwrap_or(0) > 0 {
        return "It was read, and waits to be stored. If it stays so, look whether a process with the role consume runs, \
                and at its /readyz."
            .to_owned();
    }
    let Some(known) = known else {
        return format!(
            "Nothing is known of this page: no event named it, and no reindex met it. If the site has it, and the \
             credential may see it, `hookcache confluence reindex --site {site} --full` finds it."
        );
    };
    of_known(explained, known, stored.as_ref(), unread)
}

fn of_dead(dead: &Dead) -> Option<String> {
    let (letter, queue, effect) = match (dead.pages_queue.first(), dead.buffer.first()) {
        (Some(letter), _) => (letter, " --queue pages", "a task to read it"),
        (None, Some(letter)) => (letter, "", "what was read of it"),
        (None, None) => return None,
    };
    let (id, reason, detail) = (&letter.message_id, &letter.reason, &letter.detail);
    Some(format!(
        "A dead letter holds {effect}: {reason} ({detail}). Mend the cause, then `hookcache dead-letters redrive{queue} \
         {id}`."
    ))
}

fn of_known(explained: &Explained, known: &Known, stored: Option<&Stored>, unread: bool) -> String {
    let Explained { site, account_id, .. } = explained;
    let now = format!("`hookcache confluence reindex --site {site}`");
    let anew = format!("`hookcache confluence reindex --site {site} --full`");
    let unseen = match explained.waiting.pages_queue {
        Some(_) => "",
        None => " It may still wait in the queue, which can't be looked into.",
    };
    if let Some(event) = known.last_event.as_ref().filter(|_| unread) {
        let name = &event.name;
        return format!(
            "Its last event, {name}, was not followed by a read.{unseen} Look whether a process with the role pages runs; \
             {now} reads what has changed."
        );
    }
    match known.last_fetch.as_ref().map(|fetch| fetch.result.as_str()) {
        None => return format!("It was never read; {now} reads what has changed."),
        Some(Fetched::NOT_FOUND) => {
            return format!(
                "The site says that there is no such page, or none that the credential may see, so no links are kept. If it \
                 is there, let the credential's user see it, then {anew}."
            );
        }
        Some(Fetched::OK) => {}
        Some(Fetched::ON_ITS_WAY) => {
            return format!("It was read, and whether the buffer has it is not known; {now} reads it again.");
        }
        Some(_) => {
            return format!("It could not be read last time (see last fetch). Mend the cause, then {now}.");
        }
    }
    let (Some(status), Some(stored)) = (&known.status, stored) else {
        return match known.status.as_deref() {
            None => format!("It is not there any more. If it is, {anew}."),
            Some("archived") => format!(
                "It is archived, and nothing is stored. That is so where confluence.archived is \"drop\"; otherwise {anew}."
            ),
            Some(_) => format!(
                "It was read, and nothing is stored: it has expired (`hookcache ttl explain --account {account_id} --flow \
                 page-links`), was purged, or the store has lost it. {anew} stores every page anew."
            ),
        };
    };
    if stored.version < known.version {
        return format!(
            "Version {} was read, and version {} is stored: the new one is on its way, or the store has lost it. If it \
             stays so, {anew} stores every page anew.",
            known.version, stored.version
        );
    }
    let hidden = match status.as_str() {
        "current" => "",
        _ => " Its links are told only to those who ask for that status.",
    };
    format!(
        "All is well: what is stored is version {}, {status}, as the site had it last time.{hidden} If the page says \
         something else by now, its event was lost, and {now} reads it.",
        stored.version
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admin::explain::json::{Fetch, Waiting};

    /// A page that is stored as it was read.
    fn well() -> Explained {
        let explained = json!({
            "site": "acme", "accountId": "docs", "page": "7", "webhookKey": "k", "advice": "",
            "known": {
                "title": "Home", "version": 3, "status": "current",
                "lastEvent": { "name": "page_updated", "at": "" }, "lastFetch": { "result": "ok", "at": "" },
            },
            "stored": { "version": 3, "readAt": "", "payloadBytes": 9, "id": "" },
            "waiting": { "pagesQueue": 0, "buffer": 0, "complete": true },
            "dead": { "pagesQueue": [], "buffer": [], "lookedAt": 0, "complete": true },
        });
        serde_json::from_value(explained).unwrap()
    }

    fn advice(change: impl FnOnce(&mut Explained, &mut Known)) -> String {
        let mut explained = well();
        let mut known = explained.known.take().unwrap();
        change(&mut explained, &mut known);
        of(&Explained { known: Some(known), ..explained }, false)
    }

    fn fetched(known: &mut Known, result: &str) {
        known.last_fetch = Some(Fetch { at: String::new(), result: result.to_owned() });
    }

    #[test]
    fn what_has_come_to_its_end_is_told_by_what_is_stored() {
        assert!(advice(|_, _| {}).starts_with("All is well: what is stored is version 3, current,"));
        let archived = advice(|_, known| known.status = Some("archived".to_owned()));
        assert!(archived.contains("version 3, archived,") && archived.contains("only to those who ask"), "{archived}");
        let behind = advice(|_, known| known.version = 4);
        assert!(behind.starts_with("Version 4 was read, and version 3 is stored"), "{behind}");
        let lost = advice(|explained, _| explained.stored = None);
        assert!(lost.contains("`hookcache ttl explain --account docs --flow page-links`"), "{lost}");
        let dropped = advice(|explained, known| {
            (explained.stored, known.status) = (None, Some("archived".to_owned()));
        });
        assert!(dropped.contains("confluence.archived is \"drop\""), "{dropped}");
        let gone = advice(|explained, known| (explained.stored, known.status) = (None, None));
        assert!(gone.starts_with("It is not there any more."), "{gone}");
    }

    #[test]
    fn a_read_that_failed_or_never_came_is_told() {
        let hidden = advice(|_, known| fetched(known, Fetched::NOT_FOUND));
        assert!(hidden.contains("none that the credential may see"), "{hidden}");
        let failed = advice(|_, known| fetched(known, "it answers 500"));
        assert!(failed.starts_with("It could not be read last time"), "{failed}");
        let never = advice(|_, known| known.last_fetch = None);
        assert!(never.starts_with("It was never read"), "{never}");
        let unread = of(&well(), true);
        assert!(unread.starts_with("Its last event, page_updated, was not followed by a read. Look"), "{unread}");
        let waiting = Waiting { pages_queue: None, buffer: None, complete: true };
        let unread = of(&Explained { waiting, ..well() }, true);
        assert!(unread.contains("It may still wait in the queue, which can't be looked into."), "{unread}");
    }

    /// Each stands in the way of all that come after it.
    #[test]
    fn the_first_thing_in_the_way_decides() {
        let letter = json!({ "messageId": "m", "reason": "too-old", "detail": "16 days", "bodyBytes": 1 });
        let letter = || serde_json::from_value(letter.clone()).unwrap();
        let mut explained = well();
        explained.known = None;
        assert!(of(&explained, false).contains("`hookcache confluence reindex --site acme --full` finds it"));
        explained.waiting.buffer = Some(1);
        assert!(of(&explained, false).starts_with("It was read, and waits to be stored."));
        explained.waiting.pages_queue = Some(2);
        assert!(of(&explained, false).starts_with("It waits to be read: 2 of its events"));
        explained.dead.buffer = vec![letter()];
        let dead = of(&explained, false);
        assert!(dead.starts_with("A dead letter holds what was read of it: too-old (16 days)."), "{dead}");
        assert!(dead.ends_with("`hookcache dead-letters redrive m`."), "{dead}");
        explained.dead.pages_queue = vec![letter()];
        assert!(of(&explained, false).ends_with("`hookcache dead-letters redrive --queue pages m`."));
        explained.not_active = Some("it is paused".to_owned());
        assert_eq!(of(&explained, false), "Nothing of this site is read: it is paused.");
    }
}
