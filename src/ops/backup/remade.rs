//! What the last night left, made anew from what it stored: for a machine that has lost it, and may read.
//!
//! The last dump is read once from its beginning to its end and cut into pieces as tonight's is; where each lies is known from its chunks
//! and recipes. Nothing of it is relied on: tonight asks the index of each chunk that it would name, as of what was left here.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;

use crate::model::entry::{Entry, EntryKind, FileContent};
use crate::model::id::{ChunkKey, DomainId};
use crate::model::path::EntryPath;
use crate::model::snapshot::SnapshotId;
use crate::ops::Cancel;
use crate::ops::backup::options::BackupOptions;
use crate::progress::Monitor;
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::newest_first::NewestFirst;
use crate::repository::nights::{NightBlocks, NightPlace};
use crate::repository::reader::Reader;
use crate::repository::reader::chunks::ChunkWalk;
use crate::repository::reader::content::ContentPart;
use crate::repository::reader::windows::WindowAt;
use crate::windows::cover::{Cover, Stretch};
use crate::windows::gather::WindowGatherer;
use crate::windows::pieces::PieceRule;
use crate::windows::remains::Remains;
use crate::windows::tomorrow::Tomorrow;
use crate::windows::weave::MadeOf;

/// Snapshots of the same host and job that are looked at, at most: a stream that is in none of them is new.
const LOOKED_AT: usize = 8;
/// The part of the memory that reading the last dump takes.
const READER_SHARE: u64 = 16;

/// Where the last nights of a host's and job's streams are.
pub(super) struct LastNights {
    repository: Arc<Repository>,
    index: Arc<Index>,
    memory_bytes: u64,
    monitor: Arc<dyn Monitor>,
    runtime: Handle,
    host: String,
    job: String,
    domain: DomainId,
    /// The snapshots that there are, in order.
    snapshots: Vec<SnapshotId>,
    /// One is made anew at a time, so that memory is taken once.
    alone: Mutex<()>,
}

impl LastNights {
    /// Looks among `snapshots` of a domain; `None` on a host that may not read.
    pub(super) fn among(
        snapshots: Vec<SnapshotId>,
        domain: DomainId,
        repository: &Arc<Repository>,
        index: &Arc<Index>,
        options: &BackupOptions,
        monitor: &Arc<dyn Monitor>,
    ) -> Option<Self> {
        repository.reading().ok()?;
        Some(Self {
            repository: repository.clone(),
            index: index.clone(),
            memory_bytes: options.memory_bytes / READER_SHARE,
            monitor: monitor.clone(),
            runtime: Handle::current(),
            host: options.host.clone(),
            job: options.job.clone(),
            domain,
            snapshots,
            alone: Mutex::default(),
        })
    }

    /// Makes what the last night of a stream would have left at `place`, had it been cut by `rule`, which `gatherer` does. `None` where
    /// there was none, or it cannot be read to its end, or the run `ends` meanwhile.
    ///
    /// Called outside of the runtime, as everything that stores streams.
    pub(super) fn remake(
        &self,
        path: &EntryPath,
        place: NightPlace,
        rule: PieceRule,
        gatherer: WindowGatherer,
        ends: &Cancel,
    ) -> Option<(SnapshotId, NightBlocks, Remains)> {
        let _alone = self.alone.lock().expect("no panic while held");
        let reading = self.repository.reading().ok()?;
        let reader = Arc::new(Reader::new(reading, self.index.clone(), self.memory_bytes, self.monitor.clone()));
        self.runtime.block_on(async {
            let (snapshot, content) = ends.or(self.last(path, &reader)).await??;
            let (blocks, remains) = cut(&reader, &content, place, rule, gatherer, ends).await?;
            Some((snapshot, blocks, remains))
        })
    }

