//! What stands against a restore into PostgreSQL.

use crate::database::{DatabaseError, major};
use crate::engine::json_list::JsonList;
use crate::engine::parts::DumpAspect;
use crate::engine::plan::{Asked, DatabasePlan, Judgement};
use crate::engine::postgres::facts::{self, PostgresFormat};
use crate::engine::postgres::roles::{closed_functions_note, missing_roles_note, named_roles_note, roles};
use crate::engine::postgres::said::newer_setting;
use crate::engine::postgres::server::{Existing, MAINTENANCE, Postgres, User};
use crate::engine::postgres::settings::closed_note;
use crate::engine::postgres::tablespaces::TablespacesFound;
use crate::engine::postgres::{collations, drop_statement, extensions, locale, owner, server_of, tablespaces};
use crate::model::facts::fact;

/// Bytes of the longest name.
const LONGEST_NAME: usize = 63;

/// Asks the server what is there.
///
/// # Errors
/// [`DatabaseError`].
pub fn judge(asked: &Asked<'_>, databases: &mut [DatabasePlan]) -> Result<Judgement, DatabaseError> {
    let is_local = asked.place.server()?.is_local();
    let made: Vec<String> = databases.iter().map(|database| database.name.clone()).collect();
    let made: Vec<&str> = made.iter().map(String::as_str).collect();
    if asked.parts.into_existing {
        // Applications use them.
        let server = Postgres::new(asked.place.server()?.clone());
        made.iter().try_for_each(|database| server.check_sessions(database))?;
    }
    let server = server_of(asked.place, &made)?;
    let (server_version, data_directory) = server.version()?;
    let mut found =
        Judgement { server_version, data_directory: data_directory.filter(|_| is_local), ..Judgement::default() };
    if asked.are_globals {
        return Ok(found);
    }
    if let Some(named) = asked.place.server()?.database.as_deref()
        && !made.contains(&named)
        && server.maintenance_database() != named
    {
        found.obstacles.push(format!(
            "there is no database {named} to connect to; a restored one gets this name by --database OLD={named}"
        ));
    }
    let user = server.user()?;
    found.obstacles.extend(obstacles_of_user(&user, asked.parts.into_existing));
    found.notes.extend(notes_of_user(&user));
    if let Some(role) = asked.adaptations.owners.role() {
        found.obstacles.extend(owner::obstacle(&server, &found.server_version, &user, role)?);
    }
    for database in databases.iter_mut() {
        let existing = server.existing(&database.name)?;
        database.exists = existing.is_some();
        database.connections = existing.as_ref().map_or(0, |existing| existing.connections);
        database.is_untouched =
            database.exists && database.name == MAINTENANCE && server.is_untouched(&database.name)?;
        if database.is_added_to {
            found.obstacles.extend(obstacles_beside(asked, &server, &found.server_version, database));
        } else {
            found.obstacles.extend(obstacles_of(&database.name, existing.as_ref()));
            let extensions = extensions::look(&server, database, asked.skip_extensions)?;
            found.obstacles.extend(extensions.obstacles);
            found.notes.extend(extensions.notes.into_iter().chain(extensions.missed));
            let wanted = asked.adaptations.locale.as_deref();
            let locale = locale::look(&server, &found.server_version, database, wanted)?;
            found.obstacles.extend(locale.obstacle);
            found.notes.extend(locale.note);
        }
        if asked.adaptations.owners.are_kept() {
            found.notes.extend(roles_note(&server, database, asked.has_globals)?);
        } else if asked.parts.aspect != DumpAspect::Rows {
            found.notes.extend(notes_without_owners(&server, database)?);
        }
        if asked.parts.aspect != DumpAspect::Rows {
            found.notes.extend(collations::look(&server, database)?);
        }
        if asked.needs_tablespaces() {
            // Beside what is there the role itself makes what is its.
            let role = asked.adaptations.owners.role().filter(|_| database.is_added_to);
            for told in tablespaces::look(&server, database, role)? {
                match told {
                    TablespacesFound::Note(note) => found.notes.push(note),
                    TablespacesFound::Obstacle(obstacle) => found.obstacles.push(obstacle),
                }
            }
        }
    }
    judge_parts(asked, databases, &mut found);
    Ok(found)
}

/// Adds what stands against parts of dumps, and against owners of other names, and what is good to know of rows alone.
fn judge_parts(asked: &Asked<'_>, databases: &[DatabasePlan], found: &mut Judgement) {
    let is_plain = |database: &DatabasePlan| {
        database.streams.iter().any(|stream| stream.facts.get(facts::FORMAT) == Some(PostgresFormat::Plain))
    };
    if let Some(database) = databases.iter().find(|it| is_plain(it)) {
        let change = |flag: &str| format!("{} is a dump of SQL, which {flag} cannot change", database.name);
        found.obstacles.extend(asked.adaptations.of_dumps().into_iter().map(change));
    }
    let has_parts = !asked.parts.are_all() || asked.parts.into_existing;
    if let Some(database) = databases.iter().find(|it| is_plain(it)).filter(|_| has_parts) {
        found.obstacles.push(format!(
            "{} is a dump of SQL (--postgres-plain), which is restored whole, into a database of its own",
            database.name
        ));
    }
    if asked.parts.aspect == DumpAspect::Rows {
        found.notes.push(
            "rows are added to those that are there, and triggers of the tables run; sequences stay where they are: where a \
             table was emptied and its sequence reset, set it by hand"
                .to_owned(),
        );
    }
}

