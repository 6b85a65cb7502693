//! A clean-up beside a reader moves what packs hold, and deletes them: nothing is lost by that, and nobody says so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use coffre::format::pack::PackKind;
use coffre::model::cleanup::CleanupList;
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::path::EntryPath;
use coffre::model::snapshot::Snapshot;
use coffre::ops::Cancel;
use coffre::ops::dump::DumpError;
use coffre::ops::restore::{RestoreOptions, restore};
use coffre::ops::verify::ReadData;
use coffre::progress::{Collected, chain};
use coffre::repository::frame::Frame;
use coffre::repository::reader::Reader;
use coffre::repository::writer::{Writer, WriterOptions};
use coffre::store::layer::Operation;
use coffre::store::layer::record::RecordStore;
use coffre::store::memory::MemoryStore;
use coffre::store::signs::Signs;
use coffre::store::transfer::Transfer;
use coffre::store::{ObjectInfo, Store, StoreError};

use crate::cleanups::put_list;
use crate::support::dumped::dumped_afresh;
use crate::support::{Bench, begin, files_in, open, random_bytes, run_verify};

/// Packs and index segments.
type Objects = BTreeMap<ObjectKey, Bytes>;

/// What a clean-up does when it is its turn.
#[derive(Debug, Clone)]
struct Move {
    old: BTreeSet<ObjectKey>,
    new: Objects,
}

/// When it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// Before the packs are listed.
    Listed,
    /// When so many requests for the old packs were answered.
    Asked(usize),
}

/// A store beside which clean-ups are at work, one after the other.
#[derive(Debug)]
struct Moving {
    memory: MemoryStore,
    left: Mutex<(VecDeque<Move>, usize)>,
    when: When,
}

impl Moving {
    fn new(memory: MemoryStore, moves: &[Move], when: When) -> Self {
        Self { memory, left: Mutex::new((moves.iter().cloned().collect(), 0)), when }
    }

    async fn asked(&self, subject: &str) {
        let next = {
            let mut left = self.left.lock().expect("no panic while held");
            let (moves, asked) = &mut *left;
            let is_time = match (self.when, moves.front()) {
                (When::Listed, Some(_)) => subject == ObjectKind::Pack.prefix(),
                (When::Asked(before), Some(next))
                    if next.old.iter().any(|key| key.pack_id().is_some() && key.as_str() == subject) =>
                {
                    *asked += 1;
                    *asked > before
                }
                _ => false,
            };
            *asked = if is_time { 0 } else { *asked };
            if is_time { moves.pop_front() } else { None }
        };
        let Some(Move { old, new }) = next else { return };
        for (key, bytes) in new {
            self.memory.put(&key, bytes).await.expect("put");
        }
        for key in old {
            self.memory.delete(&key).await.expect("deleted");
        }
    }

    fn is_done(&self) -> bool {
        self.left.lock().expect("no panic while held").0.is_empty()
    }
}

#[async_trait]
impl Store for Moving {
    fn location(&self) -> &str {
        self.memory.location()
    }

    async fn put_telling(&self, key: &ObjectKey, body: Bytes, _: &Transfer) -> Result<(), StoreError> {
        self.memory.put(key, body).await
    }

    async fn get_telling(&self, key: &ObjectKey, _: &Transfer) -> Result<Bytes, StoreError> {
        self.asked(key.as_str()).await;
        self.memory.get(key).await
    }

