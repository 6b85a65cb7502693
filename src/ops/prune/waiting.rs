//! Sessions that may rely on what is to be deleted: waited for until they have ended, or given up.
//!
//! Whether a session is in the way no time decides that it states; when it is taken for dead, its lease does.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::id::{DomainId, SessionId};
use crate::model::time::Timestamp;
use crate::ops::prune::{CleanUp, PruneError, PruneOptions};
use crate::repository::running::RunningSession;

/// How far the clock of another host may be behind: a session is alive for that long after its lease ended.
const SKEW_SECONDS: i64 = 30 * 60;

/// Sessions by their ids.
pub(super) type RunningSessions = BTreeMap<SessionId, RunningSession>;

/// What became of the sessions.
pub(super) enum Waited {
    /// None is in the way but these, which are to be given up.
    Over(RunningSessions),
    /// These may run.
    Running(RunningSessions),
}

impl CleanUp<'_> {
    /// Lists the sessions of the `domains` concerned, and waits until they have ended, as long as that may take.
    pub(super) async fn wait(&self, domains: &[DomainId]) -> Result<Waited, PruneError> {
        self.monitor.phase("waiting for backups that run");
        let begun = Instant::now();
        let wait = self.time_left().map_or(self.options.wait, |left| left.min(self.options.wait));
        let repository = self.deleting.repository();
        let mut running = repository.running_sessions().await?;
        running.retain(|_, session| domains.contains(&session.domain));
        loop {
            let now = self.options.clock.now();
            if running.iter().all(|(id, session)| is_given_up(self.options, *id, session, now)) {
                return Ok(Waited::Over(running));
            }
            let left = wait.saturating_sub(begun.elapsed());
            if left == Duration::ZERO {
                running.retain(|id, session| !is_given_up(self.options, *id, session, now));
                return Ok(Waited::Running(running));
            }
            let pause = tokio::time::sleep(self.options.poll.min(left));
            self.cancel.or(pause).await.ok_or(PruneError::Cancelled)?;
            let mut listed = repository.running_sessions().await?;
            // Who began since has read the list.
            running = running.into_keys().filter_map(|id| Some((id, listed.remove(&id)?))).collect();
        }
    }
}

/// Tells whether a session is not waited for: its lease ended long ago, cannot be opened, or somebody says so.
pub(super) fn is_given_up(options: &PruneOptions, id: SessionId, session: &RunningSession, now: Timestamp) -> bool {
    let is_dead = session.expires().is_none_or(|expires| expires.seconds.saturating_add(SKEW_SECONDS) < now.seconds);
    is_dead || options.give_up.contains(&id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Clock;

    #[test]
    fn a_session_is_taken_for_dead_when_its_lease_ended_long_ago() {
        let (id, now) = (SessionId([1; 16]), Timestamp::from_seconds(1_800_000_000));
        let ending = |expires: i64| RunningSession {
            domain: DomainId([2; 16]),
            lease: Some(crate::repository::lease::Lease {
                expires: Timestamp::from_seconds(now.seconds + expires),
                ..Default::default()
            }),
        };
        let options = PruneOptions { clock: Clock::System, ..PruneOptions::default() };
        for (expires, is_dead) in [(1800, false), (0, false), (-SKEW_SECONDS, false), (-SKEW_SECONDS - 1, true)] {
            assert_eq!(is_given_up(&options, id, &ending(expires), now), is_dead, "{expires}");
        }
        let unreadable = RunningSession { domain: DomainId([2; 16]), lease: None };
        assert!(is_given_up(&options, id, &unreadable, now));
        let options = PruneOptions { give_up: vec![id], ..options };
        assert!(is_given_up(&options, id, &ending(1800), now));
    }
}
