//! The books: what may be readable under each key at the end, and which dead letters there must be.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::event::{Action, Candidate, now_ms, rfc_3339};
use super::stage::Stage;
use crate::support::Reply;
use crate::support::stack::Letter;

/// Faults that a failure prints at most.
const SHOWN_MAX: usize = 20;

/// Reads every key that was ever named, and accounts for every event: readable, superseded by a newer one, or gone in
/// its time. Panics with what can't be accounted for.
pub async fn balance(stage: &Stage, candidates: &[Candidate]) {
    let mut by_key: BTreeMap<&str, Vec<&Candidate>> = BTreeMap::new();
    for candidate in candidates {
        for key in candidate.event.keys.iter().filter(|key| candidate.event.may_write(key)) {
            by_key.entry(key).or_default().push(candidate);
        }
    }
    let mut wrong = Vec::new();
    for (key, candidates) in by_key {
        let before_ms = now_ms();
        let reply = stage.read(key).await;
        if let Err(what) = judge(&candidates, &reply, before_ms, now_ms()) {
            wrong.push(format!("{key}: {what}"));
        }
    }
    wrong.truncate(SHOWN_MAX);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn judge(candidates: &[&Candidate], reply: &Reply, before_ms: u64, after_ms: u64) -> Result<(), String> {
    let accepted = candidates.iter().filter(|candidate| candidate.accepted);
    let newest = accepted.max_by_key(|candidate| &candidate.version).ok_or("nothing was accepted")?;
    let newest_version = newest.version.as_deref().expect("what was accepted has a version");
    let story = || format!("{} {}, but the newest of what was accepted is {newest:?}", reply.status, reply.text());
    match reply.status.as_u16() {
        200 => {
            let version = reply.header("etag").trim_matches('"');
            let is_it = |candidate: &&&Candidate| {
                candidate.version.as_deref().is_none_or(|its| its == version)
                    && matches!(candidate.event.action, Action::Set { .. })
                    && candidate.event.payload(candidate.attempt) == reply.text()
            };
            let found = candidates.iter().find(is_it).ok_or_else(|| format!("nobody set this: {}", story()))?;
            if version < newest_version {
                return Err(format!("an older one: {}", story()));
            }
            check_entry(found, version, reply, before_ms)
        }
        404 => {
            let is_gone = |candidate: &Candidate, version: &str| candidate.event.expires_at_ms(version) <= after_ms;
            // What was never answered may have been accepted, and be newer.
            let may_hide = |candidate: &&Candidate| match candidate.version.as_deref() {
                None => candidate.event.action == Action::Delete,
                Some(version) => !candidate.accepted && version > newest_version && is_gone(candidate, version),
            };
            let explained = is_gone(newest, newest_version) || candidates.iter().any(may_hide);
            if explained { Ok(()) } else { Err(format!("lost: {}", story())) }
        }
        _ => Err(format!("neither there nor gone: {}", story())),
    }
}

fn check_entry(found: &Candidate, version: &str, reply: &Reply, before_ms: u64) -> Result<(), String> {
    let expires_at_ms = found.event.expires_at_ms(version);
    if expires_at_ms <= before_ms {
        return Err(format!("readable after its end: {found:?}"));
    }
    for (name, value) in [
        ("hookcache-expires-at", rfc_3339(expires_at_ms).as_str()),
        ("hookcache-account-id", found.event.account),
        ("hookcache-flow-id", "orders"),
    ] {
        if reply.header(name) != value {
            return Err(format!("{name} is {:?}, must be {value:?}: {found:?}", reply.header(name)));
        }
    }
    let id = reply.header("hookcache-id");
    let is_known = found.event.named.is_some() || found.ids.is_empty() || found.ids.iter().any(|its| its == id);
    if is_known { Ok(()) } else { Err(format!("hookcache-id is {id:?}: {found:?}")) }
}

/// Every poison, by its body, and every foreign set that was accepted is a dead letter with its reason, and nothing
/// else is: an outage makes none.
pub fn check_letters(letters: &[Letter], poison: &HashMap<String, &'static str>, candidates: &[Candidate]) {
    let foreign: Vec<&Candidate> = candidates.iter().filter(|candidate| candidate.event.is_foreign()).collect();
    let numbers: HashSet<u64> = foreign.iter().map(|candidate| candidate.event.number as u64).collect();
    let (mut ids, mut bodies, mut wrong) = (HashSet::new(), HashSet::new(), Vec::new());
    for letter in letters {
        let wire: serde_json::Value = serde_json::from_str(&letter.body).unwrap_or_default();
        let number = wire["set"]["data"]["n"].as_u64();
        if let Some(reason) = poison.get(&letter.body) {
            bodies.insert(letter.body.as_str());
            if letter.reason() != *reason {
                wrong.push(format!("must be {reason}: {letter:?}"));
            }
        } else if number.is_some_and(|number| numbers.contains(&number)) {
            ids.insert(wire["id"].as_str().unwrap_or_default().to_owned());
            if letter.reason() != "foreign-key" || !letter.detail().contains("owned:") {
                wrong.push(format!("must be foreign-key, and name the key: {letter:?}"));
            }
        } else {
            wrong.push(format!("is no poison: {letter:?}"));
        }
    }
    wrong.extend(poison.keys().filter(|body| !bodies.contains(body.as_str())).map(|body| format!("lost: {body}")));
    let accepted = foreign.iter().flat_map(|candidate| &candidate.ids);
    wrong.extend(accepted.filter(|id| !ids.contains(*id)).map(|id| format!("lost: the foreign set {id}")));
    wrong.truncate(SHOWN_MAX);
    assert!(wrong.is_empty(), "dead letters: {}", wrong.join("\n"));
}
