//! `coffre forget`

use std::io::IsTerminal;
use std::sync::Arc;

use clap::FromArgMatches;
use jiff::tz::TimeZone;

use crate::cli::exit::{Exit, usage};
use crate::cli::failure::{Failure, Fallible};
use crate::cli::progress::ConsoleMonitor;
use crate::cli::select::FilterArgs;
use crate::cli::settings::Settings;
use crate::cli::table::{self, Column};
use crate::cli::{command, events, on_record, output, question};
use crate::model::outcome::{Ended, Outcome};
use crate::model::retention::{Lookback, Period, Policy, Rule};
use crate::model::run::{RunKind, count as counted};
use crate::model::snapshot::{Snapshot, SnapshotId};
use crate::model::time::{Clock, Timestamp};
use crate::ops::forget::{
    CONFIRMED_PERCENT, ForgetError, ForgetPlan, PlannedSequence, Policies, WantedForgotten, apply, give_up, plan, undo,
};
use crate::process::own::{PROGRAM, host_name};
use crate::progress::Monitor;
use crate::repository::access::Deleting;
use crate::repository::choose::SnapshotFilter;
use crate::repository::expired::GRACE;
use crate::repository::retention::ToldBy;
use crate::store::OpenMode;

/// Flags of `forget`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  coffre forget --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --dry-run
  coffre forget --keep-daily 7 --keep-weekly 5 --time-zone Europe/Berlin
  coffre forget --host db1 --keep-last 3 --keep-within 14d --keep-tag release
  coffre forget 3f9c21d0
  coffre forget --undo last

What any rule keeps stays, of each host, job and sources by itself, and of each author: no host pushes out what another made. Rules count \
periods that have a snapshot, and spans of time go back from the newest one, so a host that was away loses nothing. What is incomplete, flagged as odd or \
dated ahead of now takes the place of none; what somebody may not have made, no rule is about. Snapshots that are held stay (`coffre hold`), \
and so does the last good one of each. Where no rule is typed, those of the configuration count: a job's own, and the repository's for all others.

What is forgotten is left out of every list, is no `latest`, and can still be restored by its id. `--undo` brings it back until a clean-up \
removes it, 3 days later at the earliest. Nothing is deleted here.")]
pub struct Args {
    /// Forget these: ids, which may be cut short; with --undo, what to bring back, or `last`
    snapshots: Vec<String>,
    /// Keep the newest N
    #[arg(long, value_name = "N", value_parser = count())]
    keep_last: Option<u32>,
    /// Keep the newest one of each of the newest N hours that have any
    #[arg(long, value_name = "N", value_parser = count())]
    keep_hourly: Option<u32>,
    /// Keep the newest one of each of the newest N days that have any
    #[arg(long, value_name = "N", value_parser = count())]
    keep_daily: Option<u32>,
    /// The same for weeks, which begin on Mondays
    #[arg(long, value_name = "N", value_parser = count())]
    keep_weekly: Option<u32>,
    /// The same for months
    #[arg(long, value_name = "N", value_parser = count())]
    keep_monthly: Option<u32>,
    /// The same for years
    #[arg(long, value_name = "N", value_parser = count())]
    keep_yearly: Option<u32>,
    /// Keep all that are no older than this before the newest, such as 14d, 36h or 1y6m
    #[arg(long, value_name = "SPAN")]
    keep_within: Option<Lookback>,
    /// Keep the newest one of each hour, as far back
    #[arg(long, value_name = "SPAN")]
    keep_within_hourly: Option<Lookback>,
    /// Keep the newest one of each day, as far back
    #[arg(long, value_name = "SPAN")]
    keep_within_daily: Option<Lookback>,
    /// The same for weeks
    #[arg(long, value_name = "SPAN")]
    keep_within_weekly: Option<Lookback>,
    /// The same for months
    #[arg(long, value_name = "SPAN")]
    keep_within_monthly: Option<Lookback>,
    /// The same for years
    #[arg(long, value_name = "SPAN")]
    keep_within_yearly: Option<Lookback>,
    /// Keep all with this tag, or with all of several: a,b (repeatable: any of them)
    #[arg(long, value_name = "TAG")]
    keep_tag: Vec<String>,
    /// Keep this one: an id, which may be cut short (repeatable)
    #[arg(long, value_name = "ID")]
    keep_id: Vec<String>,
    /// Where days, weeks, months and years begin, such as Europe/Berlin
    #[arg(long, value_name = "ZONE", default_value = "UTC", value_parser = zone)]
    time_zone: TimeZone,
    #[command(flatten)]
    filter: FilterArgs,
    /// Let even the last good one of a host, job and sources go
    #[arg(long)]
    allow_empty: bool,
    /// Show what would be forgotten, and change nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Do not ask where more than half of a series would go
    #[arg(long, short)]
    yes: bool,
    /// Bring back what was forgotten: ids, or `last` for what was forgotten last
    #[arg(long, conflicts_with_all = ["dry_run", "allow_empty"])]
    undo: bool,
    /// Go on without records of retention that are missing or damaged: what they alone said of snapshots counts for nothing any more
    #[arg(long, conflicts_with_all = ["snapshots", "undo", "dry_run"])]
    accept_missing_records: bool,
}

