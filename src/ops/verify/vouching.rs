//! What was read whole and is right is vouched for, while the reading goes on.

use std::sync::Arc;

use crate::ops::verify::VerifyOptions;
use crate::progress::chain;
use crate::repository::Repository;
use crate::repository::vouching::ReadWhole;

/// What became of packs that writers alone name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vouched {
    /// Packs that every writer may rely on from now on.
    pub packs: u64,
    /// Packs that were read whole and are right, and could not be vouched for.
    pub not: u64,
    /// Why, if anything was tried.
    pub why_not: Option<String>,
}

/// Packs that wait to be vouched for.
pub(super) struct Vouching<'a> {
    repository: &'a Arc<Repository>,
    options: &'a VerifyOptions,
    /// Whether anything is to be vouched for.
    pub(super) is_wanted: bool,
    waiting: ReadWhole,
    pub(super) vouched: Vouched,
}

impl<'a> Vouching<'a> {
    /// Begins to gather what is read of the first replica of `repository`.
    pub(super) fn of(repository: &'a Arc<Repository>, options: &'a VerifyOptions) -> Self {
        // What one replica has says nothing of others.
        let is_wanted = options.heal && repository.objects().replicas().first_is_all();
        Self { repository, options, is_wanted, waiting: ReadWhole::default(), vouched: Vouched::default() }
    }

    /// Takes a pack that was read whole, and vouches for those that wait where there are many.
    pub(super) async fn add(&mut self, read: Option<ReadWhole>) {
        if let Some(read) = read {
            self.waiting.extend(read);
        }
        if self.waiting.is_full() {
            self.all().await;
        }
    }

    /// Vouches for all that wait.
    pub(super) async fn all(&mut self) {
        let read = self.waiting.take();
        let count = read.count() as u64;
        if count == 0 {
            return;
        }
        let vouched = match self.repository.writing() {
            // It was refused before.
            _ if self.vouched.why_not.is_some() => Err(None),
            Ok(writing) => {
                let vouched = writing.vouch(read, &self.options.host, self.options.clock).await;
                vouched.map_err(|error| Some(chain(&error)))
            }
            Err(error) => Err(Some(chain(&error))),
        };
        match vouched {
            Ok(packs) => self.vouched.packs += packs,
            Err(why) => {
                self.vouched.not += count;
                self.vouched.why_not = self.vouched.why_not.take().or(why);
            }
        }
    }
}
