//! `coffre snapshots`

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;

use crate::cli::backup::{anomaly, missing_stream};
use crate::cli::events;
use crate::cli::exit::Exit;
use crate::cli::failure::Fallible;
use crate::cli::output;
use crate::cli::select::{self, FilterArgs};
use crate::cli::settings::Settings;
use crate::cli::table::{self, Column};
use crate::model::hold::Hold;
use crate::model::outcome::Ended;
use crate::model::path::display_bytes;
use crate::model::series::Series;
use crate::model::snapshot::Snapshot;
use crate::model::time::{Clock, Timestamp};
use crate::model::units::ByteSize;
use crate::ops::LookError;
use crate::ops::snapshots::named_or_all;
use crate::repository::expired::{GRACE, bring_back_until};
use crate::store::OpenMode;

/// Flags of `snapshots`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coffre snapshots
  coffre snapshots --host db1 --latest 3
  coffre snapshots --group-by host,job --latest
  coffre snapshots 3f9c21d0 latest
  coffre snapshots --forgotten
  coffre snapshots --job nightly --json | jq -r .started

SIZE is what a restore gives, ADDED what the snapshot added to the store. Times are those of this machine's zone.")]
pub struct Args {
    /// Show only these: ids, which may be cut short, or `latest`
    snapshots: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Show only the newest N of each group [default of N: 1]
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1")]
    latest: Option<NonZeroUsize>,
    /// What makes a group: of host, job, sources and tags [default for --latest: host,job,sources]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_enum)]
    group_by: Vec<GroupField>,
    /// Show fewer columns
    #[arg(long, short)]
    compact: bool,
    /// Show those that are forgotten, in place of the others: since when, and until when `coffre forget --undo` brings them back
    #[arg(long, conflicts_with_all = ["snapshots", "latest", "group_by"])]
    forgotten: bool,
}

/// What snapshots of a group have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum GroupField {
    /// The host
    Host,
    /// The job
    Job,
    /// The sources
    #[value(alias = "paths")]
    Sources,
    /// The tags
    Tags,
}

pub async fn run(global: &Settings, args: Args) -> Fallible<Exit> {
    let monitor = global.monitor();
    let repository = global.repository(OpenMode::Read, &monitor).await?;
    repository.reading().map_err(LookError::Access)?;
    let filter = args.filter.filter();
    let find = async |text: &str| select::find(&repository, text, &filter, &monitor).await;
    let listed = named_or_all(&repository, &args.snapshots, &filter, &*monitor, find).await?;
    let outcome = listed.outcome();
    monitor.finish();
    if args.forgotten {
        match global.json {
            true => listed.forgotten.iter().for_each(|snapshot| output::json(&event(snapshot))),
            false => print(&listed.forgotten, args.compact),
        }
        return Ok(outcome.into());
    }
    let (foreign, mut shown): (Vec<_>, Vec<_>) = listed.snapshots.into_iter().partition(|it| it.foreign.is_some());
    if let Some(count) = args.latest {
        shown = match args.group_by.is_empty() {
            true => newest_of_each(shown, Series::of, count),
            false => newest_of_each(shown, |it| group(it, &args.group_by), count),
        };
    }
    match (global.json, args.group_by.is_empty()) {
        (true, _) => shown.iter().chain(&foreign).for_each(|snapshot| output::json(&event(snapshot))),
        (false, true) => print(&shown, args.compact),
        (false, false) => print_groups(&shown, &args.group_by, args.compact),
    }
    if !global.json && !foreign.is_empty() {
        output::line("");
        output::line("these do not count: they are never `latest`, and nothing is kept for them");
        print(&foreign, args.compact);
    }
    Ok(outcome.into())
}

impl GroupField {
    fn of(self, snapshot: &Snapshot) -> (&'static str, String) {
        match self {
            GroupField::Host => ("host", snapshot.host.clone()),
            GroupField::Job => ("job", snapshot.job.clone()),
            GroupField::Sources => ("sources", sources(snapshot)),
            GroupField::Tags => {
                let mut tags = snapshot.tags.clone();
                tags.sort();
                ("tags", tags.join(", "))
            }
        }
    }
}

fn group(snapshot: &Snapshot, by: &[GroupField]) -> Vec<(&'static str, String)> {
    by.iter().map(|by| by.of(snapshot)).collect()
}

/// Keeps the last `count` of each group, which is named by what its snapshots have in common; the order stays.
pub(super) fn newest_of_each<G: Ord>(
    snapshots: Vec<Snapshot>,
    group: impl Fn(&Snapshot) -> G,
    count: NonZeroUsize,
) -> Vec<Snapshot> {
    let mut seen: BTreeMap<G, usize> = BTreeMap::new();
    let mut kept: Vec<Snapshot> = Vec::new();
    for snapshot in snapshots.into_iter().rev() {
        let of_group = seen.entry(group(&snapshot)).or_default();
        *of_group += 1;
        if *of_group <= count.get() {
            kept.push(snapshot);
        }
    }
    kept.reverse();
    kept
}

fn print_groups(snapshots: &[Snapshot], by: &[GroupField], is_compact: bool) {
    let mut groups: BTreeMap<Vec<(&str, String)>, Vec<Snapshot>> = BTreeMap::new();
    for snapshot in snapshots {
        groups.entry(group(snapshot, by)).or_default().push(snapshot.clone());
    }
    for (at, (group, members)) in groups.iter().enumerate() {
        let named = |(what, value): &(&str, String)| match value.is_empty() {
            true => format!("no {what}"),
            false => format!("{what} {value}"),
        };
        if at > 0 {
            output::line("");
        }
        output::line(&group.iter().map(named).collect::<Vec<_>>().join(", "));
        print(members, is_compact);
    }
    if groups.is_empty() {
        output::say("no snapshots");
    }
}

