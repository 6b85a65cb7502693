//! Walking the snapshot: directories and links are put at once, files are gathered into windows.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::entry::{Entry, EntryKind, LinkKey, Metadata};
use crate::model::path::EntryPath;
use crate::ops::Cancel;
use crate::ops::reading::lost_part;
use crate::ops::restore::files::{Decision, decide};
use crate::ops::restore::frames::{FileJob, Window};
use crate::ops::restore::{RestoreError, RestoreOptions, RestoreReport, problem};
use crate::progress::{Counter, Monitor, Problem, chain};
use crate::repository::reader::Reader;
use crate::target::files::{FileTarget, TargetError};

/// Files in a window.
const WINDOW_FILES: usize = 16_384;
/// Chunks in a window: about 100 bytes each.
const WINDOW_CHUNKS: usize = 131_072;

/// Directories that wait for their attributes: about 300 bytes each.
const DIRECTORIES_WAITING: usize = 16_384;

/// A directory of the snapshot that the walk is inside of.
struct OpenDirectory {
    path: EntryPath,
    relative: Vec<u8>,
    metadata: Option<Metadata>,
    /// Names in the target that the snapshot has not shown yet.
    unseen: Vec<Vec<u8>>,
}

/// One restore on its way.
pub(super) struct Run {
    reader: Arc<Reader>,
    options: RestoreOptions,
    target: Option<Arc<FileTarget>>,
    monitor: Arc<dyn Monitor>,
    cancel: Cancel,
    report: RestoreReport,
    /// What stands before the restored paths and is left out in the target.
    strip: usize,
    directories: Vec<OpenDirectory>,
    /// Directories whose attributes wait until everything in them is written.
    finished: Vec<(Vec<u8>, Metadata)>,
    /// For files with several names, the first one restored.
    first_names: HashMap<LinkKey, Vec<u8>>,
    links: Vec<(Vec<u8>, Vec<u8>)>,
    window: Window,
    /// A part of the tree could not be read, so what the snapshot does not have cannot be told.
    has_gaps: bool,
}

impl Run {
    pub(super) fn new(
        reader: Arc<Reader>,
        options: RestoreOptions,
        target: Option<Arc<FileTarget>>,
        monitor: Arc<dyn Monitor>,
        cancel: Cancel,
    ) -> Self {
        Self {
            reader,
            options,
            target,
            monitor,
            cancel,
            report: RestoreReport::default(),
            strip: 0,
            directories: Vec::new(),
            finished: Vec::new(),
            first_names: HashMap::new(),
            links: Vec::new(),
            window: Window::default(),
            has_gaps: false,
        }
    }

    pub(super) async fn all(mut self) -> Result<RestoreReport, RestoreError> {
        let mut walk = self.reader.walk(self.options.snapshot.root, self.options.within.clone());
        let mut found = self.options.within.is_none();
        while let Some(next) = walk.next().await {
            if self.cancel.is_cancelled() {
                return Err(RestoreError::Cancelled);
            }
            match next {
                Ok(entry) => {
                    if !found {
                        found = true;
                        self.strip = match entry.is_directory() {
                            true => entry.path.as_bytes().len() + 1,
                            false => entry.path.as_bytes().len() - entry.path.name().len(),
                        };
                    }
                    self.entry(entry).await?;
                }
                Err(damaged) => {
                    (found, self.has_gaps) = (true, true);
                    let subject = lost_part(&damaged);
                    self.monitor.problem(Problem { subject: subject.clone(), message: chain(&damaged.error) });
                    self.report.damaged.push(subject);
                }
            }
        }
        if !found {
            let path = self.options.within.as_ref().map_or_else(String::new, |path| format!("/{path}"));
            return Err(RestoreError::NoSuchPath { snapshot: self.options.snapshot.id.short(), path });
        }
        self.flush().await?;
        while let Some(directory) = self.directories.pop() {
            self.leave(directory);
        }
        self.finish_directories();
        if self.has_gaps && !self.report.extras.is_empty() {
            let message =
                "a part of the snapshot cannot be read, so nothing in the target counts as too much".to_owned();
            self.monitor.problem(Problem { subject: self.options.snapshot.id.short(), message });
            self.report.problems += 1;
            self.report.extras.clear();
        }
        Ok(self.report)
    }

    async fn entry(&mut self, entry: Entry) -> Result<(), RestoreError> {
        while self.directories.last().is_some_and(|open| !entry.path.is_within(&open.path)) {
            let directory = self.directories.pop().expect("just seen");
            self.leave(directory);
        }
        if self.finished.len() >= DIRECTORIES_WAITING {
            self.flush().await?;
            self.finish_directories();
        }
        let relative = entry.path.as_bytes().get(self.strip..).unwrap_or_default().to_vec();
        if let Some(open) = self.directories.last_mut()
            && let Ok(at) = open.unseen.binary_search_by(|name| name.as_slice().cmp(entry.path.name()))
        {
            open.unseen.remove(at);
        }
        let taken = self.options.selection.takes(&entry.path, entry.is_directory());
        if entry.is_directory() {
            return self.directory(entry, relative, taken);
        }
        if !taken {
            return Ok(());
        }
        self.monitor.add(Counter::Entries, 1);
        match entry.kind {
            EntryKind::File(_) | EntryKind::Stream(..) => self.file(entry, relative).await,
            _ => {
                self.special(&entry, &relative);
                Ok(())
            }
        }
    }

