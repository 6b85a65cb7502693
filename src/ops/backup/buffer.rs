//! The buffer of a content that is cut into windows: the window in front, and what was read ahead of it.

use crate::ops::backup::cut::READ_BYTES;
use crate::windows::WINDOW_MAX;
use crate::windows::pieces::PIECE_MAX;

/// Holds the longest window and what was read ahead.
pub(super) struct WindowBuffer {
    bytes: Vec<u8>,
    end: usize,
    /// Whether the window in front was taken, with the memory that it was in.
    is_taken: bool,
}

impl WindowBuffer {
    const LENGTH: usize = WINDOW_MAX + PIECE_MAX + READ_BYTES;

    /// Makes an empty one.
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; Self::LENGTH], end: 0, is_taken: false }
    }

    /// Returns all that was read and not dropped.
    pub(super) fn filled(&self) -> &[u8] {
        &self.bytes[..self.end]
    }

    /// Lends the room for what is read next.
    pub(super) fn room(&mut self) -> &mut [u8] {
        let room = self.bytes.len().min(self.end + READ_BYTES);
        &mut self.bytes[self.end..room]
    }

    /// Notes that so many bytes of the room were filled.
    pub(super) fn note_read(&mut self, count: usize) {
        self.end += count;
    }

    /// Returns the window in front.
    pub(super) fn window(&self, length: usize) -> &[u8] {
        &self.bytes[..length]
    }

    /// Takes the window in front with its memory, which is to be dropped next.
    pub(super) fn take(&mut self, length: usize) -> Vec<u8> {
        let mut next = vec![0; Self::LENGTH];
        next[..self.end - length].copy_from_slice(&self.bytes[length..self.end]);
        let mut window = std::mem::replace(&mut self.bytes, next);
        window.truncate(length);
        window.shrink_to_fit();
        self.is_taken = true;
        window
    }

    /// Goes on behind the window in front.
    pub(super) fn drop_window(&mut self, length: usize) {
        if !std::mem::take(&mut self.is_taken) {
            self.bytes.copy_within(length..self.end, 0);
        }
        self.end -= length;
    }
}
