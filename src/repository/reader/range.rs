//! Joining what is wanted into what is fetched together: frames that stand close in their pack become a range, windows made
//! by recipes become groups.

use crate::model::entry::ChunkRef;
use crate::repository::index::table::ChunkPlace;

/// The longest range that is fetched at once, in bytes.
pub const RANGE_BYTES: u64 = 4 << 20;
/// Bytes between two frames that are fetched and thrown away rather than asked for separately.
const GAP_BYTES: u64 = 64 << 10;
/// Windows in a group, at most: those that writers make are of 2 to 8 MiB, so it is their bytes that end a group.
pub(super) const GROUP_WINDOWS: usize = 32;

/// Something that lies in a frame.
pub trait Placed {
    /// Returns where.
    fn location(&self) -> &ChunkPlace;
}

/// A chunk that is wanted, where it lies, and what for.
#[derive(Debug, Clone)]
pub struct Wanted<T> {
    /// The chunk.
    pub chunk: ChunkRef,
    /// A place where it lies, or its recipe, as [`Reader::locate`](crate::repository::reader::Reader::locate) tells.
    pub location: ChunkPlace,
    /// What the answer is given back with.
    pub by: T,
}

impl<T> Placed for Wanted<T> {
    fn location(&self) -> &ChunkPlace {
        &self.location
    }
}

/// What is gathered together.
#[derive(Debug)]
pub enum GatherGroup<T> {
    /// Chunks that lie in neighbouring frames.
    Range(JoinedRange<Wanted<T>>),
    /// Windows made by recipes, in the order given.
    Windows(Vec<Wanted<T>>),
}

impl<T> GatherGroup<T> {
    /// Returns what is wanted of it.
    pub fn wanted(&self) -> impl Iterator<Item = &Wanted<T>> {
        let (range, windows) = match self {
            GatherGroup::Range(range) => (Some(range), None),
            GatherGroup::Windows(windows) => (None, Some(windows)),
        };
        range.into_iter().flat_map(|range| range.frames.iter().flatten()).chain(windows.into_iter().flatten())
    }

    /// Returns what is wanted of it.
    pub fn into_wanted(self) -> impl Iterator<Item = Wanted<T>> {
        let (range, windows) = match self {
            GatherGroup::Range(range) => (Some(range), None),
            GatherGroup::Windows(windows) => (None, Some(windows)),
        };
        range.into_iter().flat_map(JoinedRange::into_wanted).chain(windows.into_iter().flatten())
    }
}

/// Joins chunks as [`join_frames_of`] does, with no more than `range_bytes` of plaintext in each range, and windows made by
/// recipes into groups of `group_bytes`.
pub fn join<T>(wanted: Vec<Wanted<T>>, range_bytes: u64, group_bytes: u64) -> Vec<GatherGroup<T>> {
    let (windows, chunks): (Vec<_>, Vec<_>) =
        wanted.into_iter().partition(|wanted| wanted.location.codec.holds_recipes());
    let ranges = join_frames_of(chunks, range_bytes).into_iter().map(GatherGroup::Range);
    ranges.chain(groups(windows, group_bytes).into_iter().map(GatherGroup::Windows)).collect()
}

fn groups<T>(windows: Vec<Wanted<T>>, group_bytes: u64) -> Vec<Vec<Wanted<T>>> {
    let (mut groups, mut bytes) = (Vec::<Vec<_>>::new(), 0);
    for window in windows {
        let length = u64::from(window.chunk.length);
        match groups.last_mut().filter(|group| group.len() < GROUP_WINDOWS && bytes + length <= group_bytes) {
            Some(group) => group.push(window),
            None => {
                bytes = 0;
                groups.push(vec![window]);
            }
        }
        bytes += length;
    }
    groups
}

/// Neighbouring frames of one pack, with what is wanted from each: what one request fetches.
#[derive(Debug)]
pub struct JoinedRange<W> {
    pub(super) start: u64,
    pub(super) end: u64,
    plain_bytes: u64,
    pub(super) frames: Vec<Vec<W>>,
}

