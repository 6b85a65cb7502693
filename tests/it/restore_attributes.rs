//! Rights and attributes of what was restored: those of the snapshot, none besides, and for nobody else.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use coffre::model::entry::EntryKind;
use coffre::ops::restore::{RestoreOptions, Selection};
use coffre::progress::{Problem, ProblemKind};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat};

use crate::support::daemon::skip;
use crate::support::desk::Desk;
use crate::support::place::{Place, assert_same};
use crate::support::tree::{describe, set_mtime};

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().expect("there").mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_target_hands_down_or_had_is_not_left_on_what_was_restored() {
    let place = Place::new().await;
    place.plant("secret", "secret");
    set_mode(&place.source().join("secret"), 0o640);
    place.plant("kept", "kept");
    fs::create_dir(place.source().join("d")).expect("made");
    set_mode(&place.source().join("d"), 0o750);
    set_mtime(&place.source(), 1_000_000_000, 0);
    let snapshot = place.backup().await;
    fs::create_dir(place.target()).expect("made");
    fs::write(place.target().join("kept"), "kept").expect("written");
    let set = |name: &str, attribute: &str, value: &[u8]| {
        rustix::fs::setxattr(place.target().join(name), attribute, value, XattrFlags::empty())
    };
    let inherited = Command::new("setfacl").args(["-m", "d:u:4711:rwx"]).arg(place.target()).status();
    if set("kept", "user.origin", b"elsewhere").is_err() || !inherited.is_ok_and(|status| status.success()) {
        return skip("a file system with attributes and access control lists");
    }
    let given = Command::new("setfacl").args(["-m", "u:4711:rwx"]).arg(place.target().join("kept")).status();
    assert!(given.expect("runs").success());
    if rustix::process::geteuid().is_root() {
        // cap_net_raw, permitted and effective, as the kernel keeps it.
        let capability = [0x0200_0001u32, 1 << 13, 0, 0, 0].map(u32::to_le_bytes).concat();
        set("kept", "security.capability", &capability).expect("root may");
    }
    let (report, problems) = place.restore(place.options(&snapshot)).await;
    assert_eq!((problems, report.unchanged_files), (vec![], 1));
    assert_same(&place.source(), &place.target());
}

