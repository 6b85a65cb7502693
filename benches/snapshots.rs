//! A repository of many small snapshots: the time of each verb with an empty and with a warm cache.
//!
//! `cargo bench --bench snapshots -- [SNAPSHOTS] [WRITERS]`; the default is 10 000 snapshots of 50 writers, 0 means that a
//! reader made them all. Store and repository are in this process, so that what is measured is work, not waiting.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coffre::crypto::secret::Passphrase;
use coffre::crypto::slot::SlotLock;
use coffre::format::writer::WriterName;
use coffre::model::id::SegmentId;
use coffre::model::key::ObjectKey;
use coffre::model::snapshot::{Snapshot, SnapshotId};
use coffre::model::time::Timestamp;
use coffre::ops::Cancel;
use coffre::ops::backup::{BackupOptions, backup};
use coffre::ops::restore::{RestoreOptions, restore};
use coffre::ops::verify::{ReadData, VerifyOptions, verify};
use coffre::progress::Collected;
use coffre::repository::choose::SnapshotFilter;
use coffre::repository::writers::{NewWriter, SlotPlace};
use coffre::repository::{InitOptions, MAIN_DOMAIN, Repository};
use coffre::source::files::WalkOptions;
use coffre::store::Store;
use coffre::store::memory::MemoryStore;

const MEMORY: u64 = 256 << 20;
/// How often each time is taken; the shortest counts.
const TIMES: usize = 5;

fn words(name: &str) -> Passphrase {
    Passphrase::new(format!("the words of {name}"))
}

async fn open(store: MemoryStore, name: &str, cache: &Path) -> Arc<Repository> {
    Arc::new(Repository::open(Arc::new(store), &words(name), cache).await.expect("opens"))
}

fn options(source: &Path, host: &str) -> BackupOptions {
    let mut options = BackupOptions::default();
    options.files = Some(WalkOptions { roots: vec![source.to_path_buf()], ..WalkOptions::default() });
    options.host = host.into();
    options
}

async fn back_up(repository: Arc<Repository>, source: &Path, host: &str) -> Snapshot {
    let report = backup(repository, options(source, host), Arc::new(Collected::default()), Cancel::default()).await;
    report.expect("backed up").snapshot.expect("made")
}

/// Adds what `snapshots` unchanged nights leave, an hour apart: snapshots with sessions of their own, and index segments.
async fn grow(store: &MemoryStore, authors: &[Arc<Repository>], last: &Snapshot, snapshots: u64) {
    for i in 0..snapshots {
        let nth = usize::try_from(i).expect("few") % authors.len();
        let session = authors[nth].writing().expect("may be written").begin_session(MAIN_DOMAIN).expect("a good key");
        let started = Timestamp::from_seconds(1_600_000_000 + 3600 * i64::try_from(i).expect("few"));
        let id = SnapshotId::new(started, i.to_be_bytes());
        let host = format!("host{nth}");
        let snapshot = Snapshot { id, session: session.id(), started, host, ..last.clone() };
        store.put(&ObjectKey::snapshot(id), session.seal_snapshot(&snapshot).into()).await.expect("put");
        let segment = SegmentId(blake3::hash(&i.to_le_bytes()).as_bytes()[..16].try_into().expect("16 bytes"));
        store.put(&ObjectKey::segment(segment), session.seal_segment(segment, &[]).into()).await.expect("put");
    }
}

/// The verbs that are measured, each from opening the repository on.
#[derive(Debug, Clone, Copy)]
enum Verb {
    Open,
    Snapshots,
    Latest,
    Restore,
    Verify,
    Backup,
}

const VERBS: [Verb; 6] = [Verb::Open, Verb::Snapshots, Verb::Latest, Verb::Restore, Verb::Verify, Verb::Backup];

impl Verb {
    async fn run(self, store: &MemoryStore, cache: &Path, source: &Path) {
        // A copy, so that one leaves nothing for the next.
        let repository = open(store.fork(), "reader", cache).await;
        let monitor = Arc::new(Collected::default());
        let filter = SnapshotFilter::default();
        match self {
            Verb::Open => {}
            Verb::Snapshots => drop(repository.snapshots().await.expect("listed")),
            Verb::Latest => drop(repository.find_snapshot("latest", &filter).await.expect("found")),
            Verb::Restore => {
                let snapshot = repository.find_snapshot("latest", &filter).await.expect("found");
                let target = tempfile::tempdir().expect("made");
                let options = RestoreOptions::new(snapshot, target.path());
                restore(repository, options, monitor, Cancel::default()).await.expect("restored");
            }
            Verb::Verify => {
                let options =
                    VerifyOptions { read_data: ReadData::No, memory_bytes: MEMORY, ..VerifyOptions::default() };
                let report = verify(repository, options, monitor, Cancel::default()).await.expect("verified");
                assert_eq!(report.findings, []);
            }
            Verb::Backup => drop(back_up(repository, source, "host").await),
        }
    }
}

#[tokio::main]
async fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let (snapshots, writers) = (numbers.next().unwrap_or(10_000), numbers.next().unwrap_or(50));
    let store = MemoryStore::default();
    let (source, warm) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
    std::fs::write(source.path().join("file"), b"what is backed up each night").expect("written");

    let locks = [(SlotLock::Recovery(words("reader")), "reader")];
    let made = Timestamp::from_seconds(1_800_000_000);
    let options = InitOptions::default();
    let repository = Repository::init(Arc::new(store.clone()), &locks, &options, made, warm.path()).await;
    let repository = repository.expect("an empty store takes a repository");
    let mut authors = Vec::new();
    for nth in 0..writers {
        let name = WriterName { name: format!("writer{nth}"), hosts: vec![format!("host{nth}")] };
        let (lock, domains) = (SlotLock::Recovery(words(&name.name)), vec![MAIN_DOMAIN.into()]);
        let new = NewWriter { name: name.clone(), domains, group: None, made };
        repository.add_writer(&new, &lock, SlotPlace::Repository).await.expect("added");
        authors.push(open(store.clone(), &name.name, warm.path()).await);
    }
    let reader = open(store.clone(), "reader", warm.path()).await;
    let last = back_up(reader.clone(), source.path(), "host").await;
    if authors.is_empty() {
        authors.push(reader);
    }
    grow(&store, &authors, &last, snapshots).await;

    println!("{snapshots} snapshots of {writers} writers");
    println!("{:10} {:>12} {:>12}", "", "empty cache", "warm cache");
    Verb::Snapshots.run(&store, warm.path(), source.path()).await;
    Verb::Verify.run(&store, warm.path(), source.path()).await;
    for verb in VERBS {
        let (mut empty, mut full) = (Duration::MAX, Duration::MAX);
        for _ in 0..TIMES {
            let cold = tempfile::tempdir().expect("made");
            for (cache, shortest) in [(cold.path(), &mut empty), (warm.path(), &mut full)] {
                let begun = Instant::now();
                verb.run(&store, cache, source.path()).await;
                *shortest = begun.elapsed().min(*shortest);
            }
        }
        let [verb, empty, full] = [format!("{verb:?}"), format!("{empty:.1?}"), format!("{full:.1?}")];
        println!("{verb:10} {empty:>12} {full:>12}");
    }
}
