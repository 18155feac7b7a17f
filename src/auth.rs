//! Who calls: bearer tokens with scopes and accounts, known by their hashes alone.
//!
//! A token is 32 random bytes, so one round of SHA-256 is enough to keep it secret: there is nothing to guess. It is
//! compared in constant time with every token there is (`gate`). [`Auth`] holds what the configuration says now; a
//! reload replaces it, and the next request is judged by it.
//!
//! A client sends its token with each of many requests on a connection, so that a connection remembers the last one
//! ([`Known`]), for as long as nothing has been replaced.
//!
//! It never sees a request's body, and knows no HTTP: an [`AuthError`] becomes a [`Problem`] here, once for all edges.
//!
//! [`Known`]: crate::auth::Known
//! [`Problem`]: crate::problem::Problem

#[cfg(feature = "server")]
mod gate;
pub mod token;

use std::collections::{BTreeSet, HashMap};

use crate::envelope::Accounts;
use token::Hash;

#[cfg(feature = "server")]
pub use gate::{Auth, AuthError, Caller, Known, find};

/// Everybody's name where there are no tokens.
pub const ANONYMOUS: &str = "anonymous";
/// Tokens that a configuration may hold. Each costs every request one comparison of 32 bytes.
pub const TOKENS_MAX: usize = 1_000;

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Set and delete.
    Set,
    Get,
    /// The control plane.
    Admin,
}

impl Scope {
    pub const ALL: [Self; 3] = [Self::Set, Self::Get, Self::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Get => "get",
            Self::Admin => "admin",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

pub type Scopes = BTreeSet<Scope>;

/// A token of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenEntry {
    pub name: String,
    pub hash: Hash,
    pub scopes: Scopes,
    pub accounts: Accounts,
    /// A disabled token is refused at the edge; what it has had accepted before is still honoured.
    pub enabled: bool,
}

/// Who may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Policy {
    /// Everybody, for everything, as [`ANONYMOUS`].
    Open,
    Tokens(Vec<TokenEntry>),
}

impl Policy {
    /// Which caller may set which accounts; `None` where everybody may. A disabled token counts, so that what it has
    /// had accepted is honoured; a token without the scope `set` does not.
    pub fn callers(&self) -> Option<HashMap<String, Accounts>> {
        match self {
            Self::Open => None,
            Self::Tokens(entries) => {
                let setters = entries.iter().filter(|entry| entry.scopes.contains(&Scope::Set));
                Some(setters.map(|entry| (entry.name.clone(), entry.accounts.clone())).collect())
            }
        }
    }
}
