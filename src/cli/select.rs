//! Naming snapshots and paths in them: `ID[:PATH]`, `latest`, and what narrows it; finding the snapshot that is meant.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::StreamExt;

use crate::cli::exit::usage;
use crate::cli::failure::Fallible;
use crate::cli::progress::ConsoleMonitor;
use crate::model::path::EntryPath;
use crate::model::series::Series;
use crate::model::snapshot::{Snapshot, SnapshotId};
use crate::model::time::{Clock, Timestamp};
use crate::progress::{Monitor, Problem};
use crate::repository::Repository;
use crate::repository::choose::{ChosenSnapshot, SnapshotFilter};
use crate::repository::snapshots::SnapshotError;

/// Flags that narrow a choice of snapshots.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct FilterArgs {
    /// Only snapshots of this host (repeatable)
    #[arg(long, value_name = "HOST")]
    host: Vec<String>,
    /// Only snapshots of this job (repeatable)
    #[arg(long, value_name = "JOB")]
    job: Vec<String>,
    /// Only snapshots with this tag (repeatable: all of them)
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Only snapshots made from this path, or from one that contains it
    #[arg(long, value_name = "PATH")]
    path: Vec<std::ffi::OsString>,
}

impl FilterArgs {
    /// Returns the filter.
    pub fn filter(&self) -> SnapshotFilter {
        use std::os::unix::ffi::OsStrExt;
        SnapshotFilter {
            hosts: self.host.clone(),
            jobs: self.job.clone(),
            tags: self.tag.clone(),
            paths: self.path.iter().map(|path| path.as_bytes().to_vec()).collect(),
        }
    }
}

/// Snapshots that are looked at for other hosts and jobs when `latest` was chosen. They come from the cache where it has them.
const LOOKED_AT: usize = 32;
/// Other hosts and jobs that are named; beyond them their number.
const OTHERS_NAMED: usize = 3;

/// Finds the snapshot that `text` means, and says when `latest` is not what it seems: because a clock is or was wrong, or
/// because other hosts and jobs have snapshots as well.
pub async fn find(
    repository: &Arc<Repository>,
    text: &str,
    filter: &SnapshotFilter,
    monitor: &ConsoleMonitor,
) -> Result<Snapshot, SnapshotError> {
    monitor.phase("reading snapshots");
    let now = Clock::System.now();
    let ChosenSnapshot { snapshot, ahead, unopened, mut besides } =
        repository.choose_snapshot(text, filter, now).await?;
    if let Some(warning) = about_clocks(&snapshot, &ahead, now) {
        monitor.warn(&warning);
    }
    if let Some(warning) = about_unopened(&snapshot, &unopened) {
        monitor.warn(&warning);
    }
    if let Some(foreign) = snapshot.foreign {
        let message = format!("is {foreign}: it does not count, and what it says of itself may not be so");
        monitor.warn(&Problem::advice(format!("snapshot {}", snapshot.id.short()), message));
    }
    if let Some(first) = snapshot.anomalies.first() {
        let more = match snapshot.anomalies.len() {
            1 => String::new(),
            count => format!(", and {} more", count - 1),
        };
        let message = format!("was flagged when it was made: {}: {}{more}", first.subject, first.told());
        monitor.warn(&Problem::advice(format!("snapshot {}", snapshot.id.short()), message));
    }
    if let Some(forgotten) = &snapshot.forgotten {
        let message = format!(
            "was forgotten on {}; `coffre forget --undo {}` brings it back, until a clean-up removes it",
            forgotten.when.local(),
            snapshot.id.short()
        );
        monitor.warn(&Problem::advice(format!("snapshot {}", snapshot.id.short()), message));
    }
    if monitor.hears_notes() && !filter.names_one_series() {
        let recent = besides.split_off(besides.len().saturating_sub(LOOKED_AT));
        let seen: Vec<_> = repository.listed_snapshots(recent).collect().await;
        // One that cannot be opened is told by those that need it.
        let fitting = seen
            .into_iter()
            .filter_map(|(_, seen)| seen.ok())
            .filter(|seen| seen.foreign.is_none() && seen.forgotten.is_none() && filter.accepts(seen));
        if let Some(note) = about_others(&snapshot, &fitting.collect::<Vec<_>>()) {
            monitor.note(&note);
        }
    }
    Ok(snapshot)
}

