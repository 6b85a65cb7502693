//! Choosing what is restored, and what of the target is touched.

use std::fs;
use std::os::unix::fs::MetadataExt;

use coffre::ops::restore::{Overwrite, RestoreOptions};
use rustix::fs::XattrFlags;

use crate::support::daemon::skip;
use crate::support::desk::Desk;
use crate::support::files_in;
use crate::support::place::Place;
use crate::support::tree::set_mtime;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_touched_in_the_target_is_what_overwrite_says() {
    let place = Place::new().await;
    for name in ["equal", "older there", "newer there", "missing"] {
        place.plant(name, "from the snapshot");
        set_mtime(&place.source().join(name), 1_500_000_000, 0);
    }
    std::os::unix::fs::symlink("new", place.source().join("link")).expect("linked");
    let snapshot = place.backup().await;
    for (overwrite, older, newer, link, left) in [
        (Overwrite::IfChanged, "from the snapshot", "from the snapshot", "new", 0),
        (Overwrite::Always, "from the snapshot", "from the snapshot", "new", 0),
        (Overwrite::IfNewer, "from the snapshot", "there", "old", 3),
        (Overwrite::Never, "there", "there", "old", 4),
    ] {
        fs::create_dir(place.target()).expect("made");
        for (name, content, seconds) in [
            ("equal", "from the snapshot", 1_500_000_000),
            ("older there", "there", 1_400_000_000),
            ("newer there", "there", 1_600_000_000),
        ] {
            fs::write(place.target().join(name), content).expect("written");
            set_mtime(&place.target().join(name), seconds, 0);
        }
        std::os::unix::fs::symlink("old", place.target().join("link")).expect("linked");
        let inode = || fs::metadata(place.target().join("equal")).expect("there").ino();
        let before = inode();
        let (report, problems) = place.restore(RestoreOptions { overwrite, ..place.options(&snapshot) }).await;
        assert_eq!((problems, report.left), (vec![], left), "{overwrite:?}");
        let found = ["older there", "newer there", "missing"].map(|name| place.restored(name));
        assert_eq!(found, [older, newer, "from the snapshot"].map(|text| text.as_bytes().to_vec()), "{overwrite:?}");
        let points = fs::read_link(place.target().join("link")).expect("a link");
        assert_eq!(points.to_str(), Some(link), "{overwrite:?}");
        assert_eq!(inode() != before, overwrite == Overwrite::Always, "only then an equal file is written");
        fs::remove_dir_all(place.target()).expect("removed");
    }
}

#[test]
fn patterns_choose_from_the_command_line_and_from_files() {
    let desk = Desk::with_repository();
    for name in ["README.md", "sub/notes.MD", "sub/x.sql", "sub/cache/y.sql"] {
        fs::create_dir_all(desk.at("source/sub/cache")).expect("made");
        fs::write(desk.at("source").join(name), name).expect("written");
    }
    desk.backup();
    fs::write(desk.at("wanted"), "# chosen\r\n*.sql\r\n").expect("written");
    fs::write(desk.at("unwanted"), "\u{feff}sub/cache/\n").expect("written");
    let spot = format!("latest:{}", desk.at("source").display());
    let chosen = |flags: &[&str]| {
        let run = desk.run(&[&["restore", &spot, "--target", "out"], flags].concat());
        assert_eq!(run.code, 0, "{run:?}");
        let names: Vec<String> = files_in(&desk.at("out")).into_keys().collect();
        fs::remove_dir_all(desk.at("out")).expect("removed");
        names
    };
    assert_eq!(chosen(&["--include", "*.md"]), ["README.md"]);
    assert_eq!(chosen(&["--iinclude", "*.md"]), ["README.md", "sub/notes.MD"]);
    assert_eq!(chosen(&["--iinclude", "*.md", "--iexclude", "readme*"]), ["sub/notes.MD"]);
    assert_eq!(chosen(&["--include-file", "wanted"]), ["sub/cache/y.sql", "sub/x.sql"]);
    assert_eq!(chosen(&["--include-file", "wanted", "--exclude-file", "unwanted"]), ["sub/x.sql"]);

    let run = desk.run(&["restore", &spot, "--target", "out", "--include", "*.list"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.err.contains("matches what is to be included\nhint: `coffre find PATTERN`"), "{run:?}");
    let run = desk.run(&["restore", &spot, "--target", "out", "--include-file", "absent"]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.err.contains("absent"), "{run:?}");
}

#[test]
fn odd_names_of_attributes_are_in_an_archive() {
    let desk = Desk::with_repository();
    let names: [&[u8]; 4] = [b"user.plain", b"user.eq=x", b"user.per%cent", b"user.\xff"];
    for name in names {
        let name = std::ffi::CString::new(name).expect("no zero inside");
        let path = desk.at("source/a.txt");
        if rustix::fs::setxattr(&path, name.as_c_str(), b"a\nb=c\0d", XattrFlags::empty()).is_err() {
            return skip("a file system with extended attributes");
        }
    }
    desk.backup();
    let spot = format!("latest:{}", desk.at("source").display());
    let archive = desk.command(&["dump", &spot]).output().expect("runs");
    assert!(archive.status.success());
    fs::create_dir(desk.at("unpacked")).expect("made");
    fs::write(desk.at("archive"), archive.stdout).expect("written");
    let tar = std::process::Command::new("tar")
        .args(["--xattrs", "--xattrs-include=*", "-xf"])
        .arg(desk.at("archive"))
        .arg("-C")
        .arg(desk.at("unpacked"))
        .status();
    assert!(tar.expect("runs").success());
    let described = crate::support::tree::describe(&desk.at("unpacked"));
    let wanted = crate::support::tree::describe(&desk.at("source"));
    assert_eq!(described[b"a.txt".as_slice()], wanted[b"a.txt".as_slice()]);
}
