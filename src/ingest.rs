//! From a request to the buffer: the mover behind the set API.
//!
//! It answers "accepted" only after the buffer holds that very event durably. It never sees a store, and knows neither
//! the buffer's backend nor HTTP: an error is a [`Problem`], which the HTTP edge turns into an answer.
//!
//! *An append is not cancelled.* Once it has begun it runs to its end in a task of its own, even when the caller hangs
//! up, so that what the buffer may hold was never half-sent. *Later is newer*: elements of one array are stamped in
//! their order before any of them is appended, and appended concurrently, so that they share a group commit.
//!
//! Limits: those of the envelope; one append per request, up to
//! [`SETS_PER_ARRAY_MAX`](crate::envelope::limits::SETS_PER_ARRAY_MAX) per array. How many requests there are at once
//! is bounded by the edge. How many sets and deletes an account may send is counted by `limiter`, in this process alone,
//! where the operator wants it: after everything else of the request was checked, so that what is wrong with it costs no
//! token.

mod limiter;

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::auth::{Auth, Caller, Scope};
use crate::buffer::{AppendError, Appender};
use crate::envelope::{Fault, FaultCode, Refusal, Stamper};
use crate::problem::{Code, Item, Problem};
use crate::source::{Accepted, Direct, Rejection, direct};
use crate::telemetry::{Metrics, trace};

use limiter::{Limiter, Wait};

pub use limiter::SetRate;

/// What the operator bounds, below the limits of the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The most webhook keys that one request may name.
    pub keys_per_request_max: usize,
    /// What each account may send to this process; `None` where that is not bounded.
    pub set_rate: Option<SetRate>,
}

/// The mover. Cheap to clone.
#[derive(Clone)]
pub struct Ingest(Arc<Parts>);

struct Parts {
    appender: Appender,
    auth: Auth,
    stamper: Stamper,
    direct: Direct,
    limiter: Option<Limiter>,
    metrics: Metrics,
    appends: TaskTracker,
}

/// One event that the buffer holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// Follows the event through logs, dead letters and the entry that it becomes.
    pub id: String,
    /// The buffer's own name of the message.
    pub message_id: String,
}

/// The delete of one key, as a URL says it. Its JSON is a delete request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyDelete {
    #[serde(rename = "accountId")]
    pub account: String,
    #[serde(rename = "webhookKeys", serialize_with = "alone")]
    pub key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_time: Option<String>,
}

fn alone<S: serde::Serializer>(key: &str, to: S) -> Result<S::Ok, S::Error> {
    [key].serialize(to)
}

/// What a body of sets came to.
#[derive(Debug)]
pub enum SetAnswer {
    One(Receipt),
    /// One result per element, in order.
    Many(Vec<Result<Receipt, Problem>>),
}

/// A request that may be appended.
type Checked = Result<Accepted, Problem>;

impl Ingest {
    pub fn new(appender: Appender, auth: Auth, stamper: Stamper, options: &Options, metrics: Metrics) -> Self {
        let (direct, appends) = (Direct::new(options.keys_per_request_max), TaskTracker::new());
        let limiter = options.set_rate.map(Limiter::new);
        Self(Arc::new(Parts { appender, auth, stamper, direct, limiter, metrics, appends }))
    }

    /// The most webhook keys that one request may name.
    pub fn keys_max(&self) -> usize {
        self.0.direct.keys_max()
    }

    /// The caller of an `Authorization` header, if it may set.
    pub fn authorize(&self, authorization: Option<&str>) -> Result<Caller, Problem> {
        Ok(self.0.auth.authorize(authorization, Scope::Set)?)
    }

    /// Accepts one set request, or an array of them.
    pub async fn set(&self, caller: &Caller, body: Bytes, traceparent: Option<&str>) -> Result<SetAnswer, Problem> {
        let (text, now) = (utf8(&body)?, Instant::now());
        let Some(elements) = direct::elements(text) else {
            let checked = self.0.checked_set(text, caller, now);
            return self.append_all(vec![checked], traceparent).await.remove(0).map(SetAnswer::One);
        };
        let elements = elements.map_err(rejected)?;
        let checked = elements.into_iter().map(|text| self.0.checked_set(text, caller, now));
        Ok(SetAnswer::Many(self.append_all(checked.collect(), traceparent).await))
    }