/// Tells what earlier restores left on the server.
fn notes_of_user(user: &User) -> Vec<String> {
    let left_over = user
        .left_over
        .iter()
        .map(|name| format!("database {name} was left behind by a restore that was killed: {}", drop_statement(name)));
    let replaced = user.replaced.iter().map(|name| {
        format!("database {name} is what a restore replaced; when it is not needed: {}", drop_statement(name))
    });
    left_over.chain(replaced).collect()
}

/// Tells which roles a database uses that are not there. Names of one without an encoding cannot be compared.
fn roles_note(server: &Postgres, database: &DatabasePlan, has_globals: bool) -> Result<Option<String>, DatabaseError> {
    if database.fact(facts::ENCODING).as_deref() != Some("UTF8") {
        return Ok(None);
    }
    let roles = roles(database);
    let names: Vec<String> = roles.keys().cloned().collect();
    let missing = if names.is_empty() { names } else { server.missing_roles(&names)? };
    Ok(missing_roles_note(database, &missing, &roles, has_globals))
}

/// Tells what comes otherwise, or not at all, where owners and grants are left away.
fn notes_without_owners(server: &Postgres, database: &DatabasePlan) -> Result<Vec<String>, DatabaseError> {
    let JsonList(named) = database.fact(facts::NAMED_ROLES).unwrap_or_default();
    let is_comparable = database.fact(facts::ENCODING).as_deref() == Some("UTF8");
    let missing = if named.is_empty() || !is_comparable { Vec::new() } else { server.missing_roles(&named)? };
    // One that is there stays as open as it is.
    let closed = closed_note(database).filter(|_| !database.is_added_to);
    Ok(named_roles_note(database, &missing).into_iter().chain(closed_functions_note(database)).chain(closed).collect())
}

/// Tells why what goes into a database that is there would change more of it, or cannot be one transaction.
fn obstacles_beside(
    asked: &Asked<'_>,
    server: &Postgres,
    server_version: &str,
    database: &DatabasePlan,
) -> Vec<String> {
    const INSTEAD: &str = "restore into a database of another name, by --database OLD=NEW";
    let mut found = Vec::new();
    if asked.parts.tables.is_empty() {
        found.push(format!(
            "all of a dump would change rights, comments and owners of what {} has, and add to the tables of its extensions: \
             name tables by --table ('*' for all of them), or {INSTEAD}",
            database.name
        ));
    }
    if let Some(parts) = database.fact(fact::PARTS) {
        found.push(format!(
            "the rows of {parts} tables of {} are archives of their own (--split-over), which cannot be restored in one \
             transaction: {INSTEAD}",
            database.name
        ));
    }
    // What cannot be found or is too old is told when it is needed.
    let archived = database.text(fact::CLIENT_VERSION).unwrap_or("0");
    if let Ok((_, client)) = server.program("pg_restore", archived)
        && let Some(setting) = newer_setting(major(&client), major(server_version))
    {
        found.push(format!(
            "pg_restore of version {client} begins with {}, which the server of version {server_version} does not know, \
             and that ends a transaction: {INSTEAD}",
            setting.trim_end_matches(';')
        ));
    }
    found
}

/// Tells why PostgreSQL would refuse this user every restore.
fn obstacles_of_user(user: &User, into_existing: bool) -> Vec<String> {
    let mut found = Vec::new();
    if !user.creates_databases && !into_existing {
        found.push("the user may not create databases (CREATEDB)".to_owned());
    }
    if user.is_read_only {
        found.push(
            "sessions of the user are read-only (default_transaction_read_only, or the server is a standby)".to_owned(),
        );
    }
    found
}

/// Tells why PostgreSQL would refuse at the end of a restore to give a database its name.
fn obstacles_of(name: &str, existing: Option<&Existing>) -> Vec<String> {
    let mut found = Vec::new();
    if existing.is_some_and(|existing| !existing.is_owned) {
        found.push(format!("the user does not own {name}, and may not rename it"));
    }
    if let Some(prepared) = existing.map(|existing| existing.prepared).filter(|prepared| *prepared > 0) {
        found.push(format!("{name} has {prepared} prepared transactions: end them (pg_prepared_xacts)"));
    }
    if name.len() > LONGEST_NAME {
        found.push(format!("{name:?} is longer than the {LONGEST_NAME} bytes that PostgreSQL has for names"));
    }
    found
}
