//! Backups into a repository in memory, read back.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use coffre::model::cleanup::CleanupList;
use coffre::model::entry::EntryKind;
use coffre::model::key::{ObjectKey, ObjectKind};
use coffre::model::outcome::{Ended, Outcome};
use coffre::model::time::{Clock, Timestamp};
use coffre::ops::Cancel;
use coffre::ops::backup::{BackupError, ParentChoice, backup};
use coffre::ops::verify::ReadData;
use coffre::progress::Collected;
use coffre::repository::choose::SnapshotFilter;
use coffre::repository::newest_first::NewestFirst;
use coffre::source::SourceError;
use coffre::source::given::Given;
use coffre::store::layer::Operation;
use coffre::store::layer::record::RecordStore;

use crate::cleanups::put_list;
use crate::support::at_phase::vandal;
use crate::support::{
    Bench, Failure, command, contents, open, options, options_at, random_bytes, read_back, run_backup,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_comes_back_byte_for_byte_and_verifies() {
    let bench = Bench::new().await;
    let (snapshot, before) = bench.snapshot().await;
    assert_eq!(bench.read(&snapshot).await, Ok(before));
    let report = bench.verify(ReadData::All).await;
    assert_eq!(report.findings, []);
    assert_eq!(report.packs, report.packs_read);
    assert!(report.packs >= 3, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_data_is_stored_once() {
    let bench = Bench::new().await;
    let report = bench.backup().await;
    // `large` and `copy` are equal: 3 MB of 6.
    assert!(report.counts.new_bytes < report.counts.bytes - 2_900_000, "{:?}", report.counts);
}

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_files_are_not_read_again_and_changed_ones_are() {
    let bench = Bench::new().await;
    let first = bench.backup().await;
    let second = bench.backup().await;
    assert_eq!((second.read_bytes, second.unchanged_files), (0, first.counts.files));
    assert_eq!(second.counts.new_bytes, 0);

    std::fs::write(bench.source.path().join("a/text"), "other text").expect("writable");
    let (third, now) = bench.snapshot().await;
    assert_eq!(bench.read(&third).await, Ok(now));
    assert_eq!(third.counts.new_bytes, 10);
    assert_eq!(third.parent, second.snapshot.map(|snapshot| snapshot.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_local_tree_the_parent_is_read_from_the_repository() {
    let bench = Bench::new().await;
    bench.backup().await;
    let other_cache = tempfile::tempdir().expect("a temporary directory");
    let second = run_backup(bench.store(), other_cache.path(), options(bench.source.path())).await.expect("backed up");
    assert_eq!(second.read_bytes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_changed_without_its_size_or_mtime_is_read_again() {
    let bench = Bench::new().await;
    bench.backup().await;
    let path = bench.source.path().join("a/text");
    let modified = path.metadata().expect("there").modified().expect("known");
    std::fs::write(&path, "SOME TEXT\n".repeat(1000)).expect("writable");
    std::fs::File::options().write(true).open(&path).expect("there").set_modified(modified).expect("may");
    let (snapshot, now) = bench.snapshot().await;
    assert_eq!(bench.read(&snapshot).await, Ok(now));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_files_share_a_snapshot() {
    let bench = Bench::new().await;
    let mut both = options(bench.source.path());
    both.sources = vec![
        command("db/two.sql", &["sh", "-c", "seq 1 200000"]),
        command("db/one.sql", &["sh", "-c", "printf hello"]),
    ];
    let report = run_backup(bench.store(), bench.cache.path(), both.clone()).await.expect("backed up");
    let snapshot = report.snapshot.expect("not a dry run");
    assert_eq!(snapshot.counts.streams, 2);
    let entries = read_back(bench.store(), bench.cache.path(), &snapshot).await.expect("readable");
    let streams: Vec<_> = entries.iter().filter(|(entry, _)| matches!(entry.kind, EntryKind::Stream(..))).collect();
    assert_eq!(streams[0].1, b"hello");
    let numbers: String = (1..=200_000).map(|i| format!("{i}\n")).collect();
    assert_eq!(streams[1].1, numbers.as_bytes());

    // A second run reads the streams again, whatever their names.
    both.sources[1] = command("db/one.sql", &["sh", "-c", "printf HELLO"]);
    let report = run_backup(bench.store(), bench.cache.path(), both).await.expect("backed up");
    let entries =
        read_back(bench.store(), bench.cache.path(), &report.snapshot.expect("made")).await.expect("readable");
    assert!(entries.iter().any(|(entry, bytes)| entry.path.to_string() == "db/one.sql" && bytes == b"HELLO"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_or_empty_command_makes_no_snapshot() {
    let bench = Bench::new().await;
    for script in ["seq 1 100000; exit 3", "true", "seq 1 100000; kill -9 $$"] {
        let mut stream = options(bench.source.path());
        stream.sources = vec![command("dump", &["sh", "-c", script])];
        let error = run_backup(bench.store(), bench.cache.path(), stream).await.expect_err("the command failed");
        assert!(matches!(error, Failure::Backup(BackupError::Stream { .. })), "{script}: {error:?}");
    }
    assert_eq!(bench.store().list(ObjectKind::Snapshot.prefix()).await.expect("listed"), []);
    assert_eq!(bench.verify(ReadData::All).await.findings, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_may_not_have_the_path_of_a_file() {
    let bench = Bench::new().await;
    let mut both = options(bench.source.path());
    both.sources = vec![command(&format!("{}/a", bench.source.path().display()), &["echo", "x"])];
    let error = run_backup(bench.store(), bench.cache.path(), both).await.expect_err("the name is taken");
    assert!(matches!(error, Failure::Backup(BackupError::StreamName { .. })), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_stores_nothing_and_counts_all() {
    let bench = Bench::new().await;
    let before = bench.memory.totals();
    let dry = {
        let mut dry = options(bench.source.path());
        dry.dry_run = true;
        dry
    };
    let report = run_backup(bench.store(), bench.cache.path(), dry).await.expect("it runs");
    assert!(report.snapshot.is_none() && report.counts.files == 44 && report.counts.new_bytes > 3_000_000);
    assert_eq!(bench.memory.totals(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_run_leaves_chunks_for_the_next_and_no_snapshot() {
    let bench = Bench::new().await;
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let cancel = Cancel::default();
    cancel.cancel();
    let monitor = Arc::new(Collected::default());
    let error = backup(repository, options(bench.source.path()), monitor, cancel).await.expect_err("cancelled");
    assert!(matches!(error, BackupError::Cancelled), "{error:?}");
    assert_eq!(bench.store().list(ObjectKind::Snapshot.prefix()).await.expect("listed"), []);
    assert_eq!(bench.store().list(ObjectKind::Session.prefix()).await.expect("listed"), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_back_up_at_once() {
    let bench = Bench::new().await;
    let other_cache = tempfile::tempdir().expect("a temporary directory");
    let mut other = options(bench.source.path());
    other.host = "other".into();
    let (one, two) = tokio::join!(
        run_backup(bench.store(), bench.cache.path(), options(bench.source.path())),
        run_backup(bench.store(), other_cache.path(), other),
    );
    for report in [one, two] {
        let snapshot = report.expect("backed up").snapshot.expect("made");
        assert_eq!(bench.read(&snapshot).await, Ok(crate::support::files_in(bench.source.path())));
    }
    assert_eq!(bench.verify(ReadData::All).await.findings, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_backup_takes_a_known_number_of_requests() {
    let bench = Bench::new().await;
    bench.backup().await;
    let recorded = RecordStore::new(bench.store());
    let recorded = Arc::new(recorded);
    std::fs::write(bench.source.path().join("a/text"), "changed").expect("writable");
    run_backup(recorded.clone(), bench.cache.path(), options(bench.source.path())).await.expect("backed up");
    // Lists: keys, config, keyring, index, cleanup, packs, snapshots, cleanup, retention, cleanup, packs, cleanup. Gets: one key
    // slot, configuration, keyring. Puts: lease, one data and one tree pack, segment, snapshot. One delete: the lease.
    assert_eq!(recorded.count(Operation::List), 12, "{}", recorded.summary());
    assert_eq!(recorded.count(Operation::Get), 3, "{}", recorded.summary());
    assert_eq!(recorded.count(Operation::Put), 5, "{}", recorded.summary());
    assert_eq!(recorded.count(Operation::Delete), 1, "{}", recorded.summary());
}

#[tokio::test(flavor = "multi_thread")]
async fn hardlinks_and_holes_are_kept() {
    let bench = Bench::new().await;
    let at = |name: &str| bench.source.path().join(name);
    std::fs::hard_link(at("a/text"), at("a/text-again")).expect("linked");
    let sparse = std::fs::File::create(at("a/sparse")).expect("writable");
    sparse.set_len(10 << 20).expect("sized");
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"in the middle", 5 << 20).expect("written");
    let (snapshot, before) = bench.snapshot().await;
    let entries = read_back(bench.store(), bench.cache.path(), &snapshot).await.expect("readable");
    assert_eq!(crate::support::contents(bench.source.path(), &entries), before);
    let find = |name: &str| {
        let found = entries.iter().find(|(entry, _)| entry.path.name() == name.as_bytes());
        found.expect("in the snapshot").0.clone()
    };
    assert_eq!(find("text").metadata.inode, find("text-again").metadata.inode);
    assert_eq!(find("text").metadata.links, 2);
    let blocks = at("a/sparse").metadata().expect("there").blocks();
    if blocks * 512 < 10 << 20 {
        assert!(!find("sparse").content().expect("a file").holes.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_can_be_chosen_or_refused() {
    let bench = Bench::new().await;
    let first = bench.backup().await.snapshot.expect("made");
    let mut choose = options(bench.source.path());
    choose.parent = ParentChoice::None;
    let all = run_backup(bench.store(), bench.cache.path(), choose.clone()).await.expect("backed up");
    assert_eq!((all.unchanged_files, all.counts.new_bytes), (0, 0));
    choose.parent = ParentChoice::Snapshot(first.id.to_string());
    let chosen = run_backup(bench.store(), bench.cache.path(), choose).await.expect("backed up");
    assert_eq!(chosen.read_bytes, 0);
    assert_eq!(chosen.snapshot.expect("made").parent, Some(first.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_packs_vanish_under_it_is_made_anew() {
    for (deletions, succeeds) in [(1, true), (3, false)] {
        let bench = Bench::new().await;
        for name in ["a/one", "a/two", "a/three"] {
            std::fs::write(bench.source.path().join(name), name).expect("writable");
            bench.backup().await;
        }
        // Of the data, all of which the next backup relies on; of the trees it stores its own.
        let mut packs = bench.data_packs().await;
        packs.truncate(deletions);
        let vandal = vandal(&bench.memory, packs.into_iter().map(|pack| vec![pack]).collect());
        std::fs::write(bench.source.path().join("a/four"), "new").expect("writable");
        let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
        let outcome = backup(repository, options(bench.source.path()), vandal.clone(), Cancel::default()).await;
        let problems = vandal.heard.problems();
        assert!(problems.iter().all(|problem| problem.message.contains("starts again")), "{problems:?}");
        if succeeds {
            let snapshot = outcome.expect("the second attempt succeeds").snapshot.expect("made");
            assert_eq!(problems.len(), 1);
            assert_eq!(bench.read(&snapshot).await, Ok(crate::support::files_in(bench.source.path())));
        } else {
            let error = outcome.expect_err("something vanishes every time");
            assert!(matches!(error, BackupError::Vanished { packs: 1 }), "{error:?}");
            assert_eq!(bench.store().list(ObjectKind::Snapshot.prefix()).await.expect("listed").len(), 3);
        }
        assert_eq!(bench.store().list(ObjectKind::Session.prefix()).await.expect("listed"), []);
    }
}

/// What can be read but once is not asked for again: it is there, or how much of it is lost is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_cannot_be_read_again_is_taken_over_or_its_loss_is_told() {
    // Enough for a list of chunks with nodes of its own.
    for (size, is_lost, keep_partial) in
        [(2 << 20, false, false), (200, false, false), (2 << 20, true, false), (200, true, true)]
    {
        let bench = Bench::new().await;
        let (stream, file) = (random_bytes(50, size), random_bytes(51, 50_000));
        let with_stream = |name: &str, keep_partial| {
            let mut options = options(bench.source.path());
            options.sources = vec![Arc::new(Given::reader(name, std::io::Cursor::new(stream.clone())))];
            options.stream_options.keep_partial = keep_partial;
            options
        };
        std::fs::write(bench.source.path().join("a/later"), &file).expect("writable");
        // What vanishes has the file, or what the stream shares with an earlier one.
        match is_lost {
            false => drop(bench.backup().await),
            true => {
                let mut before = with_stream("before", false);
                before.files = None;
                run_backup(bench.store(), bench.cache.path(), before).await.expect("backed up");
            }
        }
        let mut packs = bench.data_packs().await;
        packs.truncate(1);
        let vandal = vandal(&bench.memory, vec![packs]);
        let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
        let outcome = backup(repository, with_stream("once", keep_partial), vandal.clone(), Cancel::default()).await;
        let case = (size, is_lost, keep_partial);
        let snapshot = match (is_lost, keep_partial, outcome) {
            (false, _, outcome) => outcome.expect("nothing of it was lost").snapshot.expect("made"),
            (true, true, outcome) => {
                let report = outcome.expect("the files are kept");
                assert_eq!(report.outcome(), Outcome::FailedDump, "{case:?}");
                let [missing] = &report.missing[..] else { panic!("{:?}", report.missing) };
                assert!(
                    missing.name == "once" && missing.why().starts_with("200 B that once gave were in packs"),
                    "{missing:?}"
                );
                report.snapshot.expect("made")
            }
            (true, false, outcome) => {
                let error = outcome.expect_err("there is no stream");
                assert_eq!(error.outcome(), Outcome::FailedDump);
                let BackupError::Stream { source: SourceError::Lost { bytes, lost_bytes, .. }, .. } = error else {
                    panic!("{error:?}")
                };
                // The list of chunks may have been in what vanished.
                assert!(
                    bytes == size as u64 && lost_bytes.is_none_or(|lost| lost > 0 && lost <= bytes),
                    "{lost_bytes:?}"
                );
                continue;
            }
        };
        let cache = tempfile::tempdir().expect("made");
        let entries = read_back(bench.store(), cache.path(), &snapshot).await.expect("all of it is there");
        let read: Vec<_> = entries.iter().filter(|(entry, _)| entry.path.to_string() == "once").collect();
        assert_eq!(read.len(), usize::from(!is_lost), "{case:?}");
        assert!(read.iter().all(|(_, content)| *content == stream), "{case:?}");
        let names = crate::support::files_in(bench.source.path());
        assert_eq!(contents(bench.source.path(), &entries), names, "{case:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_new_relies_on_packs_that_are_to_be_deleted() {
    let bench = Bench::new().await;
    bench.backup().await;
    let packs: Vec<_> = bench.store().list(ObjectKind::Pack.prefix()).await.expect("listed");
    let doomed = packs.iter().filter_map(|object| object.key.pack_id()).collect();
    let list = CleanupList { made: Clock::System.now(), packs: doomed, ..CleanupList::default() };
    let id = put_list(&bench, 1, list).await;

    let report = bench.backup().await;
    assert!(report.counts.new_bytes > 3_000_000, "{:?}", report.counts);
    for object in packs {
        bench.store().delete(&object.key).await.expect("deleted");
    }
    let snapshot = report.snapshot.expect("made");
    assert_eq!(bench.read(&snapshot).await, Ok(crate::support::files_in(bench.source.path())));

    // A list that cannot be read is told, and does not stop the backup.
    bench.memory.tamper(&ObjectKey::cleanup(id), |bytes| bytes[40] ^= 1);
    let monitor = Arc::new(Collected::default());
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    backup(repository, options(bench.source.path()), monitor.clone(), Cancel::default()).await.expect("backed up");
    assert_eq!(monitor.problems().len(), 1);
}

/// A file that was changed while the parent's run was about to begin may have been changed again after it was read, within
/// one step of the kernel's clock; only a later look at it is believed.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_had_just_changed_is_read_once_more() {
    let bench = Bench::new().await;
    std::thread::sleep(std::time::Duration::from_millis(25));
    let path = bench.source.path().join("a/text");
    std::fs::write(&path, "just changed").expect("writable");
    let stat = path.metadata().expect("there");
    let at = |nanos: i64| Timestamp {
        seconds: stat.ctime() + (stat.ctime_nsec() + nanos) / 1_000_000_000,
        nanos: ((stat.ctime_nsec() + nanos) % 1_000_000_000) as u32,
    };
    let run = async |started: Timestamp| {
        let at_that_time = options_at(bench.source.path(), Clock::Fixed(started));
        run_backup(bench.store(), bench.cache.path(), at_that_time).await.expect("backed up").read_bytes
    };
    run(at(5_000_000)).await;
    assert_eq!(run(at(15_000_000)).await, "just changed".len() as u64);
    assert_eq!(run(at(20_000_000)).await, 0);
}

/// A fast machine makes several snapshots in a second, and their names tell no more than that.
#[tokio::test(flavor = "multi_thread")]
async fn snapshots_of_the_same_second_come_newest_first_all_the_same() {
    let bench = Bench::new().await;
    let mut made = Vec::new();
    // Ids are random: in one of 720 runs they would come in this order by chance.
    for nanos in [3, 1, 5, 2, 6, 4] {
        let clock = Clock::Fixed(Timestamp { seconds: 1_800_000_100, nanos });
        let options = options_at(bench.source.path(), clock);
        let report = run_backup(bench.store(), bench.cache.path(), options).await.expect("backed up");
        made.push((nanos, report.snapshot.expect("made").id));
    }
    made.sort();
    made.reverse();
    let repository = open(bench.store(), bench.cache.path()).await.expect("opens");
    let mut newest = NewestFirst::of(&repository, repository.snapshot_ids().await.expect("listed"));
    for (nanos, id) in &made {
        let (next, snapshot) = newest.next().await.expect("one more");
        assert_eq!((next, snapshot.expect("sound").started.nanos), (*id, *nanos));
    }
    assert!(newest.next().await.is_none());
    let latest = repository.find_snapshot("latest", &SnapshotFilter::default()).await.expect("found");
    assert_eq!(latest.id, made[0].1);
}
