//! `coffre restore --into-postgres`, `--into-mysql` and `--into-sqlite`

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;

use crate::cli::databases;
use crate::cli::engines::{FILE_FLAGS, IntoPlace, into_flags, or};
use crate::cli::environment::Environment;
use crate::cli::exit::{Exit, usage};
use crate::cli::failure::{Context, Fallible};
use crate::cli::progress::ConsoleMonitor;
use crate::cli::select::{self, FilterArgs};
use crate::cli::settings::Settings;
use crate::cli::signals::cancel_on_signals;
use crate::cli::table::{self, Column};
use crate::cli::{events, output, question, report};
use crate::database::chosen::NamePatterns;
use crate::engine::Engine;
use crate::engine::adaptations::{Account, Adaptations, Ownership};
use crate::engine::compare::{DifferingTable, RowsComparison};
use crate::engine::parts::{DumpAspect, DumpParts, some_names};
use crate::model::facts::fact;
use crate::model::outcome::Ended;
use crate::model::path::EntryPath;
use crate::model::units::ByteSize;
use crate::ops::open_reader;
use crate::ops::restore_database::{
    Choice, DatabasePlan, DatabaseTarget, Plan, Replaced, RestoreDatabaseError, RestoreDatabaseOptions,
    RestoreDatabaseReport, RestoredDatabase, apply, plan,
};
use crate::ops::to_directory::WantedDumps;
use crate::progress::{Monitor, chain};
use crate::repository::reader::Reader;
use crate::store::OpenMode;

/// Flags of `restore` for databases.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Into a database server")]
pub struct IntoDatabaseArgs {
    #[command(flatten)]
    into: IntoPlace,
    /// Write the dumps themselves into this new directory, all of them or those of --database, with the commands of the engine's own programs that restore them
    #[arg(long, value_name = "DIR", conflicts_with_all = FILE_FLAGS, conflicts_with_all = NOT_TO_A_DIRECTORY)]
    to_directory: Option<PathBuf>,
    /// Restore this database, under another name if one is given (repeatable) [default: the only one there is]
    #[arg(long, value_name = "OLD[=NEW]", conflicts_with_all = ["globals", "all_databases"])]
    database: Vec<String>,
    /// Restore every database of the snapshot
    #[arg(long, conflicts_with = "globals")]
    all_databases: bool,
    /// Restore roles and tablespaces, or users and grants, and no database
    #[arg(long)]
    globals: bool,
    /// Only show what would be done, with versions and sizes
    #[arg(long)]
    plan: bool,
    /// Replace databases that exist, after their names were typed; PostgreSQL's stay under another name
    #[arg(long)]
    in_place: bool,
    /// Restore only tables like this, or SCHEMA.TABLE, with their indexes, constraints, triggers and sequences (repeatable)
    #[arg(long, value_name = "PATTERN", conflicts_with_all = ["globals", "target", "in_place"])]
    table: Vec<String>,
    /// Restore how everything is made, and no rows
    #[arg(long, conflicts_with_all = ["globals", "target", "in_place", "data_only"])]
    schema_only: bool,
    /// Restore rows alone, into tables that are there
    #[arg(long, requires = "into_existing", conflicts_with_all = ["globals", "target", "in_place"])]
    data_only: bool,
    /// Restore into a database that is there, beside what it has; nothing is replaced
    #[arg(long, conflicts_with_all = ["globals", "target", "in_place"])]
    into_existing: bool,
    /// In place of typing it: the name of a database that may be replaced (repeatable)
    #[arg(long, value_name = "NAME", requires = "in_place")]
    confirm: Vec<String>,
    /// Give up at the first statement that fails, instead of counting them; MariaDB and MySQL databases and dumps of SQL always do
    #[arg(long)]
    exit_on_error: bool,
    /// Make the connecting user the owner of everything, and leave grants and revokes away: functions closed to some are open to all
    #[arg(long)]
    no_owner: bool,
    /// Make this role of PostgreSQL the owner of everything but extensions, and leave grants and revokes away, as --no-owner does
    #[arg(long, value_name = "ROLE", value_parser = NonEmptyStringValueParser::new())]
    #[arg(conflicts_with_all = ["no_owner", "globals", "target", "data_only"])]
    owner: Option<String>,
    /// Put everything into PostgreSQL's usual tablespace, not into those where it was
    #[arg(long, conflicts_with_all = ["globals", "target", "data_only"])]
    no_tablespaces: bool,
    /// Make PostgreSQL databases with this locale of the server, as C.UTF-8, instead of the one they had: texts are sorted by it
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    #[arg(conflicts_with_all = ["globals", "target", "into_existing"])]
    locale: Option<String>,
    /// Make this user of MariaDB or MySQL the definer of all views, routines, triggers and events
    #[arg(long, value_name = "USER@HOST", value_parser = account)]
    #[arg(conflicts_with_all = ["globals", "target", "data_only"])]
    definer: Option<Account>,
    /// Leave this extension of PostgreSQL out, and the rows of its tables (repeatable)
    #[arg(long, value_name = "NAME", conflicts_with = "into_existing")]
    skip_extension: Vec<String>,
    /// Do not gather statistics afterwards
    #[arg(long)]
    no_analyze: bool,
    /// Do not compare the rows with those of the dump afterwards, which reads them once
    #[arg(long)]
    no_compare: bool,
    /// Connections that restore one PostgreSQL, MariaDB or MySQL database at the same time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: u16,
    /// Directory with room for a whole archive, which --jobs needs with PostgreSQL [default: $TMPDIR, or /var/tmp]
    #[arg(long, value_name = "DIR", env = "COFFRE_SPOOL_DIR")]
    spool_dir: Option<PathBuf>,
}

