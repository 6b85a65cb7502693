//! Streams that can be read but once, kept from one attempt at a backup for the next.
//!
//! What standard input gave is stored by the time that packs are found to have vanished. Where every chunk of it is still there, the
//! next attempt takes it over as it is; where some are not, it is lost, and how much of it is told.

use std::cell::LazyCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;

use crate::model::entry::{ChunkList, Entry, EntryKind, FileContent};
use crate::model::path::EntryPath;
use crate::ops::backup::stopped::Stopped;
use crate::ops::backup::stored::StoredStream;
use crate::progress::Monitor;
use crate::repository::Repository;
use crate::repository::index::checked::CheckedIndex;
use crate::repository::reader::Reader;
use crate::repository::tree::ListBuilder;
use crate::repository::writer::Writer;
use crate::source::SourceError;

/// The part of the memory that looking into lists of chunks takes.
const READER_SHARE: u64 = 16;

/// What all attempts of a backup share.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept(Arc<Mutex<HashMap<EntryPath, (Entry, StoredStream)>>>);

impl Kept {
    fn is_empty(&self) -> bool {
        self.0.lock().expect("no panic while held").is_empty()
    }

    /// Begins an attempt that relies on `index` alone.
    pub(super) fn begin(
        &self,
        repository: &Arc<Repository>,
        index: &Arc<CheckedIndex>,
        memory_bytes: u64,
        monitor: &Arc<dyn Monitor>,
    ) -> Again {
        // A host that may not read looks into no list that is not in the entry itself.
        let reading = repository.reading().ok().filter(|_| !self.is_empty());
        let reader = |reading| {
            let (index, memory_bytes) = (index.index().clone(), memory_bytes / READER_SHARE);
            Arc::new(Reader::new(reading, index, memory_bytes, monitor.clone()))
        };
        let kept = std::mem::take(&mut *self.0.lock().expect("no panic while held"));
        Again {
            earlier: kept,
            kept: self.clone(),
            index: index.clone(),
            reader: reading.map(reader),
            runtime: Handle::current(),
        }
    }
}

/// What an attempt has of those before it.
pub(super) struct Again {
    earlier: HashMap<EntryPath, (Entry, StoredStream)>,
    kept: Kept,
    index: Arc<CheckedIndex>,
    reader: Option<Arc<Reader>>,
    runtime: Handle,
}

impl Again {
    /// Keeps a stream for an attempt after this one.
    pub(super) fn keep(&self, entry: &Entry, stored: &StoredStream) {
        let mut kept = self.kept.0.lock().expect("no panic while held");
        kept.insert(entry.path.clone(), (entry.clone(), stored.clone()));
    }

    /// Returns the stream at `path` if an earlier attempt read it: as it was, where every chunk of it is still stored, and else why
    /// it is lost.
    ///
    /// Called outside of the runtime, as everything that stores streams.
    pub(super) fn take_over(
        &self,
        path: &EntryPath,
        writer: &Writer,
    ) -> Option<Result<(Entry, StoredStream), Stopped>> {
        let (entry, stored) = self.earlier.get(path)?;
        // Lost in this attempt is lost in all.
        self.keep(entry, stored);
        let EntryKind::Stream(content, detail) = &entry.kind else { return None };
        Some(self.list(path, content, stored, writer).map(|chunks| {
            let content = FileContent { chunks, ..content.clone() };
            (Entry { kind: EntryKind::Stream(content, detail.clone()), ..entry.clone() }, stored.clone())
        }))
    }

    /// Makes the list of chunks anew, relying on each of them.
    fn list(
        &self,
        path: &EntryPath,
        content: &FileContent,
        stored: &StoredStream,
        writer: &Writer,
    ) -> Result<ChunkList, Stopped> {
        let lost = |lost_bytes| {
            let (name, bytes) = (path.to_string(), content.size);
            Stopped::Stream { name: name.clone(), source: SourceError::Lost { name, bytes, lost_bytes } }
        };
        let (mut list, mut lost_bytes) = (ListBuilder::default(), 0);
        let recipes = LazyCell::new(|| self.are_recipes_whole(stored));
        let mut take = |chunk: crate::model::entry::ChunkRef| {
            let is_recipe = || *recipes && self.index.rely_on_named(&chunk.id.key());
            if !(self.index.rely_on(&chunk.id) || is_recipe()) {
                lost_bytes += u64::from(chunk.length);
            }
            list.push(chunk, writer)
        };
        match (&content.chunks, &self.reader) {
            (ChunkList::Inline(chunks), _) => chunks.iter().try_for_each(|chunk| take(*chunk))?,
            (ChunkList::Indirect { .. }, None) => return Err(lost(None)),
            (indirect @ ChunkList::Indirect { .. }, Some(reader)) => {
                let mut chunks = reader.chunks(indirect, content.stored_length());
                while let Some(chunk) = self.runtime.block_on(chunks.next()) {
                    // The list itself is gone.
                    take(chunk.map_err(|_| lost(None))?)?;
                }
            }
        }
        match lost_bytes {
            0 => Ok(list.finish(writer)?),
            bytes => Err(lost(Some(bytes))),
        }
    }

    /// Tells whether all that the recipes of a stream name is still stored, and relies on it: this machine has noted what that is.
    fn are_recipes_whole(&self, stored: &StoredStream) -> bool {
        stored.night.as_ref().is_some_and(|night| {
            night.names_only(|key, is_plain| match is_plain {
                true => self.index.rely_on_plain(key),
                false => self.index.rely_on_named(key),
            })
        })
    }
}
