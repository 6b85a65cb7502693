//! Rewriting: what is needed of packs that are to go is stored anew, in a session of the packs' own domain and epoch, in which their
//! chunks have their names.
//!
//! A chunk comes through the reader: from its pack, compared with its key, or from any other place where that fails. It goes through the
//! writer into new packs, compressed anew together with what else there is: packs of many nights have frames of a few chunks, which
//! become full ones, as far as no window needs more plaintext of frames afterwards (`Gathered::store`). That holds as far as chunks lie
//! once: what lies elsewhere too is not copied. A recipe stays the recipe that it is, once it has been tried, so nothing that names its
//! window changes; where it does not make its window any more, the window is stored plain, if it can be had.
//!
//! Nothing here dooms or deletes. Until [`Rewriting::finish`] has returned nobody may take the new packs for stored.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::blocking::blocking;
use crate::compress::{Compressor, DEFAULT_LEVEL};
use crate::format::lease::Lease;
use crate::format::pack::PackKind;
use crate::format::recipe::Recipe;
use crate::model::id::{ChunkId, ChunkKey, DomainEpoch, PackId};
use crate::model::outcome::{Ended, Outcome};
use crate::model::time::Clock;
use crate::progress::Monitor;
use crate::repository::access::Deleting;
use crate::repository::frame::{FILE_FRAME_BYTES, Frame, ROWS_FRAME_BYTES};
use crate::repository::index::IndexError;
use crate::repository::index::checked::CheckedIndex;
use crate::repository::index::own::OwnPack;
use crate::repository::index::table::ChunkPlace;
use crate::repository::lease::HeldLease;
use crate::repository::reader::windows::hash_of;
use crate::repository::reader::{ReadError, Reader};
use crate::repository::session::SessionError;
use crate::repository::uploader::{UploadError, UploadStopped, Uploaded};
use crate::repository::writer::{Writer, WriterOptions};
use crate::store::StoreError;

/// Plaintext of frames that are brought together.
const GROUP_BYTES: u64 = 8 << 20;
/// From this length on a chunk has a frame of its own, as windows have: whoever wants another one does not have to read it.
const ALONE_BYTES: usize = 1 << 20;

/// How packs are rewritten.
#[derive(Debug, Clone)]
pub struct RewritingOptions {
    /// Size at which a new pack is complete, in bytes.
    pub pack_target_bytes: u32,
    /// Packs being stored at the same time.
    pub packs_in_flight: usize,
    /// Who does it, for those who find its lease.
    pub host: String,
    /// Tells the time.
    pub clock: Clock,
}

/// Why packs could not be rewritten.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// No session can begin.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The lease could not be stored.
    #[error("the lease could not be stored")]
    Lease(#[source] StoreError),
    /// What may be relied on is not known.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// What is needed could not be stored.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// What is needed is out of reach.
    #[error(transparent)]
    Read(ReadError),
}

impl Ended for RewriteError {
    fn outcome(&self) -> Outcome {
        match self {
            RewriteError::Session(error) => error.outcome(),
            RewriteError::Lease(error) => error.outcome(),
            RewriteError::Index(error) => error.outcome(),
            RewriteError::Upload(error) => error.outcome(),
            RewriteError::Read(error) => error.outcome(),
        }
    }
}

/// Why a pack was not copied.
#[derive(Debug)]
pub enum CopyError {
    /// Something that is needed of it is damaged, or nobody can tell.
    Read(ReadError),
    /// Nothing more is stored: [`Rewriting::finish`] says why.
    Stopped,
}

impl From<ReadError> for CopyError {
    fn from(error: ReadError) -> Self {
        CopyError::Read(error)
    }
}

impl From<UploadStopped> for CopyError {
    fn from(_: UploadStopped) -> Self {
        CopyError::Stopped
    }
}

/// A session that stores anew what is needed of packs.
pub struct Rewriting {
    lease: HeldLease,
    index: Arc<CheckedIndex>,
    reader: Arc<Reader>,
    writer: Arc<Writer>,
    recipes: Mutex<KnownRecipes>,
}

