//! Init: a new repository with a passphrase slot and a recovery identity.

use crate::model::time::Clock;
use crate::repository::places::LocalPlaces;
use crate::repository::replicas::Replicas;
use crate::repository::slots::{Passphrase, SlotLock, new_recovery_identity};
use crate::repository::{InitOptions, OpenError, Repository};

/// A new repository.
#[derive(Debug)]
pub struct InitReport {
    /// The repository, open.
    pub repository: Repository,
    /// Opens it as the passphrase does; shown once and kept nowhere.
    pub recovery_identity: Passphrase,
}

/// Makes a repository that opens with `passphrase` and with a fresh recovery identity.
///
/// # Errors
/// [`OpenError::Exists`] when there is one; otherwise what the store or the cache reports.
pub async fn init(
    replicas: impl Into<Replicas>,
    passphrase: Passphrase,
    options: &InitOptions,
    clock: Clock,
    places: impl Into<LocalPlaces>,
) -> Result<InitReport, OpenError> {
    let recovery_identity = new_recovery_identity();
    let locks = [
        (SlotLock::Passphrase(passphrase), "passphrase"),
        (SlotLock::Recovery(recovery_identity.clone()), "recovery identity"),
    ];
    let repository = Repository::init(replicas, &locks, options, clock.now(), places).await?;
    Ok(InitReport { repository, recovery_identity })
}
