//! `coffre prune`

use std::time::Duration;

use crate::cli::events;
use crate::cli::exit::{Exit, usage};
use crate::cli::failure::{Failure, Fallible};
use crate::cli::flags::duration;
use crate::cli::settings::Settings;
use crate::cli::signals::cancel_on_signals;
use crate::cli::{on_record, output};
use crate::model::id::SessionId;
use crate::model::outcome::Ended;
use crate::model::run::{RunKind, count};
use crate::model::time::Clock;
use crate::model::units::ByteSize;
use crate::ops::prune::{MaxUnused, MergedSegments, PruneOptions, PrunePlan, PruneReport, PruneUnfinished, prune};
use crate::process::own::host_name;
use crate::repository::running::RunningSession;
use crate::store::OpenMode;

/// Flags of `prune`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  coffre prune --dry-run
  coffre prune
  coffre prune --wait 12h          # at night, beside backups that take long
  coffre prune --max-rewrite 50GiB --max-time 2h

Backups may run beside it, on any host. What nothing needs is first put on a list, on which no backup relies from then on. Backups that \
began before are waited for, since they may rely on it; where they have not ended after --wait, nothing is deleted, exit code 3, and the \
next run goes on. Then everything is looked at again, and what nothing needs is deleted. It can be ended at any point.

Data lies in packs. One of which only a part is needed is rewritten: what is needed of it is stored anew, and then it goes. Those are \
taken first that free most for what has to be stored, until no more than --max-unused stays for nothing. Small packs of many nights are joined \
into full ones in the same way. What --max-rewrite and --max-time leave is left to the next run. \
Of --max-time as much as --wait says, at most half, is kept for waiting.

Whatever cannot be read, or was there and is not, ends it before anything is deleted, and it says what that is: exit code 4 \
where it is damaged. Snapshots that were forgotten longer than --grace ago are removed first, and cannot be brought back from then on. \
It needs the passphrase, and credentials that may delete; hosts need neither.")]
pub struct Args {
    /// Only show what would be deleted, and what stays
    #[arg(long, short = 'n')]
    dry_run: bool,

    /// Remove snapshots that were forgotten longer than that ago
    #[arg(long, value_name = "DURATION", default_value = "72h", value_parser = duration)]
    grace: Duration,

    /// Wait that long for backups that run
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    wait: Duration,

    /// Leave that much which nothing needs in packs of which the rest is needed: 5% of all, 20GiB, 0, or unlimited
    #[arg(long, value_name = "LIMIT", default_value_t)]
    max_unused: MaxUnused,

    /// Store no more than that anew in one run, such as 50GiB; 0: rewrite nothing
    #[arg(long, value_name = "SIZE")]
    max_rewrite: Option<ByteSize>,

    /// Rewrite nothing more, and wait for nobody, after that long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    max_time: Option<Duration>,

    /// Do not wait for this session, which is known to be dead: what it may yet back up does not count (repeatable)
    #[arg(long, value_name = "SESSION")]
    give_up: Vec<String>,
}

impl Args {
    /// Tells whether what it prints is all that it does.
    pub fn only_shows(&self) -> bool {
        self.dry_run
    }
}

/// What a clean-up did.
pub struct PruneDone {
    /// What it found, and what became of it.
    pub report: PruneReport,
    args: Args,
    repository: String,
    elapsed: Duration,
}

pub async fn run(global: &Settings, args: Args) -> Fallible<Exit> {
    let done = carry_out(global, &args).await?;
    if global.json {
        output::json(&done.summary());
    } else {
        if !global.quiet {
            print_summary(&args, &done.report, done.elapsed);
        }
        done.tell_unfinished();
    }
    Ok(done.report.outcome().into())
}

impl PruneDone {
    /// Returns what is told to programs.
    pub fn summary(&self) -> events::Pruned {
        summary(&self.args, &self.repository, &self.report, self.elapsed)
    }

    /// Says why nothing was deleted, if that is so.
    pub fn tell_unfinished(&self) {
        self.report.unfinished.iter().for_each(|unfinished| told(unfinished).iter().for_each(|line| output::say(line)));
    }
}

