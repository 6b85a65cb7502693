//! Breaks a store on purpose, as a script says, and checks that the script was played to its end.
//!
//! ```
//! # use std::sync::Arc;
//! # use coffre::store::{StoreErrorKind, memory::MemoryStore};
//! # use coffre::store::layer::{Operation, fault::{Fault, FaultStore}};
//! let store = FaultStore::new(Arc::new(MemoryStore::default()));
//! // The second pack is stored, but the answer is lost.
//! store.plan(Fault::on(Operation::Put).matching("packs/").nth(2).fail_after(StoreErrorKind::Unavailable));
//! # store.forget_plan();
//! ```

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::model::key::ObjectKey;
use crate::store::layer::Operation;
use crate::store::signs::Signs;
use crate::store::tampering::Tampered;
use crate::store::transfer::Transfer;
use crate::store::{ObjectInfo, Store, StoreError, StoreErrorKind};

/// What happens to the call that a fault is planned for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    FailBefore(StoreErrorKind),
    FailAfter(StoreErrorKind),
    Hang,
    Corrupt(usize),
    Truncate(usize),
}

/// Which calls a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Nth(usize),
    Always,
}

/// One planned fault.
#[derive(Debug, Clone)]
pub struct Fault {
    operation: Operation,
    matching: String,
    when: When,
    effect: Effect,
    retry_after: Option<Duration>,
    seen: usize,
    fired: bool,
}

impl Fault {
    /// Plans for the first call of `operation`; unless told otherwise it fails before it takes effect.
    pub fn on(operation: Operation) -> Self {
        Self {
            operation,
            matching: String::new(),
            when: When::Nth(1),
            effect: Effect::FailBefore(StoreErrorKind::Unavailable),
            retry_after: None,
            seen: 0,
            fired: false,
        }
    }

    /// Counts only calls whose key (or prefix, for a list) contains `text`.
    pub fn matching(mut self, text: impl Into<String>) -> Self {
        self.matching = text.into();
        self
    }

    /// Hits the `nth` call that matches, counted from 1.
    pub fn nth(mut self, nth: usize) -> Self {
        self.when = When::Nth(nth);
        self
    }

    /// Hits every call that matches.
    pub fn always(mut self) -> Self {
        self.when = When::Always;
        self
    }

    /// Fails the call without any effect.
    pub fn fail_before(mut self, kind: StoreErrorKind) -> Self {
        self.effect = Effect::FailBefore(kind);
        self
    }

    /// Lets the call take effect, and fails it then: the answer is lost.
    pub fn fail_after(mut self, kind: StoreErrorKind) -> Self {
        self.effect = Effect::FailAfter(kind);
        self
    }

    /// Gives the call no effect and no answer, for ever.
    pub fn hang(mut self) -> Self {
        self.effect = Effect::Hang;
        self
    }

    /// Flips a bit of the byte at `offset` of what is read (of the last byte, if there are fewer).
    pub fn corrupt(mut self, offset: usize) -> Self {
        self.effect = Effect::Corrupt(offset);
        self
    }

    /// Cuts what is read to `bytes`, and calls it a success.
    pub fn truncate(mut self, bytes: usize) -> Self {
        self.effect = Effect::Truncate(bytes);
        self
    }

    /// Makes the failure ask for that pause.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    fn error(&self, kind: StoreErrorKind, subject: &str) -> StoreError {
        StoreError::new(self.operation.name(), subject, kind, "planned fault").with_retry_after(self.retry_after)
    }
}

/// A store that fails as planned. Clones share the plan; when the last one goes, every fault must have fired.
#[derive(Clone)]
pub struct FaultStore {
    inner: Arc<dyn Store>,
    plan: Arc<FaultPlan>,
}

#[derive(Debug, Default)]
struct FaultPlan(Mutex<PlanState>);

#[derive(Debug, Default)]
struct PlanState {
    faults: Vec<Fault>,
    /// Puts and deletes that may still take effect before the store dies.
    mutations_left: Option<usize>,
    mutations: usize,
    dead: bool,
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FaultStore").field(&self.inner).finish()
    }
}

