//! Tries again what failed for the moment, without becoming part of the problem.
//!
//! Waits grow exponentially with full jitter and are never shorter than the store asks for. All operations share a
//! budget of retries, so that a provider in trouble sees a bounded number more of requests, however many operations are
//! under way. They share the clock of an outage too: a store that has gone away is given up after one deadline. Whoever asks
//! the run to end is heard in every wait.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use crate::cancel::Cancel;
use crate::model::key::{ObjectKey, ObjectKind};
use crate::progress::{Counter, Monitor, Waiting};
use crate::store::layer::Operation;
use crate::store::layer::outage::{Outage, Silence};
use crate::store::signs::Signs;
use crate::store::tampering::Tampered;
use crate::store::transfer::Transfer;
use crate::store::{ObjectInfo, Store, StoreError, StoreErrorKind};

/// What storing packs may still take once ending was asked for: what is nearly stored need not be stored again.
const LAST_PACKS: Duration = Duration::from_secs(5);
/// The same for all other writes, which are small and come after the last pack: the index of those that were stored, so that the
/// next run finds them, and the end of the lease.
const LAST_WRITES: Duration = Duration::from_secs(8);
/// As long as the store has never answered, people are told after this long that no answer has come yet.
const NO_ANSWER: Duration = Duration::from_secs(3);
/// How often it is looked whether the store still gives signs of life.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often and how long to try again.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(not(feature = "internals"), non_exhaustive)]
pub struct RetryOptions {
    /// The longest wait before the second try; it doubles with each further one.
    pub first_delay: Duration,
    /// The longest wait that doubling leads to.
    pub delay_max: Duration,
    /// A store is given up when it would be tried again this long after the first failure with no answer since; the same
    /// holds for an operation by itself. The request under way then may take its own time.
    pub give_up_after: Duration,
    /// The same for a host whose name nobody knows, as long as the store has never answered: a mistyped endpoint.
    pub give_up_unknown_host_after: Duration,
    /// Retries that all operations together may make at once.
    pub budget: u32,
    /// Retries a second that the budget regains.
    pub budget_per_second: f64,
    /// People are told of a store that neither answers nor moves anything for this long.
    pub silence: Duration,
    /// How often an answer of the wrong length, or about the wrong time, is asked for: one that comes twice stays so.
    pub wrong_tries: u32,
}

impl Default for RetryOptions {
    /// Ten minutes, as long as a provider's restart takes; ten seconds for a name that nobody knows. Silence is told after
    /// fifteen seconds.
    fn default() -> Self {
        Self {
            first_delay: Duration::from_millis(200),
            delay_max: Duration::from_secs(30),
            give_up_after: Duration::from_secs(600),
            give_up_unknown_host_after: Duration::from_secs(10),
            budget: 100,
            budget_per_second: 2.0,
            silence: Duration::from_secs(15),
            wrong_tries: 2,
        }
    }
}

/// A store that tries again.
pub struct RetryStore {
    inner: Arc<dyn Store>,
    options: RetryOptions,
    monitor: Arc<dyn Monitor>,
    cancel: Cancel,
    budget: Mutex<Budget>,
    outage: Mutex<Outage>,
    signs: Signs,
}

impl fmt::Debug for RetryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RetryStore").field(&self.inner).finish()
    }
}

impl RetryStore {
    /// Puts retrying over `inner`; each retry, and what is waited for, is told to `monitor`.
    ///
    /// Once `cancel` asks to end, nothing is tried again, reading ends at once, and what is being written has a few seconds
    /// left; what is dropped fails as [`StoreErrorKind::Interrupted`].
    pub fn new(inner: Arc<dyn Store>, options: RetryOptions, monitor: Arc<dyn Monitor>, cancel: Cancel) -> Self {
        let budget = Mutex::new(Budget { tokens: f64::from(options.budget), updated: Instant::now() });
        let signs = inner.signs();
        Self { inner, options, monitor, cancel, budget, outage: Mutex::default(), signs }
    }

