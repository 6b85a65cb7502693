//! Forget: which snapshots are not to stay, by rules or by name; bringing them back; and holding some whatever the rules say.
//!
//! Deciding ([`plan`]) and telling ([`apply`]) are apart. Nothing is deleted here: what was forgotten can be brought back until cleaning
//! up removes it, which it may after a grace time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::cleanup::RemovedSnapshot;
use crate::model::hold::Hold;
use crate::model::key::ObjectKey;
use crate::model::outcome::{Ended, Outcome};
use crate::model::retention::{Fate, Policy, RetentionDecision, Standing, decide};
use crate::model::series::Sequence;
use crate::model::snapshot::{Snapshot, SnapshotId};
use crate::model::time::Timestamp;
use crate::ops::snapshots::snapshots;
use crate::progress::{Monitor, Problem, Problems};
use crate::repository::StoreError;
use crate::repository::access::{AccessError, Deleting};
use crate::repository::choose::SnapshotFilter;
use crate::repository::retention::{Retention, RetentionChange, RetentionError, ToldBy};
use crate::repository::snapshots::SnapshotError;

/// The share of a sequence's snapshots, in percent, beyond which forgetting them by rules takes a confirmation.
pub const CONFIRMED_PERCENT: usize = 50;

/// What is to be forgotten.
#[derive(Debug, Clone)]
pub enum WantedForgotten {
    /// What no rule of its policy keeps, of the snapshots that a filter accepts.
    ByPolicy(Policies, SnapshotFilter),
    /// These, named by ids that may be cut short; whether they may be the last good ones of their sequences.
    Named(Vec<String>, bool),
}

/// What is kept: of some jobs by policies of their own, of all else by one.
#[derive(Debug, Clone)]
pub struct Policies {
    /// Of everything else.
    pub others: Policy,
    /// Of the snapshots of these jobs, on whatever host.
    pub of_jobs: BTreeMap<String, Policy>,
}

impl From<Policy> for Policies {
    fn from(others: Policy) -> Self {
        Self { others, of_jobs: BTreeMap::new() }
    }
}

impl Policies {
    /// Decides about snapshots, each by the policy that it has.
    fn decide(&self, snapshots: &[Snapshot], now: Timestamp) -> BTreeMap<Sequence, Vec<RetentionDecision>> {
        let judged = |snapshot| (snapshot, Standing::of(snapshot, now));
        let others = snapshots.iter().filter(|snapshot| !self.of_jobs.contains_key(&snapshot.job));
        let mut decided = decide(&self.others, others.map(judged));
        for (job, policy) in &self.of_jobs {
            decided.extend(decide(policy, snapshots.iter().filter(|snapshot| snapshot.job == *job).map(judged)));
        }
        decided
    }
}

/// What would be forgotten, and what stays.
#[derive(Debug, Clone)]
pub struct ForgetPlan {
    /// What there is, with what becomes of it, by sequence and the newest first. Of what was named, that alone.
    pub sequences: Vec<PlannedSequence>,
    /// What is wrong with snapshots that could not be judged, and with records.
    pub problems: Problems,
    retention: Arc<Retention>,
}

/// The snapshots of one sequence.
#[derive(Debug, Clone)]
pub struct PlannedSequence {
    /// The sequence.
    pub sequence: Sequence,
    /// What becomes of each.
    pub members: Vec<(Snapshot, RetentionDecision)>,
}

impl PlannedSequence {
    /// Returns how many go.
    pub fn going(&self) -> usize {
        self.members.iter().filter(|(_, decision)| decision.fate.goes()).count()
    }

    /// Tells whether more go than somebody should have to find out afterwards.
    pub fn loses_much(&self) -> bool {
        self.going() * 100 > self.members.len() * CONFIRMED_PERCENT
    }
}

impl ForgetPlan {
    /// Returns the snapshots that would be forgotten.
    pub fn going(&self) -> impl Iterator<Item = (&Snapshot, &Fate)> {
        let members = self.sequences.iter().flat_map(|sequence| &sequence.members);
        members.filter(|(_, decision)| decision.fate.goes()).map(|(snapshot, decision)| (snapshot, &decision.fate))
    }

    /// Returns how many snapshots stay.
    pub fn staying(&self) -> usize {
        self.sequences.iter().map(|sequence| sequence.members.len() - sequence.going()).sum()
    }
}