impl FaultStore {
    /// Puts an empty plan over `inner`.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, plan: Arc::default() }
    }

    /// Adds a fault. Where several hit the same call, the one planned first acts.
    pub fn plan(&self, fault: Fault) {
        self.plan.0.lock().expect("no panic while held").faults.push(fault);
    }

    /// Lets `count` more puts and deletes take effect; the next one and every call after it fail, as after a crash.
    ///
    /// The error is of kind `Other`, so that nobody tries again. A store that does not get that far is fine: a test
    /// raises `count` until [`FaultStore::died`] says that a run came through.
    pub fn die_after_mutations(&self, count: usize) {
        let mut plan = self.plan.0.lock().expect("no panic while held");
        plan.mutations_left = Some(count);
    }

    /// Tells whether the store died as planned.
    pub fn died(&self) -> bool {
        self.plan.0.lock().expect("no panic while held").dead
    }

    /// Returns how many puts and deletes took effect.
    pub fn mutations(&self) -> usize {
        self.plan.0.lock().expect("no panic while held").mutations
    }

    /// Drops the whole plan, a death included: what happens after the crash.
    pub fn forget_plan(&self) {
        let mut plan = self.plan.0.lock().expect("no panic while held");
        *plan = PlanState { mutations: plan.mutations, ..PlanState::default() };
    }

    /// Checks that every planned fault fired.
    ///
    /// # Panics
    /// When one did not: the test does not test what it says.
    pub fn assert_all_fired(&self) {
        self.plan.assert_all_fired();
    }

    /// Counts a call and returns the effect that is planned for it.
    fn begin(&self, operation: Operation, subject: &str) -> Result<Option<Fault>, StoreError> {
        let mut plan = self.plan.0.lock().expect("no panic while held");
        let dead = || StoreError::new(operation.name(), subject, StoreErrorKind::Other, "the store died as planned");
        if plan.dead {
            return Err(dead());
        }
        let mut hit = None;
        for fault in &mut plan.faults {
            if fault.operation != operation || !subject.contains(&fault.matching) {
                continue;
            }
            fault.seen += 1;
            if hit.is_none() && (fault.when == When::Always || fault.when == When::Nth(fault.seen)) {
                fault.fired = true;
                hit = Some(fault.clone());
            }
        }
        if let Some(fault) = &hit
            && let Effect::FailBefore(kind) = fault.effect
        {
            return Err(fault.error(kind, subject));
        }
        let is_hanging = hit.as_ref().is_some_and(|fault| fault.effect == Effect::Hang);
        if operation.is_mutation() && !is_hanging {
            if plan.mutations_left == Some(0) {
                plan.dead = true;
                return Err(dead());
            }
            plan.mutations_left = plan.mutations_left.map(|left| left - 1);
            plan.mutations += 1;
        }
        Ok(hit)
    }

    async fn faulty<T>(
        &self,
        operation: Operation,
        subject: &str,
        call: impl Future<Output = Result<T, StoreError>> + Send,
        damage: impl FnOnce(T, Effect) -> T + Send,
    ) -> Result<T, StoreError> {
        let hit = self.begin(operation, subject)?;
        if hit.as_ref().is_some_and(|fault| fault.effect == Effect::Hang) {
            return std::future::pending().await;
        }
        let outcome = call.await;
        match hit {
            None => outcome,
            Some(fault) => match fault.effect {
                Effect::FailAfter(kind) => outcome.and(Err(fault.error(kind, subject))),
                effect => outcome.map(|value| damage(value, effect)),
            },
        }
    }
}

impl FaultPlan {
    fn assert_all_fired(&self) {
        let state = self.0.lock().expect("no panic while held");
        let unfired: Vec<_> = state.faults.iter().filter(|fault| !fault.fired).collect();
        assert!(unfired.is_empty(), "planned faults that never fired: {unfired:#?}");
    }
}

impl Drop for FaultPlan {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.assert_all_fired();
        }
    }
}

fn damage_bytes(body: Bytes, effect: Effect) -> Bytes {
    let mut bytes = body.to_vec();
    match effect {
        Effect::Corrupt(offset) => {
            let last = bytes.len().saturating_sub(1);
            if let Some(byte) = bytes.get_mut(offset.min(last)) {
                *byte ^= 1;
            }
        }
        Effect::Truncate(length) => bytes.truncate(length),
        Effect::FailBefore(_) | Effect::FailAfter(_) | Effect::Hang => {}
    }
    bytes.into()
}

