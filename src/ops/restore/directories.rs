//! The directories that the walk is inside of: entered before anything is put into them, complete when they are left.
//!
//! A directory at or below a source of the snapshot was backed up: it is made, gets its attributes, and what it has too much
//! may be told. One above, on the way to a source or to a chosen entry, is only passed through: it is made with its
//! attributes where it is missing, and left as it is where it is there.

use rustix::fs::FileType;

use crate::model::path::EntryPath;
use crate::ops::restore::Overwrite;
use crate::ops::restore::open_directory::{DirectoryState, Finish, OpenDirectory};
use crate::ops::restore::run::RestoreRun;
use crate::sink::partial::IfTaken;

impl RestoreRun {
    /// Opens directories that hold an entry and have none themselves, as streams may have.
    pub(super) fn open_implicit(&mut self, path: &EntryPath, relative: &[u8]) {
        loop {
            let open = self.directories.last().map_or(0, |open| open.relative.len());
            let from = if open == 0 { 0 } else { open + 1 };
            let Some(slash) = relative.get(from..).and_then(|rest| rest.iter().position(|&byte| byte == b'/')) else {
                return;
            };
            self.pass_names(Some(&relative[from..from + slash]));
            let whole = path.as_bytes();
            let end = whole.len() - (relative.len() - from - slash);
            let above = EntryPath::new(&whole[..end]).ok();
            self.directories.push(OpenDirectory::new(above, relative[..from + slash].to_vec(), None, false));
        }
    }

    /// Makes sure that everything can be put into the innermost directory; returns whether it can.
    pub(super) fn enter_all(&mut self) -> bool {
        for at in 0..self.directories.len() {
            if self.directories[at].state == DirectoryState::Ahead {
                self.enter(at);
            }
            if self.directories[at].is_refused() {
                // Those below are refused with it, so that they are not tried one by one.
                self.directories[at..].iter_mut().for_each(|below| below.state = DirectoryState::Refused);
                return false;
            }
        }
        true
    }

    fn enter(&mut self, at: usize) {
        let Some(target) = self.target.clone() else { return };
        let (above, rest) = self.directories.split_at_mut(at);
        let open = &mut rest[0];
        let name = open.path.as_ref().map_or(&b""[..], |path| path.name());
        let if_taken = above.last().map_or(IfTaken::Replace, |above| above.if_taken(name));
        if self.options.dry_run {
            open.state = DirectoryState::Open { is_new: false, mode_before: None };
            open.names = target.names(&open.relative);
            open.device = target.existing(&open.relative).ok().flatten().map_or(0, |stat| stat.device);
            return;
        }
        let in_the_way = target.existing(&open.relative).ok().flatten();
        let is_other = in_the_way.is_some_and(|stat| stat.file_type() != FileType::Directory);
        if is_other && !open.relative.is_empty() && self.options.overwrite == Overwrite::Never {
            open.state = DirectoryState::Refused;
            return;
        }
        match target.enter(&open.relative, if_taken) {
            Ok(entered) => {
                open.state = DirectoryState::Open { is_new: entered.is_new, mode_before: entered.mode_before };
                (open.names, open.device) = (entered.names, entered.device);
            }
            Err(error) => {
                open.state = DirectoryState::Refused;
                self.problem(&error);
            }
        }
    }

    /// Notes what the innermost directory has too much before `name`, or at all.
    pub(super) fn pass_names(&mut self, name: Option<&[u8]>) {
        let Some(open) = self.directories.last_mut() else { return };
        let finds = self.options.find_extras && open.is_restored && !open.is_refused();
        let Some(names) = open.names.as_ref().filter(|_| finds) else { return };
        let mut extras = Vec::new();
        while let Some(found) = names.get(open.next_name)
            && name.is_none_or(|name| found <= name)
        {
            open.next_name += 1;
            if Some(found) != name {
                extras.push((open.below(found), found.to_vec()));
            }
        }
        let (above, device) = (open.path.clone(), open.device);
        for (relative, name) in extras {
            let path = match &above {
                Some(above) => above.join(&name),
                None => EntryPath::new(name),
            };
            if let Ok(path) = path {
                self.extra(relative, &path, device);
            }
        }
    }

    /// Notes one thing that the snapshot does not have. What patterns leave out stays, and so does another file system.
    /// Returns whether all of it may go.
    fn extra(&mut self, relative: Vec<u8>, path: &EntryPath, device: u64) -> bool {
        let Some(target) = self.target.clone() else { return false };
        let Ok(Some(stat)) = target.existing(&relative) else { return false };
        let is_directory = stat.file_type() == FileType::Directory;
        if !self.options.selection.takes(path, is_directory) || stat.device != device {
            return false;
        }
        if is_directory && !self.options.selection.is_everything() {
            let before = self.report.extras.len();
            let mut all = true;
            let names = target.names(&relative).unwrap_or_default();
            for name in (0..).map_while(|at| names.get(at)) {
                let Ok(below) = path.join(name) else { return false };
                all &= self.extra([&*relative, b"/", name].concat(), &below, device);
            }
            if !all {
                return false;
            }
            self.report.extras.truncate(before);
        }
        self.report.extras.push(relative);
        true
    }

    /// Called when everything in a directory has been seen; it is complete after the window is flushed.
    pub(super) fn leave(&mut self) {
        self.pass_names(None);
        let Some(directory) = self.directories.pop() else { return };
        let DirectoryState::Open { is_new, mode_before } = directory.state else { return };
        let keeps = matches!(self.options.overwrite, Overwrite::Never | Overwrite::IfNewer);
        let gets_attributes = is_new || directory.is_restored && !keeps;
        let finish = match (directory.metadata.filter(|_| gets_attributes), mode_before) {
            (Some(metadata), _) => Finish::Attributes(metadata),
            (None, Some(mode)) => Finish::Mode(mode),
            (None, None) => return,
        };
        self.finished.push((directory.relative, finish));
    }

    /// Sets the attributes of directories that were left, the deepest first: those left later may hold those left before.
    pub(super) fn finish_directories(&mut self) {
        let finished = std::mem::take(&mut self.finished);
        let Some(target) = self.target.clone().filter(|_| !self.options.dry_run) else { return };
        for (relative, finish) in finished {
            let done = match finish {
                Finish::Attributes(metadata) => target.set_existing_attributes(&relative, &metadata),
                Finish::Mode(mode) => target.close_again(&relative, mode).map(|()| Vec::new()),
            };
            match done {
                Ok(problems) => self.attribute_problems(&relative, &problems),
                Err(error) => self.problem(&error),
            }
        }
    }
}
