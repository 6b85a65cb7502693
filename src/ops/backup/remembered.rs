//! Figures of earlier runs of the same series, in a local file: what a run is compared with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::model::series::Series;
use crate::repository::Repository;
use crate::repository::cache::record;

/// Earlier runs that one is compared with.
pub(super) const COMPARED: usize = 7;

/// Names of what figures are about.
pub(super) type Subjects = BTreeSet<String>;

/// Figures by what they are about.
pub(super) struct Remembered<T> {
    pub(super) file: PathBuf,
    /// Whether there was a file that could be read.
    pub(super) is_known: bool,
    /// Those of each run, the newest last.
    pub(super) by_name: BTreeMap<String, Vec<T>>,
}

impl<T: Serialize + DeserializeOwned> Remembered<T> {
    /// Loads the file of this series and extension.
    pub(super) fn load(repository: &Repository, series: &Series, extension: &str) -> Self {
        let file = repository.cache().trees().join(series.file_name()).with_extension(extension);
        let known = record::read(&file).and_then(|text| serde_json::from_slice(&text).ok());
        Self { file, is_known: known.is_some(), by_name: known.unwrap_or_default() }
    }

    /// Returns the figures of the last runs, at most [`COMPARED`]; `None` when there are none.
    pub(super) fn last(&self, name: &str) -> Option<&[T]> {
        let figures = self.by_name.get(name)?;
        Some(&figures[figures.len().saturating_sub(COMPARED)..]).filter(|figures| !figures.is_empty())
    }

    /// Adds the figure of this run and forgets what no run is compared with any more.
    pub(super) fn push(&mut self, name: String, figure: T) {
        let figures = self.by_name.entry(name).or_default();
        figures.push(figure);
        figures.drain(..figures.len().saturating_sub(COMPARED));
    }

    /// Adds the figures of this run, but for what is `flagged`, those of what was `accepted` in place of earlier ones, and writes the
    /// file for the next run. Failing to only costs it the comparison.
    pub(super) fn keep(mut self, figures: impl Iterator<Item = (String, T)>, flagged: &Subjects, accepted: &Subjects) {
        for (name, figure) in figures.filter(|(name, _)| !flagged.contains(name)) {
            if accepted.contains(&name) {
                self.by_name.remove(&name);
            }
            self.push(name, figure);
        }
        if !self.by_name.is_empty() {
            let text = serde_json::to_vec(&self.by_name).expect("texts and numbers are JSON");
            let _ = record::write(&self.file, &text);
        }
    }
}

#[cfg(test)]
impl<T: Clone> Remembered<T> {
    /// What was remembered about one thing, and is kept nowhere.
    pub(super) fn of(name: &str, figures: &[T]) -> Self {
        let by_name = BTreeMap::from([(name.to_owned(), figures.to_vec())]);
        Self { file: PathBuf::new(), is_known: true, by_name }
    }
}

/// Returns the median of sizes, 0 of none.
pub(super) fn median(sizes: &[u64]) -> u64 {
    let mut sorted = sizes.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_runs_alone_are_compared_with_and_kept() {
        let mut remembered = Remembered::of("a", &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(remembered.last("a"), Some(&[3, 4, 5, 6, 7, 8, 9][..]));
        assert_eq!(remembered.last("b"), None);
        remembered.push("a".into(), 10);
        assert_eq!(remembered.by_name["a"], [4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(Remembered::<u64>::of("a", &[]).last("a"), None);
    }
}
