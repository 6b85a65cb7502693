//! `coffre stats`

use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::cli::events;
use crate::cli::exit::Exit;
use crate::cli::failure::Fallible;
use crate::cli::output;
use crate::cli::progress::ConsoleMonitor;
use crate::cli::reach;
use crate::cli::select::{self, FilterArgs};
use crate::cli::settings::Settings;
use crate::cli::snapshots::newest_of_each;
use crate::cli::table::{self, Column};
use crate::model::key::ObjectKind;
use crate::model::outcome::{Ended, Outcome};
use crate::model::series::Series;
use crate::model::units::ByteSize;
use crate::ops::LookError;
use crate::ops::snapshots::named_or_all;
use crate::ops::stats::{KindStats, stats, sum};
use crate::repository::Repository;
use crate::repository::choose::SnapshotFilter;
use crate::store::OpenMode;

const COLUMNS: [Column; 3] = [Column::left("OBJECTS"), Column::right("NUMBER"), Column::right("BYTES")];

/// Flags of `stats`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coffre stats
  coffre stats latest
  coffre stats --host db1 --latest 7
  coffre stats --json | jq .stored_bytes
  coffre stats --reach --job nightly --latest 30

With snapshots, or a flag that chooses some: what restoring them gives, and what they added to the store when they \
were made. Without: the whole repository. --reach reads trees and recipes: of each snapshot, how much a restore would fetch, in how \
many frames, how many chunks are put together by recipes, and how many nights wrote what it needs, since when.")]
pub struct Args {
    /// Only these: ids, which may be cut short, or `latest`
    snapshots: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Only the newest N of each host, job and sources [default of N: 1]
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1")]
    latest: Option<NonZeroUsize>,
    /// Tell of each snapshot what a restore would fetch, and how far back that was written
    #[arg(long)]
    reach: bool,
}

impl Args {
    fn is_whole(&self) -> bool {
        !self.reach
            && self.snapshots.is_empty()
            && self.latest.is_none()
            && self.filter.filter() == SnapshotFilter::default()
    }
}

pub async fn run(global: &Settings, args: Args) -> Fallible<Exit> {
    let monitor = global.monitor();
    let repository = global.repository(OpenMode::Read, &monitor).await?;
    match args.is_whole() {
        true => of_repository(global, &repository, &monitor).await,
        false => of_snapshots(global, args, &repository, &monitor).await,
    }
}

/// Tells what the chosen snapshots hold.
async fn of_snapshots(
    global: &Settings,
    args: Args,
    repository: &Arc<Repository>,
    monitor: &Arc<ConsoleMonitor>,
) -> Fallible<Exit> {
    repository.reading().map_err(LookError::Access)?;
    let filter = args.filter.filter();
    let find = async |text: &str| select::find(repository, text, &filter, monitor).await;
    let listed = named_or_all(repository, &args.snapshots, &filter, &**monitor, find).await?;
    let mut outcome = listed.outcome();
    let mut chosen = listed.snapshots;
    if let Some(count) = args.latest {
        chosen = newest_of_each(chosen, Series::of, count);
    }
    if args.reach {
        let reached = reach::tell(global, repository, &chosen, monitor).await?;
        outcome = if reached == Outcome::Clean { outcome } else { reached };
    }
    monitor.finish();
    let counts = sum(&chosen);
    if global.json {
        output::json(&events::ChosenStats {
            added_bytes: counts.stored_bytes,
            directories: counts.directories,
            entries: counts.entries(),
            files: counts.files,
            others: counts.others,
            repository: repository.id().to_string(),
            restored_bytes: counts.bytes,
            snapshots: chosen.len(),
            streams: counts.streams,
        });
    } else {
        let kinds = [
            (counts.files, "file"),
            (counts.directories, "directory"),
            (counts.streams, "stream"),
            (counts.others, "other entry"),
        ];
        let kinds = kinds.iter().filter(|(count, _)| *count > 0).map(|(count, noun)| output::count(*count, noun));
        let contents = kinds.collect::<Vec<_>>().join(", ");
        output::line(&format!("chosen    {}", output::count(chosen.len() as u64, "snapshot")));
        output::line(&format!("contents  {}", if contents.is_empty() { "nothing" } else { &contents }));
        output::line(&format!("restored  {}", ByteSize(counts.bytes)));
        output::line(&format!("added     {} to the store when they were made", ByteSize(counts.stored_bytes)));
    }
    Ok(outcome.into())
}

/// Tells what the whole repository holds.
async fn of_repository(
    global: &Settings,
    repository: &Arc<Repository>,
    monitor: &Arc<ConsoleMonitor>,
) -> Fallible<Exit> {
    let report = stats(repository, &**monitor).await?;
    monitor.finish();
    let kind_name = |kind: ObjectKind| kind.prefix().trim_end_matches('/');
    let unreadable: Vec<String> = report.unreadable.iter().map(|(id, error)| format!("{id}: {error}")).collect();
    if global.json {
        let kinds = report.kinds.iter();
        output::json(&events::Stats {
            chunks: report.chunks,
            entries: report.entries,
            objects: kinds
                .map(|k| (kind_name(k.kind), events::Objects { bytes: k.bytes, objects: k.objects }))
                .collect(),
            repository: repository.id().to_string(),
            restored_bytes: report.restored_bytes,
            snapshots: report.snapshots,
            stored_bytes: report.stored_bytes,
            unique_bytes: report.unique_bytes,
            unreadable_snapshots: &unreadable,
        });
        return Ok(report.outcome().into());
    }
    let times = |large: u64, small: u64| match small {
        0 => String::new(),
        small if small >= large => String::new(),
        small => format!(", 1/{:.1} of that", large as f64 / small as f64),
    };
    output::line(&format!("repository     {}", repository.id()));
    output::line(&format!(
        "all snapshots  {} with {}: {} when restored",
        output::count(report.snapshots, "snapshot"),
        output::count(report.entries, "entry"),
        ByteSize(report.restored_bytes)
    ));
    let unique = ByteSize(report.unique_bytes);
    let saved = times(report.restored_bytes, report.unique_bytes);
    output::line(&format!("deduplicated   {unique} in {}{saved}", output::count(report.chunks, "chunk")));
    let saved = times(report.unique_bytes, report.stored_bytes);
    output::line(&format!("stored         {}{saved}", ByteSize(report.stored_bytes)));
    output::line("");
    let row = |kind: &KindStats| {
        vec![kind_name(kind.kind).to_owned(), output::grouped(kind.objects), ByteSize(kind.bytes).to_string()]
    };
    table::print(&COLUMNS, &report.kinds.iter().map(row).collect::<Vec<_>>());
    unreadable.iter().for_each(|why| output::say(why));
    Ok(report.outcome().into())
}
