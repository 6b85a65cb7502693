//! Locales: whether the server has what a database was made with, and how one is made with another.
//!
//! Which locales there are is known to the operating system of the server alone: `pg_collation` lists those that were there when it
//! was set up. So each is tried, in a setting of the session that takes any locale and means nothing here.

use crate::database::{DatabaseError, major};
use crate::engine::plan::DatabasePlan;
use crate::engine::postgres::facts;
use crate::engine::postgres::script::literal;
use crate::engine::postgres::server::Postgres;
use crate::model::facts::{StreamFacts, fact};

/// The version since which a database has a provider of its locale, and that since which one is built in.
const PROVIDERS_SINCE: u32 = 15;
const BUILTIN_SINCE: u32 = 17;

/// The option of `createdb` without which a database has what somebody put into the template, and its encoding.
const FROM_EMPTY: &str = "--template=template0";

/// What is said of locales.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocaleFound {
    /// What keeps the database from being made.
    pub obstacle: Option<String>,
    /// What is good to know.
    pub note: Option<String>,
}

/// What the clauses say with which a database is made.
#[derive(Debug, PartialEq, Eq)]
struct DumpedLocale<'a> {
    encoding: &'a str,
    collate: &'a str,
    ctype: &'a str,
    /// The provider and its own locale, where it is another than the operating system.
    provider: Option<(&'static str, &'a str)>,
}

/// Returns the clauses of `CREATE DATABASE` that make a database like the one that was dumped, with another locale if one is named.
pub fn clauses(database: &DatabasePlan, locale: Option<&str>, server_version: &str) -> String {
    // Otherwise it would be that of the template.
    let libc = if major(server_version) >= PROVIDERS_SINCE { " LOCALE_PROVIDER libc" } else { "" };
    let Some(locale) = locale.map(literal) else {
        let clauses = database.fact(facts::CREATE).unwrap_or_default();
        let is_of_libc = dumped(&clauses).provider.is_none();
        return if is_of_libc { clauses + libc } else { clauses };
    };
    let encoding =
        database.text(facts::ENCODING).map(|name| format!("ENCODING {} ", literal(name))).unwrap_or_default();
    format!("{encoding}LC_COLLATE {locale} LC_CTYPE {locale}{libc}")
}

/// Returns the options of `createdb` for a database like the one that was dumped, as a shell takes them. Of names that it would not take
/// as they are none is told.
pub fn createdb_options(facts: &StreamFacts) -> String {
    let clauses = facts.get(facts::CREATE).unwrap_or_default();
    let dumped = dumped(&clauses);
    let has_providers = facts.text(fact::SERVER_VERSION).is_some_and(|version| major(version) >= PROVIDERS_SINCE);
    let provider = match dumped.provider {
        None if has_providers => vec![("locale-provider", "libc")],
        None => Vec::new(),
        Some(("icu", locale)) => vec![("locale-provider", "icu"), ("icu-locale", locale)],
        Some((provider, locale)) => vec![("locale-provider", provider), ("builtin-locale", locale)],
    };
    let libc = [("encoding", dumped.encoding), ("lc-collate", dumped.collate), ("lc-ctype", dumped.ctype)];
    let options: Vec<(&str, &str)> = libc.into_iter().chain(provider).collect();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_@".contains(c);
    if clauses.is_empty() || !options.iter().all(|(_, value)| value.chars().all(is_plain)) {
        return FROM_EMPTY.to_owned();
    }
    options.iter().fold(FROM_EMPTY.to_owned(), |text, (name, value)| format!("{text} --{name}={value}"))
}

/// Tells whether the order of a database has rules of its own beside its locale, of which [`createdb_options`] says nothing.
pub fn has_rules(facts: &StreamFacts) -> bool {
    facts.get(facts::CREATE).is_some_and(|clauses| clauses.contains(" ICU_RULES '"))
}

/// Asks the server whether it has the locale that a database is to be made with.
///
/// # Errors
/// [`DatabaseError`].
pub fn look(
    server: &Postgres,
    server_version: &str,
    database: &DatabasePlan,
    wanted: Option<&str>,
) -> Result<LocaleFound, DatabaseError> {
    let clauses = database.fact(facts::CREATE).unwrap_or_default();
    let dumped = dumped(&clauses);
    let names = match wanted {
        Some(name) => vec![name],
        None => vec![dumped.collate, dumped.ctype],
    };
    let missing = server.missing_locales(&names)?;
    let has_icu = wanted.is_some() || dumped.provider.is_none() || server.has_icu()?;
    Ok(judge(&database.name, &dumped, wanted, &missing, major(server_version), has_icu))
}

