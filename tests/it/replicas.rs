//! Several replicas as one repository: what one lost comes from another, and nothing counts as stored that one lacks.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use coffre::format::keyring::Keyring;
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::snapshot::Snapshot;
use coffre::ops::Cancel;
use coffre::ops::backup::{BackupError, backup};
use coffre::ops::verify::{ReadData, VerifyOptions, verify};
use coffre::progress::{Collected, Monitor};
use coffre::repository::index::Index;
use coffre::repository::replicas::{NoneRequired, Replica, Replicas};
use coffre::repository::{OpenError, Repository};
use coffre::store::layer::Operation;
use coffre::store::layer::fault::{Fault, FaultStore};
use coffre::store::memory::MemoryStore;
use coffre::store::{Store, StoreErrorKind};

use crate::support::{Bench, contents, options, passphrase, random_bytes, read_all};

fn required(name: &str, store: impl Store + 'static) -> Replica {
    Replica::required(name, Arc::new(store))
}

fn lagging(name: &str, store: impl Store + 'static) -> Replica {
    Replica::lagging(name, Arc::new(store))
}

async fn open(replicas: Vec<Replica>, cache: &Path) -> Result<Arc<Repository>, OpenError> {
    let replicas = Replicas::new(replicas).expect("one is required");
    Repository::open(replicas, &passphrase(), cache).await.map(Arc::new)
}

async fn back_up(replicas: Vec<Replica>, bench: &Bench) -> Result<Snapshot, BackupError> {
    let repository = open(replicas, bench.cache.path()).await.expect("opens");
    let monitor = Arc::new(Collected::default());
    let report = backup(repository, options(bench.source.path()), monitor, Cancel::default()).await?;
    Ok(report.snapshot.expect("not a dry run"))
}

/// Reads a snapshot's files with an empty cache.
async fn read(replicas: Vec<Replica>, bench: &Bench, snapshot: &Snapshot) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let cache = tempfile::tempdir().expect("made");
    let repository = open(replicas, cache.path()).await.map_err(|error| error.to_string())?;
    repository.snapshot(snapshot.id).await.map_err(|error| error.to_string())?;
    Ok(contents(bench.source.path(), &read_all(repository, snapshot).await?))
}

async fn names(store: &MemoryStore, prefix: &str) -> Vec<ObjectKey> {
    store.list(prefix).await.expect("listed").into_iter().map(|object| object.key).collect()
}

/// Copies what `to` lacks below these prefixes.
async fn copy(from: &MemoryStore, to: &MemoryStore, prefixes: &[&str]) {
    for prefix in prefixes {
        for key in names(from, prefix).await {
            to.put(&key, from.get(&key).await.expect("there")).await.expect("put");
        }
    }
}

/// Ways in which a replica no longer has an object as it was written.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Lost,
    CutOff,
    Changed,
}

