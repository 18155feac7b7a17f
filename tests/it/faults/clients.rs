//! Clients that set and delete, and send again what was not accepted, until it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream;
use hookcache::envelope::Version;
use http::{Method, StatusCode};
use serde_json::Value;

use super::event::{Action, Candidate, Event, version_of_arrival};
use crate::support::client::try_send;

const CLIENTS: usize = 8;
/// Far longer than any fault lasts.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(120);

/// What a client was told of one event.
enum Answer {
    Accepted(String),
    /// "Try again": the event may have been accepted all the same. Its id, where it was told.
    TryAgain(Option<String>),
    /// The connection broke.
    Silence,
}

/// Sends all requests; returns everything that may have been accepted. Counts accepted events while it runs.
pub async fn send_all(base: &str, requests: Vec<Vec<Arc<Event>>>, accepted: &AtomicUsize) -> Vec<Candidate> {
    let sent = requests.into_iter().map(|request| send_until_accepted(base, request, accepted));
    stream::iter(sent).buffer_unordered(CLIENTS).concat().await
}

async fn send_until_accepted(base: &str, request: Vec<Arc<Event>>, accepted: &AtomicUsize) -> Vec<Candidate> {
    let (start, mut attempt, mut pending, mut candidates) = (Instant::now(), 0, request, Vec::new());
    while !pending.is_empty() {
        let answers = send(base, &pending, attempt).await;
        assert_eq!(answers.len(), pending.len(), "one answer per event");
        let mut left = Vec::new();
        for (event, answer) in pending.into_iter().zip(answers) {
            match answer {
                Answer::Accepted(_) => accepted.fetch_add(1, Ordering::Relaxed),
                Answer::TryAgain(_) | Answer::Silence => {
                    left.push(Arc::clone(&event));
                    0
                }
            };
            note(&mut candidates, event, attempt, answer);
        }
        pending = left;
        attempt += 1;
        assert!(start.elapsed() < ACCEPTED_WITHIN, "not accepted: {pending:?}");
        if !pending.is_empty() {
            tokio::time::sleep(Duration::from_millis(20 * u64::from(attempt.min(10)))).await;
        }
    }
    candidates
}

fn note(candidates: &mut Vec<Candidate>, event: Arc<Event>, attempt: u32, answer: Answer) {
    let (accepted, id) = match answer {
        Answer::Accepted(id) => (true, Some(id)),
        Answer::TryAgain(id) => (false, id),
        Answer::Silence => (false, None),
    };
    let of_name = event.named.as_ref().map(|(name, time_ms)| Version::of_event(0, *time_ms, name).to_string());
    let version = of_name.clone().or_else(|| id.as_deref().map(version_of_arrival));
    let ids = id.filter(|_| accepted);
    let known = candidates.iter_mut().find(|known| of_name.is_some() && known.event.number == event.number);
    match known {
        Some(known) => {
            known.accepted |= accepted;
            known.ids.extend(ids);
        }
        None => candidates.push(Candidate { event, attempt, version, accepted, ids: ids.into_iter().collect() }),
    }
}

/// One request, one answer per event. Whatever is no "accepted" and no "try again" is a fault of the program.
async fn send(base: &str, events: &[Arc<Event>], attempt: u32) -> Vec<Answer> {
    let (path, body) = match events {
        [event] if event.action == Action::Delete => ("delete", event.body(attempt)),
        [event] => ("set", event.body(attempt)),
        events => {
            let bodies: Vec<String> = events.iter().map(|event| event.body(attempt)).collect();
            ("set", format!("[{}]", bodies.join(",")))
        }
    };
    let json = [("content-type", "application/json")];
    let Ok(reply) = try_send(Method::POST, &format!("{base}/v1/{path}"), &json, body).await else {
        return events.iter().map(|_| Answer::Silence).collect();
    };
    match reply.status {
        StatusCode::ACCEPTED => vec![answer(202, &reply.json())],
        StatusCode::OK => {
            let elements = reply.json().as_array().expect("a status per element").clone();
            elements.iter().map(|element| answer(element["status"].as_u64().unwrap_or(0), element)).collect()
        }
        status => events.iter().map(|_| answer(status.as_u16().into(), &reply.json())).collect(),
    }
}

fn answer(status: u64, body: &Value) -> Answer {
    let text = |name: &str| body[name].as_str().map(str::to_owned);
    match status {
        202 => Answer::Accepted(text("id").expect("an id")),
        503 => Answer::TryAgain(text("instance").and_then(|urn| Some(urn.strip_prefix("urn:uuid:")?.to_owned()))),
        _ => panic!("neither accepted nor to be tried again: {status} {body}"),
    }
}
