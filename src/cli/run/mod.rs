//! `coffre run`: jobs of the configuration, one after the other or several side by side, and then what is due with their repositories ([`due`]).
//!
//! A job that fails by what may be over soon (an outage, a dump) is tried again for as long as was asked for. Hooks run around all of that.
//! What became of each step is a [`StepEnded`].

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;

use crate::cancel::Cancel;
use crate::cli::backup::{BackedUp, TriedBackup, back_up, put_on_record};
use crate::cli::config::Configuration;
use crate::cli::environment::Environment;
use crate::cli::exit::{Exit, usage};
use crate::cli::failure::{Failure, Fallible};
use crate::cli::flags::duration;
use crate::cli::output::OfRun;
use crate::cli::run::hooks::{HookFacts, HookTime, Hooks};
use crate::cli::run::last_words::LastWords;
use crate::cli::run::locks::RunLocks;
use crate::cli::run::metrics::{KnownNames, RunMetrics};
use crate::cli::run::niceness::{IoClass, stand_back};
use crate::cli::run::step::{Step, StepDone, StepEnded};
use crate::cli::run::under_way::{ManagerTold, UnderWay};
use crate::cli::run::watchers::Deliveries;
use crate::cli::settings::Settings;
use crate::cli::signals::{before_exit, cancel_on_signals, unless_over};
use crate::cli::streams;
use crate::cli::{Verb, backup, command, events, output, report, settled};
use crate::model::outcome::{Ended, Outcome};
use crate::model::time::{Clock, Timestamp};
use crate::process::own::host_name;
use crate::store::OpenMode;

mod due;
pub mod hooks;
mod last_words;
mod locks;
mod metrics;
mod niceness;
mod notify;
mod run_id;
mod step;
mod told;
mod under_way;
pub mod watchers;

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

Jobs are those of the configuration (`coffre config example`). After them, what is due with their repositories is done: `forget`, `prune` and \
`verify`, as often as `every` of their tables says, by when any machine did them last; not where the key reads nothing. Each is told in a line, one that fails is told with why, and the others \
go on; with -q those that went well are not told. The exit code is that of the worst: damage, else the first failure, else 3 where \
something was amiss. With --retry-for, a job that failed by an outage or by a dump is tried again until that time is over. On one host, one run at a time backs up into a repository: a second one ends with exit code 11, and runs no hook but that for failures. \
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
    /// Write metrics of jobs and runs into this file, for Prometheus' node exporter
    #[arg(long, value_name = "FILE")]
    metrics_file: Option<PathBuf>,
    /// Accept what the jobs find odd, now or before: their snapshots are not flagged, and the next ones are compared with them
    #[arg(long)]
    accept_anomalies: bool,
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
    metrics: Arc<RunMetrics>,
    deliveries: Arc<Deliveries>,
    /// What is told of the run as a whole.
    log: Arc<Mutex<Vec<String>>>,
}

/// A job with what the options that were typed and the configuration say for it, or why that cannot be meant.
struct SaidJob {
    name: String,
    said: Fallible<SettledJob>,
}

/// What a job is run with.
struct SettledJob {
    settings: Settings,
    backup: backup::Args,
    commands: Vec<streams::Command>,
}

impl SaidJob {
    fn of(global: &Settings, name: String) -> Self {
        Self { said: settled_job(global, &name), name }
    }

    fn settings(&self) -> Option<&Settings> {
        self.said.as_ref().ok().map(|said| &said.settings)
    }
}

/// Runs the jobs, and tells whoever is to hear of it how it went, whether it began or not.
pub async fn run(global: &Settings, args: Args) -> Fallible<Exit> {
    let config = &global.configured.config;
    let work = config
        .repository_names()
        .flat_map(|name| config.every(name).into_iter().map(|(kind, _)| (name.to_owned(), kind)));
    let known = KnownNames { jobs: config.job_names().map(str::to_owned).collect(), work: work.collect() };
    let metrics = Arc::new(RunMetrics::begin(args.metrics_file.clone(), Some(known)));
    let id = run_id::new();
    let run = Run {
        deliveries: Arc::new(Deliveries::of(id.clone(), host_name(), &global.environment)),
        id,
        cancel: Cancel::default(),
        locks: RunLocks::default(),
        under_way: Arc::default(),
        metrics,
        log: Arc::default(),
        global,
        args: &args,
    };
    let last_words = LastWords {
        run: run.id.clone(),
        metrics: Arc::downgrade(&run.metrics),
        deliveries: run.deliveries.clone(),
        under_way: run.under_way.clone(),
        config: config.clone(),
        log: run.log.clone(),
    };
    before_exit(|| last_words.say());
    let done = run.go().await;
    // Whoever says the last words says what the exit code is.
    unless_over().await;
    done
}

