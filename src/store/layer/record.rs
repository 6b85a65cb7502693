//! Writes down every call, so that a test can say what an operation may cost: "1 list, 3 put".

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;

use crate::model::key::ObjectKey;
use crate::store::layer::Operation;
use crate::store::signs::Signs;
use crate::store::tampering::Tampered;
use crate::store::transfer::Transfer;
use crate::store::{ObjectInfo, Store, StoreError, StoreErrorKind};

/// One call and how it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What was called.
    pub operation: Operation,
    /// The key, or the prefix of a list.
    pub subject: String,
    /// Bytes of the body that went out or came in.
    pub bytes: u64,
    /// The kind of error, if it failed.
    pub error: Option<StoreErrorKind>,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.operation.name(), self.subject, self.bytes)?;
        self.error.map_or(Ok(()), |kind| write!(f, " {kind:?}"))
    }
}

/// A store that remembers its calls. Clones share the record.
#[derive(Debug, Clone)]
pub struct RecordStore {
    inner: Arc<dyn Store>,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl RecordStore {
    /// Puts a record over `inner`.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, calls: Arc::default() }
    }

    /// Returns the calls so far, in the order in which they ended.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().expect("no panic while held").clone()
    }

    /// Forgets the calls so far and returns them.
    pub fn take(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock().expect("no panic while held"))
    }

    /// Returns how often `operation` was called.
    pub fn count(&self, operation: Operation) -> usize {
        self.calls.lock().expect("no panic while held").iter().filter(|call| call.operation == operation).count()
    }

    /// Returns the bytes that `operation` moved.
    pub fn bytes(&self, operation: Operation) -> u64 {
        let calls = self.calls.lock().expect("no panic while held");
        calls.iter().filter(|call| call.operation == operation).map(|call| call.bytes).sum()
    }

    /// Returns the counts in one line, `3 put, 1 list`; operations that were not called are left out.
    pub fn summary(&self) -> String {
        let mut counts = BTreeMap::<Operation, usize>::new();
        for call in self.calls.lock().expect("no panic while held").iter() {
            *counts.entry(call.operation).or_default() += 1;
        }
        let counts: Vec<_> = counts.iter().map(|(operation, count)| format!("{count} {}", operation.name())).collect();
        if counts.is_empty() { "nothing".to_owned() } else { counts.join(", ") }
    }

    fn note<T>(
        &self,
        operation: Operation,
        subject: &str,
        outcome: &Result<T, StoreError>,
        bytes: impl FnOnce(&T) -> u64,
    ) {
        let (bytes, error) = match outcome {
            Ok(value) => (bytes(value), None),
            Err(error) => (0, Some(error.kind)),
        };
        let call = Call { operation, subject: subject.to_owned(), bytes, error };
        self.calls.lock().expect("no panic while held").push(call);
    }
}

#[async_trait]
impl Store for RecordStore {
    fn location(&self) -> &str {
        self.inner.location()
    }

    async fn put_telling(&self, key: &ObjectKey, body: Bytes, transfer: &Transfer) -> Result<(), StoreError> {
        let bytes = body.len() as u64;
        let outcome = self.inner.put_telling(key, body, transfer).await;
        self.note(Operation::Put, key.as_str(), &outcome, |()| bytes);
        outcome
    }

    async fn get_telling(&self, key: &ObjectKey, transfer: &Transfer) -> Result<Bytes, StoreError> {
        let outcome = self.inner.get_telling(key, transfer).await;
        self.note(Operation::Get, key.as_str(), &outcome, |body| body.len() as u64);
        outcome
    }

    async fn get_range_telling(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        transfer: &Transfer,
    ) -> Result<Bytes, StoreError> {
        let outcome = self.inner.get_range_telling(key, range, transfer).await;
        self.note(Operation::GetRange, key.as_str(), &outcome, |body| body.len() as u64);
        outcome
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo, StoreError> {
        let outcome = self.inner.head(key).await;
        self.note(Operation::Head, key.as_str(), &outcome, |_| 0);
        outcome
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let outcome = self.inner.list(prefix).await;
        self.note(Operation::List, prefix, &outcome, |_| 0);
        outcome
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let outcome = self.inner.delete(key).await;
        self.note(Operation::Delete, key.as_str(), &outcome, |()| 0);
        outcome
    }

    /// What it costs at a bucket is seen there: most stores do nothing for it.
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

    #[tokio::test]
    async fn calls_are_counted_with_their_bytes_and_failures() {
        let store = RecordStore::new(Arc::new(MemoryStore::default()));
        assert_eq!(store.summary(), "nothing");
        let key = ObjectKey::from_listed("a");
        store.put(&key, Bytes::from_static(b"hello")).await.expect("stored");
        store.get_range(&key, 1..3).await.expect("there");
        store.get(&ObjectKey::from_listed("b")).await.expect_err("not there");
        store.list("").await.expect("listed");
        assert_eq!(store.summary(), "1 put, 1 get, 1 get_range, 1 list");
        assert_eq!((store.bytes(Operation::Put), store.bytes(Operation::GetRange)), (5, 2));
        let log: Vec<_> = store.take().iter().map(Call::to_string).collect();
        assert_eq!(log, ["put a 5", "get_range a 2", "get b 0 NotFound", "list  0"]);
        assert_eq!(store.count(Operation::Put), 0);
    }
}
