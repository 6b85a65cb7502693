//! Merging small index segments in the repository: many of one author become few, so that a machine without a cache opens an index
//! of tens of objects, however many runs there were.
//!
//! Whose word it is does not change by that: what a writer said, a reader repeats as that writer's word (`docs/format.md`, section 10), so
//! nothing need be read to merge it, and a lie stays the lie of who told it. A merged segment is durable before those that it replaces
//! are named as gone, and only then they go. What clean-ups deleted is left out.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::blocking::blocking;
use crate::crypto::random;
use crate::crypto::session::{SESSION_HEADER_LEN, SessionHeader};
use crate::format::FormatError;
use crate::format::index::{IndexSegment, PackEntry};
use crate::format::object::INDEX;
use crate::model::author::Author;
use crate::model::id::{DomainEpoch, DomainId, PackId, SegmentId};
use crate::model::key::ObjectKey;
use crate::model::outcome::{Ended, Outcome};
use crate::model::time::Timestamp;
use crate::progress::Monitor;
use crate::repository::Repository;
use crate::repository::access::Deleting;
use crate::repository::deleting::was_too_long_ago;
use crate::repository::index::{Index, IndexError, SETTLED_BYTES, open_segment};
use crate::repository::recheck::Altered;
use crate::repository::session::SessionError;
use crate::store::transfer::Transfer;
use crate::store::{StoreError, StoreErrorKind};

/// How long a merged segment gets, in bytes.
const MERGED_BYTES: u64 = 2 * SETTLED_BYTES;
/// Bytes that are gathered at the same time, for segments of all authors.
const GATHERED_BYTES: u64 = 2 * MERGED_BYTES;
/// Small segments of one author, domain and epoch that stay as they are.
const SMALL_KEPT: usize = 3;

/// Why segments could not be merged. Those that there were are still there, or those in their place.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// What there is cannot be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// No segment can be made.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A segment does not open to what was sealed. It was not stored.
    #[error("the index segment is not as it was made: the memory or the processor of this machine is faulty")]
    Altered(#[from] Altered),
    /// The store does not list, give or take one.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Ended for MergeError {
    fn outcome(&self) -> Outcome {
        match self {
            MergeError::Index(error) => error.outcome(),
            MergeError::Session(error) => error.outcome(),
            MergeError::Altered(_) => Outcome::Failed,
            MergeError::Store(error) => error.outcome(),
        }
    }
}

/// Whose word segments are, and where they are sealed.
type Group = (DomainEpoch, Author);

/// Segments that are to be merged, and what was known when that was found out.
#[derive(Debug, Default)]
pub struct SegmentsToMerge {
    /// Those of one author one behind the other.
    wanted: Vec<SegmentId>,
    /// Segments that a list names as gone and that are still there: an earlier run was cut off.
    gone: Vec<SegmentId>,
    /// Packs that clean-ups have deleted.
    deleted: HashSet<PackId>,
    /// Packs in segments that are wanted, of which one that stays says the same.
    told_elsewhere: HashSet<(PackId, Author)>,
    read: Timestamp,
}

impl SegmentsToMerge {
    /// Tells whether there is nothing to be done.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.gone.is_empty()
    }

    /// Returns segments that count as gone already.
    pub fn gone(&self) -> &[SegmentId] {
        &self.gone
    }

    fn is_told_elsewhere(&self, pack: PackId, author: Author) -> bool {
        self.told_elsewhere.contains(&(pack, author))
    }

    /// Tells whether it was found out too long ago: what is deleted by now, no list may tell any more.
    fn is_too_old(&self, now: Timestamp) -> bool {
        was_too_long_ago(self.read, now)
    }
}

/// Segments in whose place others are durable, by their domains.
#[derive(Debug, Default)]
pub struct ReplacedSegments {
    /// Those that may go, once a list of their domain names them as gone.
    pub replaced: BTreeMap<DomainId, Vec<SegmentId>>,
    /// Those that were put in their place.
    pub put: u64,
}

