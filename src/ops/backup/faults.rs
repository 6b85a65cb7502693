//! Tests of a backup on a machine with faulty memory: what carries a mark is altered after it was hashed (`frame::tests`).

use std::sync::Arc;

use crate::crypto::secret::Passphrase;
use crate::crypto::slot::SlotLock;
use crate::format::object::tests::FLIPS as VALUE_FLIPS;
use crate::model::key::ObjectKind;
use crate::model::time::Timestamp;
use crate::ops::Cancel;
use crate::ops::backup::{BackupError, BackupOptions, ParentChoice, backup};
use crate::ops::verify::{ReadData, VerifyOptions, verify};
use crate::progress::Collected;
use crate::repository::frame::tests::FLIPS;
use crate::repository::recheck::Altered;
use crate::repository::uploader::UploadError;
use crate::repository::writer::CommitError;
use crate::repository::{InitOptions, Repository};
use crate::source::files::WalkOptions;
use crate::source::given::Given;
use crate::store::Store;
use crate::store::memory::MemoryStore;

struct Machine {
    store: MemoryStore,
    repository: Arc<Repository>,
    source: tempfile::TempDir,
    _cache: tempfile::TempDir,
}

impl Machine {
    async fn new() -> Self {
        let (store, cache) = (MemoryStore::default(), tempfile::tempdir().expect("made"));
        let locks = [(SlotLock::Recovery(Passphrase::new("for tests".into())), "test")];
        let (now, arc) = (Timestamp::from_seconds(1_800_000_000), Arc::new(store.clone()));
        let made = Repository::init(arc, &locks, &InitOptions::default(), now, cache.path()).await;
        let source = tempfile::tempdir().expect("made");
        std::fs::write(source.path().join("good"), "what is whole").expect("written");
        Self { store, repository: Arc::new(made.expect("made")), source, _cache: cache }
    }

    fn options(&self) -> BackupOptions {
        BackupOptions {
            files: Some(WalkOptions { roots: vec![self.source.path().to_path_buf()], ..WalkOptions::default() }),
            parent: ParentChoice::None,
            threads: 2,
            ..BackupOptions::default()
        }
    }

    async fn back_up(&self, options: BackupOptions) -> Result<(), BackupError> {
        let monitor = Arc::new(Collected::default());
        backup(self.repository.clone(), options, monitor, Cancel::default()).await.map(drop)
    }

    async fn count(&self, kind: ObjectKind) -> usize {
        self.store.list(kind.prefix()).await.expect("listed").len()
    }

    async fn findings(&self, read_data: ReadData) -> Vec<String> {
        let options = VerifyOptions { read_data, ..VerifyOptions::default() };
        let monitor = Arc::new(Collected::default());
        let report = verify(self.repository.clone(), options, monitor, Cancel::default()).await.expect("verified");
        report.findings.iter().map(|finding| finding.damage.to_string()).collect()
    }
}

fn mark() -> &'static str {
    std::str::from_utf8(FLIPS).expect("words")
}

/// Contents of files, streams and nodes of trees all go through the check.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_altered_in_memory_ends_the_backup_and_is_not_uploaded() {
    for what in ["content", "stream", "tree"] {
        let machine = Machine::new().await;
        let mut options = machine.options();
        let altered = machine.source.path().join(if what == "tree" { mark() } else { "altered" });
        match what {
            "content" => std::fs::write(&altered, mark()).expect("written"),
            "stream" => {
                options.sources = vec![Arc::new(Given::command("words", ["/bin/echo", mark()]))];
            }
            _ => std::fs::write(&altered, "whole").expect("written"),
        }
        let outcome = machine.back_up(options.clone()).await;
        assert!(matches!(outcome, Err(BackupError::Upload(UploadError::Altered { .. }))), "{what}: {outcome:?}");
        let uploaded = machine.count(ObjectKind::Pack).await;
        // Contents that were whole may have been on their way already when the tree was found to be altered.
        assert!(uploaded <= usize::from(what == "tree"), "{what}: {uploaded} packs");
        assert_eq!(machine.count(ObjectKind::Snapshot).await, 0, "{what}");

        // Once the memory is sound again nothing of that is left in the way.
        let _ = std::fs::remove_file(altered);
        options.sources.clear();
        machine.back_up(options).await.expect("backed up");
        assert_eq!(machine.findings(ReadData::All).await, [""; 0], "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_extra_check_only_reading_the_data_finds_it() {
    let machine = Machine::new().await;
    std::fs::write(machine.source.path().join("altered"), mark()).expect("written");
    machine.back_up(BackupOptions { extra_check: false, ..machine.options() }).await.expect("nothing is noticed");
    assert_eq!(machine.findings(ReadData::No).await, [""; 0]);
    assert_eq!(machine.findings(ReadData::All).await.len(), 1);
}

/// Manifests and leases are opened again as well.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_altered_as_it_is_sealed_is_not_uploaded() {
    let words = || std::str::from_utf8(VALUE_FLIPS).expect("words").to_owned();
    let machine = Machine::new().await;
    std::fs::write(machine.source.path().join("file"), "whole").expect("written");
    let labelled = BackupOptions { tags: vec![words()], ..machine.options() };
    let outcome = machine.back_up(labelled.clone()).await;
    assert!(matches!(outcome, Err(BackupError::Commit(CommitError::Altered(Altered::Sealed)))), "{outcome:?}");
    assert_eq!(machine.count(ObjectKind::Snapshot).await, 0);
    let outcome = machine.back_up(BackupOptions { host: words(), ..machine.options() }).await;
    assert!(matches!(&outcome, Err(BackupError::Lease(error)) if error.message.contains("faulty")), "{outcome:?}");
    assert_eq!(machine.count(ObjectKind::Session).await, 0);
    machine.back_up(machine.options()).await.expect("what was stored is whole");
    machine.back_up(BackupOptions { extra_check: false, ..labelled }).await.expect("nothing is noticed");
    assert_eq!(machine.findings(ReadData::No).await.len(), 1);
}
