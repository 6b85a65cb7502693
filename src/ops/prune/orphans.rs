//! Packs that no segment names: of runs that died before they had indexed them, or of segments that were lost.
//!
//! Nothing that a snapshot needs can be in one of them alone, or it would be missed. One is dead when it opens from itself, which
//! says that it is of this repository, and the session that wrote it has ended or is given up: it is doomed like any other, and
//! waited for, and looked at again. What does not open stays.

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt};

use crate::model::id::PackId;
use crate::ops::prune::look::Look;
use crate::ops::prune::waiting::is_given_up;
use crate::ops::prune::{CleanUp, PruneError};
use crate::repository::index::Index;
use crate::repository::index::complete::IncompleteError;
use crate::repository::index::needed::PackUse;

/// Packs asked at the same time what they are.
const ASKED: usize = 8;

impl CleanUp<'_> {
    /// Returns the orphans that no session may yet name, as packs of which nothing is needed.
    pub(super) async fn orphans(&self, look: &Look) -> Result<BTreeMap<PackId, PackUse>, PruneError> {
        let unnamed = look.index.unnamed();
        if unnamed.is_empty() {
            return Ok(BTreeMap::new());
        }
        // Behind the listing of packs: whoever wrote one of them had a lease by then.
        let running = self.deleting.repository().running_sessions().await?;
        // And whoever had ended by then had indexed what it wrote: what is named by now is no orphan.
        let indexed = Index::load(self.deleting.repository(), &**self.monitor).await.map_err(IncompleteError::Index)?;
        let unnamed = unnamed.into_iter().filter(|pack| !indexed.names(*pack)).collect::<Vec<_>>();
        let now = self.options.clock.now();
        let asked = stream::iter(unnamed).map(|pack| async move { (pack, look.reader.own_record(pack).await) });
        let mut asked = asked.buffer_unordered(ASKED);
        let mut orphans = BTreeMap::new();
        while let Some((pack, own)) = asked.next().await {
            let Ok(own) = own.map_err(PruneError::Pack)? else { continue };
            let header = &own.info().header;
            let may_run = running
                .get(&header.session)
                .is_some_and(|session| !is_given_up(self.options, header.session, session, now));
            if !may_run {
                orphans.insert(pack, PackUse::of_orphan(header.at, own.info().kind, own.info().size));
            }
        }
        Ok(orphans)
    }
}
