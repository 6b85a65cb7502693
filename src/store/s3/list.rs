//! Listing a bucket: names alone, or all versions of every object, which is no more requests.
//!
//! What a key may not do, or a gateway does not know, is tried once: from then on names are listed.

use std::collections::BTreeMap;

use crate::model::key::ObjectKey;
use crate::store::s3::versions::{ObjectVersion, ObjectVersions, is_rewritten};
use crate::store::s3::{S3Store, error};
use crate::store::{Listing, ObjectInfo, StoreError, StoreErrorKind};

/// Versions that one object can have, at most: honest ones are a few, of a put that was repeated.
const VERSIONS_MAX: usize = 1 << 16;

/// Why versions could not be listed.
enum Unlisted {
    /// They are not to be had with these credentials, or at this gateway.
    Refused,
    /// The answer was one of success and no list of versions: a gateway that does not know of them, or a failure.
    NotUnderstood(StoreError),
    /// The way or the store failed.
    Failed(StoreError),
}

impl Unlisted {
    /// Takes a failure; `is_success` tells whether it came as an answer of success.
    fn of(error: StoreError, is_success: bool) -> Self {
        match error.kind {
            _ if is_success => Unlisted::NotUnderstood(error),
            StoreErrorKind::Denied | StoreErrorKind::NotFound | StoreErrorKind::Other => Unlisted::Refused,
            _ => Unlisted::Failed(error),
        }
    }
}

/// Where a listing of versions goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Marker {
    key: Option<String>,
    version: Option<String>,
}

/// One page of a listing of versions: names below the repository's place, each with a version or, for a delete marker, whether it is
/// the latest.
struct VersionsPage {
    versions: Vec<(String, ObjectVersion)>,
    markers: Vec<(String, String, bool)>,
    next: Option<Marker>,
}

impl S3Store {
    /// Lists all objects whose name starts with `prefix`.
    pub(super) async fn list_all(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        if is_rewritten(prefix) || !self.kept.may_list() {
            return self.list_names(prefix).await;
        }
        match self.list_versions(prefix).await {
            Ok(found) => Ok(found),
            Err(Unlisted::Failed(error)) => Err(error),
            Err(unlisted) => {
                let found = self.list_names(prefix).await?;
                if let Unlisted::Refused = unlisted {
                    self.kept.note_may_list(false);
                }
                Ok(found)
            }
        }
    }

    /// Returns the versions of one object, and the ids of all of them and of its delete markers, the first version last. `None` where
    /// versions cannot be listed.
    pub(super) async fn look_up(&self, key: &ObjectKey) -> Result<Option<(ObjectVersions, Vec<String>)>, StoreError> {
        if !self.kept.may_list() {
            return Ok(None);
        }
        let (mut versions, mut ids, mut others) = (ObjectVersions::default(), Vec::new(), Vec::new());
        let (mut counted, mut marker) = (Listing::bounded(key.as_str(), VERSIONS_MAX), Marker::default());
        loop {
            let page = match self.versions_page(key.as_str(), &marker).await {
                Ok(page) => page,
                Err(Unlisted::Failed(error) | Unlisted::NotUnderstood(error)) => return Err(error),
                Err(Unlisted::Refused) => {
                    self.kept.note_may_list(false);
                    return Ok(None);
                }
            };
            let mut names = page.versions.iter().map(|it| &it.0).chain(page.markers.iter().map(|it| &it.0));
            let is_over = names.any(|name| name != key.as_str());
            for (_, id, is_latest) in page.markers.into_iter().filter(|(name, ..)| name == key.as_str()) {
                counted.count(id.len())?;
                versions.add_marker(is_latest);
                others.push(id);
            }
            for (_, version) in page.versions.into_iter().filter(|(name, _)| name == key.as_str()) {
                counted.count(version.id.len())?;
                ids.push(version.id.clone());
                versions.add(version);
            }
            match page.next {
                Some(next) if !is_over => marker = next,
                _ => break,
            }
            counted.next_page()?;
        }
        others.append(&mut ids);
        self.kept.note(key, &versions);
        Ok(Some((versions, others)))
    }

    async fn list_versions(&self, prefix: &str) -> Result<Vec<ObjectInfo>, Unlisted> {
        let (mut found, mut open) = (Listing::of(prefix), BTreeMap::<String, ObjectVersions>::new());
        let mut marker = Marker::default();
        loop {
            let page = self.versions_page(prefix, &marker).await?;
            for (name, _, is_latest) in page.markers {
                found.count(name.len()).map_err(Unlisted::Failed)?;
                open.entry(name).or_default().add_marker(is_latest);
            }
            for (name, version) in page.versions {
                found.count(name.len()).map_err(Unlisted::Failed)?;
                open.entry(name).or_default().add(version);
            }
            let Some(next) = page.next else { break };
            found.next_page().map_err(Unlisted::Failed)?;
            // The versions of the last one may go on.
            let last = open.pop_last();
            self.take_in(std::mem::take(&mut open), &mut found);
            open.extend(last);
            marker = next;
        }
        self.take_in(open, &mut found);
        Ok(found.finish())
    }

