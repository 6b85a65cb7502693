//! An S3 server in this process whose bucket keeps versions, in memory: as far as a store asks for them, and what somebody with a key
//! to the bucket does beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures::TryStreamExt;
use md5::{Digest, Md5};
use s3s::access::{S3Access, S3AccessContext};
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};
use tokio::task::JoinHandle;

use crate::support::s3_server::{BUCKET, serve};

/// A running server; it ends when dropped.
pub struct VersionedServer {
    pub bucket: Bucket,
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// A bucket. Clones share it.
#[derive(Clone)]
pub struct Bucket(Arc<Mutex<State>>);

struct State {
    keeps_versions: bool,
    page: usize,
    /// The versions of each object, the first one in front.
    objects: BTreeMap<String, Vec<Stored>>,
    /// Versions so far.
    count: u64,
    /// Operations that are refused.
    refused: BTreeSet<&'static str>,
    /// Operations that were asked for.
    asked: Vec<String>,
    /// The next put is answered with a failure.
    fails_next: bool,
}

#[derive(Clone)]
struct Stored {
    id: String,
    /// A delete marker has none.
    body: Option<Bytes>,
}

impl Stored {
    fn tag(&self) -> Option<ETag> {
        let digest = Md5::digest(self.body.as_ref()?);
        Some(ETag::Strong(digest.iter().map(|byte| format!("{byte:02x}")).collect()))
    }
}

impl VersionedServer {
    /// Starts a server whose listings have `page` entries a page.
    pub async fn start(keeps_versions: bool, page: usize) -> Self {
        let (objects, refused, asked) = Default::default();
        let state = State { keeps_versions, page, objects, count: 0, refused, asked, fails_next: false };
        let bucket = Bucket(Arc::new(Mutex::new(state)));
        let (address, task) = serve(bucket.clone(), bucket.clone()).await;
        Self { bucket, address, task }
    }

    /// Returns the location of a repository under `prefix` in the bucket.
    pub fn location(&self, prefix: &str) -> String {
        format!("s3+http://{}/{BUCKET}/{prefix}", self.address)
    }
}

impl Drop for VersionedServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bucket {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while held")
    }

    /// Has the bucket keep versions from now on, as its owner may decide at any time.
    pub fn keep_versions(&self) {
        self.state().keeps_versions = true;
    }

    /// Refuses an operation from now on.
    pub fn refuse(&self, operation: &'static str) {
        self.state().refused.insert(operation);
    }

    /// Forgets the operations so far and returns how often each was asked for.
    pub fn take_asked(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for operation in std::mem::take(&mut self.state().asked) {
            *counts.entry(operation).or_default() += 1;
        }
        counts
    }

    /// Puts an object.
    pub fn put(&self, name: &str, body: impl Into<Bytes>) -> String {
        self.state().add(name, Some(body.into()))
    }

    /// Deletes an object.
    pub fn delete(&self, name: &str) {
        self.state().add(name, None);
    }

    /// Keeps the first version of an object, and nothing else of it.
    pub fn keep_first(&self, name: &str) {
        if let Some(versions) = self.state().objects.get_mut(name) {
            versions.truncate(1);
        }
    }

    /// Answers the next put with a failure, after storing what it brought.
    pub fn fail_after_next_put(&self) {
        self.state().fails_next = true;
    }

    /// Returns the names of the objects of which anything is kept.
    pub fn names(&self) -> Vec<String> {
        self.state().objects.keys().cloned().collect()
    }

    /// Returns what is kept of an object, the first version in front, delete markers as `None`.
    pub fn versions(&self, name: &str) -> Vec<Option<Bytes>> {
        let state = self.state();
        state.objects.get(name).into_iter().flatten().map(|stored| stored.body.clone()).collect()
    }
}

