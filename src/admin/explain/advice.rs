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
