//! The last take: one that runs at a stop may have its messages on the way. Dropped, they would lie hidden from everybody
//! for their whole visibility.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A take that brings something mostly does so within this time after a stop; later, it waits for what is yet to come.
const LAST_TAKE_MAX: Duration = Duration::from_secs(1);

/// Takes until `stop`, and a little longer where a take runs then. `None` where nothing has come by then. After a stop no
/// take begins: what it gives back must not be taken again here.
pub async fn take<T>(take: impl Future<Output = T>, stop: &CancellationToken) -> Option<T> {
    if stop.is_cancelled() {
        return None;
    }
    let mut take = std::pin::pin!(take);
    match stop.run_until_cancelled(take.as_mut()).await {
        Some(taken) => Some(taken),
        None => timeout(LAST_TAKE_MAX, take).await.ok(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// What a take brings that needs this long, where the stop comes after a minute; and how long that took.
    async fn stopped_after_a_minute(take_time: Duration) -> (Option<u8>, Duration) {
        let (begin, stop) = (Instant::now(), CancellationToken::new());
        let stops = async {
            sleep(Duration::from_secs(60)).await;
            stop.cancel();
        };
        let comes = async {
            sleep(take_time).await;
            7
        };
        let taken = async { (take(comes, &stop).await, begin.elapsed()) };
        tokio::join!(taken, stops).0
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_on_the_way_at_a_stop_is_taken_and_what_is_not_is_not_waited_for() {
        let minute = Duration::from_secs(60);
        assert_eq!(stopped_after_a_minute(MILLISECOND).await, (Some(7), MILLISECOND));
        let on_the_way = minute + LAST_TAKE_MAX - MILLISECOND;
        assert_eq!(stopped_after_a_minute(on_the_way).await, (Some(7), on_the_way));
        let (taken, waited) = stopped_after_a_minute(2 * minute).await;
        assert_eq!(taken, None);
        assert!(waited >= minute + LAST_TAKE_MAX && waited < 2 * minute, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_take_begins_after_a_stop() {
        let stop = CancellationToken::new();
        stop.cancel();
        assert_eq!(take(async { 7 }, &stop).await, None);
    }
}
