//! The examples for databases, run as the README says.

use std::path::Path;
use std::process::Command;

use crate::support::daemon::skip;
use crate::support::{mariadb, postgres};

/// Runs an example and panics with what it said unless it ends well.
fn run(name: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    let output = Command::new(script).env("COFFRE", env!("CARGO_BIN_EXE_coffre")).output().expect("it starts");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("is equal"), "{said}");
}

#[test]
fn the_example_for_postgres_works() {
    if postgres::shared().is_some() {
        run("postgres");
    }
}

#[test]
fn the_example_for_mariadb_works() {
    if mariadb::shared().is_some() {
        run("mariadb");
    }
}

#[test]
fn the_example_for_sqlite_works() {
    let python = Command::new("python3").args(["-c", "import sqlite3"]).output();
    match python.is_ok_and(|output| output.status.success()) {
        true => run("sqlite"),
        false => skip("python3 with sqlite3"),
    }
}
