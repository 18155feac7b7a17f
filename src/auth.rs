//! Who calls: bearer tokens with scopes and accounts, known by their hashes alone.
//!
//! A token is 32 random bytes, so one round of SHA-256 is enough to keep it secret: there is nothing to guess. It is
//! compared in constant time with every token there is. [`Auth`] holds what the configuration says now; a reload
//! replaces it, and the next request is judged by it.
//!
//! It never sees a request's body, and knows no HTTP: an [`AuthError`] becomes a [`Problem`] here, once for all edges.

pub mod token;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::envelope::{Accounts, Grants};
use crate::problem::{Code, Problem};
use token::{Hash, Token};

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

/// Who called, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub name: String,
    pub scopes: Scopes,
    pub accounts: Accounts,
}

impl Caller {
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }
}

/// Why a call is not let in. None says which tokens there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("a token is needed: send `Authorization: Bearer <token>`")]
    Missing,
    #[error("the Authorization header must be `Bearer <token>`, with a token as `hookcache token create` prints it")]
    Malformed,
    #[error("the token is unknown or no longer valid")]
    Unknown,
    #[error("this call needs a token with the scope `{}`", .0.as_str())]
    Scope(Scope),
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        let code = match error {
            AuthError::Missing => Code::TokenRequired,
            AuthError::Malformed | AuthError::Unknown => Code::TokenUnknown,
            AuthError::Scope(_) => Code::ForbiddenScope,
        };
        Self::new(code, error.to_string())
    }
}

/// Who may call, as the configuration says now. Cheap to clone; all clones see a replacement at once.
#[derive(Clone)]
pub struct Auth(Arc<ArcSwap<State>>);

struct State {
    policy: Policy,
    grants: Arc<Grants>,
}

impl Auth {
    /// `grants` must be those of the same configuration; see [`Policy::callers`].
    pub fn new(policy: Policy, grants: Grants) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(State { policy, grants: Arc::new(grants) })))
    }

    /// The caller of this `Authorization` header, if it may do this.
    pub fn authorize(&self, authorization: Option<&str>, scope: Scope) -> Result<Caller, AuthError> {
        let caller = self.authenticate(authorization)?;
        if caller.may(scope) { Ok(caller) } else { Err(AuthError::Scope(scope)) }
    }

    /// The caller of this `Authorization` header.
    pub fn authenticate(&self, authorization: Option<&str>) -> Result<Caller, AuthError> {
        let state = self.0.load();
        let entries = match &state.policy {
            Policy::Open => return Ok(anonymous()),
            Policy::Tokens(entries) => entries,
        };
        let header = authorization.ok_or(AuthError::Missing)?;
        let (scheme, token) = header.split_once(' ').ok_or(AuthError::Malformed)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(AuthError::Malformed);
        }
        let token = Token::parse(token.trim()).ok_or(AuthError::Malformed)?;
        let entry = find(entries, &token).filter(|entry| entry.enabled).ok_or(AuthError::Unknown)?;
        let TokenEntry { name, scopes, accounts, .. } = entry;
        Ok(Caller { name: name.clone(), scopes: scopes.clone(), accounts: accounts.clone() })
    }

    /// Who may set what, for the edge and for the consumer.
    pub fn grants(&self) -> Arc<Grants> {
        self.0.load().grants.clone()
    }

    /// Puts another configuration in place, all of it at once.
    pub fn replace(&self, policy: Policy, grants: Grants) {
        self.0.store(Arc::new(State { policy, grants: Arc::new(grants) }));
    }
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

fn anonymous() -> Caller {
    Caller { name: ANONYMOUS.to_owned(), scopes: Scope::ALL.into(), accounts: Accounts::All }
}

