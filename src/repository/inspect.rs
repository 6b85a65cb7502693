//! Looking at stored objects for their own sake: what whoever verifies or counts asks, name by name.

use std::collections::HashMap;

use bytes::Bytes;

use crate::format::config::Config;
use crate::format::keyring::{Keyring, SlotRecord};
use crate::model::id::PackId;
use crate::model::key::{ObjectKey, ObjectKind};
use crate::repository::Repository;
use crate::repository::index::anew::Sum;
use crate::repository::index::open_segment;
use crate::repository::objects::Listed;
use crate::store::{StoreError, StoreErrorKind};

/// How many objects of one kind there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// Their number.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What an object that should be there turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inspected {
    /// It is what was written.
    Whole,
    /// It is an index segment that is what was written; its sum.
    Segment(Sum),
    /// It is not there.
    Missing,
    /// It came wrong twice: what is wrong with it.
    Damaged(String),
    /// It is there, and the store cannot give it whole: how it says so.
    Unreadable(String),
}

impl Repository {
    /// Counts the objects of a kind, foreign ones among them.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn census(&self, kind: ObjectKind) -> Result<Census, StoreError> {
        let listed = self.objects().list(kind).await?;
        // A store may state any lengths.
        let bytes = listed.iter().fold(0u64, |sum, object| sum.saturating_add(object.size));
        Ok(Census { objects: listed.len() as u64, bytes })
    }

    /// Lists the packs that every required replica has, with their lengths.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn pack_sizes(&self) -> Result<HashMap<PackId, u64>, StoreError> {
        Ok(self.objects().packs().await?.sizes)
    }

    /// Lists the names of a kind, those that are not ours apart.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn names(&self, kind: ObjectKind) -> Result<Listed<ObjectKey>, StoreError> {
        let ours = |key: &ObjectKey| key.is_ours().then(|| key.clone());
        Ok(Listed::of(self.objects().list(kind).await?, ours))
    }

    /// Opens a configuration, a keyring or an index segment by itself.
    ///
    /// # Errors
    /// When it is out of reach, which says nothing about it.
    pub async fn inspect(&self, key: &ObjectKey) -> Result<Inspected, StoreError> {
        let open = |bytes: &Bytes| self.open_by_itself(key, bytes);
        inspected(match key.segment_id() {
            Some(id) => self.objects().segment(id, open).await.map(|(opened, _)| opened),
            None => self.objects().get(key, open).await,
        })
    }

    /// Compares a key slot with what the keyring says of it.
    ///
    /// # Errors
    /// When it is out of reach, which says nothing about it.
    pub async fn inspect_slot(&self, slot: &SlotRecord) -> Result<Inspected, StoreError> {
        let compare = |bytes: &Bytes| {
            if slot.is(bytes) { Ok(Inspected::Whole) } else { Err("it is not what was written".to_owned()) }
        };
        inspected(self.objects().get(&ObjectKey::slot(slot.id), compare).await)
    }

    fn open_by_itself(&self, key: &ObjectKey, bytes: &[u8]) -> Result<Inspected, String> {
        let verifying_key = self.keys().verifying_key();
        let numbered = |counter| match key.counter() == Some(counter) {
            true => Ok(Inspected::Whole),
            false => Err(format!("it is number {counter} under another name")),
        };
        let opened = match (key.kind(), key.segment_id()) {
            (Some(ObjectKind::Config), _) => match Config::decode(bytes, self.id(), &verifying_key) {
                Ok(config) => return numbered(config.counter),
                Err(error) => Err(error),
            },
            (Some(ObjectKind::Keyring), _) => match Keyring::decode(bytes, self.id(), &verifying_key) {
                Ok(keyring) => return numbered(keyring.counter),
                Err(error) => Err(error),
            },
            (_, Some(id)) => open_segment(self, id, bytes)
                .map(|segment| Inspected::Segment(Sum::of_segment(segment.author(), segment.packs()))),
            (_, None) => Ok(Inspected::Whole),
        };
        opened.map_err(|error| error.to_string())
    }
}

fn inspected(answer: Result<Result<Inspected, String>, StoreError>) -> Result<Inspected, StoreError> {
    match answer {
        Ok(Ok(inspected)) => Ok(inspected),
        Ok(Err(problem)) => Ok(Inspected::Damaged(problem)),
        Err(error) if error.kind == StoreErrorKind::NotFound => Ok(Inspected::Missing),
        Err(error) if error.kind.is_damage() => Ok(Inspected::Unreadable(error.message)),
        Err(error) => Err(error),
    }
}
