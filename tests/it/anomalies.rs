//! What a backup finds odd beside earlier ones: told with numbers, kept with the snapshot, and no measure for the next until it is accepted.

use std::fs;

use serde_json::Value;

use crate::support::desk::{Desk, Run};
use crate::support::random_bytes;

/// Files of a share that somebody works with.
const FILES: u64 = 120;

/// A desk with a share of text files, backed up once.
fn with_share() -> Desk {
    let desk = Desk::with_repository();
    for at in 0..FILES {
        let directory = desk.at(&format!("share/{}", at % 7));
        fs::create_dir_all(&directory).expect("made");
        fs::write(directory.join(format!("{at}.txt")), text(at)).expect("written");
    }
    assert_eq!(backup(&desk, &[]).code, 0);
    desk
}

fn text(seed: u64) -> String {
    (0..200).map(|line| format!("line {line} of letter {}\n", seed * 1000 + line)).collect()
}

fn backup(desk: &Desk, more: &[&str]) -> Run {
    desk.run(&[&["--json", "backup", "share"], more].concat())
}

/// What a backup is flagged for: kinds, and whether they were noticed before.
fn flags(run: &Run) -> Vec<(String, bool)> {
    let events = run.out.lines().map(|line| serde_json::from_str::<Value>(line).expect("an object"));
    let summary = events.into_iter().find(|event| event["event"] == "summary").expect("a summary");
    let anomalies = summary["anomalies"].as_array().expect("a list").iter();
    anomalies.map(|it| (it["kind"].as_str().expect("text").to_owned(), !it["since"].is_null())).collect()
}

fn share(desk: &Desk) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = (0..FILES).map(|at| desk.at(&format!("share/{}/{at}.txt", at % 7))).collect();
    files.sort();
    files
}

fn encrypt(files: &[std::path::PathBuf], name: impl Fn(&std::path::Path) -> std::path::PathBuf) {
    for (at, file) in files.iter().enumerate() {
        fs::remove_file(file).expect("there");
        fs::write(name(file), random_bytes(at as u64 + 1, 5000)).expect("written");
    }
}

fn forget_all_but_one(desk: &Desk) -> Vec<(bool, String)> {
    let decided = desk.json(&["forget", "--keep-last", "1", "--dry-run"]);
    let decided = decided.iter().filter(|event| event["event"] == "decision");
    decided.map(|it| (it["forget"].as_bool().expect("said"), it["why"].as_str().expect("text").to_owned())).collect()
}

#[test]
fn files_that_somebody_encrypted_flag_the_snapshot_until_they_are_accepted() {
    let desk = with_share();
    encrypt(&share(&desk)[..20], std::path::Path::to_owned);
    let odd = backup(&desk, &[]);
    assert_eq!((odd.code, flags(&odd)), (3, vec![("random".to_owned(), false)]), "{odd:?}");
    // Nothing changes any more, and it is as odd as before.
    let shown = desk.run(&["backup", "share"]);
    assert_eq!(shown.code, 3, "{shown:?}");
    let share_path = desk.at("share").display().to_string();
    for wanted in [
        &*format!("suspicious {share_path}: 20 of 120 files (17 %) came to look like random bytes"),
        ", SUSPICIOUS\n",
        "(since 20",
        "--accept-anomalies",
    ] {
        assert!(shown.out.contains(wanted), "{wanted}: {shown:?}");
    }
    // Whoever looks sees it, and retention lets neither take the place of the good one.
    let listed = desk.run(&["snapshots"]);
    assert!(listed.code == 0 && listed.out.matches("SUSPICIOUS").count() == 2, "{listed:?}");
    let status = desk.run(&["status"]);
    assert!(status.code == 3 && status.out.contains("SUSPICIOUS  host1"), "{status:?}");
    let read = desk.run(&["ls", "latest"]);
    assert!(read.code == 0 && read.err.contains("was flagged when it was made"), "{read:?}");
    let kept = forget_all_but_one(&desk);
    assert!(kept.len() == 3 && kept.iter().all(|(goes, _)| !goes), "{kept:?}");

    let accepted = backup(&desk, &["--accept-anomalies", "--skip-if-unchanged"]);
    assert_eq!((accepted.code, flags(&accepted)), (0, vec![]), "{accepted:?}");
    assert!(accepted.out.contains("accepted: 20 of 120 files"), "{accepted:?}");
    let after = backup(&desk, &[]);
    assert_eq!((after.code, flags(&after)), (0, vec![]), "{after:?}");
    assert_eq!(desk.run(&["status"]).code, 0);
    let kept = forget_all_but_one(&desk);
    assert_eq!(kept.iter().map(|(goes, _)| *goes).collect::<Vec<_>>(), [false, true, true, true, true], "{kept:?}");
    assert!(kept[2].1.starts_with("suspicious, and "), "{kept:?}");
}

