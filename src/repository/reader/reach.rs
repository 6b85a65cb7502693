//! How far what is stored reaches: which frames it takes to have the bytes of something, and whose sessions wrote them.
//!
//! Nothing is fetched but recipes. A bit is kept for each frame of the index, and a few bytes for each session.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::model::entry::ChunkRef;
use crate::model::id::{PackId, SessionId};
use crate::repository::index::table::ChunkPlace;
use crate::repository::reader::windows::WindowAt;
use crate::repository::reader::{ReadError, Reader};

/// What it takes to have the bytes of something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Frames that are fetched and decoded, each once, those of recipes among them.
    pub frames: u64,
    /// Their bytes as they are stored.
    pub fetched_bytes: u64,
    /// Their bytes when they are decoded.
    pub decoded_bytes: u64,
    /// Chunks, each as often as it occurs.
    pub chunks: u64,
    /// Those of them that recipes make.
    pub recipes: u64,
    /// The deepest recipe: 1 names plain chunks alone.
    pub depth: u8,
    /// Parts that these recipes come to when all of them are resolved.
    pub parts: u64,
    /// Bytes of chunks of which something cannot be had, as far as the index tells.
    pub lost_bytes: u64,
    /// The sessions that wrote the frames, with the bytes that are fetched of each.
    pub sessions: BTreeMap<SessionId, u64>,
}

/// Counts what chunks take, frame by frame.
pub struct ReachCounter {
    reader: Arc<Reader>,
    /// Where the bits of each pack's frames begin, how many there are, and who wrote them.
    packs: HashMap<PackId, (usize, u32, SessionId)>,
    seen: Vec<u64>,
    reach: Reach,
}

impl ReachCounter {
    /// Begins with nothing. Takes a bit for each frame that the index tells of, and 60 bytes for each pack.
    pub fn over(reader: &Arc<Reader>) -> Self {
        let (mut packs, mut frames) = (HashMap::new(), 0);
        for pack in reader.index().packs() {
            packs.insert(pack.id, (frames, pack.frames, pack.header.session));
            frames += pack.frames as usize;
        }
        Self { reader: reader.clone(), packs, seen: vec![0; frames.div_ceil(64)], reach: Reach::default() }
    }

    /// Adds chunks that stand one behind the other.
    ///
    /// # Errors
    /// When something is out of reach. What is lost is counted.
    pub async fn add(&mut self, chunks: &[ChunkRef]) -> Result<(), ReadError> {
        let mut windows = Vec::new();
        for chunk in chunks {
            self.reach.chunks += 1;
            match self.reader.locate(chunk).await {
                Ok(place) if place.codec.holds_recipes() => windows.push(WindowAt::of(*chunk, place)),
                Ok(place) => self.see(&place),
                Err(error) if error.is_damage() => self.reach.lost_bytes += u64::from(chunk.length),
                Err(error) => return Err(error),
            }
        }
        // An error is met again when the window is resolved.
        self.reader.bring(windows.iter().map(|window| window.location).collect()).await;
        for window in &windows {
            self.window(window).await?;
        }
        Ok(())
    }

    async fn window(&mut self, window: &WindowAt) -> Result<(), ReadError> {
        self.reach.recipes += 1;
        match self.reader.resolve(window, &|_| true).await {
            Ok(resolved) => {
                self.reach.depth = self.reach.depth.max(resolved.depth);
                self.reach.parts += resolved.parts();
                self.reach.lost_bytes += resolved.lost.iter().map(|(_, length)| u64::from(*length)).sum::<u64>();
                resolved.recipes.iter().for_each(|place| self.see(place));
                resolved.places_used().for_each(|place| self.see(place));
                Ok(())
            }
            Err(error) if error.is_damage() => {
                self.reach.lost_bytes += window.length.map_or(0, u64::from);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Counts the frame of a place, once.
    fn see(&mut self, place: &ChunkPlace) {
        // Segments that contradict each other may tell of more frames than were made room for.
        let known = self.packs.get(&place.pack).filter(|(_, frames, _)| place.frame < *frames);
        let Some((start, _, session)) = known else { return };
        let bit = start + place.frame as usize;
        if self.seen[bit / 64] & 1 << (bit % 64) != 0 {
            return;
        }
        self.seen[bit / 64] |= 1 << (bit % 64);
        let bytes = u64::from(place.sealed_len);
        self.reach.frames += 1;
        self.reach.fetched_bytes += bytes;
        self.reach.decoded_bytes += u64::from(place.plain_len);
        *self.reach.sessions.entry(*session).or_default() += bytes;
    }

    /// Returns what was counted.
    pub fn finish(self) -> Reach {
        self.reach
    }
}
