//! Giving what was restored the attributes of its entry, and none besides.
//!
//! A directory of the target may hand down access control lists, and a file that is kept may have attributes of its own:
//! what the snapshot does not have is taken away, within the kinds that a backup keeps. The owner comes first, because
//! changing it clears set-user-id and capabilities; where the owner cannot be set, those bits are left out, so that no
//! program runs with the rights of somebody it never belonged to. Nor does a file's group get what an access control list
//! gave to others, where that list is not restored. What is right already is not touched.

use std::io;
use std::sync::atomic::Ordering;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, chmodat, chownat, fchmod, fchown, futimens, statat,
    utimensat,
};
use rustix::io::Errno;

use crate::fs::stat::FileStat;
use crate::fs::xattrs::{Subject, proc_path};
use crate::model::entry::Metadata;
use crate::model::path::display_bytes;
use crate::model::time::Timestamp;
use crate::sink::target::FileTarget;

/// The attribute that holds the access control list of a file.
const ACCESS_LIST: &[u8] = b"system.posix_acl_access";
const SET_USER_ID: u32 = 0o4000;
const SET_GROUP_ID: u32 = 0o2000;

impl FileTarget {
    /// Sets owner, mode, extended attributes and times; returns what could not be set, as clauses for people.
    pub(super) fn set_attributes(&self, subject: Subject<'_>, m: &Metadata) -> Vec<String> {
        let mut problems = Vec::new();
        let now = match stat(subject) {
            Ok(now) => now,
            Err(errno) => return vec![format!("its attributes could not be set: {}", io::Error::from(errno))],
        };
        let (has_user, has_group) = self.set_owner(subject, &now, m, &mut problems);
        self.remove_foreign(subject, m, &mut problems);
        let mut mode_was_set = false;
        if now.file_type() != FileType::Symlink {
            let mut mode = self.mode(subject, m);
            for (bit, has_it, what) in
                [(SET_USER_ID, has_user, "set-user-id bit"), (SET_GROUP_ID, has_group, "set-group-id bit")]
            {
                if mode & bit != 0 && !has_it {
                    mode &= !bit;
                    problems.push(format!("its {what} was left out, because it belongs to somebody else here"));
                }
            }
            // A changed owner clears bits, so a mode that was right may be right no more.
            mode_was_set = stat(subject).is_ok_and(|stat| stat.raw_mode & 0o7777 != mode);
            if mode_was_set {
                note(set_mode(subject, mode), "mode", &mut problems);
            }
        }
        self.set_xattrs(subject, m, mode_was_set, &mut problems);
        if now.mtime != m.mtime {
            note(set_times(subject, m.mtime), "times", &mut problems);
        }
        problems
    }

    /// Returns the mode for what a handle is of. With an access control list the bits of the group are the most that
    /// anybody named in it gets; before that list is there, the group gets no more than the list gives it. Setting the
    /// list sets those bits.
    fn mode(&self, subject: Subject<'_>, m: &Metadata) -> u32 {
        let mode = m.mode & 0o7777;
        let Some(list) = m.xattrs.get(ACCESS_LIST) else { return mode };
        let is_there = || self.is_right(subject, ACCESS_LIST, list);
        let group = group_in(list).filter(|_| !self.options.attributes.takes(ACCESS_LIST) || !is_there());
        group.map_or(mode, |group| mode & !(0o070 & !(group << 3)))
    }

    fn is_right(&self, subject: Subject<'_>, name: &[u8], value: &[u8]) -> bool {
        let name = std::ffi::CString::new(name);
        name.is_ok_and(|name| subject.get(&name).is_ok_and(|now| now == value))
    }

    /// Sets user and group where they differ, the group alone where the user may not be set. Returns which are right.
    fn set_owner(
        &self,
        subject: Subject<'_>,
        now: &FileStat,
        m: &Metadata,
        problems: &mut Vec<String>,
    ) -> (bool, bool) {
        let (uid, gid) = self.owner(m);
        let can_be = (uid.is_some(), gid.is_some());
        if can_be != (true, true) {
            note(Err(Errno::INVAL), "owner", problems);
        }
        let user = uid.filter(|uid| now.uid != uid.as_raw());
        let group = gid.filter(|gid| now.gid != gid.as_raw());
        if user.is_none() && group.is_none() {
            return can_be;
        }
        let Err(errno) = set_owner(subject, user, group) else { return can_be };
        let group_alone = user.is_some() && group.is_some() && set_owner(subject, None, group).is_ok();
        if errno == Errno::PERM && !self.is_root {
            self.owners_missed.fetch_add(1, Ordering::Relaxed);
        } else {
            note(Err(errno), "owner", problems);
        }
        (can_be.0 && user.is_none(), can_be.1 && (group.is_none() || group_alone))
    }