impl<W: Placed> JoinedRange<W> {
    fn of(frame: Vec<W>) -> Self {
        let location = frame[0].location();
        let start = u64::from(location.frame_offset);
        let (end, plain_bytes) = (start + u64::from(location.sealed_len), u64::from(location.plain_len));
        Self { start, end, plain_bytes, frames: vec![frame] }
    }

    pub(super) fn location(&self) -> ChunkPlace {
        *self.frames[0][0].location()
    }
}

impl<W> JoinedRange<W> {
    /// Returns what is wanted of it.
    pub fn into_wanted(self) -> impl Iterator<Item = W> {
        self.frames.into_iter().flatten()
    }
}

/// Sorts what is wanted by pack and frame, and joins frames that stand close together, as long as no more than
/// `plain_bytes` come out of them. What is wanted of a frame stays in the order given.
pub(super) fn join_frames_of<W: Placed>(mut wanted: Vec<W>, plain_bytes: u64) -> Vec<JoinedRange<W>> {
    wanted.sort_by_key(|wanted| {
        let ChunkPlace { pack, frame_offset, frame, sealed_len, plain_len, codec, .. } = *wanted.location();
        (pack, frame_offset, frame, sealed_len, plain_len, codec as u8)
    });
    let mut frames: Vec<Vec<W>> = Vec::new();
    for wanted in wanted {
        match frames.last_mut() {
            Some(frame) if is_same_frame(frame[0].location(), wanted.location()) => frame.push(wanted),
            _ => frames.push(vec![wanted]),
        }
    }
    join_frames(frames, plain_bytes)
}

fn is_same_frame(one: &ChunkPlace, other: &ChunkPlace) -> bool {
    one.frame_place() == other.frame_place()
}

