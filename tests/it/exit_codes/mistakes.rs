//! What people type wrong, verb by verb, and the code and words that answer it.

use std::fs;

use crate::support::desk::{Desk, Run};

#[test]
fn every_mistake_of_the_first_hours_has_its_code() {
    let desk = Desk::with_repository();
    desk.backup();
    fs::write(desk.at("file"), "").expect("written");
    fs::write(desk.at("empty"), "").expect("written");
    let nowhere = "s3+http://127.0.0.1:1/bucket/prefix";
    let table: [(&[&str], i32, &str); 27] = [
        (&["--password-file", "absent", "snapshots"], 2, "absent"),
        (&["--password-file", "empty", "snapshots"], 2, "empty"),
        (&["--password-command", "false", "snapshots"], 2, "failed"),
        (&["--repo", "", "snapshots"], 2, "--repo LOCATION"),
        (&["--repo", "s3://hetzner-fsn1/bucket/prefix", "snapshots"], 2, "AWS_ACCESS_KEY_ID"),
        (&["--repo", "s3://hetzner-fsn2/bucket/prefix", "snapshots"], 2, "hetzner-fsn1"),
        (&["--repo", "sftp:host/path", "snapshots"], 2, "error: "),
        (&["--repo", "a", "--repo", "b", "snapshots"], 2, "--repo"),
        (&["--repo", "absent", "snapshots"], 10, "there is no repository"),
        (&["backup", "source", "--exclude-file", "absent"], 2, "absent"),
        (&["backup", "source", "--exclude", "a["], 2, "a["),
        (&["restore", "latest"], 2, "--target"),
        (&["restore", "latest", "--target", "file"], 1, "hint: a file has that name; --target names a directory"),
        (&["backup", "absent"], 1, "error: absent cannot be backed up\n  caused by: No such file"),
        (&["find", "absent"], 1, "nothing found"),
        (&["ls", "ffff"], 1, "there is no snapshot"),
        (&["--memory", "10", "stats"], 2, "unit"),
        (&["--memory", "10MiB", "backup", "source"], 2, "too little"),
        (&["--limit-upload", "2000", "backup", "source"], 2, "unit"),
        (&["--limit-upload", "20B", "backup", "source"], 2, "would never end"),
        (&["--limit-download", "0", "verify"], 2, "would never end"),
        (&["verify", "--read-data=20"], 2, "no part of the data"),
        (&["backup", "source", "--exclude-larger-than", "100"], 2, "unit"),
        (&["check"], 2, "coffre verify"),
        (&["forget"], 2, "no rule says what is to be kept"),
        (&["key", "lst"], 2, "list"),
        (&["unlock"], 2, "no locks"),
    ];
    for (arguments, code, said) in table {
        let mut command = desk.command(arguments);
        if arguments[0].starts_with("--password") {
            command.env_remove("COFFRE_PASSWORD_FILE");
        }
        let run: Run = command.output().expect("runs").into();
        assert!(run.code == code && run.err.contains(said), "{arguments:?}: {run:?}");
        assert_eq!(run.out, "", "{arguments:?}");
    }
    for verb in ["copy", "mount", "tag", "repair", "cache", "self-update", "rewrite", "list", "cat", "version"] {
        let run = desk.run(&[verb]);
        assert!(
            run.code == 2 && run.err.starts_with(&format!("error: there is no command `{verb}`\nhint: ")),
            "{run:?}"
        );
    }
    assert_eq!(desk.run(&["-vv", "snapshots"]).code, 0);
    let run: Run = desk
        .command(&["--repo", nowhere, "--give-up-after", "1s", "snapshots"])
        .env("AWS_ACCESS_KEY_ID", "x")
        .env("AWS_SECRET_ACCESS_KEY", "y")
        .output()
        .expect("runs")
        .into();
    assert_eq!(run.code, 7, "{run:?}");
}

