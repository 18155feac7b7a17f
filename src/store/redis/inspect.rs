//! Looks at Redis, on a connection of its own, for `doctor`.
//!
//! What our user may do is tried rather than read from ACL rules, which managed services hide: each command of ours,
//! on two names that no entry and no record has. What is written there is gone after a second at the latest.

use std::sync::Arc;

use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{Cmd, FromRedisValue, Pipeline, RedisResult, Value, cmd, from_redis_value, pipe};
use futures_util::future::join_all;

use super::endpoint::{Endpoint, OpenError};
use super::facts::{Facts, Look, Node};
use super::fault::Fault;
use super::primary::Primary;
use super::slots::{self, SLOTS};
use super::topology::Site;
use super::{KEY_PREFIX, Mode, Options};
use crate::envelope::{Clock, stamp::gap_ms};
use crate::store::Acknowledge;

/// What the roles of a process do with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    Write,
    Read,
    LoadRules,
    ChangeRules,
    /// Hearing of changes.
    Track,
    /// What operators do to stored entries: list, purge, apply rules.
    Walk,
}

/// Beside our records, of which none has this name.
const RECORD: &str = "hc:v1:c:doctor";
/// Beside the entries: no webhook key has a control character.
const ENTRY: &str = "\u{1}doctor";
const NOBODY: &str = "\u{1}nobody";
/// How long what is tried stays, in milliseconds, should it not be removed.
const TRIED_MS: u64 = 1_000;
/// Of no script.
const NO_SHA: &str = "0000000000000000000000000000000000000000";
const KEYS_RULE: &str = "~hc:v1:*";

/// Looks at every primary. An error is one of the configuration.
pub async fn inspect(options: &Options, uses: &[Use]) -> Result<Vec<Node>, OpenError> {
    let (primaries, uncovered) = match Site::new(options)? {
        Site::One(primary) => (vec![primary], None),
        Site::Cluster(seeds) => {
            let (nodes, slots) = primaries(&seeds, options).await;
            let whole = Node { address: "the cluster".to_owned(), look: Look::Uncovered { slots } };
            // Where nobody told, the nodes themselves say why.
            (nodes.into_iter().map(known).collect(), (1..SLOTS).contains(&slots).then_some(whole))
        }
    };
    let tries = tries(uses, options);
    let mut nodes = join_all(primaries.iter().map(|primary| look(primary, options, &tries))).await;
    nodes.extend(uncovered);
    Ok(nodes)
}

fn known(node: Endpoint) -> Primary {
    Primary::Known(Arc::new(node))
}

/// Those of a cluster, as the named node knows them that knows of most slots, and how many these are. Where none tells,
/// the nodes that are named: what they say of themselves is why.
async fn primaries(seeds: &[Endpoint], options: &Options) -> (Vec<Endpoint>, u16) {
    let mut best = (seeds.to_vec(), 0);
    for seed in seeds {
        let Ok(mut connection) = seed.connect(&seed.config(options.read_timeout)).await else { continue };
        let mut map = cmd("CLUSTER");
        map.arg("SLOTS");
        let Ok(Ok(reply)) = one::<Value>(&mut connection, map).await else { continue };
        let (mut nodes, mut slots): (Vec<Endpoint>, u16) = (Vec::new(), 0);
        for served in slots::parse(&reply, &seed.address()).unwrap_or_default() {
            slots += served.count();
            if nodes.iter().all(|known| known.address() != served.by) {
                nodes.push(seed.at(&served.by));
            }
        }
        if slots > best.1 {
            best = (nodes, slots);
        }
        if slots == SLOTS {
            break;
        }
    }
    best
}

/// A command, and the ACL rule that it takes.
struct Try {
    rule: &'static str,
    command: Cmd,
    purpose: Purpose,
}

/// What doesn't work without it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Road,
    Tracking,
    Walks,
}

async fn look(primary: &Primary, options: &Options, tries: &[Try]) -> Node {
    let asked = async {
        let mut connection = primary.connect(&primary.endpoint().config(options.read_timeout)).await?;
        ask(&mut connection, tries).await.map_err(|error| Fault::from(&error))
    };
    let look = match asked.await {
        Ok(facts) => Look::Seen(facts),
        Err(fault) => Look::Away(fault.text().to_owned()),
    };
    Node { address: primary.to_string(), look }
}

async fn ask(connection: &mut MultiplexedConnection, tries: &[Try]) -> RedisResult<Facts> {
    let mut facts = match one::<String>(connection, cmd("INFO")).await? {
        Ok(text) => Facts::of_info(&text),
        Err(_) => Facts::default(),
    };
    facts.clock_gap_ms = clock_gap_ms(connection).await?;
    let mut clients_max = cmd("CONFIG");
    clients_max.arg("GET").arg("maxmemory-clients");
    let clients_max = one::<Vec<String>>(connection, clients_max).await?;
    facts.clients_max = clients_max.ok().and_then(|pair| pair.into_iter().nth(1));
    let mut all = pipe();
    for one in tries {
        all.add_command(one.command.clone());
    }
    for (one, reply) in tries.iter().zip(run(connection, all).await?) {
        let lacking = match one.purpose {
            Purpose::Road => &mut facts.denied,
            Purpose::Tracking => &mut facts.denied_tracking,
            Purpose::Walks => &mut facts.denied_walks,
        };
        if let Some(rule) = denied(one.rule, reply)
            && !lacking.contains(&rule)
        {
            lacking.push(rule);
        }
    }
    // The last ones, as they change what the connection speaks.
    let mut track = pipe();
    track.cmd("HELLO").arg(3);
    track.cmd("CLIENT").arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX").arg(KEY_PREFIX);
    for (rule, reply) in ["+hello", "+client|tracking"].into_iter().zip(run(connection, track).await?) {
        match denied(rule, reply.clone()) {
            Some(rule) => facts.denied_tracking.push(rule),
            None => facts.tracking_refused = facts.tracking_refused.or(reply.err().map(|error| error.to_string())),
        }
    }
    Ok(facts)
}

