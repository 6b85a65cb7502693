//! `coffre restore`

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use crate::cli::connect::GlobalArgs;
use crate::cli::exit::{Exit, usage};
use crate::cli::output;
use crate::cli::progress::ConsoleMonitor;
use crate::cli::question;
use crate::cli::restore_database::{self, IntoDatabaseArgs};
use crate::cli::select::{self, FilterArgs};
use crate::cli::signals::cancel_on_signals;
use crate::model::path::display_bytes;
use crate::model::units::ByteSize;
use crate::ops::restore::{RestoreOptions, RestoreReport, Selection, remove_extras, restore};
use crate::store::OpenMode;
use crate::target::files::TargetOptions;

/// Extras shown before they are removed; beyond them their number.
const EXTRAS_SHOWN: usize = 100;

/// Flags of `restore`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coffre restore latest --target /srv/restored
  coffre restore latest:/etc/nginx --target /etc/nginx --dry-run
  coffre restore 3f9c21d0 --target / --include /srv/www
  coffre restore latest --into-postgres postgresql://postgres@db1/ --database shop=shop_yesterday
  coffre restore latest --into-mysql mysql://root@localhost/shop --in-place

With SNAPSHOT:PATH the contents of PATH stand directly in the target. Files that are right already are not written; \
an interrupted restore goes on when run again. A file that cannot be had whole is left as NAME.damaged.")]
pub struct Args {
    /// ID or ID:PATH; an id may be cut short, `latest` is the newest
    snapshot: String,
    /// Directory to restore into; / for the places where everything was
    #[arg(long, short, value_name = "DIR", required_unless_present_any = ["into_postgres", "into_mysql", "into_sqlite"])]
    target: Option<PathBuf>,
    /// Restore only what matches, as in .gitignore (repeatable)
    #[arg(long, short, value_name = "PATTERN")]
    include: Vec<String>,
    /// Leave out what matches (repeatable)
    #[arg(long, short, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Remove what is in the target and not in the snapshot, after showing it
    #[arg(long)]
    delete: bool,
    /// Do not ask before removing
    #[arg(long, requires = "delete")]
    yes: bool,
    /// Only tell what would be done
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Restore owners by number, not by name
    #[arg(long)]
    numeric_ids: bool,
    /// Leave long runs of zeros out of files, so that they take no space
    #[arg(long)]
    sparse: bool,
    /// Take files with the right size and time for right, without reading them
    #[arg(long)]
    trust_times: bool,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    database: IntoDatabaseArgs,
}

pub async fn run(global: &GlobalArgs, args: Args) -> anyhow::Result<Exit> {
    let (wanted, within) = select::parse(&args.snapshot)?;
    let Some(target) = args.target else {
        return restore_database::run(global, args.database, (&wanted, within), &args.filter).await;
    };
    let selection = Selection::new(&args.include, &args.exclude)?;
    if args.delete && !selection.is_everything() {
        return Err(usage("--delete does not go with --include and --exclude: what they leave out would be removed"));
    }
    if args.delete && !args.yes && !args.dry_run && !std::io::stdin().is_terminal() {
        return Err(usage("--delete asks before it removes anything; without a terminal add --yes, or try --dry-run"));
    }
    let memory_bytes = global.memory_bytes()?;
    let monitor = global.monitor();
    let cancel = cancel_on_signals(&monitor)?;
    let repository = global.repository(OpenMode::Read, &monitor).await?;
    let snapshot = select::find(&repository, &wanted, &args.filter.filter(), &monitor).await?;
    monitor.note(&format!("snapshot {} of {}, {}", snapshot.id, snapshot.host, snapshot.started.local()));
    let options = RestoreOptions {
        snapshot,
        within,
        selection,
        target: target.clone(),
        target_options: TargetOptions { numeric_ids: args.numeric_ids, sparse: args.sparse },
        trust_times: args.trust_times,
        find_extras: args.delete,
        dry_run: args.dry_run,
        memory_bytes,
    };
    let report = restore(repository, options, monitor.clone(), cancel).await;
    monitor.finish();
    let report = report?;
    let mut removed = 0;
    if !report.extras.is_empty() {
        show_extras(&report, args.dry_run, global.json);
        if !args.dry_run && (args.yes || confirmed(&monitor, report.extras.len()).await?) {
            removed = remove_extras(&target, &report.extras, &*monitor)?;
        }
    }
    if global.json {
        output::json(&summary_json(&report, removed, args.dry_run, monitor.elapsed()));
    } else if !global.quiet {
        print_summary(&report, removed, args.dry_run, monitor.elapsed());
    }
    Ok(match (report.damaged.is_empty(), monitor.problem_count()) {
        (false, _) => Exit::Damaged,
        (true, 0) => Exit::Done,
        (true, _) => Exit::Incomplete,
    })
}

fn show_extras(report: &RestoreReport, dry_run: bool, json: bool) {
    for extra in report.extras.iter().take(if json { usize::MAX } else { EXTRAS_SHOWN }) {
        let path = display_bytes(extra).to_string();
        if json {
            output::json(&json!({ "event": "extra", "path": path, "dry_run": dry_run }));
        } else {
            output::say(&format!("not in the snapshot: {path}"));
        }
    }
    if !json && report.extras.len() > EXTRAS_SHOWN {
        output::say(&format!("and {} more", output::grouped((report.extras.len() - EXTRAS_SHOWN) as u64)));
    }
}

async fn confirmed(monitor: &ConsoleMonitor, extras: usize) -> anyhow::Result<bool> {
    let extras = output::count(extras as u64, "entry");
    let question = format!("remove {extras} with all that is in them? [y/N] ");
    let answer = question::ask(monitor, &question).await.context("nothing was removed; what was restored is there")?;
    let agreed = matches!(answer.trim(), "y" | "Y" | "yes");
    if !agreed {
        monitor.note("nothing was removed");
    }
    Ok(agreed)
}

fn summary_json(report: &RestoreReport, removed: u64, dry_run: bool, elapsed: Duration) -> serde_json::Value {
    json!({
        "event": "summary",
        "dry_run": dry_run,
        "written_files": report.written_files,
        "unchanged_files": report.unchanged_files,
        "others": report.others,
        "written_bytes": report.written_bytes,
        "damaged": report.damaged,
        "problems": report.problems,
        "owners_missed": report.owners_missed,
        "extras": report.extras.len(),
        "removed": removed,
        "seconds": elapsed.as_secs_f64(),
    })
}

fn print_summary(report: &RestoreReport, removed: u64, dry_run: bool, elapsed: Duration) {
    let would = if dry_run { "would be " } else { "" };
    let files = output::count(report.written_files, "file");
    output::line(&format!("{files} {would}restored, {}", ByteSize(report.written_bytes)));
    if report.unchanged_files > 0 {
        output::line(&format!("{} right already", output::count(report.unchanged_files, "file")));
    }
    if removed > 0 {
        output::line(&format!("{} removed", output::count(removed, "extra entry").replace("entrys", "entries")));
    }
    if report.owners_missed > 0 {
        let entries = output::count(report.owners_missed, "entry");
        output::line(&format!("{entries} belong to you and not to their owners, which only root can set"));
    }
    if report.problems > 0 {
        output::line(&format!("{}, named above", output::count(report.problems, "problem")));
    }
    if !report.damaged.is_empty() {
        output::line(&format!("{} could NOT be restored whole:", output::count(report.damaged.len() as u64, "file")));
        for path in &report.damaged {
            output::line(&format!("  {path}"));
        }
    }
    output::line(&format!("duration {}", output::duration(elapsed)));
}
