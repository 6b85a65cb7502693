//! Whether what an earlier run stored may be referred to again: all nodes of a chunk list, all chunks in it, and all that the recipes of
//! windows name must be there.

use std::sync::Arc;

use crate::model::entry::{ChunkList, ChunkRef, FileContent};
use crate::model::id::PackId;
use crate::ops::Cancel;
use crate::repository::index::checked::CheckedIndex;
use crate::repository::reader::Reader;
use crate::repository::reader::told::ListNode;
use crate::repository::reader::windows::WindowAt;
use crate::repository::tree::Node;

/// Tells whether all that a content needs is there, and relies on it. What cannot be read is not relied on, nor what is not looked at any
/// more because the run `ends`.
pub(super) async fn relies_on_content(
    index: &CheckedIndex,
    reader: &Arc<Reader>,
    content: &FileContent,
    ends: &Cancel,
) -> bool {
    let (mut nodes, mut chunks) = match &content.chunks {
        ChunkList::Inline(chunks) => (Vec::new(), chunks.clone()),
        ChunkList::Indirect { root, depth, chunks } => {
            let root = ListNode { id: *root, depth: *depth, chunks: *chunks, bytes: content.stored_length() };
            (vec![root], Vec::new())
        }
    };
    loop {
        for chunk in chunks.drain(..) {
            if ends.is_cancelled() || !index.rely_on(&chunk.id) && !relies_on_window(index, reader, chunk).await {
                return false;
            }
        }
        let Some(node) = nodes.pop() else { return true };
        if !index.rely_on(&node.id) {
            return false;
        }
        match reader.node(&node).await {
            Ok(Node::Chunks(below)) => chunks = below,
            Ok(Node::Lists(children)) => nodes.extend(node.children(&children)),
            Ok(Node::Entries(_) | Node::Children(_)) => unreachable!("checked to be of a list"),
            Err(_) => return false,
        }
    }
}

/// Tells whether the recipe of a window can be read, and all that it names is, through all depths, in packs that may be relied on; then
/// these are. What cannot be read is not relied on.
async fn relies_on_window(index: &CheckedIndex, reader: &Arc<Reader>, chunk: ChunkRef) -> bool {
    for place in index.reliable_recipes(&chunk.id.key()) {
        let window = WindowAt::of(chunk, place);
        let resolved = reader.resolve(&window, &|place| index.may_rely_on(place)).await;
        if let Ok(resolved) = resolved.and_then(|resolved| resolved.within_bounds(&window))
            && resolved.missing.is_empty()
        {
            let packs: Vec<PackId> = resolved.places_needed().map(|place| place.pack).collect();
            index.rely_on_packs(&packs);
            return true;
        }
    }
    false
}
