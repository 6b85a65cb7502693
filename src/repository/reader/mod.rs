//! Reading: chunks are located, their frames fetched, opened, decompressed and checked against their ids.
//!
//! Every step is authenticated: the pack's key commitment, the frame's tag, and the keyed hash of the chunk. A frame that
//! fails is fetched once more, then from the next replica, and looked for in other packs before an error names it. A chunk that
//! is stored as a recipe is put together from parts of others and compared in the same way.
//! [`ReadError::is_damage`] tells what is wrong with stored data from what is wrong with the way to it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;

use crate::compress::DecompressError;
use crate::crypto::CryptoError;
use crate::crypto::chunk_id::ChunkHasher;
use crate::format::FormatError;
use crate::format::tree::Node;
use crate::model::id::{ChunkId, ChunkKey, DomainEpoch, PackId};
use crate::model::outcome::{Ended, Outcome};
use crate::progress::Monitor;
use crate::repository::Repository;
use crate::repository::access::Reading;
use crate::repository::index::table::{ChunkPlace, PackInfo};
use crate::repository::index::{Index, IndexError};
use crate::repository::keys::SessionKeyError;
use crate::repository::reader::effort::{Effort, Tellers};
use crate::repository::reader::telling::FirstPlaces;
use crate::repository::reader::told::Told;
use crate::repository::reader::windows::WindowAt;
use crate::store::StoreError;

pub mod at;
mod carefully;
pub mod chunks;
mod coming;
pub mod content;
pub mod differing;
pub mod directory;
mod effort;
pub mod fetch;
pub mod frame;
pub mod gather;
mod own;
pub mod pack;
mod pieces;
pub mod range;
pub mod reach;
mod recipe;
pub mod salvage;
mod scope;
mod telling;
pub mod told;
pub mod walk;
pub mod windows;
mod windows_of_pack;