/// A file that an option or a variable names and that is missing, or is none, is a mistake like any other: exit code 2, and its name.
#[test]
fn every_file_that_is_not_what_it_should_be_is_named() {
    let desk = Desk::with_repository();
    desk.backup();
    fs::create_dir(desk.at("folder")).expect("made");
    fs::write(desk.at("empty"), "").expect("written");
    fs::write(desk.at("text"), "[other]\nno certificate\n").expect("written");
    let bucket = ["--repo", "s3://hetzner-fsn1/bucket/prefix", "snapshots"];
    let backup = ["backup", "source"];
    let restore = ["restore", "latest", "--target", "target"];
    let table: [(&str, &[&str], &[&str]); 11] = [
        ("--password-file", &["snapshots"], &["absent", "folder", "empty"]),
        ("COFFRE_PASSWORD_FILE", &["snapshots"], &["absent", "folder", "empty"]),
        ("--ca-file", &bucket, &["absent", "folder", "empty", "text"]),
        ("COFFRE_CA_FILE", &bucket, &["absent", "folder", "empty", "text"]),
        ("AWS_CA_BUNDLE", &bucket, &["absent", "folder", "empty", "text"]),
        ("AWS_SHARED_CREDENTIALS_FILE", &bucket, &["absent", "folder"]),
        ("--exclude-file", &backup, &["absent", "folder"]),
        ("--iexclude-file", &backup, &["absent", "folder"]),
        ("--files-from", &["backup"], &["absent", "folder"]),
        ("--include-file", &restore, &["absent", "folder"]),
        ("--exclude-file", &restore, &["absent", "folder"]),
    ];
    for (name, arguments, files) in table {
        for file in files {
            let mut command = desk.command(arguments);
            if !name.contains("CREDENTIALS") {
                command.env("AWS_ACCESS_KEY_ID", "x").env("AWS_SECRET_ACCESS_KEY", "y");
            }
            if name == "--password-file" {
                command.env_remove("COFFRE_PASSWORD_FILE");
            }
            match name.starts_with("--") {
                true => command.arg(name).arg(file),
                false => command.env(name, file),
            };
            let run: Run = command.output().expect("runs").into();
            assert!(run.code == 2 && run.err.contains(file), "{name} {file}: {run:?}");
            assert_eq!(run.out, "", "{name} {file}");
        }
    }
}

#[test]
fn a_command_that_lacks_something_asks_for_it_in_the_form_of_every_error() {
    let desk = Desk::new();
    for (arguments, asks) in [
        (&["restore"][..], "what is to be restored?"),
        (&["restore", "latest"], "where to?"),
        (&["backup"], "what is to be backed up?"),
        (&["ls"], "of which snapshot?"),
        (&["dump"], "which file, stream or directory"),
        (&["find"], "what is to be found?"),
        (&["diff"], "which two snapshots"),
        (&["diff", "latest"], "which two snapshots"),
        (&["completions"], "for which shell?"),
        (&["--repo", "x"], "which command?"),
        (&["--repo", "", "snapshots"], "which repository?"),
        (&["restore", "latest", "--target", "x", "--yes"], "what is given needs --delete as well"),
        (&["snapshotz"], "unrecognized subcommand 'snapshotz'\nhint: a similar subcommand exists: 'snapshots'"),
        (&["ls", "--wat", "latest"], "unexpected argument '--wat' found"),
    ] {
        let run = desk.run(arguments);
        assert!(run.code == 2 && run.err.starts_with(&format!("error: {asks}")), "{arguments:?}: {run:?}");
        assert!(!run.err.contains("Usage:") && run.err.lines().count() <= 2 && run.out.is_empty(), "{run:?}");
        let objects = desk.run(&[&["--json"], arguments].concat());
        let error: serde_json::Value = serde_json::from_str(&objects.out).expect("one object");
        assert!(run.err.starts_with(&format!("error: {}", error["message"].as_str().expect("said"))), "{error}");
        assert_eq!((error["exit_code"].as_i64(), objects.err.as_str()), (Some(2), ""), "{arguments:?}");
    }
}

#[test]
fn a_limited_upload_ends_when_it_is_asked_to() {
    let desk = Desk::with_repository();
    fs::write(desk.at("source/large"), crate::support::random_bytes(3, 8 << 20)).expect("written");
    let packs = || crate::support::files_in(&desk.at("repository")).len();
    let before = packs();
    // At this rate the rest takes eight minutes.
    let mut child = desk.command(&["--limit-upload", "16KiB", "backup", "source"]).spawn().expect("runs");
    crate::pipes::eventually(|| (packs() > before).then_some(()));
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
        .expect("sent");
    // No matter how slow the machine is: it ends long before the upload would.
    let code = crate::pipes::eventually(|| child.try_wait().expect("asked"));
    assert_eq!(code.code(), Some(130));
}
