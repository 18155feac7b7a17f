//! A batch of messages, applied to the store: one verdict each.

use std::time::Duration;

use crate::buffer::Delivery;
use crate::envelope::{Action, Envelope, Poison, PoisonCode, Refusal, WebhookKey, wire};
use crate::store::{Effect, Outcome, Write, WriteError, Writer};

use super::rulings::Rulings;

/// Keys that a dead letter's detail names at most; it says how many more there are.
const KEYS_NAMED_MAX: usize = 10;

/// What is to become of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every key has a final outcome: delete it.
    Done(Done),
    /// It can never be stored, or not all of it: bury it.
    Poison(Poison),
    /// Some key's outcome is not known: try it again.
    Retry(Retry),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    pub id: String,
    /// Arrival at the edge, milliseconds since the epoch.
    pub at_ms: u64,
    /// One per key.
    pub outcomes: Vec<Outcome>,
}

impl Done {
    /// Keys that a reader sees anew.
    pub fn changed(&self) -> usize {
        let changes = |outcome: &&Outcome| matches!(outcome, Outcome::Written | Outcome::Deleted);
        self.outcomes.iter().filter(changes).count()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    pub id: String,
    pub error: String,
    /// It failed while the store took others, or refused it in particular. Otherwise the store itself is at fault, and
    /// no attempt counts.
    pub alone: bool,
}

/// Decodes, checks and writes a batch, in one write. One verdict per message, in order. Repeating it is harmless.
pub async fn apply(batch: &[Delivery], writer: &Writer, rulings: &Rulings, now_ms: u64) -> Vec<Verdict> {
    let mut writes = Vec::with_capacity(batch.len());
    let admitted = batch.iter().map(|message| admit(message, rulings, now_ms).map(|write| writes.push(write)));
    let admitted: Vec<Result<(), Poison>> = admitted.collect();
    let results = match writes.is_empty() {
        true => Vec::new(),
        false => writer.write(&writes, now_ms).await,
    };
    let outage = results.iter().flatten().any(|result| matches!(result, Err(WriteError::Unavailable(_))));
    // A missing answer counts as one for no key at all.
    let results = results.into_iter().chain(std::iter::repeat_with(Vec::new));
    let mut judged = writes.into_iter().zip(results).map(|(write, results)| judge(write, results, outage));
    let verdict = |one: Result<(), Poison>| match one {
        Err(poison) => Some(Verdict::Poison(poison)),
        Ok(()) => judged.next(),
    };
    admitted.into_iter().filter_map(verdict).collect()
}

/// From a message to what it writes. Everything is checked again here: the queue is not trusted.
fn admit(message: &Delivery, rulings: &Rulings, now_ms: u64) -> Result<Write, Poison> {
    let envelope = wire::decode(&message.body, now_ms)?;
    let granted = rulings.grants.check(&envelope.by, &envelope.account, &envelope.keys);
    granted.map_err(|refusal| forbidden(refusal, &envelope))?;
    let event_time_ms = envelope.version.time_ms();
    let Envelope { id, at_ms, account, keys, version, action, .. } = envelope;
    let effect = match action {
        Action::Delete => Effect::Delete,
        Action::Set { flow, payload, ttl_seconds } => {
            let ttl = rulings.rules.resolve(&account, &flow, ttl_seconds.map(Duration::from_secs));
            Effect::Put { flow, payload, expires_at_ms: ttl.expires_at_ms(event_time_ms) }
        }
    };
    Ok(Write { id, at_ms, account, version, keys, effect })
}

fn forbidden(refusal: Refusal, envelope: &Envelope) -> Poison {
    let detail = match refusal {
        Refusal::Account => {
            format!("the caller {:?} may not set the account {:?}", envelope.by, envelope.account)
        }
        Refusal::ReservedKeys(indexes) => {
            let keys = named(indexes.iter().map(|&i| &envelope.keys[i]));
            format!("keys with a prefix that is reserved to another ([keys.reserved]): {keys}")
        }
    };
    Poison { code: PoisonCode::ForbiddenAccount, detail }
}

/// From the results of a write's keys to the verdict of its message.
fn judge(write: Write, results: Vec<Result<Outcome, WriteError>>, outage: bool) -> Verdict {
    if results.len() != write.keys.len() {
        let error = "the store answered for fewer keys than were written".to_owned();
        return Verdict::Retry(Retry { id: write.id, error, alone: false });
    }
    if let Some(error) = results.iter().find_map(|result| result.as_ref().err()) {
        return Verdict::Retry(Retry { id: write.id, error: error.to_string(), alone: !outage });
    }
    let outcomes: Vec<Outcome> = results.into_iter().flatten().collect();
    let with = |wanted: Outcome| {
        let keys: Vec<_> =
            write.keys.iter().zip(&outcomes).filter(|(_, o)| **o == wanted).map(|(key, _)| key).collect();
        (!keys.is_empty()).then(|| named(keys.into_iter()))
    };
    if let Some(keys) = with(Outcome::ForeignKey) {
        let detail = format!("owned by another account than {:?}: {keys}; all other keys are written", write.account);
        return Verdict::Poison(Poison { code: PoisonCode::ForeignKey, detail });
    }
    if let Some(keys) = with(Outcome::Unreadable) {
        let detail = format!("hold a value that hookcache did not write: {keys}; all other keys are written");
        return Verdict::Poison(Poison { code: PoisonCode::UnreadableEntry, detail });
    }
    Verdict::Done(Done { id: write.id, at_ms: write.at_ms, outcomes })
}

fn named<'a>(keys: impl ExactSizeIterator<Item = &'a WebhookKey>) -> String {
    let more = keys.len().saturating_sub(KEYS_NAMED_MAX);
    let mut text = keys.take(KEYS_NAMED_MAX).map(|key| format!("{key:?}")).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Account, Version};

    fn write(keys: &[&str]) -> Write {
        Write {
            id: "i".into(),
            at_ms: 5,
            account: Account::parse("a").unwrap(),
            version: Version::of_arrival(0, 5, "i"),
            keys: keys.iter().map(|key| WebhookKey::parse(key).unwrap()).collect(),
            effect: Effect::Delete,
        }
    }

    fn unavailable() -> Result<Outcome, WriteError> {
        Err(WriteError::Unavailable("down".into()))
    }

    #[test]
    fn an_unknown_outcome_is_tried_again_before_any_key_makes_poison() {
        let results = vec![Ok(Outcome::ForeignKey), unavailable()];
        let Verdict::Retry(retry) = judge(write(&["k", "l"]), results, true) else { panic!("a retry") };
        assert!(!retry.alone);
    }

    #[test]
    fn a_refused_write_failed_alone_only_where_the_store_took_the_others() {
        let refused = || vec![Err(WriteError::Refused("odd".into()))];
        for outage in [false, true] {
            let Verdict::Retry(retry) = judge(write(&["k"]), refused(), outage) else { panic!("a retry") };
            assert_eq!(retry.alone, !outage);
        }
    }

    #[test]
    fn a_foreign_key_is_named_and_a_long_list_is_cut() {
        let results = vec![Ok(Outcome::Written), Ok(Outcome::ForeignKey)];
        let Verdict::Poison(poison) = judge(write(&["mine", "theirs"]), results, false) else { panic!("poison") };
        assert_eq!(poison.code, PoisonCode::ForeignKey);
        assert!(poison.detail.contains("\"theirs\"") && !poison.detail.contains("\"mine\""), "{}", poison.detail);

        let keys: Vec<String> = (0..12).map(|i| format!("k{i}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let results = vec![Ok(Outcome::Unreadable); 12];
        let Verdict::Poison(poison) = judge(write(&keys), results, false) else { panic!("poison") };
        assert_eq!(poison.code, PoisonCode::UnreadableEntry);
        assert!(poison.detail.contains("and 2 more"), "{}", poison.detail);
    }

    #[test]
    fn a_store_that_answers_for_too_few_keys_makes_nothing_done() {
        let verdict = judge(write(&["k", "l"]), vec![Ok(Outcome::Written)], false);
        assert!(matches!(verdict, Verdict::Retry(Retry { alone: false, .. })));
    }
}
