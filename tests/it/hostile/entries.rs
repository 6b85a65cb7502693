//! What a host plants that backs up here: entries and manifests that say what no host has.

use std::collections::BTreeMap;
use std::sync::Arc;

use coffre::model::entry::{ChunkList, Entry, EntryKind, FileContent, Hole, Metadata, StreamDetail};
use coffre::model::id::ChunkId;
use coffre::model::snapshot::{MissingStream, SnapshotCounts, SnapshotId};
use coffre::model::time::Timestamp;
use futures::FutureExt;

use crate::hostile::forge::{Forge, Nodes};
use crate::hostile::writer::{entry, leaf, manifest, recorded, tree};
use crate::hostile::{Plant, Row, Who};

/// Orders to a terminal.
const ORDERS: &str = "\x1b]0;owned\x07\x1b[2J\r\u{9b}31m\u{202e}";

fn text(nodes: &Nodes, bytes: &[u8]) -> FileContent {
    let chunk = nodes.chunk(bytes);
    FileContent { size: bytes.len() as u64, chunks: ChunkList::Inline(vec![chunk]), holes: Vec::new() }
}

/// An entry of inode 7, which has two names.
fn named(path: &str, kind: EntryKind) -> Entry {
    let mut entry = entry(path, kind);
    (entry.metadata.inode, entry.metadata.device, entry.metadata.links) = (7, 7, 2);
    entry
}

fn one(nodes: &Nodes, entries: &[Entry]) -> (ChunkId, u8) {
    (nodes.node(&leaf(entries)), 1)
}

fn with(path: &str, kind: EntryKind, change: impl FnOnce(&mut Metadata)) -> Entry {
    let mut entry = entry(path, kind);
    change(&mut entry.metadata);
    entry
}

/// A snapshot of the honest tree whose manifest says something else.
fn says(what: &str, change: fn(&mut coffre::model::snapshot::Snapshot)) -> Row {
    let plant: Plant = Box::new(move |forge: Arc<Forge>| {
        async move {
            let session = forge.session();
            Some(forge.claim(&session, change).await)
        }
        .boxed()
    });
    Row::new(Who::Writer, what, plant)
}

/// A tree of one leaf of an entry with this record.
fn record(what: &str, record: &'static [u8]) -> Row {
    let plant: Plant = Box::new(move |forge: Arc<Forge>| {
        async move { forge.snapshot(move |nodes| (nodes.node(&recorded(record)), 1), |_| {}).await }.boxed()
    });
    Row::new(Who::Writer, what, plant).found("is not valid").unreadable()
}

fn inodes() -> Vec<Row> {
    vec![
        tree("two contents of one inode", |nodes| {
            let (a, b) = (text(nodes, b"the first"), text(nodes, b"the other"));
            one(nodes, &[named("a", EntryKind::File(a)), named("b", EntryKind::File(b))])
        })
        .gives(&[("a", b"the first"), ("b", b"the other")]),
        tree("a content and a longer one that begins like it, of one inode", |nodes| {
            let (a, b) = (text(nodes, b"same"), text(nodes, b"same and more"));
            one(nodes, &[named("a", EntryKind::File(a)), named("b", EntryKind::File(b))])
        })
        .gives(&[("a", b"same"), ("b", b"same and more")]),
        tree("a file whose content is nowhere, of the inode of another", |nodes| {
            let a = text(nodes, b"the first");
            let mut b = a.clone();
            b.chunks = ChunkList::Inline(vec![coffre::model::entry::ChunkRef { id: ChunkId([9; 32]), length: 9 }]);
            one(nodes, &[named("a", EntryKind::File(a)), named("b", EntryKind::File(b))])
        })
        .found("in no index segment")
        .gives(&[("a", b"the first")]),
        tree("a file of the inode of a link that leads out", |nodes| {
            let b = text(nodes, b"the file");
            let link = EntryKind::Symlink(b"../outside".to_vec());
            one(nodes, &[named("a", link), named("b", EntryKind::File(b))])
        })
        .gives(&[("b", b"the file")]),
        tree("set-user-id on one name of an inode alone", |nodes| {
            let content = text(nodes, b"the file");
            let mut other = named("b", EntryKind::File(content.clone()));
            other.metadata.mode = 0o4755;
            one(nodes, &[named("a", EntryKind::File(content)), other])
        })
        .gives(&[("a", b"the file"), ("b", b"the file")]),
        tree("a thousand names of one inode", |nodes| {
            let content = text(nodes, b"the file");
            let entries: Vec<Entry> =
                (0..1000).map(|i| named(&format!("n{i:04}"), EntryKind::File(content.clone()))).collect();
            one(nodes, &entries)
        })
        .gives(&[("n0000", b"the file"), ("n0999", b"the file")]),
        tree("links that lead through each other out of the target", |nodes| {
            let to = |target: &str| EntryKind::Symlink(target.as_bytes().to_vec());
            let entries = [
                entry("a", to("b")),
                entry("b", to("..")),
                entry("c", to("a/outside")),
                entry("d", EntryKind::Directory),
                entry("d/e", to("../../outside")),
            ];
            one(nodes, &entries)
        }),
        tree("a link of 65 000 bytes", |nodes| one(nodes, &[entry("a", EntryKind::Symlink(vec![b'x'; 65_000]))])),
        tree("a link to nothing", |nodes| one(nodes, &[entry("a", EntryKind::Symlink(Vec::new()))])),
    ]
}

