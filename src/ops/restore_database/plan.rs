//! The plan of a restore: which streams of the snapshot become which databases, and what stands against it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::blocking::blocking;
use crate::database::{DatabaseError, major};
use crate::engine::Engine;
use crate::engine::plan::{Asked, DatabasePlan, StreamKind, StreamToRestore};
use crate::model::entry::EntryKind;
use crate::model::facts::fact;
use crate::model::path::EntryPath;
use crate::model::snapshot::Snapshot;
use crate::ops::restore_database::{Choice, RestoreDatabaseError, RestoreDatabaseOptions};
use crate::repository::reader::Reader;

/// What would be done.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Version of the server that is restored into.
    pub server_version: String,
    /// The databases.
    pub databases: Vec<DatabasePlan>,
    /// Bytes that the databases took where they come from.
    pub needed_bytes: u64,
    /// Room where the server keeps its data, if it is on this machine and tells.
    pub free_bytes: Option<u64>,
    /// What makes it impossible.
    pub obstacles: Vec<String>,
    /// What is good to know.
    pub notes: Vec<String>,
}

/// Finds out what would be done, asking the server; changes nothing.
///
/// # Errors
/// When the snapshot has nothing that fits, or the server cannot be asked.
pub async fn plan(reader: &Arc<Reader>, options: &RestoreDatabaseOptions) -> Result<Plan, RestoreDatabaseError> {
    let streams = find_streams(reader, &*options.target.engine, &options.snapshot, options.within.as_ref()).await?;
    let has_globals = streams.iter().any(is_global);
    let chosen = choose(options, streams)?;
    let options = options.clone();
    Ok(blocking(move || judge(&options, chosen, has_globals)).await?)
}

/// Lists the streams of an engine in a snapshot, those at or below `within` alone where it is given.
///
/// # Errors
/// [`RestoreDatabaseError::Unreadable`].
pub(crate) async fn find_streams(
    reader: &Arc<Reader>,
    engine: &dyn Engine,
    snapshot: &Snapshot,
    within: Option<&EntryPath>,
) -> Result<Vec<StreamToRestore>, RestoreDatabaseError> {
    let within = match within {
        Some(path) => Some(path.clone()),
        // All streams of databases are below this name.
        None => EntryPath::new(engine.name()).ok(),
    };
    let mut walk = reader.walk(snapshot.root, within);
    let mut streams = Vec::new();
    while let Some(entry) = walk.next().await {
        let entry =
            entry.map_err(|damaged| RestoreDatabaseError::Unreadable { part: damaged.part, source: damaged.error })?;
        let EntryKind::Stream(content, detail) = entry.kind else { continue };
        let facts = detail.facts;
        let kind = engine.kind(&facts).filter(|_| facts.text(fact::ENGINE) == Some(engine.name()));
        if let Some(kind) = kind {
            streams.push(StreamToRestore { path: entry.path, kind, bytes: content.size, facts });
        }
    }
    Ok(streams)
}

/// Chooses among them and gives each database its name.
fn choose(
    options: &RestoreDatabaseOptions,
    streams: Vec<StreamToRestore>,
) -> Result<Vec<DatabasePlan>, RestoreDatabaseError> {
    let snapshot = options.snapshot.id;
    let missing = |what: String| RestoreDatabaseError::NothingFits { snapshot, what };
    let (globals, streams): (Vec<_>, Vec<_>) = streams.into_iter().partition(is_global);
    let databases = by_database(streams);
    let wanted = match &options.choice {
        Choice::Globals => {
            let name = "globals".to_owned();
            return match globals.is_empty() {
                true => {
                    let engine = &options.target.engine;
                    let mut needed: Vec<String> =
                        databases.values().flat_map(|plan| engine.needed_globals(plan)).collect();
                    needed.sort();
                    needed.dedup();
                    Err(RestoreDatabaseError::NoGlobals { snapshot, needed })
                }
                false => Ok(vec![DatabasePlan { streams: globals, ..DatabasePlan::new(name) }]),
            };
        }
        Choice::All => databases.keys().map(|name| (name.clone(), None)).collect(),
        Choice::Named(wanted) => wanted.clone(),
        Choice::Only if databases.len() > 1 => {
            return Err(RestoreDatabaseError::Several { snapshot, names: databases.into_keys().collect() });
        }
        Choice::Only => databases.keys().map(|name| (name.clone(), options.target.new_name())).collect(),
    };
    if wanted.is_empty() {
        return Err(missing(format!("database of {} that could be restored", options.target.engine.name())));
    }
    let mut plans = Vec::new();
    for (source, name) in wanted {
        // A name can have the character that a new name is written after.
        let whole = name.as_ref().map(|name| format!("{source}={name}")).filter(|whole| databases.contains_key(whole));
        let (source, name) = whole.map_or((source, name), |whole| (whole, None));
        let plan = databases.get(&source).cloned().ok_or_else(|| missing(format!("database {source:?}")))?;
        let is_added_to = options.parts.into_existing;
        plans.push(DatabasePlan { name: name.unwrap_or_else(|| plan.name.clone()), is_added_to, ..plan });
    }
    Ok(plans)
}