/// Recipes that need not be stored, by their hashes: those that lie elsewhere, and those that the session has stored.
#[derive(Debug, Default)]
struct KnownRecipes {
    known: HashSet<(ChunkKey, [u8; 32])>,
    /// Windows of which those elsewhere are among them.
    looked: HashSet<ChunkKey>,
}

/// A frame that is being filled, with what compresses it: what one who copies packs works with, pack after pack.
#[derive(Debug)]
pub struct CopiedFrame(Option<Gathered>);

/// Chunks of several frames that are to be one.
#[derive(Debug)]
struct Gathered {
    frame: Frame,
    /// How long the frame may become.
    most: usize,
    compressor: Compressor,
}

impl Deleting {
    /// Begins to rewrite packs of a domain and epoch, under a lease. Nothing is relied on that is `left_out`: those packs, and whatever
    /// else is to go.
    ///
    /// # Errors
    /// [`RewriteError`].
    pub async fn begin_rewriting(
        &self,
        at: DomainEpoch,
        left_out: &HashSet<PackId>,
        reader: &Arc<Reader>,
        options: RewritingOptions,
        monitor: &Arc<dyn Monitor>,
    ) -> Result<Rewriting, RewriteError> {
        let session = self.writing().begin_session_at(at)?;
        let now = options.clock.now();
        let lease = Lease { host: options.host, operation: "prune".into(), started: now, ..Lease::default() };
        let lease = HeldLease::take(session.clone(), lease, options.clock).await.map_err(RewriteError::Lease)?;
        let index = match CheckedIndex::load_without(&session, left_out, now, &**monitor).await {
            Ok(index) => Arc::new(index),
            Err(error) => {
                lease.release().await;
                return Err(error.into());
            }
        };
        let writer_options = WriterOptions {
            pack_target_bytes: options.pack_target_bytes,
            packs_in_flight: options.packs_in_flight,
            level: DEFAULT_LEVEL,
            dry_run: false,
            extra_check: true,
        };
        let writer = Arc::new(Writer::start(index.clone(), writer_options, monitor.clone()));
        Ok(Rewriting { lease, index, reader: reader.clone(), writer, recipes: Mutex::default() })
    }
}

impl Rewriting {
    /// Returns what somebody who copies packs works with, to be given back to [`Rewriting::finish`].
    pub fn frame(&self) -> CopiedFrame {
        let compressor = self.writer.compressor();
        CopiedFrame(Some(Gathered { frame: Frame::default(), most: FILE_FRAME_BYTES, compressor }))
    }

    /// Copies all that is needed of a pack and not stored elsewhere. What it says of itself decides what is in it; where that is not
    /// told, or what segments tell of it is `wrong`, it is damaged. It may be taken for copied only when all has been finished.
    ///
    /// # Errors
    /// [`CopyError`]; some of it may be stored then.
    pub async fn copy(
        &self,
        frame: &mut CopiedFrame,
        pack: PackId,
        is_needed: &(dyn Fn(&ChunkKey) -> bool + Sync),
        wrong: &(dyn Fn(&OwnPack) -> Option<String> + Sync),
    ) -> Result<(), CopyError> {
        let own = self.reader.own_record(pack).await?.map_err(|why| ReadError::Own { pack, why })?;
        if let Some(why) = wrong(&own) {
            return Err(ReadError::Own { pack, why }.into());
        }
        let is_wanted = |(key, _): &(ChunkKey, ChunkPlace)| is_needed(key) && !self.writer.has(key);
        let mut places = own.places().filter(is_wanted).peekable();
        loop {
            let (mut group, mut bytes) = (Vec::<Vec<(ChunkKey, ChunkPlace)>>::new(), 0);
            while let Some((_, next)) = places.peek() {
                if group.last().is_none_or(|frame| frame[0].1.frame != next.frame) {
                    bytes += u64::from(next.plain_len);
                    if !group.is_empty() && bytes > GROUP_BYTES {
                        break;
                    }
                    group.push(Vec::new());
                }
                group.last_mut().expect("pushed above").extend(places.next());
            }
            if group.is_empty() {
                return Ok(());
            }
            self.copy_frames(frame, group).await?;
        }
    }

