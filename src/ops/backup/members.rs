//! Members: what a backup was asked for beside files, each with the streams it consists of.
//!
//! A stream from standard input or a command is a member by itself; a database can have several streams, which are worth
//! something together only.

use std::sync::Arc;

use zeroize::Zeroizing;

use crate::engine::Engines;
use crate::model::path::{EntryPath, display_bytes};
use crate::ops::backup::error::BackupError;
use crate::ops::backup::options::BackupOptions;
use crate::progress::Problem;
use crate::source::{OpenStream, PlannedStream, Planning, SourceError};

/// Streams that come into the snapshot together, or not at all.
pub(super) struct StreamGroup {
    pub(super) streams: Vec<MemberStream>,
    /// Why it cannot be had, and what it is called then.
    pub(super) failed: Option<(String, SourceError)>,
    /// Notes for the user.
    pub(super) notes: Vec<Problem>,
}

/// A stream and where it goes.
pub(super) struct MemberStream {
    pub(super) path: EntryPath,
    pub(super) opener: Arc<dyn OpenStream>,
    /// Whether it can be read again, should the backup have to begin anew.
    pub(super) is_repeatable: bool,
}

/// Finds all members, asking the sources, and checks the names of their streams: each a safe path, none given twice. Blocks.
pub(super) fn plan(options: &BackupOptions, stable_secret: Zeroizing<String>) -> Result<Vec<StreamGroup>, BackupError> {
    let known_dumps = match options.stream_options.check_dumps {
        true => Engines::default().known_dumps(),
        false => Vec::new(),
    };
    let planning = Planning { known_dumps, stable_secret };
    let mut places = StreamPaths::default();
    let mut members = Vec::new();
    for source in &options.sources {
        let name = || display_bytes(&source.name()).to_string();
        match source.plan(&planning) {
            Ok(planned) => {
                for member in planned {
                    members.push(places.take(member, source.is_repeatable())?);
                }
            }
            Err(error) if options.stream_options.keep_partial => {
                members.push(StreamGroup { streams: Vec::new(), failed: Some((name(), error)), notes: Vec::new() });
            }
            Err(source) => return Err(BackupError::Stream { name: name(), source }),
        }
    }
    Ok(members)
}

/// The paths of the streams so far.
#[derive(Default)]
struct StreamPaths(Vec<EntryPath>);

impl StreamPaths {
    fn take(&mut self, member: crate::source::Member, is_repeatable: bool) -> Result<StreamGroup, BackupError> {
        let note = |message| Problem::advice(member.label.clone(), message);
        let notes = member.notes.into_iter().map(note).collect();
        match member.streams {
            Ok(streams) => {
                let streams = streams.into_iter().map(|stream| self.place(stream, is_repeatable));
                let streams = streams.collect::<Result<_, _>>()?;
                Ok(StreamGroup { streams, failed: None, notes })
            }
            Err(error) => Ok(StreamGroup { streams: Vec::new(), failed: Some((member.label, error)), notes }),
        }
    }

    fn place(&mut self, stream: PlannedStream, is_repeatable: bool) -> Result<MemberStream, BackupError> {
        let wrong = |why: String| BackupError::StreamName { name: display_bytes(&stream.name).to_string(), why };
        let relative = stream.name.strip_prefix(b"/").unwrap_or(&stream.name);
        let path = EntryPath::new(relative.to_vec()).map_err(|error| wrong(error.to_string()))?;
        if self.0.iter().any(|other| path.is_within(other) || other.is_within(&path)) {
            return Err(wrong("another stream has this name".into()));
        }
        self.0.push(path.clone());
        Ok(MemberStream { path, opener: stream.opener, is_repeatable })
    }
}
