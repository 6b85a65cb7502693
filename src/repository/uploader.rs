//! Uploading: complete packs go to the store, several at once; what is durable goes into index segments.
//!
//! A sealing thread takes a [`Room`] before it completes a pack, and the pack keeps it until it is durable, so at most
//! [`UploadLimits::packs_in_flight`] packs, one that is checked or waits, and the ones being filled are in memory. Segments
//! are flushed during a long run, and when it fails or is ended, so what was stored is found by the next one.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use crate::blocking::blocking;
use crate::crypto::random;
use crate::format::index::PackEntry;
use crate::format::pack::PackKind;
use crate::model::id::{PackId, SegmentId};
use crate::model::outcome::{Ended, Outcome};
use crate::progress::{Counter, Monitor};
use crate::repository::Repository;
use crate::repository::claims::Claims;
use crate::repository::index::IndexError;
use crate::repository::index::checked::CheckedIndex;
use crate::repository::objects::UploadedPack;
use crate::repository::packer::PackImage;
use crate::repository::recheck::Altered;
use crate::repository::session::Session;
use crate::store::StoreError;
use crate::store::transfer::Transfer;

/// Chunks after which a segment is flushed: bounds the memory for claims and the work lost by a cut-off run.
const FLUSH_CHUNKS: usize = 1 << 18;
/// Bytes of packs after which a segment is flushed.
const FLUSH_BYTES: u64 = 4 << 30;
/// Time after which a segment is flushed.
const FLUSH_AFTER: Duration = Duration::from_secs(300);

/// Why uploading ended.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// A pack could not be stored.
    #[error("pack {} could not be stored", pack.short())]
    Pack {
        /// The pack.
        pack: PackId,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// An index segment could not be stored.
    #[error("index segment {segment} could not be stored")]
    Segment {
        /// The segment.
        segment: SegmentId,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// A pack does not give back what was read. It was not uploaded.
    #[error(
        "pack {} does not give back what was read: the memory or the processor of this machine is faulty",
        pack.short()
    )]
    Altered {
        /// The pack.
        pack: PackId,
        /// What is wrong with it.
        #[source]
        source: Altered,
    },
    /// An index segment does not open to what was sealed. It was not uploaded.
    #[error(
        "index segment {segment} does not give back what it was made of: the memory or the processor of this machine is faulty"
    )]
    AlteredSegment {
        /// The segment.
        segment: SegmentId,
        /// What is wrong with it.
        #[source]
        source: Altered,
    },
    /// The local index could not take in what was stored.
    #[error("the index could not be extended")]
    Index(#[from] IndexError),
}

impl Ended for UploadError {
    fn outcome(&self) -> Outcome {
        match self {
            UploadError::Pack { source, .. } | UploadError::Segment { source, .. } => source.outcome(),
            UploadError::Index(error) => error.outcome(),
            UploadError::Altered { .. } | UploadError::AlteredSegment { .. } => Outcome::Failed,
        }
    }
}

/// How much may be under way.
#[derive(Debug, Clone, Copy)]
pub struct UploadLimits {
    /// Packs being stored at the same time.
    pub packs_in_flight: usize,
    /// Open every index segment again before it is uploaded.
    pub extra_check: bool,
}

/// What an upload stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Uploaded {
    /// Packs stored.
    pub packs: u64,
    /// Index segments stored.
    pub segments: u64,
    /// Bytes stored, of both.
    pub bytes: u64,
    /// Of these, bytes of directory trees and index segments.
    pub tree_bytes: u64,
}

/// The running upload of one session.
pub struct Uploader {
    /// Bounded by the rooms that packs have.
    sender: mpsc::UnboundedSender<Handed>,
    rooms: Rooms,
    runtime: Handle,
    monitor: Arc<dyn Monitor>,
    task: JoinHandle<Result<Uploaded, UploadError>>,
}

impl fmt::Debug for Uploader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Uploader").field(&self.rooms).finish()
    }
}

/// What a sealing thread gives.
#[derive(Debug)]
enum Handed {
    Pack(PackImage, Room),
    /// The upload ends with this.
    Refused(UploadError),
    /// The upload ends, and lets this go when it has ended.
    End(oneshot::Sender<()>),
}

/// Ends an upload although the threads that hand packs over may never come back.
#[derive(Debug)]
pub struct UploadEnd(mpsc::WeakUnboundedSender<Handed>);

impl UploadEnd {
    /// Lets nothing more be handed over, and returns when all that was is durable and indexed, or has failed.
    pub async fn end(self) {
        let (sender, ended) = oneshot::channel();
        if self.0.upgrade().is_some_and(|handing| handing.send(Handed::End(sender)).is_ok()) {
            // It is never sent on, only let go.
            let _ = ended.await;
        }
    }
}

