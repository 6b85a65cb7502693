//! What a host plants that backs up here: trees, lists and segments that no honest program makes.

use std::sync::Arc;

use coffre::format::index::PackEntry;
use coffre::format::pack::{Codec, FrameRecord, PackDirectory};
use coffre::format::tree::{LeafBuilder, ListChild, TreeChild, encode_children, encode_chunks, encode_lists};
use coffre::model::entry::{ChunkList, ChunkRef, Entry, EntryKind, FileContent, Metadata};
use coffre::model::id::{ChunkId, ChunkKey, PackId};
use coffre::model::path::EntryPath;
use coffre::model::snapshot::Snapshot;
use coffre::model::time::Timestamp;
use futures::FutureExt;

use crate::hostile::forge::{Forge, Nodes};
use crate::hostile::{Plant, Row, Who};

/// Makes a tree; returns its root and depth.
type Tree = fn(&Nodes) -> (ChunkId, u8);
/// Changes what a segment tells of packs.
type Lie = fn(Vec<PackEntry>) -> Vec<PackEntry>;

pub(super) fn tree(what: &str, make: Tree) -> Row {
    manifest(what, make, |_| {})
}

pub(super) fn manifest(what: &str, make: Tree, change: fn(&mut Snapshot)) -> Row {
    let plant: Plant = Box::new(move |forge: Arc<Forge>| async move { forge.snapshot(make, change).await }.boxed());
    Row::new(Who::Writer, what, plant)
}

/// As many segments as it takes for a client to look there first.
fn segment(what: &str, lie: Lie) -> Row {
    in_segments(12, what, lie)
}

fn in_segments(count: u8, what: &str, lie: Lie) -> Row {
    let plant: Plant = Box::new(move |forge: Arc<Forge>| {
        async move {
            forge.segments(count, lie(forge.told().await)).await;
            None
        }
        .boxed()
    });
    Row::new(Who::Writer, what, plant)
}

pub(super) fn entry(path: &str, kind: EntryKind) -> Entry {
    let metadata = Metadata { mode: 0o755, ..Metadata::default() };
    Entry { path: EntryPath::new(path).expect("safe"), kind, metadata }
}

pub(super) fn leaf(entries: &[Entry]) -> Vec<u8> {
    let mut leaf = LeafBuilder::default();
    entries.iter().for_each(|entry| leaf.push(entry));
    leaf.finish().0
}

fn link() -> EntryKind {
    EntryKind::Symlink(b"../outside".to_vec())
}