/// Why a chunk could not be returned.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The index does not know the chunk.
    #[error("chunk {} is not in the index", id.short())]
    Unknown {
        /// The chunk.
        id: ChunkKey,
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
    #[error("pack {pack} frame {frame} does not hold chunk {}", id.short())]
    WrongChunk {
        /// The pack.
        pack: PackId,
        /// The frame's number.
        frame: u32,
        /// The chunk.
        id: ChunkKey,
    },
    /// What stands where a recipe should is none, or asks for more than a reader may be asked for.
    #[error("pack {pack} frame {frame} has a recipe that cannot be used")]
    Recipe {
        /// The pack.
        pack: PackId,
        /// The frame's number.
        frame: u32,
        /// What is wrong with it.
        #[source]
        source: FormatError,
    },
    /// A recipe makes something else, though every chunk that it names is right.
    #[error("pack {pack} frame {frame}: what its recipe makes is not chunk {}", id.short())]
    WrongRecipe {
        /// The pack.
        pack: PackId,
        /// The frame's number.
        frame: u32,
        /// The chunk.
        id: ChunkKey,
    },
    /// A chunk is stored as a recipe, and another one that the recipe names cannot be had.
    #[error("chunk {} cannot be put together by its recipe (pack {pack} frame {frame})", window.short())]
    Part {
        /// The chunk.
        window: ChunkKey,
        /// The pack of the recipe.
        pack: PackId,
        /// The number of its frame.
        frame: u32,
        /// The chunk that is named.
        part: ChunkKey,
        /// Why that cannot be had.
        #[source]
        source: Box<ReadError>,
    },
    /// The index knows a chunk, and not with the length that its file says.
    #[error("chunk {} has another length than its file says", id.short())]
    OtherLength {
        /// The chunk.
        id: ChunkKey,
    },
    /// The index does not know where something is, and could not be made anew to be sure of it.
    #[error("the index cannot be made anew")]
    Index(#[source] Arc<IndexError>),
    /// A pack does not tell what is in it.
    #[error("pack {pack}: {why}")]
    Own {
        /// The pack.
        pack: PackId,
        /// What is wrong with it, as a clause about the pack.
        why: String,
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
    #[error("tree node {} cannot be read", id.short())]
    Node {
        /// The node.
        id: ChunkId,
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
            ReadError::Index(source) => source.outcome(),
            ReadError::Part { source, .. } => source.outcome(),
            ReadError::Unknown { .. }
            | ReadError::OtherLength { .. }
            | ReadError::NoPack { .. }
            | ReadError::Damaged { .. }
            | ReadError::Undecodable { .. }
            | ReadError::WrongChunk { .. }
            | ReadError::Recipe { .. }
            | ReadError::WrongRecipe { .. }
            | ReadError::Own { .. }
            | ReadError::Node { .. } => Outcome::Damaged,
        }
    }
}

impl ReadError {
    /// Returns the pack that is at fault, if the error names one.
    pub fn pack(&self) -> Option<PackId> {
        match self {
            ReadError::Index(_)
            | ReadError::Unknown { .. }
            | ReadError::OtherLength { .. }
            | ReadError::Node { .. } => None,
            ReadError::NoPack { pack }
            | ReadError::Key { pack, .. }
            | ReadError::Damaged { pack, .. }
            | ReadError::Undecodable { pack, .. }
            | ReadError::WrongChunk { pack, .. }
            | ReadError::Recipe { pack, .. }
            | ReadError::WrongRecipe { pack, .. }
            | ReadError::Own { pack, .. }
            | ReadError::Fetch { pack, .. } => Some(*pack),
            ReadError::Part { source, .. } => source.pack(),
        }
    }

    /// Returns what is at fault in the end, where a recipe names it.
    pub fn root(&self) -> &ReadError {
        match self {
            ReadError::Part { source, .. } => source.root(),
            error => error,
        }
    }

    /// Returns the frame that is at fault, if it is one.
    pub fn frame(&self) -> Option<(PackId, u32)> {
        match self.root() {
            ReadError::Damaged { pack, frame, .. }
            | ReadError::Undecodable { pack, frame, .. }
            | ReadError::WrongChunk { pack, frame, .. }
            | ReadError::Recipe { pack, frame, .. }
            | ReadError::WrongRecipe { pack, frame, .. } => Some((*pack, *frame)),
            _ => None,
        }
    }

    /// Tells whether stored data is missing or wrong. Otherwise the store could not be reached or refused, which says
    /// nothing about what is stored: whoever meets that ends, and calls nothing damaged.
    pub fn is_damage(&self) -> bool {
        self.outcome() == Outcome::Damaged
    }
}

/// Reads chunks of a repository.
pub struct Reader {
    repository: Arc<Repository>,
    index: Arc<Index>,
    memory_bytes: u64,
    monitor: Arc<dyn Monitor>,
    hashers: Mutex<HashMap<DomainEpoch, ChunkHasher>>,
    frames: Mutex<frame::FrameCache>,
    lost: fetch::LostSoFar,
    ranges: Arc<Semaphore>,
    windows: windows::Windows,
    vain: telling::InVain,
    own: own::OwnPacks,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reader({:?})", self.index)
    }
}

