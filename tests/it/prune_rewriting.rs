//! Packs that are needed in part are rewritten, small ones are joined: what is kept comes back byte for byte wherever that ends, and
//! what is dead is gone in the end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use coffre::format::pack::PackKind;
use coffre::format::recipe::Recipe;
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::outcome::{Ended, Outcome};
use coffre::model::snapshot::Snapshot;
use coffre::model::time::Clock;
use coffre::ops::Cancel;
use coffre::ops::backup::backup;
use coffre::ops::prune::{MaxUnused, PruneError, PruneOptions, PruneReport, PruneUnfinished};
use coffre::ops::verify::ReadData;
use coffre::progress::Collected;
use coffre::repository::index::Index;
use coffre::repository::revoking::StillCounting;
use coffre::repository::writers::SlotPlace;
use coffre::store::layer::Operation;
use coffre::store::layer::fault::{Fault, FaultStore};
use coffre::store::{Store, StoreErrorKind};

use crate::prune::{
    Files, OPERATIONS, assert_kept, assert_read, at_once, each_request_fails, everything, packs, prune_with, pruned,
    remove, with_dead_packs,
};
use crate::support::at_phase::AtPhase;
use crate::support::at_request::AtRequest;
use crate::support::kitchen::{How, Nights, Window, ids, night, rows};
use crate::support::{Bench, at_rest, files_in, open, options, random_bytes};
use crate::writers;

/// Lets nothing stay that nothing needs.
fn all_of_it() -> PruneOptions {
    PruneOptions { max_unused: MaxUnused::Bytes(0), ..at_once() }
}

fn name(file: u64) -> String {
    format!("a/file{file:03}")
}

fn write_files(bench: &Bench, files: impl Iterator<Item = u64>) {
    for file in files {
        std::fs::write(bench.source.path().join(name(file)), random_bytes(1000 + file, 20_000)).expect("writable");
    }
}

fn remove_files(bench: &Bench, files: impl Iterator<Item = u64>) {
    files.for_each(|file| std::fs::remove_file(bench.source.path().join(name(file))).expect("there"));
}

/// An empty repository beside an empty source.
async fn empty() -> Bench {
    let bench = Bench::new().await;
    std::fs::remove_dir_all(bench.source.path().join("a")).expect("there");
    std::fs::create_dir(bench.source.path().join("a")).expect("made");
    bench
}

/// A repository whose packs are needed in part: of 200 files every third is kept.
async fn with_partly_needed_packs() -> (Bench, Vec<(Snapshot, Files)>) {
    let bench = empty().await;
    write_files(&bench, 0..200);
    let all = bench.snapshot().await;
    remove_files(&bench, (0..200).filter(|file| file % 3 != 0));
    let last = bench.snapshot().await;
    remove(&bench, &all.0).await;
    (bench, vec![last])
}

async fn bytes_below(store: &dyn Store, kind: ObjectKind) -> u64 {
    store.list(kind.prefix()).await.expect("listed").iter().map(|object| object.size).sum()
}

/// Bytes of the packs that a new repository has when what is in the source now is all that was ever backed up.
async fn bytes_of_fresh(bench: &Bench) -> u64 {
    let fresh = Bench { source: tempfile::tempdir().expect("made"), ..empty().await };
    for (path, bytes) in files_in(bench.source.path()) {
        let path = fresh.source.path().join(path);
        std::fs::create_dir_all(path.parent().expect("below")).expect("made");
        std::fs::write(path, bytes).expect("written");
    }
    fresh.snapshot().await;
    bytes_below(&*fresh.store(), ObjectKind::Pack).await
}

