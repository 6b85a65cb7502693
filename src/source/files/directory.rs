//! Reading one directory: names, sorted, then what `stat` tells about each that no pattern excludes, in blocks.
//!
//! A block is the unit of work that threads share and the unit in which memory is bounded. Inside a block files are
//! looked at in the order of their inode numbers, which spares a disk most of its seeks, and given out in that of
//! their names.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, StatxFlags, fstat, open, readlinkat, statat, statx};
use rustix::io::Errno;

use crate::fs::owners::Owners;
use crate::fs::stat::FileStat;
use crate::model::path::EntryPath;
use crate::progress::Problem;
use crate::source::files::exclude::Excludes;
use crate::source::files::found::{Base, FoundEntry, FoundKind};
use crate::source::files::roots::{Root, RootNode};

/// The most entries in a block: small enough that two threads share a large directory, large enough that a block's
/// overhead does not show.
pub(super) const BLOCK_ENTRIES: usize = 1024;

/// Buffer for the kernel's directory records; it holds about a thousand names.
const RECORDS_BYTES: usize = 32 * 1024;

/// A directory to be read.
#[derive(Debug, Clone)]
pub(super) struct DirectoryPlace {
    /// Entry path, empty at the top of the file system.
    path: Vec<u8>,
    base: Arc<Base>,
    /// The device the root is on.
    device: u64,
    /// Set where only what leads to roots further down is of interest.
    passage: bool,
    /// Roots at or below this directory.
    node: Option<Arc<RootNode>>,
}

/// The sorted names of a directory that is larger than a block.
#[derive(Debug)]
pub(super) struct LongListing {
    names: SortedNames,
    directory: OwnedFd,
}

/// One thing for a thread to do.
#[derive(Debug)]
pub(super) enum WalkJob {
    /// Read the names of a directory and its first block.
    List(DirectoryPlace),
    /// Read a further block.
    Continue(DirectoryPlace, Arc<LongListing>, Range<usize>),
}

/// What a job gives.
#[derive(Debug, Default)]
pub(super) struct EntryBlock {
    /// Entries in order, directories with what to read next below them.
    pub items: Vec<BlockItem>,
    /// Further blocks of the same directory.
    pub more: Vec<WalkJob>,
}

/// One entry of a block. Nearly all are entries, so their size is no waste.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub(super) enum BlockItem {
    /// An entry; directories that are to be entered come with the job for it.
    Entry(FoundEntry, Option<Box<WalkJob>>),
    /// Something that could not be read.
    Problem(Problem),
    /// Something that is always left out, and told.
    LeftOut(EntryPath),
}

/// What all jobs of a walk have in common.
#[derive(Debug)]
pub(super) struct Rules {
    pub excludes: Excludes,
    /// Device and inode numbers of what is left out and told.
    pub left_out: Vec<(u64, u64)>,
    pub one_file_system: bool,
    pub owners: Arc<Owners>,
}

impl DirectoryPlace {
    /// Returns the top of the file system, from where all roots are reached.
    pub fn top(node: Arc<RootNode>, owners: &Arc<Owners>) -> Result<Self, Errno> {
        let directory = open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let device = FileStat::from(fstat(&directory)?).device;
        let passage = node.root.is_none();
        let base = Arc::new(Base { directory, prefix: 0, follow: passage, owners: Arc::clone(owners) });
        Ok(Self { path: Vec::new(), base, device, passage, node: Some(node) })
    }

    fn child_path(&self, name: &[u8]) -> Vec<u8> {
        let mut path = Vec::with_capacity(self.path.len() + 1 + name.len());
        path.extend_from_slice(&self.path);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path
    }

    fn child_node(&self, name: &[u8]) -> Option<&Arc<RootNode>> {
        self.node.as_ref()?.children.get(name)
    }

    fn problem(&self, what: &str, error: Errno) -> Problem {
        problem(&self.path, what, error)
    }
}

fn problem(path: &[u8], what: &str, error: Errno) -> Problem {
    let shown = crate::model::path::display_bytes(path).to_string();
    Problem::missing(format!("/{shown}"), format!("{what}: {error}"))
}

