//! The writer: a batch becomes calls of `put.lua`, the calls become pipelines, the answers become outcomes.
//!
//! Each primary gets its calls over one lease, and is waited for on it: what `store.acknowledge` asks for holds for
//! every primary that was written to.
//!
//! It retries nothing but a call that the server didn't know the script of: the consumer repeats what failed, and a
//! repetition is harmless. Several writes of one key need no order among them, since each call compares versions.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use deadpool_redis::redis::{Cmd, Pipeline, RedisWrite, Script, ToRedisArgs, Value, pipe};

use super::catalog::Catalog;
use super::fault::{Fault, Reach};
use super::header::{self, Header};
use super::leases::{Lease, Leases};
use super::topology::{Route, Topology};
use super::{RedisKey, write_joined};
use crate::store::{Effect, Outcome, Unavailable, Write, WriteError};

/// Keys that one call of the script writes at most. A call holds up every other client: 64 small keys take 0.3 ms.
const CALL_KEYS_MAX: usize = 64;
/// The same in a cluster, where a call may not touch two slots, and hardly ever two keys share one.
const SLOT_CALL_KEYS_MAX: usize = 1;
/// What one call of the script copies at most, keys x value, in bytes. One key may go beyond: a value is below 1 MiB.
const CALL_BYTES_MAX: usize = 4 << 20;
/// Bytes of one pipeline, so that a huge batch is not held in memory a second time as a whole.
const PIPELINE_BYTES_MAX: usize = 8 << 20;
/// What a call takes besides keys and value: the command, lengths, version, expiry.
const CALL_OVERHEAD_BYTES: usize = 256;

/// Must be the numbers of `put.lua`.
const APPLIED: i64 = 0;
const DUPLICATE: i64 = 1;
const SUPERSEDED: i64 = 2;
const FOREIGN: i64 = 3;
const UNREADABLE: i64 = 4;

#[derive(Clone)]
pub struct Writer {
    topology: Topology<Leases>,
    script: Arc<Script>,
}

/// A write, ready to be sent.
struct Prepared<'a> {
    write: &'a Write,
    header: Vec<u8>,
    payload: Bytes,
    expiry: Expiry,
    gives_way: &'static str,
    applied: Outcome,
}

/// When a value goes.
enum Expiry {
    Never,
    At(u64),
    /// It has gone already: what is older goes with it. Redis never gets a time in the past.
    Gone,
}

/// One call of the script: a part of one write's keys.
struct Call {
    write: usize,
    keys: Range<usize>,
    bytes: usize,
}

type Results = Vec<Vec<Result<Outcome, WriteError>>>;

impl Writer {
    pub(super) fn new(topology: Topology<Leases>) -> Self {
        Self { topology, script: Arc::new(Script::new(include_str!("put.lua"))) }
    }

    pub async fn write(&self, writes: &[Write], now_ms: u64) -> Results {
        let prepared: Vec<_> = writes.iter().map(|write| prepare(write, now_ms)).collect();
        let keys_max = if self.topology.has_slots() { SLOT_CALL_KEYS_MAX } else { CALL_KEYS_MAX };
        let calls = plan(&prepared, keys_max);
        let mut results: Results = Vec::with_capacity(writes.len());
        for (write, prepared) in writes.iter().zip(&prepared) {
            let unknown = match prepared {
                // Each call puts its own results here; until then this costs nothing.
                Ok(_) => WriteError::Unavailable(String::new()),
                Err(refused) => refused.clone(),
            };
            results.push(vec![Err(unknown); write.keys.len()]);
        }
        let slot_of = |number: usize| RedisKey(&writes[calls[number].write].keys[calls[number].keys.start]).slot();
        let send = |route, numbers| self.send_all(route, &prepared, &calls, numbers);
        let replies = self.topology.scatter(calls.len(), slot_of, send).await;
        for (call, reply) in calls.iter().zip(replies) {
            record(call, reply, &prepared, &mut results);
        }
        results
    }

    /// A cluster takes writes only when each of its primaries does: which of them a write needs, nobody knows before.
    pub async fn check(&self) -> Result<(), Unavailable> {
        let ask = |route: Route<Leases>| async move { route.node.check(&route).await };
        for answer in self.topology.ask_each(ask).await? {
            answer?;
        }
        Ok(())
    }

