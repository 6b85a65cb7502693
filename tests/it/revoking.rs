//! Throwing a writer out: what it made before counts on as far as is wanted, whatever it does afterwards; the others go on under
//! secrets that it does not know.

use std::path::Path;
use std::sync::Arc;

use coffre::model::cleanup::CleanupList;
use coffre::model::id::WriterId;
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::outcome::{Ended, Outcome};
use coffre::model::snapshot::{Foreign, Snapshot, SnapshotId};
use coffre::model::time::{Clock, Timestamp};
use coffre::ops::Cancel;
use coffre::ops::backup::{BackupError, BackupReport, backup};
use coffre::ops::verify::ReadData;
use coffre::progress::Collected;
use coffre::repository::choose::SnapshotFilter;
use coffre::repository::index::complete::{CompleteIndex, IncompleteError};
use coffre::repository::revoking::{RevokedWriter, SessionStanding, StillCounting};
use coffre::repository::writers::{NewWriter, SlotPlace};
use coffre::repository::{MAIN_DOMAIN, Repository};

use crate::cleanups::put_list;
use crate::support::at_phase::AtPhase;
use crate::support::{Bench, at_rest, files_in, keyring_of, open, options};
use crate::writers::{self, new};

async fn add_with(repository: &Repository, name: &str) -> WriterId {
    let new = NewWriter { group: Some(1), ..new(name, &[name]) };
    writers::add(repository, &new, SlotPlace::Repository).await.expect("added").id
}

async fn reader(bench: &Bench) -> Arc<Repository> {
    open(bench.store(), bench.cache.path()).await.expect("opens")
}

async fn add(bench: &Bench, name: &str) -> WriterId {
    add_with(&*reader(bench).await, name).await
}

async fn open_as(bench: &Bench, name: &str, cache: &Path) -> Arc<Repository> {
    writers::open_as(name, bench.store(), cache).await
}

/// Backs up as a writer, at the end of `day`.
async fn back_up(
    bench: &Bench,
    repository: &Arc<Repository>,
    name: &str,
    day: i64,
) -> Result<(BackupReport, Arc<Collected>), BackupError> {
    // What is read again the next time is stored again where the secrets are new ones.
    at_rest().await;
    let monitor = Arc::new(Collected::default());
    let mut options = options(bench.source.path());
    (options.host, options.date) = (name.into(), Some(end_of(day)));
    let report = backup(repository.clone(), options, monitor.clone(), Cancel::default()).await?;
    Ok((report, monitor))
}

fn end_of(day: i64) -> Timestamp {
    Timestamp::from_seconds(1_790_000_000 + day * 86_400)
}

async fn made(bench: &Bench, repository: &Arc<Repository>, name: &str, day: i64) -> Snapshot {
    back_up(bench, repository, name, day).await.expect("backed up").0.snapshot.expect("made")
}

async fn revoke(bench: &Bench, id: WriterId, still: StillCounting) -> RevokedWriter {
    reader(bench).await.revoke_writer(id, still, Clock::System.now()).await.expect("revoked")
}

/// What is said of a snapshot by one who has it in the cache, or by one who has not.
async fn foreign(bench: &Bench, id: SnapshotId, cached: bool) -> Option<Foreign> {
    let fresh = tempfile::tempdir().expect("made");
    let cache = if cached { bench.cache.path() } else { fresh.path() };
    let repository = open(bench.store(), cache).await.expect("opens");
    let snapshots = repository.snapshots().await.expect("listed");
    let found = snapshots.into_iter().find(|(listed, _)| *listed == id).expect("it is listed").1.expect("opened");
    assert_eq!(repository.snapshot(id).await.expect("opened").foreign, found.foreign);
    found.foreign
}

async fn counting(bench: &Bench, snapshots: &[&Snapshot]) -> Vec<bool> {
    let mut counting = Vec::new();
    for snapshot in snapshots {
        let said = foreign(bench, snapshot.id, true).await;
        assert_eq!(foreign(bench, snapshot.id, false).await, said);
        assert!(matches!(said, None | Some(Foreign::Revoked)), "{said:?}");
        counting.push(said.is_none());
    }
    counting
}

async fn latest(bench: &Bench) -> Option<SnapshotId> {
    let found = reader(bench).await.find_snapshot("latest", &SnapshotFilter::default()).await;
    found.ok().map(|snapshot| snapshot.id)
}

