//! What can be wrong with an object, and where that is kept while a verification goes on.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use crate::model::id::PackId;
use crate::model::key::ObjectKey;
use crate::model::series::Sequence;
use crate::ops::verify::Finding;
use crate::repository::Tampering;
use crate::repository::index::Truth;
use crate::repository::index::table::ChunkPlace;
use crate::repository::reader::ReadError;
use crate::repository::reader::pack::{LiedAbout, PackPart};
use crate::repository::sequences::MissingSnapshot;

/// What something is wrong with. Its `Display` is what people read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FindingSubject {
    /// An object, or all of a kind.
    Object(ObjectKey),
    /// A snapshot that is not there, and of which nobody knows the name.
    Unnamed {
        /// What it was one of.
        sequence: Sequence,
        /// Its number there.
        number: u64,
    },
}

impl fmt::Display for FindingSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(key) => key.fmt(f),
            Self::Unnamed { sequence, number } => write!(f, "snapshot number {number} of {sequence}"),
        }
    }
}

impl PartialEq<ObjectKey> for FindingSubject {
    fn eq(&self, other: &ObjectKey) -> bool {
        matches!(self, Self::Object(key) if key == other)
    }
}

/// What is wrong with an object. Its `Display` is what people read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damage {
    /// It is not there.
    Missing,
    /// It is longer or shorter than it was.
    Length {
        /// Its bytes.
        bytes: u64,
        /// What they were.
        wanted: u64,
    },
    /// It cannot be opened: the clause says why.
    Unusable(String),
    /// Frames of the pack are at fault, of which this is one.
    Frame {
        /// Its number.
        frame: u32,
        /// What is wrong with it.
        why: String,
    },
    /// The index segment tells of packs what they are not; the packs are right.
    Lies {
        /// How many packs.
        packs: usize,
        /// One of them.
        pack: PackId,
    },
    /// The index segment has other digests of packs than these have, in which everything is right but perhaps the padding.
    Digest {
        /// How many packs.
        packs: usize,
        /// One of them.
        pack: PackId,
    },
    /// Chunks that snapshots need are in no index segment.
    NotIndexed,
    /// The snapshot was there, is not, and no clean-up removed it: the clause says how that is known.
    Vanished(String),
    /// It is as it was written, and somebody tried to change it, which the bucket's versions show.
    Tampered(Tampering),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Missing => f.write_str("is missing"),
            Damage::Length { bytes, wanted } => write!(f, "has {bytes} bytes instead of {wanted}"),
            Damage::Unusable(why) | Damage::Vanished(why) => f.write_str(why),
            Damage::Frame { frame, why } => write!(f, "frame {frame}: {why}"),
            Damage::Lies { packs: 1, pack } => write!(f, "lies about pack {pack}, which is as it was written"),
            Damage::Lies { packs, pack } => {
                write!(f, "lies about {packs} packs, which are as they were written: pack {pack} is one")
            }
            Damage::Digest { packs: 1, pack } => write!(
                f,
                "has another SHA-256 for pack {pack}, of which all is right: it lies about the pack, or the pack's padding \
                 was changed"
            ),
            Damage::Digest { packs, pack } => write!(
                f,
                "has other SHA-256s for {packs} packs, of which all is right: it lies about them, or their padding was \
                 changed; pack {pack} is one"
            ),
            Damage::NotIndexed => f.write_str("chunks that snapshots need are in no index segment"),
            Damage::Tampered(Tampering::Overwritten) => f.write_str(
                "was overwritten, and is given as it was first written: somebody has a key to the bucket; remove the later \
                 versions",
            ),
            Damage::Tampered(Tampering::Hidden) => f.write_str(
                "was deleted, and is given as it was first written: somebody has a key to the bucket; remove the delete marker",
            ),
        }
    }
}

impl Damage {
    /// Tells whether a chunk in this frame of the object is lost by it.
    pub(super) fn hits_frame(&self, number: u32) -> bool {
        !matches!(self, Damage::Frame { frame, .. } if *frame != number)
    }
}

/// What was found so far, and what cannot be relied on because of it.
#[derive(Debug, Default)]
pub(super) struct FoundDamage {
    /// Findings by object and damage, in order of their objects.
    pub(super) findings: BTreeMap<(FindingSubject, Damage), Finding>,
    /// Frames that cannot be used.
    pub(super) frames: HashSet<(PackId, u32)>,
    /// Places where the index names a chunk that the pack does not have there.
    pub(super) places: HashSet<ChunkPlace>,
    /// Packs of which segments tell what is not so, with what they tell themselves.
    pub(super) lied_about: HashMap<PackId, Truth>,
    /// Packs that cannot be used.
    pub(super) packs: HashSet<PackId>,
    /// Packs that are themselves damaged, or a part of them is, or gone, whatever anybody tells of them: no backup is to rely on them.
    pub(super) unreliable: BTreeSet<PackId>,
    /// Places of recipes, by frame and offset, whose windows cannot be put together, with the finding that says why.
    pub(super) windows: HashMap<(PackId, u32, u32), (ObjectKey, Damage)>,
}