    async fn get_range_telling(&self, key: &ObjectKey, range: Range<u64>, _: &Transfer) -> Result<Bytes, StoreError> {
        self.asked(key.as_str()).await;
        self.memory.get_range(key, range).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectInfo, StoreError> {
        self.memory.head(key).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        self.asked(prefix).await;
        self.memory.list(prefix).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.memory.delete(key).await
    }

    fn signs(&self) -> Signs {
        Signs::default()
    }
}

/// Packs and index segments that are there.
async fn stored(bench: &Bench) -> Objects {
    let mut objects = Objects::new();
    for kind in [ObjectKind::Pack, ObjectKind::Index] {
        for object in bench.store().list(kind.prefix()).await.expect("listed") {
            objects.insert(object.key.clone(), bench.store().get(&object.key).await.expect("there"));
        }
    }
    objects
}

/// Stores every chunk in new packs.
async fn store_again(bench: &Bench) {
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let settings =
        WriterOptions { pack_target_bytes: 1 << 20, packs_in_flight: 2, level: 3, dry_run: false, extra_check: true };
    let monitor = Arc::new(Collected::default());
    let index = begin(&repository).await;
    let reader =
        Reader::new(repository.reading().expect("may be read"), index.index().clone(), 256 << 20, monitor.clone());
    let reader = Arc::new(reader);
    let mut chunks = Vec::new();
    for table in index.tables() {
        for place in table.rows().filter_map(|row| table.location(&row)).collect::<Vec<_>>() {
            let frame = reader.frame(&place).await.expect("there");
            chunks.push((place.kind, frame[place.offset as usize..][..place.length as usize].to_vec()));
        }
    }
    let writer = Writer::start(index, settings, monitor);
    let stored = tokio::task::spawn_blocking(move || {
        let mut compressor = writer.compressor();
        for (kind, chunk) in chunks {
            let id = writer.id(&chunk);
            if kind == PackKind::Tree {
                writer.store_node(&chunk).expect("stored");
            } else if writer.claim(&id) {
                let mut frame = Frame::default();
                frame.push(&id, &chunk);
                writer.store_frame(&mut frame, &mut compressor).expect("stored");
            }
        }
        writer.flush().expect("flushed");
        writer
    });
    stored.await.expect("no panic").finish().await.expect("stored");
}

/// A repository with one snapshot, and two clean-ups that each move all that it needs.
struct Moved {
    bench: Bench,
    snapshot: Snapshot,
    content: BTreeMap<String, Vec<u8>>,
    moves: Vec<Move>,
}

impl Moved {
    async fn new() -> Self {
        let bench = Bench::new().await;
        let (snapshot, content) = bench.snapshot().await;
        let first = stored(&bench).await;
        let (mut moves, mut before): (Vec<Move>, Objects) = (Vec::new(), first.clone());
        for counter in 1..=2 {
            // A writer that must not rely on what is there stores everything again.
            let known = stored(&bench).await;
            let packs = known.keys().filter_map(ObjectKey::pack_id).collect();
            put_list(&bench, counter, CleanupList { packs, is_deleting: true, ..CleanupList::default() }).await;
            store_again(&bench).await;
            let mut new = stored(&bench).await;
            new.retain(|key, _| !known.contains_key(key));
            moves.push(Move { old: before.into_keys().collect(), new: new.clone() });
            before = new;
        }
        for kind in [ObjectKind::Pack, ObjectKind::Index, ObjectKind::Cleanup] {
            for object in bench.store().list(kind.prefix()).await.expect("listed") {
                if !first.contains_key(&object.key) {
                    bench.store().delete(&object.key).await.expect("deleted");
                }
            }
        }
        Self { bench, snapshot, content, moves }
    }

    fn moving(&self, when: When) -> Arc<Moving> {
        Arc::new(Moving::new(self.bench.memory.fork(), &self.moves, when))
    }

