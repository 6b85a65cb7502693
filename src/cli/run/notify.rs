//! Telling systemd how a run goes: that it has begun, what it does, that it is alive, that it ends (`sd_notify(3)`).
//!
//! A datagram for each, to the socket that the service manager named. Nobody waits for it, and what cannot be told is left out: no
//! backup is the worse for it. Programs that are started do not learn of the socket ([`crate::process::environment`]).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::cli::environment::Environment;

/// Where the service manager listens.
#[derive(Debug)]
pub struct ServiceManager {
    socket: UnixDatagram,
    address: SocketAddr,
    /// How often it wants to hear that this is alive.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// Returns the one that started this process, if one wants to hear of it.
    pub fn of(environment: &Environment) -> Option<Self> {
        let named = environment.var_os("NOTIFY_SOCKET")?;
        let address = match named.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            [b'/', ..] => SocketAddr::from_pathname(&named),
            // Others, such as those of virtual machines, are not for services.
            _ => return None,
        };
        let socket = UnixDatagram::unbound().ok()?;
        socket.set_nonblocking(true).ok()?;
        Some(Self { socket, address: address.ok()?, watchdog: watchdog(environment, std::process::id()) })
    }

    /// Returns how often to tell that this is alive: twice as often as it is wanted.
    pub fn alive_every(&self) -> Option<Duration> {
        self.watchdog.map(|wanted| wanted / 2)
    }

    /// Says that the run has begun.
    pub fn is_ready(&self) {
        self.tell("READY=1");
    }

    /// Says what is done now.
    pub fn status(&self, what: &str) {
        // Each line would be a variable of its own.
        let what: String = what.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.tell(&format!("STATUS={what}"));
    }

    /// Says that this is alive.
    pub fn is_alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// Says that the run ends.
    pub fn is_stopping(&self) {
        self.tell("STOPPING=1");
    }

    fn tell(&self, text: &str) {
        let _ = self.socket.send_to_addr(text.as_bytes(), &self.address);
    }
}

/// Returns how often a process of this number is to tell that it is alive.
fn watchdog(environment: &Environment, process: u32) -> Option<Duration> {
    let is_meant = environment.var("WATCHDOG_PID").is_none_or(|named| named.parse() == Ok(process));
    let wanted = environment.var("WATCHDOG_USEC")?.parse().ok().map(Duration::from_micros)?;
    (is_meant && !wanted.is_zero()).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&'static str, &str)]) -> Environment {
        let variables = variables.iter().map(|&(name, value)| (name, value.into())).collect();
        Environment { variables: Some(variables), home: None, is_root: false }
    }

    fn heard(listener: &UnixDatagram) -> String {
        let mut buffer = [0; 1024];
        let length = listener.recv(&mut buffer).expect("told");
        String::from_utf8(buffer[..length].to_vec()).expect("text")
    }

    #[test]
    fn what_is_told_arrives_by_path_and_by_abstract_name() {
        let directory = tempfile::tempdir().expect("made");
        let path = directory.path().join("notify");
        let name = format!("coffre-notify-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).expect("a name");
        let listeners = [
            (UnixDatagram::bind(&path).expect("bound"), path.display().to_string()),
            (UnixDatagram::bind_addr(&abstract_address).expect("bound"), format!("@{name}")),
        ];
        for (listener, named) in &listeners {
            let manager = ServiceManager::of(&environment(&[("NOTIFY_SOCKET", named)])).expect("somebody listens");
            manager.is_ready();
            manager.status("two\nlines");
            manager.is_alive();
            manager.is_stopping();
            let told: Vec<String> = (0..4).map(|_| heard(listener)).collect();
            assert_eq!(told, ["READY=1", "STATUS=two lines", "WATCHDOG=1", "STOPPING=1"]);
            assert_eq!(manager.alive_every(), None);
        }
    }

    #[test]
    fn nobody_who_listens_is_no_error() {
        for named in ["", "relative", "vsock:2:1"] {
            assert!(ServiceManager::of(&environment(&[("NOTIFY_SOCKET", named)])).is_none(), "{named}");
        }
        let manager = ServiceManager::of(&environment(&[("NOTIFY_SOCKET", "/nowhere/at/all")])).expect("a path");
        manager.is_ready();
    }

    #[test]
    fn a_watchdog_is_for_the_process_that_it_names() {
        let every = |variables: &[(&'static str, &str)]| watchdog(&environment(variables), 7);
        assert_eq!(every(&[("WATCHDOG_USEC", "30000000")]), Some(Duration::from_secs(30)));
        assert_eq!(every(&[("WATCHDOG_USEC", "5"), ("WATCHDOG_PID", "7")]), Some(Duration::from_micros(5)));
        assert_eq!(every(&[("WATCHDOG_USEC", "5"), ("WATCHDOG_PID", "8")]), None);
        assert_eq!(every(&[("WATCHDOG_USEC", "soon")]), None);
        assert_eq!(every(&[]), None);
    }
}