    async fn copy_frames(
        &self,
        into: &mut CopiedFrame,
        frames: Vec<Vec<(ChunkKey, ChunkPlace)>>,
    ) -> Result<(), CopyError> {
        if frames.len() > 1 {
            self.reader.bring(frames.iter().map(|chunks| chunks[0].1).collect()).await;
        }
        for chunks in frames {
            let place = chunks[0].1;
            if place.codec.holds_recipes() {
                self.copy_recipes(into, chunks).await?;
                continue;
            }
            let missing = match self.reader.frame(&place).await {
                Ok(frame) => {
                    let range = |at: &ChunkPlace| at.offset as usize..at.offset as usize + at.length as usize;
                    let parts = chunks.iter().map(|(key, at)| (*key, range(at))).collect();
                    let wrong = self.store(into, place.kind, frame, place.plain_len as usize, parts).await?;
                    chunks.into_iter().filter(|(key, _)| wrong.contains(key)).collect()
                }
                Err(error) if error.is_damage() => chunks,
                Err(error) => return Err(error.into()),
            };
            for (key, place) in missing {
                self.copy_from_anywhere(into, place.kind, key, &place).await?;
            }
        }
        Ok(())
    }

    /// Stores chunks that stand in decoded bytes, and lay in a frame of `plain_len` bytes; returns those that are not there.
    async fn store(
        &self,
        into: &mut CopiedFrame,
        kind: PackKind,
        bytes: Arc<Vec<u8>>,
        plain_len: usize,
        parts: Vec<(ChunkKey, Range<usize>)>,
    ) -> Result<Vec<ChunkKey>, CopyError> {
        let writer = self.writer.clone();
        let mut gathered = into.0.take().expect("put back below");
        let (stored, gathered) = blocking(move || {
            let stored = store_parts(&writer, &mut gathered, kind, &bytes, plain_len, parts);
            (stored, gathered)
        })
        .await;
        into.0 = Some(gathered);
        Ok(stored?)
    }

    /// Copies a chunk that is not right where it should be from wherever it is, plain.
    async fn copy_from_anywhere(
        &self,
        into: &mut CopiedFrame,
        kind: PackKind,
        key: ChunkKey,
        place: &ChunkPlace,
    ) -> Result<(), CopyError> {
        let bytes = self.reader.chunk_of_key(&key, place).await?;
        let length = bytes.len();
        let wrong = self.store(into, kind, Arc::new(bytes), length, vec![(key, 0..length)]).await?;
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(ReadError::WrongChunk { pack: place.pack, frame: place.frame, id: key }.into()),
        }
    }

    /// Copies recipes, once each of them has made its window.
    async fn copy_recipes(
        &self,
        into: &mut CopiedFrame,
        recipes: Vec<(ChunkKey, ChunkPlace)>,
    ) -> Result<(), CopyError> {
        let wrong = self.reader.wrong_windows(recipes.iter().copied()).await?;
        let wrong: HashSet<ChunkPlace> = wrong.into_iter().map(|(at, _)| at).collect();
        for (key, place) in recipes {
            if wrong.contains(&place) {
                self.copy_from_anywhere(into, PackKind::Data, key, &place).await?;
                continue;
            }
            let recipe = self.reader.recipe(&place).await?;
            if !self.has_recipe(key, &recipe).await? {
                let writer = self.writer.clone();
                blocking(move || writer.store_recipe_anew(key, &recipe)).await?;
            }
        }
        Ok(())
    }

    /// Tells whether a recipe is stored elsewhere, or by this session, of which it is noted that it will be.
    async fn has_recipe(&self, key: ChunkKey, recipe: &Recipe) -> Result<bool, ReadError> {
        if !self.known_recipes().looked.contains(&key) {
            let mut elsewhere = Vec::new();
            for other in self.index.reliable_recipes(&key) {
                elsewhere.extend(self.reader.recipe_hash(&other).await?);
            }
            let mut recipes = self.known_recipes();
            recipes.known.extend(elsewhere.into_iter().map(|hash| (key, hash)));
            recipes.looked.insert(key);
        }
        Ok(!self.known_recipes().known.insert((key, hash_of(recipe))))
    }

    fn known_recipes(&self) -> MutexGuard<'_, KnownRecipes> {
        self.recipes.lock().expect("no panic while held")
    }

    /// Waits until all that was copied is durable and indexed, and ends the lease. What could be stored is, whatever is returned.
    ///
    /// # Errors
    /// [`RewriteError::Upload`]; nothing may be taken for copied then.
    pub async fn finish(self, frames: Vec<CopiedFrame>) -> Result<Uploaded, RewriteError> {
        let Self { lease, writer, .. } = self;
        let writer = blocking(move || {
            let flush = |frame: CopiedFrame| frame.0.expect("put back behind each use").store_frame(&writer);
            // Where uploading has stopped, finishing says why.
            let _ = frames.into_iter().try_for_each(flush).and_then(|()| writer.flush());
            Arc::into_inner(writer).expect("nobody copies any more")
        });
        let finished = writer.await.finish().await;
        lease.release().await;
        Ok(finished?.uploaded())
    }
}

