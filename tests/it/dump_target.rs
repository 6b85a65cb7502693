//! `dump --target`: a file that has its name when it is whole, and nothing otherwise.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::support::desk::Desk;
use crate::support::files_in;

#[test]
fn a_dump_into_a_file_replaces_nothing_unless_told() {
    let desk = Desk::with_repository();
    desk.backup();
    let content = fs::read(desk.at("source/sub/b.txt")).expect("there");
    let spot = |name: &str| format!("latest:{}", desk.at("source").join(name).display());
    fs::create_dir(desk.at("out")).expect("made");

    let run = desk.run(&["dump", &spot("sub/b.txt"), "--target", "out/b"]);
    assert_eq!((run.code, run.out.as_str()), (0, "out/b written: 1 entry, 117 KiB\n"), "{run:?}");
    assert_eq!(fs::read(desk.at("out/b")).expect("there"), content);
    assert_eq!(desk.at("out/b").metadata().expect("there").mode() & 0o777, 0o600);

    let run = desk.run(&["dump", &spot("a.txt"), "-t", "out/b"]);
    assert!(run.code == 2 && run.err.contains("out/b is there already; --force replaces it"), "{run:?}");
    assert_eq!(fs::read(desk.at("out/b")).expect("there"), content);
    let run = desk.run(&["-q", "dump", &spot("a.txt"), "--target", "out/b", "--force"]);
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (0, "", ""));
    assert_eq!(fs::read(desk.at("out/b")).expect("there"), b"first file\n");

    for (target, code) in [("out", 2), ("/dev/null", 2), ("absent/b", 2), ("out/b/below", 2), ("out/", 2), ("/", 2)] {
        let run = desk.run(&["dump", &spot("a.txt"), "--force", "--target", target]);
        assert_eq!(run.code, code, "{target}: {run:?}");
    }
    assert!(!fs::metadata("/dev/null").expect("there").is_file());
    let run = desk.run(&["dump", &spot("absent"), "--target", "out/c"]);
    assert!(run.code == 1 && run.err.contains("absent"), "{run:?}");
    // Nothing was begun, so nothing is removed; and no shell has made this file.
    for wrong in ["removed again", "nothing was written", "the shell"] {
        assert!(!run.err.contains(wrong), "{run:?}");
    }
    assert_eq!(desk.run(&["dump", &spot("a.txt"), "--force"]).code, 2);
    assert_eq!(files_in(&desk.at("out")).into_keys().collect::<Vec<_>>(), ["b"], "nothing else is left");

    assert_eq!(desk.run(&["dump", &spot("sub"), "--target", "out/sub.tar"]).code, 0);
    let list = std::process::Command::new("tar").arg("-tf").arg(desk.at("out/sub.tar")).output().expect("runs");
    assert_eq!(String::from_utf8_lossy(&list.stdout), "./\nb.txt\n");
}

#[test]
fn a_dump_that_meets_damage_leaves_what_was_there() {
    let desk = Desk::with_repository();
    desk.backup();
    fs::create_dir(desk.at("out")).expect("made");
    fs::write(desk.at("out/b"), "the old one").expect("written");
    for (name, mut bytes) in files_in(&desk.at("repository/packs")) {
        // The first frame of each pack.
        bytes[20] ^= 1;
        let path = desk.at("repository/packs").join(name);
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("set");
        fs::write(path, bytes).expect("written");
    }
    let spot = format!("latest:{}", desk.at("source/sub/b.txt").display());
    let run = desk.run(&["dump", &spot, "--target", "out/b", "--force"]);
    assert_eq!(run.code, 4, "{run:?}");
    assert!(
        run.err.contains("what was written is removed again") && !run.err.contains("nothing was written"),
        "{run:?}"
    );
    let left: Vec<(String, Vec<u8>)> = files_in(&desk.at("out")).into_iter().collect();
    assert_eq!(left, [("b".to_owned(), b"the old one".to_vec())]);
}
