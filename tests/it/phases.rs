//! What a run says that it is doing: each verb names each of its steps, and counts in it what belongs to it.

use std::sync::{Arc, Mutex};

use coffre::model::time::Timestamp;
use coffre::ops::Cancel;
use coffre::ops::backup::backup;
use coffre::ops::verify::{ReadData, VerifyOptions, verify};
use coffre::progress::{Collected, Counter, Monitor, Problem, Totals};
use coffre::repository::{InitOptions, Repository};
use coffre::store::location::Location;
use coffre::store::{OpenMode, OpenOptions, Store};

use crate::support::desk::Desk;
use crate::support::{open, options, random_bytes};

#[test]
fn every_verb_names_what_it_is_doing() {
    let desk = Desk::with_passphrase();
    std::fs::write(desk.at("source/file"), "some text").expect("written");
    assert_eq!(desk.run(&["backup", "source"]).code, 0);
    let (opening, index, packs) = ("opening the repository", "reading the index", "listing packs");
    let (snapshots, disk, noting) = ("reading snapshots", "writing out to the disk", "putting the run on record");
    let objects = ["checking objects", index, "comparing the index", packs, "looking for earlier verifications"];
    let (verify, read) = (
        [&[opening][..], &objects, &["checking trees", noting]].concat(),
        [&[opening][..], &objects, &["reading data", "noting what was read", "checking trees", noting]].concat(),
    );
    for (arguments, phases) in [
        (
            &["backup", "source"][..],
            &[
                opening,
                index,
                packs,
                "looking for the last snapshot",
                "backing up",
                "storing",
                "checking that nothing vanished",
                "writing the snapshot",
            ][..],
        ),
        (&["restore", "latest", "--target", "target"], &[opening, snapshots, index, "restoring", disk]),
        (&["restore", "latest", "--target", "target", "--dry-run"], &[opening, snapshots, index, "comparing", disk]),
        (&["dump", "latest", "--target", "tar"], &[opening, snapshots, index, "dumping"]),
        (&["ls", "latest"], &[opening, snapshots, index, "listing entries"]),
        (&["find", "file"], &[opening, snapshots, index, "searching"]),
        (&["diff", "latest", "latest"], &[opening, snapshots, index, "comparing"]),
        (&["key", "list"], &[opening, "reading key slots"]),
        (&["snapshots"], &[opening, snapshots]),
        (&["stats", "latest"], &[opening, snapshots]),
        (&["stats"], &[opening, "listing objects", snapshots, index, "counting chunks"]),
        (&["verify"], &verify),
        (&["verify", "--read-data"], &read),
    ] {
        let run = desk.run(&[&["-v"], arguments].concat());
        assert_eq!(run.code, 0, "{run:?}");
        let said: Vec<&str> =
            run.err.lines().filter(|line| !line.contains("latest") && !line.contains(" of ")).collect();
        assert_eq!(said, phases, "{arguments:?}");
    }
}

/// Keeps what was counted, phase by phase.
#[derive(Default)]
struct Counted(Mutex<Vec<(String, Counter, u64)>>, Collected);

impl Counted {
    /// Returns what was added in a phase, in the order in which it was.
    fn in_phase(&self, phase: &str, counter: Counter) -> Vec<u64> {
        let all = self.0.lock().expect("no panic while held");
        all.iter().filter(|it| it.0 == phase && it.1 == counter).map(|it| it.2).collect()
    }
}

impl Monitor for Counted {
    fn add(&self, counter: Counter, amount: u64) {
        let phase = self.1.phases().pop().unwrap_or_default();
        self.0.lock().expect("no panic while held").push((phase, counter, amount));
        self.1.add(counter, amount);
    }

    fn phase(&self, what: &str) {
        self.1.phase(what);
    }

    fn totals(&self, _: Totals) {}

    fn problem(&self, problem: Problem) {
        self.1.problem(problem);
    }
}

/// Packs of the usual size in a directory, which tells of their parts.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_and_what_is_read_grows_within_packs_and_adds_up() {
    let (directory, cache, source) = (tempfile::tempdir(), tempfile::tempdir(), tempfile::tempdir());
    let (directory, cache, source) = (directory.expect("made"), cache.expect("made"), source.expect("made"));
    std::fs::write(source.path().join("file"), random_bytes(1, 12 << 20)).expect("written");
    let location = Location::Directory(directory.path().to_path_buf());
    let opening = OpenOptions { mode: OpenMode::Create, ..OpenOptions::default() };
    let store = |monitor: &Arc<Counted>| -> Arc<dyn Store> {
        coffre::store::open(&location, &opening, monitor.clone()).expect("opened")
    };
    let monitor = Arc::new(Counted::default());
    let locks = [(coffre::crypto::slot::SlotLock::Recovery(crate::support::passphrase()), "test")];
    let now = Timestamp::from_seconds(1_800_000_000);
    let made = Repository::init(store(&monitor), &locks, &InitOptions::default(), now, cache.path()).await;
    let report =
        backup(Arc::new(made.expect("made")), options(source.path()), monitor.clone(), Cancel::default()).await;
    let stored = report.expect("backed up").counts.stored_bytes;
    let counters = &monitor.1.counters;
    assert_eq!((counters.get(Counter::SealedBytes), counters.get(Counter::StoredBytes)), (stored, stored));
    // The pack is full only with the end of the file.
    let steps = monitor.in_phase("storing", Counter::StoredBytes);
    assert!(steps.iter().filter(|bytes| **bytes == 4 << 20).count() >= 2, "{steps:?}");

    let monitor = Arc::new(Counted::default());
    let repository = open(store(&monitor), cache.path()).await.expect("opened");
    let options = VerifyOptions { read_data: ReadData::All, ..VerifyOptions::default() };
    let report = verify(repository, options, monitor.clone(), Cancel::default()).await.expect("verified");
    let steps = monitor.in_phase("reading data", Counter::Bytes);
    assert!(steps.iter().filter(|bytes| **bytes == 4 << 20).count() >= 3, "{steps:?}");
    assert_eq!(steps.iter().sum::<u64>(), report.bytes_read);
    assert_eq!(monitor.in_phase("reading data", Counter::Packs).len() as u64, report.packs_read);
    assert_eq!(monitor.1.counters.get(Counter::Bytes), report.bytes_read, "nowhere else");
}
