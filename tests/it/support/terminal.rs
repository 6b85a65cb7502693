//! A pseudo-terminal with the program in it, as a person sits before it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::termios::{LocalModes, tcgetattr};

/// How long something that comes for certain may take on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A terminal in which a program runs.
pub struct Terminal {
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: Vec<u8>,
    /// Where the next search begins.
    looked_at: usize,
    pub child: Child,
}

/// Lets a program be ended by SIGHUP even where the tests themselves were started by `nohup`, which children inherit.
pub fn hears_hang_ups(command: &mut Command) {
    // SAFETY: the call is allowed between fork and exec, and the default handler needs nothing.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_DFL);
            Ok(())
        });
    }
}

impl Terminal {
    /// Starts a program at a terminal of so many columns, which is the one that the program belongs to.
    pub fn start(mut command: Command, columns: u16) -> Self {
        let (master, slave) = open(columns);
        let end = || Stdio::from(slave.try_clone().expect("cloned"));
        command.stdin(end()).stdout(end()).stderr(end()).env("TERM", "xterm");
        hears_hang_ups(&mut command);
        // SAFETY: both calls are allowed between fork and exec.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        let child = command.spawn().expect("starts");
        drop(command);
        drop(slave);
        let (sender, screen) = channel();
        let mut reading = File::from(master.try_clone().expect("cloned"));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = reading.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { keyboard: File::from(master), screen, seen: Vec::new(), looked_at: 0, child }
    }

    /// Waits until `text` is on the screen, behind what was waited for before.
    pub fn wait_for(&mut self, text: &str) {
        let begun = Instant::now();
        loop {
            let fresh = &self.seen[self.looked_at..];
            if let Some(at) = fresh.windows(text.len()).position(|window| window == text.as_bytes()) {
                self.looked_at += at + text.len();
                return;
            }
            let left = PATIENCE.saturating_sub(begun.elapsed());
            match self.screen.recv_timeout(left) {
                Ok(bytes) => self.seen.extend(bytes),
                Err(_) => panic!("{text:?} never came; there was:\n{}", String::from_utf8_lossy(&self.seen)),
            }
        }
    }

    /// Returns what comes in a moment in which nothing should.
    pub fn idle(&mut self) -> String {
        let mut came = Vec::new();
        let until = Instant::now() + Duration::from_millis(400);
        while let Ok(bytes) = self.screen.recv_timeout(until.saturating_duration_since(Instant::now())) {
            came.extend(&bytes);
            self.seen.extend(bytes);
        }
        String::from_utf8_lossy(&came).into_owned()
    }

    /// Types a text and presses Enter.
    pub fn enter(&mut self, text: &str) {
        self.keyboard.write_all(format!("{text}\n").as_bytes()).expect("typed");
    }

    /// Presses Ctrl-C.
    pub fn interrupt(&mut self) {
        self.keyboard.write_all(b"\x03").expect("pressed");
    }

    /// Returns what was on the screen so far.
    pub fn seen(&self) -> &[u8] {
        &self.seen
    }

    /// Tells whether the terminal shows what is typed.
    pub fn echoes(&self) -> bool {
        tcgetattr(&self.keyboard).expect("a terminal").local_modes.contains(LocalModes::ECHO)
    }

    /// Waits for the end and returns the exit code and all that was on the screen.
    pub fn end(&mut self) -> (i32, String) {
        let code = self.child.wait().expect("ends").code().unwrap_or(-1);
        while let Ok(bytes) = self.screen.recv_timeout(PATIENCE) {
            self.seen.extend(bytes);
        }
        (code, String::from_utf8_lossy(&self.seen).into_owned())
    }

    /// Takes the terminal away, as a lost connection does, and returns how the program ends.
    pub fn hang_up(self) -> i32 {
        let Self { keyboard, screen, mut child, .. } = self;
        drop(screen);
        // The reading thread holds the other handle: the kernel hangs up as soon as it is asked to.
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::HUP)
            .expect("sent");
        drop(keyboard);
        child.wait().expect("ends").code().unwrap_or(-1)
    }
}

fn open(columns: u16) -> (OwnedFd, OwnedFd) {
    let size = libc::winsize { ws_row: 40, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let (mut master, mut slave) = (-1, -1);
    // SAFETY: both places are valid for writing, and no name or settings are asked for.
    let opened = unsafe { libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null(), &size) };
    assert_eq!(opened, 0, "a pseudo-terminal can be had");
    // SAFETY: openpty gave two new descriptors.
    let ends = unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
    for end in [&ends.0, &ends.1] {
        rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC).expect("set");
    }
    ends
}
