//! Putting runs on record: what ran and how it ended, as far as nothing else that is stored says it.
//!
//! A backup that made a snapshot needs none. That a run cannot be put on record takes nothing from it: it is a note.

use std::sync::Arc;

use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::progress::ConsoleMonitor;
use crate::model::outcome::{Ended, Outcome};
use crate::model::run::{RunKind, RunRecord};
use crate::model::time::{Clock, Timestamp};
use crate::process::own::{PROGRAM, host_name};
use crate::progress::{Monitor, Problem, chain};
use crate::repository::Repository;

/// Makes the record of a run of this host that ends now.
pub fn of<R: Ended>(kind: RunKind, started: Timestamp, ended: Result<&R, &Failure>) -> RunRecord {
    let outcome = match ended {
        Ok(report) => report.outcome(),
        Err(failure) => failure.outcome(),
    };
    let mut record = RunRecord::new(kind, (started, Clock::System.now()), host_name(), outcome);
    (record.program, record.exit_code) = (PROGRAM.to_owned(), Exit::from(outcome) as u8);
    if let Err(failure) = ended {
        record.failed_by(&failure.told().join(": "));
    }
    record
}

/// Puts a run on record, unless it says nothing: somebody ended it, it made no sense, or nothing can be stored.
pub async fn put(repository: &Arc<Repository>, record: RunRecord, monitor: &ConsoleMonitor) {
    use Outcome::{Busy, Interrupted, NoRepository, Unreachable, Usage, WrongKey};
    if matches!(record.outcome(), Busy | Interrupted | NoRepository | Unreachable | Usage | WrongKey) {
        return;
    }
    monitor.phase("putting the run on record");
    // Who hears that a run failed need not hear besides that nobody else does.
    let is_worth_a_note = record.is_done();
    let noted = match repository.writing() {
        Ok(writing) => writing.note_run(record).await.map_err(|error| chain(&error)),
        Err(error) => Err(chain(&error)),
    };
    if let Err(why) = noted
        && is_worth_a_note
    {
        let note = Problem::advice(
            "evidence/",
            format!("this run is not on record, so `coffre status` does not know of it: {why}"),
        );
        Monitor::note(monitor, note);
    }
}