impl Ended for ForgetPlan {
    fn outcome(&self) -> Outcome {
        self.problems.outcome()
    }
}

/// Why nothing was forgotten, brought back or held.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// This key may not.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The snapshots could not be had.
    #[error(transparent)]
    Snapshots(#[from] SnapshotError),
    /// The records could not be read or written.
    #[error(transparent)]
    Retention(#[from] RetentionError),
    /// Whether it worked could not be asked.
    #[error("it is not known whether a clean-up came first")]
    Afterwards(#[source] StoreError),
    /// No rule says what is to be kept.
    #[error("no rule says what is to be kept")]
    NoRules,
    /// A snapshot that was named is held.
    #[error("snapshot {} is held{}", id.short(), because(hold))]
    Held {
        /// The snapshot.
        id: SnapshotId,
        /// The hold.
        hold: Hold,
    },
    /// It is not held.
    #[error("snapshot {} is not held", .0.short())]
    NotHeld(SnapshotId),
    /// A snapshot that was named is the last good one of its series.
    #[error("snapshot {} is the last good one of {sequence}", id.short())]
    LastGood {
        /// The snapshot.
        id: SnapshotId,
        /// What it is of.
        sequence: String,
    },
    /// A snapshot is forgotten already.
    #[error("snapshot {} is forgotten already", .0.short())]
    Already(SnapshotId),
    /// A snapshot is not forgotten.
    #[error("snapshot {} is not forgotten", .0.short())]
    NotForgotten(SnapshotId),
    /// Nothing is forgotten that could be brought back.
    #[error("nothing is forgotten that could be brought back")]
    NothingForgotten,
    /// A clean-up came first.
    #[error("a clean-up has removed snapshot {} by now, or is about to", .0.short())]
    Removed(SnapshotId),
    /// A hold would end before it begins.
    #[error("the hold would be over before it begins")]
    Over,
}

fn because(hold: &Hold) -> String {
    let until = hold.until.map(|until| format!(" until {until}")).unwrap_or_default();
    if hold.reason.is_empty() { until } else { format!("{until}: {}", hold.reason) }
}

impl Ended for ForgetError {
    fn outcome(&self) -> Outcome {
        match self {
            ForgetError::Access(error) => error.outcome(),
            ForgetError::Snapshots(error) => error.outcome(),
            ForgetError::Retention(error) => error.outcome(),
            ForgetError::Afterwards(error) => error.outcome(),
            ForgetError::NoRules | ForgetError::Over => Outcome::Usage,
            ForgetError::Held { .. } | ForgetError::LastGood { .. } | ForgetError::Already(_) => Outcome::Refused,
            ForgetError::NotHeld(_) | ForgetError::NotForgotten(_) | ForgetError::NothingForgotten => Outcome::Missing,
            ForgetError::Removed(_) => Outcome::Missing,
        }
    }
}

/// Decides what is to be forgotten, and changes nothing.
///
/// # Errors
/// [`ForgetError`]; a snapshot that cannot be opened is a problem in the plan, and is left as it is.
pub async fn plan(
    deleting: &Deleting,
    wanted: &WantedForgotten,
    now: Timestamp,
    monitor: &dyn Monitor,
) -> Result<ForgetPlan, ForgetError> {
    if let WantedForgotten::ByPolicy(policies, _) = wanted
        && policies.others.rules.is_empty()
    {
        return Err(ForgetError::NoRules);
    }
    let repository = deleting.repository();
    let no_filter = SnapshotFilter::default();
    let filter = if let WantedForgotten::ByPolicy(_, filter) = wanted { filter } else { &no_filter };
    let report = snapshots(repository, filter, monitor).await?;
    let decided = match wanted {
        WantedForgotten::ByPolicy(policies, _) => policies.decide(&report.snapshots, now),
        WantedForgotten::Named(names, allow_empty) => {
            let mut named = BTreeSet::new();
            for name in names {
                let snapshot = repository.find_snapshot(name, &no_filter).await?;
                if snapshot.forgotten.is_some() {
                    return Err(ForgetError::Already(snapshot.id));
                }
                if let Some(hold) = snapshot.held.filter(|hold| hold.is_in_force(now)) {
                    return Err(ForgetError::Held { id: snapshot.id, hold });
                }
                named.insert(snapshot.id);
            }
            decide_named(&named, *allow_empty, &report.snapshots, now)?
        }
    };
    let mut by_id: BTreeMap<SnapshotId, Snapshot> = report.snapshots.into_iter().map(|it| (it.id, it)).collect();
    let planned = |(sequence, decisions): (Sequence, Vec<RetentionDecision>)| {
        let mut with = |decision: RetentionDecision| (by_id.remove(&decision.id).expect("decided once"), decision);
        PlannedSequence { sequence, members: decisions.into_iter().map(&mut with).collect() }
    };
    let sequences = decided.into_iter().map(planned).collect();
    // Records were read with the snapshots; each replica may have some that the others lack.
    let retention = deleting.retention().await?;
    Ok(ForgetPlan { sequences, problems: report.problems, retention })
}

/// Decides about snapshots that were named: they go, unless one is the last good one of its sequence.
fn decide_named(
    named: &BTreeSet<SnapshotId>,
    allow_empty: bool,
    all: &[Snapshot],
    now: Timestamp,
) -> Result<BTreeMap<Sequence, Vec<RetentionDecision>>, ForgetError> {
    let is_good = |snapshot: &Snapshot| Standing::of(snapshot, now) == Standing::Good;
    let mut decided: BTreeMap<Sequence, Vec<RetentionDecision>> = BTreeMap::new();
    for snapshot in all.iter().rev().filter(|snapshot| named.contains(&snapshot.id)) {
        let sequence = Sequence::of(snapshot);
        let others = || all.iter().filter(|other| sequence.has(other) && !named.contains(&other.id));
        if !allow_empty && is_good(snapshot) && !others().any(is_good) {
            return Err(ForgetError::LastGood { id: snapshot.id, sequence: sequence.to_string() });
        }
        let decision = RetentionDecision { id: snapshot.id, fate: Fate::Named, is_misdated: false };
        decided.entry(sequence).or_default().push(decision);
    }
    Ok(decided)
}

/// Tells what is forgotten by a plan; durable on return.
///
/// # Errors
/// [`ForgetError::Retention`].
pub async fn apply(deleting: &Deleting, plan: &ForgetPlan, told_by: &ToldBy) -> Result<(), ForgetError> {
    let forget: Vec<_> = plan.going().map(|(snapshot, why)| (as_object(snapshot), why.to_string())).collect();
    if !forget.is_empty() {
        let change = RetentionChange { forget, ..RetentionChange::default() };
        deleting.tell_retention(&plan.retention, change, told_by).await?;
    }
    Ok(())
}

/// Names a snapshot that was opened as the object that it is.
fn as_object(snapshot: &Snapshot) -> RemovedSnapshot {
    let digest = snapshot.digest.expect("it was opened");
    RemovedSnapshot { id: snapshot.id, digest, before: snapshot.position.before }
}

/// Brings back the snapshots that `names` mean, or those that were forgotten last when that is what one of them says; returns them.
///
/// # Errors
/// [`ForgetError`]: one that is not forgotten, and one that a clean-up has removed.
pub async fn undo(deleting: &Deleting, names: &[String], told_by: &ToldBy) -> Result<Vec<SnapshotId>, ForgetError> {
    let repository = deleting.repository();
    let retention = deleting.retention().await?;
    let cleanups = repository.cleanups().await.map_err(ForgetError::Afterwards)?;
    let is_gone = |id: SnapshotId| cleanups.is_gone(&ObjectKey::snapshot(id));
    let there = || retention.all_forgotten().filter(|(removed, _)| !is_gone(removed.id));
    let mut bring_back = BTreeSet::new();
    for name in names {
        if name == "last" {
            let last = there().map(|(_, forgotten)| forgotten.when).max().ok_or(ForgetError::NothingForgotten)?;
            bring_back.extend(there().filter(|(_, forgotten)| forgotten.when == last).map(|(removed, _)| removed.id));
            continue;
        }
        let removed = retention.all_forgotten().map(|(removed, _)| removed.id);
        let of_list: Vec<SnapshotId> = removed.filter(|id| is_gone(*id) && id.to_string().starts_with(name)).collect();
        let snapshot = match repository.find_snapshot(name, &SnapshotFilter::default()).await {
            Err(SnapshotError::Unknown(_)) if !of_list.is_empty() => return Err(ForgetError::Removed(of_list[0])),
            found => found?,
        };
        if snapshot.forgotten.is_none() {
            return Err(ForgetError::NotForgotten(snapshot.id));
        }
        bring_back.insert(snapshot.id);
    }
    let bring_back: Vec<SnapshotId> = bring_back.into_iter().collect();
    let change = RetentionChange { bring_back: bring_back.clone(), ..RetentionChange::default() };
    deleting.tell_retention(&retention, change, told_by).await?;
    still_there(deleting, &bring_back).await?;
    Ok(bring_back)
}

/// Tells whether a clean-up named any of them before it could know better.
async fn still_there(deleting: &Deleting, ids: &[SnapshotId]) -> Result<(), ForgetError> {
    let cleanups = deleting.repository().cleanups().await.map_err(ForgetError::Afterwards)?;
    match ids.iter().find(|id| cleanups.is_gone(&ObjectKey::snapshot(**id))) {
        Some(id) => Err(ForgetError::Removed(*id)),
        None => Ok(()),
    }
}

/// Holds the snapshots that `names` mean, and brings back those that are forgotten; returns them.
///
/// # Errors
/// [`ForgetError`].
pub async fn hold(
    deleting: &Deleting,
    names: &[String],
    reason: &str,
    until: Option<Timestamp>,
    told_by: &ToldBy,
) -> Result<Vec<Snapshot>, ForgetError> {
    if until.is_some_and(|until| until <= told_by.now) {
        return Err(ForgetError::Over);
    }
    let found = find_all(deleting, names).await?;
    let until = until.map(|until| Timestamp::from_seconds(until.seconds));
    let hold = Hold { when: Timestamp::from_seconds(told_by.now.seconds), reason: reason.to_owned(), until };
    let ids: Vec<SnapshotId> = found.iter().map(|snapshot| snapshot.id).collect();
    let forgotten = found.iter().filter(|snapshot| snapshot.forgotten.is_some());
    let change = RetentionChange {
        bring_back: forgotten.map(|snapshot| snapshot.id).collect(),
        hold: ids.iter().map(|id| (*id, hold.clone())).collect(),
        ..RetentionChange::default()
    };
    let retention = deleting.retention().await?;
    deleting.tell_retention(&retention, change, told_by).await?;
    still_there(deleting, &ids).await?;
    Ok(found)
}

/// Releases the snapshots that `names` mean; returns them.
///
/// # Errors
/// [`ForgetError`]: one that is not held.
pub async fn release(deleting: &Deleting, names: &[String], told_by: &ToldBy) -> Result<Vec<Snapshot>, ForgetError> {
    let found = find_all(deleting, names).await?;
    if let Some(other) = found.iter().find(|snapshot| snapshot.held.is_none()) {
        return Err(ForgetError::NotHeld(other.id));
    }
    let release = found.iter().map(|snapshot| snapshot.id).collect();
    let retention = deleting.retention().await?;
    let change = RetentionChange { release, ..RetentionChange::default() };
    deleting.tell_retention(&retention, change, told_by).await?;
    Ok(found)
}

async fn find_all(deleting: &Deleting, names: &[String]) -> Result<Vec<Snapshot>, ForgetError> {
    let mut found: Vec<Snapshot> = Vec::new();
    for name in names {
        let snapshot = deleting.repository().find_snapshot(name, &SnapshotFilter::default()).await?;
        if found.iter().all(|other| other.id != snapshot.id) {
            found.push(snapshot);
        }
    }
    Ok(found)
}

/// Gives up what cannot be read of records of retention: what the others say counts from then on, and nothing else. Returns what was given up.
///
/// # Errors
/// [`ForgetError`].
pub async fn give_up(deleting: &Deleting, told_by: &ToldBy) -> Result<Vec<Problem>, ForgetError> {
    let retention = deleting.retention().await?;
    let problems: Vec<Problem> = retention.problems().collect();
    if !problems.is_empty() {
        let change = RetentionChange { give_up: true, ..RetentionChange::default() };
        deleting.tell_retention(&retention, change, told_by).await?;
    }
    Ok(problems)
}