#[async_trait]
impl Store for FaultStore {
    fn location(&self) -> &str {
        self.inner.location()
    }

    async fn put_telling(&self, key: &ObjectKey, body: Bytes, transfer: &Transfer) -> Result<(), StoreError> {
        self.faulty(Operation::Put, key.as_str(), self.inner.put_telling(key, body, transfer), |done, _| done).await
    }

    async fn get_telling(&self, key: &ObjectKey, transfer: &Transfer) -> Result<Bytes, StoreError> {
        self.faulty(Operation::Get, key.as_str(), self.inner.get_telling(key, transfer), damage_bytes).await
    }

    async fn get_range_telling(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        transfer: &Transfer,
    ) -> Result<Bytes, StoreError> {
        let getting = self.inner.get_range_telling(key, range, transfer);
        self.faulty(Operation::GetRange, key.as_str(), getting, damage_bytes).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo, StoreError> {
        self.faulty(Operation::Head, key.as_str(), self.inner.head(key), |info, effect| match effect {
            Effect::Truncate(bytes) => ObjectInfo { size: info.size.min(bytes as u64), ..info },
            _ => info,
        })
        .await
    }

    /// A truncated list lacks its last objects, as a lying provider's would.
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.faulty(Operation::List, prefix, self.inner.list(prefix), |mut found, effect| {
            if let Effect::Truncate(objects) = effect {
                found.truncate(objects);
            }
            found
        })
        .await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.faulty(Operation::Delete, key.as_str(), self.inner.delete(key), |done, _| done).await
    }

    async fn look_back(&self, key: &ObjectKey) -> Result<bool, StoreError> {
        self.inner.look_back(key).await
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
    use crate::store::memory::MemoryStore;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::from_listed(name)
    }

    #[tokio::test]
    async fn faults_hit_the_call_they_are_planned_for() {
        let memory = MemoryStore::default();
        let store = FaultStore::new(Arc::new(memory.clone()));
        store.plan(Fault::on(Operation::Put).matching("packs/").nth(2).fail_after(StoreErrorKind::Unavailable));
        store.plan(Fault::on(Operation::Put).matching("packs/").nth(3).fail_before(StoreErrorKind::Full));
        store.plan(Fault::on(Operation::Get).corrupt(1));
        store.plan(Fault::on(Operation::GetRange).truncate(1));
        for name in ["packs/1", "index/1"] {
            store.put(&key(name), Bytes::from_static(b"abc")).await.expect("not planned for");
        }
        let lost = store.put(&key("packs/2"), Bytes::from_static(b"abc")).await.expect_err("answer lost");
        assert_eq!(lost.kind, StoreErrorKind::Unavailable);
        let full = store.put(&key("packs/3"), Bytes::new()).await.expect_err("full");
        assert_eq!(full.to_string(), "put packs/3: planned fault");
        assert_eq!(memory.list("packs/").await.expect("listed").len(), 2);
        assert_eq!(&store.get(&key("packs/1")).await.expect("read")[..], b"acc");
        assert_eq!(&store.get(&key("packs/1")).await.expect("read")[..], b"abc");
        assert_eq!(&store.get_range(&key("packs/1"), 0..3).await.expect("read")[..], b"a");
        store.assert_all_fired();
    }

    #[tokio::test]
    async fn a_dead_store_fails_everything_until_the_plan_is_forgotten() {
        let store = FaultStore::new(Arc::new(MemoryStore::default()));
        store.die_after_mutations(1);
        store.put(&key("a"), Bytes::new()).await.expect("the one mutation that is left");
        store.get(&key("a")).await.expect("reading does not count");
        assert!(!store.died());
        store.put(&key("b"), Bytes::new()).await.expect_err("dies");
        assert!(store.died());
        store.get(&key("a")).await.expect_err("dead");
        store.forget_plan();
        assert_eq!(store.list("").await.expect("alive").len(), 1);
        assert_eq!(store.mutations(), 1);
    }

    #[test]
    #[should_panic(expected = "never fired")]
    fn a_fault_that_never_fires_fails_the_test() {
        FaultStore::new(Arc::new(MemoryStore::default())).plan(Fault::on(Operation::Delete));
    }
}
