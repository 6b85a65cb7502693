//! `coffre run`: jobs of the configuration, one after the other or several side by side.
//!
//! A job that fails by what may be over soon (an outage, a dump) is tried again for as long as was asked for. Hooks run around all of that.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;

use crate::cancel::Cancel;
use crate::cli::backup::{BackedUp, back_up};
use crate::cli::exit::{Exit, usage};
use crate::cli::failure::{Failure, Fallible};
use crate::cli::flags::duration;
use crate::cli::output::OfRun;
use crate::cli::run::hooks::{HookFacts, HookTime, Hooks};
use crate::cli::run::locks::RunLocks;
use crate::cli::run::niceness::{IoClass, stand_back};
use crate::cli::run::under_way::{Telling, UnderWay};
use crate::cli::settings::Settings;
use crate::cli::signals::cancel_on_signals;
use crate::cli::streams;
use crate::cli::{Verb, backup, events, output, report, settled};
use crate::model::outcome::{Ended, Outcome};
use crate::model::units::ByteSize;

pub mod hooks;
mod locks;
mod niceness;
mod notify;
mod run_id;
mod under_way;

/// The first pause before a job is tried again; each is twice as long as the one before, up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_mins(10);

/// Flags of `run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coffre run
  coffre run nightly hourly
  coffre -q run --wait 2h --retry-for 1h --jitter 15min

Jobs are those of the configuration (`coffre config example`). Each is told in a line, one that fails is told with why, and the others \
go on; with -q those that went well are not told. The exit code is that of the worst: damage, else the first failure, else 3 where \
something was amiss. With --retry-for, a job that failed by an outage or by a dump is tried again until that time is over. On one host, one run at a time backs up into a repository: a second one ends with exit code 11. \
Each job of --jobs takes the memory of --memory. What a run is asked for every time stands in the table [run] of the configuration.")]
pub struct Args {
    /// Jobs [default: all of the configuration, in order of their names]
    #[arg(value_name = "JOB")]
    names: Vec<String>,
    /// Jobs that run at the same time
    #[arg(long = "jobs", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    side_by_side: u16,
    /// Wait this long for another run of this host, such as 30min
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    wait: Option<Duration>,
    /// Try a job again that failed by an outage or a dump, for this long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    retry_for: Option<Duration>,
    /// Begin at some moment within this time, so that many hosts do not begin at once
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    jitter: Option<Duration>,
    /// Let others have the processor first, as nice(1) does
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..=19))]
    nice: Option<i32>,
    /// Let others have the disks first, as ionice(1) does
    #[arg(long, value_name = "CLASS", value_enum)]
    ionice: Option<IoClass>,
}

/// A run that has begun: what its jobs have in common.
struct Run<'a> {
    global: &'a Settings,
    args: &'a Args,
    /// Names it in what it tells.
    id: String,
    /// Asked for by whoever ends it.
    cancel: Cancel,
    locks: RunLocks,
    under_way: Arc<UnderWay>,
}

/// A job that ended: what it did, or why it failed, and what its hooks have to say.
struct JobEnded {
    done: Fallible<BackedUp>,
    of_hooks: Vec<Failure>,
}

impl Ended for JobEnded {
    fn outcome(&self) -> Outcome {
        let outcome = match &self.done {
            Ok(done) => done.report.outcome(),
            Err(failure) => failure.outcome(),
        };
        // What a hook could not do takes nothing from what is stored.
        if self.of_hooks.is_empty() { outcome } else { outcome.or_worse(Outcome::Incomplete) }
    }
}