fn count() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

/// Reads a time zone: a name of the IANA database, or a rule as in POSIX.
fn zone(text: &str) -> Result<TimeZone, String> {
    if text == "UTC" {
        return Ok(TimeZone::UTC);
    }
    let named = TimeZone::get(text).or_else(|_| TimeZone::posix(text));
    named.map_err(|_| {
        "no such time zone is known here; write for example Europe/Berlin, UTC, or CET-1CEST,M3.5.0,M10.5.0/3".into()
    })
}

impl Args {
    fn has_rules(&self) -> bool {
        !self.rules().is_empty() || !self.keep_id.is_empty()
    }

    /// Returns the rules, without those that name snapshots.
    fn rules(&self) -> Vec<Rule> {
        let each = [
            (Period::Hour, self.keep_hourly, self.keep_within_hourly),
            (Period::Day, self.keep_daily, self.keep_within_daily),
            (Period::Week, self.keep_weekly, self.keep_within_weekly),
            (Period::Month, self.keep_monthly, self.keep_within_monthly),
            (Period::Year, self.keep_yearly, self.keep_within_yearly),
        ];
        let mut rules: Vec<Rule> = self.keep_last.map(Rule::Last).into_iter().collect();
        rules.extend(each.iter().filter_map(|(period, count, _)| count.map(|count| Rule::Each(*period, count))));
        rules.extend(self.keep_within.map(Rule::Within));
        rules.extend(each.iter().filter_map(|(period, _, span)| span.map(|span| Rule::EachWithin(*period, span))));
        let tags = self.keep_tag.iter().map(|tags| tags.split(',').map(str::to_owned).collect());
        rules.extend(tags.map(Rule::Tags));
        rules
    }

    fn check(&self) -> Fallible<()> {
        let (is_named, has_filter) = (!self.snapshots.is_empty(), self.filter.filter() != SnapshotFilter::default());
        let wrong = match (self.undo, is_named, self.has_rules()) {
            (true, false, _) => "bring back which snapshots? Write `coffre forget --undo last`, or ids",
            (true, _, true) => "--undo does not go with rules",
            (false, true, true) => {
                "name snapshots or rules, not both: those that are named would go, and rules say what stays"
            }
            (_, true, _) if has_filter => "--host, --job, --tag and --path do not go with ids",
            (false, false, false) if !self.accept_missing_records => {
                "no rule says what is to be kept; add one such as --keep-daily 7, or name snapshots"
            }
            _ if self.accept_missing_records && (self.has_rules() || has_filter) => {
                "--accept-missing-records goes alone; forget afterwards"
            }
            _ => return Ok(()),
        };
        Err(usage(wrong))
    }
}

/// What was forgotten, or would be.
pub struct ForgetDone {
    /// What goes and what stays.
    pub plan: ForgetPlan,
    /// Whether it was carried out.
    is_done: bool,
    now: Timestamp,
}

impl Ended for ForgetDone {
    fn outcome(&self) -> Outcome {
        self.plan.outcome()
    }
}

impl ForgetDone {
    /// Returns what is told to programs.
    pub fn summary(&self) -> events::Forgot {
        let (going, staying) = (self.plan.going().count() as u64, self.plan.staying() as u64);
        events::Forgot {
            done: self.is_done,
            forgotten: going,
            kept: staying,
            removable_from: (self.is_done && going > 0).then(|| removable_from(self.now).to_string()),
        }
    }
}

pub async fn run(global: &Settings, args: Args) -> Fallible<Exit> {
    args.check()?;
    let monitor = global.monitor();
    let deleting = opened(global, &args, &monitor).await?;
    let told_by = told_by();
    if args.undo {
        return bring_back(global, &deleting, &args.snapshots, &told_by, &monitor).await;
    }
    if args.accept_missing_records {
        return accept(global, &deleting, &told_by, &monitor).await;
    }
    // Rules for some hosts or jobs alone are not what the repository's retention is.
    let is_of_all = args.filter.filter() == SnapshotFilter::default();
    let done = carry_out(global, &args, &deleting, &monitor, (LookedAt::First, is_of_all)).await?;
    sum_up(global, &done);
    Ok(done.outcome().into())
}

/// Whether somebody looks at what is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LookedAt {
    /// Before it goes.
    First,
    /// Nobody does; `last` is when that was done last.
    Never { last: Option<Timestamp> },
}

