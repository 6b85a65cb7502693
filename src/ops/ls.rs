//! Listing the entries of a snapshot.

use std::sync::Arc;

use crate::model::entry::Entry;
use crate::model::path::EntryPath;
use crate::model::snapshot::Snapshot;
use crate::ops::LookError;
use crate::progress::{Counter, Monitor, Problem, Problems, Totals, chain};
use crate::repository::reader::Reader;

/// Calls `visit` with the entries of a snapshot in path order.
///
/// Without `recursive`, these are the entries that stand directly in the directory `within` (or at the top); with a path
/// that is no directory, its entry alone; what lies deeper is not read. Returns what cannot be read of the tree.
///
/// # Errors
/// [`LookError::NoSuchPath`], and [`LookError::Tree`] when a part of the tree is out of reach.
pub async fn ls(
    reader: &Arc<Reader>,
    snapshot: &Snapshot,
    within: Option<&EntryPath>,
    recursive: bool,
    monitor: &dyn Monitor,
    mut visit: impl FnMut(&Entry),
) -> Result<Problems, LookError> {
    monitor.phase("listing entries");
    if recursive && within.is_none() {
        monitor.totals(Totals { entries: Some(snapshot.counts.entries()), ..Totals::default() });
    }
    let mut walk = match recursive {
        true => reader.walk(snapshot.root, within.cloned()),
        false => reader.walk_directory(snapshot.root, within.cloned()),
    };
    let mut found = within.is_none();
    let mut lost = Problems::default();
    while let Some(next) = walk.next().await {
        match next {
            Ok(entry) => {
                found = true;
                monitor.add(Counter::Entries, 1);
                let is_the_directory = Some(&entry.path) == within && entry.is_directory();
                if recursive || !is_the_directory {
                    visit(&entry);
                }
            }
            Err(damaged) if !damaged.error.is_damage() => return Err(damaged.error.into()),
            Err(damaged) => {
                found = true;
                let problem = Problem::damaged(damaged.part.to_string(), chain(&damaged.error));
                lost.add(problem.clone());
                monitor.problem(problem);
            }
        }
    }
    match within {
        Some(path) if !found => Err(LookError::NoSuchPath { snapshot: snapshot.id, path: path.clone() }),
        _ => Ok(lost),
    }
}