impl Deleting {
    /// Finds out which segments are worth being merged: small ones of one author of which there are several, and those of which most
    /// tells of packs that were deleted.
    ///
    /// # Errors
    /// [`MergeError`].
    pub async fn segments_to_merge(
        &self,
        now: Timestamp,
        monitor: &dyn Monitor,
    ) -> Result<SegmentsToMerge, MergeError> {
        let repository = self.repository();
        let cleanups = repository.cleanups().await?;
        let lengths = repository.objects().segment_lengths().await?;
        let (gone, lengths): (BTreeMap<_, _>, BTreeMap<_, _>) =
            lengths.into_iter().partition(|(id, _)| cleanups.is_gone(&ObjectKey::segment(*id)));
        let packs = repository.objects().packs().await?;
        let is_there = |pack: &PackId| packs.sizes.contains_key(pack) || packs.partly.contains(pack);
        let deleted: HashSet<PackId> = cleanups.deleting().into_iter().filter(|pack| !is_there(pack)).collect();
        drop(packs);
        let index = Index::load(repository, monitor).await?;
        let chosen = blocking(move || chosen(&index, &lengths, deleted, now)).await;
        Ok(SegmentsToMerge { gone: gone.into_keys().collect(), ..chosen })
    }

    /// Merges segments; what is returned is durable. `now` is asked before each is put, and nothing is when it is too late, or `ends`
    /// says so.
    ///
    /// # Errors
    /// [`MergeError`]; some may have been put by then, beside those that they repeat.
    pub async fn merge_segments(
        &self,
        merge: &SegmentsToMerge,
        now: impl Fn() -> Timestamp,
        ends: impl Fn() -> bool,
    ) -> Result<ReplacedSegments, MergeError> {
        let mut done = ReplacedSegments::default();
        let mut gathered: BTreeMap<Group, GatheredPacks> = BTreeMap::new();
        for id in &merge.wanted {
            if merge.is_too_old(now()) || ends() {
                return Ok(done);
            }
            let Some((at, segment)) = open_for_merging(self.repository(), *id).await? else { continue };
            let group = (at, segment.author());
            let new = gathered.entry(group).or_default();
            let bytes = new.bytes_with(&segment);
            if bytes > MERGED_BYTES && !new.sources.is_empty() {
                let full = std::mem::take(new);
                self.put_merged(group, full, &mut done).await?;
            }
            gathered.entry(group).or_default().add(merge, *id, segment);
            if gathered.values().map(|it| it.bytes).sum::<u64>() > GATHERED_BYTES {
                let largest = gathered.iter().max_by_key(|(_, it)| it.bytes).map(|(group, _)| *group);
                let (group, largest) = largest.and_then(|group| gathered.remove_entry(&group)).expect("there are some");
                self.put_merged(group, largest, &mut done).await?;
            }
        }
        for (group, rest) in gathered {
            if merge.is_too_old(now()) || ends() {
                return Ok(done);
            }
            self.put_merged(group, rest, &mut done).await?;
        }
        Ok(done)
    }

    async fn put_merged(
        &self,
        (at, author): Group,
        gathered: GatheredPacks,
        done: &mut ReplacedSegments,
    ) -> Result<(), MergeError> {
        if !gathered.is_worth_it() {
            return Ok(());
        }
        if !gathered.packs.is_empty() {
            let session = self.writing().begin_session_at(at)?;
            let id = SegmentId(random());
            let sealed =
                blocking(move || session.seal_repeated(id, &IndexSegment::repeating(author, gathered.packs))).await?;
            self.repository().objects().put_segment(id, sealed, &Transfer::unheard()).await?;
            done.put += 1;
        }
        done.replaced.entry(at.domain).or_default().extend(gathered.sources);
        Ok(())
    }

    /// Removes the object of a segment that a durable list names as gone.
    ///
    /// # Errors
    /// The store's.
    pub async fn remove_segment(&self, id: SegmentId) -> Result<(), StoreError> {
        self.repository().objects().remove_segment(id).await
    }
}

