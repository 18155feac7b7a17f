//! Slots of a cluster: which one a key lies in, and which node serves which, as a node tells it. Pure.

use std::fmt;

use deadpool_redis::redis::Value;

pub(super) type Slot = u16;

pub(super) const SLOTS: u16 = 16_384;

/// CRC-16/XMODEM, byte by byte.
const CRC: [u16; 256] = crc_table();

/// Where a node is, as the cluster or a Sentinel announces it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

/// Slots from `first` to `last`, and the primary that serves them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Served {
    pub(super) first: Slot,
    pub(super) last: Slot,
    pub(super) by: Address,
}

impl Served {
    pub(super) fn count(&self) -> u16 {
        self.last - self.first + 1
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Address {
    /// From `host:port`, as a redirect names it. A node that doesn't know how it is reached leaves its host out, or
    /// says `?`: it is where `asked` is.
    pub(super) fn parse(text: &str, asked: &Address) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Some(Self { host: known_host(host, asked), port: port.parse().ok()? })
    }
}

fn known_host(host: &str, asked: &Address) -> String {
    match host {
        "" | "?" => asked.host.clone(),
        host => host.to_owned(),
    }
}

/// The slot of a key, given in parts, whose braces choose nothing.
pub(super) fn slot_of<const N: usize>(parts: [&[u8]; N]) -> Slot {
    let step = |crc: u16, byte: &u8| (crc << 8) ^ CRC[usize::from((crc >> 8) as u8 ^ byte)];
    parts.into_iter().flatten().fold(0, step) % SLOTS
}

/// For each slot a number that, in braces, puts a key into it.
pub(super) struct Tags(Vec<u32>);

impl Tags {
    /// Takes a few milliseconds.
    pub(super) fn new() -> Self {
        let mut tags = vec![None; SLOTS.into()];
        let mut left = SLOTS;
        for number in 0.. {
            let tag = &mut tags[usize::from(slot_of([number.to_string().as_bytes()]))];
            if tag.is_none() {
                *tag = Some(number);
                left -= 1;
            }
            if left == 0 {
                break;
            }
        }
        Self(tags.into_iter().flatten().collect())
    }

