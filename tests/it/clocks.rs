//! Clocks that were wrong once: what is `latest` then, and who says so.

use std::fs;
use std::sync::Arc;

use coffre::crypto::secret::Passphrase;
use coffre::model::time::{Clock, Timestamp};
use coffre::ops::Cancel;
use coffre::ops::backup::{BackupReport, backup};
use coffre::progress::Collected;
use coffre::repository::Repository;
use coffre::store::local::LocalStore;
use coffre::store::{OpenMode, Store};

use crate::support::desk::{Desk, PASSWORD};
use crate::support::{Bench, options_at, run_backup};

const YEAR: i64 = 365 * 86_400;

/// Backs the desk's source up as a host would whose clock differs by `seconds`.
async fn backup_at(desk: &Desk, seconds: i64) -> String {
    let store: Arc<dyn Store> = Arc::new(LocalStore::open(&desk.at("repository"), OpenMode::Write).expect("opens"));
    let cache = desk.at("other-cache");
    let repository = Repository::open(store, &Passphrase::new(PASSWORD.into()), &cache).await.expect("opens");
    let now = Clock::System.now();
    let clock = Clock::Fixed(Timestamp { seconds: now.seconds + seconds, ..now });
    let options = options_at(&desk.at("source"), clock);
    let report = backup(Arc::new(repository), options, Arc::new(Collected::default()), Cancel::default()).await;
    report.expect("backed up").snapshot.expect("made").id.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_dated_ahead_is_told_and_is_not_the_latest() {
    let desk = Desk::with_repository();
    fs::write(desk.at("source/a.txt"), "old").expect("written");
    let ahead = backup_at(&desk, 5 * YEAR).await;
    let latest = format!("latest:{}/a.txt", desk.at("source").display());

    let run = desk.run(&["-q", "dump", &latest]);
    assert_eq!((run.code, run.out.as_str()), (0, "old"), "there is no other");
    assert!(run.err.starts_with(&format!("snapshot {}: is dated 203", &ahead[..8])), "{run:?}");
    assert!(run.err.contains("is that clock right?"), "{run:?}");

    fs::write(desk.at("source/a.txt"), "new").expect("written");
    let run = desk.run(&["-q", "backup", "source"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.err.contains("ahead of this machine's clock") && run.err.contains(&ahead[..8]), "{run:?}");

    let verbs: [&[&str]; 5] = [
        &["-q", "dump", &latest],
        &["-q", "ls", "latest"],
        &["-q", "restore", "latest", "--target", "out"],
        &["-q", "diff", &ahead, "latest"],
        &["-q", "find", "a.txt", "--snapshot", "latest"],
    ];
    for arguments in verbs {
        let run = desk.run(arguments);
        assert_eq!(run.code, 0, "{arguments:?}: {run:?}");
        assert!(run.err.contains("`latest` passes it over and is "), "{arguments:?}: {run:?}");
    }
    assert_eq!(desk.run(&["-q", "dump", &latest]).out, "new");
    let restored = desk.at("out").join(desk.at("source").strip_prefix("/").expect("absolute")).join("a.txt");
    assert_eq!(fs::read_to_string(restored).expect("restored"), "new");
    let meant = desk.run(&["-q", "dump", &latest.replace("latest", &ahead)]);
    assert_eq!((meant.out.as_str(), meant.err.as_str()), ("old", ""), "who writes an id means it");

    let listed = desk.run(&["-q", "--json", "snapshots"]);
    let marks = |mark| listed.out.lines().filter(|line| line.contains(mark)).count();
    assert_eq!((marks("\"ahead\":true"), marks("\"ahead\":false")), (1, 1), "{listed:?}");
    assert!(desk.run(&["snapshots"]).out.contains("dated ahead of this machine's clock"));
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_differ_by_minutes_are_nobodys_business() {
    let desk = Desk::with_repository();
    desk.backup();
    backup_at(&desk, 300).await;
    let run = desk.run(&["-q", "backup", "source"]);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    let run = desk.run(&["-q", "ls", "latest"]);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_cannot_be_right_is_suspicious() {
    let bench = Bench::new().await;
    let run = async |at| -> BackupReport {
        let options = options_at(bench.source.path(), Clock::Fixed(at));
        run_backup(bench.store(), bench.cache.path(), options).await.expect("backed up")
    };
    let told = run(Timestamp::from_seconds(10)).await.suspicious;
    assert_eq!(told.len(), 1);
    assert!(told[0].to_string().starts_with("this machine's clock: says 1970-01-01 "), "{told:?}");
    assert_eq!(run(Timestamp::PLAUSIBLE).await.suspicious, []);
}
