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
use crate::model::retention::{Fate, KeepReason, Policy, RetentionDecision, Standing, decide};
use crate::model::series::Sequence;
use crate::model::snapshot::{Snapshot, SnapshotId};
use crate::model::time::{DAY_SECONDS, Timestamp};
use crate::ops::snapshots::snapshots;
use crate::progress::{Monitor, Problem, Problems};
use crate::repository::StoreError;
use crate::repository::access::{AccessError, Deleting};
use crate::repository::choose::SnapshotFilter;
use crate::repository::retention::{Retention, RetentionChange, RetentionError, ToldBy};
use crate::repository::snapshots::SnapshotError;

/// The share of a sequence's snapshots, in percent, beyond which forgetting them by rules takes a confirmation; of its days, where
/// nobody is there to confirm.
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
    /// The records that it was judged by, and that whoever tells it knows of.
    retention: Arc<Retention>,
}

/// The snapshots of one sequence.
#[derive(Debug, Clone)]
pub struct PlannedSequence {
    /// The sequence.
    pub sequence: Sequence,
    /// What becomes of each.
    pub members: Vec<(Snapshot, RetentionDecision)>,
    /// Whether it is left out: nothing of it goes, whatever was decided.
    pub is_left_out: bool,
}

impl PlannedSequence {
    /// Returns how many go.
    pub fn going(&self) -> usize {
        self.goes().count()
    }

    fn goes(&self) -> impl Iterator<Item = &(Snapshot, RetentionDecision)> {
        self.members.iter().filter(|(_, decision)| !self.is_left_out && decision.fate.goes())
    }

    /// Tells whether more go than somebody should have to find out afterwards.
    pub fn loses_much(&self) -> bool {
        self.going() * 100 > self.members.len() * CONFIRMED_PERCENT
    }

    /// Returns how many days had a snapshot at the last `forget`, or have one where there was none, and how many would have one
    /// afterwards, if these are so few that somebody should look first. Many snapshots of one day are one day, so thinning them is none
    /// of that, however often they are made.
    ///
    /// What is dated ahead stands for no day, and what is dated otherwise than numbered is counted by itself, as rules do: a host that dates
    /// snapshots as it likes makes up for none that go.
    fn days_lost(&self, last_forget: Option<Timestamp>) -> Option<(usize, usize)> {
        [false, true].into_iter().find_map(|is_misdated| {
            let judged = || self.members.iter().filter(|(_, it)| it.is_misdated == is_misdated && is_judged(&it.fate));
            let had = judged().filter(|(snapshot, _)| last_forget.is_none_or(|last| snapshot.started <= last));
            let stays = judged().filter(|(_, decision)| !decision.fate.goes());
            let (had, left) = (count_days(had), count_days(stays));
            (left * 100 < had * (100 - CONFIRMED_PERCENT)).then_some((had, left))
        })
    }
}

/// Tells whether rules are about a snapshot by now: its author may have made it, and its time has come.
fn is_judged(fate: &Fate) -> bool {
    match fate {
        Fate::Foreign(_) => false,
        Fate::Kept(reasons) => !reasons.contains(&KeepReason::Ahead),
        Fate::Unkept | Fate::Named | Fate::Replaced(..) => true,
    }
}

/// Counts the days, in UTC, in which these began.
fn count_days<'a>(members: impl Iterator<Item = &'a (Snapshot, RetentionDecision)>) -> usize {
    let days: BTreeSet<i64> = members.map(|(snapshot, _)| snapshot.started.seconds.div_euclid(DAY_SECONDS)).collect();
    days.len()
}

impl ForgetPlan {
    /// Returns the snapshots that would be forgotten.
    pub fn going(&self) -> impl Iterator<Item = (&Snapshot, &Fate)> {
        let going = self.sequences.iter().flat_map(PlannedSequence::goes);
        going.map(|(snapshot, decision)| (snapshot, &decision.fate))
    }

