//! Tries again what failed for the moment, without becoming part of the problem.
//!
//! Waits grow exponentially with full jitter and are never shorter than the store asks for. All operations share a
//! budget of retries, so that a provider in trouble sees a bounded number more of requests, however many operations are
//! under way. Each operation has a deadline. A store that was never reached is given up early: a wrong endpoint should
//! not look like a backup that hangs.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use crate::model::key::ObjectKey;
use crate::progress::{Counter, Monitor};
use crate::store::{ObjectInfo, Store, StoreError, StoreErrorKind};

/// How often and how long to try again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryOptions {
    /// The longest wait before the second try; it doubles with each further one.
    pub first_delay: Duration,
    /// The longest wait that doubling leads to.
    pub delay_max: Duration,
    /// An operation is not tried again when it would be this long after its start.
    pub give_up_after: Duration,
    /// The same, as long as the store has never answered.
    pub give_up_unreached_after: Duration,
    /// Retries that all operations together may make at once.
    pub budget: u32,
    /// Retries a second that the budget regains.
    pub budget_per_second: f64,
    /// How often an answer of the wrong length, or about the wrong time, is asked for: one that comes twice stays so.
    pub truncated_tries: u32,
}

impl Default for RetryOptions {
    /// Ten minutes for an operation, as long as a provider's restart takes; half a minute where nothing ever answered.
    fn default() -> Self {
        Self {
            first_delay: Duration::from_millis(200),
            delay_max: Duration::from_secs(30),
            give_up_after: Duration::from_secs(600),
            give_up_unreached_after: Duration::from_secs(30),
            budget: 100,
            budget_per_second: 2.0,
            truncated_tries: 2,
        }
    }
}

/// A store that tries again.
pub struct RetryStore {
    inner: Arc<dyn Store>,
    options: RetryOptions,
    monitor: Arc<dyn Monitor>,
    budget: Mutex<Budget>,
    reached: AtomicBool,
}

impl fmt::Debug for RetryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RetryStore").field(&self.inner).finish()
    }
}

impl RetryStore {
    /// Puts retrying over `inner`; each retry is counted on `monitor`.
    pub fn new(inner: Arc<dyn Store>, options: RetryOptions, monitor: Arc<dyn Monitor>) -> Self {
        let budget = Mutex::new(Budget { tokens: f64::from(options.budget), updated: Instant::now() });
        Self { inner, options, monitor, budget, reached: AtomicBool::new(false) }
    }

    async fn retrying<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        let started = Instant::now();
        let (mut tries, mut wrong) = (0, 0);
        loop {
            let mut error = match attempt().await {
                Ok(value) => {
                    self.reached.store(true, Ordering::Relaxed);
                    return Ok(value);
                }
                Err(error) => error,
            };
            tries += 1;
            wrong += u32::from(!error.kind.is_outage());
            if !error.kind.is_outage() && error.kind != StoreErrorKind::Other || error.kind == StoreErrorKind::Throttled
            {
                self.reached.store(true, Ordering::Relaxed);
            }
            if !error.kind.is_transient() {
                return Err(error);
            }
            let pause = self.pause(tries, error.retry_after);
            let deadline = match self.reached.load(Ordering::Relaxed) {
                true => self.options.give_up_after,
                false => self.options.give_up_unreached_after,
            };
            let truncated_enough = wrong >= self.options.truncated_tries;
            if truncated_enough || started.elapsed() + pause > deadline {
                if tries > 1 {
                    let seconds = started.elapsed().as_secs();
                    error.message = format!("{}; gave up after {tries} tries in {seconds} s", error.message);
                }
                return Err(error);
            }
            self.monitor.add(Counter::Retries, 1);
            tokio::time::sleep(pause).await;
        }
    }

    /// Returns how long to wait after the `tries`th failure.
    fn pause(&self, tries: u32, asked: Option<Duration>) -> Duration {
        let ceiling = self.options.first_delay.saturating_mul(1 << (tries - 1).min(20)).min(self.options.delay_max);
        let jittered = ceiling.mul_f64(random_fraction());
        // On top of what was asked for: all who were told the same time must not come back at once.
        let wanted = asked.unwrap_or_default() + jittered;
        let budgeted = self.budget.lock().expect("no panic while held").take(&self.options, Instant::now());
        wanted.max(budgeted)
    }
}

/// The retries that may still be made, shared by all operations.
#[derive(Debug)]
struct Budget {
    tokens: f64,
    updated: Instant,
}

impl Budget {
    /// Takes one retry and returns how long to wait until it may be made.
    fn take(&mut self, options: &RetryOptions, now: Instant) -> Duration {
        let regained = now.duration_since(self.updated).as_secs_f64() * options.budget_per_second;
        self.tokens = (self.tokens + regained).min(f64::from(options.budget)) - 1.0;
        self.updated = now;
        Duration::try_from_secs_f64(-self.tokens / options.budget_per_second).unwrap_or_default()
    }
}