/// Room in memory for one pack that is complete and not yet durable.
#[derive(Debug)]
pub struct Room(#[expect(dead_code, reason = "held until it is dropped")] OwnedSemaphorePermit);

/// The rooms of an upload.
#[derive(Debug, Clone)]
struct Rooms(Arc<Semaphore>);

impl Rooms {
    /// One pack is checked or waits while all others are under way.
    fn new(limits: UploadLimits) -> Self {
        Self(Arc::new(Semaphore::new(limits.packs_in_flight.max(1) + 1)))
    }

    async fn take(&self) -> Result<Room, UploadStopped> {
        self.0.clone().acquire_owned().await.map(Room).map_err(|_| UploadStopped)
    }
}

impl Uploader {
    /// Starts uploading in the background.
    pub fn start(
        index: Arc<CheckedIndex>,
        claims: Arc<Claims>,
        limits: UploadLimits,
        monitor: Arc<dyn Monitor>,
    ) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let rooms = Rooms::new(limits);
        let run = Run {
            session: index.session().clone(),
            index,
            claims,
            monitor: monitor.clone(),
            rooms: rooms.clone(),
            limits,
            uploaded: Uploaded::default(),
            waiting: Vec::new(),
            waiting_chunks: 0,
            waiting_bytes: 0,
            flushed: Instant::now(),
        };
        let task = tokio::spawn(run.all(receiver));
        Self { sender, rooms, runtime: Handle::current(), monitor, task }
    }

    /// Takes room for a pack from a thread outside the runtime; waits while too many are under way.
    ///
    /// # Errors
    /// When uploading has ended with an error, which [`Uploader::finish`] returns.
    pub fn room(&self) -> Result<Room, UploadStopped> {
        self.runtime.block_on(self.rooms.take())
    }

    /// Hands a pack over.
    ///
    /// # Errors
    /// As for [`Uploader::room`].
    pub fn send(&self, image: PackImage, room: Room) -> Result<(), UploadStopped> {
        self.monitor.add(Counter::SealedBytes, u64::from(image.entry().size));
        self.sender.send(Handed::Pack(image, room)).map_err(|_| UploadStopped)
    }

    /// Ends the upload, because a pack is not what it should be: [`Uploader::finish`] will say so.
    pub(super) fn refuse(&self, pack: PackId, source: Altered) -> UploadStopped {
        // Where uploading has ended already there is another reason.
        let _ = self.sender.send(Handed::Refused(UploadError::Altered { pack, source }));
        UploadStopped
    }

    /// Returns what ends the upload without [`Uploader::finish`].
    pub(super) fn end(&self) -> UploadEnd {
        UploadEnd(self.sender.downgrade())
    }

    /// Waits until everything handed over is durable and indexed.
    ///
    /// # Errors
    /// The first [`UploadError`]. What was durable by then is indexed all the same, unless the machine is faulty.
    pub async fn finish(self) -> Result<Uploaded, UploadError> {
        drop(self.sender);
        self.task.await.expect("the uploading task does not panic")
    }
}

/// Uploading has ended early; the reason is told by [`Uploader::finish`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("uploading has stopped")]
pub struct UploadStopped;

struct Run {
    session: Arc<Session>,
    index: Arc<CheckedIndex>,
    claims: Arc<Claims>,
    monitor: Arc<dyn Monitor>,
    rooms: Rooms,
    limits: UploadLimits,
    uploaded: Uploaded,
    waiting: Vec<UploadedPack>,
    waiting_chunks: usize,
    waiting_bytes: u64,
    flushed: Instant,
}

impl Run {
    async fn all(mut self, mut receiver: mpsc::UnboundedReceiver<Handed>) -> Result<Uploaded, UploadError> {
        let mut puts = JoinSet::new();
        let taken = self.take_in(&mut receiver, &mut puts).await;
        // Whoever waits for room finds that nothing more is uploaded.
        receiver.close();
        self.rooms.0.close();
        if matches!(taken, Err(UploadError::Altered { .. } | UploadError::AlteredSegment { .. })) {
            // What this machine would write into an index cannot be trusted either.
            return taken.map(|_| self.uploaded);
        }
        let indexed = self.complete(puts).await;
        // An end that was asked for is over when its sender goes.
        let _end = taken?;
        indexed.map(|()| self.uploaded)
    }

