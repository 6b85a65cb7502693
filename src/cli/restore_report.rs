//! What a restore tells at its end: what is there, what is not and why, and the question before anything is removed.

use std::time::Duration;

use crate::cli::failure::{Context, Fallible};
use crate::cli::progress::ConsoleMonitor;
use crate::cli::{events, output, question};
use crate::model::outcome::Ended;
use crate::model::path::display_bytes;
use crate::model::units::ByteSize;
use crate::ops::restore::{NotWhole, RestoreReport};

/// Extras shown before they are removed; beyond them their number.
const EXTRAS_SHOWN: usize = 100;

/// Shows what the target has and the snapshot does not.
pub(super) fn show_extras(report: &RestoreReport, dry_run: bool, json: bool) {
    for extra in report.extras.iter().take(if json { usize::MAX } else { EXTRAS_SHOWN }) {
        let path = display_bytes(extra).to_string();
        if json {
            output::json(&events::Extra { dry_run, path });
        } else {
            output::say(&format!("not in the snapshot: {path}"));
        }
    }
    if !json && report.extras.len() > EXTRAS_SHOWN {
        output::say(&format!("and {} more", output::grouped((report.extras.len() - EXTRAS_SHOWN) as u64)));
    }
}

/// Says before anything is removed what a snapshot cannot tell.
pub(super) fn tell_of_excludes(json: bool) {
    if !json {
        output::say(
            "what a backup was told to exclude is not in its snapshot and may be among these: give its patterns to --exclude, \
             and it stays",
        );
    }
}

/// Asks whether so many extras, with so many files in them, may go.
pub(super) async fn confirmed(monitor: &ConsoleMonitor, extras: usize, files: u64) -> Fallible<bool> {
    let question = what_to_remove(extras as u64, files);
    let answer = question::ask(monitor, &question).await.context("nothing was removed; what was restored is there")?;
    let is_yes = matches!(answer.trim(), "y" | "Y" | "yes");
    if !is_yes {
        monitor.note("nothing was removed");
    }
    Ok(is_yes)
}

fn what_to_remove(extras: u64, files: u64) -> String {
    format!("remove {}, {} in all? [y/N] ", output::count(extras, "entry"), output::count(files, "file"))
}

/// Returns the summary for programs.
pub(super) fn summary(report: &RestoreReport, removed: u64, elapsed: Duration) -> events::Restored {
    events::Restored {
        blocked: report.blocked.len() as u64,
        damaged: report.damaged.iter().map(NotWhole::to_string).collect(),
        dry_run: report.dry_run,
        extras: report.extras.len() as u64,
        failed_files: report.failed_files,
        left: report.left,
        linked_files: report.linked_files,
        no_room_files: report.no_room_files,
        others: report.others + report.linked_files,
        outcome: report.outcome().name(),
        owners_missed: report.owners_missed,
        problems: report.problems.missing,
        removed,
        seconds: elapsed.as_secs_f64(),
        unchanged_files: report.unchanged_files,
        written_bytes: report.written_bytes,
        written_files: report.written_files,
    }
}

/// Prints the summary for people.
pub(super) fn print(report: &RestoreReport, removed: u64, dry_run: bool, elapsed: Duration) {
    for line in lines(report, removed, dry_run, elapsed) {
        output::line(&line);
    }
}

fn lines(report: &RestoreReport, removed: u64, dry_run: bool, elapsed: Duration) -> Vec<String> {
    let would = if dry_run { "would be " } else { "" };
    let files = output::count(report.written_files + report.linked_files, "file");
    let mut lines = vec![format!("{files} {would}restored, {}", ByteSize(report.written_bytes))];
    if report.unchanged_files > 0 {
        lines.push(format!("{} right already", output::count(report.unchanged_files, "file")));
    }
    if report.left > 0 {
        lines.push(format!("{} left as they are, as --overwrite says", output::count(report.left, "entry")));
    }
    if removed > 0 {
        lines.push(format!("{} removed", output::count(removed, "extra entry")));
    }
    if report.owners_missed > 0 {
        let entries = output::count(report.owners_missed, "entry");
        lines.push(format!("{entries} belong to you and not to their owners, which only root can set"));
    }
    if report.problems.missing > 0 {
        lines.push(format!("{}, named above", output::count(report.problems.missing, "problem")));
    }
    if report.no_room_files > 0 {
        let there = output::grouped(report.files_there());
        let all = report.files_there() + report.failed_files + report.damaged.len() as u64;
        lines.push(format!(
            "the target is full: {there} of {} are there; make room and run it again, it goes on from there",
            output::count(all, "file")
        ));
    } else if report.failed_files > 0 {
        lines.push(format!("{} could NOT be restored", output::count(report.failed_files, "file")));
    }
    if !report.blocked.is_empty() {
        let blocked = output::count(report.blocked.len() as u64, "entry");
        lines.push(match dry_run {
            true => format!("{blocked} would take the place of directories with something in them"),
            false => format!("{blocked} could NOT be restored: directories with something in them have their places"),
        });
    }
    if !report.damaged.is_empty() {
        lines.push(format!("{} could NOT be restored whole", output::count(report.damaged.len() as u64, "file")));
    }
    lines.push(format!("duration {}", output::duration(elapsed)));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Problems;

    #[test]
    fn a_full_target_is_one_sentence_that_says_what_to_do() {
        let report = RestoreReport {
            written_files: 270,
            linked_files: 7,
            failed_files: 4_256,
            no_room_files: 4_256,
            problems: Problems { missing: 1, ..Problems::default() },
            written_bytes: 9 << 20,
            ..RestoreReport::default()
        };
        assert_eq!(
            lines(&report, 0, false, Duration::ZERO)[..3],
            [
                "277 files restored, 9.00 MiB",
                "1 problem, named above",
                "the target is full: 277 of 4 533 files are there; make room and run it again, it goes on from there",
            ]
        );
    }

    #[test]
    fn what_is_asked_counts_what_would_go() {
        assert_eq!(what_to_remove(2, 31), "remove 2 entries, 31 files in all? [y/N] ");
    }

    #[test]
    fn what_is_as_it_should_be_is_two_lines() {
        let report = RestoreReport { written_files: 1, written_bytes: 2, ..RestoreReport::default() };
        assert_eq!(lines(&report, 0, false, Duration::ZERO), ["1 file restored, 2 B", "duration 0.0 s"]);
    }
}
