//! Retention: which snapshots a policy keeps, and every reason for it.
//!
//! Rules are applied to each sequence by itself: host, job and sources, and the author, so that nobody pushes out what others made. Only good
//! snapshots count. One that is incomplete, suspicious or dated ahead takes the place of none, and the last good one of a sequence stays whatever
//! the policy says. Those whose dates do not go with their numbers are counted by themselves: a snapshot that is dated back takes
//! the place of none that was made in its time. Counting goes by the periods that have a snapshot, and spans of time by the newest
//! good one, so a host that was away for a year loses nothing by that. Deciding is a function from values to values: the time and its
//! zone come with the policy, not from the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{Span, ZonedDateTime};

use crate::model::series::Sequence;
use crate::model::snapshot::{Foreign, Snapshot, SnapshotId};
use crate::model::time::Timestamp;

/// A stretch of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// From a full hour to the next.
    Hour,
    /// From midnight to midnight, in 23 to 25 hours.
    Day,
    /// From Monday to Sunday.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

impl Period {
    /// Returns the name of the period that a point in time is in. No two have the same: an hour that comes twice when clocks are set
    /// back is two, whose offsets from UTC differ.
    fn name_of(self, at: &ZonedDateTime) -> String {
        at.strftime(match self {
            Period::Hour => "%Y-%m-%d %H:00 %:z",
            Period::Day => "%Y-%m-%d",
            Period::Week => "%G-W%V",
            Period::Month => "%Y-%m",
            Period::Year => "%Y",
        })
        .to_string()
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Period::Hour => "hourly",
            Period::Day => "daily",
            Period::Week => "weekly",
            Period::Month => "monthly",
            Period::Year => "yearly",
        })
    }
}

/// A span of time as people count it back on a calendar: `1y6m`, `2w`, `36h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lookback {
    years: u16,
    months: u16,
    weeks: u16,
    days: u16,
    hours: u16,
}

impl Lookback {
    /// Returns the point that lies this far before another, or nothing where the calendar has no such.
    fn before(self, at: &ZonedDateTime) -> Option<ZonedDateTime> {
        let span = Span::new()
            .try_years(self.years)
            .and_then(|span| span.try_months(self.months))
            .and_then(|span| span.try_weeks(self.weeks))
            .and_then(|span| span.try_days(self.days))
            .and_then(|span| span.try_hours(self.hours))
            .ok()?;
        at.checked_sub(span).ok()
    }

    fn parts(self) -> [(u16, char); 5] {
        [(self.years, 'y'), (self.months, 'm'), (self.weeks, 'w'), (self.days, 'd'), (self.hours, 'h')]
    }
}

impl FromStr for Lookback {
    type Err = LookbackError;

    fn from_str(text: &str) -> Result<Self, LookbackError> {
        let wrong = || LookbackError(text.to_owned());
        let (mut numbers, mut rest, mut first) = ([0; 5], text, 0);
        while !rest.is_empty() {
            let (end, unit) = rest.char_indices().find(|(_, c)| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let unit = "ymwdh".find(unit).filter(|unit| *unit >= first).ok_or_else(wrong)?;
            numbers[unit] = rest[..end].parse().map_err(|_| wrong())?;
            // A unit is one byte.
            (first, rest) = (unit + 1, &rest[end + 1..]);
        }
        let [years, months, weeks, days, hours] = numbers;
        if numbers == [0; 5] { Err(wrong()) } else { Ok(Self { years, months, weeks, days, hours }) }
    }
}

impl fmt::Display for Lookback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().iter().filter(|(number, _)| *number > 0).try_for_each(|(number, unit)| write!(f, "{number}{unit}"))
    }
}

/// Why a span of time could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no span of time; write for example 30d, 2w or 1y6m (years, months, weeks, days, hours)")]
pub struct LookbackError(String);

/// Something that is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The newest so many.
    Last(u32),
    /// The newest one of each of the newest so many periods that have any.
    Each(Period, u32),
    /// All that are no older than this before the newest.
    Within(Lookback),
    /// The newest one of each period, as far back.
    EachWithin(Period, Lookback),
    /// All that have all of these tags.
    Tags(BTreeSet<String>),
    /// This one.
    Id(SnapshotId),
}

/// What is kept of each sequence.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What any of these keeps. Without one, everything.
    pub rules: Vec<Rule>,
    /// Where days begin.
    pub zone: TimeZone,
    /// When it is: holds may have ended by then.
    pub now: Timestamp,
    /// Whether the last good one of a sequence may go.
    pub allow_empty: bool,
}

/// What a snapshot is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is whole, nothing is wrong with it, and it counts.
    Good,
    /// Something that was asked for is not in it.
    Incomplete,
    /// It was flagged when it was made: it shrank, or what is in it changed as no other did.
    Suspicious,
    /// It is dated ahead of now.
    Ahead,
    /// Its author may not say what it says.
    Foreign(Foreign),
}

