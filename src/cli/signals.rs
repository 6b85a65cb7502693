//! SIGINT, SIGTERM and SIGHUP: they end a question at once, an operation cleanly, and the second one anything at once, or after a moment where
//! somebody is still to be told.
//!
//! A second SIGHUP is no second wish: a terminal that goes away tells the shell and its children, and the shell tells them again.
//! Who never asks to hear them keeps the system's own handling. A SIGHUP that is ignored, as under `nohup`, stays so.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::cancel::Cancel;
use crate::cli::Exit;
use crate::cli::failure::Fallible;
use crate::cli::progress::ConsoleMonitor;

/// What the next signal does.
#[derive(Default)]
struct Listening {
    /// Ends this question, before anything else.
    question: Option<oneshot::Sender<()>>,
    /// Asks these operations to end, of which there are several where jobs run side by side; without one the program ends.
    operations: Vec<(Cancel, Weak<ConsoleMonitor>)>,
    /// An operation was asked to end.
    is_ending: bool,
}

static LISTENING: Mutex<Listening> = Mutex::new(Listening { question: None, operations: Vec::new(), is_ending: false });

/// Says something that takes a while.
type Saying = Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>;

/// What is still to be done before a second signal ends the program, and how long it may take.
static LAST_WORDS: Mutex<Option<Saying>> = Mutex::new(None);
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(2);
/// A second signal ends the program.
static IS_OVER: AtomicBool = AtomicBool::new(false);

/// Has something done before a second signal ends the program: for no longer than two seconds, or until a third one comes.
pub fn before_exit<F: Future<Output = ()> + Send + 'static>(last_words: impl FnOnce() -> F + Send + 'static) {
    *LAST_WORDS.lock().expect("no panic while held") = Some(Box::new(|| last_words().boxed()));
}

/// Waits for ever where a second signal ends the program, which it does by itself once its last words are said.
pub async fn unless_over() {
    if IS_OVER.load(Ordering::SeqCst) {
        std::future::pending().await
    }
}

/// Turns the first signal into a request to end cleanly; a second one ends the program at once.
///
/// # Errors
/// When the system does not let signals be caught.
pub fn cancel_on_signals(monitor: &Arc<ConsoleMonitor>) -> Fallible<Cancel> {
    let cancel = monitor.cancel().clone();
    {
        let mut listening = listening();
        // What has no monitor any more is over, and one that asks again is told once.
        listening.operations.retain(|(_, other)| other.upgrade().is_some_and(|other| !Arc::ptr_eq(&other, monitor)));
        listening.operations.push((cancel.clone(), Arc::downgrade(monitor)));
    }
    listen()?;
    Ok(cancel)
}

/// Returns what a signal ends from now on; when it is dropped, signals do again what they did before.
///
/// # Errors
/// As [`cancel_on_signals`].
pub(super) fn during_question() -> Fallible<impl Future<Output = ()>> {
    let (sender, receiver) = oneshot::channel();
    listening().question = Some(sender);
    listen()?;
    Ok(async move {
        // The sender goes away unused only with the next question.
        if receiver.await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

fn listening() -> std::sync::MutexGuard<'static, Listening> {
    LISTENING.lock().expect("no panic while held")
}

/// Starts the task that hears signals, once.
fn listen() -> Fallible<()> {
    static BEGUN: OnceLock<()> = OnceLock::new();
    if BEGUN.get().is_some() {
        return Ok(());
    }
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = match is_ignored(SignalKind::hangup()) {
        true => None,
        false => Some(signal(SignalKind::hangup())?),
    };
    if BEGUN.set(()).is_ok() {
        tokio::spawn(async move {
            loop {
                let hung_up = async {
                    match &mut hangup {
                        Some(hangup) => received(hangup).await,
                        None => std::future::pending().await,
                    }
                };
                let is_hang_up = tokio::select! {
                    () = received(&mut interrupt) => false,
                    () = received(&mut terminate) => false,
                    () = hung_up => true,
                };
                if heard(is_hang_up) {
                    IS_OVER.store(true, Ordering::SeqCst);
                    break;
                }
            }
            let last_words = LAST_WORDS.lock().ok().and_then(|mut words| words.take());
            if let Some(last_words) = last_words {
                // Whatever hangs, it ends.
                std::thread::spawn(|| {
                    std::thread::sleep(LAST_WORDS_LIMIT);
                    std::process::exit(Exit::Interrupted as i32);
                });
                tokio::select! {
                    () = last_words() => {}
                    () = received(&mut interrupt) => {}
                    () = received(&mut terminate) => {}
                }
            }
            std::process::exit(Exit::Interrupted as i32);
        });
    }
    Ok(())
}

async fn received(signal: &mut Signal) {
    if signal.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}

/// Does what a signal does; tells whether that is to end the program at once.
fn heard(is_hang_up: bool) -> bool {
    let mut listening = listening();
    if is_hang_up && listening.is_ending {
        return false;
    }
    if let Some(question) = listening.question.take() {
        // One that has its answer has let go of the other end.
        if question.send(()).is_ok() {
            listening.operations.clear();
            return false;
        }
    }
    let operations = std::mem::take(&mut listening.operations);
    if operations.is_empty() {
        return true;
    }
    listening.is_ending = true;
    drop(listening);
    operations.iter().for_each(|(cancel, _)| cancel.cancel());
    if let Some(monitor) = operations.iter().find_map(|(_, monitor)| monitor.upgrade()) {
        monitor.note("ending cleanly; once more to end at once");
    }
    false
}

/// Tells whether the program was started with this signal ignored.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored_mask(&status) >> (kind.as_raw_value() - 1) & 1 == 1
}

fn ignored_mask(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        assert_eq!(ignored_mask("Name:\tcoffre\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000440\n"), 0x1001);
        assert_eq!(ignored_mask(""), 0);
    }
}
