//! What stands against a restore into MariaDB or MySQL.

use crate::database::DatabaseError;
use crate::engine::mysql::restore::UNDER_WAY;
use crate::engine::mysql::server::Mysql;
use crate::engine::mysql::{accounts, facts};
use crate::engine::parts::DumpAspect;
use crate::engine::plan::{Asked, DatabasePlan, Judgement};
use crate::model::facts::fact;

/// Asks the server what is there.
///
/// # Errors
/// [`DatabaseError`].
pub fn judge(asked: &Asked<'_>, databases: &mut [DatabasePlan]) -> Result<Judgement, DatabaseError> {
    let url = asked.place.server()?;
    let server = Mysql::new(url.clone());
    let known = server.server()?;
    let mut found = Judgement {
        server_version: known.version,
        data_directory: known.data_directory.filter(|_| url.is_local()),
        ..Judgement::default()
    };
    for database in databases.iter_mut() {
        let Some(dumped) = database.fact(fact::SERVER_VERSION) else { continue };
        let (from, into) = (kind(&dumped), kind(&found.server_version));
        database.is_of_another_kind = from != into;
        if from != into && asked.are_globals {
            found.obstacles.push(format!(
                "the users were dumped from {from} {dumped}, and {into} does not understand how they are made: make them by hand"
            ));
        } else if from != into {
            found.notes.push(format!(
                "{} was dumped from {from} {dumped} and goes into {into}, which is another kind of server: some statements may \
                 fail",
                database.name
            ));
        }
    }
    for database in databases.iter_mut().filter(|_| !asked.are_globals) {
        let there = server.facts(&database.name)?;
        database.exists = there.is_some();
        let name = &database.name;
        if there.is_some_and(|facts| facts.comment.as_deref() == Some(UNDER_WAY)) {
            found.notes.push(format!("{name} is not complete: a restore into it was killed, or is under way"));
        }
        if let (Some(longest), Some(most)) = (database.fact(facts::LONGEST_LINE), known.max_packet)
            && longest > most
        {
            // It may be of a table that is not asked for.
            let told = if asked.parts.are_all() { &mut found.obstacles } else { &mut found.notes };
            told.push(format!(
                "a row of {name} takes {longest} bytes as SQL, and the server takes {most}: raise max_allowed_packet"
            ));
        }
    }
    accounts::judge(&server, asked, databases, &mut found);
    let note = match asked.parts.aspect {
        DumpAspect::Rows => {
            Some("rows are added to those that are there, triggers of the tables run, and foreign keys are not checked")
        }
        DumpAspect::Whole if asked.parts.into_existing => Some("foreign keys of the tables are not checked"),
        DumpAspect::Whole | DumpAspect::Schema => None,
    };
    found.notes.extend(note.map(str::to_owned));
    Ok(found)
}

/// Tells which kind of server says so of its version.
fn kind(version: &str) -> &'static str {
    if version.contains("MariaDB") { "MariaDB" } else { "MySQL" }
}