impl Gathered {
    /// Stores chunks of a frame that was `plain_len` bytes long.
    ///
    /// As far as chunks lie once, no window needs more plaintext of frames afterwards, each frame counting for [`ROWS_FRAME_BYTES`] at least:
    /// the chunks of a frame stay together, and join those of others where all of them are no longer than each of these frames was, or than
    /// [`ROWS_FRAME_BYTES`]; or they become several frames of that length at least ([`runs`]), which together are no longer than the one was.
    /// Those of [`ALONE_BYTES`] leave it where the others had a frame of [`ROWS_FRAME_BYTES`] without them, or there are none.
    fn store(&mut self, writer: &Writer, chunks: &[(ChunkId, &[u8])], plain_len: usize) -> Result<(), UploadStopped> {
        let (alone, others): (Vec<_>, Vec<_>) =
            chunks.iter().copied().partition(|(_, chunk)| chunk.len() >= ALONE_BYTES);
        let left = plain_len.saturating_sub(bytes_of(&alone));
        if left < ROWS_FRAME_BYTES && !others.is_empty() {
            return self.gather(writer, chunks, plain_len);
        }
        for chunk in alone {
            self.store_alone(writer, &[chunk])?;
        }
        self.gather(writer, &others, left)
    }

    /// Stores chunks of a frame that was `plain_len` bytes long together.
    fn gather(&mut self, writer: &Writer, chunks: &[(ChunkId, &[u8])], plain_len: usize) -> Result<(), UploadStopped> {
        if chunks.is_empty() {
            return Ok(());
        }
        let (bytes, most) = (bytes_of(chunks), plain_len.clamp(ROWS_FRAME_BYTES, FILE_FRAME_BYTES));
        if bytes > most {
            let lengths: Vec<usize> = chunks.iter().map(|(_, chunk)| chunk.len()).collect();
            return runs(&lengths).into_iter().try_for_each(|run| self.store_alone(writer, &chunks[run]));
        }
        if self.frame.len() + bytes > self.most.min(most) {
            self.store_frame(writer)?;
        }
        self.most = self.most.min(most);
        chunks.iter().for_each(|(id, chunk)| self.frame.push(id, chunk));
        Ok(())
    }

    /// Stores chunks in a frame of their own.
    fn store_alone(&mut self, writer: &Writer, chunks: &[(ChunkId, &[u8])]) -> Result<(), UploadStopped> {
        let mut frame = Frame::default();
        chunks.iter().for_each(|(id, chunk)| frame.push(id, chunk));
        writer.store_frame(&mut frame, &mut self.compressor)
    }

    /// Stores what was gathered.
    fn store_frame(&mut self, writer: &Writer) -> Result<(), UploadStopped> {
        self.most = FILE_FRAME_BYTES;
        writer.store_frame(&mut self.frame, &mut self.compressor)
    }
}

