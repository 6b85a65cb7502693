//! `coffre status`

use std::time::Duration;

use crate::cli::backup::anomaly;
use crate::cli::exit::Exit;
use crate::cli::failure::Fallible;
use crate::cli::flags::days;
use crate::cli::select::FilterArgs;
use crate::cli::settings::Settings;
use crate::cli::table::{self, Column};
use crate::cli::{events, output};
use crate::model::outcome::Ended;
use crate::model::path::display_bytes;
use crate::model::run::RunRecord;
use crate::model::time::{Clock, Timestamp};
use crate::model::units::ByteSize;
use crate::ops::status::{
    SeriesAmiss, SeriesStatus, Status, StatusOptions, VerifiedShare, WorkAmiss, WorkStatus, status,
};
use crate::store::OpenMode;

const DAY_SECONDS: u64 = 24 * 3600;

/// Flags of `status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coffre status
  coffre status --max-age 26h
  coffre status --job nightly --json

Each job, and what was backed up without one by its sources: the last good backup, how long ago it began, what a restore of it gives, and \
what the last 7 days added. Then what readers do to the repository now and then, and how much of the data was read. Exit code 3 where a \
backup is older than `max-age` of its job or --max-age, where the last run failed or its snapshot was flagged as odd, or where work is overdue: never done, or longer ago than half \
as long again as `every` says; 4 where something is damaged or missing. What is not to be watched any more is left out by --host and --job, or forgotten.

It is read from the repository, so any machine with the passphrase may ask. A host whose key reads nothing tells what it remembers of its own \
backups.")]
pub struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// How old the last backup of each may be, unless its job says otherwise, such as 26h or 8d
    #[arg(long, value_name = "AGE", value_parser = days)]
    max_age: Option<Duration>,
    /// Tell how much of the data was read within this time
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = days)]
    verified_within: Duration,
}

pub async fn run(global: &Settings, args: Args) -> Fallible<Exit> {
    let monitor = global.monitor();
    let repository = global.repository(OpenMode::Read, &monitor).await?;
    let config = &global.configured.config;
    let mut options = StatusOptions { now: Clock::System.now(), ..StatusOptions::default() };
    options.filter = args.filter.filter();
    options.max_age = args.max_age;
    options.verified_days = u32::try_from(args.verified_within.as_secs().div_ceil(DAY_SECONDS)).unwrap_or(u32::MAX);
    if let Some(name) = &global.configured.repository {
        options.jobs = config.expected_jobs(name);
        options.every = config.every(name);
    }
    let status = status(&repository, &options, &*monitor).await?;
    monitor.finish();
    if global.json {
        status.series.iter().for_each(|series| output::json(&series_event(series)));
        status.work.iter().for_each(|work| output::json(&work_event(work)));
        output::json(&summary(&status, repository.id().to_string()));
    } else if !global.quiet || !status.is_well() {
        print(&status);
    }
    Ok(status.outcome().into())
}

fn print(status: &Status) {
    const SERIES: [Column; 9] = [
        Column::left("STATE"),
        Column::text("HOST"),
        Column::name("JOB"),
        Column::text("SOURCES"),
        Column::left("LAST BACKUP"),
        Column::right("AGE"),
        Column::right("SIZE"),
        Column::right("7 DAYS"),
        Column::note("NOTE"),
    ];
    const WORK: [Column; 5] = [
        Column::left("STATE"),
        Column::left("WORK"),
        Column::left("LAST DONE"),
        Column::left("DUE FROM"),
        Column::note("NOTE"),
    ];
    if status.series.is_empty() {
        output::line("no backups");
    } else {
        table::print(&SERIES, &status.series.iter().map(series_row).collect::<Vec<_>>());
    }
    if !status.work.is_empty() {
        output::line("");
        table::print(&WORK, &status.work.iter().map(|work| work_row(work, status.now)).collect::<Vec<_>>());
    }
    output::line("");
    match &status.verified {
        Some(verified) => verified_lines(verified).iter().for_each(|line| output::line(line)),
        None => {
            output::line(
                "this key reads nothing: that is what this machine remembers of its own backups; what failed, and",
            );
            output::line("how the repository is, `coffre status` tells where the passphrase is");
        }
    }
    let amiss = status.series.iter().filter(|it| !it.amiss.is_empty()).count()
        + status.work.iter().filter(|it| it.amiss.is_some()).count();
    let zone = status.now.local_zoned();
    match (amiss, status.problems.damaged + status.problems.suspicious) {
        (0, 0) => output::line(&format!("status    well at {zone}")),
        (0, _) => output::line(&format!("status    PROBLEMS, as told above, at {zone}")),
        (amiss, _) => output::line(&format!("status    {amiss} of the above AMISS at {zone}")),
    }
}

