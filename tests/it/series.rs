//! Snapshots are numbered: what somebody hides is missed, what a clean-up removed is not, and what does not open decides nothing.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use coffre::model::cleanup::{CleanupList, RemovedSnapshot};
use coffre::model::id::WriterId;
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::outcome::{Ended, Outcome};
use coffre::model::snapshot::{Position, Snapshot, SnapshotId};
use coffre::model::time::{Clock, Timestamp};
use coffre::ops::Cancel;
use coffre::ops::backup::{BackupReport, backup};
use coffre::ops::verify::{Damage, ReadData, VerifyReport};
use coffre::progress::Collected;
use coffre::repository::choose::SnapshotFilter;
use coffre::repository::places::LocalPlaces;
use coffre::repository::revoking::StillCounting;
use coffre::repository::snapshots::SnapshotError;
use coffre::repository::writers::SlotPlace;
use coffre::repository::{OpenError, Repository};
use coffre::store::Store;
use tempfile::TempDir;

use crate::cleanups::put_list;
use crate::support::desk::Desk;
use crate::support::{Bench, files_in, open, options, options_at, passphrase, run_backup, run_verify};
use crate::writers::{add, new, words};

/// When the first snapshot of a test is dated; each is an hour later than the one before.
const BEGIN: i64 = 1_790_000_000;

fn made() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn hour(nth: usize) -> Clock {
    Clock::Fixed(Timestamp::from_seconds(BEGIN + 3600 * i64::try_from(nth).expect("few")))
}

/// Backs up at an hour of its own.
async fn run(bench: &Bench, nth: usize) -> Snapshot {
    let options = options_at(bench.source.path(), hour(nth));
    run_backup(bench.store(), bench.cache.path(), options).await.expect("backed up").snapshot.expect("made")
}

async fn runs(bench: &Bench, count: usize) -> Vec<Snapshot> {
    let mut snapshots = Vec::new();
    for nth in 0..count {
        snapshots.push(run(bench, nth).await);
    }
    snapshots
}

fn small(bench: &Bench) {
    fs::remove_dir_all(bench.source.path().join("a/b")).expect("removed");
}

async fn hide(bench: &Bench, snapshot: &Snapshot) {
    bench.store().delete(&ObjectKey::snapshot(snapshot.id)).await.expect("deleted");
}

/// As a machine sees it that knows nothing.
async fn seen_anew(bench: &Bench) -> VerifyReport {
    run_verify(bench.store(), made().path(), ReadData::No).await
}

fn told(report: &VerifyReport) -> Vec<String> {
    let is_of_series = |damage: &Damage| matches!(damage, Damage::Vanished(_));
    let findings = report.findings.iter().filter(|finding| is_of_series(&finding.damage));
    findings.map(|finding| format!("{}: {}", finding.object, finding.damage)).collect()
}

fn removed(snapshot: &Snapshot) -> RemovedSnapshot {
    let digest = snapshot.digest.expect("stored");
    RemovedSnapshot { id: snapshot.id, digest, before: snapshot.position.before }
}

