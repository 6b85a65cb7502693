//! Hooks: commands of a job that run before it, after it, and by how it ended.

use std::ffi::OsString;
use std::io;
use std::time::Duration;

use crate::blocking::blocking;
use crate::cancel::Cancel;
use crate::cli::failure::Failure;
use crate::model::outcome::Outcome;
use crate::process::{CommandOptions, Piped, Process};

/// How long a hook may take, unless the configuration says otherwise.
const TIME_LIMIT: Duration = Duration::from_mins(10);

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HookTime {
    /// Before the job, which does not begin if it fails.
    Before,
    /// After the job, however it ended, if the one before was well.
    After,
    /// After a job that ended well, or with something amiss.
    OnSuccess,
    /// After a job that failed, the hook before it included.
    OnFailure,
}

impl HookTime {
    /// Every time, in order.
    pub const ALL: [HookTime; 4] = [HookTime::Before, HookTime::After, HookTime::OnSuccess, HookTime::OnFailure];

    /// Returns its key in the configuration, which is the hook's `COFFRE_HOOK` as well.
    pub fn name(self) -> &'static str {
        match self {
            HookTime::Before => "before",
            HookTime::After => "after",
            HookTime::OnSuccess => "on-success",
            HookTime::OnFailure => "on-failure",
        }
    }
}

/// The hooks of a job: the words of a command for each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hooks {
    /// The commands.
    pub commands: Vec<(HookTime, Vec<OsString>)>,
    /// How long each may take.
    pub time_limit: Option<Duration>,
}

/// What a hook is told in its environment.
#[derive(Debug, Clone)]
pub struct HookFacts {
    /// The job.
    pub job: String,
    /// How it ended, where it has.
    pub outcome: Option<(Outcome, u8)>,
    /// Its snapshot, if it made one.
    pub snapshot: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

impl HookFacts {
    fn variables(&self, time: HookTime) -> Vec<(OsString, OsString)> {
        let mut variables = vec![("COFFRE_HOOK", time.name().to_owned()), ("COFFRE_JOB", self.job.clone())];
        if let Some((outcome, code)) = self.outcome {
            variables.push(("COFFRE_OUTCOME", outcome.name().to_owned()));
            variables.push(("COFFRE_EXIT_CODE", code.to_string()));
        }
        variables.extend(self.snapshot.clone().map(|snapshot| ("COFFRE_SNAPSHOT", snapshot)));
        variables.extend(self.error.clone().map(|error| ("COFFRE_ERROR", error)));
        variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
    }
}

impl Hooks {
    /// Runs the hook of a time, if there is one, unless ending is asked for.
    pub async fn run(&self, time: HookTime, facts: &HookFacts, cancel: &Cancel) -> Result<(), Failure> {
        let Some((_, words)) = self.commands.iter().find(|(of, _)| *of == time) else { return Ok(()) };
        let (program, arguments) = words.split_first().expect("a command has words");
        let mut options = CommandOptions::new(program, arguments);
        options.environment.extend(facts.variables(time));
        options.joins_output = true;
        options.pass_stderr = true;
        let limit = self.time_limit.unwrap_or(TIME_LIMIT);
        let ending = cancel.child();
        let running = {
            let ending = ending.clone();
            blocking(move || to_its_end(&options, &ending))
        };
        tokio::pin!(running);
        let ended = tokio::select! {
            ended = &mut running => ended,
            () = tokio::time::sleep(limit) => {
                ending.cancel();
                running.await
            }
        };
        let what = format!("the hook {} of job {}", time.name(), facts.job);
        match ended {
            Ok(Some(0)) => Ok(()),
            Ok(Some(status)) => Err(Failure::new(Outcome::Failed, format!("{what} ended with status {status}"))),
            Ok(None) if cancel.is_cancelled() => Err(Failure::new(Outcome::Interrupted, "interrupted")),
            Ok(None) => {
                let why = format!("{what} was ended after {} seconds", limit.as_secs());
                Err(Failure::new(Outcome::Failed, why).hinting("time-limit beside it says how long it may take"))
            }
            Err(error) => Err(Failure::new(Outcome::Failed, format!("{what} could not be run: {error}"))),
        }
    }
}

/// Runs a program and returns its status, or `None` if it was ended because that was asked for.
fn to_its_end(options: &CommandOptions, ending: &Cancel) -> io::Result<Option<i32>> {
    let (mut process, _) = Process::spawn(options, Piped { input: false, output: false })?;
    if !process.ends_unless(ending) {
        process.end();
        return Ok(None);
    }
    Ok(Some(process.wait()?.0.status()))
}
