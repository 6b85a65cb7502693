//! The one way from chunks that are wanted to bytes that are checked: neighbouring frames are joined into ranges, ranges
//! fetched, frames opened, chunks compared with their ids, and what cannot be had so is looked for at the next replica, then
//! in every other pack.
//!
//! Every chunk that is wanted is answered once: with its bytes, or with why nobody has them. Where the store is out of reach
//! that is the answer to all that is left, and nothing more is asked.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::blocking::blocking;
use crate::model::entry::ChunkRef;
use crate::repository::index::table::Location;
use crate::repository::reader::fetch::{FrameAsIndexed, FromReplica};
use crate::repository::reader::frame::{Claimed, FrameCell, FrameClaim};
use crate::repository::reader::{ReadError, Reader};

/// The most bytes of neighbouring frames fetched at once.
pub const RANGE_BYTES: u64 = 4 << 20;
/// Bytes between two frames that are fetched and thrown away rather than asked for separately.
const GAP_BYTES: u64 = 64 << 10;
/// Memory given for each range on its way: a range of 4 MiB, and as much decoded, in a quarter of what is given.
const RANGE_SHARE: u64 = 4 * 2 * RANGE_BYTES;
/// Ranges on their way, at most.
const RANGES_MAX: usize = 16;

/// A chunk that is wanted, where it lies, and what for.
#[derive(Debug, Clone)]
pub struct Wanted<T> {
    /// The chunk.
    pub chunk: ChunkRef,
    /// A place where it lies, as [`Reader::locate`] tells.
    pub location: Location,
    /// What the answer is given back with.
    pub by: T,
}

/// Neighbouring frames of one pack, with what is wanted from each: what one request fetches.
#[derive(Debug)]
pub struct JoinedRange<T> {
    start: u64,
    end: u64,
    plain_bytes: u64,
    frames: Vec<Vec<Wanted<T>>>,
}

impl<T> JoinedRange<T> {
    fn of(frame: Vec<Wanted<T>>) -> Self {
        let location = frame[0].location;
        let start = u64::from(location.frame_offset);
        let end = start + u64::from(location.sealed_len);
        Self { start, end, plain_bytes: u64::from(location.plain_len), frames: vec![frame] }
    }

    fn location(&self) -> Location {
        self.frames[0][0].location
    }

    /// Returns what is wanted of it.
    pub fn wanted(&self) -> impl Iterator<Item = &Wanted<T>> {
        self.frames.iter().flatten()
    }

    /// Returns what is wanted of it.
    pub fn into_wanted(self) -> impl Iterator<Item = Wanted<T>> {
        self.frames.into_iter().flatten()
    }
}

/// Sorts what is wanted by pack and frame, and joins frames that stand close together, as long as no more than
/// `plain_bytes` come out of them. What is wanted of a frame stays in the order given.
pub fn join<T>(mut wanted: Vec<Wanted<T>>, plain_bytes: u64) -> Vec<JoinedRange<T>> {
    wanted.sort_by_key(|wanted| (wanted.location.pack, wanted.location.frame_offset));
    let mut frames: Vec<Vec<Wanted<T>>> = Vec::new();
    for wanted in wanted {
        match frames.last_mut() {
            Some(frame) if is_same_frame(&frame[0].location, &wanted.location) => frame.push(wanted),
            _ => frames.push(vec![wanted]),
        }
    }
    join_frames(frames, plain_bytes)
}

fn is_same_frame(one: &Location, other: &Location) -> bool {
    (one.pack, one.frame, one.frame_offset) == (other.pack, other.frame, other.frame_offset)
}

fn join_frames<T>(frames: Vec<Vec<Wanted<T>>>, plain_bytes: u64) -> Vec<JoinedRange<T>> {
    let mut ranges: Vec<JoinedRange<T>> = Vec::new();
    for frame in frames {
        let next = JoinedRange::of(frame);
        match ranges.last_mut() {
            Some(range)
                if range.location().pack == next.location().pack
                    && next.start <= range.end + GAP_BYTES
                    && next.end - range.start <= RANGE_BYTES
                    && range.plain_bytes + next.plain_bytes <= plain_bytes =>
            {
                range.end = next.end;
                range.plain_bytes += next.plain_bytes;
                range.frames.extend(next.frames);
            }
            _ => ranges.push(next),
        }
    }
    ranges
}