    pub fn catalog(&self) -> Catalog {
        Catalog::new(self.topology.clone())
    }

    /// One reply per call, in order. A fault that is true of every write ends it early: what has no reply by then gets
    /// none, and nothing more than the replies acknowledges what has one.
    async fn send_all(
        &self,
        route: Route<Leases>,
        prepared: &[Result<Prepared<'_>, WriteError>],
        calls: &[Call],
        numbers: Vec<usize>,
    ) -> Vec<Result<Value, Fault>> {
        let mut replies = Vec::with_capacity(numbers.len());
        let calls: Vec<&Call> = numbers.into_iter().map(|number| &calls[number]).collect();
        if let Err(fault) = self.send_chunks(&route, prepared, &calls, &mut replies).await {
            if !route.node.replies_acknowledge() {
                replies.iter_mut().filter(|reply| reply.is_ok()).for_each(|reply| *reply = Err(fault.clone()));
            }
            replies.resize_with(calls.len(), || Err(fault.clone()));
        }
        replies
    }

    async fn send_chunks(
        &self,
        route: &Route<Leases>,
        prepared: &[Result<Prepared<'_>, WriteError>],
        calls: &[&Call],
        replies: &mut Vec<Result<Value, Fault>>,
    ) -> Result<(), Fault> {
        let mut lease = route.node.lease().await?;
        let mut rest = calls;
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(chunk_len(rest));
            rest = later;
            let answers = self.send(&mut lease, route, prepared, chunk).await?;
            let of_all = answers.iter().filter_map(|answer| answer.as_ref().err()).find(|fault| is_of_all(fault));
            let of_all = of_all.cloned();
            replies.extend(answers);
            if let Some(fault) = of_all {
                return Err(fault);
            }
        }
        match replies.iter().any(Result::is_ok) {
            true => route.node.acknowledged(&mut lease, route).await,
            false => Ok(()),
        }
    }

    /// One reply per call. Calls that failed for want of the script are sent again, once, after loading it.
    async fn send(
        &self,
        lease: &mut Lease,
        route: &Route<Leases>,
        prepared: &[Result<Prepared<'_>, WriteError>],
        calls: &[&Call],
    ) -> Result<Vec<Result<Value, Fault>>, Fault> {
        let mut replies = lease.run(self.pipeline(route, prepared, calls.iter().copied())).await?;
        let unknown: Vec<usize> = (0..replies.len()).filter(|&i| lacks_script(&replies[i])).collect();
        if unknown.is_empty() {
            return Ok(replies);
        }
        let mut load = pipe();
        load.cmd("SCRIPT").arg("LOAD").arg(include_str!("put.lua"));
        for loaded in lease.run(load).await? {
            loaded?;
        }
        let again = lease.run(self.pipeline(route, prepared, unknown.iter().map(|&i| calls[i]))).await?;
        for (i, reply) in unknown.into_iter().zip(again) {
            replies[i] = reply;
        }
        Ok(replies)
    }

    fn pipeline<'a>(
        &self,
        route: &Route<Leases>,
        prepared: &[Result<Prepared<'_>, WriteError>],
        calls: impl ExactSizeIterator<Item = &'a Call>,
    ) -> Pipeline {
        let mut pipeline = Pipeline::with_capacity(calls.len());
        for call in calls {
            if let Ok(prepared) = &prepared[call.write] {
                route.add(&mut pipeline, prepared.command(&self.script, call));
            }
        }
        pipeline
    }
}

impl Prepared<'_> {
    fn value_bytes(&self) -> usize {
        self.header.len() + self.payload.len()
    }

    fn command(&self, script: &Script, call: &Call) -> Cmd {
        let mut cmd = Cmd::with_capacity(8 + call.keys.len(), call.bytes);
        cmd.arg("EVALSHA").arg(script.get_hash()).arg(call.keys.len());
        for key in &self.write.keys[call.keys.clone()] {
            cmd.arg(RedisKey(key));
        }
        cmd.arg(self.write.account.as_str()).arg(self.write.version.as_bytes()).arg(self);
        match self.expiry {
            Expiry::Never => cmd.arg(""),
            Expiry::At(ms) => cmd.arg(ms),
            Expiry::Gone => cmd.arg("gone"),
        };
        cmd.arg(self.gives_way);
        cmd
    }
}

/// The value: header and payload as one argument.
impl ToRedisArgs for Prepared<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        write_joined(out, [&self.header, &self.payload]);
    }
}

