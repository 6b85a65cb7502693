//! What a restore says is there is there: files that could not be written do not count, do not get their names, and leave
//! nothing behind.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use coffre::ops::Cancel;
use coffre::ops::restore::{RestoreError, RestoreOptions, restore};
use coffre::progress::{Collected, Counter, Monitor, Problem, Totals};
use coffre::sink::target::TargetOptions;
use coffre::store::StoreErrorKind;
use coffre::store::layer::Operation;
use coffre::store::layer::fault::{Fault, FaultStore};

use crate::support::desk::Desk;
use crate::support::mount::{Immutable, Mount};
use crate::support::place::{Place, assert_same};
use crate::support::{files_in, open, random_bytes};

/// The names in a tree that begin as those of unfinished files do.
fn unfinished(root: &Path) -> Vec<String> {
    files_in(root).into_keys().filter(|name| name.contains(".coffre-restore-")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_into_a_full_disk_counts_what_is_there() {
    let place = Place::new().await;
    for i in 0..40 {
        place.plant(&format!("d{}/f{i:02}", i % 4), random_bytes(i, 200_000 + 1000 * i as usize));
    }
    let snapshot = place.backup().await;
    let Some(_mount) = Mount::tmpfs(&place.target(), 3000) else { return };
    fs::create_dir(place.target().join("d3")).expect("made");
    fs::write(place.target().join("d3/f39"), "old and whole").expect("written");
    let (report, problems) = place.restore(place.options(&snapshot)).await;
    let there = files_in(&place.target());
    let wanted = files_in(&place.source());
    let whole = there.iter().filter(|(name, content)| wanted.get(*name) == Some(content)).count() as u64;
    assert_eq!(report.written_files, whole, "{report:?}");
    assert_eq!(report.files_there() + report.failed_files, 40, "{report:?}");
    assert!(whole > 0 && report.no_room_files == report.failed_files && report.failed_files > 0, "{report:?}");
    assert_eq!(problems.len(), 1, "one is told, the others are counted: {problems:?}");
    assert!(problems[0].message.contains("No space left"), "{problems:?}");
    assert_eq!(unfinished(&place.target()), Vec::<String>::new());
    let old = there.get("d3/f39").expect("it is there");
    assert!(old == b"old and whole" || Some(old) == wanted.get("d3/f39"), "the old file or the new");
    let bytes: usize =
        there.iter().filter(|(name, content)| wanted.get(*name) == Some(content)).map(|f| f.1.len()).sum();
    assert_eq!(report.written_bytes, bytes as u64);

    // With room it goes on from there.
    _mount.remount("size=100m");
    let (again, problems) = place.restore(place.options(&snapshot)).await;
    assert_eq!((again.unchanged_files, again.failed_files, problems), (whole, 0, vec![]));
    assert_same(&place.source(), &place.target());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_met_a_write_error_never_gets_its_name() {
    let place = Place::new().await;
    // The end of the file is zeros, which are not written, and so meet no error.
    place.plant("db", [random_bytes(1, 3_000_000), vec![0; 1_000_000]].concat());
    fs::hard_link(place.source().join("db"), place.source().join("other name")).expect("linked");
    let snapshot = place.backup().await;
    let Some(_mount) = Mount::tmpfs(&place.target(), 1000) else { return };
    fs::write(place.target().join("db"), "old and whole").expect("written");
    let sparse = TargetOptions { sparse: true, ..TargetOptions::default() };
    let options = RestoreOptions { target_options: sparse, ..place.options(&snapshot) };
    let (report, problems) = place.restore(options).await;
    assert_eq!(place.restored("db"), b"old and whole");
    assert_eq!((report.files_there(), report.failed_files, report.written_bytes), (0, 2, 0), "{report:?}");
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(files_in(&place.target()).len(), 1, "nothing else is left, and nothing is linked to the old file");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_counts_in_a_target_that_is_read_only() {
    let place = Place::new().await;
    place.plant("a", "content");
    place.plant("sub/b", "content");
    std::os::unix::fs::symlink("a", place.source().join("link")).expect("linked");
    let snapshot = place.backup().await;
    let Some(mount) = Mount::tmpfs(&place.target(), 1000) else { return };
    mount.remount("ro");
    let (report, problems) = place.restore(place.options(&snapshot)).await;
    assert_eq!((report.files_there(), report.failed_files, report.written_bytes), (0, 2, 0), "{report:?}");
    assert_eq!(report.others, 1, "the target itself: {report:?}");
    assert!(problems.iter().all(|problem| problem.message.contains("Read-only")), "{problems:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_may_not_be_replaced_stays_and_nothing_is_linked_to_it() {
    let place = Place::new().await;
    place.plant("a", "new content");
    fs::hard_link(place.source().join("a"), place.source().join("b")).expect("linked");
    fs::hard_link(place.source().join("a"), place.source().join("c")).expect("linked");
    std::os::unix::fs::symlink("elsewhere", place.source().join("l")).expect("linked");
    let snapshot = place.backup().await;
    fs::create_dir(place.target()).expect("made");
    for name in ["a", "l"] {
        fs::write(place.target().join(name), "old").expect("written");
    }
    let Some(_a) = Immutable::new(&place.target().join("a")) else { return };
    let Some(_l) = Immutable::new(&place.target().join("l")) else { return };
    let (report, problems) = place.restore(place.options(&snapshot)).await;
    assert_eq!([place.restored("a"), place.restored("b")], [b"old".to_vec(), b"new content".to_vec()]);
    assert_eq!(place.restored("c"), b"new content");
    assert_eq!((report.written_files, report.linked_files, report.failed_files), (1, 1, 1), "{report:?}");
    assert_eq!(report.others, 1, "the directory, and not the link: {report:?}");
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert_eq!(files_in(&place.target()).len(), 4, "nothing else is left");
}

/// Ends the restore after so many bytes, and lets a stranger work in the target meanwhile.
struct Meanwhile<F> {
    left: AtomicU64,
    then: F,
}

impl<F: Fn() + Send + Sync> Monitor for Meanwhile<F> {
    fn add(&self, counter: Counter, amount: u64) {
        if counter == Counter::FetchedBytes && self.left.swap(0, Ordering::Relaxed) > 0 && amount > 0 {
            (self.then)();
        }
    }
    fn phase(&self, _: &str) {}
    fn totals(&self, _: Totals) {}
    fn problem(&self, _: Problem) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_ended_leaves_no_unfinished_files() {
    let place = Place::new().await;
    for i in 0..10 {
        place.plant(&format!("f{i}"), random_bytes(i, 900_000));
    }
    let snapshot = place.backup().await;
    let cancel = Cancel::default();
    let asking = cancel.clone();
    let monitor = Arc::new(Meanwhile { left: AtomicU64::new(1), then: move || asking.cancel() });
    let repository = open(place.store(), &place.cache()).await.expect("opened");
    let ended = restore(repository, place.options(&snapshot), monitor, cancel).await;
    assert!(matches!(ended, Err(RestoreError::Cancelled)), "{ended:?}");
    assert_eq!(unfinished(&place.target()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_into_being_while_a_restore_runs_is_not_replaced() {
    let place = Place::new().await;
    for i in 0..10 {
        place.plant(&format!("f{i}"), random_bytes(i, 900_000));
    }
    let snapshot = place.backup().await;
    let theirs = place.target().join("f9");
    let monitor = Arc::new(Meanwhile {
        left: AtomicU64::new(1),
        then: move || {
            fs::create_dir_all(theirs.parent().expect("there")).expect("made");
            fs::write(&theirs, "made meanwhile").expect("written");
        },
    });
    let repository = open(place.store(), &place.cache()).await.expect("opened");
    let report = restore(repository, place.options(&snapshot), monitor, Cancel::default()).await.expect("restored");
    // The index is fetched before the target is looked at: then it was there before, and is replaced.
    if place.restored("f9") == b"made meanwhile" {
        assert_eq!((report.written_files, report.failed_files), (9, 1), "{report:?}");
    } else {
        assert_eq!((report.written_files, report.failed_files), (10, 0), "{report:?}");
    }
    assert_eq!(unfinished(&place.target()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_out_of_reach_ends_the_restore_and_damages_nothing() {
    for kind in [StoreErrorKind::Unavailable, StoreErrorKind::Denied, StoreErrorKind::Other] {
        let place = Place::new().await;
        for i in 0..20 {
            place.plant(&format!("f{i:02}"), random_bytes(i, 700_000));
        }
        let snapshot = place.backup().await;
        // The index is in the cache. Trees come first, and then some of the data.
        let fault = FaultStore::new(place.store());
        for nth in 4..40 {
            fault.plan(Fault::on(Operation::GetRange).matching("packs/").nth(nth).fail_before(kind));
        }
        let fault = Arc::new(fault);
        let repository = open(fault.clone(), &place.cache()).await.expect("opened");
        let monitor = Arc::new(Collected::default());
        let ended = restore(repository, place.options(&snapshot), monitor.clone(), Cancel::default()).await;
        assert!(matches!(ended, Err(RestoreError::Read(_))), "{kind:?}: {ended:?}");
        assert_eq!(monitor.problems(), vec![], "{kind:?}");
        let there = files_in(&place.target());
        assert!(
            there.keys().all(|name| !name.contains(".damaged") && !name.contains(".coffre")),
            "{kind:?}: {there:?}"
        );
        for (name, content) in &there {
            assert!(fs::read(place.source().join(name)).expect("there") == *content, "{kind:?}: {name}");
        }
        fault.forget_plan();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_holes_of_a_terabyte_are_not_read_again() {
    let place = Place::new().await;
    let file = fs::File::create(place.source().join("lastlog")).expect("made");
    if file.set_len(1 << 40).is_err() {
        return crate::support::daemon::skip("a file system with files of a terabyte");
    }
    file.write_all_at(b"somebody was here", 292_000_000).expect("written");
    drop(file);
    let snapshot = place.backup().await;
    for unchanged in [0, 1] {
        let (report, problems) = place.restore(place.options(&snapshot)).await;
        assert_eq!((problems, report.files_there(), report.unchanged_files), (vec![], 1, unchanged));
    }
    let restored = fs::File::options().read(true).write(true).open(place.target().join("lastlog")).expect("there");
    restored.write_all_at(b"x", 1 << 39).expect("written");
    let (report, _) = place.restore(place.options(&snapshot)).await;
    assert_eq!((report.unchanged_files, report.written_files), (0, 1), "what was written into a hole is seen");
}

/// The program with a slow line, restoring into `out`; returns when something is unfinished there.
fn slow_restore(desk: &Desk) -> std::process::Child {
    let mut command = desk.command(&["--limit-download", "300KB", "restore", "latest", "--target", "out"]);
    crate::support::terminal::hears_hang_ups(&mut command);
    let mut restoring = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("runs");
    let begun = Instant::now();
    while !desk.at("out").exists() || unfinished(&desk.at("out")).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(120), "nothing is being restored");
        assert!(restoring.try_wait().expect("asked").is_none(), "it is slow enough to be seen");
        std::thread::sleep(Duration::from_millis(5));
    }
    restoring
}

#[test]
fn a_restore_that_is_told_to_end_or_loses_its_terminal_cleans_up_and_one_that_is_killed_is_cleaned_up_after() {
    let desk = Desk::with_repository();
    for i in 0..6 {
        fs::write(desk.at(&format!("source/large{i}")), random_bytes(i, 2_000_000)).expect("written");
    }
    desk.backup();
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::HUP, rustix::process::Signal::INT] {
        let mut restoring = slow_restore(&desk);
        rustix::process::kill_process(rustix::process::Pid::from_child(&restoring), signal).expect("sent");
        assert_eq!(restoring.wait().expect("ended").code(), Some(130), "{signal:?}");
        assert_eq!(unfinished(&desk.at("out")), Vec::<String>::new(), "{signal:?}");
        fs::remove_dir_all(desk.at("out")).expect("removed");
    }
    let mut killed = slow_restore(&desk);
    killed.kill().expect("sent");
    killed.wait().expect("ended");
    assert!(!unfinished(&desk.at("out")).is_empty());
    let place = desk.at("out").join(desk.at("source").strip_prefix("/").expect("absolute"));
    fs::write(place.join(".coffre-restore-x"), "a user's own").expect("written");
    // The file system's clock may be a step behind.
    std::thread::sleep(Duration::from_millis(50));
    let run = desk.run(&["restore", "latest", "--target", "out"]);
    assert_eq!(run.code, 0, "{run:?}");
    fs::remove_file(place.join(".coffre-restore-x")).expect("it is still there");
    assert_eq!(unfinished(&desk.at("out")), Vec::<String>::new());
    let wanted = files_in(&desk.at("source"));
    assert!(files_in(&place) == wanted);
}

#[test]
fn a_full_target_is_told_in_one_sentence() {
    let desk = Desk::with_repository();
    for i in 0..8 {
        fs::write(desk.at(&format!("source/large{i}")), random_bytes(i, 400_000)).expect("written");
    }
    desk.backup();
    let Some(_mount) = Mount::tmpfs(&desk.at("out"), 1000) else { return };
    let run = desk.run(&["restore", "latest", "--target", "out"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert_eq!(run.err.matches("No space left").count(), 1, "{run:?}");
    let there = files_in(&desk.at("out")).len();
    let sentence = format!("the target is full: {there} of 10 files are there; make room and run it again");
    assert!(run.out.contains(&sentence), "{sentence}: {run:?}");
}