/// Forgets by the rules that the configuration has, and puts it on record, where `last` is when that was begun last. Nothing is shown and nobody
/// is asked: a series that would lose too much is left out and told.
pub async fn as_configured(global: &Settings, args: Args, last: Option<Timestamp>) -> Fallible<ForgetDone> {
    args.check()?;
    let monitor = global.monitor();
    let deleting = opened(global, &args, &monitor).await?;
    carry_out(global, &args, &deleting, &monitor, (LookedAt::Never { last }, true)).await
}

async fn opened(global: &Settings, args: &Args, monitor: &Arc<ConsoleMonitor>) -> Fallible<Deleting> {
    let mode = if args.dry_run { OpenMode::Read } else { OpenMode::Write };
    let repository = global.repository(mode, monitor).await?;
    Ok(repository.deleting().map_err(ForgetError::Access)?)
}

/// Forgets, shows what to whoever looks at it, and puts it on record if it is retention of all that there is.
async fn carry_out(
    global: &Settings,
    args: &Args,
    deleting: &Deleting,
    monitor: &Arc<ConsoleMonitor>,
    (looked_at, is_of_all): (LookedAt, bool),
) -> Fallible<ForgetDone> {
    let started = Clock::System.now();
    let done = forgotten(global, args, deleting, monitor, looked_at).await;
    let has_ended = done.as_ref().map_or(true, |done| done.is_done);
    if has_ended && is_of_all && args.snapshots.is_empty() && !args.dry_run {
        let mut record = on_record::of(RunKind::Forget, started, done.as_ref());
        let going = done.as_ref().map_or(0, |done| done.plan.going().count() as u64);
        record.counts = [(counted::SNAPSHOTS.to_owned(), going)].into();
        on_record::put(deleting.repository(), record, monitor).await;
    }
    monitor.finish();
    done
}

async fn forgotten(
    global: &Settings,
    args: &Args,
    deleting: &Deleting,
    monitor: &Arc<ConsoleMonitor>,
    looked_at: LookedAt,
) -> Fallible<ForgetDone> {
    let told_by = told_by();
    let wanted = match args.snapshots.is_empty() {
        false => WantedForgotten::Named(args.snapshots.clone(), args.allow_empty),
        true => {
            let mut policies = Policies::from(policy(args, args.allow_empty, deleting, told_by.now).await?);
            for (job, rules) in rules_of_jobs(global)? {
                policies.of_jobs.insert(job, policy(&rules, args.allow_empty, deleting, told_by.now).await?);
            }
            WantedForgotten::ByPolicy(policies, args.filter.filter())
        }
    };
    let mut plan = plan(deleting, &wanted, told_by.now, &**monitor).await?;
    let is_doubtful = matches!(wanted, WantedForgotten::ByPolicy(..)) && !args.yes && !args.dry_run;
    if let LookedAt::Never { last } = looked_at
        && is_doubtful
    {
        plan.leave_out_losses(last, &**monitor);
    }
    monitor.finish();
    let is_shown = looked_at == LookedAt::First;
    if is_shown {
        show(global, &plan, &args.time_zone);
    }
    let asks = is_doubtful && is_shown;
    let is_done = if args.dry_run || asks && !confirmed(&plan, monitor).await? {
        false
    } else {
        apply(deleting, &plan, &told_by).await?;
        true
    };
    Ok(ForgetDone { plan, is_done, now: told_by.now })
}

/// Returns the policy that rules make.
async fn policy(args: &Args, allow_empty: bool, deleting: &Deleting, now: Timestamp) -> Fallible<Policy> {
    let mut rules = args.rules();
    for text in &args.keep_id {
        rules.push(Rule::Id(deleting.repository().find_snapshot(text, &SnapshotFilter::default()).await?.id));
    }
    Ok(Policy { rules, zone: args.time_zone.clone(), now, allow_empty })
}

/// Returns the rules that jobs of the configuration have of their own, where what is kept is left to it.
///
/// # Errors
/// One for the user, with the place of what cannot be meant.
pub fn rules_of_jobs(global: &Settings) -> Fallible<Vec<(String, Args)>> {
    let rules = global.configured.rules_of_jobs(&command())?;
    let understood = |(job, matches): (String, clap::ArgMatches)| {
        let of_verb = matches.subcommand_matches("forget").expect("it is one");
        let args = Args::from_arg_matches(of_verb).map_err(|error| usage(error.to_string()))?;
        Ok((job, args))
    };
    rules.into_iter().map(understood).collect()
}

/// Says who tells of retention, and when.
pub(super) fn told_by() -> ToldBy {
    ToldBy { now: Clock::System.now(), host: host_name(), program: PROGRAM }
}

