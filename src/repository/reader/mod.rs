//! Reading: chunks are located, their frames fetched, opened, decompressed and checked against their ids.
//!
//! Every step is authenticated: the pack's key commitment, the frame's tag, and the keyed hash of the chunk. A frame that
//! fails is fetched once more, then from the next replica, and looked for in other packs before an error names it. [`ReadError::is_damage`] tells what is
//! wrong with stored data from what is wrong with the way to it.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::OnceCell;

use crate::blocking::blocking;
use crate::compress::{DecompressError, decompress};
use crate::crypto::CryptoError;
use crate::crypto::chunk_id::ChunkHasher;
use crate::crypto::pack::PackOpener;
use crate::format::FormatError;
use crate::format::tree::Node;
use crate::model::id::{ChunkId, DomainId, PackId};
use crate::model::outcome::{Ended, Outcome};
use crate::progress::Monitor;
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::index::table::{Location, PackInfo};
use crate::repository::keys::SessionKeyError;
use crate::store::StoreError;

pub mod chunks;
pub mod content;
pub mod differing;
pub mod fetch;
pub mod pack;
pub mod walk;

/// The part of the memory given in which decoded frames are kept for chunks that are asked for soon after.
const FRAMES_KEPT_SHARE: u64 = 8;

/// Why a chunk could not be returned.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The index does not know the chunk.
    #[error("chunk {id} is not in the index")]
    Unknown {
        /// The chunk.
        id: String,
    },
    /// The index names a pack of which it knows nothing more.
    #[error("pack {pack} is not in the index")]
    NoPack {
        /// The pack.
        pack: PackId,
    },
    /// A pack's key could not be had.
    #[error("pack {pack} cannot be opened")]
    Key {
        /// The pack.
        pack: PackId,
        /// Why.
        #[source]
        source: SessionKeyError,
    },
    /// A frame was changed, or is another pack's.
    #[error("pack {pack} frame {frame} is damaged")]
    Damaged {
        /// The pack.
        pack: PackId,
        /// The frame's number.
        frame: u32,
        /// What failed.
        #[source]
        source: CryptoError,
    },
    /// A frame's plaintext is not what the directory says.
    #[error("pack {pack} frame {frame} is damaged")]
    Undecodable {
        /// The pack.
        pack: PackId,
        /// The frame's number.
        frame: u32,
        /// What failed.
        #[source]
        source: DecompressError,
    },
    /// A chunk's plaintext does not hash to its id.
    #[error("pack {pack} frame {frame} does not hold chunk {id}")]
    WrongChunk {
        /// The pack.
        pack: PackId,
        /// The frame's number.
        frame: u32,
        /// The chunk.
        id: String,
    },
    /// A frame could not be fetched.
    #[error("pack {pack} could not be fetched")]
    Fetch {
        /// The pack.
        pack: PackId,
        /// Why.
        #[source]
        source: Arc<StoreError>,
    },
    /// A node's bytes are authentic and yet not a node.
    #[error("tree node {id} cannot be read")]
    Node {
        /// The node.
        id: String,
        /// Why.
        #[source]
        source: FormatError,
    },
}

impl Ended for ReadError {
    fn outcome(&self) -> Outcome {
        match self {
            ReadError::Fetch { source, .. } => source.outcome(),
            ReadError::Key { source, .. } => source.outcome(),
            ReadError::Unknown { .. }
            | ReadError::NoPack { .. }
            | ReadError::Damaged { .. }
            | ReadError::Undecodable { .. }
            | ReadError::WrongChunk { .. }
            | ReadError::Node { .. } => Outcome::Damaged,
        }
    }
}

impl ReadError {
    /// Returns the pack concerned, if the error names one.
    pub fn pack(&self) -> Option<PackId> {
        match self {
            ReadError::Unknown { .. } | ReadError::Node { .. } => None,
            ReadError::NoPack { pack }
            | ReadError::Key { pack, .. }
            | ReadError::Damaged { pack, .. }
            | ReadError::Undecodable { pack, .. }
            | ReadError::WrongChunk { pack, .. }
            | ReadError::Fetch { pack, .. } => Some(*pack),
        }
    }

    /// Tells whether stored data is missing or wrong. Otherwise the store could not be reached or refused, which says
    /// nothing about what is stored: whoever meets that ends, and calls nothing damaged.
    pub fn is_damage(&self) -> bool {
        self.outcome() == Outcome::Damaged
    }
}