impl Standing {
    /// Judges a snapshot at the time `now`.
    pub fn of(snapshot: &Snapshot, now: Timestamp) -> Self {
        match snapshot.foreign {
            Some(foreign) => Standing::Foreign(foreign),
            None if snapshot.started.is_ahead_of(now) => Standing::Ahead,
            None if !snapshot.is_complete() => Standing::Incomplete,
            None if snapshot.is_suspicious() => Standing::Suspicious,
            None => Standing::Good,
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Standing::Good => f.write_str("good"),
            Standing::Incomplete => f.write_str("incomplete"),
            Standing::Suspicious => f.write_str("suspicious"),
            Standing::Ahead => f.write_str("dated ahead of now"),
            Standing::Foreign(why) => why.fmt(f),
        }
    }
}

/// Why a snapshot is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeepReason {
    /// There are no rules.
    NoRules,
    /// It is among the newest: the number of it, of so many.
    Last(u32, u32),
    /// It is the newest of this period, whose number is this, of so many.
    Each(Period, String, u32, u32),
    /// It is no older than that.
    Within(Lookback),
    /// It is the newest of this period, which is no older than that.
    EachWithin(Period, String, Lookback),
    /// It has these tags.
    Tags(BTreeSet<String>),
    /// It was named.
    Id,
    /// It is held, until some time or until it is released, for a reason.
    Held(Option<Timestamp>, String),
    /// There is no other good one in its sequence.
    LastGood,
    /// It is not good, and no good one of its sequence is newer.
    NothingBetter(Standing),
    /// What is dated ahead is judged when its time has come.
    Ahead,
}

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeepReason::NoRules => f.write_str("there are no rules"),
            KeepReason::Last(number, of) => write!(f, "last {number} of {of}"),
            KeepReason::Each(period, name, number, of) => write!(f, "{period} {number} of {of} ({name})"),
            KeepReason::Within(span) => write!(f, "within {span}"),
            KeepReason::EachWithin(period, name, span) => write!(f, "{period} within {span} ({name})"),
            KeepReason::Tags(tags) => {
                write!(f, "tag {}", tags.iter().map(String::as_str).collect::<Vec<_>>().join(" and "))
            }
            KeepReason::Id => f.write_str("named"),
            KeepReason::Held(until, reason) => {
                f.write_str("held")?;
                until.iter().try_for_each(|until| write!(f, " until {until}"))?;
                if reason.is_empty() { Ok(()) } else { write!(f, " ({reason})") }
            }
            KeepReason::LastGood => f.write_str("the last good one of its series"),
            KeepReason::NothingBetter(standing) => write!(f, "{standing}, and no good one is newer"),
            KeepReason::Ahead => f.write_str("dated ahead of now, and judged when its time has come"),
        }
    }
}

/// What becomes of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It stays, for each of these reasons.
    Kept(Vec<KeepReason>),
    /// No rule keeps it.
    Unkept,
    /// It was named as one that goes.
    Named,
    /// It is not good, and so many good ones of its sequence are newer.
    Replaced(Standing, usize),
    /// It counts for nothing, and no policy decides about it.
    Foreign(Foreign),
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fate::Kept(reasons) => {
                f.write_str(&reasons.iter().map(KeepReason::to_string).collect::<Vec<_>>().join(", "))
            }
            Fate::Unkept => f.write_str("no rule keeps it"),
            Fate::Named => f.write_str("named"),
            Fate::Replaced(standing, 1) => write!(f, "{standing}, and a good one is newer"),
            Fate::Replaced(standing, newer) => write!(f, "{standing}, and {newer} good ones are newer"),
            Fate::Foreign(why) => write!(f, "{why}: it counts for nothing, and no rule is about it"),
        }
    }
}

impl Fate {
    /// Tells whether the snapshot goes.
    pub fn goes(&self) -> bool {
        matches!(self, Fate::Unkept | Fate::Named | Fate::Replaced(..))
    }
}

/// A snapshot and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionDecision {
    /// The snapshot.
    pub id: SnapshotId,
    /// What becomes of it.
    pub fate: Fate,
    /// Its date does not go with its number, so it is counted among those alone that are like it.
    pub is_misdated: bool,
}

/// Decides about snapshots, each with its standing: sequence by sequence, the newest first.
pub fn decide<'a>(
    policy: &Policy,
    snapshots: impl IntoIterator<Item = (&'a Snapshot, Standing)>,
) -> BTreeMap<Sequence, Vec<RetentionDecision>> {
    let mut sequences: BTreeMap<Sequence, Vec<(&Snapshot, Standing)>> = BTreeMap::new();
    for (snapshot, standing) in snapshots {
        sequences.entry(Sequence::of(snapshot)).or_default().push((snapshot, standing));
    }
    sequences
        .into_iter()
        .map(|(sequence, mut members)| {
            members.sort_by_key(|(snapshot, _)| std::cmp::Reverse((snapshot.started, snapshot.id)));
            (sequence, decide_sequence(policy, &members))
        })
        .collect()
}