/// Removes snapshots as a clean-up does.
async fn remove(bench: &Bench, counter: u64, snapshots: &[&Snapshot]) {
    let list = CleanupList { removed: snapshots.iter().map(|it| removed(it)).collect(), ..CleanupList::default() };
    put_list(bench, counter, list).await;
    for snapshot in snapshots {
        hide(bench, snapshot).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_snapshot_has_the_next_number_and_the_digest_of_the_one_before() {
    let bench = Bench::new().await;
    small(&bench);
    let snapshots = runs(&bench, 3).await;
    assert_eq!(snapshots[0].position, Position::default());
    for (nth, pair) in snapshots.windows(2).enumerate() {
        assert_eq!(pair[1].position, Position { number: nth as u64 + 1, before: pair[0].digest });
    }
    // A reader on another machine goes on from what is there, whatever became of what the first one remembers.
    let other = made();
    let options = options_at(bench.source.path(), hour(3));
    let next = run_backup(bench.store(), other.path(), options).await.expect("backed up").snapshot.expect("made");
    assert_eq!(next.position, Position { number: 3, before: snapshots[2].digest });
    let next = run(&bench, 4).await;
    assert_eq!(next.position.number, 4);
    // Another job is another series.
    let mut options = options_at(bench.source.path(), hour(5));
    options.job = "other".into();
    let other =
        run_backup(bench.store(), bench.cache.path(), options).await.expect("backed up").snapshot.expect("made");
    assert_eq!(other.position, Position::default());
    let report = seen_anew(&bench).await;
    assert_eq!((report.findings, report.notes), (vec![], vec![]));
}

/// What clean-ups removed, in how many lists, which are hidden besides, and which numbers are missed.
type Removals<'a> = (&'a [&'a [usize]], &'a [usize], &'a [u64]);

/// What a provider hides, by a machine that knows nothing and by one that made them; what becomes of it where a clean-up says so.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_hidden_is_missed_and_what_was_removed_is_not() {
    let whole = Bench::new().await;
    small(&whole);
    let snapshots = runs(&whole, 5).await;
    let fork = || whole.fork();
    let number = |nth: u64| format!("snapshot number {nth} of host host: {}", whole.source.path().display());
    // Which are hidden, and which numbers are missed.
    let cases: [(&[usize], &[u64]); 6] =
        [(&[2], &[2]), (&[0], &[0]), (&[4], &[]), (&[1, 3], &[1, 3]), (&[1, 2], &[2]), (&[2, 3, 4], &[])];
    for (hidden, missed) in cases {
        let bench = fork();
        for nth in hidden {
            hide(&bench, &snapshots[*nth]).await;
        }
        let report = seen_anew(&bench).await;
        let told = told(&report);
        assert_eq!((told.len(), report.findings.len()), (missed.len(), missed.len()), "{hidden:?}: {told:?}");
        for nth in missed {
            let line = told.iter().find(|line| line.starts_with(&number(*nth))).expect("told");
            assert!(line.contains("was made after it"), "{line}");
        }
        assert_eq!(told.iter().any(|line| line.contains("nothing is known of")), hidden == [1, 2], "{told:?}");
        let outcome = if missed.is_empty() { Outcome::Clean } else { Outcome::Damaged };
        assert_eq!(report.outcome(), outcome, "{hidden:?}");
        // The machine that made them knows the last one.
        let report = run_verify(bench.store(), whole.cache.path(), ReadData::No).await;
        let knows = usize::from(hidden.contains(&4));
        assert_eq!(report.findings.len(), missed.len() + knows, "{hidden:?}: {:?}", report.findings);
    }
    let cases: [Removals<'_>; 7] = [
        (&[&[2]], &[], &[]),
        (&[&[0]], &[], &[]),
        (&[&[4]], &[], &[]),
        (&[&[1, 2, 3]], &[], &[]),
        (&[&[2], &[1], &[3]], &[], &[]),
        (&[&[3]], &[2], &[2]),
        (&[&[1], &[3]], &[2], &[2]),
    ];
    for (lists, hidden, missed) in cases {
        let bench = fork();
        for (nth, list) in lists.iter().enumerate() {
            remove(&bench, nth as u64 + 1, &list.iter().map(|nth| &snapshots[*nth]).collect::<Vec<_>>()).await;
        }
        for nth in hidden {
            hide(&bench, &snapshots[*nth]).await;
        }
        let cache = made();
        for cache in [cache.path(), whole.cache.path()] {
            let told = told(&run_verify(bench.store(), cache, ReadData::No).await);
            assert_eq!(told.len(), missed.len(), "{lists:?} {hidden:?}: {told:?}");
            assert!(missed.iter().zip(&told).all(|(nth, line)| line.starts_with(&number(*nth))), "{told:?}");
        }
    }
}

/// A clean-up saw the newest, and who knows nothing else misses it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_list_accounts_for_is_missed() {
    let bench = Bench::new().await;
    small(&bench);
    let snapshots = runs(&bench, 2).await;
    let accounted = vec![(snapshots[1].id, snapshots[1].digest.expect("stored"))];
    put_list(&bench, 1, CleanupList { accounted, ..CleanupList::default() }).await;
    hide(&bench, &snapshots[1]).await;
    let lines = told(&seen_anew(&bench).await);
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert!(line.starts_with(&format!("{}: ", ObjectKey::snapshot(snapshots[1].id))), "{line}");
    assert!(line.ends_with("a list of cleaning up accounts for it"), "{line}");
    remove(&bench, 2, &[&snapshots[1]]).await;
    assert_eq!(told(&seen_anew(&bench).await), Vec::<String>::new());
}

/// A machine that verified once knows what was there, without having made it.
#[tokio::test(flavor = "multi_thread")]
async fn who_verified_once_misses_the_newest() {
    let bench = Bench::new().await;
    small(&bench);
    let snapshots = runs(&bench, 2).await;
    let keeper = made();
    assert_eq!(told(&run_verify(bench.store(), keeper.path(), ReadData::No).await), Vec::<String>::new());
    hide(&bench, &snapshots[1]).await;
    let lines = told(&run_verify(bench.store(), keeper.path(), ReadData::No).await);
    assert!(lines.len() == 1 && lines[0].contains("this machine made it or saw it"), "{lines:?}");
}

/// A damaged one between others is told as what it is, and as what may be missing.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_open_may_be_what_is_missing() {
    let bench = Bench::new().await;
    small(&bench);
    let snapshots = runs(&bench, 3).await;
    bench.memory.tamper(&ObjectKey::snapshot(snapshots[1].id), |bytes| bytes.truncate(64));
    let report = seen_anew(&bench).await;
    assert_eq!(report.findings.len(), 2, "{:?}", report.findings);
    let may_be = format!("it may be {}, which cannot be opened", snapshots[1].id.short());
    let lines = told(&report);
    assert!(lines.len() == 1 && lines[0].ends_with(&may_be), "{lines:?}");
    // Who knows its name tells it once.
    let accounted = vec![(snapshots[1].id, snapshots[1].digest.expect("stored"))];
    put_list(&bench, 1, CleanupList { accounted, ..CleanupList::default() }).await;
    let report = seen_anew(&bench).await;
    assert_eq!((report.findings.len(), told(&report).len()), (1, 0), "{:?}", report.findings);
}

