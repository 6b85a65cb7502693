//! Sessions that run, or ended without removing their leases: what whoever cleans up waits for.
//!
//! What no session of this repository put there, or one whose writer was thrown out or whose epoch was erased, nobody waits for.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::format::object::LEASE;
use crate::model::author::Author;
use crate::model::id::{DomainEpoch, DomainId, SessionId};
use crate::model::key::ObjectKey;
use crate::model::time::Timestamp;
use crate::repository::Repository;
use crate::repository::lease::{Lease, open_lease};
use crate::store::{StoreError, StoreErrorKind};

/// Leases fetched at the same time.
const FETCHES: usize = 8;

/// A session of which there is a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningSession {
    /// The domain that it writes to.
    pub domain: DomainId,
    /// What it says of itself; none where the lease cannot be opened.
    pub lease: Option<Lease>,
}

impl RunningSession {
    /// Returns until when it is to be believed that it is alive, as far as its own clock says.
    pub fn expires(&self) -> Option<Timestamp> {
        self.lease.as_ref().map(|lease| lease.expires)
    }
}

impl Repository {
    /// Returns the sessions of which any replica has a lease, each of which must answer.
    ///
    /// # Errors
    /// When leases cannot be listed, or one not be had.
    pub async fn running_sessions(&self) -> Result<BTreeMap<SessionId, RunningSession>, StoreError> {
        let ids = self.objects().every_session().await?;
        let fetches = stream::iter(ids).map(|id| async move { Ok((id, self.running_session(id).await?)) });
        let running: Vec<_> = fetches.buffered(FETCHES).try_collect().await?;
        Ok(running.into_iter().filter_map(|(id, running)| Some((id, running?))).collect())
    }

    /// Returns a session; `None` where nobody need wait for it.
    async fn running_session(&self, id: SessionId) -> Result<Option<RunningSession>, StoreError> {
        let mut told: Option<DomainEpoch> = None;
        let open = |object: &Bytes| {
            let (at, _) = LEASE.split(object)?;
            told = Some(at);
            open_lease(self, id, object)
        };
        let opened = match self.objects().get(&ObjectKey::session(id), open).await {
            Ok(opened) => opened,
            Err(error) if matches!(error.kind, StoreErrorKind::NotFound | StoreErrorKind::TooLong) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(at) = told.filter(|at| self.keys().name_of(at.domain).is_some() && !self.keys().is_erased(*at)) else {
            return Ok(None);
        };
        let lease = match opened {
            Ok((author, _)) if self.is_thrown_out(author) => return Ok(None),
            Ok((_, lease)) => Some(lease),
            Err(_) => None,
        };
        Ok(Some(RunningSession { domain: at.domain, lease }))
    }

    fn is_thrown_out(&self, author: Author) -> bool {
        let mut writers = self.keys().writers().iter();
        writers.any(|writer| author == Author::Writer(writer.id) && writer.is_revoked)
    }
}
