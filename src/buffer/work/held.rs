//! What is in hand stays hidden: one heartbeat extends the visibility of all messages that are worked on.

use std::collections::HashMap;
use std::sync::Mutex as StdMutex;
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, sleep};

use crate::buffer::{Delivery, Receipt, Taker};

/// Heartbeats in one visibility timeout. A message is extended when a third of it is over, so with six beats it is
/// half over at the latest, and two failed beats do no harm.
const BEATS: u32 = 6;
const EXTEND_AFTER_BEATS: u32 = 2;

pub struct Held {
    taker: Taker,
    /// When each was taken or last extended.
    receipts: StdMutex<HashMap<Receipt, Instant>>,
    /// Held during a beat, so that none can hide again what has just been let go.
    beating: Mutex<()>,
    wake: Notify,
}

impl Held {
    pub fn new(taker: Taker) -> Self {
        Self { taker, receipts: StdMutex::default(), beating: Mutex::default(), wake: Notify::new() }
    }

    fn receipts(&self) -> std::sync::MutexGuard<'_, HashMap<Receipt, Instant>> {
        self.receipts.lock().expect("no code panics while it holds this lock")
    }

    /// Takes a batch in hand until the [`Hand`] is dropped.
    pub fn hold(&self, batch: &[Delivery]) -> Hand<'_> {
        let now = Instant::now();
        let receipts: Vec<Receipt> = batch.iter().map(|message| message.receipt.clone()).collect();
        self.receipts().extend(receipts.iter().map(|receipt| (receipt.clone(), now)));
        self.wake.notify_one();
        Hand { held: self, receipts }
    }

    /// Beats for as long as it lives; sleeps while nothing is in hand.
    pub async fn heartbeat(&self) {
        let visibility = self.taker.visibility();
        let beat = visibility / BEATS;
        loop {
            if self.receipts().is_empty() {
                self.wake.notified().await;
                continue;
            }
            sleep(beat).await;
            let _beating = self.beating.lock().await;
            let old = |at: &Instant| at.elapsed() >= beat * EXTEND_AFTER_BEATS;
            let due: Vec<Receipt> =
                self.receipts().iter().filter(|(_, at)| old(at)).map(|(receipt, _)| receipt.clone()).collect();
            if due.is_empty() {
                continue;
            }
            let now = Instant::now();
            let results = self.taker.hide(&due, visibility).await;
            let mut receipts = self.receipts();
            for (receipt, result) in due.iter().zip(results) {
                match (result, receipts.get_mut(receipt)) {
                    (Ok(()), Some(at)) => *at = now,
                    (Ok(()), None) => {}
                    (Err(error), _) => tracing::debug!(%error, "a message in hand could not be kept hidden"),
                }
            }
        }
    }
}

/// A batch in hand. What is left of it when this is dropped is extended no more.
pub struct Hand<'a> {
    held: &'a Held,
    receipts: Vec<Receipt>,
}

impl Hand<'_> {
    /// The message is settled: it is in hand no more.
    pub fn drop_one(&self, receipt: &Receipt) {
        self.held.receipts().remove(receipt);
    }

    /// Offers a message again after `time`. Where the buffer can't do it, that happens when its visibility ends.
    pub async fn offer_again(&self, receipt: &Receipt, time: Duration) {
        self.drop_one(receipt);
        let _beating = self.held.beating.lock().await;
        let results = self.held.taker.hide(std::slice::from_ref(receipt), time).await;
        for error in results.into_iter().filter_map(Result::err) {
            tracing::debug!(%error, "a message could not be put off");
        }
    }

    /// Gives back what is left, to be offered again at once.
    pub async fn give_back(&self) {
        let left: Vec<Receipt> = {
            let mut receipts = self.held.receipts();
            self.receipts.iter().filter(|receipt| receipts.remove(receipt).is_some()).cloned().collect()
        };
        if left.is_empty() {
            return;
        }
        let _beating = self.held.beating.lock().await;
        let results = self.held.taker.hide(&left, Duration::ZERO).await;
        let failed = results.iter().filter(|result| result.is_err()).count();
        tracing::info!(messages = left.len(), failed, "given back unfinished");
    }
}

impl Drop for Hand<'_> {
    fn drop(&mut self) {
        let mut receipts = self.held.receipts();
        for receipt in &self.receipts {
            receipts.remove(receipt);
        }
    }
}
