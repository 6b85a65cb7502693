//! What could be restored today: the newest whole snapshot of each backup that is made again and again, and its streams.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::stream::StreamExt;

use crate::engine::{Engine, Engines};
use crate::model::entry::EntryKind;
use crate::model::facts::StreamFacts;
use crate::model::path::EntryPath;
use crate::model::series::Series;
use crate::model::snapshot::Snapshot;
use crate::ops::LookError;
use crate::repository::Repository;
use crate::repository::reader::Reader;

/// The newest whole snapshot of a host and job, or of a host and sources where no job was named.
#[derive(Debug, Clone)]
pub struct Holding {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// The trees that were asked for and are there.
    pub trees: Vec<HeldTree>,
    /// The streams, in the order of their paths.
    pub streams: Vec<HeldStream>,
}

/// A tree of a holding: a directory with what is in it, or a single file or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldTree {
    /// Its absolute path.
    pub path: Vec<u8>,
    /// Whether it is a directory.
    pub is_directory: bool,
}

/// A stream of a holding.
#[derive(Debug, Clone)]
pub struct HeldStream {
    /// Where it is in the snapshot.
    pub path: EntryPath,
    /// What was kept about it.
    pub facts: StreamFacts,
}

/// Lists them, the newest first. Reads every manifest and those parts of trees that hold streams, no contents.
///
/// # Errors
/// [`LookError`] when snapshots, index or trees cannot be read.
pub async fn holdings(
    repository: &Arc<Repository>,
    reader: &Arc<Reader>,
    engines: &Engines,
) -> Result<Vec<Holding>, LookError> {
    let mut newest: BTreeMap<Series, Snapshot> = BTreeMap::new();
    let mut snapshots = repository.listed_snapshots(repository.snapshot_ids().await?);
    while let Some((_, snapshot)) = snapshots.next().await {
        // One that is damaged is `verify`'s business; an older one may be whole.
        let Ok(snapshot) = snapshot else { continue };
        if snapshot.foreign.is_some() || snapshot.forgotten.is_some() || !snapshot.is_complete() {
            continue;
        }
        let series = Series::of(&snapshot);
        // A job's newest snapshot tells what it backs up, even if that was something else before.
        let series = if series.job.is_empty() { series } else { series.of_any_sources() };
        if newest.get(&series).is_none_or(|known| known.started < snapshot.started) {
            newest.insert(series, snapshot);
        }
    }
    let mut holdings = Vec::new();
    for snapshot in newest.into_values() {
        let trees = trees(reader, &snapshot).await;
        let streams = streams(reader, &snapshot, engines).await?;
        holdings.push(Holding { snapshot, trees, streams });
    }
    holdings.sort_by_key(|holding| std::cmp::Reverse(holding.snapshot.started));
    Ok(holdings)
}

/// Finds what the sources that are paths are. One that was not there when the backup was made is none; what cannot be read counts
/// as the directory that most are.
async fn trees(reader: &Arc<Reader>, snapshot: &Snapshot) -> Vec<HeldTree> {
    let mut trees = Vec::new();
    for path in snapshot.sources.iter().filter(|source| source.starts_with(b"/")) {
        let inner = path.strip_prefix(b"/").filter(|inner| !inner.is_empty()).map(EntryPath::new);
        let is_directory = match inner {
            None | Some(Err(_)) => Some(true),
            Some(Ok(inner)) => match reader.entry(snapshot.root, inner).await {
                Ok(entry) => entry.map(|entry| entry.is_directory()),
                Err(_) => Some(true),
            },
        };
        trees.extend(is_directory.map(|is_directory| HeldTree { path: path.clone(), is_directory }));
    }
    trees
}

/// Finds the streams where the sources say that there are some.
async fn streams(reader: &Arc<Reader>, snapshot: &Snapshot, engines: &Engines) -> Result<Vec<HeldStream>, LookError> {
    let mut places: BTreeSet<Vec<u8>> = BTreeSet::new();
    for source in snapshot.sources.iter().filter(|source| !source.starts_with(b"/")) {
        // Streams of an engine are below a directory of its name.
        let is_of = |engine: &&Arc<dyn Engine>| source.starts_with(format!("{}:", engine.name()).as_bytes());
        let engine = engines.iter().find(is_of);
        places.insert(engine.map_or_else(|| source.clone(), |engine| engine.name().as_bytes().to_vec()));
    }
    let mut streams = Vec::new();
    for place in places.into_iter().filter_map(|place| EntryPath::new(place).ok()) {
        let mut walk = reader.walk(snapshot.root, Some(place));
        while let Some(entry) = walk.next().await {
            let entry = entry.map_err(|damaged| LookError::Tree(damaged.error))?;
            if let EntryKind::Stream(_, detail) = entry.kind {
                streams.push(HeldStream { path: entry.path, facts: detail.facts });
            }
        }
    }
    Ok(streams)
}
