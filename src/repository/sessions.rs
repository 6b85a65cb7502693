//! Session secrets that were recovered once: every pack and the snapshot of a session ask for the same one, and recovering
//! it costs a decapsulation (0.4 ms).
//!
//! Their number is bounded, without a cliff at the bound: the first are kept for good, of the others the latest few, so
//! whoever walks through more sessions than fit pays for those beyond the bound alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::crypto::session::{SessionHeader, SessionSecret};
use crate::model::id::SessionId;

/// Sessions kept for good: 150 bytes each, 10 MiB in all.
const KEPT: usize = 65_536;
/// Sessions beyond those that are kept until as many others came.
const RECENT: usize = 1024;

/// What is remembered of a session: a hash of the header that gave its secret, and the secret.
type Known = ([u8; 32], Arc<SessionSecret>);

/// Remembered session secrets.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<Maps>);

#[derive(Debug, Default)]
struct Maps {
    kept: HashMap<SessionId, Known>,
    recent: HashMap<SessionId, Known>,
}

impl Sessions {
    /// Returns the secret that exactly this header gave before.
    pub(super) fn get(&self, header: &SessionHeader) -> Option<Arc<SessionSecret>> {
        let maps = self.0.lock().expect("no panic while held");
        let (hash, secret) = maps.kept.get(&header.session).or_else(|| maps.recent.get(&header.session))?;
        (*hash == hash_of(header)).then(|| secret.clone())
    }

    /// Remembers what a header gave.
    pub(super) fn remember(&self, header: &SessionHeader, secret: Arc<SessionSecret>) {
        self.0.lock().expect("no panic while held").remember(header.session, (hash_of(header), secret), KEPT, RECENT);
    }
}

impl Maps {
    fn remember(&mut self, session: SessionId, known: Known, kept_max: usize, recent_max: usize) {
        if self.kept.len() < kept_max || self.kept.contains_key(&session) {
            self.kept.insert(session, known);
            return;
        }
        if self.recent.len() >= recent_max {
            self.recent.clear();
        }
        self.recent.insert(session, known);
    }
}

fn hash_of(header: &SessionHeader) -> [u8; 32] {
    *blake3::hash(&header.to_bytes()).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::derive::DedupSecret;
    use crate::crypto::session::{new_domain_key, new_session};
    use crate::model::id::{DomainEpoch, DomainId, RepositoryId};

    fn secret() -> Known {
        ([0; 32], Arc::new(session().0))
    }

    fn session() -> (SessionSecret, SessionHeader) {
        let (_, public) = new_domain_key();
        let dedup = DedupSecret::random(DomainEpoch { domain: DomainId([2; 16]), epoch: 1 });
        new_session(RepositoryId([1; 16]), &dedup, &public).expect("a good key")
    }

    #[test]
    fn more_sessions_than_fit_cost_those_beyond_the_bound_alone() {
        let (mut maps, known, mut misses) = (Maps::default(), secret(), Vec::new());
        for round in 0..3 {
            let mut missed = 0;
            for i in 0..120u8 {
                let session = SessionId([i; 16]);
                if !maps.kept.contains_key(&session) && !maps.recent.contains_key(&session) {
                    missed += 1;
                    maps.remember(session, known.clone(), 100, 10);
                }
                assert!(maps.kept.len() <= 100 && maps.recent.len() <= 10, "round {round}");
            }
            misses.push(missed);
        }
        assert_eq!(misses, [120, 20, 20]);
    }

    #[test]
    fn another_header_of_the_same_session_is_not_known() {
        let (secret, header) = session();
        let sessions = Sessions::default();
        assert!(sessions.get(&header).is_none());
        sessions.remember(&header, Arc::new(secret));
        assert!(sessions.get(&header).is_some());
        let mut other = header.to_bytes();
        other[1203] ^= 1;
        assert!(sessions.get(&SessionHeader::from_bytes(&other)).is_none());
    }
}
