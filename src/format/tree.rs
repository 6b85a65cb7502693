//! Nodes of trees and of chunk lists: what stands in them, byte for byte.
//!
//! A tree's leaves hold entries in path order, front-coded; inner nodes hold, for each child, its first path, its id and
//! what is below it. Chunk lists of large files are built the same way. Nodes are chunks like any other; where they are
//! cut is `repository::tree`'s business and does not matter to a reader.

use std::collections::BTreeMap;

use minicbor::Decoder;

use crate::format::wire::{Cursor, Record, read_array, read_bytes, read_items, read_map, write_array};
use crate::format::{FormatError, write_varint};
use crate::model::entry::{ChunkList, ChunkRef, Entry, EntryKind, FileContent, Hole, Metadata, StreamDetail};
use crate::model::id::ChunkId;
use crate::model::path::{EntryPath, compare_paths};

const NODE: &str = "a tree node";
const RECORD: &str = "an entry";

const ENTRIES: u8 = 1;
const CHILDREN: u8 = 2;
const CHUNKS: u8 = 3;
const LISTS: u8 = 4;

/// The deepest tree or list that is read; 100 children a node reach any size long before.
pub const DEPTH_MAX: u8 = 16;

/// The longest node, in bytes.
pub const NODE_BYTES_MAX: usize = 8 << 20;
/// Items of a node, at most.
pub const NODE_ITEMS_MAX: usize = 1 << 16;
/// Bytes of the decoded paths of a node, at most: front coding lets few bytes stand for many.
pub const NODE_PATHS_MAX: usize = 16 << 20;
/// What the entries of a node hold in number, at most: holes and lengths of chunks, attributes, words and facts, together.
pub const NODE_PARTS_MAX: usize = 1 << 19;

/// What a node may hold when it is decoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NodeLimits {
    /// Bytes of its paths.
    pub(crate) paths: usize,
    /// What its entries hold in number.
    pub(crate) parts: usize,
}

/// A child of an inner tree node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeChild {
    /// The first path below the child.
    pub first: EntryPath,
    /// The child's id.
    pub id: ChunkId,
    /// Entries below it.
    pub entries: u64,
    /// Bytes of content below it.
    pub bytes: u64,
}

/// A child of an inner list node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListChild {
    /// The child's id.
    pub id: ChunkId,
    /// Chunks below it.
    pub chunks: u64,
    /// Bytes below it.
    pub bytes: u64,
}

/// A node, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// Entries in path order.
    Entries(Vec<Entry>),
    /// Children of an inner tree node in path order.
    Children(Vec<TreeChild>),
    /// Chunks of a file in order.
    Chunks(Vec<ChunkRef>),
    /// Children of an inner list node in order.
    Lists(Vec<ListChild>),
}

/// Builds the bytes of a leaf entry by entry.
#[derive(Debug, Default)]
pub struct LeafBuilder {
    body: Vec<u8>,
    record: Vec<u8>,
    last: Vec<u8>,
    first: Option<EntryPath>,
    entries: u64,
    bytes: u64,
    paths: usize,
}

impl LeafBuilder {
    /// Appends an entry, whose path must come after all before it.
    pub fn push(&mut self, entry: &Entry) {
        let path = entry.path.as_bytes();
        let shared = self.last.iter().zip(path).take_while(|(a, b)| a == b).count();
        self.record.clear();
        write_record(entry, &mut self.record);
        write_front_coded(shared, path, &mut self.body);
        write_varint(self.record.len() as u64, &mut self.body);
        self.body.extend_from_slice(&self.record);
        self.last.clear();
        self.last.extend_from_slice(path);
        self.first.get_or_insert_with(|| entry.path.clone());
        self.entries += 1;
        self.bytes += entry.size();
        self.paths += path.len();
    }

    /// Returns the number of bytes so far.
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// Returns how long the paths of the entries are together.
    pub fn paths_len(&self) -> usize {
        self.paths
    }

    /// Tells whether no entry was appended.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Returns the node's bytes and what a parent keeps about it (its id to be filled in), and starts anew.
    pub fn finish(&mut self) -> (Vec<u8>, Option<TreeChild>) {
        let mut node = Vec::with_capacity(self.body.len() + 6);
        node.push(ENTRIES);
        write_varint(self.entries, &mut node);
        node.append(&mut self.body);
        let child = self.first.take().map(|first| TreeChild {
            first,
            id: ChunkId([0; 32]),
            entries: self.entries,
            bytes: self.bytes,
        });
        self.last.clear();
        (self.entries, self.bytes, self.paths) = (0, 0, 0);
        (node, child)
    }
}

