//! A store in the memory of this process, for tests and rehearsals.
//!
//! Handles are cheap to clone and share one map. [`MemoryStore::named`] gives the same map for the same name anywhere
//! in the process, which is what the location `memory:NAME` opens.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex, RwLock};

use async_trait::async_trait;
use bytes::Bytes;

use crate::model::key::ObjectKey;
use crate::store::signs::Signs;
use crate::store::transfer::Transfer;
use crate::store::{ObjectInfo, Store, StoreError, StoreErrorKind};

static NAMED: LazyLock<Mutex<BTreeMap<String, MemoryStore>>> = LazyLock::new(Mutex::default);

/// A store in memory; clones share the same objects.
#[derive(Clone)]
pub struct MemoryStore {
    location: Arc<str>,
    objects: Arc<RwLock<BTreeMap<String, Bytes>>>,
}

impl MemoryStore {
    /// Returns the store of that name in this process, empty if nobody asked for it before.
    pub fn named(name: &str) -> Self {
        let mut named = NAMED.lock().expect("no panic while held");
        named.entry(name.to_owned()).or_insert_with(|| Self::at(format!("memory:{name}"))).clone()
    }

    fn at(location: String) -> Self {
        Self { location: location.into(), objects: Arc::default() }
    }

    /// Returns a copy that shares no later change, as a replica restored from a copy would be.
    pub fn fork(&self) -> Self {
        let objects = self.objects.read().expect("no panic while held").clone();
        Self { location: self.location.clone(), objects: Arc::new(RwLock::new(objects)) }
    }

    /// Changes the bytes of a stored object, as damage would.
    ///
    /// # Panics
    /// When there is no such object.
    pub fn tamper(&self, key: &ObjectKey, change: impl FnOnce(&mut Vec<u8>)) {
        let mut objects = self.objects.write().expect("no panic while held");
        let body = objects.get_mut(key.as_str()).expect("the object to tamper with is there");
        let mut bytes = body.to_vec();
        change(&mut bytes);
        *body = bytes.into();
    }

    /// Returns the number of objects and their bytes in all.
    pub fn totals(&self) -> (usize, u64) {
        let objects = self.objects.read().expect("no panic while held");
        (objects.len(), objects.values().map(|body| body.len() as u64).sum())
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::at("memory:".to_owned())
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (objects, bytes) = self.totals();
        write!(f, "MemoryStore({}, {objects} objects, {bytes} bytes)", self.location)
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn location(&self) -> &str {
        &self.location
    }

    async fn put_telling(&self, key: &ObjectKey, body: Bytes, _: &Transfer) -> Result<(), StoreError> {
        self.objects.write().expect("no panic while held").insert(key.as_str().to_owned(), body);
        Ok(())
    }

    async fn get_telling(&self, key: &ObjectKey, _: &Transfer) -> Result<Bytes, StoreError> {
        let objects = self.objects.read().expect("no panic while held");
        let body = objects.get(key.as_str()).ok_or_else(|| StoreError::not_found("get", key))?;
        StoreError::check_length(key, body.len() as u64)?;
        Ok(body.clone())
    }

    async fn get_range_telling(&self, key: &ObjectKey, range: Range<u64>, _: &Transfer) -> Result<Bytes, StoreError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let body = {
            let objects = self.objects.read().expect("no panic while held");
            objects.get(key.as_str()).cloned().ok_or_else(|| StoreError::not_found("get", key))?
        };
        match (usize::try_from(range.start), usize::try_from(range.end)) {
            (Ok(start), Ok(end)) if end <= body.len() => Ok(body.slice(start..end)),
            _ => Err(StoreError::new(
                "get",
                key,
                StoreErrorKind::Truncated,
                format!("bytes {}..{} were asked for, the object has {}", range.start, range.end, body.len()),
            )),
        }
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo, StoreError> {
        let objects = self.objects.read().expect("no panic while held");
        let body = objects.get(key.as_str()).ok_or_else(|| StoreError::not_found("head", key))?;
        Ok(ObjectInfo { key: key.clone(), size: body.len() as u64 })
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let objects = self.objects.read().expect("no panic while held");
        Ok(objects
            .range(prefix.to_owned()..)
            .take_while(|(name, _)| name.starts_with(prefix))
            .map(|(name, body)| ObjectInfo { key: ObjectKey::from_listed(name.as_str()), size: body.len() as u64 })
            .collect())
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.objects.write().expect("no panic while held").remove(key.as_str());
        Ok(())
    }

    fn signs(&self) -> Signs {
        Signs::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_name_is_one_store_and_a_fork_is_another() {
        let key = ObjectKey::from_listed("a");
        let store = MemoryStore::named("one-name-is-one-store");
        store.put(&key, Bytes::from_static(b"x")).await.expect("memory takes anything");
        let fork = store.fork();
        store.tamper(&key, |bytes| bytes[0] ^= 1);
        assert_eq!(&MemoryStore::named("one-name-is-one-store").get(&key).await.expect("stored")[..], b"y");
        assert_eq!(&fork.get(&key).await.expect("stored before the fork")[..], b"x");
        assert_eq!(MemoryStore::named("another").totals(), (0, 0));
    }
}