/// Puts streams of databases together, of each the main stream before those of tables.
pub(crate) fn by_database(mut streams: Vec<StreamToRestore>) -> BTreeMap<String, DatabasePlan> {
    streams.sort_by_key(|stream| stream.kind == StreamKind::Table);
    let mut databases: BTreeMap<String, DatabasePlan> = BTreeMap::new();
    for stream in streams {
        let name = stream.facts.get(fact::DATABASE).or_else(|| stream.facts.get(fact::FILE)).unwrap_or_default();
        databases.entry(name.clone()).or_insert_with(|| DatabasePlan::new(name)).streams.push(stream);
    }
    databases
}

/// Tells what of a database is not among its streams.
pub(crate) fn missing_parts(database: &DatabasePlan) -> Option<String> {
    let parts = database.fact(fact::PARTS).unwrap_or(0);
    let mains = database.streams.iter().filter(|stream| stream.kind != StreamKind::Table).count();
    let tables = (database.streams.len() - mains) as u64;
    (mains != 1 || parts != tables).then(|| {
        format!(
            "of {} {mains} main streams and {tables} of {parts} tables with streams of their own are here; name the directory that \
             has them all",
            database.name
        )
    })
}

/// Tells whether a stream is of the server, and not of one database.
pub(crate) fn is_global(stream: &StreamToRestore) -> bool {
    stream.kind == StreamKind::Globals
}

/// Asks the engine what is there, and lists what stands against it. Blocks.
fn judge(
    options: &RestoreDatabaseOptions,
    mut databases: Vec<DatabasePlan>,
    has_globals: bool,
) -> Result<Plan, DatabaseError> {
    let (place, adaptations) = (&options.target.place, &options.adaptations);
    let are_globals = options.choice == Choice::Globals;
    let skip_extensions = options.skip_extensions.as_slice();
    let parts = &options.parts;
    let asked = Asked { place, are_globals, has_globals, adaptations, parts, skip_extensions };
    let engine = &options.target.engine;
    let found = engine.judge(&asked, &mut databases)?;
    let room = found.data_directory.and_then(|directory| rustix::fs::statvfs(directory).ok());
    let mut plan = Plan {
        server_version: found.server_version,
        needed_bytes: databases.iter().map(DatabasePlan::database_bytes).fold(0, u64::saturating_add),
        free_bytes: room.map(|room| room.f_bavail.saturating_mul(room.f_frsize)),
        databases,
        obstacles: found.obstacles,
        notes: found.notes,
    };
    if are_globals {
        let note = "roles and users that exist get the passwords they had, the one that connects now among them";
        plan.notes.push(note.to_owned());
    }
    let has_parts = !parts.are_all() || parts.into_existing;
    if has_parts && !engine.restores_parts() {
        plan.obstacles.push(format!(
            "{} databases are restored whole: restore into another place, and take from there what is needed",
            engine.words().label
        ));
    }
    if !parts.are_all() {
        // How much of it they are is not known.
        plan.needed_bytes = 0;
    }
    find_obstacles(&mut plan, options.in_place);
    Ok(plan)
}