/// Encodes an inner tree node.
pub fn encode_children(children: &[TreeChild]) -> Vec<u8> {
    let mut node = vec![CHILDREN];
    write_varint(children.len() as u64, &mut node);
    let mut last: &[u8] = &[];
    for child in children {
        let path = child.first.as_bytes();
        let shared = last.iter().zip(path).take_while(|(a, b)| a == b).count();
        write_front_coded(shared, path, &mut node);
        node.extend_from_slice(&child.id.0);
        write_varint(child.entries, &mut node);
        write_varint(child.bytes, &mut node);
        last = path;
    }
    node
}

/// Encodes a leaf of a chunk list: all ids, then all lengths, which compresses better than pairs.
pub fn encode_chunks(chunks: &[ChunkRef]) -> Vec<u8> {
    let mut node = Vec::with_capacity(chunks.len() * 35 + 6);
    node.push(CHUNKS);
    write_varint(chunks.len() as u64, &mut node);
    chunks.iter().for_each(|chunk| node.extend_from_slice(&chunk.id.0));
    chunks.iter().for_each(|chunk| write_varint(u64::from(chunk.length), &mut node));
    node
}

/// Encodes an inner node of a chunk list.
pub fn encode_lists(children: &[ListChild]) -> Vec<u8> {
    let mut node = vec![LISTS];
    write_varint(children.len() as u64, &mut node);
    for child in children {
        node.extend_from_slice(&child.id.0);
        write_varint(child.chunks, &mut node);
        write_varint(child.bytes, &mut node);
    }
    node
}

impl Node {
    /// Decodes a node, in a few times [`NODE_PATHS_MAX`] of memory whatever is in it.
    ///
    /// # Errors
    /// [`FormatError`] when it is not one, is larger than one can be, or its paths are unsafe or out of order.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        Self::decode_within(bytes, NodeLimits { paths: NODE_PATHS_MAX, parts: NODE_PARTS_MAX })
    }

    /// Decodes a node that takes no more memory than `limits` allow.
    ///
    /// # Errors
    /// As for [`Node::decode`], and for one that takes more.
    pub(crate) fn decode_within(bytes: &[u8], limits: NodeLimits) -> Result<Self, FormatError> {
        if bytes.len() > NODE_BYTES_MAX {
            return Err(FormatError::invalid(NODE, format!("it has {} bytes", bytes.len())));
        }
        let mut cursor = Cursor::new(NODE, bytes);
        let kind = cursor.u8()?;
        let count = cursor.length()?;
        if count > NODE_ITEMS_MAX {
            return Err(FormatError::invalid(NODE, format!("it has {count} items")));
        }
        if count == 0 && kind != ENTRIES {
            return Err(FormatError::invalid(NODE, "it has no items"));
        }
        let node = match kind {
            ENTRIES => Node::Entries(read_entries(&mut cursor, count, limits)?),
            CHILDREN => Node::Children(read_children(&mut cursor, count, limits)?),
            CHUNKS => Node::Chunks(read_chunks(&mut cursor, count)?),
            LISTS => Node::Lists(read_lists(&mut cursor, count)?),
            other => return Err(FormatError::invalid(NODE, format!("unknown kind {other}"))),
        };
        cursor.finish()?;
        Ok(node)
    }
}

fn read_entries(cursor: &mut Cursor<'_>, count: usize, limits: NodeLimits) -> Result<Vec<Entry>, FormatError> {
    let (mut paths, mut parts) = (PathReader::new(limits), Parts(limits.parts));
    let mut entries: Vec<Entry> = Vec::with_capacity(count.min(8192));
    for _ in 0..count {
        let path = paths.next(cursor)?;
        let len = cursor.length()?;
        if entries.last().is_some_and(|last| !last.is_directory() && path.is_within(&last.path)) {
            return Err(FormatError::invalid(NODE, "an entry lies below one that is no directory"));
        }
        entries.push(read_record(path, cursor.bytes(len)?, &mut parts)?);
    }
    Ok(entries)
}

