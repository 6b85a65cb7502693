//! The one door to what is stored: put, get and list for every kind of object, whatever replicas there are.
//!
//! A get takes what makes bytes believable and gives nothing else. A put returns a proof that only it can make: an index
//! segment is made of [`UploadedPack`]s, and the index takes in a segment for a [`DurableObject`] name alone.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::convert::Infallible;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::crypto::random;
use crate::format::index::{IndexSegment, PackEntry};
use crate::model::cleanup::CleanupId;
use crate::model::forgetting::RetentionId;
use crate::model::id::{PackId, SegmentId, SessionId, SlotId};
use crate::model::key::{ObjectKey, ObjectKind};
use crate::model::run::RunId;
use crate::model::snapshot::SnapshotId;
use crate::model::verified::VerifiedId;
use crate::repository::packer::PackImage;
use crate::repository::replicas::{Replica, ReplicaRole, Replicas};
use crate::repository::sound::get_sound_large;
use crate::store::transfer::Transfer;
use crate::store::{ObjectInfo, StoreError, StoreErrorKind};

/// A pack that every required replica has reported durable.
#[derive(Debug)]
pub struct UploadedPack(PackEntry);

impl UploadedPack {
    /// Returns what the index will say about it.
    pub fn entry(&self) -> &PackEntry {
        &self.0
    }

    /// Returns the packs of an index segment that was opened: each was stored before the segment was.
    pub fn indexed(segment: IndexSegment) -> Vec<Self> {
        segment.into_packs().into_iter().map(Self).collect()
    }

    /// Takes what a pack tells of itself that the first replica, the only one that everything is written to, gave whole and right.
    pub(super) fn read_whole(entry: PackEntry) -> Self {
        Self(entry)
    }

    /// Takes what the index will say about it.
    pub fn into_entry(self) -> PackEntry {
        self.0
    }
}

/// The name of an object that every required replica has reported durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurableObject<I>(I);

impl<I: Copy> DurableObject<I> {
    /// Returns the name.
    pub fn id(&self) -> I {
        self.0
    }
}

/// What is stored of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<I> {
    /// Objects of this repository, in order of their names.
    pub ids: Vec<I>,
    /// What a NAS, a desktop or another repository left there.
    pub foreign: Vec<ObjectKey>,
}

impl<I> Listed<I> {
    pub(super) fn of(objects: Vec<ObjectInfo>, id: impl Fn(&ObjectKey) -> Option<I>) -> Self {
        let (mut ids, mut foreign) = (Vec::new(), Vec::new());
        for object in objects {
            match id(&object.key) {
                Some(id) => ids.push(id),
                None => foreign.push(object.key),
            }
        }
        Self { ids, foreign }
    }
}

/// The packs that every required replica lists alike.
#[derive(Debug, Default)]
pub struct ListedPacks {
    /// The length of each pack.
    pub sizes: HashMap<PackId, u64>,
    /// Objects with other names.
    pub foreign: Vec<ObjectKey>,
    /// Why packs that the listing lacks could not be asked for, so that nothing is known of them.
    pub refused: Option<StoreError>,
    /// Packs that a clean-up is deleting, or has: nobody misses them.
    pub deleting: HashSet<PackId>,
    /// Packs that some required replica has, and not all alike.
    pub partly: HashSet<PackId>,
}

/// Bytes of index segments that are fetched, opened and not done with at the same time; a longer one is alone. Opened, one is up to
/// four times as long.
const SEGMENTS_BYTES: u64 = 8 << 20;

/// Room that an index segment takes as long as this is there.
#[derive(Debug)]
pub(super) struct SegmentRoom {
    _permit: OwnedSemaphorePermit,
}

/// Every object of a repository, by kind.
#[derive(Debug, Clone)]
pub struct Objects {
    replicas: Replicas,
    /// The lengths with which index segments were last listed.
    segments: Arc<Mutex<HashMap<SegmentId, u64>>>,
    /// Room for those that are opened, in KiB.
    room: Arc<Semaphore>,
}

impl Objects {
    pub(super) fn new(replicas: Replicas) -> Self {
        Self { replicas, segments: Arc::default(), room: Arc::new(Semaphore::new((SEGMENTS_BYTES >> 10) as usize)) }
    }

    /// Returns where they are.
    pub fn replicas(&self) -> &Replicas {
        &self.replicas
    }

    pub(super) async fn put_config(&self, counter: u64, object: Vec<u8>) -> Result<(), StoreError> {
        self.replicas.put(&ObjectKey::config(counter, random()), object.into()).await
    }