/// The answer to chunks that were wanted.
#[derive(Debug)]
pub enum Found<T> {
    /// Bytes that were compared with the chunks' ids, and where in them each chunk stands.
    Chunks(Arc<Vec<u8>>, Vec<(T, Range<usize>)>),
    /// A chunk that cannot be had. [`ReadError::is_damage`] tells whether it is lost or only out of reach.
    Lost(T, ReadError),
}

/// What is wanted of one frame.
type OfFrame<T> = Vec<Wanted<T>>;

/// Chunks of one range on their way. What of its frames has begun to be fetched keeps others waiting until it is dropped.
pub struct Gathering<T> {
    reader: Arc<Reader>,
    found: VecDeque<Found<T>>,
    /// Frames that are there, decoded.
    kept: VecDeque<(Arc<Vec<u8>>, OfFrame<T>)>,
    /// Frames whose bytes were fetched.
    fetched: VecDeque<(FromReplica, FrameClaim, OfFrame<T>)>,
    /// What is to be fetched, with the claim to each frame.
    ranges: VecDeque<(JoinedRange<T>, Vec<FrameClaim>)>,
    /// Frames that others bring.
    others: VecDeque<(FrameCell, OfFrame<T>)>,
    /// What is not where it should be, and is looked for in every place.
    elsewhere: VecDeque<Wanted<T>>,
    /// Why nothing more is asked.
    unreachable: Option<ReadError>,
}

impl Reader {
    /// Returns how many ranges may be on their way at the same time, each with 4 MiB fetched and as much decoded.
    pub fn ranges_in_flight(&self) -> usize {
        usize::try_from(self.memory_bytes / RANGE_SHARE).unwrap_or(RANGES_MAX).clamp(2, RANGES_MAX)
    }

    /// Tells where a chunk lies. Before it is said that the index does not know, the index is made anew.
    ///
    /// # Errors
    /// [`ReadError::Unknown`], [`ReadError::OtherLength`] when the index knows it with other lengths alone, and
    /// [`ReadError::Index`].
    pub async fn locate(&self, chunk: &ChunkRef) -> Result<Location, ReadError> {
        match self.locate_as_indexed(chunk) {
            Err(_) if self.made_anew().await? => self.locate_as_indexed(chunk),
            found => found,
        }
    }

    fn locate_as_indexed(&self, chunk: &ChunkRef) -> Result<Location, ReadError> {
        let location = self.index.locate(&chunk.id).ok_or_else(|| ReadError::Unknown { id: chunk.id.short() })?;
        if location.length == chunk.length {
            return Ok(location);
        }
        let right = self.index.locate_all(&chunk.id).into_iter().find(|location| location.length == chunk.length);
        right.ok_or_else(|| ReadError::OtherLength { id: chunk.id.short() })
    }

    /// Begins to gather what is wanted of a range; nothing is asked before [`Gathering::next`] is.
    ///
    /// With [`Keep::Frames`], frames that are there already are not fetched again, nor are those that another one is
    /// fetching.
    pub fn gather<T: Send + 'static>(self: &Arc<Self>, range: JoinedRange<T>, keep: Keep) -> Gathering<T> {
        let mut gathering = Gathering {
            reader: self.clone(),
            found: VecDeque::new(),
            kept: VecDeque::new(),
            fetched: VecDeque::new(),
            ranges: VecDeque::new(),
            others: VecDeque::new(),
            elsewhere: VecDeque::new(),
            unreachable: None,
        };
        let is_lost =
            |frame: &Vec<Wanted<T>>| self.lost.frame(FrameAsIndexed::now(&frame[0].location, &self.index)).is_some();
        let (lost, frames): (Vec<_>, Vec<_>) = range.frames.into_iter().partition(is_lost);
        gathering.elsewhere.extend(lost.into_iter().flatten());
        let locations: Vec<Location> = frames.iter().map(|frame| frame[0].location).collect();
        let claims = match keep {
            Keep::Frames => self.claim(&locations),
            Keep::Nothing => locations.iter().map(|_| Claimed::alone()).collect(),
        };
        let mut ours = Vec::with_capacity(frames.len());
        for (claimed, wanted) in claims.into_iter().zip(frames) {
            match claimed {
                Claimed::Ours(claim) => ours.push((claim, wanted)),
                Claimed::There(frame) => gathering.kept.push_back((frame, wanted)),
                Claimed::Others(cell) => gathering.others.push_back((cell, wanted)),
            }
        }
        let (mut claims, frames): (VecDeque<_>, Vec<_>) = ours.into_iter().unzip();
        for range in join_frames(frames, u64::MAX) {
            let claims = claims.drain(..range.frames.len()).collect();
            gathering.ranges.push_back((range, claims));
        }
        gathering
    }

    /// Returns a chunk from whichever place has it.
    async fn from_anywhere(self: &Arc<Self>, chunk: &ChunkRef) -> Result<Vec<u8>, ReadError> {
        let bytes = self.chunk(&chunk.id).await?;
        if bytes.len() == chunk.length as usize {
            Ok(bytes)
        } else {
            Err(ReadError::OtherLength { id: chunk.id.short() })
        }
    }
}

