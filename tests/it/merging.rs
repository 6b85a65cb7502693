//! Small index segments are merged in the repository: a machine without a cache opens few objects, whose word it is does not change,
//! and nothing that runs beside it misses anything.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use coffre::format::index::IndexSegment;
use coffre::format::object::INDEX;
use coffre::model::author::Author;
use coffre::model::id::{PackId, SegmentId};
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::outcome::{Ended, Outcome};
use coffre::model::path::EntryPath;
use coffre::model::snapshot::Snapshot;
use coffre::ops::Cancel;
use coffre::ops::backup::backup;
use coffre::ops::prune::{MergedSegments, PruneOptions, PruneReport, prune};
use coffre::ops::restore::{RestoreOptions, restore};
use coffre::ops::stats::stats;
use coffre::ops::verify::{ReadData, VerifyOptions, verify};
use coffre::progress::{Collected, Monitor};
use coffre::repository::MAIN_DOMAIN;
use coffre::repository::Repository;
use coffre::repository::index::{Index, open_segment};
use coffre::repository::replicas::{Replica, Replicas};
use coffre::repository::writers::SlotPlace;
use coffre::store::layer::Operation;
use coffre::store::layer::fault::{Fault, FaultStore};
use coffre::store::layer::record::RecordStore;
use coffre::store::memory::MemoryStore;
use coffre::store::{Store, StoreErrorKind};

use crate::prune::{
    self, Files, OPERATIONS, assert_kept, assert_read, each_request_fails, everything, packs, prune_with, pruned,
    remove,
};
use crate::support::at_phase::AtPhase;
use crate::support::{Bench, files_in, open, options, passphrase, random_bytes, read_back, run_backup};
use crate::writers;

/// Waits for nobody, and leaves packs as they are.
fn at_once() -> PruneOptions {
    PruneOptions { max_rewrite: Some(0), ..prune::at_once() }
}

/// Runs of a reader, and of two writers who do not take each other's word.
const RUNS: u64 = 4;

/// What one of them backs up in a run that nobody else does: of what a reader stores as well, another copy would be dead.
fn own_file(bench: &Bench, run: u64, nth: usize, name: &str) -> PathBuf {
    let path = bench.source.path().join(name);
    std::fs::write(&path, random_bytes(100 * run + nth as u64, 70_000)).expect("written");
    path
}

/// A repository in which each of these ran so many times, and all that they backed up.
async fn with_many_runs() -> (Bench, Vec<(Snapshot, Files)>) {
    let bench = Bench::new().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    for name in ["web", "db"] {
        writers::add(&repository, &writers::new(name, &[]), SlotPlace::Repository).await.expect("added");
    }
    let mut kept = Vec::new();
    for run in 0..RUNS {
        for (nth, name) in ["reader", "web", "db"].into_iter().enumerate() {
            let own = own_file(&bench, run, nth, name);
            let files = files_in(bench.source.path());
            crate::support::at_rest().await;
            let made = match name {
                "reader" => bench.backup().await,
                name => writers::back_up(&bench, name, name).await.expect("backed up"),
            };
            kept.push((made.snapshot.expect("made"), files));
            std::fs::remove_file(own).expect("there");
        }
    }
    (bench, kept)
}

async fn segments(store: &dyn Store) -> Vec<ObjectKey> {
    store.list(ObjectKind::Index.prefix()).await.expect("listed").into_iter().map(|object| object.key).collect()
}

/// What the index says, and who says so: each pack with its length and its digest.
async fn told(store: Arc<dyn Store>) -> BTreeSet<(Author, PackId, u32, [u8; 32])> {
    let cache = tempfile::tempdir().expect("made");
    let repository = open(store.clone(), cache.path()).await.expect("opens");
    let mut told = BTreeSet::new();
    for key in segments(&*store).await {
        let object = store.get(&key).await.expect("there");
        let segment = open_segment(&repository, key.segment_id().expect("ours"), &object).expect("whole");
        told.extend(segment.packs().iter().map(|pack| (segment.author(), pack.id, pack.size, pack.digest)));
    }
    told
}

