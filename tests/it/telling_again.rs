//! Lists of cleaning up are told again in one: there are no more than a few, whatever the years, and nothing that they told is forgotten.

use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use coffre::model::cleanup::{CleanupId, CleanupList};
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::outcome::{Ended, Outcome};
use coffre::model::snapshot::{Snapshot, SnapshotId};
use coffre::model::time::{Clock, Timestamp};
use coffre::ops::prune::{PruneOptions, PruneReport};
use coffre::ops::verify::ReadData;
use coffre::progress::{Collected, Monitor};
use coffre::repository::Repository;
use coffre::repository::replicas::{Replica, Replicas};
use coffre::store::layer::Operation;
use coffre::store::layer::fault::{Fault, FaultStore};
use coffre::store::{Store, StoreErrorKind};

use crate::prune::{Files, after_days, assert_kept, assert_read, each_request_fails, forget, prune_with, pruned};
use crate::support::at_phase::AtPhase;
use crate::support::{Bench, files_in, open, options, passphrase, random_bytes, run_backup, run_verify};

/// Weeks that others clean up.
const WEEKS: i64 = 3;

async fn lists(store: &dyn Store) -> Vec<CleanupId> {
    let listed = store.list(ObjectKind::Cleanup.prefix()).await.expect("listed");
    listed.iter().filter_map(|object| object.key.cleanup_id()).collect()
}

async fn ids(store: Arc<dyn Store>, cache: &Path) -> Vec<SnapshotId> {
    open(store, cache).await.expect("opens").snapshot_ids().await.expect("listed")
}

/// Each week something is backed up, forgotten and removed, with data that nothing else needs.
struct Weeks {
    bench: Bench,
    kept: Vec<(Snapshot, Files)>,
    /// Objects of snapshots that were removed.
    removed: Vec<(ObjectKey, Bytes)>,
    week: i64,
    /// Lists that there were at most.
    most: usize,
}

impl Weeks {
    async fn begin() -> Self {
        let bench = Bench::new().await;
        let kept = vec![bench.snapshot().await];
        Self { bench, kept, removed: Vec::new(), week: 0, most: 0 }
    }

    /// Weeks that other machines cleaned up, and so many lists that a day later there are enough to be told again.
    async fn of_others() -> Self {
        let mut all = Self::begin().await;
        all.others_clean_up().await;
        all
    }

    async fn others_clean_up(&mut self) {
        for _ in 0..WEEKS {
            let dead = self.forgotten().await;
            let other = tempfile::tempdir().expect("made");
            self.clean_up(other.path(), &dead).await;
        }
        let (domain, cache) = (self.kept[0].0.at.domain, tempfile::tempdir().expect("made"));
        let repository = open(self.bench.store(), cache.path()).await.expect("opens");
        for _ in 0..6 {
            let (id, before) = repository.cleanups().await.expect("read").behind_newest(domain);
            let made = Timestamp::from_seconds(Clock::System.now().seconds);
            let list = CleanupList { made, before, ..CleanupList::default() };
            repository.writing().expect("may be written").put_list(domain, id, &list).await.expect("put");
        }
    }

    async fn forgotten(&mut self) -> Snapshot {
        self.week += 1;
        let file = self.bench.source.path().join("a/other");
        std::fs::write(&file, random_bytes(1000 + self.week as u64, 200_000)).expect("writable");
        let dead = self.bench.snapshot().await.0;
        std::fs::remove_file(file).expect("there");
        forget(&self.bench, &dead).await;
        dead
    }

    async fn clean_up(&mut self, cache: &Path, dead: &Snapshot) -> PruneReport {
        let key = ObjectKey::snapshot(dead.id);
        self.removed.push((key.clone(), self.bench.memory.get(&key).await.expect("there")));
        let (store, monitor) = (self.bench.store(), Arc::new(Collected::default()));
        let report = prune_with(store, cache, after_days(7 * self.week), monitor).await.expect("done");
        assert!(report.deleted_packs > 0 && report.removed_snapshots == 1, "{report:?}");
        self.most = self.most.max(lists(&self.bench.memory).await.len());
        report
    }

