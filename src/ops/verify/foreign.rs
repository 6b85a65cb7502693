//! Names that are not this repository's: what a NAS, a desktop or another repository left below its prefixes. They harm
//! nothing, are never opened, and are told by one note for each prefix.

use std::collections::BTreeMap;

use crate::model::key::{ObjectKey, ObjectKind};
/// Foreign names found so far: their number and the first, by prefix.
#[derive(Debug, Default)]
pub(super) struct ForeignNames(BTreeMap<&'static str, (u64, String)>);

impl ForeignNames {
    /// Notes names that are not ours.
    pub(super) fn add_all(&mut self, foreign: &[ObjectKey]) {
        for key in foreign {
            let prefix = key.kind().map_or("", ObjectKind::prefix);
            self.0.entry(prefix).or_insert_with(|| (0, key.to_string())).0 += 1;
        }
    }

    /// Returns what there is to say.
    pub(super) fn notes(self) -> impl Iterator<Item = String> {
        self.0.into_iter().map(|(prefix, (count, first))| match count {
            1 => format!("{first} is not an object of this repository"),
            _ => format!("{count} objects below {prefix} are not this repository's, the first is {first}"),
        })
    }
}
