//! The third step: every snapshot is opened, every tree and chunk list read, every referenced chunk located.
//!
//! Nodes that are whole are looked at once, however many snapshots share them. Nodes with damage below them are visited
//! for every snapshot, so that each finding tells all that it hits.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};

use crate::model::entry::{ChunkList, ChunkRef, Entry, FileContent};
use crate::model::id::{ChunkId, ChunkKey};
use crate::model::key::ObjectKey;
use crate::model::snapshot::SnapshotId;
use crate::ops::verify::damage::{Damage, FindingSubject};
use crate::ops::verify::findings::Hit;
use crate::ops::verify::found::FoundDamage;
use crate::ops::verify::{VerifyError, VerifyReport};
use crate::ops::{Cancel, LookError};
use crate::progress::{Counter, Monitor, Problem};
use crate::repository::cleanups::Cleanups;
use crate::repository::index::table::ChunkPlace;
use crate::repository::reader::told::{ListNode, TreeNode};
use crate::repository::reader::walk::LostPart;
use crate::repository::reader::windows::WindowAt;
use crate::repository::reader::{ReadError, Reader};
use crate::repository::sequences::Sequences;
use crate::repository::snapshots::SnapshotListing;
use crate::repository::tree::Node;

/// Windows of one list whose recipes are read ahead.
const WINDOWS_AHEAD: usize = 256;
/// Nodes read ahead in the same parent.
const NODES_AHEAD: usize = 16;

/// Checks the snapshots that were `listed` before the index was loaded. Returns the lists of cleaning up.
pub(super) async fn check(
    reader: &Arc<Reader>,
    listed: Vec<SnapshotId>,
    monitor: &Arc<dyn Monitor>,
    cancel: &Cancel,
    report: &mut VerifyReport,
    damage: &mut FoundDamage,
) -> Result<Arc<Cleanups>, VerifyError> {
    let mut walk = TreeVisit {
        reader,
        monitor,
        cancel,
        report,
        damage,
        whole: HashMap::new(),
        whole_lists: HashSet::new(),
        snapshot: None,
    };
    let repository = reader.repository();
    let cleanups = repository.cleanups().await?;
    for (list, why) in cleanups.damaged() {
        walk.damage.add(list, Damage::Unusable(why.clone()));
    }
    let retention = repository.retention().await?;
    for (record, why) in retention.doubts() {
        walk.damage.add(record, Damage::Unusable(why.clone()));
    }
    let counting = repository.that_count(listed.clone(), &cleanups).await;
    let listing = SnapshotListing { listed, counting, cleanups, retention };
    let mut sequences = Sequences::default();
    let mut snapshots = repository.stored_snapshots(listing.counting.clone());
    while let Some((id, snapshot)) = snapshots.next().await {
        walk.report.snapshots += 1;
        sequences.add(id, &snapshot);
        let snapshot = match snapshot {
            Ok(snapshot) => snapshot,
            Err(error) if !error.is_damage() => return Err(LookError::Snapshots(error).into()),
            Err(error) => {
                let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
                let object = FindingSubject::Object(ObjectKey::snapshot(id));
                walk.damage.findings.add_of_snapshot(object, Damage::Unusable(cause), Some(id));
                continue;
            }
        };
        if let Some(why) = snapshot.foreign {
            // Nothing needs it, whatever is in it.
            walk.report.snapshots -= 1;
            monitor.note(Problem::advice(format!("snapshot {}", id.short()), format!("is {why}, and does not count")));
            continue;
        }
        walk.snapshot = Some(id);
        walk.tree(TreeNode::root(snapshot.root)).await?;
    }
    drop(snapshots);
    let judged = repository.judge_sequences(&sequences, &listing).await.map_err(LookError::Snapshots)?;
    for missing in &judged.missing {
        damage.add_missing(missing);
    }
    report.notes.extend(judged.notes.into_iter().map(|(sequence, note)| format!("{sequence}: {note}")));
    for newest in sequences.newest() {
        // That it could not be remembered is told by who opened the repository.
        let _ = repository.state().remember(newest);
    }
    Ok(listing.cleanups)
}

/// Where in an entry a visit is.
#[derive(Clone, Copy)]
struct InEntry<'a> {
    entry: &'a Entry,
    content: &'a FileContent,
    /// Bytes that chunks before hold.
    stored: u64,
}

