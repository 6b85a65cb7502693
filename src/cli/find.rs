//! `coffre find`

use crate::cli::events;
use crate::cli::exit::Exit;
use crate::cli::failure::Fallible;
use crate::cli::lines::Lines;
use crate::cli::ls::{event, long_line, path_line};
use crate::cli::output;
use crate::cli::select::{self, FilterArgs};
use crate::cli::settings::Settings;
use crate::model::entry::Entry;
use crate::model::outcome::{Ended, Outcome};
use crate::model::snapshot::Snapshot;
use crate::model::time::Timestamp;
use crate::ops;
use crate::ops::find::find;
use crate::ops::open_reader;
use crate::ops::restore::Selection;
use crate::progress::Problems;
use crate::store::OpenMode;

/// Flags of `find`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coffre find nginx.conf
  coffre find -i 'invoice*.pdf' --newest '2026-11-01 12:00' --long
  coffre find '*.sql' --snapshot latest --host db1

Patterns are those of .gitignore: 'nginx.conf' and '*.sql' match at every depth, '/etc/*.conf' from the top. \
Exit code 1 says that nothing was found.")]
pub struct Args {
    /// Names to look for
    #[arg(required = true)]
    pattern: Vec<String>,
    /// Look only in this snapshot (repeatable; `latest` is the newest)
    #[arg(long, value_name = "SNAPSHOT")]
    snapshot: Vec<String>,
    /// Take capital and small letters for the same
    #[arg(long, short)]
    ignore_case: bool,
    /// Only entries that were modified then or later
    #[arg(long, short = 'O', value_name = "TIME", value_parser = time)]
    oldest: Option<Timestamp>,
    /// Only entries that were modified then or earlier
    #[arg(long, short = 'N', value_name = "TIME", value_parser = time)]
    newest: Option<Timestamp>,
    /// Show mode, owner, size and time
    #[arg(long, short)]
    long: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

fn time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_local(text).ok_or_else(|| "write for example 2026-11-24 or '2026-11-24 02:15'".into())
}

pub async fn run(global: &Settings, args: Args) -> Fallible<Exit> {
    let wanted = match args.ignore_case {
        true => Selection::of_any_case(&args.pattern)?,
        false => Selection::new(&args.pattern, &[])?,
    };
    let is_timely = |entry: &Entry| {
        let modified = entry.metadata.mtime;
        args.oldest.is_none_or(|oldest| modified >= oldest) && args.newest.is_none_or(|newest| modified <= newest)
    };
    let monitor = global.monitor();
    let repository = global.repository(OpenMode::Read, &monitor).await?;
    let filter = args.filter.filter();
    let mut snapshots: Vec<Snapshot> = Vec::new();
    let mut lost = Problems::default();
    if args.snapshot.is_empty() {
        let all = ops::snapshots::snapshots(&repository, &filter, &*monitor).await?;
        (snapshots, lost) = (all.snapshots, all.problems);
        snapshots.reverse();
    }
    for text in &args.snapshot {
        snapshots.push(select::find(&repository, text, &filter, &monitor).await?);
    }
    let reader = open_reader(repository, global.memory_bytes, monitor.clone()).await?;
    let lines = Lines::beside(&monitor);
    let mut shown = None;
    let mut found = 0u64;
    let finding = find(&reader, &snapshots, &wanted, &*monitor, |snapshot, entry| {
        if !is_timely(entry) {
            return;
        }
        found += 1;
        if global.json {
            let found = events::Entry { snapshot: Some(snapshot.id.to_string()), ..event(entry) };
            return lines.push(&output::object(&found));
        }
        if shown != Some(snapshot.id) {
            shown = Some(snapshot.id);
            lines.push(&format!("snapshot {} of {}, {}", snapshot.id, snapshot.host, snapshot.started.local_zoned()));
        }
        lines.push(&format!("  {}", if args.long { long_line(entry) } else { path_line(entry) }));
    });
    let Some(parts) = lines.while_read(finding).await else { return Ok(Exit::ReaderGone) };
    lines.finish();
    lost.extend(parts?);
    if found == 0 && !global.quiet {
        output::say(&format!("nothing found in {}", output::count(snapshots.len() as u64, "snapshot")));
    }
    Ok(Exit::from(match (lost.outcome(), found) {
        (Outcome::Clean, 0) => Outcome::NothingFound,
        (outcome, _) => outcome,
    }))
}