impl State {
    fn add(&mut self, name: &str, body: Option<Bytes>) -> String {
        self.count += 1;
        let id = if self.keeps_versions { format!("v{}", self.count) } else { "null".to_owned() };
        let stored = Stored { id: id.clone(), body };
        let versions = self.objects.entry(name.to_owned()).or_default();
        if !self.keeps_versions {
            versions.clear();
        }
        versions.push(stored);
        if versions.iter().all(|stored| stored.body.is_none()) && !self.keeps_versions {
            self.objects.remove(name);
        }
        id
    }

    /// Returns one version, or the latest; a delete marker is nothing.
    fn find(&self, name: &str, version: Option<&str>) -> S3Result<Stored> {
        let versions = self.objects.get(name).ok_or_else(|| s3_error!(NoSuchKey))?;
        let found = match version {
            Some(id) => versions.iter().find(|stored| stored.id == id).ok_or_else(|| s3_error!(NoSuchVersion))?,
            None => versions.last().ok_or_else(|| s3_error!(NoSuchKey))?,
        };
        if found.body.is_none() {
            return Err(s3_error!(NoSuchKey));
        }
        Ok(found.clone())
    }

    fn told(&self, id: &str) -> Option<String> {
        (id != "null").then(|| id.to_owned())
    }
}

#[async_trait::async_trait]
impl S3Access for Bucket {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let (mut state, operation) = (self.state(), context.s3_op().name());
        state.asked.push(operation.to_owned());
        match context.credentials() {
            Some(_) if !state.refused.contains(operation) => Ok(()),
            _ => Err(s3_error!(AccessDenied)),
        }
    }
}

/// Returns what stands behind `from` of what is sorted, a page of it, and whether there is more.
fn page_of<T>(all: Vec<T>, page: usize, is_behind: impl Fn(&T) -> bool) -> (Vec<T>, bool) {
    let mut left = all.into_iter().skip_while(|it| !is_behind(it));
    let these: Vec<T> = left.by_ref().take(page).collect();
    let more = left.next().is_some();
    (these, more)
}

