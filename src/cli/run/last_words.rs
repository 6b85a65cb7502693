//! What is told of a run that a second signal ends at once: what it would have told at its end, as far as that takes no longer than a moment.
//!
//! In the file of metrics the run has ended, and so have the jobs that were under way; whoever watches them hears of it, and so does their hook
//! for failures. Who waits for that is [`crate::cli::signals`], and not for long.

use std::sync::{Arc, Mutex, Weak};

use futures::future::join_all;

use crate::blocking::blocking;
use crate::cancel::Cancel;
use crate::cli::config::Configuration;
use crate::cli::exit::Exit;
use crate::cli::run::hooks::{HookFacts, HookTime};
use crate::cli::run::metrics::RunMetrics;
use crate::cli::run::under_way::UnderWay;
use crate::cli::run::watchers::{Deliveries, EndWord};
use crate::model::outcome::Outcome;

/// What happened.
const CUT_OFF: &str = "a second signal ended it at once";
const HOOKS_CUT_OFF: &str = "a second signal ended its hooks at once";

/// What a run has to tell, should it be cut off.
pub struct LastWords {
    /// The id of the run.
    pub run: String,
    /// Gone with the run, which then says itself how it ended.
    pub metrics: Weak<RunMetrics>,
    /// Who is told.
    pub deliveries: Arc<Deliveries>,
    /// What was under way.
    pub under_way: Arc<UnderWay>,
    /// The hooks.
    pub config: Arc<Configuration>,
    /// What was told of the run so far.
    pub log: Arc<Mutex<Vec<String>>>,
}

impl LastWords {
    /// Tells it.
    pub async fn say(self) {
        let (outcome, sentence) = (Outcome::Interrupted, self.under_way.sentence());
        let jobs = self.under_way.take_untold();
        // Those that are over but for their hooks are not interrupted.
        let ended = self.under_way.ended();
        let log = self.log.lock().map(|log| log.clone()).unwrap_or_default();
        self.deliveries.cut_off(|job| {
            let (what, log) = match job {
                Some(job) => (job, Vec::new()),
                None => (sentence.as_str(), log.clone()),
            };
            let (outcome, how) = match job.and_then(|job| ended.get(job)) {
                Some(ended) => (*ended, HOOKS_CUT_OFF),
                None => (outcome, CUT_OFF),
            };
            let (run, job, summary) = (self.run.clone(), job.map(str::to_owned), format!("{what}: {how}"));
            EndWord { run, job, outcome, summary, log }
        });
        let measured: Vec<(String, Outcome)> =
            jobs.iter().map(|job| (job.clone(), outcome)).chain(ended.clone()).collect();
        let metrics = self.metrics.clone();
        // A slow disk keeps nobody waiting.
        let written = blocking(move || {
            if let Some(metrics) = metrics.upgrade() {
                measured.into_iter().for_each(|(job, outcome)| metrics.job_ended(&job, outcome.into(), None));
                metrics.ended(outcome.into());
            }
        });
        let config = &self.config;
        let hooks = jobs.into_iter().map(|job| async move {
            let (hooks, error) = (config.hooks(&job), Some(CUT_OFF.to_owned()));
            let outcome = Some((outcome, Exit::from(outcome) as u8));
            // Nobody is there any more to hear that it failed.
            let _ = hooks
                .run(HookTime::OnFailure, &HookFacts { job, outcome, snapshot: None, error }, &Cancel::default())
                .await;
        });
        tokio::join!(self.deliveries.all_delivered(), join_all(hooks), written);
    }
}
