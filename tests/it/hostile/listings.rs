//! Listings that state other lengths than the objects have: what is read is what comes, and what is relied on is what both say. And
//! listings that never end.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::ops::verify::ReadData;
use coffre::progress::Collected;
use coffre::store::location::Location;
use coffre::store::s3::S3Options;
use coffre::store::s3::credentials::S3Credentials;
use coffre::store::signs::Signs;
use coffre::store::transfer::Transfer;
use coffre::store::{ObjectInfo, OpenOptions, Store, StoreError};
use s3s::access::{S3Access, S3AccessContext};
use s3s::dto::*;
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use tokio::task::JoinHandle;

use crate::support::s3_server::{BUCKET, OWNER, serve};
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

/// What stands on the pages of a bucket that lists without end.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Page {
    Nothing,
    /// Names that were not asked for.
    Strangers,
    /// Versions of one object.
    Versions,
    /// An error that says more and more.
    Words,
}

/// A bucket whose listings always say that there is more, in another place each time.
struct Endless {
    page: Page,
    asked: Arc<AtomicU64>,
}

impl Endless {
    fn next(&self) -> S3Result<u64> {
        let next = self.asked.fetch_add(1, Ordering::Relaxed);
        match self.page {
            Page::Words => Err(S3Error::with_message(S3ErrorCode::InternalError, "more ".repeat(4 << 20))),
            _ => Ok(next),
        }
    }
}

#[async_trait]
impl S3 for Endless {
    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let next = self.next()?;
        let stranger = Object { key: Some(format!("x{next}")), size: Some(1), ..Default::default() };
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(request.input.bucket),
            contents: Some(if self.page == Page::Nothing { Vec::new() } else { vec![stranger] }),
            is_truncated: Some(true),
            next_continuation_token: Some(next.to_string()),
            ..Default::default()
        }))
    }

    async fn list_object_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let next = self.next()?;
        let key = request.input.prefix.unwrap_or_default();
        let of_key = |nth: u64| ObjectVersion {
            key: Some(if self.page == Page::Versions { key.clone() } else { "x".to_owned() }),
            version_id: Some((next * 1000 + nth).to_string()),
            size: Some(1),
            ..Default::default()
        };
        let count = match self.page {
            Page::Nothing | Page::Words => 0,
            Page::Strangers => 1,
            Page::Versions => 1000,
        };
        Ok(S3Response::new(ListObjectVersionsOutput {
            name: Some(request.input.bucket),
            versions: Some((0..count).map(of_key).collect()),
            is_truncated: Some(true),
            next_key_marker: Some(next.to_string()),
            next_version_id_marker: Some(next.to_string()),
            ..Default::default()
        }))
    }

    async fn delete_object(&self, _: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        Ok(S3Response::new(DeleteObjectOutput { delete_marker: Some(true), ..Default::default() }))
    }
}

struct Everybody;

#[async_trait]
impl S3Access for Everybody {
    async fn check(&self, _: &mut S3AccessContext<'_>) -> S3Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_without_end_is_given_up() {
    for (page, told) in [
        (Page::Nothing, "listed nothing"),
        (Page::Strangers, "listed nothing"),
        (Page::Words, "the answer goes on behind 16 MiB"),
    ] {
        let (store, asked, _server) = endless(page).await;
        let error = store.list("packs/").await.expect_err("it has no end");
        assert!(error.to_string().contains(told), "{page:?}: {error}");
        assert!(asked.load(Ordering::Relaxed) < 2100, "{page:?}");
    }
    let (store, asked, _server) = endless(Page::Versions).await;
    let error = store.delete(&ObjectKey::from_listed("packs/00/a")).await.expect_err("it has no end");
    assert!(error.to_string().contains("more than can be held"), "{error}");
    assert!(asked.load(Ordering::Relaxed) < 100);
}

/// Returns a store in a bucket that lists without end, and how often that was asked for it.
async fn endless(page: Page) -> (Arc<dyn Store>, Arc<AtomicU64>, AbortOnDrop) {
    let asked = Arc::<AtomicU64>::default();
    let (address, task) = serve(Endless { page, asked: asked.clone() }, Everybody).await;
    let location: Location = format!("s3+http://{address}/{BUCKET}/p").parse().expect("a location");
    let (access_key_id, secret) = OWNER;
    let credentials = S3Credentials {
        access_key_id: access_key_id.to_owned(),
        secret_access_key: secret.to_owned().into(),
        session_token: None,
    };
    let s3 = S3Options { credentials: Some(credentials), ..S3Options::default() };
    let options = OpenOptions { s3, ..OpenOptions::default() };
    let store = coffre::store::open(&location, &options, Arc::new(Collected::default())).expect("opened");
    (store, asked, AbortOnDrop(task))
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
