//! What the verbs print at their end, whole: one file a screen, and where the width matters each width in it.
//!
//! Everything lies below `/proc/self/cwd`, the directory that the program was started in, so that paths are the same in every run
//! and what is cut is always cut at the same place.

use std::fs;
use std::path::{Path, PathBuf};

use super::{WIDTHS, compare, steady};
use crate::support::desk::{Desk, Run};
use crate::support::mount::Mount;
use crate::support::random_bytes;

const HERE: &str = "/proc/self/cwd";
const DEEP: &str = "/proc/self/cwd/source/a-directory-with-a-name/of-several-words";

fn run_at(desk: &Desk, arguments: &[&str], width: u16) -> Run {
    let mut command = desk.command(arguments);
    command.env("COFFRE_REPO", format!("{HERE}/repository")).env("COFFRE_PASSWORD_FILE", format!("{HERE}/password"));
    command.env("COLUMNS", width.to_string()).output().expect("runs").into()
}

/// The command, all that it printed and said, and its code; what the measure of time and of sealed bytes gives is replaced.
fn page(desk: &Desk, arguments: &[&str], width: u16) -> String {
    let run = run_at(desk, arguments, width);
    let lines = [run.out.lines(), run.err.lines()].into_iter().flatten().map(measured);
    let text: String = lines.map(|line| line + "\n").collect();
    let text = steady(desk, &text)
        .replace("packs/xx/", "packs/")
        .replace(concat!("coffre ", env!("CARGO_PKG_VERSION")), "coffre VERSION")
        .replace(&format!(" on {}\n", rustix::system::uname().nodename().to_string_lossy()), " on THIS-HOST\n");
    let command = steady(desk, &arguments.join(" "));
    format!("$ coffre {command}    # {width} columns\n{text}[{}]\n\n", run.code)
}

/// Replaces the digits of durations, and of sizes that hold for sealed bytes, by `#`.
fn measured(line: &str) -> String {
    let hide = |text: &str| text.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect::<String>();
    if line.starts_with("duration") || line.starts_with("added ") {
        // As many digits as there are depends on the run.
        return hide(line).replace("##", "#").replace("##", "#").replace("#.#", "#");
    }
    let sealed = [" packs, ", "  "].into_iter().filter_map(|before| Some(line.rfind(before)? + before.len())).max();
    match sealed {
        Some(at) if line.ends_with("iB") && !line.starts_with(' ') => format!("{}{}", &line[..at], hide(&line[at..])),
        _ => line.to_owned(),
    }
}

fn pages(name: &str, desk: &Desk, widths: &[u16], commands: &[&[&str]]) {
    let each = widths.iter().flat_map(|&width| commands.iter().map(move |arguments| page(desk, arguments, width)));
    compare(name, &each.collect::<String>());
}

fn done(desk: &Desk, arguments: &[&str]) {
    let run = run_at(desk, arguments, 80);
    assert_eq!(run.code, 0, "{arguments:?}: {run:?}");
}

/// A repository with trees, commands and a database, with long names and tags.
fn desk_of_all_kinds() -> Desk {
    let desk = Desk::with_passphrase();
    fs::create_dir_all(desk.at("source/a-directory-with-a-name/of-several-words")).expect("made");
    fs::write(desk.at("source/a-directory-with-a-name/of-several-words/file"), "content").expect("written");
    let database = rusqlite::Connection::open(desk.at("accounting.db")).expect("opened");
    database.execute_batch("CREATE TABLE item (id INTEGER); INSERT INTO item VALUES (1)").expect("made");
    drop(database);
    let at = |name: &str| format!("{HERE}/{name}");
    done(&desk, &["backup", DEEP, "--host", "web6"]);
    let tags = ["--tag", "with-a-long-name", "--tag", "second", "--tag", "a-third-tag"];
    done(&desk, &[&["backup", DEEP, "--host", "web6.backend.example.org", "--job", "nightly"], &tags[..]].concat());
    done(&desk, &["backup", DEEP, "--job", "nightly", "--sqlite", &at("accounting.db")]);
    done(&desk, &["backup", "--job", "dumps", "--command", "postgres/accounting.dump", "--", "echo", "select 2;"]);
    desk
}

/// The largest file below a directory.
fn largest(directory: &Path) -> PathBuf {
    let names = crate::support::files_in(directory);
    let (name, _) = names.into_iter().max_by_key(|(_, content)| content.len()).expect("one at least");
    directory.join(name)
}