/// Returns those whose dates do not go with their numbers, of good snapshots of a sequence, the newest first: as few as can be.
/// Where numbers begin anew, the state of a host was lost.
fn misdated(good: &[&Snapshot]) -> BTreeSet<SnapshotId> {
    let mut odd = BTreeSet::new();
    let oldest_first: Vec<&Snapshot> = good.iter().rev().copied().collect();
    let begins_anew = |_: &&Snapshot, next: &&Snapshot| next.position.number != 0;
    for run in oldest_first.chunk_by(begins_anew) {
        // The longest that ascends: for each length the one that ends lowest, and for each snapshot the one before it.
        let (mut ends, mut before): (Vec<usize>, Vec<Option<usize>>) = (Vec::new(), Vec::new());
        for (at, snapshot) in run.iter().enumerate() {
            let length = ends.partition_point(|end| run[*end].position.number <= snapshot.position.number);
            before.push(length.checked_sub(1).map(|length| ends[length]));
            match ends.get_mut(length) {
                Some(end) => *end = at,
                None => ends.push(at),
            }
        }
        let ascending: BTreeSet<usize> = std::iter::successors(ends.last().copied(), |at| before[*at]).collect();
        odd.extend((0..run.len()).filter(|at| !ascending.contains(at)).map(|at| run[at].id));
    }
    odd
}

/// Decides about the snapshots of a sequence, the newest first.
fn decide_sequence(policy: &Policy, members: &[(&Snapshot, Standing)]) -> Vec<RetentionDecision> {
    let good: Vec<&Snapshot> =
        members.iter().filter(|(_, standing)| *standing == Standing::Good).map(|(snapshot, _)| *snapshot).collect();
    let misdated = misdated(&good);
    let counting_from = |newest: Option<&&Snapshot>| -> Vec<Counting> {
        let newest = newest.map(|newest| newest.started.in_zone(&policy.zone));
        policy.rules.iter().map(|rule| Counting::new(rule, newest.as_ref())).collect()
    };
    let mut counting = counting_from(good.iter().find(|snapshot| !misdated.contains(&snapshot.id)));
    let mut counting_misdated = counting_from(good.iter().find(|snapshot| misdated.contains(&snapshot.id)));
    let mut newer = 0;
    let mut is_any_good_kept = false;
    let mut decisions = Vec::with_capacity(members.len());
    for (snapshot, standing) in members {
        let at = snapshot.started.in_zone(&policy.zone);
        let is_misdated = misdated.contains(&snapshot.id);
        let counting = if is_misdated { &mut counting_misdated } else { &mut counting };
        let held = snapshot.held.as_ref().filter(|hold| hold.is_in_force(policy.now));
        let held = held.map(|hold| KeepReason::Held(hold.until, hold.reason.clone()));
        let fate = match *standing {
            Standing::Foreign(foreign) => Fate::Foreign(foreign),
            Standing::Ahead => Fate::Kept(vec![KeepReason::Ahead]),
            Standing::Good => {
                newer += 1;
                let mut reasons: Vec<KeepReason> =
                    counting.iter_mut().filter_map(|rule| rule.keeps(snapshot, &at)).collect();
                reasons.extend(held);
                if policy.rules.is_empty() {
                    reasons.push(KeepReason::NoRules);
                }
                is_any_good_kept |= !reasons.is_empty();
                if reasons.is_empty() { Fate::Unkept } else { Fate::Kept(reasons) }
            }
            standing => {
                let mut reasons: Vec<KeepReason> =
                    counting.iter().filter_map(|rule| rule.names(snapshot, &at)).collect();
                reasons.extend(held);
                if newer == 0 {
                    reasons.push(KeepReason::NothingBetter(standing));
                } else if policy.rules.is_empty() {
                    reasons.push(KeepReason::NoRules);
                }
                if reasons.is_empty() { Fate::Replaced(standing, newer) } else { Fate::Kept(reasons) }
            }
        };
        decisions.push(RetentionDecision { id: snapshot.id, fate, is_misdated });
    }
    if let Some(last) = good.first().filter(|_| !is_any_good_kept && !policy.allow_empty) {
        let decision = decisions.iter_mut().find(|decision| decision.id == last.id).expect("one for each");
        decision.fate = Fate::Kept(vec![KeepReason::LastGood]);
    }
    decisions
}

/// A rule on its way from the newest snapshot to the oldest.
struct Counting<'a> {
    rule: &'a Rule,
    /// Nothing older than this is within the rule's span.
    oldest: Option<ZonedDateTime>,
    /// How many it has kept.
    kept: u32,
    /// The last period of which it has seen one.
    period: Option<String>,
}

impl<'a> Counting<'a> {
    fn new(rule: &'a Rule, newest: Option<&ZonedDateTime>) -> Self {
        let oldest = match rule {
            Rule::Within(span) | Rule::EachWithin(_, span) => newest.and_then(|newest| span.before(newest)),
            _ => None,
        };
        Self { rule, oldest, kept: 0, period: None }
    }

