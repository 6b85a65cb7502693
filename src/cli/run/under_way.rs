//! How far a run is, for whoever asks while it goes on, as the service manager does, or when it is cut off.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::cli::environment::Environment;
use crate::cli::progress::ConsoleMonitor;
use crate::cli::run::notify::ServiceManager;
use crate::model::outcome::Outcome;

/// How often the service manager is told what is done.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// The jobs of a run that have begun.
#[derive(Debug, Default)]
pub struct UnderWay(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Of the run, all in all.
    jobs: usize,
    ended: usize,
    running: Vec<RunningJob>,
}

/// A job that runs, with what shows it, if there is something to show.
#[derive(Debug)]
struct RunningJob {
    name: String,
    monitor: Option<Weak<ConsoleMonitor>>,
    /// Whether somebody tells how it ends: the job itself, or who cuts it off. Of work behind the jobs nobody does.
    is_told: bool,
    /// How it ended, while what follows it goes on: its hooks.
    ended: Option<Outcome>,
}

impl UnderWay {
    /// Says how many jobs the run has.
    pub fn expects(&self, jobs: usize) {
        self.state().jobs = jobs;
    }

    /// Says that a job has begun; it ends when what is returned is dropped.
    pub fn job(&self, name: &str) -> JobUnderWay<'_> {
        self.begin(name, true)
    }

    fn begin(&self, name: &str, is_job: bool) -> JobUnderWay<'_> {
        self.state().running.push(RunningJob { name: name.to_owned(), monitor: None, is_told: !is_job, ended: None });
        JobUnderWay { under_way: self, name: name.to_owned(), counts: is_job.into() }
    }

    /// Says that work behind the jobs has begun, which is none of them; it ends when what is returned is dropped.
    pub fn work(&self, name: &str) -> JobUnderWay<'_> {
        self.begin(name, false)
    }

    /// Says that a job tells how it `ended`. Returns whether it is to: who cut it off does otherwise.
    pub fn tells(&self, name: &str, ended: Outcome) -> bool {
        let mut state = self.state();
        let untold = state.running.iter_mut().find(|job| job.name == name && !job.is_told);
        untold.map(|job| (job.is_told, job.ended) = (true, Some(ended))).is_some()
    }

    /// Returns the jobs that have ended themselves, and how, while what follows them goes on.
    pub fn ended(&self) -> HashMap<String, Outcome> {
        let state = self.state();
        state.running.iter().filter_map(|job| Some((job.name.clone(), job.ended?))).collect()
    }

    /// Returns the jobs of which nobody tells how they end, for whoever does from now on.
    pub fn take_untold(&self) -> Vec<String> {
        let mut state = self.state();
        let untold = state.running.iter_mut().filter(|job| !job.is_told);
        untold
            .map(|job| {
                job.is_told = true;
                job.name.clone()
            })
            .collect()
    }

    /// Says what shows a job.
    pub fn is_shown_by(&self, name: &str, monitor: &Arc<ConsoleMonitor>) {
        if let Some(job) = self.state().running.iter_mut().find(|job| job.name == name) {
            job.monitor = Some(Arc::downgrade(monitor));
        }
    }

    /// Returns how far the run is, in a line.
    pub fn sentence(&self) -> String {
        let state = self.state();
        let mut parts = vec![format!("{} of {} jobs done", state.ended, state.jobs)];
        for job in &state.running {
            let now = job.monitor.as_ref().and_then(Weak::upgrade).map(|monitor| monitor.now());
            parts.push(match now.filter(|now| !now.is_empty()) {
                Some(now) => format!("{}: {now}", job.name),
                None => job.name.clone(),
            });
        }
        parts.join("; ")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while held")
    }
}

/// A job that is under way.
#[must_use]
pub struct JobUnderWay<'u> {
    under_way: &'u UnderWay,
    name: String,
    /// As how many jobs.
    counts: usize,
}

impl Drop for JobUnderWay<'_> {
    fn drop(&mut self) {
        let mut state = self.under_way.state();
        state.running.retain(|job| job.name != self.name);
        state.ended += self.counts;
    }
}

/// Tells the service manager how a run goes, until it is dropped.
#[must_use]
pub struct ManagerTold {
    manager: Option<Arc<ServiceManager>>,
    task: Option<JoinHandle<()>>,
}

impl ManagerTold {
    /// Says that the run has begun, and from then on what it does and that it is alive.
    pub fn begin(under_way: Arc<UnderWay>, environment: &Environment) -> Self {
        let Some(manager) = ServiceManager::of(environment).map(Arc::new) else {
            return Self { manager: None, task: None };
        };
        manager.is_ready();
        let telling = manager.clone();
        let every = manager.alive_every().unwrap_or(STATUS_EVERY).min(STATUS_EVERY).max(Duration::from_millis(1));
        // It shares the threads of everything else: where these hang, nobody says that the run is alive.
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(every);
            loop {
                ticks.tick().await;
                telling.status(&under_way.sentence());
                if telling.alive_every().is_some() {
                    telling.is_alive();
                }
            }
        });
        Self { manager: Some(manager), task: Some(task) }
    }
}

impl Drop for ManagerTold {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        if let Some(manager) = &self.manager {
            manager.is_stopping();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::progress::{Shown, Style};
    use crate::progress::Monitor;

    #[test]
    fn it_says_which_jobs_run_and_what_they_do() {
        let under_way = UnderWay::default();
        under_way.expects(3);
        assert_eq!(under_way.sentence(), "0 of 3 jobs done");
        drop(under_way.job("first"));
        let second = under_way.job("second");
        let third = under_way.job("third");
        let shown =
            Shown { style: Style::Quiet, quiet: true, steps: false, entries: false, json: false, names_job: false };
        let monitor = Arc::new(ConsoleMonitor::start(shown, None));
        under_way.is_shown_by("third", &monitor);
        assert_eq!(under_way.sentence(), "1 of 3 jobs done; second; third");
        monitor.phase("backing up");
        assert_eq!(under_way.sentence(), "1 of 3 jobs done; second; third: backing up");
        drop((second, third));
        assert_eq!(under_way.sentence(), "3 of 3 jobs done");
    }

    #[test]
    fn how_a_job_ends_is_told_once() {
        let under_way = UnderWay::default();
        let _running = (under_way.job("first"), under_way.job("second"), under_way.work("archive: prune"));
        assert!(under_way.ended().is_empty() && under_way.tells("first", Outcome::Clean));
        assert_eq!(under_way.take_untold(), ["second"]);
        assert!(!under_way.tells("second", Outcome::Clean) && under_way.take_untold().is_empty());
        assert_eq!(under_way.ended(), HashMap::from([("first".to_owned(), Outcome::Clean)]));
    }
}
