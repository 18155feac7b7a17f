//! The gate: who may come in with this token, as the configuration says now.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::token::Token;
use super::{ANONYMOUS, Policy, Scope, Scopes, TokenEntry};
use crate::envelope::{Accounts, Grants};
use crate::problem::{Code, Problem};

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

    /// The same, for one of many calls on a connection.
    pub fn authorize_again(
        &self,
        known: &Known,
        authorization: Option<&str>,
        scope: Scope,
    ) -> Result<Arc<Caller>, AuthError> {
        let state = self.0.load();
        let mut last = known.0.lock().unwrap_or_else(PoisonError::into_inner);
        let caller = match &*last {
            Some(last) if last.is_of(&state, authorization) => last.caller.clone(),
            _ => {
                let caller = Arc::new(state.authenticate(authorization)?);
                let authorization = authorization.map(str::to_owned);
                *last = Some(Last { state: Arc::clone(&state), authorization, caller: caller.clone() });
                caller
            }
        };
        if caller.may(scope) { Ok(caller) } else { Err(AuthError::Scope(scope)) }
    }

    /// The caller of this `Authorization` header.
    pub fn authenticate(&self, authorization: Option<&str>) -> Result<Caller, AuthError> {
        self.0.load().authenticate(authorization)
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

/// What a connection remembers of its last call.
#[derive(Default)]
pub struct Known(Mutex<Option<Last>>);

struct Last {
    /// Who might call when it was let in.
    state: Arc<State>,
    authorization: Option<String>,
    caller: Arc<Caller>,
}

impl Last {
    /// In constant time, too: behind a proxy, many clients share a connection.
    fn is_of(&self, state: &Arc<State>, authorization: Option<&str>) -> bool {
        let same_text = match (&self.authorization, authorization) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => ours.as_bytes().ct_eq(theirs.as_bytes()).into(),
            _ => false,
        };
        same_text && Arc::ptr_eq(&self.state, state)
    }
}

impl State {
    fn authenticate(&self, authorization: Option<&str>) -> Result<Caller, AuthError> {
        let entries = match &self.policy {
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
    use std::collections::HashMap;

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
    fn a_connection_knows_its_last_caller_and_no_other() {
        let tokens: Vec<Token> = (0..2).map(|_| Token::generate().unwrap()).collect();
        let auth = auth(vec![entry("a", &tokens[0], &[Scope::Get]), entry("b", &tokens[1], &[Scope::Set])]);
        let known = Known::default();
        let again = |token: Option<&Token>, scope| {
            let bearer = token.map(bearer);
            auth.authorize_again(&known, bearer.as_deref(), scope).map(|caller| caller.name.clone())
        };
        for _ in 0..2 {
            assert_eq!(again(Some(&tokens[0]), Scope::Get).as_deref(), Ok("a"));
            assert_eq!(again(Some(&tokens[0]), Scope::Get).as_deref(), Ok("a"));
            assert_eq!(again(Some(&tokens[0]), Scope::Set), Err(AuthError::Scope(Scope::Set)));
            assert_eq!(again(None, Scope::Get), Err(AuthError::Missing));
            assert_eq!(again(Some(&Token::generate().unwrap()), Scope::Get), Err(AuthError::Unknown));
            assert_eq!(again(Some(&tokens[1]), Scope::Set).as_deref(), Ok("b"));
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
        let (clone, known) = (auth.clone(), Known::default());
        assert!(clone.authenticate(Some(&bearer(&token))).is_ok());
        assert!(clone.authorize_again(&known, Some(&bearer(&token)), Scope::Get).is_ok());
        auth.replace(Policy::Tokens(vec![]), Grants { callers: Some(HashMap::new()), reserved: vec![] });
        assert_eq!(clone.authenticate(Some(&bearer(&token))), Err(AuthError::Unknown));
        let again = clone.authorize_again(&known, Some(&bearer(&token)), Scope::Get);
        assert_eq!(again, Err(AuthError::Unknown), "what is remembered is of before");
        auth.replace(Policy::Open, Grants::default());
        assert_eq!(clone.authenticate(None).unwrap().name, ANONYMOUS);
        assert!(clone.grants().callers.is_none());
    }
}
