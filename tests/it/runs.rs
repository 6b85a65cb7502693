//! Records of runs: who may put which, what readers make of them, and what harms nothing.

use std::sync::Arc;

use coffre::format::evidence::encode_run;
use coffre::model::id::WriterId;
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::outcome::{Ended, Outcome};
use coffre::model::run::{RUN_STAYS_DAYS, RunId, RunKind, RunRecord, count};
use coffre::model::time::{Clock, Timestamp};
use coffre::ops::Cancel;
use coffre::ops::prune::{PruneOptions, prune};
use coffre::ops::status::last_done;
use coffre::progress::Collected;
use coffre::repository::runs::RunLog;
use coffre::repository::writers::SlotPlace;
use coffre::repository::{MAIN_DOMAIN, Repository};

use crate::support::{Bench, open};
use crate::writers::{add, new, open_as};

const DAY: i64 = 86_400;
const NOW: Timestamp = Timestamp::from_seconds(1_795_000_000);

fn days_ago(days: i64) -> Timestamp {
    Timestamp::from_seconds(NOW.seconds - days * DAY)
}

/// A run that ended so many days ago.
fn run(kind: RunKind, days: i64, host: &str, outcome: Outcome) -> RunRecord {
    let ended = days_ago(days);
    RunRecord::new(kind, (Timestamp::from_seconds(ended.seconds - 60), ended), host.into(), outcome)
}

async fn note(repository: &Arc<Repository>, record: RunRecord) {
    repository.writing().expect("may write").note_run(record).await.expect("noted");
}

async fn all(repository: &Arc<Repository>) -> RunLog {
    repository.reading().expect("a reader").runs(NOW, Timestamp::from_seconds(0)).await.expect("read")
}

async fn fresh(bench: &Bench) -> Arc<Repository> {
    let cache = tempfile::tempdir().expect("made");
    open(bench.store(), cache.path()).await.expect("opens")
}

