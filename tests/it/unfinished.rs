//! Runs that fail or are ended: what they stored by then is in an index segment, so that the next run finds it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coffre::cancel::Cancel;
use coffre::model::id::PackId;
use coffre::model::key::ObjectKind;
use coffre::ops::backup::{BackupError, BackupReport, backup};
use coffre::ops::verify::ReadData;
use coffre::progress::Collected;
use coffre::repository::index::Index;
use coffre::store::StoreErrorKind;
use coffre::store::layer::Operation;
use coffre::store::layer::fault::{Fault, FaultStore};
use coffre::store::layer::retry::{RetryOptions, RetryStore};

use crate::support::dead_mount::DeadMount;
use crate::support::{Bench, open, options, random_bytes};

/// Backs up over `faulty`, and ends the run once it has stored `cancel_at` packs, where that is given.
async fn run(bench: &Bench, faulty: FaultStore, cancel_at: Option<usize>) -> Result<BackupReport, BackupError> {
    let (cancel, monitor) = (Cancel::default(), Arc::new(Collected::default()));
    let retry = RetryStore::new(Arc::new(faulty), RetryOptions::default(), monitor.clone(), cancel.clone());
    let repository = open(Arc::new(retry), bench.cache.path()).await.expect("opens");
    let running = tokio::spawn(backup(repository, options(bench.source.path()), monitor, cancel.clone()));
    if let Some(count) = cancel_at {
        let begun = Instant::now();
        while packs(bench).await.len() < count {
            assert!(begun.elapsed() < Duration::from_secs(120), "nothing is stored");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cancel.cancel();
    }
    running.await.expect("no panic")
}

async fn packs(bench: &Bench) -> BTreeSet<PackId> {
    let listed = bench.store().list(ObjectKind::Pack.prefix()).await.expect("listed");
    listed.iter().filter_map(|object| object.key.pack_id()).collect()
}

/// Checks that every stored pack is in the index, and that the next run goes on from there.
async fn assert_all_is_found(bench: &Bench, case: &str) {
    let stored = packs(bench).await;
    assert!(!stored.is_empty(), "{case}: something was stored before the run ended");
    let cache = tempfile::tempdir().expect("made");
    let repository = open(bench.store(), cache.path()).await.expect("opens");
    let index = Index::load(&repository, &Collected::default()).await.expect("loaded");
    let indexed: BTreeSet<PackId> = index.packs().iter().map(|pack| pack.id).collect();
    assert_eq!(indexed, stored, "{case}");
    bench.backup().await;
    assert_eq!(bench.verify(ReadData::All).await.findings, [], "{case}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_before_a_pack_failed_is_found_by_the_next_run() {
    for kind in [StoreErrorKind::Denied, StoreErrorKind::Full, StoreErrorKind::Other] {
        let bench = Bench::new().await;
        let faulty = FaultStore::new(bench.store());
        faulty.plan(Fault::on(Operation::Put).matching("packs/").nth(2).fail_before(kind));
        let error = run(&bench, faulty, None).await.expect_err("a pack is missing");
        assert!(matches!(error, BackupError::Upload(_)), "{kind:?}: {error:?}");
        assert_all_is_found(&bench, &format!("{kind:?}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_before_an_interruption_is_found_though_another_pack_is_still_on_its_way() {
    let bench = Bench::new().await;
    let faulty = FaultStore::new(bench.store());
    faulty.plan(Fault::on(Operation::Put).matching("packs/").nth(2).hang());
    run(&bench, faulty, Some(2)).await.expect_err("interrupted");
    assert_all_is_found(&bench, "a pack that hangs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_before_an_interruption_is_found_though_a_read_never_comes_back() {
    let bench = Bench::new().await;
    // Batches of two MiB are read before the walk comes to the mount, and while it waits there.
    let mounted = bench.source.path().join("later/mounted");
    std::fs::create_dir_all(&mounted).expect("made");
    for i in 0..8 {
        std::fs::write(bench.source.path().join(format!("b{i}")), random_bytes(50 + i, 1 << 20)).expect("written");
    }
    let Some(mount) = DeadMount::new(&mounted, 0) else {
        eprintln!("skipped: FUSE is not permitted here");
        return;
    };
    let ended = run(&bench, FaultStore::new(bench.store()), Some(2)).await;
    drop(mount);
    assert!(matches!(ended, Err(BackupError::Cancelled)), "{ended:?}");
    assert_all_is_found(&bench, "a read that hangs").await;
}
