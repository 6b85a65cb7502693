//! The one way from chunks that are wanted to bytes that are checked: neighbouring frames are joined into ranges, ranges
//! fetched, frames opened, chunks compared with their ids, windows put together by their recipes, and what cannot be had so is
//! looked for at the next replica, then in every other place.
//!
//! Every chunk that is wanted is answered once: with its bytes, or with why nobody has them. Where the store is out of reach
//! that is the answer to all that is left, and nothing more is asked.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use crate::blocking::blocking;
use crate::model::entry::ChunkRef;
use crate::repository::index::table::ChunkPlace;
use crate::repository::reader::coming::{Came, Coming};
use crate::repository::reader::range::{GatherGroup, RANGE_BYTES, Wanted};
use crate::repository::reader::windows::WindowAt;
use crate::repository::reader::{ReadError, Reader};

pub use crate::repository::reader::coming::Keep;

/// Memory given for each range on its way: a range of 4 MiB, and as much decoded, in a quarter of what is given.
const RANGE_SHARE: u64 = 4 * 2 * RANGE_BYTES;
/// Ranges on their way, at most.
const RANGES_MAX: usize = 16;

/// The answer to chunks that were wanted.
#[derive(Debug)]
pub enum Found<T> {
    /// Bytes that were compared with the chunks' ids, and where in them each chunk stands.
    Chunks(Arc<Vec<u8>>, Vec<(T, Range<usize>)>),
    /// A chunk that cannot be had. [`ReadError::is_damage`] tells whether it is lost or only out of reach.
    Lost(Wanted<T>, ReadError),
}

/// Chunks of one range or windows of one group on their way.
pub struct Gathering<T> {
    reader: Arc<Reader>,
    found: VecDeque<Found<T>>,
    frames: Coming<Wanted<T>>,
    range: Option<OwnedSemaphorePermit>,
    /// Windows that are to be put together, and the right to keep a group of them.
    windows: Vec<Wanted<T>>,
    group: Option<OwnedSemaphorePermit>,
    /// What is not where it should be, and is looked for in every place.
    elsewhere: VecDeque<Wanted<T>>,
    /// Why nothing more is asked.
    unreachable: Option<ReadError>,
}

impl Reader {
    /// Returns how many ranges may be on their way at the same time, each with 4 MiB fetched and as much decoded.
    pub fn ranges_in_flight(&self) -> usize {
        ranges_in(self.memory_bytes)
    }

    /// Waits until another range may be on its way. Whoever waits has claimed no frame yet, so those who have come to their end.
    pub(super) async fn range_permit(&self) -> OwnedSemaphorePermit {
        self.ranges.clone().acquire_owned().await.expect("never closed")
    }

    /// Tells where a chunk lies, or its recipe. Before it is said that the index does not know, the index is made anew.
    ///
    /// # Errors
    /// [`ReadError::Unknown`], [`ReadError::OtherLength`] when the index knows it with other lengths alone, and
    /// [`ReadError::Index`].
    pub async fn locate(&self, chunk: &ChunkRef) -> Result<ChunkPlace, ReadError> {
        match self.locate_as_indexed(chunk) {
            Err(_) if self.made_anew().await? => self.locate_as_indexed(chunk),
            found => found,
        }
    }

    fn locate_as_indexed(&self, chunk: &ChunkRef) -> Result<ChunkPlace, ReadError> {
        let location = self.index.locate(&chunk.id).ok_or_else(|| ReadError::Unknown { id: chunk.id.key() })?;
        if location.may_be_of(chunk.length) {
            return Ok(location);
        }
        let right = self.index.locate_all(&chunk.id).into_iter().find(|location| location.may_be_of(chunk.length));
        right.ok_or_else(|| ReadError::OtherLength { id: chunk.id.key() })
    }

    /// Begins to gather what is wanted, when there is room for another range; nothing is asked before [`Gathering::next`] is.
    ///
    /// With [`Keep::Frames`], frames that are there already are not fetched again, nor are those that another one is
    /// fetching. Frames from which windows are put together are always kept.
    pub async fn gather<T: Send + 'static>(self: &Arc<Self>, batch: GatherGroup<T>, keep: Keep) -> Gathering<T> {
        let (range, frames, windows) = match batch {
            GatherGroup::Range(range) => (Some(self.range_permit().await), self.coming(range, keep), Vec::new()),
            GatherGroup::Windows(windows) => (None, Coming::nothing(self), windows),
        };
        Gathering {
            reader: self.clone(),
            found: VecDeque::new(),
            frames,
            range,
            windows,
            group: None,
            elsewhere: VecDeque::new(),
            unreachable: None,
        }
    }

    /// Returns a chunk from whichever place has it.
    async fn from_anywhere(self: &Arc<Self>, chunk: &ChunkRef) -> Result<Vec<u8>, ReadError> {
        let bytes = self.chunk(&chunk.id).await?;
        if bytes.len() == chunk.length as usize {
            Ok(bytes)
        } else {
            Err(ReadError::OtherLength { id: chunk.id.key() })
        }
    }
}

