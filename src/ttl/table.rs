//! Rules by scope. Nested by account, so that a lookup borrows the names that it is given and allocates nothing.

use std::collections::HashMap;

use super::{Scope, Ttl};
use crate::envelope::{Account, Flow};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleTable {
    accounts: HashMap<Account, AccountRules>,
    flows: HashMap<Flow, Ttl>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct AccountRules {
    any_flow: Option<Ttl>,
    flows: HashMap<Flow, Ttl>,
}

impl RuleTable {
    /// Sets a rule, and returns the one that it replaces.
    pub fn insert(&mut self, scope: Scope, ttl: Ttl) -> Option<Ttl> {
        match scope {
            Scope::AccountFlow(account, flow) => self.accounts.entry(account).or_default().flows.insert(flow, ttl),
            Scope::Account(account) => self.accounts.entry(account).or_default().any_flow.replace(ttl),
            Scope::Flow(flow) => self.flows.insert(flow, ttl),
        }
    }

    pub fn get(&self, scope: &Scope) -> Option<Ttl> {
        match scope {
            Scope::AccountFlow(account, flow) => self.account_flow(account, flow),
            Scope::Account(account) => self.account(account),
            Scope::Flow(flow) => self.flow(flow),
        }
    }

    pub fn len(&self) -> usize {
        self.iter().count()
    }

    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// All rules, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Scope, Ttl)> + '_ {
        let of_account = |(account, rules): (&Account, &AccountRules)| {
            let any_flow = rules.any_flow.map(|ttl| (Scope::Account(account.clone()), ttl));
            let narrow = |(flow, ttl): (&Flow, &Ttl)| (Scope::AccountFlow(account.clone(), flow.clone()), *ttl);
            any_flow.into_iter().chain(rules.flows.iter().map(narrow)).collect::<Vec<_>>()
        };
        let of_flow = |(flow, ttl): (&Flow, &Ttl)| (Scope::Flow(flow.clone()), *ttl);
        self.accounts.iter().flat_map(of_account).chain(self.flows.iter().map(of_flow))
    }

    pub(super) fn account_flow(&self, account: &Account, flow: &Flow) -> Option<Ttl> {
        self.accounts.get(account)?.flows.get(flow).copied()
    }

    pub(super) fn account(&self, account: &Account) -> Option<Ttl> {
        self.accounts.get(account)?.any_flow
    }

    pub(super) fn flow(&self, flow: &Flow) -> Option<Ttl> {
        self.flows.get(flow).copied()
    }
}

impl FromIterator<(Scope, Ttl)> for RuleTable {
    fn from_iter<I: IntoIterator<Item = (Scope, Ttl)>>(rules: I) -> Self {
        let mut table = Self::default();
        for (scope, ttl) in rules {
            table.insert(scope, ttl);
        }
        table
    }
}
