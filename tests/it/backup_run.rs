//! A backup as a whole: what ends it, and what it tells about its sources.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use coffre::ops::Cancel;
use coffre::ops::backup::{BackupError, backup};
use coffre::progress::{Counter, Monitor, Problem, Totals};

use crate::support::{Bench, open, options};

/// Panics at the entry that it was told, whichever thread tells of it.
struct Fragile(AtomicI64);

impl Monitor for Fragile {
    fn add(&self, counter: Counter, _: u64) {
        if counter == Counter::Entries {
            assert!(self.0.fetch_sub(1, Ordering::Relaxed) > 0, "a panic that the test asked for");
        }
    }

    fn phase(&self, _: &str) {}
    fn totals(&self, _: Totals) {}
    fn problem(&self, _: Problem) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_that_panics_ends_the_run_with_an_error_and_no_snapshot() {
    let bench = Bench::new().await;
    let run = async |entries| {
        let repository = open(bench.store(), bench.cache.path()).await.expect("opened");
        let fragile = Arc::new(Fragile(AtomicI64::new(entries)));
        backup(repository, options(bench.source.path()), fragile, Cancel::default()).await
    };
    // In a worker, which reads.
    for entries in [0, 20] {
        assert!(matches!(run(entries).await, Err(BackupError::Internal)));
    }
    let whole = bench.backup().await;
    assert_eq!(whole.unchanged_files, 0);
    // In the planner, which finds that nothing changed.
    for entries in [0, 20] {
        assert!(matches!(run(entries).await, Err(BackupError::Internal)));
    }
    let again = bench.backup().await;
    assert_eq!(again.unchanged_files, whole.counts.files);
    let snapshot = again.snapshot.expect("no dry run");
    assert_eq!(snapshot.parent, whole.snapshot.map(|snapshot| snapshot.id));
}