#[test]
fn the_list_of_snapshots_fits_each_width() {
    let desk = desk_of_all_kinds();
    let commands: [&[&str]; 3] =
        [&["snapshots"], &["snapshots", "--compact"], &["snapshots", "--group-by", "host,job", "--latest"]];
    pages("snapshots.txt", &desk, &WIDTHS, &commands);
}

#[test]
fn the_kit_is_a_page_that_can_be_typed_from() {
    let desk = desk_of_all_kinds();
    pages("kit.txt", &desk, &WIDTHS, &[&["kit"]]);
}

#[test]
fn a_new_repository_is_told_in_a_few_lines() {
    let desk = Desk::new();
    let mut text = String::new();
    for width in WIDTHS {
        text += &page(&desk, &["init", "--recovery-kit", "kit"], width);
        text += &page(&desk, &["init", "--recovery-kit", "other"], width);
        fs::remove_dir_all(desk.at("repository")).expect("there");
        fs::remove_file(desk.at("kit")).expect("there");
        text += &page(&desk, &["init", "--show-identity"], width);
        fs::remove_dir_all(desk.at("repository")).expect("there");
    }
    compare("init.txt", &text);
}

#[test]
fn differences_come_with_what_their_signs_mean() {
    let desk = Desk::with_passphrase();
    fs::write(desk.at("source/old"), "old\n").expect("written");
    done(&desk, &["backup", "/proc/self/cwd/source"]);
    // Above it is what the system changes at any time.
    let id = desk.json(&["snapshots"])[0]["id"].as_str().expect("an id").to_owned();
    let (first, last) = (format!("{id}:{HERE}/source"), "latest:/proc/self/cwd/source");
    fs::write(desk.at("source/a.txt"), "changed\n").expect("written");
    fs::remove_file(desk.at("source/link")).expect("removed");
    fs::create_dir(desk.at("source/link")).expect("made");
    fs::write(desk.at("source/new"), "new\n").expect("written");
    fs::remove_file(desk.at("source/old")).expect("removed");
    done(&desk, &["backup", "/proc/self/cwd/source"]);
    let commands: [&[&str]; 3] = [&["diff", &first, last], &["diff", &first, last, "--metadata"], &["diff", "--help"]];
    pages("diff.txt", &desk, &WIDTHS, &commands);
}

#[test]
fn a_verification_and_a_restore_tell_each_damage_once() {
    let desk = Desk::with_passphrase();
    done(&desk, &["backup", "/proc/self/cwd/source"]);
    pages("verify.txt", &desk, &WIDTHS, &[&["verify"], &["verify", "--read-data"]]);
    // Below the least length of a chunk: what is cut further on depends on the repository's key.
    fs::write(desk.at("source/large"), random_bytes(5, 60_000)).expect("written");
    done(&desk, &["backup", "/proc/self/cwd/source"]);
    let pack = largest(&desk.at("repository/packs"));
    let mut bytes = fs::read(&pack).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::set_permissions(&pack, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
    fs::write(&pack, bytes).expect("written");
    let mut text = String::new();
    for width in WIDTHS {
        text += &page(&desk, &["verify", "--read-data"], width);
        let target = format!("out-{width}");
        text += &page(&desk, &["restore", "latest:/proc/self/cwd/source", "--target", &target], width);
        assert!(desk.at(&target).join("large.damaged").exists() && !desk.at(&target).join("large").exists());
    }
    compare("damage.txt", &text);
}

#[test]
fn a_full_target_is_a_line_and_a_sum() {
    let desk = Desk::with_passphrase();
    fs::write(desk.at("source/dump.sql"), random_bytes(5, 3_000_000)).expect("written");
    done(&desk, &["backup", "/proc/self/cwd/source"]);
    let mut text = String::new();
    for width in WIDTHS {
        let name = format!("out-{width}");
        let Some(_mount) = Mount::tmpfs(&desk.at(&name), 1000) else { return };
        // What is there already has its room.
        done(&desk, &["restore", "latest:/proc/self/cwd/source", "--target", &name, "--exclude", "dump.sql"]);
        text += &page(&desk, &["restore", "latest:/proc/self/cwd/source", "--target", &name], width);
    }
    compare("full.txt", &text);
}
