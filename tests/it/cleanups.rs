//! Lists of cleaning up as today's verbs keep to them: what is gone does not come back, a run that was given up makes nothing
//! that counts, and doubt stops deletion where it is one.

use std::sync::{Arc, Mutex};

use coffre::format::keyring::{Erased, Keyring};
use coffre::model::cleanup::{CleanupId, CleanupList};
use coffre::model::id::{DomainEpoch, DomainId, SegmentId, SessionId};
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::outcome::{Ended, Outcome};
use coffre::model::snapshot::{Foreign, SnapshotId};
use coffre::model::time::{Clock, Timestamp};
use coffre::ops::Cancel;
use coffre::ops::backup::{BackupError, backup};
use coffre::ops::verify::ReadData;
use coffre::progress::Collected;
use coffre::repository::choose::SnapshotFilter;
use coffre::repository::index::complete::{CompleteIndex, IncompleteError};
use coffre::repository::snapshots::SnapshotError;
use coffre::repository::{MAIN_DOMAIN, Repository};
use coffre::store::layer::Operation;
use coffre::store::layer::fault::{Fault, FaultStore};
use coffre::store::{Store, StoreErrorKind};

use sha2::{Digest, Sha256};

use crate::support::at_phase::AtPhase;
use crate::support::{Bench, open, options, run_verify};

/// Puts a list as a clean-up would, with a number and a digest of the one before that the caller chose.
pub async fn put_list(bench: &Bench, counter: u64, list: CleanupList) -> CleanupId {
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    put_list_of(&repository, &*bench.store(), counter, list).await
}

pub async fn put_list_of(
    repository: &Arc<Repository>,
    store: &dyn Store,
    counter: u64,
    list: CleanupList,
) -> CleanupId {
    let cleaning = repository.writing().expect("may be written").begin_session(MAIN_DOMAIN).expect("a good key");
    let id = CleanupId { counter, random: [counter as u8; 8] };
    store.put(&ObjectKey::cleanup(id), cleaning.seal_cleanup(id, &list).into()).await.expect("put");
    id
}

/// SHA-256 of a snapshot's object.
pub async fn digest(bench: &Bench, id: SnapshotId) -> [u8; 32] {
    Sha256::digest(bench.store().get(&ObjectKey::snapshot(id)).await.expect("there")).into()
}

