//! Keeps to limits: requests at once, requests a second, bytes a second.
//!
//! The number of requests at once adapts: each answer that asks to slow down, and each upload that timed out, halves it, and
//! every full round of successes raises it by one, up to the maximum: a slow line carries one pack better than none of sixteen. What
//! is held back waits here, in order, and is not an error.
//!
//! Packs that are put and whatever is fetched wait for their turn, and move at the pace of the limit ([`Pace`]). Everything else that
//! is put is small and goes at once, and the packs behind it wait for it: a lease that is renewed too late has lapsed, and packs that
//! no index segment tells of when a run is ended are stored again by the next.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::model::key::{ObjectKey, ObjectKind};
use crate::store::layer::Operation;
use crate::store::pace::{Pace, Rate};
use crate::store::signs::Signs;
use crate::store::tampering::Tampered;
use crate::store::transfer::Transfer;
use crate::store::{ObjectInfo, Store, StoreError, StoreErrorKind};

/// The limits to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitOptions {
    /// Requests at once, at most.
    pub connections: usize,
    /// Requests a second.
    pub requests_per_second: Option<u32>,
    /// Bytes a second that are sent.
    pub upload_bytes_per_second: Option<u64>,
    /// Bytes a second that are fetched.
    pub download_bytes_per_second: Option<u64>,
}

/// A store that is asked no more than the limits allow.
pub struct LimitStore {
    inner: Arc<dyn Store>,
    gate: Gate,
    requests: Option<Rate>,
    upload: Option<Arc<Rate>>,
    download: Option<Arc<Rate>>,
}

impl fmt::Debug for LimitStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LimitStore").field(&self.inner).finish()
    }
}

impl LimitStore {
    /// Puts limits over `inner`.
    pub fn new(inner: Arc<dyn Store>, options: LimitOptions) -> Self {
        let rate = |per_second: Option<u64>| per_second.map(|per_second| Arc::new(Rate::new(per_second as f64)));
        Self {
            inner,
            gate: Gate::new(options.connections),
            requests: options.requests_per_second.map(|per_second| Rate::new(f64::from(per_second))),
            upload: rate(options.upload_bytes_per_second),
            download: rate(options.download_bytes_per_second),
        }
    }

    /// Returns how many requests may be under way at present.
    #[cfg(test)]
    pub fn concurrency(&self) -> usize {
        self.gate.state.lock().expect("no panic while held").limit as usize
    }

    /// Waits until a request may start, runs it, and learns from its outcome.
    async fn limited<T>(
        &self,
        operation: Operation,
        request: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let wait = self.requests.as_ref().map_or(Duration::ZERO, |rate| rate.take(1, Instant::now()));
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let pass = self.gate.enter().await;
        let outcome = request.await;
        match &outcome {
            Err(error) if error.kind == StoreErrorKind::Throttled => pass.throttled(error.retry_after),
            Err(error) if error.kind == StoreErrorKind::TimedOut && operation == Operation::Put => pass.throttled(None),
            Err(error) if error.kind.is_outage() => {}
            _ => pass.succeeded(),
        }
        outcome
    }
}

/// Spends without waiting: whoever comes next waits the longer.
fn spend(rate: &Option<Arc<Rate>>, amount: u64) {
    if let Some(rate) = rate {
        rate.take(amount, Instant::now());
    }
}

/// Moves a body at the pace of `rate`, once it may begin. How long it is may be known before (`bytes`), and is afterwards (`length`).
async fn paced<T, F: Future<Output = Result<T, StoreError>>>(
    rate: &Option<Arc<Rate>>,
    bytes: Option<u64>,
    transfer: &Transfer,
    length: impl Fn(&T) -> u64,
    moving: impl FnOnce(Transfer) -> F,
) -> Result<T, StoreError> {
    let Some(rate) = rate else { return moving(transfer.clone()).await };
    let pace = Pace::begin(rate.clone(), bytes).await;
    let moved = moving(transfer.at(pace.clone())).await?;
    pace.settle(length(&moved)).await;
    Ok(moved)
}

/// Lets a changing number of requests through at once.
#[derive(Debug)]
struct Gate {
    max: f64,
    state: Mutex<GateState>,
    left: Notify,
}

#[derive(Debug)]
struct GateState {
    limit: f64,
    inside: usize,
    /// When the limit was last lowered: requests that began earlier tell nothing new about it.
    lowered: Option<Instant>,
    /// Nobody enters before this.
    closed_until: Option<Instant>,
}

impl Gate {
    fn new(max: usize) -> Self {
        let max = max.max(1) as f64;
        let state = GateState { limit: max, inside: 0, lowered: None, closed_until: None };
        Self { max, state: Mutex::new(state), left: Notify::new() }
    }