pub(super) fn join_frames<W: Placed>(frames: Vec<Vec<W>>, plain_bytes: u64) -> Vec<JoinedRange<W>> {
    let mut ranges: Vec<JoinedRange<W>> = Vec::new();
    for frame in frames {
        let next = JoinedRange::of(frame);
        match ranges.last_mut() {
            Some(range)
                if range.location().pack == next.location().pack
                    && next.start <= range.end + GAP_BYTES
                    && next.end - range.start <= RANGE_BYTES
                    && range.plain_bytes + next.plain_bytes <= plain_bytes =>
            {
                // Where segments contradict each other, a frame may end before one that begins before it.
                range.end = range.end.max(next.end);
                range.plain_bytes += next.plain_bytes;
                range.frames.extend(next.frames);
            }
            _ => ranges.push(next),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::format::pack::{Codec, PackKind};
    use crate::model::id::{ChunkId, PackId};

    /// A chunk of the frame `frame`, which lies at `offset` of a pack and is as long sealed as in plain.
    fn wanted(pack: u8, frame: u32, offset: u32, len: u32, by: u32) -> Wanted<u32> {
        let location = ChunkPlace {
            pack: PackId([pack; 16]),
            author: crate::model::author::Author::Reader,
            kind: PackKind::Data,
            frame,
            frame_offset: offset,
            sealed_len: len,
            plain_len: len,
            codec: Codec::Stored,
            offset: 0,
            length: 1,
        };
        Wanted { chunk: ChunkRef { id: ChunkId([0; 32]), length: 1 }, location, by }
    }

    /// For each range its bounds, and for each frame in it who wants it.
    fn joined(wanted: Vec<Wanted<u32>>, plain_bytes: u64) -> Vec<(Range<u64>, Vec<Vec<u32>>)> {
        let by = |frame: &Vec<Wanted<u32>>| frame.iter().map(|wanted| wanted.by).collect();
        let ranges = join_frames_of(wanted, plain_bytes);
        ranges.iter().map(|range| (range.start..range.end, range.frames.iter().map(by).collect())).collect()
    }

    #[test]
    fn a_frame_told_to_lie_in_another_takes_nothing_from_it() {
        let (long, inside) = (wanted(1, 0, 0, 1000, 0), wanted(1, 1, 20, 16, 1));
        assert_eq!(joined(vec![inside, long], u64::MAX), [(0..1000, vec![vec![0], vec![1]])]);
        // Nor is one that is told of in two ways taken for one.
        let (one, other) = (wanted(1, 0, 0, 1000, 0), wanted(1, 0, 0, 999, 1));
        assert_eq!(joined(vec![one, other], u64::MAX), [(0..1000, vec![vec![1], vec![0]])]);
    }

    #[test]
    fn frames_that_stand_close_together_are_fetched_together() {
        const M: u32 = 1 << 20;
        let gap = GAP_BYTES as u32;
        let all = u64::MAX;
        // In whatever order they are wanted; those of one frame stay in theirs.
        let mixed = vec![wanted(1, 1, M, M, 0), wanted(1, 0, 0, M, 3), wanted(1, 1, M, M, 1), wanted(1, 0, 0, M, 2)];
        assert_eq!(joined(mixed, all), [(0..u64::from(2 * M), vec![vec![3, 2], vec![0, 1]])]);
        // A small gap is fetched with them, a larger one is not.
        let near = vec![wanted(1, 0, 0, M, 0), wanted(1, 2, M + gap, M, 1)];
        assert_eq!(joined(near, all).len(), 1);
        let far = vec![wanted(1, 0, 0, M, 0), wanted(1, 2, M + gap + 1, M, 1)];
        assert_eq!(joined(far, all).len(), 2);
        // No range is longer than the longest, and none goes over two packs.
        let five = (0..5).map(|i| wanted(1, i, i * M, M, i)).collect();
        let lengths: Vec<u64> = joined(five, all).iter().map(|(range, _)| range.end - range.start).collect();
        assert_eq!(lengths, [RANGE_BYTES, u64::from(M)]);
        assert_eq!(joined(vec![wanted(1, 0, 0, M, 0), wanted(2, 1, M, M, 1)], all).len(), 2);
        // One that lies within another, as only contradicting segments tell, leaves room for both.
        let within = vec![wanted(1, 0, 0, M, 0), wanted(1, 1, 10, 20, 1)];
        assert_eq!(joined(within, all), [(0..u64::from(M), vec![vec![0], vec![1]])]);
        // Nor does more come out of one than is asked for; a frame that is more by itself comes alone.
        let three = (0..3).map(|i| wanted(1, i, i * M, M, i)).collect();
        assert_eq!(joined(three, u64::from(2 * M)).len(), 2);
        assert_eq!(joined(vec![wanted(1, 0, 0, M, 0)], 1).len(), 1);
    }

    #[test]
    fn windows_are_put_together_in_groups_of_bounded_bytes_and_number() {
        let window = |length, by| {
            let mut window = wanted(1, 0, 0, 100, by);
            window.location.codec = Codec::ZstdRecipes;
            window.chunk.length = length;
            window
        };
        let grouped = |wanted: Vec<Wanted<u32>>| -> Vec<Vec<u32>> {
            let batches = join(wanted, u64::MAX, 10);
            batches.iter().map(|batch| batch.wanted().map(|wanted| wanted.by).collect()).collect()
        };
        let windows = [4, 6, 1, 20, 3, 3].into_iter().zip(0..).map(|(length, by)| window(length, by));
        assert_eq!(grouped(windows.collect()), [vec![0, 1], vec![2], vec![3], vec![4, 5]]);
        let chunk_between = vec![window(1, 0), wanted(2, 0, 0, 9, 1), window(1, 2)];
        assert_eq!(grouped(chunk_between), [vec![1], vec![0, 2]]);
        let tiny: Vec<usize> = grouped((0..70).map(|by| window(0, by)).collect()).iter().map(Vec::len).collect();
        assert_eq!(tiny, [32, 32, 6]);
    }
}