async fn names(bench: &Bench) -> Vec<ObjectKey> {
    let listed = bench.store().list(ObjectKind::Evidence.prefix()).await.expect("listed");
    listed.into_iter().map(|object| object.key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_come_back_the_newest_first_and_each_names_the_one_before() {
    let bench = Bench::new().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let mut verified = run(RunKind::Verify, 3, "keeper", Outcome::Damaged);
    verified.counts = [(count::BYTES_READ.to_owned(), 12), ("something-new".to_owned(), 1)].into();
    (verified.exit_code, verified.program) = (4, "coffre 9".into());
    note(&repository, verified.clone()).await;
    let mut failed = run(RunKind::Backup, 2, "db1", Outcome::FailedDump);
    failed.job = "nightly".into();
    failed.failed_by("pg_dump ended with status 1");
    note(&repository, failed.clone()).await;
    note(&repository, run(RunKind::Other("drill".into()), 1, "keeper", Outcome::Clean)).await;

    let log = all(&fresh(&bench).await).await;
    assert_eq!((log.odd, log.is_cut_off), (Vec::new(), false));
    let [drill, second, first] = &log.runs[..] else { panic!("{:?}", log.runs) };
    assert_eq!(*first, verified, "the first of this machine has none before it");
    assert_eq!(second.before.map(|(id, _)| id.time()), Some(days_ago(3)));
    assert_eq!(RunRecord { before: None, ..second.clone() }, failed);
    assert_eq!(
        (&drill.kind, drill.before.map(|(id, _)| id.time())),
        (&RunKind::Other("drill".into()), Some(days_ago(2)))
    );
    assert_eq!(log.runs.iter().filter(|it| it.is_done()).count(), 2);

    // Before the time that is asked for, of each kind of work those until one that is done.
    for days in [9, 8, 7] {
        note(&repository, run(RunKind::Prune, days, "keeper", Outcome::Clean)).await;
    }
    note(&repository, run(RunKind::Prune, 6, "keeper", Outcome::Failed)).await;
    let reading = repository.reading().expect("a reader");
    for (since, expected) in
        [(0, &[3_i64, 6, 7][..]), (1, &[1, 3, 6, 7]), (2, &[1, 2, 3, 6, 7]), (8, &[1, 2, 3, 6, 7, 8])]
    {
        let log = reading.runs(NOW, days_ago(since)).await.expect("read");
        let days: Vec<i64> = log.runs.iter().map(|run| (NOW.seconds - run.finished.seconds) / DAY).collect();
        assert_eq!(days, expected, "since {since} days");
    }
}

/// Puts so many records of runs of web1 that ended a day ago, whatever they say.
async fn flood(bench: &Bench, writer: &Arc<Repository>, count: u32) {
    let session = writer.writing().expect("may").begin_session(MAIN_DOMAIN).expect("a key");
    for number in 0..count {
        let kind = if number % 2 == 0 { RunKind::Backup } else { RunKind::Prune };
        let record = run(kind, 1, "web1", Outcome::Clean);
        let [a, b, c, d] = number.to_be_bytes();
        let id = RunId::new(record.finished, [a, b, c, d, 0, 0, 0, 0]);
        let object = session.seal_run(id, &record);
        bench.store().put(&ObjectKey::run(id), object.into()).await.expect("put");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_records_others_put_work_stays_done() {
    let bench = Bench::new().await;
    let keeper = fresh(&bench).await;
    add(&keeper, &new("web", &["web1"]), SlotPlace::Repository).await.expect("added");
    for (kind, days, outcome) in [
        (RunKind::Prune, 50, Outcome::Clean),
        (RunKind::Prune, 40, Outcome::Clean),
        (RunKind::Verify, 30, Outcome::Damaged),
        (RunKind::Prune, 20, Outcome::Incomplete),
        (RunKind::Forget, 10, Outcome::Failed),
    ] {
        note(&keeper, run(kind, days, "keeper", outcome)).await;
    }
    let cache = tempfile::tempdir().expect("made");
    let web = open_as("web", bench.store(), cache.path()).await;
    flood(&bench, &web, 1_100).await;

    let reading = fresh(&bench).await.reading().expect("a reader");
    let expected =
        [(RunKind::Forget, None), (RunKind::Prune, Some(days_ago(40))), (RunKind::Verify, Some(days_ago(30)))];
    let last = last_done(&reading, NOW).await.expect("told");
    let finished = last.into_iter().map(|(kind, run)| (kind, run.map(|run| run.finished)));
    assert_eq!(finished.collect::<Vec<_>>(), expected);
    // Whoever asks what is due opens none of the others.
    let due = reading.runs(NOW, NOW).await.expect("read");
    assert_eq!((due.runs.len(), due.odd.len(), due.is_cut_off), (4, 0, false), "{:?}", due.odd);

    let log = reading.runs(NOW, days_ago(35)).await.expect("read");
    assert!(log.is_cut_off);
    // Half of those that were looked at say that a writer has cleaned up.
    assert_eq!((log.runs.len(), log.odd.len()), (512 + 4, 512));
    assert!(log.odd.iter().all(|(_, why)| why.contains("writers cannot do what it says")), "{:?}", log.odd);
    assert_eq!(log.last_done(&RunKind::Prune).map(|run| run.finished), Some(days_ago(40)));
    let newest = log.runs.iter().find(|run| run.kind == RunKind::Prune);
    assert_eq!(newest.map(|run| run.finished), Some(days_ago(20)), "that one waited for backups");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_work_counts_under_its_own_name_alone() {
    let bench = Bench::new().await;
    let keeper = fresh(&bench).await;
    note(&keeper, run(RunKind::Prune, 3, "keeper", Outcome::Clean)).await;
    let session = keeper.writing().expect("may").begin_session(MAIN_DOMAIN).expect("a key");
    let put = async |id: RunId, record: &RunRecord| {
        let object = session.seal_run(id, record);
        bench.store().put(&ObjectKey::run(id), object.into()).await.expect("put");
    };
    // By a reader, without a mark; by a reader, with that of other work.
    let unmarked = run(RunKind::Prune, 2, "keeper", Outcome::Clean);
    put(RunId::new(unmarked.finished, [7; 8]), &unmarked).await;
    let marked = names(&bench).await.iter().find_map(|key| key.run_id().filter(|id| id.time() == days_ago(3)));
    let other = run(RunKind::Verify, 3, "keeper", Outcome::Clean);
    put(marked.expect("noted above"), &other).await;
    let log = all(&fresh(&bench).await).await;
    assert_eq!((log.runs.len(), log.odd.len()), (0, 2), "{log:?}");
    assert!(log.odd.iter().all(|(_, why)| why.contains("lacks the mark")), "{:?}", log.odd);
    // A backup needs none.
    let backup = run(RunKind::Backup, 1, "keeper", Outcome::Failed);
    put(RunId::new(backup.finished, [7; 8]), &backup).await;
    assert_eq!(all(&fresh(&bench).await).await.runs.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_reads_nothing_puts_records_of_its_backups_and_no_others_count() {
    let bench = Bench::new().await;
    let reader = fresh(&bench).await;
    for (name, hosts) in [("web", &["web1"][..]), ("any", &[])] {
        add(&reader, &new(name, hosts), SlotPlace::Repository).await.expect("added");
    }
    let cache = tempfile::tempdir().expect("made");
    let web = open_as("web", bench.store(), &cache.path().join("web")).await;
    let any = open_as("any", bench.store(), &cache.path().join("any")).await;
    assert!(web.reading().is_err(), "it reads none");
    note(&web, run(RunKind::Backup, 1, "web1", Outcome::Failed)).await;
    note(&any, run(RunKind::Backup, 1, "db7", Outcome::Failed)).await;
    assert_eq!(all(&fresh(&bench).await).await.runs.len(), 2);
    // In the name of another host, and of what it cannot do.
    note(&web, run(RunKind::Backup, 0, "db7", Outcome::Failed)).await;
    for kind in RunKind::OF_READERS {
        note(&web, run(kind, 0, "web1", Outcome::Clean)).await;
    }
    note(&web, run(RunKind::Other("drill".into()), 0, "web1", Outcome::Clean)).await;
    let log = all(&fresh(&bench).await).await;
    assert_eq!((log.runs.len(), log.odd.len()), (2, 5), "{:?}", log.odd);
    assert!(log.odd.iter().all(|(_, why)| why.starts_with("it does not count")), "{:?}", log.odd);
    assert!(RunKind::OF_READERS.iter().all(|kind| log.last_done(kind).is_none()));

    // One that is thrown out says nothing any more.
    let reader = fresh(&bench).await;
    let id: WriterId = reader.keys().writers()[0].id;
    reader.revoke_writer(id, coffre::repository::revoking::StillCounting::All, NOW).await.expect("revoked");
    let log = all(&fresh(&bench).await).await;
    assert_eq!(log.runs.len() + log.odd.len(), 7);
    assert_eq!(log.runs.len(), 1, "{:?}", log.odd);
}

/// Puts something where a record would be, and returns what is told of it.
async fn planted(bench: &Bench, id: RunId, object: Vec<u8>) -> String {
    let bench = bench.fork();
    bench.store().put(&ObjectKey::run(id), object.into()).await.expect("put");
    let log = all(&fresh(&bench).await).await;
    assert_eq!(log.runs.len(), 1, "the honest one is still there");
    log.odd.into_iter().map(|(key, why)| format!("{key}: {why}")).collect::<Vec<_>>().join("; ")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_planted_is_told_and_hinders_nothing() {
    let bench = Bench::new().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    note(&repository, run(RunKind::Verify, 5, "keeper", Outcome::Clean)).await;
    let honest = names(&bench).await.remove(0);
    let object = bench.store().get(&honest).await.expect("there").to_vec();
    let id = |days, byte| RunId::new(days_ago(days), [byte; 8]);
    let told = |days, byte, object: Vec<u8>| planted(&bench, id(days, byte), object);

    assert!(told(1, 1, b"rubbish".to_vec()).await.contains("a record of a run"));
    assert!(told(1, 2, Vec::new()).await.contains("evidence/"));
    assert!(told(1, 3, object.clone()).await.contains("is not valid"), "under another name");
    assert!(told(1, 4, vec![0; (64 << 10) + 1]).await.contains("evidence/"), "too long");
    let mut flipped = object.clone();
    *flipped.last_mut().expect("some") ^= 1;
    assert!(told(1, 5, flipped).await.contains("is not valid"));
    // Dated ahead it would be the newest for ever: it is passed over, whatever is in it.
    assert!(told(-4000, 6, object.clone()).await.contains("dated ahead"));
    // A name of another form is nobody's record.
    let other = bench.fork();
    other.store().put(&ObjectKey::from_listed("evidence/.DS_Store"), "x".into()).await.expect("put");
    assert_eq!(all(&fresh(&other).await).await.odd, Vec::new());

    // Values that whoever may write can seal: maps that count too far, texts that are none.
    let session = repository.writing().expect("may").begin_session(MAIN_DOMAIN).expect("a key");
    let sealed = |byte: u8, value: &[u8]| session.seal_forged_run(id(1, byte), value);
    let whole = encode_run(&run(RunKind::Prune, 1, "keeper", Outcome::Clean));
    for (byte, value) in [
        (10, vec![0xbb, 0x40, 0, 0, 0, 0, 0, 0, 0]),
        (11, vec![0xa1, 0x0a, 0xbb, 0x40, 0, 0, 0, 0, 0, 0, 0]),
        (12, vec![0xa1, 0x00, 0x62, 0xff, 0xff]),
        (13, vec![0x81; 40_000]),
        (14, whole[..whole.len() - 1].to_vec()),
        (15, encode_run(&run(RunKind::Prune, 0, "keeper", Outcome::Clean))),
    ] {
        let told = planted(&bench, id(1, byte), sealed(byte, &value)).await;
        assert!(told.contains("a record of a run is not valid"), "{byte}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_named_is_missed_until_it_is_old() {
    let bench = Bench::new().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    for days in [RUN_STAYS_DAYS + 1, 20, 10, 5] {
        note(&repository, run(RunKind::Prune, days, "keeper", Outcome::Clean)).await;
    }
    let all_names = names(&bench).await;
    let options = PruneOptions { clock: Clock::Fixed(NOW), ..PruneOptions::default() };
    let pruned = prune(repository.clone(), options, Arc::new(Collected::default()), Cancel::default()).await;
    assert_eq!(pruned.expect("pruned").outcome(), Outcome::Clean);
    assert_eq!(names(&bench).await, all_names[1..]);
    assert_eq!(all(&repository).await.odd, Vec::new(), "that one may be gone");
    for (hidden, by_others) in [(2, 1), (3, 0)] {
        let bench = bench.fork();
        bench.store().delete(&all_names[hidden]).await.expect("deleted");
        // The machine that put the last one knows of it as well; another one learns it from the one behind.
        let another = tempfile::tempdir().expect("made");
        for (cache, count) in [(bench.cache.path(), by_others), (another.path(), by_others)] {
            let odd = all(&open(bench.store(), cache).await.expect("opens")).await.odd;
            assert_eq!(odd.len(), count, "{odd:?}");
            assert!(odd.iter().all(|(key, why)| *key == all_names[hidden] && why.contains("not any more")));
        }
    }
    bench.store().delete(&all_names[3]).await.expect("deleted");
    let odd = all(&repository).await.odd;
    assert_eq!(odd.iter().map(|(key, _)| key).collect::<Vec<_>>(), [&all_names[3]], "it remembers what it put");
}
