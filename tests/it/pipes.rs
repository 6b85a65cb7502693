//! Output that nobody reads to its end, or that cannot be written: no panic, no silence, no run that is lost by it.

use std::fs::{self, File};
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::desk::{Desk, Run};

/// Waits for something that comes for certain.
pub fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "it never happened");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A repository with more of everything than a pipe holds.
fn desk_with_much() -> Desk {
    let desk = Desk::with_repository();
    for number in 0..2500 {
        fs::write(desk.at(&format!("source/sub/a-rather-long-name-of-a-file-that-is-empty-{number}")), "")
            .expect("written");
    }
    fs::write(desk.at("source/large"), crate::support::random_bytes(7, 4 << 20)).expect("written");
    desk.backup();
    desk
}

fn start(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs")
}

/// A pipe whose reader is gone before anybody writes: a reader that goes only once the program runs may come too late for short output.
pub fn without_reader() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("made");
    drop(reader);
    writer.into()
}

/// Lets a reader go after the first byte.
fn after_one_byte(mut child: Child) -> Run {
    let mut reader = child.stdout.take().expect("piped");
    reader.read_exact(&mut [0]).expect("a byte");
    drop(reader);
    child.wait_with_output().expect("ends").into()
}

#[test]
fn a_reader_that_had_enough_ends_every_verb_that_shows_with_141_and_no_word() {
    let desk = desk_with_much();
    let source = desk.at("source");
    let large = format!("latest:{}", source.join("large").display());
    let tree = format!("latest:{}", source.display());
    for _ in 0..5 {
        for arguments in [
            &["ls", "-R", "latest"][..],
            &["ls", "--json", "-R", "latest"],
            &["find", "a-rather*"],
            &["dump", &large],
            &["dump", &tree],
        ] {
            let run = after_one_byte(start(desk.command(arguments)));
            assert_eq!((run.code, run.err.as_str()), (141, ""), "{arguments:?}");
        }
    }
}

#[test]
fn short_output_into_a_closed_pipe_ends_the_same_way() {
    let desk = Desk::with_repository();
    desk.backup();
    for arguments in [
        &["snapshots"][..],
        &["snapshots", "--json"],
        &["stats"],
        &["diff", "latest", "latest"],
        &["man", "ls"],
        &["completions", "bash"],
    ] {
        let run: Run = desk.command(arguments).stdout(without_reader()).output().expect("runs").into();
        assert_eq!((run.code, run.err.as_str()), (141, ""), "{arguments:?}");
    }
}

#[test]
fn a_run_whose_summary_nobody_reads_is_a_run_like_any_other() {
    let desk = Desk::with_repository();
    let runs = [
        (&["backup", "source"][..], ""),
        (&["restore", "latest", "--target", "out"], "snapshot "),
        (&["verify", "--read-data"], ""),
    ];
    for (arguments, told) in runs {
        for more in [&[][..], &["--json"]] {
            let run: Run =
                desk.command(&[arguments, more].concat()).stdout(without_reader()).output().expect("runs").into();
            assert!(run.code == 0 && run.err.starts_with(told), "{arguments:?}: {run:?}");
            assert_eq!(run.err.lines().count(), told.lines().count(), "{arguments:?}: {run:?}");
        }
    }
    assert_eq!(desk.json(&["snapshots"]).len(), 2);
}

#[test]
fn a_list_that_does_not_fit_on_the_disk_is_no_success() {
    let desk = Desk::with_repository();
    desk.backup();
    for arguments in [&["ls", "-R", "latest"][..], &["snapshots", "--json"], &["man"]] {
        let mut command = desk.command(arguments);
        command.stdout(File::options().write(true).open("/dev/full").expect("there")).stderr(Stdio::piped());
        let run: Run = command.spawn().expect("runs").wait_with_output().expect("ends").into();
        assert!(run.code == 1 && run.err.contains("standard output could not be written"), "{arguments:?}: {run:?}");
    }
}

#[test]
fn a_warning_that_cannot_be_written_ends_and_hangs_nothing() {
    let desk = Desk::with_repository();
    // Names that cannot be looked into are told, one by one, whoever runs this.
    for name in ["one", "two"] {
        let path = desk.at(&format!("source/{name}"));
        assert!(Command::new("mkfifo").arg(&path).status().expect("runs").success());
    }
    fs::create_dir(desk.at("source/three")).expect("made");
    for quiet in [&[][..], &["-q"]] {
        let arguments = [&["backup", "source", "absent-beside"][..], quiet].concat();
        for full in [true, false] {
            let mut command = desk.command(&arguments);
            match full {
                true => command.stderr(File::options().write(true).open("/dev/full").expect("there")),
                false => command.stderr(without_reader()),
            };
            let code = command.stdout(Stdio::null()).status().expect("runs").code();
            assert!(matches!(code, Some(1 | 3)), "{arguments:?}: {code:?}");
        }
    }
}