/// Seals a snapshot like `like` as a writer can who has kept its keys, under `id`.
async fn plant(bench: &Bench, writer: &Arc<Repository>, like: &Snapshot, id: SnapshotId) {
    let session = writer.writing().expect("it does not know better").begin_session(MAIN_DOMAIN).expect("a good key");
    let (session_id, at, started) = (session.id(), session.at(), id.time());
    let planted = Snapshot { id, session: session_id, at, started, finished: started, ..like.clone() };
    bench.store().put(&ObjectKey::snapshot(id), session.seal_snapshot(&planted).into()).await.expect("put");
}

async fn complete(bench: &Bench) -> Result<CompleteIndex, IncompleteError> {
    let deleting = reader(bench).await.deleting().expect("may be cleaned up");
    CompleteIndex::load(&deleting, &Collected::default()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_writer_made_before_it_was_thrown_out_counts_and_nothing_else_of_it() {
    let bench = Bench::new().await;
    let web = add(&bench, "web").await;
    let cache = tempfile::tempdir().expect("made");
    let writer = open_as(&bench, "web", cache.path()).await;
    let (first, second) = (made(&bench, &writer, "web", 1).await, made(&bench, &writer, "web", 2).await);
    let revoked = revoke(&bench, web, StillCounting::All).await;
    assert_eq!(revoked, RevokedWriter { counting: 2, foreign: 0 });
    assert_eq!(counting(&bench, &[&first, &second]).await, [true, true]);
    assert_eq!(latest(&bench).await, Some(second.id));
    assert_eq!(bench.read(&second).await, Ok(files_in(bench.source.path())));
    for read_data in [ReadData::No, ReadData::All] {
        let report = bench.verify(read_data).await;
        assert_eq!((report.snapshots, report.findings), (2, vec![]));
    }
    assert_eq!(complete(&bench).await.expect("nothing is missing").snapshots().len(), 2);

    // It has its keys yet, and does not say when it is.
    for (day, name) in [(0, b"earlier!"), (1, b"the same"), (2, b"as well!"), (3, b"later on")] {
        let id = SnapshotId::new(end_of(day), *name);
        plant(&bench, &writer, &second, id).await;
        assert_eq!(foreign(&bench, id, false).await, Some(Foreign::Revoked), "day {day}");
        assert_eq!(latest(&bench).await, Some(second.id));
    }
    // Under the name of one that counts: the object that was there does.
    let there = bench.store().get(&ObjectKey::snapshot(second.id)).await.expect("there");
    plant(&bench, &writer, &second, second.id).await;
    assert_eq!(foreign(&bench, second.id, false).await, Some(Foreign::Revoked));
    bench.store().put(&ObjectKey::snapshot(second.id), there).await.expect("put");
    assert_eq!(counting(&bench, &[&first, &second]).await, [true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_may_have_made_does_not_count_and_never_does_again() {
    let bench = Bench::new().await;
    let web = add(&bench, "web").await;
    let cache = tempfile::tempdir().expect("made");
    let writer = open_as(&bench, "web", cache.path()).await;
    let mut days = Vec::new();
    for day in 1..4 {
        days.push(made(&bench, &writer, "web", day).await);
    }
    // Dated ahead of the present: whoever wants to be the latest for ever.
    plant(&bench, &writer, &days[0], SnapshotId::new(Timestamp::from_seconds(4_000_000_000), *b"for ever")).await;
    let all: Vec<&Snapshot> = days.iter().collect();
    for (still, count, expected) in [
        (StillCounting::Before(end_of(3)), 2, [true, true, false]),
        (StillCounting::All, 2, [true, true, false]),
        (StillCounting::Before(end_of(2)), 1, [true, false, false]),
        (StillCounting::Before(end_of(9)), 1, [true, false, false]),
        (StillCounting::None, 0, [false, false, false]),
        (StillCounting::All, 0, [false, false, false]),
    ] {
        let revoked = revoke(&bench, web, still).await;
        assert_eq!(revoked, RevokedWriter { counting: count, foreign: 4 - count }, "{still:?}");
        assert_eq!(counting(&bench, &all).await, expected, "{still:?}");
        assert_eq!(latest(&bench).await, (count > 0).then(|| days[count - 1].id), "{still:?}");
        assert_eq!(bench.verify(ReadData::No).await.findings, []);
    }
    let domains: Vec<u32> = epochs(&bench).await;
    assert_eq!(domains, [1, 2], "what it does not know any more is not made anew");
}

async fn epochs(bench: &Bench) -> Vec<u32> {
    let repository = reader(bench).await;
    keyring_of(&repository, &*bench.store()).await.domains.iter().map(|record| record.at.epoch).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_others_go_on_under_secrets_that_the_writer_does_not_know() {
    let bench = Bench::new().await;
    let web = add(&bench, "web").await;
    add(&bench, "friend").await;
    let (of_web, of_friend) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
    let stale = reader(&bench).await;
    let running = open_as(&bench, "friend", of_friend.path()).await;
    made(&bench, &running, "friend", 1).await;
    // What web stores is nothing that the friend could rely on, who is of its group: what only web names would be read again.
    let of_web_alone = bench.source.path().join("of-web");
    std::fs::write(&of_web_alone, b"nobody else has it").expect("writable");
    made(&bench, &open_as(&bench, "web", of_web.path()).await, "web", 1).await;
    std::fs::remove_file(of_web_alone).expect("there");
    revoke(&bench, web, StillCounting::All).await;

    // What began before ends as it began.
    let old = made(&bench, &running, "friend", 2).await;
    assert_eq!((old.at.epoch, foreign(&bench, old.id, false).await), (1, None));
    // What begins now is sealed, named and indexed under the new secrets, and takes over what did not change.
    let friend = open_as(&bench, "friend", of_friend.path()).await;
    std::fs::write(bench.source.path().join("more"), b"what web is not to know of").expect("writable");
    let (report, told) = back_up(&bench, &friend, "friend", 3).await.expect("backed up");
    let new = report.snapshot.expect("made");
    assert_eq!((new.at.epoch, told.problems()), (2, vec![]));
    assert!(report.counts.new_bytes < 100_000, "{:?}", report.counts);
    assert_eq!(bench.read(&new).await, Ok(files_in(bench.source.path())));
    let web = open_as(&bench, "web", of_web.path()).await;
    assert!(web.keys().dedup(new.at).is_none() && web.keys().dedup(old.at).is_some());

    // Whoever is added now is let into the new epoch alone, by one who has not heard of it as well.
    for (name, by) in [("late", &reader(&bench).await), ("later", &stale)] {
        add_with(by, name).await;
        let cache = tempfile::tempdir().expect("made");
        let late = open_as(&bench, name, cache.path()).await;
        assert!(late.keys().dedup(new.at).is_some() && late.keys().dedup(old.at).is_none(), "{name}");
        for day in [4, 5] {
            let (report, told) = back_up(&bench, &late, name, day).await.expect("backed up");
            assert_eq!(told.problems(), [], "what it was not let into is no damage: {name}");
            let snapshot = report.snapshot.expect("made");
            assert_eq!(bench.read(&snapshot).await, Ok(files_in(bench.source.path())));
        }
    }
    assert_eq!(bench.verify(ReadData::All).await.findings, []);
    // The cache of a writer that was not let in says nothing to a reader that uses the same one.
    let cache = tempfile::tempdir().expect("made");
    made(&bench, &open_as(&bench, "late", cache.path()).await, "late", 6).await;
    let repository = open(bench.store(), cache.path()).await.expect("opens");
    let opened = repository.snapshot(old.id).await.expect("opened");
    assert!(crate::support::read_all(repository, &opened).await.is_ok());
}

/// Lists are sealed in the newest epoch: whoever began before must keep to them all the same, or make nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_an_older_epoch_keeps_to_lists_of_the_newest() {
    let bench = Bench::new().await;
    let web = add(&bench, "web").await;
    add(&bench, "friend").await;
    let (of_web, of_friend) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
    let writer = open_as(&bench, "web", of_web.path()).await;
    let friend = open_as(&bench, "friend", of_friend.path()).await;
    let own = reader(&bench).await;
    made(&bench, &friend, "friend", 1).await;
    assert!(back_up(&bench, &friend, "friend", 2).await.expect("backed up").0.counts.new_bytes < 100_000);
    revoke(&bench, web, StillCounting::All).await;
    let packs = bench.store().list(ObjectKind::Pack.prefix()).await.expect("listed");
    let packs = packs.iter().filter_map(|object| object.key.pack_id()).collect();
    put_list(&bench, 9, CleanupList { packs, is_deleting: true, ..CleanupList::default() }).await;
    let error = back_up(&bench, &writer, "web", 3).await.expect_err("it might be named in what it cannot open");
    assert!(matches!(error, BackupError::ThrownOut), "{error:?}");
    let (report, _) = back_up(&bench, &friend, "friend", 3).await.expect("backed up");
    assert!(report.counts.new_bytes > 3_000_000, "{:?}", report.counts);
    assert!(own.cleanups().await.expect("read").damaged().is_empty());
}

/// Nothing is cleaned up, so no list tells it; whenever it happens, what the host then makes counts for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_host_is_thrown_out_meanwhile_never_says_that_it_is_done() {
    for phase in
        ["looking for the last snapshot", "backing up", "checking that nothing vanished", "writing the snapshot"]
    {
        let bench = Bench::new().await;
        let web = add(&bench, "web").await;
        let cache = tempfile::tempdir().expect("made");
        let (writer, by) = (open_as(&bench, "web", cache.path()).await, reader(&bench).await);
        let (runtime, done) = (tokio::runtime::Handle::current(), std::sync::Once::new());
        let monitor = Arc::new(AtPhase::new(phase, move || {
            done.call_once(|| {
                let revoking = || runtime.block_on(by.revoke_writer(web, StillCounting::All, Clock::System.now()));
                std::thread::scope(|scope| scope.spawn(revoking).join()).expect("no panic").expect("revoked");
            });
        }));
        let mut options = options(bench.source.path());
        options.host = "web".into();
        let error = backup(writer, options, monitor, Cancel::default()).await.expect_err("it does not count");
        assert!(matches!(error, BackupError::ThrownOut) && error.outcome() == Outcome::Refused, "{phase}: {error:?}");
        for (_, snapshot) in reader(&bench).await.snapshots().await.expect("listed") {
            assert_eq!(snapshot.expect("opened").foreign, Some(Foreign::Revoked), "{phase}");
        }
        assert_eq!(latest(&bench).await, None, "{phase}");
        assert_eq!(bench.store().list(ObjectKind::Session.prefix()).await.expect("listed"), [], "{phase}");
    }
    // One that was there by then counts, and so it may be told that it was made.
    let bench = Bench::new().await;
    let web = add(&bench, "web").await;
    let cache = tempfile::tempdir().expect("made");
    let writer = open_as(&bench, "web", cache.path()).await;
    let snapshot = made(&bench, &writer, "web", 1).await;
    let session = writer.writing().expect("it may write").begin_session(MAIN_DOMAIN).expect("a good key");
    assert_eq!(writer.standing(&session, None).await.expect("asked"), SessionStanding::Counts);
    revoke(&bench, web, StillCounting::All).await;
    assert_eq!(writer.standing(&session, Some(&snapshot)).await.expect("asked"), SessionStanding::Counts);
    assert_eq!(writer.standing(&session, None).await.expect("asked"), SessionStanding::ThrownOut);
    revoke(&bench, web, StillCounting::None).await;
    assert_eq!(writer.standing(&session, Some(&snapshot)).await.expect("asked"), SessionStanding::ThrownOut);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_hidden_is_damage_and_stops_deletion() {
    let bench = Bench::new().await;
    let web = add(&bench, "web").await;
    let cache = tempfile::tempdir().expect("made");
    let snapshot = made(&bench, &open_as(&bench, "web", cache.path()).await, "web", 1).await;
    revoke(&bench, web, StillCounting::All).await;
    let listed = bench.store().list(ObjectKind::Cleanup.prefix()).await.expect("listed").remove(0).key;
    let object = bench.store().get(&listed).await.expect("there");
    bench.store().delete(&listed).await.expect("deleted");
    assert_eq!(counting(&bench, &[&snapshot]).await, [false]);
    let findings = bench.verify(ReadData::No).await.findings;
    assert!(matches!(&findings[..], [finding] if finding.object.to_string().starts_with("cleanup/")), "{findings:?}");
    assert!(matches!(complete(&bench).await, Err(IncompleteError::List { .. })));
    bench.store().put(&listed, object).await.expect("put");
    assert_eq!((counting(&bench, &[&snapshot]).await, bench.verify(ReadData::No).await.findings), (vec![true], vec![]));
    // What the list has, and nobody removed, must be there.
    bench.store().delete(&ObjectKey::snapshot(snapshot.id)).await.expect("deleted");
    let error = complete(&bench).await.expect_err("it is hidden");
    assert!(matches!(&error, IncompleteError::Hidden { key } if *key == ObjectKey::snapshot(snapshot.id)), "{error}");
}