impl InEntry<'_> {
    fn path(&self) -> String {
        format!("/{}", self.entry.path)
    }

    /// Returns offsets and lengths in the entry of `length` stored bytes, from `offset` bytes behind here on.
    fn places_of(&self, offset: u64, length: u64) -> Vec<(u64, u64)> {
        self.content.places_of(self.stored.saturating_add(offset), length)
    }
}

/// Adds up lengths.
fn sum_of(ranges: &[(u32, u32)]) -> u64 {
    ranges.iter().map(|(_, length)| u64::from(*length)).sum()
}

struct TreeVisit<'a> {
    reader: &'a Arc<Reader>,
    monitor: &'a Arc<dyn Monitor>,
    cancel: &'a Cancel,
    report: &'a mut VerifyReport,
    damage: &'a mut FoundDamage,
    /// Nodes below which everything is whole, with what was told of each when it was looked at.
    whole: HashMap<ChunkId, [u8; 16]>,
    /// List nodes below which everything is whole, as they were told of.
    whole_lists: HashSet<ListNode>,
    snapshot: Option<SnapshotId>,
}

impl TreeVisit<'_> {
    /// Checks a node of a tree and all below it; tells whether everything was whole.
    fn tree(&mut self, told: TreeNode) -> BoxFuture<'_, Result<bool, VerifyError>> {
        Box::pin(async move {
            // Of a node that another snapshot has in another place only what its parent tells is new: mostly where the next
            // one begins, which concerns its last child alone.
            let digest = told.digest();
            let known = self.whole.get(&told.id);
            if known == Some(&digest) {
                return Ok(true);
            }
            let is_new = known.is_none();
            if self.cancel.is_cancelled() {
                return Err(VerifyError::Cancelled);
            }
            let whole = match self.reader.node(&told).await {
                Ok(Node::Entries(_)) if !is_new => true,
                Ok(Node::Entries(entries)) => self.entries(&entries).await?,
                Ok(Node::Children(children)) => {
                    self.read_ahead(children.iter().map(|child| child.id).filter(|id| !self.whole.contains_key(id)))
                        .await;
                    let mut whole = true;
                    for child in told.children(&children) {
                        whole &= self.tree(child).await?;
                    }
                    whole
                }
                Ok(_) => unreachable!("checked to be of its level"),
                // Nothing is told of the root.
                Err(error) => {
                    let part = told.first.as_ref().map(|_| LostPart::below(&told).to_string());
                    self.bad_node(&told.id, &error, part.as_deref().unwrap_or("/"), &[])?
                }
            };
            if whole {
                self.whole.insert(told.id, digest);
            }
            Ok(whole)
        })
    }

    async fn entries(&mut self, entries: &[Entry]) -> Result<bool, VerifyError> {
        let mut whole = true;
        for entry in entries {
            let Some(content) = entry.content() else { continue };
            whole &= match &content.chunks {
                ChunkList::Inline(chunks) => self.chunks(chunks, InEntry { entry, content, stored: 0 }).await?,
                ChunkList::Indirect { root, depth, chunks } => {
                    let bytes = content.stored_length();
                    let root = ListNode { id: *root, depth: *depth, chunks: *chunks, bytes };
                    self.list(root, InEntry { entry, content, stored: 0 }).await?
                }
            };
        }
        self.report.entries += entries.len() as u64;
        self.monitor.add(Counter::Entries, entries.len() as u64);
        Ok(whole)
    }

    fn list<'b>(&'b mut self, told: ListNode, at: InEntry<'b>) -> BoxFuture<'b, Result<bool, VerifyError>> {
        Box::pin(async move {
            if self.whole_lists.contains(&told) {
                return Ok(true);
            }
            if self.cancel.is_cancelled() {
                return Err(VerifyError::Cancelled);
            }
            let whole = match self.reader.node(&told).await {
                Ok(Node::Chunks(chunks)) => self.chunks(&chunks, at).await?,
                Ok(Node::Lists(children)) => {
                    let next: Vec<ListNode> = told.children(&children).collect();
                    let unseen = next.iter().filter(|child| !self.whole_lists.contains(*child));
                    self.read_ahead(unseen.map(|child| child.id)).await;
                    let mut whole = true;
                    let mut at = at;
                    for child in next {
                        whole &= self.list(child, at).await?;
                        at.stored = at.stored.saturating_add(child.bytes);
                    }
                    whole
                }
                Ok(_) => unreachable!("checked to be of its level"),
                Err(error) => self.bad_node(&told.id, &error, &at.path(), &at.places_of(0, told.bytes))?,
            };
            if whole {
                self.whole_lists.insert(told);
            }
            Ok(whole)
        })
    }

    async fn chunks(&mut self, chunks: &[ChunkRef], mut at: InEntry<'_>) -> Result<bool, VerifyError> {
        let mut whole = true;
        let mut windows = Vec::new();
        for chunk in chunks {
            let here = at;
            at.stored = at.stored.saturating_add(u64::from(chunk.length));
            let places = self.reader.index().locate_all(&chunk.id);
            let plain = |place: &&ChunkPlace| !place.codec.holds_recipes() && place.length == chunk.length;
            if !places.iter().filter(plain).any(|place| self.damage.is_sound(place)) {
                // Where segments lie about the place, the pack itself may tell of another.
                let is_told_wrong = places.iter().any(|place| self.damage.places.contains(place));
                match places.iter().find(|place| place.codec.holds_recipes()) {
                    Some(recipe) => windows.push((chunk, *recipe, here)),
                    None if is_told_wrong && self.can_be_had(chunk).await? => {}
                    None => {
                        let lost = here.places_of(0, u64::from(chunk.length));
                        whole = self.bad_chunk(&chunk.id, None, &here.path(), &lost)?;
                    }
                }
            }
        }
        for windows in windows.chunks(WINDOWS_AHEAD) {
            // An error is met again, and told, when the window is looked at.
            self.reader.bring(windows.iter().map(|(_, place, _)| *place).collect()).await;
            for (window, _, at) in windows {
                whole &= self.window(window, *at).await?;
            }
        }
        Ok(whole)
    }

    /// Tells whether a chunk can be read, from wherever it is.
    async fn can_be_had(&self, chunk: &ChunkRef) -> Result<bool, VerifyError> {
        match self.reader.chunk(&chunk.id).await {
            Ok(bytes) => Ok(bytes.len() == chunk.length as usize),
            Err(error) if error.is_damage() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Checks that a chunk which is not stored plain can be put together by a recipe: that all it names is in the index, and in
    /// nothing that was found damaged. Of several recipes that cannot, the one tells what is lost by which that is the least.
    async fn window(&mut self, chunk: &ChunkRef, at: InEntry<'_>) -> Result<bool, VerifyError> {
        let (mut hit, errors, failed, lost) = loop {
            let loads = self.reader.index().loads();
            let (mut hit, mut errors, mut failed) = (Vec::new(), Vec::new(), Vec::new());
            let mut lost = vec![(0, chunk.length)];
            for place in self.reader.index().locate_all(&chunk.id) {
                let found = self.damage.windows.get(&(place.pack, place.frame, place.offset)).cloned();
                if found.is_none() && !(place.codec.holds_recipes() && self.damage.is_sound(&place)) {
                    continue;
                }
                let is_sound = |place: &ChunkPlace| self.damage.is_sound(place);
                let window = WindowAt::of(*chunk, place);
                let resolved = self.reader.resolve(&window, &is_sound).await;
                let resolved = resolved.and_then(|resolved| resolved.within_bounds(&window));
                match (resolved, found) {
                    (Ok(resolved), None) if resolved.missing.is_empty() => return Ok(true),
                    (Ok(resolved), found) => {
                        if !resolved.lost.is_empty() && sum_of(&resolved.lost) < sum_of(&lost) {
                            lost = resolved.lost;
                        }
                        match found {
                            Some(finding) => hit.push(finding),
                            None => errors.extend(resolved.missing),
                        }
                    }
                    (Err(error), _) if !error.is_damage() => return Err(error.into()),
                    (Err(_), Some(finding)) => hit.push(finding),
                    (Err(error), None) => failed.push(error),
                }
            }
            if !self.reader.loaded_since(loads).await? {
                break (hit, errors, failed, lost);
            }
        };
        // What asks for too much, or reaches beyond a chunk, may do so by a segment that lies: whether it is so, reading tells.
        if !failed.is_empty() && self.can_be_had(chunk).await? {
            return Ok(true);
        }
        hit.extend(failed.iter().map(|error| self.damage.add_error(error)));
        let snapshot = self.snapshot.expect("set before a tree is walked");
        let path = at.path();
        let lost: Vec<(u64, u64)> =
            lost.iter().flat_map(|(offset, length)| at.places_of(u64::from(*offset), u64::from(*length))).collect();
        for (key, error) in errors {
            hit.extend(self.faults(&key, &error));
        }
        if hit.is_empty() {
            return self.bad_chunk(&chunk.id, None, &path, &lost);
        }
        hit.sort();
        hit.dedup();
        for (object, damage) in hit {
            self.damage.hit(&object, damage, Hit { snapshot, path: &path, window: Some(chunk.id), lost: &lost });
        }
        Ok(false)
    }

    /// Returns what is wrong with every place of a chunk that a recipe names and that is not to be had.
    fn faults(&mut self, key: &ChunkKey, error: &ReadError) -> Vec<(ObjectKey, Damage)> {
        let places = self.reader.index().places(key).into_iter().filter(|place| !self.damage.is_sound(place));
        let unsound: Vec<ChunkPlace> = places.collect();
        let fault = |place: ChunkPlace| {
            let object = ObjectKey::pack(place.pack);
            let known = self.damage.findings.of_frame(&object, place.frame)?.clone();
            Some((object, known))
        };
        let faults: Vec<_> = unsound.into_iter().filter_map(fault).collect();
        if faults.is_empty() { vec![self.damage.add_error(error)] } else { faults }
    }

    /// Notes a chunk that cannot be had, under every pack that should hold it.
    fn bad_chunk(
        &mut self,
        id: &ChunkId,
        problem: Option<&str>,
        path: &str,
        lost: &[(u64, u64)],
    ) -> Result<bool, VerifyError> {
        let snapshot = self.snapshot.expect("set before a tree is walked");
        let hit = Hit { snapshot, path, window: None, lost };
        let mut locations = self.reader.index().locate_all(id);
        // Places that are not so are the segment's fault, which is told, and no pack's.
        locations.retain(|location| !self.damage.places.contains(location));
        if locations.is_empty() {
            let key = ObjectKey::from_listed("index");
            self.damage.hit(&key, Damage::NotIndexed, hit);
        }
        for location in locations {
            let (key, frame) = (ObjectKey::pack(location.pack), location.frame);
            let known = problem.is_none().then(|| self.damage.findings.of_frame(&key, frame).cloned()).flatten();
            let is_gone = problem.is_none() && self.damage.packs.contains(&location.pack);
            let damage = known.or(is_gone.then_some(Damage::Missing)).unwrap_or_else(|| {
                let why = format!("chunk {} {}", id.short(), problem.unwrap_or("has another length"));
                Damage::Frame { frame, why }
            });
            self.damage.hit(&key, damage, hit);
        }
        Ok(false)
    }

    fn bad_node(
        &mut self,
        id: &ChunkId,
        error: &ReadError,
        path: &str,
        lost: &[(u64, u64)],
    ) -> Result<bool, VerifyError> {
        let snapshot = self.snapshot.expect("set before a tree is walked");
        let hit = Hit { snapshot, path, window: None, lost };
        match error {
            error if !error.is_damage() => return Err(error.clone().into()),
            ReadError::Unknown { .. } => return self.bad_chunk(id, None, path, lost),
            // Its bytes are those that were stored: whoever made the snapshot made it wrong.
            ReadError::Node { source, .. } => {
                let why = format!("{error}: {source}");
                self.damage.hit(&ObjectKey::snapshot(snapshot), Damage::Unusable(why), hit);
                return Ok(false);
            }
            _ => {}
        }
        match error.pack() {
            Some(pack) if self.damage.packs.contains(&pack) => self.bad_chunk(id, None, path, lost),
            Some(pack) => {
                let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
                self.damage.hit(&ObjectKey::pack(pack), Damage::Unusable(format!("{error}{cause}")), hit);
                Ok(false)
            }
            None => self.bad_chunk(id, Some("cannot be read"), path, lost),
        }
    }

    /// Fetches frames of nodes that come next, so that visiting them one by one need not wait for each.
    async fn read_ahead(&self, ids: impl Iterator<Item = ChunkId>) {
        let wanted: Vec<_> = ids
            .filter_map(|id| self.reader.index().locate(&id))
            .scan(None, |last, location| {
                let frame = (location.pack, location.frame);
                Some((last.replace(frame) != Some(frame)).then_some(location))
            })
            .flatten()
            .take(NODES_AHEAD)
            .collect();
        stream::iter(wanted)
            .for_each_concurrent(NODES_AHEAD, |location| async move {
                // An error is met again, and told, when the node is visited.
                let _ = self.reader.frame(&location).await;
            })
            .await;
    }
}
