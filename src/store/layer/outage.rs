//! The clock of an outage: from the first failure that the way to the store is to blame for, until anything is answered.
//!
//! All operations share it, so that a store that has gone away ends a run after one deadline, however many requests are
//! under way or come in turn.

use std::time::Duration;

use tokio::time::Instant;

use crate::store::signs::Seen;
use crate::store::{StoreError, StoreErrorKind};

/// After this long without any request that failed, the next failure begins a new outage: nobody knows what was between.
const UNKNOWN_AFTER: Duration = Duration::from_secs(300);
/// Failures without an answer between them from which on people are told: one alone is a hiccup.
const TOLD_FROM: u32 = 2;

/// What people are to be told of a store that gives no signs of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    /// It has given none for so long.
    Begun(Duration),
    /// It does again.
    Over,
}

/// What is known about the way to a store.
#[derive(Debug, Default)]
pub(super) struct Outage {
    /// The store has answered at least once.
    reached: bool,
    /// The first and the latest failure since it last answered.
    since: Option<(Instant, Instant)>,
    failures: u32,
    told: bool,
    /// People were told that it gives no signs of life: how many it had given by then, and since when.
    silent: Option<(u64, Instant)>,
    /// Somebody has waited for long enough; whoever asks now has one try.
    given_up: bool,
}

impl Outage {
    /// Notes how a request ended. Returns whether people were told of an outage that is over now.
    pub(super) fn answered(&mut self) -> bool {
        let told = self.told || self.silent.is_some();
        *self = Self { reached: true, ..Self::default() };
        told
    }

    /// Notes that a request failed on its way, and returns since when all do.
    pub(super) fn failed(&mut self, error: &StoreError, now: Instant) -> Instant {
        // Who asks to slow down is there.
        self.reached |= error.kind == StoreErrorKind::Throttled;
        let since = match self.since {
            Some((first, last)) if now.duration_since(last) < UNKNOWN_AFTER => first,
            _ => {
                (self.failures, self.given_up) = (0, false);
                now
            }
        };
        self.since = Some((since, now));
        self.failures += 1;
        since
    }

    /// Tells whether people are to be told what is waited for.
    pub(super) fn is_to_be_told(&mut self) -> bool {
        self.told |= self.failures >= TOLD_FROM;
        self.told
    }

    /// Tells whether the store is given up, which it stays until it answers; `is_enough` says that it is now.
    pub(super) fn give_up(&mut self, is_enough: bool) -> bool {
        self.given_up |= is_enough;
        self.given_up
    }

    /// Compares with the signs of life that the store has given by `now`, and returns what is to be told. An outage that was told
    /// is over with an answer alone.
    pub(super) fn hears(&mut self, seen: Seen, limit: Duration, now: Instant) -> Option<Silence> {
        match self.silent {
            Some((count, _)) if seen.count != count => {
                self.silent = None;
                (!self.told).then_some(Silence::Over)
            }
            None if !self.told && seen.silence >= limit => {
                self.silent = Some((seen.count, now.checked_sub(seen.silence).unwrap_or(now)));
                Some(Silence::Begun(seen.silence))
            }
            _ => None,
        }
    }

    /// Tells since when there are no signs of life, where people were told.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        self.silent.map(|(_, since)| since)
    }

    /// Tells whether nothing at all is known of the store yet, which people are to be told then.
    pub(super) fn has_no_answer(&mut self) -> bool {
        !self.reached && self.since.is_none() && !std::mem::replace(&mut self.told, true)
    }

    /// Tells whether the store has ever answered.
    pub(super) fn is_reached(&self) -> bool {
        self.reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_outage_lasts_from_its_first_failure_until_an_answer() {
        let failure = StoreError::new("get", "x", StoreErrorKind::Unavailable, "reset");
        let (mut outage, begun) = (Outage::default(), Instant::now());
        let after = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(outage.failed(&failure, after(0)), after(0));
        assert!(!outage.is_to_be_told() && !outage.is_reached());
        assert_eq!(outage.failed(&failure, after(250)), after(0));
        assert!(outage.is_to_be_told());
        assert_eq!(outage.failed(&failure, after(549)), after(0), "failures keep it going");
        assert!(!outage.give_up(false) && outage.give_up(true) && outage.give_up(false), "for all, once for one");
        assert_eq!(outage.failed(&failure, after(849)), after(849), "nothing is known of the time between");
        assert!(!outage.give_up(false));
        assert!(outage.answered() && outage.is_reached());
        assert_eq!(outage.failed(&failure, after(900)), after(900));
        assert!(!outage.answered(), "nobody was told of that");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_told_once_and_over_with_the_next_sign() {
        let (limit, now) = (Duration::from_secs(15), Instant::now() + Duration::from_secs(100));
        let seen = |count, seconds| Seen { count, silence: Duration::from_secs(seconds) };
        let mut outage = Outage::default();
        outage.answered();
        assert_eq!(outage.hears(seen(4, 14), limit, now), None);
        assert_eq!(outage.hears(seen(4, 16), limit, now), Some(Silence::Begun(Duration::from_secs(16))));
        assert_eq!(outage.silent_since(), Some(now - Duration::from_secs(16)));
        assert_eq!(outage.hears(seen(4, 17), limit, now), None, "it was told");
        assert_eq!(outage.hears(seen(5, 0), limit, now), Some(Silence::Over));
        assert_eq!(outage.hears(seen(5, 20), limit, now), Some(Silence::Begun(Duration::from_secs(20))));
        assert!(outage.answered(), "an answer is a sign");

        let failure = StoreError::new("get", "x", StoreErrorKind::Unavailable, "reset");
        outage.failed(&failure, now);
        outage.failed(&failure, now);
        assert!(outage.is_to_be_told());
        assert_eq!(outage.hears(seen(5, 20), limit, now), None, "an outage is told already");
    }
}