impl FoundDamage {
    /// Notes a damaged object.
    pub(super) fn add(&mut self, object: &ObjectKey, damage: Damage) -> &mut Finding {
        let object = FindingSubject::Object(object.clone());
        self.findings.entry((object.clone(), damage.clone())).or_insert_with(|| Finding::of(object, damage))
    }

    /// Notes a snapshot that is missing. Where its name is not known, it is named by where it stood.
    pub(super) fn add_missing(&mut self, missing: &MissingSnapshot) {
        let object = match (missing.id, &missing.place) {
            (Some(id), _) => FindingSubject::Object(ObjectKey::snapshot(id)),
            (None, Some((sequence, number))) => FindingSubject::Unnamed { sequence: sequence.clone(), number: *number },
            (None, None) => FindingSubject::Object(ObjectKey::from_listed("snapshots")),
        };
        let damage = Damage::Vanished(missing.to_string());
        let finding =
            Finding { snapshots: missing.id.into_iter().collect(), ..Finding::of(object.clone(), damage.clone()) };
        self.findings.insert((object, damage), finding);
    }

    /// Notes that a pack cannot be used at all, and why.
    pub(super) fn add_pack(&mut self, pack: PackId, damage: Damage) {
        self.packs.insert(pack);
        self.unreliable.insert(pack);
        self.add(&ObjectKey::pack(pack), damage);
    }

    /// Notes what of a pack that was read cannot be used, and what segments tell of it that is not so.
    pub(super) fn add_checked(
        &mut self,
        pack: PackId,
        unusable: Vec<(PackPart, String)>,
        lied_about: Option<LiedAbout>,
    ) {
        for (part, why) in unusable {
            let found = match part {
                PackPart::Whole => {
                    self.add_pack(pack, Damage::Unusable(why));
                    continue;
                }
                PackPart::Frame(frame) => {
                    self.frames.insert((pack, frame));
                    Damage::Frame { frame, why }
                }
                PackPart::Unreadable => Damage::Unusable(why),
            };
            self.unreliable.insert(pack);
            self.add(&ObjectKey::pack(pack), found);
        }
        if let Some(LiedAbout { truth, places }) = lied_about {
            self.places.extend(places);
            self.lied_about.insert(pack, truth);
        }
    }

    /// Notes why a chunk cannot be read, unless that is known, and returns the object at fault and what is wrong with it.
    pub(super) fn add_error(&mut self, error: &ReadError) -> (ObjectKey, Damage) {
        let root = error.root();
        let Some(pack) = root.pack() else {
            let index = ObjectKey::from_listed("index");
            self.add(&index, Damage::NotIndexed);
            return (index, Damage::NotIndexed);
        };
        let object = ObjectKey::pack(pack);
        let why = match (root, std::error::Error::source(root)) {
            (ReadError::WrongChunk { .. }, _) => "a chunk is not the one it is named after".to_owned(),
            (ReadError::WrongRecipe { id, .. }, _) => format!("what its recipe makes is not chunk {}", id.short()),
            (_, Some(source)) => source.to_string(),
            (_, None) => root.to_string(),
        };
        let frame = root.frame().map(|(_, frame)| frame);
        let known = self.of_frame(&object, frame.unwrap_or_default());
        let damage = known.unwrap_or(match frame {
            Some(frame) => Damage::Frame { frame, why },
            None => Damage::Unusable(why),
        });
        self.add(&object, damage.clone());
        (object, damage)
    }

    /// Tells whether a chunk can be had from a place, as far as was found.
    pub(super) fn is_sound(&self, place: &ChunkPlace) -> bool {
        !self.packs.contains(&place.pack)
            && !self.frames.contains(&(place.pack, place.frame))
            && !self.places.contains(place)
    }

    /// Returns what was found of an object that a chunk in this frame of it is lost by.
    pub(super) fn of_frame(&self, object: &ObjectKey, frame: u32) -> Option<Damage> {
        let mut known = self.findings.keys();
        known.find(|(subject, damage)| *subject == *object && damage.hits_frame(frame)).map(|(_, it)| it.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_lost_by_its_own_frame_or_by_what_hits_the_whole_pack() {
        let (pack, mut found) = (ObjectKey::pack(PackId([1; 16])), FoundDamage::default());
        found.add(&pack, Damage::Frame { frame: 12, why: "authentication failed".into() });
        assert_eq!(found.of_frame(&pack, 1), None);
        assert_eq!(
            found.of_frame(&pack, 12).map(|it| it.to_string()).as_deref(),
            Some("frame 12: authentication failed")
        );
        found.add(&pack, Damage::Missing);
        assert_eq!(found.of_frame(&pack, 1), Some(Damage::Missing));
    }
}
