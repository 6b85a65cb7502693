//! What each operation asks of the store, at ten runs and at two thousand: the table at the bottom of a page that grows.
//!
//! A run here is what an unchanged night leaves: a snapshot with a session of its own, and an index segment. Trees are
//! shared, so the numbers show what grows with the runs alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use coffre::model::cleanup::CleanupList;
use coffre::model::entry::{Entry, EntryKind, Metadata};
use coffre::model::id::SegmentId;
use coffre::model::key::ObjectKey;
use coffre::model::path::EntryPath;
use coffre::model::snapshot::{Snapshot, SnapshotId, TreeRoot};
use coffre::model::time::Timestamp;
use coffre::ops::Cancel;
use coffre::ops::backup::{BackupOptions, backup};
use coffre::ops::find::find;
use coffre::ops::ls::ls;
use coffre::ops::open_reader;
use coffre::ops::restore::Selection;
use coffre::ops::stats::stats;
use coffre::ops::verify::{ReadData, VerifyOptions, verify};
use coffre::progress::Collected;
use coffre::repository::choose::SnapshotFilter;
use coffre::repository::index::Index;
use coffre::repository::reader::Reader;
use coffre::repository::tree::TreeBuilder;
use coffre::repository::writer::{Writer, WriterOptions};
use coffre::repository::{MAIN_DOMAIN, Repository};
use coffre::store::layer::Operation;
use coffre::store::layer::record::RecordStore;

use crate::cleanups::put_list_of;
use crate::support::{Bench, begin, command, open, options};

const MEMORY: u64 = 256 << 20;

/// Adds runs of another host and job until there are `runs`, all older than `last`.
async fn grow(bench: &Bench, last: &Snapshot, runs: u64) {
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    for i in 1..runs {
        let session = repository.writing().expect("may be written").begin_session(MAIN_DOMAIN).expect("a good key");
        let started = Timestamp::from_seconds(1_600_000_000 + 3600 * i64::try_from(i).expect("few"));
        let id = SnapshotId::new(started, i.to_be_bytes());
        let (host, job) = ("elsewhere".to_owned(), "nightly".to_owned());
        let snapshot = Snapshot { id, session: session.id(), started, host, job, ..last.clone() };
        let object = session.seal_snapshot(&snapshot);
        bench.store().put(&ObjectKey::snapshot(id), object.into()).await.expect("put");
        let segment = SegmentId(blake3::hash(&i.to_le_bytes()).as_bytes()[..16].try_into().expect("16 bytes"));
        let object = session.seal_segment(segment, &[]);
        bench.store().put(&ObjectKey::segment(segment), object.into()).await.expect("put");
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy)]
enum Verb {
    Latest,
    LatestOfNoJob,
    Snapshots,
    Ls,
    Find,
    Stats,
    Verify,
    Backup,
    BackupOfNewJob,
    BackupOfDatedStream,
}

/// Requests of each verb with an empty and with a warm cache, opening the repository included: three gets (configuration,
/// keyring, key slot) and three lists. `N` stands for the number of runs; `1024` is how far a backup looks back for its series.
const EXPECTED: [(Verb, &str, &str); 10] = [
    (Verb::Latest, "4 get, 6 list", "3 get, 6 list"),
    (Verb::LatestOfNoJob, "3 + N get, 6 list", "3 get, 6 list"),
    (Verb::Snapshots, "3 + N get, 6 list", "3 get, 6 list"),
    (Verb::Ls, "4 + N get, 1 get_range, 7 list", "3 get, 1 get_range, 7 list"),
    (Verb::Find, "3 + 2N get, 1 get_range, 7 list", "3 get, 1 get_range, 7 list"),
    (Verb::Stats, "3 + 2N get, 18 list", "3 get, 18 list"),
    // It looks at what is stored, whatever the cache has.
    (Verb::Verify, "6 + 3N get, 1 get_range, 14 list", "6 + 2N get, 1 get_range, 14 list"),
    (Verb::Backup, "4 put, 4 + N get, 1 get_range, 12 list, 1 delete", "4 put, 3 get, 1 get_range, 12 list, 1 delete"),
    (Verb::BackupOfNewJob, "4 put, 3 + N + min(N, 1024) get, 12 list, 1 delete", "4 put, 3 get, 12 list, 1 delete"),
    (
        Verb::BackupOfDatedStream,
        "5 put, 3 + N + min(N, 1024) get, 1 get_range, 12 list, 1 delete",
        "5 put, 3 get, 1 get_range, 12 list, 1 delete",
    ),
];

