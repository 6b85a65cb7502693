//! Members: what a backup was asked for beside files, each with the streams it consists of.
//!
//! A stream from standard input or a command is a member by itself; a database can have several streams, which are worth
//! something together only.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use crate::model::path::{EntryPath, display_bytes};
use crate::ops::backup::{BackupError, BackupOptions, DatabaseRequest, StreamKind, StreamRequest};
use crate::process::CommandOptions;
use crate::progress::Problem;
use crate::source::check::{Check, CheckedSource};
use crate::source::command::CommandSource;
use crate::source::stdin::StdinSource;
use crate::source::{OpenStream, PlannedStream, SourceError, StreamSource, mysql, postgres, sqlite};

/// Streams that come into the snapshot together, or not at all.
pub(super) struct Member {
    pub(super) streams: Vec<MemberStream>,
    /// Why it cannot be had, and what it is called then.
    pub(super) failed: Option<(String, SourceError)>,
    /// What is to be told about it.
    pub(super) notes: Vec<Problem>,
}

/// A stream and where it goes.
pub(super) struct MemberStream {
    pub(super) path: EntryPath,
    pub(super) opener: Arc<dyn OpenStream>,
}

/// Finds all members, asking database servers where needed, and checks the names of their streams: each a safe path, none
/// given twice. Blocks.
pub(super) fn plan(options: &BackupOptions, restrict_key: &str) -> Result<Vec<Member>, BackupError> {
    let mut paths: Vec<EntryPath> = Vec::new();
    let mut placed = |stream: PlannedStream| -> Result<MemberStream, BackupError> {
        let wrong = |why: String| BackupError::StreamName { name: display_bytes(&stream.name).to_string(), why };
        let relative = stream.name.strip_prefix(b"/").unwrap_or(&stream.name);
        let path = EntryPath::new(relative.to_vec()).map_err(|error| wrong(error.to_string()))?;
        if paths.iter().any(|other| path.is_within(other) || other.is_within(&path)) {
            return Err(wrong("another stream has this name".into()));
        }
        paths.push(path.clone());
        Ok(MemberStream { path, opener: stream.opener })
    };
    let check = if options.stream_options.check_dumps { Check::Recognise } else { Check::Nothing };
    let mut members = Vec::new();
    for request in &options.streams {
        let StreamRequest { name, kind } = request.clone();
        let opener = Arc::new(GivenStream { name: name.clone(), kind, check: check.clone() });
        let streams = vec![placed(PlannedStream { name, opener })?];
        members.push(Member { streams, failed: None, notes: Vec::new() });
    }
    for request in &options.databases {
        let asked = match request {
            DatabaseRequest::Postgres(options) => postgres::plan(options, restrict_key),
            DatabaseRequest::Mysql(options) => mysql::plan(options),
            DatabaseRequest::Sqlite(options) => Ok(vec![sqlite::plan(options)]),
        };
        let name = || display_bytes(&request.source_name()).to_string();
        let asked = match asked {
            Ok(asked) => asked,
            Err(error) if options.stream_options.keep_partial => {
                let failed = Some((name(), error.into()));
                members.push(Member { streams: Vec::new(), failed, notes: Vec::new() });
                continue;
            }
            Err(error) => return Err(BackupError::Stream { name: name(), source: error.into() }),
        };
        for member in asked {
            let note = |message| Problem { subject: member.label.clone(), message };
            let notes = member.notes.into_iter().map(note).collect();
            members.push(match member.streams {
                Ok(streams) => {
                    let streams = streams.into_iter().map(&mut placed).collect::<Result<_, _>>()?;
                    Member { streams, failed: None, notes }
                }
                Err(error) => Member { streams: Vec::new(), failed: Some((member.label, error.into())), notes },
            });
        }
    }
    Ok(members)
}

impl DatabaseRequest {
    /// Tells whether it is about a server with roles or users, and does not store them.
    pub fn lacks_globals(&self) -> bool {
        match self {
            DatabaseRequest::Postgres(options) => !options.all_databases,
            DatabaseRequest::Mysql(options) => !options.all_databases,
            DatabaseRequest::Sqlite(_) => false,
        }
    }

    /// Returns what the snapshot lists as its source.
    pub(super) fn source_name(&self) -> Vec<u8> {
        match self {
            DatabaseRequest::Postgres(options) => options.url.source_name(options.all_databases).into_bytes(),
            DatabaseRequest::Mysql(options) => options.url.source_name(options.all_databases).into_bytes(),
            DatabaseRequest::Sqlite(options) => {
                [b"sqlite:".as_slice(), options.absolute_file().as_os_str().as_bytes()].concat()
            }
        }
    }
}

/// Standard input, or a command that the user wrote.
struct GivenStream {
    name: Vec<u8>,
    kind: StreamKind,
    check: Check,
}

impl OpenStream for GivenStream {
    fn open(&self, _: &dyn Fn() -> bool) -> Result<Box<dyn StreamSource>, SourceError> {
        let (inner, name): (Box<dyn StreamSource>, String) = match &self.kind {
            StreamKind::Stdin => (Box::new(StdinSource::open()?), "standard input".into()),
            StreamKind::Command(words) => {
                let (program, arguments) = match words.split_first() {
                    Some((program, arguments)) => (program.clone(), arguments),
                    // The system's own answer to an empty name.
                    None => (OsString::new(), &[][..]),
                };
                let command = CommandOptions::new(program, arguments);
                (Box::new(CommandSource::spawn(&command)?), command.name())
            }
        };
        let name = format!("{name} for {}", display_bytes(&self.name));
        let checked = CheckedSource::new(inner, name, self.check.clone(), Default::default(), None)?;
        Ok(Box::new(checked))
    }
}
