//! Where the chunks of a content stand in its file: one after the other, stepping over its holes.

use crate::model::entry::{FileContent, Hole};

/// Where a part of a chunk stands in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// Offset of the part in the chunk.
    pub(super) chunk_offset: u32,
    /// Offset in the file.
    pub(super) file_offset: u64,
    /// Length in bytes.
    pub(super) length: u32,
}

/// Gives the places of a content's chunks, one after the other, stepping over its holes.
#[derive(Debug)]
pub(super) struct Places {
    holes: std::vec::IntoIter<Hole>,
    next_hole: Option<Hole>,
    offset: u64,
}

impl Places {
    pub(super) fn new(content: &FileContent) -> Self {
        let mut holes = content.holes.clone().into_iter();
        let next_hole = holes.next();
        Self { holes, next_hole, offset: 0 }
    }

    /// Returns the places of the next `length` stored bytes.
    pub(super) fn take(&mut self, length: u32) -> Vec<Piece> {
        let mut pieces = Vec::with_capacity(1);
        let mut chunk_offset = 0;
        while chunk_offset < length {
            while let Some(hole) = self.next_hole.filter(|hole| hole.offset <= self.offset) {
                self.offset = hole.offset + hole.length;
                self.next_hole = self.holes.next();
            }
            let rest = u64::from(length - chunk_offset);
            let room = self.next_hole.map_or(rest, |hole| (hole.offset - self.offset).min(rest)) as u32;
            pieces.push(Piece { chunk_offset, file_offset: self.offset, length: room });
            chunk_offset += room;
            self.offset += u64::from(room);
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_step_over_holes() {
        let holes =
            vec![Hole { offset: 0, length: 10 }, Hole { offset: 15, length: 5 }, Hole { offset: 30, length: 9 }];
        let mut places = Places::new(&FileContent { size: 39, holes, ..FileContent::default() });
        let piece = |chunk_offset, file_offset, length| Piece { chunk_offset, file_offset, length };
        assert_eq!(places.take(8), [piece(0, 10, 5), piece(5, 20, 3)]);
        assert_eq!(places.take(7), [piece(0, 23, 7)]);
    }
}