/// Runs the jobs.
pub async fn run(global: &Settings, args: Args) -> Fallible<Exit> {
    let jobs = jobs(global, &args.names)?;
    let monitor = global.monitor();
    let cancel = cancel_on_signals(&monitor)?;
    let id = run_id::new();
    let under_way = UnderWay::of(jobs.len());
    let _telling = Telling::begin(under_way.clone(), &global.environment);
    if let Err(error) = stand_back(args.nice, args.ionice) {
        monitor.note(&format!("the run cannot stand back behind others: {error}"));
    }
    if global.json {
        output::json(&events::RunBegun { jobs: &jobs, run: &id });
    }
    if let Some(limit) = args.jitter {
        let pause = run_id::within(limit);
        monitor.note(&format!("beginning in {}", output::duration(pause)));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = cancel.asked() => return Ok(Exit::Interrupted),
        }
    }
    let settings: Vec<Settings> = jobs.iter().filter_map(|job| Some(settled_job(global, job).ok()?.0)).collect();
    let locks = RunLocks::take(settings.iter(), args.wait.unwrap_or_default(), &cancel).await;
    let run = Run { global, args: &args, id, cancel, locks, under_way };
    Ok(run.jobs(&jobs).await.into())
}

impl Run<'_> {
    /// Runs jobs, as many at the same time as was asked for, and returns how the worst ended.
    async fn jobs(&self, jobs: &[String]) -> Outcome {
        let running = jobs.iter().map(|job| async move {
            // Those that did not begin when ending was asked for do not begin any more.
            if self.cancel.is_cancelled() { None } else { Some((job, self.with_hooks(job).await)) }
        });
        let mut running = stream::iter(running).buffer_unordered(self.args.side_by_side.into());
        let (mut worst, mut is_interrupted) = (Outcome::Clean, false);
        while let Some(ended) = running.next().await {
            let Some((job, ended)) = ended else {
                is_interrupted = true;
                continue;
            };
            self.tell(job, &ended);
            is_interrupted |= ended.outcome() == Outcome::Interrupted;
            worst = worst.or_worse(ended.outcome());
        }
        if is_interrupted { Outcome::Interrupted } else { worst }
    }

    /// Runs one job with its hooks.
    async fn with_hooks(&self, job: &str) -> JobEnded {
        let hooks = self.global.configured.config.hooks(job);
        let _under_way = self.under_way.job(job);
        let mut facts = HookFacts { job: job.to_owned(), outcome: None, snapshot: None, error: None };
        let (done, has_begun) = match hooks.run(HookTime::Before, &facts, &self.cancel).await {
            Ok(()) => (self.tried(job).await, true),
            Err(failure) => (Err(failure), false),
        };
        let mut ended = JobEnded { done, of_hooks: Vec::new() };
        let outcome = ended.outcome();
        facts.outcome = Some((outcome, Exit::from(outcome) as u8));
        match &ended.done {
            Ok(done) => facts.snapshot = done.report.snapshot.as_ref().map(|snapshot| snapshot.id.to_string()),
            Err(failure) => facts.error = Some(failure.told().join(": ")),
        }
        ended.of_hooks = after(&hooks, &facts, has_begun, ended.done.is_ok()).await;
        ended
    }

    /// Runs one job, and again while it fails by what may be over soon and there is time.
    async fn tried(&self, job: &str) -> Fallible<BackedUp> {
        let until = Instant::now() + self.args.retry_for.unwrap_or_default();
        let mut pause = PAUSE;
        loop {
            let (mut settings, backup, commands) = settled_job(self.global, job)?;
            self.locks.allow(&settings)?;
            settings.belong_to(self.of(job), self.args.side_by_side > 1);
            let monitor = settings.monitor();
            self.under_way.is_shown_by(job, &monitor);
            let done = back_up(&settings, backup, commands).await;
            settings.end_showing();
            let Err(failure) = &done else { return done };
            let may_be_over = matches!(failure.outcome(), Outcome::Unreachable | Outcome::FailedDump);
            if !may_be_over || Instant::now() + pause >= until {
                return done;
            }
            let why = failure.told().join(": ");
            monitor.note(&format!("job {job} failed ({why}) and is tried again in {} s", pause.as_secs()));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.cancel.asked() => return Err(Failure::new(Outcome::Interrupted, "interrupted")),
            }
            pause = (2 * pause).min(PAUSE_MAX);
        }
    }

    /// Returns what is told of a job belongs to.
    fn of(&self, job: &str) -> OfRun {
        OfRun { run: self.id.clone(), job: Some(job.to_owned()) }
    }

    /// Tells how a job ended, in a line.
    fn tell(&self, job: &str, ended: &JobEnded) {
        let (global, of) = (self.global, self.of(job));
        let of = Some(&of);
        let outcome = ended.outcome();
        match &ended.done {
            Ok(done) if global.json => output::json_of(&done.summary(), of),
            Ok(done) => {
                if outcome != Outcome::Clean || !global.quiet {
                    output::line(&line_of(job, done, outcome));
                    done.tell_what_is_amiss();
                }
            }
            Err(failure) => {
                if !global.json {
                    output::line(&format!("{job:<16} FAILED"));
                }
                report::print_of(failure, global.json, of);
            }
        }
        for failure in &ended.of_hooks {
            report::print_of(failure, global.json, of);
        }
        if global.json {
            output::json_of(
                &events::JobDone { exit_code: Exit::from(outcome) as u8, job, outcome: outcome.name() },
                of,
            );
        }
    }
}