/// Tells that a run could not begin because the command line or the configuration is wrong: in the file of metrics, and to those who are
/// told of runs, as far as either is known.
pub async fn failed_to_begin(arguments: &[OsString], environment: &Environment, failure: &Failure) {
    let Ok(matches) = command().ignore_errors(true).try_get_matches_from(arguments) else { return };
    let Some(("run", of_run)) = matches.subcommand() else { return };
    let typed = of_run.try_get_one::<PathBuf>("metrics_file").ok().flatten().cloned();
    let asked = matches.try_get_one::<PathBuf>("config").ok().flatten().filter(|path| !path.as_os_str().is_empty());
    let asked = asked.map(PathBuf::as_path);
    let path = typed.or_else(|| Configuration::metrics_file(asked, environment));
    RunMetrics::begin(path, None).ended(failure.outcome().into());
    let id = run_id::new();
    let deliveries = Deliveries::of(id.clone(), host_name(), environment);
    let watchers = Configuration::watchers_of_wrong(asked, environment);
    deliveries.begins(None, watchers).ends(|| told::not_begun(&id, failure));
    let is_json = matches.try_get_one::<bool>("json").ok().flatten().copied().unwrap_or_default();
    tell_untold(&deliveries.all_told().await, &id, is_json);
}

/// Says what could not be told to others.
fn tell_untold(untold: &[String], run: &str, is_json: bool) {
    for message in untold {
        let of = OfRun { run: run.to_owned(), job: None };
        match is_json {
            true => output::json_of(&events::Warning { message, subject: "watch" }, Some(&of)),
            false => output::say(&format!("watch: {message}")),
        }
    }
}

