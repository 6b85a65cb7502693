//! What may be done with a repository, and the index that each of it takes: reading is forgiving, deleting is not.

use std::sync::Arc;

use coffre::crypto::secret::Passphrase;
use coffre::crypto::sign::Signed;
use coffre::crypto::slot::SlotLock;
use coffre::format::config::{Config, RequiredFeatures};
use coffre::format::writer::WriterName;
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::outcome::{Ended, Outcome};
use coffre::model::time::Timestamp;
use coffre::ops::backup::{BackupError, backup};
use coffre::ops::restore::{RestoreError, restore};
use coffre::ops::stats::stats;
use coffre::ops::verify::{ReadData, VerifyError, VerifyOptions, verify};
use coffre::ops::{Cancel, LookError, open_reader};
use coffre::progress::Collected;
use coffre::repository::access::AccessError;
use coffre::repository::index::complete::{CompleteIndex, IncompleteError};
use coffre::repository::index::{Index, IndexError};
use coffre::repository::replicas::{Replica, Replicas};
use coffre::repository::writers::{NewWriter, SlotPlace};
use coffre::repository::{MAIN_DOMAIN, OpenError, Repository};
use coffre::store::layer::Operation;
use coffre::store::layer::fault::{Fault, FaultStore};
use coffre::store::{Store, StoreErrorKind};

use crate::support::place::Place;
use crate::support::{Bench, open, options, passphrase, run_verify};

fn monitor() -> Arc<Collected> {
    Arc::new(Collected::default())
}

