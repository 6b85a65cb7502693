//! `coffre verify`

use std::time::Duration;

use crate::cli::events;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Fallible};
use crate::cli::output::OfRun;
use crate::cli::settings::Settings;
use crate::cli::signals::cancel_on_signals;
use crate::cli::{findings, on_record, output};
use crate::model::id::ChunkId;
use crate::model::outcome::Ended;
use crate::model::outcome::Outcome;
use crate::model::run::{RunKind, count};
use crate::model::time::Clock;
use crate::model::units::ByteSize;
use crate::ops::verify::{Finding, Healing, LostRun, ReadData, VerifyOptions, VerifyReport, Vouched, verify};
use crate::process::own::{PROGRAM, host_name};
use crate::repository::Repository;
use crate::store::OpenMode;

/// Flags of `verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coffre verify
  coffre verify --read-data=5%      # in a crontab: 5\\%
  coffre verify --read-data

Without --read-data: every object is listed and its size compared with the index, every snapshot, index segment and tree \
is read, every chunk that a snapshot needs is located. With a part (5%, 10GiB) the packs are read in turn: each run goes \
on where the last one ended, on whichever host, so that a nightly run reaches everything; 1/7 reads the first of seven \
shares. The repository keeps what was read when. Damage leads to exit code 4.

Backups are told which packs are damaged (a list in cleanup/, if the credentials may write there): they do not rely on \
these any more, and the next ones store again what their sources still have. What is stored elsewhere by then is healed, and \
no damage any more; what no source has any more cannot come back. What was read whole and is right, every host may rely on \
from then on; before, it relies only on what itself and its group stored.")]
pub struct Args {
    /// Read the data and check every chunk: all of it, or a part such as 5%, 10GiB or 1/7
    #[arg(long, value_name = "PART", num_args = 0..=1, require_equals = true, default_missing_value = "100%")]
    read_data: Option<String>,

    /// Only look: tell backups neither what is damaged nor what is right
    #[arg(long)]
    no_heal: bool,
}

/// What a verification did, and where.
pub struct VerifyDone {
    /// What it found.
    pub report: VerifyReport,
    about: About,
    read_data: ReadData,
    elapsed: Duration,
}

pub async fn run(global: &Settings, args: Args) -> Fallible<Exit> {
    let done = carry_out(global, &args).await?;
    if global.json {
        done.tell_programs(None);
    } else {
        findings::print(&done.report.findings, global.verbose > 0);
        if !global.quiet {
            print_summary(&done.about, &done.report, done.read_data, done.elapsed);
        }
    }
    Ok(done.report.outcome().into())
}

impl VerifyDone {
    /// Prints the findings and the summary as objects.
    pub fn tell_programs(&self, of: Option<&OfRun>) {
        self.report.findings.iter().for_each(|finding| output::json_of(&event(finding), of));
        output::json_of(&summary(&self.about, &self.report, self.elapsed), of);
    }
}

/// Verifies, and puts it on record.
pub async fn carry_out(global: &Settings, args: &Args) -> Fallible<VerifyDone> {
    let read_data = args.read_data.as_deref().map_or(Ok(ReadData::No), part)?;
    let host = host_name();
    let (memory_bytes, heal) = (global.memory_bytes, !args.no_heal);
    let options = VerifyOptions { read_data, memory_bytes, host, clock: Clock::System, heal };
    let monitor = global.monitor();
    let cancel = cancel_on_signals(&monitor)?;
    let repository = global.repository(OpenMode::Read, &monitor).await?;
    let about = About::of(&repository, options.host.clone());
    let started = Clock::System.now();
    let report = verify(repository.clone(), options, monitor.clone(), cancel).await.map_err(Failure::from);
    let mut record = on_record::of(RunKind::Verify, started, report.as_ref());
    if let Ok(VerifyReport { findings, packs_read, bytes_read, snapshots, .. }) = &report {
        let findings = findings.len() as u64;
        let counts = [
            (count::FINDINGS, findings),
            (count::PACKS, *packs_read),
            (count::BYTES_READ, *bytes_read),
            (count::SNAPSHOTS, *snapshots),
        ];
        record.counts = counts.map(|(name, count)| (name.to_owned(), count)).into();
    }
    on_record::put(&repository, record, &monitor).await;
    monitor.finish();
    Ok(VerifyDone { report: report?, about, read_data, elapsed: monitor.elapsed() })
}

