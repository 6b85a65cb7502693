//! What is on the screen: errors as files in `tests/data/screens`, tables within 80, 100 and 120 columns.
//!
//! `COFFRE_SCREENS=write cargo test --test it screens::` writes them anew; look at the difference before keeping it. What differs from
//! run to run (ids, times, sizes of what is sealed, the directory of the test) is replaced by letters of equal length.

mod pages;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::desk::{Desk, Run};

const WIDTHS: [u16; 3] = [80, 100, 120];

fn compare(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/screens").join(name);
    if std::env::var_os("COFFRE_SCREENS").is_some_and(|value| value == "write") {
        return fs::write(&path, text).expect("written");
    }
    let kept = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(kept == text, "{name} has changed; it was:\n{kept}\nand is:\n{text}");
}

/// Replaces what no two runs have in common.
fn steady(desk: &Desk, text: &str) -> String {
    let directory = desk.directory.path().display().to_string();
    let text = text.replace(&directory, "/DESK");
    let mut steady = String::new();
    let mut word = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_alphanumeric() || c == '-' || c == ':' {
            word.push(c);
            continue;
        }
        let hex = word.trim_end_matches(':');
        let is_pack_directory = hex.len() == 2 && steady.ends_with("packs/");
        let is_hex = (hex.len() >= 8 || is_pack_directory)
            && hex.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
        let is_time = word.len() >= 5
            && word.starts_with(|c: char| c.is_ascii_digit())
            && word.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | ':' | 'T' | 'Z'));
        let identity = word.strip_prefix("COFFRE-RECOVERY-").filter(|groups| !groups.is_empty());
        let is_fingerprint = word.len() == 19 && word.parse::<coffre::Fingerprint>().is_ok();
        match (is_hex, is_time) {
            _ if is_fingerprint => steady.extend(word.chars().map(|c| if c == '-' { c } else { 'X' })),
            _ if identity.is_some() => steady.extend(word.char_indices().map(|(at, c)| match at {
                0..16 => c,
                _ if c == '-' => c,
                _ => 'X',
            })),
            (true, _) => steady.extend(word.chars().map(|c| if c == ':' { c } else { 'x' })),
            (_, true) => steady.extend(word.chars().map(|c| if c.is_ascii_digit() { '0' } else { c })),
            _ => steady.push_str(&word),
        }
        word.clear();
        steady.push(c);
    }
    steady.pop();
    steady
}

fn at_width(desk: &Desk, arguments: &[&str], width: u16) -> Run {
    desk.command(arguments).env("COLUMNS", width.to_string()).output().expect("runs").into()
}

/// The command, what it printed, what it said, and how it ended.
fn shown(desk: &Desk, arguments: &[&str], run: &Run) -> String {
    let command = format!("$ coffre {}\n", arguments.join(" "));
    steady(desk, &format!("{command}{}{}[{}]\n", run.out, run.err, run.code))
}

/// A repository whose sources are many, long and of several kinds.
fn desk_with_long_names() -> Desk {
    let desk = Desk::with_passphrase();
    let deep = "source/a-directory-with-a-name/of-several-words/below-another-one";
    fs::create_dir_all(desk.at(deep)).expect("made");
    let deep = desk.at(deep).display().to_string();
    fs::write(desk.at("twelve"), [7; 12]).expect("written");
    let backups: [&[&str]; 4] = [
        &["backup", "twelve", "--host", "web6"],
        &[
            "backup",
            &deep,
            "--host",
            "web6.backend.example.org",
            "--job",
            "nightly",
            "--tag",
            "with-a-long-name",
            "--tag",
            "second",
        ],
        &["backup", "twelve", "--job", "nightly", "--command", "shop.sql", "--", "echo", "select 1;"],
        &["backup", "twelve", "--job", "nightly", "--command", "postgres/accounting.dump", "--", "echo", "select 2;"],
    ];
    for arguments in backups {
        assert_eq!(desk.run(arguments).code, 0, "{arguments:?}");
    }
    desk
}

#[test]
fn snapshots_have_a_row_each_at_every_width() {
    let desk = desk_with_long_names();
    for width in WIDTHS {
        for arguments in
            [&["snapshots"][..], &["snapshots", "--compact"], &["snapshots", "--group-by", "host", "--latest"]]
        {
            let run = at_width(&desk, arguments, width);
            assert!(run.out.lines().all(|line| line.chars().count() <= usize::from(width)), "{run:?}");
            let rows = run.out.lines().filter(|line| line.contains(" UTC") || line.contains("SIZE")).count();
            assert!(rows > 0 && run.out.contains("; times in UTC\n"), "{run:?}");
        }
        assert_eq!(at_width(&desk, &["snapshots"], width).out.lines().count(), 1 + 4 + 1, "a row each");
    }
}

