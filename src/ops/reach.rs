//! How far back a snapshot reaches: what a restore of it would fetch, of how many frames and nights.

use std::collections::HashMap;
use std::sync::Arc;

use futures::stream::StreamExt;

use crate::model::entry::FileContent;
use crate::model::id::SessionId;
use crate::model::outcome::{Ended, Outcome};
use crate::model::snapshot::Snapshot;
use crate::model::time::Timestamp;
use crate::ops::LookError;
use crate::progress::{Counter, Monitor};
use crate::repository::Repository;
use crate::repository::reader::Reader;
use crate::repository::reader::reach::{Reach, ReachCounter};

/// Chunks that are looked up together.
const CHUNKS_AT_ONCE: usize = 256;

/// What restoring a snapshot takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotReach {
    /// What is fetched of its contents, and who wrote that.
    pub reach: Reach,
    /// Sessions that wrote some of it, besides its own.
    pub older_sessions: u64,
    /// Bytes that these wrote.
    pub older_bytes: u64,
    /// When the oldest of them began whose snapshot is still there; of a session that a clean-up rewrote packs in, no snapshot tells.
    pub oldest: Option<Timestamp>,
    /// Parts of the tree that cannot be read.
    pub unreadable: u64,
}

impl Ended for SnapshotReach {
    fn outcome(&self) -> Outcome {
        if self.unreadable > 0 || self.reach.lost_bytes > 0 { Outcome::Damaged } else { Outcome::Clean }
    }
}

/// When sessions began whose snapshots are there.
#[derive(Debug, Default)]
pub struct SessionTimes(HashMap<SessionId, Timestamp>);

impl SessionTimes {
    /// Lists all snapshots, the forgotten ones among them. Takes 40 bytes for each.
    ///
    /// # Errors
    /// When they cannot be listed; one that cannot be opened tells nothing.
    pub async fn of(repository: &Arc<Repository>) -> Result<Self, LookError> {
        let mut times = HashMap::new();
        let mut snapshots = repository.listed_snapshots(repository.snapshot_ids().await?);
        while let Some((_, snapshot)) = snapshots.next().await {
            match snapshot {
                Ok(snapshot) => drop(times.insert(snapshot.session, snapshot.started)),
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self(times))
    }
}

/// Finds out what restoring a snapshot takes. Reads its tree, its lists and its recipes, and nothing else; takes memory as
/// [`ReachCounter`] does.
///
/// # Errors
/// When something is out of reach. What cannot be read is counted.
pub async fn reach(
    reader: &Arc<Reader>,
    snapshot: &Snapshot,
    times: &SessionTimes,
    monitor: &dyn Monitor,
) -> Result<SnapshotReach, LookError> {
    let mut counter = ReachCounter::over(reader);
    let mut unreadable = 0;
    let mut walk = reader.walk(snapshot.root, None);
    while let Some(next) = walk.next().await {
        let entry = match next {
            Ok(entry) => entry,
            Err(damaged) if !damaged.error.is_damage() => return Err(damaged.error.into()),
            Err(_) => {
                unreadable += 1;
                continue;
            }
        };
        monitor.add(Counter::Entries, 1);
        let Some(content) = entry.content() else { continue };
        unreadable += add_content(&mut counter, reader, content).await?;
    }
    let reach = counter.finish();
    let older = || reach.sessions.iter().filter(|(session, _)| **session != snapshot.session);
    Ok(SnapshotReach {
        older_sessions: older().count() as u64,
        older_bytes: older().map(|(_, bytes)| bytes).sum(),
        oldest: older().filter_map(|(session, _)| times.0.get(session).copied()).min(),
        unreadable,
        reach,
    })
}

/// Adds the chunks of a content; returns how many parts of its list cannot be read.
async fn add_content(
    counter: &mut ReachCounter,
    reader: &Arc<Reader>,
    content: &FileContent,
) -> Result<u64, LookError> {
    let mut chunks = reader.chunks(&content.chunks, content.stored_length());
    let (mut waiting, mut unreadable) = (Vec::with_capacity(CHUNKS_AT_ONCE), 0);
    while let Some(next) = chunks.next().await {
        match next {
            Ok(chunk) => waiting.push(chunk),
            Err(lost) if !lost.error.is_damage() => return Err(lost.error.into()),
            Err(_) => unreadable += 1,
        }
        if waiting.len() >= CHUNKS_AT_ONCE {
            counter.add(&waiting).await?;
            waiting.clear();
        }
    }
    counter.add(&waiting).await?;
    Ok(unreadable)
}
