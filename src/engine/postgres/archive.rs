//! What is asked of an archive of `pg_dump`: that `pg_restore` can list it, which it does while the archive passes.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::process::ChildStdin;
use std::thread::{self, JoinHandle};

use crate::database::DatabaseError;
use crate::engine::postgres::facts;
use crate::engine::withholding_passwords;
use crate::model::entry::StreamDetail;
use crate::model::facts::fact;
use crate::process::{CommandOptions, Piped, Process, ProgramEnd};
use crate::source::SourceError;
use crate::source::check::Check;

/// `pg_restore --list`, reading the start of an archive while it passes.
pub struct ArchiveListing {
    process: Process,
    input: Option<ChildStdin>,
    reading: JoinHandle<io::Result<String>>,
}

impl ArchiveListing {
    /// Starts `pg_restore`, the program given.
    ///
    /// # Errors
    /// [`SourceError::Spawn`] when it is missing.
    pub fn start(pg_restore: &OsString) -> Result<Self, SourceError> {
        Self::start_with(pg_restore, &["--list"])
    }

    /// The same for a table of contents that says what each entry depends on.
    ///
    /// # Errors
    /// As for [`ArchiveListing::start`].
    pub fn start_in_detail(pg_restore: &OsString) -> Result<Self, SourceError> {
        Self::start_with(pg_restore, &["--list", "--verbose"])
    }

    fn start_with(pg_restore: &OsString, arguments: &[&str]) -> Result<Self, SourceError> {
        let options = withholding_passwords(CommandOptions::new(pg_restore, arguments), None);
        let failed = |source| SourceError::Spawn { command: options.name(), source };
        let (process, pipes) = Process::spawn(&options, Piped { input: true, output: true }).map_err(failed)?;
        let mut output = pipes.output.ok_or_else(|| failed(io::Error::other("it has no output")))?;
        let reading = thread::Builder::new().name("pg_restore --list".to_owned()).spawn(move || {
            let mut listing = Vec::new();
            output.read_to_end(&mut listing)?;
            Ok(String::from_utf8_lossy(&listing).into_owned())
        });
        Ok(Self { process, input: pipes.input, reading: reading.map_err(failed)? })
    }

    /// Tells whether it has seen all that it wants.
    pub fn has_enough(&self) -> bool {
        self.input.is_none()
    }

    /// Returns the table of contents of what it was given, as `pg_restore` prints it. `name` is what messages call that.
    ///
    /// # Errors
    /// [`DatabaseError::NotListed`], and [`DatabaseError::Spawn`] when the system fails.
    pub fn text(mut self, name: &str) -> Result<String, DatabaseError> {
        drop(self.input.take());
        let failed = |source| DatabaseError::Spawn { program: "pg_restore".to_owned(), source };
        let listing = self.reading.join().map_err(|_| failed(io::Error::other("its output could not be read")))?;
        let (ended, stderr) = self.process.wait().map_err(failed)?;
        match ended {
            ProgramEnd::Status(0) => listing.map_err(failed),
            _ => Err(DatabaseError::NotListed { name: name.to_owned(), stderr }),
        }
    }
}

impl Check for ArchiveListing {
    /// Gives it more; once it has seen the table of contents it ends, and needs nothing any more.
    fn feed(&mut self, bytes: &[u8]) {
        if self.input.as_mut().is_some_and(|input| input.write_all(bytes).is_err()) {
            self.input = None;
        }
    }

    /// Keeps the number of entries in the table of contents.
    fn finish(self: Box<Self>, name: &str, detail: &mut StreamDetail) -> Result<(), SourceError> {
        let listing = self.text(name)?;
        let entries = listing.lines().filter(|line| !line.starts_with(';') && !line.trim().is_empty()).count();
        detail.facts.set(facts::ARCHIVE_ENTRIES, entries as u64);
        detail.facts.set(fact::CHECKED, "listed by pg_restore".to_owned());
        Ok(())
    }
}

/// Nothing is asked of a stream; what its program said that means nothing is forgotten.
pub struct WithoutCircles;

impl Check for WithoutCircles {
    fn feed(&mut self, _: &[u8]) {}

    fn finish(self: Box<Self>, _: &str, detail: &mut StreamDetail) -> Result<(), SourceError> {
        let said = detail.facts.text(fact::SAID).map(without_circles);
        detail.facts.remove(fact::SAID);
        detail.facts.set_some(fact::SAID, said.filter(|said| !said.is_empty()));
        Ok(())
    }
}

/// Leaves out what `pg_dump` says about tables that refer to each other when it dumps the rows of one: they are restored
/// before there are constraints.
fn without_circles(said: &str) -> String {
    let mut in_circle = false;
    let kept = said.lines().filter(|line| {
        in_circle = match line.contains("circular foreign-key constraints") {
            true => true,
            false => in_circle && (line.contains("detail: ") || line.contains("hint: ")),
        };
        !in_circle
    });
    kept.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_warning_that_means_nothing_is_left_out() {
        let circle = "pg_dump: warning: there are circular foreign-key constraints on this table:\n\
            pg_dump: detail: people\npg_dump: hint: You might not be able to restore the dump\npg_dump: hint: Consider";
        assert_eq!(without_circles(circle), "");
        let more = "pg_dump: warning: subscriptions not dumped\npg_dump: hint: a";
        assert_eq!(without_circles(&format!("{circle}\n{more}")), more);
    }
}
