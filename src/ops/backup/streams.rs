//! Streams: read to the end, cut fine, and believed only when their producer says that they are complete.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::model::entry::{Entry, EntryKind, FileContent, Metadata};
use crate::model::facts::{StreamFacts, fact};
use crate::model::path::EntryPath;
use crate::ops::Cancel;
use crate::ops::backup::batch::CutBytes;
use crate::ops::backup::cut::{Cutter, Filled, NextBytes};
use crate::ops::backup::jobs::Jobs;
use crate::ops::backup::kept::Again;
use crate::ops::backup::members::{MemberStream, StreamGroup};
use crate::ops::backup::nightly::{CutContent, NightCutter};
use crate::ops::backup::options::{BackupOptions, StreamOptions};
use crate::ops::backup::remade::LastNights;
use crate::ops::backup::report::FailedStream;
use crate::ops::backup::stopped::Stopped;
use crate::ops::backup::stored::{StoredStream, StoredStreams};
use crate::progress::{Counter, Monitor, Problem};
use crate::repository::nights::night_name;
use crate::repository::writer::Writer;
use crate::source::{SourceError, StreamSource};

/// A producer that is silent for this long is told of. `mariadb-dump` would wait a day for a table that somebody has locked.
const SILENCE: Duration = Duration::from_secs(120);

impl Entry {
    /// Tells whether this is the stream of a single table of a database.
    fn is_table(&self) -> bool {
        matches!(&self.kind, EntryKind::Stream(_, detail) if detail.facts.has(fact::TABLE))
    }
}

/// Stores streams; the workers compress and seal.
pub(super) struct StreamReader<'a> {
    pub(super) writer: &'a Writer,
    pub(super) options: &'a BackupOptions,
    pub(super) jobs: &'a Jobs,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) cancel: &'a Cancel,
    pub(super) now: crate::model::time::Timestamp,
    /// What an earlier attempt read that cannot be read again.
    pub(super) again: &'a Again,
    /// Where the last nights of the streams are, on a host that may read.
    pub(super) last: Option<&'a LastNights>,
    /// The backup has nothing but streams: when all of them fail there is nothing to keep.
    pub(super) is_all: bool,
    /// Ends with the run, and when one of the streams has failed: the others are of no use any more.
    pub(super) all: Cancel,
}

/// What became of the streams of one member.
#[derive(Default)]
struct GroupOutcome {
    stored: Vec<(Entry, StoredStream)>,
    failed: Option<FailedStream>,
}

