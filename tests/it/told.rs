//! What many files have in common is told once: a pack that is gone, a target that is read-only, rights that are missing.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::desk::{Desk, Run};
use crate::support::mount::Mount;
use crate::support::random_bytes;

const FILES: usize = 40;

/// A repository with a snapshot of forty small files, which are all in one pack.
fn desk_with_many_files() -> Desk {
    let desk = Desk::with_repository();
    fs::create_dir(desk.at("many")).expect("made");
    for at in 0..FILES {
        fs::write(desk.at(&format!("many/f{at:02}")), random_bytes(at as u64, 1000 + at)).expect("written");
    }
    assert_eq!(desk.run(&["backup", "/proc/self/cwd/many"]).code, 0);
    desk
}

const RESTORE: [&str; 4] = ["restore", "latest:/proc/self/cwd/many", "--target", "out"];

/// Changes every frame of the pack that holds the contents: the largest.
fn damage(desk: &Desk) {
    let packs = fs::read_dir(desk.at("repository/packs"))
        .expect("there")
        .flat_map(|directory| fs::read_dir(directory.expect("read").path()).expect("there"))
        .map(|file| file.expect("read").path());
    let pack = packs.max_by_key(|path| fs::metadata(path).expect("there").len()).expect("there are two");
    let mut bytes = fs::read(&pack).expect("read");
    let frames = 64..FILES * 1000;
    bytes[frames].iter_mut().for_each(|byte| *byte ^= 1);
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).expect("set");
    fs::write(pack, bytes).expect("written");
}

/// The problems of a run with `--json`.
fn problems(run: &Run) -> Vec<String> {
    let objects = run.out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("an object"));
    let problems = objects.filter(|object| object["event"] == "problem");
    problems.map(|problem| problem["subject"].as_str().expect("named").to_owned()).collect()
}

/// Lines on standard error that name one of the files.
fn naming(run: &Run) -> usize {
    run.err.lines().filter(|line| line.trim_start().starts_with("f")).count()
}

#[test]
fn files_of_a_pack_that_is_damaged_are_one_line_and_the_first_of_them() {
    let desk = desk_with_many_files();
    damage(&desk);
    let run = desk.run(&RESTORE);
    assert_eq!((run.code, naming(&run)), (4, 5), "{run:?}");
    assert_eq!(run.err.matches(" is damaged: ").count(), 1, "{run:?}");
    assert!(run.err.contains(", 40 times:\n  f") && run.err.contains("\n  and 35 more; -v names each\n"), "{run:?}");
    assert!(run.out.contains("40 files could NOT be restored whole\n"), "{run:?}");
    fs::remove_dir_all(desk.at("out")).expect("there");
    let each = desk.run(&[&["-v"][..], &RESTORE].concat());
    assert_eq!((each.code, naming(&each)), (4, FILES), "{each:?}");
    fs::remove_dir_all(desk.at("out")).expect("there");
    let objects = desk.run(&[&["--json"][..], &RESTORE].concat());
    assert_eq!((objects.code, problems(&objects).len()), (4, FILES), "{objects:?}");
    let found = desk.run(&["verify", "--read-data"]);
    assert_eq!(found.out.lines().filter(|line| line.starts_with("DAMAGED  packs/")).count(), 1, "{found:?}");
    assert_eq!(found.out.matches("\n  /proc/self/cwd/many/f").count(), 5, "{found:?}");
}

#[test]
fn a_target_that_is_read_only_is_told_once_for_each_thing_that_it_refuses() {
    let desk = desk_with_many_files();
    let Some(mount) = Mount::tmpfs(&desk.at("out"), 1000) else { return };
    mount.remount("ro");
    let run = desk.run(&RESTORE);
    assert_eq!((run.code, naming(&run)), (3, 5), "{run:?}");
    assert!(run.err.contains("Read-only file system (os error 30), 40 times:\n  f00\n"), "{run:?}");
    let objects = desk.run(&[&["--json"][..], &RESTORE].concat());
    assert!(problems(&objects).len() >= FILES, "{objects:?}");
}

#[test]
fn files_that_may_not_be_read_are_one_line_at_a_backup() {
    let desk = desk_with_many_files();
    let many = desk.at("many");
    for file in fs::read_dir(&many).expect("there") {
        fs::set_permissions(file.expect("read").path(), fs::Permissions::from_mode(0o000)).expect("set");
    }
    let run = as_nobody(&desk, &["backup", "/proc/self/cwd/many", "--force"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert_eq!(run.err.matches("Permission denied").count(), 1, "{run:?}");
    assert!(run.err.contains(", 40 times:\n  /") && run.err.contains("\n  and 35 more; -v names each\n"), "{run:?}");
    let objects = as_nobody(&desk, &["--json", "backup", "/proc/self/cwd/many", "--force"]);
    assert_eq!(
        (objects.code, problems(&objects).iter().filter(|of| of.contains("/many/f")).count()),
        (3, FILES),
        "{objects:?}"
    );
}

/// Runs the program as somebody who is not root and to whom everything on the desk but the files belongs.
fn as_nobody(desk: &Desk, arguments: &[&str]) -> Run {
    let mut command = desk.command(arguments);
    if rustix::process::geteuid().is_root() {
        let own = std::process::Command::new("chown").args(["-R", "65534:65534"]).arg(desk.directory.path()).status();
        assert!(own.expect("runs").success());
        // Its own files of mode 0 cannot be read by anybody but root.
        std::os::unix::process::CommandExt::uid(&mut command, 65534);
        std::os::unix::process::CommandExt::gid(&mut command, 65534);
    }
    command.output().expect("runs").into()
}