async fn ids(bench: &Bench) -> Vec<SnapshotId> {
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    repository.snapshot_ids().await.expect("listed")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_was_removed_stays_so_wherever_it_comes_back_from() {
    let bench = Bench::new().await;
    let kept = bench.snapshot().await.0;
    let removed = bench.snapshot().await.0;
    assert_eq!(ids(&bench).await.len(), 2);
    let gone = vec![ObjectKey::snapshot(removed.id).to_string()];
    put_list(&bench, 1, CleanupList { gone, ..CleanupList::default() }).await;
    assert_eq!(ids(&bench).await, [kept.id]);
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let latest = repository.find_snapshot("latest", &SnapshotFilter::default()).await.expect("found");
    assert_eq!(latest.id, kept.id);
    let error = repository.find_snapshot(&removed.id.to_string(), &SnapshotFilter::default()).await;
    assert!(matches!(error, Err(SnapshotError::Unknown(_))), "{error:?}");
    // It may be damaged, too: nobody needs it.
    bench.memory.tamper(&ObjectKey::snapshot(removed.id), |bytes| bytes.truncate(64));
    let report = run_verify(bench.store(), bench.cache.path(), ReadData::No).await;
    assert_eq!((report.snapshots, report.findings), (1, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_a_run_that_was_given_up_counts_only_if_it_is_accounted_for() {
    let bench = Bench::new().await;
    let first = bench.snapshot().await.0;
    let second = bench.snapshot().await.0;
    let given_up = vec![first.session, second.session];
    let accounted = vec![(first.id, digest(&bench, first.id).await)];
    put_list(&bench, 1, CleanupList { given_up: given_up.clone(), ..CleanupList::default() }).await;
    assert_eq!(ids(&bench).await.len(), 2, "nothing was deleted yet");
    put_list(&bench, 2, CleanupList { given_up, accounted, is_deleting: true, ..CleanupList::default() }).await;
    assert_eq!(ids(&bench).await, [first.id]);
    let report = run_verify(bench.store(), bench.cache.path(), ReadData::No).await;
    assert_eq!((report.snapshots, report.findings), (1, vec![]));
}

/// Whoever wrote it could sign another one under the same name.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_another_object_than_a_list_accounts_for_does_not_count() {
    let bench = Bench::new().await;
    let first = bench.snapshot().await.0;
    let second = bench.snapshot().await.0;
    put_list(&bench, 1, CleanupList { accounted: vec![(second.id, [0; 32])], ..CleanupList::default() }).await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    for cached in [true, false] {
        let fresh = tempfile::tempdir().expect("made");
        let cache = if cached { bench.cache.path() } else { fresh.path() };
        let repository = open(bench.store(), cache).await.expect("opens");
        let latest = repository.find_snapshot("latest", &SnapshotFilter::default()).await.expect("found");
        assert_eq!(latest.id, first.id);
    }
    let opened = repository.snapshot(second.id).await.expect("it opens");
    assert_eq!(opened.foreign, Some(Foreign::Exchanged));
    let error = complete(&bench).await.expect_err("what was there is not there");
    assert!(matches!(&error, IncompleteError::Exchanged { key } if *key == ObjectKey::snapshot(second.id)), "{error}");
    let accounted = vec![(second.id, digest(&bench, second.id).await)];
    put_list(&bench, 2, CleanupList { accounted, ..CleanupList::default() }).await;
    complete(&bench).await.expect("a list has this one as well");
}

/// A clean-up that gives the run up when it comes to a phase, as often as it has lists `left`.
fn gives_up(
    bench: &Arc<Bench>,
    repository: Arc<Repository>,
    phase: &'static str,
    left: u64,
) -> Arc<AtPhase<impl Fn() + Send + Sync + use<>>> {
    let (memory, left) = (bench.memory.clone(), Mutex::new(left));
    Arc::new(AtPhase::new(phase, move || {
        let mut left = left.lock().expect("no panic while held");
        if *left == 0 {
            return;
        }
        futures::executor::block_on(async {
            let leases = memory.list(ObjectKind::Session.prefix()).await.expect("listed");
            let session: SessionId = leases[0].key.base_name().parse().expect("a session");
            let list = CleanupList { given_up: vec![session], ..CleanupList::default() };
            put_list_of(&repository, &memory, *left, list).await;
        });
        *left -= 1;
    }))
}

/// Before the last check there is no snapshot; behind it, it is told that the snapshot does not count.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_given_up_is_made_anew_and_never_says_that_it_is_done() {
    for (phase, stored) in [("checking that nothing vanished", 0), ("writing the snapshot", 1)] {
        for (times, succeeds) in [(1, true), (3, false)] {
            let bench = Arc::new(Bench::new().await);
            let opened = async || open(bench.store(), bench.cache.path()).await.expect("opens");
            let monitor = gives_up(&bench, opened().await, phase, times);
            let outcome =
                backup(opened().await, options(bench.source.path()), monitor.clone(), Cancel::default()).await;
            let snapshots = bench.store().list(ObjectKind::Snapshot.prefix()).await.expect("listed").len();
            if succeeds {
                let made = outcome.expect("the second attempt succeeds").snapshot.expect("made");
                assert_eq!((monitor.heard.problems().len(), snapshots), (1, 1 + stored), "{phase}");
                assert_eq!(bench.read(&made).await, Ok(crate::support::files_in(bench.source.path())));
            } else {
                let error = outcome.expect_err("it is given up every time");
                assert!(matches!(error, BackupError::GivenUp), "{error:?}");
                assert_eq!(snapshots, 3 * stored, "{phase}");
            }
        }
    }
}

/// The put may yet arrive: only a lease that is still there lets a clean-up name the session, so that it does not count then.
#[tokio::test(flavor = "multi_thread")]
async fn the_lease_stays_where_nobody_knows_whether_the_snapshot_is_stored() {
    for kind in [StoreErrorKind::TimedOut, StoreErrorKind::Denied] {
        let bench = Bench::new().await;
        let faulty = FaultStore::new(bench.store());
        faulty.plan(Fault::on(Operation::Put).matching("snapshots/").always().fail_before(kind));
        let repository = open(Arc::new(faulty), bench.cache.path()).await.expect("opens");
        let monitor = Arc::new(Collected::default());
        let error = backup(repository, options(bench.source.path()), monitor, Cancel::default()).await;
        assert!(matches!(error, Err(BackupError::Commit(_))), "{error:?}");
        assert_eq!(bench.store().list(ObjectKind::Session.prefix()).await.expect("listed").len(), 1, "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_lists_doom_nothing_and_those_of_deletions_always_do() {
    let month_ago = Timestamp::from_seconds(Clock::System.now().seconds - 31 * 24 * 3600);
    for (is_deleting, is_stored_again) in [(false, false), (true, true)] {
        let bench = Bench::new().await;
        bench.backup().await;
        let packs = bench.store().list(ObjectKind::Pack.prefix()).await.expect("listed");
        let packs = packs.iter().filter_map(|object| object.key.pack_id()).collect();
        put_list(&bench, 1, CleanupList { made: month_ago, packs, is_deleting, ..CleanupList::default() }).await;
        let report = bench.backup().await;
        assert_eq!(report.counts.new_bytes > 3_000_000, is_stored_again, "{:?}", report.counts);
    }
}

async fn complete(bench: &Bench) -> Result<CompleteIndex, IncompleteError> {
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    CompleteIndex::load(&repository.deleting().expect("may be cleaned up"), &Collected::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_ours_and_cannot_be_read_stops_deletion() {
    let bench = Bench::new().await;
    let first = bench.snapshot().await.0;
    let second = bench.snapshot().await.0;
    // Anybody can put this.
    let rubbish = SnapshotId::new(Timestamp::from_seconds(1_900_000_000), [9; 8]);
    for bytes in [vec![0u8; 64], [b"coffreS\x01".as_slice(), &[7; 2000]].concat()] {
        bench.store().put(&ObjectKey::snapshot(rubbish), bytes.into()).await.expect("put");
        let found = complete(&bench).await.expect("it is nobody's");
        assert_eq!(found.snapshots().len(), 2);
    }
    // What an earlier clean-up found is ours, whatever has become of it.
    let accounted = vec![(first.id, digest(&bench, first.id).await), (rubbish, [0; 32])];
    put_list(&bench, 1, CleanupList { accounted, ..CleanupList::default() }).await;
    let error = complete(&bench).await.expect_err("it was there");
    assert!(matches!(&error, IncompleteError::Snapshots(_)), "{error}");
    bench.store().delete(&ObjectKey::snapshot(rubbish)).await.expect("deleted");
    let error = complete(&bench).await.expect_err("it was there and nobody removed it");
    assert!(matches!(&error, IncompleteError::Hidden { key } if *key == ObjectKey::snapshot(rubbish)), "{error}");
    // Until a reader names it as gone.
    let gone = vec![ObjectKey::snapshot(rubbish).to_string()];
    put_list(&bench, 2, CleanupList { gone, ..CleanupList::default() }).await;
    complete(&bench).await.expect("all that is needed is there");
    // One whose session is ours, and which does not open.
    bench.memory.tamper(&ObjectKey::snapshot(second.id), |bytes| *bytes.last_mut().expect("some") ^= 1);
    bench.memory.tamper(&ObjectKey::snapshot(first.id), |bytes| bytes[1300] ^= 1);
    let fresh = tempfile::tempdir().expect("made");
    let repository = open(bench.store(), fresh.path()).await.expect("opens");
    let deleting = repository.deleting().expect("may be cleaned up");
    let error = CompleteIndex::load(&deleting, &Collected::default()).await.expect_err("nobody knows what it needs");
    assert!(matches!(&error, IncompleteError::Snapshots(SnapshotError::Damaged { .. })), "{error}");
    // A list that cannot be opened may have named anything.
    bench.memory.tamper(&ObjectKey::cleanup(CleanupId { counter: 1, random: [1; 8] }), |bytes| bytes[40] ^= 1);
    let error = complete(&bench).await.expect_err("nobody knows what it told");
    assert!(matches!(&error, IncompleteError::List { .. }), "{error}");
}

/// Reading and backing up go on without it; what it told is lost, and nothing is deleted until a reader names it as gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_list_is_damage_until_it_is_named_as_gone() {
    let bench = Bench::new().await;
    let (snapshot, content) = bench.snapshot().await;
    put_list(&bench, 1, CleanupList::default()).await;
    for read_data in [ReadData::No, ReadData::All] {
        assert_eq!(bench.verify(read_data).await.findings, []);
    }
    let damaged = ObjectKey::cleanup(CleanupId { counter: 1, random: [1; 8] });
    bench.memory.tamper(&damaged, |bytes| *bytes.last_mut().expect("some") ^= 1);
    for read_data in [ReadData::No, ReadData::All] {
        let report = bench.verify(read_data).await;
        let objects: Vec<_> = report.findings.iter().map(|finding| finding.object.to_string()).collect();
        assert_eq!((objects, report.outcome()), (vec![damaged.to_string()], Outcome::Damaged));
    }
    assert_eq!(ids(&bench).await, [snapshot.id]);
    assert_eq!(bench.read(&snapshot).await, Ok(content));
    bench.backup().await;
    assert!(matches!(complete(&bench).await, Err(IncompleteError::List { key, .. }) if key == damaged));
    put_list(&bench, 2, CleanupList { gone: vec![damaged.to_string()], ..CleanupList::default() }).await;
    assert_eq!(bench.verify(ReadData::No).await.findings, []);
    complete(&bench).await.expect("nobody needs it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_of_an_erased_domain_is_dead_without_being_read() {
    let bench = Bench::new().await;
    bench.backup().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let at = DomainEpoch { domain: DomainId([9; 16]), epoch: 3 };
    let segment = SegmentId([9; 16]);
    let object = [b"coffreI\x01".as_slice(), &at.domain.0, &at.epoch.to_le_bytes(), &[7; 300]].concat();
    bench.store().put(&ObjectKey::segment(segment), object.into()).await.expect("put");
    assert!(matches!(complete(&bench).await, Err(IncompleteError::Index(_))), "nobody knows what it tells");
    assert_eq!(bench.verify(ReadData::No).await.findings.len(), 1);
    let newest = bench.store().list(ObjectKind::Keyring.prefix()).await.expect("listed").pop().expect("there is one");
    let bytes = bench.store().get(&newest.key).await.expect("there");
    let keys = repository.keys();
    let mut keyring = Keyring::decode(&bytes, repository.id(), &keys.verifying_key()).expect("valid");
    keyring.counter += 1;
    keyring.erased.push(Erased { at, when: Timestamp::from_seconds(1) });
    let object = keyring.encode(keys.reader_key().expect("a reader"));
    bench.store().put(&ObjectKey::keyring(keyring.counter, [1; 8]), object.into()).await.expect("put");
    complete(&bench).await.expect("nobody needs it");
    assert_eq!(bench.verify(ReadData::All).await.findings, []);
}
