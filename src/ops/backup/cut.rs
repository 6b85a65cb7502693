//! The loop that cuts: bytes come in, are cut by content, and every chunk that nobody has stored yet goes into a frame.
//!
//! Contents of files and streams go through it alike. They differ in where the next bytes come from ([`NextBytes`]), in how they
//! are cut and how much a frame holds, and in who seals a full one.

use std::ops::Range;

use crate::chunker::Chunker;
use crate::model::entry::ChunkRef;
use crate::ops::backup::batch::CutBytes;
use crate::ops::backup::stopped::Stopped;
use crate::progress::{Counter, Monitor};
use crate::repository::frame::{FILE_FRAME_BYTES, FRAME_TARGET_BYTES, Frame};
use crate::repository::tree::ListBuilder;
use crate::repository::writer::Writer;

/// Read ahead of the cut, in bytes, beyond the longest chunk.
pub(super) const READ_BYTES: usize = 1 << 20;

/// Where the bytes of one content come from.
pub(super) trait NextBytes {
    /// Why there are no more although it has not ended.
    type Error: From<Stopped>;

    /// Fills `space` from its front; waits for at least one byte or the end.
    fn next(&mut self, space: &mut [u8]) -> Result<Filled, Self::Error>;
}

/// What came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filled {
    /// Bytes.
    pub(super) count: usize,
    /// Whether they are the last.
    pub(super) is_end: bool,
}

/// One thread's tools to cut contents. New chunks gather in its frame from one content to the next.
pub(super) struct Cutter<'a> {
    writer: &'a Writer,
    monitor: &'a dyn Monitor,
    chunker: Chunker,
    frame: Frame,
    frame_bytes: usize,
    /// Holds the longest chunk and what was read ahead.
    buffer: Vec<u8>,
}

impl<'a> Cutter<'a> {
    /// Makes one for contents of files.
    pub(super) fn for_files(writer: &'a Writer, monitor: &'a dyn Monitor) -> Self {
        Self::new(writer, monitor, writer.file_chunker(), FILE_FRAME_BYTES)
    }

    /// Makes one for a stream.
    pub(super) fn for_stream(writer: &'a Writer, monitor: &'a dyn Monitor) -> Self {
        Self::new(writer, monitor, writer.stream_chunker(), FRAME_TARGET_BYTES)
    }

    fn new(writer: &'a Writer, monitor: &'a dyn Monitor, chunker: Chunker, frame_bytes: usize) -> Self {
        let buffer = vec![0; chunker.max() + READ_BYTES];
        Self { writer, monitor, chunker, frame: Frame::default(), frame_bytes, buffer }
    }

    /// Cuts a content until it ends and returns its chunks. Each full frame goes through `hand_on`, which gives an empty one
    /// in return. `bytes` counts as it goes, of a content that cannot be read to its end as well.
    ///
    /// # Errors
    /// What the source says, and that the run has stopped.
    pub(super) fn cut<S: NextBytes>(
        &mut self,
        source: &mut S,
        bytes: &mut CutBytes,
        mut hand_on: impl FnMut(Frame) -> Result<Frame, Stopped>,
    ) -> Result<ListBuilder, S::Error> {
        let mut list = ListBuilder::default();
        let (mut start, mut end, mut is_end) = (0, 0, false);
        loop {
            while let Some(length) = self.chunker.cut(&self.buffer[start..end], is_end) {
                self.chunk(start..start + length, &mut list, bytes, &mut hand_on)?;
                start += length;
            }
            if is_end {
                return Ok(list);
            }
            self.buffer.copy_within(start..end, 0);
            (start, end) = (0, end - start);
            let filled = source.next(&mut self.buffer[end..])?;
            (end, is_end) = (end + filled.count, filled.is_end);
            bytes.read += filled.count as u64;
            self.monitor.add(Counter::ReadBytes, filled.count as u64);
            self.monitor.add(Counter::Bytes, filled.count as u64);
        }
    }

    /// Takes the frame of the last chunks, full or not.
    pub(super) fn take_frame(&mut self) -> Frame {
        std::mem::take(&mut self.frame)
    }

    fn chunk(
        &mut self,
        at: Range<usize>,
        list: &mut ListBuilder,
        bytes: &mut CutBytes,
        hand_on: &mut impl FnMut(Frame) -> Result<Frame, Stopped>,
    ) -> Result<(), Stopped> {
        let chunk = &self.buffer[at];
        let (id, length) = (self.writer.id(chunk), chunk.len());
        if self.writer.claim(&id) {
            bytes.new += length as u64;
            self.monitor.add(Counter::NewBytes, length as u64);
            self.frame.push(&id, chunk);
            if self.frame.len() >= self.frame_bytes {
                self.frame = hand_on(std::mem::take(&mut self.frame))?;
            }
        }
        list.push(ChunkRef { id, length: length as u32 }, self.writer)?;
        Ok(())
    }
}
