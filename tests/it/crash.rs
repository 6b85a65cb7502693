//! The store dies after each of k changes: what was there stays, and the next backup succeeds.

use std::sync::Arc;

use coffre::model::key::ObjectKind;
use coffre::ops::backup::BackupError;
use coffre::ops::verify::ReadData;
use coffre::store::Store;
use coffre::store::layer::fault::FaultStore;

use crate::support::{Bench, Failure, command, files_in, options, random_bytes, run_backup};

#[tokio::test(flavor = "multi_thread")]
async fn whenever_the_store_dies_nothing_visible_is_lost() {
    let bench = Bench::new().await;
    let (first, before) = bench.snapshot().await;
    std::fs::write(bench.source.path().join("a/new"), random_bytes(9, 4_000_000)).expect("writable");
    std::fs::write(bench.source.path().join("a/text"), "changed").expect("writable");
    let now = files_in(bench.source.path());

    for k in 0.. {
        let left = bench.memory.fork();
        let dying = Arc::new(FaultStore::new(Arc::new(left.clone())));
        dying.die_after_mutations(k);
        let cache = tempfile::tempdir().expect("a temporary directory");
        let outcome = run_backup(dying.clone(), cache.path(), options(bench.source.path())).await;
        let store: Arc<dyn Store> = Arc::new(left.clone());
        let snapshots = store.list(ObjectKind::Snapshot.prefix()).await.expect("listed").len();
        assert_eq!(outcome.is_ok(), snapshots == 2, "k = {k}: a snapshot exists exactly when the run said so");

        let after = Bench { memory: left, source: tempfile::tempdir().expect("made"), cache };
        let report = after.verify(ReadData::All).await;
        assert_eq!(report.findings, [], "k = {k}");
        let readable = crate::support::read_back(after.store(), after.cache.path(), &first).await.expect("readable");
        assert_eq!(crate::support::contents(bench.source.path(), &readable), before, "k = {k}");

        // The same host goes on with the cache that the cut-off run left.
        let next = run_backup(after.store(), after.cache.path(), options(bench.source.path())).await;
        let next = next.expect("the next backup succeeds").snapshot.expect("made");
        let entries = crate::support::read_back(after.store(), after.cache.path(), &next).await.expect("readable");
        assert_eq!(crate::support::contents(bench.source.path(), &entries), now, "k = {k}");
        assert_eq!(after.verify(ReadData::All).await.findings, [], "k = {k}");

        if !dying.died() {
            assert!(k >= 6, "a backup makes several changes, this one {k}");
            return;
        }
    }
}

/// A stream that never ends is not read on, let alone kept, when nothing can be stored any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_dies_ends_a_stream_that_does_not() {
    let bench = Bench::new().await;
    let dying = Arc::new(FaultStore::new(bench.store()));
    dying.die_after_mutations(3);
    let mut endless = options(bench.source.path());
    endless.files = None;
    endless.sources = vec![command("endless", &["cat", "/dev/urandom"])];
    let run = run_backup(dying.clone(), bench.cache.path(), endless);
    let outcome = tokio::time::timeout(std::time::Duration::from_secs(60), run).await.expect("it ends");
    assert!(matches!(outcome, Err(Failure::Backup(BackupError::Upload(_)))), "{outcome:?}");
    assert!(dying.died());
}