    pub(super) async fn put_keyring(&self, counter: u64, object: Vec<u8>) -> Result<(), StoreError> {
        self.replicas.put(&ObjectKey::keyring(counter, random()), object.into()).await
    }

    /// Lists configurations or keyrings, for each replica that answers.
    pub(super) async fn signed(&self, kind: ObjectKind) -> Result<Vec<(&Replica, Vec<ObjectKey>)>, StoreError> {
        let listed = self.replicas.list_each(kind.prefix()).await?;
        let ours = |objects: Vec<ObjectInfo>| objects.into_iter().map(|object| object.key);
        Ok(listed
            .into_iter()
            .map(|(replica, objects)| (replica, ours(objects).filter(|key| key.counter().is_some()).collect()))
            .collect())
    }

    /// Fetches an object of any kind: what `decode` believes.
    ///
    /// # Errors
    /// The store's where it cannot be had; inside, what `decode` says of bytes that came wrong twice from everywhere.
    pub(super) async fn get<T, E>(
        &self,
        key: &ObjectKey,
        decode: impl FnMut(&Bytes) -> Result<T, E>,
    ) -> Result<Result<T, E>, StoreError> {
        self.replicas.get(key, decode).await
    }

    /// Lists the names of any kind with their lengths, foreign ones among them.
    pub(super) async fn list(&self, kind: ObjectKind) -> Result<Vec<ObjectInfo>, StoreError> {
        let listed = self.replicas.list(kind.prefix()).await?;
        if kind == ObjectKind::Index {
            self.note_segments(listed.iter());
        }
        Ok(listed)
    }

    /// Tells whether some replica that is written to has an object of this kind.
    pub(super) async fn has_any(&self, kind: ObjectKind) -> Result<bool, StoreError> {
        Ok(self.replicas.list_required(kind.prefix()).await?.iter().any(|objects| !objects.is_empty()))
    }

    pub(super) async fn put_slot(&self, id: SlotId, object: Vec<u8>) -> Result<(), StoreError> {
        self.replicas.put(&ObjectKey::slot(id), object.into()).await
    }

    pub(super) async fn remove_slot(&self, id: SlotId) -> Result<(), StoreError> {
        self.replicas.delete(&ObjectKey::slot(id)).await
    }

    /// Returns a key slot, unchecked, from the first replica that gives one.
    pub(super) async fn slot(&self, id: SlotId) -> Result<Bytes, StoreError> {
        let any = |bytes: &Bytes| Ok::<_, Infallible>(bytes.clone());
        let Ok(bytes) = self.get(&ObjectKey::slot(id), any).await?;
        Ok(bytes)
    }

    /// Returns a key slot as each replica gives it; those that do not have it are left out.
    ///
    /// # Errors
    /// When none can be asked.
    pub(super) async fn slot_everywhere(&self, id: SlotId) -> Result<Vec<Bytes>, StoreError> {
        let (mut copies, mut failed) = (Vec::new(), None);
        for replica in self.replicas.all() {
            match replica.store().get(&ObjectKey::slot(id)).await {
                Ok(bytes) => copies.push(bytes),
                Err(error) if error.kind.is_damage() => {}
                Err(error) => failed = Some(error),
            }
        }
        failed.filter(|_| copies.is_empty()).map_or(Ok(copies), Err)
    }

    pub(super) async fn put_lease(&self, session: SessionId, object: Vec<u8>) -> Result<(), StoreError> {
        self.replicas.put(&ObjectKey::session(session), object.into()).await
    }

    pub(super) async fn remove_lease(&self, session: SessionId) -> Result<(), StoreError> {
        self.replicas.delete(&ObjectKey::session(session)).await
    }

    /// Stores a pack under its id, and tells `transfer` how far it is.
    ///
    /// # Errors
    /// When a required replica did not take it.
    pub(super) async fn put_pack(&self, image: PackImage, transfer: &Transfer) -> Result<UploadedPack, StoreError> {
        let (entry, bytes) = image.into_parts();
        self.replicas.put_telling(&ObjectKey::pack(entry.id), bytes, &transfer.of_digest(entry.digest)).await?;
        Ok(UploadedPack(entry))
    }

    /// Returns bytes of a pack as the `nth` replica has them, unchecked.
    pub(super) async fn pack_range(&self, nth: usize, pack: PackId, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.replicas.all()[nth].store().get_range(&ObjectKey::pack(pack), range).await
    }

