//! Buckets that keep versions: an object is what was first stored under its name, whatever somebody does who may put and delete but not
//! remove versions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Config, Credentials, Region, RequestChecksumCalculation};
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use coffre::crypto::digest::sha256_of;
use coffre::model::cleanup::{CleanupList, RemovedSnapshot};
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::ops::verify::{Damage, ReadData, VerifyReport};
use coffre::repository::Tampering;
use coffre::store::layer::record::RecordStore;
use coffre::store::{Store, StoreErrorKind};

use crate::cleanups::put_list_of;
use crate::support::bucket::{fresh, open as open_store};
use crate::support::ceph::{self, ceph};
use crate::support::s3_server::OWNER;
use crate::support::versioned_server::VersionedServer;
use crate::support::{Bench, contents, files_in, init, open, options, random_bytes, read_back, run_backup, run_verify};

/// A bucket that keeps versions, or will, and what somebody with a key to it does.
enum Bucket {
    InProcess(VersionedServer),
    Ceph { client: Client, name: String, location: String },
}

/// What somebody does to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// Puts as many other bytes in its place.
    Rubbish,
    /// Puts fewer.
    Short,
    Delete,
    DeleteAfterRubbish,
}

impl Bucket {
    async fn in_process() -> Self {
        Bucket::InProcess(VersionedServer::start(false, 7).await)
    }

    async fn at_ceph() -> Option<Self> {
        let gateway = ceph()?;
        let name = fresh().replace("contract/", "versions-");
        let location = gateway.http(&name, "prefix");
        let endpoint = location.trim_start_matches("s3+").split(&format!("/{name}")).next().expect("a host").to_owned();
        let config = Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .endpoint_url(endpoint)
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new(ceph::OWNER.0, ceph::OWNER.1, None, None, "test"))
            .force_path_style(true)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .build();
        let client = Client::from_conf(config);
        client.create_bucket().bucket(&name).send().await.expect("made");
        Some(Bucket::Ceph { client, name, location })
    }

    /// A store that has seen nothing of it yet.
    fn store(&self) -> Arc<dyn Store> {
        match self {
            Bucket::InProcess(server) => open_store(&server.location("prefix"), OWNER, None),
            Bucket::Ceph { location, .. } => open_store(location, ceph::OWNER, None),
        }
    }

    async fn keep_versions(&self) {
        match self {
            Bucket::InProcess(server) => server.bucket.keep_versions(),
            Bucket::Ceph { client, name, .. } => {
                let enabled = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
                let request = client.put_bucket_versioning().bucket(name).versioning_configuration(enabled);
                request.send().await.expect("versions are kept");
            }
        }
    }

    async fn put(&self, key: &ObjectKey, body: Vec<u8>) {
        let key = format!("prefix/{key}");
        match self {
            Bucket::InProcess(server) => drop(server.bucket.put(&key, body)),
            Bucket::Ceph { client, name, .. } => {
                client.put_object().bucket(name).key(key).body(body.into()).send().await.expect("put");
            }
        }
    }

    async fn delete(&self, key: &ObjectKey) {
        let key = format!("prefix/{key}");
        match self {
            Bucket::InProcess(server) => server.bucket.delete(&key),
            Bucket::Ceph { client, name, .. } => {
                client.delete_object().bucket(name).key(key).send().await.expect("hidden");
            }
        }
    }

    async fn does(&self, deed: Deed, key: &ObjectKey, size: u64) {
        let size = usize::try_from(size).expect("small");
        match deed {
            Deed::Rubbish => self.put(key, random_bytes(9, size)).await,
            Deed::Short => self.put(key, random_bytes(9, size / 2)).await,
            Deed::Delete => self.delete(key).await,
            Deed::DeleteAfterRubbish => {
                self.put(key, random_bytes(9, size)).await;
                self.delete(key).await;
            }
        }
    }

    /// Removes what was done to an object, as its owner would.
    async fn undo(&self, key: &ObjectKey) {
        let key = format!("prefix/{key}");
        match self {
            Bucket::InProcess(server) => server.bucket.keep_first(&key),
            Bucket::Ceph { client, name, .. } => {
                let listed = client.list_object_versions().bucket(name).prefix(&key).send().await.expect("listed");
                let later = listed.versions().iter().rev().skip(1).filter_map(|version| version.version_id());
                let markers = listed.delete_markers().iter().filter_map(|marker| marker.version_id());
                for id in later.chain(markers) {
                    client.delete_object().bucket(name).key(&key).version_id(id).send().await.expect("removed");
                }
            }
        }
    }
}

/// What verifying found to be changed, by object; nothing else may be wrong.
fn changed(report: &VerifyReport) -> BTreeMap<String, Tampering> {
    let findings = report.findings.iter().map(|finding| match &finding.damage {
        Damage::Tampered(change) => (finding.object.to_string(), *change),
        other => panic!("{}: {other}", finding.object),
    });
    findings.collect()
}

