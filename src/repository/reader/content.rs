//! Reading the bytes of a file or stream in order, with ranges of frames fetched and decoded ahead.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::blocking::finished;
use crate::model::entry::{FileContent, Hole};
use crate::model::outcome::{Ended, Outcome};
use crate::repository::reader::chunks::{ChunkWalk, DamagedList};
use crate::repository::reader::gather::{Found, Keep};
use crate::repository::reader::range::{GatherGroup, RANGE_BYTES, Wanted, join};
use crate::repository::reader::{ReadError, Reader};

/// The part of the memory given whose size in plaintext is planned together, 32 MiB of 256. The chunks of a dump that is
/// one in a long row of nightly ones lie scattered over the frames of many nights; each of these is fetched and decoded
/// once for all chunks in a window.
const WINDOW_SHARE: u64 = 8;
/// Windows under way: the one that is given out, and the next.
const WINDOWS: usize = 2;
/// The most that comes out of a range: a window of what compresses well is still decoded by several threads.
const RANGE_PLAIN_BYTES: u64 = 2 * RANGE_BYTES;

/// Some bytes of a content.
#[derive(Debug, Clone)]
pub enum ContentPart {
    /// Bytes that stand in a decoded frame.
    Bytes(Arc<Vec<u8>>, Range<usize>),
    /// A run of zeros: a hole of the source.
    Zeros(u64),
}

/// Why a content ends before its end.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ContentError {
    /// A chunk cannot be had.
    #[error("the bytes from {offset} on cannot be read")]
    Chunk {
        /// Offset of the first byte that is missing.
        offset: u64,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// A part of the list of chunks cannot be had.
    #[error("the bytes from {offset} on cannot be read")]
    List {
        /// Offset of the first byte that is missing.
        offset: u64,
        /// Why.
        #[source]
        source: DamagedList,
    },
    /// The chunks are other than the entry says.
    #[error("its chunks end at {offset}, where its entry says {size}")]
    Length {
        /// Where the chunks end.
        offset: u64,
        /// Where they should.
        size: u64,
    },
}

impl Ended for ContentError {
    fn outcome(&self) -> Outcome {
        match self {
            ContentError::Chunk { source, .. } => source.outcome(),
            ContentError::List { source, .. } => source.outcome(),
            ContentError::Length { .. } => Outcome::Damaged,
        }
    }
}

impl ContentError {
    /// Tells whether stored data is missing or wrong, as [`ReadError::is_damage`] does.
    pub fn is_damage(&self) -> bool {
        self.outcome() == Outcome::Damaged
    }
}

/// A decoded frame, or what was taken out of one, and which of its bytes are meant.
type FramePart = (Arc<Vec<u8>>, Range<usize>);

/// The bytes of a content in order.
pub struct ContentStream {
    reader: Arc<Reader>,
    walk: ChunkWalk,
    /// Why nothing comes after the windows under way.
    failed: Option<NotRead>,
    windows: VecDeque<Window>,
    part: Option<FramePart>,
    /// Holes of what is read.
    holes: VecDeque<Hole>,
    position: u64,
    size: u64,
    /// Where reading ends and stored bytes up to there that are not planned yet; at the end of the content, no limit, so
    /// that whatever comes too much is noticed.
    limit: u64,
    unplanned: u64,
    /// Bytes that stand in the first chunk before the first that is wanted.
    cut: u64,
    ended: bool,
}

enum NotRead {
    Chunk(ReadError),
    List(DamagedList),
}

impl ContentStream {
    /// Begins to read the bytes of `range`, as far as they are there.
    pub(super) fn new(reader: &Arc<Reader>, content: &FileContent, range: Range<u64>) -> Self {
        let end = range.end.min(content.size);
        let start = range.start.min(end);
        let stored = |offset| content.stored_before(offset);
        let holes = content.holes.iter().filter_map(|hole| {
            let (offset, hole_end) = (hole.offset.max(start), (hole.offset + hole.length).min(end));
            (offset < hole_end).then(|| Hole { offset, length: hole_end - offset })
        });
        Self {
            reader: reader.clone(),
            walk: reader.chunks_from(&content.chunks, content.stored_length(), stored(start)),
            failed: None,
            windows: VecDeque::new(),
            part: None,
            holes: holes.collect(),
            position: start,
            size: content.size,
            limit: if end < content.size { end } else { u64::MAX },
            unplanned: if end < content.size { stored(end) - stored(start) } else { u64::MAX },
            cut: 0,
            ended: false,
        }
    }

