//! Sequences: whether each snapshot that was made after another one still has it, and what this machine saw is still there
//! (`docs/format.md`, section 12).
//!
//! A snapshot tells its number and the SHA-256 of the one before it. So one that is hidden is missed by the next; the newest is
//! missed by whoever made or saw it, and by lists of cleaning up that account for it. What such a list removed is not missed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use futures::stream::{StreamExt, TryStreamExt};

use crate::crypto::digest::sha256_of;
use crate::model::key::ObjectKey;
use crate::model::series::Sequence;
use crate::model::snapshot::{Position, Snapshot, SnapshotId};
use crate::repository::Repository;
use crate::repository::cleanups::Cleanups;
use crate::repository::newest_first::NewestFirst;
use crate::repository::snapshots::{SnapshotError, SnapshotListing, side_by_side};
use crate::repository::state::Newest;

/// One snapshot of a sequence.
#[derive(Debug, Clone, Copy)]
struct NumberedLink {
    id: SnapshotId,
    position: Position,
    is_foreign: bool,
}

/// The snapshots that were opened, by their sequences.
#[derive(Debug, Default)]
pub struct Sequences {
    links: BTreeMap<Sequence, Vec<NumberedLink>>,
    /// What is known of those that no other names as the one before it, while they are added in any order.
    newest: HashMap<[u8; 32], Newest>,
    befores: HashSet<[u8; 32]>,
    digests: HashSet<[u8; 32]>,
    /// Those that are listed and could not be opened.
    unopened: BTreeSet<SnapshotId>,
}

/// How it is known that there is a snapshot which cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnownBy {
    /// This machine made or saw it.
    State,
    /// This one was made after it.
    Next(SnapshotId),
    /// A list of cleaning up accounts for it.
    List,
}

/// A snapshot that was there, is not, and was removed by no clean-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingSnapshot {
    /// Its name, where that is known.
    pub id: Option<SnapshotId>,
    /// Its sequence and number there, where they are known.
    pub place: Option<(Sequence, u64)>,
    /// How it is known.
    pub known_by: KnownBy,
    /// How many before it are not known of, either, because only it would tell.
    pub before: u64,
    /// Listed ones that cannot be opened, of which one may be it.
    pub unopened: Vec<SnapshotId>,
}

/// What is wrong with a snapshot that is missing.
pub(super) const NOT_THERE: &str = "is not in the store, and no clean-up removed it";

impl MissingSnapshot {
    /// One that this machine remembers.
    fn of_state(known: &Newest) -> Self {
        let place = Some((known.sequence.clone(), known.number));
        Self { id: Some(known.id), place, known_by: KnownBy::State, before: 0, unopened: Vec::new() }
    }

    /// Names it: by its id, or by where it stood.
    pub fn subject(&self) -> String {
        match (self.id, &self.place) {
            (Some(id), _) => format!("snapshot {}", id.short()),
            (None, Some((sequence, number))) => format!("snapshot number {number} of {sequence}"),
            (None, None) => "a snapshot".into(),
        }
    }
}

/// Says what is wrong with it.
impl fmt::Display for MissingSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NOT_THERE)?;
        if let (Some(id), Some((sequence, number))) = (self.id, &self.place) {
            write!(f, ": number {number} of {sequence}, of {}", id.time().local_minute())?;
        }
        match &self.known_by {
            KnownBy::State => f.write_str("; this machine made it or saw it")?,
            KnownBy::Next(next) => write!(f, "; snapshot {} was made after it", next.short())?,
            KnownBy::List => f.write_str("; a list of cleaning up accounts for it")?,
        }
        match self.before {
            0 => {}
            1 => f.write_str("; without it nothing is known of the one before it")?,
            before => write!(f, "; without it nothing is known of {before} before it")?,
        }
        let named: Vec<String> = self.unopened.iter().take(3).map(SnapshotId::short).collect();
        match self.unopened.len() {
            0 => Ok(()),
            1 => write!(f, "; it may be {}, which cannot be opened", named[0]),
            count if count <= named.len() => {
                write!(f, "; it may be one of {}, which cannot be opened", named.join(", "))
            }
            count => write!(f, "; it may be one of {count} that cannot be opened, such as {}", named.join(", ")),
        }
    }
}

/// What there is to say of all sequences.
#[derive(Debug, Default)]
pub struct Judged {
    /// Snapshots that are missing.
    pub missing: Vec<MissingSnapshot>,
    /// What is odd and no damage, with the sequence concerned: it was begun anew, or several have one number.
    pub notes: Vec<(String, String)>,
}

impl Sequences {
    /// Adds a snapshot, whether it could be opened or not.
    pub fn add(&mut self, id: SnapshotId, opened: &Result<Snapshot, SnapshotError>) {
        let Ok(snapshot) = opened else {
            self.unopened.insert(id);
            return;
        };
        let Some(newest) = Newest::of(snapshot) else { return };
        let (digest, position) = (newest.digest, snapshot.position);
        let link = NumberedLink { id: snapshot.id, position, is_foreign: snapshot.foreign.is_some() };
        self.links.entry(newest.sequence.clone()).or_default().push(link);
        self.digests.insert(digest);
        if let Some(before) = position.before {
            self.newest.remove(&before);
            self.befores.insert(before);
        }
        if !link.is_foreign && !self.befores.contains(&digest) {
            self.newest.insert(digest, newest);
        }
    }