#[test]
fn errors_say_what_where_and_what_to_try() {
    let desk = Desk::with_passphrase();
    desk.backup();
    fs::write(desk.at("file"), "in the way").expect("written");
    let mut page = String::new();
    for arguments in [
        &["--repo", "nowhere", "snapshots"][..],
        &["--repo", "s3://hetzner-fsn1/bucket/prefix", "snapshots"],
        &["--repo", "s3://hetzner-fsn2/bucket/prefix", "snapshots"],
        &["ls", "ffff"],
        &["restore"],
        &["restore", "latest"],
        &["dump"],
        &["diff", "latest"],
        &["restore", "latest", "--target", "file"],
        &["restore", "latest", "--target", "file/below"],
        &["backup", "absent"],
        &["backup", "absent", "absent as well"],
        &["find", "absent"],
        &["check"],
        &["forget"],
        &["unlock"],
        &["snapshotz"],
        &["ls", "--wat", "latest"],
        &["--memory", "10", "stats"],
        &["--limit-upload", "2000", "backup", "source"],
        &["--limit-upload", "20B", "backup", "source"],
        &["backup", "source", "--exclude-file", "absent"],
        &["backup", "source", "--exclude", "a["],
        &["--password-file", "absent", "snapshots"],
    ] {
        page += &shown(&desk, arguments, &desk.run(arguments));
        page.push('\n');
    }
    compare("errors.txt", &page);
}

#[test]
fn a_directory_that_may_not_be_written_is_no_matter_of_keys() {
    let desk = Desk::with_passphrase();
    fs::set_permissions(desk.at("repository/sessions"), fs::Permissions::from_mode(0o500)).ok();
    fs::set_permissions(desk.directory.path(), fs::Permissions::from_mode(0o755)).expect("set");
    let mut command = desk.command(&["backup", "source"]);
    command.env("COFFRE_CACHE_DIR", "/nonexistent/cache").env("HOME", "/nonexistent");
    fs::create_dir(desk.at("state")).expect("made");
    fs::set_permissions(desk.at("state"), fs::Permissions::from_mode(0o777)).expect("set");
    command.env("COFFRE_STATE_DIR", desk.at("state"));
    if rustix::process::geteuid().is_root() {
        // Everybody may read it, nobody but root write it.
        let readable = std::process::Command::new("chmod").args(["-R", "a+rX"]).arg(desk.directory.path()).status();
        assert!(readable.expect("runs").success());
        std::os::unix::process::CommandExt::uid(&mut command, 65534);
        std::os::unix::process::CommandExt::gid(&mut command, 65534);
    }
    let run: Run = command.output().expect("runs").into();
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.err.contains("hint: may this user read and write the repository's directory"), "{run:?}");
    assert!(!run.err.contains("AWS_") && run.err.matches("ermission denied").count() == 1, "{run:?}");
}

/// The help of every verb and topic, whole. Whoever changes a flag sees here what it looks like.
#[test]
fn help_is_what_it_was() {
    let desk = Desk::new();
    let help = desk.run(&["--help"]).out;
    let verbs: Vec<&str> = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(verbs.len() > 10, "{help}");
    let mut page = shown(&desk, &["--help"], &desk.run(&["--help"]));
    for verb in verbs {
        page += "\n";
        page += &shown(&desk, &[verb, "--help"], &desk.run(&[verb, "--help"]));
        let inner: &[&str] = match verb {
            "key" => &["list", "add", "passwd", "remove", "revoke-writer"],
            "hold" => &["add", "remove", "list"],
            _ => &[],
        };
        for inner in inner {
            page += "\n";
            page += &shown(&desk, &[verb, inner, "--help"], &desk.run(&[verb, inner, "--help"]));
        }
    }
    compare("help.txt", &page);
}

#[test]
fn look_verbs_have_examples_and_what_their_letters_mean() {
    let desk = Desk::new();
    for verb in ["snapshots", "ls", "find", "diff", "stats", "dump", "verify"] {
        let help = desk.run(&[verb, "--help"]);
        assert!(
            help.out.contains("Examples:") && help.out.contains(&format!("  coffre {verb}")),
            "{verb}: {}",
            help.out
        );
    }
    let diff = desk.run(&["diff", "--help"]).out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(diff.contains("+ added, - removed, M content changed, T another kind, U only owner"), "{diff}");
}
