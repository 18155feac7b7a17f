//! What became of a message, as one log line: with the id of its event, and its name in the queue.

use super::apply::Done;
use crate::buffer::{Delivery, Unavailable};
use crate::envelope::Poison;
use crate::envelope::limits::ID_BYTES_MAX;
use crate::telemetry::trace;

pub fn stored(message: &Delivery, done: &Done) {
    let trace_id = trace::trace_id(message.traceparent.as_deref());
    let (message_id, changed) = (&message.message_id.0, done.changed());
    tracing::info!(id = %done.id, trace_id, message_id, keys = done.outcomes.len(), changed, "stored");
}

pub fn dead_lettered(message: &Delivery, poison: &Poison) {
    let id = id_of(message);
    let trace_id = trace::trace_id(message.traceparent.as_deref());
    let message_id = &message.message_id.0;
    tracing::warn!(id, trace_id, message_id, reason = %poison.code, detail = %poison.detail, "dead-lettered");
}

/// It must be dead-lettered, and can't be now.
pub fn not_dead_lettered(message: &Delivery, poison: &Poison, error: &Unavailable) {
    let (id, message_id) = (id_of(message), &message.message_id.0);
    tracing::warn!(id, message_id, reason = %poison.code, %error, "can't be dead-lettered now");
}

/// It failed while the store took others, and is offered again.
pub fn put_off(message: &Delivery, error: &str) {
    let (id, message_id) = (id_of(message), &message.message_id.0);
    tracing::warn!(id, message_id, error, "put off");
}

/// The `id` of a wire form that is not stored: what it says of itself, if it says anything that an id may be.
fn id_of(message: &Delivery) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Named {
        id: String,
    }
    let named = serde_json::from_slice::<Named>(&message.body).ok()?;
    (named.id.len() <= ID_BYTES_MAX).then_some(named.id)
}