/// What was verified, and where.
struct About {
    repository: String,
    location: String,
    host: String,
}

impl About {
    fn of(repository: &Repository, host: String) -> Self {
        Self { repository: repository.id().to_string(), location: repository.location(), host }
    }
}

fn part(text: &str) -> Fallible<ReadData> {
    if let Some((nth, of)) = text.split_once('/') {
        return match (nth.trim().parse(), of.trim().parse()) {
            (Ok(1), Ok(1)) => Ok(ReadData::All),
            (Ok(nth), Ok(of)) if (1..=of).contains(&nth) => Ok(ReadData::Share { nth, of }),
            _ => Err(wrong_part(text)),
        };
    }
    let Some(percent) = text.strip_suffix('%') else {
        let has_unit = text.trim_end().ends_with(|last: char| last.is_ascii_alphabetic());
        return match text.parse::<ByteSize>() {
            Ok(size) if has_unit && size.0 > 0 => Ok(ReadData::Bytes(size.0)),
            _ => Err(wrong_part(text)),
        };
    };
    match percent.trim().parse::<f64>() {
        Ok(100.0) => Ok(ReadData::All),
        Ok(percent) if percent > 0.0 && percent < 100.0 => Ok(ReadData::Percent(percent)),
        _ => Err(wrong_part(text)),
    }
}

fn wrong_part(text: &str) -> Failure {
    crate::cli::exit::usage(format!(
        "{text:?} is no part of the data; write --read-data, --read-data=5%, =10GiB or =1/7"
    ))
}

fn lost_event(run: &LostRun) -> events::Lost<'_> {
    events::Lost { length: run.length, offset: run.offset, path: &run.path, snapshot: run.snapshot.to_string() }
}

fn event(finding: &Finding) -> events::Finding<'_> {
    events::Finding {
        lost: finding.lost.iter().map(lost_event).collect(),
        lost_bytes: finding.lost_bytes,
        object: finding.object.to_string(),
        path_count: finding.path_count,
        paths: &finding.paths,
        problem: finding.damage.to_string(),
        snapshots: finding.snapshots.iter().map(ToString::to_string).collect(),
        windows: finding.windows.iter().map(ChunkId::short).collect(),
    }
}

/// Says since when the data was read, over all runs.
fn coverage_line(report: &VerifyReport) -> String {
    let packs = report.packs;
    match (report.coverage.oldest, report.coverage.never_read) {
        (None, _) => "no pack was ever read".to_owned(),
        (Some(oldest), never) => {
            let days = report.finished.since(oldest).as_secs() / 86_400;
            let since = format!("since {}, {} ago", &oldest.local()[..10], output::count(days, "day"));
            match never {
                0 => format!("all packs were read {since}"),
                never => format!(
                    "{} of {} were read {since}; {} never",
                    packs.saturating_sub(never),
                    output::count(packs, "pack"),
                    never
                ),
            }
        }
    }
}

fn summary<'a>(about: &'a About, report: &'a VerifyReport, elapsed: Duration) -> events::Verified<'a> {
    events::Verified {
        bytes_read: report.bytes_read,
        chunks: report.chunks,
        clean: report.outcome() == Outcome::Clean,
        coverage_not_noted: report.coverage.not_noted.as_deref(),
        cycle_completed: report.cycle_completed,
        damage_not_told: report.healing.why_not.as_deref(),
        entries: report.entries,
        findings: report.findings.len() as u64,
        findings_left_out: report.findings_left_out,
        host: &about.host,
        index_segments: report.segments,
        location: &about.location,
        not_vouched_for: report.vouched.why_not.as_deref(),
        notes: &report.notes,
        oldest_read: report.coverage.oldest.map(|oldest| oldest.to_string()),
        outcome: report.outcome().name(),
        packs: report.packs,
        packs_healed: report.healing.healed,
        packs_never_read: report.coverage.never_read,
        packs_read: report.packs_read,
        packs_told_damaged: report.healing.told,
        packs_vouched_for: report.vouched.packs,
        program: PROGRAM,
        repository: &about.repository,
        seconds: elapsed.as_secs_f64(),
        snapshots: report.snapshots,
        time: report.finished.to_string(),
    }
}