/// Opens a repository with a new key slot that can only write.
async fn as_writer(repository: &Repository, store: Arc<dyn Store>, cache: &std::path::Path) -> Arc<Repository> {
    let words = Passphrase::new("of the production host".into());
    let name = WriterName { name: "a host".into(), hosts: vec![] };
    let new = NewWriter { name, domains: vec![MAIN_DOMAIN.into()], group: None, made: Timestamp::default() };
    repository.add_writer(&new, &SlotLock::Recovery(words.clone()), SlotPlace::Repository).await.expect("added");
    Arc::new(Repository::open(store, &words, cache).await.expect("opens"))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_can_only_write_is_told_so_by_whatever_reads_or_deletes() {
    let place = Place::new().await;
    place.plant("file", "some");
    let snapshot = place.backup().await;
    let reader = open(place.store(), &place.cache()).await.expect("opens");
    let writer = as_writer(&reader, place.store(), &place.cache()).await;
    assert_eq!(writer.reading().map(drop), Err(AccessError::WriterOnly));
    assert_eq!(writer.deleting().map(drop), Err(AccessError::WriterOnly));
    writer.writing().expect("that is what its key is for");

    let restored = restore(writer.clone(), place.options(&snapshot), monitor(), Cancel::default()).await;
    let verified = verify(writer.clone(), VerifyOptions::default(), monitor(), Cancel::default()).await;
    let counted = stats(&writer, &*monitor()).await;
    let opened = open_reader(writer.clone(), 64 << 20, monitor()).await;
    let outcomes = [
        restored
            .map(drop)
            .map_err(|error| (error.outcome(), matches!(error, RestoreError::Look(LookError::Access(_))))),
        verified.map(drop).map_err(|error| (error.outcome(), matches!(error, VerifyError::Look(LookError::Access(_))))),
        counted.map(drop).map_err(|error| (error.outcome(), matches!(error, LookError::Access(_)))),
        opened.map(drop).map_err(|error| (error.outcome(), matches!(error, LookError::Access(_)))),
    ];
    assert_eq!(outcomes, [Err((Outcome::WrongKey, true)); 4]);
    let error = writer.snapshot(snapshot.id).await.expect_err("its key opens no snapshot");
    assert_eq!((error.outcome(), error.is_damage()), (Outcome::WrongKey, false));
    let stored = backup(writer, options(&place.source()), monitor(), Cancel::default()).await;
    stored.expect("it may back up").snapshot.expect("made");
}

/// Puts the next configuration, which requires features that nobody knows.
async fn require(bench: &Bench, repository: &Repository, counter: u64, required: RequiredFeatures) {
    let reader = repository.keys().reader_key().expect("a reader");
    let config = Config { counter, required, ..repository.config().clone() };
    let object = config.encode(|payload| reader.sign(Signed::Config, repository.id(), payload));
    bench.store().put(&ObjectKey::config(counter, [1; 8]), object.into()).await.expect("put");
}

#[tokio::test(flavor = "multi_thread")]
async fn features_are_required_for_what_they_concern_and_for_what_builds_on_it() {
    let bench = Bench::new().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let unknown = || vec!["wormholes".to_owned()];
    let newer = |operation| move |error: AccessError| matches!(error, AccessError::Newer { operation: it, .. } if it == operation);

    require(&bench, &repository, 2, RequiredFeatures { delete: unknown(), ..RequiredFeatures::default() }).await;
    let opened = open(bench.store(), bench.cache.path()).await.expect("opens");
    opened.reading().expect("may be read");
    opened.writing().expect("may be written");
    assert!(opened.deleting().map(drop).is_err_and(newer("cleaned up")));
    bench.backup().await;

    require(&bench, &repository, 3, RequiredFeatures { write: unknown(), ..RequiredFeatures::default() }).await;
    let opened = open(bench.store(), bench.cache.path()).await.expect("opens");
    opened.reading().expect("may be read");
    assert!(opened.writing().map(drop).is_err_and(newer("written")));
    assert!(opened.deleting().map(drop).is_err_and(newer("written")));
    let (objects, bytes) = bench.memory.totals();
    let error = backup(opened, options(bench.source.path()), monitor(), Cancel::default()).await;
    let error = error.expect_err("it would write what a newer program cannot use");
    assert!(matches!(&error, BackupError::Access(AccessError::Newer { .. })), "{error}");
    assert_eq!(
        (error.to_string().as_str(), error.outcome()),
        ("this repository cannot be written by this version", Outcome::Refused)
    );
    assert_eq!(bench.memory.totals(), (objects, bytes), "not even a lease");

    require(&bench, &repository, 4, RequiredFeatures { read: unknown(), ..RequiredFeatures::default() }).await;
    let error = open(bench.store(), bench.cache.path()).await.expect_err("nobody may rely on it");
    assert!(matches!(&error, OpenError::Damaged { source, .. } if source.to_string().contains("wormholes")), "{error}");
}

async fn complete(bench: &Bench) -> Result<CompleteIndex, IncompleteError> {
    let fresh = tempfile::tempdir().expect("made");
    let repository = open(bench.store(), fresh.path()).await.expect("opens");
    Index::load(&repository, &*monitor()).await.expect("for reading there is always enough");
    CompleteIndex::load(&repository.deleting().expect("may be cleaned up"), &*monitor()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_takes_an_index_that_lacks_nothing() {
    let bench = Bench::new().await;
    let first = bench.snapshot().await.0;
    let second = bench.snapshot().await.0;
    let whole = complete(&bench).await.expect("nothing is missing");
    assert_eq!(whole.snapshots().iter().map(|snapshot| snapshot.id).collect::<Vec<_>>(), {
        let mut ids = [first.id, second.id];
        ids.sort();
        ids
    });
    assert_eq!(whole.index().packs().len(), whole.packs().len());

    let segments = bench.store().list(ObjectKind::Index.prefix()).await.expect("listed");
    assert_eq!(whole.segments().len(), segments.len());
    for (key, is_snapshot) in [(segments[0].key.clone(), false), (ObjectKey::snapshot(first.id), true)] {
        let before = bench.store().get(&key).await.expect("there");
        bench.memory.tamper(&key, |bytes| *bytes.last_mut().expect("some") ^= 1);
        let error = complete(&bench).await.expect_err("nobody knows what it needs");
        match &error {
            IncompleteError::Index(IndexError::Damaged { key: named, .. }) => assert!(!is_snapshot && *named == key),
            IncompleteError::Snapshots(_) => assert!(is_snapshot, "{error}"),
            other => panic!("{other}"),
        }
        assert_eq!(error.outcome(), Outcome::Damaged);
        bench.store().put(&key, before).await.expect("put");
    }
    complete(&bench).await.expect("all is as it was");
}

/// What a replica out of reach has may be needed, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_cannot_be_asked_stops_deletion_and_nothing_else() {
    let bench = Bench::new().await;
    bench.backup().await;
    for prefix in ["snapshots/", "index/"] {
        let away = FaultStore::new(Arc::new(bench.memory.fork()));
        away.plan(Fault::on(Operation::List).matching(prefix).always().fail_before(StoreErrorKind::TimedOut));
        let here = Replica::required("here", bench.store());
        let replicas = Replicas::new(vec![here, Replica::lagging("away", Arc::new(away))]).expect("one is required");
        let opened = Repository::open(replicas, &passphrase(), bench.cache.path()).await;
        let repository = Arc::new(opened.expect("opens"));
        let deleting = repository.deleting().expect("may be cleaned up");
        let error = CompleteIndex::load(&deleting, &*monitor()).await.expect_err("one does not answer");
        assert_eq!(error.outcome(), Outcome::Unreachable, "{error}");
        Index::load(&repository, &*monitor()).await.expect("enough for reading");
        repository.snapshots().await.expect("enough for reading");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_that_only_a_damaged_segment_knows_are_not_called_rubbish() {
    let bench = Bench::new().await;
    bench.backup().await;
    let note = async || {
        let fresh = tempfile::tempdir().expect("made");
        let report = run_verify(bench.store(), fresh.path(), ReadData::No).await;
        report.notes.into_iter().find(|note| note.contains("in no index segment"))
    };
    assert_eq!(note().await, None);
    let key = bench.store().list(ObjectKind::Index.prefix()).await.expect("listed").remove(0).key;
    let object = bench.store().get(&key).await.expect("there");
    bench.memory.tamper(&key, |bytes| *bytes.last_mut().expect("some") ^= 1);
    assert!(note().await.is_some_and(|note| note.ends_with("are in no index segment that can be read")));
    bench.store().delete(&key).await.expect("deleted");
    assert!(note().await.is_some_and(|note| note.ends_with("left by interrupted runs, or their segment is lost")));
    bench.store().put(&key, object).await.expect("put");
}