/// Returns the jobs that were named, or all.
pub fn jobs(global: &Settings, named: &[String]) -> Fallible<Vec<String>> {
    let config = &global.configured.config;
    if let Some(unknown) = named.iter().find(|name| config.job_names().all(|known| known != name.as_str())) {
        let failure = usage(format!("there is no job {unknown:?} in the configuration"));
        return Err(match config.job_like(unknown) {
            Some(near) => failure.hinting(format!("{near:?} is like it")),
            None => failure.hinting("`coffre config check --offline` shows what there is"),
        });
    }
    let jobs: Vec<String> =
        if named.is_empty() { config.job_names().map(str::to_owned).collect() } else { named.to_vec() };
    if jobs.is_empty() {
        return Err(
            usage("which jobs? The configuration has none").hinting("`coffre config example` shows how one is written")
        );
    }
    Ok(jobs)
}

/// Runs the hooks behind a job. Who was asked to end a job still lets it be tidied up after.
async fn after(hooks: &Hooks, facts: &HookFacts, has_begun: bool, is_well: bool) -> Vec<Failure> {
    let by_end = if is_well { HookTime::OnSuccess } else { HookTime::OnFailure };
    let mut failed = Vec::new();
    for time in has_begun.then_some(HookTime::After).into_iter().chain([by_end]) {
        failed.extend(hooks.run(time, facts, &Cancel::default()).await.err());
    }
    failed
}

/// Resolves what the options that were typed and the configuration say for a job.
pub fn settled_job(global: &Settings, job: &str) -> Fallible<(Settings, backup::Args, Vec<streams::Command>)> {
    let mut line = vec![OsString::from("coffre")];
    line.extend(global.configured.typed.iter().cloned());
    line.extend(["backup", "--job", job].map(OsString::from));
    let (settings, verb, commands) = settled(&line, &global.configured.config, &global.environment)?;
    let Verb::Backup(args) = verb else { unreachable!("it is a backup") };
    Ok((settings, args, commands))
}

fn line_of(job: &str, done: &BackedUp, outcome: Outcome) -> String {
    let report = &done.report;
    let snapshot = match &report.snapshot {
        Some(snapshot) => format!("snapshot {}", snapshot.id.short()),
        None => "no snapshot: nothing changed".into(),
    };
    let (all, new) = (ByteSize(report.counts.bytes), ByteSize(report.counts.new_bytes));
    let amiss = if outcome == Outcome::Clean { "" } else { ", with something amiss" };
    format!("{job:<16} {snapshot}: {all}, {new} new, in {}{amiss}", output::duration(done.elapsed))
}
