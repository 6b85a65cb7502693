//! An error on its way to whoever started the program: what is told of it, how the run ended by it, and what to try.
//!
//! The library's errors become one where `?` meets them, as long as they still have their types: their [`Outcome`] decides the exit code and
//! their [`Advice`] the hint. One that has no advice does not compile, so none is forgotten.

use std::error::Error;
use std::io;

use crate::cli::advice::Advice;
use crate::model::outcome::Outcome;
use crate::store::{StoreError, StoreErrorKind};

/// What a verb returns: its result, or why there is none.
pub type Fallible<T> = Result<T, Failure>;

/// Why a verb could not do what was asked.
#[derive(Debug, Clone)]
pub struct Failure {
    told: Vec<String>,
    outcome: Outcome,
    hint: Option<String>,
}

impl Failure {
    /// Makes one that has no cause.
    pub fn new(outcome: Outcome, message: impl Into<String>) -> Self {
        Self { told: vec![message.into()], outcome, hint: None }
    }

    /// Says what to try.
    pub fn hinting(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Returns how the run ended by it.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Returns what could not be done, and what caused it, link by link.
    pub fn told(&self) -> &[String] {
        &self.told
    }

    /// Returns what to try.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl<E: Advice + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { told: links(&error), outcome: error.outcome(), hint: error.hint() }
    }
}

/// Adds the step at which something failed.
pub trait Context<T> {
    /// Says what was being done.
    fn context(self, step: impl Into<String>) -> Fallible<T>;
}

impl<T, E: Into<Failure>> Context<T> for Result<T, E> {
    fn context(self, step: impl Into<String>) -> Fallible<T> {
        self.map_err(|error| {
            let mut failure = error.into();
            failure.told.insert(0, step.into());
            failure
        })
    }
}

/// Returns an error and its causes, link by link.
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let link = next?;
        next = link.source();
        Some(link)
    })
}

/// Returns what an error and its causes say, each thing once.
fn links(error: &(dyn Error + 'static)) -> Vec<String> {
    let chain = || chain(error);
    if chain().filter_map(store_error).any(|error| error.kind == StoreErrorKind::Interrupted) {
        // What was dropped on its way when ending was asked for is no news.
        return vec!["interrupted".into()];
    }
    let mut told = vec![error.to_string()];
    for (above, cause) in chain().zip(chain().skip(1)) {
        let text = cause.to_string();
        // Many errors have their cause in their own words already.
        let is_said = told.iter().any(|earlier| earlier.contains(&text));
        let refused = |error: &StoreError| matches!(error.kind, StoreErrorKind::Denied | StoreErrorKind::Full);
        let is_number = cause.is::<io::Error>() && store_error(above).is_some_and(refused);
        if !is_said && !is_number {
            told.push(text);
        }
    }
    told
}

/// Returns the store's error in a link of a chain of causes.
fn store_error<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a StoreError> {
    let shared = cause.downcast_ref::<std::sync::Arc<StoreError>>().map(|error| &**error);
    cause.downcast_ref::<StoreError>().or(shared)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::backup::BackupError;
    use crate::ops::verify::VerifyError;

    fn store(kind: StoreErrorKind) -> StoreError {
        StoreError::new("put", "snapshots/1", kind, "no answer")
    }

    #[test]
    fn causes_are_told_once_and_say_how_it_ended() {
        let failure = Failure::from(BackupError::Commit(store(StoreErrorKind::Unavailable).into()));
        assert_eq!(failure.outcome(), Outcome::Unreachable);
        assert_eq!(failure.told(), ["the snapshot could not be stored", "put snapshots/1: no answer"]);
        assert!(failure.hint().is_some_and(|hint| hint.contains("network")));
        let refused = store(StoreErrorKind::Denied).with_source(io::Error::from_raw_os_error(13));
        assert_eq!(Failure::from(refused).told(), ["put snapshots/1: no answer"]);
    }

    #[test]
    fn a_step_stands_before_what_happened_at_it() {
        let failed: Result<(), io::Error> = Err(io::Error::other("no room"));
        let failure = failed.context("writing the page").expect_err("it failed");
        assert_eq!(failure.told(), ["writing the page", "no room"]);
        assert_eq!(failure.outcome(), Outcome::Failed);
    }

    #[test]
    fn a_request_that_was_dropped_at_the_end_is_no_news() {
        let failure = Failure::from(VerifyError::Store(store(StoreErrorKind::Interrupted)));
        assert_eq!((failure.told(), failure.outcome()), (&["interrupted".to_owned()][..], Outcome::Interrupted));
    }
}