fn bytes_of(chunks: &[(ChunkId, &[u8])]) -> usize {
    chunks.iter().map(|(_, chunk)| chunk.len()).sum()
}

/// Divides chunks of one frame, which are so long, into runs that each become a frame of at most [`FILE_FRAME_BYTES`]. A run is longer where a
/// chunk is, or where it or the rest would have less than [`ROWS_FRAME_BYTES`].
fn runs(lengths: &[usize]) -> Vec<Range<usize>> {
    let mut rest: usize = lengths.iter().sum();
    let (mut runs, mut start, mut bytes) = (Vec::new(), 0, 0_usize);
    for (nth, length) in lengths.iter().copied().enumerate() {
        if bytes + length > FILE_FRAME_BYTES && bytes.min(rest) >= ROWS_FRAME_BYTES {
            runs.push(start..nth);
            (start, bytes) = (nth, 0);
        }
        bytes += length;
        rest -= length;
    }
    runs.push(start..lengths.len());
    runs
}

/// Stores chunks that stand in decoded bytes, and lay in a frame of `plain_len` bytes, each if nobody else does; returns those that are not
/// there.
fn store_parts(
    writer: &Writer,
    gathered: &mut Gathered,
    kind: PackKind,
    bytes: &[u8],
    plain_len: usize,
    parts: Vec<(ChunkKey, Range<usize>)>,
) -> Result<Vec<ChunkKey>, UploadStopped> {
    let (mut wrong, mut right) = (Vec::new(), Vec::new());
    for (key, range) in parts {
        let Some((chunk, id)) =
            bytes.get(range).map(|chunk| (chunk, writer.id(chunk))).filter(|(_, id)| id.key() == key)
        else {
            wrong.push(key);
            continue;
        };
        match kind {
            PackKind::Tree => drop(writer.store_node(chunk)?),
            PackKind::Data if writer.claim(&id) => right.push((id, chunk)),
            PackKind::Data => {}
        }
    }
    gathered.store(writer, &right, plain_len)?;
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1 << 10;
    const MIB: usize = 1 << 20;

    #[test]
    fn a_long_frame_becomes_several_of_two_mib() {
        for (what, lengths, expected) in [
            ("small chunks of 16 MiB", vec![64 * KIB; 256], vec![32; 8]),
            ("a rest that is too short for a frame", vec![64 * KIB; 39], vec![39]),
            ("one that is long enough", vec![64 * KIB; 40], vec![32, 8]),
            ("a window among others", vec![200 * KIB, 8 * MIB, 100 * KIB], vec![3]),
            ("two of them", vec![8 * MIB, 100 * KIB, 7 * MIB], vec![1, 2]),
        ] {
            let chunks: Vec<usize> = runs(&lengths).into_iter().map(|run| run.len()).collect();
            assert_eq!(chunks, expected, "{what}");
        }
    }

    /// Whatever a window takes of a frame, its runs have no more plaintext together, each counting for 512 KiB at least.
    #[test]
    fn runs_need_no_more_than_their_frame_did() {
        let counted = |length: usize| length.max(ROWS_FRAME_BYTES);
        for count in 1..200 {
            let lengths: Vec<usize> = (1..=count).map(|nth| nth * nth * 7919 * count % ALONE_BYTES).collect();
            let runs = runs(&lengths);
            assert_eq!(runs.iter().cloned().flatten().collect::<Vec<_>>(), (0..count).collect::<Vec<_>>());
            let lengths_of: Vec<usize> = runs.into_iter().map(|run| lengths[run].iter().sum()).collect();
            let needed: usize = lengths_of.iter().map(|length| counted(*length)).sum();
            assert_eq!(needed, counted(lengths.iter().sum()), "{lengths_of:?}");
            assert!(lengths_of.iter().all(|length| *length < FILE_FRAME_BYTES + ROWS_FRAME_BYTES), "{lengths_of:?}");
        }
    }
}
