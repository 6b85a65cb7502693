//! `coffre backup` as cron and people start it: what it says, to whom, and how it ends.

use std::fs::{self, File};
use std::process::Stdio;

use crate::support::desk::{Desk, Run};

/// Standard errors that cannot be written to: a full disk, and a pipe that nobody reads.
fn deaf() -> [Stdio; 2] {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    [File::options().write(true).open("/dev/full").expect("there").into(), writer.into()]
}

#[test]
fn a_word_that_nobody_can_hear_changes_no_run() {
    let desk = Desk::with_repository();
    desk.backup();
    // Something that every verb tells of.
    fs::write(desk.at("repository/index/00112233445566778899aabbccddeeff"), b"rubbish").expect("written");
    let verbs: [&[&str]; 8] = [
        &["-v", "backup", "source"],
        &["-q", "backup", "source"],
        &["-v", "restore", "latest", "--target", "out"],
        &["-v", "dump", "latest:repository"],
        &["-v", "verify"],
        &["find", "nothing-has-this-name"],
        &["restore", "ffff", "--target", "out"],
        &["--wat"],
    ];
    for arguments in verbs {
        let heard = desk.run(arguments).code;
        for deaf in deaf() {
            let run: Run = desk.command(arguments).stderr(deaf).output().expect("runs").into();
            assert_eq!(run.code, heard, "{arguments:?}: {run:?}");
        }
    }
    fs::remove_file(desk.at("repository/index/00112233445566778899aabbccddeeff")).expect("there");
    assert_eq!(desk.json(&["snapshots"]).len(), 7, "each backup made its snapshot");
}
