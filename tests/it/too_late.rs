//! A clean-up that was stopped for weeks does not go on with what it found out before: the lists that it told may not count any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use coffre::model::time::Clock;
use coffre::ops::prune::{PruneOptions, PruneReport, PruneUnfinished};
use coffre::progress::Collected;
use coffre::store::layer::Operation;

use crate::prune::{assert_kept, at_once, everything, forget, prune_with, with_dead_packs};
use crate::support::Bench;
use crate::support::at_phase::AtPhase;
use crate::support::at_request::AtRequest;

const DAY: i64 = 86_400;

/// A clock that is `days` ahead, to be moved.
fn clock(days: i64) -> &'static AtomicI64 {
    Box::leak(Box::new(AtomicI64::new(Clock::System.now().seconds + days * DAY)))
}

fn told(clock: &'static AtomicI64) -> PruneOptions {
    PruneOptions { clock: Clock::Told(clock), ..at_once() }
}

/// Cleans up, and is stopped for `days` when it begins to delete packs.
async fn stopped_before_packs(bench: &Bench, days: i64) -> PruneReport {
    let clock = clock(0);
    let stop = AtPhase::new("deleting", move || {
        clock.fetch_add(days * DAY, Ordering::Relaxed);
    });
    prune_with(bench.store(), bench.cache.path(), told(clock), Arc::new(stop)).await.expect("done")
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_that_were_doomed_weeks_ago_are_not_deleted() {
    let (bench, kept) = with_dead_packs().await;
    let objects = everything(&*bench.store()).await;
    let report = stopped_before_packs(&bench, 16).await;
    assert_eq!((&report.unfinished, report.deleted_packs), (&Some(PruneUnfinished::TooLate), 0));
    let after = everything(&*bench.store()).await;
    assert!(objects.iter().filter(|key| key.pack_id().is_some()).all(|pack| after.contains(pack)));
    assert_kept(bench.store(), bench.source.path(), &kept, "too late").await;
    // In time they are, and so are those of the run before.
    let report = stopped_before_packs(&bench, 14).await;
    assert!(report.unfinished.is_none() && report.deleted_packs >= 3, "{report:?}");
    assert_kept(bench.store(), bench.source.path(), &kept, "in time").await;
}

/// Cleans up in four days, and is stopped for `days` when the first snapshot has been removed.
async fn stopped_at_a_snapshot(bench: &Bench, days: i64) -> PruneReport {
    let clock = clock(4);
    let stop = move || {
        clock.fetch_add(days * DAY, Ordering::Relaxed);
    };
    let store = AtRequest::new(bench.store(), Operation::Delete, "snapshots/", stop);
    let report = prune_with(store.clone(), bench.cache.path(), told(clock), Arc::new(Collected::default())).await;
    assert!(store.has_acted());
    report.expect("done")
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_of_which_was_asked_weeks_ago_are_not_removed() {
    let bench = Bench::new().await;
    let mut all = Vec::new();
    for night in 0..4 {
        std::fs::write(bench.source.path().join("a/text"), format!("night {night}")).expect("writable");
        all.push(bench.snapshot().await);
    }
    let kept = all.split_off(2);
    for (snapshot, _) in &all {
        forget(&bench, snapshot).await;
    }
    for (days, unfinished, removed) in [(14, None, 2), (16, Some(PruneUnfinished::TooLate), 1)] {
        let fork = bench.fork();
        let report = stopped_at_a_snapshot(&fork, days).await;
        assert_eq!((&report.unfinished, report.removed_snapshots), (&unfinished, removed), "{days} days");
        let next = prune_with(fork.store(), fork.cache.path(), told(clock(30)), Arc::new(Collected::default())).await;
        assert_eq!(next.expect("done").removed_snapshots, 2 - removed, "{days} days");
        assert_kept(fork.store(), bench.source.path(), &kept, "all were asked about").await;
    }
}
