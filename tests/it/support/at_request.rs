//! A store that does something right before a request, once.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use coffre::model::key::ObjectKey;
use coffre::store::layer::Operation;
use coffre::store::signs::Signs;
use coffre::store::transfer::Transfer;
use coffre::store::{ObjectInfo, Store, StoreError};

type Act = Box<dyn FnOnce() + Send>;

/// Acts before the first listing, or get, of what is below a prefix.
pub struct AtRequest {
    inner: Arc<dyn Store>,
    operation: Operation,
    prefix: &'static str,
    act: Mutex<Option<Act>>,
}

impl std::fmt::Debug for AtRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AtRequest({:?} {})", self.operation, self.prefix)
    }
}

impl AtRequest {
    pub fn new(
        inner: Arc<dyn Store>,
        operation: Operation,
        prefix: &'static str,
        act: impl FnOnce() + Send + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { inner, operation, prefix, act: Mutex::new(Some(Box::new(act))) })
    }

    /// Tells whether it has acted.
    pub fn has_acted(&self) -> bool {
        self.act.lock().expect("no panic while held").is_none()
    }

    fn asked(&self, operation: Operation, name: &str) {
        if operation == self.operation && name.starts_with(self.prefix) {
            let act = self.act.lock().expect("no panic while held").take();
            act.into_iter().for_each(|act| act());
        }
    }
}

#[async_trait]
impl Store for AtRequest {
    fn location(&self) -> &str {
        self.inner.location()
    }

    async fn put_telling(&self, key: &ObjectKey, body: Bytes, told: &Transfer) -> Result<(), StoreError> {
        self.inner.put_telling(key, body, told).await
    }

    async fn get_telling(&self, key: &ObjectKey, told: &Transfer) -> Result<Bytes, StoreError> {
        self.asked(Operation::Get, key.as_str());
        self.inner.get_telling(key, told).await
    }

    async fn get_range_telling(
        &self,
        key: &ObjectKey,
        range: Range<u64>,
        told: &Transfer,
    ) -> Result<Bytes, StoreError> {
        self.inner.get_range_telling(key, range, told).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo, StoreError> {
        self.inner.head(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.asked(Operation::List, prefix);
        self.inner.list(prefix).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.asked(Operation::Delete, key.as_str());
        self.inner.delete(key).await
    }

    fn signs(&self) -> Signs {
        self.inner.signs()
    }
}

/// Returns something that runs `act` to its end, in a thread of its own, whatever asks for it.
pub fn in_full(act: impl Future<Output = ()> + Send + 'static) -> impl FnOnce() + Send + 'static {
    let handle = tokio::runtime::Handle::current();
    move || std::thread::spawn(move || handle.block_on(act)).join().expect("no panic")
}