/// Which chunk ids a reader checks: those of one domain and key epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DomainEpoch {
    /// The domain.
    pub domain: DomainId,
    /// Its key epoch.
    pub epoch: u32,
}

type FrameKey = (PackId, u32);
type FrameCell = Arc<OnceCell<Arc<Vec<u8>>>>;

/// Reads chunks of a repository.
pub struct Reader {
    repository: Arc<Repository>,
    index: Arc<Index>,
    memory_bytes: u64,
    monitor: Arc<dyn Monitor>,
    hashers: Mutex<HashMap<DomainEpoch, ChunkHasher>>,
    frames: Mutex<FrameCache>,
    lost: fetch::Lost,
}

#[derive(Default)]
struct FrameCache {
    cells: HashMap<FrameKey, (FrameCell, usize)>,
    order: VecDeque<FrameKey>,
    bytes: usize,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reader({:?})", self.index)
    }
}

impl Reader {
    /// Makes a reader over a loaded index. What it keeps and reads ahead stays within `memory_bytes`.
    pub fn new(repository: Arc<Repository>, index: Arc<Index>, memory_bytes: u64, monitor: Arc<dyn Monitor>) -> Self {
        Self {
            repository,
            index,
            memory_bytes,
            monitor,
            hashers: Mutex::default(),
            frames: Mutex::default(),
            lost: fetch::Lost::default(),
        }
    }

    /// Returns the repository.
    pub fn repository(&self) -> &Arc<Repository> {
        &self.repository
    }

    /// Returns the index.
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// Returns the plaintext of a chunk, trying every pack that holds it.
    ///
    /// # Errors
    /// The [`ReadError`] of the last place tried; one that is not damage comes first, since it leaves the answer open.
    pub async fn chunk(self: &Arc<Self>, id: &ChunkId) -> Result<Vec<u8>, ReadError> {
        let mut last = ReadError::Unknown { id: id.short() };
        for location in self.index.locate_all(id) {
            match self.frame(&location).await.and_then(|frame| self.check_chunk(&location, id, &frame)) {
                Ok(chunk) => return Ok(chunk),
                Err(error) if last.is_damage() => last = error,
                Err(_) => {}
            }
        }
        Err(last)
    }

    fn check_chunk(&self, location: &Location, id: &ChunkId, frame: &[u8]) -> Result<Vec<u8>, ReadError> {
        Ok(self.verified(location, id, frame)?.to_vec())
    }

