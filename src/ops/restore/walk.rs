//! Walking the snapshot: directories and links are put at once, files are gathered into windows.

use std::sync::{Arc, Mutex};

use rustix::fs::FileType;

use crate::model::entry::Entry;
use crate::ops::LookError;
use crate::ops::restore::compare::{ContentComparison, Decision};
use crate::ops::restore::open_directory::OpenDirectory;
use crate::ops::restore::run::{Link, RestoreRun};
use crate::ops::restore::window::Adding;
use crate::ops::restore::writer::{FileJob, FileWriter, WindowWritten};
use crate::ops::restore::{NotWhole, RestoreError, RestoreReport, problem};
use crate::progress::{Counter, Problem, chain};
use crate::sink::error::{Obstacle, TargetError};
use crate::sink::partial::IfTaken;
use crate::sink::target::FileTarget;

/// Directories that wait for their attributes: about 300 bytes each.
const DIRECTORIES_WAITING: usize = 16_384;
/// Links that wait for the files they are names of: about 1 KiB each.
const LINKS_WAITING: usize = 4_096;

impl RestoreRun {
    pub(super) async fn all(mut self) -> Result<RestoreReport, RestoreError> {
        let walked = self.walk().await;
        if let Some(target) = &self.target {
            target.discard_unfinished();
        }
        // Whoever asked to end hears that, whatever the store said meanwhile.
        walked.map_err(|error| if self.cancel.is_cancelled() { RestoreError::Cancelled } else { error })?;
        if self.has_gaps && !self.report.extras.is_empty() {
            let message =
                "a part of the snapshot cannot be read, so nothing in the target counts as too much".to_owned();
            self.monitor.problem(Problem::missing(self.options.snapshot.id.short(), message));
            self.report.extras.clear();
        }
        self.report.extras.sort_unstable();
        Ok(self.report)
    }

    async fn walk(&mut self) -> Result<(), RestoreError> {
        let mut walk = self.reader.walk(self.options.snapshot.root, self.options.within.clone());
        let mut found = false;
        while let Some(next) = self.cancel.or(walk.next()).await.ok_or(RestoreError::Cancelled)? {
            match next {
                Ok(entry) => {
                    if !std::mem::replace(&mut found, true) {
                        self.begin(&entry);
                    }
                    self.entry(entry).await?;
                }
                Err(damaged) if !damaged.error.is_damage() => return Err(RestoreError::Read(damaged.error)),
                Err(damaged) => {
                    self.has_gaps = true;
                    self.monitor.problem(Problem::damaged(damaged.part.to_string(), chain(&damaged.error)));
                    self.report.damaged.push(NotWhole::Part(damaged.part));
                }
            }
        }
        let snapshot = self.options.snapshot.id;
        match &self.options.within {
            Some(path) if !found && !self.has_gaps => {
                return Err(LookError::NoSuchPath { snapshot, path: path.clone() }.into());
            }
            _ if !self.something_matches && self.options.selection.has_includes() && !self.has_gaps => {
                return Err(RestoreError::NothingMatches { snapshot });
            }
            _ => {}
        }
        self.flush().await?;
        while !self.directories.is_empty() {
            self.leave();
        }
        self.finish_directories();
        Ok(())
    }

    /// Takes the first entry as what is restored; without a directory of its own it stands in the target itself.
    fn begin(&mut self, first: &Entry) {
        let path = first.path.as_bytes();
        let is_whole = self.options.within.is_none();
        self.strip = match first.is_directory() {
            _ if is_whole => 0,
            true => path.len() + 1,
            false => path.len() - first.path.name().len(),
        };
        if is_whole || !first.is_directory() {
            let is_restored = is_whole && self.options.snapshot.sources.iter().any(|source| source == b"/");
            self.directories.push(OpenDirectory::new(None, Vec::new(), None, is_restored));
            if is_restored {
                self.enter_all();
            }
        }
    }

