//! Judges the servers of a Redis store. Pure.

use super::{Finding, Sheet, bytes, clock_differs};
use crate::store::Acknowledge;
use crate::store::redis::{Facts, Look, Node, Use, Version};

/// What the store is used for.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub kind: Kind,
    pub acknowledge: Acknowledge,
    pub uses: Vec<Use>,
}

/// What `store.mode` takes a server for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One server, whether or not Sentinels watch it.
    Single,
    ClusterNode,
}

impl Wanted {
    fn writes(&self) -> bool {
        self.uses.contains(&Use::Write) || self.uses.contains(&Use::ChangeRules)
    }
}

/// The first to have `PXAT`.
const VERSION_MIN: Version = Version { major: 6, minor: 2 };
/// The first to have `WAITAOF`.
const VERSION_OF_WAITAOF: Version = Version { major: 7, minor: 2 };
/// Above this part of its limit, in percent, memory may be full before somebody acts.
const MEMORY_PERCENT_MAX: u64 = 80;
/// Redis ends entries by its own clock: one that differs by more ends them too early or too late. A TTL has a second at
/// least, and a machine under load answers late.
const CLOCK_GAP_MS_MAX: i64 = 5_000;

pub fn judge(nodes: &[Node], wanted: &Wanted) -> Vec<Finding> {
    nodes.iter().flat_map(|node| judge_node(node, wanted)).collect()
}

fn judge_node(node: &Node, wanted: &Wanted) -> Vec<Finding> {
    let mut sheet = Sheet::new(&node.address);
    match &node.look {
        Look::Away(why) => sheet.unseen(
            "redis-reached",
            format!("can't be looked at: {why}"),
            "start it, or correct store.url, its user and its password",
        ),
        Look::Uncovered { slots } => sheet.risky(
            "redis-slots",
            format!("only {slots} of 16384 slots have a primary: nothing is stored until all have one"),
            "see redis-cli --cluster check; start the primaries that are missing, or give their slots to others",
        ),
        Look::Seen(facts) => {
            access(facts, &mut sheet);
            if wanted.uses.contains(&Use::Walk) {
                walks(facts, &mut sheet);
            }
            match facts.has_info() {
                true => judge_info(facts, wanted, &mut sheet),
                false => sheet.note(
                    "redis-info",
                    "INFO is refused: version, memory, persistence and replicas were not looked at",
                    "allow it with the ACL rule +info",
                ),
            }
            if wanted.uses.contains(&Use::Track) {
                tracking(facts, &mut sheet);
            }
            clock(facts, &mut sheet);
        }
    }
    sheet.finish()
}

fn judge_info(facts: &Facts, wanted: &Wanted, sheet: &mut Sheet) {
    version(facts, wanted, sheet);
    kind(facts, wanted, sheet);
    role(facts, wanted, sheet);
    if wanted.writes() {
        replicas(facts, wanted, sheet);
    }
    memory(facts, sheet);
    persistence(facts, wanted, sheet);
}

fn access(facts: &Facts, sheet: &mut Sheet) {
    const CHECK: &str = "redis-acl";
    match facts.denied.join(" ") {
        none if none.is_empty() => sheet.ok(CHECK, "the user may do all that its roles need"),
        rules => sheet.dangerous(
            CHECK,
            format!("the user of store.url lacks permissions: {rules}"),
            format!("ACL SETUSER <user> {rules}"),
        ),
    }
}

/// What operators ask for now and then holds up nobody else.
fn walks(facts: &Facts, sheet: &mut Sheet) {
    const CHECK: &str = "redis-acl-walks";
    match facts.denied_walks.join(" ") {
        none if none.is_empty() => sheet.ok(CHECK, "the user may list, purge and change what is stored"),
        rules => sheet.risky(
            CHECK,
            format!("the user of store.url can't list, purge or apply TTL rules to what is stored: it lacks {rules}"),
            format!("ACL SETUSER <user> {rules}"),
        ),
    }
}