    /// Returns the newest snapshot of each sequence.
    pub fn newest(&self) -> impl Iterator<Item = &Newest> {
        let mut of_each: BTreeMap<&Sequence, &Newest> = BTreeMap::new();
        for newest in self.newest.values() {
            let known = of_each.entry(&newest.sequence).or_insert(newest);
            // Of one second, the number tells which was later; the rest of a name tells nothing.
            if (newest.id.time(), newest.number) > (known.id.time(), known.number) {
                *known = newest;
            }
        }
        of_each.into_values()
    }

    /// Compares what was opened with itself, with what is `known` to this machine, and with what lists of cleaning up say of the
    /// snapshots that are not `listed`. `erased` are the SHA-256s of objects that nobody can open any more.
    fn judge(
        &self,
        listed: &[SnapshotId],
        cleanups: &Cleanups,
        known: &[Newest],
        erased: &HashSet<[u8; 32]>,
    ) -> Judged {
        let mut judged = Judged::default();
        let mut told: HashSet<[u8; 32]> = HashSet::new();
        let is_gone = |id: SnapshotId| cleanups.is_gone(&ObjectKey::snapshot(id));
        let is_listed = |id: SnapshotId| listed.binary_search(&id).is_ok();
        for (sequence, links) in &self.links {
            // What a foreign one says counts for nothing, but it is there for those that were made after it.
            let counting: Vec<NumberedLink> = links.iter().filter(|link| !link.is_foreign).copied().collect();
            for link in &counting {
                let Some((digest, number)) = self.missed_by(link, cleanups, erased) else { continue };
                let of_state = known.iter().find(|newest| newest.digest == digest).map(|newest| newest.id);
                let id = of_state.or_else(|| cleanups.accounted_as(&digest));
                // What is listed under its name and cannot be opened is told of by itself.
                if id.is_some_and(|id| is_gone(id) || is_listed(id)) || !told.insert(digest) {
                    continue;
                }
                let earlier = links.iter().filter(|other| other.position.number < number);
                let last = earlier.max_by_key(|other| other.position.number);
                let since = last.map(|last| last.id);
                // Of one second, a name does not tell which came first.
                let between = |unopened: &&SnapshotId| {
                    let time = unopened.time();
                    time <= link.id.time() && since.is_none_or(|id| time >= id.time())
                };
                judged.missing.push(MissingSnapshot {
                    id,
                    place: Some((sequence.clone(), number)),
                    known_by: KnownBy::Next(link.id),
                    before: number - last.map_or(0, |last| last.position.number + 1),
                    unopened: match id {
                        None => self.unopened.iter().filter(between).copied().collect(),
                        Some(_) => Vec::new(),
                    },
                });
            }
            let notes = begun_anew(&counting).into_iter().chain(at_once(&counting));
            judged.notes.extend(notes.map(|note| (sequence.to_string(), note)));
        }
        for newest in known.iter().filter(|newest| !is_listed(newest.id) && !is_gone(newest.id)) {
            if told.insert(newest.digest) {
                judged.missing.push(MissingSnapshot::of_state(newest));
            }
        }
        let named: HashSet<SnapshotId> = judged.missing.iter().filter_map(|missing| missing.id).collect();
        let accounted = cleanups.were_there().filter(|id| !is_listed(*id) && !is_gone(*id) && !named.contains(id));
        for id in accounted.collect::<BTreeSet<_>>() {
            let known_by = KnownBy::List;
            judged.missing.push(MissingSnapshot {
                id: Some(id),
                place: None,
                known_by,
                before: 0,
                unopened: Vec::new(),
            });
        }
        judged
    }

    /// Returns the SHA-256 and the number of what is missing before a snapshot. Those before it that were removed are passed.
    fn missed_by(
        &self,
        link: &NumberedLink,
        cleanups: &Cleanups,
        erased: &HashSet<[u8; 32]>,
    ) -> Option<([u8; 32], u64)> {
        let mut position = link.position;
        loop {
            let before = position.before?;
            if self.digests.contains(&before) || erased.contains(&before) {
                return None;
            }
            let number = position.number.checked_sub(1)?;
            match cleanups.removed(&before) {
                Some(removed) => position = Position { number, before: removed.before },
                None => return Some((before, number)),
            }
        }
    }
}

/// Says that a sequence was begun anew, once however often.
fn begun_anew(links: &[NumberedLink]) -> Option<String> {
    let mut firsts: Vec<SnapshotId> =
        links.iter().filter(|link| link.position.number == 0).map(|link| link.id).collect();
    firsts.sort_unstable();
    let (last, count) = (firsts.last()?, firsts.len() - 1);
    let when = match count {
        0 => return None,
        1 => format!("with snapshot {} of {}", last.short(), last.time().local_minute()),
        count => format!("{count} times, last with snapshot {} of {}", last.short(), last.time().local_minute()),
    };
    Some(format!(
        "numbers begin anew {when}: what the host remembered was lost, or two first runs were made at once; whether the newest \
         before it is there, no number tells"
    ))
}

