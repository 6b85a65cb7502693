//! What is due with the repositories of the configuration when the jobs are done: retention, cleaning up, verification.
//!
//! When each was done last is asked of the repository, so it does not matter which machine did it. A host whose key reads nothing does
//! none of it, and says nothing: `coffre config check` does.

use std::ffi::OsString;
use std::time::Instant;

use crate::cli::failure::Fallible;
use crate::cli::run::Run;
use crate::cli::run::locks::WorkLock;
use crate::cli::run::step::{Step, StepDone, StepEnded};
use crate::cli::settings::Settings;
use crate::cli::{Verb, forget, prune, settled, verify};
use crate::model::due::Every;
use crate::model::outcome::{Ended, Outcome};
use crate::model::run::{RunKind, RunRecord};
use crate::model::time::{Clock, Timestamp};
use crate::ops::status::last_done;
use crate::store::OpenMode;

/// Returns the repositories that have work which is done every so often: those of the jobs that were named, or all.
pub(super) fn repositories(global: &Settings, named: &[String]) -> Vec<String> {
    let config = &global.configured.config;
    let is_typed = global.configured.typed.iter().any(is_repo);
    let is_meant = |name: &&str| {
        let of_named = named.is_empty() || named.iter().any(|job| config.repository_of(job) == Some(name));
        let is_typed_one = !is_typed || global.configured.repository.as_deref() == Some(name);
        of_named && is_typed_one && !config.every(name).is_empty()
    };
    config.repository_names().filter(is_meant).map(str::to_owned).collect()
}

/// Tells whether an option that was typed names the repository.
fn is_repo(typed: &OsString) -> bool {
    typed.as_encoded_bytes().starts_with(b"--repo=")
}

/// Resolves what the options that were typed and the configuration say for a command on a repository.
pub(super) fn line(global: &Settings, verb: &str, repository: &str) -> Fallible<(Settings, Verb)> {
    let mut line = vec![OsString::from("coffre")];
    line.extend(global.configured.typed.iter().filter(|typed| !is_repo(typed)).cloned());
    line.extend([verb, "--repo", repository].map(OsString::from));
    let (settings, verb, _) = settled(&line, &global.configured.config, &global.environment)?;
    Ok((settings, verb))
}

/// Work that is due.
struct DueWork {
    kind: RunKind,
    /// When it was begun last that was done.
    last: Option<Timestamp>,
}

impl Run<'_> {
    /// Does what is due with repositories, one after the other, and returns how the worst ended, of what was done `before` as well.
    pub(super) async fn work(&self, repositories: &[String], before: Outcome) -> Outcome {
        let mut worst = before;
        for repository in repositories {
            let begun = Instant::now();
            let said = line(self.global, "status", repository).map(|(settings, _)| settings);
            // Where nothing can be meant there is nothing to be kept from.
            let alone = said.as_ref().map_or_else(|_| Some(WorkLock::default()), WorkLock::take);
            let due = match self.due(repository, said).await {
                Ok(due) => due,
                Err(failure) => {
                    let ended = StepEnded::of(Step::WhatIsDue(repository.clone()), begun, Err(failure));
                    self.tell(&ended);
                    worst = worst.or_worse(ended.outcome());
                    Vec::new()
                }
            };
            if alone.is_none() && !due.is_empty() {
                self.global.monitor().note(&format!("{repository}: another run of this host does what is due"));
                continue;
            }
            for DueWork { kind, last } in due {
                if self.cancel.is_cancelled() {
                    return Outcome::Interrupted;
                }
                let (begun, started) = (Instant::now(), Clock::System.now());
                let done = self.done(repository, &kind, last).await;
                let ended =
                    StepEnded::of(Step::Work { repository: repository.clone(), kind: kind.clone() }, begun, done);
                self.measure(repository, &kind, started, ended.outcome());
                self.tell(&ended);
                worst = worst.or_worse(ended.outcome());
                if ended.outcome() == Outcome::Interrupted {
                    return Outcome::Interrupted;
                }
            }
        }
        worst
    }

    /// Asks a repository what is due, in the order in which it is done.
    async fn due(&self, repository: &str, said: Fallible<Settings>) -> Fallible<Vec<DueWork>> {
        let mut settings = said?;
        settings.belong_to(self.of(None), false);
        let monitor = settings.monitor();
        let last = async {
            let opened = settings.repository(OpenMode::Read, &monitor).await?;
            let Ok(reading) = opened.reading() else { return Ok(None) };
            Ok(Some(last_done(&reading, Clock::System.now()).await?))
        };
        let last: Fallible<_> = last.await;
        settings.end_showing();
        let Some(last) = last? else { return Ok(Vec::new()) };
        let due = |(kind, every): (RunKind, Every)| {
            let done = last.iter().find(|(it, _)| *it == kind).and_then(|(_, run)| run.as_ref());
            self.metrics.work_is_known(repository, &kind, every, done);
            let last = done.map(|run| run.started);
            every.is_due(last, Clock::System.now()).then_some(DueWork { kind, last })
        };
        Ok(self.global.configured.config.every(repository).into_iter().filter_map(due).collect())
    }

    /// Puts into the metrics how work ended that began `started`, and that it was done if it was.
    fn measure(&self, repository: &str, kind: &RunKind, started: Timestamp, outcome: Outcome) {
        self.metrics.work_ended(repository, kind, outcome.into());
        let done = RunRecord::new(kind.clone(), (started, Clock::System.now()), String::new(), outcome);
        let every = self.global.configured.config.every(repository).into_iter().find(|(it, _)| it == kind);
        if let Some((_, every)) = every.filter(|_| done.is_done()) {
            self.metrics.work_is_known(repository, kind, every, Some(&done));
        }
    }

    /// Does one kind of work that was done `last` at that time, as its command does with what the configuration says.
    async fn done(&self, repository: &str, kind: &RunKind, last: Option<Timestamp>) -> Fallible<StepDone> {
        let (mut settings, verb) = line(self.global, kind.name(), repository)?;
        settings.belong_to(self.of(None), false);
        let name = format!("{repository}: {kind}");
        let _under_way = self.under_way.work(&name);
        self.under_way.is_shown_by(&name, &settings.monitor());
        let done = match verb {
            Verb::Forget(args) => {
                forget::as_configured(&settings, args, last).await.map(Box::new).map(StepDone::Forgot)
            }
            Verb::Prune(args) => prune::carry_out(&settings, &args).await.map(Box::new).map(StepDone::Pruned),
            Verb::Verify(args) => verify::carry_out(&settings, &args).await.map(Box::new).map(StepDone::Verified),
            _ => unreachable!("nothing else is done every so often"),
        };
        settings.end_showing();
        done
    }
}