impl Verb {
    /// Runs it from opening the repository on; `nth` makes jobs and dates that were not there before.
    async fn run(self, repository: Arc<Repository>, source: &Path, nth: u32) {
        let monitor = Arc::new(Collected::default());
        let filter = SnapshotFilter::default();
        let mut backing_up = options(source);
        let back_up = async |options: BackupOptions| {
            backup(repository.clone(), options, monitor.clone(), Cancel::default()).await.expect("backed up");
        };
        match self {
            Verb::Latest => drop(repository.find_snapshot("latest", &filter).await.expect("found")),
            Verb::LatestOfNoJob => {
                let filter = SnapshotFilter { jobs: vec!["none".into()], ..filter };
                repository.find_snapshot("latest", &filter).await.expect_err("there is no such job");
            }
            Verb::Snapshots => {
                let all = repository.snapshots().await.expect("listed");
                assert!(all.iter().all(|(_, snapshot)| snapshot.is_ok()));
            }
            Verb::Ls => {
                let snapshot = repository.find_snapshot("latest", &filter).await.expect("found");
                let reader = open_reader(repository.clone(), MEMORY, monitor.clone()).await.expect("opened");
                assert_eq!(ls(&reader, &snapshot, None, false, &*monitor, |_| {}).await.expect("listed").count(), 0);
            }
            Verb::Find => {
                let all = repository.snapshots().await.expect("listed");
                let all: Vec<Snapshot> = all.into_iter().map(|(_, snapshot)| snapshot.expect("whole")).collect();
                let reader = open_reader(repository.clone(), MEMORY, monitor.clone()).await.expect("opened");
                let wanted = Selection::new(&["text".into()], &[]).expect("a pattern");
                let mut found = 0;
                find(&reader, &all, &wanted, &*monitor, |_, _| found += 1).await.expect("looked");
                assert_eq!(found, all.len());
            }
            Verb::Stats => drop(stats(&repository, &*monitor).await.expect("counted")),
            Verb::Verify => {
                let options =
                    VerifyOptions { read_data: ReadData::No, memory_bytes: MEMORY, ..VerifyOptions::default() };
                let report = verify(repository, options, monitor, Cancel::default()).await.expect("verified");
                assert_eq!(report.findings, []);
            }
            Verb::Backup => back_up(backing_up).await,
            Verb::BackupOfNewJob => {
                backing_up.job = format!("new {nth}");
                back_up(backing_up).await;
            }
            Verb::BackupOfDatedStream => {
                backing_up.files = None;
                backing_up.sources = vec![command(&format!("dump-{nth}.sql"), &["printf", "dump"])];
                back_up(backing_up).await;
            }
        }
    }
}

/// Puts the numbers of a repository of `runs` runs into a line of the table.
fn at(expected: &str, runs: u64) -> String {
    let sums = [
        ("3 + N + min(N, 1024)", 3 + runs + runs.min(1024)),
        ("6 + 3N", 6 + 3 * runs),
        ("6 + 2N", 6 + 2 * runs),
        ("3 + 2N", 3 + 2 * runs),
        ("4 + N", 4 + runs),
        ("3 + N", 3 + runs),
    ];
    sums.iter().fold(expected.to_owned(), |line, (sum, value)| line.replace(sum, &value.to_string()))
}