/// Says that several snapshots have the same one before them.
fn at_once(links: &[NumberedLink]) -> Vec<String> {
    let mut same: BTreeMap<(u64, [u8; 32]), Vec<SnapshotId>> = BTreeMap::new();
    for link in links {
        if let Some(before) = link.position.before {
            same.entry((link.position.number, before)).or_default().push(link.id);
        }
    }
    let several = same.into_iter().filter(|(_, ids)| ids.len() > 1);
    let told = several.map(|((number, _), mut ids)| {
        ids.sort_unstable();
        let named: Vec<String> = ids.iter().map(SnapshotId::short).collect();
        format!(
            "snapshots {} are all number {number}: their runs did not know of each other, which harms none",
            named.join(" and ")
        )
    });
    told.collect()
}

impl Repository {
    /// Tells what is missing of the sequences that were opened from a listing, and what else is to be said of them.
    ///
    /// Before anything is called missing, lists of cleaning up are read again, and what has a name is asked for by itself:
    /// it may have been removed, or made, after the listing, and listings may lag.
    ///
    /// # Errors
    /// [`SnapshotError::List`] when the lists cannot be read again, [`SnapshotError::Fetch`] when what is doubtful is out of reach.
    pub async fn judge_sequences(
        self: &Arc<Self>,
        sequences: &Sequences,
        listing: &SnapshotListing,
    ) -> Result<Judged, SnapshotError> {
        let known = self.state().all_newest();
        let judged = sequences.judge(&listing.listed, &listing.cleanups, &known, &HashSet::new());
        if judged.missing.is_empty() {
            return Ok(judged);
        }
        let cleanups = self.cleanups().await.map_err(SnapshotError::List)?;
        let erased = self.erased_digests(&sequences.unopened).await?;
        let mut judged = sequences.judge(&listing.listed, &cleanups, &known, &erased);
        let mut missing = Vec::new();
        for candidate in judged.missing {
            let is_there = match candidate.id {
                Some(id) => self.objects().has(&ObjectKey::snapshot(id)).await,
                None => false,
            };
            missing.extend((!is_there).then_some(candidate));
        }
        judged.missing = missing;
        Ok(judged)
    }

    /// Returns the SHA-256s of those that are of erased epochs: somebody can still say what was made after them.
    async fn erased_digests(self: &Arc<Self>, ids: &BTreeSet<SnapshotId>) -> Result<HashSet<[u8; 32]>, SnapshotError> {
        let ids = ids.iter().copied().collect();
        let digests = side_by_side(self, ids, |repository, id| async move {
            let digest = |object: &bytes::Bytes| {
                let of_erased = repository.is_of_erased(object).then(|| sha256_of(object));
                Ok::<Option<[u8; 32]>, std::convert::Infallible>(of_erased)
            };
            match repository.objects().snapshot(id, digest).await {
                Ok(Ok(digest)) => Ok(digest),
                Ok(Err(never)) => match never {},
                Err(error) if error.kind.is_damage() => Ok(None),
                Err(source) => Err(SnapshotError::Fetch { id, source }),
            }
        });
        digests.filter_map(|(_, digest)| async { digest.transpose() }).try_collect().await
    }

    /// Returns the newest snapshot of a sequence, by what this machine remembers and, where it may read, by what is there; and what it
    /// remembers and is not there any more.
    pub async fn newest_of(
        self: &Arc<Self>,
        sequence: &Sequence,
        listing: &SnapshotListing,
    ) -> (Option<Newest>, Option<MissingSnapshot>) {
        let known = self.state().newest(sequence);
        let missing = match &known {
            Some(known) => self.is_missing(known.id, listing).await.then(|| MissingSnapshot::of_state(known)),
            None => None,
        };
        let mut newest = known;
        if self.keys().can_read() {
            let mut snapshots = NewestFirst::recent(self, listing.counting.clone());
            // A number is not given twice, so forgotten ones have theirs.
            while let Some((_, snapshot)) = snapshots.next_of_ours().await {
                if let Some(found) = snapshot.ok().filter(|snapshot| sequence.has(snapshot)) {
                    newest = newest.into_iter().chain(Newest::of(&found)).max_by_key(|newest| newest.number);
                    break;
                }
            }
        }
        (newest, missing)
    }

    /// Tells whether a snapshot that was made is neither there nor removed. Listings may lag, and cleaning up may have come between.
    pub(super) async fn is_missing(&self, id: SnapshotId, listing: &SnapshotListing) -> bool {
        let is_gone = |cleanups: &Cleanups| cleanups.is_gone(&ObjectKey::snapshot(id));
        let is_accounted_for = listing.listed.binary_search(&id).is_ok()
            || is_gone(&listing.cleanups)
            || self.objects().has(&ObjectKey::snapshot(id)).await
            || self.cleanups().await.is_ok_and(|again| is_gone(&again));
        !is_accounted_for
    }
}
