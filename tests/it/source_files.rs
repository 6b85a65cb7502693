//! Walking and reading real file trees.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use coffre::model::entry::Hole;
use coffre::model::path::{EntryPath, compare_paths};
use coffre::source::files::{EntryError, FoundEntry, FoundKind, Walk, WalkError, WalkOptions, Walked};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};
use tempfile::TempDir;

use crate::support::dead_mount::DeadMount;

fn scratch() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Makes files (with their path as content) and, for names ending in a slash, directories.
fn plant(root: &Path, names: &[&str]) {
    for name in names {
        let path = root.join(name);
        if name.ends_with('/') {
            fs::create_dir_all(path).expect("created");
        } else {
            fs::create_dir_all(path.parent().expect("a parent")).expect("created");
            fs::write(path, name).expect("written");
        }
    }
}

fn options(root: &Path) -> WalkOptions {
    WalkOptions { roots: vec![root.to_path_buf()], ..WalkOptions::default() }
}

fn walk(options: &WalkOptions) -> (Vec<FoundEntry>, Vec<String>) {
    let (mut entries, mut problems) = (Vec::new(), Vec::new());
    for step in Walk::new(options).expect("a good walk") {
        match step {
            Walked::Entry(entry) => entries.push(entry),
            Walked::Problem(problem) => problems.push(problem.to_string()),
            Walked::LeftOut(path) => problems.push(format!("left out: /{path}")),
        }
    }
    let ordered =
        entries.windows(2).all(|pair| compare_paths(pair[0].path.as_bytes(), pair[1].path.as_bytes()).is_lt());
    assert!(ordered, "entries come in tree order, each once");
    (entries, problems)
}

/// The paths below `root` that a walk gives.
fn below(root: &Path, options: &WalkOptions) -> Vec<String> {
    let (entries, problems) = walk(options);
    assert_eq!(problems, Vec::<String>::new());
    let text = |entry: &FoundEntry| Some(entry.fs_path().strip_prefix(root).ok()?.to_str()?.to_owned());
    entries.iter().filter_map(text).filter(|path| !path.is_empty()).collect()
}

fn find(root: &Path, name: &str) -> FoundEntry {
    let (entries, _) = walk(&options(root));
    entries.into_iter().find(|entry| entry.fs_path() == root.join(name)).expect("walked")
}

#[test]
fn a_tree_comes_in_tree_order_with_the_ancestors_of_its_root() {
    let root = scratch();
    plant(root.path(), &["b", "a/x", "a.b", "a/b/c", "a/b.c", "empty/", "a-b"]);
    let names = below(root.path(), &options(root.path()));
    assert_eq!(names, ["a", "a/b", "a/b/c", "a/b.c", "a/x", "a-b", "a.b", "b", "empty"]);
    let (entries, _) = walk(&options(root.path()));
    let ancestor = &entries[0];
    assert_eq!(ancestor.fs_path(), Path::new("/").join(root.path().components().nth(1).expect("a name")));
    assert!(ancestor.is_directory());
    assert_eq!(ancestor.inode(), fs::metadata(ancestor.fs_path()).expect("there").ino());
}

#[test]
fn all_kinds_are_told_apart() {
    let root = scratch();
    plant(root.path(), &["file", "directory/"]);
    symlink("nowhere/\u{e9}", root.path().join("link")).expect("linked");
    mknodat(CWD, root.path().join("fifo"), FileType::Fifo, Mode::RUSR, 0).expect("made");
    let _socket = UnixListener::bind(root.path().join("socket")).expect("bound");
    let device =
        mknodat(CWD, root.path().join("null"), FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(1, 3));
    let kinds: BTreeMap<PathBuf, FoundKind> =
        walk(&options(root.path())).0.into_iter().map(|entry| (entry.fs_path(), entry.kind)).collect();
    let kind = |name: &str| &kinds[&root.path().join(name)];
    assert_eq!(kind("file"), &FoundKind::File { size: 4 });
    assert_eq!(kind("directory"), &FoundKind::Directory);
    assert_eq!(kind("link"), &FoundKind::Symlink("nowhere/\u{e9}".as_bytes().to_vec()));
    assert_eq!(kind("fifo"), &FoundKind::Fifo);
    assert_eq!(kind("socket"), &FoundKind::Socket);
    if device.is_ok() {
        assert_eq!(kind("null"), &FoundKind::CharDevice(rustix::fs::makedev(1, 3)));
        assert!(fs::metadata(root.path().join("null")).expect("there").file_type().is_char_device());
    } else {
        eprintln!("skipped: device nodes may not be made here");
    }
}

