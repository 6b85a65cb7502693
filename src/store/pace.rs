//! The pace at which bodies move under a limit: evenly, part by part, for as long as they take.
//!
//! What is on its way comes first: its parts may be spent ahead and are waited for afterwards. A body that is to begin waits until
//! its first part is saved up. So as many are under way as the line needs to reach the limit, and no more: they would take from
//! those that are nearly there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

/// Parts that move in a second, where one body has the limit for itself.
const PARTS_A_SECOND: f64 = 4.0;
/// What is on its way is held back no longer than this at once, whatever is owed: a store that sees nothing come for long closes the
/// connection. Who begins next waits for the rest.
const HELD_AT_MOST: Duration = Duration::from_secs(5);

/// An amount that comes in at a steady pace and may be spent ahead, at the price of waiting (a token bucket in debt).
#[derive(Debug)]
pub(super) struct Rate {
    per_second: f64,
    /// What may be spent at once, and when that was known.
    balance: Mutex<(f64, Instant)>,
    /// Held by who begins next.
    beginning: tokio::sync::Mutex<()>,
}

impl Rate {
    pub(super) fn new(per_second: f64) -> Self {
        let per_second = per_second.max(1.0);
        let (balance, beginning) = (Mutex::new((per_second, Instant::now())), tokio::sync::Mutex::default());
        Self { per_second, balance, beginning }
    }

    /// Spends `amount` and returns how long to wait for it. At most one second's worth is saved up.
    pub(super) fn take(&self, amount: u64, now: Instant) -> Duration {
        let mut balance = self.balance.lock().expect("no panic while held");
        let earned = now.saturating_duration_since(balance.1).as_secs_f64() * self.per_second;
        balance.0 = (balance.0 + earned).min(self.per_second) - amount as f64;
        balance.1 = now;
        self.time_for(-balance.0)
    }

    /// Spends `amount`, of a second's worth at most, once nothing is owed and all of it is there; in the order of who asks.
    async fn take_saved(&self, amount: u64) {
        let _next = self.beginning.lock().await;
        loop {
            let missing = amount as f64 - self.balance(Instant::now());
            if missing <= 0.0 {
                self.take(amount, Instant::now());
                return;
            }
            tokio::time::sleep(self.time_for(missing).max(Duration::from_millis(1))).await;
        }
    }

    fn balance(&self, now: Instant) -> f64 {
        let balance = self.balance.lock().expect("no panic while held");
        (balance.0 + now.saturating_duration_since(balance.1).as_secs_f64() * self.per_second).min(self.per_second)
    }

    fn time_for(&self, amount: f64) -> Duration {
        Duration::try_from_secs_f64(amount / self.per_second).unwrap_or_default()
    }

    fn part_bytes(&self) -> u64 {
        (self.per_second / PARTS_A_SECOND).max(1.0) as u64
    }
}

/// The pace of one body, which shares its rate with others.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Arc<Rate>,
    /// What was taken before it began.
    ahead: u64,
    /// What has asked for its turn so far.
    asked: AtomicU64,
}

impl Pace {
    /// Waits until a body may begin. How long it is is told where it is known.
    pub(super) async fn begin(rate: Arc<Rate>, bytes: Option<u64>) -> Arc<Self> {
        let ahead = bytes.unwrap_or(0).min(rate.part_bytes());
        rate.take_saved(ahead).await;
        Arc::new(Self { rate, ahead, asked: AtomicU64::new(0) })
    }

    /// Returns how many of the `most` bytes that come next are to move at once.
    pub(super) fn part(&self, most: usize) -> usize {
        most.min(usize::try_from(self.rate.part_bytes()).unwrap_or(usize::MAX))
    }

    /// Takes what comes next and returns how long it has to wait.
    pub(super) fn wait_for(&self, bytes: u64) -> Duration {
        self.take(bytes).min(HELD_AT_MOST)
    }

