//! Pieces become windows: 2 to 8 MiB, 4 on average, ended by a piece for which a number is drawn that is small enough for its length.

use crate::windows::pieces::PieceCutter;
use crate::windows::{HashedPiece, WINDOW_MAX, WINDOW_MIN};

/// Binary logarithm of how many bytes there are, on average, from [`WINDOW_MIN`] on to the end.
const BEYOND_MIN_LOG: u32 = 21;

/// Pieces of a window, at most: of rows of a byte or two that are all the same, each may be one.
const PIECES_MOST: usize = WINDOW_MAX / 32;

/// Gathers the pieces of one window after the other.
#[derive(Debug)]
pub struct WindowGatherer {
    cutter: PieceCutter,
    pieces: Vec<HashedPiece>,
    length: usize,
    /// Length of a piece that did not fit into the window before.
    carried: Option<usize>,
}

impl WindowGatherer {
    /// Begins a content.
    pub fn new(cutter: PieceCutter) -> Self {
        Self { cutter, pieces: Vec::new(), length: 0, carried: None }
    }

    /// Goes on with the window that `data` begins with, and returns its length when it is complete.
    ///
    /// `data` holds what it held before and what has come since; `at_end` says that nothing follows.
    pub fn advance(&mut self, data: &[u8], at_end: bool) -> Option<usize> {
        loop {
            let rest = &data[self.length..];
            let Some(length) = self.carried.take().or_else(|| self.cutter.next(rest, at_end)) else {
                return (at_end && self.length > 0).then_some(self.length);
            };
            if self.length + length > WINDOW_MAX {
                self.carried = Some(length);
                return Some(self.length);
            }
            let piece = &rest[..length];
            self.pieces.push(HashedPiece { hash: self.cutter.hash(piece), length: length as u32 });
            self.length += length;
            if self.pieces.len() >= PIECES_MOST {
                return Some(self.length);
            }
            if self.length >= WINDOW_MIN && self.cutter.draw(piece) < (length as u64) << (u64::BITS - BEYOND_MIN_LOG) {
                return Some(self.length);
            }
        }
    }

    /// Returns the pieces of the window so far.
    pub fn pieces(&self) -> &[HashedPiece] {
        &self.pieces
    }

    /// Begins the next window.
    pub fn clear(&mut self) {
        self.pieces.clear();
        self.length = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::windows::pieces::PieceRule;
    use crate::windows::pieces::tests::{cutter, noise};

    fn windows(data: &[u8], step: usize) -> Vec<usize> {
        let mut gatherer = WindowGatherer::new(cutter(PieceRule::Rows));
        let (mut lengths, mut start, mut end) = (Vec::new(), 0, 0);
        while start < data.len() {
            match gatherer.advance(&data[start..end], end == data.len()) {
                Some(length) => {
                    assert_eq!(gatherer.pieces().iter().map(|piece| piece.length as usize).sum::<usize>(), length);
                    gatherer.clear();
                    lengths.push(length);
                    start += length;
                }
                None => end = (end + step).min(data.len()),
            }
        }
        assert_eq!(gatherer.advance(&[], true), None);
        lengths
    }

    fn text(seed: u64, len: usize) -> Vec<u8> {
        let noise = noise(seed, len);
        noise.iter().map(|byte| if byte % 100 == 0 { b'\n' } else { b'a' + byte % 26 }).collect()
    }

    #[test]
    fn windows_keep_their_bounds_and_do_not_depend_on_how_the_content_comes() {
        let data = text(1, 60 << 20);
        let lengths = windows(&data, 1 << 20);
        assert_eq!(lengths.iter().sum::<usize>(), data.len());
        assert!(lengths[..lengths.len() - 1].iter().all(|length| (WINDOW_MIN..=WINDOW_MAX).contains(length)));
        let average = data.len() / lengths.len();
        assert!((3 << 20..5 << 20).contains(&average), "{average}");
        assert_eq!(windows(&data, 777_777), lengths);
    }

    #[test]
    fn behind_an_edit_windows_are_as_they_were() {
        let before = text(2, 40 << 20);
        let mut after = before.clone();
        after.splice(9 << 20..9 << 20, *b"inserted");
        let (before, after) = (windows(&before, 1 << 20), windows(&after, 1 << 20));
        let same = before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a == b).count();
        assert!(same + 4 >= before.len(), "{before:?} {after:?}");
    }

    #[test]
    fn rows_of_a_byte_do_not_make_more_pieces_than_there_is_room_for() {
        let mut gatherer = WindowGatherer::new(cutter(PieceRule::Rows));
        // Whether such a row ends a piece depends on the key: of these some do.
        for byte in 0..=255u8 {
            let data = [byte, b'\n'].repeat(PIECES_MOST + 8);
            gatherer.clear();
            let length = gatherer.advance(&data, true).expect("a window");
            assert!(gatherer.pieces().len() <= PIECES_MOST && length <= WINDOW_MAX, "{byte}: {length}");
            gatherer = WindowGatherer::new(cutter(PieceRule::Rows));
        }
    }

    #[test]
    fn content_without_any_piece_that_ends_a_window_is_cut_at_the_longest() {
        let lengths = windows(&vec![0; 20 << 20], 1 << 20);
        assert!(lengths.iter().all(|length| *length <= WINDOW_MAX), "{lengths:?}");
        assert_eq!(lengths.iter().sum::<usize>(), 20 << 20);
    }
}
