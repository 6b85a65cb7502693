//! Extensions that a database uses: whether the server that it is restored into has them, and what is left out of the archive
//! where one is not wanted, or works in another database only.

use serde::Deserialize;

use crate::database::DatabaseError;
use crate::engine::json_list::JsonList;
use crate::engine::plan::DatabasePlan;
use crate::engine::postgres::facts::{self, Extension};
use crate::engine::postgres::script::literal;
use crate::engine::postgres::server::Postgres;

/// Extensions that work in one database of a server only, and the setting that names it.
const TIED: [(&str, &str); 1] = [("pg_cron", "cron.database_name")];

/// What is to be done about the extensions of a database.
#[derive(Debug, Clone, Default)]
pub struct ExtensionsPlan {
    /// Those that are left out of the archive, with the rows of their tables.
    pub left_out: Vec<Extension>,
    /// What is left out though nobody asked for it.
    pub missed: Vec<String>,
    /// One of them works in the database of this name only, so that it cannot be restored under another name first.
    pub is_tied: bool,
    /// What makes it impossible to restore them.
    pub obstacles: Vec<String>,
    /// What is good to know.
    pub notes: Vec<String>,
}

/// What a server says of an extension.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Offered {
    name: String,
    /// The version that is made unless another is asked for.
    version: String,
    /// The version that is wanted is there as well.
    has_wanted: bool,
    /// The user may not make it.
    is_for_superusers: bool,
    /// Of one that works in one database only, that database; none where it is not loaded.
    home: Option<String>,
}

/// Asks the server about the extensions of a database, but for those that are to be left out.
///
/// # Errors
/// [`DatabaseError`].
pub fn look(server: &Postgres, database: &DatabasePlan, skipped: &[String]) -> Result<ExtensionsPlan, DatabaseError> {
    let JsonList(wanted) = database.fact(facts::EXTENSIONS).unwrap_or_default();
    let (left_out, wanted): (Vec<_>, Vec<_>) =
        wanted.into_iter().partition(|extension| skipped.contains(&extension.name));
    if wanted.is_empty() {
        return Ok(ExtensionsPlan { left_out, ..ExtensionsPlan::default() });
    }
    let offered = offered(server, &wanted)?;
    let mut plan = judge(&database.name, &wanted, &offered);
    plan.left_out.extend(left_out);
    Ok(plan)
}

fn offered(server: &Postgres, wanted: &[Extension]) -> Result<Vec<Offered>, DatabaseError> {
    let pairs = wanted.iter().map(|it| format!("({}, {})", literal(&it.name), literal(&it.version)));
    let homes =
        TIED.map(|(name, setting)| format!("WHEN {} THEN current_setting({}, true)", literal(name), literal(setting)));
    // Who may make it is said by its control file, the same for all versions; `trusted` is known since 13.
    let sql = format!(
        "SELECT coalesce(json_agg(json_build_object('name', w.name, 'version', default_version,
             'has_wanted', EXISTS (SELECT FROM pg_available_extension_versions v
                                   WHERE v.name = w.name AND v.version = w.version),
             'is_for_superusers', NOT rolsuper AND EXISTS (
               SELECT FROM pg_available_extension_versions v WHERE v.name = w.name AND v.version = default_version
                 AND superuser AND NOT coalesce((to_jsonb(v)->>'trusted')::boolean, false)),
             'home', CASE w.name {} END)), '[]')
           FROM (VALUES {}) w (name, version) JOIN pg_available_extensions a ON a.name = w.name
             JOIN pg_roles ON rolname = current_user",
        homes.join(" "),
        pairs.collect::<Vec<_>>().join(", ")
    );
    server.ask(server.maintenance_database(), "asked for its extensions", &sql)
}

/// Compares what a database wants with what the server offers.
fn judge(database: &str, wanted: &[Extension], offered: &[Offered]) -> ExtensionsPlan {
    let mut plan = ExtensionsPlan::default();
    for extension in wanted {
        let Extension { name, version, .. } = extension;
        let Some(there) = offered.iter().find(|it| it.name == *name) else {
            plan.obstacles.push(format!(
                "extension {name}, which {database} uses, is not available on the server: install its package, or leave it \
                 out with --skip-extension {name}"
            ));
            continue;
        };
        if there.is_for_superusers {
            plan.notes.push(format!(
                "PostgreSQL lets only superusers make extension {name}, which {database} uses: unless this server has rules of its \
                 own, what needs it cannot be made"
            ));
        }
        if !there.has_wanted {
            plan.notes.push(format!("{database} had extension {name} {version}, and will have {}", there.version));
        }
        let Some((_, setting)) = TIED.iter().find(|(tied, _)| tied == name) else { continue };
        match &there.home {
            None => plan.obstacles.push(format!(
                "extension {name}, which {database} uses, is not in shared_preload_libraries of the server: add it, or leave \
                 it out with --skip-extension {name}"
            )),
            Some(home) if home == database => plan.is_tied = true,
            Some(home) => {
                plan.missed.push(format!(
                    "extension {name} works in database {home} only ({setting}): it is left out, and the rows of its tables"
                ));
                plan.left_out.push(extension.clone());
            }
        }
    }
    plan
}