/// Compares with all entries, whichever matches, so that the time taken tells nothing.
pub fn find<'a>(entries: &'a [TokenEntry], token: &Token) -> Option<&'a TokenEntry> {
    let hash = token.hash();
    let mut found = Choice::from(0);
    let mut place = 0_u64;
    for (i, entry) in entries.iter().enumerate() {
        let same = entry.hash.as_bytes().ct_eq(hash.as_bytes());
        place.conditional_assign(&(i as u64), same);
        found |= same;
    }
    if found.into() { entries.get(place as usize) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Account;

    fn entry(name: &str, token: &Token, scopes: &[Scope]) -> TokenEntry {
        let accounts = Accounts::Only([Account::parse("acme").unwrap()].into());
        TokenEntry {
            name: name.to_owned(),
            hash: token.hash(),
            scopes: scopes.iter().copied().collect(),
            accounts,
            enabled: true,
        }
    }

    fn auth(entries: Vec<TokenEntry>) -> Auth {
        let policy = Policy::Tokens(entries);
        let grants = Grants { callers: policy.callers(), reserved: vec![] };
        Auth::new(policy, grants)
    }

    fn bearer(token: &Token) -> String {
        format!("Bearer {}", token.reveal())
    }

    #[test]
    fn each_token_is_its_own_caller_with_its_own_scopes_and_accounts() {
        let tokens: Vec<Token> = (0..5).map(|_| Token::generate().unwrap()).collect();
        let entries = tokens.iter().enumerate().map(|(i, token)| entry(&format!("t{i}"), token, &[Scope::Get]));
        let auth = auth(entries.collect());
        for (i, token) in tokens.iter().enumerate() {
            let caller = auth.authenticate(Some(&bearer(token))).unwrap();
            assert_eq!(caller.name, format!("t{i}"));
            assert!(caller.may(Scope::Get) && !caller.may(Scope::Set) && !caller.may(Scope::Admin));
            assert!(!caller.accounts.allow(&Account::parse("other").unwrap()));
        }
    }

    #[test]
    fn a_call_without_a_token_or_with_a_wrong_one_has_no_caller() {
        let token = Token::generate().unwrap();
        let auth = auth(vec![entry("t", &token, &[Scope::Get])]);
        assert_eq!(auth.authenticate(None), Err(AuthError::Missing));
        let long = format!("Bearer {}", "x".repeat(100_000));
        for header in ["", "Bearer", "Bearer ", "Basic abc", "Bearer hc_x", token.reveal(), &long] {
            assert_eq!(auth.authenticate(Some(header)), Err(AuthError::Malformed), "{header:.40}");
        }
        let other = Token::generate().unwrap();
        assert_eq!(auth.authenticate(Some(&bearer(&other))), Err(AuthError::Unknown));
        let lower = bearer(&token).replace("Bearer", "bearer");
        assert!(auth.authenticate(Some(&lower)).is_ok(), "the scheme has no case (RFC 9110)");
    }

    #[test]
    fn a_disabled_token_is_refused_but_what_it_had_accepted_is_honoured() {
        let token = Token::generate().unwrap();
        let disabled = TokenEntry { enabled: false, ..entry("t", &token, &[Scope::Set]) };
        let auth = auth(vec![disabled]);
        assert_eq!(auth.authenticate(Some(&bearer(&token))), Err(AuthError::Unknown));
        assert_eq!(auth.grants().check("t", &Account::parse("acme").unwrap(), &[]), Ok(()));
    }

    #[test]
    fn a_token_without_the_scope_set_is_granted_nothing_to_set() {
        let token = Token::generate().unwrap();
        let auth = auth(vec![entry("reader", &token, &[Scope::Get, Scope::Admin])]);
        assert!(auth.grants().check("reader", &Account::parse("acme").unwrap(), &[]).is_err());
    }

    #[test]
    fn all_clones_see_a_replacement_at_once() {
        let token = Token::generate().unwrap();
        let auth = auth(vec![entry("t", &token, &[Scope::Get])]);
        let clone = auth.clone();
        assert!(clone.authenticate(Some(&bearer(&token))).is_ok());
        auth.replace(Policy::Tokens(vec![]), Grants { callers: Some(HashMap::new()), reserved: vec![] });
        assert_eq!(clone.authenticate(Some(&bearer(&token))), Err(AuthError::Unknown));
        auth.replace(Policy::Open, Grants::default());
        assert_eq!(clone.authenticate(None).unwrap().name, ANONYMOUS);
        assert!(clone.grants().callers.is_none());
    }
}