/// Compares what a database had with what it is to have, and with what the server lacks.
fn judge(
    name: &str,
    dumped: &DumpedLocale<'_>,
    wanted: Option<&str>,
    missing: &[String],
    server_major: u32,
    has_icu: bool,
) -> LocaleFound {
    if let Some(wanted) = wanted {
        let is_same = dumped.provider.is_none() && [dumped.collate, dumped.ctype] == [wanted; 2];
        let had = dumped.provider.map_or(dumped.collate, |(_, locale)| locale);
        let note =
            format!("{name} had locale {had} and gets {wanted}: texts, and so indexes, are in the order of that one");
        let obstacle = format!("the server has no locale {wanted}, with which {name} is to be made (--locale)");
        return LocaleFound {
            obstacle: missing.first().map(|_| obstacle),
            note: (missing.is_empty() && !is_same).then_some(note),
        };
    }
    let lacks = match dumped.provider {
        _ if !missing.is_empty() => Some(format!("no locale {}", missing.join(", "))),
        Some(("icu", locale)) if server_major < PROVIDERS_SINCE || !has_icu => {
            Some(format!("no locale {locale} of ICU"))
        }
        Some(("builtin", locale)) if server_major < BUILTIN_SINCE => Some(format!("no builtin locale {locale}")),
        _ => None,
    };
    // Another one would be of another encoding.
    let example = if dumped.encoding == "UTF8" { "C.UTF-8" } else { "C" };
    let told = |lacks| {
        format!(
            "the server has {lacks}, which {name} has: install it there, or make the database with another, by --locale NAME, as \
             {example}; texts, and so indexes, are then in the order of that one"
        )
    };
    LocaleFound { obstacle: lacks.map(told), note: None }
}

/// Reads the clauses with which a database like the dumped one is made.
fn dumped(clauses: &str) -> DumpedLocale<'_> {
    // No name of a locale has an apostrophe.
    let value = |clause: &str| {
        let (_, rest) = clauses.split_once(clause)?;
        Some(rest.strip_prefix(" '")?.split('\'').next().unwrap_or_default())
    };
    let provider = |name: &'static str, clause| value(clause).map(|locale| (name, locale));
    DumpedLocale {
        encoding: value("ENCODING").unwrap_or("UTF8"),
        collate: value("LC_COLLATE").unwrap_or("C"),
        ctype: value("LC_CTYPE").unwrap_or("C"),
        provider: provider("icu", " ICU_LOCALE").or_else(|| provider("builtin", " BUILTIN_LOCALE")),
    }
}

impl Postgres {
    /// Returns those of these locales that the server does not have, each once; none where it cannot be asked: it says the same when
    /// the database is made.
    fn missing_locales(&self, names: &[&str]) -> Result<Vec<String>, DatabaseError> {
        let names = serde_json::to_string(names).expect("texts are JSON");
        let sql = format!("SET coffre.locales = {};\n{TRYING}", literal(&names));
        let mut missing: Vec<String> = match self.ask(self.maintenance_database(), "asked for locales", &sql) {
            Err(DatabaseError::Failed { .. }) => Vec::new(),
            asked => asked?,
        };
        missing.dedup();
        Ok(missing)
    }

    /// Tells whether the server has locales of ICU.
    fn has_icu(&self) -> Result<bool, DatabaseError> {
        let sql = "SELECT to_json(EXISTS (SELECT FROM pg_collation WHERE collprovider = 'i'))";
        self.ask(self.maintenance_database(), "asked for locales of ICU", sql)
    }
}

/// Tries locales, of which a setting has the names, and prints those that failed.
const TRYING: &str = "DO $trying$ DECLARE name text; BEGIN
  FOR name IN SELECT jsonb_array_elements_text(current_setting('coffre.locales')::jsonb) LOOP
    BEGIN
      PERFORM set_config('lc_monetary', name, false);
    EXCEPTION WHEN invalid_parameter_value THEN
      PERFORM set_config('coffre.missing',
        (coalesce(nullif(current_setting('coffre.missing', true), ''), '[]')::jsonb || to_jsonb(name))::text, false);
    END;
  END LOOP;