fn verified_lines(verified: &VerifiedShare) -> Vec<String> {
    let VerifiedShare { days, verified_bytes, bytes, packs, never_read, oldest } = *verified;
    // A share that is not all of it is never shown as if it were.
    let percent = (verified_bytes as f64 / bytes.max(1) as f64 * 1000.0).floor() / 10.0;
    let mut lines = vec![format!("stored    {} in {}", ByteSize(bytes), output::count(packs, "pack"))];
    if bytes > 0 {
        lines.push(format!("verified  {percent} % of that was read within {}", output::count(u64::from(days), "day")));
    }
    let oldest = oldest.map(|oldest| format!("the oldest reading is of {}", oldest.local_minute()));
    let never = (never_read > 0).then(|| format!("{} never read", output::count(never_read, "pack")));
    let more: Vec<String> = oldest.into_iter().chain(never).collect();
    if !more.is_empty() {
        lines.push(format!("          {}", more.join("; ")));
    }
    lines
}

fn series_row(series: &SeriesStatus) -> Vec<String> {
    let sources = series.series.sources.iter().map(|source| display_bytes(source).to_string());
    let sources = if series.series.job.is_empty() { sources.collect::<Vec<_>>().join(", ") } else { String::new() };
    let counts = series.last.as_ref().and_then(|last| last.ended).map(|(_, counts)| counts);
    let size = |bytes: Option<u64>| bytes.map(|bytes| ByteSize(bytes).to_string()).unwrap_or_default();
    vec![
        series_state(series).to_owned(),
        series.series.host.clone(),
        series.series.job.clone(),
        sources,
        series.last.as_ref().map_or_else(|| "never".to_owned(), |last| last.started.local_minute()),
        series.age.map(output::span).unwrap_or_default(),
        size(counts.map(|counts| counts.bytes)),
        size(counts.map(|_| series.growth.week_bytes)),
        series_note(series),
    ]
}

fn series_state(series: &SeriesStatus) -> &'static str {
    match series.amiss.first() {
        None => "ok",
        Some(SeriesAmiss::Never) => "NEVER",
        Some(SeriesAmiss::TooOld) => "TOO OLD",
        Some(SeriesAmiss::Failed) => "FAILED",
        Some(SeriesAmiss::Suspicious) => "SUSPICIOUS",
    }
}

fn series_note(series: &SeriesStatus) -> String {
    let mut notes = Vec::new();
    if let Some(max_age) = series.max_age.filter(|_| series.amiss.contains(&SeriesAmiss::TooOld)) {
        notes.push(format!("older than {}", output::span(max_age)));
    }
    if let Some(failed) = &series.failed {
        let why = if failed.why.is_empty() { failed.outcome.name() } else { &failed.why };
        notes.push(format!("run of {} failed: {}", failed.started.local_minute(), flowing(why)));
    }
    let anomalies = series.last.as_ref().map_or(&[][..], |last| &last.anomalies);
    notes.extend(anomalies.iter().map(|it| format!("SUSPICIOUS: {}: {}", it.subject, it.told())));
    if let Some(unchanged) = series.unchanged {
        notes.push(format!("nothing changed until {}", unchanged.local_minute()));
    }
    let unread = series.last.as_ref().and_then(|last| last.ended).map_or(0, |(_, counts)| counts.unreadable);
    if unread > 0 {
        notes.push(format!("{} unread", output::grouped(unread)));
    }
    notes.join("; ")
}

