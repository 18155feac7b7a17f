//! Waiting times that double, with jitter, so that many processes don't knock in step.

use std::time::Duration;

/// The `n`th wait (from 0): `min` doubled `n` times, at most `max`, then a random part of its upper half.
pub fn wait(n: u32, min: Duration, max: Duration) -> Duration {
    let full = min.saturating_mul(2u32.saturating_pow(n.min(30))).min(max);
    full / 2 + full.mul_f64(random_unit() / 2.0)
}

/// A wait, and up to a fifth of it more: what begins to wait at the same time ends apart.
pub fn spread(wait: Duration) -> Duration {
    wait + wait.mul_f64(random_unit() / 5.0)
}

/// Evenly spread over [0, 1). A version 4 UUID holds random bits from the system, and needs no state of ours; its low
/// 64 bits carry two fixed ones, so only the lowest 32 are used.
fn random_unit() -> f64 {
    let bits = uuid::Uuid::new_v4().as_u128() as u32;
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_spread_over_a_fifth_more() {
        let (wait, most) = (Duration::from_secs(10), Duration::from_secs(12));
        assert!((0..100).map(|_| spread(wait)).all(|spread| (wait..=most).contains(&spread)));
    }

    #[test]
    fn waits_double_up_to_the_maximum_and_keep_within_their_upper_half() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(5));
        for (n, full_ms) in [(0, 100), (1, 200), (5, 3_200), (6, 5_000), (40, 5_000), (u32::MAX, 5_000)] {
            for _ in 0..100 {
                let wait = wait(n, min, max).as_millis();
                assert!((full_ms / 2..=full_ms).contains(&wait), "{n}: {wait}");
            }
        }
    }
}
