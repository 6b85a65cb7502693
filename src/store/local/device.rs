//! Tells an object that a disk cannot read from a disk that cannot be read.
//!
//! After an I/O error on one object the disk is asked for another place, past the page cache: of a disk that was unplugged
//! the kernel goes on to give what it remembers, and only what it has to ask for shows that nobody is there. A place counts
//! when it is on the same file system, was not in memory, and was read. Where that cannot be known (file systems of the
//! network and in user space, files of somebody else, no object of a page's size) the answer is no: then it stays the way.

use std::io;

/// Errors that may be about one object: a bad sector, or a checksum of the file system that does not fit.
const OF_AN_OBJECT: [i32; 4] = [libc::EIO, libc::EBADMSG, libc::EUCLEAN, libc::ENODATA];

/// Tells whether a failure to read may be about the object alone.
pub(super) fn may_be_the_objects(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| OF_AN_OBJECT.contains(&code))
}

#[cfg(target_os = "linux")]
pub(super) use linux::gives_others;

/// Nothing is known elsewhere of what the page cache holds.
#[cfg(not(target_os = "linux"))]
pub(super) fn gives_others(_root: &std::path::Path, _object: &std::path::Path) -> bool {
    false
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::VecDeque;
    use std::fs::{self, File};
    use std::io;
    use std::os::unix::fs::{FileExt, MetadataExt};
    use std::path::{Path, PathBuf};

    use memmap2::MmapOptions;
    use rustix::fs::{Advice, fadvise, statfs};

    /// File systems on disks whose reads go through the page cache: ext, XFS, Btrfs, F2FS, bcachefs, FAT, exFAT, NTFS.
    const ON_DISK: [u32; 8] =
        [0x0000_ef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0xca45_1a4e, 0x0000_4d44, 0x2011_bab0, 0x7366_746e];
    /// The smallest page; a file below it may lie in its inode, which the kernel remembers apart.
    const PAGE: u64 = 4096;
    /// Objects that are tried, since bad sectors have neighbours.
    const TRIED: usize = 32;
    /// Entries of directories that are looked at to find them.
    const LOOKED_AT: usize = 4096;

    /// Tells whether the disk that failed to give `object` gives something else now, of it or of another object below `root`.
    pub(in super::super) fn gives_others(root: &Path, object: &Path) -> bool {
        let Some(device) = disk_of(object) else { return false };
        let beside = object.ancestors().skip(1).take_while(|directory| directory.starts_with(root));
        let mut tried = 0;
        let mut looked_at = 0;
        // From the nearest directory on, since others may be links to other disks.
        for directory in beside {
            let mut pending = VecDeque::from([directory.to_path_buf()]);
            while let Some(directory) = pending.pop_front() {
                for path in entries(&directory) {
                    looked_at += 1;
                    if tried >= TRIED || looked_at > LOOKED_AT {
                        return false;
                    }
                    match fs::metadata(&path) {
                        Ok(metadata) if metadata.is_dir() => pending.push_back(path),
                        Ok(metadata) if metadata.dev() == device && metadata.len() >= PAGE => {
                            tried += 1;
                            if is_given(&path, metadata.len()).unwrap_or(false) {
                                return true;
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
        false
    }

    /// Returns the device of the file system that holds an object, where that is one on a disk. Of a link to one nothing is
    /// known when it does not answer.
    fn disk_of(object: &Path) -> Option<u64> {
        let is_link = fs::symlink_metadata(object).is_ok_and(|metadata| metadata.is_symlink());
        let directory = object.parent().filter(|_| !is_link)?;
        let kind = statfs(directory).ok()?.f_type as u32;
        if !ON_DISK.contains(&kind) {
            return None;
        }
        fs::metadata(directory).ok().map(|metadata| metadata.dev())
    }

    fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
        fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
    }

    /// Tells whether a part of a file was read that was not in memory.
    fn is_given(path: &Path, len: u64) -> io::Result<bool> {
        let file = File::open(path)?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
        let last = (len - 1) / PAGE * PAGE;
        for at in [0, len / 2 / PAGE * PAGE, last] {
            if !is_in_memory(&file, at)? && file.read_at(&mut [0], at).is_ok_and(|read| read == 1) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Tells whether the kernel has the page at `at` of a file in memory. Of files of others it says so of every page.
    fn is_in_memory(file: &File, at: u64) -> io::Result<bool> {
        // SAFETY: the map is only asked about, never read.
        let map = unsafe { MmapOptions::new().offset(at).len(1).map(file)? };
        let mut pages = [0u8; 1];
        // SAFETY: the map is one page long, and so is the answer.
        let asked = unsafe { libc::mincore(map.as_ptr().cast_mut().cast(), map.len(), pages.as_mut_ptr().cast()) };
        if asked != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(pages[0] & 1 == 1)
    }
}