fn read_children(cursor: &mut Cursor<'_>, count: usize, limits: NodeLimits) -> Result<Vec<TreeChild>, FormatError> {
    let mut paths = PathReader::new(limits);
    let mut children = Vec::with_capacity(count.min(8192));
    for _ in 0..count {
        let first = paths.next(cursor)?;
        let id = ChunkId(cursor.array()?);
        children.push(TreeChild { first, id, entries: cursor.varint()?, bytes: cursor.varint()? });
    }
    Ok(children)
}

fn read_chunks(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<ChunkRef>, FormatError> {
    cursor.expect_items(count, 33)?;
    let mut chunks = Vec::with_capacity(count);
    for _ in 0..count {
        chunks.push(ChunkRef { id: ChunkId(cursor.array()?), length: 0 });
    }
    for chunk in &mut chunks {
        chunk.length = u32::try_from(cursor.varint()?)
            .ok()
            .filter(|length| *length > 0)
            .ok_or_else(|| FormatError::invalid(NODE, "a chunk's length is out of range"))?;
    }
    Ok(chunks)
}

fn read_lists(cursor: &mut Cursor<'_>, count: usize) -> Result<Vec<ListChild>, FormatError> {
    cursor.expect_items(count, 34)?;
    let mut children = Vec::with_capacity(count);
    for _ in 0..count {
        let id = ChunkId(cursor.array()?);
        children.push(ListChild { id, chunks: cursor.varint()?, bytes: cursor.varint()? });
    }
    Ok(children)
}

fn write_front_coded(shared: usize, path: &[u8], out: &mut Vec<u8>) {
    write_varint(shared as u64, out);
    write_varint((path.len() - shared) as u64, out);
    out.extend_from_slice(&path[shared..]);
}

/// What the entries of a node may still hold in number.
struct Parts(usize);

impl Parts {
    /// Takes one.
    fn take(&mut self) -> Result<(), minicbor::decode::Error> {
        self.0 = self.0.checked_sub(1).ok_or_else(|| minicbor::decode::Error::message("a node holds too much"))?;
        Ok(())
    }

    /// Reads an array whose items are counted.
    fn array<'b, T>(
        &mut self,
        d: &mut Decoder<'b>,
        mut item: impl FnMut(&mut Decoder<'b>) -> Result<T, minicbor::decode::Error>,
    ) -> Result<Vec<T>, minicbor::decode::Error> {
        read_array(d, |d| self.take().and_then(|()| item(d)))
    }
}

/// Reads front-coded paths and holds them to tree order.
struct PathReader {
    last: Vec<u8>,
    /// Bytes that the paths to come may have together.
    room: usize,
}

impl PathReader {
    fn new(limits: NodeLimits) -> Self {
        Self { last: Vec::new(), room: limits.paths }
    }

    fn next(&mut self, cursor: &mut Cursor<'_>) -> Result<EntryPath, FormatError> {
        let shared = usize::try_from(cursor.varint()?).unwrap_or(usize::MAX);
        let len = cursor.length()?;
        let suffix = cursor.bytes(len)?;
        let shared = self.last.get(..shared).ok_or_else(|| FormatError::invalid(NODE, "a path shares too much"))?;
        let length = shared.len() + suffix.len();
        self.room = self
            .room
            .checked_sub(length)
            .ok_or_else(|| FormatError::invalid(NODE, "its paths are too long together"))?;
        let bytes = [shared, suffix].concat();
        let path = EntryPath::new(bytes).map_err(|error| FormatError::invalid(NODE, error))?;
        if !self.last.is_empty() && compare_paths(&self.last, path.as_bytes()).is_ge() {
            return Err(FormatError::invalid(NODE, "paths are out of order"));
        }
        self.last = path.as_bytes().to_vec();
        Ok(path)
    }
}

fn kind_number(kind: &EntryKind) -> u8 {
    match kind {
        EntryKind::File(_) => 0,
        EntryKind::Directory => 1,
        EntryKind::Symlink(_) => 2,
        EntryKind::Fifo => 3,
        EntryKind::Socket => 4,
        EntryKind::CharDevice(_) => 5,
        EntryKind::BlockDevice(_) => 6,
        EntryKind::Stream(..) => 7,
    }
}

/// Writes an entry's record: a map from which every field with its usual value is left out.
fn write_record(entry: &Entry, out: &mut Vec<u8>) {
    let m = &entry.metadata;
    let (mut number, mut target, mut detail) = (0, None, None);
    match &entry.kind {
        EntryKind::CharDevice(device) | EntryKind::BlockDevice(device) => number = *device,
        EntryKind::Symlink(to) => target = Some(to),
        EntryKind::Stream(_, facts) => detail = Some(facts),
        _ => {}
    }
    let mut record = Record::begin(out);
    let numbers = [
        (0, u64::from(kind_number(&entry.kind))),
        (1, u64::from(m.mode)),
        (2, u64::from(m.uid)),
        (3, u64::from(m.gid)),
        (10, m.inode),
        (11, m.device),
        (12, m.links),
        (14, entry.size()),
        (20, number),
        (22, u64::from(m.looks_random)),
    ];
    for (key, value) in numbers {
        record.field_if(key, Some(value).filter(|value| *value != 0), |e, value| e.u64(value));
    }
    for (key, name) in [(4, &m.user), (5, &m.group)] {
        record.field_if(key, name.as_ref(), |e, name| e.bytes(name));
    }
    for (key, time) in [(6, m.mtime), (8, m.ctime)] {
        record.field_if(key, Some(time.seconds).filter(|seconds| *seconds != 0), |e, seconds| e.i64(seconds));
        record.field_if(key + 1, Some(time.nanos).filter(|nanos| *nanos != 0), |e, nanos| e.u32(nanos));
    }
    record.field_if(13, Some(&m.xattrs).filter(|xattrs| !xattrs.is_empty()), |e, xattrs| {
        e.map(xattrs.len() as u64)?;
        for (name, value) in xattrs {
            e.bytes(name)?.bytes(value)?;
        }
        Ok(e)
    });
    if let Some(content) = entry.content() {
        write_content(content, &mut record);
    }
    record.field_if(19, target, |e, target| e.bytes(target));
    record.field_if(21, detail, |e, detail| {
        e.map(3)?.u8(0)?;
        write_array(e, &detail.command, |e, word| e.bytes(word).map(drop))?;
        e.u8(1)?.u64(detail.duration_ms)?.u8(2)?.map(detail.facts.texts().len() as u64)?;
        for (name, value) in detail.facts.texts() {
            e.str(name)?.str(value)?;
        }
        Ok(e)
    });
    record.finish();
}

/// Writes where a content's bytes are.
fn write_content(content: &FileContent, record: &mut Record<'_>) {
    match &content.chunks {
        ChunkList::Inline(chunks) => {
            record.field_if(15, Some(chunks).filter(|chunks| !chunks.is_empty()), |e, chunks| {
                let ids: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.id.0).collect();
                e.bytes(&ids)
            });
            // One chunk is as long as what the entry stores, so its length is left out.
            record.field_if(16, Some(chunks).filter(|chunks| chunks.len() > 1), |e, chunks| {
                write_array(e, chunks, |e, chunk| e.u32(chunk.length).map(drop))
            });
        }
        ChunkList::Indirect { root, depth, chunks } => {
            record.field(17, |e| e.array(3)?.bytes(&root.0)?.u8(*depth)?.u64(*chunks));
        }
    }
    record.field_if(18, Some(&content.holes).filter(|holes| !holes.is_empty()), |e, holes| {
        e.array(holes.len() as u64 * 2)?;
        for hole in holes {
            e.u64(hole.offset)?.u64(hole.length)?;
        }
        Ok(e)
    });
}