    /// Tells why the rule keeps the next good snapshot, if it does.
    fn keeps(&mut self, snapshot: &Snapshot, at: &ZonedDateTime) -> Option<KeepReason> {
        match self.rule {
            Rule::Last(count) => {
                self.kept = self.kept.saturating_add(1);
                (self.kept <= *count).then_some(KeepReason::Last(self.kept, *count))
            }
            Rule::Each(period, count) => {
                let name = self.first_of(*period, at)?;
                self.kept = self.kept.saturating_add(1);
                (self.kept <= *count).then_some(KeepReason::Each(*period, name, self.kept, *count))
            }
            Rule::EachWithin(period, span) => {
                let name = self.first_of(*period, at)?;
                self.is_within(at).then_some(KeepReason::EachWithin(*period, name, *span))
            }
            Rule::Within(_) | Rule::Tags(_) | Rule::Id(_) => self.names(snapshot, at),
        }
    }

    /// Tells why it keeps a snapshot whatever others there are.
    fn names(&self, snapshot: &Snapshot, at: &ZonedDateTime) -> Option<KeepReason> {
        match self.rule {
            Rule::Within(span) => self.is_within(at).then_some(KeepReason::Within(*span)),
            Rule::Tags(tags) => {
                tags.iter().all(|tag| snapshot.tags.contains(tag)).then(|| KeepReason::Tags(tags.clone()))
            }
            Rule::Id(id) => (*id == snapshot.id).then_some(KeepReason::Id),
            Rule::Last(_) | Rule::Each(..) | Rule::EachWithin(..) => None,
        }
    }

    /// Returns the name of a period of which there was none before.
    fn first_of(&mut self, period: Period, at: &ZonedDateTime) -> Option<String> {
        let name = period.name_of(at);
        (self.period.as_ref() != Some(&name)).then(|| self.period.insert(name).clone())
    }

