//! Cleaning up: what is kept comes back byte for byte after each step, nothing that runs beside it loses anything, and every doubt
//! stops it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coffre::model::cleanup::{CleanupId, CleanupList, RemovedSnapshot};
use coffre::model::id::{PackId, SegmentId};
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::outcome::{Ended, Outcome};
use coffre::model::snapshot::Snapshot;
use coffre::model::time::{Clock, Timestamp};
use coffre::ops::Cancel;
use coffre::ops::backup::backup;
use coffre::ops::forget::{ForgetError, WantedForgotten, apply, hold, plan, undo};
use coffre::ops::prune::{PruneError, PruneOptions, PruneReport, PruneUnfinished, prune};
use coffre::ops::verify::ReadData;
use coffre::progress::{Collected, Monitor};
use coffre::repository::MAIN_DOMAIN;
use coffre::repository::access::AccessError;
use coffre::repository::revoking::StillCounting;
use coffre::repository::state::LeftLists;
use coffre::repository::writers::SlotPlace;
use coffre::store::layer::Operation;
use coffre::store::layer::fault::{Fault, FaultStore};
use coffre::store::{Store, StoreErrorKind};

use crate::cleanups::put_list_of;
use crate::forget::{deleting_with, told_by};
use crate::index::Lagging;
use crate::support::at_phase::AtPhase;
use crate::support::kitchen::Nights;
use crate::support::{Bench, contents, files_in, open, options, random_bytes, read_back, run_backup, run_verify};
use crate::writers;

pub type Files = BTreeMap<String, Vec<u8>>;

/// Waits for nobody.
pub fn at_once() -> PruneOptions {
    PruneOptions { wait: Duration::ZERO, poll: Duration::from_millis(5), ..PruneOptions::default() }
}

pub async fn prune_with(
    store: Arc<dyn Store>,
    cache: &Path,
    options: PruneOptions,
    monitor: Arc<dyn Monitor>,
) -> Result<PruneReport, PruneError> {
    let repository = open(store, cache).await.expect("opens");
    prune(repository, options, monitor, Cancel::default()).await
}

pub async fn pruned(bench: &Bench, options: PruneOptions) -> Result<PruneReport, PruneError> {
    prune_with(bench.store(), bench.cache.path(), options, Arc::new(Collected::default())).await
}

pub async fn packs(store: &dyn Store) -> Vec<ObjectKey> {
    store.list(ObjectKind::Pack.prefix()).await.expect("listed").into_iter().map(|object| object.key).collect()
}

/// Names of all objects.
pub async fn everything(store: &dyn Store) -> Vec<ObjectKey> {
    store.list("").await.expect("listed").into_iter().map(|object| object.key).collect()
}

/// Removes a snapshot as whoever forgets it does: a list names it, and then it goes.
pub async fn remove(bench: &Bench, snapshot: &Snapshot) {
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let cleaning = repository.writing().expect("may be written").begin_session(MAIN_DOMAIN).expect("a good key");
    let (id, before) = repository.cleanups().await.expect("read").behind_newest(snapshot.at.domain);
    let digest = snapshot.digest.expect("it is stored");
    let removed = vec![RemovedSnapshot { id: snapshot.id, digest, before: snapshot.position.before }];
    let list = CleanupList { made: Clock::System.now(), removed, before, ..CleanupList::default() };
    bench.store().put(&ObjectKey::cleanup(id), cleaning.seal_cleanup(id, &list).into()).await.expect("put");
    bench.store().delete(&ObjectKey::snapshot(snapshot.id)).await.expect("deleted");
}

/// A repository with two snapshots that are kept and one in the middle that was removed, whose data nothing else needs.
pub async fn with_dead_packs() -> (Bench, Vec<(Snapshot, Files)>) {
    let bench = Bench::new().await;
    let first = bench.snapshot().await;
    std::fs::write(bench.source.path().join("a/other"), random_bytes(7, 2_500_000)).expect("writable");
    let removed = bench.snapshot().await;
    std::fs::remove_file(bench.source.path().join("a/other")).expect("there");
    std::fs::write(bench.source.path().join("a/text"), "changed").expect("writable");
    let last = bench.snapshot().await;
    remove(&bench, &removed.0).await;
    (bench, vec![first, last])
}

/// Reads snapshots of `source` back, all bytes of them, with an empty cache.
pub async fn assert_read(store: Arc<dyn Store>, source: &Path, kept: &[(Snapshot, Files)], what: &str) {
    for (snapshot, files) in kept {
        let cache = tempfile::tempdir().expect("made");
        let read = read_back(store.clone(), cache.path(), snapshot).await;
        let read = contents(source, &read.unwrap_or_else(|error| panic!("{what}: {error}")));
        assert!(read == *files, "{what}: snapshot {} came back with other bytes", snapshot.id);
    }
}

