//! Small file systems that are full, read-only, in the way, or on a disk that goes bad. Where nothing may be mounted, tests that need one say so
//! and pass, unless `COFFRE_REQUIRE_SERVERS=1`.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
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

    /// Mounts a file system in which names differ by more than the size of their letters, of so many MiB.
    pub fn exfat(path: &Path, mib: u64) -> Option<Self> {
        std::fs::create_dir_all(path).expect("made");
        let image = path.with_extension("image");
        std::fs::File::create(&image).expect("made").set_len(mib << 20).expect("set");
        let done = |command: &mut Command| {
            let output = command.output().ok().filter(|output| output.status.success())?;
            Some(String::from_utf8(output.stdout).expect("plain").trim().to_owned())
        };
        let mounted = || {
            done(Command::new("mkfs.exfat").arg(&image))?;
            let device = done(Command::new("losetup").args(["--find", "--show"]).arg(&image))?;
            let mounted = done(Command::new("mount.exfat-fuse").arg(&device).arg(path));
            // It goes with the last who uses it.
            done(Command::new("losetup").args(["--detach", &device]));
            mounted
        };
        if mounted().is_some() {
            return Some(Self(path.to_path_buf()));
        }
        skip("exfat-fuse, and what mounts file systems");
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

/// Bytes of a block of a [`Disk`], and of a page.
const BLOCK: u64 = 4096;

/// A disk: ext4 in a file behind a loop device. What lies behind the end of that file cannot be read.
pub struct Disk {
    mount: Mount,
    root: PathBuf,
    image: File,
}

impl Disk {
    /// Mounts an empty one at `root`, which is made; `None` where that is not possible.
    pub fn new(root: &Path, image: &Path) -> Option<Self> {
        fs::create_dir_all(root).expect("made");
        let file = File::options().create_new(true).read(true).write(true).open(image).expect("made");
        file.set_len(512 << 20).expect("room");
        let run = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
        let made = run(Command::new("mkfs.ext4").args(["-q", "-F", "-b", "4096"]).arg(image));
        if !made || !run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(root)) {
            skip("mkfs.ext4 and loop devices");
            return None;
        }
        Some(Self { mount: Mount(root.to_path_buf()), root: root.to_path_buf(), image: file })
    }

    /// Makes the page of `file` at `at`, and nothing else, unreadable. The disk is read-only from then on.
    pub fn break_page(&self, file: &Path, at: usize) {
        let page = at as u64 / BLOCK;
        let donor = File::options().create_new(true).read(true).write(true).open(self.root.join("room")).expect("made");
        let all = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&donor, all, 0, 256 << 20).expect("room");
        rustix::fs::sync();
        let moved = File::options().read(true).write(true).open(file).expect("there");
        move_block(&moved, page, &donor, (256 << 20) / BLOCK - 1);
        let broken = block_at(&moved, page);
        drop((donor, moved));
        let is_before = |(path, block): (&PathBuf, u64)| block < broken || (path == file && block == broken);
        let mut files = self.files();
        files.retain(|path| !path.ends_with("room"));
        assert!(files.iter().flat_map(|path| blocks(path).into_iter().map(move |block| (path, block))).all(is_before));
        self.end_at(broken);
    }

    /// Makes everything unreadable that the kernel does not have in memory, which is all there was.
    pub fn unplug(&self) {
        self.end_at(0);
    }

    fn end_at(&self, block: u64) {
        rustix::fs::sync();
        self.mount.remount("ro");
        self.files().iter().for_each(|file| drop(fs::read(file)));
        self.image.set_len(block * BLOCK).expect("cut");
    }

    /// Has the kernel forget the content of a file.
    pub fn forget(&self, file: &Path) {
        let file = File::open(file).expect("there");
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("forgotten");
    }

    /// Has the kernel forget the content of all files.
    pub fn forget_all(&self) {
        self.files().iter().for_each(|file| self.forget(file));
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut pending = vec![self.root.clone()];
        let mut found = Vec::new();
        while let Some(directory) = pending.pop() {
            for entry in fs::read_dir(directory).expect("readable") {
                let path = entry.expect("readable").path();
                if path.is_dir() { pending.push(path) } else { found.push(path) }
            }
        }
        found
    }
}

/// Returns the numbers of the disk's blocks that a file has.
fn blocks(path: &Path) -> Vec<u64> {
    let file = File::open(path).expect("there");
    let len = file.metadata().expect("there").len();
    (0..len.div_ceil(BLOCK)).map(|at| block_at(&file, at)).collect()
}

/// Returns the number of the disk's block that holds block `at` of a file.
fn block_at(file: &File, at: u64) -> u64 {
    const FIBMAP: libc::Ioctl = 1;
    let mut block = libc::c_int::try_from(at).expect("small");
    // SAFETY: the descriptor is open, and the request reads and writes one integer.
    let asked = unsafe { libc::ioctl(file.as_raw_fd(), FIBMAP, &raw mut block) };
    assert_eq!(asked, 0, "{}", std::io::Error::last_os_error());
    u64::try_from(block).expect("a block")
}

/// Moves block `at` of a file to where `donor` has its block `from`.
fn move_block(file: &File, at: u64, donor: &File, from: u64) {
    const MOVE: libc::Ioctl = 0xc028_660f;
    #[repr(C)]
    struct Extent {
        reserved: u32,
        donor: u32,
        start: u64,
        from: u64,
        blocks: u64,
        moved: u64,
    }
    let donor = u32::try_from(donor.as_raw_fd()).expect("open");
    let mut extent = Extent { reserved: 0, donor, start: at, from, blocks: 1, moved: 0 };
    // SAFETY: both descriptors are open, and the request reads and writes one such value.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), MOVE, &raw mut extent) };
    assert_eq!((done, extent.moved), (0, 1), "{}", std::io::Error::last_os_error());
}