#[test]
fn encrypting_under_new_names_is_seen_and_moving_is_not() {
    let desk = with_share();
    fs::rename(desk.at("share/3"), desk.at("share/elsewhere")).expect("moved");
    fs::rename(desk.at("share/4"), desk.at("share/old")).expect("moved");
    fs::rename(desk.at("share/5"), desk.at("share/older")).expect("moved");
    fs::rename(desk.at("share/6"), desk.at("share/oldest")).expect("moved");
    let moved = backup(&desk, &["--change-limit", "1"]);
    assert_eq!((moved.code, flags(&moved)), (0, vec![]), "{moved:?}");

    let desk = with_share();
    encrypt(&share(&desk)[..20], |file| file.with_extension("locked"));
    let odd = backup(&desk, &[]);
    assert_eq!((odd.code, flags(&odd)), (3, vec![("random".to_owned(), false)]), "{odd:?}");

    // New ones beside what is there are new, whatever they look like.
    let desk = with_share();
    for at in 0..20 {
        fs::write(desk.at(&format!("share/{at}.key")), random_bytes(at, 5000)).expect("written");
    }
    assert_eq!(backup(&desk, &[]).code, 0);
    // And those that looked so before may change.
    for at in 0..20 {
        fs::write(desk.at(&format!("share/{at}.key")), random_bytes(at + 100, 5000)).expect("written");
    }
    assert_eq!(backup(&desk, &[]).code, 0);
}

#[test]
fn many_files_that_changed_or_went_at_once_are_told_with_numbers_and_limits_are_the_users() {
    let desk = with_share();
    let files = share(&desk);
    for (at, file) in files[..50].iter().enumerate() {
        fs::write(file, text(at as u64 + 5000)).expect("written");
    }
    files[50..61].iter().for_each(|file| fs::remove_file(file).expect("there"));
    let lenient = backup(&desk, &["--change-limit", "60", "--dry-run"]);
    assert_eq!(lenient.code, 0, "{lenient:?}");
    let odd = backup(&desk, &[]);
    assert_eq!((odd.code, flags(&odd)), (3, vec![("changed".to_owned(), false)]), "{odd:?}");
    let told = "61 of 120 files (51 %) are not what they were in the backup before: 50 changed, 11 gone";
    assert!(odd.out.contains(told), "{odd:?}");
    // A few of a few are no mass, and touching changes nothing.
    let desk = Desk::with_repository();
    assert_eq!(desk.run(&["backup", "source"]).code, 0);
    for (name, bytes) in [("a.txt", "x"), ("sub/b.txt", "y")] {
        fs::write(desk.at("source").join(name), bytes.repeat(120_000)).expect("written");
    }
    assert_eq!(desk.run(&["backup", "source"]).code, 0);
}

#[test]
fn a_host_that_reads_nothing_knows_what_it_flagged_even_without_its_cache() {
    let desk = with_share();
    let added = desk.run(&["key", "add", "--writer", "web", "--host", "host1", "--to", "web.secret"]);
    assert_eq!(added.code, 0, "{added:?}");
    let as_writer = |more: &[&str]| -> Run {
        let mut command = desk.command(&[&["--json", "backup", "share"], more].concat());
        command.env("COFFRE_PASSWORD_FILE", desk.at("web.secret")).output().expect("runs").into()
    };
    assert_eq!(as_writer(&[]).code, 0, "the first of its series");
    encrypt(&share(&desk)[..20], std::path::Path::to_owned);
    let odd = as_writer(&[]);
    assert_eq!((odd.code, flags(&odd)), (3, vec![("random".to_owned(), false)]), "{odd:?}");
    fs::remove_dir_all(desk.at(".cache")).expect("there");
    let again = as_writer(&[]);
    assert_eq!((again.code, flags(&again)), (3, vec![("random".to_owned(), true)]), "{again:?}");
    let status: Run =
        desk.command(&["status"]).env("COFFRE_PASSWORD_FILE", desk.at("web.secret")).output().expect("runs").into();
    assert!(status.code == 3 && status.out.contains("SUSPICIOUS"), "{status:?}");
    // The series of others is no business of this host, whatever it says of its own.
    assert_eq!(backup(&desk, &["--change-limit", "0", "--random-limit", "0"]).code, 0);
    assert_eq!(as_writer(&["--accept-anomalies"]).code, 0);
    assert_eq!(as_writer(&[]).code, 0);
}
