//! `coffre hold`

use clap::Subcommand;

use crate::cli::exit::Exit;
use crate::cli::failure::Fallible;
use crate::cli::forget::told_by;
use crate::cli::settings::Settings;
use crate::cli::table::{self, Column};
use crate::cli::{events, output};
use crate::model::outcome::{Ended, Outcome};
use crate::model::snapshot::Snapshot;
use crate::model::time::{Clock, Timestamp};
use crate::ops::LookError;
use crate::ops::forget::{ForgetError, hold, release};
use crate::ops::snapshots::snapshots;
use crate::progress::Monitor;
use crate::repository::access::Deleting;
use crate::repository::choose::SnapshotFilter;
use crate::store::OpenMode;

/// Flags of `hold`.
#[derive(Debug, clap::Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "\
A snapshot that is held is neither forgotten nor removed, whatever rules say, until it is released or the hold ends. One that was forgotten \
comes back.

Examples:
  coffre hold add 3f9c21d0 --reason 'audit 2026'
  coffre hold add 3f9c21d0 --reason 'before the upgrade' --until 2027-01-31
  coffre hold list
  coffre hold remove 3f9c21d0"
)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Hold snapshots, so that they stay
    Add(AddArgs),
    /// Release snapshots: rules decide about them again
    Remove(RemoveArgs),
    /// List the snapshots that are held
    List,
}

/// Flags of `hold add`.
#[derive(Debug, clap::Args)]
struct AddArgs {
    /// The snapshots: ids, which may be cut short, or `latest`
    #[arg(required = true)]
    snapshots: Vec<String>,
    /// Why, for whoever finds it
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// When the hold ends, such as 2027-01-31 or '2027-01-31 12:00'; without, when it is removed
    #[arg(long, value_name = "TIME", value_parser = parse_until)]
    until: Option<Timestamp>,
}

/// Flags of `hold remove`.
#[derive(Debug, clap::Args)]
struct RemoveArgs {
    /// The snapshots: ids, which may be cut short
    #[arg(required = true)]
    snapshots: Vec<String>,
}

/// Reads a moment: local time, with or without a clock time, or one that says its zone.
fn parse_until(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_local(text).ok_or_else(|| "write it like 2027-01-31, or 2027-01-31T12:00:00Z".into())
}

impl Args {
    /// Tells whether what it prints is all that it does.
    pub fn only_shows(&self) -> bool {
        matches!(self.what, What::List)
    }
}

pub async fn run(global: &Settings, args: Args) -> Fallible<Exit> {
    let monitor = global.monitor();
    let deleting = async || -> Fallible<Deleting> {
        let deleting = global.repository(OpenMode::Write, &monitor).await?.deleting().map_err(ForgetError::Access)?;
        monitor.phase("reading snapshots");
        Ok(deleting)
    };
    let (names, done) = match args.what {
        What::List => return list(global).await,
        What::Add(args) => {
            let deleting = deleting().await?;
            (hold(&deleting, &args.snapshots, &args.reason, args.until, &told_by()).await?, "holds")
        }
        What::Remove(args) => (release(&deleting().await?, &args.snapshots, &told_by()).await?, "released"),
    };
    monitor.finish();
    if global.json {
        let snapshots = names.iter().map(|snapshot| snapshot.id.to_string()).collect();
        output::json(&events::HoldsChanged { held: done == "holds", snapshots });
    } else if !global.quiet {
        let named: Vec<String> = names.iter().map(|snapshot| snapshot.id.short()).collect();
        output::line(&format!("{done} {}: {}", output::count(names.len() as u64, "snapshot"), named.join(", ")));
    }
    Ok(Exit::Done)
}

async fn list(global: &Settings) -> Fallible<Exit> {
    let monitor = global.monitor();
    let repository = global.repository(OpenMode::Read, &monitor).await?;
    repository.reading().map_err(LookError::Access)?;
    let report = snapshots(&repository, &SnapshotFilter::default(), &*monitor).await?;
    let outcome: Outcome = report.outcome();
    monitor.finish();
    let now = Clock::System.now();
    let held: Vec<_> =
        report.snapshots.iter().chain(&report.forgotten).filter_map(|it| Some((it, it.held.as_ref()?))).collect();
    if global.json {
        for (snapshot, hold) in &held {
            output::json(&events::Held {
                host: &snapshot.host,
                id: snapshot.id.to_string(),
                in_force: hold.is_in_force(now),
                job: &snapshot.job,
                reason: &hold.reason,
                since: hold.when.to_string(),
                started: snapshot.started.to_string(),
                until: hold.until.map(|until| until.to_string()),
            });
        }
        return Ok(outcome.into());
    }
    if held.is_empty() {
        output::say("no snapshot is held");
        return Ok(outcome.into());
    }
    let columns = [
        Column::left("ID"),
        Column::left("TIME"),
        Column::text("HOST"),
        Column::name("JOB"),
        Column::left("UNTIL"),
        Column::note("REASON"),
    ];
    let row = |(snapshot, hold): &(&Snapshot, &crate::model::hold::Hold)| {
        let until = match hold.until {
            None => "released".to_owned(),
            Some(until) if hold.is_in_force(now) => until.local_minute(),
            Some(until) => format!("{} (over)", until.local_minute()),
        };
        let (host, job) = (snapshot.host.clone(), snapshot.job.clone());
        vec![snapshot.id.short(), snapshot.started.local_minute(), host, job, until, hold.reason.clone()]
    };
    table::print(&columns, &held.iter().map(row).collect::<Vec<_>>());
    Ok(outcome.into())
}
