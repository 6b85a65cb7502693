//! What `stat` tells about one file, compact, and the [`Metadata`] made of it.

use rustix::fs::{FileType, Stat, Statx, makedev};

use crate::fs::owners::Owners;
use crate::model::entry::Metadata;
use crate::model::time::Timestamp;

/// What `stat` tells about one file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileStat {
    /// File type and permission bits.
    pub raw_mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Number of names.
    pub links: u64,
    /// Device the inode is on.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Device number of a device node.
    pub device_number: u64,
    /// Length in bytes.
    pub size: u64,
    /// Allocated space in units of 512 bytes.
    pub blocks: u64,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
}

impl FileStat {
    /// Returns the type of the file.
    pub fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.raw_mode)
    }

    /// Tells whether parts of the file may take no space.
    pub fn may_have_holes(&self) -> bool {
        self.blocks.saturating_mul(512) < self.size
    }

    /// Tells whether `other` is the same state of the same inode: size, mtime, ctime and inode number are equal.
    pub fn is_unchanged(&self, other: &FileStat) -> bool {
        let key = |stat: &FileStat| (stat.device, stat.inode, stat.size, stat.mtime, stat.ctime);
        key(self) == key(other)
    }

    /// Returns the metadata of an entry, without extended attributes; names come from `owners`.
    pub fn metadata(&self, owners: &Owners) -> Metadata {
        Metadata {
            mode: self.raw_mode & 0o7777,
            uid: self.uid,
            gid: self.gid,
            user: owners.user_name(self.uid),
            group: owners.group_name(self.gid),
            mtime: self.mtime,
            ctime: self.ctime,
            inode: self.inode,
            device: self.device,
            links: self.links,
            xattrs: Default::default(),
            looks_random: false,
        }
    }
}

impl From<Stat> for FileStat {
    // The widths of the fields differ between architectures.
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
    fn from(stat: Stat) -> Self {
        let time = |seconds: i64, nanos: u64| Timestamp { seconds, nanos: u32::try_from(nanos).unwrap_or(0) };
        Self {
            raw_mode: stat.st_mode as u32,
            uid: stat.st_uid,
            gid: stat.st_gid,
            links: stat.st_nlink as u64,
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            device_number: stat.st_rdev as u64,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            blocks: u64::try_from(stat.st_blocks).unwrap_or(0),
            mtime: time(stat.st_mtime as i64, stat.st_mtime_nsec as u64),
            ctime: time(stat.st_ctime as i64, stat.st_ctime_nsec as u64),
        }
    }
}

impl From<Statx> for FileStat {
    /// Takes over what was asked for; fields that were not are what the system put there, mostly zero.
    fn from(stat: Statx) -> Self {
        let time = |at: rustix::fs::StatxTimestamp| Timestamp { seconds: at.tv_sec, nanos: at.tv_nsec };
        Self {
            raw_mode: u32::from(stat.stx_mode),
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            links: u64::from(stat.stx_nlink),
            device: makedev(stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            device_number: makedev(stat.stx_rdev_major, stat.stx_rdev_minor),
            size: stat.stx_size,
            blocks: stat.stx_blocks,
            mtime: time(stat.stx_mtime),
            ctime: time(stat.stx_ctime),
        }
    }
}
