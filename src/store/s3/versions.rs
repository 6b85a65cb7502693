//! What versions of an object mean, and what is known of the versions in a bucket.
//!
//! An object is its first version, and a lease its latest (`docs/format.md`, section 2). Nothing is asked for to learn whether a
//! bucket keeps versions: listings, and what comes with every answer, tell.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use crate::model::key::{ObjectKey, ObjectKind};
use crate::store::tampering::{Tampered, Tampering};

/// Changed objects remembered, 300 bytes each. Of others the first version is looked for again when what comes is wrong.
const CHANGED_MAX: usize = 1 << 14;

/// The id of what was stored while the bucket kept no versions.
const NO_VERSION: &str = "null";

/// Tells whether objects below `prefix` are rewritten by those who keep to the format, so that the latest version counts.
pub(super) fn is_rewritten(prefix: &str) -> bool {
    prefix.starts_with(ObjectKind::Session.prefix())
}

/// One version of an object, as a listing tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ObjectVersion {
    pub(super) id: String,
    pub(super) size: u64,
    pub(super) tag: Option<String>,
}

/// The versions of one object, gathered from the latest to the first, as they are listed.
#[derive(Debug, Default)]
pub(super) struct ObjectVersions {
    latest: Option<ObjectVersion>,
    first: Option<ObjectVersion>,
    differ: bool,
    hidden: bool,
}

impl ObjectVersions {
    /// Adds the version before those that were added.
    pub(super) fn add(&mut self, version: ObjectVersion) {
        let is_same = |later: &ObjectVersion| later.size == version.size && later.tag == version.tag;
        self.differ |= self.first.as_ref().is_some_and(|later| !is_same(later));
        self.latest.get_or_insert_with(|| version.clone());
        self.first = Some(version);
    }

    /// Adds a delete marker.
    pub(super) fn add_marker(&mut self, is_latest: bool) {
        self.hidden |= is_latest;
    }

    /// Returns the object as it was first written, if anything of it is kept.
    pub(super) fn first(&self) -> Option<&ObjectVersion> {
        self.first.as_ref()
    }

    /// Returns the object as whoever rewrites it means it.
    pub(super) fn latest(&self) -> Option<&ObjectVersion> {
        self.latest.as_ref().filter(|_| !self.hidden)
    }

    /// Tells what was done to it. The same bytes put twice are a request that was repeated, and no change.
    fn change(&self) -> Option<Tampering> {
        match (self.hidden, self.differ) {
            (true, _) => Some(Tampering::Hidden),
            (false, true) => Some(Tampering::Overwritten),
            (false, false) => None,
        }
    }
}

/// What is known of the versions in a bucket.
#[derive(Debug, Default)]
pub(super) struct BucketVersions(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Whether the credentials may list versions, once that was tried.
    may_list: Option<bool>,
    /// Whether anything showed that the bucket keeps them.
    keeps: bool,
    /// First versions of changed objects.
    changed: BTreeMap<ObjectKey, (String, Tampering)>,
    more: u64,
}