fn assert_about(bytes: u64, expected: u64, what: &str) {
    // Padding, and other places where another secret cuts.
    let tolerance = expected / 25 + (64 << 10);
    assert!(bytes.abs_diff(expected) <= tolerance, "{what}: {bytes} bytes, {expected} in a fresh repository");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_needed_of_a_pack_is_stored_anew_and_all_dead_space_goes() {
    let (bench, kept) = with_partly_needed_packs().await;
    let objects = everything(&*bench.store()).await;
    let before = bytes_below(&*bench.store(), ObjectKind::Pack).await;
    let dry = pruned(&bench, PruneOptions { dry_run: true, ..all_of_it() }).await.expect("done");
    assert_eq!(everything(&*bench.store()).await, objects, "a dry run changes nothing");
    assert!(dry.plan.rewrite.len() >= 2 && dry.plan.stays.unused_bytes == 0, "{dry:?}");

    let report = pruned(&bench, all_of_it()).await.expect("done");
    assert_eq!(report.plan.rewrite, dry.plan.rewrite);
    assert_eq!(report.rewritten_packs, dry.plan.rewrite.len() as u64);
    assert_eq!(report.deleted_packs, report.rewritten_packs + report.plan.dead_packs);
    let after = bytes_below(&*bench.store(), ObjectKind::Pack).await;
    assert_about(after, bytes_of_fresh(&bench).await, "pruned");
    assert_about(before - after, dry.plan.freed_bytes(), "as was told before");
    assert_kept(bench.store(), bench.source.path(), &kept, "rewritten").await;

    let objects = everything(&*bench.store()).await;
    let again = pruned(&bench, all_of_it()).await.expect("done");
    assert_eq!((again.rewritten_packs, again.deleted_packs, again.plan.freed_bytes()), (0, 0, 0));
    assert_eq!(everything(&*bench.store()).await, objects, "there is nothing left to do");
    // Backups rely on what was rewritten.
    let next = bench.snapshot().await;
    assert_eq!(next.0.counts.new_bytes, 0, "{:?}", next.0.counts);
    // Nobody waits for the session that rewrote.
    assert_eq!(bench.store().list("sessions/").await.expect("listed").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn as_much_may_stay_as_is_allowed() {
    let (bench, kept) = with_partly_needed_packs().await;
    let all = pruned(&bench, PruneOptions { dry_run: true, max_unused: MaxUnused::Unlimited, ..at_once() }).await;
    let unused = all.expect("done").plan.stays.unused_bytes;
    assert!(unused > 2_000_000, "{unused}");
    for (max_unused, rewrites) in
        [(MaxUnused::Unlimited, false), (MaxUnused::Bytes(unused), false), (MaxUnused::default(), true)]
    {
        let fork = bench.fork();
        let report = pruned(&fork, PruneOptions { max_unused, ..at_once() }).await.expect("done");
        assert_eq!(report.rewritten_packs > 0, rewrites, "{max_unused}");
        let left = pruned(&fork, PruneOptions { dry_run: true, max_unused, ..at_once() }).await.expect("done");
        assert_eq!(left.plan.rewrite, [], "{max_unused}");
        assert_eq!(left.plan.stays.unused_bytes == unused, !rewrites, "{max_unused}");
        assert_kept(fork.store(), bench.source.path(), &kept, &max_unused.to_string()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bounded_runs_come_to_the_same_in_the_end() {
    let (bench, kept) = with_partly_needed_packs().await;
    let none = pruned(&bench, PruneOptions { max_time: Some(Duration::ZERO), ..all_of_it() }).await.expect("done");
    assert_eq!((none.rewritten_packs, none.stored_packs), (0, 0), "there was no time");
    assert_eq!((none.postponed_packs, none.outcome()), (none.plan.rewrite.len() as u64, Outcome::Clean));
    const MOST: u64 = 800_000;
    for run in 1.. {
        let report = pruned(&bench, PruneOptions { max_rewrite: Some(MOST), ..all_of_it() }).await.expect("done");
        assert!(report.stored_bytes < MOST + 100_000, "{report:?}");
        assert_kept(bench.store(), bench.source.path(), &kept, "bounded").await;
        if report.plan.stays.left == 0 {
            assert!(run > 1 && report.plan.stays.unused_bytes == 0, "{run} runs, {report:?}");
            break;
        }
        assert!(report.rewritten_packs > 0, "each gets on: {report:?}");
    }
    // What was rewritten in parts was small in the end, and is joined.
    pruned(&bench, all_of_it()).await.expect("done");
    assert_about(bytes_below(&*bench.store(), ObjectKind::Pack).await, bytes_of_fresh(&bench).await, "in parts");
    assert_eq!(
        pruned(&bench, PruneOptions { max_rewrite: Some(0), ..all_of_it() }).await.expect("done").deleted_packs,
        0
    );
}

/// Killed behind each change of the store, between the new packs and the list among them, and run again.
#[tokio::test(flavor = "multi_thread")]
async fn cut_off_anywhere_it_has_lost_nothing_and_nothing_is_rewritten_twice() {
    let (bench, kept) = with_partly_needed_packs().await;
    let whole = bench.fork();
    let done = pruned(&whole, all_of_it()).await.expect("done");
    let left = bytes_below(&*whole.store(), ObjectKind::Pack).await;
    let mut did_go_on = false;
    for k in 0.. {
        let cut = Bench { cache: tempfile::tempdir().expect("made"), ..bench.fork() };
        let dying = Arc::new(FaultStore::new(cut.store()));
        dying.die_after_mutations(k);
        let outcome = prune_with(dying.clone(), cut.cache.path(), all_of_it(), Arc::new(Collected::default())).await;
        assert_eq!(outcome.is_err(), dying.died(), "k = {k}");
        assert_read(cut.store(), bench.source.path(), &kept, &format!("k = {k}")).await;
        let is_indexed = cut.store().list("index/").await.expect("listed").len() > 2;
        // The same machine goes on, or another one. Whoever was killed cannot be asked about its lease.
        let other = tempfile::tempdir().expect("made");
        let cache = if k % 2 == 0 { cut.cache.path() } else { other.path() };
        let leases = cut.store().list("sessions/").await.expect("listed");
        let give_up = leases.iter().map(|lease| lease.key.base_name().parse().expect("a session")).collect();
        let options = PruneOptions { give_up, ..all_of_it() };
        let again = prune_with(cut.store(), cache, options, Arc::new(Collected::default())).await.expect("done");
        assert_eq!(again.unfinished, None, "k = {k}");
        if is_indexed {
            did_go_on |= dying.died();
            assert_eq!((again.rewritten_packs, again.stored_packs), (0, 0), "k = {k}");
        }
        assert_kept(cut.store(), bench.source.path(), &kept, &format!("k = {k}")).await;
        let named = Index::load(&open(cut.store(), cache).await.expect("opens"), &Collected::default()).await;
        let named = named.expect("loaded");
        let orphans = packs(&*cut.store())
            .await
            .into_iter()
            .filter(|key| !named.packs().iter().any(|pack| ObjectKey::pack(pack.id) == *key));
        let mut bytes = bytes_below(&*cut.store(), ObjectKind::Pack).await;
        for orphan in orphans {
            bytes -= cut.store().head(&orphan).await.expect("there").size;
        }
        assert_about(bytes, left, &format!("k = {k}"));
        let third = prune_with(cut.store(), cache, all_of_it(), Arc::new(Collected::default())).await.expect("done");
        assert_eq!((third.rewritten_packs, third.deleted_packs), (0, 0), "k = {k}");
        if !dying.died() {
            assert!(did_go_on && k > 6, "it makes several changes, this one {k}: {done:?}");
            return;
        }
    }
}

/// Any request that fails ends it; nothing is lost by that.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_fails_ends_it_before_anything_is_lost() {
    let (bench, kept) = with_partly_needed_packs().await;
    let check = async |failing: &Bench, case: &str, _| {
        assert_read(failing.store(), bench.source.path(), &kept, case).await;
    };
    let is_of_a_lease = |operation, nth| operation == Operation::Delete && nth == 1;
    each_request_fails(&bench, &OPERATIONS, all_of_it, is_of_a_lease, check).await;
}

/// A backup beside it that relies on what is dead in packs that are rewritten, paused at each of its points.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_runs_beside_it_is_waited_for() {
    let phases =
        ["reading the index", "backing up", "storing", "checking that nothing vanished", "writing the snapshot"];
    for phase in phases {
        let (bench, mut kept) = with_partly_needed_packs().await;
        write_files(&bench, 0..100);
        let now = files_in(bench.source.path());
        at_rest().await;
        let first: Arc<Mutex<Option<Result<PruneReport, PruneError>>>> = Arc::default();
        let (store, noted, handle) = (bench.store(), first.clone(), tokio::runtime::Handle::current());
        let cleaner = tempfile::tempdir().expect("made");
        let cache = cleaner.path().to_path_buf();
        let paused = AtPhase::new(phase, move || {
            let mut noted = noted.lock().expect("no panic while held");
            if noted.is_none() {
                let (store, cache) = (store.clone(), cache.clone());
                let run = async move { prune_with(store, &cache, all_of_it(), Arc::new(Collected::default())).await };
                let handle = handle.clone();
                *noted = Some(std::thread::spawn(move || handle.block_on(run)).join().expect("no panic"));
            }
        });
        let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
        let run = backup(repository, options(bench.source.path()), Arc::new(paused), Cancel::default());
        let snapshot = tokio::spawn(run).await.expect("no panic").expect("backed up").snapshot.expect("made");
        let first = first.lock().expect("no panic while held").take().expect("it ran").expect("it found no doubt");
        assert!(matches!(first.unfinished, Some(PruneUnfinished::Running(_))), "{phase}: {first:?}");
        assert!(first.rewritten_packs > 0 && first.deleted_packs == 0, "{phase}: {first:?}");
        kept.push((snapshot, now));
        assert_kept(bench.store(), bench.source.path(), &kept, phase).await;
        let runs = async || {
            let again = prune_with(bench.store(), cleaner.path(), all_of_it(), Arc::new(Collected::default())).await;
            again.expect("done")
        };
        assert_eq!(runs().await.unfinished, None, "{phase}");
        assert_kept(bench.store(), bench.source.path(), &kept, phase).await;
        assert_eq!(runs().await.plan.stays.unused_bytes, 0, "{phase}");
    }
}

/// A backup that came while packs were rewritten, and relies on what was dead in them, keeps them.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_comes_while_packs_are_rewritten_loses_nothing() {
    let (bench, mut kept) = with_partly_needed_packs().await;
    write_files(&bench, 0..200);
    let now = files_in(bench.source.path());
    at_rest().await;
    let (store, cache, source) = (bench.store(), bench.cache.path().to_path_buf(), bench.source.path().to_path_buf());
    let (made, handle) = (Arc::new(Mutex::new(None)), tokio::runtime::Handle::current());
    let noted = made.clone();
    let racing = AtPhase::new("telling what is to be deleted", move || {
        let (store, cache, source) = (store.clone(), cache.clone(), source.clone());
        let run = async move {
            let repository = open(store, &cache).await.expect("opens");
            let report = backup(repository, options(&source), Arc::new(Collected::default()), Cancel::default()).await;
            report.expect("backed up").snapshot.expect("made")
        };
        let handle = handle.clone();
        let snapshot = std::thread::spawn(move || handle.block_on(run)).join().expect("no panic");
        *noted.lock().expect("no panic while held") = Some(snapshot);
    });
    let cleaner = tempfile::tempdir().expect("made");
    let report = prune_with(bench.store(), cleaner.path(), all_of_it(), Arc::new(racing)).await.expect("done");
    assert!(matches!(report.unfinished, Some(PruneUnfinished::Needed { .. })), "{report:?}");
    let snapshot = made.lock().expect("no panic while held").take().expect("made");
    assert_eq!(snapshot.counts.new_bytes, 0, "it relied on what was there");
    kept.push((snapshot, now));
    assert_kept(bench.store(), bench.source.path(), &kept, "raced").await;
    for _ in 0..2 {
        let again = prune_with(bench.store(), cleaner.path(), all_of_it(), Arc::new(Collected::default())).await;
        assert_eq!(again.expect("done").unfinished, None);
        assert_kept(bench.store(), bench.source.path(), &kept, "afterwards").await;
    }
    assert_about(bytes_below(&*bench.store(), ObjectKind::Pack).await, bytes_of_fresh(&bench).await, "raced");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_cleaners_at_once_lose_nothing_and_leave_one_copy() {
    let (bench, kept) = with_partly_needed_packs().await;
    for _ in 0..3 {
        let both = bench.fork();
        let caches = [tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made")];
        let run = |nth: usize| {
            let (store, cache) = (both.store(), caches[nth].path().to_path_buf());
            tokio::spawn(async move { prune_with(store, &cache, all_of_it(), Arc::new(Collected::default())).await })
        };
        let (one, other) = (run(0), run(1));
        for ended in [one.await.expect("no panic"), other.await.expect("no panic")] {
            match ended {
                Ok(_) | Err(PruneError::Doomed { .. }) => {}
                Err(error) => panic!("neither is in the other's way: {error:?}"),
            }
        }
        assert_kept(both.store(), bench.source.path(), &kept, "both").await;
        // Each takes back what it left; then what was stored twice goes.
        for cache in [&caches[0], &caches[1], &caches[0]] {
            let monitor = Arc::new(Collected::default());
            prune_with(both.store(), cache.path(), all_of_it(), monitor).await.expect("done");
        }
        assert_kept(both.store(), bench.source.path(), &kept, "one after the other").await;
        assert_about(bytes_below(&*both.store(), ObjectKind::Pack).await, bytes_of_fresh(&bench).await, "both");
    }
}

/// A pack of which something that is needed is damaged stays, and is told; everything else goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_cannot_be_read_keeps_its_pack_and_no_other() {
    let (bench, kept) = with_partly_needed_packs().await;
    let dry = pruned(&bench, PruneOptions { dry_run: true, ..all_of_it() }).await.expect("done");
    let hurt = bench
        .data_packs()
        .await
        .into_iter()
        .find(|key| dry.plan.rewrite.iter().any(|it| ObjectKey::pack(it.pack) == *key));
    let hurt = hurt.expect("one is to be rewritten");
    let damaged = bench.fork();
    // Every frame of it.
    damaged.memory.tamper(&hurt, |bytes| (0..600_000.min(bytes.len())).step_by(1000).for_each(|at| bytes[at] ^= 1));
    let monitor = Arc::new(Collected::default());
    let report = prune_with(damaged.store(), damaged.cache.path(), all_of_it(), monitor.clone()).await.expect("done");
    assert_eq!(report.outcome(), Outcome::Damaged);
    assert_eq!(
        report.damaged.iter().map(|pack| ObjectKey::pack(*pack)).collect::<Vec<_>>(),
        std::slice::from_ref(&hurt)
    );
    let told = monitor.problems();
    assert!(told.iter().any(|problem| problem.to_string().contains(hurt.as_str())), "{told:?}");
    assert_eq!(report.rewritten_packs + 1, report.plan.rewrite.len() as u64);
    assert!(packs(&*damaged.store()).await.contains(&hurt) && report.deleted_packs >= report.rewritten_packs);
    // It is found again, and nothing is stored for it any more.
    let again = pruned(&damaged, all_of_it()).await.expect("done");
    assert_eq!((again.damaged.len(), again.rewritten_packs, again.stored_packs), (1, 0, 0));
    // When it is whole again, all is.
    damaged.memory.put(&hurt, bench.memory.get(&hurt).await.expect("there")).await.expect("put");
    assert_kept(damaged.store(), bench.source.path(), &kept, "it was damaged for a while").await;
    assert_eq!(pruned(&damaged, all_of_it()).await.expect("done").outcome(), Outcome::Clean);
    assert_kept(damaged.store(), bench.source.path(), &kept, "and rewritten").await;
    assert_about(bytes_below(&*damaged.store(), ObjectKind::Pack).await, bytes_of_fresh(&bench).await, "healed");
}

/// What hosts stored that no reader has read yet is rewritten as well: the pack itself says what is in it.
#[tokio::test(flavor = "multi_thread")]
async fn packs_of_hosts_that_read_nothing_are_rewritten() {
    let bench = empty().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    writers::add(&repository, &writers::new("web", &[]), SlotPlace::Repository).await.expect("added");
    write_files(&bench, 0..150);
    let all = writers::back_up(&bench, "web", "web").await.expect("backed up").snapshot.expect("made");
    remove_files(&bench, (0..150).filter(|file| file % 2 == 0));
    at_rest().await;
    let files = files_in(bench.source.path());
    let last = writers::back_up(&bench, "web", "web").await.expect("backed up").snapshot.expect("made");
    remove(&bench, &all).await;
    let report = pruned(&bench, all_of_it()).await.expect("done");
    assert!(report.rewritten_packs >= 2 && report.unfinished.is_none(), "{report:?}");
    assert_kept(bench.store(), bench.source.path(), &[(last, files)], "rewritten").await;
    assert_about(bytes_below(&*bench.store(), ObjectKind::Pack).await, bytes_of_fresh(&bench).await, "a host's");
    at_rest().await;
    let next = writers::back_up(&bench, "web", "web").await.expect("backed up");
    assert_eq!(next.counts.new_bytes, 0, "it takes the reader's word");
}

/// Chunks have their names in one epoch alone, so a pack is rewritten in its own.
#[tokio::test(flavor = "multi_thread")]
async fn packs_of_an_older_epoch_are_rewritten_in_it() {
    let (bench, mut kept) = with_partly_needed_packs().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let web = writers::add(&repository, &writers::new("web", &[]), SlotPlace::Repository).await.expect("added");
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    repository.revoke_writer(web.id, StillCounting::All, Clock::System.now()).await.expect("revoked");
    write_files(&bench, 300..310);
    kept.push(bench.snapshot().await);
    let report = pruned(&bench, all_of_it()).await.expect("done");
    assert!(report.rewritten_packs >= 2, "{report:?}");
    assert_kept(bench.store(), bench.source.path(), &kept, "rewritten").await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let index = Index::load(&repository, &Collected::default()).await.expect("loaded");
    let there = packs(&*bench.store()).await;
    let mut epochs: Vec<u32> = index
        .packs()
        .iter()
        .filter(|pack| there.contains(&ObjectKey::pack(pack.id)))
        .map(|pack| pack.header.at.epoch)
        .collect();
    epochs.sort_unstable();
    epochs.dedup();
    assert_eq!(epochs.len(), 2, "both are there");
    assert_eq!(pruned(&bench, all_of_it()).await.expect("done").deleted_packs, 0);
}

/// A recipe is rewritten as it is, and what it names stays for it.
#[tokio::test(flavor = "multi_thread")]
async fn recipes_stay_recipes() {
    let bench = Bench::new().await;
    let nights = Nights::written(bench.store(), bench.cache.path()).await;
    for night in &nights.snapshots[..2] {
        remove(&bench, night).await;
    }
    let recipes = async || {
        let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
        let index = Index::load(&repository, &Collected::default()).await.expect("loaded");
        let there = packs(&*bench.store()).await;
        let mut keys = Vec::new();
        for table in index.tables() {
            for row in table.rows() {
                let place = table.location(&row).expect("sound");
                if place.codec.holds_recipes() && there.contains(&ObjectKey::pack(place.pack)) {
                    assert_eq!(place.kind, PackKind::Tree);
                    keys.push(row.key);
                }
            }
        }
        keys.sort_unstable();
        keys
    };
    let before = recipes().await;
    assert!(before.len() >= 4, "{before:?}");
    // Small packs are all to be rewritten.
    let report = pruned(&bench, all_of_it()).await.expect("done");
    assert!(report.rewritten_packs > 0 && report.unfinished.is_none(), "{report:?}");
    assert_eq!(recipes().await, before, "each of them once");
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let read = crate::support::read_all(repository, &nights.snapshots[2]).await.expect("whole");
    assert_eq!(read[0].1, nights.dumps[2]);
    assert_eq!(bench.verify(ReadData::All).await.findings, []);
    let again = pruned(&bench, all_of_it()).await.expect("done");
    assert_eq!((again.rewritten_packs, again.deleted_packs), (0, 0), "{again:?}");

    // The same where it is cut off anywhere, the rewritten recipes being there twice.
    let bench = Bench::new().await;
    let nights = Nights::written(bench.store(), bench.cache.path()).await;
    for night in &nights.snapshots[..2] {
        remove(&bench, night).await;
    }
    for k in 0.. {
        let cut = bench.fork();
        let dying = Arc::new(FaultStore::new(cut.store()));
        dying.die_after_mutations(k);
        let _ = prune_with(dying.clone(), cut.cache.path(), all_of_it(), Arc::new(Collected::default())).await;
        let leases = cut.store().list("sessions/").await.expect("listed");
        let give_up = leases.iter().map(|lease| lease.key.base_name().parse().expect("a session")).collect();
        let again = pruned(&cut, PruneOptions { give_up, ..all_of_it() }).await.expect("done");
        assert_eq!(again.unfinished, None, "k = {k}");
        let repository = open(cut.store(), cut.cache.path()).await.expect("opens");
        let read = crate::support::read_all(repository, &nights.snapshots[2]).await.expect("whole");
        assert_eq!(read[0].1, nights.dumps[2], "k = {k}");
        assert_eq!(cut.verify(ReadData::All).await.findings, [], "k = {k}");
        let third = pruned(&cut, all_of_it()).await.expect("done");
        assert_eq!((third.rewritten_packs, third.deleted_packs), (0, 0), "k = {k}");
        if !dying.died() {
            return;
        }
    }
}

/// The last of four nights names a window of the third, which names one of the second, and so on: as deep as readers go.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_named_through_all_depths_is_alive_and_survives_rewriting() {
    let bench = Bench::new().await;
    let mut below = rows(1, 50_000);
    let (mut stored, mut snapshots) = (vec![below.clone()], Vec::new());
    for depth in 1..=4u8 {
        let new = rows(20 + u64::from(depth), 1_000);
        stored.push(new.clone());
        let id = ids(bench.store(), bench.cache.path()).await;
        let parts = [(id(&new).key(), 0, 800), (id(&below).key(), 100, below.len() as u32 - 100)];
        let recipe = Recipe::new(depth, &parts).expect("a recipe");
        below = Arc::new([&new[..800], &below[100..]].concat());
        let window = Window { bytes: below.clone(), how: How::Forged(recipe) };
        let rows = std::mem::take(&mut stored);
        snapshots.push(night(bench.store(), bench.cache.path(), &rows, vec![("db", vec![window])]).await);
    }
    let last = snapshots.pop().expect("the fourth");
    for snapshot in &snapshots {
        remove(&bench, snapshot).await;
    }
    for options in [at_once(), all_of_it()] {
        let fork = bench.fork();
        let report = pruned(&fork, options).await.expect("done");
        assert!(report.deleted_packs > 0, "the trees of the other nights: {report:?}");
        let repository = open(fork.store(), fork.cache.path()).await.expect("opens");
        let read = crate::support::read_all(repository, &last).await.expect("whole");
        assert!(read[0].1 == *below);
        assert_eq!(fork.verify(ReadData::All).await.findings, []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_packs_of_many_nights_become_full_ones() {
    let bench = empty().await;
    let mut kept = Vec::new();
    for night in 0..12 {
        write_files(&bench, 2 * night..2 * night + 2);
        kept.push(bench.snapshot().await);
        let report = pruned(&bench, at_once()).await.expect("done");
        assert!(report.unfinished.is_none(), "{report:?}");
        // What was joined is joined again only with as many others.
        assert_eq!(report.rewritten_packs > 0, night == 7, "night {night}: {report:?}");
        let there = packs(&*bench.store()).await.len();
        assert!(there <= 16, "night {night}: {there} packs");
    }
    assert_kept(bench.store(), bench.source.path(), &kept, "joined").await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let index = Index::load(&repository, &Collected::default()).await.expect("loaded");
    let there = packs(&*bench.store()).await;
    let of_kind =
        |kind| index.packs().iter().filter(|it| it.kind == kind && there.contains(&ObjectKey::pack(it.id))).count();
    assert_eq!((of_kind(PackKind::Data), of_kind(PackKind::Tree)), (5, 5), "one of eight nights, and four since");
}

/// Nothing is rewritten for packs that are dead anyway, and a limit of 0 takes nothing that is needed whole.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_dead_is_not_rewritten() {
    let (bench, kept) = with_dead_packs().await;
    let report = pruned(&bench, PruneOptions { max_unused: MaxUnused::Unlimited, ..at_once() }).await.expect("done");
    assert!(report.deleted_packs >= 3, "{report:?}");
    assert_eq!((report.rewritten_packs, report.stored_packs), (0, 0));
    assert_kept(bench.store(), bench.source.path(), &kept, "only dead ones").await;
}

/// What is dead is deleted in any case, so that the next run has room.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_can_be_freed() {
    let (bench, kept) = with_partly_needed_packs().await;
    let before = bytes_below(&*bench.store(), ObjectKind::Pack).await;
    let full = bench.fork();
    let store = Arc::new(FaultStore::new(full.store()));
    store.plan(Fault::on(Operation::Put).matching("packs/").always().fail_before(StoreErrorKind::Full));
    let monitor = Arc::new(Collected::default());
    let report = prune_with(store, full.cache.path(), all_of_it(), monitor).await.expect("what is dead went");
    assert_eq!((report.unfinished.clone(), report.outcome()), (Some(PruneUnfinished::Full), Outcome::Full));
    assert!(report.plan.dead_packs > 0 && report.deleted_packs == report.plan.dead_packs, "{report:?}");
    assert!(bytes_below(&*full.store(), ObjectKind::Pack).await < before);
    assert_kept(full.store(), bench.source.path(), &kept, "full").await;
    let report = pruned(&full, all_of_it()).await.expect("there is room");
    assert_eq!((report.outcome(), report.deleted_packs > 0), (Outcome::Clean, true));
    assert_about(bytes_below(&*full.store(), ObjectKind::Pack).await, bytes_of_fresh(&bench).await, "freed");
    assert_kept(full.store(), bench.source.path(), &kept, "freed").await;
    // Where nothing is dead, nothing makes room, and it says so at once.
    let full = bench.fork();
    pruned(&full, PruneOptions { max_rewrite: Some(0), ..all_of_it() }).await.expect("done");
    let store = Arc::new(FaultStore::new(full.store()));
    store.plan(Fault::on(Operation::Put).matching("packs/").always().fail_before(StoreErrorKind::Full));
    let ended = prune_with(store, full.cache.path(), all_of_it(), Arc::new(Collected::default())).await;
    assert_eq!(ended.expect_err("it is full").outcome(), Outcome::Full);
}

/// The schedule of `docs/format.md`, section 14, by which two cleaners lost a pack. C1 lists segments; C2 rewrites K into N, names N and
/// is about to delete K; C1 lists packs and leases, finds nothing that names N, and dooms it; C2 deletes K.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_one_has_just_written_and_named_is_no_orphan() {
    let (bench, kept) = with_partly_needed_packs().await;
    pruned(&bench, PruneOptions { max_rewrite: Some(0), ..all_of_it() }).await.expect("what is dead went");
    let caches = [tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made")];
    let [mut paused, mut may_delete] = [(); 2].map(|()| {
        let (tell, told) = std::sync::mpsc::channel::<()>();
        (Some(tell), Some(told))
    });
    // C2 runs until it has looked again, and waits before it says that K is being deleted.
    let (tell_paused, wait_to_delete) =
        (paused.0.take().expect("made"), Mutex::new(may_delete.1.take().expect("made")));
    let (store, cache, handle) = (bench.store(), caches[1].path().to_path_buf(), tokio::runtime::Handle::current());
    let second = Arc::new(Mutex::new(None));
    let (noted, wait_until_paused) = (second.clone(), paused.1.take().expect("made"));
    let begin_second = move || {
        let tell_paused = Mutex::new(tell_paused);
        let monitor = AtPhase::new("deleting", move || {
            tell_paused.lock().expect("no panic while held").send(()).expect("somebody waits");
            let _ = wait_to_delete.lock().expect("no panic while held").recv();
        });
        let run = async move { prune_with(store, &cache, all_of_it(), Arc::new(monitor)).await };
        let thread = std::thread::spawn(move || handle.block_on(run));
        *noted.lock().expect("no panic while held") = Some(thread);
        wait_until_paused.recv().expect("it comes to that");
    };
    let beside = AtRequest::new(bench.store(), Operation::List, "packs/", begin_second);
    // C1 goes on while C2 deletes: where it has doomed something, behind that.
    let (let_delete, ended) = (Mutex::new(may_delete.0.take()), second.clone());
    let finish_second = move || {
        drop(let_delete.lock().expect("no panic while held").take());
        let thread = ended.lock().expect("no panic while held").take();
        thread.map(|thread| thread.join().expect("no panic"))
    };
    let finish_second = Arc::new(finish_second);
    let (finish, ran) = (finish_second.clone(), Arc::new(Mutex::new(None)));
    let noted = ran.clone();
    let monitor = AtPhase::new("waiting for backups that run", move || {
        *noted.lock().expect("no panic while held") = finish();
    });
    let options = PruneOptions { max_rewrite: Some(0), ..all_of_it() };
    let first = prune_with(beside.clone(), caches[0].path(), options, Arc::new(monitor)).await.expect("done");
    assert!(beside.has_acted());
    let ran = ran.lock().expect("no panic while held").take().or_else(|| finish_second()).expect("it began");
    assert!(ran.expect("done").deleted_packs > 0);
    assert_kept(bench.store(), bench.source.path(), &kept, "both").await;
    assert_eq!((first.plan.dead_packs, first.unfinished), (0, None));
}