impl WalkJob {
    /// Does the work.
    pub fn run(self, rules: &Rules) -> EntryBlock {
        match self {
            WalkJob::List(place) if place.passage => pass(&place, rules),
            WalkJob::List(place) => match list(&place, rules) {
                Ok(listing) => first_block(place, listing, rules),
                // Removed since it was found: an empty directory.
                Err(Errno::NOENT) => EntryBlock::default(),
                Err(error) => {
                    let problem = place.problem("the directory could not be read", error);
                    EntryBlock { items: vec![BlockItem::Problem(problem)], more: Vec::new() }
                }
            },
            WalkJob::Continue(place, listing, range) => {
                EntryBlock { items: look_at(&place, &listing, range, rules), more: Vec::new() }
            }
        }
    }
}

/// Goes on towards roots without looking at anything else.
fn pass(place: &DirectoryPlace, rules: &Rules) -> EntryBlock {
    let mut items = Vec::new();
    for (name, node) in place.node.iter().flat_map(|node| &node.children) {
        let path = place.child_path(name);
        if let Err(error) = step(place, name, node, rules, &mut items) {
            items.push(BlockItem::Problem(problem(&path, "could not be read", error)));
        }
    }
    EntryBlock { items, more: Vec::new() }
}

/// Takes one step from `place` towards a root, or onto it.
fn step(
    place: &DirectoryPlace,
    name: &[u8],
    node: &Arc<RootNode>,
    rules: &Rules,
    items: &mut Vec<BlockItem>,
) -> Result<(), Errno> {
    let path = place.child_path(name);
    let absolute = [b"/", path.as_slice()].concat();
    let follow = node.root.is_none_or(|root| root.follow);
    let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
    let stat: FileStat = statat(CWD, &absolute, flags)?.into();
    let is_directory = stat.file_type() == FileType::Directory;
    let base = match node.root {
        None => Arc::clone(&place.base),
        Some(root) => Arc::new(enter_root(root, &absolute, is_directory, &rules.owners)?),
    };
    let below = DirectoryPlace {
        path: path.clone(),
        base: Arc::clone(&base),
        device: stat.device,
        passage: node.root.is_none(),
        node: (!node.children.is_empty()).then(|| Arc::clone(node)),
    };
    let link = if stat.file_type() == FileType::Symlink {
        readlinkat(CWD, &absolute, Vec::new())?.into_bytes()
    } else {
        Vec::new()
    };
    let job = is_directory.then(|| Box::new(WalkJob::List(below)));
    push_entry(items, path, stat, link, false, &base, job);
    Ok(())
}

fn enter_root(root: Root, absolute: &[u8], is_directory: bool, owners: &Arc<Owners>) -> Result<Base, Errno> {
    let mut flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = if is_directory {
        flags.set(OFlags::NOFOLLOW, !root.follow);
        absolute
    } else {
        let slash = absolute.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        &absolute[..slash.max(1)]
    };
    let prefix = directory.len() - 1;
    Ok(Base { directory: open(directory, flags, Mode::empty())?, prefix, follow: false, owners: Arc::clone(owners) })
}

fn list(place: &DirectoryPlace, rules: &Rules) -> Result<LongListing, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let directory = match place.base.open(&place.path, flags | OFlags::NOATIME) {
        Err(Errno::PERM) => place.base.open(&place.path, flags)?,
        answer => answer?,
    };
    let mut names = SortedNames::read(&directory)?;
    let tags = rules.excludes.tags_in(directory.as_fd(), |name| names.find(name));
    if !tags.is_empty() {
        names.retain(|name| tags.contains(&name) || place.child_node(name).is_some());
    }
    Ok(LongListing { names, directory })
}

fn first_block(place: DirectoryPlace, listing: LongListing, rules: &Rules) -> EntryBlock {
    let count = listing.names.index.len();
    let items = look_at(&place, &listing, 0..count.min(BLOCK_ENTRIES), rules);
    let mut more = Vec::new();
    if count > BLOCK_ENTRIES {
        let listing = Arc::new(listing);
        for start in (BLOCK_ENTRIES..count).step_by(BLOCK_ENTRIES) {
            let range = start..count.min(start + BLOCK_ENTRIES);
            more.push(WalkJob::Continue(place.clone(), Arc::clone(&listing), range));
        }
    }
    EntryBlock { items, more }
}

