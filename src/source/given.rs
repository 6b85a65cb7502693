//! What a caller gives by itself: standard input, the output of a command, any bytes that it can read.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::model::entry::StreamDetail;
use crate::model::path::display_bytes;
use crate::process::CommandOptions;
use crate::source::check::{Check, CheckedSource, EndsAsItBegins};
use crate::source::command::CommandSource;
use crate::source::stdin::StdinSource;
use crate::source::{Member, OpenStream, PlannedStream, Planning, Source, SourceError, StreamSource};

/// Something to read from.
type Input = Box<dyn Read + Send>;
/// Makes something to read from.
type MakeInput = Arc<dyn Fn() -> io::Result<Input> + Send + Sync>;

/// One stream whose bytes the caller has, or knows where to get.
///
/// ```
/// use coffre::Given;
///
/// let exported = Given::opener("report.csv", || Ok(std::io::Cursor::new("a;b\n1;2\n")));
/// # let _ = exported;
/// ```
#[derive(Clone)]
pub struct Given {
    name: Vec<u8>,
    bytes: Bytes,
}

/// Where the bytes come from.
#[derive(Clone)]
enum Bytes {
    Stdin,
    Command(CommandOptions),
    Opener(MakeInput),
    /// Taken by the first who opens it.
    Reader(Arc<Mutex<Option<Input>>>),
}

impl Given {
    /// Stores standard input as the stream `name`: a relative path, such as `shop.sql` or `db/shop.sql`.
    pub fn stdin(name: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), bytes: Bytes::Stdin }
    }

    /// Stores what a command prints, which must end with status 0. The words are the program and its arguments.
    pub fn command(name: impl Into<Vec<u8>>, words: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        let mut words = words.into_iter().map(Into::into);
        // Without any, the system's own answer to an empty name.
        let program: OsString = words.next().unwrap_or_default();
        Self { name: name.into(), bytes: Bytes::Command(CommandOptions::new(program, words)) }
    }

    /// Stores what is read from what `open` makes; it is called once in every attempt of a backup.
    ///
    /// What it returns is read on a thread of its own, and may block; a run that is to end waits for a read to return.
    pub fn opener<R: Read + Send + 'static>(
        name: impl Into<Vec<u8>>,
        open: impl Fn() -> io::Result<R> + Send + Sync + 'static,
    ) -> Self {
        let open: MakeInput = Arc::new(move || Ok(Box::new(open()?)));
        Self { name: name.into(), bytes: Bytes::Opener(open) }
    }

    /// Stores what is read from `reader`, which can be done but once: a backup that would have to begin again fails. Otherwise
    /// as [`Given::opener`].
    pub fn reader(name: impl Into<Vec<u8>>, reader: impl Read + Send + 'static) -> Self {
        Self { name: name.into(), bytes: Bytes::Reader(Arc::new(Mutex::new(Some(Box::new(reader))))) }
    }
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = match &self.bytes {
            Bytes::Stdin => "standard input".to_owned(),
            Bytes::Command(command) => format!("{command:?}"),
            Bytes::Opener(_) | Bytes::Reader(_) => CALLER.to_owned(),
        };
        write!(f, "Given({}, {bytes})", display_bytes(&self.name))
    }
}

impl Source for Given {
    fn name(&self) -> Vec<u8> {
        self.name.clone()
    }

    fn plan(&self, planning: &Planning) -> Result<Vec<Member>, SourceError> {
        let opener = Arc::new(GivenStream { given: self.clone(), known_dumps: planning.known_dumps.clone() });
        let streams = vec![PlannedStream { name: self.name.clone(), opener }];
        Ok(vec![Member { label: display_bytes(&self.name).to_string(), streams: Ok(streams), notes: Vec::new() }])
    }

    fn is_repeatable(&self) -> bool {
        matches!(self.bytes, Bytes::Command(_) | Bytes::Opener(_))
    }
}

struct GivenStream {
    given: Given,
    known_dumps: Vec<(&'static str, &'static str)>,
}

