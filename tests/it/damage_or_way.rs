//! What is damage, and what is only the way to the store: an answer that broke off, a refusal or a wrong byte on the way
//! damages nothing, and is never called so. What is lost is asked about once or twice, not chunk by chunk.

use std::sync::Arc;

use coffre::model::key::ObjectKind;
use coffre::model::path::EntryPath;
use coffre::model::snapshot::Snapshot;
use coffre::ops::dump::DumpError;
use coffre::ops::verify::{ReadData, VerifyError, VerifyOptions, VerifyReport, verify};
use coffre::ops::{Cancel, LookError};
use coffre::progress::Collected;
use coffre::store::layer::Operation;
use coffre::store::layer::fault::{Fault, FaultStore};
use coffre::store::layer::record::RecordStore;
use coffre::store::{Store, StoreErrorKind};

use crate::support::dumped::dumped_afresh;
use crate::support::{Bench, PASSPHRASE, open, passphrase, random_bytes};

/// The failures that say nothing about what is stored.
const NO_DAMAGE: [StoreErrorKind; 6] = [
    StoreErrorKind::Unavailable,
    StoreErrorKind::Throttled,
    StoreErrorKind::TimedOut,
    StoreErrorKind::Denied,
    StoreErrorKind::NoSuchPlace,
    StoreErrorKind::Other,
];

async fn try_verify(store: Arc<dyn Store>) -> Result<VerifyReport, VerifyError> {
    let cache = tempfile::tempdir().expect("a temporary directory");
    let repository = open(store, cache.path()).await.expect("opens");
    let options = VerifyOptions { read_data: ReadData::All, memory_bytes: 256 << 20, ..VerifyOptions::default() };
    verify(repository, options, Arc::new(Collected::default()), Cancel::default()).await
}

async fn try_dump(store: Arc<dyn Store>, snapshot: &Snapshot, path: &str) -> Result<Vec<u8>, DumpError> {
    let path = EntryPath::new(path.trim_start_matches('/')).expect("safe");
    dumped_afresh(store, snapshot, Some(path)).await
}

/// A bench with one snapshot, and the path in it of a file of 3 MB.
async fn bench() -> (Bench, Snapshot, String) {
    let bench = Bench::new().await;
    let (snapshot, _) = bench.snapshot().await;
    let large = bench.source.path().join("a/b/large").display().to_string();
    (bench, snapshot, large)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_wrong_once_is_damage_for_nobody() {
    let (bench, snapshot, large) = bench().await;
    for kind in [ObjectKind::Config, ObjectKind::Key, ObjectKind::Keyring, ObjectKind::Index, ObjectKind::Snapshot] {
        for effect in [Fault::on(Operation::Get).corrupt(40), Fault::on(Operation::Get).truncate(40)] {
            let store = FaultStore::new(bench.store());
            store.plan(effect.matching(kind.prefix()));
            let report = try_verify(Arc::new(store)).await.expect("verified");
            assert_eq!(report.findings, [], "{kind:?}");
        }
    }
    for effect in [Fault::on(Operation::Get).corrupt(40), Fault::on(Operation::Get).truncate(40)] {
        let store = FaultStore::new(bench.store());
        store.plan(effect.matching("packs/"));
        assert_eq!(try_verify(Arc::new(store)).await.expect("verified").findings, []);
    }
    for nth in 1..=3 {
        let store = FaultStore::new(bench.store());
        store.plan(Fault::on(Operation::GetRange).nth(nth).corrupt(40));
        assert_eq!(try_dump(Arc::new(store), &snapshot, &large).await.expect("whole"), random_bytes(1, 3_000_000));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_came_wrong_once_neither_damages_it_nor_makes_the_passphrase_wrong() {
    let (bench, ..) = bench().await;
    let slot = bench.store().list("keys/").await.expect("listed").remove(0);
    for offset in (0..slot.size as usize).step_by(7) {
        let store = FaultStore::new(bench.store());
        store.plan(Fault::on(Operation::Get).matching("keys/").corrupt(offset));
        let cache = tempfile::tempdir().expect("a temporary directory");
        let store: Arc<dyn Store> = Arc::new(store);
        let opened = coffre::repository::Repository::open(store, &passphrase(), cache.path()).await;
        opened.unwrap_or_else(|error| panic!("{PASSPHRASE} at {offset}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verifying_ends_where_the_store_cannot_be_read_and_calls_nothing_damaged() {
    let (bench, ..) = bench().await;
    for kind in NO_DAMAGE {
        for (operation, matching) in [
            (Operation::Get, "index/"),
            (Operation::Get, "packs/"),
            (Operation::Get, "snapshots/"),
            (Operation::GetRange, "packs/"),
        ] {
            let store = FaultStore::new(bench.store());
            store.plan(Fault::on(operation).matching(matching).fail_before(kind));
            let error = try_verify(Arc::new(store)).await.expect_err("it cannot be completed");
            assert!(
                !matches!(error, VerifyError::Cancelled | VerifyError::Look(LookError::Access(_))),
                "{kind:?} {matching}: {error}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_cannot_go_on_is_not_called_damaged() {
    let (bench, snapshot, large) = bench().await;
    for kind in NO_DAMAGE {
        for nth in [1, 2, 3] {
            let store = FaultStore::new(bench.store());
            store.plan(Fault::on(Operation::GetRange).matching("packs/").nth(nth).fail_before(kind));
            let error = try_dump(Arc::new(store), &snapshot, &large).await.expect_err("out of reach");
            match error {
                DumpError::Unreachable { source, .. } => assert!(!source.is_damage(), "{kind:?}: {source}"),
                DumpError::Tree { source, .. } => assert!(!source.is_damage(), "{kind:?}: {source}"),
                other => panic!("{kind:?}: {other}"),
            }
        }
    }
}

/// A stream of small chunks in one pack: half a pack takes some hundred of them along.
#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_is_cut_gone_or_wrong_is_told_after_a_handful_of_requests() {
    let (bench, snapshot, large) = bench().await;
    let listed = bench.store().list("packs/").await.expect("listed");
    let packs: Vec<_> = listed.iter().filter(|pack| pack.size > 500_000).map(|pack| pack.key.clone()).collect();
    assert!(!packs.is_empty());
    for damage in ["cut", "gone", "wrong"] {
        let damaged = bench.memory.fork();
        for pack in &packs {
            match damage {
                "cut" => damaged.tamper(pack, |bytes| bytes.truncate(1000)),
                "gone" => damaged.delete(pack).await.expect("deleted"),
                _ => damaged.tamper(pack, |bytes| bytes.iter_mut().step_by(100).for_each(|byte| *byte ^= 1)),
            }
        }
        let record = RecordStore::new(Arc::new(damaged));
        let error = try_dump(Arc::new(record.clone()), &snapshot, &large).await.expect_err(damage);
        assert!(matches!(error, DumpError::Damaged { .. }), "{damage}: {error}");
        let calls = record.calls();
        let chunks = 3_000_000 / 4096;
        for pack in &packs {
            let asked = calls.iter().filter(|call| call.subject == pack.as_str()).count();
            // Frames on their way side by side each ask before the first answer is in; none asks for its chunks.
            assert!(asked <= 3 * 16 && asked < chunks / 4, "{damage} {pack}: {asked} requests");
        }
    }
}
