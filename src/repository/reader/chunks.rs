//! Walking the chunks of a content in order, list nodes read ahead.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::format::tree::Node;
use crate::model::entry::{ChunkList, ChunkRef};
use crate::model::id::ChunkId;
use crate::model::outcome::{Ended, Outcome};
use crate::repository::reader::{ReadError, Reader};

/// Chunks of a content in order.
#[derive(Debug)]
pub struct ChunkWalk {
    reader: Arc<Reader>,
    /// List nodes still to visit with their depth and bytes below, the next one last.
    stack: Vec<(ChunkId, u8, u64)>,
    chunks: VecDeque<ChunkRef>,
}

/// A part of a chunk list that cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("a list of chunks covering {bytes} bytes cannot be read")]
pub struct DamagedList {
    /// Bytes of content that are lost with it.
    pub bytes: u64,
    /// What is wrong.
    #[source]
    pub error: ReadError,
}

impl Ended for DamagedList {
    fn outcome(&self) -> Outcome {
        self.error.outcome()
    }
}

impl Reader {
    /// Walks the chunks of a content that stores `stored_length` bytes.
    pub fn chunks(self: &Arc<Self>, list: &ChunkList, stored_length: u64) -> ChunkWalk {
        let (stack, chunks) = match list {
            ChunkList::Inline(chunks) => (Vec::new(), chunks.iter().copied().collect()),
            ChunkList::Indirect { root, depth, .. } => (vec![(*root, *depth, stored_length)], VecDeque::new()),
        };
        ChunkWalk { reader: self.clone(), stack, chunks }
    }
}

impl ChunkWalk {
    /// Returns the next chunk, a part that cannot be read, or `None` at the end.
    pub async fn next(&mut self) -> Option<Result<ChunkRef, DamagedList>> {
        loop {
            if let Some(chunk) = self.chunks.pop_front() {
                return Some(Ok(chunk));
            }
            let (id, depth, bytes) = self.stack.pop()?;
            match (self.reader.node(&id).await, depth) {
                (Ok(Node::Chunks(chunks)), 1) => self.chunks = chunks.into(),
                (Ok(Node::Lists(children)), 2..) => {
                    self.stack.extend(children.iter().rev().map(|child| (child.id, depth - 1, child.bytes)));
                }
                (Ok(_), _) => {
                    let source = crate::format::FormatError::WrongMark("a list node of this level");
                    return Some(Err(DamagedList { bytes, error: ReadError::Node { id: id.short(), source } }));
                }
                (Err(error), _) => return Some(Err(DamagedList { bytes, error })),
            }
        }
    }
}