    /// Leaves out of a plan that nobody looks at what somebody should look at first: sequences of whose days, as of when the last `forget`
    /// began if it is known, most would have no snapshot any more. Each is a problem of the plan, and told.
    pub fn leave_out_losses(&mut self, last_forget: Option<Timestamp>, monitor: &dyn Monitor) {
        for it in &mut self.sequences {
            let Some((had, left)) = it.days_lost(last_forget) else { continue };
            let (going, of) = (it.going(), it.members.len());
            let message = format!(
                "{going} of {of} snapshots would be forgotten, and the days that have one would fall from {had} to {left}; all stay until \
                 somebody forgets them with `coffre forget`, or the rules say `yes = true`"
            );
            it.is_left_out = true;
            let problem = Problem::suspicious(it.sequence.to_string(), message);
            self.problems.add(problem.clone());
            monitor.problem(problem);
        }
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
    // Before the snapshots: what is told from here on, whoever tells the plan does not know of.
    let retention = deleting.retention().await?;
    let report = snapshots(repository, filter, monitor).await?;
    let all: Vec<Snapshot> =
        report.snapshots.into_iter().filter_map(|snapshot| that_stays(snapshot, &retention)).collect();
    let decided = match wanted {
        WantedForgotten::ByPolicy(policies, _) => policies.decide(&all, now),
        WantedForgotten::Named(names, allow_empty) => {
            let mut named = BTreeSet::new();
            for name in names {
                let snapshot = repository.find_snapshot(name, &no_filter).await?;
                let id = snapshot.id;
                let snapshot = that_stays(snapshot, &retention).ok_or(ForgetError::Already(id))?;
                if let Some(hold) = snapshot.held.filter(|hold| hold.is_in_force(now)) {
                    return Err(ForgetError::Held { id: snapshot.id, hold });
                }
                named.insert(snapshot.id);
            }
            decide_named(&named, *allow_empty, &all, now)?
        }
    };
    let mut by_id: BTreeMap<SnapshotId, Snapshot> = all.into_iter().map(|it| (it.id, it)).collect();
    let planned = |(sequence, decisions): (Sequence, Vec<RetentionDecision>)| {
        let mut with = |decision: RetentionDecision| (by_id.remove(&decision.id).expect("decided once"), decision);
        let members = decisions.into_iter().map(&mut with).collect();
        PlannedSequence { sequence, members, is_left_out: false }
    };
    let sequences = decided.into_iter().map(planned).collect();
    Ok(ForgetPlan { sequences, problems: report.problems, retention })
}

/// Judges a snapshot by the records that were `read`: returns it, held if they hold it, unless it is forgotten. What it says itself may
/// have been told since, and keeps it as well.
fn that_stays(snapshot: Snapshot, read: &Retention) -> Option<Snapshot> {
    let digest = snapshot.digest.expect("it was opened");
    if snapshot.forgotten.is_some() || read.forgotten(snapshot.id, digest).is_some() {
        return None;
    }
    let holds = [read.hold(snapshot.id), snapshot.held.as_ref()].into_iter().flatten();
    let held = holds.max_by_key(|hold| hold.end()).cloned();
    Some(Snapshot { held, ..snapshot })
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

/// Holds the snapshots that `names` mean, and brings back those that are forgotten; returns them. Each is told as brought back, so that
/// it stays although somebody forgets it who does not know of the hold.
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
    let change = RetentionChange {
        bring_back: ids.clone(),
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
    // A hold that is told from here on is another one, which stays.
    let retention = deleting.retention().await?;
    let found = find_all(deleting, names).await?;
    if let Some(other) = found.iter().find(|snapshot| snapshot.held.is_none()) {
        return Err(ForgetError::NotHeld(other.id));
    }
    let release = found.iter().map(|snapshot| snapshot.id).collect();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::author::Author;
    use crate::model::id::{DomainEpoch, DomainId, SessionId};
    use crate::model::snapshot::Foreign;
    use crate::progress::Collected;

    const HOUR: i64 = 3600;

    /// A sequence with a snapshot at each of these hours, of which some stay.
    fn sequence(hours: impl Iterator<Item = i64>, stays: impl Fn(i64) -> bool) -> PlannedSequence {
        let at = DomainEpoch { domain: DomainId([3; 16]), epoch: 1 };
        let member = |hour: i64| {
            let started = Timestamp::from_seconds(hour * HOUR);
            let id = SnapshotId::new(started, [1; 8]);
            let snapshot = Snapshot { started, ..Snapshot::blank(id, SessionId([2; 16]), at, Author::Reader) };
            let fate = if stays(hour) { Fate::Kept(vec![KeepReason::NoRules]) } else { Fate::Unkept };
            (snapshot, RetentionDecision { id, fate, is_misdated: false })
        };
        let members: Vec<_> = hours.map(member).collect();
        PlannedSequence { sequence: Sequence::of(&members[0].0), members, is_left_out: false }
    }

    fn is_last_of_day(hour: i64) -> bool {
        hour % 24 == 23
    }

    #[test]
    fn somebody_looks_first_where_most_days_of_the_last_forget_would_go() {
        let nightly =
            |days: i64, kept: i64| sequence((0..days).map(|day| day * 24), move |hour| hour / 24 >= days - kept);
        let hourly_since = |day: i64| {
            let thinned = (0..day * 24).filter(|hour| is_last_of_day(*hour));
            sequence(thinned.chain(day * 24..(day + 1) * 24), is_last_of_day)
        };
        let last_hours = sequence((0..14).map(|day| day * 24).chain(312..336), |hour| hour >= 312);
        for (what, planned, last_forget_hour, lost) in [
            ("the hours of a day, the first time", sequence(0..24, is_last_of_day), None, None),
            ("the hours of a day, a day later", hourly_since(1), Some(24), None),
            ("the hours of a day, two weeks later", hourly_since(14), Some(14 * 24), None),
            ("a change of rules that takes less than half", nightly(30, 15), Some(700), None),
            ("a change of rules that takes more", nightly(30, 14), Some(700), Some((30, 14))),
            ("rules for what is there already", nightly(30, 14), None, Some((30, 14))),
            ("a month without forgetting, by rules that keep a week", nightly(37, 7), Some(6 * 24), None),
            ("a series that is new since", nightly(37, 7), Some(-1), None),
            ("days, and the hours of the last stay", last_hours, Some(320), Some((14, 1))),
        ] {
            let last_forget = last_forget_hour.map(|hour| Timestamp::from_seconds(hour * HOUR));
            assert_eq!(planned.days_lost(last_forget), lost, "{what}");
            assert!(lost.is_none() || planned.days_lost(None).is_some(), "{what}: without a record all days count");
        }
    }

    #[test]
    fn what_somebody_may_not_have_made_stands_for_no_day() {
        let mut planned = sequence((0..30).map(|day| day * 24), |hour| hour == 29 * 24);
        assert_eq!(planned.days_lost(None), Some((30, 1)));
        for (_, decision) in &mut planned.members[..29] {
            decision.fate = Fate::Foreign(Foreign::OtherHost);
        }
        assert_eq!(planned.days_lost(None), None);
    }

    /// By rules that keep the last so many, the snapshots of one day push out those of a month.
    #[test]
    fn days_that_a_host_makes_up_stand_for_none_that_go() {
        let (month, today, made_up) = (0..30, 720..740, 31..46);
        let days = |days: std::ops::Range<i64>| days.map(|day| day * 24);
        let last_forget = Some(Timestamp::from_seconds(29 * 24 * HOUR));
        let mut planned = sequence(days(month).chain(today).chain(days(made_up)), |hour| hour >= 720);
        assert_eq!(planned.days_lost(last_forget), None, "half of the days, if they were any");
        let (judged, ahead) = planned.members.split_at_mut(50);
        for (_, decision) in ahead.iter_mut() {
            decision.fate = Fate::Kept(vec![KeepReason::Ahead]);
        }
        assert!(judged.iter().all(|(_, decision)| is_judged(&decision.fate)));
        assert_eq!(planned.days_lost(last_forget), Some((30, 1)), "dated ahead");
        for (_, decision) in &mut planned.members[50..] {
            (decision.fate, decision.is_misdated) = (Fate::Kept(vec![KeepReason::NoRules]), true);
        }
        assert_eq!(planned.days_lost(last_forget), Some((30, 1)), "dated otherwise than numbered");
        // So many may be made up that the month is what does not go with them.
        for (_, decision) in &mut planned.members {
            decision.is_misdated = !decision.is_misdated;
        }
        assert_eq!(planned.days_lost(last_forget), Some((30, 1)), "the other way round");
    }

    #[test]
    fn a_series_that_loses_much_is_left_out_and_told_and_the_others_go() {
        let sequences =
            vec![sequence(0..24, is_last_of_day), sequence((0..30).map(|day| day * 24), |hour| hour == 29 * 24)];
        let mut plan = ForgetPlan { sequences, problems: Problems::default(), retention: Arc::default() };
        assert_eq!((plan.going().count(), plan.staying(), plan.outcome()), (52, 2, Outcome::Clean));
        let monitor = Collected::default();
        plan.leave_out_losses(None, &monitor);
        assert_eq!((plan.going().count(), plan.staying(), plan.outcome()), (23, 31, Outcome::Incomplete));
        let [told] = &monitor.problems()[..] else { panic!("one is told: {:?}", monitor.problems()) };
        assert!(told.message.starts_with("29 of 30 snapshots would be forgotten"), "{told}");
        assert!(told.message.contains("would fall from 30 to 1; all stay"), "{told}");
    }
}
