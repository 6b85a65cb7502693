//! The ledger of verifications: it is kept in the repository, so it outlives caches and hosts.

use std::sync::Arc;

use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::time::{Clock, Timestamp};
use coffre::ops::Cancel;
use coffre::ops::verify::{ReadData, VerifyOptions, VerifyReport, verify};
use coffre::progress::Collected;
use coffre::store::layer::Operation;
use coffre::store::layer::fault::{Fault, FaultStore};
use coffre::store::{Store, StoreErrorKind};

use crate::support::{Bench, open, random_bytes};

const DAY: i64 = 86_400;
const FIRST: i64 = 1_795_000_000;

/// Reads data on a host with an empty cache, or that of `cache`, `day` days after the first.
async fn read(store: Arc<dyn Store>, read_data: ReadData, day: i64, cache: Option<&std::path::Path>) -> VerifyReport {
    let fresh = tempfile::tempdir().expect("made");
    let repository = open(store, cache.unwrap_or(fresh.path())).await.expect("opens");
    let clock = Clock::Fixed(Timestamp::from_seconds(FIRST + day * DAY));
    let options = VerifyOptions { read_data, clock, host: "host".into(), ..VerifyOptions::default() };
    verify(repository, options, Arc::new(Collected::default()), Cancel::default()).await.expect("verified")
}

/// A repository with some packs.
async fn some_packs() -> Bench {
    let bench = Bench::new().await;
    for seed in 0..5 {
        std::fs::write(bench.source.path().join(format!("more{seed}")), random_bytes(500 + seed, 1_000_000))
            .expect("writable");
    }
    bench.backup().await;
    bench
}

async fn records(bench: &Bench) -> Vec<ObjectKey> {
    let listed = bench.store().list(ObjectKind::Verified.prefix()).await.expect("listed");
    listed.into_iter().map(|object| object.key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_without_a_cache_go_on_where_the_repository_says() {
    let bench = some_packs().await;
    let (mut read_so_far, mut day) = (0, 0);
    loop {
        let report = read(bench.store(), ReadData::Bytes(1), day, None).await;
        assert_eq!((report.packs_read, &report.findings), (1, &vec![]));
        read_so_far += 1;
        // Each pack is read once before any is read again, whichever host reads.
        assert_eq!(report.coverage.never_read, report.packs - read_so_far);
        assert_eq!(report.coverage.oldest, Some(Timestamp::from_seconds(FIRST)), "day {day}");
        assert_eq!(report.cycle_completed, report.coverage.never_read == 0);
        if report.cycle_completed {
            break;
        }
        day += 1;
    }
    assert!(read_so_far > 3, "{read_so_far} packs");
    let report = read(bench.store(), ReadData::Bytes(1), day + 1, None).await;
    assert_eq!(report.coverage.oldest, Some(Timestamp::from_seconds(FIRST + DAY)), "the first was read again");
    // Who reads nothing tells the same.
    let told = read(bench.store(), ReadData::No, day + 2, None).await;
    assert_eq!(told.coverage, report.coverage);
    // What was added since was never read.
    std::fs::write(bench.source.path().join("new"), random_bytes(900, 10_000)).expect("writable");
    bench.backup().await;
    assert!(read(bench.store(), ReadData::No, day + 2, None).await.coverage.never_read > 0);
    let all = read(bench.store(), ReadData::All, day + 3, None).await.coverage;
    assert_eq!((all.never_read, all.oldest), (0, Some(Timestamp::from_seconds(FIRST + (day + 3) * DAY))));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_records_suffice_however_many_there_are() {
    let bench = some_packs().await;
    for day in 0..40 {
        read(bench.store(), ReadData::Bytes(1), day, None).await;
    }
    let all = records(&bench).await;
    assert_eq!(all.len(), 40, "one object a run, none of which is ever changed or deleted");
    let before = read(bench.store(), ReadData::No, 40, None).await.coverage;
    assert_eq!(before.never_read, 0);
    for old in &all[..24] {
        bench.store().delete(old).await.expect("deleted");
    }
    assert_eq!(read(bench.store(), ReadData::No, 40, None).await.coverage, before);
    // A record that is damaged is a note; what it alone knew counts as never read or read earlier.
    bench.memory.tamper(all.last().expect("some"), |bytes| bytes[60] ^= 1);
    let report = read(bench.store(), ReadData::No, 40, None).await;
    assert_eq!(report.findings, []);
    assert!(report.notes.iter().any(|note| note.starts_with("verified/")), "{:?}", report.notes);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_write_verifies_and_goes_on_by_its_own_cache() {
    let bench = some_packs().await;
    let cache = tempfile::tempdir().expect("made");
    let refusing = || {
        let store = FaultStore::new(bench.store());
        store.plan(Fault::on(Operation::Put).fail_before(StoreErrorKind::Denied));
        Arc::new(store)
    };
    for day in 0..3u64 {
        let report = read(refusing(), ReadData::Bytes(1), day as i64, Some(cache.path())).await;
        assert_eq!(report.findings, []);
        assert!(report.coverage.not_noted.is_some(), "it is told");
        assert_eq!(report.coverage.never_read, report.packs - day - 1);
    }
    assert_eq!(records(&bench).await, []);
    // Once it may write, the repository knows of all of them.
    let report = read(bench.store(), ReadData::Bytes(1), 3, Some(cache.path())).await;
    assert_eq!((report.coverage.never_read, report.coverage.not_noted), (report.packs - 4, None));
    let elsewhere = read(bench.store(), ReadData::No, 3, None).await;
    assert_eq!(elsewhere.coverage.never_read, report.packs - 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_are_disjoint_and_all_of_them_are_everything() {
    let bench = some_packs().await;
    let mut packs_read = 0;
    for nth in 1..=3 {
        let report = read(bench.store(), ReadData::Share { nth, of: 3 }, i64::from(nth), None).await;
        packs_read += report.packs_read;
        assert_eq!(report.coverage.never_read, report.packs - packs_read);
    }
    assert_eq!(read(bench.store(), ReadData::No, 4, None).await.coverage.never_read, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_pack_never_counts_as_read() {
    let bench = some_packs().await;
    let listed = bench.store().list(ObjectKind::Pack.prefix()).await.expect("listed");
    let largest = listed.into_iter().max_by_key(|object| object.size).expect("some").key;
    bench.memory.tamper(&largest, |bytes| bytes[1000] ^= 1);
    let report = read(bench.store(), ReadData::All, 0, None).await;
    assert!(!report.findings.is_empty());
    assert_eq!(report.coverage.never_read, 1);
}
