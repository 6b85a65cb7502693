//! Frames of a range on their way: fetched together, opened one by one, and had once by all who want them at the same time.
//!
//! Every frame is answered once: with its plaintext, or with why nobody has it. Where the store is out of reach that is the
//! answer to all that is left, and nothing more is asked.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::repository::index::table::ChunkPlace;
use crate::repository::reader::fetch::{FrameAsIndexed, FromReplica};
use crate::repository::reader::frame::{Claimed, FrameCell, FrameClaim};
use crate::repository::reader::range::{JoinedRange, Placed, join_frames};
use crate::repository::reader::{ReadError, Reader};

/// Whether frames are kept for who asks for them soon after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// As far as the memory for them goes.
    Frames,
    /// Whoever gathers asks for each frame once.
    Nothing,
}

/// The answer to what was wanted of a frame.
pub(super) enum Came<W> {
    /// Its plaintext, of which nothing was compared with an id.
    Frame(Arc<Vec<u8>>, Vec<W>),
    /// Why it cannot be had. [`ReadError::is_damage`] tells whether it is lost or only out of reach.
    Lost(ReadError, Vec<W>),
}

/// Frames on their way. What of them has begun to be fetched keeps others waiting until this is dropped.
pub(super) struct Coming<W> {
    reader: Arc<Reader>,
    /// Frames that are there, decoded, or known to be lost.
    answers: VecDeque<Came<W>>,
    /// Frames whose bytes were fetched.
    fetched: VecDeque<(FromReplica, FrameClaim, Vec<W>)>,
    /// What is to be fetched, with the claim to each frame.
    ranges: VecDeque<(JoinedRange<W>, Vec<FrameClaim>)>,
    /// Frames that others bring.
    others: VecDeque<(FrameCell, Vec<W>)>,
}

impl Reader {
    /// Begins to bring the frames of a range; nothing is asked before [`Coming::next`] is.
    ///
    /// With [`Keep::Frames`], frames that are there already are not fetched again, nor are those that another one is
    /// fetching.
    pub(super) fn coming<W: Placed>(self: &Arc<Self>, range: JoinedRange<W>, keep: Keep) -> Coming<W> {
        let mut coming = Coming::nothing(self);
        let mut frames = Vec::with_capacity(range.frames.len());
        for frame in range.frames {
            match self.lost.frame(FrameAsIndexed::now(frame[0].location(), self.index())) {
                Some(known) => coming.answers.push_back(Came::Lost(known, frame)),
                None => frames.push(frame),
            }
        }
        let locations: Vec<ChunkPlace> = frames.iter().map(|frame| *frame[0].location()).collect();
        let claims = match keep {
            Keep::Frames => self.claim(&locations),
            Keep::Nothing => locations.iter().map(|_| Claimed::alone()).collect(),
        };
        let mut ours = Vec::with_capacity(frames.len());
        for (claimed, wanted) in claims.into_iter().zip(frames) {
            match claimed {
                Claimed::Ours(claim) => ours.push((claim, wanted)),
                Claimed::There(frame) => coming.answers.push_back(Came::Frame(frame, wanted)),
                Claimed::Others(cell) => coming.others.push_back((cell, wanted)),
            }
        }
        let (mut claims, frames): (VecDeque<_>, Vec<_>) = ours.into_iter().unzip();
        for range in join_frames(frames, u64::MAX) {
            let claims = claims.drain(..range.frames.len()).collect();
            coming.ranges.push_back((range, claims));
        }
        coming
    }
}

impl<W: Placed> Coming<W> {
    /// A range of which nothing is wanted.
    pub(super) fn nothing(reader: &Arc<Reader>) -> Self {
        Self {
            reader: reader.clone(),
            answers: VecDeque::new(),
            fetched: VecDeque::new(),
            ranges: VecDeque::new(),
            others: VecDeque::new(),
        }
    }

    /// Returns the next answer, or `None` when everything was answered. A frame is decoded only when its turn comes.
    pub(super) async fn next(&mut self) -> Option<Came<W>> {
        loop {
            if let Some(came) = self.answers.pop_front() {
                return Some(came);
            } else if let Some((sealed, mut claim, wanted)) = self.fetched.pop_front() {
                match self.reader.open_frame(*wanted[0].location(), sealed).await {
                    Ok(frame) => {
                        *claim = Some(frame.clone());
                        return Some(Came::Frame(frame, wanted));
                    }
                    Err(error) => self.missed(error, wanted),
                }
            } else if let Some((range, claims)) = self.ranges.pop_front() {
                self.fetch(range, claims).await;
            } else if let Some((cell, wanted)) = self.others.pop_front() {
                // Nobody waits for another one while frames are claimed: those who hold claims always come to their end.
                let claim = cell.lock_owned().await;
                self.wait(claim, wanted).await;
            } else {
                return None;
            }
        }
    }

    async fn fetch(&mut self, range: JoinedRange<W>, claims: Vec<FrameClaim>) {
        match self.reader.fetch(range.location().pack, range.start..range.end).await {
            Ok(FromReplica { nth, bytes }) => {
                for (claim, wanted) in claims.into_iter().zip(range.frames) {
                    let location = *wanted[0].location();
                    let at = (u64::from(location.frame_offset) - range.start) as usize;
                    let bytes = bytes.slice(at..at + location.sealed_len as usize);
                    self.fetched.push_back((FromReplica { nth, bytes }, claim, wanted));
                }
            }
            Err(error) => self.missed(error, range.into_wanted().collect()),
        }
    }

    /// Goes on where another one brought a frame, or failed to.
    async fn wait(&mut self, mut claim: FrameClaim, wanted: Vec<W>) {
        if claim.is_none() {
            match self.reader.fetch_frame(*wanted[0].location()).await {
                Ok(frame) => *claim = Some(frame),
                Err(error) => return self.missed(error, wanted),
            }
        }
        let frame = claim.clone().expect("put there above, or by another");
        self.answers.push_back(Came::Frame(frame, wanted));
    }

    /// Goes on after an error: what is out of reach ends everything.
    fn missed(&mut self, error: ReadError, wanted: Vec<W>) {
        let is_damage = error.is_damage();
        self.answers.push_back(Came::Lost(error.clone(), wanted));
        if !is_damage {
            let fetched = self.fetched.drain(..).flat_map(|(_, _, wanted)| wanted);
            let ranges = self.ranges.drain(..).flat_map(|(range, _)| range.into_wanted());
            let others = self.others.drain(..).flat_map(|(_, wanted)| wanted);
            let left: Vec<W> = fetched.chain(ranges).chain(others).collect();
            self.answers.push_back(Came::Lost(error, left));
        }
    }
}
