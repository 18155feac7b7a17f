//! Asking the site. Other readers of it may have their turn before: that is waited for here, as what was read of a step
//! until then would be read again. An answer comes with when it was asked for, milliseconds since the epoch.

use std::time::Duration;

use tokio::time::sleep;

use super::worker::Reindexer;
use crate::confluence::{Access, FetchError, Listing, Order, RemotePage};

/// Longest wait for a turn. Who must wait for longer keeps nobody's place.
const TURN_WAIT_MAX: Duration = Duration::from_secs(10);

impl Reindexer {
    pub(super) async fn ask_for_list(
        &self,
        access: &Access,
        order: Order,
        from: Option<&str>,
    ) -> Result<(Listing, u64), FetchError> {
        self.in_turn(|| self.confluence.pages(access, order, from)).await
    }

    pub(super) async fn ask_for_page(
        &self,
        access: &Access,
        page: u64,
    ) -> Result<(Option<RemotePage>, u64), FetchError> {
        self.in_turn(|| self.confluence.page(access, page)).await
    }

    pub(super) async fn ask_for_space_key(&self, access: &Access, space: u64) -> Result<Option<String>, FetchError> {
        let (key, _) = self.in_turn(|| self.confluence.space_key(access, space)).await?;
        Ok(key)
    }

    async fn in_turn<T, F>(&self, ask: impl Fn() -> F) -> Result<(T, u64), FetchError>
    where
        F: Future<Output = Result<T, FetchError>>,
    {
        loop {
            let at_ms = self.clock().now_ms();
            match ask().await {
                Err(FetchError::Busy { after, .. }) if after <= TURN_WAIT_MAX => sleep(after).await,
                answer => return answer.map(|answer| (answer, at_ms)),
            }
        }
    }
}