#[test]
fn metadata_is_that_of_the_file_to_the_nanosecond() {
    let root = scratch();
    plant(root.path(), &["file"]);
    let path = root.path().join("file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4750)).expect("set");
    let time = |seconds, nanos| std::time::UNIX_EPOCH + std::time::Duration::new(seconds, nanos);
    File::options()
        .write(true)
        .open(&path)
        .expect("opened")
        .set_modified(time(1_000_000_000, 123_456_789))
        .expect("set");
    fs::hard_link(&path, root.path().join("other")).expect("linked");
    let (found, other) = (find(root.path(), "file"), find(root.path(), "other"));
    let metadata = found.metadata();
    assert_eq!(metadata.mode, 0o4750);
    assert_eq!((metadata.mtime.seconds, metadata.mtime.nanos), (1_000_000_000, 123_456_789));
    assert_eq!((metadata.links, metadata.inode), (2, other.inode()));
    assert_eq!(metadata.uid, fs::metadata(&path).expect("there").uid());
    if metadata.uid == 0 {
        assert_eq!(metadata.user.as_deref(), Some(b"root".as_slice()));
    }
}

#[test]
fn names_that_are_not_utf8_are_kept() {
    let root = scratch();
    let name = OsStr::from_bytes(b"caf\xe9 \n\x01");
    fs::write(root.path().join(name), b"x").expect("written");
    let (entries, _) = walk(&options(root.path()));
    let found = entries.last().expect("one");
    assert_eq!(found.path.name(), name.as_bytes());
    assert_eq!(found.open().expect("opens").opened_size(), 1);
}

#[test]
fn roots_are_merged_and_may_be_files_or_links() {
    let root = scratch();
    plant(root.path(), &["a/b/c", "a/d", "e", "real/inside"]);
    symlink("real", root.path().join("link")).expect("linked");
    let at = |names: &[&str]| WalkOptions {
        roots: names.iter().map(|name| PathBuf::from(format!("{}/{name}", root.path().display()))).collect(),
        ..WalkOptions::default()
    };
    let cases: [(&[&str], &[&str]); 8] = [
        (&["e"], &["e"]),
        (&["a/b", "a"], &["a", "a/b", "a/b/c", "a/d"]),
        (&["a/b", "a/b/c", "a/b/"], &["a", "a/b", "a/b/c"]),
        (&["e", "a/d"], &["a", "a/d", "e"]),
        (&["link"], &["link"]),
        (&["link/"], &["link", "link/inside"]),
        (&["x/../a/./b"], &["a", "a/b", "a/b/c"]),
        (&["link/", ""], &["a", "a/b", "a/b/c", "a/d", "e", "link", "link/inside", "real", "real/inside"]),
    ];
    for (roots, expected) in cases {
        assert_eq!(below(root.path(), &at(roots)), expected, "{roots:?}");
    }
    assert!(matches!(Walk::new(&at(&["none"])), Err(WalkError::Root { .. })));
    let (entries, problems) = walk(&at(&["none", "e", "gone/"]));
    assert_eq!(entries.last().expect("the root that is there").fs_path(), root.path().join("e"));
    let missing = |name: &str| {
        format!("{}/{name}: cannot be backed up: No such file or directory (os error 2)", root.path().display())
    };
    assert_eq!(problems, [missing("none"), missing("gone/")]);
    let (entries, _) = walk(&at(&["link/"]));
    assert!(entries.last().expect("inside").open().is_ok());
    assert!(entries.iter().all(|entry| entry.read_xattrs().is_ok()));
}

#[test]
fn exclusion_takes_away_what_it_names() {
    let root = scratch();
    let names = ["a/x.o", "a/x.c", "a/keep.o", "b/cache/deep/y", "b/cachet", "c/.nobackup", "c/z", "d/big"];
    plant(root.path(), &names);
    fs::write(root.path().join("d/big"), vec![1; 5000]).expect("written");
    plant(root.path(), &["t/sub/", "t/w", "fake/w"]);
    fs::write(root.path().join("t/CACHEDIR.TAG"), b"Signature: 8a477f597d28d172789f06886806bc55\n# x")
        .expect("written");
    fs::write(root.path().join("fake/CACHEDIR.TAG"), b"not the signature").expect("written");
    let all = below(root.path(), &options(root.path()));
    let patterns = root.path().parent().expect("a parent").join(format!("patterns-{}", std::process::id()));
    fs::write(&patterns, "# comment\n*.o\n!keep.o\n").expect("written");
    let with = |change: &dyn Fn(&mut WalkOptions)| {
        let mut options = options(root.path());
        change(&mut options);
        let left = below(root.path(), &options);
        all.iter().filter(|name| !left.contains(name)).map(String::as_str).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(with(&|o| o.excludes = vec!["*.o".into()]), "a/keep.o a/x.o");
    assert_eq!(with(&|o| o.exclude_files = vec![patterns.clone()]), "a/x.o");
    assert_eq!(with(&|o| o.excludes = vec!["b/cache".into()]), "b/cache b/cache/deep b/cache/deep/y");
    assert_eq!(with(&|o| o.excludes = vec!["/a".into()]), "");
    assert_eq!(with(&|o| o.excludes = vec![format!("{}/a", root.path().display())]), "a a/keep.o a/x.c a/x.o");
    assert_eq!(with(&|o| o.exclude_caches = true), "t/sub t/w");
    assert_eq!(with(&|o| o.exclude_if_present = vec![".nobackup".into()]), "c/z");
    assert_eq!(with(&|o| o.exclude_larger_than = Some(4999)), "d/big");
    fs::remove_file(patterns).expect("removed");
}

#[test]
fn a_root_inside_an_excluded_directory_is_walked_and_nothing_beside_it() {
    let root = scratch();
    plant(root.path(), &["a/skip/in/x", "a/skip/out", "a/y", "a/skip/file"]);
    let mut options = options(root.path());
    options.roots.push(root.path().join("a/skip/in"));
    options.roots.push(root.path().join("a/skip/file"));
    options.excludes = vec!["skip".into()];
    assert_eq!(below(root.path(), &options), ["a", "a/skip", "a/skip/file", "a/skip/in", "a/skip/in/x", "a/y"]);
}

#[test]
fn what_is_always_left_out_is_known_by_every_path_to_it() {
    let root = scratch();
    plant(root.path(), &["a/repo/pack", "a/x", "key"]);
    symlink("a", root.path().join("link")).expect("linked");
    let at = |name: &str| PathBuf::from(format!("{}/{name}", root.path().display()));
    let left_out = vec![at("a/repo"), at("key"), at("not-there")];
    let told = |roots: &[&str]| {
        let roots = roots.iter().map(|name| at(name)).collect();
        let (entries, told) = walk(&WalkOptions { roots, left_out: left_out.clone(), ..WalkOptions::default() });
        (entries.iter().filter(|entry| entry.fs_path().ends_with("pack")).count(), told)
    };
    let shown = |name: &str| format!("left out: {}", at(name).display());
    assert_eq!(told(&[""]), (0, vec![shown("a/repo"), shown("key")]));
    assert_eq!(told(&["link/"]), (0, vec![shown("link/repo")]));
    assert_eq!(told(&["a", "a/repo"]), (1, Vec::new()), "a root is meant");
    assert_eq!(told(&["a/repo/pack", "a"]), (1, Vec::new()), "so is one inside");
}

#[test]
fn what_is_excluded_or_on_another_file_system_is_asked_nothing() {
    let root = scratch();
    plant(root.path(), &["a/mounted/", "a/b", "z"]);
    let mounted = root.path().join("a/mounted");
    // One that is never answered, and one that belongs to somebody else.
    for user in [0, 65534] {
        let Some(_mount) = DeadMount::new(&mounted, user) else {
            eprintln!("skipped: FUSE is not permitted here");
            return;
        };
        let named = mounted.to_str().expect("plain").to_owned();
        for pattern in ["mounted", "mounted/", &named, "a/m*"] {
            let excluded = WalkOptions { excludes: vec![pattern.into()], ..options(root.path()) };
            assert_eq!(below(root.path(), &excluded), ["a", "a/b", "z"], "{pattern}");
        }
        let stopped = WalkOptions { one_file_system: true, ..options(root.path()) };
        assert_eq!(below(root.path(), &stopped), ["a", "a/b", "a/mounted", "z"]);
        let (entries, _) = walk(&stopped);
        let entry = entries.iter().find(|entry| entry.fs_path() == mounted).expect("kept");
        assert!(entry.is_directory() && entry.read_xattrs().expect("asked nobody").is_empty());
    }
}

#[test]
fn another_file_system_is_not_entered() {
    let root = scratch();
    plant(root.path(), &["a/mounted/", "a/b", "z"]);
    let mounted = root.path().join("a/mounted");
    let mount = std::process::Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&mounted).status();
    if !mount.is_ok_and(|status| status.success()) {
        eprintln!("skipped: mounting is not permitted here");
        return;
    }
    plant(&mounted, &["inside/deep"]);
    let mut options = options(root.path());
    let through = below(root.path(), &options);
    options.one_file_system = true;
    let stopped = below(root.path(), &options);
    options.roots.push(mounted.join("inside"));
    let named = below(root.path(), &options);
    std::process::Command::new("umount").arg(&mounted).status().expect("umount runs");
    assert_eq!(through, ["a", "a/b", "a/mounted", "a/mounted/inside", "a/mounted/inside/deep", "z"]);
    assert_eq!(stopped, ["a", "a/b", "a/mounted", "z"]);
    assert_eq!(named, through);
}

#[test]
fn holes_are_found_and_left_out_of_what_is_read() {
    let root = scratch();
    let path = root.path().join("sparse");
    let mut file = File::create(&path).expect("created");
    file.seek(SeekFrom::Start(1 << 20)).expect("sought");
    file.write_all(&[7; 4096]).expect("written");
    file.seek(SeekFrom::Start(3 << 20)).expect("sought");
    file.write_all(&[8; 4096]).expect("written");
    file.set_len(5 << 20).expect("set");
    drop(file);
    let mut reader = find(root.path(), "sparse").open().expect("opens");
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("read");
    let summary = reader.finish().expect("told");
    assert_eq!(summary.size, 5 << 20);
    assert!(!summary.changed_while_read);
    if summary.holes.is_empty() {
        eprintln!("skipped: this file system keeps no holes");
        assert_eq!(bytes.len(), 5 << 20);
        return;
    }
    assert_eq!(bytes, [[7; 4096], [8; 4096]].concat());
    let hole = |offset: u64, end: u64| Hole { offset, length: end - offset };
    let expected = [hole(0, 1 << 20), hole((1 << 20) + 4096, 3 << 20), hole((3 << 20) + 4096, 5 << 20)];
    assert_eq!(summary.holes, expected);
}

#[test]
fn a_file_that_is_all_hole_gives_no_bytes() {
    let root = scratch();
    File::create(root.path().join("hole")).expect("created").set_len(1 << 30).expect("set");
    let mut reader = find(root.path(), "hole").open().expect("opens");
    assert_eq!(reader.fill(&mut [0; 100]).expect("read"), 0);
    let summary = reader.finish().expect("told");
    assert_eq!((summary.size, summary.holes), (1 << 30, vec![Hole { offset: 0, length: 1 << 30 }]));
}

#[test]
fn files_that_grow_or_shrink_are_read_to_where_they_ended_when_opened_and_told() {
    let root = scratch();
    let path = root.path().join("log");
    fs::write(&path, vec![1; 10_000]).expect("written");
    let mut reader = find(root.path(), "log").open().expect("opens");
    assert_eq!(reader.fill(&mut [0; 10_000]).expect("read"), 10_000);
    File::options().append(true).open(&path).expect("opened").write_all(&[2; 500]).expect("written");
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).expect("read");
    assert_eq!(rest, [0; 0], "what was appended belongs to the next backup");
    let summary = reader.finish().expect("told");
    assert_eq!((summary.size, summary.changed_while_read), (10_000, true));

    let mut reader = find(root.path(), "log").open().expect("opens");
    File::options().write(true).open(&path).expect("opened").set_len(100).expect("cut");
    assert_eq!(reader.fill(&mut vec![0; 20_000]).expect("read"), 100);
    let summary = reader.finish().expect("told");
    assert_eq!((summary.size, summary.changed_while_read), (100, true));
}