fn version(facts: &Facts, wanted: &Wanted, sheet: &mut Sheet) {
    const CHECK: &str = "redis-version";
    let name = facts.name();
    let Some(version) = facts.version() else {
        return sheet.note(CHECK, "INFO names no version", format!("see that it is Redis {VERSION_MIN} or later"));
    };
    if version < VERSION_MIN {
        return sheet.dangerous(CHECK, format!("{name} is too old"), format!("use Redis {VERSION_MIN} or later"));
    }
    if wanted.acknowledge == Acknowledge::Aof && version < VERSION_OF_WAITAOF {
        let mend = format!(
            "use Redis {VERSION_OF_WAITAOF} or later, or set store.acknowledge to \"memory\" or \"replicas(n)\""
        );
        return sheet.dangerous(CHECK, format!("{name} has no WAITAOF, which store.acknowledge = \"aof\" needs"), mend);
    }
    sheet.ok(CHECK, name);
}

fn kind(facts: &Facts, wanted: &Wanted, sheet: &mut Sheet) {
    const CHECK: &str = "redis-mode";
    let is_node = facts.info("redis_mode") == Some("cluster") || facts.info("cluster_enabled") == Some("1");
    match (facts.info("redis_mode"), wanted.kind) {
        (Some("sentinel"), _) => sheet.dangerous(
            CHECK,
            "it is a Sentinel, which stores nothing",
            "set store.mode = \"sentinel\" and store.sentinel_master, or point store.url at the primary",
        ),
        (_, Kind::Single) if is_node => sheet.dangerous(
            CHECK,
            "it is a node of a Redis Cluster, which holds a part of the keys alone",
            "set store.mode = \"cluster\"",
        ),
        (_, Kind::ClusterNode) if !is_node => sheet.dangerous(
            CHECK,
            "it is no node of a Redis Cluster",
            "set store.mode = \"standalone\", or point store.url at the cluster",
        ),
        (_, Kind::Single) => sheet.ok(CHECK, "standalone"),
        (_, Kind::ClusterNode) => sheet.ok(CHECK, "a node of a cluster"),
    }
}

fn role(facts: &Facts, wanted: &Wanted, sheet: &mut Sheet) {
    const CHECK: &str = "redis-role";
    match facts.info("role") {
        // Not dangerous: a name that follows the primary may lead here for a moment, and then heals by itself.
        Some("slave") if wanted.writes() => sheet.risky(
            CHECK,
            "it is a replica, which takes no writes: nothing is stored while it is one",
            "point store.url at the primary, or at a name that follows it",
        ),
        Some("slave") => sheet.note(
            CHECK,
            "it is a replica: what is read may be older than what the primary has",
            "point store.url at the primary, unless that is meant",
        ),
        _ => sheet.ok(CHECK, "primary"),
    }
}

fn replicas(facts: &Facts, wanted: &Wanted, sheet: &mut Sheet) {
    const CHECK: &str = "redis-replicas";
    let online = facts.online_replicas();
    let Acknowledge::Replicas(count) = wanted.acknowledge else {
        return sheet.ok(CHECK, format!("{online} online"));
    };
    let asked = format!("{online} online, and store.acknowledge = \"replicas({count})\"");
    match online.cmp(&u64::from(count)) {
        std::cmp::Ordering::Less => sheet.risky(
            CHECK,
            format!("{asked}: nothing is stored until more are there"),
            "start replicas, or lower the number of store.acknowledge",
        ),
        std::cmp::Ordering::Equal => sheet.note(
            CHECK,
            format!("{asked}: nothing is stored while one of them is away"),
            "run one replica more than store.acknowledge waits for",
        ),
        std::cmp::Ordering::Greater => sheet.ok(CHECK, asked),
    }
}

fn memory(facts: &Facts, sheet: &mut Sheet) {
    const CHECK: &str = "redis-memory";
    let used = facts.number("used_memory").unwrap_or(0);
    let Some(limit) = facts.number("maxmemory").filter(|limit| *limit > 0) else {
        return sheet.risky(
            CHECK,
            format!("no memory limit ({} used): it grows until the system ends it", bytes(used)),
            "set maxmemory below the memory of its machine, and maxmemory-policy noeviction",
        );
    };
    let percent = u64::try_from(u128::from(used) * 100 / u128::from(limit)).unwrap_or(u64::MAX);
    let told = format!("{} of {} used ({percent} %)", bytes(used), bytes(limit));
    match percent {
        ..=MEMORY_PERCENT_MAX => sheet.ok(CHECK, told),
        _ => sheet.risky(CHECK, format!("{told}: it is full soon"), "raise maxmemory, or shorten TTLs"),
    }
    eviction(facts, sheet);
}

