//! Vouching: what a verification read whole and found right, every writer relies on from then on; nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;

use coffre::model::author::Author;
use coffre::model::cleanup::CleanupList;
use coffre::model::id::PackId;
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::outcome::{Ended, Outcome};
use coffre::model::time::Clock;
use coffre::ops::Cancel;
use coffre::ops::verify::{ReadData, VerifyOptions, verify};
use coffre::progress::Collected;
use coffre::repository::Repository;
use coffre::repository::index::Index;
use coffre::repository::replicas::{Replica, Replicas};
use coffre::repository::writers::SlotPlace;
use coffre::store::StoreErrorKind;
use coffre::store::layer::Operation;
use coffre::store::layer::fault::{Fault, FaultStore};
use coffre::store::memory::MemoryStore;

use crate::cleanups::put_list;
use crate::support::kitchen::{Nights, STREAM};
use crate::support::{Bench, files_in, open, passphrase, random_bytes, verify_over};
use crate::writers::{add, back_up, new};

/// A repository with two writers of no common group.
async fn two_writers() -> Bench {
    let bench = Bench::new().await;
    for seed in 0..4 {
        std::fs::write(bench.source.path().join(format!("more{seed}")), random_bytes(500 + seed, 900_000))
            .expect("writable");
    }
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    for name in ["web", "db"] {
        add(&repository, &new(name, &[]), SlotPlace::Repository).await.expect("added");
    }
    bench
}

fn reading(read_data: ReadData) -> VerifyOptions {
    VerifyOptions { read_data, ..VerifyOptions::default() }
}

/// The packs that a reader says are stored, and all.
async fn named(bench: &Bench) -> (BTreeSet<PackId>, BTreeSet<PackId>) {
    let cache = tempfile::tempdir().expect("made");
    let repository = open(bench.store(), cache.path()).await.expect("opens");
    let index = Index::load(&repository, &Collected::default()).await.expect("loaded");
    let all: BTreeSet<PackId> = index.packs().into_iter().map(|pack| pack.id).collect();
    (all.iter().copied().filter(|pack| index.is_vouched_for(*pack)).collect(), all)
}

