//! Opening a path below a directory handle without ever leaving it or passing through a symbolic link.
//!
//! The kernel does this in one call (`openat2`, Linux 5.6). Where it is missing or forbidden (old container runtimes)
//! and for paths that are longer than one call accepts, the path is walked component by component.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// The longest path handed to the kernel in one call; `PATH_MAX` with room for the final zero byte.
const MAX_CALL_PATH: usize = 4000;

/// How often a walk that raced with a rename is tried again before its error is believed.
const RENAME_RETRIES: usize = 64;

/// Set once the kernel refused `openat2` itself.
static WITHOUT_OPENAT2: AtomicBool = AtomicBool::new(false);

/// Opens `path` (relative, `.` for the directory itself) below `directory` with `flags`.
///
/// # Errors
/// `ELOOP` or `ENOTDIR` when a component of `path` is a symbolic link; `EXDEV` when `path` leaves the directory; else
/// what the kernel says.
pub fn open_beneath(directory: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    if path.len() <= MAX_CALL_PATH && !WITHOUT_OPENAT2.load(Ordering::Relaxed) {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let mut tries = 0;
        loop {
            match openat2(directory, path, flags, Mode::empty(), resolve) {
                Err(Errno::NOSYS) => WITHOUT_OPENAT2.store(true, Ordering::Relaxed),
                // A seccomp filter that does not know the call answers EPERM; so does O_NOATIME on a foreign file.
                Err(Errno::PERM) if !flags.contains(OFlags::NOATIME) => {}
                Err(Errno::AGAIN) if tries < RENAME_RETRIES => {
                    tries += 1;
                    continue;
                }
                answer => return answer,
            }
            break;
        }
    }
    open_by_components(directory, path, flags)
}

fn open_by_components(directory: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let passing = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).peekable();
    let mut held: Option<OwnedFd> = None;
    while let Some(name) = names.next() {
        if name == b".." {
            return Err(Errno::XDEV);
        }
        let at = held.as_ref().map_or(directory, AsFd::as_fd);
        let last = names.peek().is_none();
        held = Some(openat(at, name, if last { flags } else { passing }, Mode::empty())?);
    }
    held.ok_or(Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    type Opener = fn(BorrowedFd<'_>, &[u8], OFlags) -> Result<OwnedFd, Errno>;

    #[test]
    fn symlinks_and_dots_never_lead_out() {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir_all(scratch.path().join("in/deep")).expect("created");
        fs::write(scratch.path().join("secret"), b"x").expect("written");
        symlink("..", scratch.path().join("in/up")).expect("linked");
        symlink("deep", scratch.path().join("in/same")).expect("linked");
        let directory = fs::File::open(scratch.path().join("in")).expect("opened");
        for open in [open_beneath as Opener, open_by_components] {
            let open = |path: &str| open(directory.as_fd(), path.as_bytes(), OFlags::PATH | OFlags::NOFOLLOW);
            assert!(open("deep").is_ok());
            assert!(open(".").is_ok());
            assert!(open("up/secret").is_err());
            assert!(open("same/.").is_err());
            assert!(open("../secret").is_err());
        }
    }

    #[test]
    fn paths_longer_than_one_call_accepts_are_walked() {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let name = "d".repeat(200);
        let mut path = Vec::new();
        let mut at: OwnedFd = fs::File::open(scratch.path()).expect("opened").into();
        for _ in 0..30 {
            rustix::fs::mkdirat(&at, &name, Mode::RWXU).expect("created");
            at = openat(&at, &name, OFlags::PATH, Mode::empty()).expect("opened");
            path.extend_from_slice(name.as_bytes());
            path.push(b'/');
        }
        path.pop();
        let directory = fs::File::open(scratch.path()).expect("opened");
        assert!(path.len() > 4096);
        assert!(open_beneath(directory.as_fd(), &path, OFlags::PATH).is_ok());
    }
}
