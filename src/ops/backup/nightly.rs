//! The loop that cuts what is stored night after night: bytes become windows, and of each window only what is new is stored.
//!
//! What windows consist of is known from what the last night left on this machine. Without that every window is stored whole,
//! which is what a first night costs.

use crate::model::entry::ChunkRef;
use crate::model::id::ChunkId;
use crate::ops::backup::batch::CutBytes;
use crate::ops::backup::cut::{Filled, NextBytes, READ_BYTES};
use crate::ops::backup::stopped::Stopped;
use crate::progress::{Counter, Monitor};
use crate::repository::frame::{Frame, ROWS_FRAME_BYTES};
use crate::repository::nights::{FinishedNight, NightBlocks, NightPlace, NightSink};
use crate::repository::tree::ListBuilder;
use crate::repository::writer::Writer;
use crate::windows::gather::WindowGatherer;
use crate::windows::pieces::{HEAD_BYTES, PIECE_MAX, PieceRule};
use crate::windows::remains::key_number;
use crate::windows::tomorrow::Tomorrow;
use crate::windows::walk::NightWalk;
use crate::windows::weave::{MadeOf, Need, Woven};
use crate::windows::yesterday::Yesterday;
use crate::windows::{WINDOW_MAX, WINDOW_MIN};

/// Nights from one that names plain chunks alone to the next such one: recipes do not grow longer than a week makes them, and a
/// forgotten night's rows are needed for a week at most.
const BASE_EVERY: u8 = 7;
/// A window of which more is new, in per cent, is stored whole.
const NEW_MOST: usize = 70;
/// A window is stored whole as well where a recipe would save less than this, in bytes.
const SAVED_LEAST: usize = 4 << 10;
/// A window is renewed when less than this part of the chunks that it names is still used.
const ALIVE_LEAST: f64 = 0.5;

/// What a content was cut into.
pub(super) struct CutContent {
    /// Its chunks.
    pub(super) list: ListBuilder,
    /// What tonight leaves for the next.
    pub(super) night: Option<FinishedNight>,
}

/// Cuts one content.
pub(super) struct NightCutter<'a> {
    writer: &'a Writer,
    monitor: &'a dyn Monitor,
    /// Where tonight leaves something for the next.
    place: Option<NightPlace>,
    yesterday: Option<Yesterday<NightBlocks>>,
    walk: NightWalk,
    tomorrow: Option<Tomorrow<NightSink>>,
    /// Whether recipes name plain chunks alone tonight.
    is_base: bool,
    /// For each piece of a window the one of yesterday that it is.
    found: Vec<u64>,
    /// New rows.
    rows: Frame,
    /// Bytes of windows that were stored whole because too little was used of what they were made of.
    renewed: u64,
    /// Whether it is known of each window what it consists of.
    is_all_known: bool,
    buffer: WindowBuffer,
}

/// Holds the longest window and what was read ahead.
struct WindowBuffer {
    bytes: Vec<u8>,
    end: usize,
    /// Whether the window in front was taken, with the memory that it was in.
    is_taken: bool,
}

impl WindowBuffer {
    const LENGTH: usize = WINDOW_MAX + PIECE_MAX + READ_BYTES;

    fn new() -> Self {
        Self { bytes: vec![0; Self::LENGTH], end: 0, is_taken: false }
    }

    /// Returns all that was read and not dropped.
    fn filled(&self) -> &[u8] {
        &self.bytes[..self.end]
    }

    /// Lends the room for what is read next.
    fn room(&mut self) -> &mut [u8] {
        let room = self.bytes.len().min(self.end + READ_BYTES);
        &mut self.bytes[self.end..room]
    }

    fn window(&self, length: usize) -> &[u8] {
        &self.bytes[..length]
    }

    /// Takes the window in front with its memory, which is to be dropped next.
    fn take(&mut self, length: usize) -> Vec<u8> {
        let mut next = vec![0; Self::LENGTH];
        next[..self.end - length].copy_from_slice(&self.bytes[length..self.end]);
        let mut window = std::mem::replace(&mut self.bytes, next);
        window.truncate(length);
        window.shrink_to_fit();
        self.is_taken = true;
        window
    }

    /// Goes on behind the window in front.
    fn drop_window(&mut self, length: usize) {
        if !std::mem::take(&mut self.is_taken) {
            self.bytes.copy_within(length..self.end, 0);
        }
        self.end -= length;
    }
}

