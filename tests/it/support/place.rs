//! A repository in memory with a cache, a source, and a place to restore to.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coffre::model::entry::Entry;
use coffre::model::path::EntryPath;
use coffre::model::snapshot::Snapshot;
use coffre::ops::Cancel;
use coffre::ops::restore::{RestoreOptions, RestoreReport, restore};
use coffre::progress::{Collected, Monitor, Problem};
use coffre::repository::reader::Reader;
use coffre::repository::tree::TreeBuilder;
use coffre::repository::writer::{Writer, WriterOptions};
use coffre::store::Store;
use coffre::store::memory::MemoryStore;

use crate::support::tree::describe;
use crate::support::{begin, init, open, options, run_backup};

/// A repository with a cache, a source, and a place to restore to.
pub struct Place {
    pub memory: MemoryStore,
    pub directory: tempfile::TempDir,
}

impl Place {
    pub async fn new() -> Self {
        let place = Self { memory: MemoryStore::default(), directory: tempfile::tempdir().expect("made") };
        fs::create_dir(place.source()).expect("made");
        init(place.store(), &place.cache()).await;
        place
    }

    pub fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.memory.clone())
    }

    pub fn cache(&self) -> PathBuf {
        self.directory.path().join("cache")
    }

    pub fn source(&self) -> PathBuf {
        self.directory.path().join("source")
    }

    pub fn target(&self) -> PathBuf {
        self.directory.path().join("target")
    }

    /// Writes a file into the source.
    pub fn plant(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.source().join(name);
        fs::create_dir_all(path.parent().expect("below the source")).expect("made");
        fs::write(path, content).expect("written");
    }

    /// Reads a file of the target.
    #[track_caller]
    pub fn restored(&self, name: &str) -> Vec<u8> {
        fs::read(self.target().join(name)).expect("restored")
    }

    pub async fn backup(&self) -> Snapshot {
        let report = run_backup(self.store(), &self.cache(), options(&self.source())).await.expect("backed up");
        assert_eq!(report.counts.unreadable, 0);
        report.snapshot.expect("made")
    }

    /// Commits a snapshot whose entries are those of `snapshot`, changed: what a race or another program may have left.
    pub async fn changed(&self, snapshot: &Snapshot, change: impl FnOnce(&mut Vec<Entry>)) -> Snapshot {
        let repository = open(self.store(), &self.cache()).await.expect("opened");
        let monitor: Arc<dyn Monitor> = Arc::new(Collected::default());
        let index = begin(&repository).await;
        let reading = repository.reading().expect("may be read");
        let reader = Arc::new(Reader::new(reading, index.index().clone(), 64 << 20, monitor.clone()));
        let mut walk = reader.walk(snapshot.root, None);
        let mut entries = Vec::new();
        while let Some(entry) = walk.next().await {
            entries.push(entry.expect("whole"));
        }
        change(&mut entries);
        entries.sort_by(|left, right| left.path.cmp(&right.path));
        let id = index.session().id();
        let settings = WriterOptions {
            pack_target_bytes: 1 << 20,
            packs_in_flight: 1,
            level: 3,
            dry_run: false,
            extra_check: true,
        };
        let writer = Writer::start(index, settings, monitor);
        let (writer, root) = tokio::task::spawn_blocking(move || {
            let mut builder = TreeBuilder::new(&writer);
            entries.iter().for_each(|entry| builder.push(entry).expect("stored"));
            let root = builder.finish().expect("stored");
            writer.flush().expect("stored");
            (writer, root)
        })
        .await
        .expect("no panic");
        let committer = writer.finish().await.expect("stored");
        let mut changed = snapshot.clone();
        (changed.root, changed.session) = (root, id);
        committer.commit(&mut changed).await.expect("committed");
        changed
    }

    /// Where the source stands in its snapshots.
    pub fn source_path(&self) -> EntryPath {
        EntryPath::new(&self.source().as_os_str().as_bytes()[1..]).expect("safe")
    }

    /// What to restore to get the source's contents directly in the target.
    pub fn options(&self, snapshot: &Snapshot) -> RestoreOptions {
        let mut options = RestoreOptions::new(snapshot.clone(), self.target());
        options.within = Some(self.source_path());
        options
    }

    pub async fn restore(&self, options: RestoreOptions) -> (RestoreReport, Vec<Problem>) {
        let repository = open(self.store(), &self.cache()).await.expect("opened");
        let monitor = Arc::new(Collected::default());
        let report = restore(repository, options, monitor.clone(), Cancel::default()).await.expect("restored");
        (report, monitor.problems())
    }
}

#[track_caller]
pub fn assert_same(source: &Path, target: &Path) {
    let (wanted, found) = (describe(source), describe(target));
    let names = |tree: &std::collections::BTreeMap<Vec<u8>, _>| {
        tree.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&found), names(&wanted));
    for (name, wanted) in &wanted {
        assert_eq!(&found[name], wanted, "{}", String::from_utf8_lossy(name));
    }
}
