//! What the last night left, made anew from what it stored: for a machine that has lost it, and may read.
//!
//! The last dump is read once from its beginning to its end and cut into pieces as tonight's is; where each lies is known from its chunks
//! and recipes. Nothing of it is relied on: tonight asks the index of each chunk that it would name, as of what was left here.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;
use tokio::sync::OnceCell;

use crate::model::entry::{Entry, EntryKind, FileContent};
use crate::model::id::{ChunkKey, DomainId};
use crate::model::path::EntryPath;
use crate::model::snapshot::{SnapshotId, TreeRoot};
use crate::ops::Cancel;
use crate::ops::backup::options::BackupOptions;
use crate::progress::Monitor;
use crate::repository::Repository;
use crate::repository::index::Index;
use crate::repository::index::table::ChunkPlace;
use crate::repository::newest_first::NewestFirst;
use crate::repository::nights::{NightBlocks, NightPlace};
use crate::repository::reader::Reader;
use crate::repository::reader::chunks::ChunkWalk;
use crate::repository::reader::content::ContentPart;
use crate::repository::reader::windows::WindowAt;
use crate::windows::cover::{Cover, Stretch};
use crate::windows::gather::WindowGatherer;
use crate::windows::heads::{HEAD_BYTES, PAGE_USUAL, is_compressed, rule_of};
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
    /// The newest of this host and job, once they were looked for.
    newest: OnceCell<Vec<(SnapshotId, TreeRoot)>>,
    /// One is made anew at a time, so that memory is taken once.
    alone: Mutex<()>,
}

/// What the last night would have left.
pub(super) struct RemadeNight {
    /// The snapshot that has it.
    pub(super) snapshot: SnapshotId,
    pub(super) blocks: NightBlocks,
    pub(super) remains: Remains,
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
            newest: OnceCell::new(),
            alone: Mutex::default(),
        })
    }

    /// Makes what the last night of a stream would have left at `place`; `gatherer` cuts by a rule. `None` where there was none, or it
    /// cannot be read to its end, or the run `ends` meanwhile. It takes as long as reading that dump does, for which no producer waits.
    ///
    /// Called outside of the runtime, as everything that stores streams.
    pub(super) fn remake(
        &self,
        path: &EntryPath,
        place: NightPlace,
        gatherer: impl FnOnce(PieceRule) -> WindowGatherer,
        ends: &Cancel,
    ) -> Option<RemadeNight> {
        let _alone = self.alone.lock().expect("no panic while held");
        let reading = self.repository.reading().ok()?;
        let reader = Arc::new(Reader::new(reading, self.index.clone(), self.memory_bytes, self.monitor.clone()));
        self.runtime.block_on(async {
            let (snapshot, content) = ends.or(self.last(path, &reader)).await??;
            let (blocks, remains) = cut(&reader, &content, place, gatherer, ends).await?;
            Some(RemadeNight { snapshot, blocks, remains })
        })
    }

    /// Finds the newest snapshot that has the stream.
    async fn last(&self, path: &EntryPath, reader: &Arc<Reader>) -> Option<(SnapshotId, FileContent)> {
        for (id, root) in self.newest.get_or_init(|| self.newest()).await {
            let entry = reader.walk(*root, Some(path.clone())).next().await;
            if let Some(Ok(Entry { path: found, kind: EntryKind::Stream(content, _), .. })) = entry
                && found == *path
            {
                return Some((*id, content));
            }
        }
        None
    }

    /// Finds the newest snapshots of the host and job.
    async fn newest(&self) -> Vec<(SnapshotId, TreeRoot)> {
        let mut found = Vec::new();
        let mut newest = NewestFirst::recent(&self.repository, self.snapshots.clone());
        while let Some((id, snapshot)) = newest.next().await {
            let Ok(snapshot) = snapshot else { continue };
            if (&snapshot.host, &snapshot.job, snapshot.at.domain) == (&self.host, &self.job, self.domain) {
                found.push((id, snapshot.root));
                if found.len() == LOOKED_AT {
                    break;
                }
            }
        }
        found
    }
}

/// Cuts a content into what a night leaves.
async fn cut(
    reader: &Arc<Reader>,
    content: &FileContent,
    place: NightPlace,
    gatherer: impl FnOnce(PieceRule) -> WindowGatherer,
    ends: &Cancel,
) -> Option<(NightBlocks, Remains)> {
    let head = ends.or(reader.read_at(content, 0, HEAD_BYTES)).await?.ok()?;
    if is_compressed(&head) {
        return None;
    }
    let rule = rule_of(&head).unwrap_or(PieceRule::Pages(PAGE_USUAL));
    let (mut gatherer, mut tomorrow) = (gatherer(rule), Tomorrow::new(place.begin()?, rule, 0));
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

    /// Looks what the next chunk consists of. What is resolved is compared with nothing, so of each chunk that is stored as recipes, through
    /// all depths, there must be one alone.
    async fn read_on(&mut self) -> Option<()> {
        let chunk = self.chunks.next().await?.ok()?;
        let place = self.certain_place(&chunk.id.key())?;
        if !place.codec.holds_recipes() {
            let part = Stretch { key: chunk.id.key(), offset: 0, length: chunk.length };
            self.next.push_back((part, chunk.length));
            return Some(());
        }
        let resolved = self.reader.resolve(&WindowAt::of(chunk, place), &|_| true).await.ok()?;
        for place in &resolved.recipes {
            let recipe = self.reader.recipe(place).await.ok()?;
            recipe.chunks().iter().all(|key| self.certain_place(key).is_some()).then_some(())?;
        }
        self.next.extend(resolved.missing.is_empty().then(|| resolved.stretches()).into_iter().flatten());
        resolved.missing.is_empty().then_some(())
    }

    /// Returns where a chunk lies plain, or else its recipe. `None` where it lies nowhere, or there are several recipes: nobody knows here
    /// which of them makes it.
    fn certain_place(&self, key: &ChunkKey) -> Option<ChunkPlace> {
        let places = self.reader.index().places(key);
        let plain = places.iter().find(|place| !place.codec.holds_recipes());
        plain.or_else(|| places.first().filter(|_| places.len() == 1)).copied()
    }
}