pub async fn assert_kept(store: Arc<dyn Store>, source: &Path, kept: &[(Snapshot, Files)], what: &str) {
    assert_read(store.clone(), source, kept, what).await;
    let cache = tempfile::tempdir().expect("made");
    let report = run_verify(store, cache.path(), ReadData::All).await;
    assert_eq!(report.findings, [], "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_needs_goes_and_what_is_kept_comes_back() {
    let (bench, kept) = with_dead_packs().await;
    let before = packs(&*bench.store()).await;
    let report = pruned(&bench, at_once()).await.expect("done");
    let after = packs(&*bench.store()).await;
    assert!(report.deleted_packs >= 3 && report.deleted_bytes > 2_500_000, "{report:?}");
    assert_eq!((before.len() - after.len()) as u64, report.deleted_packs);
    assert_eq!((report.plan.dead_packs, report.plan.snapshots), (report.deleted_packs, 2));
    assert_eq!(report.outcome(), Outcome::Clean);
    assert_kept(bench.store(), bench.source.path(), &kept, "once").await;
    // There is nothing left to do, and nothing is done.
    let objects = everything(&*bench.store()).await;
    let again = pruned(&bench, at_once()).await.expect("done");
    assert_eq!((again.plan.dead_packs, again.deleted_packs), (0, 0));
    assert_eq!(everything(&*bench.store()).await, objects);
    // What was deleted is stored again when it is back.
    std::fs::write(bench.source.path().join("a/other"), random_bytes(7, 2_500_000)).expect("writable");
    let back = bench.snapshot().await;
    assert!(back.0.counts.new_bytes >= 2_500_000);
    assert_eq!(pruned(&bench, at_once()).await.expect("done").deleted_packs, 0);
    assert_kept(bench.store(), bench.source.path(), &[kept, vec![back]].concat(), "twice").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_changes_nothing_and_says_what_would_be_done() {
    let (bench, kept) = with_dead_packs().await;
    let objects = everything(&*bench.store()).await;
    let dry = pruned(&bench, PruneOptions { dry_run: true, ..at_once() }).await.expect("done");
    assert_eq!((dry.deleted_packs, everything(&*bench.store()).await), (0, objects));
    assert!(dry.plan.stays.packs > 0 && dry.plan.stays.bytes > 3_000_000, "{dry:?}");
    let report = pruned(&bench, at_once()).await.expect("done");
    assert_eq!((report.deleted_packs, report.deleted_bytes), (dry.plan.dead_packs, dry.plan.dead_bytes));
    assert_kept(bench.store(), bench.source.path(), &kept, "after it").await;
}

/// Every chunk that a recipe names is needed, through all depths, although no list of chunks has it.
#[tokio::test(flavor = "multi_thread")]
async fn what_live_recipes_name_is_alive() {
    let bench = Bench::new().await;
    let nights = Nights::written(bench.store(), bench.cache.path()).await;
    // The last night names windows of the second, which name the first.
    for night in &nights.snapshots[..2] {
        remove(&bench, night).await;
    }
    let report = pruned(&bench, at_once()).await.expect("done");
    assert!(report.deleted_packs > 0, "the trees of the first nights: {report:?}");
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let read = crate::support::read_all(repository, &nights.snapshots[2]).await.expect("whole");
    assert_eq!(read[0].1, nights.dumps[2]);
    assert_eq!(bench.verify(ReadData::All).await.findings, []);
}

/// Killed behind each change of the store, and run again.
#[tokio::test(flavor = "multi_thread")]
async fn cut_off_anywhere_it_has_lost_nothing_and_the_next_run_goes_on() {
    let (bench, kept) = with_dead_packs().await;
    let whole = bench.fork();
    pruned(&whole, at_once()).await.expect("done");
    let left = packs(&*whole.store()).await;
    for k in 0.. {
        let cut = Bench { cache: tempfile::tempdir().expect("made"), ..bench.fork() };
        let dying = Arc::new(FaultStore::new(cut.store()));
        dying.die_after_mutations(k);
        let outcome = prune_with(dying.clone(), cut.cache.path(), at_once(), Arc::new(Collected::default())).await;
        assert_eq!(outcome.is_err(), dying.died(), "k = {k}");
        assert_read(cut.store(), bench.source.path(), &kept, &format!("k = {k}")).await;
        // The same machine goes on, or another one.
        let other = tempfile::tempdir().expect("made");
        let cache = if k % 2 == 0 { cut.cache.path() } else { other.path() };
        let again = prune_with(cut.store(), cache, at_once(), Arc::new(Collected::default())).await.expect("done");
        assert_eq!(again.unfinished, None, "k = {k}");
        assert_eq!(packs(&*cut.store()).await, left, "k = {k}");
        assert_eq!(cut.verify(ReadData::All).await.findings, [], "k = {k}");
        if !dying.died() {
            assert!(k > 4, "a clean-up makes several changes, this one {k}");
            return;
        }
    }
}

/// Any request that fails ends it; nothing is lost by that.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_fails_ends_it_before_anything_is_lost() {
    let (bench, kept) = with_dead_packs().await;
    let check = async |failing: &Bench, case: &str, _| {
        assert_read(failing.store(), bench.source.path(), &kept, case).await;
    };
    each_request_fails(&bench, &OPERATIONS, at_once, |_, _| false, check).await;
}

/// What a clean-up asks of a store.
pub const OPERATIONS: [Operation; 5] =
    [Operation::List, Operation::Get, Operation::GetRange, Operation::Put, Operation::Delete];

/// Cleans up copies of a repository while a request fails: the first of each kind, the second, and so on until there is none to fail.
/// Each is checked, which is told what failed and whether it went well; some `end_nothing`.
pub async fn each_request_fails(
    bench: &Bench,
    operations: &[Operation],
    options: impl Fn() -> PruneOptions,
    end_nothing: impl Fn(Operation, usize) -> bool,
    check: impl AsyncFn(&Bench, &str, bool),
) {
    for operation in operations.iter().copied() {
        for nth in 1.. {
            let failing = bench.fork();
            let store = Arc::new(FaultStore::new(failing.store()));
            let repository = open(store.clone(), failing.cache.path()).await.expect("opens");
            store.plan(Fault::on(operation).nth(nth).fail_before(StoreErrorKind::Unavailable));
            let outcome = prune(repository, options(), Arc::new(Collected::default()), Cancel::default()).await;
            store.forget_plan();
            check(&failing, &format!("{operation:?} {nth}"), outcome.is_ok()).await;
            if outcome.is_ok() && !end_nothing(operation, nth) {
                assert!(nth > 1, "{operation:?}");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_doubt_stops_it_and_says_which_object() {
    let (bench, kept) = with_dead_packs().await;
    let stopped = async |bench: &Bench, names: &str| {
        let objects = everything(&*bench.store()).await;
        let cache = tempfile::tempdir().expect("made");
        let error = prune_with(bench.store(), cache.path(), at_once(), Arc::new(Collected::default())).await;
        let error = error.expect_err(names);
        assert!(coffre::progress::chain(&error).contains(names), "{names}: {}", coffre::progress::chain(&error));
        assert_eq!(everything(&*bench.store()).await, objects, "{names}");
        error.outcome()
    };
    let snapshot = ObjectKey::snapshot(kept[0].0.id);
    let damaged = bench.fork();
    damaged.memory.tamper(&snapshot, |bytes| bytes[1400] ^= 1);
    assert_eq!(stopped(&damaged, &kept[0].0.id.to_string()).await, Outcome::Damaged);

    // A segment that cannot be read, and one that is gone.
    for segment in bench.store().list("index/").await.expect("listed") {
        let damaged = bench.fork();
        damaged.memory.tamper(&segment.key, |bytes| bytes[100] ^= 1);
        assert_eq!(stopped(&damaged, segment.key.as_str()).await, Outcome::Damaged);
    }
    let lost = bench.fork();
    let first = bench.store().list("index/").await.expect("listed").len();
    assert_eq!(first, 3, "one for each run");
    for segment in lost.store().list("index/").await.expect("listed") {
        let lost = bench.fork();
        lost.store().delete(&segment.key).await.expect("deleted");
        let cache = tempfile::tempdir().expect("made");
        let outcome = prune_with(lost.store(), cache.path(), at_once(), Arc::new(Collected::default())).await;
        // That of the removed snapshot nothing needs: its packs are in no segment then, and go as orphans.
        if let Ok(report) = outcome {
            assert_eq!(report.deleted_packs, report.plan.dead_packs, "{report:?}");
        }
        lost.memory.put(&segment.key, bench.memory.get(&segment.key).await.expect("there")).await.expect("put");
        assert_kept(lost.store(), bench.source.path(), &kept, "a segment was gone for a while").await;
    }

    // A pack that is needed.
    let needed: Vec<_> = {
        let clean = bench.fork();
        pruned(&clean, at_once()).await.expect("done");
        packs(&*clean.store()).await
    };
    for pack in &needed {
        let damaged = bench.fork();
        damaged.store().delete(pack).await.expect("deleted");
        assert_eq!(stopped(&damaged, pack.base_name()).await, Outcome::Damaged);
        let cut = bench.fork();
        cut.memory.tamper(pack, |bytes| bytes.truncate(bytes.len() - 1));
        assert_eq!(stopped(&cut, pack.base_name()).await, Outcome::Damaged);
    }

    // A list that cannot be opened.
    let damaged = bench.fork();
    let list = bench.store().list("cleanup/").await.expect("listed").remove(0).key;
    damaged.memory.tamper(&list, |bytes| bytes[60] ^= 1);
    assert_eq!(stopped(&damaged, list.as_str()).await, Outcome::Damaged);

    // A snapshot that an earlier clean-up saw, and that is hidden now.
    let hidden = bench.fork();
    pruned(&hidden, at_once()).await.expect("done");
    hidden.store().delete(&snapshot).await.expect("deleted");
    assert_eq!(stopped(&hidden, snapshot.as_str()).await, Outcome::Damaged);
}

/// Rubbish of nobody stops nothing.
#[tokio::test(flavor = "multi_thread")]
async fn rubbish_stops_nothing() {
    let (bench, kept) = with_dead_packs().await;
    let rubbish = random_bytes(3, 2000);
    let names = [
        "snapshots/20261124T021500Z-3f9c21d0a1b2c3d4".to_owned(),
        format!("sessions/{}", SegmentId([9; 16])),
        "sessions/thumbs.db".to_owned(),
        "packs/desktop.ini".to_owned(),
    ];
    for name in &names {
        bench.store().put(&ObjectKey::from_listed(name), rubbish.clone().into()).await.expect("put");
    }
    let report = pruned(&bench, at_once()).await.expect("done");
    assert!(report.deleted_packs >= 3 && report.unfinished.is_none(), "{report:?}");
    let left = everything(&*bench.store()).await;
    assert!(names.iter().all(|name| left.contains(&ObjectKey::from_listed(name))), "and nobody deletes it");
    assert_read(bench.store(), bench.source.path(), &kept, "beside rubbish").await;
}

/// A backup beside it that relies on what is dead, paused at each of its points: it is waited for, and finds all that it needs.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_runs_beside_it_is_waited_for() {
    for phase in
        ["reading the index", "backing up", "storing", "checking that nothing vanished", "writing the snapshot"]
    {
        let (bench, mut kept) = with_dead_packs().await;
        // It needs what is dead.
        std::fs::write(bench.source.path().join("a/other"), random_bytes(7, 2_500_000)).expect("writable");
        let now = files_in(bench.source.path());
        crate::support::at_rest().await;
        let first: Arc<Mutex<Option<Result<PruneReport, PruneError>>>> = Arc::default();
        let (store, noted, handle) = (bench.store(), first.clone(), tokio::runtime::Handle::current());
        let cleaner = tempfile::tempdir().expect("made");
        let cache = cleaner.path().to_path_buf();
        let paused = AtPhase::new(phase, move || {
            // The backup waits while somebody cleans up, once.
            let mut noted = noted.lock().expect("no panic while held");
            if noted.is_none() {
                let (store, cache) = (store.clone(), cache.clone());
                let run = async move { prune_with(store, &cache, at_once(), Arc::new(Collected::default())).await };
                let handle = handle.clone();
                let ran = std::thread::spawn(move || handle.block_on(run)).join().expect("no panic");
                *noted = Some(ran);
            }
        });
        let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
        let options = options(bench.source.path());
        let run = tokio::spawn(backup(repository, options, Arc::new(paused), Cancel::default()));
        let report = run.await.expect("no panic").expect("backed up");
        let snapshot = report.snapshot.expect("made");
        let first = first.lock().expect("no panic while held").take().expect("it ran").expect("it found no doubt");
        match &first.unfinished {
            Some(PruneUnfinished::Running(sessions)) => {
                assert_eq!((sessions.len(), first.deleted_packs), (1, 0), "{phase}");
                assert_eq!(sessions[0].0, snapshot.session, "{phase}");
            }
            other => panic!("{phase}: {other:?}"),
        }
        kept.push((snapshot, now));
        assert_kept(bench.store(), bench.source.path(), &kept, phase).await;
        // The next run, of the same machine, takes back what the first one doomed, and needs nothing to wait for.
        let again = prune_with(bench.store(), cleaner.path(), at_once(), Arc::new(Collected::default())).await;
        assert_eq!(again.expect("done").unfinished, None, "{phase}");
        assert_kept(bench.store(), bench.source.path(), &kept, phase).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_only_writes_is_refused() {
    let (bench, _) = with_dead_packs().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    writers::add(&repository, &writers::new("web", &[]), SlotPlace::Repository).await.expect("added");
    let cache = tempfile::tempdir().expect("made");
    let writer = writers::open_as("web", bench.store(), cache.path()).await;
    let refused = prune(writer, at_once(), Arc::new(Collected::default()), Cancel::default()).await;
    assert!(matches!(refused, Err(PruneError::Access(AccessError::WriterOnly))), "{refused:?}");
}

/// Whoever was thrown out, or let in, since it was opened decides what counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_keyring_that_is_newer_than_its_own_stops_it() {
    let (bench, _) = with_dead_packs().await;
    let opened = open(bench.store(), bench.cache.path()).await.expect("opens");
    let other = open(bench.store(), bench.cache.path()).await.expect("opens");
    writers::add(&other, &writers::new("web", &[]), SlotPlace::Repository).await.expect("added");
    let objects = everything(&*bench.store()).await;
    let stopped = prune(opened, at_once(), Arc::new(Collected::default()), Cancel::default()).await;
    assert!(matches!(stopped, Err(PruneError::Keyring)), "{stopped:?}");
    assert_eq!(everything(&*bench.store()).await, objects);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_cleaners_at_once_delete_what_one_would() {
    let (bench, kept) = with_dead_packs().await;
    let alone = bench.fork();
    pruned(&alone, at_once()).await.expect("done");
    for _ in 0..3 {
        let both = bench.fork();
        let caches = [tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made")];
        let run = |nth: usize| {
            let (store, cache) = (both.store(), caches[nth].path().to_path_buf());
            tokio::spawn(async move { prune_with(store, &cache, at_once(), Arc::new(Collected::default())).await })
        };
        let (one, other) = (run(0), run(1));
        for ended in [one.await.expect("no panic"), other.await.expect("no panic")] {
            ended.expect("neither is in the other's way");
        }
        assert_kept(both.store(), bench.source.path(), &kept, "both").await;
        pruned(&both, at_once()).await.expect("done");
        assert_eq!(packs(&*both.store()).await, packs(&*alone.store()).await);
    }
    // On one machine the second one waits its turn.
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let lock = repository.state().clean_up_alone().expect("it can be locked");
    assert!(matches!(pruned(&bench, at_once()).await, Err(PruneError::Busy)));
    drop(lock);
    assert!(pruned(&bench, at_once()).await.expect("done").deleted_packs > 0);
}

/// The lease of a run that was killed stands in the way until it ended long ago; what comes of that run afterwards counts for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_lease_ended_long_ago_is_given_up() {
    let (bench, kept) = with_dead_packs().await;
    std::fs::write(bench.source.path().join("a/other"), random_bytes(7, 2_500_000)).expect("writable");
    crate::support::at_rest().await;
    // It relies on what is dead, and its snapshot is on its way for hours.
    let late: Arc<Mutex<Vec<ObjectKey>>> = Arc::default();
    let store = Arc::new(FaultStore::new(bench.store()));
    store.plan(Fault::on(Operation::Put).matching("snapshots/").fail_after(StoreErrorKind::Other));
    let repository = open(store.clone(), bench.cache.path()).await.expect("opens");
    let monitor = Arc::new(Collected::default());
    backup(repository, options(bench.source.path()), monitor, Cancel::default()).await.expect_err("nobody knows");
    store.assert_all_fired();
    let ids: Vec<_> = kept.iter().map(|(snapshot, _)| ObjectKey::snapshot(snapshot.id)).collect();
    for object in bench.store().list("snapshots/").await.expect("listed") {
        if !ids.contains(&object.key) {
            late.lock().expect("no panic while held").push(object.key);
        }
    }
    let late = late.lock().expect("no panic while held").pop().expect("it is stored");
    let snapshot = bench.memory.get(&late).await.expect("there");
    bench.store().delete(&late).await.expect("not yet");

    let running = pruned(&bench, at_once()).await.expect("done");
    assert!(matches!(running.unfinished, Some(PruneUnfinished::Running(_))), "{running:?}");
    let tomorrow = Clock::Fixed(Timestamp::from_seconds(Clock::System.now().seconds + 86_400));
    let report = pruned(&bench, PruneOptions { clock: tomorrow, ..at_once() }).await.expect("done");
    assert!(report.deleted_packs >= 3 && report.given_up.len() == 1, "{report:?}");
    bench.memory.put(&late, snapshot).await.expect("put");
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    assert_eq!(repository.snapshot_ids().await.expect("listed").len(), 2, "it does not exist");
    assert_kept(bench.store(), bench.source.path(), &kept, "a session was given up").await;

    // Somebody who knows that it is dead need not wait.
    let (bench, kept) = with_dead_packs().await;
    let dying = Arc::new(FaultStore::new(bench.store()));
    dying.die_after_mutations(1);
    run_backup(dying, bench.cache.path(), options(bench.source.path())).await.expect_err("it died");
    let running = pruned(&bench, at_once()).await.expect("done");
    let Some(PruneUnfinished::Running(sessions)) = running.unfinished else { panic!("{running:?}") };
    let give_up = sessions.iter().map(|(id, _)| *id).collect();
    let report = pruned(&bench, PruneOptions { give_up, ..at_once() }).await.expect("done");
    assert!(report.deleted_packs >= 3, "{report:?}");
    assert_kept(bench.store(), bench.source.path(), &kept, "a session was given up by name").await;
}

/// As `config check` leaves it where nothing may be deleted.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_the_lease_of_a_trial_and_it_goes() {
    let (bench, kept) = with_dead_packs().await;
    let refusing = Arc::new(FaultStore::new(bench.store()));
    refusing.plan(Fault::on(Operation::Delete).matching("sessions/").always().fail_before(StoreErrorKind::Denied));
    let repository = open(refusing.clone(), bench.cache.path()).await.expect("opens");
    let trial = repository.writing().expect("may be written").try_out("host".into(), Clock::System).await;
    let removed = trial.expect("stored").removed;
    refusing.assert_all_fired();
    assert!(removed.is_err_and(|error| error.kind == StoreErrorKind::Denied));
    let leases = async || bench.store().list(ObjectKind::Session.prefix()).await.expect("listed").len();
    assert_eq!(leases().await, 1);
    let report = pruned(&bench, at_once()).await.expect("done");
    assert!(report.deleted_packs >= 3 && report.given_up.len() == 1, "{report:?}");
    pruned(&bench, at_once()).await.expect("done");
    assert_eq!(leases().await, 0);
    assert_kept(bench.store(), bench.source.path(), &kept, "a trial was given up").await;
}

/// A host stored again what a run was about to delete that was cut off: what is left of that goes, and the new copy stays.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_to_be_deleted_and_was_stored_again_has_one_copy_left() {
    let (bench, mut kept) = with_dead_packs().await;
    let before = packs(&*bench.store()).await;
    let failing = Arc::new(FaultStore::new(bench.store()));
    failing.plan(Fault::on(Operation::Delete).matching("packs/").always().fail_before(StoreErrorKind::Denied));
    let ended = prune_with(failing, bench.cache.path(), at_once(), Arc::new(Collected::default())).await;
    assert!(matches!(ended, Err(PruneError::Store(_))), "{ended:?}");
    assert_eq!(packs(&*bench.store()).await, before);
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    writers::add(&repository, &writers::new("web", &[]), SlotPlace::Repository).await.expect("added");
    std::fs::write(bench.source.path().join("a/other"), random_bytes(7, 2_500_000)).expect("writable");
    let files = files_in(bench.source.path());
    crate::support::at_rest().await;
    let again = writers::back_up(&bench, "web", "web").await.expect("backed up").snapshot.expect("made");
    assert!(again.counts.new_bytes >= 2_500_000, "{:?}", again.counts);
    kept.push((again, files));
    let report = pruned(&bench, at_once()).await.expect("done");
    assert!(report.deleted_bytes > 2_500_000, "{report:?}");
    assert_kept(bench.store(), bench.source.path(), &kept, "stored again").await;
    assert_eq!(pruned(&bench, at_once()).await.expect("done").plan.dead_packs, 0);
}

/// Each of two machines was killed and left a list that dooms what snapshots need by now: the other one finds that, and ends in doubt.
#[tokio::test(flavor = "multi_thread")]
async fn two_that_were_killed_do_not_wait_for_each_other() {
    let (bench, kept) = with_dead_packs().await;
    let needed: Vec<PackId> = {
        let clean = bench.fork();
        pruned(&clean, at_once()).await.expect("done");
        packs(&*clean.store()).await.iter().filter_map(ObjectKey::pack_id).collect()
    };
    let machines = [tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made")];
    for (at, cache) in machines.iter().enumerate() {
        let repository = open(bench.store(), cache.path()).await.expect("opens");
        let list = CleanupList { made: Clock::System.now(), packs: vec![needed[at]], ..CleanupList::default() };
        let left = put_list_of(&repository, &*bench.store(), 2 + at as u64, list).await;
        repository.state().note_left(LeftLists::Dooming, &[left]).expect("written");
    }
    let run = async |bench: &Bench, at: usize, options| {
        prune_with(bench.store(), machines[at].path(), options, Arc::new(Collected::default())).await
    };
    // One of them is lost: after a month nobody acts upon its list any more.
    let lost = bench.fork();
    for options in [at_once(), after_days(29)] {
        let error = run(&lost, 0, options).await.expect_err("the other one may be about to delete");
        assert!(matches!(error, PruneError::Doomed { .. }), "{error}");
        assert_read(lost.store(), bench.source.path(), &kept, "doubtful").await;
    }
    assert!(run(&lost, 0, after_days(31)).await.expect("done").deleted_packs > 0);
    assert_kept(lost.store(), bench.source.path(), &kept, "one is lost").await;

    let repository = open(bench.store(), machines[0].path()).await.expect("opens");
    repository.state().note_left(LeftLists::Dooming, &[CleanupId { counter: 2, random: [2; 8] }]).expect("written");
    let error = run(&bench, 0, at_once()).await.expect_err("the other one has not run yet");
    assert!(matches!(error, PruneError::Doomed { .. }), "{error}");
    assert!(run(&bench, 1, at_once()).await.expect("nothing is in its way").deleted_packs > 0);
    assert_eq!(run(&bench, 0, at_once()).await.expect("done").outcome(), Outcome::Clean);
    assert_kept(bench.store(), bench.source.path(), &kept, "both").await;
}

const DAY: i64 = 86_400;

/// Days behind now.
fn in_days(days: i64) -> Timestamp {
    Timestamp::from_seconds(Clock::System.now().seconds + days * DAY)
}

/// Cleans up so many days from now.
pub fn after_days(days: i64) -> PruneOptions {
    PruneOptions { clock: Clock::Fixed(in_days(days)), ..at_once() }
}

/// Forgets a snapshot now.
pub async fn forget(bench: &Bench, snapshot: &Snapshot) {
    let deleting = deleting_with(bench.store(), bench.cache.path()).await;
    let wanted = WantedForgotten::Named(vec![snapshot.id.to_string()], false);
    let now = Clock::System.now();
    let plan = plan(&deleting, &wanted, now, &Collected::default()).await.expect("planned");
    apply(&deleting, &plan, &told_by(now)).await.expect("told");
}

pub async fn bring_back(store: Arc<dyn Store>, snapshot: &Snapshot) -> Result<(), ForgetError> {
    let cache = tempfile::tempdir().expect("made");
    let deleting = deleting_with(store, cache.path()).await;
    undo(&deleting, &[snapshot.id.to_string()], &told_by(in_days(0))).await.map(drop)
}

/// Three snapshots, the one in the middle with data that nothing else needs, and forgotten.
pub async fn with_forgotten() -> (Bench, Vec<(Snapshot, Files)>, (Snapshot, Files)) {
    let bench = Bench::new().await;
    let first = bench.snapshot().await;
    std::fs::write(bench.source.path().join("a/other"), random_bytes(7, 2_500_000)).expect("writable");
    let middle = bench.snapshot().await;
    std::fs::remove_file(bench.source.path().join("a/other")).expect("there");
    let last = bench.snapshot().await;
    forget(&bench, &middle.0).await;
    (bench, vec![first, last], middle)
}

async fn has(store: &dyn Store, snapshot: &Snapshot) -> bool {
    store.head(&ObjectKey::snapshot(snapshot.id)).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_forgotten_goes_after_the_grace_time_and_what_only_it_needs_with_it() {
    let (bench, kept, middle) = with_forgotten().await;
    // In time, or held, it stays with all that it needs.
    let objects = everything(&*bench.store()).await;
    let early = pruned(&bench, after_days(2)).await.expect("done");
    assert_eq!((early.removed_snapshots, early.plan.dead_packs, early.plan.snapshots), (0, 0, 3));
    assert_eq!(everything(&*bench.store()).await, objects);
    let held = bench.fork();
    let keeper = deleting_with(held.store(), held.cache.path()).await;
    hold(&keeper, &[middle.0.id.to_string()], "audit", None, &told_by(in_days(0))).await.expect("held");
    let report = pruned(&held, after_days(400)).await.expect("done");
    assert_eq!((report.removed_snapshots, report.plan.dead_packs), (0, 0));
    // To try it changes nothing and tells the same.
    let dry = pruned(&bench, PruneOptions { dry_run: true, ..after_days(4) }).await.expect("done");
    assert_eq!((dry.plan.expired, dry.plan.snapshots, dry.removed_snapshots), (1, 2, 0));
    assert_eq!(everything(&*bench.store()).await, objects);

    let report = pruned(&bench, after_days(4)).await.expect("done");
    assert_eq!((report.removed_snapshots, report.plan.expired, report.plan.snapshots), (1, 1, 2));
    assert_eq!(report.plan.dead_packs, dry.plan.dead_packs);
    assert!(report.deleted_packs > 0 && report.deleted_bytes > 2_500_000, "{report:?}");
    assert!(!has(&*bench.store(), &middle.0).await);
    assert_kept(bench.store(), bench.source.path(), &kept, "removed").await;
    assert!(bring_back(bench.store(), &middle.0).await.is_err());
    // A replica that was away brings its object back: it is gone all the same.
    let again = pruned(&bench, after_days(8)).await.expect("done");
    assert_eq!((again.removed_snapshots, again.deleted_packs), (0, 0));
    let next = bench.snapshot().await;
    assert_eq!(next.0.position.number, 3);
    assert_kept(bench.store(), bench.source.path(), &kept, "and backed up again").await;
}

/// What counted for nothing before is not taken off what counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_counts_what_stays_where_a_writer_was_thrown_out() {
    let bench = Bench::new().await;
    bench.snapshot().await;
    let reader = open(bench.store(), bench.cache.path()).await.expect("opens");
    let web = writers::add(&reader, &writers::new("web", &["web1"]), SlotPlace::Repository).await.expect("added").id;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(writers::back_up(&bench, "web", "web1").await.expect("backed up").snapshot.expect("made"));
    }
    for snapshot in &made[..2] {
        forget(&bench, snapshot).await;
    }
    let reader = open(bench.store(), bench.cache.path()).await.expect("opens");
    reader.revoke_writer(web, StillCounting::None, Clock::System.now()).await.expect("revoked");
    let objects = everything(&*bench.store()).await;
    let dry = pruned(&bench, PruneOptions { dry_run: true, ..after_days(4) }).await.expect("done");
    assert_eq!((dry.plan.expired, dry.plan.snapshots), (2, 1), "{dry:?}");
    assert_eq!(everything(&*bench.store()).await, objects);
    let report = pruned(&bench, after_days(4)).await.expect("done");
    assert_eq!((report.removed_snapshots, report.plan.expired, report.plan.snapshots), (2, 2, 1));
}

/// Whoever brings a snapshot back and is told so has it, wherever the clean-up is.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_brought_back_meanwhile_stays() {
    let (bench, mut kept, middle) = with_forgotten().await;
    kept.push(middle.clone());
    for phase in ["looking what was forgotten", "removing what was forgotten", "looking what snapshots need"] {
        let raced = Bench { cache: tempfile::tempdir().expect("made"), ..bench.fork() };
        let (store, snapshot) = (raced.store(), middle.0.clone());
        let said: Arc<Mutex<Option<bool>>> = Arc::default();
        let (noted, handle) = (said.clone(), tokio::runtime::Handle::current());
        let racing = AtPhase::new(phase, move || {
            let mut noted = noted.lock().expect("no panic while held");
            if noted.is_none() {
                let (store, snapshot, handle) = (store.clone(), snapshot.clone(), handle.clone());
                let run = async move { bring_back(store, &snapshot).await.is_ok() };
                *noted = Some(std::thread::spawn(move || handle.block_on(run)).join().expect("no panic"));
            }
        });
        let report =
            prune_with(raced.store(), raced.cache.path(), after_days(4), Arc::new(racing)).await.expect("done");
        let is_back = said.lock().expect("no panic while held").expect("it was tried");
        assert_eq!(is_back, phase != "looking what snapshots need", "{phase}");
        assert_eq!(
            (report.removed_snapshots == 0, has(&*raced.store(), &middle.0).await),
            (is_back, is_back),
            "{phase}"
        );
        let of_it: &[(Snapshot, Files)] = if is_back { &kept } else { &kept[..2] };
        assert_kept(raced.store(), bench.source.path(), of_it, phase).await;
        let again = pruned(&raced, after_days(30)).await.expect("done");
        assert_eq!((again.removed_snapshots, again.plan.snapshots), (0, of_it.len() as u64), "{phase}");
    }
}

/// Brought back before the list was there that removes it, which whoever put that has not found out when another one cleans up.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_one_may_yet_take_back_is_needed() {
    let (bench, mut kept, middle) = with_forgotten().await;
    kept.push(middle.clone());
    let dying = Arc::new(FaultStore::new(bench.store()));
    dying.die_after_mutations(1);
    let (store, snapshot, handle) = (bench.store(), middle.0.clone(), tokio::runtime::Handle::current());
    let racing = AtPhase::new("removing what was forgotten", move || {
        let (store, snapshot, handle) = (store.clone(), snapshot.clone(), handle.clone());
        let run = async move { bring_back(store, &snapshot).await.expect("no list names it") };
        std::thread::spawn(move || handle.block_on(run)).join().expect("no panic");
    });
    let cut_off = prune_with(dying.clone(), bench.cache.path(), after_days(4), Arc::new(racing)).await;
    assert!(cut_off.is_err() && dying.died(), "its list is there, and nothing else");
    for _ in 0..2 {
        let cache = tempfile::tempdir().expect("made");
        let monitor = Arc::new(Collected::default());
        let other = prune_with(bench.store(), cache.path(), after_days(4), monitor).await.expect("done");
        assert_eq!((other.removed_snapshots, other.deleted_packs, other.plan.snapshots), (0, 0, 2), "{other:?}");
    }
    let again = pruned(&bench, after_days(5)).await.expect("done");
    assert_eq!((again.removed_snapshots, again.plan.snapshots), (0, 3));
    assert_kept(bench.store(), bench.source.path(), &kept, "taken back").await;
}

/// What is missing may be what another clean-up deleted meanwhile: lists say so, and everything is looked at again.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_clean_up_removes_meanwhile_is_not_called_damaged() {
    for phase in ["reading the index", "looking what snapshots need", "looking what nothing needs"] {
        let (bench, kept, middle) = with_forgotten().await;
        let (ran, handle) = (Arc::new(Mutex::new(None)), tokio::runtime::Handle::current());
        let (store, noted) = (bench.store(), ran.clone());
        let racing = AtPhase::new(phase, move || {
            let mut noted = noted.lock().expect("no panic while held");
            if noted.is_none() {
                let (store, handle) = (store.clone(), handle.clone());
                let run = async move {
                    let other = tempfile::tempdir().expect("made");
                    prune_with(store, other.path(), after_days(4), Arc::new(Collected::default())).await.expect("done")
                };
                *noted = Some(std::thread::spawn(move || handle.block_on(run)).join().expect("no panic"));
            }
        });
        let cache = tempfile::tempdir().expect("made");
        let report = prune_with(bench.store(), cache.path(), after_days(2), Arc::new(racing)).await;
        let report = report.unwrap_or_else(|error| panic!("{phase}: {}", coffre::progress::chain(&error)));
        assert_eq!((report.removed_snapshots, report.outcome()), (0, Outcome::Clean), "{phase}");
        let other = ran.lock().expect("no panic while held").take().expect("it ran");
        assert!(other.removed_snapshots == 1 && other.deleted_packs > 0, "{phase}: {other:?}");
        assert!(!has(&*bench.store(), &middle.0).await);
        assert_kept(bench.store(), bench.source.path(), &kept, phase).await;
    }
}

/// Killed behind each change, and brought back then: either that is refused, or it is back when the same machine cleans up again.
#[tokio::test(flavor = "multi_thread")]
async fn cut_off_while_it_removes_it_asks_again() {
    let (bench, kept, middle) = with_forgotten().await;
    let mut all = kept.clone();
    all.push(middle.clone());
    for k in 0.. {
        for brings_back in [false, true] {
            let cut = Bench { cache: tempfile::tempdir().expect("made"), ..bench.fork() };
            let dying = Arc::new(FaultStore::new(cut.store()));
            dying.die_after_mutations(k);
            let monitor = Arc::new(Collected::default());
            let _ = prune_with(dying.clone(), cut.cache.path(), after_days(4), monitor).await;
            assert_read(cut.store(), bench.source.path(), &kept, &format!("k = {k}")).await;
            let was_there = has(&*cut.store(), &middle.0).await;
            let is_told = brings_back && bring_back(cut.store(), &middle.0).await.is_ok();
            let again = pruned(&cut, after_days(5)).await.expect("done");
            assert_eq!(again.unfinished, None, "k = {k}");
            let is_there = has(&*cut.store(), &middle.0).await;
            assert_eq!(is_there, is_told, "k = {k}, {brings_back}: it is back if that was said, and else gone");
            assert!(was_there || !is_told, "k = {k}: it was gone by then");
            let of_it = if is_there { &all } else { &kept };
            assert_kept(cut.store(), bench.source.path(), of_it, &format!("k = {k}, {brings_back}")).await;
        }
        let whole = Bench { cache: tempfile::tempdir().expect("made"), ..bench.fork() };
        let dying = Arc::new(FaultStore::new(whole.store()));
        dying.die_after_mutations(k);
        let monitor = Arc::new(Collected::default());
        if prune_with(dying.clone(), whole.cache.path(), after_days(4), monitor).await.is_ok() && !dying.died() {
            assert!(k > 3, "it makes several changes, this one {k}");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn doubt_about_what_was_forgotten_stops_everything() {
    let (bench, _, middle) = with_forgotten().await;
    let records = bench.store().list(ObjectKind::Retention.prefix()).await.expect("listed");
    bench.memory.tamper(&records[0].key, |bytes| *bytes.last_mut().expect("some") ^= 1);
    let objects = everything(&*bench.store()).await;
    for options in [after_days(4), PruneOptions { dry_run: true, ..after_days(4) }] {
        let error = pruned(&bench, options).await.expect_err("nobody knows");
        assert!(matches!(error, PruneError::Forgotten(_)) && error.outcome() == Outcome::Damaged, "{error:?}");
    }
    assert_eq!(everything(&*bench.store()).await, objects);
    assert!(has(&*bench.store(), &middle.0).await);
}

/// A list that is not listed yet cannot be told from one that is not there, and the next one would get its number.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_by_a_list_that_is_not_listed_yet() {
    let (bench, kept) = with_dead_packs().await;
    let (lagging, monitor) = (Lagging::over(bench.store(), "cleanup/"), Arc::new(Collected::default()));
    let before = packs(&*bench.store()).await;
    let error = prune_with(lagging, bench.cache.path(), at_once(), monitor).await.expect_err("it may not go on");
    assert!(matches!(error, PruneError::Unlisted(_)), "{error:?}");
    assert_eq!(packs(&*bench.store()).await, before);
    assert!(pruned(&bench, at_once()).await.expect("done").deleted_packs > 0);
    assert_kept(bench.store(), bench.source.path(), &kept, "listed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_removed_by_a_list_that_is_not_listed_yet() {
    let (bench, kept, middle) = with_forgotten().await;
    let (lagging, monitor) = (Lagging::over(bench.store(), "cleanup/"), Arc::new(Collected::default()));
    let error = prune_with(lagging, bench.cache.path(), after_days(4), monitor).await.expect_err("it may not go on");
    assert!(matches!(error, PruneError::Unlisted(_)), "{error:?}");
    assert!(has(&*bench.store(), &middle.0).await);
    let report = pruned(&bench, after_days(4)).await.expect("done");
    assert_eq!((report.removed_snapshots, report.plan.snapshots), (1, 2));
    assert!(!has(&*bench.store(), &middle.0).await);
    assert_kept(bench.store(), bench.source.path(), &kept, "listed").await;
}
