//! What was found so far while a verification goes on, and what cannot be relied on because of it.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::model::id::PackId;
use crate::model::key::ObjectKey;
use crate::ops::verify::damage::{Damage, FindingSubject};
use crate::ops::verify::findings::{Findings, Hit};
use crate::repository::index::Truth;
use crate::repository::index::table::ChunkPlace;
use crate::repository::reader::ReadError;
use crate::repository::reader::pack::{LiedAbout, PackPart};
use crate::repository::sequences::MissingSnapshot;

/// What was found so far, and what cannot be relied on because of it.
#[derive(Debug)]
pub(super) struct FoundDamage {
    /// What is told of it.
    pub(super) findings: Findings,
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
    /// Damaged packs of which a snapshot needs something that is nowhere else.
    pub(super) hit: HashSet<PackId>,
    /// Places of recipes, by frame and offset, whose windows cannot be put together, with the finding that says why.
    pub(super) windows: HashMap<(PackId, u32, u32), (ObjectKey, Damage)>,
}

impl FoundDamage {
    /// Nothing yet, by a run that stays within `memory_bytes`.
    pub(super) fn within(memory_bytes: u64) -> Self {
        Self {
            findings: Findings::within(memory_bytes),
            frames: HashSet::new(),
            places: HashSet::new(),
            lied_about: HashMap::new(),
            packs: HashSet::new(),
            unreliable: BTreeSet::new(),
            hit: HashSet::new(),
            windows: HashMap::new(),
        }
    }

    /// Notes a damaged object.
    pub(super) fn add(&mut self, object: &ObjectKey, damage: Damage) {
        self.findings.add(FindingSubject::Object(object.clone()), damage);
    }

    /// Notes what is hit by a damaged object.
    pub(super) fn hit(&mut self, object: &ObjectKey, damage: Damage, hit: Hit<'_>) {
        self.hit.extend(object.pack_id());
        self.findings.hit(FindingSubject::Object(object.clone()), damage, hit);
    }

    /// Notes a snapshot that is missing. Where its name is not known, it is named by where it stood.
    pub(super) fn add_missing(&mut self, missing: &MissingSnapshot) {
        let object = match (missing.id, &missing.place) {
            (Some(id), _) => FindingSubject::Object(ObjectKey::snapshot(id)),
            (None, Some((sequence, number))) => FindingSubject::Unnamed { sequence: sequence.clone(), number: *number },
            (None, None) => FindingSubject::Object(ObjectKey::from_listed("snapshots")),
        };
        self.findings.add_of_snapshot(object, Damage::Vanished(missing.to_string()), missing.id);
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
        let known = self.findings.of_frame(&object, frame.unwrap_or_default()).cloned();
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
}