fn read_record(path: EntryPath, bytes: &[u8], parts: &mut Parts) -> Result<Entry, FormatError> {
    let invalid = |why: &str| FormatError::invalid(RECORD, why);
    let mut m = Metadata::default();
    let (mut kind, mut number) = (0u8, 0u64);
    let mut content = ContentFields::default();
    let (mut target, mut detail) = (None, StreamDetail::default());
    read_map(RECORD, &mut Decoder::new(bytes), |key, d| {
        match key {
            0 => kind = d.u8()?,
            1 => m.mode = d.u32()?,
            2 => m.uid = d.u32()?,
            3 => m.gid = d.u32()?,
            4 => m.user = Some(d.bytes()?.to_vec()),
            5 => m.group = Some(d.bytes()?.to_vec()),
            6 => m.mtime.seconds = d.i64()?,
            7 => m.mtime.nanos = read_nanos(d)?,
            8 => m.ctime.seconds = d.i64()?,
            9 => m.ctime.nanos = read_nanos(d)?,
            10 => m.inode = d.u64()?,
            11 => m.device = d.u64()?,
            12 => m.links = d.u64()?,
            13 => {
                for _ in 0..d.map()?.unwrap_or(0) {
                    parts.take()?;
                    let name = d.bytes()?.to_vec();
                    m.xattrs.insert(name, d.bytes()?.to_vec());
                }
            }
            14 => content.size = d.u64()?,
            15 => content.ids = read_items(d, ChunkId)?,
            16 => content.lengths = parts.array(d, |d| d.u32())?,
            17 => {
                if d.array()? != Some(3) {
                    return Err(minicbor::decode::Error::message("a list has three fields"));
                }
                content.indirect = Some((ChunkId(read_bytes(d)?), d.u8()?, d.u64()?));
            }
            18 => content.holes = parts.array(d, |d| d.u64())?,
            19 => target = Some(d.bytes()?.to_vec()),
            20 => number = d.u64()?,
            21 => detail = read_detail(d, parts)?,
            22 => m.looks_random = d.u64()? == 1,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let kind = match kind {
        0 => EntryKind::File(content.checked()?),
        1 => EntryKind::Directory,
        2 => EntryKind::Symlink(target.ok_or_else(|| invalid("a symlink without target"))?),
        3 => EntryKind::Fifo,
        4 => EntryKind::Socket,
        5 => EntryKind::CharDevice(number),
        6 => EntryKind::BlockDevice(number),
        7 => EntryKind::Stream(content.checked()?, detail),
        other => return Err(FormatError::Newer { what: RECORD, version: u64::from(other) }),
    };
    Ok(Entry { path, kind, metadata: m })
}

/// What a record tells of its content, as it stands there.
#[derive(Default)]
struct ContentFields {
    size: u64,
    ids: Vec<ChunkId>,
    lengths: Vec<u32>,
    /// Root, depth and number of chunks of a list that stands in nodes of its own.
    indirect: Option<(ChunkId, u8, u64)>,
    /// Offset and length of each hole in turn.
    holes: Vec<u64>,
}

impl ContentFields {
    /// Returns the content, if holes and chunks add up to its size.
    fn checked(self) -> Result<FileContent, FormatError> {
        let Self { size, ids, mut lengths, indirect, holes } = self;
        let invalid = |why: &str| FormatError::invalid(RECORD, why);
        let holes = read_holes(&holes, size)?;
        let stored = size - holes.iter().map(|hole| hole.length).sum::<u64>();
        if let Some((root, depth, chunks)) = indirect {
            if depth == 0 || depth > DEPTH_MAX {
                return Err(invalid("a chunk list is too deep"));
            }
            return Ok(FileContent { size, chunks: ChunkList::Indirect { root, depth, chunks }, holes });
        }
        if lengths.is_empty() && ids.len() == 1 {
            lengths = vec![u32::try_from(stored).map_err(|_| invalid("a chunk is too long"))?];
        }
        let total: u64 = lengths.iter().map(|&length| u64::from(length)).sum();
        if lengths.len() != ids.len() || total != stored || lengths.contains(&0) {
            return Err(invalid("the chunks do not add up to the size"));
        }
        let chunks = ids.iter().zip(&lengths).map(|(&id, &length)| ChunkRef { id, length }).collect();
        Ok(FileContent { size, chunks: ChunkList::Inline(chunks), holes })
    }
}

fn read_holes(numbers: &[u64], size: u64) -> Result<Vec<Hole>, FormatError> {
    let (pairs, rest) = numbers.as_chunks::<2>();
    let holes: Vec<Hole> = pairs.iter().map(|&[offset, length]| Hole { offset, length }).collect();
    let mut end = 0u64;
    let fits = holes.iter().all(|hole| {
        let begins_after = hole.offset >= end && hole.length > 0;
        end = hole.offset.saturating_add(hole.length);
        begins_after && end <= size
    });
    if fits && rest.is_empty() { Ok(holes) } else { Err(FormatError::invalid(RECORD, "the holes are out of order")) }
}

fn read_nanos(d: &mut Decoder<'_>) -> Result<u32, minicbor::decode::Error> {
    let nanos = d.u32()?;
    if nanos < 1_000_000_000 { Ok(nanos) } else { Err(minicbor::decode::Error::message("too many nanoseconds")) }
}

fn read_detail(d: &mut Decoder<'_>, parts: &mut Parts) -> Result<StreamDetail, minicbor::decode::Error> {
    let mut detail = StreamDetail::default();
    for _ in 0..d.map()?.unwrap_or(0) {
        match d.u64()? {
            0 => detail.command = parts.array(d, |d| d.bytes().map(<[u8]>::to_vec))?,
            1 => detail.duration_ms = d.u64()?,
            2 => {
                let mut texts = BTreeMap::new();
                for _ in 0..d.map()?.unwrap_or(0) {
                    parts.take()?;
                    let name = d.str()?.to_owned();
                    texts.insert(name, d.str()?.to_owned());
                }
                detail.facts = texts.into();
            }
            _ => d.skip()?,
        }
    }
    Ok(detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Timestamp;

    fn entry(path: &str, kind: EntryKind) -> Entry {
        let metadata = Metadata {
            mode: 0o4755,
            uid: 1000,
            user: Some(b"ada".to_vec()),
            mtime: Timestamp { seconds: -5, nanos: 7 },
            xattrs: BTreeMap::from([(b"user.a".to_vec(), vec![0, 255])]),
            ..Metadata::default()
        };
        Entry { path: EntryPath::new(path).expect("safe"), kind, metadata }
    }

    fn reference(byte: u8, length: u32) -> ChunkRef {
        ChunkRef { id: ChunkId([byte; 32]), length }
    }

    #[test]
    fn every_kind_of_entry_round_trips() {
        let file = |size, chunks, holes| FileContent { size, chunks, holes };
        let list = ChunkList::Indirect { root: ChunkId([9; 32]), depth: 2, chunks: 5000 };
        let detail = StreamDetail {
            command: vec![b"pg_dump".to_vec()],
            duration_ms: 12,
            facts: BTreeMap::from([("engine".into(), "postgresql".into())]).into(),
        };
        let entries = vec![
            entry("a", EntryKind::Directory),
            entry("a/device", EntryKind::CharDevice(0x103)),
            entry("a/empty", EntryKind::File(file(0, ChunkList::default(), vec![]))),
            entry("a/fifo", EntryKind::Fifo),
            entry("a/link", EntryKind::Symlink(b"../\xff".to_vec())),
            entry("a/long", EntryKind::File(file(1 << 40, list, vec![]))),
            entry("a/one", EntryKind::File(file(10, ChunkList::Inline(vec![reference(1, 10)]), vec![]))),
            entry(
                "a/sparse",
                EntryKind::File(file(
                    100,
                    ChunkList::Inline(vec![reference(1, 10), reference(2, 20)]),
                    vec![Hole { offset: 10, length: 70 }],
                )),
            ),
            entry("dump.sql", EntryKind::Stream(file(10, ChunkList::Inline(vec![reference(3, 10)]), vec![]), detail)),
        ];
        let mut leaf = LeafBuilder::default();
        entries.iter().for_each(|entry| leaf.push(entry));
        let (bytes, child) = leaf.finish();
        assert_eq!(Node::decode(&bytes), Ok(Node::Entries(entries)));
        let child = child.expect("not empty");
        assert_eq!((child.first.as_bytes(), child.entries, child.bytes), (b"a".as_slice(), 9, 120 + (1 << 40)));
        assert!(leaf.is_empty());
    }

    #[test]
    fn inner_nodes_and_lists_round_trip() {
        let child = |path: &str, byte| TreeChild {
            first: EntryPath::new(path).expect("safe"),
            id: ChunkId([byte; 32]),
            entries: 3,
            bytes: 1 << 33,
        };
        let children = vec![child("a/b", 1), child("a/bc/d", 2), child("z", 3)];
        assert_eq!(Node::decode(&encode_children(&children)), Ok(Node::Children(children)));
        let chunks = vec![reference(1, 1), reference(2, 70_000)];
        assert_eq!(Node::decode(&encode_chunks(&chunks)), Ok(Node::Chunks(chunks)));
        let lists = vec![ListChild { id: ChunkId([4; 32]), chunks: 1000, bytes: 1 << 35 }];
        assert_eq!(Node::decode(&encode_lists(&lists)), Ok(Node::Lists(lists)));
    }

    #[test]
    fn a_node_beyond_its_limits_is_refused_before_memory_is_taken_for_it() {
        let why = |node: &[u8]| Node::decode(node).expect_err("too large").to_string();
        let leaf = |items: &[&[u8]]| {
            let mut node = vec![ENTRIES];
            write_varint(items.len() as u64, &mut node);
            items.iter().for_each(|item| node.extend_from_slice(item));
            node
        };
        // Few bytes that stand for many: each path shares 65 000 bytes with the one before.
        let mut items = vec![Vec::new()];
        write_front_coded(0, &[b'a'; 65_000], &mut items[0]);
        items[0].extend_from_slice(b"\x03\xa1\x00\x03");
        for number in 0..300u16 {
            let mut item = Vec::new();
            write_varint(65_000, &mut item);
            item.extend_from_slice(&[4, b'b', b'a' + (number / 200) as u8, 1 + (number % 200) as u8 + 47, b'c']);
            item.extend_from_slice(b"\x03\xa1\x00\x03");
            items.push(item);
        }
        let items: Vec<&[u8]> = items.iter().map(Vec::as_slice).collect();
        assert_eq!(why(&leaf(&items)), "a tree node is not valid: its paths are too long together");
        assert!(Node::decode(&leaf(&items[..250])).is_ok());

        let mut many = vec![CHUNKS];
        write_varint(NODE_ITEMS_MAX as u64 + 1, &mut many);
        many.resize(many.len() + 33 * (NODE_ITEMS_MAX + 1), 1);
        assert_eq!(why(&many), "a tree node is not valid: it has 65537 items");
        assert_eq!(why(&vec![ENTRIES; NODE_BYTES_MAX + 1]), "a tree node is not valid: it has 8388609 bytes");
        for empty in [CHILDREN, CHUNKS, LISTS] {
            assert_eq!(why(&[empty, 0]), "a tree node is not valid: it has no items");
        }
        // Words, facts, attributes, holes and lengths: many to the byte.
        for (key, of) in [(13, 0xba), (16, 0x9a), (18, 0x9a)] {
            let mut record = vec![0xa1, key, of];
            record.extend_from_slice(&(NODE_PARTS_MAX as u32 + 1).to_be_bytes());
            for number in 0..=NODE_PARTS_MAX as u32 {
                match key {
                    13 => record.extend([&[0x44][..], &number.to_be_bytes(), &[0x40]].concat()),
                    _ => record.push(1),
                }
            }
            let mut item = b"\x00\x01a".to_vec();
            write_varint(record.len() as u64, &mut item);
            item.extend(record);
            let why = why(&leaf(&[&item]));
            assert!(why.ends_with("a node holds too much"), "{key}: {why}");
        }
    }

    #[test]
    fn a_chunk_without_bytes_is_refused_wherever_it_stands() {
        assert!(Node::decode(&encode_chunks(&[reference(1, 1), reference(2, 0)])).is_err());
        let content = |chunks| FileContent { size: 5, chunks: ChunkList::Inline(chunks), holes: Vec::new() };
        for (chunks, right) in [(vec![reference(1, 5)], true), (vec![reference(1, 5), reference(2, 0)], false)] {
            let mut leaf = LeafBuilder::default();
            leaf.push(&entry("a", EntryKind::File(content(chunks))));
            assert_eq!(Node::decode(&leaf.finish().0).is_ok(), right);
        }
    }

    #[test]
    fn what_lies_below_anything_but_a_directory_is_refused() {
        let link = EntryKind::Symlink(b"elsewhere".to_vec());
        for (kind, right) in [(EntryKind::Directory, true), (EntryKind::Fifo, false), (link, false)] {
            let mut leaf = LeafBuilder::default();
            leaf.push(&entry("a", kind));
            leaf.push(&entry("a/b", EntryKind::Fifo));
            assert_eq!(Node::decode(&leaf.finish().0).is_ok(), right);
        }
    }

    #[test]
    fn paths_out_of_order_are_refused() {
        let mut leaf = LeafBuilder::default();
        leaf.push(&entry("b", EntryKind::Fifo));
        leaf.push(&entry("a", EntryKind::Fifo));
        assert!(Node::decode(&leaf.finish().0).is_err());
    }
}
