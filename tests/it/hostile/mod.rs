//! Hostile objects: what somebody plants, and what each verb then does, in bounded time and memory.
//!
//! A row is one object, or a few that belong together, planted into a copy of an honest repository. Whatever it is, the honest
//! snapshot comes back whole on a machine that knows nothing, another host backs up, and every program ends by itself within
//! its memory. A row says how verifying ends, what it must say, and how looking into a planted snapshot ends. New rows go into
//! `provider` and `writer`.

use std::fs;
use std::io::{Read, Seek};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use coffre::model::snapshot::SnapshotId;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};

use crate::hostile::forge::Forge;
use crate::support::desk::{Desk, Run};
use crate::support::files_in;
use crate::support::peak::ChildMemory;

mod entries;
mod exchanged;
mod forge;
mod listings;
mod provider;
mod recipes;
mod replays;
mod strangers;
mod windows;
mod writer;

/// What `--memory` says, in MiB, and what a service is to be given beyond that.
const MEMORY: u64 = 128;
const BEYOND: u64 = 32;
/// No verb takes a thousandth of that here; one that takes it has no end.
const DEADLINE: Duration = Duration::from_secs(240);
/// What is read of what a program says.
const SAID_BYTES: u64 = 1 << 20;
/// Rows looked at side by side.
const ROWS_AT_ONCE: usize = 4;

/// Plants something; returns the snapshot that was forged, if one was.
type Plant = Box<dyn Fn(Arc<Forge>) -> BoxFuture<'static, Option<SnapshotId>> + Send + Sync>;

/// Who can plant it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// The provider, or whoever can put objects: no key.
    Provider,
    /// A host that backs up here.
    Writer,
}

/// One line of the table.
struct Row {
    who: Who,
    what: String,
    plant: Plant,
    /// How `verify --read-data` ends.
    verify: i32,
    /// What it must say of it.
    told: &'static str,
    /// How looking into the planted snapshot ends, where there is one.
    look: i32,
    /// How restoring the honest snapshot ends: 3 where something in the index was told to be damaged.
    restore: i32,
    /// It is as large as it says, so nothing but listing it comes to an end soon.
    is_large: bool,
    /// It says what a terminal may obey, or counts too far: more verbs show it.
    is_worded: bool,
    /// What restoring the planted snapshot gives, where that matters: each file of it.
    gives: Vec<(&'static str, &'static [u8])>,
}

impl Row {
    fn new(who: Who, what: impl Into<String>, plant: Plant) -> Self {
        Self {
            who,
            what: what.into(),
            plant,
            verify: 0,
            told: "",
            look: 0,
            restore: 0,
            is_large: false,
            is_worded: false,
            gives: Vec::new(),
        }
    }

    /// Verifying says this, and that data is damaged.
    fn found(mut self, told: &'static str) -> Self {
        (self.verify, self.told) = (4, told);
        self
    }

    /// Whoever reads the index tells of it, and goes on.
    fn told_by_all(mut self) -> Self {
        self.restore = 3;
        self
    }

    /// What is planted is right, and larger than anybody could keep.
    fn large(mut self) -> Self {
        self.is_large = true;
        self
    }

    /// Whatever prints is asked for what was planted.
    fn worded(mut self) -> Self {
        self.is_worded = true;
        self
    }

    /// Restoring what was planted gives these files.
    fn gives(mut self, files: &[(&'static str, &'static [u8])]) -> Self {
        self.gives = files.to_vec();
        self
    }

    /// Looking into what was planted says that it is damaged.
    fn unreadable(mut self) -> Self {
        self.look = 4;
        self
    }
}

/// Runs a program to its end and returns how it ended; it must end, and keep to its memory.
fn bounded(case: &str, command: &mut Command) -> Run {
    let mut out = tempfile::tempfile().expect("made");
    let mut err = tempfile::tempfile().expect("made");
    let (to_out, to_err) = (out.try_clone().expect("ours"), err.try_clone().expect("ours"));
    let mut child = command.stdin(Stdio::null()).stdout(to_out).stderr(to_err).spawn().expect("runs");
    let (begun, mut memory) = (Instant::now(), ChildMemory::of(command, &child));
    let code = loop {
        if let Some(ended) = child.try_wait().expect("ours") {
            break ended.code().unwrap_or(-1);
        }
        memory.look();
        let peak = memory.peak_mib;
        if begun.elapsed() > DEADLINE || peak > 8 * MEMORY {
            child.kill().expect("ours");
            child.wait().expect("ended");
            panic!("{case}: {command:?} takes {peak} MiB and has not ended after {:?}", begun.elapsed());
        }
        std::thread::sleep(Duration::from_millis(3));
    };
    let mut said = [String::new(), String::new()];
    for (text, file) in said.iter_mut().zip([&mut out, &mut err]) {
        file.rewind().expect("a file");
        let mut bytes = Vec::new();
        file.take(SAID_BYTES).read_to_end(&mut bytes).expect("readable");
        *text = String::from_utf8_lossy(&bytes).into_owned();
    }
    let [out, err] = said;
    let run = Run { code, out, err };
    // What is asked for as bytes comes as bytes.
    let is_obeyed = |c: char| c.is_control() && c != '\n' && c != '\t';
    let said =
        if command.get_args().any(|word| word == "dump") { &run.err } else { &format!("{}{}", run.out, run.err) };
    assert!(!said.contains(is_obeyed), "{case}: {command:?} writes what a terminal obeys: {said:?}");
    let peak = memory.peak_mib;
    assert!(peak <= MEMORY + BEYOND, "{case}: {command:?} took {peak} MiB: {run:?}");
    assert!((0..100).contains(&run.code) && !run.err.contains("panicked"), "{case}: {command:?}: {run:?}");
    run
}