/// Everything that a repository has is overwritten and deleted, in every way, and nobody who reads or writes notices but whoever
/// verifies. With `late`, versions are kept only from the moment on before that.
async fn nothing_is_changed_by_whoever_may_not_remove_versions(bucket: Bucket, late: bool) {
    if !late {
        bucket.keep_versions().await;
    }
    let (source, cache) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
    let store = bucket.store();
    init(store.clone(), cache.path()).await;
    for i in 0..3 {
        std::fs::write(source.path().join(format!("file{i}")), random_bytes(i, 600_000)).expect("written");
        run_backup(store.clone(), cache.path(), options(source.path())).await.expect("backed up");
    }
    let repository = open(store.clone(), cache.path()).await.expect("opens");
    put_list_of(&repository, &*store, 1, CleanupList::default()).await;
    let newly = || tempfile::tempdir().expect("made");
    assert!(run_verify(store.clone(), newly().path(), ReadData::All).await.findings.is_empty());
    bucket.keep_versions().await;

    for (round, deed) in [Deed::Rubbish, Deed::Short, Deed::Delete, Deed::DeleteAfterRubbish].into_iter().enumerate() {
        let objects = bucket.store().list("").await.expect("listed");
        let kinds: BTreeSet<ObjectKind> = objects.iter().filter_map(|object| object.key.kind()).collect();
        let is_left_out = |kind| matches!(kind, ObjectKind::Session | ObjectKind::Retention | ObjectKind::Evidence);
        for kind in ObjectKind::ALL.into_iter().filter(|kind| !is_left_out(*kind)) {
            assert!(kinds.contains(&kind), "{kind:?}");
        }
        for object in &objects {
            bucket.does(deed, &object.key, object.size).await;
        }
        assert_eq!(bucket.store().list("").await.expect("listed"), objects, "{deed:?}");

        // On a machine that has nothing, everything is as it was.
        let repository = open(bucket.store(), newly().path()).await.expect("opens");
        let snapshots = repository.snapshots().await.expect("listed");
        let latest = snapshots.last().expect("several").1.as_ref().expect("whole").clone();
        assert_eq!(snapshots.len(), 3 + round, "{deed:?}");
        let entries = read_back(bucket.store(), newly().path(), &latest).await.expect("read");
        assert!(contents(source.path(), &entries) == files_in(source.path()), "{deed:?}");

        // Whoever verifies is told of every object, and of nothing else.
        let report = run_verify(bucket.store(), newly().path(), ReadData::All).await;
        let hidden = matches!(deed, Deed::Delete | Deed::DeleteAfterRubbish);
        let change = if hidden { Tampering::Hidden } else { Tampering::Overwritten };
        let expected = objects.iter().map(|object| (object.key.to_string(), change)).collect();
        assert_eq!(changed(&report), expected, "{deed:?}");

        // A host that backed up before stores nothing again.
        std::fs::write(source.path().join(format!("round{round}")), "a little\n").expect("written");
        let report = run_backup(bucket.store(), cache.path(), options(source.path())).await.expect("backed up");
        assert!(report.counts.new_bytes < 20_000, "{deed:?}: {} bytes", report.counts.new_bytes);

        for object in &objects {
            bucket.undo(&object.key).await;
        }
        let report = run_verify(bucket.store(), newly().path(), ReadData::All).await;
        assert!(report.findings.is_empty(), "{deed:?}: {:?}", report.findings);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_changed_in_process() {
    nothing_is_changed_by_whoever_may_not_remove_versions(Bucket::in_process().await, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_changed_in_process_where_versions_are_kept_since_later() {
    nothing_is_changed_by_whoever_may_not_remove_versions(Bucket::in_process().await, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_changed_at_ceph() {
    let Some(bucket) = Bucket::at_ceph().await else { return };
    nothing_is_changed_by_whoever_may_not_remove_versions(bucket, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_changed_at_ceph_where_versions_are_kept_since_later() {
    let Some(bucket) = Bucket::at_ceph().await else { return };
    nothing_is_changed_by_whoever_may_not_remove_versions(bucket, true).await;
}

/// The requests that a server was asked for, as the operations that a store has.
fn as_operations(asked: &BTreeMap<String, usize>) -> String {
    let count = |names: &[&str]| names.iter().filter_map(|name| asked.get(*name)).sum::<usize>();
    let gets = count(&["GetObject"]);
    let (lists, heads) = (count(&["ListObjectsV2", "ListObjectVersions"]), count(&["HeadObject"]));
    format!(
        "{} put, {gets} get, {heads} head, {lists} list, {} delete",
        count(&["PutObject"]),
        count(&["DeleteObject"])
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_costs_one_request_for_each_call_whether_it_keeps_versions_or_not() {
    for keeps in [false, true] {
        let server = VersionedServer::start(keeps, 1000).await;
        let (source, cache) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
        std::fs::write(source.path().join("file"), random_bytes(1, 600_000)).expect("written");
        let recorded = || Arc::new(RecordStore::new(open_store(&server.location("prefix"), OWNER, None)));
        let check = |store: &RecordStore, what: &str| {
            use coffre::store::layer::Operation::*;
            let (gets, puts) = (store.count(Get) + store.count(GetRange), store.count(Put));
            let (heads, lists, deletes) = (store.count(Head), store.count(List), store.count(Delete));
            let called = format!("{puts} put, {gets} get, {heads} head, {lists} list, {deletes} delete");
            assert_eq!(as_operations(&server.bucket.take_asked()), called, "{what}, versions: {keeps}");
        };
        let store = recorded();
        init(store.clone(), cache.path()).await;
        check(&store, "init");
        for _ in 0..2 {
            let store = recorded();
            run_backup(store.clone(), cache.path(), options(source.path())).await.expect("backed up");
            check(&store, "backup");
        }
        let store = recorded();
        let bare = tempfile::tempdir().expect("made");
        let repository = open(store.clone(), bare.path()).await.expect("opens");
        let latest = repository.snapshots().await.expect("listed").pop().expect("there is one").1.expect("whole");
        read_back(store.clone(), bare.path(), &latest).await.expect("read");
        check(&store, "restore");
        let store = recorded();
        assert!(run_verify(store.clone(), bare.path(), ReadData::All).await.findings.is_empty());
        check(&store, "verify");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_list_versions_asks_once_and_is_told_when_verifying() {
    for keeps in [false, true] {
        let server = VersionedServer::start(keeps, 1000).await;
        server.bucket.refuse("ListObjectVersions");
        let (source, cache) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
        std::fs::write(source.path().join("file"), random_bytes(1, 600_000)).expect("written");
        let store = || open_store(&server.location("prefix"), OWNER, None);
        init(store(), cache.path()).await;
        run_backup(store(), cache.path(), options(source.path())).await.expect("backed up");
        server.bucket.take_asked();
        let report = run_verify(store(), cache.path(), ReadData::All).await;
        assert_eq!(report.findings, []);
        assert_eq!(server.bucket.take_asked()["ListObjectVersions"], 1);
        assert_eq!(report.notes.iter().any(|note| note.contains("may not list")), keeps, "{:?}", report.notes);

        // There, what was overwritten is damage like any other.
        let name = server.bucket.names().into_iter().find(|name| name.contains("/packs/")).expect("there is one");
        server.bucket.put(&name, "rubbish");
        let report = run_verify(store(), cache.path(), ReadData::All).await;
        let is_changed = |damage: &Damage| matches!(damage, Damage::Tampered(_));
        assert!(report.findings.iter().any(|finding| !is_changed(&finding.damage)), "{:?}", report.findings);
    }
}

#[tokio::test]
async fn what_may_be_listed_and_not_read_is_refused_and_no_damage() {
    let server = VersionedServer::start(true, 1000).await;
    let (store, key) = (open_store(&server.location("prefix"), OWNER, None), ObjectKey::from_listed("index/a"));
    store.put(&key, "first".into()).await.expect("put");
    server.bucket.put("prefix/index/a", "other");
    server.bucket.refuse("GetObjectVersion");
    assert_eq!(store.list("index/").await.expect("listed").len(), 1);
    assert_eq!(store.get(&key).await.expect_err("refused").kind, StoreErrorKind::Denied);
}

#[tokio::test]
async fn deleting_removes_all_versions_or_says_that_it_did_not() {
    let server = VersionedServer::start(true, 2).await;
    let store = open_store(&server.location("prefix"), OWNER, None);
    let key = |name: &str| ObjectKey::from_listed(name);
    let versions = |name: &str| server.bucket.versions(&format!("prefix/{name}")).len();
    let plant = async |name: &str| {
        store.put(&key(name), "first".into()).await.expect("put");
        for body in ["second", "third", "fourth"] {
            server.bucket.put(&format!("prefix/{name}"), body);
        }
        server.bucket.delete(&format!("prefix/{name}"));
        // Its name begins like the other's.
        store.put(&key(&format!("{name}b")), "beside".into()).await.expect("put");
    };
    // Whether versions are kept is not known before the first answer.
    for store in [&store, &open_store(&server.location("prefix"), OWNER, None)] {
        plant("packs/00/a").await;
        store.delete(&key("packs/00/a")).await.expect("removed");
        assert_eq!((versions("packs/00/a"), versions("packs/00/ab")), (0, 1));
        assert_eq!(store.tampered().changed, []);
        store.delete(&key("packs/00/ab")).await.expect("removed");
    }
    // The latest of a lease is what counts, and whoever may put may end it.
    for body in ["begun", "renewed"] {
        store.put(&key("sessions/a"), body.into()).await.expect("put");
        assert_eq!(store.get(&key("sessions/a")).await.expect("read"), body);
    }
    store.delete(&key("sessions/a")).await.expect("ended");
    assert_eq!(versions("sessions/a"), 3);
    for prefix in ["", "sessions/"] {
        assert_eq!(store.list(prefix).await.expect("listed"), [], "{prefix}");
    }
    assert_eq!(store.get(&key("sessions/a")).await.expect_err("ended").kind, StoreErrorKind::NotFound);

    // Where versions may not be removed, nothing is.
    plant("packs/00/a").await;
    server.bucket.refuse("DeleteObjectVersion");
    assert_eq!(store.delete(&key("packs/00/a")).await.expect_err("refused").kind, StoreErrorKind::Denied);
    assert_eq!(store.get(&key("packs/00/a")).await.expect("read"), "first");
    server.bucket.refuse("ListObjectVersions");
    let store = open_store(&server.location("prefix"), OWNER, None);
    let error = store.delete(&key("packs/00/a")).await.expect_err("left");
    assert!(error.kind == StoreErrorKind::Denied && error.message.contains("versions are left"), "{error}");
}

#[tokio::test]
async fn the_first_of_two_puts_counts_and_the_same_bytes_twice_are_no_change() {
    let server = VersionedServer::start(true, 1000).await;
    let store = open_store(&server.location("prefix"), OWNER, None);
    let key = |name: &str| ObjectKey::from_listed(name);
    for (name, bodies) in [("packs/00/a", ["same", "same"]), ("packs/00/b", ["one", "other"])] {
        for body in bodies {
            store.put(&key(name), body.into()).await.expect("put");
        }
    }
    assert_eq!(store.list("packs/").await.expect("listed").len(), 2);
    assert_eq!(store.tampered().changed, [(key("packs/00/b"), Tampering::Overwritten)]);
    assert_eq!(store.get(&key("packs/00/b")).await.expect("read"), "one");
    assert_eq!(store.head(&key("packs/00/b")).await.expect("there").size, 3);
    // A store that has listed nothing gives what comes first, until that turns out to be wrong.
    let store = open_store(&server.location("prefix"), OWNER, None);
    assert_eq!(store.get(&key("packs/00/b")).await.expect("read"), "other");
    assert!(store.look_back(&key("packs/00/b")).await.expect("asked"));
    assert!(!store.look_back(&key("packs/00/b")).await.expect("asked"), "it is known");
    assert_eq!(store.get_range(&key("packs/00/b"), 1..3).await.expect("read"), "ne");
    // Whose put was answered with a failure believes that it is stored only if it is the first.
    for (name, is_stored) in [("packs/00/c", true), ("packs/00/b", false)] {
        server.bucket.fail_after_next_put();
        server.bucket.take_asked();
        store.put(&key(name), "mine".into()).await.expect("put");
        let puts = server.bucket.take_asked()["PutObject"];
        assert_eq!(puts, if is_stored { 1 } else { 2 }, "{name}");
    }
}

/// What a clean-up removed may be hidden: where versions are locked, more cannot be done.
#[tokio::test(flavor = "multi_thread")]
async fn what_counts_as_gone_may_be_hidden() {
    let (server, bench) = (VersionedServer::start(true, 1000).await, Bench::new().await);
    let store = open_store(&server.location("prefix"), OWNER, None);
    init(store.clone(), bench.cache.path()).await;
    let backup = async || run_backup(store.clone(), bench.cache.path(), options(bench.source.path())).await;
    let first = backup().await.expect("backed up").snapshot.expect("made");
    backup().await.expect("backed up");
    let key = ObjectKey::snapshot(first.id);
    server.bucket.delete(&format!("prefix/{key}"));
    let verified = async || run_verify(store.clone(), bench.cache.path(), ReadData::No).await;
    assert_eq!(changed(&verified().await), [(key.to_string(), Tampering::Hidden)].into());
    let repository = open(store.clone(), bench.cache.path()).await.expect("opens");
    let digest = sha256_of(&store.get(&key).await.expect("as it was"));
    let removed = vec![RemovedSnapshot { id: first.id, digest, before: None }];
    put_list_of(&repository, &*store, 1, CleanupList { removed, ..CleanupList::default() }).await;
    assert_eq!(verified().await.findings, []);
    let repository = open(store.clone(), bench.cache.path()).await.expect("opens");
    assert_eq!(repository.snapshots().await.expect("listed").len(), 1);
}