/// Chooses among the segments of an index, which are so long.
fn chosen(
    index: &Index,
    lengths: &BTreeMap<SegmentId, u64>,
    deleted: HashSet<PackId>,
    now: Timestamp,
) -> SegmentsToMerge {
    // Frames of packs that were deleted, and of all, with a pack.
    let mut told: HashMap<SegmentId, (u64, u64, PackId, Author)> = HashMap::new();
    let tables = index.tables();
    for telling in tables.iter().flat_map(|table| table.tellings()) {
        let frames = u64::from(telling.frames);
        let (gone, all, ..) = told.entry(telling.segment).or_insert((0, 0, telling.pack, telling.author));
        *gone += if deleted.contains(&telling.pack) { frames } else { 0 };
        *all += frames;
    }
    let is_dead = |id: &SegmentId| told.get(id).is_some_and(|(gone, all, ..)| gone * 2 > *all);
    let group = |id: &SegmentId| {
        let &(_, _, pack, author) = told.get(id)?;
        let info = tables.iter().find_map(|table| table.pack(pack).find(|info| info.author == author))?;
        Some((info.header.at, author))
    };
    let mut groups: BTreeMap<Option<Group>, Vec<SegmentId>> = BTreeMap::new();
    for (id, _) in lengths.iter().filter(|(id, length)| **length < SETTLED_BYTES || is_dead(id)) {
        groups.entry(group(id)).or_default().push(*id);
    }
    groups.retain(|_, ids| ids.len() > SMALL_KEPT || ids.iter().any(is_dead));
    let wanted: Vec<SegmentId> = groups.into_values().flatten().collect();
    let are_wanted: HashSet<&SegmentId> = wanted.iter().collect();
    let tellings = || tables.iter().flat_map(|table| table.tellings());
    let concerned: HashSet<PackId> =
        tellings().filter(|it| are_wanted.contains(&it.segment)).map(|it| it.pack).collect();
    // One that a required replica lacks would be lost with the others.
    let is_whole = |segment: &SegmentId| lengths.contains_key(segment) && !index.lacking.contains(segment);
    let stays = |segment: &SegmentId| is_whole(segment) && !are_wanted.contains(segment);
    let elsewhere = tellings().filter(|it| concerned.contains(&it.pack) && stays(&it.segment));
    let told_elsewhere = elsewhere.filter(|it| index.pack(it.pack).len() == 1).map(|it| (it.pack, it.author)).collect();
    SegmentsToMerge { wanted, deleted, told_elsewhere, read: now, ..SegmentsToMerge::default() }
}

/// Fetches and opens a segment; `None` where it is not there, cannot be read, or is of no epoch that this key opens: it stays.
async fn open_for_merging(
    repository: &Repository,
    id: SegmentId,
) -> Result<Option<(DomainEpoch, IndexSegment)>, StoreError> {
    let open = |object: &Bytes| {
        let (at, _) = INDEX.split(object)?;
        if repository.keys().is_not_for_us(at) {
            return Ok(None);
        }
        Ok::<_, FormatError>(Some((at, open_segment(repository, id, object)?)))
    };
    match repository.objects().segment(id, open).await {
        Ok((opened, _room)) => Ok(opened.ok().flatten()),
        Err(error) if error.kind == StoreErrorKind::NotFound || error.kind.is_damage() => Ok(None),
        Err(error) => Err(error),
    }
}

/// What one merged segment will tell.
#[derive(Debug, Default)]
struct GatheredPacks {
    packs: Vec<PackEntry>,
    known: HashMap<PackId, usize>,
    headers: HashSet<Arc<SessionHeader>>,
    /// About how long it will be.
    bytes: u64,
    sources: Vec<SegmentId>,
    /// Whether it tells less than its sources did.
    is_less: bool,
}

impl GatheredPacks {
    /// Returns about how long it would be with another segment.
    fn bytes_with(&self, segment: &IndexSegment) -> u64 {
        self.bytes + segment.packs().iter().map(pack_bytes).sum::<u64>()
    }

    /// Takes a segment in, unless it contradicts what is there: then it stays as it is.
    fn add(&mut self, merge: &SegmentsToMerge, id: SegmentId, segment: IndexSegment) {
        let is_contradicted =
            |pack: &PackEntry| self.known.get(&pack.id).is_some_and(|known| self.packs[*known] != *pack);
        if segment.packs().iter().any(is_contradicted) {
            return;
        }
        let author = segment.author();
        let packs = segment.into_packs();
        let is_superfluous =
            |pack: &PackEntry| merge.deleted.contains(&pack.id) || merge.is_told_elsewhere(pack.id, author);
        self.sources.push(id);
        for pack in packs {
            if is_superfluous(&pack) || self.known.contains_key(&pack.id) {
                self.is_less = true;
                continue;
            }
            if self.headers.insert(pack.header.clone()) {
                self.bytes += SESSION_HEADER_LEN as u64;
            }
            self.bytes += pack_bytes(&pack) - SESSION_HEADER_LEN as u64;
            self.known.insert(pack.id, self.packs.len());
            self.packs.push(pack);
        }
    }

    fn is_worth_it(&self) -> bool {
        self.sources.len() > 1 || self.is_less || self.packs.is_empty() && !self.sources.is_empty()
    }
}

/// Returns about how much a pack takes in a segment, with the header of its session.
fn pack_bytes(pack: &PackEntry) -> u64 {
    let frames = &pack.directory.frames;
    let chunks: usize = frames.iter().map(|frame| frame.chunks.len()).sum();
    (SESSION_HEADER_LEN + 96 + frames.len() * 8 + chunks * 18) as u64
}