    fn directory(&mut self, entry: Entry, relative: Vec<u8>, taken: bool) -> Result<(), RestoreError> {
        // With patterns, a directory is made when something in it is restored, or when it is chosen itself.
        let wanted = taken || relative.is_empty();
        if wanted {
            self.monitor.add(Counter::Entries, 1);
            self.report.others += 1;
            if let Some(target) = self.target.as_ref().filter(|_| !self.options.dry_run)
                && let Err(error) = target.make_directory(&relative)
            {
                self.problem(&error);
            }
        }
        let unseen = match &self.target {
            Some(target) if self.options.find_extras => target.names(&relative).unwrap_or_default(),
            _ => Vec::new(),
        };
        let metadata = wanted.then_some(entry.metadata);
        self.directories.push(OpenDirectory { path: entry.path, relative, metadata, unseen });
        Ok(())
    }

    /// Called when everything in a directory has been seen; it is complete after the window is flushed.
    fn leave(&mut self, directory: OpenDirectory) {
        for name in directory.unseen {
            let path = if directory.relative.is_empty() { name } else { [&*directory.relative, b"/", &*name].concat() };
            self.report.extras.push(path);
        }
        if let Some(metadata) = directory.metadata {
            self.finished.push((directory.relative, metadata));
        }
    }

    fn special(&mut self, entry: &Entry, relative: &[u8]) {
        self.report.others += 1;
        let Some(target) = self.target.clone().filter(|_| !self.options.dry_run) else { return };
        if let EntryKind::Symlink(link) = &entry.kind
            && target.read_link(relative).as_ref() == Some(link)
            && target.existing(relative).is_ok_and(|stat| stat.is_some_and(|stat| stat.mtime == entry.metadata.mtime))
        {
            return;
        }
        match target.make_special(relative, entry) {
            Ok(problems) => self.attribute_problems(relative, &problems),
            Err(error) => self.problem(&error),
        }
    }

    async fn file(&mut self, entry: Entry, relative: Vec<u8>) -> Result<(), RestoreError> {
        if let Some(key) = entry.link_key() {
            if let Some(first) = self.first_names.get(&key) {
                self.links.push((first.clone(), relative));
                self.monitor.add(Counter::Bytes, entry.size());
                self.report.others += 1;
                return Ok(());
            }
            self.first_names.insert(key, relative.clone());
        }
        match decide(&self.reader, self.target.as_ref(), &entry, &relative, self.options.trust_times).await {
            Ok(Decision::Keep) => {
                self.report.unchanged_files += 1;
                self.monitor.add(Counter::Bytes, entry.size());
                if let Some(target) = self.target.as_ref().filter(|_| !self.options.dry_run) {
                    match target.set_existing_metadata(&relative, &entry.metadata) {
                        Ok(problems) => self.attribute_problems(&relative, &problems),
                        Err(error) => self.problem(&error),
                    }
                }
                return Ok(());
            }
            Ok(Decision::Write) => {}
            Err(error) => {
                self.problem(&error);
                return Ok(());
            }
        }
        self.report.written_files += 1;
        if self.options.dry_run {
            self.report.written_bytes += entry.size();
            self.monitor.add(Counter::Bytes, entry.size());
            return Ok(());
        }
        self.window.push(&self.reader, FileJob::new(entry, relative)).await;
        if self.window.files() >= WINDOW_FILES || self.window.chunks() >= WINDOW_CHUNKS {
            self.flush().await?;
        }
        Ok(())
    }

    /// Writes the files of the window, then the links to them.
    async fn flush(&mut self) -> Result<(), RestoreError> {
        let Some(target) = self.target.clone().filter(|_| !self.options.dry_run) else { return Ok(()) };
        let window = std::mem::take(&mut self.window);
        let done = window.write(&self.reader, &target, self.options.memory_bytes, &self.monitor, &self.cancel).await?;
        self.report.written_bytes += done.written_bytes;
        self.report.problems += done.problems;
        self.report.damaged.extend(done.damaged);
        for (first, path) in std::mem::take(&mut self.links) {
            if let Err(error) = target.make_hardlink(&first, &path) {
                self.problem(&error);
            }
        }
        Ok(())
    }

    /// Sets the attributes of directories that were left, the deepest first: those left later may hold those left before.
    fn finish_directories(&mut self) {
        let finished = std::mem::take(&mut self.finished);
        let Some(target) = self.target.clone().filter(|_| !self.options.dry_run) else { return };
        for (relative, metadata) in finished {
            match target.finish_directory(&relative, &metadata) {
                Ok(problems) => self.attribute_problems(&relative, &problems),
                Err(error) => self.problem(&error),
            }
        }
    }

    fn problem(&mut self, error: &TargetError) {
        self.report.problems += 1;
        self.monitor.problem(problem(error));
    }

    fn attribute_problems(&mut self, relative: &[u8], problems: &[String]) {
        for message in problems {
            self.report.problems += 1;
            let subject = crate::model::path::display_bytes(relative).to_string();
            self.monitor.problem(Problem { subject, message: message.clone() });
        }
    }
}
