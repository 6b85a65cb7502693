//! Reading the bytes of a file or stream in order, with frames fetched and decoded ahead.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::blocking::{blocking, finished};
use crate::model::entry::{ChunkRef, FileContent, Hole};
use crate::model::id::PackId;
use crate::model::outcome::{Ended, Outcome};
use crate::repository::index::table::Location;
use crate::repository::reader::chunks::{ChunkWalk, DamagedList};
use crate::repository::reader::{ReadError, Reader};

/// The part of the memory given whose size in plaintext is planned together, 32 MiB of 256. The chunks of a dump that is
/// one in a long row of nightly ones lie scattered over the frames of many nights; each of these is fetched and decoded
/// once for all chunks in a window.
const WINDOW_SHARE: u64 = 8;
/// Windows under way: the one that is given out, and the next.
const WINDOWS: usize = 2;
/// Memory given for each frame that is being fetched and decoded: such a frame needs up to 4 MiB.
const FRAME_SHARE: u64 = 16 << 20;
/// Frames being fetched and decoded at the same time, at most.
const FRAMES_MAX: usize = 16;

/// Some bytes of a content.
#[derive(Debug, Clone)]
pub enum Part {
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
    failed: Option<Failure>,
    windows: VecDeque<Window>,
    permits: Arc<Semaphore>,
    part: Option<FramePart>,
    holes: VecDeque<Hole>,
    position: u64,
    size: u64,
    ended: bool,
}

enum Failure {
    Chunk(ReadError),
    List(DamagedList),
}

impl Reader {
    /// Reads a content from its beginning to its end.
    ///
    /// A quarter of the reader's memory is decoded ahead; every chunk is checked against its id before it is given out.
    pub fn content(self: &Arc<Self>, content: &FileContent) -> ContentStream {
        let in_flight = usize::try_from(self.memory_bytes / FRAME_SHARE).unwrap_or(FRAMES_MAX).clamp(2, FRAMES_MAX);
        ContentStream {
            reader: self.clone(),
            walk: self.chunks(&content.chunks, content.stored_length()),
            failed: None,
            windows: VecDeque::new(),
            permits: Arc::new(Semaphore::new(in_flight)),
            part: None,
            holes: content.holes.iter().copied().collect(),
            position: 0,
            size: content.size,
            ended: false,
        }
    }
}

impl ContentStream {
    /// Returns the next bytes, or `None` at the end; after an error nothing more comes.
    ///
    /// # Errors
    /// [`ContentError`] names the offset from which on bytes are missing; none were given out wrong.
    pub async fn next(&mut self) -> Option<Result<Part, ContentError>> {
        loop {
            if self.holes.front().is_some_and(|hole| hole.offset == self.position) {
                let hole = self.holes.pop_front()?;
                self.position += hole.length;
                return Some(Ok(Part::Zeros(hole.length)));
            }
            if let Some((frame, range)) = self.part.take() {
                return Some(Ok(self.up_to_hole(frame, range)));
            }
            if self.ended {
                return None;
            }
            self.plan_ahead().await;
            let Some(window) = self.windows.front_mut() else {
                self.ended = true;
                return self.end().map(Err);
            };
            match window.next().await {
                Some(Ok(part)) => self.part = Some(part),
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
            Some(Failure::Chunk(source)) => Some(ContentError::Chunk { offset, source }),
            Some(Failure::List(source)) => Some(ContentError::List { offset, source }),
            None => (offset != size).then_some(ContentError::Length { offset, size }),
        }
    }

    /// Gives out a range of a frame, only as far as the next hole.
    fn up_to_hole(&mut self, frame: Arc<Vec<u8>>, range: Range<usize>) -> Part {
        let mut now = range.clone();
        if let Some(hole) = self.holes.front() {
            let room = usize::try_from(hole.offset - self.position).unwrap_or(usize::MAX);
            if now.len() > room {
                now.end = now.start + room;
                self.part = Some((frame.clone(), now.end..range.end));
            }
        }
        self.position += now.len() as u64;
        Part::Bytes(frame, now)
    }

    async fn plan_ahead(&mut self) {
        while self.windows.len() < WINDOWS {
            let (mut plan, mut bytes) = (Plan::default(), 0);
            while bytes < self.reader.memory_bytes / WINDOW_SHARE
                && let Some((chunk, location)) = self.next_chunk().await
            {
                bytes += u64::from(chunk.length);
                plan.push(chunk, location);
            }
            if bytes == 0 {
                return;
            }
            self.windows.push_back(plan.start(&self.reader, &self.permits));
        }
    }

    async fn next_chunk(&mut self) -> Option<(ChunkRef, Location)> {
        if self.failed.is_some() {
            return None;
        }
        match self.walk.next().await? {
            Ok(chunk) => match self.reader.index().locate(&chunk.id) {
                Some(location) => return Some((chunk, location)),
                None => self.failed = Some(Failure::Chunk(ReadError::Unknown { id: chunk.id.short() })),
            },
            Err(damaged) => self.failed = Some(Failure::List(damaged)),
        }
        None
    }
}

/// Which chunks of a window are wanted of which frame.
#[derive(Default)]
struct Plan {
    /// For each chunk, in order, the number of its frame.
    order: VecDeque<usize>,
    frames: Vec<Vec<(ChunkRef, Location)>>,
    numbers: HashMap<(PackId, u32), usize>,
}

impl Plan {
    fn push(&mut self, chunk: ChunkRef, location: Location) {
        let number = *self.numbers.entry((location.pack, location.frame)).or_insert(self.frames.len());
        if number == self.frames.len() {
            self.frames.push(Vec::new());
        }
        self.frames[number].push((chunk, location));
        self.order.push_back(number);
    }