    async fn retrying<T, F>(
        &self,
        operation: Operation,
        subject: &str,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        let mut failing = Failing::default();
        loop {
            let outcome = self.attempted(operation, subject, attempt()).await;
            let error = match outcome {
                Err(error) if error.kind == StoreErrorKind::Interrupted => return Err(error),
                Err(error) if error.kind.is_transient() => error,
                // Being refused is an answer too; what is no answer of the store's is `Other`.
                Err(error) if matches!(error.kind, StoreErrorKind::Other | StoreErrorKind::Untrusted) => {
                    return Err(error);
                }
                other => {
                    self.answered();
                    return other;
                }
            };
            let pause = self.pause_or_give_up(&mut failing, error)?;
            self.monitor.add(Counter::Retries, 1);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.cancel.asked() => return Err(interrupted(operation, subject)),
            }
        }
    }

    /// Makes one attempt, for as long as nobody asks to end.
    async fn attempted<T>(
        &self,
        operation: Operation,
        subject: &str,
        attempt: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let dropped = async {
            self.cancel.asked().await;
            if operation.is_mutation()
                && let Some(since) = self.cancel.since()
            {
                let is_pack = subject.starts_with(ObjectKind::Pack.prefix());
                tokio::time::sleep_until(since + if is_pack { LAST_PACKS } else { LAST_WRITES }).await;
            }
        };
        let silent = async {
            let (begun, look_every) = (Instant::now(), LOOK_EVERY.min(self.options.silence));
            loop {
                tokio::time::sleep(look_every).await;
                if begun.elapsed() >= NO_ANSWER {
                    self.tell_no_answer();
                }
                self.tell_silence();
            }
        };
        tokio::select! {
            biased;
            outcome = attempt => outcome,
            () = dropped => Err(interrupted(operation, subject)),
            () = silent => unreachable!("it never ends"),
        }
    }

    /// Notes a failure that may pass, and returns how long to wait before the next try, or the failure if there is none.
    fn pause_or_give_up(&self, failing: &mut Failing, error: StoreError) -> Result<Duration, StoreError> {
        failing.tries += 1;
        failing.wrong += u32::from(!error.kind.is_outage());
        let now = Instant::now();
        let first = *failing.since.get_or_insert(now);
        let pause = self.pause(failing.tries, error.retry_after);
        if !error.kind.is_outage() {
            self.answered();
            return if failing.wrong >= self.options.wrong_tries {
                Err(failing.given_up(error, first))
            } else {
                Ok(pause)
            };
        }
        let mut outage = self.outage();
        let outage_since = outage.failed(&error, now);
        let since = outage_since.min(first);
        let silent_since = outage.silent_since();
        let deadline = match error.kind {
            StoreErrorKind::UnknownHost if !outage.is_reached() => self.options.give_up_unknown_host_after,
            _ => self.options.give_up_after,
        };
        let is_enough = |since| now.duration_since(since) + pause > deadline;
        // An operation that fails by itself, while others are answered, gives up nothing but itself.
        let given_up = outage.give_up(is_enough(outage_since)) || is_enough(first);
        let is_told = outage.is_to_be_told();
        drop(outage);
        if given_up {
            return Err(failing.given_up(error, since));
        }
        if is_told {
            let so_far = now.duration_since(silent_since.map_or(since, |silent| silent.min(since)));
            self.monitor.waiting(Some(Waiting { cause: &error.clause(), so_far }));
        }
        Ok(pause)
    }

    fn answered(&self) {
        let told = self.outage().answered();
        if told {
            self.monitor.waiting(None);
        }
    }

    /// Says that no answer has come yet, where none has ever come: later on it may be a large object that takes its time.
    fn tell_no_answer(&self) {
        if self.outage().has_no_answer() {
            self.monitor.waiting(Some(Waiting { cause: "no answer yet", so_far: NO_ANSWER }));
        }
    }

    /// Says that nothing moves any more, and once it does that it is over.
    fn tell_silence(&self) {
        let silence = self.outage().hears(self.signs.seen(), self.options.silence, Instant::now());
        match silence {
            Some(Silence::Begun(so_far)) => self.monitor.waiting(Some(Waiting { cause: "nothing moves", so_far })),
            Some(Silence::Over) => self.monitor.waiting(None),
            None => {}
        }
    }

    fn outage(&self) -> MutexGuard<'_, Outage> {
        self.outage.lock().expect("no panic while held")
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

/// An operation that has failed so far.
#[derive(Debug, Default)]
struct Failing {
    tries: u32,
    /// Answers that came and were not right.
    wrong: u32,
    since: Option<Instant>,
}