/// Flags beside [`FILE_FLAGS`] that say how something is restored, and nothing of dumps.
const NOT_TO_A_DIRECTORY: [&str; 18] = [
    "include_xattr",
    "exclude_xattr",
    "plan",
    "in_place",
    "table",
    "schema_only",
    "data_only",
    "into_existing",
    "exit_on_error",
    "no_owner",
    "owner",
    "no_tablespaces",
    "locale",
    "definer",
    "skip_extension",
    "no_analyze",
    "no_compare",
    "jobs",
];

impl IntoDatabaseArgs {
    /// Returns the directory that dumps are written into, and which dumps.
    pub fn to_directory(&self) -> Option<(&Path, WantedDumps)> {
        let wanted = match (self.globals, self.database.is_empty()) {
            (true, _) => WantedDumps::Globals,
            (false, true) => WantedDumps::All,
            (false, false) => WantedDumps::Named(self.database.clone()),
        };
        self.to_directory.as_deref().map(|directory| (directory, wanted))
    }

    /// Tells whether a database is named to restore into.
    pub fn names_a_target(&self) -> bool {
        self.into.0.is_some()
    }
}

pub async fn run(
    global: &Settings,
    args: IntoDatabaseArgs,
    (wanted, within): (&str, Option<EntryPath>),
    filter: &FilterArgs,
) -> Fallible<Exit> {
    let (target, choice) = target_and_choice(&args, &global.environment)?;
    let parts = parts(&args)?;
    let adaptations = adaptations(&args, &*target.engine)?;
    let monitor = global.monitor();
    let cancel = cancel_on_signals(&monitor)?;
    let repository = global.repository(OpenMode::Read, &monitor).await?;
    let snapshot = select::find(&repository, wanted, &filter.filter(), &monitor).await?;
    monitor.note(&format!("snapshot {} of {}, {}", snapshot.id, snapshot.host, snapshot.started.local_zoned()));
    let options = RestoreDatabaseOptions {
        snapshot,
        within,
        target,
        choice,
        in_place: args.in_place,
        exit_on_error: args.exit_on_error,
        adaptations,
        parts,
        skip_extensions: args.skip_extension,
        analyze: !args.no_analyze,
        compare: !args.no_compare,
        jobs: usize::from(args.jobs),
        spool: databases::spool_directory(args.spool_dir.as_deref(), &global.environment),
    };
    let reader = open_reader(repository, global.memory_bytes, monitor.clone()).await?;
    monitor.phase("asking the server");
    let planned = planned(&reader, &options, args.plan).await?;
    if args.plan {
        monitor.finish();
        show(&planned, global.json);
        return Ok(if planned.obstacles.is_empty() { Exit::Done } else { Exit::Failed });
    }
    planned.notes.iter().for_each(|note| monitor.note(note));
    if planned.obstacles.is_empty() {
        confirm(&monitor, &planned, &args.confirm).await?;
    }
    let report = apply(reader, &options, planned, monitor.clone(), cancel).await;
    monitor.finish();
    let mut report = report?;
    // One that was all there was to do is an error like any other.
    if report.databases.is_empty() && report.not_begun.is_empty() && report.failed.len() == 1 {
        return Err(report.failed.remove(0).1.into());
    }
    if global.json {
        output::json(&summary(&report, monitor.elapsed()));
    } else if !global.quiet || !report.failed.is_empty() {
        print_summary(&report, monitor.elapsed());
    }
    let outcome = report.outcome();
    for (_, error) in report.failed {
        report::print(&error.into(), global.json);
    }
    Ok(outcome.into())
}

