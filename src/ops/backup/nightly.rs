//! The loop that cuts what is stored night after night: bytes become windows, and of each window only what is new is stored.
//!
//! What windows consist of is known from what the last night left on this machine. Without that every window is stored whole,
//! which is what a first night costs. Of a file, what is stored whole is cut into chunks as other files are: so another file that has much in
//! common with it is found to have it, and only what changed is stored by windows.

use crate::chunker::Chunker;
use crate::model::entry::ChunkRef;
use crate::model::id::ChunkId;
use crate::ops::backup::batch::CutBytes;
use crate::ops::backup::buffer::WindowBuffer;
use crate::ops::backup::cut::{Filled, NextBytes};
use crate::ops::backup::remade::RemadeNight;
use crate::ops::backup::stopped::Stopped;
use crate::progress::{Counter, Monitor, Problem};
use crate::repository::frame::{FILE_FRAME_BYTES, Frame, ROWS_FRAME_BYTES};
use crate::repository::nights::{FinishedNight, NightBlocks, NightPlace, NightSink};
use crate::repository::tree::ListBuilder;
use crate::repository::writer::{RecipeStored, Writer};
use crate::windows::gather::WindowGatherer;
use crate::windows::heads::{HEAD_BYTES, PAGE_USUAL, is_compressed, rule_of};
use crate::windows::pieces::PieceRule;
use crate::windows::remains::{Remains, key_number};
use crate::windows::tomorrow::Tomorrow;
use crate::windows::walk::{NEW, NightWalk};
use crate::windows::weave::{MadeOf, StoredChunks, Woven};
use crate::windows::yesterday::Yesterday;
use crate::windows::{WINDOW_MAX, WINDOW_MIN};

/// Nights from one that names plain chunks alone to the next such one: recipes do not grow longer than a week makes them, and a
/// forgotten night's rows are needed for a week at most.
const BASE_EVERY: u8 = 7;
/// A window of which more is new, in per cent, is stored whole.
const NEW_MOST: usize = 70;
/// A window is stored whole as well where a recipe would save less than this, in bytes.
const SAVED_LEAST: usize = 4 << 10;
/// Where fewer of the pieces than one in so many were there yesterday, another rule is tried.
const FOUND_LEAST: u64 = 4;
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
    /// What the content is called.
    subject: String,
    /// Whether something is kept of the last night that cannot be used.
    is_unusable: bool,
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
    /// Of a file, what cuts that which is stored whole, and gathers it.
    chunks: Option<(Chunker, Frame)>,
    /// Pieces that were there yesterday.
    found_pieces: u64,
    /// Bytes of windows that were stored whole because too little was used of what they were made of.
    renewed: u64,
    /// Whether it is known of each window what it consists of.
    is_all_known: bool,
    buffer: WindowBuffer,
}

impl<'a> NightCutter<'a> {
    /// Makes one for the content called `subject` that goes on from what the last night left at `place`, and leaves something there
    /// unless it is a `dry_run`. What is there and cannot be used is told.
    pub(super) fn new(
        writer: &'a Writer,
        monitor: &'a dyn Monitor,
        subject: String,
        place: NightPlace,
        dry_run: bool,
    ) -> Self {
        let yesterday = place.open().map(|(blocks, remains)| Yesterday::new(blocks, remains));
        let is_unusable = yesterday.is_none() && place.is_there();
        Self {
            writer,
            monitor,
            subject,
            is_unusable,
            place: (!dry_run).then_some(place),
            yesterday,
            walk: NightWalk::default(),
            tomorrow: None,
            is_base: true,
            found: Vec::new(),
            rows: Frame::for_rows(),
            chunks: None,
            found_pieces: 0,
            renewed: 0,
            is_all_known: true,
            buffer: WindowBuffer::new(),
        }
    }

    /// Goes on from what was made anew, where what the last night left is not there or cannot be used, and tells so.
    pub(super) fn or_remade(mut self, remake: impl FnOnce() -> Option<RemadeNight>) -> Self {
        if self.yesterday.is_none()
            && let Some(RemadeNight { snapshot, blocks, remains }) = remake()
        {
            let message = format!(
                "what this machine kept of the last night is gone, so it was made anew from what snapshot {} stored",
                snapshot.short()
            );
            self.monitor.problem(Problem::advice(self.subject.clone(), message));
            self.yesterday = Some(Yesterday::new(blocks, remains));
        }
        self
    }

    /// Says that the content is a file's.
    pub(super) fn of_file(self) -> Self {
        Self { chunks: Some((self.writer.file_chunker(), Frame::default())), ..self }
    }

