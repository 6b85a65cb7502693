//! Backup: entries and streams go in, one snapshot comes out, or none.
//!
//! ```text
//! parent tree ─▶ plan: walk beside it ─▶ batches ─▶ workers: read, cut, claim, frame ─▶ assemble in order ─▶ tree
//! streams     ─▶ cut, claim, frame ────────────────▶ the same workers compress and seal ─▶ packs ─▶ index ─▶ snapshot
//! ```
//!
//! The plan is made by one thread, the work is done by as many as there are processors, and the tree is built in path
//! order whatever order the work ends in. The snapshot is written last: a run that fails or is stopped leaves chunks that
//! the next run finds, and nothing that looks like a backup.

use std::sync::Arc;
use std::time::Instant;

use crate::ops::Cancel;
use crate::ops::backup::attempt::Attempt;
pub use crate::ops::backup::error::BackupError;
use crate::ops::backup::kept::Kept;
pub use crate::ops::backup::options::{AnomalyLimits, BackupOptions, Comparison, GroupBy, ParentChoice, StreamOptions};
pub use crate::ops::backup::report::{BackupReport, FailedStream};
use crate::progress::{Monitor, Problem, Tally};
use crate::repository::Repository;

mod anomalies;
mod assemble;
mod attempt;
mod batch;
mod beside;
mod buffer;
mod cut;
mod error;
#[cfg(test)]
mod faults;
mod flagged;
mod history;
mod jobs;
mod kept;
mod kinship;
mod large;
mod members;
mod memory;
mod nightly;
mod options;
mod parent;
mod pipeline;
mod plan;
mod random_bytes;
mod reading;
mod reliance;
mod remade;
mod remembered;
mod report;
mod scan;
mod stopped;
mod stored;
mod streams;
mod trees;
mod window;
mod worker;

/// Times that a backup starts again because packs that it relied on vanished, or a clean-up had given it up.
const ATTEMPTS: usize = 3;

/// Runs a backup.
///
/// Returns once the snapshot is durable. Peak memory is bounded by `options.memory_bytes` (see `design`). When packs that
/// the run relied on vanish meanwhile, the backup starts again. What can be read but once, such as standard input, is then taken over as the first
/// attempt stored it, or is a stream that failed where that was in packs that vanished.
///
/// # Errors
/// [`BackupError`]; no snapshot exists then.
///
/// # Cancel safety
/// Dropping the future may leave packs that no index segment names; ask [`Cancel`] instead.
pub async fn backup(
    repository: Arc<Repository>,
    options: BackupOptions,
    monitor: Arc<dyn Monitor>,
    cancel: Cancel,
) -> Result<BackupReport, BackupError> {
    let begun = Instant::now();
    let mut attempts = 1;
    let tally = Tally::over(monitor);
    let monitor: Arc<dyn Monitor> = tally.clone();
    let kept = Kept::default();
    loop {
        let started = options.clock.now();
        let this = Attempt {
            repository: &repository,
            options: &options,
            monitor: &monitor,
            cancel: &cancel,
            kept: &kept,
            begun,
            started,
        };
        match this.run().await {
            // By then all streams were stored; one that is given up earlier may be in the middle of what cannot be read again.
            Err(error @ (BackupError::Vanished { .. } | BackupError::Unknown { .. } | BackupError::GivenUp))
                if attempts < ATTEMPTS && (options.is_repeatable() || !matches!(error, BackupError::GivenUp)) =>
            {
                attempts += 1;
                let message = format!("{error}; the backup starts again");
                monitor.problem(Problem::advice(repository.location(), message));
            }
            ended => return ended.map(|report| BackupReport { problems: tally.take(), ..report }),
        }
    }
}
