//! `coffre restore --to-directory`

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use crate::cli::exit::{Exit, usage};
use crate::cli::failure::Fallible;
use crate::cli::select::{self, FilterArgs};
use crate::cli::settings::Settings;
use crate::cli::signals::cancel_on_signals;
use crate::cli::{events, output, report};
use crate::model::outcome::Ended;
use crate::model::path::{EntryPath, display_bytes};
use crate::model::units::ByteSize;
use crate::ops::open_reader;
use crate::ops::restore_database::RestoreDatabaseError;
use crate::ops::to_directory::{
    DumpFile, README, ToDirectoryOptions, ToDirectoryReport, WantedDumps, obstacle, to_directory,
};
use crate::progress::chain;
use crate::store::OpenMode;

/// Writes dumps of a snapshot into `directory`.
pub async fn run(
    global: &Settings,
    directory: &Path,
    dumps: WantedDumps,
    (wanted, within): (&str, Option<EntryPath>),
    filter: &FilterArgs,
) -> Fallible<Exit> {
    // Before anything is asked of the store.
    if let Some(reason) = obstacle(directory) {
        return Err(usage(format!("--to-directory: {reason}")));
    }
    let monitor = global.monitor();
    let cancel = cancel_on_signals(&monitor)?;
    let repository = global.repository(OpenMode::Read, &monitor).await?;
    let snapshot = select::find(&repository, wanted, &filter.filter(), &monitor).await?;
    monitor.note(&format!("snapshot {} of {}, {}", snapshot.id, snapshot.host, snapshot.started.local_zoned()));
    let mut options = ToDirectoryOptions::new(snapshot, directory.to_owned());
    (options.within, options.wanted) = (within, dumps);
    let reader = open_reader(repository, global.memory_bytes, monitor.clone()).await?;
    let written = to_directory(reader, &options, monitor.clone(), cancel).await;
    monitor.finish();
    let written = written?;
    let name = display_bytes(directory.as_os_str().as_bytes()).to_string();
    if global.json {
        output::json(&summary(&written, &name, monitor.elapsed()));
    } else if !global.quiet || !written.failed.is_empty() {
        print_summary(&written, &name, monitor.elapsed());
    }
    let outcome = written.outcome();
    for (_, error) in written.failed {
        report::print(&error.into(), global.json);
    }
    Ok(outcome.into())
}

fn summary<'a>(report: &'a ToDirectoryReport, directory: &'a str, elapsed: Duration) -> events::DumpsWritten<'a> {
    let written = |file: &'a DumpFile| events::WrittenFile {
        bytes: file.bytes,
        database: file.database.as_deref(),
        engine: file.engine,
        file: &file.file,
        stream: file.stream.to_string(),
    };
    let failed = |(file, error): &'a (String, RestoreDatabaseError)| events::FailedFile { file, why: chain(error) };
    events::DumpsWritten {
        bytes: bytes(report),
        directory,
        failed: report.failed.iter().map(failed).collect(),
        files: report.files.iter().map(written).collect(),
        not_begun: &report.not_begun,
        outcome: report.outcome().name(),
        readme: report.has_readme.then_some(README),
        seconds: elapsed.as_secs_f64(),
    }
}

fn bytes(report: &ToDirectoryReport) -> u64 {
    report.files.iter().map(|file| file.bytes).fold(0, u64::saturating_add)
}

fn print_summary(report: &ToDirectoryReport, directory: &str, elapsed: Duration) {
    for file in &report.files {
        output::line(&format!("{} written, {}", file.file, ByteSize(file.bytes)));
    }
    report.failed.iter().for_each(|(file, _)| output::line(&format!("{file} NOT WRITTEN, see below")));
    report.not_begun.iter().for_each(|file| output::line(&format!("{file} not begun")));
    let count = output::count(report.files.len() as u64, "file");
    output::line(&format!("{count}, {} in {directory}", ByteSize(bytes(report))));
    if report.has_readme {
        output::line(&format!("{README} there has the commands that restore them"));
    }
    output::line(&format!("duration {}", output::duration(elapsed)));
}
