//! Roles that a database needs: who owns it, who has to do with it, and what to do where they are not there.

use std::collections::BTreeMap;
use std::io::Write;

use crate::engine::json_list::JsonList;
use crate::engine::lines::EditedLines;
use crate::engine::plan::DatabasePlan;
use crate::engine::postgres::facts;

/// How the statement among [`facts::SETTINGS`] begins that sets the owner of the database.
pub const SET_OWNER: &str = "ALTER DATABASE %I OWNER TO ";

/// Returns the role that owns a database, quoted as SQL wants it.
fn owner(database: &DatabasePlan) -> Option<String> {
    let settings = database.fact(facts::SETTINGS).unwrap_or_default().0;
    // Where names are put in, a `%` is written twice.
    settings.iter().find_map(|statement| statement.strip_prefix(SET_OWNER)).map(|owner| owner.replace("%%", "%"))
}

/// Returns the roles that a database uses, quoted as SQL wants them, each with the statement that makes it.
pub fn roles(database: &DatabasePlan) -> BTreeMap<String, String> {
    let name = |statement: &str| {
        let rest = statement.strip_prefix("CREATE ROLE ")?;
        Some(rest.strip_suffix(" LOGIN").unwrap_or(rest).to_owned())
    };
    let JsonList(known) = database.fact(facts::ROLES).unwrap_or_default();
    let mut roles: BTreeMap<String, String> =
        known.into_iter().filter_map(|statement| Some((name(&statement)?, statement))).collect();
    if let Some(owner) = owner(database) {
        roles.entry(owner.clone()).or_insert_with(|| format!("CREATE ROLE {owner}"));
    }
    roles
}

/// Says what to do about roles that are not there.
pub fn missing_roles_note(
    database: &DatabasePlan,
    missing: &[String],
    roles: &BTreeMap<String, String>,
    has_globals: bool,
) -> Option<String> {
    let name = &database.name;
    let owner = owner(database).filter(|owner| missing.contains(owner));
    let others = missing.iter().filter(|role| Some(*role) != owner.as_ref()).cloned().collect::<Vec<_>>().join(", ");
    let what = match (owner, others.is_empty()) {
        (None, true) => return None,
        (Some(owner), true) => format!("there is no role {owner}, which owns {name}"),
        (Some(owner), false) => {
            format!("there is no role {owner}, which owns {name}, nor {others}, which have to do with it")
        }
        (None, false) => format!("of the roles that have to do with {name} these are not there: {others}"),
    };
    let way = match has_globals {
        true => "restore roles first, by --globals,".to_owned(),
        false => {
            let make = missing.iter().filter_map(|role| roles.get(role));
            let make: Vec<String> = make.map(|statement| format!("{statement};")).collect();
            format!("this snapshot has no roles, so type {} first,", make.join(" "))
        }
    };
    Some(format!("{what}: {way} or add --no-owner, or --owner ROLE"))
}

/// Says what of a database needs roles that are not there, though it is restored without owners and grants.
pub fn named_roles_note(database: &DatabasePlan, missing: &[String]) -> Option<String> {
    let make: Vec<String> = missing.iter().map(|role| format!("CREATE ROLE {role};")).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "policies or user mappings of {} are for roles that are not there: {}; these are not made without them, and are told as what \
             failed, with exit code 3: type {} first",
            database.name,
            missing.join(", "),
            make.join(" ")
        )
    })
}

/// Tells that functions are open which were not, where rights are left away.
pub fn closed_functions_note(database: &DatabasePlan) -> Option<String> {
    let count = database.fact(facts::CLOSED_FUNCTIONS)?;
    Some(format!(
        "{count} functions of {} run with the rights of their owner, and not all might call them: without what was granted and revoked \
         all may, until REVOKE EXECUTE ON FUNCTION … FROM PUBLIC",
        database.name
    ))
}