/// Returns how many ranges are on their way in so much memory.
pub(super) fn ranges_in(memory_bytes: u64) -> usize {
    usize::try_from(memory_bytes / RANGE_SHARE).unwrap_or(RANGES_MAX).clamp(2, RANGES_MAX)
}

impl<T: Send + 'static> Gathering<T> {
    /// Returns the next answer, or `None` when everything was answered. A frame is decoded only when its turn comes.
    pub async fn next(&mut self) -> Option<Found<T>> {
        loop {
            if let Some(found) = self.found.pop_front() {
                return Some(found);
            }
            self.group = None;
            let came = self.frames.next().await;
            if came.is_none() {
                self.range = None;
            }
            match (came, &self.unreachable) {
                (Some(came), _) => self.take(came).await,
                (None, Some(error)) => {
                    let left = self.windows.drain(..).chain(self.elsewhere.drain(..));
                    self.found.extend(left.map(|wanted| Found::Lost(wanted, error.clone())));
                    return self.found.pop_front();
                }
                (None, None) if !self.windows.is_empty() => self.put_together().await,
                (None, None) => {
                    let wanted = self.elsewhere.pop_front()?;
                    return Some(self.look_elsewhere(wanted).await);
                }
            }
        }
    }

    async fn take(&mut self, came: Came<Wanted<T>>) {
        match came {
            Came::Frame(frame, wanted) => self.check(frame, wanted).await,
            Came::Lost(error, wanted) if error.is_damage() => self.elsewhere.extend(wanted),
            Came::Lost(error, wanted) => {
                self.found.extend(wanted.into_iter().map(|wanted| Found::Lost(wanted, error.clone())));
                self.unreachable = Some(error);
            }
        }
    }

    /// Compares what is wanted of a frame with its ids.
    async fn check(&mut self, frame: Arc<Vec<u8>>, wanted: Vec<Wanted<T>>) {
        let reader = self.reader.clone();
        let (found, wrong) = blocking(move || {
            let (mut right, mut wrong) = (Vec::with_capacity(wanted.len()), Vec::new());
            let records = wanted.first().map(|wanted| reader.index.pack(wanted.location.pack)).unwrap_or_default();
            for wanted in wanted {
                match reader.place(&records, &wanted.location, &wanted.chunk.id, &frame) {
                    Ok(place) => right.push((wanted.by, place)),
                    Err(_) => wrong.push(wanted),
                }
            }
            (Found::Chunks(frame, right), wrong)
        })
        .await;
        if !matches!(&found, Found::Chunks(_, right) if right.is_empty()) {
            self.found.push_back(found);
        }
        self.elsewhere.extend(wrong);
    }

    /// Puts the windows together. Another group can take their place in memory when all of them were given out.
    async fn put_together(&mut self) {
        self.group = Some(self.reader.windows.group().await);
        let windows = std::mem::take(&mut self.windows);
        let places: Vec<_> = windows.iter().map(|wanted| WindowAt::of(wanted.chunk, wanted.location)).collect();
        for (wanted, answer) in windows.into_iter().zip(self.reader.windows_at(&places).await) {
            match answer {
                Ok(window) => {
                    let all = 0..window.len();
                    self.found.push_back(Found::Chunks(Arc::new(window), vec![(wanted.by, all)]));
                }
                Err(error) if error.is_damage() => self.elsewhere.push_back(wanted),
                Err(error) => {
                    self.found.push_back(Found::Lost(wanted, error.clone()));
                    self.unreachable = Some(error);
                }
            }
        }
    }

    async fn look_elsewhere(&mut self, wanted: Wanted<T>) -> Found<T> {
        match self.reader.from_anywhere(&wanted.chunk).await {
            Ok(chunk) => {
                let all = 0..chunk.len();
                Found::Chunks(Arc::new(chunk), vec![(wanted.by, all)])
            }
            Err(error) => {
                if !error.is_damage() {
                    self.unreachable = Some(error.clone());
                }
                Found::Lost(wanted, error)
            }
        }
    }
}