    fn is_within(&self, at: &ZonedDateTime) -> bool {
        self.oldest.as_ref().is_none_or(|oldest| at >= oldest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::anomaly::AnomalyKind;
    use crate::model::author::Author;
    use crate::model::id::{DomainEpoch, DomainId, SessionId};
    use crate::model::snapshot::{Anomaly, MissingStream, Position};

    /// Berlin, as its rules are since 1996.
    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a zone")
    }

    fn snapshot(seconds: i64, number: u64, host: &str) -> Snapshot {
        let started = Timestamp::from_seconds(seconds);
        let (id, at) =
            (SnapshotId::new(started, number.to_be_bytes()), DomainEpoch { domain: DomainId([3; 16]), epoch: 1 });
        Snapshot {
            started,
            finished: started,
            host: host.into(),
            sources: vec![b"/srv".to_vec()],
            ..Snapshot::blank(id, SessionId([2; 16]), at, Author::Reader)
        }
    }

    fn at(text: &str) -> i64 {
        text.parse::<jiff::Timestamp>().expect("a time").as_second()
    }

    fn policy(rules: &[Rule]) -> Policy {
        Policy {
            rules: rules.to_vec(),
            zone: berlin(),
            now: Timestamp::from_seconds(at("2026-11-27T12:00:00Z")),
            allow_empty: false,
        }
    }

    /// What becomes of snapshots of one series: for each of them, as they are given, whether it stays.
    fn kept(policy: &Policy, times: &[(&str, Standing)]) -> Vec<bool> {
        let all: Vec<_> =
            (0..).zip(times).map(|(i, (time, standing))| (snapshot(at(time), i, "a"), *standing)).collect();
        let decided = decide(policy, all.iter().map(|(snapshot, standing)| (snapshot, *standing)));
        assert_eq!(decided.len(), 1);
        let decisions = decided.into_values().next().expect("one series");
        let fate = |id| &decisions.iter().find(|decision| decision.id == id).expect("decided").fate;
        all.iter().map(|(snapshot, _)| matches!(fate(snapshot.id), Fate::Kept(_))).collect()
    }

    fn good<'a>(times: &[&'a str]) -> Vec<(&'a str, Standing)> {
        times.iter().map(|time| (*time, Standing::Good)).collect()
    }

    #[test]
    fn a_day_begins_at_midnight_where_the_policy_says() {
        let daily = policy(&[Rule::Each(Period::Day, 2)]);
        // 00:30 and 23:30 of the 24th in Berlin, and 00:30 of the 25th.
        let times = good(&["2026-11-23T23:30:00Z", "2026-11-24T22:30:00Z", "2026-11-24T23:30:00Z"]);
        assert_eq!(kept(&daily, &times), [false, true, true]);
        let utc = Policy { zone: TimeZone::UTC, ..daily };
        assert_eq!(kept(&utc, &times), [true, false, true]);
    }

    #[test]
    fn an_hour_that_comes_twice_is_two_and_one_that_never_comes_none() {
        let hourly = policy(&[Rule::Each(Period::Hour, 24)]);
        // Clocks in Berlin went from 03:00 back to 02:00 at 01:00 UTC.
        let autumn =
            good(&["2026-10-25T00:10:00Z", "2026-10-25T00:50:00Z", "2026-10-25T01:10:00Z", "2026-10-25T01:50:00Z"]);
        assert_eq!(kept(&hourly, &autumn), [false, true, false, true]);
        // From 02:00 on to 03:00 at 01:00 UTC.
        let spring = good(&["2026-03-29T00:50:00Z", "2026-03-29T01:10:00Z", "2026-03-29T01:50:00Z"]);
        assert_eq!(kept(&hourly, &spring), [true, false, true]);
        // The day has 25 hours and is one.
        let daily = policy(&[Rule::Each(Period::Day, 9)]);
        let long = good(&["2026-10-24T22:00:00Z", "2026-10-25T22:59:59Z", "2026-10-25T23:00:00Z"]);
        assert_eq!(kept(&daily, &long), [false, true, true]);
        // A day back from noon is noon, although it is 25 hours.
        let within = policy(&[Rule::Within("1d".parse().expect("a span"))]);
        let noons = good(&["2026-10-24T09:59:59Z", "2026-10-24T10:00:00Z", "2026-10-25T11:00:00Z"]);
        assert_eq!(kept(&within, &noons), [false, true, true]);
        let hours = policy(&[Rule::Within("24h".parse().expect("a span"))]);
        assert_eq!(kept(&hours, &noons), [false, false, true]);
    }

    #[test]
    fn leap_days_and_weeks_over_the_turn_of_a_year_are_where_they_belong() {
        let monthly = policy(&[Rule::Each(Period::Month, 12)]);
        let leap = good(&["2028-02-28T12:00:00Z", "2028-02-29T12:00:00Z", "2028-03-01T12:00:00Z"]);
        assert_eq!(kept(&monthly, &leap), [false, true, true]);
        // A year before the leap day is the 28th.
        let within = policy(&[Rule::Within("1y".parse().expect("a span"))]);
        let year = good(&["2027-02-28T11:59:00Z", "2027-02-28T12:00:00Z", "2028-02-29T12:00:00Z"]);
        assert_eq!(kept(&within, &year), [false, true, true]);
        // The Friday after New Year's Eve belongs to the last week of the year before.
        let weekly = policy(&[Rule::Each(Period::Week, 2)]);
        let turn =
            good(&["2026-12-27T12:00:00Z", "2026-12-31T12:00:00Z", "2027-01-01T12:00:00Z", "2027-01-04T12:00:00Z"]);
        assert_eq!(kept(&weekly, &turn), [false, false, true, true]);
    }

    #[test]
    fn a_week_that_was_missed_and_a_year_away_cost_nothing() {
        let weekly = policy(&[Rule::Each(Period::Week, 3), Rule::Within("8d".parse().expect("a span"))]);
        let times =
            good(&["2025-11-01T12:00:00Z", "2025-11-03T12:00:00Z", "2025-11-20T12:00:00Z", "2025-11-27T12:00:00Z"]);
        assert_eq!(kept(&weekly, &times), [false, true, true, true]);
    }

    #[test]
    fn what_is_not_good_takes_the_place_of_nothing() {
        let one = policy(&[Rule::Last(1)]);
        let foreign = Standing::Foreign(Foreign::Revoked);
        for standing in [Standing::Incomplete, Standing::Suspicious, Standing::Ahead, foreign] {
            let times = [
                ("2026-11-21T12:00:00Z", standing),
                ("2026-11-22T12:00:00Z", Standing::Good),
                ("2026-11-23T12:00:00Z", Standing::Good),
                ("2026-11-24T12:00:00Z", standing),
            ];
            let is_ahead = standing == Standing::Ahead;
            let stays = standing != foreign;
            assert_eq!(kept(&one, &times), [is_ahead, false, true, stays], "{standing:?}");
        }
    }

    #[test]
    fn a_snapshot_is_judged_by_the_worst_that_is_known_of_it() {
        let now = Timestamp::from_seconds(at("2026-11-24T12:00:00Z"));
        let good = snapshot(now.seconds + 600, 1, "a");
        let foreign = Snapshot { foreign: Some(Foreign::OtherHost), ..good.clone() };
        let ahead = Snapshot { started: Timestamp::from_seconds(now.seconds + 601), ..good.clone() };
        let missing = vec![MissingStream { name: "x".into(), why: "y".into() }];
        let (kind, since) = (AnomalyKind::Random, None);
        let odd = vec![Anomaly { kind, subject: "/srv".into(), why: "encrypted".into(), since }];
        let suspicious = Snapshot { anomalies: odd, ..good.clone() };
        for (snapshot, standing) in [
            (&good, Standing::Good),
            (&suspicious, Standing::Suspicious),
            (&Snapshot { missing: missing.clone(), ..suspicious.clone() }, Standing::Incomplete),
            (&Snapshot { started: ahead.started, missing: missing.clone(), ..suspicious.clone() }, Standing::Ahead),
            (&ahead, Standing::Ahead),
            (
                &Snapshot { foreign: foreign.foreign, missing, started: ahead.started, ..suspicious.clone() },
                Standing::Foreign(Foreign::OtherHost),
            ),
        ] {
            assert_eq!(Standing::of(snapshot, now), standing);
        }
    }

    #[test]
    fn the_last_good_one_stays_unless_it_may_go() {
        let none = policy(&[Rule::Tags(["nobody has it".to_owned()].into())]);
        let times = [
            ("2026-11-22T12:00:00Z", Standing::Good),
            ("2026-11-23T12:00:00Z", Standing::Good),
            ("2026-11-24T12:00:00Z", Standing::Incomplete),
        ];
        assert_eq!(kept(&none, &times), [false, true, true]);
        assert_eq!(kept(&Policy { allow_empty: true, ..none }, &times), [false, false, true]);
        assert_eq!(kept(&policy(&[]), &times), [true; 3], "no policy forgets nothing");
    }

    /// A snapshot of a day in November, with its number.
    fn numbered(day: i64, number: u64) -> Snapshot {
        let id = number * 100 + u64::try_from(day).expect("it is one");
        let made = snapshot(at("2026-11-01T12:00:00Z") + 86_400 * (day - 1), id, "a");
        Snapshot { position: Position { number, before: None }, ..made }
    }

    /// Days and numbers of what stays.
    fn kept_numbers(rules: &[Rule], all: &[(i64, u64)]) -> Vec<(i64, u64)> {
        let snapshots: Vec<Snapshot> = all.iter().map(|(day, number)| numbered(*day, *number)).collect();
        let decided = decide(&policy(rules), snapshots.iter().map(|snapshot| (snapshot, Standing::Good)));
        let goes: BTreeSet<SnapshotId> =
            decided.into_values().flatten().filter(|it| it.fate.goes()).map(|it| it.id).collect();
        let stays = all.iter().zip(&snapshots).filter(|(_, snapshot)| !goes.contains(&snapshot.id));
        stays.map(|(it, _)| *it).collect()
    }

    #[test]
    fn what_is_dated_back_takes_the_place_of_none_that_was_made_in_its_time() {
        let daily = [Rule::Each(Period::Day, 3)];
        let nights: Vec<(i64, u64)> = (1..=9).map(|day| (day, u64::try_from(day).expect("it is one") + 20)).collect();
        assert_eq!(kept_numbers(&daily, &nights), nights[6..]);
        // Whoever has the host makes three more, of days that have one.
        let forged = [(7, 30), (8, 31), (9, 32)];
        let with = |more: &[(i64, u64)]| kept_numbers(&daily, &[&nights, more].concat());
        assert_eq!(with(&forged[..2]), [&nights[6..], &forged[..2]].concat());
        // What was made on the same day behind it is only newer.
        assert_eq!(with(&forged[2..]), [(7, 27), (8, 28), (9, 32)]);
        // Older data that is added later is kept as the policy says, by itself.
        let added: Vec<(i64, u64)> = (1..=5).map(|day| (day, u64::try_from(day).expect("it is one") + 40)).collect();
        assert_eq!(with(&added), [&nights[6..], &added[2..]].concat());
        // A clock was wrong for one night, and numbers began anew.
        assert_eq!(with(&[(2, 33), (10, 34)]), [(8, 28), (9, 29), (2, 33), (10, 34)]);
        assert_eq!(with(&[(10, 0), (11, 1), (12, 2)]), [(10, 0), (11, 1), (12, 2)]);
    }

    #[test]
    fn nobody_pushes_out_what_another_author_made() {
        let ours = numbered(1, 1);
        let author = Author::Writer(crate::model::id::WriterId([7; 8]));
        let theirs = Snapshot { author, ..numbered(2, 2) };
        let decided = decide(&policy(&[Rule::Last(1)]), [(&ours, Standing::Good), (&theirs, Standing::Good)]);
        assert_eq!((decided.len(), decided.values().flatten().filter(|it| it.fate.goes()).count()), (2, 0));
    }

    #[test]
    fn what_is_held_stays_as_long_as_it_is() {
        let policy = policy(&[Rule::Last(1)]);
        for (until, stays) in [(None, true), (Some(1), true), (Some(0), false)] {
            let until = until.map(|seconds| Timestamp::from_seconds(policy.now.seconds + seconds));
            let hold = crate::model::hold::Hold { when: policy.now, reason: "audit".into(), until };
            for standing in [Standing::Good, Standing::Incomplete] {
                let held = Snapshot { held: Some(hold.clone()), ..numbered(1, 1) };
                let newer = numbered(2, 2);
                let decided = decide(&policy, [(&held, standing), (&newer, Standing::Good)]);
                let fate = &decided.values().next().expect("one")[1].fate;
                assert_eq!(!fate.goes(), stays, "{until:?}");
                assert!(!stays || fate.to_string().starts_with("held"), "{fate}");
            }
        }
    }

    #[test]
    fn series_are_apart_and_every_reason_is_told() {
        let mut all: Vec<Snapshot> =
            (0..4).map(|i| snapshot(at("2026-11-24T12:00:00Z") + i * 86_400, i as u64, "a")).collect();
        all[0].tags = vec!["release".into(), "x".into()];
        all.push(snapshot(at("2020-01-01T00:00:00Z"), 9, "renamed since"));
        let rules = [
            Rule::Last(1),
            Rule::Each(Period::Week, 2),
            Rule::EachWithin(Period::Day, "1d".parse().expect("a span")),
            Rule::Tags(["release".to_owned()].into()),
            Rule::Id(all[1].id),
        ];
        let decided = decide(&policy(&rules), all.iter().map(|snapshot| (snapshot, Standing::Good)));
        let verdicts: Vec<Vec<Fate>> =
            decided.into_values().map(|all| all.into_iter().map(|decision| decision.fate).collect()).collect();
        let day = |name: &str| KeepReason::EachWithin(Period::Day, name.into(), "1d".parse().expect("a span"));
        assert_eq!(
            verdicts,
            [
                vec![
                    Fate::Kept(vec![
                        KeepReason::Last(1, 1),
                        KeepReason::Each(Period::Week, "2026-W48".into(), 1, 2),
                        day("2026-11-27")
                    ]),
                    Fate::Kept(vec![day("2026-11-26")]),
                    Fate::Kept(vec![KeepReason::Id]),
                    Fate::Kept(vec![KeepReason::Tags(["release".to_owned()].into())]),
                ],
                vec![Fate::Kept(vec![
                    KeepReason::Last(1, 1),
                    KeepReason::Each(Period::Week, "2020-W01".into(), 1, 2),
                    day("2020-01-01")
                ])],
            ]
        );
    }

    #[test]
    fn reasons_are_told_in_a_clause() {
        let span: Lookback = "30d".parse().expect("a span");
        let reasons = vec![
            KeepReason::Last(1, 7),
            KeepReason::Each(Period::Week, "2026-W48".into(), 2, 4),
            KeepReason::EachWithin(Period::Day, "2026-11-24".into(), span),
            KeepReason::Within(span),
            KeepReason::Tags(["b".to_owned(), "a".to_owned()].into()),
        ];
        for (fate, told) in [
            (
                Fate::Kept(reasons),
                "last 1 of 7, weekly 2 of 4 (2026-W48), daily within 30d (2026-11-24), within 30d, tag a and b",
            ),
            (Fate::Kept(vec![KeepReason::NothingBetter(Standing::Suspicious)]), "suspicious, and no good one is newer"),
            (Fate::Replaced(Standing::Incomplete, 1), "incomplete, and a good one is newer"),
            (Fate::Replaced(Standing::Incomplete, 2), "incomplete, and 2 good ones are newer"),
            (
                Fate::Foreign(Foreign::Revoked),
                "by a writer whose key was revoked: it counts for nothing, and no rule is about it",
            ),
        ] {
            assert_eq!(fate.to_string(), told);
        }
    }

    #[test]
    fn spans_are_read_as_they_are_written() {
        for text in ["1y6m", "2w", "36h", "1y2m3w4d5h"] {
            assert_eq!(text.parse::<Lookback>().expect("a span").to_string(), text);
        }
        for text in ["", "0d", "7", "d", "1d1w", "1d2d", "-1d", "1 d", "70000y", "1D", "ä", "1ä"] {
            assert!(text.parse::<Lookback>().is_err(), "{text}");
        }
        let forever = policy(&[Rule::Within("60000y".parse().expect("a span"))]);
        assert_eq!(kept(&forever, &good(&["1980-01-01T00:00:00Z", "2026-01-01T00:00:00Z"])), [true, true]);
    }

    /// Tells periods apart by other means: numbers of the calendar, and of hours since 1970.
    fn label(period: Period, snapshot: &Snapshot) -> [i64; 3] {
        let at = snapshot.started.in_zone(&berlin());
        let (date, week) = (at.date(), at.date().iso_week_date());
        let (year, month, day) = (i64::from(date.year()), i64::from(date.month()), i64::from(date.day()));
        match period {
            // Whole hours lie between Berlin and UTC.
            Period::Hour => [snapshot.started.seconds.div_euclid(3600), 0, 0],
            Period::Day => [year, month, day],
            Period::Week => [week.year().into(), week.week().into(), 0],
            Period::Month => [year, month, 0],
            Period::Year => [year, 0, 0],
        }
    }

    /// Decides about one good snapshot by itself, slowly: by all those that are newer.
    fn is_kept_by(rule: &Rule, snapshot: &Snapshot, good: &[&Snapshot]) -> bool {
        let order = |it: &Snapshot| (it.started, it.id);
        let newer: Vec<&&Snapshot> = good.iter().filter(|it| order(it) > order(snapshot)).collect();
        let newest = good.iter().max_by_key(|it| order(it)).expect("it is one of them");
        let is_within = |span: &Lookback| match span.before(&newest.started.in_zone(&berlin())) {
            Some(oldest) => snapshot.started.in_zone(&berlin()) >= oldest,
            None => true,
        };
        let is_newest_of = |period| newer.iter().all(|it| label(period, it) != label(period, snapshot));
        match rule {
            Rule::Last(count) => newer.len() < *count as usize,
            Rule::Each(period, count) => {
                let periods: BTreeSet<[i64; 3]> = newer.iter().map(|it| label(*period, it)).collect();
                is_newest_of(*period) && periods.len() < *count as usize
            }
            Rule::Within(span) => is_within(span),
            Rule::EachWithin(period, span) => is_newest_of(*period) && is_within(span),
            Rule::Tags(tags) => tags.iter().all(|tag| snapshot.tags.contains(tag)),
            Rule::Id(id) => *id == snapshot.id,
        }
    }

    fn rules() -> impl Strategy<Value = Vec<Rule>> {
        let period =
            || prop::sample::select(vec![Period::Hour, Period::Day, Period::Week, Period::Month, Period::Year]);
        let span = || {
            let spans = ["1h", "25h", "1d", "8d", "2w", "1m", "1m1d", "1y", "2y3m"];
            prop::sample::select(spans.map(|span| span.parse::<Lookback>().expect("a span")).to_vec())
        };
        let rule = prop_oneof![
            (0u32..6).prop_map(Rule::Last),
            (period(), 0u32..9).prop_map(|(period, count)| Rule::Each(period, count)),
            span().prop_map(Rule::Within),
            (period(), span()).prop_map(|(period, span)| Rule::EachWithin(period, span)),
            Just(Rule::Tags(["t".to_owned()].into())),
        ];
        prop::collection::vec(rule, 1..5)
    }

    /// Times near each other, near the turns of the clock and of the year, and far apart.
    fn times() -> impl Strategy<Value = Vec<(i64, u8)>> {
        let turns = ["2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z", "2026-12-31T23:00:00Z", "2028-02-29T12:00:00Z"];
        let near = (prop::sample::select(turns.map(at).to_vec()), -200_000i64..200_000).prop_map(|(at, off)| at + off);
        let hours = (0i64..26_000).prop_map(|hour| at("2026-01-01T00:00:00Z") + hour * 3600);
        prop::collection::vec((prop_oneof![near, hours], any::<u8>()), 0..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn decisions_are_those_of_looking_at_all_others_for_each(rules in rules(), times in times()) {
            let mut all: Vec<Snapshot> = Vec::new();
            for (number, (seconds, kind)) in (0..).zip(times) {
                let mut made = snapshot(seconds, number, "a");
                made.tags = if kind % 5 == 0 { vec!["t".into()] } else { Vec::new() };
                if kind % 7 == 0 {
                    made.missing = vec![MissingStream { name: "x".into(), why: "y".into() }];
                }
                if made.id.to_bytes()[15] % 6 == 1 {
                    let (kind, subject, why) = (AnomalyKind::Grew, String::new(), String::new());
                    made.anomalies = vec![Anomaly { kind, subject, why, since: None }];
                }
                all.push(made);
            }
            let now = Timestamp::from_seconds(at("2028-06-01T00:00:00Z"));
            let standing = |it: &Snapshot| Standing::of(it, now);
            let good: Vec<&Snapshot> = all.iter().filter(|it| standing(it) == Standing::Good).collect();
            let policy = policy(&rules);
            let decided = decide(&policy, all.iter().map(|it| (it, standing(it))));
            prop_assert_eq!(decided.values().map(Vec::len).sum::<usize>(), all.len());
            let decided: BTreeMap<SnapshotId, Fate> =
                decided.into_values().flatten().map(|decision| (decision.id, decision.fate)).collect();
            let order = |it: &Snapshot| (it.started, it.id);
            let newest = good.iter().max_by_key(|it| order(it));
            let any_kept = good.iter().any(|it| rules.iter().any(|rule| is_kept_by(rule, it, &good)));
            for it in &all {
                let kept = matches!(decided[&it.id], Fate::Kept(_));
                let expected = match standing(it) {
                    Standing::Good => {
                        rules.iter().any(|rule| is_kept_by(rule, it, &good)) || (!any_kept && newest.is_some_and(|newest| newest.id == it.id))
                    }
                    Standing::Ahead => true,
                    _ => {
                        let by_name = |rule: &Rule| match (rule, &newest) {
                            (Rule::Tags(_) | Rule::Id(_), _) => is_kept_by(rule, it, &[it]),
                            (Rule::Within(span), Some(newest)) => span
                                .before(&newest.started.in_zone(&berlin()))
                                .is_none_or(|oldest| it.started.in_zone(&berlin()) >= oldest),
                            _ => false,
                        };
                        newest.is_none_or(|newest| order(it) > order(newest)) || rules.iter().any(by_name)
                    }
                };
                prop_assert_eq!(kept, expected, "{:?}: {:?}", it.id, decided[&it.id]);
            }
            // What was kept is kept again once the rest is gone.
            let left: Vec<&Snapshot> = all.iter().filter(|it| matches!(decided[&it.id], Fate::Kept(_))).collect();
            let again = decide(&policy, left.iter().map(|it| (*it, standing(it))));
            let all_kept = again.values().flatten().all(|decision| matches!(decision.fate, Fate::Kept(_)));
            prop_assert!(all_kept);
        }
    }
}