    async fn enter(&self) -> Pass<'_> {
        let mut pass = loop {
            let left = self.left.notified();
            if let Some(pass) = self.try_enter() {
                break pass;
            }
            left.await;
        };
        // Waits with the place in hand: whoever gives up meanwhile leaves through the drop that wakes the next.
        while let Some(until) = self.closed_until() {
            tokio::time::sleep_until(until).await;
        }
        pass.entered = Instant::now();
        pass
    }

    fn try_enter(&self) -> Option<Pass<'_>> {
        let mut state = self.state.lock().expect("no panic while held");
        let room = (state.inside as f64) < state.limit.floor();
        state.inside += usize::from(room);
        room.then(|| Pass { gate: self, entered: Instant::now() })
    }

    fn closed_until(&self) -> Option<Instant> {
        let state = self.state.lock().expect("no panic while held");
        state.closed_until.filter(|until| *until > Instant::now())
    }
}

/// The right to make one request; given back when dropped.
#[derive(Debug)]
struct Pass<'g> {
    gate: &'g Gate,
    entered: Instant,
}

impl Pass<'_> {
    fn succeeded(self) {
        let mut state = self.gate.state.lock().expect("no panic while held");
        state.limit = (state.limit + 1.0 / state.limit).min(self.gate.max);
    }

    fn throttled(self, retry_after: Option<Duration>) {
        let mut state = self.gate.state.lock().expect("no panic while held");
        let now = Instant::now();
        if state.lowered.is_none_or(|lowered| self.entered > lowered) {
            state.limit = (state.limit / 2.0).max(1.0);
            state.lowered = Some(now);
        }
        if let Some(wait) = retry_after {
            state.closed_until = state.closed_until.max(Some(now + wait));
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.state.lock().expect("no panic while held");
        state.inside -= 1;
        // One for the place left, one more where the limit has grown.
        let room = (state.limit.floor() as usize).saturating_sub(state.inside);
        drop(state);
        for _ in 0..room.min(2) {
            self.gate.left.notify_one();
        }
    }
}

#[async_trait]
impl Store for LimitStore {
    fn location(&self) -> &str {
        self.inner.location()
    }

    async fn put_telling(&self, key: &ObjectKey, body: Bytes, transfer: &Transfer) -> Result<(), StoreError> {
        let bytes = body.len() as u64;
        if key.kind().is_some_and(|kind| kind != ObjectKind::Pack) {
            spend(&self.upload, bytes);
            return self.limited(Operation::Put, self.inner.put_telling(key, body, transfer)).await;
        }
        let put = |transfer: Transfer| async move {
            self.limited(Operation::Put, self.inner.put_telling(key, body, &transfer)).await
        };
        paced(&self.upload, Some(bytes), transfer, |()| bytes, put).await
    }

    async fn get_telling(&self, key: &ObjectKey, transfer: &Transfer) -> Result<Bytes, StoreError> {
        let get = |transfer: Transfer| async move {
            self.limited(Operation::Get, self.inner.get_telling(key, &transfer)).await
        };
        paced(&self.download, None, transfer, |body| body.len() as u64, get).await
    }