    /// What is kept comes back, what was removed stays so wherever it comes back from, and nothing is doubtful.
    async fn assert_as_it_was(&self, store: Arc<dyn Store>, case: &str) {
        assert_read(store.clone(), self.bench.source.path(), &self.kept, case).await;
        for (key, object) in &self.removed {
            store.put(key, object.clone()).await.expect("put");
        }
        let cache = tempfile::tempdir().expect("made");
        let expected: Vec<SnapshotId> = self.kept.iter().map(|(snapshot, _)| snapshot.id).collect();
        assert_eq!(ids(store.clone(), cache.path()).await, expected, "{case}");
        assert_eq!(run_verify(store, cache.path(), ReadData::No).await.findings, [], "{case}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_a_few_however_long_it_goes_on() {
    let mut weeks = Weeks::begin().await;
    let cache = tempfile::tempdir().expect("made");
    let mut gone = 0;
    for _ in 0..14 {
        let dead = weeks.forgotten().await;
        gone += weeks.clean_up(cache.path(), &dead).await.removed_old;
    }
    // They were 56, two that doom and two that say what is gone each week.
    assert!(weeks.most <= 24, "{} lists", weeks.most);
    assert!(gone >= 30, "{gone}");
    // A run says which lists it honours, behind the one that tells others again.
    let last = weeks.bench.snapshot().await;
    assert_eq!(last.0.honoured, lists(&weeks.bench.memory).await.last().map(|list| list.counter));
    weeks.kept.push(last);
    weeks.assert_as_it_was(weeks.bench.fork().store(), "years").await;
    assert_kept(weeks.bench.store(), weeks.bench.source.path(), &weeks.kept, "years").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_may_yet_take_back_stays_as_it_is() {
    let weeks = Weeks::of_others().await;
    let before = lists(&weeks.bench.memory).await;
    // Then there are only those by which others removed snapshots within a month, and the one that tells all else.
    pruned(&weeks.bench, after_days(7 * WEEKS + 2)).await.expect("done");
    pruned(&weeks.bench, after_days(7 * WEEKS + 4)).await.expect("done");
    let repository = open(weeks.bench.store(), weeks.bench.cache.path()).await.expect("opens");
    let cleanups = repository.cleanups().await.expect("read");
    let after = lists(&weeks.bench.memory).await;
    let stayed = before.iter().filter(|list| after.contains(list));
    let removing = stayed.filter(|list| cleanups.removed_by(**list).is_some_and(|removed| !removed.is_empty())).count();
    assert_eq!((removing, after.len()), (WEEKS as usize, WEEKS as usize + 1), "{after:?}");
    assert!(before.len() >= 15);
    weeks.assert_as_it_was(weeks.bench.store(), "others").await;
}

/// Any request that fails ends it; what lists told is as it was, and the next run goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_fails_forgets_nothing() {
    let weeks = Weeks::of_others().await;
    // First they are told again, and then they go.
    let told = weeks.bench.fork();
    pruned(&told, after_days(7 * WEEKS + 2)).await.expect("done");
    use Operation::{Delete, Get, List, Put};
    for (bench, days, operations) in [(&weeks.bench, 2, [List, Get, Put]), (&told, 4, [List, Get, Delete])] {
        let options = || PruneOptions { max_rewrite: Some(0), ..after_days(7 * WEEKS + days) };
        let check = async |failing: &Bench, case: &str, _| weeks.assert_as_it_was(failing.store(), case).await;
        each_request_fails(bench, &operations, options, |_, _| false, check).await;
    }
}

/// Killed behind each change of the store, and run again.
#[tokio::test(flavor = "multi_thread")]
async fn cut_off_anywhere_the_next_run_goes_on() {
    let weeks = Weeks::of_others().await;
    let told = weeks.bench.fork();
    pruned(&told, after_days(7 * WEEKS + 2)).await.expect("done");
    // First they are told again, and then they go.
    for (bench, days, least) in [(&weeks.bench, 7 * WEEKS + 2, 1), (&told, 7 * WEEKS + 4, 12)] {
        for k in 0.. {
            let cut = bench.fork();
            let dying = Arc::new(FaultStore::new(cut.store()));
            dying.die_after_mutations(k);
            let run = prune_with(dying.clone(), cut.cache.path(), after_days(days), Arc::new(Collected::default()));
            assert_eq!(run.await.is_err(), dying.died(), "k = {k}");
            weeks.assert_as_it_was(cut.fork().store(), &format!("k = {k}")).await;
            for later in [2, 4] {
                pruned(&cut, after_days(days + later)).await.expect("done");
            }
            let left = lists(&cut.memory).await.len();
            assert!(left < 12, "k = {k}: {left}");
            weeks.assert_as_it_was(cut.store(), &format!("k = {k}, again")).await;
            if !dying.died() {
                assert!(k >= least, "{k}");
                break;
            }
        }
    }
}

/// Cleans up, once, on another machine, when a run comes to a phase.
fn another_at(
    phase: &'static str,
    store: Arc<dyn Store>,
    options: PruneOptions,
) -> (Arc<dyn Monitor>, Arc<Mutex<Option<PruneReport>>>) {
    let (ran, handle) = (Arc::new(Mutex::new(None)), tokio::runtime::Handle::current());
    let noted = ran.clone();
    let monitor = AtPhase::new(phase, move || {
        let mut noted = noted.lock().expect("no panic while held");
        if noted.is_none() {
            let (store, options, handle) = (store.clone(), options.clone(), handle.clone());
            let run = async move {
                let cache = tempfile::tempdir().expect("made");
                prune_with(store, cache.path(), options, Arc::new(Collected::default())).await.expect("done")
            };
            *noted = Some(std::thread::spawn(move || handle.block_on(run)).join().expect("no panic"));
        }
    });
    (Arc::new(monitor), ran)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_tell_lists_again_at_once_forget_nothing() {
    let weeks = Weeks::of_others().await;
    let days = 7 * WEEKS + 2;
    // The other one has told them again, and each is the next behind the same list.
    let phase = "looking what nothing needs";
    let (monitor, ran) = another_at(phase, weeks.bench.store(), after_days(days));
    prune_with(weeks.bench.store(), weeks.bench.cache.path(), after_days(days), monitor).await.expect("done");
    assert!(ran.lock().expect("no panic while held").take().is_some());
    let numbers: Vec<u64> = lists(&weeks.bench.memory).await.iter().map(|list| list.counter).collect();
    let shared = numbers.windows(2).filter(|two| two[0] == two[1]).count();
    assert_eq!(shared, 1, "both have the same number: {numbers:?}");
    weeks.assert_as_it_was(weeks.bench.fork().store(), "both").await;
    // One of them removes what both tell, and then one list tells what they told.
    pruned(&weeks.bench, after_days(days + 2)).await.expect("done");
    weeks.assert_as_it_was(weeks.bench.fork().store(), "and removed").await;
    let mut weeks = weeks;
    weeks.others_clean_up().await;
    pruned(&weeks.bench, after_days(7 * weeks.week + 2)).await.expect("done");
    pruned(&weeks.bench, after_days(7 * weeks.week + 4)).await.expect("done");
    assert!(lists(&weeks.bench.memory).await.len() < 12);
    weeks.assert_as_it_was(weeks.bench.store(), "and told again").await;
}

/// A last list that was made before lists were told again, and comes afterwards, does not make void what was accounted for before.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_list_that_gives_up_a_session_leaves_what_it_had_made() {
    let mut weeks = Weeks::begin().await;
    // The lease of the run that made a snapshot which is kept comes back, as a renewal that was on its way for long.
    let keep = Arc::new(FaultStore::new(weeks.bench.store()));
    keep.plan(Fault::on(Operation::Delete).matching("sessions/").always().fail_before(StoreErrorKind::Denied));
    std::fs::write(weeks.bench.source.path().join("a/more"), random_bytes(5, 100_000)).expect("writable");
    let files = files_in(weeks.bench.source.path());
    let options = options(weeks.bench.source.path());
    let report = run_backup(keep, weeks.bench.cache.path(), options).await.expect("backed up");
    let made = report.snapshot.expect("made");
    let lease = weeks.bench.store().list(ObjectKind::Session.prefix()).await.expect("listed").remove(0).key;
    let body = weeks.bench.memory.get(&lease).await.expect("there");
    weeks.kept.push((made, files));
    weeks.others_clean_up().await;
    weeks.bench.memory.put(&lease, body).await.expect("put");
    let dead = weeks.forgotten().await;
    let days = 7 * weeks.week;
    let (monitor, ran) = another_at("deleting", weeks.bench.store(), after_days(days + 2));
    let key = ObjectKey::snapshot(dead.id);
    weeks.removed.push((key.clone(), weeks.bench.memory.get(&key).await.expect("there")));
    let late =
        prune_with(weeks.bench.store(), weeks.bench.cache.path(), after_days(days), monitor).await.expect("done");
    assert_eq!(late.given_up.len(), 1, "{late:?}");
    let other = ran.lock().expect("no panic while held").take().expect("it ran");
    assert_eq!(other.outcome(), Outcome::Clean);
    weeks.assert_as_it_was(weeks.bench.fork().store(), "late").await;
    pruned(&weeks.bench, after_days(days + 4)).await.expect("done");
    weeks.assert_as_it_was(weeks.bench.store(), "late, and removed").await;
}

/// A replica that does not have the list which tells others again keeps these, and one that brings them back changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn lists_go_only_when_every_replica_has_what_tells_them_again() {
    let weeks = Weeks::of_others().await;
    let other = Arc::new(weeks.bench.memory.fork());
    let over = async |cache: &Path| -> Arc<Repository> {
        let stores: [Arc<dyn Store>; 2] = [weeks.bench.store(), other.clone()];
        let replicas = stores.into_iter().zip(["a", "b"]).map(|(store, name)| Replica::required(name, store));
        let replicas = Replicas::new(replicas.collect()).expect("required");
        Arc::new(Repository::open(replicas, &passphrase(), cache).await.expect("opens"))
    };
    let run = async |days| {
        let cache = tempfile::tempdir().expect("made");
        let options = after_days(7 * WEEKS + days);
        let (monitor, cancel) = (Arc::new(Collected::default()), coffre::ops::Cancel::default());
        coffre::ops::prune::prune(over(cache.path()).await, options, monitor, cancel).await.expect("done")
    };
    let old = lists(&*other).await;
    let mut bodies = Vec::new();
    for list in &old {
        bodies.push((ObjectKey::cleanup(*list), other.get(&ObjectKey::cleanup(*list)).await.expect("there")));
    }
    run(2).await;
    let new: Vec<_> = lists(&*other).await.into_iter().filter(|list| !old.contains(list)).collect();
    let hidden = other.get(&ObjectKey::cleanup(new[0])).await.expect("there");
    other.delete(&ObjectKey::cleanup(new[0])).await.expect("deleted");
    run(4).await;
    assert!(old.iter().all(|list| futures::executor::block_on(lists(&*other)).contains(list)), "one lacks it");
    other.put(&ObjectKey::cleanup(new[0]), hidden).await.expect("put");
    run(6).await;
    assert!(lists(&*other).await.len() < old.len() / 2);
    for (key, body) in bodies {
        other.put(&key, body).await.expect("put");
    }
    let cache = tempfile::tempdir().expect("made");
    let expected: Vec<SnapshotId> = weeks.kept.iter().map(|(snapshot, _)| snapshot.id).collect();
    assert_eq!(over(cache.path()).await.snapshot_ids().await.expect("listed"), expected);
}

/// Whoever listed lists that go before they are read lists once more; one that stays listed and is not there is damage.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_listed_lists_that_went_since_lists_again() {
    let weeks = Weeks::of_others().await;
    let cache = tempfile::tempdir().expect("made");
    let missing = async |fault: Fault| {
        let store = Arc::new(FaultStore::new(weeks.bench.store()));
        let repository = open(store.clone(), cache.path()).await.expect("opens");
        store.plan(fault.fail_before(StoreErrorKind::NotFound));
        let cleanups = repository.cleanups().await.expect("read");
        store.assert_all_fired();
        cleanups
    };
    let cleanups = missing(Fault::on(Operation::Get).matching("cleanup/")).await;
    assert_eq!(cleanups.damaged(), []);
    let all = lists(&weeks.bench.memory).await;
    assert!(all.iter().all(|list| cleanups.was_opened(*list)), "it was there when they were listed again");
    for list in all {
        let key = ObjectKey::cleanup(list);
        let is_gone = cleanups.is_gone(&key);
        let without = missing(Fault::on(Operation::Get).matching(key.as_str()).always()).await;
        let names: Vec<&ObjectKey> = without.damaged().iter().map(|(key, _)| key).collect();
        assert_eq!(names, if is_gone { vec![] } else { vec![&key] }, "what another one names as gone nobody misses");
    }
}
