//! Which dead letters a call is about, and which of them its caller may see.

use std::collections::BTreeSet;
use std::time::Duration;

use super::json::{ListQuery, Selection};
use crate::auth::{Caller, Scope};
use crate::buffer::DeadLetter;
use crate::envelope::limits::TTL_SECONDS_MAX;
use crate::envelope::{Account, Accounts, Flow, Peek, PoisonCode};

/// Ids that one call may name.
pub const IDS_MAX: usize = 100;
/// Longest age that can be asked for, in seconds: 100 years, as for a TTL.
const AGE_SECONDS_MAX: u64 = TTL_SECONDS_MAX;

/// Letters of these accounts. Whose a letter is, is what its body says; where that can't be read, it is the operator's,
/// who is bound to no accounts.
#[derive(Debug, Clone)]
pub struct Sight {
    accounts: Accounts,
    nameless: bool,
}

impl Sight {
    pub fn of(caller: &Caller) -> Self {
        let accounts = caller.accounts.clone();
        Self { nameless: caller.may(Scope::Admin) && accounts == Accounts::All, accounts }
    }

    /// Does it see all there are? Then it may be told how many.
    pub fn is_whole(&self) -> bool {
        self.nameless
    }

    pub fn covers(&self, account: Option<&Account>) -> bool {
        match account {
            Some(account) => self.accounts.allow(account),
            None => self.nameless,
        }
    }
}

/// What narrows a choice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub ids: BTreeSet<String>,
    pub reason: Option<PoisonCode>,
    pub account: Option<Account>,
    pub flow: Option<Flow>,
    pub older_than: Option<Duration>,
    pub newer_than: Option<Duration>,
}

impl Filter {
    /// The text says what is wrong and what is allowed.
    pub fn of_query(query: &ListQuery) -> Result<Self, String> {
        let ListQuery { reason, account_id, flow_id, older_than_seconds, newer_than_seconds, .. } = query;
        Self::read(&[], [reason, account_id, flow_id], [*older_than_seconds, *newer_than_seconds])
    }

    pub fn of_selection(selection: &Selection) -> Result<Self, String> {
        let Selection { ids, reason, account_id, flow_id, older_than_seconds, newer_than_seconds, .. } = selection;
        Self::read(ids, [reason, account_id, flow_id], [*older_than_seconds, *newer_than_seconds])
    }

    fn read(
        ids: &[String],
        [reason, account, flow]: [&Option<String>; 3],
        [older, newer]: [Option<u64>; 2],
    ) -> Result<Self, String> {
        if ids.len() > IDS_MAX {
            return Err(format!("ids: at most {IDS_MAX} at once"));
        }
        if older.into_iter().chain(newer).any(|seconds| seconds > AGE_SECONDS_MAX) {
            return Err(format!("olderThanSeconds, newerThanSeconds: at most {AGE_SECONDS_MAX}"));
        }
        let code = |text: &String| {
            let known = PoisonCode::ALL.into_iter().find(|code| code.as_str() == text);
            let all = PoisonCode::ALL.map(PoisonCode::as_str).join(", ");
            known.ok_or_else(|| format!("reason: must be one of {all}"))
        };
        let account_of = |text: &String| Account::parse(text).map_err(|error| format!("accountId: {error}"));
        let flow_of = |text: &String| Flow::parse(text).map_err(|error| format!("flowId: {error}"));
        Ok(Self {
            ids: ids.iter().cloned().collect(),
            reason: reason.as_ref().map(code).transpose()?,
            account: account.as_ref().map(account_of).transpose()?,
            flow: flow.as_ref().map(flow_of).transpose()?,
            older_than: older.map(Duration::from_secs),
            newer_than: newer.map(Duration::from_secs),
        })
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub fn matches(&self, letter: &DeadLetter, peek: &Peek, now_ms: u64) -> bool {
        let age = letter.since_ms.map(|since| Duration::from_millis(now_ms.saturating_sub(since)));
        let named = || names(letter, peek).any(|name| self.ids.contains(name));
        self.reason.is_none_or(|reason| reason == letter.reason)
            && self.account.as_ref().is_none_or(|account| peek.account.as_ref() == Some(account))
            && self.flow.as_ref().is_none_or(|flow| peek.flow.as_ref() == Some(flow))
            && self.older_than.is_none_or(|time| age.is_some_and(|age| age > time))
            && self.newer_than.is_none_or(|time| age.is_some_and(|age| age <= time))
            && (self.ids.is_empty() || named())
    }
}

/// All names that a letter can be asked for by: its own, the one that it had in the queue, the id of its event.
pub fn names<'a>(letter: &'a DeadLetter, peek: &'a Peek) -> impl Iterator<Item = &'a str> {
    let former = letter.former_id.as_ref().map(|id| id.0.as_str());
    [Some(letter.message_id.0.as_str()), former, peek.id.as_deref()].into_iter().flatten()
}
