//! Vouching: what a reader read whole and found right, and writers alone name, it names in index segments of its own, so that writers
//! who do not take each other's word deduplicate against it (`docs/format.md`, section 10).
//!
//! Nothing is named that was not read by the same run, nor what is doomed, nor a pack of recipes: what these make depends on others. A lease is held from before the lists are read until the segment
//! is stored, so that whoever dooms a pack afterwards waits, as for any run that relies on it.

use std::collections::{BTreeMap, HashSet};

use crate::blocking::blocking;
use crate::crypto::random;
use crate::format::index::PackEntry;
use crate::format::lease::Lease;
use crate::model::id::{DomainEpoch, PackId, SegmentId};
use crate::model::time::Clock;
use crate::repository::access::Writing;
use crate::repository::index::own::OwnPack;
use crate::repository::lease::HeldLease;
use crate::repository::objects::UploadedPack;
use crate::repository::recheck::Altered;
use crate::repository::session::SessionError;
use crate::store::StoreError;
use crate::store::transfer::Transfer;

/// The longest directory of a pack that is vouched for, in bytes: decoded and sealed it takes some times that.
const DIRECTORY_MAX: usize = 4 << 20;
/// Bytes of directories after which a segment is due.
const SEGMENT_BYTES: usize = 1 << 20;

/// Why nothing could be vouched for.
#[derive(Debug, thiserror::Error)]
pub enum VouchError {
    /// No segment can be made.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A segment does not open to what was sealed. It was not stored.
    #[error("the index segment is not as it was made: the memory or the processor of this machine is faulty")]
    Altered(#[from] Altered),
    /// The store does not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Packs that were read whole, found right, and are to be named.
#[derive(Debug, Default)]
pub struct ReadWhole {
    packs: BTreeMap<DomainEpoch, Vec<PackEntry>>,
    bytes: usize,
}

impl ReadWhole {
    /// Adds what another one has.
    pub fn extend(&mut self, other: Self) {
        for (at, mut packs) in other.packs {
            self.packs.entry(at).or_default().append(&mut packs);
        }
        self.bytes += other.bytes;
    }

    /// Returns how many packs there are.
    pub fn count(&self) -> usize {
        self.packs.values().map(Vec::len).sum()
    }

    /// Tells whether there are as many as a segment should have.
    pub fn is_full(&self) -> bool {
        self.bytes >= SEGMENT_BYTES
    }

    /// Takes them out.
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}

impl Writing {
    /// Names packs in segments of ours, one for each domain and epoch. Returns how many were named.
    ///
    /// # Errors
    /// [`VouchError`]; some may have been named by then.
    pub async fn vouch(&self, read: ReadWhole, host: &str, clock: Clock) -> Result<u64, VouchError> {
        let mut named = 0;
        for (at, packs) in read.packs {
            let session = self.begin_session_at(at)?;
            let now = clock.now();
            let lease = Lease { host: host.to_owned(), operation: "verify".into(), started: now, ..Lease::default() };
            let lease = HeldLease::take(session.clone(), lease, clock).await?;
            let stored = async {
                let doomed: HashSet<PackId> = self.repository().cleanups().await?.doomed(now);
                let packs: Vec<UploadedPack> =
                    packs.into_iter().filter(|pack| !doomed.contains(&pack.id)).map(UploadedPack::read_whole).collect();
                if packs.is_empty() {
                    return Ok(0);
                }
                let id = SegmentId(random());
                let sealing = session.clone();
                let sealed = blocking(move || {
                    let object = sealing.seal_segment(id, &packs);
                    sealing.check_segment(id, &packs, &object).map(|()| (object, packs.len()))
                });
                let (object, count) = sealed.await?;
                self.repository().objects().put_segment(id, object, &Transfer::unheard()).await?;
                Ok::<_, VouchError>(count as u64)
            }
            .await;
            lease.release().await;
            named += stored?;
        }
        Ok(named)
    }
}

impl OwnPack {
    /// Returns the pack as it may be vouched for, which has this SHA-256.
    pub(super) fn read_whole(&self, digest: [u8; 32]) -> Option<ReadWhole> {
        let bytes = self.directory_len();
        if bytes > DIRECTORY_MAX || self.holds_recipes() {
            return None;
        }
        let entry = self.entry(digest);
        Some(ReadWhole { packs: [(entry.header.at, vec![entry])].into(), bytes })
    }
}