fn odd() -> Vec<Row> {
    vec![
        tree("names, links, owners and attributes that are orders to a terminal", |nodes| {
            let content = text(nodes, b"x");
            let mut detail = StreamDetail { command: vec![ORDERS.as_bytes().to_vec()], ..StreamDetail::default() };
            detail.facts = BTreeMap::from([(ORDERS.to_owned(), ORDERS.to_owned())]).into();
            let link = with("m", EntryKind::Symlink(ORDERS.as_bytes().to_vec()), |metadata| {
                metadata.user = Some(ORDERS.as_bytes().to_vec());
                metadata.group = Some(ORDERS.as_bytes().to_vec());
            });
            let file = with("n", EntryKind::File(content.clone()), |metadata| {
                metadata.xattrs.insert(format!("user.{ORDERS}").into_bytes(), ORDERS.as_bytes().to_vec());
            });
            let directory = entry(ORDERS, EntryKind::Directory);
            let below = entry(&format!("{ORDERS}/{ORDERS}"), EntryKind::Stream(content, detail));
            one(nodes, &[directory, below, link, file])
        })
        .worded(),
        tree("times beyond all calendars", |nodes| {
            let at = |seconds| Timestamp { seconds, nanos: 0 };
            let content = text(nodes, b"x");
            let entries: Vec<Entry> = [i64::MIN, -1, i64::from(i32::MAX) + 1, 253_402_300_800, i64::MAX]
                .into_iter()
                .enumerate()
                .map(|(nth, seconds)| {
                    with(&format!("t{nth}"), EntryKind::File(content.clone()), |metadata| {
                        (metadata.mtime, metadata.ctime) = (at(seconds), at(seconds));
                    })
                })
                .collect();
            one(nodes, &entries)
        })
        .gives(&[("t0", b"x"), ("t4", b"x")])
        .worded(),
        tree("owners and devices at the end of all numbers", |nodes| {
            let content = text(nodes, b"x");
            let most = |metadata: &mut Metadata| {
                (metadata.uid, metadata.gid, metadata.inode) = (u32::MAX, u32::MAX, u64::MAX);
                (metadata.device, metadata.links) = (u64::MAX, u64::MAX);
            };
            let entries = [
                with("a", EntryKind::File(content), most),
                with("b", EntryKind::Fifo, most),
                with("c", EntryKind::Socket, most),
                with("d", EntryKind::Directory, most),
            ];
            one(nodes, &entries)
        })
        .gives(&[("a", b"x")]),
        tree("attributes of every kind and length", |nodes| {
            let content = text(nodes, b"x");
            let file = with("a", EntryKind::File(content), |metadata| {
                for (name, value) in [
                    (b"".to_vec(), b"".to_vec()),
                    (b"user.a\0b".to_vec(), b"x".to_vec()),
                    (vec![b'x'; 1000], b"x".to_vec()),
                    (b"user.long".to_vec(), vec![b'x'; 200_000]),
                    (b"nobody.knows".to_vec(), b"x".to_vec()),
                    (b"system.posix_acl_access".to_vec(), vec![0xff; 100]),
                ] {
                    metadata.xattrs.insert(name, value);
                }
            });
            one(nodes, &[file])
        })
        .gives(&[("a", b"x")]),
        tree("names of 255 and more bytes", |nodes| {
            let content = text(nodes, b"x");
            let names = ["a".repeat(255), "b".repeat(256), "c".repeat(60_000), vec!["d"; 2000].join("/")];
            let entries: Vec<Entry> = names.iter().map(|name| entry(name, EntryKind::File(content.clone()))).collect();
            one(nodes, &entries)
        }),
        tree("a path two thousand directories deep, and a sibling of each", |nodes| {
            let mut entries = Vec::new();
            let mut path = String::from("a");
            for _ in 0..1000 {
                entries.push(entry(&path, EntryKind::Directory));
                path += "/a";
            }
            one(nodes, &entries)
        }),
        tree("a file of one hole of eight EiB", |nodes| {
            let hole = Hole { offset: 0, length: i64::MAX as u64 };
            let content =
                FileContent { size: i64::MAX as u64, chunks: ChunkList::Inline(Vec::new()), holes: vec![hole] };
            one(nodes, &[entry("a", EntryKind::File(content)), entry("b", EntryKind::Directory)])
        })
        .large(),
        record("a kind that nobody knows", &[0xa1, 0, 0x18, 99]).found("use a newer coffre"),
        record("an owner of 64 bits", &[0xa1, 2, 0x1b, 1, 0, 0, 0, 0, 0, 0, 0]),
        record("a list of no depth", b"\xa2\x0e\x0a\x11\x83\x58\x20aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\x00\x01"),
        record("a list of seventeen depths", b"\xa2\x0e\x0a\x11\x83\x58\x20aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\x11\x01"),
        record("ids of thirty-one bytes", b"\xa2\x0e\x0a\x0f\x58\x1faaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        record(
            "fewer lengths than ids",
            b"\xa3\x0e\x0a\x0f\x58\x40aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\x10\x81\x05",
        ),
        record("a hole without an end", b"\xa2\x0e\x0a\x12\x81\x05"),
        record("holes that overlap", b"\xa2\x0e\x18\x64\x12\x84\x00\x0a\x05\x0a"),
        record("a hole behind the end", b"\xa2\x0e\x0a\x12\x82\x05\x0a"),
        record(
            "holes that come to more than any number",
            b"\xa2\x0e\x0a\x12\x84\x00\x1b\xff\xff\xff\xff\xff\xff\xff\xff\x01\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
        ),
        record("a link without a target", &[0xa1, 0, 2]),
        tree("a path that is there twice", |nodes| {
            let node = b"\x01\x02\x00\x01a\x03\xa1\x00\x03\x00\x01a\x03\xa1\x00\x03";
            (nodes.node(node), 1)
        })
        .found("is not valid")
        .unreadable(),
        tree("paths that descend", |nodes| {
            let node = b"\x01\x02\x00\x01b\x03\xa1\x00\x03\x00\x01a\x03\xa1\x00\x03";
            (nodes.node(node), 1)
        })
        .found("is not valid")
        .unreadable(),
        tree("bytes behind the last entry", |nodes| {
            let node = b"\x01\x01\x00\x01a\x03\xa1\x00\x03and more";
            (nodes.node(node), 1)
        })
        .found("is not valid")
        .unreadable(),
    ]
}