#[async_trait::async_trait]
impl S3 for Bucket {
    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        let mut body = Vec::new();
        let mut pieces = input.body.ok_or_else(|| s3_error!(IncompleteBody))?;
        while let Some(piece) = pieces.try_next().await.map_err(|_| s3_error!(IncompleteBody))? {
            body.extend_from_slice(&piece);
        }
        let mut state = self.state();
        let id = state.add(&input.key, Some(body.into()));
        let e_tag = state.find(&input.key, None)?.tag();
        if std::mem::take(&mut state.fails_next) {
            return Err(s3_error!(InternalError));
        }
        Ok(S3Response::new(PutObjectOutput { e_tag, version_id: state.told(&id), ..Default::default() }))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let state = self.state();
        if input.version_id.is_some() && state.refused.contains("GetObjectVersion") {
            return Err(s3_error!(AccessDenied));
        }
        let found = state.find(&input.key, input.version_id.as_deref())?;
        let (e_tag, mut body) = (found.tag(), found.body.expect("no delete marker"));
        let mut content_range = None;
        if let Some(range) = input.range {
            let (all, range) = (body.len(), range.check(body.len() as u64)?);
            content_range = Some(format!("bytes {}-{}/{all}", range.start, range.end - 1));
            body = body.slice(range.start as usize..range.end as usize);
        }
        let content_length = i64::try_from(body.len()).ok();
        let version_id = state.told(&found.id);
        let body = Some(StreamingBlob::from(s3s::Body::from(body)));
        let output = GetObjectOutput { body, content_length, content_range, e_tag, version_id, ..Default::default() };
        Ok(S3Response::new(output))
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let state = self.state();
        let found = state.find(&request.input.key, request.input.version_id.as_deref())?;
        let content_length = found.body.as_ref().and_then(|body| i64::try_from(body.len()).ok());
        let (e_tag, version_id) = (found.tag(), state.told(&found.id));
        Ok(S3Response::new(HeadObjectOutput { content_length, e_tag, version_id, ..Default::default() }))
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let (mut state, input) = (self.state(), request.input);
        let Some(id) = input.version_id else {
            let keeps = state.keeps_versions;
            let id = state.add(&input.key, None);
            let (delete_marker, version_id) = (keeps.then_some(true), state.told(&id));
            return Ok(S3Response::new(DeleteObjectOutput { delete_marker, version_id, ..Default::default() }));
        };
        if state.refused.contains("DeleteObjectVersion") {
            return Err(s3_error!(AccessDenied));
        }
        if let Some(versions) = state.objects.get_mut(&input.key) {
            versions.retain(|stored| stored.id != id);
            if versions.is_empty() {
                state.objects.remove(&input.key);
            }
        }
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let (state, input) = (self.state(), request.input);
        let prefix = input.prefix.clone().unwrap_or_default();
        let is_wanted = |(name, versions): &(&String, &Vec<Stored>)| {
            name.starts_with(&prefix) && versions.last().is_some_and(|stored| stored.body.is_some())
        };
        let all: Vec<_> = state.objects.iter().filter(is_wanted).collect();
        let token = input.continuation_token.clone();
        let is_behind = |it: &(&String, &Vec<Stored>)| token.as_ref().is_none_or(|token| it.0 > token);
        let (these, more) = page_of(all, state.page, is_behind);
        let next_continuation_token = these.last().filter(|_| more).map(|(name, _)| (*name).clone());
        let contents = these.into_iter().map(|(name, versions)| {
            let latest = versions.last().expect("looked at");
            let size = latest.body.as_ref().and_then(|body| i64::try_from(body.len()).ok());
            Object { key: Some(name.clone()), size, e_tag: latest.tag(), ..Default::default() }
        });
        let contents: Vec<_> = contents.collect();
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(prefix),
            key_count: i32::try_from(contents.len()).ok(),
            contents: Some(contents),
            is_truncated: Some(more),
            next_continuation_token,
            ..Default::default()
        }))
    }

    async fn list_object_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let (state, input) = (self.state(), request.input);
        let prefix = input.prefix.clone().unwrap_or_default();
        let mut all = Vec::new();
        for (name, versions) in state.objects.iter().filter(|(name, _)| name.starts_with(&prefix)) {
            all.extend(versions.iter().rev().enumerate().map(|(nth, stored)| (name.clone(), nth == 0, stored.clone())));
        }
        let at = input.key_marker.clone().map(|key| (key, input.version_id_marker.clone()));
        let start = at.map_or(0, |(key, id)| {
            let place =
                all.iter().rposition(|(name, _, stored)| *name == key && id.as_ref().is_none_or(|id| stored.id == *id));
            place.map_or(all.len(), |place| place + 1)
        });
        let (these, more) = page_of(all.split_off(start), state.page, |_| true);
        let last = these.last().filter(|_| more).map(|(name, _, stored)| (name.clone(), stored.id.clone()));
        let (mut versions, mut markers) = (Vec::new(), Vec::new());
        for (name, is_latest, stored) in these {
            let (key, id, is_latest) = (Some(name), Some(stored.id.clone()), Some(is_latest));
            match &stored.body {
                Some(body) => versions.push(ObjectVersion {
                    key,
                    is_latest,
                    version_id: id,
                    size: i64::try_from(body.len()).ok(),
                    e_tag: stored.tag(),
                    ..Default::default()
                }),
                None => markers.push(DeleteMarkerEntry { key, is_latest, version_id: id, ..Default::default() }),
            }
        }
        Ok(S3Response::new(ListObjectVersionsOutput {
            name: Some(input.bucket),
            prefix: Some(prefix),
            versions: Some(versions),
            delete_markers: Some(markers),
            is_truncated: Some(more),
            next_key_marker: last.as_ref().map(|(name, _)| name.clone()),
            next_version_id_marker: last.map(|(_, id)| id),
            ..Default::default()
        }))
    }
}
