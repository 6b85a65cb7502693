//! What a clean-up removes while somebody lists, chooses, counts or verifies snapshots is gone, and not damaged.

use std::sync::Arc;

use coffre::model::outcome::{Ended, Outcome};
use coffre::model::time::Clock;
use coffre::ops::stats::stats;
use coffre::ops::status::{StatusOptions, status};
use coffre::ops::verify::ReadData;
use coffre::progress::Collected;
use coffre::repository::Repository;
use coffre::repository::choose::SnapshotFilter;
use coffre::repository::snapshots::SnapshotError;
use coffre::store::layer::Operation;

use crate::prune::{Files, after_days, prune_with, with_forgotten};
use crate::support::at_request::{AtRequest, in_full};
use crate::support::{Bench, open, run_verify};

/// A repository in which a clean-up on another machine removes the forgotten snapshot before the first snapshot is fetched, by a machine
/// that has none of them.
async fn removing(bench: &Bench) -> (Arc<AtRequest>, tempfile::TempDir) {
    let store = bench.store();
    let removing = async move {
        let cache = tempfile::tempdir().expect("made");
        let report = prune_with(store, cache.path(), after_days(4), Arc::new(Collected::default())).await;
        assert_eq!(report.expect("done").removed_snapshots, 1);
    };
    let store = AtRequest::new(bench.store(), Operation::Get, "snapshots/", in_full(removing));
    (store, tempfile::tempdir().expect("made"))
}

async fn opened(store: &Arc<AtRequest>, cache: &tempfile::TempDir) -> Arc<Repository> {
    open(store.clone(), cache.path()).await.expect("opens")
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_lists_snapshots_meanwhile_finds_the_others_and_no_damage() {
    let (made, kept, (forgotten, _)) = with_forgotten().await;
    let kept: Vec<&(_, Files)> = kept.iter().collect();

    let bench = made.fork();
    let (store, cache) = removing(&bench).await;
    let monitor = Collected::default();
    let options = StatusOptions { now: Clock::System.now(), ..StatusOptions::default() };
    let report = status(&opened(&store, &cache).await, &options, &monitor).await.expect("told");
    assert!(store.has_acted());
    assert_eq!((monitor.problems(), report.problems.outcome()), (vec![], Outcome::Clean), "status");

    let bench = made.fork();
    let (store, cache) = removing(&bench).await;
    let report = stats(&opened(&store, &cache).await, &Collected::default()).await.expect("counted");
    assert!(store.has_acted() && report.unreadable.is_empty(), "{:?}", report.unreadable);
    assert_eq!(report.snapshots, kept.len() as u64);

    let bench = made.fork();
    let (store, cache) = removing(&bench).await;
    let snapshots = opened(&store, &cache).await.snapshots().await.expect("listed");
    assert!(store.has_acted() && snapshots.iter().all(|(_, snapshot)| snapshot.is_ok()));
    assert_eq!(snapshots.len(), kept.len());

    let bench = made.fork();
    let (store, cache) = removing(&bench).await;
    let report = run_verify(store.clone(), cache.path(), ReadData::No).await;
    assert!(store.has_acted());
    assert_eq!((report.findings.clone(), report.outcome()), (vec![], Outcome::Clean), "verify");

    // Whoever names it is told that it is not there.
    let bench = made.fork();
    let (store, cache) = removing(&bench).await;
    let repository = opened(&store, &cache).await;
    let filter = SnapshotFilter::default();
    let named = repository.find_snapshot(&forgotten.id.to_string(), &filter).await;
    assert!(store.has_acted() && matches!(named, Err(SnapshotError::Unknown(_))), "{named:?}");
}

/// Even where all that were to be opened next were removed, those before them are looked at.
#[tokio::test(flavor = "multi_thread")]
async fn the_latest_is_found_behind_those_that_are_removed_meanwhile() {
    let bench = Bench::new().await;
    let first = bench.snapshot().await.0;
    std::fs::write(bench.source.path().join("a/text"), "changed").expect("writable");
    let last = bench.snapshot().await.0;
    crate::prune::forget(&bench, &last).await;
    let (store, cache) = removing(&bench).await;
    let latest = opened(&store, &cache).await.find_snapshot("latest", &SnapshotFilter::default()).await;
    assert!(store.has_acted());
    assert_eq!(latest.expect("there is one").id, first.id);
}