/// Runs a verb as a machine does that knows nothing of the repository.
fn verb(case: &str, desk: &Desk, arguments: &[&str]) -> Run {
    let _ = fs::remove_dir_all(desk.at(".cache"));
    bounded(case, &mut desk.command(&[&["--memory", "128MiB"], arguments].concat()))
}

/// Looks at one row.
fn check(row: &Row, honest: &Desk, snapshot: SnapshotId, desk: &Desk, forged: Option<SnapshotId>) {
    let case = format!("{:?}: {}", row.who, row.what);
    let opened = verb(&case, desk, &["snapshots"]);
    assert!(opened.out.contains(&snapshot.short()), "{case}: {opened:?}");

    let out = desk.at("out");
    let restored = verb(&case, desk, &["restore", &snapshot.short(), "--target", out.to_str().expect("plain")]);
    assert_eq!(restored.code, row.restore, "{case}: {restored:?}");
    let sorted = |directory| {
        let mut contents: Vec<Vec<u8>> = files_in(directory).into_values().collect();
        contents.sort();
        contents
    };
    assert!(sorted(&out) == sorted(&honest.at("source")), "{case}: what comes back is something else");

    let verified = verb(&case, desk, &["verify", "--read-data"]);
    assert_eq!(verified.code, row.verify, "{case}: {verified:?}");
    let said = format!("{}{}", verified.out, verified.err);
    let in_one_line = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(in_one_line.contains(row.told), "{case}: {verified:?}");

    let source = honest.at("source");
    let mut other = desk.command(&["--memory", "128MiB", "backup", source.to_str().expect("plain")]);
    let _ = fs::remove_dir_all(desk.at(".cache"));
    let backed_up = bounded(&case, other.env("COFFRE_HOST", "another"));
    assert_eq!(backed_up.code, 0, "{case}: {backed_up:?}");

    if let Some(forged) = forged {
        let look = verb(&case, desk, &["ls", "-R", &forged.short()]);
        assert_eq!(look.code, row.look, "{case}: {look:?}");
        if row.is_large {
            return;
        }
        let target = desk.at("forged");
        verb(&case, desk, &["restore", &forged.short(), "--target", target.to_str().expect("plain")]);
        for (name, bytes) in &row.gives {
            let restored = fs::read(target.join(name)).unwrap_or_else(|error| panic!("{case}: {name}: {error}"));
            assert!(restored == *bytes, "{case}: {name} is something else");
        }
        verb(&case, desk, &["diff", &snapshot.short(), &forged.short()]);
        verb(&case, desk, &["dump", &forged.short()]);
        if row.is_worded {
            verb(&case, desk, &["find", "*"]);
            verb(&case, desk, &["stats"]);
            verb(&case, desk, &["--json", "snapshots"]);
            verb(&case, desk, &["--json", "ls", "-R", &forged.short()]);
        }
        assert!(!desk.at("outside").exists(), "{case}: something was written outside the target");
    }
}

/// A copy of the honest repository, to plant something into.
fn copy_of(honest: &Desk) -> Desk {
    let desk = Desk { directory: tempfile::tempdir().expect("made") };
    let mut copying = Command::new("cp");
    copying.arg("-a").args([honest.at("repository"), honest.at("password")]).arg(desk.at("."));
    assert!(copying.status().expect("runs").success());
    desk
}

async fn table(rows: Vec<Row>) {
    let honest = Desk::with_repository();
    for seed in 0..6 {
        let bytes = crate::support::random_bytes(seed, 150_000 + 1000 * seed as usize);
        fs::write(honest.at(&format!("source/f{seed}")), bytes).expect("written");
    }
    honest.backup();
    let only = std::env::var("COFFRE_HOSTILE_ROW").unwrap_or_default();
    let rows = rows.into_iter().filter(|row| row.what.contains(&only));
    let honest = Arc::new(honest);
    let failed: Vec<String> = stream::iter(rows)
        .map(|row| {
            let honest = honest.clone();
            async move {
                let desk = copy_of(&honest);
                let forge = Arc::new(Forge::new(&desk).await);
                let snapshot = forge.honest.id;
                let forged = (row.plant)(forge).await;
                let checked = tokio::task::spawn_blocking(move || check(&row, &honest, snapshot, &desk, forged));
                checked.await.err().map(|panic| panic.to_string())
            }
        })
        .buffer_unordered(ROWS_AT_ONCE)
        .filter_map(std::future::ready)
        .collect()
        .await;
    assert!(failed.is_empty(), "{} rows end otherwise:\n{}", failed.len(), failed.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_plants_costs_and_hinders_nothing() {
    let rows: Vec<Row> = provider::rows().into_iter().chain(replays::rows()).collect();
    assert!(rows.len() >= 90 && rows.iter().all(|row| row.who == Who::Provider));
    table(rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_writer_plants_costs_and_hinders_nothing() {
    let rows: Vec<Row> =
        [writer::rows(), entries::rows(), recipes::rows(), strangers::rows()].into_iter().flatten().collect();
    assert!(rows.len() >= 110 && rows.iter().all(|row| row.who == Who::Writer));
    table(rows).await;
}
