//! Removing and burying, entry by entry, until each is done.

use std::time::Duration;

use tokio::time::sleep;

use crate::backoff;
use crate::buffer::{Delivery, Receipt, Taker, Unavailable};
use crate::envelope::Poison;

/// Tries of one entry, and the waits between them: about ten seconds in all. What is left then is offered again when
/// its visibility ends, found to be a duplicate (or poison once more), and removed then.
const TRIES_MAX: u32 = 8;
const WAIT_MIN: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Removes messages. How many are left: they are offered again when their visibility ends.
pub async fn remove(taker: &Taker, receipts: Vec<Receipt>, failed: impl Fn(&Unavailable)) -> usize {
    let delete = |receipts: Vec<_>| async move { taker.delete(&receipts).await };
    each(receipts, delete, failed).await.len()
}

/// Moves messages to the dead letters. The positions of those that are left.
pub async fn bury(taker: &Taker, poison: &[(Delivery, Poison)], failed: impl Fn(&Unavailable)) -> Vec<usize> {
    let bury = |positions: Vec<usize>| {
        let these: Vec<_> = positions.iter().map(|&i| poison[i].clone()).collect();
        async move { taker.bury(&these).await }
    };
    each((0..poison.len()).collect(), bury, failed).await
}

/// Calls `once` with all items, then with those that failed, until none is left or the tries are used up. Tells
/// `failed` of each failure. Returns what is left.
async fn each<T: Clone, F>(mut items: Vec<T>, once: impl Fn(Vec<T>) -> F, failed: impl Fn(&Unavailable)) -> Vec<T>
where
    F: Future<Output = Vec<Result<(), Unavailable>>>,
{
    for tries in 0..TRIES_MAX {
        if items.is_empty() {
            break;
        }
        if tries > 0 {
            sleep(backoff::wait(tries - 1, WAIT_MIN, WAIT_MAX)).await;
        }
        let mut results = once(items.clone()).await.into_iter();
        items.retain(|_| match results.next() {
            Some(Ok(())) => false,
            Some(Err(error)) => {
                failed(&error);
                true
            }
            // An answer that is missing is no success.
            None => true,
        });
    }
    items
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn down() -> Result<(), Unavailable> {
        Err(Unavailable("down".into()))
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_entries_that_failed_are_tried_again() {
        let calls = Mutex::new(Vec::new());
        let once = |items: Vec<u32>| {
            calls.lock().unwrap().push(items.clone());
            let first = calls.lock().unwrap().len() == 1;
            async move { items.iter().map(|i| if first && i % 2 == 1 { down() } else { Ok(()) }).collect() }
        };
        let failures = Mutex::new(0);
        let left = each(vec![1, 2, 3, 4], once, |_| *failures.lock().unwrap() += 1).await;
        assert_eq!(left, Vec::<u32>::new());
        assert_eq!(*calls.lock().unwrap(), [vec![1, 2, 3, 4], vec![1, 3]]);
        assert_eq!(*failures.lock().unwrap(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_succeeds_is_left_and_an_answer_that_is_missing_is_no_success() {
        let left = each(vec![1, 2], |items| async move { items.iter().map(|_| down()).collect() }, |_| ()).await;
        assert_eq!(left, [1, 2]);
        let left = each(vec![1, 2], |_| async { vec![Ok(())] }, |_| ()).await;
        assert_eq!(left, Vec::<i32>::new());
        let left = each(vec![1], |_| async { vec![] }, |_| ()).await;
        assert_eq!(left, [1]);
    }
}
