//! When work that is to be done every so often is due, and when it is overdue.

use std::time::Duration;

use crate::model::time::Timestamp;

/// The most by which work is done before its time.
const EARLY_MAX: Duration = Duration::from_secs(3 * 3600);

/// How often work is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Every(pub Duration);

impl Every {
    /// Returns from when on work is due whose last run began then: an eighth of the time early, at most three hours. A timer that
    /// begins a little earlier than the night before would otherwise leave work out until the next night.
    pub fn due_at(self, last: Timestamp) -> Timestamp {
        later(last, self.0.saturating_sub((self.0 / 8).min(EARLY_MAX)))
    }

    /// Tells whether work is due whose last run began then, or that was never done.
    pub fn is_due(self, last: Option<Timestamp>, now: Timestamp) -> bool {
        last.is_none_or(|last| self.due_at(last) <= now)
    }

    /// Tells whether work should have been done by now: it never was, or its last run began longer ago than half as long again.
    pub fn is_overdue(self, last: Option<Timestamp>, now: Timestamp) -> bool {
        last.is_none_or(|last| later(last, self.0.saturating_add(self.0 / 2)) < now)
    }
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    let seconds = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
    Timestamp { seconds: time.seconds.saturating_add(seconds), nanos: time.nanos }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;

    #[test]
    fn work_is_due_by_its_last_run_and_overdue_when_that_is_long_ago() {
        let now = Timestamp::from_seconds(1_795_000_000);
        // How often, how long ago, whether it is due, whether it is overdue.
        let cases = [
            (DAY, None, true, true),
            (DAY, Some(0), false, false),
            (DAY, Some(20 * HOUR), false, false),
            // Last night's timer began 45 minutes later than tonight's.
            (DAY, Some(23 * HOUR + 900), true, false),
            (DAY, Some(36 * HOUR), true, false),
            (DAY, Some(36 * HOUR + 1), true, true),
            (7 * DAY, Some(6 * DAY + 20 * HOUR), false, false),
            (7 * DAY, Some(6 * DAY + 21 * HOUR), true, false),
            (7 * DAY, Some(10 * DAY + 12 * HOUR), true, false),
            (7 * DAY, Some(11 * DAY), true, true),
            (HOUR, Some(50 * 60), false, false),
            (HOUR, Some(53 * 60), true, false),
            (0, Some(0), true, false),
            // By a clock that was ahead.
            (DAY, Some(-DAY), false, false),
            (DAY, Some(now.seconds - i64::MIN / 2), true, true),
        ];
        for (every, ago, due, overdue) in cases {
            let every = Every(Duration::from_secs(every as u64));
            let last = ago.map(|ago| Timestamp::from_seconds(now.seconds - ago));
            assert_eq!((every.is_due(last, now), every.is_overdue(last, now)), (due, overdue), "{every:?} {ago:?}");
        }
        assert!(!Every(Duration::MAX).is_due(Some(now), now), "never again");
    }
}