async fn clock_gap_ms(connection: &mut MultiplexedConnection) -> RedisResult<Option<i64>> {
    let clock = Clock::system();
    let asked_ms = clock.now_ms();
    let reply = one::<(u64, u64)>(connection, cmd("TIME")).await?;
    let span = asked_ms..=clock.now_ms();
    Ok(reply.ok().map(|(seconds, micros)| gap_ms(seconds.saturating_mul(1_000) + micros / 1_000, span)))
}

/// The rule that would have let it pass, where it is one that was lacking.
fn denied(rule: &'static str, reply: RedisResult<Value>) -> Option<&'static str> {
    let error = reply.err().filter(|error| error.code() == Some("NOPERM"))?;
    // "... to run the 'get' command", or "... to access one of the keys used as arguments".
    let is_about_keys = error.detail().is_some_and(|detail| !detail.contains("run the") && detail.contains("key"));
    Some(if is_about_keys { KEYS_RULE } else { rule })
}

/// The outer error is that of the connection, the inner one that of the command.
async fn one<T: FromRedisValue>(connection: &mut MultiplexedConnection, command: Cmd) -> RedisResult<RedisResult<T>> {
    let mut single = pipe();
    single.add_command(command);
    let reply = run(connection, single).await?.pop().unwrap_or(Ok(Value::Nil));
    Ok(reply.and_then(|value| Ok(from_redis_value(value)?)))
}

async fn run(connection: &mut MultiplexedConnection, mut commands: Pipeline) -> RedisResult<Vec<RedisResult<Value>>> {
    commands.ignore_errors();
    commands.query_async(connection).await
}

/// Every command that these uses send, harmless here, in an order in which no one leaves anything behind.
fn tries(uses: &[Use], options: &Options) -> Vec<Try> {
    let entry = format!("{KEY_PREFIX}{ENTRY}");
    let has = |this: Use| uses.contains(&this);
    let mut list: Vec<Try> = Vec::new();
    let mut try_for = |purpose: Purpose, rule: &'static str, parts: &[&str]| {
        let mut command = Cmd::new();
        for part in parts {
            command.arg(part);
        }
        list.push(Try { rule, command, purpose });
    };
    let mut add = |rule, parts: &[&str]| try_for(Purpose::Road, rule, parts);
    match options.mode {
        Mode::Standalone { .. } => {}
        Mode::Sentinel { .. } => add("+role", &["ROLE"]),
        Mode::Cluster { .. } => {
            add("+cluster|slots", &["CLUSTER", "SLOTS"]);
            add("+asking", &["ASKING"]);
        }
    }
    add("+exists", &["EXISTS", RECORD]);
    if has(Use::Read) {
        add("+get", &["GET", &entry]);
    }
    if has(Use::Write) || has(Use::LoadRules) || has(Use::ChangeRules) {
        add("+ping", &["PING"]);
        add("+unwatch", &["UNWATCH"]);
    }
    if has(Use::Write) || has(Use::ChangeRules) {
        // On a text, commands for hashes do nothing but say so.
        add("+set", &["SET", RECORD, "1", "PX", &TRIED_MS.to_string()]);
        match options.acknowledge {
            Acknowledge::Memory => {}
            Acknowledge::Replicas(_) => add("+wait", &["WAIT", "0", "1"]),
            Acknowledge::Aof => add("+waitaof", &["WAITAOF", "0", "0", "1"]),
        }
    }
    if has(Use::Write) {
        add("+set", &["SET", &entry, "1", "PX", &TRIED_MS.to_string()]);
        add("+getrange", &["GETRANGE", &entry, "0", "0"]);
        add("+unlink", &["UNLINK", &entry]);
        add("+script|load", &["SCRIPT", "LOAD", "return 1"]);
        add("+evalsha", &["EVALSHA", NO_SHA, "1", &entry]);
    }
    if has(Use::LoadRules) || has(Use::ChangeRules) {
        add("+hgetall", &["HGETALL", RECORD]);
    }
    if has(Use::ChangeRules) {
        add("+eval", &["EVAL", "return 1", "1", RECORD]);
        add("+hset", &["HSET", RECORD, "f", "1"]);
        add("+hexists", &["HEXISTS", RECORD, "f"]);
        add("+hlen", &["HLEN", RECORD]);
        add("+hdel", &["HDEL", RECORD, "f"]);
    }
    if has(Use::Track) {
        let mut add = |rule, parts: &[&str]| try_for(Purpose::Tracking, rule, parts);
        add("+info", &["INFO", "server"]);
        if let Mode::Cluster { .. } = options.mode {
            add("+cluster|info", &["CLUSTER", "INFO"]);
        }
    }
    if has(Use::Walk) {
        let mut add = |rule, parts: &[&str]| try_for(Purpose::Walks, rule, parts);
        add("+dbsize", &["DBSIZE"]);
        add("+scan", &["SCAN", "0", "MATCH", &entry, "COUNT", "1"]);
        add("+getrange", &["GETRANGE", &entry, "0", "0"]);
        add("+strlen", &["STRLEN", &entry]);
        // Of what is not there nothing is changed, and nothing is made.
        let nobody = format!("{KEY_PREFIX}{NOBODY}");
        add("+setrange", &["SETRANGE", &nobody, "0", ""]);
        add("+pexpireat", &["PEXPIREAT", &nobody, "1"]);
        add("+persist", &["PERSIST", &nobody]);
        add("+eval", &["EVAL", "return 1", "1", &entry]);
    }
    list
}
