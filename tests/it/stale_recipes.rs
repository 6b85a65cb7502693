//! Recipes that a run left which was given up: what they name was deleted before they were stored. Nobody relies on them, and nobody takes
//! them for damage where the window that they make is stored otherwise.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::desk::{Desk, Run};

/// How long it is waited for a run to come to where it waits.
const PATIENCE: Duration = Duration::from_secs(60);

/// Rows of a table; every two hundredth is of this `night`.
fn rows(night: u64) -> String {
    let row = |n: u64| {
        let mixed = (n + if n.is_multiple_of(200) { night << 32 } else { 0 }).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!("{n}\t{:016x}\t{:016x}\n", mixed ^ mixed >> 29, mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9))
    };
    (0..20_000).map(row).collect()
}

fn summary(run: &Run) -> Value {
    run.out.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default()
}

/// Backs a stream up that ends when there is a file `go`.
fn backup(desk: &Desk) -> Command {
    let script = "cat rows; : > asked; while [ ! -e go ]; do sleep 0.02; done";
    desk.command(&["--json", "backup", "source", "--command", "rows", "--", "sh", "-c", script])
}

/// A repository in which a run that was given up has left recipes whose rows are gone, and then stored its stream anew.
fn with_stale_recipes() -> Desk {
    let desk = Desk::with_repository();
    for file in 0..3000 {
        fs::write(desk.at(&format!("source/sub/file {file}")), format!("{file}\n")).expect("written");
    }
    fs::write(desk.at("kept"), "kept").expect("written");
    assert_eq!(desk.run(&["backup", "--job", "other", "kept"]).code, 0);
    fs::write(desk.at("rows"), rows(1)).expect("written");
    fs::write(desk.at("go"), "").expect("written");
    let first = Run::from(backup(&desk).output().expect("runs"));
    assert_eq!(first.code, 0, "{first:?}");
    let id = summary(&first)["snapshot"].as_str().expect("an id").to_owned();
    fs::write(desk.at("source/new"), "new").expect("written");
    fs::write(desk.at("rows"), rows(2)).expect("written");
    for mark in ["go", "asked"] {
        fs::remove_file(desk.at(mark)).expect("there");
    }
    let mut second = backup(&desk);
    let second = second.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let begun = Instant::now();
    while !desk.at("asked").exists() {
        assert!(begun.elapsed() < PATIENCE, "it does not begin");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(desk.run(&["forget", "--yes", "--allow-empty", &id]).code, 0);
    let words = ["--json", "prune", "--grace", "0s", "--wait", "0s"];
    let waiting = desk.run(&words);
    let sessions = summary(&waiting)["waiting_for"].as_array().cloned().unwrap_or_default();
    let session = sessions.first().and_then(Value::as_str).unwrap_or_else(|| panic!("it runs: {waiting:?}"));
    let pruned = desk.run(&[&words[..], &["--give-up", session]].concat());
    assert!(pruned.code == 0 && summary(&pruned)["deleted_packs"].as_u64() > Some(0), "{pruned:?}");
    fs::write(desk.at("go"), "").expect("written");
    let second = Run::from(second.wait_with_output().expect("ends"));
    assert!(second.code == 0 && second.out.contains("starts again"), "{second:?}");
    desk
}

#[test]
fn nobody_takes_what_a_run_left_that_was_given_up_for_damage() {
    let desk = with_stale_recipes();
    for more in [&[][..], &["--read-data"]] {
        let verified = desk.run(&[&["verify"], more].concat());
        assert_eq!(verified.code, 0, "{more:?}: {verified:?}");
    }
    for more in [&[][..], &["--max-unused", "0"], &[]] {
        let pruned = desk.run(&[&["prune", "--grace", "0s", "--wait", "0s"], more].concat());
        assert_eq!(pruned.code, 0, "{more:?}: {pruned:?}");
        let verified = desk.run(&["verify", "--read-data"]);
        assert_eq!(verified.code, 0, "{more:?}: {verified:?}");
        let dumped = desk.run(&["dump", "latest:rows"]);
        assert!(dumped.code == 0 && dumped.out == rows(2), "{more:?}: {}", dumped.err);
    }
}