    /// Cuts the content until it ends, as [`Cutter::cut`](crate::ops::backup::cut::Cutter::cut) does; full frames and the last ones go
    /// through `hand_on`, of a content that cannot be read to its end as well: others may rely on what was claimed for it.
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
        let cut = self.windows(source, &mut list, bytes, &mut hand_on);
        let handed = self.take_frames().into_iter().filter(|last| !last.is_empty()).try_for_each(|last| {
            hand_on(last)?;
            Ok::<(), Stopped>(())
        });
        cut?;
        handed?;
        let night = self.tomorrow.and_then(|tomorrow| {
            let (sink, mut remains) = tomorrow.finish();
            remains.next_rule = next_rule(&remains, self.yesterday.as_ref().map(Yesterday::remains), self.found_pieces);
            sink.finish(&remains, self.is_all_known)
        });
        Ok(CutContent { list, night })
    }

    /// Stores window after window.
    fn windows<S: NextBytes>(
        &mut self,
        source: &mut S,
        list: &mut ListBuilder,
        bytes: &mut CutBytes,
        hand_on: &mut impl FnMut(Frame) -> Result<Frame, Stopped>,
    ) -> Result<(), S::Error> {
        let mut is_end = false;
        while self.buffer.filled().len() < HEAD_BYTES && !is_end {
            is_end = self.read(source, bytes)?;
        }
        let mut gatherer = self.begin();
        loop {
            while let Some(length) = gatherer.advance(self.buffer.filled(), is_end) {
                self.window(&gatherer, length, list, bytes, hand_on)?;
                gatherer.clear();
                self.buffer.drop_window(length);
            }
            if is_end {
                return Ok(());
            }
            is_end = self.read(source, bytes)?;
        }
    }

    /// Takes what was gathered last, full or not.
    fn take_frames(&mut self) -> Vec<Frame> {
        let chunks = self.chunks.as_mut().map(|(_, frame)| frame);
        chunks.into_iter().chain([&mut self.rows]).map(std::mem::take).collect()
    }

    /// Reads on, and tells whether the content has ended.
    fn read<S: NextBytes>(&mut self, source: &mut S, bytes: &mut CutBytes) -> Result<bool, S::Error> {
        let Filled { count, is_end } = source.next(self.buffer.room())?;
        self.buffer.note_read(count);
        bytes.read += count as u64;
        self.monitor.add(Counter::ReadBytes, count as u64);
        self.monitor.add(Counter::Bytes, count as u64);
        Ok(is_end)
    }

    /// Begins the content, now that its head was read. What was cut by another rule yesterday is nothing to it, and a compressed file
    /// of which something changed has little in common with what it was.
    fn begin(&mut self) -> WindowGatherer {
        let head = &self.buffer.filled()[..HEAD_BYTES.min(self.buffer.filled().len())];
        if self.chunks.is_some() && is_compressed(head) {
            (self.place, self.yesterday) = (None, None);
        }
        let tried = self.yesterday.as_ref().map(|yesterday| yesterday.remains().next_rule);
        let rule = rule_of(head).or(tried).unwrap_or(PieceRule::Pages(PAGE_USUAL));
        self.yesterday.take_if(|yesterday| yesterday.remains().rule != rule);
        if self.is_unusable && self.yesterday.is_none() {
            let message = "what this machine kept of the last night cannot be used, so tonight is stored whole";
            self.monitor.problem(Problem::advice(self.subject.clone(), message.to_owned()));
        }
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
        list: &mut ListBuilder,
        bytes: &mut CutBytes,
        hand_on: &mut impl FnMut(Frame) -> Result<Frame, Stopped>,
    ) -> Result<(), Stopped> {
        let id = self.writer.id(self.buffer.window(length));
        let pieces = gatherer.pieces();
        if let Some(yesterday) = &mut self.yesterday {
            self.walk.find(yesterday, pieces, &mut self.found);
            let found = pieces.iter().zip(&self.found).filter(|(_, place)| **place != NEW);
            self.found_pieces += found.count() as u64;
        }
        let by_itself = if self.writer.relies_on_plain(&id.key()) {
            Some(MadeOf::chunk(id.key(), length as u32))
        } else {
            self.by_recipe(gatherer, &id, length, bytes, hand_on)?
        };
        let is_in_chunks = by_itself.is_none() && self.chunks.is_some();
        let made_of = match by_itself {
            None if is_in_chunks => self.in_chunks(length, list, bytes, hand_on)?,
            None => self.whole(&id, length, bytes, hand_on)?,
            made_of => made_of,
        };
        if !is_in_chunks {
            list.push(ChunkRef { id, length: length as u32 }, self.writer)?;
        }
        self.is_all_known &= made_of.is_some();
        if let (Some(made_of), Some(tomorrow)) = (made_of, &mut self.tomorrow) {
            let used = self.yesterday.as_ref().map(|yesterday| &yesterday.remains().used);
            tomorrow.push(pieces, &made_of, |key| match made_of.fresh_length(key) {
                Some(length) => Some(length),
                None => used?.get(key_number(key)).map(|used| used.length),
            });
        }
        Ok(())
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
        let Some(mut woven) = Woven::of(yesterday, gatherer.pieces(), &self.found) else { return Ok(None) };
        let writer = self.writer;
        let mut stored =
            StoredChunks::new(|key| writer.relied_frame(key), |key, length| writer.relies_on_recipe(key, length));
        woven.rely(self.is_base, &mut stored);
        woven.keep_within(ROWS_FRAME_BYTES as u64, &mut stored);
        drop(stored);
        let new = woven.new_bytes() as usize;
        if new + SAVED_LEAST > length || new * 100 > length * NEW_MOST {
            return Ok(None);
        }
        // No more is renewed than is stored anyway, so that the windows of a first night are not all renewed in the same night.
        let otherwise = bytes.new.saturating_sub(self.renewed);
        let may_renew = self.renewed + length as u64 <= otherwise + WINDOW_MAX as u64;
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
                self.store_rows(&rows_id, rows, hand_on)?;
            } else if !self.writer.relies_on_plain(&rows_id.key()) {
                return Ok(None);
            }
        }
        let through: Vec<_> = made_of.through.values().flat_map(|through| through.plain.iter().copied()).collect();
        Ok(match self.writer.store_recipe(id, &recipe, &through)? {
            RecipeStored::Not => None,
            RecipeStored::AsGiven if self.is_base => Some(made_of.named_as(id.key(), recipe.encode().len() as u32)),
            RecipeStored::AsGiven => Some(made_of),
            // Tomorrow names what it would have been made of here: the recipe that is there may be too deep to be named.
            RecipeStored::Otherwise => {
                self.is_all_known = false;
                Some(made_of)
            }
        })
    }

    /// Stores new rows of a window. Their frame is longer than [`ROWS_FRAME_BYTES`] only where they are alone in it, so that the window needs no
    /// more tomorrow than was counted tonight.
    fn store_rows(
        &mut self,
        id: &ChunkId,
        rows: Vec<u8>,
        hand_on: &mut impl FnMut(Frame) -> Result<Frame, Stopped>,
    ) -> Result<(), Stopped> {
        if rows.len() >= WINDOW_MIN {
            // There is no memory for them twice.
            hand_on(Frame::of_one(id, rows))?;
            return Ok(());
        }
        if !self.rows.is_empty() && self.rows.len() + rows.len() > ROWS_FRAME_BYTES {
            hand_on(std::mem::replace(&mut self.rows, Frame::for_rows()))?;
        }
        self.rows.push(id, &rows);
        drop(rows);
        if self.rows.len() >= ROWS_FRAME_BYTES {
            hand_on(std::mem::replace(&mut self.rows, Frame::for_rows()))?;
        }
        Ok(())
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

    /// Stores a window of a file in chunks as other files have. `None` when another thread stores one of them as a recipe.
    fn in_chunks(
        &mut self,
        length: usize,
        list: &mut ListBuilder,
        bytes: &mut CutBytes,
        hand_on: &mut impl FnMut(Frame) -> Result<Frame, Stopped>,
    ) -> Result<Option<MadeOf>, Stopped> {
        let (chunker, mut frame) = self.chunks.take().expect("the content is a file's");
        let (mut made_of, mut is_plain, mut at) = (Vec::new(), true, 0);
        while let Some(count) = chunker.cut(&self.buffer.window(length)[at..], true) {
            let chunk = &self.buffer.window(length)[at..at + count];
            let id = self.writer.id(chunk);
            if self.writer.claim(&id) {
                self.note_new(count, bytes);
                frame.push(&id, chunk);
                if frame.len() >= FILE_FRAME_BYTES {
                    frame = hand_on(frame)?;
                }
            }
            is_plain &= self.writer.relies_on_plain(&id.key());
            list.push(ChunkRef { id, length: count as u32 }, self.writer)?;
            made_of.push((id.key(), count as u32));
            at += count;
        }
        self.chunks = Some((chunker, frame));
        Ok(is_plain.then(|| MadeOf::chunks(made_of)))
    }

    fn note_new(&self, length: usize, bytes: &mut CutBytes) {
        bytes.new += length as u64;
        self.monitor.add(Counter::NewBytes, length as u64);
    }
}

/// Returns how the next night of a content is to be cut where its head does not tell: otherwise than tonight where of the pieces that tonight
/// and yesterday might have in common too few were found.
fn next_rule(tonight: &Remains, yesterday: Option<&Remains>, found: u64) -> PieceRule {
    let Some(yesterday) = yesterday else { return tonight.rule };
    match (tonight.rule, found * FOUND_LEAST < tonight.pieces.min(yesterday.pieces)) {
        (rule, false) => rule,
        (PieceRule::Pages(_), true) => PieceRule::Rows,
        (PieceRule::Rows, true) => PieceRule::Pages(PAGE_USUAL),
    }
}