    /// Adds what each of these objects is to a listing.
    fn take_in(&self, objects: BTreeMap<String, ObjectVersions>, found: &mut Listing) {
        for (name, versions) in objects {
            let object = if is_rewritten(&name) {
                versions.latest()
            } else {
                self.kept.note(&ObjectKey::from_listed(name.as_str()), &versions);
                versions.first()
            };
            if let Some(object) = object {
                found.add_counted(&name, object.size);
            }
        }
    }

    async fn versions_page(&self, prefix: &str, from: &Marker) -> Result<VersionsPage, Unlisted> {
        let request = self
            .client
            .list_object_versions()
            .bucket(&self.bucket)
            .prefix(format!("{}{prefix}", self.prefix))
            .set_key_marker(from.key.clone())
            .set_version_id_marker(from.version.clone());
        let mut is_success = false;
        let answer = self.answer("list", prefix, async {
            request.send().await.map_err(|error| {
                is_success = error.raw_response().is_some_and(|response| response.status().is_success());
                error::from_sdk("list", prefix, error)
            })
        });
        let page = answer.await.map_err(|error| Unlisted::of(error, is_success))?;
        // A success with an error inside parses as a page that lacks even what was asked for.
        if page.name().is_none() && page.prefix().is_none() && page.max_keys().is_none() {
            return Err(Unlisted::NotUnderstood(error::false_success("list", prefix)));
        }
        self.kept.note_may_list(true);
        let ours = |name: Option<&str>| {
            let name = name?.strip_prefix(self.prefix.as_str())?;
            name.starts_with(prefix).then(|| name.to_owned())
        };
        let mut versions = Vec::with_capacity(page.versions().len());
        for version in page.versions() {
            let size = version.size().and_then(|size| u64::try_from(size).ok());
            self.kept.note_id(version.version_id());
            if let (Some(name), Some(size)) = (ours(version.key()), size) {
                let id = version.version_id().unwrap_or_default().to_owned();
                versions.push((name, ObjectVersion { id, size, tag: version.e_tag().map(str::to_owned) }));
            }
        }
        let mut markers = Vec::with_capacity(page.delete_markers().len());
        for marker in page.delete_markers() {
            self.kept.note_marker();
            if let Some(name) = ours(marker.key()) {
                let id = marker.version_id().unwrap_or_default().to_owned();
                markers.push((name, id, marker.is_latest().unwrap_or(false)));
            }
        }
        let next = page.is_truncated().unwrap_or(false).then(|| Marker {
            key: page.next_key_marker().map(str::to_owned),
            version: page.next_version_id_marker().map(str::to_owned),
        });
        if next.as_ref().is_some_and(|next| next.key.is_none() || next == from) {
            return Err(Unlisted::Failed(without_a_place_to_go_on(prefix)));
        }
        Ok(VersionsPage { versions, markers, next })
    }

    async fn list_names(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        let mut found = Listing::of(prefix);
        let mut token: Option<String> = None;
        loop {
            let request = self
                .client
                .list_objects_v2()
                .bucket(&self.bucket)
                .prefix(format!("{}{prefix}", self.prefix))
                .set_continuation_token(token.clone());
            let page = self
                .answer("list", prefix, async {
                    request.send().await.map_err(|error| error::from_sdk("list", prefix, error))
                })
                .await?;
            // As above.
            if page.name().is_none() && page.prefix().is_none() && page.key_count().is_none() {
                return Err(error::false_success("list", prefix));
            }
            for object in page.contents() {
                let name = object.key().and_then(|name| name.strip_prefix(self.prefix.as_str()));
                let size = object.size().and_then(|size| u64::try_from(size).ok());
                if let (Some(name), Some(size)) = (name, size)
                    && name.starts_with(prefix)
                {
                    found.push(name, size)?;
                }
            }
            if !page.is_truncated().unwrap_or(false) {
                break;
            }
            let next = page.next_continuation_token().map(str::to_owned);
            if next.is_none() || next == token {
                return Err(without_a_place_to_go_on(prefix));
            }
            found.next_page()?;
            token = next;
        }
        // In that order already, as S3 promises; not every gateway keeps it, nor is free of repetitions.
        Ok(found.finish())
    }
}

fn without_a_place_to_go_on(prefix: &str) -> StoreError {
    let message = "the store said there is more to list, but not where it goes on";
    StoreError::new("list", prefix, StoreErrorKind::Unavailable, message)
}
