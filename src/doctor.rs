//! What is wrong or risky about the places behind a configuration, and how to mend it.
//!
//! Pure: facts in, findings out. Places gather the facts (`inspect` of each backend), `app` brings both together, for
//! `hookcache doctor` and at every start. It never decides what becomes of a finding.
//!
//! | file | judges |
//! | --- | --- |
//! | `redis` | the servers of a Redis store |
//! | `sqs` | the two queues of an SQS buffer |
//! | `registry` | the registry of page links |
//! | `local` | files, disks and limits of this machine |

pub mod local;
pub mod redis;
pub mod registry;
#[cfg(feature = "sqs")]
pub mod sqs;

use std::fmt;

use serde::Serialize;

/// How bad it is, from nothing to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Ok,
    /// Good to know.
    Note,
    /// It works, and can lose data or stop working one day.
    Risky,
    /// It could not be looked at now, which may heal by itself.
    Unseen,
    /// It can't work, or is certain to lose data.
    Dangerous,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Risky => "risky",
            Self::Unseen => "unseen",
            Self::Dangerous => "dangerous",
        }
    }
}

/// One check, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The same in every version: `redis-eviction`.
    pub check: &'static str,
    pub severity: Severity,
    /// What was looked at, without secrets.
    pub place: String,
    /// What it is like.
    pub found: String,
    /// What to do, with the setting; `None` where nothing is to be done.
    pub mend: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.check, self.place, self.found)?;
        self.mend.iter().try_for_each(|mend| write!(f, "; {mend}"))
    }
}

/// The worst of them; `Ok` where there is none.
pub fn worst(findings: &[Finding]) -> Severity {
    findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
}

/// The findings of one place.
pub struct Sheet {
    place: String,
    findings: Vec<Finding>,
}

impl Sheet {
    pub fn new(place: impl Into<String>) -> Self {
        Self { place: place.into(), findings: Vec::new() }
    }

    pub fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        self.add(check, Severity::Ok, found.into(), None);
    }

    pub fn note(&mut self, check: &'static str, found: impl Into<String>, mend: impl Into<String>) {
        self.add(check, Severity::Note, found.into(), Some(mend.into()));
    }

    pub fn risky(&mut self, check: &'static str, found: impl Into<String>, mend: impl Into<String>) {
        self.add(check, Severity::Risky, found.into(), Some(mend.into()));
    }

    pub fn unseen(&mut self, check: &'static str, found: impl Into<String>, mend: impl Into<String>) {
        self.add(check, Severity::Unseen, found.into(), Some(mend.into()));
    }

    pub fn dangerous(&mut self, check: &'static str, found: impl Into<String>, mend: impl Into<String>) {
        self.add(check, Severity::Dangerous, found.into(), Some(mend.into()));
    }

    /// For what an error says as a whole, way out included.
    pub fn refused(&mut self, check: &'static str, error: &dyn fmt::Display) {
        self.add(check, Severity::Dangerous, error.to_string(), None);
    }

    fn add(&mut self, check: &'static str, severity: Severity, found: String, mend: Option<String>) {
        self.findings.push(Finding { check, severity, place: self.place.clone(), found, mend });
    }

    pub fn finish(self) -> Vec<Finding> {
        self.findings
    }
}

/// Sizes as the configuration has them.
fn bytes(count: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.into_iter().find(|(_, unit)| count >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", count as f64 / unit as f64),
        None => format!("{count} bytes"),
    }
}

/// A clock that is not ours: by how much it differs, in words, where that is more than `allowed_ms`.
fn clock_differs(gap_ms: i64, allowed_ms: i64) -> Option<String> {
    let ahead = if gap_ms > 0 { "ahead of" } else { "behind" };
    (gap_ms.saturating_abs() > allowed_ms)
        .then(|| format!("its clock is {} seconds {ahead} this machine's", gap_ms.saturating_abs() / 1_000))
}
