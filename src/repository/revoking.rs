//! Throwing a writer out.
//!
//! Its key stays in its hands, and with it whatever it was let into; so it is shut out by what others know. First a list of cleaning
//! up says which of its snapshots were there, with the digests of their objects: what it writes afterwards, or puts in the place of one
//! of them, is not among these, whatever it is dated. Then one keyring names that list, marks the writer, and begins a new epoch
//! of every domain whose newest secret the writer knows. The other writers get it in the same keyring. Their running backups
//! end in the epoch in which they began, which they keep. A running backup of the writer itself finds out behind its snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::stream::StreamExt;

use crate::crypto::derive::{DedupSecret, ReaderKey};
use crate::crypto::digest::sha256_of;
use crate::crypto::session::new_domain_key;
use crate::format::FormatError;
use crate::format::keyring::{DomainRecord, Keyring};
use crate::format::writer::WriterRecord;
use crate::model::author::Author;
use crate::model::cleanup::CleanupList;
use crate::model::id::{DomainEpoch, DomainId, RepositoryId, WriterId};
use crate::model::key::ObjectKey;
use crate::model::outcome::{Ended, Outcome};
use crate::model::snapshot::{Foreign, Snapshot, SnapshotId};
use crate::model::time::Timestamp;
use crate::repository::access::AccessError;
use crate::repository::session::Session;
use crate::repository::snapshots::SnapshotListing;
use crate::repository::writers::{ATTEMPTS, KeyringError, newest_epoch};
use crate::repository::{OpenError, Repository};

/// Which snapshots of a writer go on counting when it is thrown out, of those that count by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StillCounting {
    /// All that are there.
    All,
    /// Those that began before a moment, since which the host may have been somebody else's.
    Before(Timestamp),
    /// None.
    None,
}

impl StillCounting {
    fn accepts(self, started: Timestamp) -> bool {
        match self {
            StillCounting::All => true,
            StillCounting::Before(moment) => started < moment,
            StillCounting::None => false,
        }
    }
}

/// What became of a writer's snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RevokedWriter {
    /// Those that go on counting.
    pub counting: usize,
    /// Those that do not.
    pub foreign: usize,
}

/// What a writer made.
#[derive(Default)]
struct MadeByWriter {
    /// Snapshots that are to count.
    counting: BTreeMap<DomainId, Digests>,
    revoked: RevokedWriter,
    /// Some of them that count now are not to.
    is_narrowed: bool,
}

/// A writer's snapshots in one domain, with the SHA-256 of their objects.
type Digests = Vec<(SnapshotId, [u8; 32])>;

/// Whether what a running session makes counts, as far as is known by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionStanding {
    /// Nothing speaks against it.
    Counts,
    /// The key that it writes with was thrown out while it ran.
    ThrownOut,
    /// A clean-up did not wait for it any longer.
    GivenUp,
}

impl Repository {
    /// Asks whether what a session makes still counts, the snapshot that it made if there is one: whether its writer was thrown out, by
    /// the newest keyring, and whether a clean-up gave it up. Nobody throws a reader out.
    ///
    /// # Errors
    /// [`OpenError`] when keyring or lists cannot be had.
    pub async fn standing(&self, session: &Session, snapshot: Option<&Snapshot>) -> Result<SessionStanding, OpenError> {
        // A list is durable before the keyring that names it, so it is read behind that.
        let mut revoked = None;
        if let Author::Writer(own) = session.author() {
            let keyring = self.newest_keyring().await?;
            let record = keyring.writers.into_iter().find(|writer| writer.id == own);
            let counting = record.map_or(Some(Vec::new()), |it| it.is_revoked.then_some(it.counting));
            revoked = counting;
        }
        let at = |source| OpenError::Store { location: self.location(), source };
        let cleanups = self.cleanups().await.map_err(at)?;
        if let Some(counting) = revoked {
            let digest = |it: &Snapshot| it.digest.is_some_and(|digest| cleanups.counts(&counting, it.id, digest));
            return Ok(if snapshot.is_some_and(digest) { SessionStanding::Counts } else { SessionStanding::ThrownOut });
        }
        Ok(if cleanups.gives_up(session.id()) { SessionStanding::GivenUp } else { SessionStanding::Counts })
    }