async fn segments(bench: &Bench) -> usize {
    bench.store().list(ObjectKind::Index.prefix()).await.expect("listed").len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_deduplicates_against_a_stranger_once_a_reader_has_read_it() {
    let bench = two_writers().await;
    back_up(&bench, "web", "web").await.expect("backed up");
    let whole = bench.memory.clone();
    let aside = Bench { memory: bench.memory.fork(), ..bench };
    let strange = back_up(&aside, "db", "db").await.expect("backed up").counts.new_bytes;
    assert!(strange > 6_000_000, "the word of a stranger counts for nothing: {strange} bytes");
    let bench = Bench { memory: whole, ..aside };

    let before = segments(&bench).await;
    let report = bench.verify(ReadData::All).await;
    let (vouched, all) = named(&bench).await;
    assert_eq!((report.outcome(), report.vouched.packs, report.vouched.not), (Outcome::Clean, all.len() as u64, 0));
    assert_eq!((vouched, segments(&bench).await), (all, before + 1));
    let leases = bench.store().list(ObjectKind::Session.prefix()).await.expect("listed");
    assert_eq!(leases, [], "it is over");
    // A second run adds nothing but its record.
    let again = bench.verify(ReadData::All).await;
    assert_eq!((again.outcome(), again.vouched.packs, segments(&bench).await), (Outcome::Clean, 0, before + 1));
    assert_eq!(again.chunks, report.chunks, "a chunk is counted once, however many name it");

    let stored = back_up(&bench, "db", "db").await.expect("backed up");
    assert!(stored.counts.new_bytes < 100_000, "{:?}", stored.counts);
    let content = files_in(bench.source.path());
    assert_eq!(bench.read(&stored.snapshot.expect("made")).await.as_ref(), Ok(&content));
    assert_eq!(bench.verify(ReadData::All).await.outcome(), Outcome::Clean);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_read_whole_by_this_run_and_is_right_is_vouched_for() {
    let bench = two_writers().await;
    back_up(&bench, "web", "web").await.expect("backed up");
    assert_eq!(verify_over(bench.store(), reading(ReadData::No)).await.vouched.packs, 0);
    let unheal = VerifyOptions { heal: false, ..reading(ReadData::All) };
    assert_eq!(verify_over(bench.store(), unheal).await.vouched.packs, 0);
    assert_eq!(named(&bench).await.0, BTreeSet::new());
    // One pack after the other, as far as each run reads.
    assert_eq!(verify_over(bench.store(), reading(ReadData::Bytes(1))).await.vouched.packs, 1);
    let (vouched, all) = named(&bench).await;
    assert!(vouched.len() == 1 && all.len() > 3, "{} of {}", vouched.len(), all.len());
    // Neither what is damaged, nor what is doomed.
    let mut others = all.difference(&vouched);
    let (damaged, doomed) = (*others.next().expect("some"), *others.next().expect("some"));
    bench.memory.tamper(&ObjectKey::pack(damaged), |bytes| bytes[300] ^= 1);
    let list = CleanupList { made: Clock::System.now(), packs: vec![doomed], ..CleanupList::default() };
    put_list(&bench, 1, list).await;
    let report = verify_over(bench.store(), reading(ReadData::All)).await;
    assert_eq!((report.outcome(), report.vouched.packs), (Outcome::Damaged, all.len() as u64 - 3));
    let (vouched, _) = named(&bench).await;
    assert_eq!(all.difference(&vouched).copied().collect::<Vec<_>>(), [damaged, doomed]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_vouches_for_nothing_that_readers_stored_and_says_when_it_cannot() {
    let own = Bench::new().await;
    own.backup().await;
    let before = segments(&own).await;
    assert_eq!((own.verify(ReadData::All).await.vouched.packs, segments(&own).await), (0, before));

    let bench = two_writers().await;
    back_up(&bench, "web", "web").await.expect("backed up");
    let refusing = FaultStore::new(bench.store());
    refusing.plan(Fault::on(Operation::Put).always().fail_before(StoreErrorKind::Denied));
    let report = verify_over(Arc::new(refusing), reading(ReadData::All)).await;
    assert_eq!((report.outcome(), report.vouched.packs, report.vouched.not), (Outcome::Clean, 0, report.packs));
    assert!(report.vouched.why_not.is_some());
}

/// What one replica has says nothing of the others, whose bytes nobody read.
#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_several_replicas_is_not_vouched_for() {
    let bench = two_writers().await;
    back_up(&bench, "web", "web").await.expect("backed up");
    let other: Arc<MemoryStore> = Arc::new(bench.memory.fork());
    let replicas = Replicas::new(vec![Replica::required("a", bench.store()), Replica::required("b", other)]);
    let cache = tempfile::tempdir().expect("made");
    let repository = Repository::open(replicas.expect("required"), &passphrase(), cache.path()).await.expect("opens");
    let verified =
        verify(Arc::new(repository), reading(ReadData::All), Arc::new(Collected::default()), Cancel::default());
    let report = verified.await.expect("verified");
    assert_eq!((report.outcome(), report.vouched), (Outcome::Clean, Default::default()));
}

/// What a recipe makes depends on other packs, which may not have been read.
#[tokio::test(flavor = "multi_thread")]
async fn packs_of_recipes_are_not_vouched_for() {
    let bench = Bench::new().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    add(&repository, &new("web", &[]), SlotPlace::Repository).await.expect("added");
    let writer = crate::writers::open_as("web", bench.store(), bench.cache.path()).await;
    let nights = Nights::written_by(&writer).await;
    assert_eq!(nights.dumps.len(), 3, "{STREAM}");
    let report = bench.verify(ReadData::All).await;
    let (vouched, all) = named(&bench).await;
    assert_eq!((report.outcome(), report.vouched.packs), (Outcome::Clean, vouched.len() as u64));
    // The trees of the second and the third night lie beside recipes.
    assert_eq!(all.len() - vouched.len(), 2);
    let cache = tempfile::tempdir().expect("made");
    let repository = open(bench.store(), cache.path()).await.expect("opens");
    let index = Index::load(&repository, &Collected::default()).await.expect("loaded");
    for pack in all.difference(&vouched) {
        let is_by_writer = |author: Author| author != Author::Reader;
        assert!(index.pack(*pack).iter().all(|record| is_by_writer(record.author)));
    }
}