/// Compares the requests of each verb with the table, each on the same repository of `runs` runs.
async fn check(runs: u64) {
    let bench = Bench::new().await;
    let last = bench.backup().await.snapshot.expect("made");
    grow(&bench, &last, runs).await;
    let warm = tempfile::tempdir().expect("made");
    let measure = async |verb: Verb, cache: &Path, nth| {
        // Each has a repository of its own, of which the machine has not made anything.
        let _ = std::fs::remove_dir_all(cache.join("state"));
        let store = Arc::new(RecordStore::new(Arc::new(bench.memory.fork())));
        let repository = open(store.clone(), cache).await.expect("opens");
        verb.run(repository, bench.source.path(), nth).await;
        store.summary()
    };
    for verb in [Verb::Find, Verb::Backup] {
        measure(verb, warm.path(), 0).await;
    }
    for (nth, (verb, empty, full)) in (1..).zip(EXPECTED) {
        assert_eq!(measure(verb, warm.path(), nth).await, at(full, runs), "{verb:?} at {runs} runs, warm cache");
        // These begin like others in the table, and making the tables of many segments takes its time.
        if runs > 10 && matches!(verb, Verb::Find | Verb::Stats | Verb::BackupOfDatedStream) {
            continue;
        }
        let cold = tempfile::tempdir().expect("made");
        assert_eq!(measure(verb, cold.path(), nth).await, at(empty, runs), "{verb:?} at {runs} runs, empty cache");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_runs_cost_the_requests_in_the_table() {
    check(10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_thousand_runs_only_the_first_look_costs_more() {
    check(2000).await;
}

/// Lists of cleaning up are written once: a run opens each once, however often it asks which there are.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_opens_each_list_of_cleaning_up_once() {
    let bench = Bench::new().await;
    bench.backup().await;
    let measure = async |bench: &Bench, verb: Verb, cache: &Path| {
        let _ = std::fs::remove_dir_all(cache.join("state"));
        let store = Arc::new(RecordStore::new(Arc::new(bench.memory.fork())));
        let repository = open(store.clone(), cache).await.expect("opens");
        verb.run(repository, bench.source.path(), 0).await;
        (store.count(Operation::Get), store.count(Operation::List))
    };
    let warm = tempfile::tempdir().expect("made");
    measure(&bench, Verb::Backup, warm.path()).await;
    let verbs = [(Verb::Snapshots, 1), (Verb::Stats, 1), (Verb::Backup, 1), (Verb::Verify, 1)];
    let mut before = Vec::new();
    for (verb, _) in verbs {
        before.push(measure(&bench, verb, warm.path()).await);
    }
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    // One of them is named as gone by another, and read all the same.
    let first = put_list_of(&repository, &*bench.store(), 1, CleanupList::default()).await;
    for counter in 2..8 {
        let gone = vec![ObjectKey::cleanup(first).to_string()];
        put_list_of(&repository, &*bench.store(), counter, CleanupList { gone, ..CleanupList::default() }).await;
    }
    for ((verb, times), (gets, lists)) in verbs.into_iter().zip(before) {
        let with_lists = measure(&bench, verb, warm.path()).await;
        assert_eq!(with_lists, (gets + 7 * times, lists), "{verb:?}");
    }
}

/// Names and bytes of the cached snapshots.
fn cached(cache: &Path) -> BTreeMap<String, Vec<u8>> {
    let is_snapshot = |(name, _): &(String, Vec<u8>)| name.contains("/snapshots/");
    crate::support::files_in(cache).into_iter().filter(is_snapshot).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_snapshot_is_never_believed_over_the_store() {
    let bench = Bench::new().await;
    let (first, second) = (bench.snapshot().await.0, bench.snapshot().await.0);
    let store = Arc::new(RecordStore::new(bench.store()));
    let repository = open(store.clone(), bench.cache.path()).await.expect("opens");
    let list = async || {
        store.take();
        let all = repository.snapshots().await.expect("listed");
        (all.into_iter().filter_map(|(_, snapshot)| snapshot.ok()).collect::<Vec<_>>(), store.count(Operation::Get))
    };
    assert_eq!(list().await, (vec![first.clone(), second.clone()], 0), "a backup leaves its snapshot in the cache");
    let kept = cached(bench.cache.path());
    assert_eq!(kept.len(), 2);

    // Changed, cut, or exchanged with one another: each is fetched once more.
    let (names, bodies): (Vec<_>, Vec<_>) = kept.into_iter().unzip();
    let changed: Vec<_> = bodies.iter().map(|body| body.iter().rev().copied().collect()).collect();
    let cut: Vec<_> = bodies.iter().map(|body| body[..40].to_vec()).collect();
    let exchanged: Vec<_> = bodies.iter().rev().cloned().collect();
    for wrong in [changed, cut, exchanged] {
        for (name, body) in names.iter().zip(wrong) {
            std::fs::write(bench.cache.path().join(name), body).expect("writable");
        }
        assert_eq!(list().await, (vec![first.clone(), second.clone()], 2));
        assert_eq!(list().await, (vec![first.clone(), second.clone()], 0));
    }

    // What is damaged in the store is found there, though the cache has it whole.
    bench.memory.tamper(&ObjectKey::snapshot(first.id), |bytes| bytes[1300] ^= 1);
    let options = VerifyOptions { read_data: ReadData::No, memory_bytes: MEMORY, ..VerifyOptions::default() };
    let monitor = Arc::new(Collected::default());
    let report = verify(repository.clone(), options, monitor, Cancel::default()).await.expect("verified");
    // Once as what it is, and once as what the next one misses.
    let (of_itself, missed): (Vec<_>, Vec<_>) =
        report.findings.iter().partition(|finding| finding.object == ObjectKey::snapshot(first.id));
    assert_eq!((of_itself.len(), missed.len()), (1, 1), "{:?}", report.findings);
    assert!(missed[0].damage.to_string().contains(&first.id.short()), "{missed:?}");

    // What the store does not list does not exist.
    bench.store().delete(&ObjectKey::snapshot(first.id)).await.expect("deleted");
    assert_eq!(list().await, (vec![second], 0));
    assert_eq!(cached(bench.cache.path()).len(), 1);
}

/// Stores a tree of `directories` in `top`, each with `files` entries of long names that share nothing.
async fn make_tree(repository: &Arc<Repository>, directories: u32, files: u32) -> TreeRoot {
    let monitor = Arc::new(Collected::default());
    let index = begin(repository).await;
    let writer_options =
        WriterOptions { pack_target_bytes: 32 << 20, packs_in_flight: 2, level: 3, dry_run: false, extra_check: true };
    let writer = Writer::start(index, writer_options, monitor);
    let made = tokio::task::spawn_blocking(move || {
        let mut tree = TreeBuilder::new(&writer);
        let mut push = |path: String, kind| {
            let path = EntryPath::new(path).expect("safe");
            tree.push(&Entry { path, kind, metadata: Metadata::default() }).expect("stored");
        };
        push("top".into(), EntryKind::Directory);
        for directory in 0..directories {
            push(format!("top/d{directory:04}"), EntryKind::Directory);
            let mut names: Vec<_> = (0..files)
                .map(|file| blake3::hash(&[directory, file].map(u32::to_le_bytes).concat()).to_hex())
                .collect();
            names.sort();
            names.iter().for_each(|name| push(format!("top/d{directory:04}/{name}"), EntryKind::Fifo));
        }
        let root = tree.finish().expect("stored");
        writer.flush().expect("flushed");
        (writer, root)
    });
    let (writer, root) = made.await.expect("no panic");
    writer.finish().await.expect("stored");
    root
}

#[tokio::test(flavor = "multi_thread")]
async fn listing_a_directory_reads_that_directory() {
    let bench = Bench::new().await;
    let store = Arc::new(RecordStore::new(bench.store()));
    let repository = open(store.clone(), bench.cache.path()).await.expect("opens");
    let root = make_tree(&repository, 300, 700).await;
    let index = Arc::new(Index::load(&repository, &Collected::default()).await.expect("loaded"));
    let look = async |within: Option<&str>, recursive: bool| {
        // A reader of its own, so that nothing is remembered from the look before.
        let monitor = Arc::new(Collected::default());
        let reader =
            Arc::new(Reader::new(repository.reading().expect("may be read"), index.clone(), MEMORY, monitor.clone()));
        store.take();
        let within = within.map(|path| EntryPath::new(path).expect("safe"));
        let mut walk = match recursive {
            true => reader.walk(root, within.clone()),
            false => reader.walk_directory(root, within.clone()),
        };
        let mut found = Vec::new();
        while let Some(entry) = walk.next().await {
            found.push(entry.expect("whole").path);
        }
        (found, store.count(Operation::GetRange), within)
    };
    let (all, whole, _) = look(None, true).await;
    assert_eq!(all.len(), 1 + 300 + 300 * 700);
    assert!(whole > 10, "{whole} frames");
    // Inner nodes, the leaves at both ends of the directory, and what shares a frame with them.
    for directory in [None, Some("top/d0150"), Some("top/d0299"), Some("top/nothing")] {
        let (found, frames, within) = look(directory, false).await;
        let is_directly = |path: &&EntryPath| path.parent() == within || Some(*path) == within.as_ref();
        let expected: Vec<EntryPath> = all.iter().filter(is_directly).cloned().collect();
        assert_eq!(found, expected, "{directory:?}");
        assert!(frames <= 5, "{directory:?}: {frames} frames of {whole}");
    }
    // One entry takes a node of each level.
    for path in [&all[0], &all[1], &all[100_000], &all[200_000], all.last().expect("many")] {
        let monitor = Arc::new(Collected::default());
        let reader = Arc::new(Reader::new(repository.reading().expect("may be read"), index.clone(), MEMORY, monitor));
        store.take();
        let entry = reader.entry(root, path.clone()).await.expect("whole");
        assert_eq!(entry.map(|entry| entry.path).as_ref(), Some(path));
        assert!(store.count(Operation::GetRange) <= usize::from(root.depth), "{path}");
        let missing = path.join(b"nothing").expect("safe");
        assert!(reader.entry(root, missing).await.expect("whole").is_none());
    }
    // In `top` itself stand only directories, one in each leaf or so.
    let (found, _, _) = look(Some("top"), false).await;
    assert_eq!(found.len(), 301);
}