fn manifests() -> Vec<Row> {
    vec![
        says("texts that are orders to a terminal", |snapshot| {
            for text in [&mut snapshot.host, &mut snapshot.user, &mut snapshot.job, &mut snapshot.program] {
                ORDERS.clone_into(text);
            }
            snapshot.tags = vec![ORDERS.into(); 3];
            snapshot.sources = vec![ORDERS.as_bytes().to_vec(), b"\xff\x1b[2J".to_vec()];
            snapshot.missing = vec![MissingStream { name: ORDERS.into(), why: ORDERS.into() }];
        })
        .worded(),
        says("counts at the end of all numbers", |snapshot| {
            let most = u64::MAX;
            snapshot.counts = SnapshotCounts {
                files: most,
                directories: most,
                streams: most,
                others: most,
                bytes: most,
                new_bytes: most,
                stored_bytes: most,
                unreadable: most,
            };
        })
        .worded(),
        says("an end before all times", |snapshot| snapshot.finished = Timestamp { seconds: i64::MIN, nanos: 0 }),
        says("an end after all times", |snapshot| {
            snapshot.finished = Timestamp { seconds: i64::MAX, nanos: 999_999_999 }
        }),
        says("a parent that never was", |snapshot| {
            snapshot.parent = Some(SnapshotId::new(Timestamp::from_seconds(1), [9; 8]));
        }),
        says("itself as its parent", |snapshot| snapshot.parent = Some(snapshot.id)),
        says("a hundred thousand labels and sources", |snapshot| {
            snapshot.tags = (0..100_000).map(|number| format!("label-{number}")).collect();
            snapshot.sources = (0..100_000).map(|number| format!("/source/{number}").into_bytes()).collect();
        }),
        says("streams that are missing", |snapshot| {
            snapshot.missing =
                (0..10_000).map(|i| MissingStream { name: format!("db/{i}"), why: "x".repeat(100) }).collect();
        }),
        manifest(
            "a tree of sixteen levels that has one",
            |nodes| (nodes.node(&leaf(&[entry("a", EntryKind::Fifo)])), 16),
            |_| {},
        )
        .found("tree node of its level")
        .unreadable(),
        says("a date at the end of all calendars", |snapshot| {
            let started = Timestamp::from_seconds(253_402_200_000);
            snapshot.started = started;
            snapshot.id = SnapshotId::new(started, [0xee; 8]);
        }),
        says("a date at the beginning of all calendars", |snapshot| {
            let started = Timestamp::from_seconds(-62_135_596_800);
            snapshot.started = started;
            snapshot.id = SnapshotId::new(started, [0xee; 8]);
        }),
    ]
}

pub(super) fn rows() -> Vec<Row> {
    inodes().into_iter().chain(odd()).chain(manifests()).collect()
}