/// Adds what stands against any restore, whatever the engine.
fn find_obstacles(plan: &mut Plan, in_place: bool) {
    let mut names: Vec<&str> = plan.databases.iter().map(|database| database.name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        plan.obstacles.push(format!("two databases are to be called {:?}", twice[0]));
    }
    for database in &plan.databases {
        let name = &database.name;
        match (database.replaces(), in_place, database.connections) {
            _ if database.is_added_to && !database.exists => {
                plan.obstacles.push(format!("there is no database {name} to restore into"));
            }
            _ if database.is_added_to => {}
            (true, false, _) => plan.obstacles.push(format!("{name} exists")),
            (_, _, 0) => {}
            (_, _, 1) => plan.notes.push(format!("a connection to {name} will be ended")),
            (_, _, connections) => plan.notes.push(format!("{connections} connections to {name} will be ended")),
        }
        if let Some(left_out) = database.text(fact::LEFT_OUT_TABLES) {
            plan.notes.push(format!("the dump of {name} was made without {left_out}"));
        }
        plan.obstacles.extend(missing_parts(database));
        let dumped = database.fact(fact::SERVER_VERSION).unwrap_or_default();
        if database.is_of_another_kind {
            continue;
        }
        if major(&dumped) > major(&plan.server_version) && !plan.server_version.is_empty() && major(&dumped) > 0 {
            plan.notes.push(format!(
                "{name} was dumped from version {dumped} and goes into the older {}: some statements may fail",
                plan.server_version
            ));
        }
    }
    if let Some(free) = plan.free_bytes.filter(|free| *free < plan.needed_bytes) {
        plan.obstacles.push(format!("about {} bytes are needed and {free} are free", plan.needed_bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::facts::StreamFacts;

    fn database(name: &str, exists: bool, facts: &[&[(&str, &str)]]) -> DatabasePlan {
        let stream = |facts: &&[(&str, &str)]| {
            let texts: BTreeMap<String, String> =
                facts.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let facts = StreamFacts::from(texts);
            let kind = if facts.has(fact::TABLE) { StreamKind::Table } else { StreamKind::Database };
            StreamToRestore { path: EntryPath::new("postgres/x.dump").expect("safe"), kind, bytes: 100, facts }
        };
        let streams = facts.iter().map(stream).collect();
        DatabasePlan { exists, streams, ..DatabasePlan::new(name) }
    }

    fn obstacles(databases: Vec<DatabasePlan>, free_bytes: Option<u64>, in_place: bool) -> (usize, usize) {
        let mut plan = Plan { databases, free_bytes, server_version: "15.18".into(), ..Plan::default() };
        plan.needed_bytes = plan.databases.iter().map(DatabasePlan::database_bytes).sum();
        find_obstacles(&mut plan, in_place);
        (plan.obstacles.len(), plan.notes.len())
    }

    #[test]
    fn what_stands_against_a_restore_is_found() {
        let whole: &[&[(&str, &str)]] = &[&[]];
        let split: &[&[(&str, &str)]] = &[&[(fact::PARTS.name(), "1")], &[(fact::TABLE.name(), "t")]];
        let newer: &[&[(&str, &str)]] = &[&[(fact::SERVER_VERSION.name(), "17.1")]];
        let large: &[&[(&str, &str)]] = &[&[(fact::DATABASE_BYTES.name(), "5000")]];
        assert_eq!(obstacles(vec![database("a", false, whole), database("b", false, split)], None, false), (0, 0));
        assert_eq!(obstacles(vec![database("a", true, whole)], None, false), (1, 0));
        assert_eq!(obstacles(vec![database("a", true, whole)], None, true), (0, 0));
        let added = |exists| DatabasePlan { is_added_to: true, connections: 3, ..database("a", exists, whole) };
        assert_eq!(obstacles(vec![added(true)], None, false), (0, 0));
        assert_eq!(obstacles(vec![added(false)], None, false), (1, 0));
        let used = DatabasePlan { connections: 2, ..database("a", true, whole) };
        assert_eq!(obstacles(vec![used.clone()], None, true), (0, 1));
        assert_eq!(obstacles(vec![DatabasePlan { is_untouched: true, ..used }], None, false), (0, 1));
        assert_eq!(obstacles(vec![database("a", false, whole), database("a", false, whole)], None, false), (1, 0));
        assert_eq!(obstacles(vec![database("a", false, &split[..1])], None, false), (1, 0));
        assert_eq!(obstacles(vec![database("a", false, &split[1..])], None, false), (1, 0));
        assert_eq!(obstacles(vec![database("a", false, newer)], None, false), (0, 1));
        assert_eq!(obstacles(vec![database("a", false, large)], Some(4999), false), (1, 0));
        assert_eq!(obstacles(vec![database("a", false, large)], Some(5000), false), (0, 0));
    }
}