    /// Throws a writer out: what it writes from now on counts nowhere, and what it wrote as far as `still` says. Of one that was thrown
    /// out already, fewer snapshots may count from now on, and never more.
    ///
    /// # Errors
    /// [`KeyringError`]; the keyring is as it was then.
    pub async fn revoke_writer(
        self: &Arc<Self>,
        id: WriterId,
        still: StillCounting,
        now: Timestamp,
    ) -> Result<RevokedWriter, KeyringError> {
        let reader = self.keys().reader_key().ok_or(AccessError::WriterOnly)?;
        let keyring = self.newest_keyring().await?;
        let writer = keyring.writers.into_iter().find(|writer| writer.id == id).ok_or(KeyringError::NoWriter(id))?;
        let MadeByWriter { counting, revoked, is_narrowed } = self.made_by(&writer, still, now).await?;
        if writer.is_revoked && !is_narrowed {
            return Ok(revoked);
        }
        let mut lists = Vec::new();
        for (domain, snapshots) in counting {
            lists.push(self.tell_counting(domain, snapshots, now).await?);
        }
        let before = writer.counting;
        self.change_keyring(|keyring| {
            let writer = keyring.writers.iter_mut().find(|writer| writer.id == id).ok_or(KeyringError::NoWriter(id))?;
            if writer.is_revoked && writer.counting != lists && writer.counting != before {
                // Somebody else throws it out at the same time, and may have seen other snapshots.
                return Err(KeyringError::Contended);
            }
            (writer.is_revoked, writer.counting) = (true, lists.clone());
            let known: Vec<DomainEpoch> = writer.granted().collect();
            let domains: BTreeSet<DomainId> = known.iter().map(|at| at.domain).collect();
            for domain in domains {
                let newest = newest_epoch(self.id(), reader, keyring, |(_, it)| it == domain)?;
                if let Some((name, dedup)) = newest.filter(|(_, dedup)| known.contains(&dedup.at)) {
                    begin_epoch(self.id(), reader, keyring, &name, dedup.at)?;
                }
            }
            Ok(())
        })
        .await?;
        Ok(revoked)
    }

    /// Finds what a writer made that is to count, and counts what is not.
    async fn made_by(
        self: &Arc<Self>,
        writer: &WriterRecord,
        still: StillCounting,
        now: Timestamp,
    ) -> Result<MadeByWriter, KeyringError> {
        let mut made = MadeByWriter::default();
        let SnapshotListing { counting, cleanups, .. } = self.list_snapshots().await?;
        let mut opening = self.listed_snapshots(counting);
        while let Some((_, opened)) = opening.next().await {
            let snapshot = match opened {
                Ok(snapshot) => snapshot,
                // What nobody can read cannot count, whoever made it.
                Err(error) if matches!(error.outcome(), Outcome::Damaged | Outcome::Missing) => continue,
                Err(error) => return Err(error.into()),
            };
            if snapshot.author != Author::Writer(writer.id) {
                continue;
            }
            let digest = snapshot.digest.expect("it was opened");
            let counts_now = match writer.is_revoked {
                false => snapshot.foreign.is_none(),
                true => {
                    matches!(snapshot.foreign, None | Some(Foreign::Revoked))
                        && cleanups.counts(&writer.counting, snapshot.id, digest)
                }
            };
            if counts_now && !snapshot.started.is_ahead_of(now) && still.accepts(snapshot.started) {
                made.revoked.counting += 1;
                made.counting.entry(snapshot.at.domain).or_default().push((snapshot.id, digest));
            } else {
                made.revoked.foreign += 1;
                made.is_narrowed |= counts_now;
            }
        }
        Ok(made)
    }

    /// Puts a list of snapshots that go on counting, and returns its digest. Nothing follows from it before a keyring names it.
    async fn tell_counting(
        self: &Arc<Self>,
        domain: DomainId,
        counting: Digests,
        made: Timestamp,
    ) -> Result<[u8; 32], KeyringError> {
        let name = self.keys().name_of(domain).ok_or_else(|| KeyringError::NoDomain(domain.to_string()))?;
        let session = self.writing()?.begin_session(name)?;
        let mut gone = Vec::new();
        for _ in 0..ATTEMPTS {
            let (id, before) = self.cleanups().await?.behind_newest(domain);
            let (gone_before, counting) = (gone.clone(), counting.clone());
            let list = CleanupList { made, gone: gone_before, before, counting, ..CleanupList::default() };
            let object = session.seal_cleanup(id, &list);
            let digest = sha256_of(&object);
            self.objects().put_cleanup(id, object).await?;
            if !self.cleanups().await?.is_shared(domain, id.counter) {
                return Ok(digest);
            }
            gone.push(ObjectKey::cleanup(id).to_string());
        }
        Err(KeyringError::Contended)
    }
}

/// Begins the epoch behind the newest one of a domain, and lets in whoever was let into that and is not thrown out.
fn begin_epoch(
    repository: RepositoryId,
    reader: &ReaderKey,
    keyring: &mut Keyring,
    name: &str,
    newest: DomainEpoch,
) -> Result<(), FormatError> {
    let erased = keyring.erased.iter().map(|erased| erased.at).filter(|at| at.domain == newest.domain);
    let last = erased.map(|at| at.epoch).max().unwrap_or(0).max(newest.epoch);
    let next = last.checked_add(1).ok_or_else(|| FormatError::invalid("the keyring", "it has no more epochs"))?;
    let dedup = DedupSecret::random(DomainEpoch { epoch: next, ..newest });
    let (secret_key, public_key) = new_domain_key();
    keyring.domains.push(DomainRecord::seal(repository, reader, name, &dedup, &secret_key, public_key));
    for writer in keyring.writers.iter_mut().filter(|writer| !writer.is_revoked && writer.may_write(newest)) {
        writer.grant(repository, reader, name, &dedup)?;
    }
    Ok(())
}