/// Returns a number from 0 to 1. Randomness here spreads load and guards nothing, so a failing source is no error.
fn random_fraction() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX)
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Store for RetryStore {
    fn location(&self) -> &str {
        self.inner.location()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes) -> Result<(), StoreError> {
        self.retrying(|| self.inner.put(key, body.clone())).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, StoreError> {
        self.retrying(|| self.inner.get(key)).await
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.retrying(|| self.inner.get_range(key, range.clone())).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo, StoreError> {
        self.retrying(|| self.inner.head(key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.retrying(|| self.inner.list(prefix)).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.retrying(|| self.inner.delete(key)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Collected;
    use crate::store::layer::Operation;
    use crate::store::layer::fault::{Fault, FaultStore};
    use crate::store::memory::MemoryStore;

    fn key() -> ObjectKey {
        ObjectKey::from_listed("packs/00/a")
    }

    /// A store over memory that fails as `faults` say, and the monitor that counts.
    fn stores(faults: Vec<Fault>) -> (RetryStore, FaultStore, Arc<Collected>) {
        let faulty = FaultStore::new(Arc::new(MemoryStore::default()));
        for fault in faults {
            faulty.plan(fault);
        }
        let monitor = Arc::new(Collected::default());
        let retry = RetryStore::new(Arc::new(faulty.clone()), RetryOptions::default(), monitor.clone());
        (retry, faulty, monitor)
    }

    #[tokio::test(start_paused = true)]
    async fn a_passing_failure_is_tried_again_and_counted() {
        let (store, faulty, monitor) = stores(vec![
            Fault::on(Operation::Put).nth(1).fail_before(StoreErrorKind::Unavailable),
            Fault::on(Operation::Put).nth(2).fail_after(StoreErrorKind::Throttled),
        ]);
        store.put(&key(), Bytes::from_static(b"x")).await.expect("stored at the third try");
        assert_eq!(monitor.counters.get(Counter::Retries), 2);
        faulty.assert_all_fired();
    }

    #[tokio::test(start_paused = true)]
    async fn a_final_failure_is_not_tried_again() {
        for kind in [StoreErrorKind::Denied, StoreErrorKind::Full, StoreErrorKind::NotFound, StoreErrorKind::Other] {
            let (store, _, monitor) = stores(vec![Fault::on(Operation::Put).nth(1).fail_before(kind)]);
            assert_eq!(store.put(&key(), Bytes::new()).await.expect_err("planned").kind, kind);
            assert_eq!(monitor.counters.get(Counter::Retries), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_never_answered_is_given_up_soon_and_one_that_did_later() {
        let down = || Fault::on(Operation::Get).always().fail_before(StoreErrorKind::Unavailable);
        let started = Instant::now();
        let (store, ..) = stores(vec![down()]);
        let error = store.get(&key()).await.expect_err("down");
        assert!(error.message.contains("gave up after"), "{error}");
        assert!(started.elapsed() <= Duration::from_secs(30), "{:?}", started.elapsed());

        let (store, ..) = stores(vec![down()]);
        store.list("").await.expect("answers");
        let started = Instant::now();
        store.get(&key()).await.expect_err("down");
        let elapsed = started.elapsed();
        assert!(elapsed > Duration::from_secs(300) && elapsed <= Duration::from_secs(600), "{elapsed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_store_is_asked_no_sooner_than_it_wants() {
        let wait = Duration::from_secs(17);
        let (store, ..) =
            stores(vec![Fault::on(Operation::Head).nth(1).fail_before(StoreErrorKind::Throttled).retry_after(wait)]);
        store.put(&key(), Bytes::new()).await.expect("stored");
        let started = Instant::now();
        store.head(&key()).await.expect("there");
        assert!(started.elapsed() >= wait && started.elapsed() < wait + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_that_stays_short_is_not_asked_for_all_night() {
        let (store, _, monitor) =
            stores(vec![Fault::on(Operation::GetRange).always().fail_before(StoreErrorKind::Truncated)]);
        let error = store.get_range(&key(), 0..1).await.expect_err("short");
        assert_eq!(error.kind, StoreErrorKind::Truncated);
        assert_eq!(monitor.counters.get(Counter::Retries), 1);
    }

    #[test]
    fn the_budget_bounds_retries_and_refills() {
        let options = RetryOptions { budget: 3, budget_per_second: 2.0, ..RetryOptions::default() };
        let now = Instant::now();
        let mut budget = Budget { tokens: 3.0, updated: now };
        let waits: Vec<_> = (0..5).map(|_| budget.take(&options, now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 500, 1000]);
        assert_eq!(budget.take(&options, now + Duration::from_secs(60)), Duration::ZERO);
        assert!(budget.tokens <= 2.0, "no more than the budget is saved up");
    }
}