fn eviction(facts: &Facts, sheet: &mut Sheet) {
    const CHECK: &str = "redis-eviction";
    let Some(policy) = facts.info("maxmemory_policy") else { return };
    let told = format!("maxmemory-policy is {policy}");
    let mend = "set maxmemory-policy noeviction (a full Redis then pauses the consumer), or allkeys-lfu for a cache that \
                may forget";
    let what = match policy {
        "noeviction" => return sheet.ok(CHECK, told),
        lfu if lfu.ends_with("-lfu") => {
            let told = format!("{told}: a full Redis forgets what is seldom read");
            return sheet.note(CHECK, told, "keep it for a cache that may forget, or set noeviction");
        }
        random if random.ends_with("-random") => "a full Redis forgets entries at random",
        "volatile-ttl" => "a full Redis forgets entries of short TTLs first, whoever needs them",
        _ => "a full Redis forgets entries that are still asked for",
    };
    sheet.risky(CHECK, format!("{told}: {what}"), mend);
}

fn persistence(facts: &Facts, wanted: &Wanted, sheet: &mut Sheet) {
    const CHECK: &str = "redis-persistence";
    let failed = |name: &str| facts.info(name).is_some_and(|status| status != "ok");
    let aof = facts.info("aof_enabled") == Some("1");
    if !aof && wanted.acknowledge == Acknowledge::Aof {
        return sheet.dangerous(
            CHECK,
            "it has no append-only file, which store.acknowledge = \"aof\" waits for",
            "set appendonly yes, or store.acknowledge to \"memory\" or \"replicas(n)\"",
        );
    }
    if aof && failed("aof_last_write_status") {
        return sheet.risky(CHECK, "its append-only file can't be written", "see its log; make room on its disk");
    }
    if failed("rdb_last_bgsave_status") {
        return sheet.risky(
            CHECK,
            "its last snapshot failed, for which it may refuse writes",
            "see its log; make room on its disk, or memory for the fork (vm.overcommit_memory = 1)",
        );
    }
    match (aof, facts.online_replicas()) {
        (true, _) => sheet.ok(CHECK, "append-only file"),
        (false, 0) => sheet.risky(
            CHECK,
            "one copy, in memory: a restart forgets what was stored since its last snapshot",
            "set appendonly yes, or run replicas",
        ),
        (false, _) if matches!(wanted.acknowledge, Acknowledge::Replicas(_)) => sheet.risky(
            CHECK,
            "no append-only file: if it restarts empty before a replica is promoted, its replicas are emptied, too",
            "set appendonly yes, or see that it is never restarted by itself",
        ),
        (false, replicas) => sheet.note(
            CHECK,
            format!(
                "copies on {replicas} replicas, and no append-only file: if all of them stop, the last is forgotten"
            ),
            "set appendonly yes",
        ),
    }
}

/// Not risky: without it answers are a moment old, as they are in front of most caches.
fn tracking(facts: &Facts, sheet: &mut Sheet) {
    const CHECK: &str = "redis-tracking";
    const MEANS: &str = "gets may be answered with what is as old as get.cache allows";
    let lacking = facts.denied_tracking.join(" ");
    match &facts.tracking_refused {
        Some(why) => sheet.note(
            CHECK,
            format!("it can't tell of changes ({why}): {MEANS}"),
            "use a server that has RESP3 and CLIENT TRACKING, or set get.cache = \"bounded(1s)\"",
        ),
        None if !lacking.is_empty() => sheet.note(
            CHECK,
            format!("the user of store.url may not hear of changes: it lacks {lacking}: {MEANS}"),
            format!("ACL SETUSER <user> {lacking}"),
        ),
        None => sheet.ok(CHECK, "it tells of changes (RESP3 with CLIENT TRACKING)"),
    }
    let evicts = facts.info("maxmemory_policy").is_some_and(|policy| policy != "noeviction");
    if evicts && facts.clients_max.as_deref() == Some("0") {
        sheet.note(
            "redis-tracking-memory",
            "a full Redis tells each process that gets of each entry that it forgets, and what they have not taken yet \
             fills it further",
            "set maxmemory-clients, such as to 5%, or maxmemory-policy noeviction",
        );
    }
}