    /// Starts fetching the frames, those that are wanted first coming first.
    fn start(self, reader: &Arc<Reader>, permits: &Arc<Semaphore>) -> Window {
        let start = |wanted| Frame::Coming(tokio::spawn(read(reader.clone(), permits.clone(), wanted)));
        Window { order: self.order, frames: self.frames.into_iter().map(start).collect() }
    }
}

/// A window whose frames are on their way.
struct Window {
    order: VecDeque<usize>,
    frames: Vec<Frame>,
}

enum Frame {
    Coming(JoinHandle<VecDeque<Result<FramePart, ReadError>>>),
    /// What is left of the chunks wanted of it, in order.
    There(VecDeque<Result<FramePart, ReadError>>),
}

impl Drop for Frame {
    fn drop(&mut self) {
        if let Frame::Coming(task) = self {
            task.abort();
        }
    }
}

impl Window {
    /// Returns the next chunk, joined with those behind it that stand beside it in its frame; `None` at the end.
    async fn next(&mut self) -> Option<Result<FramePart, ReadError>> {
        let number = self.order.pop_front()?;
        if let Frame::Coming(task) = &mut self.frames[number] {
            let there = finished(task).await;
            self.frames[number] = Frame::There(there);
        }
        let Frame::There(parts) = &mut self.frames[number] else { unreachable!("awaited above") };
        let (bytes, mut range) = match parts.pop_front().expect("a part for each chunk planned") {
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

/// Fetches one frame and takes the wanted chunks out of it; one that is not there is looked for by itself, in every pack
/// that holds it. Where the frame is out of reach, so is the rest: nothing more is asked.
async fn read(
    reader: Arc<Reader>,
    permits: Arc<Semaphore>,
    wanted: Vec<(ChunkRef, Location)>,
) -> VecDeque<Result<FramePart, ReadError>> {
    let _permit = permits.acquire().await.expect("never closed");
    let parts = match reader.frame(&wanted[0].1).await {
        Ok(frame) => {
            let (reader, wanted) = (reader.clone(), wanted.clone());
            blocking(move || take(&reader, frame, &wanted)).await
        }
        Err(error) if !error.is_damage() => return wanted.iter().map(|_| Err(error.clone())).collect(),
        Err(_) => vec![None; wanted.len()],
    };
    let mut answers = VecDeque::with_capacity(parts.len());
    for (part, (chunk, location)) in parts.into_iter().zip(wanted) {
        answers.push_back(match part {
            Some(part) => Ok(part),
            None => reader.chunk(&chunk.id).await.and_then(|bytes| match bytes.len() {
                length if length == chunk.length as usize => Ok((Arc::new(bytes), 0..length)),
                _ => Err(ReadError::WrongChunk { pack: location.pack, frame: location.frame, id: chunk.id.short() }),
            }),
        });
    }
    answers
}

/// Checks the wanted chunks of a frame; `None` stands for one that is not there. A frame of which little is wanted is not
/// kept for it.
fn take(reader: &Reader, frame: Arc<Vec<u8>>, wanted: &[(ChunkRef, Location)]) -> Vec<Option<FramePart>> {
    let right = |(chunk, location): &(ChunkRef, Location)| {
        let bytes = reader.verified(location, &chunk.id, &frame).ok()?;
        (bytes.len() == chunk.length as usize).then(|| location.offset as usize..location.offset as usize + bytes.len())
    };
    let ranges: Vec<Option<Range<usize>>> = wanted.iter().map(right).collect();
    let bytes: usize = ranges.iter().flatten().map(Range::len).sum();
    if bytes * 2 >= frame.len() {
        return ranges.into_iter().map(|range| range.map(|range| (frame.clone(), range))).collect();
    }
    let mut taken = Vec::with_capacity(bytes);
    let moved: Vec<Option<Range<usize>>> = ranges
        .into_iter()
        .map(|range| {
            let start = taken.len();
            range.map(|range| {
                taken.extend_from_slice(&frame[range]);
                start..taken.len()
            })
        })
        .collect();
    let taken = Arc::new(taken);
    moved.into_iter().map(|range| range.map(|range| (taken.clone(), range))).collect()
}
