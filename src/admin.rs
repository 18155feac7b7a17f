//! The control plane: what an operator sees and changes while it runs. An edge, on a listener of its own.
//!
//! It holds TTL rules, dead letters and what is stored, and knows neither the road's movers nor any backend. Every call
//! needs a token with the scope `admin`, but for reading one dead letter, which a token with the scope `set` may do, too.
//! A token that is bound to accounts sees and changes what is of its accounts alone, and is told the same of another
//! account whether it exists or not.
//!
//! | call | answers |
//! | --- | --- |
//! | `GET /v1/ttl` | default, bounds and all rules that the token may see |
//! | `PUT /v1/ttl/accounts/{accountId}`, `/v1/ttl/flows/{flowId}`, `/v1/ttl/accounts/{accountId}/flows/{flowId}` | sets the dynamic rule of that scope: `{"ttlSeconds":60}` or `{"never":true}`; 200 with the rule |
//! | `DELETE` of the same | 200 `{"removed":true}`, or `false` where there was none |
//! | `GET /v1/dead-letters?reason=&accountId=&flowId=&...` | those that match, without their bodies |
//! | `GET /v1/dead-letters/{id}` | one, with its body |
//! | `POST /v1/dead-letters/redrive`, `/v1/dead-letters/drop` | back on the road, or away for good: by ids, by filter, or all |
//! | `GET /v1/ttl/explain?accountId=&flowId=&ttlSeconds=` | which rule wins, and what the others were |
//! | `POST /v1/ttl/apply` | the rules of a scope for what is stored already, a page at a time |
//! | `GET /v1/entries?accountId=&flowId=&prefix=&scanLimit=&after=` | a page of what is stored, without payloads |
//! | `GET /v1/entries/{webhookKey}` | one entry, without its payload |
//! | `POST /v1/purge` | removes what is stored, a page at a time |
//! | `GET /v1/sites/{site}/reindex` | how far the site's reindexes are |
//! | `POST /v1/sites/{site}/reindex` | asks for one: `{"since":"2026-01-01T00:00:00Z"}`, `{"full":true}` or `{}`; 202 |
//! | `GET /v1/sites/{site}/pages/{page}` | where the links of a page are, and what to do |

mod answer;
mod body;
pub mod dead_letters;
pub mod explain;
pub mod keys;
pub mod looked;
mod page_links;
pub mod reindex;
pub mod sites;
pub mod ttl;

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::routing::{get, post, put};

use crate::auth::{Auth, Caller, Scope};
use crate::problem::Problem;
use crate::store::RuleBook;
use crate::ttl::Rules;

use answer::Failure;
pub use dead_letters::Desk;
pub use keys::Shelf;
pub use page_links::PageLinks;

/// What the control plane works on. Cheap to clone.
#[derive(Clone)]
pub struct Admin {
    pub auth: Auth,
    /// The rules of the configuration, as they are now.
    pub rules: Arc<ArcSwap<Rules>>,
    /// The rules that are set here.
    pub book: RuleBook,
    /// Absent where this process has no buffer.
    pub dead_letters: Option<Desk>,
    pub shelf: Shelf,
    /// Absent while page links are off.
    pub page_links: Option<PageLinks>,
}

/// The control plane of a process without the role `admin`: it has no calls.
pub fn nothing() -> Router {
    Router::new().fallback(answer::no_such_route)
}

impl Admin {
    /// All calls of the control plane.
    pub fn router(self) -> Router {
        dead_letters::routes()
            .merge(keys::routes())
            .merge(sites::routes())
            .merge(reindex::routes())
            .merge(explain::routes())
            .route("/v1/ttl/apply", post(ttl::apply::apply))
            .route("/v1/ttl", get(ttl::list))
            .route("/v1/ttl/explain", get(ttl::explain))
            .route("/v1/ttl/accounts/{account}", put(ttl::put).delete(ttl::delete))
            .route("/v1/ttl/flows/{flow}", put(ttl::put).delete(ttl::delete))
            .route("/v1/ttl/accounts/{account}/flows/{flow}", put(ttl::put).delete(ttl::delete))
            .fallback(answer::no_such_route)
            .method_not_allowed_fallback(answer::method_not_allowed)
            .with_state(self)
    }

    /// The caller, whatever it may do.
    fn anyone(&self, headers: &HeaderMap) -> Result<Caller, Failure> {
        Ok(self.auth.authenticate(authorization(headers)).map_err(Problem::from)?)
    }

    /// The caller, who may use the control plane.
    fn caller(&self, headers: &HeaderMap) -> Result<Caller, Failure> {
        let caller = self.auth.authorize(authorization(headers), Scope::Admin).map_err(Problem::from)?;
        Ok(caller)
    }
}

/// The header's value. What is no text, or stands twice, is a header that no token matches.
fn authorization(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let first = values.next().map(|value| value.to_str().unwrap_or_default());
    if values.next().is_some() { Some("") } else { first }
}