    /// Returns owner and group. The number of all ones is nobody's: the system takes it for "leave it as it is".
    fn owner(&self, m: &Metadata) -> (Option<Uid>, Option<Gid>) {
        let by_name = !self.options.numeric_ids;
        let user = m.user.as_ref().filter(|_| by_name).and_then(|name| self.owners.user_id(name));
        let group = m.group.as_ref().filter(|_| by_name).and_then(|name| self.owners.group_id(name));
        let can_be = |id: &u32| *id != u32::MAX;
        let (user, group) = (Some(user.unwrap_or(m.uid)), Some(group.unwrap_or(m.gid)));
        (user.filter(can_be).map(Uid::from_raw), group.filter(can_be).map(Gid::from_raw))
    }

    /// Removes attributes that the snapshot does not have, of the kinds that give rights or belong to users.
    fn remove_foreign(&self, subject: Subject<'_>, m: &Metadata, problems: &mut Vec<String>) {
        let Ok(names) = subject.names() else { return };
        let is_ours = |name: &[u8]| is_restored(name) && self.options.attributes.takes(name);
        for name in names.into_iter().filter(|name| is_ours(name.to_bytes())) {
            if m.xattrs.contains_key(name.to_bytes()) {
                continue;
            }
            match subject.remove(name.to_bytes()) {
                Ok(()) | Err(Errno::NODATA) => {}
                Err(errno) => problems.push(not_done(name.to_bytes(), "removed", errno)),
            }
        }
    }

    /// Sets attributes that differ. Setting the mode may have changed an access control list.
    fn set_xattrs(&self, subject: Subject<'_>, m: &Metadata, mode_was_set: bool, problems: &mut Vec<String>) {
        for (name, value) in m.xattrs.iter().filter(|(name, _)| self.options.attributes.takes(name)) {
            if self.is_right(subject, name, value) && !(mode_was_set && name == ACCESS_LIST) {
                continue;
            }
            if let Err(errno) = subject.set(name, value) {
                problems.push(not_done(name, "set", errno));
            }
        }
    }
}

/// Returns what an access control list, as the kernel keeps it, gives to the group of the file.
fn group_in(list: &[u8]) -> Option<u32> {
    const GROUP: [u8; 2] = [4, 0];
    let entries = list.get(4..)?.chunks_exact(8);
    let group = entries.into_iter().find(|entry| entry[..2] == GROUP)?;
    Some(u32::from(group[2] & 7))
}

/// Tells whether an attribute is taken away where the snapshot lacks it. Labels of security modules are not: the system
/// gives each file one.
fn is_restored(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name.starts_with(b"system.posix_acl_") || name == b"security.capability"
}

fn not_done(name: &[u8], what: &str, errno: Errno) -> String {
    format!("attribute {} could not be {what}: {}", display_bytes(name), io::Error::from(errno))
}

fn note(outcome: Result<(), Errno>, what: &str, problems: &mut Vec<String>) {
    if let Err(errno) = outcome {
        problems.push(format!("its {what} could not be set: {}", io::Error::from(errno)));
    }
}

/// Returns what `stat` tells about exactly what the handle is of.
pub(super) fn stat(subject: Subject<'_>) -> Result<FileStat, Errno> {
    match subject {
        Subject::Open(fd) => rustix::fs::fstat(fd).map(FileStat::from),
        Subject::Handle(fd) => statat(fd, "", AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW).map(FileStat::from),
    }
}

fn set_owner(subject: Subject<'_>, user: Option<Uid>, group: Option<Gid>) -> Result<(), Errno> {
    match subject {
        Subject::Open(fd) => fchown(fd, user, group),
        Subject::Handle(fd) => chownat(fd, "", user, group, AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW),
    }
}

/// Sets the mode through a handle, never by a name that somebody may have exchanged meanwhile.
pub(super) fn set_mode(subject: Subject<'_>, mode: u32) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(mode);
    match subject {
        Subject::Open(fd) => fchmod(fd, mode),
        Subject::Handle(fd) => chmodat(CWD, proc_path(fd), mode, AtFlags::empty()),
    }
}

/// Sets the time of the last change, and that of the last access to the same.
pub(super) fn set_times(subject: Subject<'_>, mtime: Timestamp) -> Result<(), Errno> {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanos.into() };
    let times = Timestamps { last_access: time, last_modification: time };
    match subject {
        Subject::Open(fd) => futimens(fd, &times),
        Subject::Handle(fd) => {
            match utimensat(fd, "", &times, AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW) {
                // Older kernels. The path below /proc leads to what the handle is of, a symbolic link included.
                Err(Errno::INVAL | Errno::NOENT) => utimensat(CWD, proc_path(fd), &times, AtFlags::empty()),
                answer => answer,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_found_in_a_list() {
        let list = |entries: &[(u16, u16)]| {
            let entry =
                |(tag, rights): &(u16, u16)| [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &[255; 4]].concat();
            [&2u32.to_le_bytes()[..], &entries.iter().flat_map(entry).collect::<Vec<u8>>()].concat()
        };
        assert_eq!(group_in(&list(&[(1, 7), (2, 7), (4, 4), (16, 7), (32, 0)])), Some(4));
        assert_eq!(group_in(&list(&[(1, 7)])), None);
        assert_eq!(group_in(&[2, 0]), None);
    }
}