/// Leaves out of a table of contents, as `pg_restore --list` prints it, what belongs to these extensions.
pub fn without(listing: &str, left_out: &[Extension]) -> String {
    let mut is_left_out = false;
    let kept = listing.lines().filter(|line| {
        // What an entry depends on stands below it.
        if !line.starts_with(";\tdepends on:") {
            is_left_out = left_out.iter().any(|extension| belongs(line, extension));
        }
        !is_left_out
    });
    kept.flat_map(|line| [line, "\n"]).collect()
}

/// Tells whether a line such as `215; 3079 16401 EXTENSION - hstore ` or `9; 0 0 TABLE DATA cron job app` is of an extension.
fn belongs(line: &str, extension: &Extension) -> bool {
    let Some((_, rest)) = line.split_once("; ") else { return false };
    let Some(what) = rest.splitn(3, ' ').nth(2) else { return false };
    let named = |start: &str| what.strip_prefix(start).is_some_and(|name| name.trim_end() == extension.name);
    let rows = |(schema, table): &(String, String)| {
        ["TABLE DATA", "SEQUENCE SET"].iter().any(|kind| what.starts_with(&format!("{kind} {schema} {table} ")))
    };
    named("EXTENSION - ") || named("COMMENT - EXTENSION ") || extension.tables.iter().any(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extension(name: &str) -> Extension {
        let tables = vec![("cron".into(), "job".into()), ("cron".into(), "jobid_seq".into())];
        Extension {
            name: name.into(),
            version: "1.4".into(),
            tables: if name == "pg_cron" { tables } else { Vec::new() },
        }
    }

    fn offered(name: &str, home: Option<&str>) -> Offered {
        let home = home.map(str::to_owned);
        Offered { name: name.into(), version: "1.5".into(), has_wanted: true, is_for_superusers: false, home }
    }

    #[test]
    fn what_a_server_lacks_stands_against_it() {
        let wanted = [extension("ip4r"), extension("hstore")];
        let plan = judge("shop", &wanted, &[offered("hstore", None)]);
        assert_eq!(plan.obstacles.len(), 1);
        assert!(plan.obstacles[0].contains("ip4r") && plan.obstacles[0].contains("--skip-extension ip4r"));
        let older = Offered { has_wanted: false, is_for_superusers: true, ..offered("ip4r", None) };
        let plan = judge("shop", &wanted[..1], &[older]);
        assert_eq!((plan.obstacles.len(), plan.notes.len()), (0, 2));
        assert!(plan.notes[1].contains("ip4r 1.4, and will have 1.5"));
    }

    #[test]
    fn one_that_works_in_one_database_only_is_tied_to_it_and_left_out_elsewhere() {
        let plan = |home| judge("shop", &[extension("pg_cron")], &[offered("pg_cron", home)]);
        assert!(plan(Some("shop")).is_tied && plan(Some("shop")).left_out.is_empty());
        assert!(!plan(Some("postgres")).is_tied);
        assert_eq!((plan(Some("postgres")).left_out.len(), plan(Some("postgres")).missed.len()), (1, 1));
        assert!(plan(None).obstacles[0].contains("shared_preload_libraries"));
    }

    #[test]
    fn only_what_belongs_to_an_extension_is_left_out_of_the_table_of_contents() {
        let own = "2; 3079 16385 EXTENSION - pg_cron \n3511; 0 0 COMMENT - EXTENSION pg_cron \n\
            3360; 0 16404 TABLE DATA cron job postgres\n3517; 0 0 SEQUENCE SET cron jobid_seq postgres\n";
        let others = ";\n; Archive created at\n3; 3079 1 EXTENSION - pg_cron2 \n9; 0 1 TABLE DATA cron job2 app\n\
            10; 1259 1 TABLE public EXTENSION - pg_cron\n";
        assert_eq!(without(&format!("{own}{others}"), &[extension("pg_cron")]), others);
    }
}