fn prepare(write: &Write, now_ms: u64) -> Result<Prepared<'_>, WriteError> {
    let until_ms = write.tombstone_until_ms();
    let tombstone = Header::Tombstone { until_ms };
    let tombstone_expiry = if until_ms > now_ms { Expiry::At(until_ms) } else { Expiry::Gone };
    let nothing = Bytes::new();
    let (header, payload, expiry, gives_way, applied) = match &write.effect {
        Effect::Delete => (tombstone, nothing, tombstone_expiry, "any", Outcome::Deleted),
        Effect::Put { expires_at_ms: Some(at), .. } if *at <= now_ms => {
            (tombstone, nothing, tombstone_expiry, "entry", Outcome::Expired)
        }
        Effect::Put { flow, payload, expires_at_ms } => {
            let header = Header::Entry { flow, expires_at_ms: *expires_at_ms };
            let expiry = expires_at_ms.map_or(Expiry::Never, Expiry::At);
            (header, payload.clone(), expiry, "any", Outcome::Written)
        }
    };
    let header = header::encode(&header, &write.account, &write.version, &write.id)
        .map_err(|e| WriteError::Refused(e.to_string()))?;
    Ok(Prepared { write, header, payload, expiry, gives_way, applied })
}

fn plan(prepared: &[Result<Prepared<'_>, WriteError>], keys_max: usize) -> Vec<Call> {
    let mut calls = vec![];
    for (write, prepared) in prepared.iter().enumerate() {
        let Ok(prepared) = prepared else { continue };
        let keys = &prepared.write.keys;
        let per_call = (CALL_BYTES_MAX / prepared.value_bytes()).clamp(1, keys_max);
        for start in (0..keys.len()).step_by(per_call) {
            let end = keys.len().min(start + per_call);
            let key_bytes: usize =
                keys[start..end].iter().map(|key| key.as_str().len() + CALL_OVERHEAD_BYTES / 8).sum();
            calls.push(Call {
                write,
                keys: start..end,
                bytes: key_bytes + prepared.value_bytes() + CALL_OVERHEAD_BYTES,
            });
        }
    }
    calls
}

/// How many calls go into the next pipeline: at least one.
fn chunk_len(calls: &[&Call]) -> usize {
    let mut bytes = 0;
    let fits = calls.iter().take_while(|call| {
        bytes += call.bytes;
        bytes <= PIPELINE_BYTES_MAX
    });
    fits.count().max(1)
}

fn lacks_script(reply: &Result<Value, Fault>) -> bool {
    reply.as_ref().is_err_and(|fault| fault.reach == Reach::Script)
}

/// A call that was sent elsewhere, or refused on its own, says nothing of the others.
fn is_of_all(fault: &Fault) -> bool {
    !matches!(fault.reach, Reach::Command | Reach::Elsewhere)
}

/// Notes what a call did to its keys.
fn record(
    call: &Call,
    reply: Result<Value, Fault>,
    prepared: &[Result<Prepared<'_>, WriteError>],
    results: &mut Results,
) {
    let slots = &mut results[call.write][call.keys.clone()];
    let Ok(prepared) = &prepared[call.write] else { return };
    match reply {
        Ok(Value::Array(codes)) if codes.len() == slots.len() => {
            for (slot, code) in slots.iter_mut().zip(codes) {
                *slot = outcome(&code, prepared.applied);
            }
        }
        Ok(_) => slots.fill(Err(odd_answer())),
        Err(fault) => slots.fill(Err(fault.into())),
    }
}

fn odd_answer() -> WriteError {
    WriteError::Unavailable("Redis gave an answer that put.lua doesn't give".to_owned())
}

fn outcome(code: &Value, applied: Outcome) -> Result<Outcome, WriteError> {
    match code {
        Value::Int(APPLIED) => Ok(applied),
        Value::Int(DUPLICATE) => Ok(Outcome::Duplicate),
        Value::Int(SUPERSEDED) => Ok(Outcome::Superseded),
        Value::Int(FOREIGN) => Ok(Outcome::ForeignKey),
        Value::Int(UNREADABLE) => Ok(Outcome::Unreadable),
        _ => Err(odd_answer()),
    }
}