#[test]
fn a_file_that_grows_faster_than_it_is_read_ends() {
    let root = scratch();
    let path = root.path().join("log");
    fs::write(&path, vec![1; 10_000]).expect("written");
    let mut reader = find(root.path(), "log").open().expect("opens");
    let mut log = File::options().append(true).open(&path).expect("opened");
    let mut read = 0;
    loop {
        log.write_all(&[2; 2000]).expect("written");
        match reader.read(&mut [0; 1000]).expect("read") {
            0 => break,
            count => read += count,
        }
        assert!(read <= 10_000, "it goes on with what came meanwhile");
    }
    let summary = reader.finish().expect("told");
    assert_eq!((read, summary.size, summary.changed_while_read), (10_000, 10_000, true));
    // Those of /proc say that they are empty.
    let version = fs::read("/proc/version").expect("there");
    let walked = find(Path::new("/proc/version"), "");
    let mut reader = walked.open().expect("opens");
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).expect("read");
    assert_eq!((bytes, reader.finish().expect("told").changed_while_read), (version, false));
}

#[test]
fn what_is_gone_or_no_file_any_more_is_not_read() {
    let root = scratch();
    plant(root.path(), &["gone", "link", "fifo", "in/file"]);
    let [gone, link, fifo, inside] = ["gone", "link", "fifo", "in/file"].map(|name| find(root.path(), name));
    ["gone", "link", "fifo"].iter().for_each(|name| fs::remove_file(root.path().join(name)).expect("removed"));
    symlink("/etc/passwd", root.path().join("link")).expect("linked");
    mknodat(CWD, root.path().join("fifo"), FileType::Fifo, Mode::RUSR, 0).expect("made");
    fs::rename(root.path().join("in"), root.path().join("away")).expect("moved");
    symlink("away", root.path().join("in")).expect("linked");
    assert!(matches!(gone.open(), Err(EntryError::Vanished { .. })));
    assert!(matches!(link.open(), Err(EntryError::Replaced { .. })));
    assert!(matches!(fifo.open(), Err(EntryError::Replaced { .. })));
    assert!(matches!(inside.open(), Err(EntryError::Replaced { .. })));
    assert!(inside.read_xattrs().is_err());
}

