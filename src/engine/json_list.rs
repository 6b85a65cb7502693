//! Lists as facts.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::facts::FactValue;

/// Statements, names, or values of several fields, kept as a JSON array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonList<T>(pub Vec<T>);

impl<T> Default for JsonList<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Serialize + DeserializeOwned> FactValue for JsonList<T> {
    fn to_text(&self) -> String {
        serde_json::to_string(&self.0).expect("its values are JSON")
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
        let statements: JsonList<String> = JsonList(vec!["ALTER DATABASE %I OWNER TO \"a b\"".into()]);
        assert_eq!(JsonList::from_text(&statements.to_text()), Some(statements));
        assert_eq!(JsonList::<String>::from_text("none"), None);
    }
}