/// Says which snapshot `latest` is and what else there is, if others than its host and job have any.
fn about_others(chosen: &Snapshot, seen: &[Snapshot]) -> Option<String> {
    let series = |it: &Snapshot| Series::of(it).of_any_sources();
    let mut others: BTreeMap<Series, Timestamp> = BTreeMap::new();
    for other in seen.iter().filter(|other| series(other) != series(chosen)) {
        let newest = others.entry(series(other)).or_insert(other.started);
        *newest = (*newest).max(other.started);
    }
    if others.is_empty() {
        return None;
    }
    let name = |host: &str, job: &str| match job {
        "" => format!("host {host} without a job"),
        job => format!("host {host}, job {job}"),
    };
    let count = others.len();
    let mut others: Vec<_> = others.into_iter().collect();
    // The newest first.
    others.sort_by_key(|(_, newest)| std::cmp::Reverse(*newest));
    let named = others.iter().take(OTHERS_NAMED);
    let mut told: Vec<String> =
        named.map(|(it, newest)| format!("{}, {}", name(&it.host, &it.job), newest.local_minute())).collect();
    if count > OTHERS_NAMED {
        told.push(format!("and {} more", count - OTHERS_NAMED));
    }
    Some(format!(
        "`latest` is {} of {}, {}; others fit as well: {} (--host and --job choose)",
        chosen.id.short(),
        name(&chosen.host, &chosen.job),
        chosen.started.local_minute(),
        told.join("; ")
    ))
}

/// Says that some that are dated later cannot be opened: if one of them was made by coffre, the chosen one is not the latest.
fn about_unopened(chosen: &Snapshot, unopened: &[(SnapshotId, String)]) -> Option<Problem> {
    let (newest, why) = unopened.first()?;
    let and_more = match unopened.len() {
        1 => String::new(),
        count => format!(" (nor can {} more)", count - 1),
    };
    let message = format!(
        "of {} cannot be opened{and_more}: {why}; `latest` passes it over and is {} of {}. Either it is damaged, and was the latest, or \
         somebody put it there: `coffre verify` tells more",
        newest.time().local_minute(),
        chosen.id.short(),
        chosen.started.local_minute()
    );
    Some(Problem::damaged(format!("snapshot {}", newest.short()), message))
}

fn about_clocks(chosen: &Snapshot, ahead: &[SnapshotId], now: Timestamp) -> Option<Problem> {
    let newest = ahead.first()?;
    let and_more = match ahead.len() {
        1 => String::new(),
        count => format!(" ({} more are, too)", count - 1),
    };
    let (dated, clock) = (newest.time().local(), now.local());
    let message = if *newest == chosen.id {
        format!("is dated {dated}, as all that fit are ahead of this machine's clock ({clock}): is that clock right?")
    } else {
        format!(
            "is dated {dated}, ahead of this machine's clock ({clock}){and_more}; `latest` passes it over and is {}: \
             write an id for another",
            chosen.id.short()
        )
    };
    Some(Problem::advice(format!("snapshot {}", newest.short()), message))
}

/// Splits `ID[:PATH]`; the path may begin with a slash and means the same without.
pub fn parse(text: &str) -> Fallible<(String, Option<EntryPath>)> {
    let (snapshot, path) = match text.split_once(':') {
        Some((snapshot, path)) => (snapshot, Some(path)),
        None => (text, None),
    };
    if snapshot.is_empty() {
        return Err(usage("write SNAPSHOT or SNAPSHOT:PATH, such as latest:/etc"));
    }
    let trimmed = path.map(|path| path.trim_matches('/')).filter(|path| !path.is_empty());
    match trimmed.map(|path| EntryPath::new(unescape(path))).transpose() {
        Ok(path) => Ok((snapshot.to_owned(), path)),
        Err(error) => Err(usage(error.to_string())),
    }
}

/// Reads `\xNN` and `\\` as listings write them, so that a path can be copied from one.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.strip_prefix(b"x").and_then(|hex| hex.get(..2)).and_then(|hex| std::str::from_utf8(hex).ok());
        let coded = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let byte;
        (byte, rest) = match (first, coded) {
            (b'\\', Some(coded)) => (coded, &after[3..]),
            (b'\\', None) if after.first() == Some(&b'\\') => (b'\\', &after[1..]),
            _ => (first, after),
        };
        bytes.push(byte);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_and_a_path_are_told_apart() {
        let path = |text| Some(EntryPath::new(text).expect("safe"));
        assert_eq!(parse("latest").expect("whole"), ("latest".into(), None));
        assert_eq!(parse("3f9c:/").expect("the top"), ("3f9c".into(), None));
        assert_eq!(parse("3f9c:/etc/x:y/").expect("a path"), ("3f9c".into(), path("etc/x:y")));
        assert!(parse(":x").is_err() && parse("x:../y").is_err());
    }

    #[test]
    fn paths_are_read_as_listings_write_them() {
        assert_eq!(unescape(r"a\xffb\\c\q"), b"a\xffb\\c\\q");
    }
}