/// Asks for the metadata of some of the names of a directory and applies the rules to each.
fn look_at(place: &DirectoryPlace, listing: &LongListing, range: Range<usize>, rules: &Rules) -> Vec<BlockItem> {
    let index = &listing.names.index[range];
    let mut order: Vec<(u64, u32)> = (0u32..).zip(index).map(|(at, name)| (name.inode, at)).collect();
    order.sort_unstable();
    let mut stats: Vec<Result<FileStat, Errno>> = vec![Err(Errno::NOENT); index.len()];
    for (_, at) in order {
        let name = &index[at as usize];
        if !is_excluded(place, listing, name, rules) {
            stats[at as usize] = stat(place, listing, name, rules);
        }
    }
    let mut items = Vec::with_capacity(index.len());
    for (name, stat) in index.iter().zip(stats) {
        let name = listing.names.at(name);
        match stat {
            Ok(stat) => judge(place, listing, name, stat, rules, &mut items),
            // Excluded, or removed between reading the name and looking at it: it never was there.
            Err(Errno::NOENT) => {}
            Err(error) => {
                items.push(BlockItem::Problem(problem(&place.child_path(name.to_bytes()), "could not be read", error)));
            }
        }
    }
    items
}

/// Tells whether a name alone excludes it, whatever lies behind it. Where the file system does not tell directories apart,
/// a pattern must match either way.
fn is_excluded(place: &DirectoryPlace, listing: &LongListing, name: &Name, rules: &Rules) -> bool {
    if !rules.excludes.has_patterns() {
        return false;
    }
    let bytes = listing.names.at(name).to_bytes();
    let path = place.child_path(bytes);
    place.child_node(bytes).is_none()
        && match name.kind {
            FileType::Unknown => rules.excludes.leaves_out(&path, true) && rules.excludes.leaves_out(&path, false),
            kind => rules.excludes.leaves_out(&path, kind == FileType::Directory),
        }
}

/// Asks for the metadata of one name. Of another file system that is not to be entered the kernel's own knowledge is enough:
/// its server may be dead. Where it refuses to answer this user not even that is given; the directory is kept all the same.
fn stat(place: &DirectoryPlace, listing: &LongListing, name: &Name, rules: &Rules) -> Result<FileStat, Errno> {
    let (directory, path) = (&listing.directory, listing.names.at(name));
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    if rules.one_file_system && name.kind == FileType::Directory {
        let unasked = flags | AtFlags::STATX_DONT_SYNC;
        let device = statx(directory, path, unasked, StatxFlags::empty()).map(|known| FileStat::from(known).device);
        if let Some(device) = device.ok().filter(|device| *device != place.device) {
            let known = statx(directory, path, unasked, StatxFlags::BASIC_STATS).map(FileStat::from);
            let raw_mode = FileType::Directory.as_raw_mode() | 0o700;
            return Ok(known.unwrap_or(FileStat {
                raw_mode,
                links: 2,
                device,
                inode: name.inode,
                ..FileStat::default()
            }));
        }
    }
    statat(directory, path, flags).map(FileStat::from)
}

fn judge(
    place: &DirectoryPlace,
    listing: &LongListing,
    name: &CStr,
    stat: FileStat,
    rules: &Rules,
    items: &mut Vec<BlockItem>,
) {
    let path = place.child_path(name.to_bytes());
    let file_type = stat.file_type();
    let is_directory = file_type == FileType::Directory;
    let node = place.child_node(name.to_bytes());
    if let Some(node) = node.filter(|node| node.root.is_some_and(|root| root.follow || is_directory)) {
        // A root of its own: what its surroundings are excluded by does not hold for it.
        if let Err(error) = step(place, name.to_bytes(), node, rules, items) {
            items.push(BlockItem::Problem(problem(&path, "could not be read", error)));
        }
        return;
    }
    let too_large = file_type == FileType::RegularFile && rules.excludes.is_too_large(stat.size);
    let excluded = too_large || (rules.excludes.has_patterns() && rules.excludes.leaves_out(&path, is_directory));
    if excluded && node.is_none() {
        return;
    }
    if node.is_none() && rules.left_out.contains(&(stat.device, stat.inode)) {
        return items.extend(EntryPath::new(path).ok().map(BlockItem::LeftOut));
    }
    let link = match file_type {
        FileType::Symlink => match readlinkat(&listing.directory, name, Vec::new()) {
            Ok(target) => target.into_bytes(),
            Err(Errno::NOENT) => return,
            Err(error) => return items.push(BlockItem::Problem(problem(&path, "could not be read", error))),
        },
        _ => Vec::new(),
    };
    let foreign = rules.one_file_system && stat.device != place.device;
    let job = (is_directory && (!foreign || node.is_some())).then(|| {
        Box::new(WalkJob::List(DirectoryPlace {
            path: path.clone(),
            base: Arc::clone(&place.base),
            device: place.device,
            passage: foreign || excluded,
            node: node.map(Arc::clone),
        }))
    });
    push_entry(items, path, stat, link, foreign && is_directory && node.is_none(), &place.base, job);
}

