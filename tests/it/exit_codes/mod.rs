//! The table of exit codes: every verb, whatever goes wrong.

mod faults;
mod mistakes;