/// Returns what a program said in lines as text that flows.
fn flowing(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn work_row(work: &WorkStatus, now: Timestamp) -> Vec<String> {
    let state = match work.amiss {
        None => "ok",
        Some(WorkAmiss::FoundDamage) => "DAMAGE",
        Some(WorkAmiss::Failed) => "FAILED",
        Some(WorkAmiss::Never) => "NEVER",
        Some(WorkAmiss::Overdue) => "OVERDUE",
    };
    let due = match work.due {
        Some(due) if due <= now => "now".to_owned(),
        Some(due) => due.local_minute(),
        None => String::new(),
    };
    let last = work.last.as_ref().map_or_else(|| "never".to_owned(), |last| last.finished.local_minute());
    let failed = work.failed.as_ref().map(|failed| {
        let why = if failed.why.is_empty() { &failed.outcome } else { &failed.why };
        let what = if work.amiss == Some(WorkAmiss::Failed) { "failed" } else { "is not done" };
        format!("run of {} on {} {what}: {}", failed.finished.local_minute(), failed.host, flowing(why))
    });
    let found = work.last.as_ref().filter(|_| work.amiss == Some(WorkAmiss::FoundDamage));
    let found = found.map(|_| "`coffre verify` names what is damaged".to_owned());
    vec![state.to_owned(), work.kind.name().to_owned(), last, due, found.or(failed).unwrap_or_default()]
}

fn series_event(series: &SeriesStatus) -> events::SeriesState<'_> {
    let last = series.last.as_ref();
    let (finished, counts) = last.and_then(|last| last.ended).unzip();
    events::SeriesState {
        age_seconds: series.age.map(|age| age.as_secs()),
        amiss: series.amiss.iter().map(|amiss| amiss.name()).collect(),
        anomalies: last.map_or(&[][..], |last| &last.anomalies).iter().map(anomaly).collect(),
        bytes: counts.map(|counts| counts.bytes),
        failed: series.failed.as_ref().map(|failed| failed.started.to_string()),
        failed_outcome: series.failed.as_ref().map(|failed| failed.outcome.name()),
        failed_why: series.failed.as_ref().map(|failed| &*failed.why),
        finished: finished.map(|finished| finished.to_string()),
        host: &series.series.host,
        job: &series.series.job,
        max_age_seconds: series.max_age.map(|age| age.as_secs()),
        month_bytes: series.growth.month_bytes,
        new_bytes: counts.map(|counts| counts.new_bytes),
        snapshot: last.map(|last| last.id.to_string()),
        snapshots: series.snapshots,
        sources: series.series.sources.iter().map(|source| display_bytes(source).to_string()).collect(),
        started: last.map(|last| last.started.to_string()),
        stored_bytes: counts.map(|counts| counts.stored_bytes),
        unchanged: series.unchanged.map(|unchanged| unchanged.to_string()),
        unreadable: counts.map(|counts| counts.unreadable),
        week_bytes: series.growth.week_bytes,
    }
}

fn work_event(work: &WorkStatus) -> events::WorkState<'_> {
    let (last, failed) = (work.last.as_ref(), work.failed.as_ref());
    events::WorkState {
        amiss: work.amiss.map(WorkAmiss::name),
        counts: last.map(|last| &last.counts),
        due: work.due.map(|due| due.to_string()),
        every_seconds: work.every.map(|every| every.0.as_secs()),
        failed: failed.map(|failed| failed.finished.to_string()),
        failed_outcome: failed.map(|failed| &*failed.outcome),
        failed_why: failed.map(|failed| &*failed.why),
        finished: last.map(|last| last.finished.to_string()),
        host: last.map(|last| &*last.host),
        outcome: last.map(|last| &*last.outcome),
        started: last.map(|last: &RunRecord| last.started.to_string()),
        work: work.kind.name(),
    }
}

fn summary(status: &Status, repository: String) -> events::RepositoryStatus {
    let verified = status.verified.as_ref();
    events::RepositoryStatus {
        bytes: verified.map(|verified| verified.bytes),
        oldest_read: verified.and_then(|verified| verified.oldest).map(|oldest| oldest.to_string()),
        outcome: status.outcome().name(),
        packs: verified.map(|verified| verified.packs),
        packs_never_read: verified.map(|verified| verified.never_read),
        problems: status.problems.count(),
        reads_nothing: status.reads_nothing,
        repository,
        snapshots: status.snapshots,
        time: status.now.to_string(),
        verified_bytes: verified.map(|verified| verified.verified_bytes),
        verified_days: verified.map(|verified| verified.days),
        well: status.is_well(),
    }
}