    /// Accepts one delete request.
    pub async fn delete(&self, caller: &Caller, body: Bytes, traceparent: Option<&str>) -> Result<Receipt, Problem> {
        let checked = self.0.checked_delete(utf8(&body)?, caller, Instant::now());
        self.append_all(vec![checked], traceparent).await.remove(0)
    }

    /// Accepts the delete of one key: the same as the delete request that says so.
    pub async fn delete_key(
        &self,
        caller: &Caller,
        delete: &KeyDelete,
        traceparent: Option<&str>,
    ) -> Result<Receipt, Problem> {
        let request = serde_json::to_vec(delete).expect("plain strings are always JSON");
        self.delete(caller, request.into(), traceparent).await
    }

    /// Waits until no append runs any more, once no further request is accepted: the buffer may close then.
    pub async fn finish(&self) {
        self.0.appends.close();
        self.0.appends.wait().await;
    }

    /// One result per item, in order.
    async fn append_all(&self, checked: Vec<Checked>, traceparent: Option<&str>) -> Vec<Result<Receipt, Problem>> {
        let begin = |checked: Checked| {
            let accepted = checked?;
            let (this, traceparent) = (self.clone(), traceparent.map(str::to_owned));
            Ok(self.0.appends.spawn(async move { this.append(accepted, traceparent).await }))
        };
        let begun: Vec<_> = checked.into_iter().map(begin).collect();
        let mut results = Vec::with_capacity(begun.len());
        for append in begun {
            results.push(match append {
                Ok(task) => task.await.unwrap_or_else(|_| {
                    Err(Problem::new(Code::Internal, "the append broke off; it may have been accepted"))
                }),
                Err(problem) => Err(problem),
            });
        }
        results
    }

    async fn append(&self, accepted: Accepted, traceparent: Option<String>) -> Result<Receipt, Problem> {
        let mut wire = accepted.wire;
        let (id, trace_id) = (wire.id.clone(), trace::trace_id(traceparent.as_deref()).map(str::to_owned));
        wire.traceparent = traceparent;
        let appended = self.0.appender.append(wire).await;
        self.0.metrics.appended(appended.is_ok());
        match appended {
            Ok(message_id) => {
                tracing::info!(id, trace_id, message_id = message_id.0, keys = accepted.keys.len(), "accepted");
                Ok(Receipt { id, message_id: message_id.0 })
            }
            Err(error) => {
                tracing::warn!(id, trace_id, %error, "not accepted");
                Err(not_appended(&error).with_instance(id))
            }
        }
    }
}

impl Parts {
    fn checked_set(&self, text: &str, caller: &Caller, now: Instant) -> Checked {
        let accepted = self.direct.set(text, &self.stamper.stamp(), &caller.name).map_err(rejected)?;
        self.granted(accepted, caller).and_then(|accepted| self.within_rate(accepted, now))
    }

    fn checked_delete(&self, text: &str, caller: &Caller, now: Instant) -> Checked {
        let accepted = self.direct.delete(text, &self.stamper.stamp(), &caller.name).map_err(rejected)?;
        self.granted(accepted, caller).and_then(|accepted| self.within_rate(accepted, now))
    }

    fn granted(&self, accepted: Accepted, caller: &Caller) -> Checked {
        // The same judge as the consumer's, so the two can't disagree.
        let refusal = self.auth.grants().check(&caller.name, accepted.account(), &accepted.keys).err();
        match refusal {
            None => Ok(accepted),
            Some(Refusal::Account) => {
                let item = Item {
                    pointer: "/accountId".to_owned(),
                    code: Code::ForbiddenAccount.as_str(),
                    detail: "must be an account of the token".to_owned(),
                };
                let problem = Problem::new(Code::ForbiddenAccount, "use a token of this account: `auth.tokens`");
                Err(problem.with_errors(vec![item]))
            }
            Some(Refusal::ReservedKeys(indexes)) => Err(reserved(&indexes)),
        }
    }