    /// Returns the next bytes, or `None` at the end; after an error nothing more comes.
    ///
    /// # Errors
    /// [`ContentError`] names the offset from which on bytes are missing; none were given out wrong.
    pub async fn next(&mut self) -> Option<Result<ContentPart, ContentError>> {
        loop {
            if self.holes.front().is_some_and(|hole| hole.offset == self.position) {
                let hole = self.holes.pop_front()?;
                self.position += hole.length;
                return Some(Ok(ContentPart::Zeros(hole.length)));
            }
            if self.ended || self.position >= self.limit {
                return None;
            }
            if let Some((frame, range)) = self.part.take() {
                return Some(Ok(self.up_to_hole(frame, range)));
            }
            self.plan_ahead().await;
            let Some(window) = self.windows.front_mut() else {
                self.ended = true;
                return self.end().map(Err);
            };
            match window.next().await {
                Some(Ok((frame, range))) => {
                    let cut = std::mem::take(&mut self.cut) as usize;
                    self.part = Some((frame, range.start + cut..range.end));
                }
                Some(Err(source)) => {
                    self.ended = true;
                    return Some(Err(ContentError::Chunk { offset: self.position, source }));
                }
                None => drop(self.windows.pop_front()),
            }
        }
    }

    /// Tells what is wrong with where the content ends, if anything.
    fn end(&mut self) -> Option<ContentError> {
        let (offset, size) = (self.position, self.size);
        match self.failed.take() {
            Some(NotRead::Chunk(source)) => Some(ContentError::Chunk { offset, source }),
            Some(NotRead::List(source)) => Some(ContentError::List { offset, source }),
            None => (offset != size).then_some(ContentError::Length { offset, size }),
        }
    }

    /// Gives out a range of a frame, only as far as the next hole or the end of what is wanted.
    fn up_to_hole(&mut self, frame: Arc<Vec<u8>>, range: Range<usize>) -> ContentPart {
        let mut now = range.clone();
        let stop = self.holes.front().map_or(self.limit, |hole| hole.offset);
        let room = usize::try_from(stop - self.position).unwrap_or(usize::MAX);
        if now.len() > room {
            now.end = now.start + room;
            self.part = Some((frame.clone(), now.end..range.end));
        }
        self.position += now.len() as u64;
        ContentPart::Bytes(frame, now)
    }

    async fn plan_ahead(&mut self) {
        while self.windows.len() < WINDOWS {
            let (mut wanted, mut bytes) = (Vec::new(), 0);
            while self.unplanned > 0
                && bytes < self.reader.memory_bytes / WINDOW_SHARE
                && let Some(next) = self.next_wanted(wanted.len()).await
            {
                bytes += u64::from(next.chunk.length);
                wanted.push(next);
            }
            if wanted.is_empty() {
                return;
            }
            self.windows.push_back(Window::start(wanted, &self.reader));
        }
    }

    async fn next_wanted(&mut self, by: usize) -> Option<Wanted<usize>> {
        if self.failed.is_some() {
            return None;
        }
        match self.walk.next().await? {
            Ok(chunk) => match self.reader.locate(&chunk).await {
                Ok(location) => {
                    let cut = self.walk.take_cut();
                    self.cut += cut;
                    self.unplanned = self.unplanned.saturating_sub(u64::from(chunk.length) - cut);
                    return Some(Wanted { chunk, location, by });
                }
                Err(error) => self.failed = Some(NotRead::Chunk(error)),
            },
            Err(damaged) => self.failed = Some(NotRead::List(damaged)),
        }
        None
    }
}

