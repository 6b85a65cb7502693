//! Where the chunks of a content stand in its file: one after the other, stepping over its holes.

use std::ops::Range;

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

impl Piece {
    /// Returns offset and length in the file of those bytes of it that are within `range` of the chunk.
    pub(super) fn within(&self, range: &Range<u32>) -> Option<(u64, u64)> {
        let (start, end) = (range.start.max(self.chunk_offset), range.end.min(self.chunk_offset + self.length));
        (start < end).then(|| (self.file_offset + u64::from(start - self.chunk_offset), u64::from(end - start)))
    }
}

/// Gives the places of a content's chunks, one after the other, stepping over its holes.
#[derive(Debug)]
pub(super) struct PiecePlaces {
    holes: std::vec::IntoIter<Hole>,
    next_hole: Option<Hole>,
    offset: u64,
}

impl PiecePlaces {
    pub(super) fn new(content: &FileContent) -> Self {
        let mut holes = content.holes.clone().into_iter();
        let next_hole = holes.next();
        Self { holes, next_hole, offset: 0 }
    }

    /// Returns the places of the next `length` stored bytes.
    pub(super) fn take(&mut self, length: u32) -> Vec<Piece> {
        let mut chunk_offset = 0;
        let piece = |(file_offset, length): (u64, u64)| {
            // A part of what is 32 bits long.
            let piece = Piece { chunk_offset, file_offset, length: length as u32 };
            chunk_offset += piece.length;
            piece
        };
        self.skip(u64::from(length)).into_iter().map(piece).collect()
    }

    /// Returns offsets and lengths in the file of the next `length` stored bytes, which may be any number.
    pub(super) fn skip(&mut self, mut length: u64) -> Vec<(u64, u64)> {
        let mut ranges = Vec::with_capacity(1);
        while length > 0 {
            while let Some(hole) = self.next_hole.filter(|hole| hole.offset <= self.offset) {
                self.offset = hole.offset + hole.length;
                self.next_hole = self.holes.next();
            }
            let room = self.next_hole.map_or(length, |hole| (hole.offset - self.offset).min(length));
            ranges.push((self.offset, room));
            length -= room;
            self.offset += room;
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_bytes_of_a_chunk_are_told_where_they_stand_in_the_file() {
        let piece = Piece { chunk_offset: 10, file_offset: 1000, length: 5 };
        for (range, expected) in [(0..10, None), (0..11, Some((1000, 1))), (12..99, Some((1002, 3))), (15..16, None)] {
            assert_eq!(piece.within(&range), expected, "{range:?}");
        }
    }

    #[test]
    fn chunks_step_over_holes() {
        let holes =
            vec![Hole { offset: 0, length: 10 }, Hole { offset: 15, length: 5 }, Hole { offset: 30, length: 9 }];
        let mut places = PiecePlaces::new(&FileContent { size: 39, holes, ..FileContent::default() });
        let piece = |chunk_offset, file_offset, length| Piece { chunk_offset, file_offset, length };
        assert_eq!(places.take(8), [piece(0, 10, 5), piece(5, 20, 3)]);
        assert_eq!(places.take(7), [piece(0, 23, 7)]);

        let mut places = PiecePlaces::new(&FileContent {
            size: 1 << 50,
            holes: vec![Hole { offset: 1 << 40, length: 1 }],
            ..FileContent::default()
        });
        assert_eq!(places.skip((1 << 50) - 1), [(0, 1 << 40), ((1 << 40) + 1, (1 << 50) - (1 << 40) - 1)]);
    }
}