    /// Takes packs in and stores them until there are no more, or one fails. Returns who asked to end, if anybody did.
    async fn take_in(
        &mut self,
        receiver: &mut mpsc::UnboundedReceiver<Handed>,
        puts: &mut JoinSet<Result<UploadedPack, UploadError>>,
    ) -> Result<Option<oneshot::Sender<()>>, UploadError> {
        loop {
            let room = puts.len() < self.limits.packs_in_flight.max(1);
            tokio::select! {
                Some(stored) = puts.join_next(), if !puts.is_empty() => {
                    self.stored(stored.expect("a put does not panic")?).await?;
                }
                handed = receiver.recv(), if room => match handed {
                    Some(Handed::Pack(image, room)) => {
                        let (repository, transfer) = (self.session.repository().clone(), self.transfer());
                        puts.spawn(async move {
                            let stored = put(repository, image, transfer).await;
                            drop(room);
                            stored
                        });
                    }
                    Some(Handed::Refused(error)) => return Err(error),
                    Some(Handed::End(asked)) => return Ok(Some(asked)),
                    None => return Ok(None),
                },
            }
        }
    }

    /// Waits for all packs on their way and indexes those that became durable, whatever became of the others. Returns the
    /// first error.
    async fn complete(&mut self, mut puts: JoinSet<Result<UploadedPack, UploadError>>) -> Result<(), UploadError> {
        let mut ended = Ok(());
        while let Some(stored) = puts.join_next().await {
            ended = ended.and(match stored.expect("a put does not panic") {
                Ok(pack) => self.stored(pack).await,
                Err(error) => Err(error),
            });
        }
        ended.and(self.flush().await)
    }

    async fn stored(&mut self, pack: UploadedPack) -> Result<(), UploadError> {
        let size = u64::from(pack.entry().size);
        self.uploaded.packs += 1;
        self.uploaded.bytes += size;
        if pack.entry().kind == PackKind::Tree {
            self.uploaded.tree_bytes += size;
        }
        self.waiting_chunks += pack.entry().directory.frames.iter().map(|frame| frame.chunks.len()).sum::<usize>();
        self.waiting_bytes += size;
        self.waiting.push(pack);
        let due = self.waiting_chunks >= FLUSH_CHUNKS
            || self.waiting_bytes >= FLUSH_BYTES
            || self.flushed.elapsed() >= FLUSH_AFTER;
        if due { self.flush().await } else { Ok(()) }
    }

    /// Stores a segment of the packs that are durable and not yet indexed.
    async fn flush(&mut self) -> Result<(), UploadError> {
        self.flushed = Instant::now();
        if self.waiting.is_empty() {
            return Ok(());
        }
        let packs = std::mem::take(&mut self.waiting);
        (self.waiting_chunks, self.waiting_bytes) = (0, 0);
        let id = SegmentId(random());
        let session = self.session.clone();
        let extra_check = self.limits.extra_check;
        let sealed = blocking(move || {
            let object = session.seal_segment(id, &packs);
            let checked = if extra_check { session.check_segment(id, &packs, &object) } else { Ok(()) };
            checked.map(|()| (object, packs))
        });
        let sealed = sealed.await;
        let (object, packs) = sealed.map_err(|source| UploadError::AlteredSegment { segment: id, source })?;
        let (bytes, transfer) = (object.len() as u64, self.transfer());
        self.monitor.add(Counter::SealedBytes, bytes);
        let put = self.session.repository().objects().put_segment(id, object, &transfer).await;
        let stored = put.map_err(|source| UploadError::Segment { segment: id, source })?;
        let (index, claims) = (self.index.clone(), self.claims.clone());
        blocking(move || {
            let entries: Vec<PackEntry> = packs.into_iter().map(UploadedPack::into_entry).collect();
            index.add_stored(stored, &entries)?;
            claims.forget(&entries);
            Ok::<_, IndexError>(())
        })
        .await?;
        self.uploaded.segments += 1;
        self.uploaded.bytes += bytes;
        self.uploaded.tree_bytes += bytes;
        Ok(())
    }

    /// Counts what is stored of one object while it is on its way.
    fn transfer(&self) -> Transfer {
        let monitor = self.monitor.clone();
        Transfer::new(move |bytes| monitor.add(Counter::StoredBytes, bytes))
    }
}

impl Drop for Run {
    /// Whoever waits for room finds that nothing is uploaded any more.
    fn drop(&mut self) {
        self.rooms.0.close();
    }
}

async fn put(repository: Arc<Repository>, image: PackImage, transfer: Transfer) -> Result<UploadedPack, UploadError> {
    let pack = image.entry().id;
    repository.objects().put_pack(image, &transfer).await.map_err(|source| UploadError::Pack { pack, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_pack_waits_while_the_others_are_on_their_way() {
        let rooms = Rooms::new(UploadLimits { packs_in_flight: 2, extra_check: true });
        let mut taken = Vec::new();
        for _ in 0..3 {
            taken.push(rooms.take().await.expect("there is room"));
        }
        assert_eq!(rooms.0.available_permits(), 0);
        drop(taken.pop());
        assert_eq!(rooms.0.available_permits(), 1);
        rooms.0.close();
        assert_eq!(rooms.take().await.map(drop), Err(UploadStopped));
    }
}