/// Cleans up, and puts it on record.
pub async fn carry_out(global: &Settings, args: &Args) -> Fallible<PruneDone> {
    let session = |text: &String| {
        text.parse().map_err(|_| usage(format!("{text:?} is no session; `coffre prune` names those that it waits for")))
    };
    let options = PruneOptions {
        dry_run: args.dry_run,
        grace: args.grace,
        wait: args.wait,
        give_up: args.give_up.iter().map(session).collect::<Fallible<_>>()?,
        max_unused: args.max_unused,
        max_rewrite: args.max_rewrite.map(|size| size.0),
        max_time: args.max_time,
        host: host_name(),
        memory_bytes: global.memory_bytes,
        ..PruneOptions::default()
    };
    let monitor = global.monitor();
    let cancel = cancel_on_signals(&monitor)?;
    let mode = if args.dry_run { OpenMode::Read } else { OpenMode::Write };
    let repository = global.repository(mode, &monitor).await?;
    let started = Clock::System.now();
    let report = prune(repository.clone(), options, monitor.clone(), cancel).await.map_err(Failure::from);
    let mut record = on_record::of(RunKind::Prune, started, report.as_ref());
    if let Ok(report) = &report {
        let counts = [
            (count::PACKS, report.deleted_packs),
            (count::BYTES_FREED, report.deleted_bytes),
            (count::SNAPSHOTS, report.plan.expired),
        ];
        record.counts = counts.map(|(name, count)| (name.to_owned(), count)).into();
    }
    if !args.dry_run {
        on_record::put(&repository, record, &monitor).await;
    }
    monitor.finish();
    let (repository, elapsed) = (repository.id().to_string(), monitor.elapsed());
    Ok(PruneDone { report: report?, args: args.clone(), repository, elapsed })
}

fn summary(args: &Args, repository: &str, report: &PruneReport, elapsed: Duration) -> events::Pruned {
    let PrunePlan { snapshots, expired, dead_packs, dead_bytes, stays, .. } = &report.plan;
    let waiting_for = match &report.unfinished {
        Some(PruneUnfinished::Running(sessions)) => sessions.iter().map(|(id, _)| id.to_string()).collect(),
        _ => Vec::new(),
    };
    let (rewrite_bytes, rewrite_used_bytes) = report.plan.rewritten_bytes();
    events::Pruned {
        damaged_packs: report.damaged.iter().map(ToString::to_string).collect(),
        dead_bytes: *dead_bytes,
        dead_packs: *dead_packs,
        deleted_bytes: report.deleted_bytes,
        deleted_packs: report.deleted_packs,
        doubtful: stays.doubtful.iter().map(|(pack, why)| format!("{pack}: {why}")).collect(),
        dry_run: args.dry_run,
        freed_bytes: report.plan.freed_bytes(),
        given_up: report.given_up.iter().map(ToString::to_string).collect(),
        left_packs: stays.left + report.postponed_packs,
        merged_segments: report.merged_segments.replaced,
        outcome: report.outcome().name(),
        partly_needed_packs: stays.partly_needed,
        removed_old: report.removed_old,
        removed_snapshots: *expired,
        repository: repository.to_owned(),
        rewrite_bytes,
        rewrite_packs: report.plan.rewrite.len() as u64,
        rewrite_used_bytes,
        rewritten_bytes: report.rewritten_bytes,
        rewritten_packs: report.rewritten_packs,
        seconds: elapsed.as_secs_f64(),
        snapshots: *snapshots,
        stays_bytes: stays.bytes,
        stays_packs: stays.packs,
        stored_bytes: report.stored_bytes,
        stored_packs: report.stored_packs,
        unfinished: report.unfinished.as_ref().map(|unfinished| told(unfinished)[0].clone()),
        unused_bytes: stays.unused_bytes,
        waiting_for,
    }
}