    /// Waits for what has moved of `bytes` without asking.
    pub(super) async fn settle(&self, bytes: u64) {
        let wait = self.take(bytes.saturating_sub(self.asked.load(Ordering::Relaxed)));
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    fn take(&self, bytes: u64) -> Duration {
        let before = self.asked.fetch_add(bytes, Ordering::Relaxed);
        let due = (before + bytes).max(self.ahead) - before.max(self.ahead);
        if due == 0 { Duration::ZERO } else { self.rate.take(due, Instant::now()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Moves a body as a store does, on a line that takes `line` bytes a second, and notes when each part had moved.
    async fn moves(rate: Arc<Rate>, bytes: u64, line: f64, begun: Instant) -> Vec<(Duration, u64)> {
        let pace = Pace::begin(rate, Some(bytes)).await;
        let (mut moved, mut seen) = (0, Vec::new());
        while moved < bytes {
            let part = pace.part((bytes - moved) as usize) as u64;
            tokio::time::sleep(pace.wait_for(part)).await;
            tokio::time::sleep(Duration::from_secs_f64(part as f64 / line)).await;
            moved += part;
            seen.push((begun.elapsed(), moved));
        }
        seen
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_of_several_seconds_moves_evenly() {
        let (rate, begun) = (Arc::new(Rate::new(1000.0)), Instant::now());
        let seen = moves(rate, 10_000, 1e9, begun).await;
        assert_eq!(seen.len(), 40);
        for (at, moved) in seen {
            // A second's worth was saved up.
            let due = (moved as f64 / 1000.0 - 1.0).max(0.0);
            assert!((at.as_secs_f64() - due).abs() < 0.01, "{moved} bytes after {at:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_go_one_after_the_other_where_one_reaches_the_limit() {
        let (rate, begun) = (Arc::new(Rate::new(1000.0)), Instant::now());
        rate.take(1000, begun);
        let all = (0..5).map(|_| moves(rate.clone(), 4000, 1e5, begun));
        let all = futures::future::join_all(all).await;
        let ends: Vec<_> = all.iter().map(|seen| seen.last().expect("moved").0.as_secs_f64().round()).collect();
        assert_eq!(ends, [4.0, 8.0, 12.0, 16.0, 20.0]);
        for pair in all.windows(2) {
            let (end, next) = (pair[0].last().expect("moved").0, pair[1][0].0);
            assert!(next + Duration::from_millis(500) > end, "the next began at {next:?}, which ended at {end:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_go_at_once_as_a_slow_line_needs() {
        let (rate, begun) = (Arc::new(Rate::new(1000.0)), Instant::now());
        let all = (0..8).map(|_| moves(rate.clone(), 2000, 250.0, begun));
        let all = futures::future::join_all(all).await;
        let last = all.iter().flatten().map(|seen| seen.0).max().expect("moved");
        // One after the other they would take 64 seconds, all at once 8, and 15 is what the limit allows.
        assert!(last.as_secs() >= 15 && last.as_secs() <= 24, "{last:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_on_its_way_is_never_held_back_for_long_and_who_comes_next_pays() {
        let (rate, begun) = (Arc::new(Rate::new(1000.0)), Instant::now());
        let pace = Pace::begin(rate.clone(), Some(4000)).await;
        rate.take(100_000, begun);
        assert_eq!(pace.wait_for(1000), HELD_AT_MOST);
        Pace::begin(rate, Some(250)).await;
        assert_eq!(begun.elapsed().as_secs(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn what_moves_without_asking_is_waited_for_afterwards() {
        let (rate, begun) = (Arc::new(Rate::new(1000.0)), Instant::now());
        for (asked, whole, seconds) in [(0, 3000, 2), (500, 3000, 5), (3000, 3000, 5), (0, 0, 8)] {
            let pace = Pace::begin(rate.clone(), Some(whole)).await;
            pace.wait_for(asked);
            pace.settle(whole).await;
            assert_eq!(begun.elapsed().as_secs(), seconds, "{asked} of {whole}");
        }
    }
}