/// Asks where more would go than somebody should have to find out afterwards.
async fn confirmed(plan: &ForgetPlan, monitor: &ConsoleMonitor) -> Fallible<bool> {
    let losing: Vec<&PlannedSequence> = plan.sequences.iter().filter(|sequence| sequence.loses_much()).collect();
    if losing.is_empty() {
        return Ok(true);
    }
    for it in &losing {
        let count = output::count(it.members.len() as u64, "snapshot");
        output::say(&format!("{} of {count} of {} would be forgotten", it.going(), it.sequence));
    }
    if !std::io::stdin().is_terminal() {
        let message =
            format!("more than {CONFIRMED_PERCENT} % of a series would be forgotten, and nobody is there to be asked");
        return Err(Failure::new(Outcome::Refused, message).hinting("look at it with --dry-run, then add --yes"));
    }
    let count = output::count(plan.going().count() as u64, "snapshot");
    let answer = question::ask(monitor, &format!("forget {count} in all? [y/N] ")).await?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Shows what becomes of each snapshot.
fn show(global: &Settings, plan: &ForgetPlan, zone: &TimeZone) {
    if global.json {
        let members = plan.sequences.iter().flat_map(|sequence| &sequence.members);
        for (snapshot, decision) in members {
            output::json(&events::Decided {
                forget: decision.fate.goes(),
                host: &snapshot.host,
                id: snapshot.id.to_string(),
                job: &snapshot.job,
                misdated: decision.is_misdated,
                started: snapshot.started.to_string(),
                why: decision.fate.to_string(),
            });
        }
        return;
    }
    if global.quiet {
        return;
    }
    for it in &plan.sequences {
        output::line(&it.sequence.to_string());
        let columns = [Column::left("ID"), Column::left("TIME"), Column::left(""), Column::note("WHY")];
        let row = |(snapshot, decision): &(Snapshot, crate::model::retention::RetentionDecision)| {
            let time = snapshot.started.in_zone(zone).strftime("%Y-%m-%d %H:%M").to_string();
            let goes = if decision.fate.goes() { "forget" } else { "keep" };
            let odd = if decision.is_misdated { "; its date does not go with its number" } else { "" };
            vec![snapshot.id.short(), time, goes.to_owned(), format!("{}{odd}", decision.fate)]
        };
        table::print(&columns, &it.members.iter().map(row).collect::<Vec<_>>());
        output::line("");
    }
    if !plan.sequences.is_empty() {
        output::line(&format!("times in {}, where days begin", zone.iana_name().unwrap_or("the zone that was given")));
    }
}

fn sum_up(global: &Settings, done: &ForgetDone) {
    let (going, staying) = (done.plan.going().count() as u64, done.plan.staying() as u64);
    if global.json {
        output::json(&done.summary());
        return;
    }
    if global.quiet {
        return;
    }
    let count = output::count(going, "snapshot");
    match (done.is_done, going) {
        (_, 0) => output::line(&format!("nothing to forget: {} kept", output::count(staying, "snapshot"))),
        (false, _) => output::line(&format!("would forget {count}; nothing was changed")),
        (true, _) => {
            output::line(&format!("forgot {count}; `coffre forget --undo last` undoes it"));
            output::line(&format!(
                "a clean-up may remove what was forgotten from {} on",
                removable_from(done.now).local_zoned()
            ));
        }
    }
}

/// Returns from when on what is forgotten now may be removed, unless a clean-up is told another grace time.
fn removable_from(now: Timestamp) -> Timestamp {
    let grace = i64::try_from(GRACE.as_secs()).expect("days");
    Timestamp::from_seconds(now.seconds.saturating_add(grace))
}

async fn bring_back(
    global: &Settings,
    deleting: &Deleting,
    names: &[String],
    told_by: &ToldBy,
    monitor: &ConsoleMonitor,
) -> Fallible<Exit> {
    monitor.phase("reading snapshots");
    let back = undo(deleting, names, told_by).await?;
    monitor.finish();
    if global.json {
        let brought_back = back.iter().map(SnapshotId::to_string).collect();
        output::json(&events::BroughtBack { brought_back });
    } else if !global.quiet {
        let named: Vec<String> = back.iter().map(SnapshotId::short).collect();
        output::line(&format!("brought back {}: {}", output::count(back.len() as u64, "snapshot"), named.join(", ")));
    }
    Ok(Exit::Done)
}

async fn accept(global: &Settings, deleting: &Deleting, told_by: &ToldBy, monitor: &ConsoleMonitor) -> Fallible<Exit> {
    monitor.phase("reading records of retention");
    let given_up = give_up(deleting, told_by).await?;
    monitor.finish();
    if global.json {
        let given_up = given_up.iter().map(ToString::to_string).collect();
        output::json(&events::GivenUp { given_up });
    } else if !global.quiet {
        given_up.iter().for_each(|problem| output::line(&format!("given up  {problem}")));
        if given_up.is_empty() {
            output::line("all records of retention are there and can be read");
        }
    }
    Ok(Exit::Done)
}