async fn harm(store: &MemoryStore, key: &ObjectKey, harm: Harm) {
    match harm {
        Harm::Lost => store.delete(key).await.expect("deleted"),
        Harm::CutOff => store.tamper(key, |bytes| bytes.truncate(bytes.len() / 2)),
        Harm::Changed => store.tamper(key, |bytes| {
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
        }),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_lost_cut_off_or_changed_comes_from_the_next() {
    let bench = Bench::new().await;
    let (snapshot, files) = bench.snapshot().await;
    for kind in [Harm::Lost, Harm::CutOff, Harm::Changed] {
        let (first, second) = (bench.memory.fork(), bench.memory.fork());
        for key in names(&first, "").await {
            harm(&first, &key, kind).await;
        }
        let alone = read(vec![required("first", first.clone())], &bench, &snapshot).await;
        alone.expect_err("everything in it is harmed");
        let both = vec![required("first", first.clone()), required("second", second.clone())];
        assert_eq!(read(both, &bench, &snapshot).await.as_ref(), Ok(&files), "{kind:?}");
        let turned = vec![required("second", second), required("first", first)];
        assert_eq!(read(turned, &bench, &snapshot).await.as_ref(), Ok(&files), "{kind:?}");
    }
}

/// Each replica has lost something else; together they have it all.
#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_that_are_both_damaged_stand_in_for_each_other() {
    let bench = Bench::new().await;
    let (snapshot, files) = bench.snapshot().await;
    let (first, second) = (bench.memory.fork(), bench.memory.fork());
    for (nth, key) in names(&bench.memory, "").await.into_iter().enumerate() {
        let way = [Harm::Lost, Harm::CutOff, Harm::Changed][nth % 3];
        harm(if nth % 2 == 0 { &first } else { &second }, &key, way).await;
    }
    let both = vec![required("first", first), required("second", second)];
    assert_eq!(read(both, &bench, &snapshot).await, Ok(files));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_out_of_reach_keeps_nobody_from_reading_and_is_told() {
    let bench = Bench::new().await;
    let (snapshot, files) = bench.snapshot().await;
    let out = FaultStore::new(Arc::new(bench.memory.fork()));
    for operation in [Operation::List, Operation::Get, Operation::GetRange] {
        out.plan(Fault::on(operation).always().fail_before(StoreErrorKind::TimedOut));
    }
    let out: Arc<dyn Store> = Arc::new(out);
    let replicas = || vec![Replica::required("away", out.clone()), lagging("here", bench.memory.clone())];
    assert_eq!(read(replicas(), &bench, &snapshot).await, Ok(files));

    let repository = open(replicas(), bench.cache.path()).await.expect("opens");
    let monitor = Collected::default();
    Index::load(&repository, &monitor as &dyn Monitor).await.expect("loaded");
    let notes = monitor.notes();
    assert!(notes.iter().any(|note| note.subject == "replica away" && note.message.contains("not seen")), "{notes:?}");
    // Whoever writes must know what is there.
    let error = back_up(replicas(), &bench).await.expect_err("the required replica is away");
    assert!(matches!(error, BackupError::Lease(_) | BackupError::Index(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_a_required_replica_refuses_is_none() {
    for prefix in ["sessions/", "packs/", "index/", "snapshots/"] {
        let bench = Bench::new().await;
        let refusing = FaultStore::new(Arc::new(bench.memory.fork()));
        refusing.plan(Fault::on(Operation::Put).matching(prefix).always().fail_before(StoreErrorKind::Full));
        let replicas = vec![required("first", bench.memory.clone()), required("full", refusing)];
        let error = back_up(replicas, &bench).await.expect_err("nothing counts that one replica lacks");
        let mut chain = Some(&error as &dyn std::error::Error);
        let mut text = String::new();
        while let Some(error) = chain {
            text += &format!("{error}\n");
            chain = error.source();
        }
        assert!(text.contains(&format!("put {prefix}")) && text.contains(" at full"), "{text}");
        // The snapshot comes last: a put that failed before it leaves none anywhere.
        assert!(prefix == "snapshots/" || names(&bench.memory, "snapshots/").await.is_empty(), "{prefix}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_written_to_all_that_are_required_and_to_no_other() {
    let bench = Bench::new().await;
    let (second, third) = (bench.memory.fork(), bench.memory.fork());
    let before = names(&third, "").await;
    let replicas = vec![
        required("first", bench.memory.clone()),
        required("second", second.clone()),
        lagging("third", third.clone()),
    ];
    back_up(replicas, &bench).await.expect("backed up");
    let (one, two) = (names(&bench.memory, "").await, names(&second, "").await);
    assert!(one == two && one.len() > before.len(), "{one:?} {two:?}");
    assert_eq!(names(&third, "").await, before);
    let replicas = vec![lagging("first", bench.memory.clone()), lagging("second", second)];
    assert_eq!(Replicas::new(replicas).expect_err("nothing would be written"), NoneRequired);
}

/// A run relies on what every required replica has, so each of them alone has all that its snapshot needs.
#[tokio::test(flavor = "multi_thread")]
async fn what_only_one_of_the_required_replicas_has_is_stored_again() {
    const KEYS: [&str; 3] = ["config/", "keyring/", "keys/"];
    for lacks in ["everything", "index/", "one pack"] {
        let bench = Bench::new().await;
        bench.backup().await;
        let second = MemoryStore::default();
        copy(&bench.memory, &second, &KEYS).await;
        if lacks != "everything" {
            copy(&bench.memory, &second, &["packs/"]).await;
        }
        if lacks == "one pack" {
            copy(&bench.memory, &second, &["index/", "snapshots/"]).await;
            let pack = bench.data_packs().await.remove(0);
            second.delete(&pack).await.expect("deleted");
        }
        std::fs::write(bench.source.path().join("new"), random_bytes(7, 5000)).expect("writable");
        let replicas = vec![required("first", bench.memory.clone()), required("second", second.clone())];
        let snapshot = back_up(replicas, &bench).await.expect("backed up");
        let files = crate::support::files_in(bench.source.path());
        for (name, store) in [("first", &bench.memory), ("second", &second)] {
            let alone = read(vec![required(name, store.clone())], &bench, &snapshot).await;
            assert_eq!(alone.as_ref(), Ok(&files), "{name} where the second lacked {lacks}");
        }
    }
}

/// Puts a second keyring into a store.
async fn renew_keyring(store: &MemoryStore, repository: &Repository) {
    let reader = repository.keys().reader_key().expect("a reader").clone();
    let old = store.get(&names(store, ObjectKind::Keyring.prefix()).await.remove(0)).await.expect("there");
    let keyring = Keyring::decode(&old, repository.id(), &repository.keys().verifying_key()).expect("valid");
    let newer = Keyring { counter: 2, ..keyring };
    store.put(&ObjectKey::keyring(2, [1; 8]), newer.encode(&reader).into()).await.expect("put");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lags_was_not_rolled_back_and_one_that_was_is_told() {
    let bench = Bench::new().await;
    let (first, second) = (bench.memory.fork(), bench.memory.fork());
    let seen = bench.cache.path();
    let open_first = async |store: &MemoryStore| open(vec![required("first", store.clone())], seen).await;
    let open_second = async |store: &MemoryStore| open(vec![required("second", store.clone())], seen).await;
    let open_both = async |one: &MemoryStore, two: &MemoryStore| {
        open(vec![required("first", one.clone()), lagging("second", two.clone())], seen).await
    };
    let concerns = |repository: &Repository| repository.objects().replicas().take_concerns();
    let old = first.fork();
    let repository = open_both(&first, &second).await.expect("opens");
    renew_keyring(&first, &repository).await;

    // The first is ahead; the second shows what it always showed.
    for _ in 0..2 {
        open_first(&first).await.expect("it is the newest");
        open_second(&second).await.expect("it only lags");
        let both = open_both(&first, &second).await.expect("one may lag");
        assert_eq!(concerns(&both), []);
    }
    let error = open_first(&old).await.expect_err("the first has shown more");
    assert!(matches!(error, OpenError::RolledBack { what: "keyring", found: 1, seen: 2 }), "{error}");
    // What counts now is older than what counted.
    let error = open_both(&old, &second).await.expect_err("nobody shows it any more");
    assert!(matches!(error, OpenError::RolledBack { .. }), "{error}");

    // The second is brought up to date, and now stands in.
    copy(&first, &second, &["keyring/"]).await;
    let both = open_both(&old, &second).await.expect("the second has what counts");
    let told: Vec<String> = concerns(&both).iter().map(ToString::to_string).collect();
    let [lacks, rolled_back] = &told[..] else { panic!("{told:?}") };
    assert_eq!(lacks, "replica first: lacks keyring/00000002-0101010101010101, which second has");
    assert_eq!(rolled_back, "replica first: shows keyring 1, where it has shown 2 before: it was rolled back");
    let error = open_second(&old).await.expect_err("the second has shown more by now");
    assert!(matches!(error, OpenError::RolledBack { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_replica_is_verified_by_itself_and_remembers_it() {
    let bench = Bench::new().await;
    bench.backup().await;
    let second = bench.memory.fork();
    let damaged = bench.data_packs().await.remove(0);
    harm(&second, &damaged, Harm::Changed).await;
    let replicas = vec![required("first", bench.memory.clone()), required("second", second.clone())];
    let repository = open(replicas, bench.cache.path()).await.expect("opens");
    let read_all = async |repository: &Arc<Repository>| {
        let options = VerifyOptions { read_data: ReadData::All, ..VerifyOptions::default() };
        verify(repository.clone(), options, Arc::new(Collected::default()), Cancel::default()).await.expect("verified")
    };
    let report = read_all(&repository).await;
    assert_eq!((report.findings.as_slice(), report.coverage.never_read), (&[][..], 0));
    assert_eq!((names(&bench.memory, "verified/").await.len(), names(&second, "verified/").await.len()), (1, 0));

    assert!(repository.alone("third").is_none());
    let alone = Arc::new(repository.alone("second").expect("it is one of them"));
    let report = read_all(&alone).await;
    assert!(report.findings.iter().any(|finding| finding.object == damaged), "{:?}", report.findings);
    assert_eq!(names(&second, "verified/").await.len(), 1);
}
