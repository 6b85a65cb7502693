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

/// The snapshots there are, without progress beside them.
fn snapshots(desk: &Desk) -> Vec<serde_json::Value> {
    let run = desk.run(&["-q", "--json", "snapshots"]);
    run.out.lines().map(|line| serde_json::from_str(line).expect("a JSON object")).collect()
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
    assert_eq!(snapshots(&desk).len(), 7, "each backup made its snapshot");
}

#[test]
fn a_source_that_became_empty_is_told_like_a_dump_that_shrank() {
    let desk = Desk::with_repository();
    fs::create_dir(desk.at("volume")).expect("made");
    for i in 0..25 {
        fs::write(desk.at(&format!("volume/{i}")), vec![7; 1000]).expect("written");
    }
    let backup = ["-q", "backup", "volume", "source"];
    for _ in 0..3 {
        assert_eq!(desk.run(&backup).code, 0);
    }
    fs::rename(desk.at("volume"), desk.at("away")).expect("moved");
    fs::create_dir(desk.at("volume")).expect("made");
    let volume = desk.at("volume").display().to_string();
    let told =
        format!("{volume}: holds no file, and held 25 (24.4 KiB) in the median of the last 3 runs; is it mounted");
    let run = desk.run(&backup);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.err.starts_with(&told), "{run:?}");
    let run = desk.run(&["backup", "volume", "source"]);
    assert_eq!(run.code, 3, "one empty night does not make the next one right: {run:?}");
    assert!(run.out.contains(&format!("suspicious {volume}: holds no file")), "{run:?}");
    assert_eq!(desk.run(&["-q", "backup", "volume", "source", "--shrink-limit", "0"]).code, 0);

    // A host that knows nothing of earlier runs looks at the parent.
    fs::remove_dir(desk.at("volume")).expect("removed");
    fs::rename(desk.at("away"), desk.at("volume")).expect("moved");
    assert_eq!(desk.run(&backup).code, 0);
    for i in 3..25 {
        fs::remove_file(desk.at(&format!("volume/{i}"))).expect("removed");
    }
    let cache = desk.at("fresh").display().to_string();
    let run = desk.run(&["-q", "--cache-dir", &cache, "backup", "volume", "source"]);
    assert_eq!(run.code, 3, "{run:?}");
    let told = format!("{volume}: holds only 12 % of the files that it used to hold: 3, 25 in the last run\n");
    assert_eq!(run.err, told);
}

#[test]
fn a_source_that_is_a_link_is_told_with_how_to_follow_it() {
    let desk = Desk::with_repository();
    std::os::unix::fs::symlink("source", desk.at("current")).expect("linked");
    let run = desk.run(&["-q", "backup", "current"]);
    let current = desk.at("current").display().to_string();
    assert_eq!(run.code, 3, "{run:?}");
    let told = format!(
        "{current}: is a symbolic link to source: only the link is stored; write {current}/ to store what it leads to\n"
    );
    assert_eq!(run.err, told);
    let followed = desk.run(&["-q", "backup", "current/"]);
    assert_eq!((followed.code, followed.err.as_str()), (0, ""));
    let beside = desk.run(&["-q", "backup", "current", "source"]);
    assert_eq!((beside.code, beside.err.as_str()), (0, ""), "what it leads to is in the backup");
    let above = desk.run(&["backup", "current/.."]);
    assert_eq!(above.code, 0, "{above:?}");
    let sources = snapshots(&desk).last().expect("made")["sources"].clone();
    assert_eq!(sources, serde_json::json!([desk.directory.path()]));
}

#[test]
fn what_is_there_is_backed_up_beside_what_is_not() {
    let desk = Desk::with_repository();
    let cases: [(&[&str], i32); 6] = [
        (&["source", "absent"], 3),
        (&["absent", "source"], 3),
        (&["absent", "--command", "x", "--", "echo", "1"], 3),
        (&["absent"], 1),
        (&["absent", "gone"], 1),
        (&["source", "--dry-run"], 0),
    ];
    let mut made = 0;
    for (arguments, code) in cases {
        let run = desk.run(&[&["-q", "backup"], arguments].concat());
        assert_eq!(run.code, code, "{arguments:?}: {run:?}");
        assert_eq!(run.err.contains("absent: cannot be backed up: No such file"), code == 3, "{run:?}");
        made += usize::from(code == 3);
        let all = snapshots(&desk);
        assert_eq!(all.len(), made, "{arguments:?}");
        assert!(all.iter().all(|snapshot| snapshot["unreadable"] == 1));
    }
}

#[test]
fn patterns_that_cannot_be_used_end_the_run_and_those_that_match_nothing_are_told() {
    let desk = Desk::with_repository();
    for wrong in
        [["--exclude", "a["], ["--iexclude", "a["], ["--exclude-file", "absent"], ["--iexclude-file", "absent"]]
    {
        let run = desk.run(&["backup", "source", wrong[0], wrong[1]]);
        assert_eq!(run.code, 2, "{wrong:?}: {run:?}");
        assert!(run.err.contains(wrong[1]), "{run:?}");
    }
    let run =
        desk.run(&["-q", "backup", "source", "--exclude", "./a.txt", "--exclude", "~/b.txt", "--iexclude", "*.TXT"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.err.contains("exclude pattern ./a.txt: can never match"), "{run:?}");
    assert!(run.err.contains("exclude pattern ~/b.txt: can never match"), "{run:?}");
    let summary = &snapshots(&desk)[0];
    assert_eq!(summary["files"], 0, "--iexclude took both");
}

#[test]
fn coffres_own_places_are_left_out_unless_they_are_named() {
    let desk = Desk::with_repository();
    desk.backup();
    let run = desk.run(&["backup", "."]);
    assert_eq!(run.code, 0, "{run:?}");
    let own = ["repository", "password"].map(|name| desk.at(name).display().to_string());
    for path in &own {
        assert!(
            run.out.contains(&format!("left out   {path}, which is coffre's own; name it to store it, too")),
            "{run:?}"
        );
    }
    let listed = desk.run(&["ls", "-R", "latest"]).out;
    assert!(
        listed.contains("source/a.txt") && !listed.contains("repository") && !listed.contains("password"),
        "{listed}"
    );
    assert!(!listed.contains("/trees"), "the cache is coffre's own, too: {listed}");
    let run = desk.run(&["--json", "backup", "password", "source"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(desk.run(&["ls", "-R", "latest"]).out.contains("password"));
    assert!(run.out.contains("\"left_out\":[]"), "{run:?}");
}