    async fn get_range_telling(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        transfer: &Transfer,
    ) -> Result<Bytes, StoreError> {
        let bytes = range.end.saturating_sub(range.start);
        let get = |transfer: Transfer| async move {
            self.limited(Operation::GetRange, self.inner.get_range_telling(key, range, &transfer)).await
        };
        paced(&self.download, Some(bytes), transfer, |body| body.len() as u64, get).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo, StoreError> {
        self.limited(Operation::Head, self.inner.head(key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.limited(Operation::List, self.inner.list(prefix)).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.limited(Operation::Delete, self.inner.delete(key)).await
    }

    async fn look_back(&self, key: &ObjectKey) -> Result<bool, StoreError> {
        self.limited(Operation::Head, self.inner.look_back(key)).await
    }

    fn tampered(&self) -> Tampered {
        self.inner.tampered()
    }

    fn signs(&self) -> Signs {
        self.inner.signs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::PackId;
    use crate::store::layer::fault::{Fault, FaultStore};
    use crate::store::memory::MemoryStore;

    fn options(connections: usize) -> LimitOptions {
        LimitOptions {
            connections,
            requests_per_second: None,
            upload_bytes_per_second: None,
            download_bytes_per_second: None,
        }
    }

    fn key() -> ObjectKey {
        ObjectKey::from_listed("a")
    }

    #[tokio::test(start_paused = true)]
    async fn throttling_halves_what_runs_at_once_and_success_restores_it() {
        let faulty = FaultStore::new(Arc::new(MemoryStore::default()));
        faulty.plan(Fault::on(Operation::Put).nth(1).fail_before(StoreErrorKind::Throttled));
        let store = LimitStore::new(Arc::new(faulty), options(8));
        assert_eq!(store.concurrency(), 8);
        store.put(&key(), Bytes::new()).await.expect_err("throttled");
        assert_eq!(store.concurrency(), 4);
        for _ in 0..5 {
            store.put(&key(), Bytes::new()).await.expect("stored");
        }
        assert_eq!(store.concurrency(), 5);
        for _ in 0..100 {
            store.put(&key(), Bytes::new()).await.expect("stored");
        }
        assert_eq!(store.concurrency(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_timed_out_halves_what_runs_at_once() {
        let faulty = FaultStore::new(Arc::new(MemoryStore::default()));
        for (nth, kind) in [(1, StoreErrorKind::TimedOut), (2, StoreErrorKind::Unavailable)] {
            faulty.plan(Fault::on(Operation::Put).nth(nth).fail_before(kind));
        }
        faulty.plan(Fault::on(Operation::Get).fail_before(StoreErrorKind::TimedOut));
        let store = LimitStore::new(Arc::new(faulty), options(8));
        for _ in 0..2 {
            store.put(&key(), Bytes::new()).await.expect_err("planned");
        }
        store.get(&key()).await.expect_err("planned");
        assert_eq!(
            store.concurrency(),
            4,
            "a reset says nothing about the line, nor does an answer that does not come"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_wave_of_throttling_halves_once() {
        let gate = Gate::new(16);
        let wave = [gate.enter().await, gate.enter().await, gate.enter().await];
        for pass in wave {
            pass.throttled(None);
        }
        assert_eq!(gate.state.lock().expect("free").limit, 8.0);
        for _ in 0..10 {
            tokio::time::advance(Duration::from_secs(1)).await;
            gate.enter().await.throttled(None);
        }
        assert_eq!(gate.state.lock().expect("free").limit, 1.0, "never to a standstill");
        tokio::time::advance(Duration::from_secs(1)).await;
        gate.enter().await.throttled(Some(Duration::from_secs(9)));
        let started = Instant::now();
        gate.enter().await.succeeded();
        assert_eq!(started.elapsed().as_secs(), 9, "everybody waits as long as the store asked one to");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_limit_run_at_once_and_all_get_through() {
        let gate = Arc::new(Gate::new(3));
        let most = Arc::new(Mutex::new((0, 0)));
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..50 {
            let (gate, most) = (gate.clone(), most.clone());
            tasks.spawn(async move {
                let pass = gate.enter().await;
                {
                    let mut most = most.lock().expect("free");
                    most.0 += 1;
                    most.1 = most.1.max(most.0);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
                most.lock().expect("free").0 -= 1;
                if n % 7 == 0 { pass.throttled(None) } else { pass.succeeded() }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.expect("no panic");
        }
        assert_eq!(*most.lock().expect("free"), (0, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_dropped_gives_its_place_back() {
        let gate = Gate::new(1);
        let held = gate.enter().await;
        assert!(tokio::time::timeout(Duration::from_secs(1), gate.enter()).await.is_err());
        drop(held);
        gate.enter().await.succeeded();
    }

    #[tokio::test(start_paused = true)]
    async fn what_tells_of_packs_waits_for_none_and_makes_them_wait() {
        let limits = LimitOptions { upload_bytes_per_second: Some(1000), ..options(4) };
        let store = LimitStore::new(Arc::new(MemoryStore::default()), limits);
        let pack = |n| ObjectKey::pack(PackId([n; 16]));
        let started = Instant::now();
        store.put(&pack(1), vec![0; 5000].into()).await.expect("stored");
        assert_eq!(started.elapsed().as_secs(), 4);
        for kind in ObjectKind::ALL.into_iter().filter(|kind| *kind != ObjectKind::Pack) {
            store
                .put(&ObjectKey::from_listed(format!("{}x", kind.prefix())), vec![0; 500].into())
                .await
                .expect("stored");
        }
        assert_eq!(started.elapsed().as_secs(), 4, "nothing waited");
        let others = ObjectKind::ALL.len() as u64 - 1;
        store.put(&pack(2), vec![0; 1000].into()).await.expect("stored");
        assert_eq!(started.elapsed().as_millis() as u64, 5000 + 500 * others, "what they took is made up for");
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_keep_to_their_rate_on_average() {
        let limits =
            LimitOptions { upload_bytes_per_second: Some(1000), download_bytes_per_second: Some(500), ..options(4) };
        let store = LimitStore::new(Arc::new(MemoryStore::default()), limits);
        let started = Instant::now();
        for _ in 0..11 {
            store.put(&key(), vec![0; 1000].into()).await.expect("stored");
        }
        assert_eq!(started.elapsed().as_secs(), 10);
        let started = Instant::now();
        for _ in 0..4 {
            store.get(&key()).await.expect("there");
        }
        store.get_range(&key(), 0..500).await.expect("there");
        assert_eq!(started.elapsed().as_secs(), 8);
    }
}