/// A window whose chunks are on their way.
struct Window {
    /// For each chunk, in order, which range it comes with.
    order: VecDeque<usize>,
    ranges: Vec<RangeOnItsWay>,
}

/// What is wanted of a range.
enum RangeOnItsWay {
    Task(JoinHandle<VecDeque<Result<FramePart, ReadError>>>),
    /// What is left of its chunks, in the window's order.
    There(VecDeque<Result<FramePart, ReadError>>),
}

impl Drop for RangeOnItsWay {
    fn drop(&mut self) {
        if let RangeOnItsWay::Task(task) = self {
            task.abort();
        }
    }
}

impl Window {
    /// Starts fetching what is wanted, each by its number in the window; the ranges that are needed first come first.
    fn start(wanted: Vec<Wanted<usize>>, reader: &Arc<Reader>) -> Self {
        let mut order = vec![0; wanted.len()];
        let mut ranges = join(wanted, RANGE_PLAIN_BYTES, reader.group_bytes());
        ranges.sort_by_cached_key(|batch| batch.wanted().map(|wanted| wanted.by).min());
        for (number, batch) in ranges.iter().enumerate() {
            batch.wanted().for_each(|wanted| order[wanted.by] = number);
        }
        let start = |batch| RangeOnItsWay::Task(tokio::spawn(read(reader.clone(), batch)));
        Self { order: order.into(), ranges: ranges.into_iter().map(start).collect() }
    }

    /// Returns the next chunk, joined with those behind it that stand beside it in its frame; `None` at the end.
    async fn next(&mut self) -> Option<Result<FramePart, ReadError>> {
        let number = self.order.pop_front()?;
        if let RangeOnItsWay::Task(task) = &mut self.ranges[number] {
            let there = finished(task).await;
            self.ranges[number] = RangeOnItsWay::There(there);
        }
        let RangeOnItsWay::There(parts) = &mut self.ranges[number] else { unreachable!("awaited above") };
        let (bytes, mut range) = match parts.pop_front().expect("an answer for each chunk wanted") {
            Ok(part) => part,
            Err(error) => return Some(Err(error)),
        };
        while self.order.front() == Some(&number)
            && let Some(Ok((next, more))) = parts.front()
            && Arc::ptr_eq(next, &bytes)
            && more.start == range.end
        {
            range.end = more.end;
            parts.pop_front();
            self.order.pop_front();
        }
        Some(Ok((bytes, range)))
    }
}

/// Gathers what is wanted of a range or group, in the window's order.
async fn read(reader: Arc<Reader>, batch: GatherGroup<usize>) -> VecDeque<Result<FramePart, ReadError>> {
    let mut gathering = reader.gather(batch, Keep::Frames).await;
    let mut answers = Vec::new();
    while let Some(found) = gathering.next().await {
        match found {
            Found::Chunks(frame, chunks) => answers.extend(without_rest(frame, chunks)),
            Found::Lost(wanted, error) => answers.push((wanted.by, Err(error))),
        }
    }
    answers.sort_unstable_by_key(|(by, _)| *by);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// Moves chunks out of a frame of which little else is wanted, so that it is not kept for them.
fn without_rest(
    frame: Arc<Vec<u8>>,
    chunks: Vec<(usize, Range<usize>)>,
) -> impl Iterator<Item = (usize, Result<FramePart, ReadError>)> {
    let bytes: usize = chunks.iter().map(|(_, range)| range.len()).sum();
    let is_little = bytes * 2 < frame.len();
    let mut taken = Vec::with_capacity(if is_little { bytes } else { 0 });
    let mut ranges = Vec::with_capacity(chunks.len());
    for (by, range) in chunks {
        let start = taken.len();
        if is_little {
            taken.extend_from_slice(&frame[range.clone()]);
        }
        ranges.push((by, if is_little { start..taken.len() } else { range }));
    }
    let bytes = if is_little { Arc::new(taken) } else { frame };
    ranges.into_iter().map(move |(by, range)| (by, Ok((bytes.clone(), range))))
}