/// Returns where it is restored to, and which databases are.
fn target_and_choice(args: &IntoDatabaseArgs, environment: &Environment) -> Fallible<(DatabaseTarget, Choice)> {
    let Some((engine, written)) = &args.into.0 else {
        return Err(usage(format!("where to? Give --target DIR, or {}", or(&into_flags()))));
    };
    let target = DatabaseTarget { engine: engine.clone(), place: databases::place(written, engine, environment)? };
    if args.database.iter().any(|text| text.starts_with('=') || text.ends_with('=') || text.is_empty()) {
        return Err(usage("--database wants a name, or OLD=NEW"));
    }
    let choice = choice(args);
    if let (Some(name), Some(url)) = (target.new_name(), target.place.url())
        && choice != Choice::Only
        && !engine.connects_to_a_database()
    {
        return Err(usage(format!(
            "{url}: a database in the URL is the name for the only one that is restored; leave {name} away, or write \
             --database OLD={name}"
        )));
    }
    Ok((target, choice))
}

/// Returns which parts of databases are restored.
fn parts(args: &IntoDatabaseArgs) -> Fallible<DumpParts> {
    let tables = NamePatterns::new(&args.table).map_err(|error| usage(chain(&error)))?;
    let aspect = match (args.schema_only, args.data_only) {
        (true, _) => DumpAspect::Schema,
        (_, true) => DumpAspect::Rows,
        _ => DumpAspect::Whole,
    };
    Ok(DumpParts { tables, aspect, into_existing: args.into_existing })
}

/// Returns what is restored otherwise than it was, refusing what the engine knows nothing of.
fn adaptations(args: &IntoDatabaseArgs, engine: &dyn Engine) -> Fallible<Adaptations> {
    let owners = match (&args.owner, args.no_owner) {
        (Some(role), _) => Ownership::Role(role.clone()),
        (None, true) => Ownership::Connecting,
        (None, false) => Ownership::AsDumped,
    };
    let (no_tablespaces, locale) = (args.no_tablespaces, args.locale.clone());
    let adaptations = Adaptations { owners, no_tablespaces, locale, definer: args.definer.clone() };
    match adaptations.special().into_iter().find(|asked| !engine.adapts().contains(asked)) {
        None => Ok(adaptations),
        Some(unknown) => {
            Err(usage(format!("{} means nothing for databases of {}", unknown.flag(), engine.words().label)))
        }
    }
}

fn account(text: &str) -> Result<Account, String> {
    Account::parse(text).ok_or_else(|| "this is no USER@HOST, as app@%".to_owned())
}

/// Plans what is done. Where it is not clear which database is meant, one that only shows its plan can show them all.
async fn planned(reader: &Arc<Reader>, options: &RestoreDatabaseOptions, shows_only: bool) -> Fallible<Plan> {
    match plan(reader, options).await {
        // A plan changes nothing: it can show them all.
        Err(error @ RestoreDatabaseError::Several { .. }) if shows_only => {
            let all = RestoreDatabaseOptions { choice: Choice::All, ..options.clone() };
            let mut planned = plan(reader, &all).await?;
            planned.obstacles.push(format!("{error}: choose with --database OLD[=NEW], or --all-databases"));
            Ok(planned)
        }
        planned => Ok(planned?),
    }
}

fn choice(args: &IntoDatabaseArgs) -> Choice {
    let named = args.database.iter().map(|text| match text.split_once('=') {
        Some((old, new)) => (old.to_owned(), Some(new.to_owned())),
        None => (text.clone(), None),
    });
    match (args.globals, args.all_databases, args.database.is_empty()) {
        (true, ..) => Choice::Globals,
        (_, true, _) => Choice::All,
        (_, _, true) => Choice::Only,
        _ => Choice::Named(named.collect()),
    }
}

