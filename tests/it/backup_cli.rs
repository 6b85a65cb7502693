//! `coffre backup` as cron and people start it: what it says, to whom, and how it ends.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::support::dead_mount::DeadMount;
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
    let beside = desk.run(&["-q", "backup", "current", "source"]);
    assert_eq!((beside.code, beside.err.as_str()), (0, ""), "what it leads to is in the backup");
    let followed = desk.run(&["-q", "backup", "current/"]);
    assert_eq!((followed.code, followed.err.as_str()), (0, ""));
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
    let own = ["repository", "password", "kit"].map(|name| desk.at(name).display().to_string());
    for path in &own {
        assert!(
            run.out.contains(&format!("left out   {path}, which is coffre's own; name it to store it, too")),
            "{run:?}"
        );
    }
    let listed = desk.run(&["ls", "-R", "latest"]).out;
    assert!(
        listed.contains("source/a.txt") && ["repository", "password", "/kit"].iter().all(|own| !listed.contains(own)),
        "{listed}"
    );
    assert!(!listed.contains("/trees"), "the cache is coffre's own, too: {listed}");
    let run = desk.run(&["--json", "backup", "password", "source"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(desk.run(&["ls", "-R", "latest"]).out.contains("password"));
    assert!(run.out.contains("\"left_out\":[]"), "{run:?}");
}

/// A kit is known by its content, and what is taken over from an earlier run is not read.
#[test]
fn a_kit_that_was_named_once_is_left_out_again_where_it_is_not() {
    let desk = Desk::with_repository();
    std::thread::sleep(std::time::Duration::from_millis(25));
    let kit = desk.at("kit").display().to_string();
    let holds_kit = || desk.run(&["ls", "-R", "latest"]).out.contains(&kit);
    for unnamed in [&["backup", "."][..], &["backup", "--group-by", "host", "."]] {
        assert_eq!(desk.run(&["backup", "--group-by", "host", "kit", "source"]).code, 0);
        assert!(holds_kit());
        let again = desk.run(&["--json", "backup", "--group-by", "host", "kit", "source"]);
        assert!(holds_kit() && again.out.contains("\"left_out\":[]"), "{again:?}");
        let run = desk.run(unnamed);
        assert!(run.code == 0 && run.out.contains(&format!("left out   {kit}, which is coffre's own")), "{run:?}");
        assert!(!holds_kit(), "{unnamed:?}");
    }
}

#[test]
fn paths_come_from_lists() {
    let desk = Desk::with_repository();
    fs::write(desk.at("source/odd *name"), "odd").expect("written");
    fs::write(desk.at("patterns"), "# what matters\n source/*.txt \n\nsource/s[a-z]b/\n").expect("written");
    fs::write(desk.at("verbatim"), "source/odd *name\n").expect("written");
    fs::write(desk.at("raw"), "source/odd *name\0source/a.txt\0").expect("written");
    fs::write(desk.at("nothing"), "# nothing\n").expect("written");
    fs::write(desk.at("missing"), "source/*.absent\nsource/a.txt\n").expect("written");
    let cases: [(&[&str], i32, &[&str]); 8] = [
        (&["--files-from", "patterns"], 0, &["a.txt", "sub/b.txt"]),
        (&["--files-from-verbatim", "verbatim"], 0, &["odd *name"]),
        (&["--files-from-raw", "raw"], 0, &["a.txt", "odd *name"]),
        (&["--files-from-raw", "raw", "--files-from", "patterns"], 0, &["a.txt", "odd *name", "sub/b.txt"]),
        (&["--files-from-verbatim", "verbatim", "source/sub"], 0, &["odd *name", "sub/b.txt"]),
        (&["--files-from", "missing"], 3, &["a.txt"]),
        (&["--files-from", "nothing"], 2, &[]),
        (&["--files-from", "absent"], 2, &[]),
    ];
    for (arguments, code, expected) in cases {
        let run = desk.run(&[&["-q", "backup", "--skip-if-unchanged"], arguments].concat());
        assert_eq!(run.code, code, "{arguments:?}: {run:?}");
        if code == 2 {
            continue;
        }
        let listed = desk.run(&["ls", "-R", "latest"]).out;
        let below = format!("{}/", desk.at("source").display());
        let files: Vec<&str> = listed.lines().filter_map(|line| line.strip_prefix(&below)).collect();
        let files: Vec<&str> = files.into_iter().filter(|name| !name.is_empty() && !name.ends_with('/')).collect();
        assert_eq!(files, expected, "{arguments:?}: {listed}");
    }
    let mut command = desk.command(&["-q", "backup", "--files-from", "-"]);
    command.stdin(File::open(desk.at("patterns")).expect("there"));
    assert_eq!(Run::from(command.output().expect("runs")).code, 0);
}

/// How many files the run took over unread, and from which parent.
fn taken_over(desk: &Desk, arguments: &[&str]) -> (u64, bool) {
    let run = desk.run(&[&["-q", "--json", "backup"], arguments].concat());
    assert_eq!(run.code, 0, "{run:?}");
    let summary: serde_json::Value = serde_json::from_str(run.out.lines().last().expect("a line")).expect("an object");
    (summary["unchanged_files"].as_u64().expect("a number"), !summary["parent"].is_null())
}

#[test]
fn files_are_not_read_again_because_a_job_has_more_or_less_beside_them() {
    let desk = Desk::with_repository();
    std::thread::sleep(std::time::Duration::from_millis(25));
    fs::create_dir(desk.at("more")).expect("made");
    assert_eq!(taken_over(&desk, &["source"]), (0, false));
    assert_eq!(taken_over(&desk, &["source", "--command", "x", "--", "echo", "1"]), (2, true), "a stream joins");
    assert_eq!(taken_over(&desk, &["more", "source"]), (2, true), "a path joins");
    assert_eq!(taken_over(&desk, &["source/sub"]), (1, true), "less than before");
    assert_eq!(taken_over(&desk, &["--cache-dir", "fresh", "source", "--command", "y", "--", "echo", "1"]), (2, true));
    assert_eq!(taken_over(&desk, &["more"]), (0, true), "of the path that joined");
    assert_eq!(taken_over(&desk, &["source", "--job", "other"]), (0, false));
    assert_eq!(taken_over(&desk, &["source", "--job", "third", "--group-by", "host,paths"]), (2, true));
    assert_eq!(taken_over(&desk, &["source", "--host", "elsewhere", "--group-by", ""]), (2, true));
    assert_eq!(desk.run(&["backup", "source", "--group-by", "tags"]).code, 2);
    assert_eq!(desk.run(&["-q", "verify", "--read-data"]).code, 0);
}

#[test]
fn a_file_with_another_inode_or_time_of_change_is_taken_over_when_that_is_asked_for() {
    let desk = Desk::with_repository();
    std::thread::sleep(std::time::Duration::from_millis(25));
    assert_eq!(taken_over(&desk, &["source"]).0, 0);
    let path = desk.at("source/a.txt");
    let chmod = |mode| fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("set");
    chmod(0o640);
    std::thread::sleep(std::time::Duration::from_millis(25));
    assert_eq!(taken_over(&desk, &["source", "--ignore-inode"]).0, 1, "its ctime is another");
    chmod(0o600);
    std::thread::sleep(std::time::Duration::from_millis(25));
    assert_eq!(taken_over(&desk, &["source", "--ignore-ctime"]).0, 2);
    let listed = desk.run(&["ls", "-lR", "latest"]).out;
    let line = listed.lines().find(|line| line.ends_with("/a.txt")).expect("listed");
    assert!(line.starts_with("-rw------- "), "the content was taken over, the mode was not: {line}");

    let modified = fs::metadata(&path).expect("there").modified().expect("kept");
    fs::copy(&path, desk.at("copy")).expect("copied");
    fs::rename(desk.at("copy"), &path).expect("moved");
    File::options().write(true).open(&path).expect("opened").set_modified(modified).expect("set");
    std::thread::sleep(std::time::Duration::from_millis(25));
    assert_eq!(taken_over(&desk, &["source", "--ignore-ctime"]).0, 1, "its inode is another");
    assert_eq!(taken_over(&desk, &["source", "--ignore-ctime", "--ignore-inode"]).0, 2);
}

#[test]
fn nothing_changed_makes_no_snapshot_when_that_is_asked_for() {
    let desk = Desk::with_repository();
    let backup = |more: &[&str]| desk.run(&[&["backup", "source", "--skip-if-unchanged"], more].concat());
    assert_eq!(backup(&[]).code, 0);
    let first = snapshots(&desk)[0]["id"].as_str().expect("an id").to_owned();
    let run = backup(&[]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.out.ends_with(&format!("snapshot   none: nothing changed since {first}\n")), "{run:?}");
    let quiet = desk.run(&["-q", "backup", "source", "--skip-if-unchanged"]);
    assert_eq!((quiet.code, quiet.out.as_str(), quiet.err.as_str()), (0, "", ""));
    assert_eq!(snapshots(&desk).len(), 1);
    // A mode, a name, an entry less: each is a change.
    let changes: [&dyn Fn(); 3] = [
        &|| {
            fs::set_permissions(desk.at("source/a.txt"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
                .expect("set")
        },
        &|| fs::rename(desk.at("source/a.txt"), desk.at("source/c.txt")).expect("moved"),
        &|| fs::remove_file(desk.at("source/link")).expect("removed"),
    ];
    for (at, change) in changes.iter().enumerate() {
        change();
        assert_eq!(backup(&[]).code, 0);
        assert_eq!(snapshots(&desk).len(), 2 + at, "change {at}");
        assert_eq!(backup(&[]).code, 0);
        assert_eq!(snapshots(&desk).len(), 2 + at, "change {at}");
    }
    assert_eq!(backup(&["--command", "x", "--", "echo", "1"]).code, 0);
    assert_eq!(snapshots(&desk).len(), 5, "a stream is always new");
}

#[test]
fn a_snapshot_may_be_dated_back_and_not_ahead() {
    let desk = Desk::with_repository();
    desk.backup();
    let run = desk.run(&["-q", "backup", "source", "--time", "2026-01-02 03:04:05"]);
    assert_eq!(run.code, 0, "{run:?}");
    let all = snapshots(&desk);
    assert_eq!(all[0]["started"], "2026-01-02T03:04:05Z", "the desk is in UTC");
    for wrong in ["2999-01-01", "yesterday"] {
        assert_eq!(desk.run(&["-q", "backup", "source", "--time", wrong]).code, 2, "{wrong}");
    }
}

#[test]
fn what_a_small_change_costs_is_explained() {
    let desk = Desk::with_repository();
    desk.backup();
    fs::write(desk.at("source/a.txt"), "changed\n").expect("written");
    let out = desk.run(&["backup", "source"]).out;
    let added = out.lines().find(|line| line.starts_with("added")).expect("told");
    assert!(
        added.starts_with("added      8 B new, stored as ") && added.ends_with(" directory trees and index"),
        "{added}"
    );
}

#[test]
fn each_entry_is_listed_with_what_became_of_it() {
    let desk = Desk::with_repository();
    std::thread::sleep(std::time::Duration::from_millis(25));
    let listed = |arguments: &[&str]| {
        let run = desk.run(&[&["-vv", "backup", "source"], arguments].concat());
        assert_eq!(run.code, 0, "{run:?}");
        let below = format!("{}/", desk.at("source").display());
        let mut told: Vec<String> =
            run.err.lines().filter(|line| line.contains(&below)).map(|line| line.replace(&below, "")).collect();
        told.sort();
        told
    };
    let each = |word: &str| ["a.txt", "link", "sub", "sub/b.txt"].map(|name| format!("{word:<9}  {name}"));
    assert_eq!(listed(&["--dry-run"]), each("new"));
    assert_eq!(listed(&[]), each("new"));
    assert_eq!(listed(&[]), each("unchanged"));
    fs::write(desk.at("source/a.txt"), "another").expect("written");
    let mut expected = each("unchanged");
    expected[0] = "changed    a.txt".into();
    expected.sort();
    assert_eq!(listed(&["--dry-run"]), expected);
    let once = desk.run(&["-v", "backup", "source"]).err;
    assert!(!once.contains("a.txt"), "{once}");
    let json = desk.run(&["-vv", "--json", "backup", "source", "--force"]).out;
    assert_eq!(
        json.lines().filter(|line| line.contains("\"event\":\"entry\"")).count(),
        json.lines().count() - 1,
        "{json}"
    );
    assert!(json.contains("\"change\":\"new\"") && json.contains("/source/sub/b.txt\""), "{json}");
}

#[test]
fn a_run_that_waits_for_a_dead_mount_ends_when_it_is_asked_to() {
    let desk = Desk::with_repository();
    fs::create_dir(desk.at("source/mounted")).expect("made");
    let Some(mount) = DeadMount::new(&desk.at("source/mounted"), 0) else {
        eprintln!("skipped: FUSE is not permitted here");
        return;
    };
    let mut child = desk.command(&["-v", "backup", "source"]).stderr(Stdio::piped()).spawn().expect("runs");
    let mut told = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    assert!(told.any(|line| line == "backing up"));
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
        .expect("sent");
    // A run that does not hear it is let go by the mount in the end, so that this test ends, too.
    let (ended, until) = std::sync::mpsc::channel();
    let letting_go = std::thread::spawn(move || {
        let is_in_time = until.recv_timeout(std::time::Duration::from_secs(120)).is_ok();
        drop(mount);
        is_in_time
    });
    let status = child.wait().expect("ends");
    let _ = ended.send(());
    assert!(letting_go.join().expect("no panic"), "it waited for the mount");
    assert_eq!(status.code(), Some(130));
    assert!(told.any(|line| line.contains("interrupted")));
    assert!(snapshots(&desk).is_empty());
}
