//! The queue between those who plan and those who work.
//!
//! It holds two kinds of jobs: batches of entries to be read, and frames to be compressed and sealed. Frames go first,
//! because a stream or a large file waits for them. Everything in it is bounded.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex};

use crate::ops::backup::batch::Batch;
use crate::ops::backup::stopped::Stopped;
use crate::repository::frame::{FILE_FRAME_BYTES, Frame};

/// Batches waiting for a worker.
const BATCHES_WAITING: usize = 8;
/// Frames waiting for a worker.
const FRAMES_WAITING: usize = 4;
/// Bytes of frames waiting for a worker, unless it is a single one: those of files are of 1 to 2 MiB, windows of up to 8.
const FRAME_BYTES_WAITING: usize = 8 << 20;
/// Empty frames kept, so that their memory is used again; not those of windows.
const FRAMES_SPARE: usize = 6;

/// Something for a worker to do.
pub(super) enum Job {
    /// Read these entries.
    Batch(Batch),
    /// Compress and seal this frame.
    Frame(Frame),
}

/// What a worker gets that waits to read a large file.
pub(super) enum UntilTurn<'a> {
    /// It is its turn.
    Turn(LargeTurn<'a>),
    /// Something to do meanwhile.
    Frame(Frame),
}

/// The right to read a large file, which one worker at a time has: there is memory for one.
pub(super) struct LargeTurn<'a>(&'a Jobs);

impl Drop for LargeTurn<'_> {
    fn drop(&mut self) {
        // Whoever panicked ends the run, and nobody waits for this.
        if let Ok(mut state) = self.0.state.lock() {
            state.has_large = false;
        }
        self.0.changed.notify_all();
    }
}

#[derive(Default)]
struct State {
    batches: VecDeque<Batch>,
    frames: VecDeque<Frame>,
    spare: Vec<Frame>,
    idle: usize,
    /// Whether a large file is being read.
    has_large: bool,
    closed: bool,
}

/// A bounded queue of jobs.
#[derive(Default)]
pub(super) struct Jobs {
    state: Mutex<State>,
    changed: Condvar,
}

impl Jobs {
    /// Queues a batch; waits while too many wait. Returns `false` when the queue was closed.
    pub(super) fn push_batch(&self, batch: Batch) -> bool {
        let mut state = self.state.lock().expect("no panic while held");
        while state.batches.len() >= BATCHES_WAITING && !state.closed {
            state = self.changed.wait(state).expect("no panic while held");
        }
        if state.closed {
            return false;
        }
        state.batches.push_back(batch);
        self.changed.notify_all();
        true
    }

    /// Queues a full frame and returns an empty one; waits while too many wait.
    ///
    /// # Errors
    /// When the queue was closed because the workers have stopped: nobody would take the frame.
    pub(super) fn push_frame(&self, frame: Frame) -> Result<Frame, Stopped> {
        let mut state = self.state.lock().expect("no panic while held");
        let is_full = |state: &State| {
            let waiting: usize = state.frames.iter().map(Frame::len).sum();
            waiting > 0 && (state.frames.len() >= FRAMES_WAITING || waiting + frame.len() > FRAME_BYTES_WAITING)
        };
        while is_full(&state) && !state.closed {
            state = self.changed.wait(state).expect("no panic while held");
        }
        if state.closed {
            return Err(Stopped::Elsewhere);
        }
        state.frames.push_back(frame);
        self.changed.notify_all();
        Ok(state.spare.pop().unwrap_or_default())
    }

    /// Gives a full frame to a worker that has nothing to do and returns an empty one, or returns the frame itself.
    pub(super) fn offer_frame(&self, frame: Frame) -> Result<Frame, Frame> {
        let mut state = self.state.lock().expect("no panic while held");
        if state.idle <= state.frames.len() {
            return Err(frame);
        }
        state.frames.push_back(frame);
        self.changed.notify_all();
        Ok(state.spare.pop().unwrap_or_default())
    }

    /// Gives an emptied frame back.
    pub(super) fn recycle(&self, frame: Frame) {
        let mut state = self.state.lock().expect("no panic while held");
        if state.spare.len() < FRAMES_SPARE && frame.capacity() <= 2 * FILE_FRAME_BYTES {
            state.spare.push(frame);
        }
    }

    /// Takes the next job; waits for one. `None` when the queue is closed and empty.
    pub(super) fn next(&self) -> Option<Job> {
        let mut state = self.state.lock().expect("no panic while held");
        loop {
            let job = match state.frames.pop_front() {
                Some(frame) => Some(Job::Frame(frame)),
                None => state.batches.pop_front().map(Job::Batch),
            };
            if job.is_some() {
                self.changed.notify_all();
                return job;
            }
            if state.closed {
                return None;
            }
            state.idle += 1;
            state = self.changed.wait(state).expect("no panic while held");
            state.idle -= 1;
        }
    }

    /// Waits until no other worker reads a large file. Frames are to be done meanwhile, because that worker may wait for them.
    pub(super) fn wait_for_turn(&self) -> UntilTurn<'_> {
        let mut state = self.state.lock().expect("no panic while held");
        loop {
            if let Some(frame) = state.frames.pop_front() {
                self.changed.notify_all();
                return UntilTurn::Frame(frame);
            }
            if !state.has_large {
                state.has_large = true;
                return UntilTurn::Turn(LargeTurn(self));
            }
            state.idle += 1;
            state = self.changed.wait(state).expect("no panic while held");
            state.idle -= 1;
        }
    }

    /// Says that nothing more comes; what is queued is still done.
    pub(super) fn close(&self) {
        self.state.lock().expect("no panic while held").closed = true;
        self.changed.notify_all();
    }
}
