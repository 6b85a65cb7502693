//! Entries: what one file, directory, symlink, special file or stream of a snapshot is.

use std::collections::BTreeMap;

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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileContent {
    /// Length in bytes, holes included.
    pub size: u64,
    /// The chunks that hold the bytes. With `holes` they hold only what lies between the holes.
    pub chunks: ChunkList,
    /// Runs of the file that take no space on disk, ascending, not touching. The chunks skip them.
    pub holes: Vec<Hole>,
}

/// A run of zero bytes that was not allocated in the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// Offset of its first byte in the file.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
}

/// A chunk and its length, as a list of chunks holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRef {
    /// The chunk's name.
    pub id: ChunkId,
    /// Length of its plaintext in bytes.
    pub length: u32,
}

/// The chunks of a file in order, inside the entry or, when they are many, in list nodes of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Number of names the inode had; above 1 entries with equal device and inode are hardlinks of one file.
    pub links: u64,
    /// Extended attributes (ACLs among them) by name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// How a stream came about; databases add to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamDetail {
    /// The command without secrets, empty for standard input.
    pub command: Vec<Vec<u8>>,
    /// How long it ran, in milliseconds.
    pub duration_ms: u64,
    /// Facts for people and programs, such as engine and version, by name.
    pub facts: BTreeMap<String, String>,
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

impl FileContent {
    /// Returns the number of bytes that chunks hold: the size without the holes.
    pub fn stored_length(&self) -> u64 {
        self.size - self.holes.iter().map(|hole| hole.length).sum::<u64>()
    }
}