impl Run<'_> {
    /// Runs the jobs, and tells how that ended.
    async fn go(mut self) -> Fallible<Exit> {
        let told = self.deliveries.begins(None, self.global.configured.config.watchers(None));
        let done = self.all().await;
        let outcome = done.as_ref().map_or_else(Failure::outcome, |outcome| *outcome);
        self.metrics.ended(outcome.into());
        told.ends(|| self.end_word(&done, outcome));
        let mut untold = self.deliveries.all_told().await;
        if let Some((path, error)) = self.metrics.take_failure() {
            untold.push(format!("the metrics could not be written to {}: {error}", path.display()));
        }
        tell_untold(&untold, &self.id, self.global.json);
        done.map(Exit::from)
    }

    /// Begins, and runs the jobs.
    async fn all(&mut self) -> Fallible<Outcome> {
        let (global, args) = (self.global, self.args);
        let repositories = due::repositories(global, &args.names);
        let jobs = jobs(global, &args.names)?;
        let monitor = global.monitor();
        self.cancel = cancel_on_signals(&monitor)?;
        self.under_way.expects(jobs.len());
        let _telling = ManagerTold::begin(self.under_way.clone(), &global.environment);
        if let Err(error) = stand_back(args.nice, args.ionice) {
            monitor.note(&format!("the run cannot stand back behind others: {error}"));
        }
        if global.json {
            output::json(&events::RunBegun { jobs: &jobs, run: &self.id });
        }
        if let Some(limit) = args.jitter {
            let pause = run_id::within(limit);
            monitor.note(&format!("beginning in {}", output::duration(pause)));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.cancel.asked() => return Ok(Outcome::Interrupted),
            }
        }
        let worst = self.each_job(jobs).await;
        self.locks = RunLocks::default();
        match worst {
            Outcome::Interrupted => Ok(Outcome::Interrupted),
            worst => Ok(self.work(&repositories, worst).await),
        }
    }

    /// Runs jobs and returns how the worst ended: first those of repositories that no other run of this host has, then the others, when
    /// these have waited long enough.
    async fn each_job(&mut self, jobs: Vec<String>) -> Outcome {
        let wait = self.args.wait.unwrap_or_default();
        let jobs: Vec<SaidJob> = jobs.into_iter().map(|name| SaidJob::of(self.global, name)).collect();
        // Those of which what is said is wrong tell so themselves.
        self.locks = RunLocks::take(jobs.iter().filter_map(SaidJob::settings), Duration::ZERO, &self.cancel).await;
        let is_later = |job: &SaidJob| !wait.is_zero() && job.settings().is_some_and(|it| self.locks.is_taken(it));
        let (later, now): (Vec<_>, Vec<_>) = jobs.into_iter().partition(is_later);
        let worst = self.jobs(now).await;
        if worst == Outcome::Interrupted || later.is_empty() {
            return worst;
        }
        // Who waits keeps nobody waiting.
        self.locks = RunLocks::default();
        self.locks = RunLocks::take(later.iter().filter_map(SaidJob::settings), wait, &self.cancel).await;
        match self.jobs(later).await {
            Outcome::Interrupted => Outcome::Interrupted,
            outcome => worst.or_worse(outcome),
        }
    }

    /// Runs jobs, as many at the same time as was asked for, and returns how the worst ended.
    async fn jobs(&self, jobs: Vec<SaidJob>) -> Outcome {
        let running = jobs.into_iter().map(|job| async move {
            // Those that did not begin when ending was asked for do not begin any more.
            if self.cancel.is_cancelled() { None } else { Some(self.with_hooks(job).await) }
        });
        let mut running = stream::iter(running).buffer_unordered(self.args.side_by_side.into());
        let (mut worst, mut is_interrupted) = (Outcome::Clean, false);
        while let Some(ended) = running.next().await {
            let Some(ended) = ended else {
                is_interrupted = true;
                continue;
            };
            self.tell(&ended);
            is_interrupted |= ended.outcome() == Outcome::Interrupted;
            worst = worst.or_worse(ended.outcome());
        }
        if is_interrupted { Outcome::Interrupted } else { worst }
    }

    /// Runs one job with its hooks.
    async fn with_hooks(&self, SaidJob { name, said }: SaidJob) -> StepEnded {
        let (job, started, begun) = (name.as_str(), Clock::System.now(), Instant::now());
        let hooks = self.global.configured.config.hooks(job);
        let _under_way = self.under_way.job(job);
        let told = self.deliveries.begins(Some(job), self.global.configured.config.watchers(Some(job)));
        self.metrics.job_begins(job);
        let mut facts = HookFacts { job: job.to_owned(), outcome: None, snapshot: None, error: None };
        // Where another run is at it, its hooks have prepared the host for it, and nothing may be tidied up yet.
        let allowed = said.and_then(|said| self.locks.allow(&said.settings).map(|()| said));
        let (done, has_begun) = match allowed {
            Err(failure) => (Err(failure), false),
            Ok(said) => match hooks.run(HookTime::Before, &facts, &self.cancel).await {
                Ok(()) => (self.tried(job, said).await, true),
                Err(failure) => (Err(self.not_begun(job, said, started, failure).await), false),
            },
        };
        let done = done.map(|done| StepDone::BackedUp(Box::new(done)));
        let mut ended = StepEnded::of(Step::Job(job.to_owned()), begun, done);
        let outcome = ended.outcome();
        facts.outcome = Some((outcome, Exit::from(outcome) as u8));
        facts.snapshot = ended.snapshot().map(|snapshot| snapshot.to_string());
        facts.error = ended.done.as_ref().err().map(|failure| failure.told().join(": "));
        if self.under_way.tells(job, outcome) {
            ended.of_hooks = after(&hooks, &facts, has_begun, ended.done.is_ok()).await;
        }
        let outcome = ended.outcome();
        self.metrics.job_ended(job, outcome.into(), ended.figures());
        told.ends(|| self.job_word(job, &ended));
        ended
    }

    /// Puts on record that a job did not begin, if its repository can be had.
    async fn not_begun(&self, job: &str, said: SettledJob, started: Timestamp, failure: Failure) -> Failure {
        let SettledJob { mut settings, backup, .. } = said;
        settings.belong_to(self.of(Some(job)), self.args.side_by_side > 1);
        let monitor = settings.monitor();
        let repository = settings.repository(OpenMode::Write, &monitor).await.ok();
        let tried = TriedBackup { done: Err(failure), repository, host: backup.host_name(), started };
        let ended = put_on_record(tried, job, &monitor).await;
        settings.end_showing();
        ended.err().expect("it failed")
    }

    /// Runs one job, and again while it fails by what may be over soon and there is time.
    async fn tried(&self, job: &str, mut said: SettledJob) -> Fallible<BackedUp> {
        let until = Instant::now() + self.args.retry_for.unwrap_or_default();
        let mut pause = PAUSE;
        loop {
            let SettledJob { mut settings, mut backup, commands } = said;
            if self.args.accept_anomalies {
                backup.accept_anomalies();
            }
            settings.belong_to(self.of(Some(job)), self.args.side_by_side > 1);
            let monitor = settings.monitor();
            self.under_way.is_shown_by(job, &monitor);
            let tried = back_up(&settings, backup, commands).await;
            let again = tried.done.as_ref().err().filter(|failure| {
                let may_be_over = matches!(failure.outcome(), Outcome::Unreachable | Outcome::FailedDump);
                may_be_over && Instant::now() + pause < until
            });
            let Some(failure) = again else {
                let done = put_on_record(tried, job, &monitor).await;
                settings.end_showing();
                return done;
            };
            let why = failure.told().join(": ");
            settings.end_showing();
            monitor.note(&format!("job {job} failed ({why}) and is tried again in {} s", pause.as_secs()));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.cancel.asked() => return Err(Failure::new(Outcome::Interrupted, "interrupted")),
            }
            pause = (2 * pause).min(PAUSE_MAX);
            // A try takes what it is told, and what it shows ends with it.
            said = settled_job(self.global, job)?;
        }
    }

    /// Returns what is told of a job, or of the work behind them, belongs to.
    fn of(&self, job: Option<&str>) -> OfRun {
        OfRun { run: self.id.clone(), job: job.map(str::to_owned) }
    }

    /// Tells how a step ended: in a line, or as objects.
    fn tell(&self, ended: &StepEnded) {
        let global = self.global;
        self.log.lock().expect("no panic while held").extend(ended.all_lines());
        let of = match &ended.step {
            Step::Job(job) => self.of(Some(job)),
            Step::WhatIsDue(_) | Step::Work { .. } => self.of(None),
        };
        if global.json {
            return ended.tell_programs(&of);
        }
        match &ended.done {
            Ok(done) => {
                if ended.outcome() != Outcome::Clean || !global.quiet {
                    output::line(&ended.line());
                    done.tell_what_is_amiss(global.verbose > 0);
                }
            }
            Err(failure) => {
                output::line(&ended.line());
                report::print(failure, false);
            }
        }
        ended.of_hooks.iter().for_each(|failure| {
            report::print(failure, false);
        });
    }
}

/// Returns the jobs that were named, or all. Where there is other work there need not be any.
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
    if jobs.is_empty() && due::repositories(global, named).is_empty() {
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

/// Resolves what is said for all that a run opens: for the jobs that were named, or all, and for what may be due with repositories.
pub fn settings_of_all(global: &Settings, named: &[String]) -> Fallible<Vec<Settings>> {
    let of_jobs = jobs(global, named)?.into_iter().map(|job| Ok(settled_job(global, &job)?.settings));
    let of_work = due::repositories(global, named).into_iter().map(|name| Ok(due::line(global, "status", &name)?.0));
    of_jobs.chain(of_work).collect()
}

/// Resolves what the options that were typed and the configuration say for a job.
fn settled_job(global: &Settings, job: &str) -> Fallible<SettledJob> {
    let mut line = vec![OsString::from("coffre")];
    line.extend(global.configured.typed.iter().cloned());
    line.extend(["backup", "--job", job].map(OsString::from));
    let (settings, verb, commands) = settled(&line, &global.configured.config, &global.environment)?;
    let Verb::Backup(backup) = verb else { unreachable!("it is a backup") };
    Ok(SettledJob { settings, backup, commands })
}
