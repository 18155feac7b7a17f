//! `Prefer: wait=<seconds>` (RFC 7240): for how long a get may be held until it has news.
//!
//! A preference is no demand: one that is unknown or malformed is passed over, as the RFC says.

use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

use super::answer::Answer;
use super::limits::WAIT_MAX;

/// The metrics' name for gets that were held, or would have been.
pub const LABEL: &str = "key-wait";
const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// For how long the caller would wait, at most [`WAIT_MAX`]. Of several `wait`s the first one counts.
pub fn wait(headers: &HeaderMap) -> Option<Duration> {
    // A comma in a quoted text parts it, too: no text of ours has one, and what is left of it is passed over.
    let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split(','));
    let wait = preferences.find_map(|preference| {
        // What follows a semicolon are parameters, of which `wait` has none.
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim())
    })?;
    let is_seconds = !wait.is_empty() && wait.bytes().all(|digit| digit.is_ascii_digit());
    // Digits that no number holds are more than the most.
    is_seconds.then(|| wait.parse().map_or(WAIT_MAX, Duration::from_secs).min(WAIT_MAX))
}

/// Says for how long it was willing to hold the call.
pub fn applied(mut answer: Answer, wait: Duration) -> Answer {
    let value = HeaderValue::try_from(format!("wait={}", wait.as_secs())).expect("plain ASCII");
    answer.headers_mut().insert(PREFERENCE_APPLIED, value);
    answer
}

/// Was the call held, or willing to be?
pub fn was_applied(answer: &Answer) -> bool {
    answer.headers().contains_key(PREFERENCE_APPLIED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_of(values: &[&str]) -> Option<u64> {
        let headers = values.iter().map(|value| (PREFER, HeaderValue::from_str(value).unwrap())).collect();
        wait(&headers).map(|wait| wait.as_secs())
    }

    #[test]
    fn a_wait_is_found_among_other_preferences_and_clamped() {
        for (values, want) in [
            (&["wait=25"][..], 25),
            (&["WAIT = 25"], 25),
            (&["respond-async, wait=0"], 0),
            (&["return=minimal; foo=\"a\"", "handling=lenient ,wait=7; x=y"], 7),
            (&["wait=3, wait=9", "wait=12"], 3),
            (&["wait=61"], 60),
            (&["wait=999999999"], 60),
            (&["wait=99999999999999999999999999"], 60),
        ] {
            assert_eq!(wait_of(values), Some(want), "{values:?}");
        }
    }

    #[test]
    fn what_is_no_wait_is_passed_over() {
        for values in [
            &[][..],
            &[""],
            &["wait"],
            &["wait="],
            &["wait=-1"],
            &["wait=+1"],
            &["wait=1.5"],
            &["wait=1s"],
            &["wait=ten"],
            &["waits=10"],
            &["x; wait=10"],
            &["=10"],
            &["wait=-1, wait=9"],
        ] {
            assert_eq!(wait_of(values), None, "{values:?}");
        }
    }
}