    async fn entry(&mut self, entry: Entry) -> Result<(), RestoreError> {
        while self.directories.last().is_some_and(|open| {
            open.path.as_ref().is_some_and(|above| above == &entry.path || !entry.path.is_within(above))
        }) {
            self.leave();
        }
        if self.finished.len() >= DIRECTORIES_WAITING || self.links.len() >= LINKS_WAITING {
            self.flush().await?;
            self.finish_directories();
        }
        if self.last_leaf.as_ref().is_some_and(|leaf| entry.path.is_within(leaf)) {
            let message = "it lies below something that is no directory".to_owned();
            self.monitor.problem(Problem::missing(format!("/{}", entry.path), message));
            return Ok(());
        }
        let relative = entry.path.as_bytes().get(self.strip..).unwrap_or_default().to_vec();
        self.open_implicit(&entry.path, &relative);
        self.pass_names(Some(entry.path.name()));
        let is_directory = entry.is_directory();
        let is_chosen = self.options.only.as_ref().is_none_or(|only| only.contains(&entry.path));
        let taken = self.options.selection.takes(&entry.path, is_directory);
        self.something_matches |= taken;
        if is_directory {
            self.directory(entry, relative, taken);
            return Ok(());
        }
        self.last_leaf = Some(entry.path.clone());
        if !taken || !is_chosen {
            return Ok(());
        }
        self.monitor.add(Counter::Entries, 1);
        let is_file = entry.content().is_some();
        if !self.enter_all() {
            self.report.failed_files += u64::from(is_file);
            return Ok(());
        }
        let if_taken = self.directories.last().map_or(IfTaken::Replace, |open| open.if_taken(entry.path.name()));
        if is_file {
            self.file(entry, relative, if_taken).await
        } else {
            self.special(&entry, &relative, if_taken);
            Ok(())
        }
    }

    /// With patterns, a directory is made when something in it is restored, or when it is chosen itself.
    fn directory(&mut self, entry: Entry, relative: Vec<u8>, taken: bool) {
        let is_restored = (taken || relative.is_empty()) && self.options.snapshot.backed_up(&entry.path);
        self.directories.push(OpenDirectory::new(Some(entry.path), relative, Some(entry.metadata), is_restored));
        if is_restored && self.options.only.is_none() {
            self.monitor.add(Counter::Entries, 1);
            self.report.others += u64::from(self.enter_all());
        }
    }

    fn special(&mut self, entry: &Entry, relative: &[u8], if_taken: IfTaken) {
        let Some(target) = self.target.clone() else {
            self.report.others += 1;
            return;
        };
        let existing = target.existing(relative).ok().flatten();
        if let Some(stat) = existing.filter(|_| if_taken == IfTaken::Replace) {
            if !self.options.overwrite.touches(&stat.mtime, &entry.metadata.mtime) {
                self.report.left += 1;
                return;
            }
            if stat.file_type() == FileType::Directory && target.is_filled(relative) {
                return self.refused(entry, relative, &TargetError::because(relative, "restore it", Obstacle::Filled));
            }
        }
        if self.options.dry_run {
            self.report.others += 1;
            return;
        }
        let put = match target.has_special(relative, entry) && if_taken == IfTaken::Replace {
            true => target.set_existing_attributes(relative, &entry.metadata),
            false => target.make_special(relative, entry, if_taken),
        };
        match put {
            Ok(problems) => {
                self.report.others += 1;
                self.attribute_problems(relative, &problems);
            }
            Err(error) => self.problem(&error),
        }
    }

    async fn file(&mut self, entry: Entry, relative: Vec<u8>, if_taken: IfTaken) -> Result<(), RestoreError> {
        let key = entry.link_key();
        if let Some(key) = key {
            if let Some(first) = self.first_names.get(&key) {
                self.links.push(Link { key, first: first.clone(), entry, relative, if_taken });
                return Ok(());
            }
            self.first_names.insert(key, relative.clone());
        }
        let comparison = ContentComparison {
            reader: &self.reader,
            target: self.target.as_ref(),
            trust_times: self.options.trust_times,
            overwrite: self.options.overwrite,
            cancel: &self.cancel,
        };
        let mut decision = comparison.decide(&entry, &relative, if_taken).await?;
        // One inode in the target is not two files, whatever joined them there.
        if let (Decision::Keep(Some(inode)), Some(key)) = (&decision, key)
            && *self.kept_inodes.entry(*inode).or_insert(key) != key
        {
            decision = Decision::Write;
        }
        match decision {
            Decision::Write => return self.write(entry, relative, if_taken).await,
            Decision::Keep(_) => {
                self.report.unchanged_files += 1;
                self.monitor.add(Counter::Bytes, entry.size());
                if let Some(target) = self.target.clone().filter(|_| !self.options.dry_run) {
                    match target.set_existing_attributes(&relative, &entry.metadata) {
                        Ok(problems) => self.attribute_problems(&relative, &problems),
                        Err(error) => self.problem(&error),
                    }
                }
                return Ok(());
            }
            Decision::Leave => {
                self.report.left += 1;
                self.monitor.add(Counter::Bytes, entry.size());
            }
            Decision::Refuse(error) => self.refused(&entry, &relative, &error),
        }
        // Nothing is linked to what is not this file.
        key.map(|key| self.first_names.remove(&key));
        Ok(())
    }

