//! Lists of texts as facts.

use crate::model::facts::FactValue;

/// Statements or names, kept as a JSON array.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts(pub Vec<String>);

impl FactValue for Texts {
    fn to_text(&self) -> String {
        serde_json::to_string(&self.0).expect("texts are JSON")
    }

    fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_again() {
        let statements = Texts(vec!["ALTER DATABASE %I OWNER TO \"a b\"".into()]);
        assert_eq!(Texts::from_text(&statements.to_text()), Some(statements));
        assert_eq!(Texts::from_text("none"), None);
    }
}