    fn within_rate(&self, accepted: Accepted, now: Instant) -> Checked {
        let account = accepted.account();
        let Some(wait) = self.limiter.as_ref().and_then(|limiter| limiter.take(account, now).err()) else {
            return Ok(accepted);
        };
        self.metrics.rate_limited();
        let id = &accepted.wire.id;
        tracing::info!(id, %account, "refused, as its account sends too much");
        Err(beyond_rate(wait).with_instance(id))
    }
}

fn beyond_rate(wait: Wait) -> Problem {
    match wait {
        Wait::ForToken(wait) => {
            let detail = "the account sends more sets and deletes than `limits.sets_per_second` allows: send this one \
                          again later, and fewer from now on";
            Problem::new(Code::AccountRateLimited, detail).with_retry_after(wait)
        }
        Wait::ForRoom(wait) => {
            let detail = "too many accounts send at once to count each of them: try again later";
            Problem::new(Code::Overloaded, detail).with_retry_after(wait)
        }
    }
}

fn utf8(body: &Bytes) -> Result<&str, Problem> {
    std::str::from_utf8(body)
        .map_err(|e| Problem::new(Code::MalformedJson, format!("not UTF-8 at byte {}", e.valid_up_to())))
}

fn reserved(indexes: &[usize]) -> Problem {
    let item = |index: &usize| Item {
        pointer: format!("/webhookKeys/{index}"),
        code: Code::ReservedKey.as_str(),
        detail: "starts with a prefix that is reserved to another".to_owned(),
    };
    let items = indexes.iter().take(crate::envelope::limits::FAULTS_MAX).map(item).collect();
    Problem::new(Code::ReservedKey, "use other webhook keys, or change `keys.reserved`").with_errors(items)
}

fn rejected(rejection: Rejection) -> Problem {
    match rejection {
        Rejection::Faults(faults) => faulty(faults),
        Rejection::TooLarge { limit, size } => {
            let detail = format!(
                "one event may take {limit} bytes with its request, this one takes {size}: send a smaller payload, or \
                 store it elsewhere and set a link to it"
            );
            Problem::new(Code::PayloadTooLarge, detail).with_size(limit as u64, size as u64)
        }
        Rejection::FanOut { limit, size } => {
            let detail = format!(
                "the payload times its keys may take {limit} bytes, this set takes {size}: name fewer keys per set"
            );
            Problem::new(Code::FanOutTooLarge, detail).with_size(limit as u64, size as u64)
        }
    }
}

/// The code of the whole is that of its first fault.
fn faulty(faults: Vec<Fault>) -> Problem {
    let item = |fault: Fault| Item { code: code_of(fault.code).as_str(), pointer: fault.pointer, detail: fault.detail };
    let code = faults.first().map_or(Code::InvalidRequest, |fault| code_of(fault.code));
    let detail = match faults.as_slice() {
        [fault] if fault.pointer.is_empty() => fault.detail.clone(),
        [fault] => format!("{} {}", fault.pointer, fault.detail),
        faults => format!("{} faults, each named in `errors`", faults.len()),
    };
    Problem::new(code, detail).with_errors(faults.into_iter().map(item).collect())
}

fn code_of(fault: FaultCode) -> Code {
    match fault {
        FaultCode::MalformedJson => Code::MalformedJson,
        FaultCode::InvalidRequest => Code::InvalidRequest,
        FaultCode::EventTimeRequired => Code::EventTimeRequired,
        FaultCode::TooDeep => Code::TooDeep,
        FaultCode::IllegalCharacter => Code::IllegalCharacter,
    }
}

/// The backend's own words are for the log alone: they can name hosts and paths.
fn not_appended(error: &AppendError) -> Problem {
    match error {
        AppendError::Unavailable(_) => {
            Problem::new(Code::BufferUnavailable, "the buffer can't be reached now: try again")
        }
        AppendError::Full(_) => Problem::new(Code::BufferFull, "the buffer is full: try again once it has drained"),
        AppendError::Refused(_) => Problem::new(Code::RefusedByBuffer, "the queue refuses this event for good"),
    }
}
