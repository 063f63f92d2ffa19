//! When the next log call is due: at once after a pause, then ever more rarely while rows flow.

use std::time::Duration;

use tokio::time::Instant;

use super::ReportLimits;

/// Rows that come together are sent together: what follows the first within this time goes with it.
const GATHER: Duration = Duration::from_millis(15);

/// Between two calls while rows flow: fewer than three a second.
const FLOWING: Duration = Duration::from_millis(350);

/// Between two calls once rows have flowed for [`LONG_AFTER`]: fewer than one a second.
const LONG: Duration = Duration::from_millis(1020);

/// A flow is a long one from here on.
const LONG_AFTER: Duration = Duration::from_secs(50);

/// A pause of this length ends a flow.
const PAUSE: Duration = Duration::from_secs(5);

/// Remembers the flow of rows and the last call.
#[derive(Debug)]
pub(super) struct Pace {
    bound: Duration,
    flow_since: Option<Instant>,
    last_rows: Option<Instant>,
    last_call: Option<Instant>,
}

impl Pace {
    pub(super) fn new(limits: &ReportLimits) -> Self {
        // The configuration's times are upper bounds, never delays.
        let bound = limits.log_interval.min(limits.log_latency);
        Self { bound, flow_since: None, last_rows: None, last_call: None }
    }

    /// Rows are waiting at `now`; answers when to send them.
    pub(super) fn due(&mut self, now: Instant) -> Instant {
        if self.last_rows.is_none_or(|last| now - last >= PAUSE) {
            self.flow_since = Some(now);
        }
        self.last_rows = Some(now);
        let next = self.last_call.map_or(now, |last| last + self.interval(now));
        next.max(now + GATHER.min(self.bound))
    }

    /// The soonest that any number of rows may go out.
    pub(super) fn soonest(&self, now: Instant) -> Instant {
        self.last_call.map_or(now, |last| last + FLOWING.min(self.bound))
    }

    /// A call has begun at `now`.
    pub(super) const fn called(&mut self, now: Instant) {
        self.last_call = Some(now);
    }

    fn interval(&self, now: Instant) -> Duration {
        let flow = self.flow_since.map_or(Duration::ZERO, |since| now - since);
        if flow >= LONG_AFTER { LONG.min(self.bound) } else { FLOWING.min(self.bound) }
    }
}

/// Between two state calls that are not a heartbeat.
pub(super) const STATE_GAP: Duration = FLOWING;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{GATHER, Pace};
    use crate::report::gitea::ReportLimits;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Sends rows every `every` for `whole` and answers the longest wait and the calls in the last ten seconds.
    fn flow(every: Duration, whole: Duration) -> (Duration, usize) {
        let begin = Instant::now();
        let mut pace = Pace::new(&ReportLimits::default());
        let (mut calls, mut longest, mut now) = (Vec::new(), Duration::ZERO, begin);
        while now - begin < whole {
            let due = pace.due(now);
            longest = longest.max(due - now);
            pace.called(due);
            calls.push(due);
            while now <= due {
                now += every;
            }
        }
        (
            longest,
            calls.iter().filter(|call| (begin + whole - ms(10_000)..begin + whole).contains(*call)).count(),
        )
    }

    #[test]
    fn the_first_row_after_a_pause_goes_at_once() {
        let begin = Instant::now();
        let mut pace = Pace::new(&ReportLimits::default());
        assert_eq!(pace.due(begin), begin + GATHER);
        pace.called(begin + GATHER);
        assert_eq!(pace.due(begin + ms(100)), begin + GATHER + ms(350));
        pace.called(begin + ms(365));
        assert_eq!(pace.due(begin + ms(900)), begin + ms(900) + GATHER);
    }

    #[test]
    fn at_most_three_calls_a_second_and_one_after_a_minute() {
        let (longest, calls) = flow(ms(20), ms(30_000));
        assert!(longest <= ms(350) && (25..=30).contains(&calls), "{longest:?} {calls}");
        let (longest, calls) = flow(ms(530), ms(70_000));
        assert!(longest <= ms(1020) && calls <= 10, "{longest:?} {calls}");
    }

    #[test]
    fn configured_times_are_bounds() {
        let limits = ReportLimits { log_interval: ms(100), ..ReportLimits::default() };
        let begin = Instant::now();
        let mut pace = Pace::new(&limits);
        pace.called(begin);
        assert_eq!(pace.due(begin + ms(10)), begin + ms(100));
    }
}
