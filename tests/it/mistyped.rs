//! What people get wrong at the keyboard: told as what it is, before anything is opened, with exit code 2 and a way on.

use std::fs;

use crate::support::desk::Desk;

#[test]
fn a_pattern_that_is_none_is_refused_everywhere_with_what_is_wrong_in_it() {
    let desk = Desk::with_repository();
    desk.backup();
    fs::write(desk.at("patterns"), "*.txt\n# [\nx[\n").expect("written");
    let by_option: [&[&str]; 9] = [
        &["find", "x["],
        &["find", "-i", "x["],
        &["restore", "latest", "--target", "out", "--include", "x["],
        &["restore", "latest", "--target", "out", "--iinclude", "x["],
        &["restore", "latest", "--target", "out", "--exclude", "x["],
        &["restore", "latest", "--target", "out", "--iexclude", "x["],
        &["restore", "latest", "--target", "out", "--include-xattr", "x["],
        &["backup", "source", "--exclude", "x["],
        &["backup", "source", "--iexclude", "x["],
    ];
    for arguments in by_option {
        let run = desk.run(arguments);
        assert_eq!(run.code, 2, "{arguments:?}: {run:?}");
        assert!(run.err.contains("\"x[\" is not a pattern") && run.err.contains("unclosed"), "{arguments:?}: {run:?}");
    }
    let by_file: [&[&str]; 4] = [
        &["restore", "latest", "--target", "out", "--include-file", "patterns"],
        &["restore", "latest", "--target", "out", "--exclude-file", "patterns"],
        &["backup", "source", "--exclude-file", "patterns"],
        &["backup", "source", "--iexclude-file", "patterns"],
    ];
    for arguments in by_file {
        let run = desk.run(arguments);
        assert_eq!(run.code, 2, "{arguments:?}: {run:?}");
        assert!(run.err.contains("\"x[\" is not a pattern") && run.err.contains("(line 3 of patterns)"), "{run:?}");
    }
    for (wrong, why) in [("[z-a]", "range"), ("x\\", "\\"), ("", "empty"), ("{a", "alternate")] {
        let run = desk.run(&["find", wrong]);
        assert!(run.code == 2 && run.err.contains(why), "{wrong:?}: {run:?}");
    }
    fs::write(desk.at("paths"), "source/x[\n").expect("written");
    let run = desk.run(&["backup", "--files-from", "paths"]);
    assert!(run.code == 2 && run.err.contains("is not a pattern") && run.err.contains("unclosed"), "{run:?}");
    // One that is a pattern and matches nothing is another matter.
    assert_eq!(desk.run(&["find", "x[yz]"]).code, 1);
    assert!(!desk.at("out").exists(), "nothing was begun");
}

#[test]
fn a_url_is_no_path_and_the_way_to_what_it_names_is_told() {
    let desk = Desk::with_repository();
    let cases = [
        ("s3://hetzner-fsn1/bucket/x", "a bucket is no source yet"),
        ("s3+http://h:1/bucket", "a bucket is no source yet"),
        ("postgresql://joe:geheim@db1/shop", "--postgres URL"),
        ("mariadb://joe:geheim@db1/shop", "--mysql URL"),
        ("file:///srv", "write the path alone"),
        ("https://joe:geheim@example.org/x", "--command NAME -- curl"),
    ];
    for (url, hint) in cases {
        let run = desk.run(&["backup", "source", url]);
        assert!(run.code == 2 && run.err.contains("is no path") && run.err.contains(hint), "{url}: {run:?}");
        assert!(!run.err.contains("geheim"), "{run:?}");
    }
    // Names may have anything in them.
    fs::create_dir_all(desk.at("s3:")).expect("made");
    fs::write(desk.at("s3:/x"), "x").expect("written");
    assert_eq!(desk.run(&["backup", "s3://x"]).code, 0);
}

#[test]
fn an_identity_with_several_slips_is_told_as_one_and_an_empty_file_says_what_belongs_in_it() {
    let desk = Desk::with_passphrase();
    let kit = fs::read_to_string(desk.at("kit")).expect("there");
    let bare = kit.lines().find_map(|line| line.trim().strip_prefix("COFFRE-RECOVERY-")).expect("there").to_owned();
    let other = if bare.starts_with('A') { "B" } else { "A" };
    let swapped = format!("{other}{}", &bare[1..]);
    for slips in [&swapped[..swapped.len() - 1], &format!("{swapped}x"), &bare[1..]] {
        fs::write(desk.at("typed"), slips).expect("written");
        for arguments in [&["snapshots"][..], &["kit", "--check"]] {
            let run = desk.run(&[&["--password-file", "typed"], arguments].concat());
            assert!(run.code == 12 && run.err.contains("mistyped"), "{slips}: {run:?}");
        }
    }
    for empty in ["", "\n", "\u{feff}\r\nsecond line"] {
        fs::write(desk.at("typed"), empty).expect("written");
        let run = desk.run(&["--password-file", "typed", "snapshots"]);
        assert!(run.code == 2 && run.err.contains("typed is empty"), "{run:?}");
        assert!(run.err.contains("hint: the passphrase, or the recovery identity, is the first line"), "{run:?}");
    }
}

#[test]
fn without_a_cache_everything_works_and_nothing_is_left_of_it() {
    let desk = Desk::with_repository();
    fs::remove_dir_all(desk.at(".cache")).expect("there was one");
    let source = desk.at("source").display().to_string();
    for arguments in [&["backup", &source][..], &["snapshots"], &["ls", "latest"], &["verify"]] {
        let run = desk.run(&[&["--no-cache"], arguments].concat());
        assert!(run.code == 0 && run.err.is_empty(), "{arguments:?}: {run:?}");
    }
    assert!(!desk.at(".cache").exists());
}

#[test]
fn every_help_says_where_the_rest_is_and_no_example_is_wrapped_at_80_columns() {
    let desk = Desk::new();
    let help = desk.run(&["--help"]).out;
    let verbs = help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    let verbs: Vec<&str> =
        verbs.take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next()).collect();
    for verb in verbs {
        let long = desk.command(&[verb, "--help"]).env("COLUMNS", "300").output().expect("runs");
        let long = String::from_utf8(long.stdout).expect("text");
        assert!(long.contains("`coffre help environment`"), "{verb}: {long}");
        let examples = long.lines().skip_while(|line| *line != "Examples:").skip(1).take_while(|line| !line.is_empty());
        for example in examples {
            assert!(example.chars().count() <= 80, "{verb}: {example}");
        }
    }
}
