//! `coffre stats --reach`: what a restore of each snapshot would fetch, and how far back that was written.

use std::sync::Arc;

use crate::cli::events;
use crate::cli::failure::Fallible;
use crate::cli::output;
use crate::cli::progress::ConsoleMonitor;
use crate::cli::settings::Settings;
use crate::cli::table::{self, Column};
use crate::model::outcome::{Ended, Outcome};
use crate::model::snapshot::Snapshot;
use crate::model::units::ByteSize;
use crate::ops::open_reader;
use crate::ops::reach::{SessionTimes, SnapshotReach, reach};
use crate::progress::Monitor;
use crate::repository::Repository;

const COLUMNS: [Column; 10] = [
    Column::left("ID"),
    Column::left("TIME"),
    Column::right("SIZE"),
    Column::right("ADDED"),
    Column::right("FETCHED"),
    Column::right("FRAMES"),
    Column::right("RECIPES"),
    Column::right("DEPTH"),
    Column::right("NIGHTS"),
    Column::left("SINCE"),
];

/// Tells what restoring each of the snapshots takes, in a table or as objects.
pub async fn tell(
    global: &Settings,
    repository: &Arc<Repository>,
    snapshots: &[Snapshot],
    monitor: &Arc<ConsoleMonitor>,
) -> Fallible<Outcome> {
    monitor.phase("reading snapshots");
    let times = SessionTimes::of(repository).await?;
    let reader = open_reader(repository.clone(), global.memory_bytes, monitor.clone()).await?;
    monitor.phase("reading recipes");
    let (mut rows, mut outcome) = (Vec::with_capacity(snapshots.len()), Outcome::Clean);
    let mut objects = Vec::new();
    for snapshot in snapshots {
        let reached = reach(&reader, snapshot, &times, &**monitor).await?;
        if reached.outcome() != Outcome::Clean {
            outcome = reached.outcome();
        }
        match global.json {
            true => objects.push(event(snapshot, &reached)),
            false => rows.push(row(snapshot, &reached)),
        }
    }
    monitor.finish();
    objects.iter().for_each(output::json);
    if !rows.is_empty() {
        table::print(&COLUMNS, &rows);
    }
    if outcome != Outcome::Clean && !global.json {
        output::say("something of these snapshots is lost; `coffre verify` tells what, and what it hits");
    }
    Ok(outcome)
}

fn row(snapshot: &Snapshot, reached: &SnapshotReach) -> Vec<String> {
    let reach = &reached.reach;
    let date = |time: crate::model::time::Timestamp| time.local()[..16].to_owned();
    vec![
        snapshot.id.short(),
        date(snapshot.started),
        ByteSize(snapshot.counts.bytes).to_string(),
        ByteSize(snapshot.counts.stored_bytes).to_string(),
        ByteSize(reach.fetched_bytes).to_string(),
        output::grouped(reach.frames),
        output::grouped(reach.recipes),
        reach.depth.to_string(),
        output::grouped(reached.older_sessions + u64::from(reach.sessions.contains_key(&snapshot.session))),
        reached.oldest.map(|oldest| date(oldest)[..10].to_owned()).unwrap_or_default(),
    ]
}

fn event(snapshot: &Snapshot, reached: &SnapshotReach) -> events::SnapshotReached {
    let reach = &reached.reach;
    events::SnapshotReached {
        added_bytes: snapshot.counts.stored_bytes,
        chunks: reach.chunks,
        decoded_bytes: reach.decoded_bytes,
        depth: reach.depth,
        fetched_bytes: reach.fetched_bytes,
        frames: reach.frames,
        id: snapshot.id.to_string(),
        lost_bytes: reach.lost_bytes,
        older_bytes: reached.older_bytes,
        older_sessions: reached.older_sessions,
        oldest: reached.oldest.map(|oldest| oldest.to_string()),
        parts: reach.parts,
        recipes: reach.recipes,
        restored_bytes: snapshot.counts.bytes,
        started: snapshot.started.to_string(),
        unreadable: reached.unreadable,
    }
}