/// Leaves out the statement that makes the role `name`, quoted as SQL wants it: it is there, for it is connected.
pub fn without_role(input: impl Write + Send + 'static, name: &str) -> Box<dyn Write + Send> {
    let statement = format!("CREATE ROLE {name};\n").into_bytes();
    Box::new(EditedLines::new(input, move |line: &[u8], out: &mut dyn Write| match line == statement {
        true => Ok(()),
        false => out.write_all(line),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::lines::tests::passed;
    use crate::engine::plan::{StreamKind, StreamToRestore};
    use crate::model::facts::StreamFacts;
    use crate::model::path::EntryPath;

    fn database(facts: &[(&str, &str)]) -> DatabasePlan {
        let texts: BTreeMap<String, String> =
            facts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let path = EntryPath::new("postgres/shop.dump").expect("safe");
        let facts = StreamFacts::from(texts);
        let stream = StreamToRestore { path, kind: StreamKind::Database, bytes: 100, facts };
        DatabasePlan { streams: vec![stream], ..DatabasePlan::new("shop") }
    }

    #[test]
    fn the_owner_is_among_the_settings() {
        let settings = r#"["ALTER DATABASE %I OWNER TO \"the shop\"", "REVOKE ALL ON DATABASE %I FROM PUBLIC"]"#;
        assert_eq!(owner(&database(&[(facts::SETTINGS.name(), settings)])).as_deref(), Some("\"the shop\""));
        assert_eq!(owner(&database(&[])), None);
    }

    #[test]
    fn roles_that_are_missing_are_told_with_what_makes_them() {
        let settings = r#"["ALTER DATABASE %I OWNER TO shopapp"]"#;
        let made = r#"["CREATE ROLE \"the reader\"", "CREATE ROLE shopapp LOGIN"]"#;
        let database = database(&[(facts::SETTINGS.name(), settings), (facts::ROLES.name(), made)]);
        let roles = roles(&database);
        let note = |missing: &[&str], has_globals| {
            let missing: Vec<String> = missing.iter().map(|&name| name.to_owned()).collect();
            missing_roles_note(&database, &missing, &roles, has_globals)
        };
        assert_eq!(note(&[], false), None);
        let expected = "there is no role shopapp, which owns shop: restore roles first, by --globals, or add --no-owner, or --owner ROLE";
        assert_eq!(note(&["shopapp"], true).as_deref(), Some(expected));
        let typed = note(&["\"the reader\"", "shopapp"], false).expect("a note");
        assert!(typed.contains("which owns shop, nor \"the reader\""), "{typed}");
        assert!(
            typed.contains("type CREATE ROLE \"the reader\"; CREATE ROLE shopapp LOGIN; first, or add --no-owner"),
            "{typed}"
        );
    }

    #[test]
    fn without_owners_what_names_a_role_and_what_is_open_is_told() {
        let database = database(&[(facts::CLOSED_FUNCTIONS.name(), "2")]);
        assert_eq!(named_roles_note(&database, &[]), None);
        let note = named_roles_note(&database, &["ghost".to_owned(), "\"a b\"".to_owned()]).expect("a note");
        assert!(
            note.contains("ghost, \"a b\"; ") && note.contains("type CREATE ROLE ghost; CREATE ROLE \"a b\"; first")
        );
        assert!(closed_functions_note(&database).is_some_and(|note| note.starts_with("2 functions of shop run with")));
        assert_eq!(closed_functions_note(&DatabasePlan { streams: Vec::new(), ..database }), None);
    }

    #[test]
    fn only_the_role_that_connects_is_left_out() {
        let globals =
            "CREATE ROLE postgres;\nALTER ROLE postgres WITH SUPERUSER;\nCREATE ROLE postgres2;\nCREATE ROLE a";
        let expected = "ALTER ROLE postgres WITH SUPERUSER;\nCREATE ROLE postgres2;\nCREATE ROLE a";
        assert_eq!(passed(globals, |kept| without_role(kept, "postgres")), expected);
    }
}
