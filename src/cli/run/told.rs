//! What a run says of its jobs, in lines: on the console, and to those who were not there.

use crate::cli::failure::{Failure, Fallible};
use crate::cli::run::Run;
use crate::cli::run::metrics::StoredFigures;
use crate::cli::run::step::{StepDone, StepEnded};
use crate::cli::run::watchers::EndWord;
use crate::model::outcome::{Ended, Outcome};

/// Returns an error and its causes as lines.
fn lines_of(failure: &Failure) -> Vec<String> {
    let (message, causes) = failure.told().split_first().expect("an error says something");
    let causes = causes.iter().map(|cause| format!("  caused by: {cause}"));
    let hint = failure.hint().map(|hint| format!("hint: {hint}"));
    [format!("error: {message}")].into_iter().chain(causes).chain(hint).collect()
}

/// Returns that a run did not begin, and why, for those who were not there.
pub(super) fn not_begun(run: &str, failure: &Failure) -> EndWord {
    let summary = format!("the run did not begin: {}", failure.told().join(": "));
    EndWord { run: run.to_owned(), job: None, outcome: failure.outcome(), summary, log: lines_of(failure) }
}

impl StepEnded {
    /// Returns what was stored, for metrics.
    pub(super) fn figures(&self) -> Option<StoredFigures> {
        let Ok(StepDone::BackedUp(done)) = &self.done else { return None };
        let counts = &done.report.counts;
        done.report.snapshot.as_ref().map(|_| StoredFigures {
            seconds: done.elapsed.as_secs_f64(),
            bytes: counts.bytes,
            new_bytes: counts.new_bytes,
            stored_bytes: counts.stored_bytes,
            files: counts.files,
            anomalies: done.report.anomalies.len() as u64,
        })
    }

    /// Returns what is not as it should be, in lines.
    fn lines_amiss(&self) -> Vec<String> {
        let mut lines = match &self.done {
            Ok(StepDone::BackedUp(done)) => {
                let problems = done.report.problems.first.iter().map(ToString::to_string);
                problems.chain(done.what_is_amiss()).collect()
            }
            Ok(StepDone::Verified(done)) => {
                let findings = done.report.findings.iter();
                findings.map(|finding| format!("{}: {}", finding.object, finding.damage)).collect()
            }
            Ok(StepDone::Forgot(_) | StepDone::Pruned(_)) => Vec::new(),
            Err(failure) => lines_of(failure),
        };
        lines.extend(self.of_hooks.iter().flat_map(lines_of));
        lines
    }

    /// Returns how it ended, and what is not as it should be.
    pub(super) fn all_lines(&self) -> Vec<String> {
        [self.line()].into_iter().chain(self.lines_amiss()).collect()
    }
}

impl Run<'_> {
    /// Returns how a job ended, for those who were not there.
    pub(super) fn job_word(&self, job: &str, ended: &StepEnded) -> EndWord {
        let summary = match &ended.done {
            Ok(_) => ended.line(),
            Err(failure) => format!("{}: {}", ended.line(), failure.told().join(": ")),
        };
        let (outcome, log) = (ended.outcome(), ended.lines_amiss());
        EndWord { run: self.id.clone(), job: Some(job.to_owned()), outcome, summary, log }
    }

    /// Returns how the run ended, with what was told of its jobs.
    pub(super) fn end_word(&self, done: &Fallible<Outcome>, outcome: Outcome) -> EndWord {
        let mut log = self.log.lock().expect("no panic while held").clone();
        if let Err(failure) = done {
            log.extend(lines_of(failure));
        }
        let summary = format!("{}: {}", self.under_way.sentence(), outcome.name());
        EndWord { run: self.id.clone(), job: None, outcome, summary, log }
    }
}