/// What a name has behind its second is chance, and tells nothing of order.
#[tokio::test(flavor = "multi_thread")]
async fn of_one_second_each_may_be_what_is_missing() {
    let bench = Bench::new().await;
    small(&bench);
    let mut snapshots = Vec::new();
    for _ in 0..6 {
        snapshots.push(run(&bench, 0).await);
    }
    let numbers: Vec<u64> = snapshots.iter().map(|snapshot| snapshot.position.number).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
    for damaged in &snapshots[..5] {
        let key = ObjectKey::snapshot(damaged.id);
        bench.memory.tamper(&key, |bytes| bytes[100] ^= 1);
        let lines = told(&seen_anew(&bench).await);
        let may_be = format!("it may be {}, which cannot be opened", damaged.id.short());
        assert!(lines.len() == 1 && lines[0].ends_with(&may_be), "{lines:?}");
        bench.memory.tamper(&key, |bytes| bytes[100] ^= 1);
    }
    assert_eq!(told(&seen_anew(&bench).await), Vec::<String>::new());
}

/// A host with a key of its own, and where it keeps things.
struct Host {
    id: WriterId,
    cache: TempDir,
    state: TempDir,
}

impl Host {
    async fn added(bench: &Bench) -> Self {
        let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
        let id = add(&repository, &new("web", &["web"]), SlotPlace::Repository).await.expect("added").id;
        Self { id, cache: made(), state: made() }
    }

    async fn run(&self, bench: &Bench, nth: usize) -> BackupReport {
        let places = LocalPlaces { state: Some(self.state.path().into()), ..LocalPlaces::from(self.cache.path()) };
        let repository = Repository::open(bench.store(), &words("web"), places).await.expect("opens");
        let mut options = options_at(bench.source.path(), hour(nth));
        options.host = "web".into();
        let monitor = Arc::new(Collected::default());
        backup(Arc::new(repository), options, monitor, Cancel::default()).await.expect("backed up")
    }
}

