//! Listings that state other lengths than the objects have: what is read is what comes, and what is relied on is what both say.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::ops::verify::ReadData;
use coffre::store::signs::Signs;
use coffre::store::transfer::Transfer;
use coffre::store::{ObjectInfo, Store, StoreError};

use crate::support::{Bench, contents, files_in, options, read_back, run_backup, run_verify};

/// A store whose listings lie about the lengths of one kind of object.
#[derive(Debug)]
struct Lying {
    store: Arc<dyn Store>,
    kind: ObjectKind,
    lie: fn(u64) -> u64,
}

#[async_trait]
impl Store for Lying {
    fn location(&self) -> &str {
        self.store.location()
    }

    async fn put_telling(&self, key: &ObjectKey, body: Bytes, _: &Transfer) -> Result<(), StoreError> {
        self.store.put(key, body).await
    }

    async fn get_telling(&self, key: &ObjectKey, _: &Transfer) -> Result<Bytes, StoreError> {
        self.store.get(key).await
    }

    async fn get_range_telling(&self, key: &ObjectKey, range: Range<u64>, _: &Transfer) -> Result<Bytes, StoreError> {
        self.store.get_range(key, range).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo, StoreError> {
        self.store.head(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let mut listed = self.store.list(prefix).await?;
        let of_kind = listed.iter_mut().filter(|object| object.key.kind() == Some(self.kind));
        of_kind.for_each(|object| object.size = (self.lie)(object.size));
        Ok(listed)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.store.delete(key).await
    }

    fn signs(&self) -> Signs {
        Signs::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_states_other_lengths_costs_and_hinders_nothing() {
    let lies: [fn(u64) -> u64; 4] = [|size| size + 1, |size| size - 1, |_| 0, |_| u64::MAX];
    for kind in [ObjectKind::Config, ObjectKind::Keyring, ObjectKind::Pack, ObjectKind::Index, ObjectKind::Snapshot] {
        for (nth, lie) in lies.into_iter().enumerate() {
            let case = format!("{kind:?}, lie {nth}");
            let bench = Bench::new().await;
            let snapshot = bench.snapshot().await.0;
            let lying: Arc<dyn Store> = Arc::new(Lying { store: bench.store(), kind, lie });
            let cache = tempfile::tempdir().expect("made");
            let read = read_back(lying.clone(), cache.path(), &snapshot).await.expect(&case);
            assert_eq!(contents(bench.source.path(), &read), files_in(bench.source.path()), "{case}");
            let cache = tempfile::tempdir().expect("made");
            let report = run_backup(lying.clone(), cache.path(), options(bench.source.path())).await.expect(&case);
            // A pack of another length is none to rely on.
            assert_eq!(report.counts.new_bytes > 0, kind == ObjectKind::Pack, "{case}");
            // What was read whole and is right is not called damaged for what a listing says of it.
            let found = run_verify(lying, cache.path(), ReadData::All).await.findings;
            assert_eq!(found, [], "{case}");
        }
    }
}