#[test]
fn extended_attributes_and_acls_are_read() {
    let root = scratch();
    plant(root.path(), &["file", "directory/", "plain"]);
    symlink("file", root.path().join("link")).expect("linked");
    let path = root.path().join("file");
    if setxattr(&path, "user.note", b"hello", XattrFlags::empty()).is_err() {
        eprintln!("skipped: no extended attributes here");
        return;
    }
    setxattr(&path, "user.large", &[7; 3000], XattrFlags::empty()).expect("set");
    // Version 2, then user::rw-, user:1234:r--, group::r--, mask::r--, other::---.
    let acl: Vec<u8> = [2u32.to_le_bytes().to_vec()]
        .into_iter()
        .chain([(1, 6, u32::MAX), (2, 4, 1234), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)].map(acl_entry))
        .flatten()
        .collect();
    let with_acl = setxattr(&path, "system.posix_acl_access", &acl, XattrFlags::empty()).is_ok();
    let found = find(root.path(), "file");
    let attributes = found.read_xattrs().expect("readable");
    assert_eq!(attributes[b"user.note".as_slice()], b"hello");
    assert_eq!(attributes[b"user.large".as_slice()], vec![7; 3000]);
    if with_acl {
        assert_eq!(attributes[b"system.posix_acl_access".as_slice()], acl);
    }
    assert_eq!(found.open().expect("opens").read_xattrs().expect("readable"), attributes);
    for name in ["directory", "plain", "link"] {
        let attributes = find(root.path(), name).read_xattrs().expect("readable");
        assert!(attributes.keys().all(|name| name == b"security.selinux"), "{attributes:?}");
    }
}

