//! What a Redis says of itself, as plain data, for `doctor`. Pure.

use std::collections::BTreeMap;
use std::fmt;

/// One server, as it was found.
#[derive(Debug, Clone)]
pub struct Node {
    /// Without user and password.
    pub address: String,
    pub look: Look,
}

#[derive(Debug, Clone)]
pub enum Look {
    Seen(Facts),
    /// It can't be reached, or lets nobody in; both may heal by itself: why.
    Away(String),
    /// Of a cluster as a whole: only so many slots have a primary.
    Uncovered {
        slots: u16,
    },
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// INFO, name to value.
    pub info: BTreeMap<String, String>,
    /// What our user lacks, as an ACL rule gives it: `+evalsha`, `~hc:v1:*`.
    pub denied: Vec<&'static str>,
    /// The same, for what operators do to stored entries and nobody else does.
    pub denied_walks: Vec<&'static str>,
    /// The same, for hearing of changes.
    pub denied_tracking: Vec<&'static str>,
    /// Why RESP3 with `CLIENT TRACKING` can't be had, where that is no lack of a permission; `None` where it can.
    pub tracking_refused: Option<String>,
    /// `maxmemory-clients`; `None` where our user may not know, or it has none.
    pub clients_max: Option<String>,
    /// How far its clock is ahead of ours; `None` where it didn't say.
    pub clock_gap_ms: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Facts {
    /// From the text that INFO answers.
    pub fn of_info(text: &str) -> Self {
        let pair = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        Self { info: text.lines().filter_map(pair).collect(), ..Self::default() }
    }

    /// A line of INFO; `None` where it is absent or empty.
    pub fn info(&self, name: &str) -> Option<&str> {
        self.info.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    pub fn number(&self, name: &str) -> Option<u64> {
        self.info(name)?.parse().ok()
    }

    /// False where our user may not ask.
    pub fn has_info(&self) -> bool {
        !self.info.is_empty()
    }

    /// The version of Redis whose commands it has; that is less than its own of a Valkey.
    pub fn version(&self) -> Option<Version> {
        let mut parts = self.info("redis_version")?.split('.');
        let mut part = || parts.next()?.parse().ok();
        Some(Version { major: part()?, minor: part()? })
    }

    /// As a person calls it: `Redis 7.0.15`, `Valkey 9.1.2`.
    pub fn name(&self) -> String {
        match self.info("valkey_version") {
            Some(version) => format!("Valkey {version}"),
            None => format!("Redis {}", self.info("redis_version").unwrap_or("of an unknown version")),
        }
    }

    /// Replicas that are connected and in step.
    pub fn online_replicas(&self) -> u64 {
        let is_online = |(name, value): &(&String, &String)| {
            let numbered = name.strip_prefix("slave").is_some_and(|rest| rest.parse::<u32>().is_ok());
            numbered && value.split(',').any(|part| part == "state=online")
        };
        self.info.iter().filter(is_online).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_read_line_by_line() {
        let facts = Facts::of_info(
            "# Server\r\nredis_version:7.0.15\r\nos:a:b\r\nempty:\r\nconnected_slaves:3\r\nslave0:ip=::1,port=1,\
             state=online,offset=1,lag=0\r\nslave1:ip=b,port=2,state=wait_bgsave,offset=0,lag=0\r\n",
        );
        assert_eq!(facts.version(), Some(Version { major: 7, minor: 0 }));
        assert_eq!((facts.info("os"), facts.info("empty"), facts.info("none")), (Some("a:b"), None, None));
        assert_eq!((facts.online_replicas(), facts.name().as_str()), (1, "Redis 7.0.15"));
        assert!(Version { major: 7, minor: 2 } > Version { major: 6, minor: 10 });
    }
}
