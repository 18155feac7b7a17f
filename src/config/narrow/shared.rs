//! What page links mean for whoever stores: their keys, their caller and their TTL. Every program knows it, also one that
//! receives no webhooks.

use std::sync::Arc;

use crate::config::Config;
use crate::config::fields::Fields;
use crate::envelope::grants::Owner;
use crate::envelope::{Flow, page_links};
use crate::ttl::{Rules, Scope, ScopePattern, Ttl};

pub(super) fn enabled(fields: &mut Fields<'_>) -> bool {
    fields.flag("confluence.enabled")
}

/// What page links store lives for ever, unless a rule of the operator's says otherwise. `ttl.allow_never` need not say
/// that it may.
pub(super) fn with_rule(rules: Rules) -> Rules {
    let flow = Flow::parse(page_links::FLOW).expect("the flow's name is a legal one");
    let scope = Scope::Flow(flow.clone());
    let mut static_rules = (*rules.static_rules).clone();
    if static_rules.get(&scope).is_none() {
        static_rules.insert(scope, Ttl::Never);
    }
    let mut allow_never = rules.allow_never;
    allow_never.push(ScopePattern { account: None, flow: Some(flow) });
    Rules { allow_never, static_rules: Arc::new(static_rules), ..rules }
}

/// Where their keys begin is theirs: nobody else can have a part of it, or the whole of more.
pub(super) fn check_prefixes(fields: &mut Fields<'_>, config: &Config) {
    const OURS: &str = page_links::KEY_PREFIX;
    if !config.has_page_links {
        return;
    }
    for (prefix, owner) in &config.reserved {
        let overlaps = prefix.starts_with(OURS) || OURS.starts_with(prefix.as_str());
        if overlaps && *owner != Owner::Source(page_links::CALLER.to_owned()) {
            let text = format!(
                "reserves {prefix:?}, but while confluence.enabled is true, keys that begin with {OURS:?} belong to \
                 page links alone: take it out"
            );
            fields.refuse("keys.reserved", text);
        }
    }
}
