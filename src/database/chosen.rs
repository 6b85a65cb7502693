//! Which databases of a server, or tables of a database, are meant: those whose names are like some patterns, and not like others.

use globset::{GlobBuilder, GlobMatcher};

/// A pattern that is none.
#[derive(Debug, thiserror::Error)]
#[error("{pattern:?} is no pattern for names")]
pub struct NamePatternError {
    /// What was written.
    pattern: String,
    /// What is wrong with it.
    #[source]
    source: globset::Error,
}

/// Stands between a schema and a table in the names that patterns are compared with: both may have dots.
pub const SCHEMA_MARK: char = '\u{1f}';
/// Stands in place of slashes, since a slash separates what [`NamePattern::in_schema`] compares.
const SLASH: &str = "\u{1e}";
/// Stands in place of dots that are written `\.`, and separate nothing.
const PLAIN_DOT: &str = "\u{1d}";

/// Patterns of names: `*` and `?` stand for any characters, `[ab]` for one of these, `{a,b}` for one of several.
///
/// Of a table in a schema, a pattern without a dot is compared with the table's own name, and one with a dot with both names, where
/// nothing stands for the dot between them.
#[derive(Debug, Clone, Default)]
pub struct NamePatterns(Vec<NamePattern>);

/// One of them.
#[derive(Debug, Clone)]
struct NamePattern {
    /// Compared with a whole name.
    whole: GlobMatcher,
    /// Compared with a schema and a table, if it has a dot.
    in_schema: Option<GlobMatcher>,
}

impl NamePatterns {
    /// Reads patterns.
    ///
    /// # Errors
    /// For the first that is none.
    pub fn new(patterns: &[String]) -> Result<Self, NamePatternError> {
        let read = |pattern: &String| {
            NamePattern::new(pattern).map_err(|source| NamePatternError { pattern: pattern.clone(), source })
        };
        patterns.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells whether a name is like one of them.
    pub fn fit(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern.fits(name))
    }

    /// Returns those that no name is like: mostly one is mistyped.
    pub fn like_nothing<'a>(&self, names: impl IntoIterator<Item = &'a str> + Clone) -> Vec<String> {
        let idle = self.0.iter().filter(|pattern| !names.clone().into_iter().any(|name| pattern.fits(name)));
        idle.map(|pattern| pattern.whole.glob().glob().to_owned()).collect()
    }
}

impl NamePattern {
    fn new(pattern: &str) -> Result<Self, globset::Error> {
        let whole = GlobBuilder::new(pattern).backslash_escape(true).build()?.compile_matcher();
        let separated =
            pattern.replace("\\.", PLAIN_DOT).replace('/', SLASH).replace('.', "/").replace(PLAIN_DOT, "\\.");
        let in_schema = match separated.contains('/') {
            true => {
                let glob = GlobBuilder::new(&separated).backslash_escape(true).literal_separator(true).build()?;
                Some(glob.compile_matcher())
            }
            false => None,
        };
        Ok(Self { whole, in_schema })
    }

    fn fits(&self, name: &str) -> bool {
        match (name.split_once(SCHEMA_MARK), &self.in_schema) {
            (None, _) => self.whole.is_match(name),
            (Some((_, table)), None) => self.whole.is_match(table),
            (Some(_), Some(both)) => both.is_match(name.replace('/', SLASH).replacen(SCHEMA_MARK, "/", 1)),
        }
    }
}

/// Databases whose names are like some patterns, and not like others.
#[derive(Debug, Clone, Default)]
pub struct ChosenDatabases {
    /// All, when there is none.
    included: NamePatterns,
    excluded: NamePatterns,
}

impl ChosenDatabases {
    /// Reads patterns.
    ///
    /// # Errors
    /// For the first that is none.
    pub fn new(included: &[String], excluded: &[String]) -> Result<Self, NamePatternError> {
        Ok(Self { included: NamePatterns::new(included)?, excluded: NamePatterns::new(excluded)? })
    }

    /// Tells whether the database of this name is meant.
    pub fn has(&self, name: &str) -> bool {
        (self.included.is_empty() || self.included.fit(name)) && !self.excluded.fit(name)
    }

