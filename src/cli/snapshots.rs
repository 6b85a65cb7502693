//! `coffre snapshots`

use serde_json::json;

use crate::cli::connect::GlobalArgs;
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::cli::select::FilterArgs;
use crate::model::path::display_bytes;
use crate::model::snapshot::Snapshot;
use crate::model::time::Clock;
use crate::model::units::ByteSize;
use crate::ops::LookError;
use crate::progress::{Monitor, Problem, chain};
use crate::store::OpenMode;

/// Flags of `snapshots`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// Show only the newest of each host, job and sources
    #[arg(long)]
    latest: bool,
}

pub async fn run(global: &GlobalArgs, args: Args) -> anyhow::Result<Exit> {
    let monitor = global.monitor();
    let repository = global.repository(OpenMode::Read, &monitor).await?;
    if !repository.keys().can_read() {
        return Err(LookError::WriterOnly.into());
    }
    monitor.phase("reading snapshots");
    let filter = args.filter.filter();
    let mut shown: Vec<Snapshot> = Vec::new();
    let mut damaged = 0;
    for (id, snapshot) in repository.snapshots().await? {
        match snapshot {
            Ok(snapshot) if filter.accepts(&snapshot) => {
                if args.latest {
                    let series = |s: &Snapshot| (s.host.clone(), s.job.clone(), s.sources.clone());
                    shown.retain(|earlier| series(earlier) != series(&snapshot));
                }
                shown.push(snapshot);
            }
            Ok(_) => {}
            Err(error) => {
                damaged += 1;
                monitor.problem(Problem { subject: id.to_string(), message: chain(&error) });
            }
        }
    }
    monitor.finish();
    if global.json {
        shown.iter().for_each(|snapshot| output::json(&to_json(snapshot)));
    } else {
        print(&shown);
    }
    Ok(if damaged > 0 { Exit::Damaged } else { Exit::Done })
}

fn to_json(snapshot: &Snapshot) -> serde_json::Value {
    let counts = &snapshot.counts;
    json!({
        "event": "snapshot",
        "id": snapshot.id.to_string(),
        "started": snapshot.started.to_string(),
        "finished": snapshot.finished.to_string(),
        "host": snapshot.host,
        "user": snapshot.user,
        "job": snapshot.job,
        "tags": snapshot.tags,
        "sources": snapshot.sources.iter().map(|source| display_bytes(source).to_string()).collect::<Vec<_>>(),
        "program": snapshot.program,
        "parent": snapshot.parent.map(|parent| parent.to_string()),
        "files": counts.files,
        "directories": counts.directories,
        "streams": counts.streams,
        "others": counts.others,
        "bytes": counts.bytes,
        "new_bytes": counts.new_bytes,
        "stored_bytes": counts.stored_bytes,
        "unreadable": counts.unreadable,
        "ahead": snapshot.started.is_ahead_of(Clock::System.now()),
        "complete": snapshot.is_complete(),
        "missing": snapshot.missing.iter().map(|it| json!({ "stream": it.name, "why": it.why })).collect::<Vec<_>>(),
    })
}

fn print(snapshots: &[Snapshot]) {
    if snapshots.is_empty() {
        output::say("no snapshots");
        return;
    }
    let mut table = output::table(&["id", "time", "host", "job", "tags", "sources", "size", "added"], &[6, 7]);
    for snapshot in snapshots {
        let sources: Vec<String> = snapshot.sources.iter().map(|source| display_bytes(source).to_string()).collect();
        let unread = match snapshot.counts.unreadable {
            0 => String::new(),
            unreadable => format!(" ({unreadable} unread)"),
        };
        let is_ahead = snapshot.started.is_ahead_of(Clock::System.now());
        let ahead = if is_ahead { " (dated ahead of this machine's clock)" } else { "" };
        let missing: String = snapshot.missing.iter().map(|it| format!("\nMISSING {}", it.name)).collect();
        table.add_row([
            snapshot.id.short(),
            snapshot.started.local(),
            snapshot.host.clone(),
            snapshot.job.clone(),
            snapshot.tags.join(","),
            sources.join("\n") + &unread + ahead + &missing,
            ByteSize(snapshot.counts.bytes).to_string(),
            ByteSize(snapshot.counts.stored_bytes).to_string(),
        ]);
    }
    output::print_table(&table);
    output::line(&output::count(snapshots.len() as u64, "snapshot"));
}
