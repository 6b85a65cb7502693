//! Walking the chunks of a content in order, from its beginning or from an offset on.
//!
//! List nodes tell how many bytes are below each child, so what lies before the offset is stepped over unread. Each node that
//! is read must add up to what was told of it, so whoever follows the walk gets as many bytes as the content stores.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::format::tree::Node;
use crate::model::entry::{ChunkList, ChunkRef};
use crate::model::outcome::{Ended, Outcome};
use crate::repository::reader::told::ListNode;
use crate::repository::reader::{ReadError, Reader};

/// Chunks of a content in order.
#[derive(Debug)]
pub struct ChunkWalk {
    reader: Arc<Reader>,
    /// List nodes still to visit, the next one last.
    stack: Vec<ListNode>,
    chunks: VecDeque<ChunkRef>,
    /// Bytes still to be stepped over before the first chunk is given.
    skip: u64,
    /// Bytes of the first chunk that lie before where the walk begins.
    cut: u64,
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
        self.chunks_from(list, stored_length, 0)
    }

    /// Walks the chunks of a content that stores `stored_length` bytes, from the one on that holds byte `from` of these.
    ///
    /// On the way there one list node of each level is read.
    pub fn chunks_from(self: &Arc<Self>, list: &ChunkList, stored_length: u64, from: u64) -> ChunkWalk {
        let (stack, chunks) = match list {
            ChunkList::Inline(chunks) => (Vec::new(), chunks.iter().copied().collect()),
            ChunkList::Indirect { root, depth, chunks } => {
                let root = ListNode { id: *root, depth: *depth, chunks: *chunks, bytes: stored_length };
                (vec![root], VecDeque::new())
            }
        };
        ChunkWalk { reader: self.clone(), stack, chunks, skip: from, cut: 0 }
    }
}

impl ChunkWalk {
    /// Returns the next chunk, a part that cannot be read, or `None` at the end.
    pub async fn next(&mut self) -> Option<Result<ChunkRef, DamagedList>> {
        loop {
            while let Some(chunk) = self.chunks.pop_front() {
                if !self.steps_over(u64::from(chunk.length)) {
                    self.cut = std::mem::take(&mut self.skip);
                    return Some(Ok(chunk));
                }
            }
            let node = self.stack.pop()?;
            if self.steps_over(node.bytes) {
                continue;
            }
            if let Err(error) = self.descend(node).await {
                return Some(Err(DamagedList { bytes: node.bytes, error }));
            }
        }
    }

    /// Returns how many bytes of the chunk that was given last lie before where the walk begins: none but of the first.
    pub fn take_cut(&mut self) -> u64 {
        std::mem::take(&mut self.cut)
    }

    /// Steps over `bytes` that lie before where the walk begins, if they do.
    fn steps_over(&mut self, bytes: u64) -> bool {
        let before = self.skip > 0 && self.skip >= bytes;
        if before {
            self.skip -= bytes;
        }
        before
    }

    async fn descend(&mut self, told: ListNode) -> Result<(), ReadError> {
        match self.reader.node(&told).await? {
            Node::Chunks(chunks) => self.chunks = chunks.into(),
            Node::Lists(children) => self.stack.extend(told.children(&children).rev()),
            Node::Entries(_) | Node::Children(_) => unreachable!("checked to be of a list"),
        }
        Ok(())
    }
}