fn acl_entry((tag, permissions, id): (u16, u16, u32)) -> Vec<u8> {
    [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
}

#[test]
fn a_directory_of_a_hundred_thousand_names_is_walked_in_order() {
    let root = scratch();
    plant(root.path(), &["many/", "many.after"]);
    for number in 0..100_000 {
        let name = root.path().join(format!("many/{number}"));
        if number % 1000 == 0 {
            plant(&name, &["inside"]);
        } else {
            File::create(name).expect("created");
        }
    }
    let names = below(root.path(), &options(root.path()));
    assert_eq!(names.len(), 100_000 + 100 + 2);
    assert_eq!(names.last().map(String::as_str), Some("many.after"));
}

#[test]
fn a_walk_may_be_left_at_any_point() {
    let root = scratch();
    for number in 0..300 {
        plant(root.path(), &[&format!("{}/{number}", number % 17)]);
    }
    for steps in [0, 1, 5, 100] {
        assert_eq!(Walk::new(&options(root.path())).expect("a walk").take(steps).count(), steps);
    }
}

#[test]
fn a_tree_deeper_than_a_path_may_be_long_is_walked() {
    let root = scratch();
    let name = "d".repeat(250);
    let mut at = rustix::fs::open(root.path(), rustix::fs::OFlags::PATH, Mode::empty()).expect("opened");
    for _ in 0..40 {
        rustix::fs::mkdirat(&at, &name, Mode::RWXU).expect("made");
        at = rustix::fs::openat(&at, &name, rustix::fs::OFlags::PATH, Mode::empty()).expect("opened");
    }
    rustix::fs::openat(&at, "file", rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY, Mode::RUSR).expect("made");
    let (entries, problems) = walk(&options(root.path()));
    assert_eq!(problems, Vec::<String>::new());
    let last = entries.last().expect("a file");
    assert_eq!(last.path.name(), b"file");
    assert!(last.open().is_ok());
    drop(Walk::new(&options(root.path())).expect("a walk"));
}

#[test]
fn what_may_not_be_read_is_a_problem_and_the_rest_is_walked() {
    let root = scratch();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).expect("set");
    plant(root.path(), &["closed/x", "file", "open/y"]);
    for name in ["closed", "file"] {
        fs::set_permissions(root.path().join(name), fs::Permissions::from_mode(0o0)).expect("set");
    }
    let look = || {
        let (entries, problems) = walk(&options(root.path()));
        let names: Vec<String> = entries.iter().map(|entry| entry.path.to_string()).collect();
        assert!(names.iter().any(|name| name.ends_with("open/y")), "{names:?}");
        assert!(names.iter().any(|name| name.ends_with("closed")), "{names:?}");
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("closed: the directory could not be read"), "{problems:?}");
        let file = entries.iter().find(|entry| entry.path.name() == b"file").expect("walked");
        assert!(matches!(file.open(), Err(EntryError::Io { .. })));
        assert!(file.read_xattrs().is_ok());
    };
    crate::as_nobody(look);
    for name in ["closed", "file"] {
        fs::set_permissions(root.path().join(name), fs::Permissions::from_mode(0o700)).expect("set");
    }
}

#[test]
fn entry_paths_have_no_leading_slash() {
    let root = scratch();
    plant(root.path(), &["x"]);
    let expected = EntryPath::new(root.path().join("x").as_os_str().as_bytes()[1..].to_vec()).expect("a path");
    assert_eq!(find(root.path(), "x").path, expected);
}
