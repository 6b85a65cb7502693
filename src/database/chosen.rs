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

/// Patterns of names: `*` and `?` stand for any characters, `[ab]` for one of these, `{a,b}` for one of several.
#[derive(Debug, Clone, Default)]
pub struct NamePatterns(Vec<GlobMatcher>);

impl NamePatterns {
    /// Reads patterns.
    ///
    /// # Errors
    /// For the first that is none.
    pub fn new(patterns: &[String]) -> Result<Self, NamePatternError> {
        let matcher = |pattern: &String| {
            let glob = GlobBuilder::new(pattern).backslash_escape(true).build();
            glob.map(|glob| glob.compile_matcher())
                .map_err(|source| NamePatternError { pattern: pattern.clone(), source })
        };
        patterns.iter().map(matcher).collect::<Result<_, _>>().map(Self)
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells whether a name is like one of them.
    pub fn fit(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern.is_match(name))
    }

    /// Returns those that no name is like: mostly one is mistyped.
    pub fn like_nothing<'a>(&self, names: impl IntoIterator<Item = &'a str> + Clone) -> Vec<String> {
        let idle = self.0.iter().filter(|pattern| !names.clone().into_iter().any(|name| pattern.is_match(name)));
        idle.map(|pattern| pattern.glob().glob().to_owned()).collect()
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