impl<'a> NightCutter<'a> {
    /// Makes one that goes on from what the last night left at `place`, and leaves something there unless it is a `dry_run`.
    pub(super) fn new(writer: &'a Writer, monitor: &'a dyn Monitor, place: NightPlace, dry_run: bool) -> Self {
        let yesterday = place.open().map(|(blocks, remains)| Yesterday::new(blocks, remains));
        Self {
            writer,
            monitor,
            place: (!dry_run).then_some(place),
            yesterday,
            walk: NightWalk::default(),
            tomorrow: None,
            is_base: true,
            found: Vec::new(),
            rows: Frame::for_rows(),
            renewed: 0,
            is_all_known: true,
            buffer: WindowBuffer::new(),
        }
    }

    /// Tells whether the last night left something that can be used.
    pub(super) fn has_yesterday(&self) -> bool {
        self.yesterday.is_some()
    }

    /// Cuts the content until it ends, as [`Cutter::cut`](crate::ops::backup::cut::Cutter::cut) does; full frames and the last ones go
    /// through `hand_on`.
    ///
    /// # Errors
    /// What the source says, and that the run has stopped.
    pub(super) fn cut<S: NextBytes>(
        mut self,
        source: &mut S,
        bytes: &mut CutBytes,
        mut hand_on: impl FnMut(Frame) -> Result<Frame, Stopped>,
    ) -> Result<CutContent, S::Error> {
        let mut list = ListBuilder::default();
        let mut is_end = false;
        while self.buffer.end < HEAD_BYTES && !is_end {
            is_end = self.read(source, bytes)?;
        }
        let mut gatherer = self.begin(PieceRule::of(self.buffer.filled()));
        loop {
            while let Some(length) = gatherer.advance(self.buffer.filled(), is_end) {
                let id = self.window(&gatherer, length, bytes, &mut hand_on)?;
                list.push(ChunkRef { id, length: length as u32 }, self.writer).map_err(Stopped::from)?;
                gatherer.clear();
                self.buffer.drop_window(length);
            }
            if is_end {
                break;
            }
            is_end = self.read(source, bytes)?;
        }
        if !self.rows.is_empty() {
            hand_on(std::mem::take(&mut self.rows))?;
        }
        let night = self.tomorrow.and_then(|tomorrow| {
            let (sink, remains) = tomorrow.finish();
            sink.finish(&remains, self.is_all_known)
        });
        Ok(CutContent { list, night })
    }

    /// Reads on, and tells whether the content has ended.
    fn read<S: NextBytes>(&mut self, source: &mut S, bytes: &mut CutBytes) -> Result<bool, S::Error> {
        let Filled { count, is_end } = source.next(self.buffer.room())?;
        self.buffer.end += count;
        bytes.read += count as u64;
        self.monitor.add(Counter::ReadBytes, count as u64);
        self.monitor.add(Counter::Bytes, count as u64);
        Ok(is_end)
    }

    /// Begins a content that is cut by `rule`: what was cut by another yesterday is nothing to it.
    fn begin(&mut self, rule: PieceRule) -> WindowGatherer {
        self.yesterday.take_if(|yesterday| yesterday.remains().rule != rule);
        let nights =
            self.yesterday.as_ref().map_or(0, |yesterday| (yesterday.remains().nights_since_base + 1) % BASE_EVERY);
        self.is_base = nights == 0;
        let sink = self.place.take().and_then(NightPlace::begin);
        self.tomorrow = sink.map(|sink| Tomorrow::new(sink, rule, nights));
        self.writer.window_gatherer(rule)
    }

