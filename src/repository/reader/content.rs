//! Reading the bytes of a file or stream in order, with frames fetched and decoded ahead.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use futures::future::try_join_all;
use futures::stream::{FuturesOrdered, StreamExt};
use tokio::task::JoinHandle;

use crate::model::entry::{ChunkRef, FileContent, Hole};
use crate::model::id::PackId;
use crate::repository::index::table::Location;
use crate::repository::reader::chunks::{ChunkWalk, DamagedList};
use crate::repository::reader::{ReadError, Reader};

/// Plaintext being fetched and decoded ahead of the consumer.
const AHEAD_BYTES: u64 = 32 << 20;
/// Plaintext that is read, checked and given out together. Chunks of successive dumps lie scattered over many frames:
/// a task for each frame visited would cost more than the decoding.
const SEGMENT_BYTES: u64 = 2 << 20;
/// Segments being read ahead, however small their chunks are.
const AHEAD_SEGMENTS: usize = 32;

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
}

/// Consecutive chunks that are read together.
#[derive(Default)]
struct Segment {
    chunks: Vec<(ChunkRef, Location)>,
    bytes: u64,
}

/// A decoded frame, and which of its bytes are meant.
type FramePart = (Arc<Vec<u8>>, Range<usize>);
/// Bytes of decoded frames, in order.
type Decoded = Result<Vec<FramePart>, ReadError>;

/// The bytes of a content in order.
pub struct ContentStream {
    reader: Arc<Reader>,
    walk: ChunkWalk,
    /// Why nothing comes after the segments under way.
    failed: Option<Failure>,
    under_way: FuturesOrdered<JoinHandle<(u64, Decoded)>>,
    under_way_bytes: u64,
    parts: VecDeque<FramePart>,
    holes: VecDeque<Hole>,
    position: u64,
    ended: bool,
}

enum Failure {
    Chunk(ReadError),
    List(DamagedList),
}

impl Reader {
    /// Reads a content from its beginning to its end.
    ///
    /// About 32 MiB of it are decoded ahead; every chunk is checked against its id before it is given out.
    pub fn content(self: &Arc<Self>, content: &FileContent) -> ContentStream {
        ContentStream {
            reader: self.clone(),
            walk: self.chunks(&content.chunks, content.stored_length()),
            failed: None,
            under_way: FuturesOrdered::new(),
            under_way_bytes: 0,
            parts: VecDeque::new(),
            holes: content.holes.iter().copied().collect(),
            position: 0,
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
            if let Some((frame, range)) = self.parts.pop_front() {
                return Some(Ok(self.up_to_hole(frame, range)));
            }
            if self.ended {
                return None;
            }
            self.read_ahead().await;
            match self.under_way.next().await {
                Some(done) => {
                    let (bytes, decoded) = done.expect("decoding does not panic");
                    self.under_way_bytes -= bytes;
                    match decoded {
                        Ok(parts) => self.parts.extend(parts),
                        Err(source) => {
                            self.ended = true;
                            return Some(Err(ContentError::Chunk { offset: self.position, source }));
                        }
                    }
                }
                None => {
                    self.ended = true;
                    let offset = self.position;
                    match self.failed.take() {
                        Some(Failure::Chunk(source)) => return Some(Err(ContentError::Chunk { offset, source })),
                        Some(Failure::List(source)) => return Some(Err(ContentError::List { offset, source })),
                        // A hole may end the file.
                        None if self.holes.is_empty() => return None,
                        None => {}
                    }
                }
            }
        }
    }

    /// Gives out a range of a frame, only as far as the next hole.
    fn up_to_hole(&mut self, frame: Arc<Vec<u8>>, range: Range<usize>) -> Part {
        let mut now = range.clone();
        if let Some(hole) = self.holes.front() {
            let room = usize::try_from(hole.offset - self.position).unwrap_or(usize::MAX);
            if now.len() > room {
                now.end = now.start + room;
                self.parts.push_front((frame.clone(), now.end..range.end));
            }
        }
        self.position += now.len() as u64;
        Part::Bytes(frame, now)
    }

    async fn read_ahead(&mut self) {
        while self.under_way_bytes < AHEAD_BYTES && self.under_way.len() < AHEAD_SEGMENTS {
            let mut segment = Segment::default();
            while segment.bytes < SEGMENT_BYTES
                && let Some(next) = self.next_chunk().await
            {
                segment.bytes += u64::from(next.0.length);
                segment.chunks.push(next);
            }
            if segment.chunks.is_empty() {
                return;
            }
            self.under_way_bytes += segment.bytes;
            let (reader, bytes) = (self.reader.clone(), segment.bytes);
            self.under_way.push_back(tokio::spawn(async move { (bytes, decode(reader, segment).await) }));
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

/// Fetches the frames of a segment and checks its chunks; when anything fails, each chunk is looked for by itself, in
/// every pack that holds it.
async fn decode(reader: Arc<Reader>, segment: Segment) -> Decoded {
    let places: BTreeMap<(PackId, u32), Location> =
        segment.chunks.iter().map(|(_, location)| ((location.pack, location.frame), *location)).collect();
    let frames = try_join_all(places.into_iter().map(async |(place, location)| {
        let frame = reader.frame(&location).await?;
        Ok::<_, ReadError>((place, frame))
    }));
    if let Ok(frames) = frames.await {
        let (checker, chunks) = (reader.clone(), segment.chunks.clone());
        let checked =
            tokio::task::spawn_blocking(move || check(&checker, &frames.into_iter().collect(), &chunks)).await;
        if let Some(parts) = checked.expect("checking does not panic") {
            return Ok(parts);
        }
    }
    let mut parts = Vec::with_capacity(segment.chunks.len());
    for (chunk, _) in &segment.chunks {
        let bytes = reader.chunk(&chunk.id).await?;
        let whole = 0..bytes.len();
        parts.push((Arc::new(bytes), whole));
    }
    Ok(parts)
}

/// Returns where the chunks stand in the frames, neighbours joined, or `None` when one is not there.
fn check(
    reader: &Reader,
    frames: &BTreeMap<(PackId, u32), Arc<Vec<u8>>>,
    chunks: &[(ChunkRef, Location)],
) -> Option<Vec<FramePart>> {
    let mut parts: Vec<FramePart> = Vec::new();
    for (chunk, location) in chunks {
        let frame = frames.get(&(location.pack, location.frame))?;
        let bytes = reader.verified(location, &chunk.id, frame).ok()?;
        if bytes.len() != chunk.length as usize {
            return None;
        }
        let start = location.offset as usize;
        match parts.last_mut() {
            Some((last, range)) if Arc::ptr_eq(last, frame) && range.end == start => range.end += bytes.len(),
            _ => parts.push((frame.clone(), start..start + bytes.len())),
        }
    }
    Some(parts)
}