/// Lets the user type the name of each database that is to be replaced.
async fn confirm(monitor: &ConsoleMonitor, plan: &Plan, confirmed: &[String]) -> Fallible<()> {
    for database in plan.databases.iter().filter(|database| database.replaces() && !confirmed.contains(&database.name))
    {
        let name = &database.name;
        if !std::io::stdin().is_terminal() {
            return Err(usage(format!("{name} exists and would be replaced; without a terminal add --confirm {name}")));
        }
        let connections = match database.connections {
            0 => String::new(),
            connections => format!(" and ends {}", output::count(connections, "connection")),
        };
        let question = format!("this replaces the database {name}{connections}; type its name to go on: ");
        let typed = question::ask(monitor, &question).await.context("nothing was changed")?;
        if typed.trim() != name {
            return Err(usage(format!("{name} was not confirmed; nothing was changed")));
        }
    }
    Ok(())
}

fn show<'a>(plan: &'a Plan, json: bool) {
    if json {
        let planned = |database: &'a DatabasePlan| events::PlannedDatabase {
            bytes: database.stream_bytes(),
            connections: database.connections,
            dumped_from: database.text(fact::SERVER_VERSION),
            exists: database.exists,
            name: &database.name,
            source: &database.source,
            streams: database.streams.len() as u64,
            untouched: database.is_untouched,
        };
        return output::json(&events::DatabasePlan {
            databases: plan.databases.iter().map(planned).collect(),
            free_bytes: plan.free_bytes,
            needed_bytes: plan.needed_bytes,
            notes: &plan.notes,
            obstacles: &plan.obstacles,
            server_version: &plan.server_version,
        });
    }
    const COLUMNS: [Column; 5] = [
        Column::text("DATABASE"),
        Column::text("BECOMES"),
        Column::right("DUMP"),
        Column::right("STREAMS"),
        Column::text("DUMPED FROM"),
    ];
    let row = |database: &DatabasePlan| {
        let exists = match (database.exists, database.is_untouched) {
            (false, _) => "",
            (true, false) => " (exists)",
            (true, true) => " (exists, empty)",
        };
        vec![
            database.source.clone(),
            format!("{}{exists}", database.name),
            ByteSize(database.stream_bytes()).to_string(),
            database.streams.len().to_string(),
            database.text(fact::SERVER_VERSION).unwrap_or("-").to_owned(),
        ]
    };
    table::print(&COLUMNS, &plan.databases.iter().map(row).collect::<Vec<_>>());
    output::line(&format!("server     version {}", plan.server_version));
    let free = plan.free_bytes.map_or_else(|| "unknown".to_owned(), |free| ByteSize(free).to_string());
    output::line(&format!("room       about {} needed, {free} free", ByteSize(plan.needed_bytes)));
    plan.notes.iter().for_each(|note| output::line(&format!("note       {note}")));
    plan.obstacles.iter().for_each(|obstacle| output::line(&format!("OBSTACLE   {obstacle}")));
    if plan.obstacles.is_empty() {
        output::line(match plan.notes.len() {
            0 => "nothing stands against it; nothing was changed",
            1 => "it can be done, with what the note says; nothing was changed",
            _ => "it can be done, with what the notes say; nothing was changed",
        });
    }
}

fn summary<'a>(report: &'a RestoreDatabaseReport, elapsed: Duration) -> events::DatabasesRestored<'a> {
    let restored = |database: &'a RestoredDatabase| {
        let RestoredDatabase { name, bytes, failed_statements, changes, left_out, .. } = database;
        let RestoredDatabase { not_carried, uses_original, replaced, compared, .. } = database;
        events::RestoredDatabase {
            bytes: *bytes,
            changes,
            compared: compared.as_ref().map(compared_rows),
            drop_replaced: replaced.as_ref().map(|replaced| replaced.drop.as_str()),
            failed_statements: *failed_statements,
            left_out,
            name,
            not_carried,
            replaced: replaced.as_ref().map(|replaced| replaced.name.as_str()),
            uses_original,
        }
    };
    let failed = |(name, error): &'a (String, RestoreDatabaseError)| events::FailedDatabase { name, why: chain(error) };
    events::DatabasesRestored {
        databases: report.databases.iter().map(restored).collect(),
        failed: report.failed.iter().map(failed).collect(),
        not_begun: &report.not_begun,
        outcome: report.outcome().name(),
        seconds: elapsed.as_secs_f64(),
    }
}