fn child(first: &str, id: ChunkId, entries: u64, bytes: u64) -> TreeChild {
    TreeChild { first: EntryPath::new(first).expect("safe"), id, entries, bytes }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A leaf of `count` entries, each sharing `shared` bytes of its path with the one before.
fn front_coded(shared: usize, count: u32) -> Vec<u8> {
    let record = b"\x03\xa1\x00\x03";
    let mut node = vec![1];
    varint(u64::from(count) + 1, &mut node);
    varint(0, &mut node);
    varint(shared as u64, &mut node);
    node.resize(node.len() + shared, b'a');
    node.extend_from_slice(record);
    for number in 0..count {
        varint(shared as u64, &mut node);
        let suffix = format!("{number:08}");
        varint(suffix.len() as u64, &mut node);
        node.extend_from_slice(suffix.as_bytes());
        node.extend_from_slice(record);
    }
    node
}

/// A leaf of one entry with this record.
pub(super) fn recorded(record: &[u8]) -> Vec<u8> {
    let mut node = b"\x01\x01\x00\x01a".to_vec();
    varint(record.len() as u64, &mut node);
    node.extend_from_slice(record);
    node
}

/// A record with one field: a head of CBOR that counts `count` items, and the items.
fn counted(key: u8, head: u8, count: u32, item: fn(u32, &mut Vec<u8>)) -> Vec<u8> {
    let mut record = vec![0xa1, key, head];
    record.extend_from_slice(&count.to_be_bytes());
    (0..count).for_each(|number| item(number, &mut record));
    record
}

/// A tree of one file whose content is this list, said to be so long.
fn listed(nodes: &Nodes, root: ChunkId, depth: u8, chunks: u64, size: u64) -> (ChunkId, u8) {
    let content = FileContent { size, chunks: ChunkList::Indirect { root, depth, chunks }, holes: Vec::new() };
    (nodes.node(&leaf(&[entry("file", EntryKind::File(content))])), 1)
}

/// Raises a list of one node `levels` times by naming it again and again.
fn raised(nodes: &Nodes, lowest: &[ChunkRef], levels: u8, told: (u64, u64)) -> ChunkId {
    let mut id = nodes.node(&encode_chunks(lowest));
    for _ in 0..levels {
        id = nodes.node(&encode_lists(&vec![ListChild { id, chunks: told.0, bytes: told.1 }; 200]));
    }
    id
}

fn trees() -> Vec<Row> {
    vec![
        tree("a node named again and again at sixteen depths", |nodes| {
            let mut id = nodes.node(&leaf(&[entry("a", EntryKind::Fifo)]));
            for _ in 2..=16 {
                let children: Vec<_> = (0..200).map(|i| child(&format!("a{i:03}"), id, 1, 0)).collect();
                id = nodes.node(&encode_children(&children));
            }
            (id, 16)
        })
        .found("does not begin as its parent says")
        .unreadable(),
        tree("paths of four GiB in a leaf of 700 KB", |nodes| (nodes.node(&front_coded(65_000, 60_000)), 1))
            .found("its paths are too long together")
            .unreadable(),
        tree("a leaf of 300 000 entries", |nodes| (nodes.node(&front_coded(1, 300_000)), 1))
            .found("items")
            .unreadable(),
        tree("leaves that hold paths of 15 MiB each", |nodes| {
            let leaves: Vec<_> = (0..10)
                .map(|number: u32| {
                    let first = format!("{number:04}");
                    let mut node = vec![1];
                    varint(240, &mut node);
                    let path = format!("{first}{}", "b".repeat(64_990));
                    varint(0, &mut node);
                    varint(path.len() as u64, &mut node);
                    node.extend_from_slice(path.as_bytes());
                    node.extend_from_slice(b"\x03\xa1\x00\x03");
                    for last in 0..239u32 {
                        varint(path.len() as u64, &mut node);
                        node.extend_from_slice(format!("\x04{last:04}").as_bytes());
                        node.extend_from_slice(b"\x03\xa1\x00\x03");
                    }
                    child(&path, nodes.node(&node), 240, 0)
                })
                .collect();
            (nodes.node(&encode_children(&leaves)), 2)
        })
        .large(),
        tree("a million attributes", |nodes| {
            let record = counted(13, 0xba, 1_000_000, |number, out| {
                out.push(0x44);
                out.extend_from_slice(&number.to_be_bytes());
                out.push(0x40);
            });
            (nodes.node(&recorded(&record)), 1)
        })
        .found("a node holds too much")
        .unreadable(),
        tree("five million holes", |nodes| {
            (nodes.node(&recorded(&counted(18, 0x9a, 5_000_000, |_, out| out.push(1)))), 1)
        })
        .found("a node holds too much")
        .unreadable(),
        tree("a map of 2^62 pairs", |nodes| (nodes.node(&recorded(&[0xbb, 0x40, 0, 0, 0, 0, 0, 0, 0])), 1))
            .found("is not valid")
            .unreadable(),
        tree("four million nested arrays in a field that nobody knows", |nodes| {
            let mut record = vec![0xa1, 0x18, 0x63];
            record.resize(4_000_000, 0x81);
            record.push(0);
            (nodes.node(&recorded(&record)), 1)
        }),
        tree("a path that leaves the target", |nodes| {
            let node = b"\x01\x01\x00\x0a../outside\x01\xa0";
            (nodes.node(node), 1)
        })
        .found("is not valid")
        .unreadable(),
        tree("something below a link, in one leaf", |nodes| {
            (nodes.node(&leaf(&[entry("a", link()), entry("a/b", EntryKind::Directory)])), 1)
        })
        .found("lies below one that is no directory")
        .unreadable(),
        tree("something below a link, in the next leaf", |nodes| {
            let first = nodes.node(&leaf(&[entry("a", link())]));
            let second = nodes.node(&leaf(&[entry("a/b", EntryKind::Directory)]));
            (nodes.node(&encode_children(&[child("a", first, 1, 0), child("a/b", second, 1, 0)])), 2)
        })
        .found("lies below something that is no directory")
        .unreadable(),
        tree("a child that begins before its parent says", |nodes| {
            let id = nodes.node(&leaf(&[entry("a", EntryKind::Fifo)]));
            (nodes.node(&encode_children(&[child("b", id, 1, 0)])), 2)
        })
        .found("does not begin as its parent says")
        .unreadable(),
        tree("a child that reaches into the next one", |nodes| {
            let first = nodes.node(&leaf(&[entry("a", EntryKind::Fifo), entry("c", link())]));
            let second = nodes.node(&leaf(&[entry("b", EntryKind::Fifo)]));
            (nodes.node(&encode_children(&[child("a", first, 2, 0), child("b", second, 1, 0)])), 2)
        })
        .found("reaches into the next one")
        .unreadable(),
        tree("a child of fewer entries than its parent says", |nodes| {
            let id = nodes.node(&leaf(&[entry("a", EntryKind::Fifo)]));
            (nodes.node(&encode_children(&[child("a", id, 2, 0)])), 2)
        })
        .found("does not add up")
        .unreadable(),
        tree("a child of more bytes than any number", |nodes| {
            let id = nodes.node(&leaf(&[entry("a", EntryKind::Fifo)]));
            (nodes.node(&encode_children(&[child("a", id, 1, u64::MAX), child("b", id, 1, u64::MAX)])), 2)
        })
        .found("its sums are too large")
        .unreadable(),
        tree("an inner node without children", |nodes| (nodes.node(&[2, 0]), 2)).found("has no items").unreadable(),
        tree("a leaf where an inner node should be", |nodes| (nodes.node(&leaf(&[entry("a", EntryKind::Fifo)])), 2))
            .found("tree node of its level")
            .unreadable(),
        tree("a root that is a file's bytes", |nodes| (nodes.chunk(b"no node").id, 1))
            .found("cannot be read")
            .unreadable(),
        tree("a root that is nowhere", |_| (ChunkId([7; 32]), 1)).found("in no index segment").unreadable(),
        manifest("a tree without levels", |nodes| (nodes.node(&leaf(&[])), 0), |_| {})
            .found("1 to 16 levels deep")
            .unreadable(),
        manifest("a tree of 255 levels", |nodes| (nodes.node(&leaf(&[])), 255), |_| {})
            .found("1 to 16 levels deep")
            .unreadable(),
        manifest(
            "a start that is not that of the name",
            |nodes| (nodes.node(&leaf(&[])), 1),
            |snapshot| snapshot.started = Timestamp::from_seconds(1),
        )
        .found("its start is not that of its name")
        .unreadable(),
    ]
}

fn lists() -> Vec<Row> {
    vec![
        tree("a list named again and again, of a file of ten bytes", |nodes| {
            let chunk = nodes.chunk(&[7; 1000]);
            let root = raised(nodes, &[chunk; 200], 7, (1, 1));
            listed(nodes, root, 8, 1, 10)
        })
        .found("a list node is not valid"),
        tree("a list of endless chunks without bytes", |nodes| {
            let root = raised(nodes, &[ChunkRef { id: ChunkId([1; 32]), length: 0 }; 4000], 7, (4000, 0));
            listed(nodes, root, 8, 4000, 10)
        })
        .found("a list node is not valid"),
        tree("a list that ends before its entry does", |nodes| {
            let chunk = nodes.chunk(&[1; 5000]);
            let root = nodes.node(&encode_chunks(&[chunk]));
            listed(nodes, root, 1, 1, 9000)
        })
        .found("it holds 1 chunks of 5000 bytes"),
        tree("a list that goes on behind its entry", |nodes| {
            let chunk = nodes.chunk(&[2; 5000]);
            let root = nodes.node(&encode_chunks(&[chunk; 3]));
            listed(nodes, root, 1, 3, 5000)
        })
        .found("it holds 3 chunks of 15000 bytes"),
        tree("a list of another number of chunks", |nodes| {
            let chunk = nodes.chunk(&[3; 5000]);
            let root = nodes.node(&encode_chunks(&[chunk; 3]));
            listed(nodes, root, 1, 77, 15_000)
        })
        .found("where 77 of 15000 are told"),
        tree("a list of more bytes than a disk has", |nodes| {
            let chunk = nodes.chunk(&[4; 8192]);
            let lowest = vec![chunk; 4096];
            let mut told = (4096u64, 4096 * 8192u64);
            let mut id = nodes.node(&encode_chunks(&lowest));
            for _ in 0..3 {
                id = nodes.node(&encode_lists(&vec![ListChild { id, chunks: told.0, bytes: told.1 }; 4096]));
                told = (told.0 * 4096, told.1 * 4096);
            }
            let kind = EntryKind::File(FileContent {
                size: told.1,
                chunks: ChunkList::Indirect { root: id, depth: 4, chunks: told.0 },
                holes: Vec::new(),
            });
            // A directory beside it: a dump of a single file would give it to whoever asks for it.
            (nodes.node(&leaf(&[entry("a", EntryKind::Directory), entry("a/file", kind), entry("b", link())])), 1)
        })
        .large(),
    ]
}

fn segments() -> Vec<Row> {
    let lies = "lies about";
    vec![
        segment("another commitment for every pack", |mut packs| {
            packs.iter_mut().for_each(|pack| pack.commitment = [9; 32]);
            packs
        })
        .found(lies),
        segment("another digest for every pack", |mut packs| {
            packs.iter_mut().for_each(|pack| pack.digest[0] ^= 1);
            packs
        })
        .found("has other SHA-256s for"),
        segment("every pack locked for ever", |mut packs| {
            packs.iter_mut().for_each(|pack| pack.locked_until = u32::MAX);
            packs
        }),
        segment("another session for every pack", |mut packs| {
            let headers: Vec<_> = packs.iter().map(|pack| pack.header.clone()).collect();
            packs.iter_mut().zip(headers).for_each(|(pack, header)| {
                let mut bytes = header.to_bytes();
                bytes[100] ^= 1;
                pack.header = Arc::new(coffre::crypto::session::SessionHeader::from_bytes(&bytes));
            });
            packs
        })
        .found(lies),
        segment("another length for every chunk", |mut packs| {
            for frame in packs.iter_mut().flat_map(|pack| &mut pack.directory.frames) {
                let longer = frame.chunks.iter().map(|&(key, length)| (key, length + 1)).collect();
                frame.plain_len += frame.chunks.len() as u32;
                frame.chunks = longer;
            }
            packs
        })
        .found(lies),
        segment("every chunk in one frame over the whole pack, and the next inside of it", |mut packs| {
            for pack in &mut packs {
                let chunks: Vec<_> = pack.directory.frames.iter().flat_map(|frame| frame.chunks.clone()).collect();
                let (first, rest) = chunks.split_first().expect("a pack has a chunk");
                let length = rest.iter().map(|chunk| chunk.1).sum::<u32>().max(1);
                let mut frames = vec![FrameRecord {
                    sealed_len: 17.min(pack.size),
                    plain_len: first.1.max(1),
                    codec: Codec::Zstd,
                    chunks: vec![*first],
                }];
                if !rest.is_empty() {
                    let (sealed_len, chunks) = ((pack.size - 100).min(length + 16), rest.to_vec());
                    frames.push(FrameRecord { sealed_len, plain_len: length, codec: Codec::Zstd, chunks });
                }
                pack.directory = PackDirectory { frames };
            }
            packs
        })
        .found(lies),
        segment("another codec for every frame", |mut packs| {
            for frame in packs.iter_mut().flat_map(|pack| &mut pack.directory.frames) {
                frame.codec = if frame.codec == Codec::Zstd { Codec::Stored } else { Codec::Zstd };
            }
            packs
        })
        .found(lies),
        segment("another length for every pack", |mut packs| {
            packs.iter_mut().for_each(|pack| pack.size += 1);
            packs
        })
        .found(lies),
        segment("chunks in other packs", |mut packs| {
            let mut directories: Vec<_> = packs.iter().map(|pack| pack.directory.clone()).collect();
            directories.rotate_left(1);
            for (pack, directory) in packs.iter_mut().zip(directories) {
                pack.directory = directory;
                pack.directory.frames.retain(|frame| frame.sealed_len < pack.size);
                let mut room = pack.size;
                pack.directory.frames.retain(|frame| {
                    let fits = frame.sealed_len <= room;
                    room -= if fits { frame.sealed_len } else { 0 };
                    fits
                });
            }
            packs
        })
        .found(lies),
        segment("packs without frames", |mut packs| {
            packs.iter_mut().for_each(|pack| pack.directory.frames.clear());
            packs
        })
        .found(lies),
        segment("a pack named twice", |packs| [packs.clone(), packs].concat())
            .found("it names a pack twice")
            .told_by_all(),
        segment("a pack of four GiB", |mut packs| {
            packs[0].size = u32::MAX;
            packs
        })
        .found("longer than one can be")
        .told_by_all(),
        segment("a frame longer than its plaintext", |mut packs| {
            packs[0].directory.frames[0].sealed_len = packs[0].directory.frames[0].plain_len + 17;
            packs
        })
        .found("a frame's length is out of range")
        .told_by_all(),
        segment("a frame without chunks", |mut packs| {
            let frame = &mut packs[0].directory.frames[0];
            (frame.plain_len, frame.sealed_len, frame.chunks) = (0, 16, Vec::new());
            packs
        })
        .found("a frame has no chunk")
        .told_by_all(),
        segment("half a million chunks without bytes", |mut packs| {
            packs[0].directory.frames[0].chunks.extend(vec![(ChunkKey([1; 16]), 0); 500_000]);
            packs
        })
        .found("a chunk has no bytes")
        .told_by_all(),
        segment("every chunk in a pack that is not there", |mut packs| {
            packs.iter_mut().zip(1u8..).for_each(|(pack, number)| pack.id = PackId([number; 16]));
            packs
        })
        .found("is missing"),
        in_segments(2, "thirty thousand packs that are nowhere", |mut packs| {
            let mut pack = packs.swap_remove(0);
            pack.directory.frames.truncate(1);
            pack.directory.frames[0].chunks.truncate(1);
            pack.directory.frames[0].plain_len = pack.directory.frames[0].chunks[0].1;
            pack.directory.frames[0].sealed_len = pack.directory.frames[0].plain_len.min(100) + 16;
            let numbered = |number: u32| {
                let id = *blake3::hash(&number.to_le_bytes()).as_bytes();
                PackEntry { id: PackId(id[..16].try_into().expect("16 bytes")), ..pack.clone() }
            };
            (0..30_000).map(numbered).collect()
        })
        .found("and more than the memory of --memory can name"),
    ]
}

pub(super) fn rows() -> Vec<Row> {
    trees().into_iter().chain(lists()).chain(segments()).collect()
}
