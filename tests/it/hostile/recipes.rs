//! What a host plants that backs up here: windows that are stored as recipes.

use coffre::format::recipe::{Part, WINDOW_MAX};
use coffre::model::entry::{ChunkList, ChunkRef, EntryKind, FileContent};
use coffre::model::id::{ChunkId, ChunkKey};

use crate::hostile::Row;
use crate::hostile::forge::Nodes;
use crate::hostile::writer::{entry, leaf, tree};

/// An id that no content has.
fn made_up(number: u32) -> ChunkId {
    ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

fn part(id: ChunkId, offset: u32, length: u32) -> Part {
    (id.key(), offset, length)
}

/// A tree of one file that is these windows.
fn file(nodes: &Nodes, windows: &[(ChunkId, u32)]) -> (ChunkId, u8) {
    let chunks: Vec<ChunkRef> = windows.iter().map(|&(id, length)| ChunkRef { id, length }).collect();
    let size = chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
    let content = FileContent { size, chunks: ChunkList::Inline(chunks), holes: Vec::new() };
    (nodes.node(&leaf(&[entry("file", EntryKind::File(content))])), 1)
}

pub(super) fn rows() -> Vec<Row> {
    vec![
        tree("a recipe that is right", |nodes| {
            let base = nodes.chunk(b"0123456789").id;
            let window = nodes.id(b"789012");
            nodes.recipe(window, 1, &[part(base, 7, 3), part(base, 0, 3)]);
            file(nodes, &[(window, 6)])
        })
        .gives(&[("file", b"789012")]),
        tree("a recipe that names itself", |nodes| {
            nodes.recipe(made_up(1), 4, &[part(made_up(1), 0, 10)]);
            file(nodes, &[(made_up(1), 10)])
        })
        .found("recipe"),
        tree("recipes that name each other", |nodes| {
            nodes.recipe(made_up(1), 4, &[part(made_up(2), 0, 10)]);
            nodes.recipe(made_up(2), 4, &[part(made_up(1), 0, 10)]);
            file(nodes, &[(made_up(1), 10), (made_up(2), 10)])
        })
        .found("recipe"),
        tree("recipes that come to six million parts", |nodes| {
            let mut of = nodes.chunk(b"x").id;
            let mut length = 1;
            for depth in 1..=4 {
                let parts: Vec<Part> = (0..(WINDOW_MAX / length).min(50)).map(|_| part(of, 0, length)).collect();
                of = made_up(depth);
                length *= parts.len() as u32;
                nodes.recipe(of, depth as u8, &parts);
            }
            file(nodes, &[(of, length)])
        })
        .found("recipe"),
        tree("recipes that name ten thousand chunks", |nodes| {
            let base = nodes.chunk(b"x").id;
            let names: Vec<ChunkId> = (0..10)
                .map(|nth| {
                    let mut parts: Vec<Part> =
                        (0..1000).map(|i| (ChunkKey(made_up(nth * 1000 + i).key().0), 0, 1)).collect();
                    parts.push(part(base, 0, 1));
                    nodes.recipe(made_up(100_000 + nth), 1, &parts);
                    made_up(100_000 + nth)
                })
                .collect();
            let parts: Vec<Part> = names.iter().map(|id| part(*id, 0, 1001)).collect();
            nodes.recipe(made_up(1), 2, &parts);
            file(nodes, &[(made_up(1), 10_010)])
        })
        .found("recipe"),
        tree("a recipe of a chunk that is nowhere", |nodes| {
            nodes.recipe(made_up(1), 1, &[part(made_up(2), 0, 10)]);
            file(nodes, &[(made_up(1), 10)])
        })
        .found("chunks put together from it"),
        tree("a recipe that reaches behind its chunk", |nodes| {
            let base = nodes.chunk(b"0123456789").id;
            nodes.recipe(made_up(1), 1, &[part(base, 5, 10)]);
            file(nodes, &[(made_up(1), 10)])
        })
        .found("recipe"),
        tree("a recipe that makes something else", |nodes| {
            let base = nodes.chunk(b"0123456789").id;
            nodes.recipe(made_up(1), 1, &[part(base, 0, 10)]);
            file(nodes, &[(made_up(1), 10)])
        })
        .found("recipe"),
        tree("a recipe of another length than its file says", |nodes| {
            let base = nodes.chunk(b"0123456789").id;
            let window = nodes.id(b"01234");
            nodes.recipe(window, 1, &[part(base, 0, 5)]);
            file(nodes, &[(window, 500)])
        })
        .found("chunks put together from it"),
        tree("a recipe that lies in the place of a chunk that is there", |nodes| {
            let (base, other) = (nodes.chunk(b"0123456789").id, nodes.chunk(b"abcdefghij").id);
            nodes.recipe(base, 1, &[part(other, 0, 10)]);
            file(nodes, &[(base, 10), (other, 10)])
        })
        .found("recipe")
        .gives(&[("file", b"0123456789abcdefghij")]),
        tree("a recipe as a node of the tree", |nodes| {
            let base = nodes.chunk(&[1, 0]).id;
            let root = nodes.id(&[1, 0]);
            nodes.recipe(root, 1, &[part(base, 0, 2)]);
            (root, 1)
        }),
        tree("windows of 800 MiB that are one chunk of 8 MiB", |nodes| {
            let zeros = vec![7; WINDOW_MAX as usize];
            let base = nodes.chunk(&zeros).id;
            let half = WINDOW_MAX / 2;
            let window = nodes.id(&zeros);
            nodes.recipe(window, 1, &[part(base, half, half), part(base, 0, half)]);
            file(nodes, &[(window, WINDOW_MAX); 100])
        })
        .large(),
    ]
}