    async fn write(&mut self, entry: Entry, relative: Vec<u8>, if_taken: IfTaken) -> Result<(), RestoreError> {
        if self.options.dry_run {
            self.report.written_files += 1;
            self.report.written_bytes += entry.size();
            self.monitor.add(Counter::Bytes, entry.size());
            return Ok(());
        }
        let job = FileJob::new(entry, relative, if_taken);
        let Some(mut adding) = Adding::new(&self.reader, job) else { return Ok(()) };
        loop {
            let is_added = self.window.add(&self.reader, &mut adding, &self.cancel).await?;
            if self.window.is_full() {
                Box::pin(self.flush()).await?;
            }
            if is_added {
                return Ok(());
            }
        }
    }

    /// Writes the files of the window, then the links to them, until nothing waits.
    async fn flush(&mut self) -> Result<(), RestoreError> {
        let Some(target) = self.target.clone().filter(|_| !self.options.dry_run) else {
            self.report.linked_files += std::mem::take(&mut self.links).len() as u64;
            return Ok(());
        };
        while !self.window.is_empty() || !self.links.is_empty() {
            self.write_window(&target).await?;
            for link in std::mem::take(&mut self.links) {
                self.link(&target, link).await?;
            }
        }
        Ok(())
    }

    async fn write_window(&mut self, target: &Arc<FileTarget>) -> Result<(), RestoreError> {
        let writer = FileWriter {
            files: Vec::new(),
            reader: self.reader.clone(),
            target: target.clone(),
            monitor: self.monitor.clone(),
            told_full: self.told_full.clone(),
            written: Mutex::default(),
            stopped: Mutex::default(),
        };
        let WindowWritten { files, bytes, failed, no_room, damaged, unplaced } =
            self.window.write(writer, &self.cancel).await?;
        self.report.written_files += files;
        self.report.written_bytes += bytes;
        self.report.failed_files += failed;
        self.report.no_room_files += no_room;
        self.report.damaged.extend(damaged);
        for key in unplaced {
            self.first_names.remove(&key);
        }
        Ok(())
    }

    /// Gives a file another name. Where its first name is not there, or the file system has no links, this one becomes
    /// a file of its own.
    async fn link(&mut self, target: &Arc<FileTarget>, link: Link) -> Result<(), RestoreError> {
        let Link { key, first, entry, relative, if_taken } = link;
        if self.first_names.get(&key) == Some(&first) {
            let existing = target.existing(&relative).ok().flatten().filter(|_| if_taken == IfTaken::Replace);
            if existing.is_some_and(|stat| !self.options.overwrite.touches(&stat.mtime, &entry.metadata.mtime)) {
                self.report.left += 1;
                return Ok(());
            }
            match target.make_hardlink(&first, &relative, if_taken) {
                Ok(()) => {
                    self.report.linked_files += 1;
                    self.monitor.add(Counter::Bytes, entry.size());
                    return Ok(());
                }
                Err(error) if matches!(error.cause, Obstacle::Taken | Obstacle::Filled) => {
                    self.refused(&entry, &relative, &error);
                    return Ok(());
                }
                Err(_) => drop(self.first_names.remove(&key)),
            }
        }
        Box::pin(self.file(entry, relative, if_taken)).await
    }

    /// Notes that an entry cannot be put because of what is in its place. A directory there may be removed and the entry
    /// put afterwards, if extras are looked for.
    fn refused(&mut self, entry: &Entry, relative: &[u8], error: &TargetError) {
        if error.cause == Obstacle::Filled && self.options.find_extras {
            self.report.extras.push(relative.to_vec());
            self.report.blocked.push(entry.path.clone());
            return;
        }
        self.report.failed_files += u64::from(entry.content().is_some());
        self.problem(error);
    }

    pub(super) fn problem(&mut self, error: &TargetError) {
        self.monitor.problem(problem(error));
    }

    pub(super) fn attribute_problems(&mut self, relative: &[u8], problems: &[String]) {
        for message in problems {
            let subject = crate::model::path::display_bytes(relative).to_string();
            self.monitor.problem(Problem::missing(subject, message.clone()));
        }
    }
}
