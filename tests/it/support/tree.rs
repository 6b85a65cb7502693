//! Making awkward file trees, and describing a tree completely, to compare it with another.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat};

use crate::support::random_bytes;

/// All of an entry that a restore must bring back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Type and permissions.
    pub mode: u32,
    pub owner: (u32, u32),
    /// Seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// The content, or where a link points.
    pub content: Vec<u8>,
    pub attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first of the names that the file has in this tree.
    pub first_name: Vec<u8>,
}

/// Describes everything below `root` by path; the root itself has the empty path.
pub fn describe(root: &Path) -> BTreeMap<Vec<u8>, Description> {
    let mut found = BTreeMap::new();
    let mut names: BTreeMap<(u64, u64), Vec<u8>> = BTreeMap::new();
    let mut paths = vec![root.to_path_buf()];
    let mut at = 0;
    while at < paths.len() {
        let path = paths[at].clone();
        at += 1;
        if path.symlink_metadata().expect("there").is_dir() {
            paths.extend(fs::read_dir(&path).expect("readable").map(|item| item.expect("readable").path()));
        }
    }
    paths.sort();
    for path in paths {
        let relative = path.strip_prefix(root).expect("below").as_os_str().as_bytes().to_vec();
        let stat = path.symlink_metadata().expect("there");
        let kind = stat.file_type();
        let content = if kind.is_symlink() {
            fs::read_link(&path).expect("a link").as_os_str().as_bytes().to_vec()
        } else if kind.is_file() {
            fs::read(&path).expect("readable")
        } else {
            Vec::new()
        };
        let first_name = match kind.is_dir() {
            true => relative.clone(),
            false => names.entry((stat.dev(), stat.ino())).or_insert_with(|| relative.clone()).clone(),
        };
        let description = Description {
            mode: stat.mode(),
            owner: (stat.uid(), stat.gid()),
            mtime: (stat.mtime(), stat.mtime_nsec()),
            content,
            attributes: attributes(&path),
            first_name,
        };
        found.insert(relative, description);
    }
    found
}

fn attributes(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap_or(0);
    let names = names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 4096];
        let name_c = CString::new(name).expect("no zero inside");
        let length = rustix::fs::lgetxattr(path, name_c.as_c_str(), &mut value).expect("listed");
        value.truncate(length);
        (name.to_vec(), value)
    };
    names.map(value).collect()
}

/// Sets a file's or directory's time of change.
pub fn set_mtime(path: &Path, seconds: u64, nanos: u32) {
    let time = UNIX_EPOCH + Duration::new(seconds, nanos);
    File::open(path).expect("there").set_modified(time).expect("may");
}

/// Makes one of everything that file systems hold.
pub fn plant_awkward(root: &Path) {
    let at = |name: &str| root.join(name);
    fs::create_dir_all(at("deep/er/est")).expect("made");
    fs::create_dir_all(at("empty directory")).expect("made");
    fs::write(at("empty"), b"").expect("written");
    fs::write(at("deep/text"), "a line of text\n".repeat(5000)).expect("written");
    fs::write(at("deep/er/random"), random_bytes(1, 700_000)).expect("written");
    fs::write(at("deep/er/random again"), random_bytes(1, 700_000)).expect("written");
    fs::write(at("zeros"), vec![0; 300_000]).expect("written");
    fs::write(root.join(OsStr::from_bytes(b"not utf-8 \xff\xfe")), "odd").expect("written");
    fs::write(at("new\nline and \\ and \u{1b}[31m"), "odder").expect("written");
    fs::write(at(&"n".repeat(255)), "long").expect("written");
    fs::hard_link(at("deep/text"), at("linked text")).expect("linked");
    fs::hard_link(at("deep/text"), at("deep/er/linked text")).expect("linked");
    symlink("deep/text", at("link")).expect("linked");
    symlink("../nowhere\u{e9}", at("deep/broken link")).expect("linked");
    symlink(OsStr::from_bytes(b"\xff"), at("link to odd")).expect("linked");
    mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("made");
    drop(std::os::unix::net::UnixListener::bind(at("socket")).expect("bound"));
    let sparse = File::create(at("sparse")).expect("made");
    sparse.set_len(20_000_000).expect("set");
    sparse.write_all_at(b"in the middle", 9_000_001).expect("written");
    sparse.write_all_at(b"at the start", 0).expect("written");
    drop(sparse);
    for (name, mode) in [("deep/text", 0o640), ("empty", 0o4711), ("zeros", 0o000), ("deep/er", 0o2750)] {
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).expect("set");
    }
    let set = rustix::fs::setxattr(at("deep/text"), "user.origin", b"tests\0binary", XattrFlags::empty());
    if set.is_err() {
        eprintln!("extended attributes are not tested: this file system has none");
    }
    let _ = rustix::fs::setxattr(at("deep"), "user.on a directory", b"", XattrFlags::empty());
    // An access control list as the kernel keeps it: owner rwx, user 1234 r-x, group r--, mask r-x, others nothing.
    let acl: Vec<u8> = [(1u16, 7u16, u32::MAX), (2, 5, 1234), (4, 4, u32::MAX), (16, 5, u32::MAX), (32, 0, u32::MAX)]
        .iter()
        .flat_map(|(tag, rights, id)| [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat())
        .collect();
    let acl = [&2u32.to_le_bytes()[..], &acl].concat();
    let _ = rustix::fs::setxattr(at("deep/er/random"), "system.posix_acl_access", &acl, XattrFlags::empty());
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(at("empty"), Some(12_345), Some(54_321)).expect("root may");
        fs::set_permissions(at("empty"), fs::Permissions::from_mode(0o4711)).expect("set");
        std::os::unix::fs::lchown(at("link"), Some(12_345), Some(54_321)).expect("root may");
        let device = rustix::fs::makedev(1, 3);
        let _ = mknodat(CWD, at("device"), FileType::CharacterDevice, Mode::RUSR, device);
    }
    set_mtime(&at("deep/er/random"), 1_000_000_000, 123_456_789);
    set_mtime(&at("deep/er/est"), 1, 999_999_999);
    set_mtime(&at("deep"), 1_600_000_000, 1);
}
