//! Who may touch which account and which key. Made by the configuration, asked at the edge and again by the consumer.

use std::collections::{BTreeSet, HashMap};

use super::names::{Account, WebhookKey};

/// The accounts that a caller may act for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accounts {
    All,
    Only(BTreeSet<Account>),
}

impl Accounts {
    pub fn allow(&self, account: &Account) -> bool {
        match self {
            Self::All => true,
            Self::Only(accounts) => accounts.contains(account),
        }
    }
}

/// To whom a reserved prefix of webhook keys belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    Account(Account),
    /// A source of our own, by its caller name: `source:<name>`.
    Source(String),
}

/// What a caller asked for and may not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The caller may not set this account.
    Account,
    /// These keys, by index, start with a prefix that is reserved to another.
    ReservedKeys(Vec<usize>),
}

/// The last part of a caller's name that stands for any: `arn:aws:sts::1:assumed-role/upstream/*` is every session of
/// that role. A session's name is its user's own choice, so only what stands before it can be granted anything.
pub const ANY_LAST_PART: &str = "*";

/// Callers with the accounts that they may set, and reserved key prefixes.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    /// By name, perhaps with [`ANY_LAST_PART`]; a source of our own stands here too. `None` where everybody may set
    /// everything (no tokens and no callers listed, on loopback or with `auth.mode = "none"`).
    pub callers: Option<HashMap<String, Accounts>>,
    pub reserved: Vec<(String, Owner)>,
}

impl Grants {
    /// May `by` write these keys for this account?
    pub fn check(&self, by: &str, account: &Account, keys: &[WebhookKey]) -> Result<(), Refusal> {
        let granted = match &self.callers {
            None => true,
            Some(callers) => accounts_of(callers, by).is_some_and(|accounts| accounts.allow(account)),
        };
        if !granted {
            return Err(Refusal::Account);
        }
        let refused: Vec<usize> =
            (0..keys.len()).filter(|&i| self.reserves_to_another(&keys[i], by, account)).collect();
        if refused.is_empty() { Ok(()) } else { Err(Refusal::ReservedKeys(refused)) }
    }

    /// Is this key reserved to another account than this one, or to a source that `by` is not?
    pub fn reserves_to_another(&self, key: &WebhookKey, by: &str, account: &Account) -> bool {
        let of_others = |(prefix, owner): &(String, Owner)| {
            key.as_str().starts_with(prefix.as_str())
                && match owner {
                    Owner::Account(owner) => owner != account,
                    Owner::Source(source) => source != by,
                }
        };
        self.reserved.iter().any(of_others)
    }
}

/// The accounts of the caller itself, or else those of whoever shares all of its name but the last part.
fn accounts_of<'a>(callers: &'a HashMap<String, Accounts>, by: &str) -> Option<&'a Accounts> {
    let of_any = || {
        let (shared, _) = by.rsplit_once('/')?;
        callers.get(&format!("{shared}/{ANY_LAST_PART}"))
    };
    callers.get(by).or_else(of_any)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str) -> Account {
        Account::parse(name).unwrap()
    }

    fn keys(names: &[&str]) -> Vec<WebhookKey> {
        names.iter().map(|name| WebhookKey::parse(name).unwrap()).collect()
    }

    #[test]
    fn an_unknown_caller_may_set_nothing_once_there_are_callers() {
        let only = Accounts::Only([account("acme")].into());
        let callers = HashMap::from([("up".to_owned(), only), ("root".to_owned(), Accounts::All)]);
        let grants = Grants { callers: Some(callers), reserved: vec![] };
        assert_eq!(grants.check("up", &account("acme"), &[]), Ok(()));
        assert_eq!(grants.check("root", &account("other"), &[]), Ok(()));
        for by in ["up", "anonymous", "source:unknown", ""] {
            assert_eq!(grants.check(by, &account("other"), &[]), Err(Refusal::Account), "{by}");
        }
        assert_eq!(Grants::default().check("anyone", &account("acme"), &[]), Ok(()));
    }

    #[test]
    fn a_role_stands_for_all_its_sessions_and_for_nobody_else() {
        let only = |name: &str| Accounts::Only([account(name)].into());
        let role = "arn:aws:sts::1:assumed-role/upstream";
        let callers = HashMap::from([(format!("{role}/*"), only("acme")), (format!("{role}/night"), only("globex"))]);
        let grants = Grants { callers: Some(callers), reserved: vec![] };
        for session in ["i-0abc", "me@example.com", "*"] {
            assert_eq!(grants.check(&format!("{role}/{session}"), &account("acme"), &[]), Ok(()), "{session}");
        }
        // One that is named is granted what stands under its own name, and that alone.
        assert_eq!(grants.check(&format!("{role}/night"), &account("globex"), &[]), Ok(()));
        assert_eq!(grants.check(&format!("{role}/night"), &account("acme"), &[]), Err(Refusal::Account));
        for by in [role, "arn:aws:sts::1:assumed-role/upstream2/x", "upstream/x", "x", &format!("{role}/a/b")] {
            assert_eq!(grants.check(by, &account("acme"), &[]), Err(Refusal::Account), "{by}");
        }
    }

    #[test]
    fn a_reserved_prefix_is_for_its_owner_alone() {
        let reserved = vec![
            ("confluence:".to_owned(), Owner::Source("source:confluence".to_owned())),
            ("acme/".to_owned(), Owner::Account(account("acme"))),
        ];
        let grants = Grants { callers: None, reserved };
        let asked = keys(&["free", "confluence:x", "acme/1"]);
        assert_eq!(grants.check("up", &account("acme"), &asked), Err(Refusal::ReservedKeys(vec![1])));
        assert_eq!(grants.check("up", &account("b"), &asked), Err(Refusal::ReservedKeys(vec![1, 2])));
        assert_eq!(grants.check("source:confluence", &account("b"), &asked[..2]), Ok(()));
    }
}
