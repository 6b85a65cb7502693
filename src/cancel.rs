//! Asking a running operation to end: shared by whoever may ask and by all who must listen, whatever they wait for.
//!
//! A run has one [`Cancel`], and each part of it that may have to end by itself has a child: it ends with the run, and the run not
//! with it. Who waits for a future races it ([`Cancel::or`]), who waits for a descriptor waits for [`Cancel::descriptor`] besides, and
//! who waits for anything else is woken ([`Cancel::wakes`]), so nobody looks again and again.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::watch;
use tokio::time::Instant;

/// Asks a running operation to end cleanly; shared by whoever may ask and whoever must listen.
#[derive(Clone)]
pub struct Cancel(Arc<Inner>);

struct Inner {
    asked: watch::Sender<Option<Instant>>,
    /// Readable from when ending is asked for, once somebody waited for it.
    event: OnceLock<OwnedFd>,
    hearers: Mutex<Hearers>,
}

/// Who is told that ending is asked for.
#[derive(Default)]
struct Hearers {
    children: Vec<Weak<Inner>>,
    wakers: BTreeMap<u64, Arc<dyn Fn() + Send + Sync>>,
    next_waker: u64,
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&self.since()).finish()
    }
}

impl Default for Cancel {
    fn default() -> Self {
        let (event, hearers) = (OnceLock::new(), Mutex::default());
        Self(Arc::new(Inner { asked: watch::channel(None).0, event, hearers }))
    }
}

impl Cancel {
    /// Makes one for a part of the operation, which is asked to end with this one, or by itself.
    pub fn child(&self) -> Self {
        let child = Self::default();
        {
            let mut hearers = self.0.hearers();
            hearers.children.retain(|other| other.strong_count() > 0);
            hearers.children.push(Arc::downgrade(&child.0));
        }
        // Whoever asked before did not see it.
        if let Some(since) = self.since() {
            child.0.ask(since);
        }
        child
    }

    /// Asks to end. Work under way is finished or dropped; nothing half done becomes visible.
    pub fn cancel(&self) {
        self.0.ask(Instant::now());
    }

    /// Tells whether ending was asked for.
    pub fn is_cancelled(&self) -> bool {
        self.0.asked.borrow().is_some()
    }

    /// Tells since when ending is asked for.
    pub fn since(&self) -> Option<Instant> {
        *self.0.asked.borrow()
    }

    /// Waits until ending is asked for, to be raced with what may take long.
    pub async fn asked(&self) {
        let waited = self.0.asked.subscribe().wait_for(Option::is_some).await.map(|_| ());
        waited.expect("the sender is in self");
    }

    /// Waits for `work`, but no longer than until ending is asked for: `None` says that it was, and `work` was dropped.
    pub async fn or<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        if self.is_cancelled() {
            return None;
        }
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.asked() => None,
        }
    }

    /// Returns a descriptor that is readable from when ending is asked for, to be waited for beside another one.
    ///
    /// # Errors
    /// When the system has no more descriptors.
    pub fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
        if let Some(event) = self.0.event.get() {
            return Ok(event.as_fd());
        }
        let made = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let event = self.0.event.get_or_init(|| made);
        // Whoever asked before did not see it.
        if self.is_cancelled() {
            signal(event);
        }
        Ok(event.as_fd())
    }

    /// Calls `wake` when ending is asked for, at once if it was before, as long as what is returned lives.
    pub fn wakes(&self, wake: impl Fn() + Send + Sync + 'static) -> Waking<'_> {
        let wake = Arc::new(wake);
        let number = {
            let mut hearers = self.0.hearers();
            let number = hearers.next_waker;
            hearers.next_waker += 1;
            hearers.wakers.insert(number, wake.clone());
            number
        };
        if self.is_cancelled() {
            wake();
        }
        Waking { cancel: self, number }
    }
}

impl Inner {
    fn hearers(&self) -> MutexGuard<'_, Hearers> {
        self.hearers.lock().expect("no panic while held")
    }

    fn ask(&self, since: Instant) {
        let is_first = self.asked.send_if_modified(|asked| {
            let is_first = asked.is_none();
            asked.get_or_insert(since);
            is_first
        });
        if !is_first {
            return;
        }
        if let Some(event) = self.event.get() {
            signal(event);
        }
        // Told without the lock, which whoever is woken may want.
        let (children, wakers) = {
            let hearers = self.hearers();
            (hearers.children.clone(), hearers.wakers.values().cloned().collect::<Vec<_>>())
        };
        children.iter().filter_map(Weak::upgrade).for_each(|child| child.ask(since));
        wakers.iter().for_each(|wake| wake());
    }
}

/// Makes an event readable, which it stays.
fn signal(event: &OwnedFd) {
    // It fails only when it was signalled 2^64 times.
    let _ = rustix::io::write(event, &1u64.to_ne_bytes());
}

/// Somebody is woken when ending is asked for.
#[must_use]
pub struct Waking<'a> {
    cancel: &'a Cancel,
    number: u64,
}

impl Drop for Waking<'_> {
    fn drop(&mut self) {
        self.cancel.0.hearers().wakers.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_who_wait_hear_it_whenever_they_began_to() {
        let cancel = Cancel::default();
        assert!(!cancel.is_cancelled() && cancel.since().is_none());
        let waiting = tokio::spawn({
            let cancel = cancel.clone();
            async move { cancel.asked().await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        cancel.cancel();
        let first = cancel.since().expect("asked");
        waiting.await.expect("no panic");
        tokio::time::sleep(Duration::from_secs(1)).await;
        cancel.cancel();
        assert_eq!(cancel.since(), Some(first), "asking again changes nothing");
        cancel.asked().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_ends_with_its_parent_and_not_the_other_way_round() {
        let run = Cancel::default();
        let (part, other) = (run.child(), run.child());
        let below = part.child();
        part.cancel();
        assert_eq!(
            [&run, &part, &below, &other].map(Cancel::is_cancelled),
            [false, true, true, false],
            "a part ends by itself"
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
        run.cancel();
        assert!(other.is_cancelled() && other.since() == run.since());
        assert!(part.since() < run.since(), "it was asked before");
        assert_eq!(run.child().since(), run.since(), "one that comes late is asked as well");
        other.asked().await;
    }

    #[test]
    fn children_that_are_gone_take_no_room() {
        let run = Cancel::default();
        (0..1000).for_each(|_| drop(run.child()));
        assert!(run.0.hearers().children.len() <= 1);
    }

    #[test]
    fn whoever_is_to_be_woken_is_once_and_only_while_it_waits() {
        let (cancel, woken) = (Cancel::default(), Arc::new(AtomicUsize::new(0)));
        let wake = |woken: &Arc<AtomicUsize>| {
            let woken = woken.clone();
            move || {
                woken.fetch_add(1, Ordering::Relaxed);
            }
        };
        drop(cancel.wakes(wake(&woken)));
        let waking = cancel.wakes(wake(&woken));
        assert_eq!(woken.load(Ordering::Relaxed), 0);
        cancel.cancel();
        cancel.cancel();
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        drop(waking);
        let _waking = cancel.wakes(wake(&woken));
        assert_eq!(woken.load(Ordering::Relaxed), 2, "it was asked before");
    }
}