    /// A key of ours that lies in this slot.
    pub(super) fn key(&self, prefix: &str, slot: Slot) -> String {
        format!("{prefix}:{{{}}}", self.0[usize::from(slot)])
    }
}

/// The answer to CLUSTER SLOTS, in the order of the slots; `None` where it is none.
pub(super) fn parse(reply: &Value, asked: &Address) -> Option<Vec<Served>> {
    let Value::Array(ranges) = reply else { return None };
    let mut served: Vec<Served> = ranges.iter().map(|range| parse_range(range, asked)).collect::<Option<_>>()?;
    served.sort_by_key(|range| range.first);
    Some(served)
}

fn parse_range(range: &Value, asked: &Address) -> Option<Served> {
    let Value::Array(parts) = range else { return None };
    // Behind the primary come its replicas.
    let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = &parts[..] else { return None };
    let [host, Value::Int(port), more @ ..] = &primary[..] else { return None };
    let host = match text(host) {
        // It is to be reached by a name that it wasn't given; its address may stand behind its id.
        Some("?") => more.iter().find_map(announced_ip).unwrap_or("?"),
        Some(host) => host,
        None => "",
    };
    let slot = |number: &i64| u16::try_from(*number).ok().filter(|slot| *slot < SLOTS);
    let by = Address { host: known_host(host, asked), port: u16::try_from(*port).ok()? };
    Some(Served { first: slot(first)?, last: slot(last)?, by }).filter(|served| served.first <= served.last)
}

/// What a node's metadata says under `ip`: a map, or names and values in turn.
fn announced_ip(metadata: &Value) -> Option<&str> {
    let ip = |name, value| (text(name) == Some("ip")).then(|| text(value)).flatten();
    match metadata {
        Value::Array(items) => items.chunks_exact(2).find_map(|pair| ip(&pair[0], &pair[1])),
        Value::Map(pairs) => pairs.iter().find_map(|(name, value)| ip(name, value)),
        _ => None,
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

const fn crc_table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Address {
        Address { host: "seed".to_owned(), port: 7 }
    }

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn range(first: i64, last: i64, host: Value, metadata: Vec<Value>) -> Value {
        let primary = vec![host, Value::Int(7000), bulk("id"), Value::Array(metadata)];
        let replica = Value::Array(vec![bulk("replica"), Value::Int(7001), bulk("id")]);
        Value::Array(vec![Value::Int(first), Value::Int(last), Value::Array(primary), replica])
    }

    fn hosts(ranges: Vec<Value>) -> Option<Vec<String>> {
        let served = parse(&Value::Array(ranges), &asked())?;
        Some(served.into_iter().map(|served| served.by.host).collect())
    }

    #[test]
    fn a_slot_is_what_redis_says_it_is() {
        // As CLUSTER KEYSLOT answers.
        for (key, slot) in [("123456789", 12739), ("foo", 12182), ("", 0), ("hc:v1:c:ttl", 3061)] {
            assert_eq!(slot_of([key.as_bytes()]), slot, "{key}");
        }
        assert_eq!(slot_of([b"123", b"456789"]), 12739, "parts make one key");
    }

    #[test]
    fn every_slot_has_a_tag_that_leads_to_it() {
        let tags = Tags::new();
        assert_eq!(tags.0.len(), usize::from(SLOTS));
        for slot in 0..SLOTS {
            let key = tags.key("mark", slot);
            let tag = key.strip_prefix("mark:{").and_then(|rest| rest.strip_suffix('}')).expect("a tag in braces");
            assert_eq!(slot_of([tag.as_bytes()]), slot);
        }
    }

    #[test]
    fn ranges_are_read_in_order_and_only_their_primary_counts() {
        let answer = vec![range(100, 199, bulk("b"), vec![]), range(0, 99, bulk("a"), vec![])];
        let served = parse(&Value::Array(answer), &asked()).unwrap();
        let by = |host: &str| Address { host: host.to_owned(), port: 7000 };
        let want = [Served { first: 0, last: 99, by: by("a") }, Served { first: 100, last: 199, by: by("b") }];
        assert_eq!(served, want);
        assert_eq!(served[1].count(), 100);
    }

    #[test]
    fn a_node_that_does_not_know_its_host_is_where_the_one_that_was_asked_is() {
        let ip = vec![bulk("hostname"), bulk(""), bulk("ip"), bulk("10.0.0.1")];
        let cases = [
            (Value::Nil, vec![], "seed"),
            (bulk(""), vec![], "seed"),
            (bulk("?"), vec![], "seed"),
            (bulk("?"), ip.clone(), "10.0.0.1"),
            (bulk("name"), ip, "name"),
        ];
        for (host, metadata, want) in cases {
            assert_eq!(hosts(vec![range(0, 1, host, metadata)]), Some(vec![want.to_owned()]));
        }
        let map = Value::Map(vec![(bulk("hostname"), bulk("")), (bulk("ip"), bulk("10.0.0.1"))]);
        assert_eq!(announced_ip(&map), Some("10.0.0.1"), "as RESP3 has it");
    }

    #[test]
    fn a_redirect_may_leave_the_host_out_and_may_name_one_with_colons() {
        let parsed = |text| Address::parse(text, &asked()).map(|address| (address.host, address.port));
        assert_eq!(parsed("10.0.0.1:6379"), Some(("10.0.0.1".to_owned(), 6379)));
        assert_eq!(parsed("::1:6379"), Some(("::1".to_owned(), 6379)));
        assert_eq!(parsed(":6379"), Some(("seed".to_owned(), 6379)));
        assert_eq!(parsed("?:6379"), Some(("seed".to_owned(), 6379)));
        assert_eq!(parsed("host"), None);
        assert_eq!(parsed("host:x"), None);
    }

    #[test]
    fn what_is_no_answer_to_cluster_slots_is_told_apart() {
        let bad = [
            Value::Nil,
            Value::Array(vec![Value::Nil]),
            Value::Array(vec![Value::Array(vec![Value::Int(0), Value::Int(1)])]),
            Value::Array(vec![range(5, 4, bulk("a"), vec![])]),
            Value::Array(vec![range(0, 16_384, bulk("a"), vec![])]),
            Value::Array(vec![range(-1, 4, bulk("a"), vec![])]),
        ];
        for answer in bad {
            assert_eq!(parse(&answer, &asked()), None, "{answer:?}");
        }
        assert_eq!(parse(&Value::Array(vec![]), &asked()), Some(vec![]));
    }
}