    /// Finds the newest snapshot that has the stream.
    async fn last(&self, path: &EntryPath, reader: &Arc<Reader>) -> Option<(SnapshotId, FileContent)> {
        let mut newest = NewestFirst::recent(&self.repository, self.snapshots.clone());
        let mut left = LOOKED_AT;
        while let Some((id, snapshot)) = newest.next().await {
            let Ok(snapshot) = snapshot else { continue };
            if (&snapshot.host, &snapshot.job, snapshot.at.domain) != (&self.host, &self.job, self.domain) {
                continue;
            }
            let entry = reader.walk(snapshot.root, Some(path.clone())).next().await;
            if let Some(Ok(Entry { path: found, kind: EntryKind::Stream(content, _), .. })) = entry
                && found == *path
            {
                return Some((id, content));
            }
            left -= 1;
            if left == 0 {
                return None;
            }
        }
        None
    }
}

/// Cuts a content into what a night leaves.
async fn cut(
    reader: &Arc<Reader>,
    content: &FileContent,
    place: NightPlace,
    rule: PieceRule,
    mut gatherer: WindowGatherer,
    ends: &Cancel,
) -> Option<(NightBlocks, Remains)> {
    let mut tomorrow = Tomorrow::new(place.begin()?, rule, 0);
    let mut stored = StoredParts::of(reader, content);
    let mut bytes = reader.content(content);
    let (mut buffer, mut is_end) = (Vec::new(), false);
    while !is_end {
        match ends.or(bytes.next()).await? {
            Some(Ok(ContentPart::Bytes(more, range))) => buffer.extend_from_slice(&more[range]),
            None => is_end = true,
            // A stream has no holes.
            Some(Ok(_) | Err(_)) => return None,
        }
        while let Some(length) = gatherer.advance(&buffer, is_end) {
            let made_of = stored.take(length as u32).await?;
            tomorrow.push(gatherer.pieces(), &made_of, |key| made_of.fresh_length(key));
            gatherer.clear();
            buffer.drain(..length);
        }
    }
    let (sink, remains) = tomorrow.finish();
    Some((sink.finish(&remains, true)?.into_blocks()?, remains))
}

/// What a content consists of, part by part: chunks that are stored plain.
struct StoredParts {
    reader: Arc<Reader>,
    chunks: ChunkWalk,
    /// Parts that come next, and how long the chunk of each is.
    next: VecDeque<(Stretch<ChunkKey>, u32)>,
}

impl StoredParts {
    fn of(reader: &Arc<Reader>, content: &FileContent) -> Self {
        let chunks = reader.chunks(&content.chunks, content.stored_length());
        Self { reader: reader.clone(), chunks, next: VecDeque::new() }
    }

    /// Returns what the next `length` bytes are made of; `None` where it cannot be known.
    async fn take(&mut self, mut length: u32) -> Option<MadeOf> {
        let (mut cover, mut lengths) = (Cover::default(), Vec::new());
        while length > 0 {
            let Some((part, whole)) = self.next.front_mut() else {
                self.read_on().await?;
                continue;
            };
            let some = part.length.min(length);
            cover.push(Stretch { length: some, ..*part });
            lengths.push((part.key, *whole));
            *part = Stretch { key: part.key, offset: part.offset + some, length: part.length - some };
            length -= some;
            if part.length == 0 {
                self.next.pop_front();
            }
        }
        lengths.dedup();
        Some(MadeOf::stored(cover, lengths))
    }

    /// Looks what the next chunk consists of.
    async fn read_on(&mut self) -> Option<()> {
        let chunk = self.chunks.next().await?.ok()?;
        let place = self.reader.index().locate(&chunk.id)?;
        if !place.codec.holds_recipes() {
            let part = Stretch { key: chunk.id.key(), offset: 0, length: chunk.length };
            self.next.push_back((part, chunk.length));
            return Some(());
        }
        let resolved = self.reader.resolve(&WindowAt::of(chunk, place), &|_| true).await.ok()?;
        self.next.extend(resolved.missing.is_empty().then(|| resolved.stretches()).into_iter().flatten());
        resolved.missing.is_empty().then_some(())
    }
}
