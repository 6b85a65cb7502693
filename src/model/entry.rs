//! Entries: what one file, directory, symlink, special file or stream of a snapshot is.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use crate::model::facts::StreamFacts;
use crate::model::id::ChunkId;
use crate::model::path::EntryPath;
use crate::model::time::Timestamp;

/// One entry of a snapshot's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands in the tree.
    pub path: EntryPath,
    /// What it is, with what only this kind has.
    pub kind: EntryKind,
    /// What all kinds have.
    pub metadata: Metadata,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File(FileContent),
    /// A directory; its entries follow it in the tree.
    Directory,
    /// A symbolic link and the bytes it points to.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device with its device number.
    CharDevice(u64),
    /// A block device with its device number.
    BlockDevice(u64),
    /// Bytes that came from standard input or a command.
    Stream(FileContent, StreamDetail),
}

/// The bytes of a file or stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct FileContent {
    /// Length in bytes, holes included.
    pub size: u64,
    /// The chunks that hold the bytes. With `holes` they hold only what lies between the holes.
    pub chunks: ChunkList,
    /// Runs of the file that take no space on disk, ascending, not touching. The chunks skip them.
    pub holes: Vec<Hole>,
}

/// A run of zero bytes that was not allocated in the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hole {
    /// Offset of its first byte in the file.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
}

/// A chunk and its length, as a list of chunks holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChunkRef {
    /// The chunk's name.
    pub id: ChunkId,
    /// Length of its plaintext in bytes.
    pub length: u32,
}

/// The chunks of a file in order, inside the entry or, when they are many, in list nodes of their own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ChunkList {
    /// At most [`ChunkList::INLINE_MAX`] chunks.
    Inline(Vec<ChunkRef>),
    /// A content-defined list of chunks whose top node is the chunk `root`.
    Indirect {
        /// The top node.
        root: ChunkId,
        /// Levels of nodes: 1 when `root` holds chunk references itself.
        depth: u8,
        /// Number of chunks in the whole list.
        chunks: u64,
    },
}

impl ChunkList {
    /// The most chunks that an entry holds itself.
    pub const INLINE_MAX: usize = 32;
}

impl Default for ChunkList {
    fn default() -> Self {
        ChunkList::Inline(Vec::new())
    }
}

/// What is kept about every entry besides its content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Permission bits with set-user-id, set-group-id and sticky (`mode & 0o7777`).
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Name of the owner where the source host knew it.
    pub user: Option<Vec<u8>>,
    /// Name of the group where the source host knew it.
    pub group: Option<Vec<u8>>,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of the inode; tells an unchanged file, never restored.
    pub ctime: Timestamp,
    /// Inode number on the source host.
    pub inode: u64,
    /// Device number on the source host.
    pub device: u64,
    /// Number of names the inode had; [`Entry::link_key`] tells which entries are names of one file.
    pub links: u64,
    /// Extended attributes (ACLs among them) by name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Whether the content of a regular file began like random bytes when it was read: a later backup notices that many files come to.
    pub looks_random: bool,
}

/// How a stream came about; databases add to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamDetail {
    /// The command without secrets, empty for standard input.
    pub command: Vec<Vec<u8>>,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
    /// Facts for people and programs, such as engine and version, by name.
    pub facts: StreamFacts,
}

impl Entry {
    /// Returns the content of a file or stream, `None` for everything else.
    pub fn content(&self) -> Option<&FileContent> {
        match &self.kind {
            EntryKind::File(content) | EntryKind::Stream(content, _) => Some(content),
            _ => None,
        }
    }

    /// Returns the size of the content in bytes; zero for what has none.
    pub fn size(&self) -> u64 {
        self.content().map_or(0, |content| content.size)
    }

    /// Tells whether this is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, EntryKind::Directory)
    }
}

/// What all names of one file have in common: device, inode, and everything that a restore puts into the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkKey([u8; 16]);

impl Entry {
    /// Returns what tells the other names of this file, or `None` for what has but one name or is no regular file.
    ///
    /// Device and inode are not enough: a number that is freed while a backup runs is used again at once, and some file
    /// systems give one number to several files. Entries are one file only when content, times, owner, mode and
    /// attributes are equal as well; those that are not come back as files of their own.
    pub fn link_key(&self) -> Option<LinkKey> {
        let EntryKind::File(content) = &self.kind else { return None };
        let Metadata { mode, uid, gid, user, group, mtime, ctime: _, inode, device, links, xattrs, looks_random: _ } =
            &self.metadata;
        let mut digest = Digest(blake3::Hasher::new());
        ((device, inode, content), (mode, uid, gid, user, group), (mtime, xattrs)).hash(&mut digest);
        let mut key = [0; 16];
        key.copy_from_slice(&digest.0.finalize().as_bytes()[..16]);
        (*links > 1).then_some(LinkKey(key))
    }
}

