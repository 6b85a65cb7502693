//! A mount whose server has died: what asks it anything waits for ever.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Mounts a FUSE file system whose server never answers; it is gone when the guard is.
pub struct DeadMount(PathBuf, Option<OwnedFd>);

impl DeadMount {
    /// `None` where mounting is not permitted. `user` is the one who may look at it; root lets all look.
    pub fn new(at: &Path, user: u32) -> Option<Self> {
        let device = File::options().read(true).write(true).open("/dev/fuse").ok()?;
        let others = if user == 0 { ",allow_other" } else { "" };
        let data = format!("fd={},rootmode=40000,user_id={user},group_id={user}{others}", device.as_raw_fd());
        let text = |bytes: &[u8]| CString::new(bytes).expect("no zero byte");
        let (path, data) = (text(at.as_os_str().as_bytes()), text(data.as_bytes()));
        // SAFETY: all four are C strings that live through the call.
        let mounted =
            unsafe { libc::mount(c"dead".as_ptr(), path.as_ptr(), c"fuse.dead".as_ptr(), 0, data.as_ptr().cast()) };
        (mounted == 0).then(|| Self(at.to_path_buf(), Some(device.into())))
    }
}

impl Drop for DeadMount {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().expect("umount runs");
        self.1.take();
    }
}