    /// Says that what came of a pack from the `nth` replica is not right: where versions are kept, what comes next is the first.
    pub(super) async fn look_back_at(&self, nth: usize, pack: PackId) -> Result<(), StoreError> {
        self.replicas.all()[nth].store().look_back(&ObjectKey::pack(pack)).await.map(drop)
    }

    /// Returns the length of a pack in the `nth` replica.
    pub(super) async fn pack_size_at(&self, nth: usize, pack: PackId) -> Result<u64, StoreError> {
        Ok(self.replicas.all()[nth].store().head(&ObjectKey::pack(pack)).await?.size)
    }

    /// Fetches a whole pack from the first replica, telling `transfer` how far it is: what `check` believes of it. Whoever verifies
    /// a replica looks at that one.
    ///
    /// # Errors
    /// The store's where it cannot be had; inside, what `check` says of bytes that came wrong twice.
    pub(super) async fn pack<T, E, F: Future<Output = Result<T, E>>>(
        &self,
        pack: PackId,
        transfer: &Transfer,
        check: impl FnMut(Bytes) -> F,
    ) -> Result<Result<T, E>, StoreError> {
        get_sound_large(self.replicas.all()[0].store(), &ObjectKey::pack(pack), transfer, check).await
    }

    /// Returns the length of a pack that every required replica has alike; `None` when one of them lacks it.
    pub(super) async fn pack_size(&self, pack: PackId) -> Result<Option<u64>, StoreError> {
        self.replicas.required_size(&ObjectKey::pack(pack)).await
    }

    /// Lists the packs that every required replica has alike.
    pub(super) async fn packs(&self) -> Result<ListedPacks, StoreError> {
        let mut all: Option<ListedPacks> = None;
        for objects in self.replicas.list_required(ObjectKind::Pack.prefix()).await? {
            let mut listed = ListedPacks::default();
            for object in objects {
                match object.key.pack_id() {
                    Some(id) => drop(listed.sizes.insert(id, object.size)),
                    None => listed.foreign.push(object.key),
                }
            }
            match &mut all {
                None => all = Some(listed),
                Some(all) => {
                    all.partly
                        .extend(listed.sizes.iter().filter(|(id, _)| !all.sizes.contains_key(id)).map(|(id, _)| *id));
                    let partly = &mut all.partly;
                    all.sizes.retain(|id, size| {
                        let is_alike = listed.sizes.get(id) == Some(size);
                        is_alike || {
                            partly.insert(*id);
                            false
                        }
                    });
                    all.foreign.append(&mut listed.foreign);
                }
            }
        }
        Ok(all.unwrap_or_default())
    }

    pub(super) async fn put_segment(
        &self,
        id: SegmentId,
        object: Vec<u8>,
        transfer: &Transfer,
    ) -> Result<DurableObject<SegmentId>, StoreError> {
        self.replicas.put_telling(&ObjectKey::segment(id), object.into(), transfer).await?;
        Ok(DurableObject(id))
    }

    /// Fetches and opens an index segment once there is room for it, which what was made of it takes until it is dropped.
    pub(super) async fn segment<T, E>(
        &self,
        id: SegmentId,
        mut open: impl FnMut(&Bytes) -> Result<T, E>,
    ) -> Result<(Result<T, E>, SegmentRoom), StoreError> {
        let (key, longest) = (ObjectKey::segment(id), ObjectKind::Index.bytes_max());
        let listed = self.segments.lock().expect("no panic while held").get(&id).copied();
        let mut most = listed.map_or(longest, |listed| listed.min(longest));
        loop {
            let kib = u32::try_from(most.min(SEGMENTS_BYTES).div_ceil(1024)).expect("a few thousand");
            let room = self.room.clone().acquire_many_owned(kib).await.expect("it is never closed");
            let transfer = Transfer::of_at_most(most, |_| {});
            match self.replicas.get_telling(&key, &transfer, &mut open).await {
                // A listing may state any length.
                Err(error) if error.kind == StoreErrorKind::TooLong && most < longest => most = longest,
                answer => return Ok((answer?, SegmentRoom { _permit: room })),
            }
        }
    }