    fn path(&self, name: &str) -> EntryPath {
        let path = self.bench.source.path().join(name).components().collect::<std::path::PathBuf>();
        EntryPath::new(path.to_str().expect("plain").trim_start_matches('/')).expect("safe")
    }
}

async fn dumped(store: Arc<dyn Store>, moved: &Moved, name: &str) -> Result<Vec<u8>, DumpError> {
    dumped_afresh(store, &moved.snapshot, Some(moved.path(name))).await
}

/// Once, and once more while the first is being noticed.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_moved_is_read_from_where_it_is_now() {
    let moved = Moved::new().await;
    for asked in 0..3 {
        let store = moved.moving(When::Asked(asked));
        let large = dumped(store.clone(), &moved, "a/b/large").await.unwrap_or_else(|error| {
            panic!("{asked}: {}", chain(&error));
        });
        assert!(large == moved.content["a/b/large"] && store.is_done(), "{asked}");

        let store = moved.moving(When::Asked(asked));
        let (cache, target) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
        let repository = open(store.clone(), cache.path()).await.expect("opens");
        let mut options = RestoreOptions::new(moved.snapshot.clone(), target.path());
        options.within = Some(moved.path(""));
        let monitor = Arc::new(Collected::default());
        let report = restore(repository, options, monitor.clone(), Cancel::default()).await.expect("restored");
        assert_eq!((report.damaged.len(), monitor.problems().len()), (0, 0), "{asked}: {:?}", monitor.problems());
        assert!(files_in(target.path()) == moved.content && store.is_done(), "{asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_moved_is_no_damage_for_who_verifies() {
    let moved = Moved::new().await;
    for when in [When::Listed, When::Asked(0), When::Asked(1)] {
        for read_data in [ReadData::No, ReadData::All] {
            let store = moved.moving(when);
            let cache = tempfile::tempdir().expect("a temporary directory");
            let report = run_verify(store.clone(), cache.path(), read_data).await;
            assert_eq!((report.snapshots, report.findings), (1, vec![]), "{when:?} {read_data:?}");
            // Trees lie in one pack, of which only some frames are asked for.
            assert!(store.is_done() || when == When::Asked(1), "{when:?} {read_data:?}");
        }
    }
}

/// Reading takes hours, and backups run beside it.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_ends_beside_a_verification_is_no_damage() {
    let bench = Bench::new().await;
    bench.snapshot().await;
    let before = bench.memory.fork();
    std::fs::write(bench.source.path().join("new"), random_bytes(9, 300_000)).expect("written");
    bench.snapshot().await;
    let mut new = Objects::new();
    for kind in [ObjectKind::Pack, ObjectKind::Index, ObjectKind::Snapshot] {
        let known = before.list(kind.prefix()).await.expect("listed");
        for object in bench.store().list(kind.prefix()).await.expect("listed") {
            if known.iter().all(|it| it.key != object.key) {
                new.insert(object.key.clone(), bench.store().get(&object.key).await.expect("there"));
            }
        }
    }
    assert!(new.keys().any(|key| key.snapshot_id().is_some()) && new.keys().any(|key| key.pack_id().is_some()));
    for read_data in [ReadData::No, ReadData::All] {
        let backup = Move { old: BTreeSet::new(), new: new.clone() };
        let store = Arc::new(Moving::new(before.fork(), &[backup], When::Listed));
        let cache = tempfile::tempdir().expect("a temporary directory");
        let report = run_verify(store.clone(), cache.path(), read_data).await;
        assert!(store.is_done());
        assert_eq!((report.snapshots, report.findings), (1, vec![]), "{read_data:?}");
    }
}

/// The clean-up deleted too much: what is needed of the old packs was stored nowhere else.
#[tokio::test(flavor = "multi_thread")]
async fn what_went_with_its_segment_is_damage() {
    let mut moved = Moved::new().await;
    moved.moves.truncate(1);
    moved.moves[0].new.clear();
    for (when, read_data) in
        [(When::Listed, ReadData::No), (When::Listed, ReadData::All), (When::Asked(0), ReadData::All)]
    {
        let cache = tempfile::tempdir().expect("a temporary directory");
        let report = run_verify(moved.moving(when), cache.path(), read_data).await;
        assert!(report.findings.iter().any(|finding| finding.path_count > 0), "{when:?} {read_data:?}: {report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_is_lost_costs_one_more_listing() {
    let moved = Moved::new().await;
    let listings = async |memory: MemoryStore| {
        let record = RecordStore::new(Arc::new(memory));
        let outcome = dumped(Arc::new(record.clone()), &moved, "a/text").await;
        let is_listing = |call: &&coffre::store::layer::record::Call| {
            call.operation == Operation::List && call.subject == ObjectKind::Index.prefix()
        };
        (outcome, record.calls().iter().filter(is_listing).count())
    };
    let (whole, once) = listings(moved.bench.memory.fork()).await;
    assert!(whole.expect("there") == moved.content["a/text"]);
    let damaged = moved.bench.memory.fork();
    for pack in moved.bench.data_packs().await {
        damaged.delete(&pack).await.expect("deleted");
    }
    let (lost, twice) = listings(damaged).await;
    let error = lost.expect_err("it is lost");
    assert!(matches!(error, DumpError::Damaged { .. }) && chain(&error).contains("could not be fetched"), "{error:?}");
    assert_eq!(twice, once + 1);
}
