//! Work on the pool for blocking calls, awaited.
//!
//! When the program ends, the runtime drops what has not begun. Whoever waits for it is about to be dropped as well, and
//! waits for ever rather than panic.

use tokio::task::JoinError;

/// Runs `work` away from the threads that drive the network, and returns what it did. A panic in it goes on here.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    finished(tokio::task::spawn_blocking(work)).await
}

/// Returns what a task did. A panic in it goes on here; one that is cancelled never returns.
pub async fn finished<T>(task: impl Future<Output = Result<T, JoinError>>) -> T {
    match task.await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    #[should_panic(expected = "as it was")]
    async fn a_panic_goes_on_as_it_was() {
        blocking(|| panic!("as it was")).await
    }

    #[test]
    fn work_that_the_end_of_the_program_drops_panics_nowhere() {
        let (told, heard) = mpsc::channel::<&str>();
        let panics = told.clone();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(1)
            .enable_all()
            .build()
            .expect("built");
        let (release, gate) = mpsc::channel::<()>();
        let (begun, has_begun) = mpsc::channel::<()>();
        runtime.spawn_blocking(move || {
            begun.send(()).expect("heard");
            let _ = gate.recv();
        });
        has_begun.recv().expect("begun");
        // The pool has one thread, which is busy: this one never begins.
        runtime.spawn(async move {
            let joined = tokio::spawn(blocking(|| ())).await;
            let _ = panics.send(if joined.is_err_and(|error| error.is_panic()) { "panicked" } else { "ended" });
        });
        runtime.shutdown_background();
        drop(release);
        drop(told);
        assert!(heard.iter().all(|said| said != "panicked"));
    }
}
