//! `coffre run`: jobs of the configuration, one after the other.
//!
//! A job that fails by what may be over soon (an outage, a dump) is tried again for as long as was asked for. Hooks run around all of that.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::cli::backup::{BackedUp, back_up};
use crate::cli::exit::{Exit, usage};
use crate::cli::failure::{Context, Failure, Fallible};
use crate::cli::flags::duration;
use crate::cli::run::hooks::{HookFacts, HookTime, Hooks};
use crate::cli::settings::Settings;
use crate::cli::signals::cancel_on_signals;
use crate::cli::streams;
use crate::cli::{Verb, backup, events, output, report, settled};
use crate::model::outcome::{Ended, Outcome};
use crate::model::units::ByteSize;

pub mod hooks;

/// The first pause before a job is tried again; each is twice as long as the one before, up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_mins(10);
/// How often is looked whether another run has ended.
const POLL: Duration = Duration::from_millis(200);

/// Flags of `run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coffre run
  coffre run nightly hourly
  coffre -q run --wait 2h --retry-for 1h

Jobs are those of the configuration (`coffre config example`). Each is told in a line, one that fails is told with why, and the others \
go on; with -q those that went well are not told. The exit code is that of the worst: damage, else the first failure, else 3 where \
something was amiss. With --retry-for, a job that failed by an outage or by a dump is tried again until that time is over. On one host, one run at a time backs up into a repository: a second one ends with exit code 11.")]
pub struct Args {
    /// Jobs [default: all of the configuration, in order of their names]
    jobs: Vec<String>,
    /// Wait this long for another run of this host, such as 30min
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    wait: Option<Duration>,
    /// Try a job again that failed by an outage or a dump, for this long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    retry_for: Option<Duration>,
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
    let jobs = jobs(global, &args.jobs)?;
    let mut worst = Outcome::Clean;
    for job in jobs {
        let ended = with_hooks(global, &job, &args).await;
        tell(global, &job, &ended);
        worst = worst.or_worse(ended.outcome());
        if ended.outcome() == Outcome::Interrupted {
            return Ok(Outcome::Interrupted.into());
        }
    }
    Ok(worst.into())
}

/// Returns the jobs that were named, or all.
fn jobs(global: &Settings, named: &[String]) -> Fallible<Vec<String>> {
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

/// Runs one job with its hooks.
async fn with_hooks(global: &Settings, job: &str, args: &Args) -> JobEnded {
    let hooks = global.configured.config.hooks(job);
    let cancel = match cancel_on_signals(&global.monitor()) {
        Ok(cancel) => cancel,
        Err(failure) => return JobEnded { done: Err(failure), of_hooks: Vec::new() },
    };
    let mut facts = HookFacts { job: job.to_owned(), outcome: None, snapshot: None, error: None };
    let (done, has_begun) = match hooks.run(HookTime::Before, &facts, &cancel).await {
        Ok(()) => (tried(global, job, args).await, true),
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

/// Runs the hooks behind a job. Who was asked to end a job still lets it be tidied up after.
async fn after(hooks: &Hooks, facts: &HookFacts, has_begun: bool, is_well: bool) -> Vec<Failure> {
    let by_end = if is_well { HookTime::OnSuccess } else { HookTime::OnFailure };
    let mut failed = Vec::new();
    for time in has_begun.then_some(HookTime::After).into_iter().chain([by_end]) {
        failed.extend(hooks.run(time, facts, &Cancel::default()).await.err());
    }
    failed
}

/// Runs one job, and again while it fails by what may be over soon and there is time.
async fn tried(global: &Settings, job: &str, args: &Args) -> Fallible<BackedUp> {
    let until = Instant::now() + args.retry_for.unwrap_or_default();
    let mut pause = PAUSE;
    loop {
        let (settings, backup, commands) = settled_job(global, job)?;
        let _alone = alone(&settings, args.wait).await?;
        let done = back_up(&settings, backup, commands).await;
        settings.end_showing();
        let Err(failure) = &done else { return done };
        let may_be_over = matches!(failure.outcome(), Outcome::Unreachable | Outcome::FailedDump);
        if !may_be_over || Instant::now() + pause >= until {
            return done;
        }
        let why = failure.told().join(": ");
        let monitor = settings.monitor();
        monitor.note(&format!("job {job} failed ({why}) and is tried again in {} s", pause.as_secs()));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = monitor.cancel().asked() => return Err(Failure::new(Outcome::Interrupted, "interrupted")),
        }
        pause = (2 * pause).min(PAUSE_MAX);
    }
}

/// Resolves what the options that were typed and the configuration say for a job.
fn settled_job(global: &Settings, job: &str) -> Fallible<(Settings, backup::Args, Vec<streams::Command>)> {
    let mut line = vec![OsString::from("coffre")];
    line.extend(global.configured.typed.iter().cloned());
    line.extend(["backup", "--job", job].map(OsString::from));
    let (settings, verb, commands) = settled(&line, &global.configured.config, &global.environment)?;
    let Verb::Backup(args) = verb else { unreachable!("it is a backup") };
    Ok((settings, args, commands))
}

/// Keeps other runs of this host away from a repository, for as long as what is returned is there.
async fn alone(settings: &Settings, wait: Option<Duration>) -> Fallible<Option<File>> {
    // Without a directory there is nothing to be locked, and two runs at once harm nothing.
    let Some(state) = &settings.places.state else { return Ok(None) };
    let location = settings.location()?.canonical();
    let name = blake3::hash(location.as_bytes()).to_hex()[..16].to_owned();
    let path = state.join("runs").join(format!("{name}.lock"));
    let file = locked_file(&path).context(path.display().to_string())?;
    let until = Instant::now() + wait.unwrap_or_default();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) if Instant::now() < until => tokio::time::sleep(POLL).await,
            Err(TryLockError::WouldBlock) => {
                let failure = Failure::new(Outcome::Busy, format!("another run of this host backs up into {location}"));
                return Err(failure.hinting("--wait DURATION waits for it"));
            }
            // A file system without locks.
            Err(TryLockError::Error(_)) => return Ok(None),
        }
    }
}

fn locked_file(path: &Path) -> std::io::Result<File> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    OpenOptions::new().create(true).truncate(false).write(true).open(path)
}

/// Tells how a job ended, in a line.
fn tell(global: &Settings, job: &str, ended: &JobEnded) {
    let outcome = ended.outcome();
    match &ended.done {
        Ok(done) if global.json => output::json(&done.summary()),
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
            report::print(failure, global.json);
        }
    }
    for failure in &ended.of_hooks {
        report::print(failure, global.json);
    }
    if global.json {
        output::json(&events::JobDone { exit_code: Exit::from(outcome) as u8, job, outcome: outcome.name() });
    }
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
