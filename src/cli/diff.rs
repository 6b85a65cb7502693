//! `coffre diff`

use crate::cli::events;
use crate::cli::exit::{Exit, usage};
use crate::cli::failure::Fallible;
use crate::cli::lines::Lines;
use crate::cli::ls::path_line;
use crate::cli::output;
use crate::cli::select::{self, FilterArgs};
use crate::cli::settings::Settings;
use crate::model::entry::Entry;
use crate::model::units::ByteSize;
use crate::ops::diff::{Change, diff};
use crate::ops::open_reader;
use crate::store::OpenMode;

/// Flags of `diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coffre diff 3f9c21d0 latest
  coffre diff 3f9c21d0:/etc latest --metadata

Signs: + added, - removed, M content changed, T another kind, U only owner, mode, times or attributes changed.")]
pub struct Args {
    /// The earlier snapshot: ID or ID:PATH
    earlier: String,
    /// The later snapshot; `latest` is the newest
    later: String,
    /// Show also entries of which only owner, mode, times or attributes changed
    #[arg(long)]
    metadata: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

pub async fn run(global: &Settings, args: Args) -> Fallible<Exit> {
    let (earlier, within) = select::parse(&args.earlier)?;
    let (later, other_path) = select::parse(&args.later)?;
    if other_path.is_some() && other_path != within {
        return Err(usage("both snapshots are compared at the same path: write it once, behind the first"));
    }
    let monitor = global.monitor();
    let repository = global.repository(OpenMode::Read, &monitor).await?;
    let filter = args.filter.filter();
    let earlier = select::find(&repository, &earlier, &filter, &monitor).await?;
    let later = select::find(&repository, &later, &filter, &monitor).await?;
    let reader = open_reader(repository, global.memory_bytes, monitor.clone()).await?;
    let lines = Lines::beside(&monitor);
    let comparing = diff(&reader, &earlier, &later, within.as_ref(), &*monitor, |change, old, new| {
        if change == Change::Metadata && !args.metadata {
            return;
        }
        let Some(entry) = new.or(old) else { return };
        match global.json {
            true => lines.push(&output::object(&event(change, entry, old, new))),
            false => lines.push(&format!("{} {}", sign(change), path_line(entry))),
        }
    });
    let Some(report) = lines.while_read(comparing).await else { return Ok(Exit::ReaderGone) };
    lines.finish();
    let report = report?;
    if global.json {
        output::json(&events::Compared {
            added: report.added,
            added_bytes: report.added_bytes,
            changed: report.changed,
            earlier: earlier.id.to_string(),
            later: later.id.to_string(),
            metadata: report.metadata,
            removed: report.removed,
            removed_bytes: report.removed_bytes,
        });
    } else if !global.quiet {
        output::line(&format!(
            "{} added, {} removed, {} changed, {} with other metadata; {} came, {} went",
            output::grouped(report.added),
            output::grouped(report.removed),
            output::grouped(report.changed),
            output::grouped(report.metadata),
            ByteSize(report.added_bytes),
            ByteSize(report.removed_bytes)
        ));
    }
    Ok(Exit::Done)
}

fn sign(change: Change) -> char {
    match change {
        Change::Added => '+',
        Change::Removed => '-',
        Change::Content => 'M',
        Change::Metadata => 'U',
        Change::Kind => 'T',
    }
}

fn event(change: Change, entry: &Entry, old: Option<&Entry>, new: Option<&Entry>) -> events::Change {
    events::Change {
        change: match change {
            Change::Added => "added",
            Change::Removed => "removed",
            Change::Content => "content",
            Change::Metadata => "metadata",
            Change::Kind => "kind",
        },
        kind: output::kind_name(entry),
        new_size: new.map(Entry::size),
        old_size: old.map(Entry::size),
        path: format!("/{}", entry.path),
    }
}
