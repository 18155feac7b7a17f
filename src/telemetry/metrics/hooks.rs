//! Webhooks of Confluence: what became of them, and of the keys that they are checked with.

use prometheus::IntCounterVec;

use super::{Maker, Metrics};

/// What became of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookOutcome {
    /// The queue holds its task.
    Stored,
    /// It told of an app, not of a page; the queue holds that.
    Lifecycle,
    /// Nothing is to be done about it.
    Ignored,
    /// Nobody can tell who has sent it, or the sender may not say so.
    Unverified,
    /// What it says makes no sense.
    Invalid,
    /// It could not be checked or kept now; the sender may try again.
    Unavailable,
}

impl HookOutcome {
    const ALL: [Self; 6] =
        [Self::Stored, Self::Lifecycle, Self::Ignored, Self::Unverified, Self::Invalid, Self::Unavailable];

    fn label(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Lifecycle => "lifecycle",
            Self::Ignored => "ignored",
            Self::Unverified => "unverified",
            Self::Invalid => "invalid",
            Self::Unavailable => "unavailable",
        }
    }
}

pub(super) struct Series {
    hooks: IntCounterVec,
    key_fetches: IntCounterVec,
}

impl Series {
    pub fn new(make: &Maker<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            hooks: make.counters(
                "hookcache_hooks_total",
                "Webhooks of Confluence by outcome: stored, lifecycle, ignored, unverified, invalid or unavailable.",
                &["outcome"],
            )?,
            key_fetches: make.counters(
                "hookcache_hook_key_fetches_total",
                "Times that public keys for webhooks were asked for, by result: fetched or failed.",
                &["result"],
            )?,
        })
    }

    pub fn begin_at_zero(&self) {
        for outcome in HookOutcome::ALL {
            self.hooks.with_label_values(&[outcome.label()]);
        }
        for fetched in [true, false] {
            self.key_fetches.with_label_values(&[fetch_label(fetched)]);
        }
    }
}

fn fetch_label(fetched: bool) -> &'static str {
    if fetched { "fetched" } else { "failed" }
}

impl Metrics {
    pub fn hook(&self, outcome: HookOutcome) {
        self.0.hooks.hooks.with_label_values(&[outcome.label()]).inc();
    }

    pub fn hook_keys_fetched(&self, fetched: bool) {
        self.0.hooks.key_fetches.with_label_values(&[fetch_label(fetched)]).inc();
    }
}
