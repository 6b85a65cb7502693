//! What is asked of any stream: that it is whole, not compressed, not suddenly small, and shares something with the last one.

use std::io::Write;
use std::process::Stdio;

use crate::databases::{expect, summary};
use crate::support::desk::{Desk, Run};
use crate::support::random_bytes;

impl Desk {
    fn pipe(&self, name: &str, content: &[u8], more: &[&str]) -> Run {
        let mut command = self.command(&[&["backup", "--stdin", "--stdin-name", name][..], more].concat());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
        // A refused stream is not read to its end.
        let _ = child.stdin.take().expect("piped").write_all(content);
        child.wait_with_output().expect("ended").into()
    }
}

#[test]
fn a_dump_that_was_cut_off_in_a_pipe_is_found() {
    let desk = Desk::with_repository();
    let dump = format!("-- MariaDB dump 10.19\n{}-- Dump completed\n", "INSERT INTO t VALUES (1);\n".repeat(5000));
    expect(&desk.pipe("shop.sql", dump.as_bytes(), &[]), 0, &[]);
    let cut = &dump.as_bytes()[..dump.len() / 2];
    let run = desk.pipe("shop.sql", cut, &[]);
    expect(&run, 5, &["standard input for shop.sql was cut off", "\"-- Dump completed\"", "--no-dump-check"]);
    assert_eq!(desk.snapshot_count(), 1);
    // Now it is only half as large as before, which is told.
    expect(
        &desk.pipe("shop.sql", cut, &["--no-dump-check", "--shrink-limit", "60"]),
        3,
        &["suspicious shop.sql: only 50 %"],
    );
}

#[test]
fn what_cannot_be_deduplicated_is_told_and_stored() {
    let desk = Desk::with_repository();
    let zipped = [&[0x1f, 0x8b, 8, 0][..], &random_bytes(1, 100_000)].concat();
    expect(&desk.pipe("a.gz", &zipped, &[]), 0, &["comes compressed (gzip)"]);
    assert_eq!(desk.facts("a.gz")["facts"]["compressed"], "gzip");
    for (seed, told) in [(2, false), (3, true)] {
        let run = desk.pipe("random", &random_bytes(seed, 20_000_000), &[]);
        expect(&run, 0, &[]);
        assert_eq!(run.err.contains("has nothing in common with the last one"), told, "{run:?}");
    }
}

#[test]
fn a_stream_that_shrank_is_flagged_even_by_a_host_with_an_empty_cache() {
    let desk = Desk::with_repository();
    for seed in 0..3 {
        expect(&desk.pipe("dump", &random_bytes(seed, 100_000), &[]), 0, &[]);
    }
    std::fs::remove_dir_all(desk.at(".cache")).expect("there was one");
    let run = desk.pipe("dump", &random_bytes(9, 10_000), &["--json"]);
    let summary = summary(&run);
    assert_eq!(run.code, 3, "{run:?}");
    assert_eq!(summary["suspicious"][0]["stream"], "dump");
    assert!(summary["suspicious"][0]["why"].as_str().expect("text").contains("100000 in the median of 3 earlier ones"));
    assert!(summary["snapshot"].is_string(), "it is stored all the same");
    expect(&desk.pipe("dump", &random_bytes(9, 10_000), &["--shrink-limit", "0"]), 0, &[]);
}

#[test]
fn a_member_that_failed_is_left_out_when_the_others_are_to_be_kept() {
    let desk = Desk::with_repository();
    let commands =
        ["--command", "good", "--", "echo", "fine", "--command", "bad", "--", "sh", "-c", "echo half; exit 7"];
    let all_or_nothing = [&["backup"][..], &commands].concat();
    expect(&desk.run(&all_or_nothing), 5, &["stream bad failed, so no snapshot was made", "sh failed with status 7"]);
    assert_eq!(desk.snapshot_count(), 0);

    expect(&desk.run(&["backup", "source"]), 0, &[]);
    let partial = [&["backup", "--keep-partial", "--jobs", "2"][..], &commands].concat();
    expect(&desk.run(&partial), 5, &["MISSING    bad: ", "INCOMPLETE"]);
    let snapshots = desk.snapshots();
    let last = snapshots.last().expect("two");
    assert_eq!((&last["complete"], &last["missing"][0]["stream"]), (&false.into(), &"bad".into()));
    expect(&desk.run(&["snapshots"]), 0, &["MISSING bad"]);
    // The newest that is complete is another one; by its id it can be had.
    expect(&desk.run(&["ls", "latest:good"]), 1, &["has no /good"]);
    let id = last["id"].as_str().expect("an id");
    assert_eq!(desk.run(&["dump", &format!("{id}:good")]).out, "fine\n");
    let nothing = ["backup", "--keep-partial", "--command", "bad", "--", "false"];
    expect(&desk.run(&nothing), 5, &["all streams failed"]);
    assert_eq!(desk.snapshot_count(), 2);
    // Files are worth keeping without any stream.
    let files = ["backup", "source", "--keep-partial", "--command", "bad", "--", "false"];
    expect(&desk.run(&files), 5, &["2 files", "MISSING    bad: ", "INCOMPLETE"]);
    assert_eq!(desk.snapshot_count(), 3);
}

#[test]
fn what_is_missing_has_a_hint_that_follows_from_how_it_failed() {
    let desk = Desk::with_repository();
    for (command, hint) in [
        (&["no-such-program"][..], "is the program installed, and in PATH for this user?"),
        (&["true"], "an empty dump is never stored; does the command work by itself?"),
        (&["sh", "-c", "echo half; exit 7"], "run the command by itself to see why; earlier snapshots are untouched"),
        (&["sh", "-c", "echo Connection refused >&2; exit 1"], "is the server running, and reachable at this host"),
    ] {
        let beside = [&["backup", "source", "--keep-partial", "--command", "bad", "--"][..], command].concat();
        expect(&desk.run(&beside), 5, &["MISSING    bad: ", &format!("\n           hint: {hint}")]);
        let alone = [&["backup", "--keep-partial", "--command", "bad", "--"][..], command].concat();
        expect(&desk.run(&alone), 5, &["all streams failed, so no snapshot was made; the first was bad\n", hint]);
    }
}

#[test]
fn streams_are_read_at_the_same_time() {
    let desk = Desk::with_repository();
    // Each waits for what the other makes: one after the other they would never end.
    let wait = |mine: &str, other: &str| {
        let (mine, other) = (desk.at(mine), desk.at(other));
        format!("touch {}; until [ -e {} ]; do sleep 0.05; done; echo met", mine.display(), other.display())
    };
    let (a, b) = (wait("a", "b"), wait("b", "a"));
    let commands = ["--command", "one", "--", "sh", "-c", &a, "--command", "two", "--", "sh", "-c", &b];
    expect(&desk.run(&[&["backup", "--jobs", "2"][..], &commands].concat()), 0, &["2 streams"]);
    assert_eq!(desk.run(&["dump", "latest:two"]).out, "met\n");
    // One that fails ends the other, which would wait for a minute.
    let begun = std::time::Instant::now();
    let commands = ["--command", "slow", "--", "sleep", "60", "--command", "bad", "--", "false"];
    expect(&desk.run(&[&["backup", "--jobs", "2"][..], &commands].concat()), 5, &["stream bad failed"]);
    assert!(begun.elapsed() < std::time::Duration::from_secs(30));
}
