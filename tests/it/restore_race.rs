//! Root restores where somebody else may write, and that somebody exchanges directories and files for links meanwhile.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::support::daemon::skip;
use crate::support::desk::Desk;
use crate::support::tree::describe;

/// Exchanges made before the test ends, and restores.
const EXCHANGES: u64 = 300;
const RESTORES: usize = 4;
const FILES: usize = 200;

/// What somebody did, and files that he could read.
#[derive(Default)]
struct Doings {
    directories: AtomicU64,
    files: AtomicU64,
    read: AtomicU64,
}

/// Puts links to `outside` in the places of the directory `d` of the target and of what is in it, until it is told to stop.
fn disturb(target: &Path, outside: &Path, stop: &AtomicBool, doings: &Doings) {
    let directory = target.join("d");
    for round in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let names = fs::read_dir(&directory).into_iter().flatten().filter_map(Result::ok);
        for (at, item) in names.enumerate() {
            let path = item.path();
            doings.read.fetch_add(u64::from(fs::File::open(&path).is_ok()), Ordering::Relaxed);
            let is_exchanged =
                at % 3 == 0 && fs::remove_file(&path).is_ok() && symlink(outside.join("f0"), &path).is_ok();
            doings.files.fetch_add(u64::from(is_exchanged), Ordering::Relaxed);
            if at % 16 == 0 {
                let away = target.join(format!("away-{}", round % 8));
                if fs::rename(&directory, &away).is_ok() {
                    let is_linked = symlink(outside, &directory).is_ok();
                    doings.directories.fetch_add(u64::from(is_linked), Ordering::Relaxed);
                    std::thread::yield_now();
                    let _ = fs::remove_file(&directory);
                    let _ = fs::rename(&away, &directory);
                }
            }
        }
        std::thread::yield_now();
    }
}

#[test]
fn nothing_outside_the_target_is_written_nor_anything_secret_read() {
    if !rustix::process::geteuid().is_root() {
        return skip("what becomes another user (root)");
    }
    let desk = Desk::with_repository();
    let open_to_all = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("set");
    let (source, target, outside) = (desk.at("shared"), desk.at("target"), desk.at("outside"));
    for directory in [&source.join("d"), &target, &outside] {
        fs::create_dir_all(directory).expect("made");
    }
    for at in 0..FILES {
        for directory in [&source.join("d"), &outside] {
            let path = directory.join(format!("f{at}"));
            fs::write(&path, format!("{} {at}", directory.display()).repeat(40)).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
        }
    }
    [desk.directory.path(), &source, &source.join("d"), &target].iter().for_each(|path| open_to_all(path));
    assert_eq!(desk.run(&["backup", "shared"]).code, 0);
    let spot = format!("latest:{}", source.display());
    let arguments = ["restore", &spot, "--target", "target", "--overwrite", "always"];
    let before = describe(&outside);
    let (stop, doings) = (AtomicBool::new(false), Doings::default());
    let done = || doings.directories.load(Ordering::Relaxed).min(doings.files.load(Ordering::Relaxed));
    std::thread::scope(|scope| {
        scope.spawn(|| crate::as_nobody(|| disturb(&target, &outside, &stop, &doings)));
        let mut runs = Vec::new();
        while runs.len() < RESTORES || done() < EXCHANGES {
            runs.push(desk.run(&arguments));
        }
        stop.store(true, Ordering::Relaxed);
        for run in runs {
            assert!([0, 1, 3].contains(&run.code), "{run:?}");
        }
    });
    assert_eq!(describe(&outside), before);
    assert_eq!(doings.read.load(Ordering::Relaxed), 0, "files of root's own were read");
    let run = desk.run(&arguments);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(describe(&target.join("d")), describe(&source.join("d")));
    assert_eq!(describe(&outside), before);
}
