//! Burying: a dead letter is a message in a queue of its own, whose reason and detail travel as message attributes.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::Client;
use tokio::sync::OnceCell;

use super::entry::{Attributes, DETAIL, MESSAGE_ID, REASON, legal_detail};
use super::outgoing::{self, Outgoing};
use super::taker::Taker;
use super::{OpenError, Options, check_urls, connect};
use crate::buffer::{Delivery, Receipt, Unavailable};
use crate::envelope::Poison;

/// Tries to remove a message whose dead letter is sent, and the pause between them. Only the removal is repeated, since
/// each sending would leave one more copy.
const REMOVES_MAX: u32 = 3;
const REMOVE_PAUSE: Duration = Duration::from_millis(300);

type Results = Vec<Result<(), Unavailable>>;

/// Buries what it has not taken itself. Its client is made when there is something to bury for the first time: most
/// processes never need it, and it takes longer to make than a batch.
#[derive(Clone)]
pub struct Burier {
    options: Options,
    client: Arc<OnceCell<Client>>,
}

impl Burier {
    pub fn new(options: Options) -> Result<Self, OpenError> {
        check_urls(&options)?;
        Ok(Self { options, client: Arc::default() })
    }

    pub async fn bury(&self, messages: &[(Delivery, Poison)]) -> Results {
        let client = match self.client.get_or_try_init(|| self.connect()).await {
            Ok(client) => client,
            Err(error) => return vec![Err(Unavailable(error.to_string())); messages.len()],
        };
        let mut results = Vec::with_capacity(messages.len());
        for batch in outgoing::batches(messages.iter().map(letter).collect()) {
            results.extend(send(client, &self.options, batch).await);
        }
        results
    }

    /// Its failure is tried again at the next burial.
    async fn connect(&self) -> Result<Client, OpenError> {
        Ok(connect::connect(&self.options).await?.calls)
    }
}

async fn send(client: &Client, options: &Options, letters: Vec<Outgoing<'_>>) -> Results {
    outgoing::send(client, (options.keys.dead_letter_url, options.dead_letter_url.as_str()), letters).await
}

/// A message as it will lie among the dead letters.
fn letter((delivery, poison): &(Delivery, Poison)) -> Outgoing<'_> {
    // SQS bodies are text; what is none could not have been taken from it.
    let body = std::str::from_utf8(&delivery.body).unwrap_or_default();
    let attributes = Attributes::default()
        .with(REASON, poison.code.as_str())
        .with(DETAIL, legal_detail(&poison.detail))
        .with(MESSAGE_ID, delivery.message_id.0.as_str())
        .with_traceparent(delivery.traceparent.as_deref());
    Outgoing::with(body, attributes, None).unwrap_or_else(|| {
        tracing::warn!(
            message_id = delivery.message_id.0,
            reason = poison.code.as_str(),
            detail = poison.detail,
            "a dead letter is too large to carry its reason"
        );
        Outgoing::bare(body)
    })
}

impl Taker {
    pub async fn bury(&self, messages: &[(Delivery, Poison)]) -> Results {
        let mut results = Vec::with_capacity(messages.len());
        for batch in outgoing::batches(messages.iter().map(letter).collect()) {
            let buried = &messages[results.len()..results.len() + batch.len()];
            results.extend(self.bury_batch(buried, batch).await);
        }
        results
    }

    /// Sends first, and deletes only what was sent: a crash in between leaves a second copy rather than none.
    async fn bury_batch(&self, messages: &[(Delivery, Poison)], letters: Vec<Outgoing<'_>>) -> Results {
        let sent = send(&self.clients.calls, &self.options, letters).await;
        let buried: Vec<Receipt> = messages
            .iter()
            .zip(&sent)
            .filter(|(_, sent)| sent.is_ok())
            .map(|((delivery, _), _)| delivery.receipt.clone())
            .collect();
        self.remove(buried).await;
        sent
    }

    /// Removes what lies among the dead letters already. What can't be removed is offered again, and buried once more.
    async fn remove(&self, mut receipts: Vec<Receipt>) {
        for tries in 0..REMOVES_MAX {
            if receipts.is_empty() {
                return;
            }
            if tries > 0 {
                tokio::time::sleep(REMOVE_PAUSE).await;
            }
            let mut results = self.delete(&receipts).await.into_iter();
            receipts.retain(|_| results.next().is_none_or(|result| result.is_err()));
        }
        if !receipts.is_empty() {
            let messages = receipts.len();
            let key = self.options.keys.queue_url;
            tracing::warn!(messages, "dead-lettered, but not yet removed from {key}; offered again later");
        }
    }
}
