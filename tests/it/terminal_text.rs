//! Names that somebody gave to hosts, jobs, tags, streams and objects, and that a terminal would obey, are shown and not obeyed.

use std::fs;
use std::process::Stdio;

use crate::support::desk::Desk;

/// Tells whether a terminal would do something else with text than show it.
fn obeyed(text: &str) -> Option<char> {
    text.chars().find(|&c| {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        c != '\n' && c != '\t' && (c.is_control() || turns)
    })
}

#[test]
fn no_command_writes_what_a_terminal_obeys() {
    let desk = Desk::with_repository();
    fs::write(desk.at("source/\u{1b}[31mred\u{202e}"), "x").expect("written");
    let names = [
        "--host",
        "\u{1b}]0;owned\u{7}\u{1b}[2J",
        "--job",
        "\u{9b}31mjob\nresult    clean",
        "--tag",
        "\u{202e}tag\u{7f}",
    ];
    let backup =
        [&["backup", "source"], &names[..], &["--command", "st\u{1b}[31mream\rx", "--", "echo", "hello"]].concat();
    for source in ["source", "source/sub"] {
        let mut arguments = backup.clone();
        arguments[1] = source;
        let run = desk.run(&arguments);
        assert!(run.code == 0 && obeyed(&run.err).is_none() && obeyed(&run.out).is_none(), "{run:?}");
    }
    assert_eq!(desk.run(&["backup", "source", "--job", "other"]).code, 0);
    for prefix in ["snapshots", "keys", "packs", "index"] {
        fs::write(desk.at(&format!("repository/{prefix}/\u{1b}[31mnot ours\u{9b}")), "x").expect("written");
    }
    let verbs: [&[&str]; 19] = [
        &["snapshots"],
        &["snapshots", "--compact"],
        &["snapshots", "--latest", "--group-by", "host,job"],
        &["ls", "latest"],
        &["ls", "-lR", "latest"],
        &["find", "*red*"],
        &["stats"],
        &["stats", "latest"],
        &["verify"],
        &["-v", "verify", "--read-data"],
        &["kit"],
        &["-v", "restore", "latest", "--target", "out"],
        &["dump", "latest:absent\u{1b}[2J"],
        &["ls", "\u{1b}[31m"],
        &["snapshots", "--host", "\u{1b}[31m"],
        &["\u{1b}[31m"],
        &["--repo", "no\u{1b}[31m", "snapshots"],
        &["-vv", "backup", "source", "--host", "\u{1b}[31m"],
        &["complete", "--", "snapshots", "--job", ""],
    ];
    for verb in verbs {
        for json in [&[][..], &["--json"], &["--progress", "json"]] {
            let is_complete = verb[0] == "complete";
            let run = desk.run(&if is_complete { verb.to_vec() } else { [json, verb].concat() });
            for text in [&run.out, &run.err] {
                assert_eq!(obeyed(text), None, "{verb:?} {json:?}: {text:?}");
                assert!(
                    !text.lines().any(|line| line == "result    clean") || verb.contains(&"verify"),
                    "{verb:?}: {text}"
                );
            }
        }
    }
    // What somebody asked for comes as it is.
    let raw = desk.command(&["dump", "latest:st\u{1b}[31mream\rx"]).stderr(Stdio::null()).output().expect("runs");
    assert!(raw.status.success() || raw.stdout.is_empty());
}
