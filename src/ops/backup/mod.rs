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
pub use crate::ops::backup::options::{BackupOptions, Comparison, GroupBy, ParentChoice, StreamOptions};
pub use crate::ops::backup::report::{BackupReport, FailedStream};
use crate::progress::{Monitor, Problem, Tally};
use crate::repository::Repository;

mod assemble;
mod attempt;
mod batch;
mod cut;
mod error;
#[cfg(test)]
mod faults;
mod history;
mod jobs;
mod kinship;
mod members;
mod memory;
mod options;
mod parent;
mod pipeline;
mod plan;
mod reading;
mod remembered;
mod report;
mod scan;
mod stopped;
mod streams;
mod trees;
mod window;
mod worker;

/// Times that a backup is made anew because packs that it relied on vanished, or a clean-up had given it up.
const ATTEMPTS: usize = 3;

/// Runs a backup.
///
/// Returns once the snapshot is durable. Peak memory is bounded by `options.memory_bytes` (see `design`). When packs that
/// the run relied on vanish meanwhile, it is made anew, unless a source is among them that can be read but once, such as standard input.
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
    loop {
        let started = options.clock.now();
        let this =
            Attempt { repository: &repository, options: &options, monitor: &monitor, cancel: &cancel, begun, started };
        match this.run().await {
            Err(error @ (BackupError::Vanished { .. } | BackupError::Unknown { .. } | BackupError::GivenUp))
                if options.is_repeatable() && attempts < ATTEMPTS =>
            {
                attempts += 1;
                let message = format!("{error}; it is made anew");
                monitor.problem(Problem::advice(repository.location(), message));
            }
            ended => return ended.map(|report| BackupReport { problems: tally.take(), ..report }),
        }
    }
}