fn print_summary(args: &Args, report: &PruneReport, elapsed: Duration) {
    let plan = &report.plan;
    let packs = |packs: u64, bytes: u64| format!("{}, {}", output::count(packs, "pack"), ByteSize(bytes));
    if plan.expired > 0 {
        let (label, count) =
            (if args.dry_run { "expired" } else { "removed" }, output::count(plan.expired, "snapshot"));
        output::line(&format!("{label:<9} {count}, forgotten longer than the grace time ago"));
    }
    output::line(&format!("needed    by {}", output::count(plan.snapshots, "snapshot")));
    output::line(&format!("dead      {}", packs(plan.dead_packs, plan.dead_bytes)));
    print_rewritten(args, report);
    if !args.dry_run {
        output::line(&format!("deleted   {}", packs(report.deleted_packs, report.deleted_bytes)));
    }
    output::line(&format!("stays     {}", packs(plan.stays.packs, plan.stays.bytes)));
    if plan.stays.partly_needed > 0 {
        let partly = output::count(plan.stays.partly_needed, "pack");
        let unused = ByteSize(plan.stays.unused_bytes);
        output::line(&format!(
            "unused    about {unused} in {partly} of which the rest is needed (--max-unused {})",
            args.max_unused
        ));
    }
    if plan.stays.left + report.postponed_packs > 0 {
        let left = output::count(plan.stays.left + report.postponed_packs, "pack");
        let bounds = [("--max-rewrite", plan.stays.left), ("--max-time", report.postponed_packs)];
        let bounds: Vec<&str> = bounds.iter().filter(|(_, left)| *left > 0).map(|(bound, _)| *bound).collect();
        output::line(&format!("left      {left} to be rewritten by the next run ({})", bounds.join(", ")));
    }
    for (pack, why) in &plan.stays.doubtful {
        output::line(&format!("note      nothing seems to need pack {pack}, which stays: it {why}"));
    }
    let MergedSegments { replaced, put } = report.merged_segments;
    if replaced > 0 {
        output::line(&format!("merged    {} into {put}", output::count(replaced, "index segment")));
    }
    for session in &report.given_up {
        output::line(&format!(
            "given up  session {session}: its lease ended long ago, and what it may yet store does not count"
        ));
    }
    output::line(&format!("duration  {}", output::duration(elapsed)));
}

/// Says what is rewritten, or would be.
fn print_rewritten(args: &Args, report: &PruneReport) {
    let planned = &report.plan.rewrite;
    if planned.is_empty() {
        return;
    }
    let (bytes, used) = report.plan.rewritten_bytes();
    let small = planned.iter().filter(|pack| pack.is_small).count() as u64;
    let because = match small {
        0 => String::new(),
        small => format!(", {small} of them because they are small"),
    };
    let about = format!(
        "{}, {}, of which about {} is needed{because}",
        output::count(planned.len() as u64, "pack"),
        ByteSize(bytes),
        ByteSize(used)
    );
    output::line(&format!("rewrite   {about}"));
    if args.dry_run {
        output::line(&format!("frees     about {}", ByteSize(report.plan.freed_bytes())));
    } else {
        let old = format!("{}, {}", output::count(report.rewritten_packs, "pack"), ByteSize(report.rewritten_bytes));
        let new = format!("{}, {}", output::count(report.stored_packs, "pack"), ByteSize(report.stored_bytes));
        output::line(&format!("rewritten {old}, into {new}"));
    }
}

/// Says why nothing was deleted, and what to do.
fn told(unfinished: &PruneUnfinished) -> Vec<String> {
    match unfinished {
        PruneUnfinished::Running(sessions) => {
            let count = output::count(sessions.len() as u64, "session");
            let mut lines = vec![format!(
                "nothing was deleted: {count} began before it was told what is to be deleted, and may need it; the next run goes on"
            )];
            lines.extend(sessions.iter().map(|(id, session)| running(*id, session)));
            lines
        }
        PruneUnfinished::Needed { pack } => vec![format!(
            "nothing was deleted: a snapshot that came meanwhile needs pack {pack}; run it again, and it deletes what that leaves"
        )],
        PruneUnfinished::TooLate => vec![
            "nothing was deleted: more than 15 days passed since it was told what is to be deleted; run it again"
                .to_owned(),
        ],
        PruneUnfinished::Full => vec![
            "nothing was rewritten, because the store is full; what nothing needs was deleted: run it again, and it goes on with the room that this leaves"
                .to_owned(),
        ],
    }
}

fn running(id: SessionId, session: &RunningSession) -> String {
    match &session.lease {
        Some(lease) => format!(
            "  session {id}: {} of host {:?} since {}, valid until {}",
            lease.operation,
            lease.host,
            lease.started.local(),
            lease.expires.local()
        ),
        None => format!("  session {id}"),
    }
}