impl OpenStream for GivenStream {
    fn open(&self, _: &Cancel) -> Result<Box<dyn StreamSource>, SourceError> {
        let failed = |source| SourceError::Io { name: CALLER.to_owned(), source };
        let (inner, name): (Box<dyn StreamSource>, String) = match &self.given.bytes {
            Bytes::Stdin => (Box::new(StdinSource::open()?), "standard input".into()),
            Bytes::Command(command) => (Box::new(CommandSource::spawn(command)?), command.name()),
            Bytes::Opener(open) => (Box::new(ReadSource::new(open().map_err(failed)?)), CALLER.into()),
            Bytes::Reader(reader) => {
                let reader = reader.lock().unwrap_or_else(PoisonError::into_inner).take();
                let reader = reader.ok_or_else(|| failed(io::Error::other("it was read before")))?;
                (Box::new(ReadSource::new(reader)), CALLER.into())
            }
        };
        let name = format!("{name} for {}", display_bytes(&self.given.name));
        let check: Box<dyn Check> = Box::new(EndsAsItBegins::new(self.known_dumps.clone()));
        Ok(Box::new(CheckedSource::new(inner, name, vec![check])))
    }
}

/// What messages call a reader of the caller's.
const CALLER: &str = "the reader";

/// Bytes that are read from whatever the caller has.
pub(crate) struct ReadSource {
    input: Input,
    started: Instant,
    received: bool,
    ended: bool,
}

impl ReadSource {
    /// Reads from there.
    pub(crate) fn new(input: Box<dyn Read + Send>) -> Self {
        Self { input, started: Instant::now(), received: false, ended: false }
    }
}

impl Read for ReadSource {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.received |= count > 0;
        self.ended |= count == 0 && !buffer.is_empty();
        Ok(count)
    }
}

impl StreamSource for ReadSource {
    /// Only reading tells.
    fn wait_readable(&self, _: &Cancel, _: Option<Duration>) -> io::Result<bool> {
        Ok(true)
    }

    fn finish(self: Box<Self>) -> Result<StreamDetail, SourceError> {
        let (name, stderr) = (CALLER.to_owned(), Vec::new());
        match (self.ended, self.received) {
            (false, _) => Err(SourceError::Unfinished { name, stderr }),
            (true, false) => Err(SourceError::Empty { name, stderr }),
            (true, true) => {
                let duration_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
                Ok(StreamDetail { duration_ms, ..StreamDetail::default() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_through(given: &Given) -> Result<Vec<u8>, SourceError> {
        let known_dumps = vec![("-- A dump\n", "-- the end of it")];
        let members = given.plan(&Planning { known_dumps, ..Planning::default() })?;
        let streams = members[0].streams.as_ref().expect("given streams are there");
        let mut source = streams[0].opener.open(&Cancel::default())?;
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes).map_err(|source| SourceError::Io { name: "it".into(), source })?;
        source.finish().map(|_| bytes)
    }

    #[test]
    fn what_can_be_opened_can_be_read_again_and_a_reader_but_once() {
        let opener = Given::opener("a", || Ok(io::Cursor::new("text")));
        assert!(opener.is_repeatable());
        for _ in 0..2 {
            assert_eq!(read_through(&opener).expect("readable"), b"text");
        }
        let reader = Given::reader("a", io::Cursor::new("text"));
        assert!(!reader.is_repeatable() && !Given::stdin("a").is_repeatable());
        assert_eq!(read_through(&reader).expect("readable"), b"text");
        assert!(matches!(read_through(&reader), Err(SourceError::Io { .. })));
    }

    #[test]
    fn a_reader_that_fails_or_has_nothing_is_refused() {
        let failing = Given::opener("a", || Err::<io::Empty, _>(io::Error::other("gone")));
        assert!(matches!(read_through(&failing), Err(SourceError::Io { .. })));
        assert!(matches!(read_through(&Given::reader("a", io::empty())), Err(SourceError::Empty { .. })));
        let cut = Given::reader("a", io::Cursor::new("-- A dump\nhalf"));
        assert!(matches!(read_through(&cut), Err(SourceError::CutOff { .. })));
    }
}
