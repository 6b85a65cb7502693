//! Databases: real servers are dumped into a repository and restored from it, and everything that can go wrong does.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::desk::{Desk, Run};

mod adapted;
mod copies;
mod definers;
mod digests;
mod examples;
mod excluded;
mod failures;
mod managed;
mod mysql;
mod mysql9;
mod parts;
mod pooled;
mod postgres;
mod replaced;
mod roles;
mod settings;
mod spread;
mod sqlite;
mod streams;
mod to_directory;

/// Statements that fill a database with awkward types and objects.
fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/databases").join(name)
}

impl Desk {
    /// Runs the program with variables, such as where a database client finds its password.
    fn run_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Run {
        self.command(arguments).envs(variables.iter().copied()).output().expect("runs").into()
    }

    /// Starts the program with variables, to be disturbed while it runs.
    fn start(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("started")
    }

    /// Makes a directory of programs: scripts, and a link to the real one of a client.
    fn programs(&self, scripts: &[(&str, &str)], client: &str) -> PathBuf {
        use std::os::unix::fs::{OpenOptionsExt, symlink};
        let programs = self.at("programs");
        std::fs::create_dir(&programs).expect("made");
        for (name, script) in scripts {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o755).open(programs.join(name));
            file.expect("made").write_all(script.as_bytes()).expect("written");
        }
        let real = Command::new("sh").args(["-c", &format!("command -v {client}")]).output().expect("runs").stdout;
        symlink(String::from_utf8(real).expect("a path").trim(), programs.join(client)).expect("linked");
        programs
    }

    /// Returns the facts of a stream of the latest snapshot.
    fn facts(&self, path: &str) -> Value {
        let listed = self.events("entry", &["ls", &format!("latest:{path}")]);
        assert_eq!(listed.len(), 1, "{listed:?}");
        listed[0].clone()
    }

    fn snapshot_count(&self) -> usize {
        self.snapshots().len()
    }

    fn snapshots(&self) -> Vec<Value> {
        self.events("snapshot", &["snapshots"])
    }

    /// Returns what a run tells of one kind, without the progress that a slow one tells, too.
    fn events(&self, kind: &str, arguments: &[&str]) -> Vec<Value> {
        self.json(arguments).into_iter().filter(|event| event["event"] == kind).collect()
    }
}

/// Panics unless a run ended with this code, and every part is in what it said.
fn expect(run: &Run, code: i32, parts: &[&str]) {
    let said = format!("{}{}", run.out, run.err);
    assert_eq!(run.code, code, "{said}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
}

/// Returns the last object that a run with `--json` printed.
fn summary(run: &Run) -> Value {
    let last = run.out.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {run:?}"))
}

/// Waits for a condition, for as long as a test may take.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