/// Feeds whatever can be hashed to a hash that nobody finds collisions of.
struct Digest(blake3::Hasher);

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0.finalize().as_bytes()[..8]);
        u64::from_le_bytes(first)
    }
}

impl FileContent {
    /// Returns the number of bytes that chunks hold: the size without the holes.
    pub fn stored_length(&self) -> u64 {
        self.stored_before(self.size)
    }

    /// Returns the number of bytes before `offset` that chunks hold.
    pub fn stored_before(&self, offset: u64) -> u64 {
        let of_hole = |hole: &Hole| offset.saturating_sub(hole.offset).min(hole.length);
        offset - self.holes.iter().map(of_hole).sum::<u64>()
    }

    /// Returns offsets and lengths of `length` bytes that chunks hold, from byte `stored` of these on: what stands between holes.
    pub fn places_of(&self, stored: u64, length: u64) -> Vec<(u64, u64)> {
        let (mut offset, mut left, mut places) = (stored, length, Vec::new());
        for hole in &self.holes {
            if hole.offset > offset {
                let room = (hole.offset - offset).min(left);
                places.extend((room > 0).then_some((offset, room)));
                left -= room;
                if left == 0 {
                    return places;
                }
                offset += room;
            }
            offset = offset.saturating_add(hole.length);
        }
        places.extend((left > 0).then_some((offset, left)));
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_bytes_have_their_places_between_holes() {
        let holes =
            vec![Hole { offset: 0, length: 10 }, Hole { offset: 15, length: 5 }, Hole { offset: 30, length: 9 }];
        let content = FileContent { size: 60, holes, ..FileContent::default() };
        for (stored, length, expected) in [
            (0, 5, vec![(10, 5)]),
            (0, 8, vec![(10, 5), (20, 3)]),
            (5, 1, vec![(20, 1)]),
            (6, 30, vec![(21, 9), (39, 21)]),
            (15, 2, vec![(39, 2)]),
            (3, 0, vec![]),
        ] {
            assert_eq!(content.places_of(stored, length), expected, "{stored} {length}");
        }
        for offset in [0, 12, 15, 20, 29, 30, 39, 45] {
            let stored = content.stored_before(offset);
            let [(place, 1)] = content.places_of(stored, 1)[..] else { panic!("one place") };
            assert_eq!(content.stored_before(place), stored, "{offset}");
        }
    }

    #[test]
    fn only_what_is_equal_in_all_that_is_restored_is_one_file() {
        type Change<'a> = &'a dyn Fn(&mut Metadata, &mut FileContent);
        let chunk = ChunkRef { id: ChunkId([7; 32]), length: 5 };
        let content = FileContent { size: 5, chunks: ChunkList::Inline(vec![chunk]), holes: Vec::new() };
        let metadata = Metadata { inode: 1, device: 2, links: 2, mode: 0o644, ..Metadata::default() };
        let path = |name: &str| EntryPath::new(name).expect("safe");
        let first = Entry { path: path("a"), kind: EntryKind::File(content.clone()), metadata };
        let key = first.link_key().expect("it has two names");
        let second = |change: Change<'_>| {
            let (mut metadata, mut content) = (first.metadata.clone(), content.clone());
            change(&mut metadata, &mut content);
            Entry { path: path("b"), kind: EntryKind::File(content), metadata }.link_key()
        };
        assert_eq!(second(&|_, _| {}), Some(key));
        // Another name may be made, and with it the time of the inode change, while a backup runs.
        assert_eq!(second(&|m, _| (m.links, m.ctime) = (3, Timestamp::from_seconds(9))), Some(key));
        assert_eq!(second(&|m, _| m.links = 1), None);
        let others: [Change<'_>; 9] = [
            &|_, c| c.size = 6,
            &|_, c| c.chunks = ChunkList::Inline(vec![ChunkRef { id: ChunkId([8; 32]), length: 5 }]),
            &|_, c| c.chunks = ChunkList::Indirect { root: ChunkId([7; 32]), depth: 1, chunks: 1 },
            &|_, c| c.holes = vec![Hole { offset: 0, length: 1 }],
            &|m, _| m.mtime = Timestamp::from_seconds(1),
            &|m, _| m.mode = 0o600,
            &|m, _| m.uid = 33,
            &|m, _| drop(m.xattrs.insert(b"user.x".to_vec(), b"y".to_vec())),
            &|m, _| m.device = 3,
        ];
        for (at, change) in others.iter().enumerate() {
            assert!(second(change).is_some_and(|other| other != key), "change {at} makes another file");
        }
    }
}