    /// Stores the window that the buffer begins with.
    fn window(
        &mut self,
        gatherer: &WindowGatherer,
        length: usize,
        bytes: &mut CutBytes,
        hand_on: &mut impl FnMut(Frame) -> Result<Frame, Stopped>,
    ) -> Result<ChunkId, Stopped> {
        let id = self.writer.id(self.buffer.window(length));
        let pieces = gatherer.pieces();
        if let Some(yesterday) = &mut self.yesterday {
            self.walk.find(yesterday, pieces, &mut self.found);
        }
        let made_of = if self.writer.relies_on_plain(&id.key()) {
            Some(MadeOf::chunk(id.key(), length as u32))
        } else {
            match self.by_recipe(gatherer, &id, length, bytes, hand_on)? {
                Some(made_of) => Some(made_of),
                None => self.whole(&id, length, bytes, hand_on)?,
            }
        };
        self.is_all_known &= made_of.is_some();
        if let (Some(made_of), Some(tomorrow)) = (made_of, &mut self.tomorrow) {
            let used = self.yesterday.as_ref().map(|yesterday| &yesterday.remains().used);
            let fresh = made_of.fresh;
            tomorrow.push(pieces, &made_of, |key| match fresh.filter(|(fresh, _)| fresh == key) {
                Some((_, length)) => Some(length),
                None => used?.get(key_number(key)).map(|used| used.length),
            });
        }
        Ok(id)
    }

    /// Stores a window as a recipe and its new rows as a chunk; `None` when it is to be stored whole.
    fn by_recipe(
        &mut self,
        gatherer: &WindowGatherer,
        id: &ChunkId,
        length: usize,
        bytes: &mut CutBytes,
        hand_on: &mut impl FnMut(Frame) -> Result<Frame, Stopped>,
    ) -> Result<Option<MadeOf>, Stopped> {
        let Some(yesterday) = &mut self.yesterday else { return Ok(None) };
        let mut woven = Woven::of(yesterday, gatherer.pieces(), &self.found);
        woven.rely(self.is_base, |key, need| match need {
            Need::Plain => self.writer.relies_on_plain(key),
            Need::Any => self.writer.relies_on_named(key),
        });
        let new = woven.new_bytes() as usize;
        if new + SAVED_LEAST > length || new * 100 > length * NEW_MOST {
            return Ok(None);
        }
        // No more is renewed than is stored anyway.
        let may_renew = self.renewed + length as u64 <= bytes.new + WINDOW_MAX as u64;
        if may_renew && woven.alive(&yesterday.remains().used) < ALIVE_LEAST {
            self.renewed += length as u64;
            return Ok(None);
        }
        let rows = woven.new_rows(self.buffer.window(length));
        let rows_id = (!rows.is_empty()).then(|| self.writer.id(&rows));
        let made_of = woven.filled(rows_id.map(|id| (id.key(), rows.len() as u32)));
        if made_of.names(&id.key()) {
            return Ok(Some(made_of));
        }
        let Some(recipe) = self.writer.recipe(&made_of.parts(), !made_of.through.is_empty()) else { return Ok(None) };
        if let Some(rows_id) = rows_id {
            if self.writer.claim(&rows_id) {
                self.note_new(rows.len(), bytes);
                self.rows.push(&rows_id, &rows);
                if self.rows.len() >= ROWS_FRAME_BYTES {
                    hand_on(std::mem::replace(&mut self.rows, Frame::for_rows()))?;
                }
            } else if !self.writer.relies_on_plain(&rows_id.key()) {
                return Ok(None);
            }
        }
        let through: Vec<_> = made_of.through.values().flat_map(|through| through.iter().copied()).collect();
        let is_stored = self.writer.store_recipe(id, &recipe, &through)?;
        Ok(is_stored.then(|| if self.is_base { made_of.named_as(id.key()) } else { made_of }))
    }

    /// Stores a window whole. `None` when another thread stores it as a recipe: what it consists of is not known here, and
    /// its pieces count as new tomorrow.
    fn whole(
        &mut self,
        id: &ChunkId,
        length: usize,
        bytes: &mut CutBytes,
        hand_on: &mut impl FnMut(Frame) -> Result<Frame, Stopped>,
    ) -> Result<Option<MadeOf>, Stopped> {
        if self.writer.claim(id) {
            self.note_new(length, bytes);
            if length >= WINDOW_MIN {
                hand_on(Frame::of_one(id, self.buffer.take(length)))?;
            } else {
                let mut last = Frame::default();
                last.push(id, self.buffer.window(length));
                hand_on(last)?;
            }
        } else if !self.writer.relies_on_plain(&id.key()) {
            return Ok(None);
        }
        Ok(Some(MadeOf::chunk(id.key(), length as u32)))
    }

    fn note_new(&self, length: usize, bytes: &mut CutBytes) {
        bytes.new += length as u64;
        self.monitor.add(Counter::NewBytes, length as u64);
    }
}
