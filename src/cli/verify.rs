//! `coffre verify`

use std::time::Duration;

use serde_json::json;

use crate::cli::connect::GlobalArgs;
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::cli::signals::cancel_on_signals;
use crate::model::units::ByteSize;
use crate::ops::verify::{Finding, ReadData, VerifyOptions, VerifyReport, verify};
use crate::store::OpenMode;

/// Flags of `verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --read-data: every object is listed and its size compared with the index, every snapshot, index segment and tree \
is read, every chunk that a snapshot needs is located. With a part (5%, 10GiB) the packs are read in turn: each run goes \
on where the last one ended, so that a nightly run reaches everything. Damage leads to exit code 4.")]
pub struct Args {
    /// Read the data and check every chunk: all of it, or a part such as 5% or 10GiB
    #[arg(long, value_name = "PART", num_args = 0..=1, require_equals = true, default_missing_value = "100%")]
    read_data: Option<String>,
}

pub async fn run(global: &GlobalArgs, args: Args) -> anyhow::Result<Exit> {
    let read_data = args.read_data.as_deref().map_or(Ok(ReadData::No), part)?;
    let options = VerifyOptions { read_data, memory_bytes: global.memory_bytes()? };
    let monitor = global.monitor();
    let cancel = cancel_on_signals(&monitor)?;
    let repository = global.repository(OpenMode::Read, &monitor).await?;
    let report = verify(repository, options, monitor.clone(), cancel).await;
    monitor.finish();
    let report = report?;
    if global.json {
        for finding in &report.findings {
            output::json(&finding_json(finding));
        }
        output::json(&summary_json(&report, monitor.elapsed()));
    } else {
        for finding in &report.findings {
            print_finding(finding);
        }
        if !global.quiet {
            print_summary(&report, read_data, monitor.elapsed());
        }
    }
    Ok(if report.findings.is_empty() { Exit::Done } else { Exit::Damaged })
}

fn part(text: &str) -> anyhow::Result<ReadData> {
    let Some(percent) = text.strip_suffix('%') else {
        let size: ByteSize = text.parse().map_err(|_| wrong_part(text))?;
        return if size.0 == 0 { Err(wrong_part(text)) } else { Ok(ReadData::Bytes(size.0)) };
    };
    match percent.trim().parse::<f64>() {
        Ok(100.0) => Ok(ReadData::All),
        Ok(percent) if percent > 0.0 && percent < 100.0 => Ok(ReadData::Percent(percent)),
        _ => Err(wrong_part(text)),
    }
}

fn wrong_part(text: &str) -> anyhow::Error {
    crate::cli::exit::usage(format!("{text:?} is no part of the data; write --read-data, --read-data=5% or =10GiB"))
}

fn finding_json(finding: &Finding) -> serde_json::Value {
    json!({
        "event": "finding",
        "object": finding.object,
        "problem": finding.problem,
        "snapshots": finding.snapshots.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "paths": finding.paths,
        "path_count": finding.path_count,
    })
}

fn print_finding(finding: &Finding) {
    output::line(&format!("DAMAGED  {}: {}", finding.object, finding.problem));
    if !finding.snapshots.is_empty() {
        let ids: Vec<String> = finding.snapshots.iter().map(|id| id.short()).collect();
        output::line(&format!("  snapshots: {}", ids.join(" ")));
    }
    for path in &finding.paths {
        output::line(&format!("  {path}"));
    }
    let more = finding.path_count.saturating_sub(finding.paths.len() as u64);
    if more > 0 {
        output::line(&format!("  and {}", output::count(more, "more time")));
    }
}

fn summary_json(report: &VerifyReport, elapsed: Duration) -> serde_json::Value {
    json!({
        "event": "summary",
        "clean": report.findings.is_empty(),
        "findings": report.findings.len(),
        "notes": report.notes,
        "snapshots": report.snapshots,
        "index_segments": report.segments,
        "packs": report.packs,
        "chunks": report.chunks,
        "entries": report.entries,
        "packs_read": report.packs_read,
        "bytes_read": report.bytes_read,
        "cycle_completed": report.cycle_completed,
        "seconds": elapsed.as_secs_f64(),
    })
}

fn print_summary(report: &VerifyReport, read_data: ReadData, elapsed: Duration) {
    output::line(&format!(
        "checked   {}, {}, {}, {}",
        output::count(report.snapshots, "snapshot"),
        output::count(report.entries, "entry"),
        output::count(report.chunks, "chunk"),
        output::count(report.packs, "pack")
    ));
    if read_data != ReadData::No {
        let of = format!("{} of {}", output::grouped(report.packs_read), output::count(report.packs, "pack"));
        let turn = if report.cycle_completed { "; everything has been read once" } else { "" };
        output::line(&format!("read      {of}, {}{turn}", ByteSize(report.bytes_read)));
    }
    for note in &report.notes {
        output::line(&format!("note      {note}"));
    }
    output::line(&format!("duration  {}", output::duration(elapsed)));
    match (report.findings.len() as u64, read_data) {
        (0, ReadData::No) => output::line("result    clean; the data itself was not read (--read-data)"),
        (0, _) => output::line("result    clean"),
        (found, _) => output::line(&format!("result    DAMAGED: {}", output::count(found, "finding"))),
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
        for wrong in ["", "0%", "101%", "-1%", "some", "0"] {
            assert_eq!(Exit::of(&part(wrong).expect_err(wrong)), Exit::Usage);
        }
    }
}
