//! What runs of one host keep each other from, and what they do not.

use std::fs::{self, File};
use std::path::PathBuf;

use crate::configuration::{configured, run, write};
use crate::support::desk::Desk;

/// The file that a run locks for the only repository that was backed up into.
fn only_lock(desk: &Desk) -> PathBuf {
    let directory = fs::read_dir(desk.at(".local/state/coffre/runs")).expect("there");
    let files: Vec<PathBuf> = directory.map(|file| file.expect("read").path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn jobs_of_one_repository_do_not_wait_for_a_run_that_has_another() {
    let desk = configured();
    assert_eq!(run(&desk, &["run"]).code, 0);
    let lock = File::open(only_lock(&desk)).expect("opened");
    let near = desk.at("near");
    assert_eq!(desk.run(&["init", "--repo", near.to_str().expect("plain"), "--show-identity"]).code, 0);
    let more = format!(
        "[repositories.near]\nlocation = \"{}\"\npassword-file = \"{}\"\n[jobs.zz]\nrepository = \"near\"\npaths = \"{}\"\n",
        near.display(),
        desk.at("password").display(),
        desk.at("source").display()
    );
    let text = fs::read_to_string(desk.at("coffre.toml")).expect("there");
    write(&desk.at("coffre.toml"), &format!("{text}{more}"));
    lock.lock().expect("locked");
    for wait in [&["run"][..], &["run", "--wait", "1s"]] {
        let both = run(&desk, wait);
        assert_eq!(both.code, 11, "{both:?}");
        assert!(both.err.contains("another run of this host backs up into"), "{both:?}");
        let first = both.out.lines().next().unwrap_or_default();
        // Only who may wait changes the order.
        assert_eq!(first.contains("zz"), wait.len() > 1, "{both:?}");
        assert!(both.out.lines().any(|line| line.contains("zz")), "{both:?}");
    }
    lock.unlock().expect("unlocked");
    assert_eq!(run(&desk, &["run"]).code, 0);
}

#[test]
fn what_is_due_is_done_by_one_run_at_a_time_and_no_backup_waits_for_it() {
    let desk = configured();
    assert_eq!(run(&desk, &["run"]).code, 0);
    let text = fs::read_to_string(desk.at("coffre.toml")).expect("there");
    let due = "[repositories.archive.verify]\nevery = \"1d\"\n";
    write(&desk.at("coffre.toml"), &format!("{text}{due}"));
    let lock = File::create(only_lock(&desk).with_extension("work.lock")).expect("made");
    lock.lock().expect("locked");
    let beside = run(&desk, &["run"]);
    assert!(beside.code == 0 && beside.err.contains("another run of this host does what is due"), "{beside:?}");
    assert!(beside.out.contains("nightly") && !beside.out.contains("verify"), "{beside:?}");
    lock.unlock().expect("unlocked");
    let done = run(&desk, &["run"]);
    assert!(done.code == 0 && done.out.contains("verify"), "{done:?}");
}
