//! Steps of a run, and what became of each: the one value from which lines, objects, hooks and exit codes are made.

use std::time::{Duration, Instant};

use crate::cli::backup::BackedUp;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Fallible};
use crate::cli::forget::ForgetDone;
use crate::cli::output::OfRun;
use crate::cli::prune::PruneDone;
use crate::cli::verify::VerifyDone;
use crate::cli::{events, findings, output, report};
use crate::model::outcome::{Ended, Outcome};
use crate::model::run::RunKind;
use crate::model::snapshot::SnapshotId;
use crate::model::units::ByteSize;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A job, by its name.
    Job(String),
    /// Asking a repository what is due.
    WhatIsDue(String),
    /// Work that was due.
    Work {
        /// The name of the repository.
        repository: String,
        /// What.
        kind: RunKind,
    },
}

/// What a step did.
pub enum StepDone {
    /// A job.
    BackedUp(Box<BackedUp>),
    /// Retention.
    Forgot(Box<ForgetDone>),
    /// Cleaning up.
    Pruned(Box<PruneDone>),
    /// A verification.
    Verified(Box<VerifyDone>),
}

/// A step that ended: what it did, or why it failed, and what its hooks have to say.
pub struct StepEnded {
    /// The step.
    pub step: Step,
    /// How long it took, waiting and trying again included.
    pub elapsed: Duration,
    /// What it did.
    pub done: Fallible<StepDone>,
    /// Hooks that failed.
    pub of_hooks: Vec<Failure>,
}

impl Step {
    /// Returns the job's or the repository's name.
    pub fn name(&self) -> &str {
        match self {
            Step::Job(name) | Step::WhatIsDue(name) | Step::Work { repository: name, .. } => name,
        }
    }
}

impl StepDone {
    /// Tells people what is not as it should be, below the line of the step.
    pub fn tell_what_is_amiss(&self, is_verbose: bool) {
        match self {
            StepDone::BackedUp(done) => done.tell_what_is_amiss(),
            StepDone::Forgot(_) => {}
            StepDone::Pruned(done) => done.tell_unfinished(),
            StepDone::Verified(done) => findings::print(&done.report.findings, is_verbose),
        }
    }
}

impl Ended for StepDone {
    fn outcome(&self) -> Outcome {
        match self {
            StepDone::BackedUp(done) => done.report.outcome(),
            StepDone::Forgot(done) => done.outcome(),
            StepDone::Pruned(done) => done.report.outcome(),
            StepDone::Verified(done) => done.report.outcome(),
        }
    }
}

impl Ended for StepEnded {
    fn outcome(&self) -> Outcome {
        let outcome = match &self.done {
            Ok(done) => done.outcome(),
            Err(failure) => failure.outcome(),
        };
        // What a hook could not do takes nothing from what is stored.
        if self.of_hooks.is_empty() { outcome } else { outcome.or_worse(Outcome::Incomplete) }
    }
}

impl StepEnded {
    /// Makes one that began then and ends now.
    pub fn of(step: Step, begun: Instant, done: Fallible<StepDone>) -> Self {
        Self { step, elapsed: begun.elapsed(), done, of_hooks: Vec::new() }
    }

    /// Returns the snapshot that it made, if it made one.
    pub fn snapshot(&self) -> Option<SnapshotId> {
        match &self.done {
            Ok(StepDone::BackedUp(done)) => done.report.snapshot.as_ref().map(|snapshot| snapshot.id),
            Ok(_) | Err(_) => None,
        }
    }

    /// Tells programs what was done, as its command does, and how it ended.
    pub fn tell_programs(&self, of: &OfRun) {
        let of = Some(of);
        match &self.done {
            Ok(StepDone::BackedUp(done)) => output::json_of(&done.summary(), of),
            Ok(StepDone::Forgot(done)) => output::json_of(&done.summary(), of),
            Ok(StepDone::Pruned(done)) => output::json_of(&done.summary(), of),
            Ok(StepDone::Verified(done)) => done.tell_programs(of),
            Err(failure) => drop(report::print_of(failure, true, of)),
        }
        for failure in &self.of_hooks {
            report::print_of(failure, true, of);
        }
        let (exit_code, outcome) = (Exit::from(self.outcome()) as u8, self.outcome().name());
        let work = |repository, work| events::WorkDone { exit_code, outcome, repository, work };
        match &self.step {
            Step::Job(job) => output::json_of(&events::JobDone { exit_code, job, outcome }, of),
            Step::WhatIsDue(repository) => output::json_of(&work(repository, None), of),
            Step::Work { repository, kind } => output::json_of(&work(repository, Some(kind.name())), of),
        }
    }

    /// Says in a line what was done.
    pub fn line(&self) -> String {
        let name = self.step.name();
        let took = output::duration(self.elapsed);
        let amiss = if self.outcome() == Outcome::Clean { "" } else { ", with something amiss" };
        let said = match &self.done {
            Ok(StepDone::BackedUp(done)) => return backed_up(name, done, amiss),
            Ok(StepDone::Forgot(done)) => {
                let going = output::count(done.plan.going().count() as u64, "snapshot");
                format!("forget: {going} forgotten, {} kept", output::grouped(done.plan.staying() as u64))
            }
            Ok(StepDone::Pruned(done)) => {
                let packs = output::count(done.report.deleted_packs, "pack");
                format!("prune: {packs} deleted, {}", ByteSize(done.report.deleted_bytes))
            }
            Ok(StepDone::Verified(done)) => {
                let report = &done.report;
                let of = output::count(report.packs, "pack");
                let read =
                    format!("{} of {of} read, {}", output::grouped(report.packs_read), ByteSize(report.bytes_read));
                match report.findings.len() as u64 {
                    0 => format!("verify: {read}, clean"),
                    found => return format!("{name:<16} verify: {read}, DAMAGED: {}", output::count(found, "finding")),
                }
            }
            Err(_) => {
                let what = match &self.step {
                    Step::Job(_) => String::new(),
                    Step::WhatIsDue(_) => "asking what is due: ".into(),
                    Step::Work { kind, .. } => format!("{kind}: "),
                };
                return format!("{name:<16} {what}FAILED");
            }
        };
        format!("{name:<16} {said}, in {took}{amiss}")
    }
}

fn backed_up(job: &str, done: &BackedUp, amiss: &str) -> String {
    let report = &done.report;
    let snapshot = match &report.snapshot {
        Some(snapshot) => format!("snapshot {}", snapshot.id.short()),
        None => "no snapshot: nothing changed".into(),
    };
    let (all, new) = (ByteSize(report.counts.bytes), ByteSize(report.counts.new_bytes));
    format!("{job:<16} {snapshot}: {all}, {new} new, in {}{amiss}", output::duration(done.elapsed))
}