/// Whether frames are kept for who asks for them soon after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// As far as the memory for them goes.
    Frames,
    /// Whoever gathers asks for each frame once.
    Nothing,
}

impl<T: Send + 'static> Gathering<T> {
    /// Returns the next answer, or `None` when everything was answered. A frame is decoded only when its turn comes.
    pub async fn next(&mut self) -> Option<Found<T>> {
        loop {
            if let Some(found) = self.found.pop_front() {
                return Some(found);
            }
            if let Some(error) = &self.unreachable {
                let error = error.clone();
                self.give_up(&error);
                return self.found.pop_front();
            }
            if let Some((frame, wanted)) = self.kept.pop_front() {
                self.check(frame, wanted).await;
            } else if let Some((sealed, claim, wanted)) = self.fetched.pop_front() {
                self.open(sealed, claim, wanted).await;
            } else if let Some((range, claims)) = self.ranges.pop_front() {
                self.fetch(range, claims).await;
            } else if let Some((cell, wanted)) = self.others.pop_front() {
                // Nobody waits for another one while frames are claimed: those who hold claims always come to their end.
                let claim = cell.lock_owned().await;
                self.wait(claim, wanted).await;
            } else {
                let wanted = self.elsewhere.pop_front()?;
                return Some(self.look_elsewhere(wanted).await);
            }
        }
    }

    async fn fetch(&mut self, range: JoinedRange<T>, claims: Vec<FrameClaim>) {
        match self.reader.fetch(range.location().pack, range.start..range.end).await {
            Ok(FromReplica { nth, bytes }) => {
                for (claim, wanted) in claims.into_iter().zip(range.frames) {
                    let location = wanted[0].location;
                    let at = (u64::from(location.frame_offset) - range.start) as usize;
                    let bytes = bytes.slice(at..at + location.sealed_len as usize);
                    self.fetched.push_back((FromReplica { nth, bytes }, claim, wanted));
                }
            }
            Err(error) => self.missed(error, range.into_wanted()),
        }
    }

    async fn open(&mut self, sealed: FromReplica, mut claim: FrameClaim, wanted: Vec<Wanted<T>>) {
        match self.reader.open_frame(wanted[0].location, sealed).await {
            Ok(frame) => {
                *claim = Some(frame.clone());
                drop(claim);
                self.check(frame, wanted).await;
            }
            Err(error) => self.missed(error, wanted),
        }
    }

    /// Goes on where another one brought a frame, or failed to.
    async fn wait(&mut self, mut claim: FrameClaim, wanted: Vec<Wanted<T>>) {
        if claim.is_none() {
            match self.reader.fetch_frame(wanted[0].location).await {
                Ok(frame) => *claim = Some(frame),
                Err(error) => return self.missed(error, wanted),
            }
        }
        let frame = claim.clone().expect("put there above, or by another");
        drop(claim);
        self.check(frame, wanted).await;
    }

    /// Compares what is wanted of a frame with its ids.
    async fn check(&mut self, frame: Arc<Vec<u8>>, wanted: Vec<Wanted<T>>) {
        let reader = self.reader.clone();
        let (found, wrong) = blocking(move || {
            let (mut right, mut wrong) = (Vec::with_capacity(wanted.len()), Vec::new());
            for wanted in wanted {
                match reader.place(&wanted.location, &wanted.chunk.id, &frame) {
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

    /// Goes on after an error: what is lost here may be elsewhere, and what is out of reach ends everything.
    fn missed(&mut self, error: ReadError, wanted: impl IntoIterator<Item = Wanted<T>>) {
        self.elsewhere.extend(wanted);
        if !error.is_damage() {
            self.unreachable = Some(error);
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
                Found::Lost(wanted.by, error)
            }
        }
    }

    /// Answers everything that is left with an error.
    fn give_up(&mut self, error: &ReadError) {
        let kept = self.kept.drain(..).flat_map(|(_, wanted)| wanted);
        let fetched = self.fetched.drain(..).flat_map(|(_, _, wanted)| wanted);
        let ranges = self.ranges.drain(..).flat_map(|(range, _)| range.into_wanted());
        let others = self.others.drain(..).flat_map(|(_, wanted)| wanted);
        let left = kept.chain(fetched).chain(ranges).chain(others).chain(self.elsewhere.drain(..));
        self.found.extend(left.map(|wanted| Found::Lost(wanted.by, error.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::pack::{Codec, PackKind};
    use crate::model::id::{ChunkId, PackId};

    /// A chunk of the frame `frame`, which lies at `offset` of a pack and is as long sealed as in plain.
    fn wanted(pack: u8, frame: u32, offset: u32, len: u32, by: u32) -> Wanted<u32> {
        let location = Location {
            pack: PackId([pack; 16]),
            kind: PackKind::Data,
            frame,
            frame_offset: offset,
            sealed_len: len,
            plain_len: len,
            codec: Codec::Stored,
            offset: 0,
            length: 1,
        };
        Wanted { chunk: ChunkRef { id: ChunkId([0; 32]), length: 1 }, location, by }
    }

    /// For each range its bounds, and for each frame in it who wants it.
    fn joined(wanted: Vec<Wanted<u32>>, plain_bytes: u64) -> Vec<(Range<u64>, Vec<Vec<u32>>)> {
        let by = |frame: &Vec<Wanted<u32>>| frame.iter().map(|wanted| wanted.by).collect();
        let ranges = join(wanted, plain_bytes);
        ranges.iter().map(|range| (range.start..range.end, range.frames.iter().map(by).collect())).collect()
    }

    #[test]
    fn frames_that_stand_close_together_are_fetched_together() {
        const M: u32 = 1 << 20;
        let gap = GAP_BYTES as u32;
        let all = u64::MAX;
        // In whatever order they are wanted; those of one frame stay in theirs.
        let mixed = vec![wanted(1, 1, M, M, 0), wanted(1, 0, 0, M, 3), wanted(1, 1, M, M, 1), wanted(1, 0, 0, M, 2)];
        assert_eq!(joined(mixed, all), [(0..u64::from(2 * M), vec![vec![3, 2], vec![0, 1]])]);
        // A small gap is fetched with them, a larger one is not.
        let near = vec![wanted(1, 0, 0, M, 0), wanted(1, 2, M + gap, M, 1)];
        assert_eq!(joined(near, all).len(), 1);
        let far = vec![wanted(1, 0, 0, M, 0), wanted(1, 2, M + gap + 1, M, 1)];
        assert_eq!(joined(far, all).len(), 2);
        // No range is longer than the longest, and none goes over two packs.
        let five = (0..5).map(|i| wanted(1, i, i * M, M, i)).collect();
        let lengths: Vec<u64> = joined(five, all).iter().map(|(range, _)| range.end - range.start).collect();
        assert_eq!(lengths, [RANGE_BYTES, u64::from(M)]);
        assert_eq!(joined(vec![wanted(1, 0, 0, M, 0), wanted(2, 1, M, M, 1)], all).len(), 2);
        // Nor does more come out of one than is asked for; a frame that is more by itself comes alone.
        let three = (0..3).map(|i| wanted(1, i, i * M, M, i)).collect();
        assert_eq!(joined(three, u64::from(2 * M)).len(), 2);
        assert_eq!(joined(vec![wanted(1, 0, 0, M, 0)], 1).len(), 1);
    }
}
