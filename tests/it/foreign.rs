//! Who counts, and whose word is taken: what a writer plants appears nowhere but apart, and nobody else relies on what it says.

use std::path::Path;
use std::sync::Arc;

use coffre::model::author::Author;
use coffre::model::id::{DomainEpoch, DomainId, SegmentId, WriterId};
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::snapshot::{Foreign, Snapshot, SnapshotId};
use coffre::model::time::{Clock, Timestamp};
use coffre::ops::Cancel;
use coffre::ops::backup::{BackupReport, backup};
use coffre::ops::verify::ReadData;
use coffre::progress::Collected;
use coffre::repository::choose::SnapshotFilter;
use coffre::repository::index::open_segment;
use coffre::repository::objects::UploadedPack;
use coffre::repository::revoking::StillCounting;
use coffre::repository::writers::{NewWriter, SlotPlace};
use coffre::repository::{MAIN_DOMAIN, Repository};

use crate::support::{Bench, at_rest, files_in, open, options, random_bytes};
use crate::writers::{self, new};

async fn add(bench: &Bench, name: &str, hosts: &[&str], group: Option<u64>) -> WriterId {
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let new = NewWriter { group, ..new(name, hosts) };
    writers::add(&repository, &new, SlotPlace::Repository).await.expect("added").id
}

async fn open_as(bench: &Bench, name: &str, cache: &Path) -> Arc<Repository> {
    writers::open_as(name, bench.store(), cache).await
}

async fn back_up_as(bench: &Bench, name: &str, host: &str) -> BackupReport {
    let cache = tempfile::tempdir().expect("made");
    let repository = open_as(bench, name, cache.path()).await;
    let mut options = options(bench.source.path());
    options.host = host.into();
    backup(repository, options, Arc::new(Collected::default()), Cancel::default()).await.expect("backed up")
}

/// Puts a snapshot like `snapshot`, of another start and host, sealed by a session of the writer.
async fn plant(bench: &Bench, name: &str, snapshot: &Snapshot, host: &str) -> SnapshotId {
    let cache = tempfile::tempdir().expect("made");
    let repository = open_as(bench, name, cache.path()).await;
    let session = repository.writing().expect("may be written").begin_session(MAIN_DOMAIN).expect("a good key");
    let started = Timestamp::from_seconds(snapshot.started.seconds + 1);
    let id = SnapshotId::new(started, *b"planted!");
    let planted = Snapshot { id, started, session: session.id(), host: host.into(), ..snapshot.clone() };
    bench.store().put(&ObjectKey::snapshot(id), session.seal_snapshot(&planted).into()).await.expect("put");
    id
}