    fn note_segments<'a>(&self, listed: impl Iterator<Item = &'a ObjectInfo>) {
        let mut lengths = HashMap::new();
        for (id, size) in listed.filter_map(|object| Some((object.key.segment_id()?, object.size))) {
            let length = lengths.entry(id).or_insert(size);
            *length = size.max(*length);
        }
        *self.segments.lock().expect("no panic while held") = lengths;
    }

    /// Lists the index segments of all replicas, and of these the ones that some required replica lacks.
    pub(super) async fn segments(&self) -> Result<(BTreeSet<SegmentId>, BTreeSet<SegmentId>), StoreError> {
        let (mut all, mut common) = (BTreeSet::new(), None);
        let listed = self.replicas.list_each(ObjectKind::Index.prefix()).await?;
        self.note_segments(listed.iter().flat_map(|(_, objects)| objects));
        for (replica, objects) in listed {
            let ids: BTreeSet<SegmentId> = objects.iter().filter_map(|object| object.key.segment_id()).collect();
            all.extend(ids.iter().copied());
            if replica.role() == ReplicaRole::Required {
                common = Some(common.map_or_else(|| ids.clone(), |common: BTreeSet<_>| &common & &ids));
            }
        }
        let lacking = common.map_or_else(BTreeSet::new, |common| &all - &common);
        Ok((all, lacking))
    }

    pub(super) async fn put_snapshot(
        &self,
        id: SnapshotId,
        object: Bytes,
    ) -> Result<DurableObject<SnapshotId>, StoreError> {
        self.replicas.put(&ObjectKey::snapshot(id), object).await?;
        Ok(DurableObject(id))
    }

    pub(super) async fn snapshot<T, E>(
        &self,
        id: SnapshotId,
        open: impl FnMut(&Bytes) -> Result<T, E>,
    ) -> Result<Result<T, E>, StoreError> {
        self.get(&ObjectKey::snapshot(id), open).await
    }

    /// Tells whether any replica says that it has an object, when it is asked for that one.
    pub(super) async fn has(&self, key: &ObjectKey) -> bool {
        for replica in self.replicas.all() {
            if replica.store().head(key).await.is_ok() {
                return true;
            }
        }
        false
    }

    /// Lists the snapshots, the oldest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn snapshots(&self) -> Result<Listed<SnapshotId>, StoreError> {
        let mut listed = Listed::of(self.list(ObjectKind::Snapshot).await?, ObjectKey::snapshot_id);
        listed.ids.sort();
        Ok(listed)
    }

    /// Lists the snapshots that any replica has, each of which must answer, the oldest first.
    pub(super) async fn every_snapshot(&self) -> Result<Vec<SnapshotId>, StoreError> {
        let listed = self.replicas.list_every(ObjectKind::Snapshot.prefix()).await?;
        let ids: BTreeSet<SnapshotId> = listed.iter().filter_map(|object| object.key.snapshot_id()).collect();
        Ok(ids.into_iter().collect())
    }

    /// Lists the sessions of which any replica has a lease, each of which must answer.
    pub(super) async fn every_session(&self) -> Result<BTreeSet<SessionId>, StoreError> {
        let listed = self.replicas.list_every(ObjectKind::Session.prefix()).await?;
        Ok(listed.iter().filter_map(|object| object.key.session_id()).collect())
    }

    /// Removes a pack from every required replica; one that is not there counts as removed.
    pub(super) async fn remove_pack(&self, pack: PackId) -> Result<(), StoreError> {
        self.replicas.delete(&ObjectKey::pack(pack)).await
    }

    /// Removes a snapshot's object from every required replica; one that is not there counts as removed.
    pub(super) async fn remove_snapshot(&self, id: SnapshotId) -> Result<(), StoreError> {
        self.replicas.delete(&ObjectKey::snapshot(id)).await
    }

    /// Lists the index segments that any replica has, each of which must answer.
    pub(super) async fn every_segment(&self) -> Result<BTreeSet<SegmentId>, StoreError> {
        let listed = self.replicas.list_every(ObjectKind::Index.prefix()).await?;
        Ok(listed.iter().filter_map(|object| object.key.segment_id()).collect())
    }

    /// Lists the same with their lengths.
    pub(super) async fn segment_lengths(&self) -> Result<BTreeMap<SegmentId, u64>, StoreError> {
        let listed = self.replicas.list_every(ObjectKind::Index.prefix()).await?;
        Ok(listed.iter().filter_map(|object| Some((object.key.segment_id()?, object.size))).collect())
    }

    /// Removes an index segment from every required replica; one that is not there counts as removed.
    pub(super) async fn remove_segment(&self, id: SegmentId) -> Result<(), StoreError> {
        self.replicas.delete(&ObjectKey::segment(id)).await
    }

    pub(super) async fn put_cleanup(&self, id: CleanupId, object: Vec<u8>) -> Result<(), StoreError> {
        self.replicas.put(&ObjectKey::cleanup(id), object.into()).await
    }

    pub(super) async fn cleanup<T, E>(
        &self,
        id: CleanupId,
        open: impl FnMut(&Bytes) -> Result<T, E>,
    ) -> Result<Result<T, E>, StoreError> {
        self.get(&ObjectKey::cleanup(id), open).await
    }

    /// Lists the lists of cleaning up that every required replica has.
    pub(super) async fn cleanups_everywhere(&self) -> Result<BTreeSet<CleanupId>, StoreError> {
        let listed = self.replicas.list_required(ObjectKind::Cleanup.prefix()).await?;
        let ids = |objects: &Vec<ObjectInfo>| -> BTreeSet<CleanupId> {
            objects.iter().filter_map(|object| object.key.cleanup_id()).collect()
        };
        Ok(listed.iter().map(ids).reduce(|all, of_one| &all & &of_one).unwrap_or_default())
    }

    /// Removes a list of cleaning up from every required replica; one that is not there counts as removed.
    pub(super) async fn remove_cleanup(&self, id: CleanupId) -> Result<(), StoreError> {
        self.replicas.delete(&ObjectKey::cleanup(id)).await
    }

    /// Lists the lists of cleaning up that any replica has, in order of their numbers.
    pub(super) async fn cleanups(&self) -> Result<BTreeSet<CleanupId>, StoreError> {
        let listed = self.list(ObjectKind::Cleanup).await?;
        Ok(listed.iter().filter_map(|object| object.key.cleanup_id()).collect())
    }

    pub(super) async fn put_retention(&self, id: RetentionId, object: Vec<u8>) -> Result<(), StoreError> {
        self.replicas.put(&ObjectKey::retention(id), object.into()).await
    }

    pub(super) async fn retention<T, E>(
        &self,
        id: RetentionId,
        open: impl FnMut(&Bytes) -> Result<T, E>,
    ) -> Result<Result<T, E>, StoreError> {
        self.get(&ObjectKey::retention(id), open).await
    }

    /// Lists the records of retention that any replica has, with their lengths, in order of their names; where `every` replica must
    /// answer, one that does not is an error.
    pub(super) async fn retention_records(&self, every: bool) -> Result<BTreeMap<RetentionId, u64>, StoreError> {
        let listed = match every {
            true => self.replicas.list_every(ObjectKind::Retention.prefix()).await?,
            false => self.list(ObjectKind::Retention).await?,
        };
        Ok(listed.iter().filter_map(|object| Some((object.key.retention_id()?, object.size))).collect())
    }

    pub(super) async fn remove_retention(&self, id: RetentionId) -> Result<(), StoreError> {
        self.replicas.delete(&ObjectKey::retention(id)).await
    }

    pub(super) async fn put_run(&self, id: RunId, object: Vec<u8>) -> Result<(), StoreError> {
        self.replicas.put(&ObjectKey::run(id), object.into()).await
    }

    pub(super) async fn run<T, E>(
        &self,
        id: RunId,
        open: impl FnMut(&Bytes) -> Result<T, E>,
    ) -> Result<Result<T, E>, StoreError> {
        self.get(&ObjectKey::run(id), open).await
    }

    /// Lists the records of runs that any replica has, in order of their names.
    pub(super) async fn runs(&self) -> Result<BTreeSet<RunId>, StoreError> {
        Ok(self.list(ObjectKind::Evidence).await?.iter().filter_map(|object| object.key.run_id()).collect())
    }

    pub(super) async fn remove_run(&self, id: RunId) -> Result<(), StoreError> {
        self.replicas.delete(&ObjectKey::run(id)).await
    }

    pub(super) async fn put_verified(&self, id: VerifiedId, object: Vec<u8>) -> Result<(), StoreError> {
        self.replicas.put(&ObjectKey::verified(id), object.into()).await
    }

    pub(super) async fn remove_verified(&self, id: VerifiedId) -> Result<(), StoreError> {
        self.replicas.delete(&ObjectKey::verified(id)).await
    }

    pub(super) async fn verified<T, E>(
        &self,
        id: VerifiedId,
        open: impl FnMut(&Bytes) -> Result<T, E>,
    ) -> Result<Result<T, E>, StoreError> {
        self.get(&ObjectKey::verified(id), open).await
    }

    pub(super) async fn verified_records(&self) -> Result<Vec<VerifiedId>, StoreError> {
        let mut listed = Listed::of(self.list(ObjectKind::Verified).await?, ObjectKey::verified_id);
        listed.ids.sort();
        Ok(listed.ids)
    }
}