impl StreamReader<'_> {
    /// Stores the streams of all members, `options.jobs` at a time, and returns them when all have ended.
    ///
    /// The first that fails ends the others, unless what did not fail is to be kept; a member of which one stream failed is
    /// left out as a whole.
    pub(super) fn store_all(
        &self,
        members: Vec<StreamGroup>,
        options: &StreamOptions,
    ) -> Result<StoredStreams, Stopped> {
        let mut outcomes: Vec<Mutex<GroupOutcome>> = Vec::new();
        let mut queue = VecDeque::new();
        for (at, member) in members.into_iter().enumerate() {
            let mut outcome = GroupOutcome::default();
            member.notes.into_iter().for_each(|note| self.monitor.problem(note));
            match member.failed {
                Some((name, source)) if options.keep_partial => outcome.failed = Some(self.missing(name, source)),
                Some((name, source)) => return Err(Stopped::Stream { name, source }),
                None => queue.extend(member.streams.into_iter().map(|stream| (at, stream))),
            }
            outcomes.push(Mutex::new(outcome));
        }
        let threads = options.jobs.clamp(1, queue.len().max(1));
        let queue = Mutex::new(queue);
        let work = || -> Result<(), Stopped> {
            loop {
                let next = queue.lock().expect("no panic while held").pop_front();
                let Some((member, stream)) = next else { return Ok(()) };
                let outcome = &outcomes[member];
                if outcome.lock().expect("no panic while held").failed.is_some() {
                    continue;
                }
                match self.store(&stream) {
                    Ok(stored) => outcome.lock().expect("no panic while held").stored.push(stored),
                    Err(Stopped::Stream { name, source }) if options.keep_partial => {
                        outcome.lock().expect("no panic while held").failed = Some(self.missing(name, source));
                    }
                    Err(error) => {
                        self.all.cancel();
                        return Err(error);
                    }
                }
            }
        };
        let ended: Vec<Stopped> = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let first = work();
            let others = others.into_iter().map(|thread| thread.join().expect("reading a stream does not panic"));
            std::iter::once(first).chain(others).filter_map(Result::err).collect()
        });
        match Stopped::choose(ended) {
            Some(error) => Err(error),
            None => self.gather(outcomes.into_iter().map(|it| it.into_inner().expect("no panic while held")).collect()),
        }
    }

    fn missing(&self, name: String, source: SourceError) -> FailedStream {
        let failed = FailedStream { name, source: Arc::new(source) };
        self.monitor.problem(Problem::missing(failed.name.clone(), format!("{}; it is left out", failed.why())));
        failed
    }

    fn gather(&self, outcomes: Vec<GroupOutcome>) -> Result<StoredStreams, Stopped> {
        let mut all = StoredStreams::default();
        for outcome in outcomes {
            match outcome.failed {
                Some(missing) => all.missing.push(missing),
                None => {
                    let total = outcome.stored.iter().map(|(_, stored)| stored.size).sum();
                    for (entry, mut stored) in outcome.stored {
                        if !entry.is_table() {
                            stored.judged_size = total;
                        }
                        let above = std::iter::successors(entry.path.parent(), EntryPath::parent);
                        all.entries.extend(above.map(|path| self.directory(path)));
                        all.entries.push(entry);
                        all.streams.push(stored);
                    }
                }
            }
        }
        if self.is_all
            && all.streams.is_empty()
            && let Some(first) = all.missing.first()
        {
            return Err(Stopped::AllFailed(first.clone()));
        }
        all.entries.sort_by(|a, b| a.path.cmp(&b.path));
        all.entries.dedup_by(|a, b| a.path == b.path);
        Ok(all)
    }

    /// Tells whether the run goes on.
    fn check(&self) -> Result<(), Stopped> {
        match (self.cancel.is_cancelled(), self.all.is_cancelled()) {
            (true, _) => Err(Stopped::Cancelled),
            (false, true) => Err(Stopped::Elsewhere),
            (false, false) => Ok(()),
        }
    }

    /// Stores one stream and returns its entry.
    ///
    /// A stream is never taken for unchanged: it is read to its end every time.
    fn store(&self, stream: &MemberStream) -> Result<(Entry, StoredStream), Stopped> {
        let path = &stream.path;
        let failed = |source| Stopped::Stream { name: path.to_string(), source };
        if let Some(kept) = self.again.take_over(path, self.writer) {
            return kept;
        }
        // What is to be made anew for it, no producer waits for.
        let night = self.night_cutter(path);
        let begun = Instant::now();
        let opened = stream.opener.open(&self.all);
        self.check()?;
        let mut source = opened.map_err(failed)?;
        let mut bytes = CutBytes::default();
        let CutContent { list, night } =
            self.cut(StreamBytes { source: &mut *source, reader: self, path }, &mut bytes, night)?;
        let mut detail = source.finish().map_err(failed)?;
        detail.duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let changed = detail.facts.get(fact::CHANGED);
        let (size, new_bytes) = (bytes.read, bytes.new);
        let tables = detail.facts.get(fact::TABLES);
        let stored = StoredStream { path: path.clone(), size, judged_size: size, new_bytes, tables, changed, night };
        self.advise(stream, &detail.facts);
        let content = FileContent { size, chunks: list.finish(self.writer)?, holes: Vec::new() };
        self.monitor.add(Counter::Entries, 1);
        let metadata = Metadata { mode: 0o600, mtime: self.now, ctime: self.now, ..Metadata::default() };
        let entry = Entry { path: path.clone(), kind: EntryKind::Stream(content, detail), metadata };
        if !stream.is_repeatable {
            self.again.keep(&entry, &stored);
        }
        Ok((entry, stored))
    }

    /// Cuts a stream beside what it was last night, where this machine can know that, or fine.
    fn cut(
        &self,
        mut incoming: StreamBytes<'_>,
        bytes: &mut CutBytes,
        night: Option<NightCutter<'_>>,
    ) -> Result<CutContent, Stopped> {
        let hand_on = |full| self.jobs.push_frame(full);
        if let Some(cutter) = night {
            return cutter.cut(&mut incoming, bytes, hand_on);
        }
        let mut cutter = Cutter::for_stream(self.writer, self.monitor);
        let list = cutter.cut(&mut incoming, bytes, hand_on);
        // Of a stream that cannot be read to its end, too: others may rely on what was claimed for it.
        let last = cutter.take_frame();
        if !last.is_empty() {
            self.jobs.push_frame(last)?;
        }
        Ok(CutContent { list: list?, night: None })
    }

    /// Makes what cuts a stream beside what it was last night, where this machine can know that: from what it kept, or made anew from the
    /// last dump, where this host may read.
    fn night_cutter(&self, path: &EntryPath) -> Option<NightCutter<'_>> {
        let Self { writer, options, .. } = self;
        let name = night_name(&options.host, &options.job, path.as_bytes());
        let place = options.stream_options.recipes.then(|| writer.nights_of(&name)).flatten()?;
        let cutter = NightCutter::new(writer, self.monitor, path.to_string(), place, options.dry_run);
        Some(cutter.or_remade(|| {
            let (last, place) = (self.last?, writer.nights_of(&name)?);
            last.remake(path, place, |rule| writer.window_gatherer(rule), &self.all)
        }))
    }

    /// Tells what is not wrong, but could be better.
    fn advise(&self, stream: &MemberStream, facts: &StreamFacts) {
        let compressed = facts.text(fact::COMPRESSED).map(|compression| {
            format!("comes compressed ({compression}), so that every night is stored anew; let coffre compress it")
        });
        // What a command of the user's own says may be anything.
        let said = facts.text(fact::SAID).filter(|_| facts.has(fact::ENGINE));
        let said = said.map(|said| format!("was dumped, but the program said: {}", said.replace('\n', "\n    ")));
        for message in compressed.into_iter().chain(said).chain(stream.opener.advise(facts)) {
            self.monitor.problem(Problem::advice(stream.path.to_string(), message));
        }
    }

    /// Makes up the entry of a directory that a stream is in.
    fn directory(&self, path: EntryPath) -> Entry {
        let metadata = Metadata { mode: 0o700, mtime: self.now, ctime: self.now, ..Metadata::default() };
        Entry { path, kind: EntryKind::Directory, metadata }
    }
}