fn push_entry(
    items: &mut Vec<BlockItem>,
    path: Vec<u8>,
    stat: FileStat,
    link: Vec<u8>,
    is_foreign: bool,
    base: &Arc<Base>,
    job: Option<Box<WalkJob>>,
) {
    let kind = match stat.file_type() {
        FileType::RegularFile => FoundKind::File { size: stat.size },
        FileType::Directory => FoundKind::Directory,
        FileType::Symlink => FoundKind::Symlink(link),
        FileType::Fifo => FoundKind::Fifo,
        FileType::Socket => FoundKind::Socket,
        FileType::CharacterDevice => FoundKind::CharDevice(stat.device_number),
        FileType::BlockDevice => FoundKind::BlockDevice(stat.device_number),
        FileType::Unknown => return,
    };
    let shown = path.len();
    match EntryPath::new(path) {
        Ok(path) => {
            let entry = FoundEntry { path, kind, stat, is_foreign, base: Arc::clone(base) };
            items.push(BlockItem::Entry(entry, job));
        }
        Err(error) => items.push(BlockItem::Problem(Problem::missing(
            format!("a path of {shown} bytes"),
            format!("cannot be kept: {error}"),
        ))),
    }
}

/// Names in one piece of memory, sorted bytewise.
#[derive(Debug, Default)]
struct SortedNames {
    /// All names, each with its final zero byte.
    bytes: Vec<u8>,
    index: Vec<Name>,
}

#[derive(Debug, Clone, Copy)]
struct Name {
    /// The first eight bytes, which decide most comparisons.
    key: u64,
    inode: u64,
    start: u32,
    /// Length with the final zero byte.
    length: u16,
    /// What the directory itself says about the name; not every file system does.
    kind: FileType,
}

impl SortedNames {
    fn read(directory: &OwnedFd) -> Result<Self, Errno> {
        let mut names = SortedNames::default();
        let mut buffer = [MaybeUninit::<u8>::uninit(); RECORDS_BYTES];
        let mut records = RawDir::new(directory, &mut buffer);
        while let Some(record) = records.next() {
            let record = record?;
            let name = record.file_name().to_bytes_with_nul();
            if name == b".\0" || name == b"..\0" {
                continue;
            }
            let mut key = [0; 8];
            let first = name.len().min(8);
            key[..first].copy_from_slice(&name[..first]);
            let start = u32::try_from(names.bytes.len()).map_err(|_| Errno::OVERFLOW)?;
            let length = u16::try_from(name.len()).map_err(|_| Errno::NAMETOOLONG)?;
            names.index.push(Name {
                key: u64::from_be_bytes(key),
                inode: record.ino(),
                start,
                length,
                kind: record.file_type(),
            });
            names.bytes.extend_from_slice(name);
        }
        let bytes = &names.bytes;
        names.index.sort_unstable_by(|a, b| a.key.cmp(&b.key).then_with(|| a.bytes(bytes).cmp(b.bytes(bytes))));
        Ok(names)
    }

    fn at(&self, name: &Name) -> &CStr {
        CStr::from_bytes_with_nul(name.bytes(&self.bytes)).expect("read as a C string")
    }

    fn find(&self, wanted: &[u8]) -> bool {
        let bare = |name: &Name| &self.bytes[name.start as usize..][..usize::from(name.length) - 1];
        self.index.binary_search_by(|name| bare(name).cmp(wanted)).is_ok()
    }

    fn retain(&mut self, keep: impl Fn(&[u8]) -> bool) {
        let bytes = &self.bytes;
        self.index.retain(|name| keep(&bytes[name.start as usize..][..usize::from(name.length) - 1]));
    }
}

impl Name {
    fn bytes<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.start as usize..][..usize::from(self.length)]
    }
}
