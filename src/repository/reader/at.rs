//! A content from its beginning, or from any offset on: what is before is neither fetched nor read.
//!
//! Getting to an offset takes a node of each level of the chunk list, however long the list is.

use std::ops::Range;
use std::sync::Arc;

use crate::model::entry::FileContent;
use crate::repository::reader::Reader;
use crate::repository::reader::content::{ContentError, ContentPart, ContentStream};

impl Reader {
    /// Reads a content from its beginning to its end.
    ///
    /// A quarter of the reader's memory is decoded ahead; every chunk is checked against its id before it is given out.
    pub fn content(self: &Arc<Self>, content: &FileContent) -> ContentStream {
        ContentStream::new(self, content, 0..content.size)
    }

    /// Reads the bytes of `range` of a content, as far as it goes, as [`Reader::content`] does; no chunk behind it is fetched.
    pub fn content_range(self: &Arc<Self>, content: &FileContent, range: Range<u64>) -> ContentStream {
        ContentStream::new(self, content, range)
    }

    /// Returns `len` bytes of a content from `offset` on, fewer where it ends before, holes as zeros.
    ///
    /// Frames are kept for who reads on from there, so reading a content in small steps fetches each frame once.
    ///
    /// # Errors
    /// [`ContentError`] when not all of these bytes can be had.
    pub async fn read_at(
        self: &Arc<Self>,
        content: &FileContent,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, ContentError> {
        let end = offset.saturating_add(len as u64);
        let mut stream = self.content_range(content, offset..end);
        let mut bytes =
            Vec::with_capacity(usize::try_from(content.size.saturating_sub(offset)).unwrap_or(len).min(len));
        while let Some(part) = stream.next().await {
            match part? {
                ContentPart::Bytes(frame, range) => bytes.extend_from_slice(&frame[range]),
                // As many as fit into `len`, which is a number of bytes in memory.
                ContentPart::Zeros(zeros) => bytes.resize(bytes.len() + zeros as usize, 0),
            }
        }
        Ok(bytes)
    }
}
