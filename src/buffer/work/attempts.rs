//! How often messages failed on their own. In memory: a queue's receive count also counts pauses and crashes.

use std::collections::{HashMap, VecDeque};

use crate::buffer::MessageId;

/// Messages whose attempts are remembered. Beyond it the oldest is forgotten, and so gets more attempts than it should.
const REMEMBERED_MAX: usize = 10_000;

#[derive(Default)]
pub struct Attempts {
    failures: HashMap<MessageId, Failures>,
    order: VecDeque<MessageId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failures {
    /// All of them; they set the time until the next try.
    pub all: u32,
    /// The first, and each before which another message had succeeded since the one before. Where nothing succeeds at
    /// all, it is not this message that is at fault.
    pub counted: u32,
    succeeded: u64,
}

impl Attempts {
    /// Notes a failure. `succeeded` is how many others have succeeded so far, where this one failed.
    pub fn failed(&mut self, id: &MessageId, succeeded: u64) -> Failures {
        if let Some(failures) = self.failures.get_mut(id) {
            failures.all = failures.all.saturating_add(1);
            failures.counted += u32::from(succeeded > failures.succeeded);
            failures.succeeded = succeeded;
            return *failures;
        }
        if self.order.len() >= REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.failures.remove(&oldest);
        }
        let failures = Failures { all: 1, counted: 1, succeeded };
        self.order.push_back(id.clone());
        self.failures.insert(id.clone(), failures);
        failures
    }

    /// The message is settled.
    pub fn forget(&mut self, id: &MessageId) {
        if self.failures.remove(id).is_some() {
            self.order.retain(|kept| kept != id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_counts_only_where_another_message_succeeded_since_the_last() {
        let (one, other) = (MessageId("1".into()), MessageId("2".into()));
        let mut attempts = Attempts::default();
        assert_eq!(attempts.failed(&one, 7).counted, 1);
        assert_eq!(attempts.failed(&one, 7), Failures { all: 2, counted: 1, succeeded: 7 });
        assert_eq!(attempts.failed(&one, 8), Failures { all: 3, counted: 2, succeeded: 8 });
        assert_eq!(attempts.failed(&other, 9).all, 1);
        attempts.forget(&one);
        assert_eq!((attempts.failed(&one, 9).all, attempts.failed(&other, 9).all), (1, 2));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_is_forgotten_first() {
        let mut attempts = Attempts::default();
        for i in 0..=REMEMBERED_MAX {
            attempts.failed(&MessageId(i.to_string()), 0);
        }
        assert_eq!((attempts.failures.len(), attempts.order.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
        assert_eq!(attempts.failed(&MessageId("1".into()), 0).all, 2);
        assert_eq!(attempts.failed(&MessageId("0".into()), 0).all, 1);
    }
}
