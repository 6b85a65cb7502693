//! Small file systems that are full, read-only, or in the way. Where nothing may be mounted, tests that need one say so
//! and pass, unless `COFFRE_REQUIRE_SERVERS=1`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::daemon::skip;

/// A file system in memory; unmounted at the end.
pub struct Mount(PathBuf);

impl Mount {
    /// Mounts one of so many KiB at `path`, which is made; `None` where that is not possible.
    pub fn tmpfs(path: &Path, kib: u64) -> Option<Self> {
        std::fs::create_dir_all(path).expect("made");
        let options = format!("size={kib}k,mode=0755");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "none"]).arg(path).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(path.to_path_buf()));
        }
        skip("what mounts file systems");
        None
    }

    /// Changes its options.
    pub fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let done = Command::new("mount").args(["-o", &options]).arg(&self.0).status().expect("runs");
        assert!(done.success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A file that nobody may change; may be changed again at the end.
pub struct Immutable(PathBuf);

impl Immutable {
    /// `None` where the file system has no such files.
    pub fn new(path: &Path) -> Option<Self> {
        let done = Command::new("chattr").arg("+i").arg(path).output();
        if done.is_ok_and(|output| output.status.success()) {
            return Some(Self(path.to_path_buf()));
        }
        skip("a file system with immutable files");
        None
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-i").arg(&self.0).status();
    }
}
