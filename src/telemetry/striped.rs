//! A counter that many threads count up at the same time, each in a place of its own; whoever reads it adds up.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::core::Atomic;

/// More threads than serve requests on a large machine share a place now and then, which costs time and loses nothing.
const STRIPES: usize = 32;

/// On cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
struct Stripe(AtomicU64);

pub struct Striped(Box<[Stripe]>);

/// Makes a number of what is hashed into it.
struct Number(u64);

impl Hasher for Number {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0 << 8 | u64::from(*byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// Threads are numbered in the order in which they begin, so those of one pool have places of their own.
fn stripe() -> usize {
    let mut number = Number(0);
    std::thread::current().id().hash(&mut number);
    number.0 as usize % STRIPES
}

impl Atomic for Striped {
    type T = u64;

    fn new(value: u64) -> Self {
        let this = Self((0..STRIPES).map(|_| Stripe::default()).collect());
        this.inc_by(value);
        this
    }

    fn set(&self, value: u64) {
        self.0.iter().for_each(|stripe| stripe.0.store(0, Ordering::Relaxed));
        self.inc_by(value);
    }

    fn get(&self) -> u64 {
        self.0.iter().map(|stripe| stripe.0.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }

    fn inc_by(&self, delta: u64) {
        self.0[stripe()].0.fetch_add(delta, Ordering::Relaxed);
    }

    fn dec_by(&self, delta: u64) {
        self.0[stripe()].0.fetch_sub(delta, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_count_together() {
        let striped = Striped::new(5);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1_000).for_each(|_| striped.inc_by(1)));
            }
        });
        assert_eq!(striped.get(), 8_005);
        striped.dec_by(6);
        assert_eq!(striped.get(), 7_999);
        striped.set(3);
        assert_eq!(striped.get(), 3);
    }
}