fn compared_rows(compared: &RowsComparison) -> events::ComparedRows<'_> {
    let differing = |table: &'_ DifferingTable| events::DifferingTable {
        dumped_rows: table.dumped,
        name: table.name.clone(),
        restored_rows: table.restored,
    };
    events::ComparedRows {
        differing: compared.differing.iter().map(differing).collect(),
        digested_tables: compared.digested_tables,
        not_compared: &compared.not_compared,
        same_rows: compared.same_rows,
        same_tables: compared.same_tables,
    }
}

/// Says whether the rows are those of the dump: `1 214 tables with 90 511 rows compared with the dump: same`.
fn told_compared(compared: &RowsComparison) -> Option<String> {
    let RowsComparison { same_tables, same_rows, digested_tables, differing, not_compared } = compared;
    let differs = differing.len() as u64;
    let how = match *digested_tables {
        0 => String::new(),
        all if all == *same_tables => ", by digests".to_owned(),
        some => format!(", {} of them by digests", output::grouped(some)),
    };
    let all = output::count(differs + same_tables, "table");
    let others = if not_compared.is_empty() { "" } else { "; not all were compared, see above" };
    match (*same_tables, differs) {
        (0, 0) if not_compared.is_empty() => None,
        (0, 0) => Some("rows NOT COMPARED with the dump, see above".to_owned()),
        (_, 0) => {
            Some(format!("{all} with {} compared with the dump{how}: same{others}", output::count(*same_rows, "row")))
        }
        _ => Some(format!("{all} compared with the dump: {differs} NOT THE SAME, see above{others}")),
    }
}

fn print_summary(report: &RestoreDatabaseReport, elapsed: Duration) {
    for database in &report.databases {
        let mut amiss = String::new();
        if database.failed_statements > 0 {
            amiss += &format!(", {} failed", output::count(database.failed_statements, "statement"));
        }
        for (list, noun, what) in [
            (&database.changes, "change", "by the server"),
            (&database.not_carried, "column", "changed by the dump"),
            (&database.uses_original, "object", "using the original"),
        ] {
            if !list.is_empty() {
                amiss += &format!(", {} {what}", output::count(list.len() as u64, noun));
            }
        }
        let read = if database.left_out.is_empty() { "" } else { " read" };
        output::line(&format!("{} restored, {} of dump{read}{amiss}", database.name, ByteSize(database.bytes)));
        if let Some(told) = database.compared.as_ref().and_then(told_compared) {
            output::line(&format!("  {told}"));
        }
        if !database.left_out.is_empty() {
            output::line(&format!("  not asked for, and not restored: {}", some_names(&database.left_out)));
        }
        if let Some(Replaced { name, drop }) = &database.replaced {
            output::line(&format!("  what was there before is called {name} now; when it is not needed: {drop}"));
        }
    }
    report.failed.iter().for_each(|(name, _)| output::line(&format!("{name} NOT RESTORED, see below")));
    report.not_begun.iter().for_each(|name| output::line(&format!("{name} not begun")));
    output::line(&format!("duration {}", output::duration(elapsed)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_rows_is_no_more_than_what_was_looked_at() {
        let differing = DifferingTable { name: "a".into(), dumped: 2, restored: Some(1) };
        let told = |same_tables: u64, digested_tables: u64, differs: bool, not_compared: &[&str]| {
            let differing = Some(differing.clone()).filter(|_| differs).into_iter().collect();
            let not_compared = not_compared.iter().map(|&why| why.to_owned()).collect();
            told_compared(&RowsComparison { same_tables, same_rows: 7, digested_tables, differing, not_compared })
        };
        assert_eq!(told(0, 0, false, &[]), None);
        let cases = [
            (told(0, 0, false, &["all tables (why)"]), "rows NOT COMPARED with the dump, see above"),
            (told(1, 0, false, &[]), "1 table with 7 rows compared with the dump: same"),
            (told(2, 2, false, &[]), "2 tables with 7 rows compared with the dump, by digests: same"),
            (
                told(2, 1, false, &["b (why)"]),
                "2 tables with 7 rows compared with the dump, 1 of them by digests: same; not all were compared, see above",
            ),
            (told(2, 2, true, &[]), "3 tables compared with the dump: 1 NOT THE SAME, see above"),
            (told(0, 0, true, &[]), "1 table compared with the dump: 1 NOT THE SAME, see above"),
        ];
        for (said, expected) in cases {
            assert_eq!(said.as_deref(), Some(expected));
        }
    }
}