#[test]
fn no_bits_of_another_owner_are_given_away() {
    if !rustix::process::geteuid().is_root() {
        return skip("what makes files of other users (root)");
    }
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("made");
    let (place, snapshot) = runtime().block_on(async {
        let place = Place::new().await;
        place.plant("tool", "#!/bin/sh");
        place.plant("own", "#!/bin/sh");
        mknodat(CWD, place.source().join("pipe"), FileType::Fifo, Mode::RUSR, 0).expect("made");
        for (name, owner, bits) in [("tool", 33, 0o6755), ("pipe", 33, 0o2640), ("own", 65534, 0o6755)] {
            chown(place.source().join(name), Some(owner), Some(owner)).expect("root may");
            set_mode(&place.source().join(name), bits);
        }
        let snapshot = place.backup().await;
        (place, snapshot)
    });
    for path in [place.directory.path(), &place.cache()] {
        let done = Command::new("chmod").args(["-R", "a+rwX"]).arg(path).status().expect("runs");
        assert!(done.success());
    }
    crate::as_nobody(|| {
        runtime().block_on(async {
            let (report, problems) = place.restore(place.options(&snapshot)).await;
            let told = |name: &str, what: &str| problems.iter().any(|p| p.subject == name && p.message.contains(what));
            assert!(told("tool", "set-user-id") && told("tool", "set-group-id"), "{problems:?}");
            assert!(told("pipe", "set-group-id"), "{problems:?}");
            assert_eq!((problems.len(), report.owners_missed), (3, 3), "{problems:?}");
        });
    });
    let modes = ["tool", "pipe", "own"].map(|name| mode(&place.target().join(name)));
    assert_eq!(modes, [0o755, 0o640, 0o6755]);
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_on_the_way_to_a_chosen_file_are_as_in_the_snapshot_or_as_they_were() {
    let place = Place::new().await;
    place.plant("pub/deep/f.sql", "x");
    place.plant("there/g.sql", "x");
    place.plant("other/h", "x");
    set_mode(&place.source().join("pub"), 0o755);
    set_mode(&place.source().join("pub/deep"), 0o2750);
    if rustix::process::geteuid().is_root() {
        chown(place.source().join("pub/deep"), Some(33), Some(34)).expect("root may");
        set_mode(&place.source().join("pub/deep"), 0o2750);
    }
    set_mtime(&place.source().join("pub/deep"), 1_500_000_000, 1);
    set_mtime(&place.source().join("pub"), 1_500_000_000, 2);
    let snapshot = place.backup().await;
    fs::create_dir_all(place.target().join("there")).expect("made");
    set_mode(&place.target().join("there"), 0o711);
    let selection = Selection::new(&["*.sql".into()], &[]).expect("a pattern");
    let (_, problems) = place.restore(RestoreOptions { selection, ..place.options(&snapshot) }).await;
    assert_eq!(problems, vec![]);
    let (wanted, found) = (describe(&place.source()), describe(&place.target()));
    for name in ["pub", "pub/deep", "pub/deep/f.sql"] {
        assert_eq!(found[name.as_bytes()], wanted[name.as_bytes()], "{name}");
    }
    assert_eq!(mode(&place.target().join("there")), 0o711);
    assert!(!place.target().join("other").exists());
}

#[test]
fn a_chosen_file_gets_into_a_directory_of_ones_own_that_is_closed_even_to_its_owner() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("made");
    let (place, snapshot) = runtime().block_on(async {
        let place = Place::new().await;
        place.plant("d/f.sql", "x");
        let snapshot = place.backup().await;
        (place, snapshot)
    });
    let done = Command::new("chmod").args(["-R", "a+rwX"]).arg(place.directory.path()).status().expect("runs");
    assert!(done.success());
    crate::as_nobody(|| {
        fs::create_dir_all(place.target().join("d")).expect("made");
        set_mode(&place.target().join("d"), 0o555);
        runtime().block_on(async {
            let selection = Selection::new(&["*.sql".into()], &[]).expect("a pattern");
            let (_, problems) = place.restore(RestoreOptions { selection, ..place.options(&snapshot) }).await;
            assert_eq!(problems, vec![]);
        });
    });
    assert_eq!(place.restored("d/f.sql"), b"x");
    assert_eq!(mode(&place.target().join("d")), 0o555);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_below_a_file_is_refused_and_told() {
    let place = Place::new().await;
    place.plant("a", "x");
    place.plant("b/c", "y");
    let snapshot = place.backup().await;
    let forged = place
        .changed(&snapshot, |entries| {
            for entry in entries.iter_mut().filter(|entry| entry.path.name() == b"b") {
                entry.kind = EntryKind::Symlink(b"/etc".to_vec());
            }
        })
        .await;
    let (_, problems) = place.restore(place.options(&forged)).await;
    // Who makes such a node is no writer of ours: nothing of it is believed.
    let is_told = |problem: &Problem| {
        problem.kind == ProblemKind::Damaged && problem.message.contains("an entry lies below one that is no directory")
    };
    assert!(problems.iter().any(is_told), "{problems:?}");
    assert!(!place.target().join("b/c").exists() && !Path::new("/etc/c").exists());
}

#[test]
fn attributes_are_chosen_by_patterns_and_a_list_that_is_left_out_gives_the_group_nothing() {
    let desk = Desk::with_repository();
    let file = desk.at("source/a.txt");
    let set = |path: &Path, name: &str, value: &[u8]| rustix::fs::setxattr(path, name, value, XattrFlags::empty());
    let listed = Command::new("setfacl").args(["-m", "g::r,u:4711:rwx"]).arg(&file).status();
    if set(&file, "user.kept", b"new").is_err() || !listed.is_ok_and(|status| status.success()) {
        return skip("a file system with attributes and access control lists");
    }
    set(&file, "user.other", b"new").expect("set");
    assert_eq!(mode(&file), 0o674, "the list's mask stands in the place of the group");
    desk.backup();
    let spot = format!("latest:{}", desk.at("source").display());
    let restored = |flags: &[&str]| {
        let _ = fs::remove_dir_all(desk.at("out"));
        fs::create_dir(desk.at("out")).expect("made");
        fs::write(desk.at("out/a.txt"), "first file\n").expect("written");
        for name in ["user.kept", "user.other", "user.foreign"] {
            set(&desk.at("out/a.txt"), name, b"old").expect("set");
        }
        let run = desk.run(&[&["restore", &spot, "--target", "out"], flags].concat());
        assert_eq!(run.code, 0, "{run:?}");
        let found = describe(&desk.at("out")).remove(b"a.txt".as_slice()).expect("there");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let users = found.attributes.iter().filter(|(name, _)| name.starts_with(b"user."));
        let users: Vec<String> = users.map(|(name, value)| format!("{}={}", text(&name[5..]), text(value))).collect();
        (found.mode & 0o777, found.attributes.contains_key(b"system.posix_acl_access".as_slice()), users.join(" "))
    };
    assert_eq!(restored(&[]), (0o674, true, "kept=new other=new".into()));
    let without_other = restored(&["--exclude-xattr", "user.o*"]);
    assert_eq!(without_other, (0o674, true, "kept=new other=old".into()));
    let without_lists = restored(&["--exclude-xattr", "system.posix_acl_*", "--exclude-xattr", "user.?????"]);
    assert_eq!(without_lists, (0o644, false, "kept=new other=old".into()));
    let only_kept = restored(&["--include-xattr", "user.k*"]);
    assert_eq!(only_kept, (0o644, false, "foreign=old kept=new other=old".into()));
    let none = desk.run(&["restore", &spot, "--target", "out", "--exclude-xattr", "user.["]);
    assert!(none.code == 2 && none.err.contains("is not a pattern of attributes"), "{none:?}");
}