END $trying$;
SELECT coalesce(nullif(current_setting('coffre.missing', true), ''), '[]')";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::plan::{StreamKind, StreamToRestore};
    use crate::model::path::EntryPath;

    const LIBC: &str = "ENCODING 'UTF8' LC_COLLATE 'de_DE.UTF-8' LC_CTYPE 'C'";
    const ICU: &str =
        "ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'de-x' ICU_RULES '&a < b'";

    fn database(made: &str) -> DatabasePlan {
        let mut facts = StreamFacts::default();
        facts.set(facts::CREATE, made.to_owned());
        facts.set(facts::ENCODING, "UTF8".to_owned());
        let path = EntryPath::new("postgres/shop.dump").expect("safe");
        let stream = StreamToRestore { path, kind: StreamKind::Database, bytes: 100, facts };
        DatabasePlan { streams: vec![stream], ..DatabasePlan::new("shop") }
    }

    #[test]
    fn by_hand_a_database_is_made_as_it_was_unless_a_shell_would_read_more_into_it() {
        let options = |made: &str, version: &str| {
            let mut facts = database(made).main().facts.clone();
            facts.set(fact::SERVER_VERSION, version.to_owned());
            createdb_options(&facts)
        };
        let libc = "--template=template0 --encoding=UTF8 --lc-collate=de_DE.UTF-8 --lc-ctype=C";
        assert_eq!(options(LIBC, "14.9"), libc);
        assert_eq!(options(LIBC, "15.1"), format!("{libc} --locale-provider=libc"));
        let icu = "--encoding=UTF8 --lc-collate=C --lc-ctype=C --locale-provider=icu --icu-locale=de-x";
        assert_eq!(options(ICU, "15.1"), format!("--template=template0 {icu}"));
        let has_rules = |made: &str| has_rules(&database(made).main().facts);
        assert!(has_rules(ICU) && !has_rules(LIBC));
        for odd in
            ["", "ENCODING 'UTF8' LC_COLLATE 'C$(id)' LC_CTYPE 'C'", "ENCODING 'UTF8\n' LC_COLLATE 'C' LC_CTYPE 'C'"]
        {
            assert_eq!(options(odd, "15.1"), "--template=template0");
        }
    }

    #[test]
    fn what_a_database_was_made_with_is_read() {
        let encoding = "UTF8";
        assert_eq!(dumped(LIBC), DumpedLocale { encoding, collate: "de_DE.UTF-8", ctype: "C", provider: None });
        let provider = Some(("icu", "de-x"));
        assert_eq!(dumped(ICU), DumpedLocale { encoding, collate: "C", ctype: "C", provider });
        let builtin = "LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'";
        assert_eq!(dumped(builtin).provider, Some(("builtin", "C.UTF-8")));
    }

    #[test]
    fn a_locale_is_of_the_provider_that_it_had_whatever_the_template_has() {
        for (made, as_dumped) in [(LIBC, format!("{LIBC} LOCALE_PROVIDER libc")), (ICU, ICU.to_owned())] {
            let database = database(made);
            assert_eq!(clauses(&database, None, "14.9"), made);
            assert_eq!(clauses(&database, None, "15.1"), as_dumped);
        }
    }

    #[test]
    fn another_locale_keeps_the_encoding_and_is_one_of_the_operating_system() {
        let database = database(ICU);
        let older = "ENCODING E'UTF8' LC_COLLATE E'C.UTF-8' LC_CTYPE E'C.UTF-8'";
        assert_eq!(clauses(&database, Some("C.UTF-8"), "14.9"), older);
        assert_eq!(clauses(&database, Some("C.UTF-8"), "15.1"), format!("{older} LOCALE_PROVIDER libc"));
    }

    #[test]
    fn what_the_server_lacks_is_an_obstacle_and_another_order_is_told() {
        let judged = |clauses, wanted, missing: &[&str], server_major, has_icu| {
            let missing: Vec<String> = missing.iter().map(|&name| name.to_owned()).collect();
            let LocaleFound { obstacle, note } =
                judge("shop", &dumped(clauses), wanted, &missing, server_major, has_icu);
            (obstacle.unwrap_or_default(), note.unwrap_or_default())
        };
        let nothing = (String::new(), String::new());
        assert_eq!(judged(LIBC, None, &[], 13, false), nothing);
        assert!(judged(LIBC, None, &["de_DE.UTF-8"], 15, true).0.contains("no locale de_DE.UTF-8, which shop has"));
        assert!(judged(LIBC, None, &["de_DE.UTF-8"], 15, true).0.contains("--locale NAME, as C.UTF-8;"));
        let latin = "ENCODING 'LATIN1' LC_COLLATE 'de_DE' LC_CTYPE 'de_DE'";
        assert!(judged(latin, None, &["de_DE"], 15, true).0.contains("--locale NAME, as C;"));
        assert_eq!(judged(ICU, None, &[], 15, true), nothing);
        for (server_major, has_icu) in [(15, false), (14, true)] {
            assert!(judged(ICU, None, &[], server_major, has_icu).0.contains("no locale de-x of ICU"));
        }
        assert!(judged(LIBC, Some("x"), &["x"], 15, true).0.contains("no locale x, with which shop is to be made"));
        let changed = judged(ICU, Some("C"), &[], 15, true);
        assert!(changed.0.is_empty() && changed.1.contains("shop had locale de-x and gets C"), "{changed:?}");
        assert_eq!(judged("LC_COLLATE 'C' LC_CTYPE 'C'", Some("C"), &[], 15, true), nothing);
    }
}