impl Failing {
    fn given_up(&self, mut error: StoreError, since: Instant) -> StoreError {
        let seconds = since.elapsed().as_secs();
        if self.tries > 1 {
            error.message = format!("{}; gave up after {} tries in {seconds} s", error.message, self.tries);
        } else if seconds > 0 {
            error.message = format!("{}; gave up, as nothing was answered for {seconds} s", error.message);
        }
        error
    }
}

fn interrupted(operation: Operation, subject: &str) -> StoreError {
    StoreError::new(operation.name(), subject, StoreErrorKind::Interrupted, "interrupted")
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
impl Store for RetryStore {
    fn location(&self) -> &str {
        self.inner.location()
    }

    async fn put_telling(&self, key: &ObjectKey, body: Bytes, transfer: &Transfer) -> Result<(), StoreError> {
        self.retrying(Operation::Put, key.as_str(), || self.inner.put_telling(key, body.clone(), transfer)).await
    }

    async fn get_telling(&self, key: &ObjectKey, transfer: &Transfer) -> Result<Bytes, StoreError> {
        self.retrying(Operation::Get, key.as_str(), || self.inner.get_telling(key, transfer)).await
    }

    async fn get_range_telling(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        transfer: &Transfer,
    ) -> Result<Bytes, StoreError> {
        let get = || self.inner.get_range_telling(key, range.clone(), transfer);
        self.retrying(Operation::GetRange, key.as_str(), get).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo, StoreError> {
        self.retrying(Operation::Head, key.as_str(), || self.inner.head(key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.retrying(Operation::List, prefix, || self.inner.list(prefix)).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.retrying(Operation::Delete, key.as_str(), || self.inner.delete(key)).await
    }

    async fn look_back(&self, key: &ObjectKey) -> Result<bool, StoreError> {
        self.retrying(Operation::Head, key.as_str(), || self.inner.look_back(key)).await
    }

    fn tampered(&self) -> Tampered {
        self.inner.tampered()
    }

    fn signs(&self) -> Signs {
        self.signs.clone()
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
        let (options, cancel) = (RetryOptions::default(), Cancel::default());
        let retry = RetryStore::new(Arc::new(faulty.clone()), options, monitor.clone(), cancel);
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

    fn down(operation: Operation) -> Fault {
        Fault::on(operation).always().fail_before(StoreErrorKind::Unavailable)
    }

    fn is_about_ten_minutes(elapsed: Duration) {
        assert!(elapsed > Duration::from_secs(500) && elapsed <= Duration::from_secs(600), "{elapsed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_answer_is_waited_for_whether_it_ever_did_or_not() {
        for answers in [false, true] {
            let (store, _, monitor) = stores(vec![down(Operation::Get)]);
            if answers {
                store.list("").await.expect("answers");
            }
            let started = Instant::now();
            let error = store.get(&key()).await.expect_err("down");
            assert!(error.message.contains("; gave up after "), "{error}");
            is_about_ten_minutes(started.elapsed());
            let waits = monitor.waits();
            assert!(waits.iter().all(|wait| wait.as_deref() == Some("planned fault")), "it never answered: {waits:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_went_away_costs_one_deadline_however_many_ask_together_or_in_turn() {
        let (store, faulty, monitor) = stores(vec![down(Operation::Get), down(Operation::Delete)]);
        store.list("").await.expect("answers");
        let (started, key) = (Instant::now(), key());
        let asked = futures::future::join_all((0..50).map(|_| store.get(&key))).await;
        assert!(asked.iter().all(Result::is_err));
        for _ in 0..100 {
            store.get(&key).await.expect_err("down");
        }
        let retries = monitor.counters.get(Counter::Retries);
        let error = store.delete(&key).await.expect_err("the lease is tried once");
        assert!(error.message.contains("gave up, as nothing was answered for "), "{error}");
        assert_eq!(monitor.counters.get(Counter::Retries), retries);
        is_about_ten_minutes(started.elapsed());
        faulty.forget_plan();
        store.list("").await.expect("answers again");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_in_between_ends_an_outage_and_a_single_operation_still_ends() {
        let (store, ..) = stores(vec![down(Operation::Get)]);
        let (started, key) = (Instant::now(), key());
        let others = async {
            loop {
                store.list("").await.expect("answers");
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
        };
        tokio::select! {
            outcome = store.get(&key) => drop(outcome.expect_err("never readable")),
            () = others => {}
        }
        is_about_ten_minutes(started.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_nobody_knows_is_given_up_soon_unless_it_was_known_before() {
        let unknown = || Fault::on(Operation::Get).always().fail_before(StoreErrorKind::UnknownHost);
        let (store, ..) = stores(vec![unknown()]);
        let started = Instant::now();
        store.get(&key()).await.expect_err("a typo");
        assert!(started.elapsed() <= Duration::from_secs(10), "{:?}", started.elapsed());

        let (store, ..) = stores(vec![unknown()]);
        store.list("").await.expect("answers");
        let started = Instant::now();
        store.get(&key()).await.expect_err("the name server is gone");
        is_about_ten_minutes(started.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hiccup_is_not_told_and_an_outage_is_until_it_ends() {
        let hiccup = |nth| Fault::on(Operation::Get).nth(nth).fail_before(StoreErrorKind::Unavailable);
        let (store, _, monitor) = stores(vec![hiccup(1)]);
        store.put(&key(), Bytes::new()).await.expect("stored");
        store.get(&key()).await.expect("there");
        assert_eq!(monitor.waits(), []);
        let (store, _, monitor) = stores((1..=3).map(hiccup).collect());
        store.put(&key(), Bytes::new()).await.expect("stored");
        store.get(&key()).await.expect("there");
        let cause = Some("planned fault".to_owned());
        assert_eq!(monitor.waits(), [cause.clone(), cause, None]);
    }

    #[tokio::test(start_paused = true)]
    async fn clocks_that_differ_once_are_worth_a_second_try() {
        let skewed = |nth| Fault::on(Operation::Get).nth(nth).fail_before(StoreErrorKind::Skewed);
        let (store, ..) = stores(vec![skewed(1)]);
        store.put(&key(), Bytes::new()).await.expect("stored");
        store.get(&key()).await.expect("there");
        let (store, ..) = stores(vec![skewed(1), skewed(2)]);
        assert_eq!(store.get(&key()).await.expect_err("it stays so").kind, StoreErrorKind::Skewed);
    }

    #[tokio::test(start_paused = true)]
    async fn ending_is_heard_in_every_wait_and_what_is_being_written_has_a_moment_left() {
        let (store, ..) = stores(vec![down(Operation::Get), down(Operation::Put)]);
        let (store, cancel) = (Arc::new(store), Cancel::default());
        let store =
            Arc::new(RetryStore::new(store, RetryOptions::default(), Arc::new(Collected::default()), cancel.clone()));
        let ends_within = async |work: tokio::task::JoinHandle<Result<(), StoreError>>| {
            tokio::time::sleep(Duration::from_secs(30)).await;
            let asked = Instant::now();
            cancel.cancel();
            let error = work.await.expect("no panic").expect_err("interrupted");
            assert_eq!(error.kind, StoreErrorKind::Interrupted, "{error}");
            asked.elapsed()
        };
        let get = tokio::spawn({
            let store = store.clone();
            async move { store.get(&key()).await.map(drop) }
        });
        assert_eq!(ends_within(get).await, Duration::ZERO);
        let put = tokio::spawn(async move { store.put(&key(), Bytes::new()).await });
        assert!(ends_within(put).await <= LAST_PACKS);
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
    async fn an_object_that_stays_short_or_unreadable_is_asked_for_twice_and_not_all_night() {
        for kind in [StoreErrorKind::Truncated, StoreErrorKind::Unreadable] {
            let (store, _, monitor) = stores(vec![Fault::on(Operation::GetRange).always().fail_before(kind)]);
            let error = store.get_range(&key(), 0..1).await.expect_err("for good");
            assert_eq!(error.kind, kind);
            assert_eq!(monitor.counters.get(Counter::Retries), 1);
            let (store, ..) = stores(vec![Fault::on(Operation::GetRange).fail_before(kind)]);
            store.put(&key(), Bytes::from_static(b"x")).await.expect("stored");
            store.get_range(&key(), 0..1).await.expect("there at the second try");
        }
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
