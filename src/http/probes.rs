//! `/healthz`, `/readyz` and `/metrics`, and the pages that describe the plane: on every listener, without a token.

use std::pin::Pin;
use std::sync::Arc;

use super::answer::{self, Answer};
use super::routes::Route;
use super::{Shared, timed_out};

/// A question that is answered by whoever knows all parts of the process.
pub type Asked<T> = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = T> + Send>> + Send + Sync>;

/// Can the process do its work?
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Why it can't; empty when it can.
    pub reasons: Vec<String>,
    /// What is not as it should be, though it can.
    pub notes: Vec<String>,
}

/// What the probes ask.
#[derive(Clone)]
pub struct Probes {
    /// Must be cheap: probes come often.
    pub readiness: Asked<Readiness>,
    /// The text of `/metrics`.
    pub metrics_text: Asked<String>,
}

impl Shared {
    pub(super) async fn probe(&self, route: Route) -> Answer {
        let asked = async {
            match route {
                Route::Readyz => answer::ready((self.probes.readiness)().await),
                Route::Metrics => answer::text("text/plain; version=0.0.4", (self.probes.metrics_text)().await),
                Route::OpenApi => answer::document(self.document.clone()),
                Route::Docs => answer::page_of_docs(),
                Route::Errors => answer::text("text/markdown; charset=utf-8", crate::problem::DOCS.to_owned()),
                _ => answer::text("text/plain; charset=utf-8", "ok\n".to_owned()),
            }
        };
        tokio::time::timeout(self.options.request_timeout, asked)
            .await
            .unwrap_or_else(|_| answer::problem(&timed_out()))
    }
}
