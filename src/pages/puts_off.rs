//! How long what can't be done now waits. Pure.
//!
//! A task waits for a part of its own age. So a short outage is over soon for everybody, and a long one costs few tries:
//! some 250 until a task is too old, far less than SQS allows before it moves a message aside.

use std::time::Duration;

/// Of its age.
const PART: u32 = 20;
const MIN: Duration = Duration::from_secs(1);
const MAX: Duration = Duration::from_secs(3_600);
/// Pauses of a site that is away: also a part of the time that it is away.
const AWAY_MAX: Duration = Duration::from_secs(5 * 60);
/// Waits of a read that came too early, one after the other.
const LATE: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(3)];

/// Until the next try of a task of this age; not before `after`.
pub fn by_age(age: Duration, after: Option<Duration>) -> Duration {
    (age / PART).clamp(MIN, MAX).max(after.unwrap_or_default())
}

/// For how long a site is left alone that has been away for this time; not before `after`.
pub fn away(since: Duration, after: Option<Duration>) -> Duration {
    (since / PART).clamp(MIN, AWAY_MAX).max(after.unwrap_or_default())
}

/// Until a page is read again that was not there yet, when the event came `age` ago: after one second, two, and three.
/// `None` once that was done.
pub fn late(age: Duration) -> Option<Duration> {
    let mut until = Duration::ZERO;
    for wait in LATE {
        until += wait;
        if age < until {
            return Some(wait);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::limits::HORIZON;
    use crate::pages::READ_LATE;

    #[test]
    fn a_task_of_a_site_that_is_away_for_good_is_tried_some_hundred_times() {
        let (mut age, mut tries) = (Duration::ZERO, 0);
        while age < HORIZON {
            age += by_age(age, None);
            tries += 1;
        }
        assert!((200..700).contains(&tries), "{tries}");
    }

    #[test]
    fn a_site_that_says_when_to_come_again_is_not_asked_before() {
        let hour = Duration::from_secs(3_600);
        assert_eq!(by_age(Duration::ZERO, None), MIN);
        assert_eq!(by_age(hour, None), hour / 20);
        assert_eq!(by_age(hour, Some(hour)), hour);
        assert_eq!(away(100 * hour, None), AWAY_MAX);
        assert_eq!(away(100 * hour, Some(hour)), hour);
    }

    #[test]
    fn a_page_that_is_not_there_yet_is_read_again_after_one_two_and_three_seconds() {
        let (mut age, mut waits) = (Duration::from_millis(20), Vec::new());
        while let Some(wait) = late(age) {
            waits.push(wait.as_secs());
            age += wait + Duration::from_millis(20);
        }
        assert_eq!(waits, [1, 2, 3]);
        assert_eq!(late(READ_LATE), None);
        assert!(late(READ_LATE - Duration::from_millis(1)).is_some());
    }
}
