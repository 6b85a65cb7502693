//! What records say of the process that wrote them.

/// The program and its version.
pub const PROGRAM: &str = concat!("coffre ", env!("CARGO_PKG_VERSION"));

/// Returns the name of this machine.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
