//! What runs that died, and years of records, leave behind goes when nobody can need it, and not before.

use std::sync::Arc;

use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::ops::prune::PruneUnfinished;
use coffre::ops::verify::ReadData;
use coffre::progress::Collected;
use coffre::store::layer::Operation;
use coffre::store::layer::fault::{Fault, FaultStore};
use coffre::store::{Store, StoreErrorKind};

use crate::prune::{
    after_days, assert_kept, at_once, bring_back, forget, packs, prune_with, pruned, with_dead_packs, with_forgotten,
};
use crate::support::{Bench, open, options, random_bytes, run_backup};

async fn names(bench: &Bench, kind: ObjectKind) -> Vec<ObjectKey> {
    bench.store().list(kind.prefix()).await.expect("listed").into_iter().map(|object| object.key).collect()
}

/// Packs of a run that died before it had indexed them.
async fn with_orphans() -> (Bench, Vec<ObjectKey>) {
    let bench = Bench::new().await;
    bench.backup().await;
    let before = packs(&*bench.store()).await;
    std::fs::write(bench.source.path().join("more"), random_bytes(77, 3_000_000)).expect("writable");
    crate::support::at_rest().await;
    let dying = Arc::new(FaultStore::new(bench.store()));
    dying.plan(Fault::on(Operation::Put).matching("index/").always().fail_before(StoreErrorKind::Denied));
    dying.plan(Fault::on(Operation::Delete).matching("sessions/").always().fail_before(StoreErrorKind::Denied));
    run_backup(dying, bench.cache.path(), options(bench.source.path())).await.expect_err("it died");
    std::fs::remove_file(bench.source.path().join("more")).expect("there");
    let orphans: Vec<_> = packs(&*bench.store()).await.into_iter().filter(|pack| !before.contains(pack)).collect();
    assert!(!orphans.is_empty(), "they were stored");
    (bench, orphans)
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_go_when_the_session_that_wrote_them_has_ended_and_rubbish_stays() {
    let (bench, orphans) = with_orphans().await;
    let rubbish = ObjectKey::from_listed(format!("packs/ab/{}", "ab".repeat(16)));
    bench.store().put(&rubbish, random_bytes(3, 5000).into()).await.expect("put");
    // It may still index them.
    let all = packs(&*bench.store()).await;
    let report = pruned(&bench, at_once()).await.expect("done");
    assert_eq!((report.plan.dead_packs, report.unfinished, packs(&*bench.store()).await), (0, None, all));
    let report = pruned(&bench, after_days(1)).await.expect("done");
    assert_eq!((report.deleted_packs, report.given_up.len()), (orphans.len() as u64, 1), "{report:?}");
    assert!(report.deleted_bytes > 3_000_000 && report.deleted_bytes == report.plan.dead_bytes);
    let left = packs(&*bench.store()).await;
    assert!(orphans.iter().all(|pack| !left.contains(pack)) && left.contains(&rubbish));
    assert_eq!(names(&bench, ObjectKind::Session).await, [], "nobody waits for it any more");
    assert_eq!(bench.verify(ReadData::All).await.findings, []);

    // Somebody who knows that it is dead need not wait, and what was deleted is stored again when it is wanted.
    let (bench, orphans) = with_orphans().await;
    let session = names(&bench, ObjectKind::Session).await[0].session_id().expect("ours");
    let give_up = coffre::ops::prune::PruneOptions { give_up: vec![session], ..at_once() };
    assert_eq!(pruned(&bench, give_up).await.expect("done").deleted_packs, orphans.len() as u64);
    std::fs::write(bench.source.path().join("more"), random_bytes(77, 3_000_000)).expect("writable");
    let again = bench.snapshot().await;
    assert!(again.0.counts.new_bytes >= 3_000_000);
    assert_kept(bench.store(), bench.source.path(), &[again], "stored again").await;
}

/// A segment that was lost: what it alone told of is missed where a snapshot needs it, and nothing goes.
#[tokio::test(flavor = "multi_thread")]
async fn packs_of_a_lost_segment_stay_where_a_snapshot_needs_them() {
    let (bench, kept) = with_dead_packs().await;
    for segment in names(&bench, ObjectKind::Index).await {
        let lost = bench.fork();
        let body = lost.memory.get(&segment).await.expect("there");
        lost.store().delete(&segment).await.expect("deleted");
        let cache = tempfile::tempdir().expect("made");
        let _ = prune_with(lost.store(), cache.path(), after_days(1), Arc::new(Collected::default())).await;
        lost.memory.put(&segment, body).await.expect("put");
        assert_kept(lost.store(), bench.source.path(), &kept, segment.as_str()).await;
    }
}

/// A backup that begins while orphans are doomed is not in the way, and relies on none of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_indexes_what_was_taken_for_an_orphan_is_found_by_the_second_look() {
    let (bench, orphans) = with_orphans().await;
    // The lease is not there any more, and the segment comes when the packs are doomed.
    let session = names(&bench, ObjectKind::Session).await[0].clone();
    bench.store().delete(&session).await.expect("deleted");
    let (act_bench, source) = (bench.fork(), bench.source.path().to_path_buf());
    drop(act_bench);
    let handle = tokio::runtime::Handle::current();
    let store = bench.store();
    let monitor = crate::support::at_phase::AtPhase::new("waiting for backups that run", move || {
        let (store, source) = (store.clone(), source.clone());
        std::fs::write(source.join("more"), random_bytes(77, 3_000_000)).expect("writable");
        let run = async move {
            let cache = tempfile::tempdir().expect("made");
            run_backup(store, cache.path(), options(&source)).await.expect("backed up");
        };
        let handle = handle.clone();
        std::thread::spawn(move || handle.block_on(run)).join().expect("no panic");
    });
    let report = prune_with(bench.store(), bench.cache.path(), at_once(), Arc::new(monitor)).await.expect("done");
    assert!(!matches!(report.unfinished, Some(PruneUnfinished::Needed { .. })), "it stored its own: {report:?}");
    assert_eq!(report.deleted_packs, orphans.len() as u64);
    assert_eq!(bench.verify(ReadData::All).await.findings, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_later_ones_tell_again_go() {
    let (bench, kept, (forgotten, _)) = with_forgotten().await;
    for _ in 0..9 {
        bring_back(bench.store(), &forgotten).await.expect("brought back");
        forget(&bench, &forgotten).await;
    }
    for _ in 0..18 {
        bench.verify(ReadData::All).await;
    }
    let (retention, verified) = (names(&bench, ObjectKind::Retention).await, names(&bench, ObjectKind::Verified).await);
    assert!(retention.len() > 16 && verified.len() == 18, "{} {}", retention.len(), verified.len());
    let report = pruned(&bench, after_days(2)).await.expect("done");
    assert!(report.removed_old > 20, "{report:?}");
    assert!(names(&bench, ObjectKind::Retention).await.len() < 5);
    assert!(names(&bench, ObjectKind::Verified).await.len() <= 2);
    // Both tell what they told.
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let ledger = repository.ledger().await.expect("read");
    for pack in packs(&*bench.store()).await {
        assert!(ledger.last_read(pack.pack_id().expect("ours")).is_some());
    }
    assert_eq!(
        repository
            .snapshots()
            .await
            .expect("listed")
            .iter()
            .filter(|(_, it)| it.as_ref().is_ok_and(|it| it.forgotten.is_some()))
            .count(),
        1
    );
    assert_kept(bench.store(), bench.source.path(), &kept, "old records").await;
    assert_eq!(pruned(&bench, after_days(2)).await.expect("done").removed_old, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_snapshot_that_comes_back_goes_again_a_month_later() {
    let (bench, kept, (forgotten, _)) = with_forgotten().await;
    let key = ObjectKey::snapshot(forgotten.id);
    let object = bench.memory.get(&key).await.expect("there");
    assert_eq!(pruned(&bench, after_days(4)).await.expect("done").removed_snapshots, 1);
    bench.memory.put(&key, object).await.expect("put");
    pruned(&bench, after_days(20)).await.expect("done");
    assert!(names(&bench, ObjectKind::Snapshot).await.contains(&key), "who put the list may take it back");
    pruned(&bench, after_days(40)).await.expect("done");
    assert!(!names(&bench, ObjectKind::Snapshot).await.contains(&key));
    assert_kept(bench.store(), bench.source.path(), &kept, "came back").await;
}