/// Index segments fetched by a machine without a cache that reads a snapshot.
async fn fetched(bench: &Bench, snapshot: &Snapshot) -> usize {
    let (store, cache) = (RecordStore::new(bench.store()), tempfile::tempdir().expect("made"));
    read_back(Arc::new(store.clone()), cache.path(), snapshot).await.expect("whole");
    let of_index = |call: &&coffre::store::layer::record::Call| call.subject.starts_with("index/");
    store.calls().iter().filter(of_index).filter(|call| call.operation == Operation::Get).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_segments_become_one_of_each_author() {
    let (bench, kept) = with_many_runs().await;
    let (runs, said) = (3 * RUNS as usize, told(bench.store()).await);
    assert_eq!((segments(&*bench.store()).await.len(), fetched(&bench, &kept[0].0).await), (runs, runs));
    let report = pruned(&bench, at_once()).await.expect("done");
    assert_eq!(report.merged_segments, MergedSegments { replaced: runs as u64, put: 3 });
    assert_eq!((segments(&*bench.store()).await.len(), fetched(&bench, &kept[0].0).await), (3, 3));
    assert_eq!(told(bench.store()).await, said, "whose word it is is as it was");
    assert_kept(bench.fork().store(), bench.source.path(), &kept, "merged").await;

    // There is nothing left to do, and nothing is done.
    let objects = everything(&*bench.store()).await;
    assert_eq!(pruned(&bench, at_once()).await.expect("done").merged_segments, MergedSegments::default());
    assert_eq!(everything(&*bench.store()).await, objects);

    // A writer goes on relying on what it said itself, and no more than before on what another one did.
    for (nth, name) in ["reader", "web", "db"].into_iter().enumerate() {
        own_file(&bench, RUNS - 1, nth, name);
    }
    for name in ["web", "db"] {
        let again = writers::back_up(&bench, name, name).await.expect("backed up");
        assert!((70_000..71_000).contains(&again.counts.new_bytes), "{name}: {:?}", again.counts);
    }
    assert_eq!(bench.verify(ReadData::All).await.findings, []);
}

/// With every night of a year a segment, the index is opened in a few objects.
#[tokio::test(flavor = "multi_thread")]
async fn a_year_of_nights_is_opened_in_a_few_objects() {
    let bench = Bench::new().await;
    let (first, files) = bench.snapshot().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let session = repository.writing().expect("may be written").begin_session(MAIN_DOMAIN).expect("a good key");
    let object = bench.memory.get(&segments(&*bench.store()).await[0]).await.expect("there");
    let id = segments(&*bench.store()).await[0].segment_id().expect("ours");
    let whole = open_segment(&repository, id, &object).expect("whole");
    for night in 0..365u64 {
        let id = SegmentId(blake3::hash(&night.to_le_bytes()).as_bytes()[..16].try_into().expect("16 bytes"));
        let packs = coffre::repository::objects::UploadedPack::indexed(whole.clone());
        bench.memory.put(&ObjectKey::segment(id), session.seal_segment(id, &packs).into()).await.expect("put");
    }
    assert_eq!(fetched(&bench, &first).await, 366);
    let report = pruned(&bench, at_once()).await.expect("done");
    assert_eq!(report.merged_segments, MergedSegments { replaced: 366, put: 1 });
    assert_eq!(fetched(&bench, &first).await, 1);
    assert_kept(bench.store(), bench.source.path(), &[(first, files)], "a year").await;
}

/// Killed behind each change of the store, and run again.
#[tokio::test(flavor = "multi_thread")]
async fn cut_off_anywhere_the_next_run_goes_on() {
    let (bench, kept) = with_many_runs().await;
    let said = told(bench.store()).await;
    for k in 0.. {
        let cut = Bench { cache: tempfile::tempdir().expect("made"), ..bench.fork() };
        let dying = Arc::new(FaultStore::new(cut.store()));
        dying.die_after_mutations(k);
        let outcome = prune_with(dying.clone(), cut.cache.path(), at_once(), Arc::new(Collected::default())).await;
        assert_eq!(outcome.is_err(), dying.died(), "k = {k}");
        assert_eq!(told(cut.store()).await, said, "k = {k}");
        assert_eq!(cut.verify(ReadData::No).await.findings, [], "k = {k}");
        let again = prune_with(cut.store(), cut.cache.path(), at_once(), Arc::new(Collected::default())).await;
        again.unwrap_or_else(|error| panic!("k = {k}: {error}"));
        assert_eq!((told(cut.store()).await, segments(&*cut.store()).await.len()), (said.clone(), 3), "k = {k}");
        if !dying.died() {
            assert!(k > 3 * RUNS as usize, "three are put, a list, and the others go: {k}");
            assert_kept(cut.store(), bench.source.path(), &kept, "after all").await;
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_fails_ends_it_and_nothing_is_lost() {
    let (bench, kept) = with_many_runs().await;
    let said = told(bench.store()).await;
    let check = async |failing: &Bench, case: &str, went_well| {
        assert_eq!(told(failing.store()).await, said, "{case}");
        if went_well {
            assert_read(failing.store(), bench.source.path(), &kept[..2], case).await;
        }
    };
    // Whole segments are read, and nothing of packs.
    let operations = OPERATIONS.into_iter().filter(|operation| *operation != Operation::GetRange);
    each_request_fails(&bench, &operations.collect::<Vec<_>>(), at_once, |_, _| false, check).await;
}

/// No segment is merged when the time that the run may take is over, or it was asked to end; the next run does.
#[tokio::test(flavor = "multi_thread")]
async fn merging_ends_with_the_time_and_when_it_is_asked_to() {
    let (bench, _) = with_many_runs().await;
    let said = told(bench.store()).await;
    let options = PruneOptions { max_time: Some(std::time::Duration::ZERO), ..at_once() };
    assert_eq!(pruned(&bench, options).await.expect("done").merged_segments, MergedSegments::default());
    let cancel = Cancel::default();
    let asking = cancel.clone();
    let cancelled = AtPhase::new("merging the index", move || asking.cancel());
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let ended = prune(repository, at_once(), Arc::new(cancelled), cancel).await;
    assert_eq!(ended.expect_err("it was asked to end").outcome(), Outcome::Interrupted);
    assert_eq!(segments(&*bench.store()).await.len(), 3 * RUNS as usize);
    assert_eq!(pruned(&bench, at_once()).await.expect("done").merged_segments.put, 3);
    assert_eq!(told(bench.store()).await, said);
}

/// Merges, once, on another machine, when it is called.
fn merging_beside(store: Arc<dyn Store>) -> (impl Fn() + Send + Sync, Arc<Mutex<Option<PruneReport>>>) {
    let (ran, handle) = (Arc::new(Mutex::new(None)), tokio::runtime::Handle::current());
    let noted = ran.clone();
    let act = move || {
        let mut noted = noted.lock().expect("no panic while held");
        if noted.is_none() {
            let (store, handle) = (store.clone(), handle.clone());
            let run = async move {
                let cache = tempfile::tempdir().expect("made");
                prune_with(store, cache.path(), at_once(), Arc::new(Collected::default())).await.expect("done")
            };
            *noted = Some(std::thread::spawn(move || handle.block_on(run)).join().expect("no panic"));
        }
    };
    (act, ran)
}

fn assert_merged(ran: &Mutex<Option<PruneReport>>, what: &str) {
    let ran = ran.lock().expect("no panic while held").take().unwrap_or_else(|| panic!("{what}: it ran"));
    assert_eq!(ran.merged_segments.put, 3, "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_listed_what_was_merged_since_lists_again() {
    let (many, mut kept) = with_many_runs().await;
    for phase in ["reading the index", "listing packs", "storing", "writing the snapshot"] {
        let bench = many.fork();
        let (act, ran) = merging_beside(bench.store());
        std::fs::write(many.source.path().join("beside"), random_bytes(7, 50_000)).expect("written");
        let files = files_in(many.source.path());
        crate::support::at_rest().await;
        let cache = tempfile::tempdir().expect("made");
        let repository = open(bench.store(), cache.path()).await.expect("opens");
        let monitor = Arc::new(AtPhase::new(phase, act));
        let made = backup(repository, options(many.source.path()), monitor.clone(), Cancel::default()).await;
        assert_merged(&ran, phase);
        assert_eq!(monitor.heard.problems(), [], "{phase}");
        let snapshot = made.expect("backed up").snapshot.expect("made");
        let read = [&kept[..1], &[(snapshot, files)]].concat();
        assert_kept(bench.store(), many.source.path(), &read, phase).await;
    }

    // A verification, and another clean-up, which listed before.
    let bench = many.fork();
    let (act, ran) = merging_beside(bench.store());
    let cache = tempfile::tempdir().expect("made");
    let repository = open(bench.store(), cache.path()).await.expect("opens");
    let monitor = Arc::new(AtPhase::new("reading the index", act));
    let reading = VerifyOptions { read_data: ReadData::All, ..VerifyOptions::default() };
    let verified = verify(repository, reading, monitor, Cancel::default()).await.expect("verified");
    assert_merged(&ran, "verify");
    assert_eq!((verified.findings.clone(), verified.outcome()), (Vec::new(), Outcome::Clean));

    // A restore: the merge comes when it has listed segments, and when it has read them.
    let (snapshot, files) = &kept[0];
    let root = many.source.path().display().to_string();
    for phase in ["reading the index", "restoring"] {
        let bench = many.fork();
        let (act, ran) = merging_beside(bench.store());
        let (cache, target) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
        let repository = open(bench.store(), cache.path()).await.expect("opens");
        let mut options = RestoreOptions::new(snapshot.clone(), target.path());
        options.within = Some(EntryPath::new(root.trim_start_matches('/')).expect("safe"));
        let monitor = Arc::new(AtPhase::new(phase, act));
        let report = restore(repository, options, monitor.clone(), Cancel::default()).await.expect("restored");
        assert_merged(&ran, phase);
        assert_eq!((report.damaged.len(), monitor.heard.problems()), (0, Vec::new()), "{phase}");
        assert!(files_in(target.path()) == *files, "{phase}: it came back with other bytes");
    }

    let bench = many.fork();
    remove(&bench, &kept.remove(0).0).await;
    let (act, ran) = merging_beside(bench.store());
    let cache = tempfile::tempdir().expect("made");
    let monitor: Arc<dyn Monitor> = Arc::new(AtPhase::new("reading the index", act));
    let report = prune_with(bench.store(), cache.path(), at_once(), monitor).await.expect("done");
    assert_merged(&ran, "prune");
    assert_eq!(report.outcome(), Outcome::Clean);
    assert_kept(bench.store(), many.source.path(), &kept[..3], "prune beside prune").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_lose_nothing() {
    let (bench, kept) = with_many_runs().await;
    let said = told(bench.store()).await;
    for _ in 0..3 {
        let both = bench.fork();
        let run = || {
            let store = both.store();
            tokio::spawn(async move {
                let cache = tempfile::tempdir().expect("made");
                prune_with(store, cache.path(), at_once(), Arc::new(Collected::default())).await
            })
        };
        let (one, other) = (run(), run());
        for ended in [one.await.expect("no panic"), other.await.expect("no panic")] {
            ended.expect("neither is in the other's way");
        }
        assert_eq!(told(both.store()).await, said);
        pruned(&both, at_once()).await.expect("done");
        assert!(segments(&*both.store()).await.len() <= 6);
        assert_kept(both.store(), bench.source.path(), &kept[..2], "both").await;
    }
}

/// A chunk of a pack that a clean-up deleted is counted by nobody, and the next merge leaves it out.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_is_not_counted_and_leaves_the_index() {
    let (bench, mut kept) = with_many_runs().await;
    // What it needs of others' it stores itself, for a snapshot that stays.
    bench.backup().await;
    std::fs::write(bench.source.path().join("gone"), random_bytes(9, 2_000_000)).expect("written");
    let counted = async |bench: &Bench| {
        let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
        stats(&repository, &Collected::default()).await.expect("counted").unique_bytes
    };
    let before = counted(&bench).await;
    let made = bench.snapshot().await.0;
    assert!(counted(&bench).await >= before + 2_000_000);
    std::fs::remove_file(bench.source.path().join("gone")).expect("there");
    remove(&bench, &made).await;
    // What deletes is not let to merge.
    let failing = Arc::new(FaultStore::new(bench.store()));
    failing.plan(Fault::on(Operation::Put).matching("index/").fail_before(StoreErrorKind::Denied));
    prune_with(failing, bench.cache.path(), at_once(), Arc::new(Collected::default())).await.expect_err("denied");
    let there: BTreeSet<ObjectKey> = packs(&*bench.store()).await.into_iter().collect();
    let is_there = |(_, pack, ..): &(Author, PackId, u32, [u8; 32])| there.contains(&ObjectKey::pack(*pack));
    assert!(!told(bench.store()).await.iter().all(is_there), "a segment names what is gone");
    assert_eq!(counted(&bench).await, before);
    pruned(&bench, at_once()).await.expect("done");
    assert!(told(bench.store()).await.iter().all(is_there));
    kept.truncate(3);
    assert_kept(bench.store(), bench.source.path(), &kept, "left out").await;
}

/// Nobody says anything in the name of others but readers, and what a hostile writer says stays its own word.
#[tokio::test(flavor = "multi_thread")]
async fn lies_stay_lies_of_who_told_them() {
    let (bench, kept) = with_many_runs().await;
    let web = writers::open_as("web", bench.store(), bench.cache.path()).await;
    let session = web.writing().expect("may write").begin_session(MAIN_DOMAIN).expect("a good key");
    let author = session.author();
    // It names the packs of others, says that they hold something else, and that a reader said so.
    let cache = tempfile::tempdir().expect("made");
    let reader = open(bench.store(), cache.path()).await.expect("opens");
    let mut others = Vec::new();
    for key in segments(&*bench.store()).await {
        let object = bench.memory.get(&key).await.expect("there");
        let segment = open_segment(&reader, key.segment_id().expect("ours"), &object).expect("whole");
        if segment.author() != author {
            others.extend(segment.packs().iter().cloned());
        }
    }
    others.sort_by_key(|pack| pack.id);
    others.dedup_by_key(|pack| pack.id);
    for (at, pack) in (0u8..).zip(&mut others) {
        pack.digest = [7; 32];
        pack.directory.frames.truncate(1);
        pack.directory.frames[0].chunks[0].0.0[0] ^= at;
    }
    let lies = IndexSegment::forged(others);
    for number in 0..3 {
        let id = SegmentId([number; 16]);
        let packs = coffre::repository::objects::UploadedPack::indexed(lies.clone());
        bench.memory.put(&ObjectKey::segment(id), session.seal_segment(id, &packs).into()).await.expect("put");
    }
    let said = told(bench.store()).await;
    let report = pruned(&bench, at_once()).await.expect("done");
    assert!(report.merged_segments.replaced > 0);
    assert_eq!(told(bench.store()).await, said);
    let fresh = tempfile::tempdir().expect("made");
    let repository = open(bench.store(), fresh.path()).await.expect("opens");
    let index = Index::load(&repository, &Collected::default()).await.expect("loaded");
    let vouched: BTreeSet<PackId> =
        said.iter().filter(|(author, ..)| *author == Author::Reader).map(|(_, pack, ..)| *pack).collect();
    let now: BTreeSet<PackId> =
        index.packs().iter().map(|pack| pack.id).filter(|pack| index.is_vouched_for(*pack)).collect();
    assert_eq!(now, vouched, "nothing is vouched for by being merged");
    assert_read(bench.store(), bench.source.path(), &kept, "beside lies").await;

    // What only a reader may say is refused of a writer.
    for said_by in [[0; 8], [9; 8]] {
        let value = [IndexSegment::forged(Vec::new()).encode(), said_by.to_vec()].concat();
        let id = SegmentId([9; 16]);
        let object = session.seal_forged(INDEX, &id.0, &value);
        assert!(open_segment(&reader, id, &object).is_err(), "{said_by:?}");
    }
}

/// A replica that was away shows what was merged since: nothing is distrusted because of that.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_counts_as_gone() {
    let (bench, _) = with_many_runs().await;
    let old = segments(&*bench.store()).await;
    let other: Arc<MemoryStore> = Arc::new(bench.memory.fork());
    let over = async |cache: &Path| {
        let stores: [Arc<dyn Store>; 2] = [bench.store(), other.clone()];
        let replicas = stores.into_iter().zip(["a", "b"]).map(|(store, name)| Replica::required(name, store));
        let replicas = Replicas::new(replicas.collect()).expect("required");
        Arc::new(Repository::open(replicas, &passphrase(), cache).await.expect("opens"))
    };
    let cache = tempfile::tempdir().expect("made");
    let bodies: BTreeMap<ObjectKey, _> = {
        let mut bodies = BTreeMap::new();
        for key in &old {
            bodies.insert(key.clone(), bench.memory.get(key).await.expect("there"));
        }
        bodies
    };
    let report = prune(over(cache.path()).await, at_once(), Arc::new(Collected::default()), Cancel::default()).await;
    assert_eq!(report.expect("done").merged_segments.put, 3);
    for (key, body) in bodies {
        other.put(&key, body).await.expect("put");
    }
    crate::support::at_rest().await;
    let monitor = Arc::new(Collected::default());
    let repository = over(tempfile::tempdir().expect("made").path()).await;
    let again = backup(repository, options(bench.source.path()), monitor, Cancel::default()).await.expect("backed up");
    assert!(again.counts.new_bytes < 300_000, "{:?}", again.counts);
    assert_eq!(
        run_backup(bench.store(), cache.path(), options(bench.source.path())).await.expect("made").counts.new_bytes,
        0
    );
}
