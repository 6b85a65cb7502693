//! Reading the bytes of a file or stream in order, with frames fetched and decoded ahead.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use futures::stream::{FuturesOrdered, StreamExt};
use tokio::task::JoinHandle;

use crate::model::entry::{ChunkRef, FileContent, Hole};
use crate::repository::index::table::Location;
use crate::repository::reader::chunks::{ChunkWalk, DamagedList};
use crate::repository::reader::{ReadError, Reader};

/// Plaintext being fetched and decoded ahead of the consumer.
const AHEAD_BYTES: u64 = 32 << 20;
/// Runs of chunks being read ahead, however small they are.
const AHEAD_RUNS: usize = 64;

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

/// Consecutive chunks in one frame.
struct Run {
    location: Location,
    chunks: Vec<(ChunkRef, Location)>,
    bytes: u64,
}

type Decoded = Result<(Arc<Vec<u8>>, Vec<Range<usize>>), ReadError>;

/// The bytes of a content in order.
pub struct ContentStream {
    reader: Arc<Reader>,
    walk: ChunkWalk,
    /// The chunk after the last run, when the walk is ahead of it.
    next: Option<(ChunkRef, Location)>,
    /// Why nothing comes after the runs under way.
    failed: Option<Failure>,
    under_way: FuturesOrdered<JoinHandle<(u64, Decoded)>>,
    under_way_bytes: u64,
    parts: VecDeque<(Arc<Vec<u8>>, Range<usize>)>,
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
            next: None,
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
                        Ok((frame, ranges)) => {
                            self.parts.extend(ranges.into_iter().map(|range| (frame.clone(), range)));
                        }
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
        while self.under_way_bytes < AHEAD_BYTES && self.under_way.len() < AHEAD_RUNS {
            let Some(run) = self.next_run().await else { return };
            self.under_way_bytes += run.bytes;
            let reader = self.reader.clone();
            self.under_way.push_back(tokio::spawn(async move { (run.bytes, decode(reader, run).await) }));
        }
    }

    async fn next_run(&mut self) -> Option<Run> {
        let first = match self.next.take() {
            Some(first) => first,
            None => self.next_chunk().await?,
        };
        let mut run = Run { location: first.1, bytes: u64::from(first.0.length), chunks: vec![first] };
        while let Some(next) = self.next_chunk().await {
            if (next.1.pack, next.1.frame) != (run.location.pack, run.location.frame) || run.bytes >= AHEAD_BYTES / 8 {
                self.next = Some(next);
                break;
            }
            run.bytes += u64::from(next.0.length);
            run.chunks.push(next);
        }
        Some(run)
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

/// Fetches a run's frame and checks its chunks; what fails is looked for in other packs.
async fn decode(reader: Arc<Reader>, run: Run) -> Decoded {
    if let Ok(frame) = reader.frame(&run.location).await {
        let (checker, frame_again) = (reader.clone(), frame.clone());
        let chunks = run.chunks.clone();
        let ranges = tokio::task::spawn_blocking(move || check(&checker, &frame_again, &chunks)).await;
        if let Some(ranges) = ranges.expect("checking does not panic") {
            return Ok((frame, ranges));
        }
    }
    let mut bytes = Vec::new();
    for (chunk, _) in &run.chunks {
        bytes.extend(reader.chunk(&chunk.id).await?);
    }
    let whole = 0..bytes.len();
    Ok((Arc::new(bytes), vec![whole]))
}

/// Returns where the chunks stand in the frame, neighbours joined, or `None` when one is not there.
fn check(reader: &Reader, frame: &[u8], chunks: &[(ChunkRef, Location)]) -> Option<Vec<Range<usize>>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for (chunk, location) in chunks {
        let bytes = reader.verified(location, &chunk.id, frame).ok()?;
        if bytes.len() != chunk.length as usize {
            return None;
        }
        let start = location.offset as usize;
        match ranges.last_mut() {
            Some(last) if last.end == start => last.end += bytes.len(),
            _ => ranges.push(start..start + bytes.len()),
        }
    }
    Some(ranges)
}