async fn latest(bench: &Bench) -> SnapshotId {
    let cache = tempfile::tempdir().expect("made");
    let repository = open(bench.store(), cache.path()).await.expect("opens");
    repository.find_snapshot("latest", &SnapshotFilter::default()).await.expect("there is one").id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_counts_only_if_its_author_may_say_what_it_says() {
    let bench = Bench::new().await;
    let ours = bench.snapshot().await.0;
    let web = add(&bench, "web", &["web"], None).await;
    let planted = plant(&bench, "web", &ours, "host").await;
    assert_eq!(latest(&bench).await, ours.id, "another host's name does not make it its snapshot");
    for fresh in [true, false] {
        // From the store, and from the cache, in which its author is known by then.
        let cache = tempfile::tempdir().expect("made");
        let cache = if fresh { cache.path() } else { bench.cache.path() };
        let repository = open(bench.store(), cache).await.expect("opens");
        for _ in 0..2 {
            let snapshots = repository.snapshots().await.expect("listed");
            let found = snapshots.into_iter().find(|(id, _)| *id == planted).expect("it is listed").1.expect("opened");
            assert_eq!((found.author, found.foreign), (Author::Writer(web), Some(Foreign::OtherHost)));
        }
        // By its id it can be had, for whoever knows better.
        let found = repository.find_snapshot(&planted.to_string(), &SnapshotFilter::default()).await.expect("named");
        assert_eq!(found.id, planted);
    }
    // It is nobody's parent, and verifying has nothing to say against what counts.
    let mut chosen = options(bench.source.path());
    chosen.parent = coffre::ops::backup::ParentChoice::Snapshot(planted.to_string());
    let report = crate::support::run_backup(bench.store(), bench.cache.path(), chosen).await.expect("backed up");
    assert_eq!((report.parent, report.unchanged_files), (None, 0));
    let cache = tempfile::tempdir().expect("made");
    let report = crate::support::run_backup(bench.store(), cache.path(), options(bench.source.path())).await;
    assert_ne!(report.expect("backed up").parent, Some(planted));
    assert_eq!(bench.verify(ReadData::No).await.findings, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_counts_of_a_writer_that_is_thrown_out_with_all_that_it_made() {
    let bench = Bench::new().await;
    let web = add(&bench, "web", &["web"], None).await;
    let made = back_up_as(&bench, "web", "web").await.snapshot.expect("made");
    assert_eq!(latest(&bench).await, made.id);
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let revoked = repository.revoke_writer(web, StillCounting::None, Timestamp::default()).await.expect("revoked");
    assert_eq!((revoked.counting, revoked.foreign), (0, 1));
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let snapshot = repository.snapshot(made.id).await.expect("it still opens");
    assert_eq!(snapshot.foreign, Some(Foreign::Revoked));
    repository.find_snapshot("latest", &SnapshotFilter::default()).await.expect_err("none counts");
    // What it indexed is still found: whoever knows better gets the data back.
    assert_eq!(bench.read(&snapshot).await, Ok(files_in(bench.source.path())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_that_a_writer_was_not_let_into_makes_its_snapshot_foreign() {
    let bench = Bench::new().await;
    let web = add(&bench, "web", &[], None).await;
    let made = back_up_as(&bench, "web", "web").await.snapshot.expect("made");
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let opened = repository.snapshot(made.id).await.expect("opens");
    assert_eq!((opened.author, opened.foreign), (Author::Writer(web), None));
    let granted = repository.writers().expect("known").remove(0).granted;
    assert_eq!(granted, [opened.at]);
    assert!(!granted.contains(&DomainEpoch { domain: DomainId([9; 16]), epoch: 1 }));
}

/// Moves all that the index says into a segment by the writer, so that nobody else says it.
async fn say_as(bench: &Bench, name: &str) {
    let cache = tempfile::tempdir().expect("made");
    let writer = open_as(bench, name, cache.path()).await;
    for object in bench.store().list(ObjectKind::Index.prefix()).await.expect("listed") {
        let id = object.key.segment_id().expect("ours");
        let bytes = bench.store().get(&object.key).await.expect("there");
        let packs = UploadedPack::indexed(open_segment(&writer, id, &bytes).expect("opens"));
        let session = writer.writing().expect("may be written").begin_session(MAIN_DOMAIN).expect("a good key");
        let id = SegmentId(blake3::hash(&id.0).as_bytes()[..16].try_into().expect("16 bytes"));
        bench.store().put(&ObjectKey::segment(id), session.seal_segment(id, &packs).into()).await.expect("put");
        bench.store().delete(&object.key).await.expect("deleted");
    }
}

/// A chunk counts as stored when a reader, the writer itself or one of its group says so, and nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_relies_on_what_a_stranger_says() {
    for (who, relies) in [("friend", true), ("stranger", false), ("loner", false), ("", false)] {
        let bench = Bench::new().await;
        for (name, group) in [("web", Some(1)), ("friend", Some(1)), ("stranger", Some(2)), ("loner", None)] {
            add(&bench, name, &[], group).await;
        }
        let first = bench.snapshot().await.0;
        say_as(&bench, "web").await;
        let report = match who {
            "" => {
                let cache = tempfile::tempdir().expect("made");
                let run = crate::support::run_backup(bench.store(), cache.path(), options(bench.source.path())).await;
                run.expect("backed up")
            }
            who => back_up_as(&bench, who, who).await,
        };
        let stored = report.counts.new_bytes > 3_000_000;
        assert_eq!(stored, !relies, "{who}: {:?}", report.counts);
        // Reading tries every place, whoever names it.
        assert_eq!(bench.read(&first).await, Ok(files_in(bench.source.path())), "{who}");
        let again = back_up_as(&bench, "web", "web").await;
        assert!(again.counts.new_bytes < 100_000, "it relies on itself: {:?}", again.counts);
    }
}

/// A list of chunks that was taken over unread lies in packs of a writer that nobody trusts any more.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_relied_on_is_not_when_its_author_is_thrown_out() {
    let bench = Bench::new().await;
    let web = add(&bench, "web", &[], Some(1)).await;
    add(&bench, "friend", &[], Some(1)).await;
    std::fs::write(bench.source.path().join("more"), random_bytes(9, 500_000)).expect("writable");
    back_up_as(&bench, "web", "web").await;
    let cache = tempfile::tempdir().expect("made");
    let run = async || {
        let repository = open_as(&bench, "friend", cache.path()).await;
        let monitor = Arc::new(Collected::default());
        backup(repository, options(bench.source.path()), monitor, Cancel::default()).await.expect("backed up")
    };
    at_rest().await;
    assert!(run().await.counts.new_bytes < 100_000, "they trust each other");
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    repository.revoke_writer(web, StillCounting::All, Clock::System.now()).await.expect("revoked");
    let report = run().await;
    assert!(report.counts.new_bytes > 3_000_000, "{:?}", report.counts);
}
