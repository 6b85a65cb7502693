//! coffre on the command line: arguments, runtime, exit code.
fn main() {}
