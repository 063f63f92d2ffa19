//! How long to wait before the next try: doubling, bounded, and never in step with other runners.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

/// A doubling is repeated at most this often, however high the limit is.
const MOST_DOUBLINGS: u32 = 5;

/// Waiting times that double from `first` to `most`, each moved by up to a fifth in either direction.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// Starts at `first`; a `most` below it counts as `first`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most: most.max(first), failures: 0 }
    }

    /// How long to wait now; the next answer is longer.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.base();
        self.failures = self.failures.saturating_add(1);
        jittered(wait, random_unit())
    }

    /// The next wait without its jitter, for gauges.
    pub fn base(&self) -> Duration {
        self.first.saturating_mul(1 << self.failures.min(MOST_DOUBLINGS)).min(self.most)
    }

    /// Something went well: start again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// `wait` times 0.8 to 1.2 for a `unit` from 0 to 1.
fn jittered(wait: Duration, unit: f64) -> Duration {
    wait.mul_f64(unit.mul_add(0.4, 0.8))
}

/// A number in [0, 1) from the standard library's random hash keys: jitter needs no better source.
fn random_unit() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(bits >> 32).unwrap_or(u32::MAX)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Backoff, jittered};

    #[test]
    fn it_doubles_up_to_the_limit_and_starts_again() {
        let mut backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(5));
        let mut bases = Vec::new();
        for _ in 0..4 {
            bases.push(backoff.base().as_secs());
            backoff.next_wait();
        }
        assert_eq!(bases, [2, 4, 5, 5]);
        backoff.reset();
        assert_eq!(backoff.base(), Duration::from_secs(2));
    }

    #[test]
    fn jitter_stays_within_a_fifth() {
        assert_eq!(jittered(Duration::from_secs(10), 0.0), Duration::from_secs(8));
        assert_eq!(jittered(Duration::from_secs(10), 1.0), Duration::from_secs(12));
        let mut backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(10));
        for _ in 0..100 {
            let wait = backoff.next_wait().as_millis();
            assert!((8000..=12000).contains(&wait), "{wait}");
        }
    }
}