fn clock(facts: &Facts, sheet: &mut Sheet) {
    const CHECK: &str = "redis-clock";
    match facts.clock_gap_ms.map(|gap_ms| clock_differs(gap_ms, CLOCK_GAP_MS_MAX)) {
        None => sheet.note(CHECK, "it doesn't tell its time", "allow it with the ACL rule +time"),
        Some(None) => sheet.ok(CHECK, "as this machine's"),
        Some(Some(differs)) => sheet.risky(
            CHECK,
            format!("{differs}: entries end too early or too late"),
            "let NTP set the clocks of both machines",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Severity::{self, Dangerous, Note, Ok, Risky, Unseen};
    use super::*;

    const FINE: &str = "redis_version:7.2.4\nredis_mode:standalone\nrole:master\nmaxmemory:1000\nused_memory:800\n\
        maxmemory_policy:noeviction\naof_enabled:1\naof_last_write_status:ok\nrdb_last_bgsave_status:ok\n\
        cluster_enabled:0\n";

    fn facts(info: &str) -> Facts {
        Facts { clock_gap_ms: Some(0), ..Facts::of_info(info) }
    }

    fn of(facts: Facts, acknowledge: Acknowledge) -> Vec<Finding> {
        let uses = vec![Use::Write, Use::Read, Use::LoadRules, Use::ChangeRules, Use::Track, Use::Walk];
        let node = Node { address: "redis://h:1".to_owned(), look: Look::Seen(facts) };
        judge(&[node], &Wanted { kind: Kind::Single, acknowledge, uses })
    }

    fn severity(findings: &[Finding], check: &str) -> Severity {
        findings.iter().find(|finding| finding.check == check).expect(check).severity
    }

    #[test]
    fn a_server_as_it_should_be_is_ok_in_every_check() {
        let findings = of(facts(FINE), Acknowledge::Aof);
        assert!(findings.iter().all(|finding| finding.severity == Ok && finding.mend.is_none()), "{findings:#?}");
        assert_eq!(findings.len(), 11, "{findings:#?}");
    }

    #[test]
    fn each_line_of_info_is_judged() {
        let two = "slave0:ip=a,port=1,state=online,offset=1,lag=0\nslave1:ip=b,port=1,state=online,offset=1,lag=0\n";
        let memory = Acknowledge::Memory;
        let cases = [
            ("redis_version:7.2.4", "redis_version:6.0.9", memory, "redis-version", Dangerous),
            ("redis_version:7.2.4", "redis_version:6.2.1", memory, "redis-version", Ok),
            ("redis_version:7.2.4", "redis_version:7.0.15", Acknowledge::Aof, "redis-version", Dangerous),
            ("redis_version:7.2.4", "x:y", memory, "redis-version", Note),
            ("redis_mode:standalone", "redis_mode:cluster", memory, "redis-mode", Dangerous),
            ("redis_mode:standalone", "redis_mode:sentinel", memory, "redis-mode", Dangerous),
            ("cluster_enabled:0", "cluster_enabled:1", memory, "redis-mode", Dangerous),
            ("role:master", "role:slave", memory, "redis-role", Risky),
            ("cluster_enabled:0\n", two, Acknowledge::Replicas(3), "redis-replicas", Risky),
            ("cluster_enabled:0\n", two, Acknowledge::Replicas(2), "redis-replicas", Note),
            ("cluster_enabled:0\n", two, Acknowledge::Replicas(1), "redis-replicas", Ok),
            ("maxmemory:1000", "maxmemory:0", memory, "redis-memory", Risky),
            ("used_memory:800", "used_memory:820", memory, "redis-memory", Risky),
            ("policy:noeviction", "policy:allkeys-lru", memory, "redis-eviction", Risky),
            ("policy:noeviction", "policy:volatile-random", memory, "redis-eviction", Risky),
            ("policy:noeviction", "policy:volatile-ttl", memory, "redis-eviction", Risky),
            ("policy:noeviction", "policy:allkeys-lfu", memory, "redis-eviction", Note),
            ("aof_enabled:1", "aof_enabled:0", Acknowledge::Aof, "redis-persistence", Dangerous),
            ("aof_enabled:1", "aof_enabled:0", memory, "redis-persistence", Risky),
            ("aof_last_write_status:ok", "aof_last_write_status:err", memory, "redis-persistence", Risky),
            ("rdb_last_bgsave_status:ok", "rdb_last_bgsave_status:err", memory, "redis-persistence", Risky),
        ];
        for (from, to, acknowledge, check, expected) in cases {
            assert!(FINE.contains(from), "{from}");
            let findings = of(facts(&FINE.replace(from, to)), acknowledge);
            assert_eq!(severity(&findings, check), expected, "{to}");
            let others: Vec<_> = findings.iter().filter(|f| f.check != check && f.severity > Note).collect();
            assert!(others.is_empty(), "{to}: {others:?}");
        }
        let unsaved = FINE.replace("aof_enabled:1", "aof_enabled:0") + two;
        assert_eq!(severity(&of(facts(&unsaved), memory), "redis-persistence"), Note);
    }

    #[test]
    fn whoever_only_reads_may_read_from_a_replica() {
        let node = Node {
            address: "redis://h:1".to_owned(),
            look: Look::Seen(facts(&FINE.replace("role:master", "role:slave"))),
        };
        let wanted = Wanted { kind: Kind::Single, acknowledge: Acknowledge::Memory, uses: vec![Use::Read] };
        assert_eq!(severity(&judge(&[node], &wanted), "redis-role"), Note);
    }

    #[test]
    fn a_cluster_is_told_from_one_server() {
        for (info, severity) in [(FINE.replace("_enabled:0", "_enabled:1"), Ok), (FINE.to_owned(), Dangerous)] {
            let node = Node { address: "redis://h:1".to_owned(), look: Look::Seen(facts(&info)) };
            let wanted = Wanted { kind: Kind::ClusterNode, acknowledge: Acknowledge::Memory, uses: vec![Use::Read] };
            assert_eq!(self::severity(&judge(&[node], &wanted), "redis-mode"), severity);
        }
    }

    #[test]
    fn what_is_not_in_info_is_judged_too() {
        let memory = Acknowledge::Memory;
        let denied = Facts { denied: vec!["+evalsha", "~hc:v1:*"], ..facts(FINE) };
        let findings = of(denied, memory);
        assert_eq!(severity(&findings, "redis-acl"), Dangerous);
        let acl = findings.iter().find(|finding| finding.check == "redis-acl").unwrap().to_string();
        assert!(acl.contains("ACL SETUSER <user> +evalsha ~hc:v1:*"), "{acl}");
        let findings = of(Facts { denied_walks: vec!["+scan"], ..facts(FINE) }, memory);
        assert_eq!(severity(&findings, "redis-acl-walks"), Risky);
        let untracked = Facts { tracking_refused: Some("NOPROTO".to_owned()), ..facts(FINE) };
        assert_eq!(severity(&of(untracked, memory), "redis-tracking"), Note);
        let findings = of(Facts { denied_tracking: vec!["+info", "+client|tracking"], ..facts(FINE) }, memory);
        let tracking = findings.iter().find(|finding| finding.check == "redis-tracking").unwrap();
        assert_eq!(
            (tracking.severity, tracking.mend.as_deref()),
            (Note, Some("ACL SETUSER <user> +info +client|tracking"))
        );
        let lfu = FINE.replace("noeviction", "allkeys-lfu");
        for (policy, clients_max, is_told) in [(&*lfu, "0", true), (&lfu, "1048576", false), (FINE, "0", false)] {
            let findings = of(Facts { clients_max: Some(clients_max.to_owned()), ..facts(policy) }, memory);
            assert_eq!(findings.iter().any(|f| f.check == "redis-tracking-memory"), is_told, "{clients_max} {policy}");
        }
        for (gap, expected) in [(Some(4_000), Ok), (Some(-6_000), Risky), (Some(60_000), Risky), (None, Note)] {
            let findings = of(Facts { clock_gap_ms: gap, ..facts(FINE) }, memory);
            assert_eq!(severity(&findings, "redis-clock"), expected, "{gap:?}");
        }
        assert_eq!(severity(&of(Facts::default(), memory), "redis-info"), Note);
        let away = Node { address: "redis://h:1".to_owned(), look: Look::Away("refused".to_owned()) };
        let findings = judge(&[away], &Wanted { kind: Kind::Single, acknowledge: memory, uses: vec![Use::Read] });
        assert_eq!((findings.len(), findings[0].severity), (1, Unseen));
    }
}