impl BucketVersions {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while held")
    }

    /// Tells whether versions are to be listed, or it is to be tried.
    pub(super) fn may_list(&self) -> bool {
        self.state().may_list != Some(false)
    }

    /// Notes whether versions may be listed.
    pub(super) fn note_may_list(&self, may: bool) {
        self.state().may_list.get_or_insert(may);
    }

    /// Notes the version id that came with an answer.
    pub(super) fn note_id(&self, id: Option<&str>) {
        if id.is_some_and(|id| !id.is_empty() && id != NO_VERSION) {
            self.state().keeps = true;
        }
    }

    /// Notes that there is a delete marker.
    pub(super) fn note_marker(&self) {
        self.state().keeps = true;
    }

    /// Tells whether anything showed that the bucket keeps versions.
    pub(super) fn keeps(&self) -> bool {
        self.state().keeps
    }

    /// Notes the versions of an object that is written once; tells whether it is another than was known by now.
    pub(super) fn note(&self, key: &ObjectKey, versions: &ObjectVersions) -> bool {
        let mut state = self.state();
        let change = versions.first().zip(versions.change()).map(|(first, change)| (first.id.clone(), change));
        let Some(change) = change else { return state.changed.remove(key).is_some() };
        let (first, before) = (change.0.clone(), state.changed.insert(key.clone(), change));
        while state.changed.len() > CHANGED_MAX {
            // Not the one that is asked for next.
            let other = state.changed.keys().find(|other| *other != key).cloned().expect("there are others");
            state.changed.remove(&other);
            state.more += 1;
        }
        before.is_none_or(|(before, _)| before != first)
    }

    /// Returns the id of an object's first version, where it was changed.
    pub(super) fn first(&self, key: &ObjectKey) -> Option<String> {
        self.state().changed.get(key).map(|(first, _)| first.clone())
    }

    /// Returns what is to be told of changes.
    pub(super) fn tampered(&self) -> Tampered {
        let state = self.state();
        let changed = state.changed.iter().map(|(key, (_, change))| (key.clone(), *change)).collect();
        Tampered { changed, more: state.more, is_unseen: state.keeps && state.may_list == Some(false) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(id: &str, tag: &str) -> ObjectVersion {
        ObjectVersion { id: id.into(), size: 5, tag: Some(tag.into()) }
    }

    fn versions(tags: &[&str], is_hidden: bool) -> ObjectVersions {
        let mut versions = ObjectVersions::default();
        tags.iter().enumerate().for_each(|(at, tag)| versions.add(version(&at.to_string(), tag)));
        versions.add_marker(is_hidden);
        versions
    }

    #[test]
    fn an_object_is_its_first_version_and_a_lease_its_latest() {
        for (tags, is_hidden, first, latest, change) in [
            (vec![], true, None, None, Some(Tampering::Hidden)),
            (vec!["a"], false, Some("0"), Some("0"), None),
            (vec!["a", "a"], false, Some("1"), Some("0"), None),
            (vec!["b", "a"], false, Some("1"), Some("0"), Some(Tampering::Overwritten)),
            (vec!["a", "b", "a"], false, Some("2"), Some("0"), Some(Tampering::Overwritten)),
            (vec!["a"], true, Some("0"), None, Some(Tampering::Hidden)),
        ] {
            let it = versions(&tags, is_hidden);
            let id = |version: Option<&ObjectVersion>| version.map(|version| version.id.clone());
            assert_eq!(
                (id(it.first()).as_deref(), id(it.latest()).as_deref()),
                (first, latest),
                "{tags:?} {is_hidden}"
            );
            assert_eq!(it.change(), change, "{tags:?} {is_hidden}");
        }
    }

    #[test]
    fn what_was_changed_is_remembered_within_bounds_and_forgotten_once_it_is_as_it_was() {
        let kept = BucketVersions::default();
        let key = |at: usize| ObjectKey::from_listed(format!("packs/{at:08}"));
        assert!(!kept.note(&key(0), &versions(&["a"], false)), "nothing was changed");
        assert!(kept.note(&key(0), &versions(&["b", "a"], false)));
        assert!(!kept.note(&key(0), &versions(&["b", "a"], true)), "it is the same version");
        assert_eq!(kept.first(&key(0)).as_deref(), Some("1"));
        assert_eq!(kept.tampered().changed, [(key(0), Tampering::Hidden)]);
        assert!(kept.note(&key(0), &versions(&["a"], false)));
        assert_eq!(kept.tampered(), Tampered::default());
        for at in 0..CHANGED_MAX + 3 {
            kept.note(&key(at), &versions(&["b", "a"], false));
            assert!(kept.first(&key(at)).is_some(), "the last one is known");
        }
        assert_eq!((kept.tampered().changed.len(), kept.tampered().more), (CHANGED_MAX, 3));
    }

    #[test]
    fn a_bucket_keeps_versions_once_an_answer_shows_it() {
        let kept = BucketVersions::default();
        for id in [None, Some(""), Some("null")] {
            kept.note_id(id);
        }
        kept.note_may_list(false);
        assert!(!kept.keeps() && !kept.tampered().is_unseen && !kept.may_list());
        kept.note_id(Some("3sL4kqtJlcpXroDTDmJ"));
        assert!(kept.keeps() && kept.tampered().is_unseen);
    }
}