fn sources(snapshot: &Snapshot) -> String {
    let sources = snapshot.sources.iter().map(|source| display_bytes(source).to_string());
    sources.collect::<Vec<_>>().join(", ")
}

fn event(snapshot: &Snapshot) -> events::Snapshot<'_> {
    let counts = &snapshot.counts;
    let held = in_force(snapshot);
    events::Snapshot {
        ahead: snapshot.started.is_ahead_of(Clock::System.now()),
        anomalies: snapshot.anomalies.iter().map(anomaly).collect(),
        bytes: counts.bytes,
        complete: snapshot.is_complete(),
        directories: counts.directories,
        files: counts.files,
        finished: snapshot.finished.to_string(),
        foreign: snapshot.foreign.map(|foreign| foreign.to_string()),
        forgotten: snapshot.forgotten.as_ref().map(|forgotten| forgotten.when.to_string()),
        forgotten_reason: snapshot.forgotten.as_ref().map(|forgotten| &*forgotten.reason),
        held: held.is_some(),
        held_reason: held.map(|hold| &*hold.reason),
        held_until: held.and_then(|hold| hold.until).map(|until| until.to_string()),
        host: &snapshot.host,
        id: snapshot.id.to_string(),
        job: &snapshot.job,
        missing: snapshot.missing.iter().map(missing_stream).collect(),
        new_bytes: counts.new_bytes,
        number: snapshot.position.number,
        others: counts.others,
        parent: snapshot.parent.map(|parent| parent.to_string()),
        program: &snapshot.program,
        removable_from: removable_from(snapshot).map(|from| from.to_string()),
        sources: snapshot.sources.iter().map(|source| display_bytes(source).to_string()).collect(),
        started: snapshot.started.to_string(),
        stored_bytes: counts.stored_bytes,
        streams: counts.streams,
        tags: &snapshot.tags,
        unreadable: counts.unreadable,
        user: &snapshot.user,
    }
}

/// Returns the hold of a snapshot that is held now.
fn in_force(snapshot: &Snapshot) -> Option<&Hold> {
    snapshot.held.as_ref().filter(|hold| hold.is_in_force(Clock::System.now()))
}

/// Returns from when on a clean-up may remove a snapshot that is forgotten, unless it is told another grace time.
fn removable_from(snapshot: &Snapshot) -> Option<Timestamp> {
    snapshot.forgotten.as_ref().map(|forgotten| bring_back_until(snapshot.id, forgotten.when, GRACE))
}

fn print(snapshots: &[Snapshot], is_compact: bool) {
    if snapshots.is_empty() {
        output::say("no snapshots");
        return;
    }
    const COLUMNS: [Column; 9] = [
        Column::left("ID"),
        Column::left("TIME"),
        Column::text("HOST"),
        Column::name("JOB"),
        Column::text("TAGS"),
        Column::text("SOURCES"),
        Column::right("SIZE"),
        Column::right("ADDED"),
        Column::note("NOTE"),
    ];
    let row = |snapshot: &Snapshot| {
        let compact = |text: String| if is_compact { String::new() } else { text };
        vec![
            snapshot.id.short(),
            snapshot.started.local_minute(),
            snapshot.host.clone(),
            snapshot.job.clone(),
            snapshot.tags.join(","),
            compact(sources(snapshot)),
            ByteSize(snapshot.counts.bytes).to_string(),
            compact(ByteSize(snapshot.counts.stored_bytes).to_string()),
            note(snapshot),
        ]
    };
    let rows: Vec<Vec<String>> = snapshots.iter().map(row).collect();
    table::print(&COLUMNS, &rows);
    let zones: BTreeSet<String> = snapshots.iter().map(|snapshot| snapshot.started.local_zone()).collect();
    let zones = zones.into_iter().collect::<Vec<_>>().join(" and ");
    output::line(&format!("{}; times in {zones}", output::count(snapshots.len() as u64, "snapshot")));
}

/// Says what is not as it should be with a snapshot.
fn note(snapshot: &Snapshot) -> String {
    let mut notes: Vec<String> = snapshot.foreign.iter().map(|foreign| format!("FOREIGN: {foreign}")).collect();
    notes.extend(snapshot.missing.iter().map(|it| format!("MISSING {}", it.name)));
    notes.extend(snapshot.anomalies.iter().map(|it| format!("SUSPICIOUS: {}: {}", it.subject, it.told())));
    if let (Some(forgotten), Some(from)) = (&snapshot.forgotten, removable_from(snapshot)) {
        let why = if forgotten.reason.is_empty() { String::new() } else { format!(" ({})", forgotten.reason) };
        let (when, from) = (forgotten.when.local_minute(), from.local_minute());
        notes.push(format!("forgotten {when}{why}, comes back by --undo until a clean-up after {from}"));
    }
    if let Some(hold) = in_force(snapshot) {
        let until = hold.until.map(|until| format!(" until {}", until.local_minute())).unwrap_or_default();
        let why = if hold.reason.is_empty() { String::new() } else { format!(" ({})", hold.reason) };
        notes.push(format!("held{until}{why}"));
    }
    if snapshot.counts.unreadable > 0 {
        notes.push(format!("{} unread", output::grouped(snapshot.counts.unreadable)));
    }
    if snapshot.started.is_ahead_of(Clock::System.now()) {
        notes.push("dated ahead of this machine's clock".into());
    }
    notes.join(", ")
}