fn number(report: &BackupReport) -> u64 {
    report.snapshot.as_ref().expect("made").position.number
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_reads_nothing_misses_what_it_made() {
    let bench = Bench::new().await;
    small(&bench);
    let mut host = Host::added(&bench).await;
    for nth in 0..3 {
        let report = host.run(&bench, nth).await;
        assert_eq!((number(&report), report.suspicious.len()), (nth as u64, 0));
        // Whoever throws the cache away loses no number.
        host.cache = made();
    }
    let hidden = host.run(&bench, 3).await.snapshot.expect("made");
    hide(&bench, &hidden).await;
    let report = host.run(&bench, 4).await;
    let [problem] = &report.suspicious[..] else { panic!("{:?}", report.suspicious) };
    assert_eq!(problem.subject, format!("snapshot {}", hidden.id.short()));
    assert!(
        problem.message.contains("is not in the store") && problem.message.contains("number 3 of host web"),
        "{problem}"
    );
    assert_eq!((number(&report), report.outcome()), (4, Outcome::Incomplete));
    let again = host.run(&bench, 5).await;
    assert_eq!((number(&again), again.suspicious.len()), (5, 0), "it is told once; from then on the next one tells");
    let lines = told(&seen_anew(&bench).await);
    assert!(lines.len() == 1 && lines[0].starts_with("snapshot number 3 of host web, by writer "), "{lines:?}");
    // What a clean-up removed is not missed, by it or by others.
    let newest = again.snapshot.expect("made");
    remove(&bench, 1, &[&hidden, &newest]).await;
    let report = host.run(&bench, 6).await;
    assert_eq!((number(&report), report.suspicious.len()), (6, 0));
    assert_eq!(told(&seen_anew(&bench).await), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_state_was_lost_begins_anew_and_that_is_told_and_no_damage() {
    let bench = Bench::new().await;
    small(&bench);
    let mut host = Host::added(&bench).await;
    for nth in 0..6 {
        if nth % 2 == 0 {
            host.state = made();
        }
        let report = host.run(&bench, nth).await;
        assert_eq!(report.snapshot.expect("made").position.before.is_none(), nth % 2 == 0);
    }
    let report = seen_anew(&bench).await;
    assert_eq!(report.outcome(), Outcome::Clean, "{:?}", report.findings);
    let [note] = &report.notes[..] else { panic!("{:?}", report.notes) };
    assert!(
        note.starts_with("host web, by writer ") && note.contains("numbers begin anew 2 times, last with"),
        "{note}"
    );
    // What is hidden after that is missed as ever.
    host.run(&bench, 6).await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let ids = repository.snapshot_ids().await.expect("listed");
    bench.store().delete(&ObjectKey::snapshot(ids[5])).await.expect("deleted");
    assert_eq!(told(&seen_anew(&bench).await).len(), 1);
}

/// Those that do not count any more are there all the same; those that go on counting are missed by the list that says so.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_writer_that_was_thrown_out_made_is_there_whether_it_counts_or_not() {
    let whole = Bench::new().await;
    small(&whole);
    let host = Host::added(&whole).await;
    // The second is dated after the moment until which snapshots count, the third before it.
    let mut snapshots = Vec::new();
    for nth in [0, 9, 1, 10] {
        snapshots.push(host.run(&whole, nth).await.snapshot.expect("made"));
    }
    let numbers: Vec<u64> = snapshots.iter().map(|snapshot| snapshot.position.number).collect();
    assert_eq!(numbers, [0, 1, 2, 3]);
    let moment = hour(5).now();
    // Which are hidden, and of which that is told: where they go on counting before the moment, where all do, and where none does.
    type Told<'a> = &'a [usize];
    let cases: [(&[usize], Told<'_>, Told<'_>, Told<'_>); 6] = [
        (&[], &[], &[], &[]),
        (&[0], &[0], &[0], &[]),
        (&[1], &[1], &[1], &[]),
        (&[2], &[2], &[2], &[]),
        (&[3], &[], &[3], &[]),
        (&[1, 2], &[2], &[1, 2], &[]),
    ];
    let stills = [StillCounting::Before(moment), StillCounting::All, StillCounting::None];
    for (way, still) in stills.into_iter().enumerate() {
        let thrown_out = whole.fork();
        let repository = open(thrown_out.store(), made().path()).await.expect("opens");
        let revoked = repository.revoke_writer(host.id, still, Clock::System.now()).await.expect("revoked");
        assert_eq!(revoked.counting, [2, 4, 0][way]);
        for (hidden, before, all, none) in cases {
            let bench = thrown_out.fork();
            for nth in hidden {
                hide(&bench, &snapshots[*nth]).await;
            }
            let report = seen_anew(&bench).await;
            let (lines, missed) = (told(&report), [before, all, none][way]);
            assert_eq!(lines.len(), missed.len(), "{still:?} {hidden:?}: {lines:?}");
            for nth in missed {
                let names = [snapshots[*nth].id.to_string(), format!("snapshot number {nth} of host web")];
                let is_named = |line: &String| names.iter().any(|name| line.contains(name));
                assert!(lines.iter().any(is_named), "{still:?} {hidden:?}: {lines:?}");
            }
            assert!(!report.notes.iter().any(|note| note.contains("number")), "{:?}", report.notes);
        }
    }
}

/// Runs that do not know of each other: two at once on one machine, and one of a machine that was put back.
#[tokio::test(flavor = "multi_thread")]
async fn two_runs_at_once_may_have_one_number_which_is_no_damage() {
    let bench = Bench::new().await;
    small(&bench);
    let mut host = Host::added(&bench).await;
    host.run(&bench, 0).await;
    let copy = Host { id: host.id, cache: made(), state: made() };
    copy_tree(host.state.path(), copy.state.path());
    assert_eq!(number(&host.run(&bench, 1).await), 1);
    assert_eq!(number(&copy.run(&bench, 2).await), 1);
    host.state = copy.state;
    assert_eq!(number(&host.run(&bench, 3).await), 2);
    let report = seen_anew(&bench).await;
    assert_eq!((report.outcome(), report.notes.len()), (Outcome::Clean, 1), "{:?}", report.notes);
    assert!(report.notes[0].contains("are all number 1: "), "{:?}", report.notes);

    let (one, other) = tokio::join!(host.run(&bench, 4), host.run(&bench, 5));
    assert!(number(&one) >= 3 && number(&other) >= 3);
    let next = host.run(&bench, 6).await;
    assert!(number(&next) > number(&one).max(number(&other)), "what is remembered does not go back");
    assert_eq!(seen_anew(&bench).await.outcome(), Outcome::Clean);
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for item in fs::read_dir(from).expect("readable") {
        let item = item.expect("readable");
        match item.path().is_dir() {
            true => copy_tree(&item.path(), &to.join(item.file_name())),
            false => drop(fs::copy(item.path(), to.join(item.file_name())).expect("copied")),
        }
    }
}

/// What somebody without a key puts below `snapshots/`, given a real one.
fn rubbish(real: &[u8]) -> Vec<Vec<u8>> {
    let header = 8 + 1204;
    vec![
        b"64 bytes of rubbish".repeat(4)[..64].to_vec(),
        Vec::new(),
        real.to_vec(),
        real[..real.len() - 1].to_vec(),
        // The header of a session that is there, with anything behind it.
        [&real[..header], &vec![7; 500]].concat(),
        [&b"coffreS\x02"[..], &real[8..]].concat(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_never_decides_what_is_latest() {
    let whole = Bench::new().await;
    small(&whole);
    let snapshots = runs(&whole, 2).await;
    let (newest, now) = (&snapshots[1], Timestamp::from_seconds(BEGIN + 30 * 86_400));
    let real = whole.store().get(&ObjectKey::snapshot(newest.id)).await.expect("there");
    let all = SnapshotFilter::default();
    for planted in rubbish(&real) {
        let bench = whole.fork();
        let [later, ahead] = [20, 200 * 365].map(|days| Timestamp::from_seconds(BEGIN + days * 86_400));
        // The second has the digits of a real one, at another date.
        let ids = [
            SnapshotId::new(later, [0xee; 8]),
            SnapshotId::new(later, newest.id.to_bytes()[8..].try_into().expect("8")),
        ];
        for id in ids.iter().chain(&[SnapshotId::new(ahead, [0xdd; 8])]) {
            bench.store().put(&ObjectKey::snapshot(*id), planted.clone().into()).await.expect("put");
        }
        // A machine that knows nothing, and the one that made the real ones.
        for cache in [bench.cache.path(), whole.cache.path()] {
            let repository = open(bench.store(), cache).await.expect("opens");
            let choice = repository.choose_snapshot("latest", &all, now).await.expect("found");
            assert_eq!((choice.snapshot.id, choice.ahead.len()), (newest.id, 0));
            let unopened: Vec<SnapshotId> = choice.unopened.iter().map(|(id, _)| *id).collect();
            assert!(unopened.len() == 2 && ids.iter().all(|id| unopened.contains(id)), "{unopened:?}");
            for text in [newest.id.to_string(), newest.id.short(), newest.id.object_name()] {
                assert_eq!(repository.choose_snapshot(&text, &all, now).await.expect("meant").snapshot.id, newest.id);
            }
        }
        // Nor what is compared with, nor where the series goes on.
        for cache in [made(), made()] {
            let options = options_at(whole.source.path(), hour(2));
            let report = run_backup(bench.store(), cache.path(), options).await.expect("backed up");
            let made = report.snapshot.expect("made");
            assert!(report.parent.is_some());
            assert!(made.position.number >= 2 && made.position.before.is_some());
            let entries = crate::support::read_back(bench.store(), cache.path(), &made).await.expect("readable");
            let contents = crate::support::contents(whole.source.path(), &entries);
            assert_eq!(contents, files_in(whole.source.path()));
        }
    }
}

/// The newest is damaged or hidden: who knows it does not take another for it, who cannot know is told what does not open.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_to_be_the_latest_is_never_passed_over() {
    let whole = Bench::new().await;
    small(&whole);
    let snapshots = runs(&whole, 2).await;
    let (before, newest) = (&snapshots[0], &snapshots[1]);
    let (all, now) = (SnapshotFilter::default(), Timestamp::from_seconds(BEGIN + 86_400));
    let host = |host: &str| SnapshotFilter { hosts: vec![host.into()], ..SnapshotFilter::default() };
    for hidden in [true, false] {
        let bench = whole.fork();
        match hidden {
            true => hide(&bench, newest).await,
            false => bench.memory.tamper(&ObjectKey::snapshot(newest.id), |bytes| bytes[1300] ^= 1),
        }
        let stranger = open(bench.store(), bench.cache.path()).await.expect("opens");
        let choice = stranger.choose_snapshot("latest", &all, now).await.expect("found");
        assert_eq!((choice.snapshot.id, choice.unopened.len()), (before.id, usize::from(!hidden)));
        // Its cache would have the damaged one as it was; its state alone knows of it.
        let (state, cache) = (made(), made());
        copy_tree(&whole.cache.path().join("state"), state.path());
        let places = LocalPlaces { state: Some(state.path().into()), ..LocalPlaces::from(cache.path()) };
        let opened = Repository::open(bench.store(), &passphrase(), places).await.expect("opens");
        let repository = Arc::new(opened);
        for filter in [&all, &host("host")] {
            let error = repository.choose_snapshot("latest", filter, now).await.expect_err("it is known");
            assert_eq!(error.outcome(), Outcome::Damaged);
            let SnapshotError::LatestLost { id, number, why, instead, .. } = error else { panic!("{error:?}") };
            assert_eq!((id, number, instead), (newest.id, 1, Some(before.id)));
            assert!(why.starts_with(if hidden { "it is not in the store" } else { "it cannot be opened" }), "{why}");
        }
        let other = repository.choose_snapshot("latest", &host("other"), now).await.expect_err("there is none");
        // What does not open may have been one that fits.
        match hidden {
            true => assert!(matches!(other, SnapshotError::NoneFits), "{other:?}"),
            false => assert!(matches!(other, SnapshotError::Damaged { .. }), "{other:?}"),
        }
        let by_id = repository.choose_snapshot(&before.id.to_string(), &all, now).await.expect("named");
        assert_eq!(by_id.snapshot.id, before.id);
        // The next run goes on behind it, from what is whole.
        let report = run_backup(bench.store(), made().path(), options(whole.source.path())).await.expect("backed up");
        assert_eq!(report.parent, Some(before.id));
        // Removed by a clean-up, it is not the latest any more.
        remove(&bench, 1, &[newest]).await;
        let repository = open(bench.store(), whole.cache.path()).await.expect("opens");
        repository.choose_snapshot("latest", &all, Clock::System.now()).await.expect("what is there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_roll_back_is_noticed_whatever_became_of_the_cache() {
    let bench = Bench::new().await;
    let before = bench.memory.fork();
    Host::added(&bench).await;
    let state = made();
    let at = |cache: &TempDir, state: &TempDir| LocalPlaces {
        state: Some(state.path().into()),
        ..LocalPlaces::from(cache.path())
    };
    Repository::open(bench.store(), &passphrase(), at(&made(), &state)).await.expect("opens with the newer keyring");
    let rolled_back: Arc<dyn Store> = Arc::new(before);
    let refused = Repository::open(rolled_back.clone(), &passphrase(), at(&made(), &state)).await;
    assert!(matches!(refused, Err(OpenError::RolledBack { .. })), "{refused:?}");
    Repository::open(rolled_back, &passphrase(), at(&made(), &made())).await.expect("who never saw it cannot know");
}

#[test]
fn the_verbs_tell_what_they_passed_over_and_refuse_what_they_know() {
    let desk = Desk::with_repository();
    let first = desk.backup()["snapshot"].as_str().expect("made").to_owned();
    let summary = desk.backup();
    let second = summary["snapshot"].as_str().expect("made").to_owned();
    assert_eq!(summary["number"], 1);
    let latest = format!("latest:{}/a.txt", desk.at("source").display());
    let snapshots = desk.at("repository").join(ObjectKind::Snapshot.prefix().trim_end_matches('/'));
    let verbs: [&[&str]; 5] = [
        &["-q", "dump", &latest],
        &["-q", "ls", "latest"],
        &["-q", "restore", "latest", "--target", "out"],
        &["-q", "diff", &first, "latest"],
        &["-q", "find", "a.txt", "--snapshot", "latest"],
    ];
    let now = Clock::System.now();
    let planted = snapshots.join(SnapshotId::new(Timestamp::from_seconds(now.seconds + 60), [0xee; 8]).object_name());
    fs::write(&planted, "rubbish").expect("written");
    for arguments in verbs {
        let run = desk.run(arguments);
        assert_eq!(run.code, 0, "{arguments:?}: {run:?}");
        assert!(
            run.err.starts_with("snapshot eeeeeeee: of ") && run.err.contains(&second[..8]),
            "{arguments:?}: {run:?}"
        );
        let _ = fs::remove_dir_all(desk.at("out"));
    }
    fs::remove_file(&planted).expect("removed");

    let mut stored = fs::read_dir(&snapshots).expect("there").map(|item| item.expect("there").path());
    let newest = stored.find(|path| path.display().to_string().ends_with(&second)).expect("there");
    let real = fs::read(&newest).expect("readable");
    fs::remove_file(&newest).expect("removed");
    for arguments in verbs {
        let run = desk.run(arguments);
        assert_eq!(run.code, 4, "{arguments:?}: {run:?}");
        let words = ["the latest is snapshot", &second[..8], "number 1 of host host1", "not in the store", &first];
        assert!(words.iter().all(|words| run.err.contains(words)), "{arguments:?}: {run:?}");
    }
    for verb in ["snapshots", "verify"] {
        let run = desk.run(&[verb]);
        assert_eq!(run.code, 4, "{run:?}");
        let text = run.out.clone() + &run.err;
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(&second[..8]) && text.contains("number 1 of host host1"), "{verb}: {text}");
    }
    let run = desk.run(&["backup", "source"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.out.contains(&format!("suspicious snapshot {}: is not in the store", &second[..8])), "{run:?}");
    let run = desk.run(&["verify"]);
    assert!(run.code == 4 && run.out.contains("number 1 of host host1"), "the next one tells from then on: {run:?}");
    fs::write(&newest, real).expect("written");
    assert_eq!(desk.run(&["verify"]).code, 0);
}
