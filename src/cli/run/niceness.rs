//! Standing back: the processor and the disks serve others first.
//!
//! In Linux both belong to a thread, and a new one has those of the thread that starts it. So each thread that there is gets them.

use std::io;

use rustix::process::{Pid, getpriority_process, setpriority_process};

/// Times that the threads are looked at: one that was started meanwhile by one that had not changed yet is seen the next time.
const ROUNDS: usize = 3;
/// `IOPRIO_WHO_PROCESS` and `IOPRIO_CLASS_SHIFT` of `linux/ioprio.h`.
const IO_OF_THREAD: libc::c_int = 1;
const IO_CLASS_SHIFT: u32 = 13;

/// When the disks serve this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum IoClass {
    /// When nobody else wants them
    Idle,
    /// Like everybody, but last
    BestEffort,
}

impl IoClass {
    /// Returns it as the kernel has it: the class, and within `best-effort` the last of eight levels.
    fn priority(self) -> libc::c_int {
        match self {
            IoClass::Idle => 3 << IO_CLASS_SHIFT,
            IoClass::BestEffort => 2 << IO_CLASS_SHIFT | 7,
        }
    }
}

/// Gives every thread of this process a niceness, if it is not nicer already, and a class of disk access.
///
/// # Errors
/// The system's, when it does not allow it.
pub fn stand_back(nice: Option<i32>, io: Option<IoClass>) -> io::Result<()> {
    if nice.is_none() && io.is_none() {
        return Ok(());
    }
    for _ in 0..ROUNDS {
        for thread in threads()? {
            match of_thread(thread, nice, io) {
                // It ended meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                done => done?,
            }
        }
    }
    Ok(())
}

fn threads() -> io::Result<Vec<Pid>> {
    let mut threads = Vec::new();
    for entry in std::fs::read_dir("/proc/self/task")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse().ok());
        threads.extend(number.and_then(Pid::from_raw));
    }
    Ok(threads)
}

fn of_thread(thread: Pid, nice: Option<i32>, io: Option<IoClass>) -> io::Result<()> {
    if let Some(nice) = nice
        && getpriority_process(Some(thread))? < nice
    {
        setpriority_process(Some(thread), nice)?;
    }
    if let Some(io) = io {
        let thread = thread.as_raw_nonzero().get();
        // SAFETY: the call takes three numbers and touches no memory.
        let done = unsafe { libc::syscall(libc::SYS_ioprio_set, IO_OF_THREAD, thread, io.priority()) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