/// The bytes of a stream, for which it may be waited long.
struct StreamBytes<'a> {
    source: &'a mut dyn StreamSource,
    reader: &'a StreamReader<'a>,
    path: &'a EntryPath,
}

impl StreamBytes<'_> {
    fn failed(&self, source: std::io::Error) -> Stopped {
        let name = self.path.to_string();
        Stopped::Stream { name: name.clone(), source: SourceError::Io { name, source } }
    }

    /// Waits until there is something to read, and tells of a producer that is silent for long.
    fn wait(&mut self) -> Result<(), Stopped> {
        let silent_since = Instant::now();
        let mut until_told = Some(SILENCE);
        while !self.source.wait_readable(&self.reader.all, until_told).map_err(|error| self.failed(error))? {
            self.reader.check()?;
            let silence = silent_since.elapsed();
            until_told = until_told.map(|_| SILENCE.saturating_sub(silence));
            if until_told == Some(Duration::ZERO) {
                until_told = None;
                let minutes = SILENCE.as_secs() / 60;
                let message = format!("has given nothing for {minutes} minutes; does somebody hold a lock?");
                self.reader.monitor.problem(Problem::advice(self.path.to_string(), message));
            }
        }
        Ok(())
    }
}

impl NextBytes for StreamBytes<'_> {
    type Error = Stopped;

    fn next(&mut self, space: &mut [u8]) -> Result<Filled, Stopped> {
        loop {
            self.reader.check()?;
            self.wait()?;
            match self.source.read(space) {
                Ok(count) => return Ok(Filled { count, is_end: count == 0 }),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
    }
}