    /// Takes those apart that are meant and those that are left out.
    pub fn choose(&self, names: Vec<String>) -> (Vec<String>, Vec<String>) {
        names.into_iter().partition(|name| self.has(name))
    }

    /// Tells which patterns no name is like: mostly one is mistyped.
    pub fn like_nothing(&self, names: &[&String]) -> Vec<String> {
        let names = names.iter().map(|name| name.as_str());
        let idle = [&self.included, &self.excluded].map(|patterns| patterns.like_nothing(names.clone()));
        idle.concat().iter().map(|pattern| format!("no database has a name like {pattern}")).collect()
    }
}

/// Says of each database that it is left out because that was asked for.
pub fn told_left_out(names: &[String]) -> impl Iterator<Item = String> {
    names.iter().map(|name| format!("database {name:?} is left out, as was asked for"))
}

/// Returns what of a server is in none of its dumps, as their facts tell it: databases, and `globals` where these are left out, too;
/// nothing where there is none.
pub fn left_out_fact(databases: &[String], globals: Option<&str>) -> Option<String> {
    let databases = databases.iter().map(|name| format!("database {name}"));
    let all: Vec<String> = databases.chain(globals.map(str::to_owned)).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(included: &[&str], excluded: &[&str]) -> ChosenDatabases {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        ChosenDatabases::new(&owned(included), &owned(excluded)).expect("patterns")
    }

    #[test]
    fn names_are_chosen_by_patterns() {
        let all = ["shop", "shop/1", "rdsadmin", "Grüße", "azure_sys"].map(str::to_owned).to_vec();
        let open = |included: &[&str], excluded: &[&str]| chosen(included, excluded).choose(all.clone()).0.join(" ");
        assert_eq!(open(&[], &[]), "shop shop/1 rdsadmin Grüße azure_sys");
        assert_eq!(open(&["shop*", "G*"], &["shop/?"]), "shop Grüße");
        assert_eq!(open(&[], &["{rds,cloudsql}admin", "azure_*"]), "shop shop/1 Grüße");
        let names: Vec<&String> = all.iter().collect();
        assert_eq!(chosen(&["shop"], &["rdsadmn"]).like_nothing(&names), ["no database has a name like rdsadmn"]);
    }

    #[test]
    fn tables_in_schemas_are_chosen_by_their_own_names_or_by_both() {
        let all = ["catalog/products", "public/log", "audit/events", "audit/x.log", "a.b/log", "audit/a_log"];
        let open = |pattern: &str| {
            let patterns = NamePatterns::new(&[pattern.to_owned()]).expect("a pattern");
            let fits = |name: &&str| patterns.fit(&name.replacen('/', &SCHEMA_MARK.to_string(), 1));
            all.iter().copied().filter(fits).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(open("*log*"), "public/log audit/x.log a.b/log audit/a_log");
        assert_eq!(open("log"), "public/log a.b/log");
        assert_eq!(open("audit.*"), "audit/events audit/x.log audit/a_log");
        assert_eq!(open("*.log"), "public/log a.b/log");
        assert_eq!(open("a*log"), "audit/a_log");
        assert_eq!(open("x\\.log"), "audit/x.log");
        assert_eq!(open("{public.log,audit.e*}"), "public/log audit/events");
        let idle = NamePatterns::new(&["cat*".to_owned(), "*.pro*".to_owned()]).expect("patterns");
        assert_eq!(idle.like_nothing(["catalog\u{1f}products"]), ["cat*"]);
    }

    #[test]
    fn what_is_left_out_is_one_text_or_none() {
        let names = ["shop", "a b"].map(str::to_owned);
        assert_eq!(left_out_fact(&names, None).as_deref(), Some("database shop; database a b"));
        assert_eq!(left_out_fact(&names[..1], Some("roles")).as_deref(), Some("database shop; roles"));
        assert_eq!(left_out_fact(&[], None), None);
        let told: Vec<String> = told_left_out(&names[1..]).collect();
        assert_eq!(told, ["database \"a b\" is left out, as was asked for"]);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let error = ChosenDatabases::new(&[], &["x[".to_owned()]).expect_err("no pattern");
        assert!(error.to_string().contains("\"x[\""), "{error}");
    }
}