    /// Returns the part of a decoded frame that is chunk `id`, after comparing its hash.
    ///
    /// # Errors
    /// [`ReadError::WrongChunk`] when the frame holds something else there.
    pub fn verified<'a>(&self, location: &Location, id: &ChunkId, frame: &'a [u8]) -> Result<&'a [u8], ReadError> {
        let wrong = || ReadError::WrongChunk { pack: location.pack, frame: location.frame, id: id.short() };
        let end = location.offset as usize + location.length as usize;
        let chunk = frame.get(location.offset as usize..end).ok_or_else(wrong)?;
        let info = self.index.pack(location.pack).ok_or(ReadError::NoPack { pack: location.pack })?;
        if self.hasher(&info)?.id(chunk) == *id { Ok(chunk) } else { Err(wrong()) }
    }

    /// Returns the hasher of the domain that a pack belongs to.
    ///
    /// # Errors
    /// When the keyring has no such domain.
    pub fn hasher(&self, info: &PackInfo) -> Result<ChunkHasher, ReadError> {
        let domain = DomainEpoch { domain: info.header.domain, epoch: info.header.epoch };
        let mut hashers = self.hashers.lock().expect("no panic while held");
        if let Some(hasher) = hashers.get(&domain) {
            return Ok(hasher.clone());
        }
        let missing = SessionKeyError::NoDomain { domain: domain.domain, epoch: domain.epoch };
        let dedup = self.repository.keys().dedup(domain.domain, domain.epoch);
        let dedup = dedup.ok_or(ReadError::Key { pack: info.id, source: missing })?;
        let hasher = ChunkHasher::new(dedup);
        hashers.insert(domain, hasher.clone());
        Ok(hasher)
    }

    /// Returns the plaintext of the frame at `location`, fetched and decoded once for all who ask at the same time.
    ///
    /// # Errors
    /// Any [`ReadError`] but [`ReadError::WrongChunk`].
    pub async fn frame(self: &Arc<Self>, location: &Location) -> Result<Arc<Vec<u8>>, ReadError> {
        let cell = self.cell((location.pack, location.frame), location.plain_len as usize);
        let frame = cell.get_or_try_init(|| self.fetch_frame(*location)).await?;
        Ok(frame.clone())
    }

    fn cell(&self, key: FrameKey, bytes: usize) -> FrameCell {
        let mut cache = self.frames.lock().expect("no panic while held");
        if let Some((cell, _)) = cache.cells.get(&key) {
            return cell.clone();
        }
        while (cache.bytes + bytes) as u64 > self.memory_bytes / FRAMES_KEPT_SHARE
            && let Some(oldest) = cache.order.pop_front()
        {
            if let Some((_, bytes)) = cache.cells.remove(&oldest) {
                cache.bytes -= bytes;
            }
        }
        let cell = FrameCell::default();
        cache.cells.insert(key, (cell.clone(), bytes));
        cache.order.push_back(key);
        cache.bytes += bytes;
        cell
    }

    /// Fetches and decodes a frame. One that comes wrong is asked for once more, then at the next replica.
    async fn fetch_frame(self: &Arc<Self>, location: Location) -> Result<Arc<Vec<u8>>, ReadError> {
        let key = (location.pack, location.frame);
        if let Some(known) = self.lost.frame(key) {
            return Err(known);
        }
        let start = u64::from(location.frame_offset);
        let range = start..start + u64::from(location.sealed_len);
        let mut asking = fetch::Asking::over(self);
        while let Some(nth) = asking.next() {
            match self.fetch_frame_at(nth, location, range.clone()).await {
                Ok(frame) => return Ok(asking.told(frame)),
                Err(error) => asking.failed(error),
            }
        }
        let error = asking.error();
        if error.is_damage() {
            self.lost.note_frame(key, &error);
        }
        Err(error)
    }

    async fn fetch_frame_at(
        self: &Arc<Self>,
        nth: usize,
        location: Location,
        range: Range<u64>,
    ) -> Result<Arc<Vec<u8>>, ReadError> {
        let first = self.fetch_at(nth, location.pack, range.clone()).await?;
        let error = match self.decoded(location, first.clone()).await {
            Err(error @ (ReadError::Damaged { .. } | ReadError::Undecodable { .. })) => error,
            other => return other,
        };
        let second = self.fetch_at(nth, location.pack, range).await?;
        if second == first {
            return Err(error);
        }
        self.decoded(location, second).await.map_err(|_| error)
    }

    async fn decoded(self: &Arc<Self>, location: Location, sealed: Bytes) -> Result<Arc<Vec<u8>>, ReadError> {
        let reader = self.clone();
        blocking(move || reader.decode_frame(&location, sealed.into())).await.map(Arc::new)
    }

    /// Opens and decompresses a fetched frame. CPU work: call it from the blocking pool.
    ///
    /// # Errors
    /// Any [`ReadError`] but those of fetching and [`ReadError::WrongChunk`].
    pub fn decode_frame(&self, location: &Location, mut sealed: Vec<u8>) -> Result<Vec<u8>, ReadError> {
        let opener = self.opener(location.pack)?;
        let (pack, frame) = (location.pack, location.frame);
        let encoded =
            opener.open_frame(frame, &mut sealed).map_err(|source| ReadError::Damaged { pack, frame, source })?;
        decompress(location.codec, encoded, location.plain_len).map_err(|source| ReadError::Undecodable {
            pack,
            frame,
            source,
        })
    }

    /// Derives the key that opens a pack's frames, comparing its commitment with the index's.
    ///
    /// # Errors
    /// [`ReadError::Key`] when the session cannot be opened, [`ReadError::Damaged`] when the commitment is another key's.
    pub fn opener(&self, pack: PackId) -> Result<PackOpener, ReadError> {
        let info = self.index.pack(pack).ok_or(ReadError::NoPack { pack })?;
        let secret =
            self.repository.keys().session_secret(&info.header).map_err(|source| ReadError::Key { pack, source })?;
        PackOpener::new(&secret, self.repository.id(), pack, &info.commitment).map_err(|source| ReadError::Damaged {
            pack,
            frame: 0,
            source,
        })
    }

    /// Returns a node of a tree or chunk list.
    ///
    /// # Errors
    /// [`ReadError`] when its chunk cannot be had or is not a node.
    pub async fn node(self: &Arc<Self>, id: &ChunkId) -> Result<Node, ReadError> {
        let bytes = self.chunk(id).await?;
        Node::decode(&bytes).map_err(|source| ReadError::Node { id: id.short(), source })
    }
}