impl Reader {
    /// Makes a reader over a loaded index. What it keeps and reads ahead stays within `memory_bytes`.
    pub fn new(reading: Reading, index: Arc<Index>, memory_bytes: u64, monitor: Arc<dyn Monitor>) -> Self {
        Self {
            repository: reading.repository().clone(),
            index,
            memory_bytes,
            monitor,
            hashers: Mutex::default(),
            frames: Mutex::default(),
            lost: fetch::LostSoFar::default(),
            ranges: Arc::new(Semaphore::new(gather::ranges_in(memory_bytes))),
            windows: windows::Windows::default(),
            vain: telling::InVain::of(reading.repository()),
            own: own::OwnPacks::default(),
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

    /// Returns the plaintext of a chunk, trying every place that holds it, and those of its recipes as long as what comes to nothing by the
    /// word of who tells of them has bounds (`effort`). Before none is believed to hold it, the index is loaded again where a pack is gone,
    /// and made anew, and the packs are asked themselves: what segments tell of them may be wrong.
    ///
    /// # Errors
    /// The [`ReadError`] of the last place tried; one that is not damage comes first, since it leaves the answer open.
    pub async fn chunk(self: &Arc<Self>, id: &ChunkId) -> Result<Vec<u8>, ReadError> {
        match self.chunk_as_loaded(id).await {
            Err(error) if error.is_damage() => {
                let error = match self.made_anew().await? {
                    true => match self.chunk_as_loaded(id).await {
                        Err(error) if error.is_damage() => error,
                        answer => return answer,
                    },
                    false => error,
                };
                self.chunk_from_its_packs(id).await?.ok_or(error)
            }
            answer => answer,
        }
    }

    /// Looks again as long as packs turn out to be gone and the index is another one since.
    async fn chunk_as_loaded(self: &Arc<Self>, id: &ChunkId) -> Result<Vec<u8>, ReadError> {
        loop {
            let loads = self.index.loads();
            match self.chunk_where_indexed(id).await {
                Err(error) if error.is_damage() && self.loaded_since(loads).await? => {}
                answer => return answer,
            }
        }
    }

    /// Makes the index anew, unless this run has; tells whether there is reason to look again.
    async fn made_anew(&self) -> Result<bool, ReadError> {
        let made = self.index.make_anew(&self.repository, &*self.monitor).await;
        made.map_err(|error| ReadError::Index(Arc::new(error)))
    }

    async fn chunk_where_indexed(self: &Arc<Self>, id: &ChunkId) -> Result<Vec<u8>, ReadError> {
        let mut last = ReadError::Unknown { id: id.key() };
        let mut effort = Effort::default();
        for location in self.in_order(&id.key(), 0, FirstPlaces::OfReaders, |_| true) {
            let tellers = Tellers::of(location.author);
            let chunk = match location.codec.holds_recipes() {
                true if !effort.may_try(&tellers) => continue,
                true => {
                    let window = WindowAt { key: id.key(), id: Some(*id), length: None, location };
                    let made = self.window_told(&window, &tellers, &mut effort).await;
                    if made.is_err() {
                        effort.add_vain_at(&tellers, &location);
                    }
                    made
                }
                false => self.frame(&location).await.and_then(|frame| {
                    let place = self.place(&self.index.pack(location.pack), &location, id, &frame)?;
                    Ok(frame[place].to_vec())
                }),
            };
            let error = match chunk {
                Ok(chunk) => return Ok(chunk),
                Err(error) => error,
            };
            if error.is_damage() {
                self.vain.add(location.author);
            }
            if last.is_damage() {
                last = error;
            }
        }
        Err(last)
    }

    /// Returns where in a decoded frame chunk `id` stands, after comparing its hash. CPU work, of a microsecond for a KiB.
    /// `records` is what the index tells of the frame's pack.
    ///
    /// # Errors
    /// [`ReadError::WrongChunk`] when the frame holds something else there.
    fn place(
        &self,
        records: &[PackInfo],
        location: &ChunkPlace,
        id: &ChunkId,
        frame: &[u8],
    ) -> Result<Range<usize>, ReadError> {
        let wrong = || ReadError::WrongChunk { pack: location.pack, frame: location.frame, id: id.key() };
        let place = location.offset as usize..location.offset as usize + location.length as usize;
        let chunk = frame.get(place.clone()).ok_or_else(wrong)?;
        if records.is_empty() {
            return Err(ReadError::NoPack { pack: location.pack });
        }
        // Records may differ in the domain that they tell.
        let mut missing = None;
        for record in records {
            match self.hasher(record) {
                Ok(hasher) if hasher.id(chunk) == *id => return Ok(place),
                Ok(_) => {}
                Err(error) => missing = Some(error),
            }
        }
        Err(missing.unwrap_or_else(wrong))
    }

    /// Returns the hasher of the domain that a pack belongs to.
    ///
    /// # Errors
    /// When the keyring has no such domain.
    pub fn hasher(&self, info: &PackInfo) -> Result<ChunkHasher, ReadError> {
        let at = info.header.at;
        let mut hashers = self.hashers.lock().expect("no panic while held");
        if let Some(hasher) = hashers.get(&at) {
            return Ok(hasher.clone());
        }
        let missing = ReadError::Key { pack: info.id, source: SessionKeyError::NoDomain(at) };
        let dedup = self.repository.keys().dedup(at).ok_or(missing)?;
        let hasher = ChunkHasher::new(dedup);
        hashers.insert(at, hasher.clone());
        Ok(hasher)
    }

    /// Returns a node of a tree or chunk list, which is what its parent tells of it.
    ///
    /// # Errors
    /// [`ReadError`] when its chunk cannot be had, is not a node, or is another one than is told of.
    pub async fn node(self: &Arc<Self>, told: &impl Told) -> Result<Node, ReadError> {
        let bytes = self.chunk(told.id()).await?;
        told.held(Node::decode(&bytes))
    }
}