/// Says what becomes of damaged packs.
fn healing_lines(healing: &Healing) -> Vec<String> {
    let packs = |count| output::count(count, "pack");
    let mut lines = Vec::new();
    if healing.waiting > 0 {
        lines.push(format!(
            "healing   {}: backups do not rely on what is damaged, and the next ones",
            packs(healing.waiting)
        ));
        lines.push("          store again what their sources still have; nothing else can come back".to_owned());
    }
    if healing.healed > 0 {
        let what = "what snapshots need of what was damaged is stored elsewhere";
        lines.push(format!("healed    {}: {what}", packs(healing.healed)));
    }
    if healing.right_again > 0 {
        lines.push(format!("note      found damaged before, and right now: {}", packs(healing.right_again)));
    }
    if healing.unread > 0 {
        let unread = packs(healing.unread);
        lines.push(format!("note      found damaged before, and not read now: {unread}; backups do not rely on them"));
    }
    if healing.not_told > 0 {
        let why = healing.why_not.as_ref().map(|why| format!(": they could not be told: {why}")).unwrap_or_default();
        let not_told = packs(healing.not_told);
        lines.push(format!("note      backups go on relying on what is damaged in {not_told}{why}"));
    }
    lines
}

/// Says what hosts may rely on from now on.
fn vouching_lines(vouched: &Vouched) -> Vec<String> {
    let mut lines = Vec::new();
    if vouched.packs > 0 {
        let packs = output::count(vouched.packs, "pack");
        lines.push(format!("vouched   {packs}: right, so every host may rely on them from now on"));
    }
    if let Some(why) = &vouched.why_not {
        let packs = output::count(vouched.not, "pack");
        lines.push(format!("note      hosts that do not trust each other store again what is in {packs}: {why}"));
    }
    lines
}

fn print_summary(about: &About, report: &VerifyReport, read_data: ReadData, elapsed: Duration) {
    output::line(&format!("verified  {} by {PROGRAM} on {}", report.finished.local(), about.host));
    output::line(&format!("          repository {} at {}", about.repository, about.location));
    output::line(&format!(
        "checked   {}, {}, {}, {}",
        output::count(report.snapshots, "snapshot"),
        output::count(report.entries, "entry"),
        output::count(report.chunks, "chunk"),
        output::count(report.packs, "pack")
    ));
    let of = format!("{} of {}", output::grouped(report.packs_read), output::count(report.packs, "pack"));
    if read_data != ReadData::No {
        output::line(&format!("read      {of}, {}", ByteSize(report.bytes_read)));
    }
    output::line(&format!("coverage  {}", coverage_line(report)));
    if let Some(why) = &report.coverage.not_noted {
        output::line(&format!("note      the repository does not know what was read now, this host does: {why}"));
    }
    for note in &report.notes {
        output::line(&format!("note      {note}"));
    }
    vouching_lines(&report.vouched).iter().for_each(|line| output::line(line));
    healing_lines(&report.healing).iter().for_each(|line| output::line(line));
    output::line(&format!("duration  {}", output::duration(elapsed)));
    let found = output::count(report.findings.len() as u64, "finding");
    if report.findings_left_out {
        return output::line(&format!("result    DAMAGED: {found}, and more than the memory of --memory can name"));
    }
    match (report.findings.len(), read_data) {
        (0, ReadData::No) => output::line("result    clean; the data itself was not read (--read-data)"),
        (0, _) if report.packs_read < report.packs => {
            output::line(&format!("result    clean; of the data {of} were read"))
        }
        (0, _) => output::line("result    clean"),
        _ => output::line(&format!("result    DAMAGED: {found}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_percentages_or_sizes() {
        assert_eq!(part("100%").expect("all"), ReadData::All);
        assert_eq!(part("2.5%").expect("a part"), ReadData::Percent(2.5));
        assert_eq!(part("10GiB").expect("a size"), ReadData::Bytes(10 << 30));
        assert_eq!(part("20B").expect("a size"), ReadData::Bytes(20));
        assert_eq!(part("1/7").expect("a share"), ReadData::Share { nth: 1, of: 7 });
        assert_eq!(part("1/1").expect("all"), ReadData::All);
        for wrong in ["", "0%", "101%", "-1%", "some", "0", "20", "1.5", "0B", "0/7", "8/7", "1/0", "/", "1/7/2"] {
            assert_eq!(part(wrong).expect_err(wrong).outcome(), Outcome::Usage);
        }
    }
}
