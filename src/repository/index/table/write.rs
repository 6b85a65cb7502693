//! Writing a table: from segments, or from smaller tables.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::crypto::session::SessionHeader;
use crate::format::index::PackEntry;
use crate::format::pack::Codec;
use crate::model::author::Author;
use crate::model::id::SegmentId;
use crate::repository::index::table::layout::{
    BLOCK_LEN, BUFFER_LEN, CHECKSUM_AT, CHECKSUM_LEN, CHUNKS_A_BLOCK, FRAME_LEN, Layout, PLACE_LEN, u32_at,
};
use crate::repository::index::table::search::{block_of, filter_bits};
use crate::repository::index::table::sound::summed_up;
use crate::repository::index::table::{PackInfo, Row, Table};

/// Gathers packs and writes a table.
#[derive(Default)]
pub struct TableWriter {
    segments: Vec<SegmentId>,
    pub(super) sessions: Vec<Arc<SessionHeader>>,
    /// Where each header stands in `sessions`.
    session_places: HashMap<Arc<SessionHeader>, usize>,
    packs: Vec<u8>,
    pack_count: usize,
    frames: Vec<u8>,
    frame_count: u32,
}

impl TableWriter {
    /// Notes that the table covers `segment`.
    pub fn push_segment(&mut self, segment: SegmentId) {
        self.segments.push(segment);
    }

    /// Adds a pack and its frames, as `author` tells of them in the segment that was pushed last, and hands each of its chunks to `row`.
    pub fn push_pack(&mut self, author: Author, pack: &PackEntry, mut row: impl FnMut(Row)) {
        let mut frame_offset = 0;
        for (number, frame) in (0u32..).zip(&pack.directory.frames) {
            self.push_frame(number, frame_offset, frame.sealed_len, frame.plain_len, frame.codec);
            frame_offset += frame.sealed_len;
            let mut offset = 0;
            for &(key, length) in &frame.chunks {
                row(Row { key, frame: self.frame_count - 1, offset, length });
                offset += length;
            }
        }
        self.push_pack_info(&pack.info(author), self.segments.len().saturating_sub(1));
    }

    /// Adds all packs and frames of `table`, whose rows then count frames from the returned number.
    fn push_table(&mut self, table: &Table) -> u32 {
        let first_frame = self.frame_count;
        let first_pack = self.pack_count as u32;
        let first_segment = self.segments.len();
        self.segments.extend(&table.segments);
        (0..table.layout.packs)
            .for_each(|row| self.push_pack_info(&table.pack_at(row), first_segment + table.segment_at(row)));
        let frames = &table.map[table.layout.frames_at()..][..table.layout.frames * FRAME_LEN];
        for frame in frames.chunks_exact(FRAME_LEN) {
            let pack = u32_at(frame, 0) + first_pack;
            self.frames.extend_from_slice(&pack.to_le_bytes());
            self.frames.extend_from_slice(&frame[4..]);
            self.frame_count += 1;
        }
        first_frame
    }

    fn push_frame(&mut self, number: u32, offset: u32, sealed_len: u32, plain_len: u32, codec: Codec) {
        let pack = self.pack_count as u32;
        for value in [pack, number, offset, sealed_len, plain_len | (codec as u32) << 28] {
            self.frames.extend_from_slice(&value.to_le_bytes());
        }
        self.frame_count += 1;
    }

    fn push_pack_info(&mut self, info: &PackInfo, segment: usize) {
        let session = self.session_place(&info.header);
        self.packs.extend_from_slice(&info.id.0);
        self.packs.extend_from_slice(&info.commitment);
        for value in [info.size, session as u32, info.frames, info.kind as u32] {
            self.packs.extend_from_slice(&value.to_le_bytes());
        }
        self.packs.extend_from_slice(&info.locked_until.to_le_bytes());
        self.packs.extend_from_slice(&(segment as u32).to_le_bytes());
        self.packs.extend_from_slice(&info.digest);
        self.packs.extend_from_slice(&info.author.to_bytes());
        self.pack_count += 1;
    }

    pub(super) fn session_place(&mut self, header: &Arc<SessionHeader>) -> usize {
        let next = self.sessions.len();
        let place = *self.session_places.entry(header.clone()).or_insert(next);
        if place == next {
            self.sessions.push(header.clone());
        }
        place
    }

    /// Writes the table to `file`, which is empty and can be read as well. `rows` gives `chunks` rows in ascending order of keys.
    pub fn finish(self, file: &File, chunks: usize, rows: impl Iterator<Item = Row>) -> io::Result<()> {
        let layout = Layout {
            segments: self.segments.len(),
            sessions: self.sessions.len(),
            packs: self.pack_count,
            frames: self.frame_count as usize,
            blocks: chunks.div_ceil(CHUNKS_A_BLOCK).max(1),
            chunks,
        };
        file.set_len(layout.len() as u64)?;
        // Keys ascend and choose their filter block by their high bits, so all sections are written front to back.
        let [mut head, mut filter, mut keys, mut places] =
            layout.sections().map(|start| SectionWriter::new(file, start));
        self.segments.iter().try_for_each(|segment| head.write(&segment.0))?;
        self.sessions.iter().try_for_each(|session| head.write(&session.to_bytes()))?;
        head.write(&self.packs)?;
        head.write(&self.frames)?;
        let head_len = layout.frames_at() + layout.frames * FRAME_LEN;
        head.write(&[0; BLOCK_LEN][..layout.filter_at() - head_len])?;

        let mut block = [0u8; BLOCK_LEN];
        let mut current = 0;
        let mut written = 0;
        for row in rows {
            let wanted = block_of(&row.key, layout.blocks);
            while current < wanted {
                filter.write(&block)?;
                block = [0; BLOCK_LEN];
                current += 1;
            }
            for bit in filter_bits(&row.key) {
                block[bit / 8] |= 1 << (bit % 8);
            }
            keys.write(&row.key.0)?;
            let mut place = [0; PLACE_LEN];
            for (slot, value) in place.chunks_exact_mut(4).zip([row.frame, row.offset, row.length]) {
                slot.copy_from_slice(&value.to_le_bytes());
            }
            places.write(&place)?;
            written += 1;
        }
        while current < layout.blocks {
            filter.write(&block)?;
            block = [0; BLOCK_LEN];
            current += 1;
        }
        assert_eq!(written, chunks, "as many rows as announced");
        for mut section in [head, filter, keys, places] {
            section.flush()?;
        }
        let sums = summed_up(file, &layout, layout.summed())?;
        let sums: Vec<u8> = sums.into_iter().flat_map(|(_, sum)| sum).collect();
        file.write_all_at(&sums, layout.sums_at() as u64)?;
        let mut header = layout.encode();
        header[CHECKSUM_AT..][..CHECKSUM_LEN].copy_from_slice(layout.checksum(&sums).as_bytes());
        file.write_all_at(&header, 0)
    }
}

/// Writes one section of a file front to back, beside others.
struct SectionWriter<'a> {
    file: &'a File,
    at: u64,
    buffer: Vec<u8>,
}

impl<'a> SectionWriter<'a> {
    fn new(file: &'a File, at: usize) -> Self {
        Self { file, at: at as u64, buffer: Vec::with_capacity(BUFFER_LEN) }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(BUFFER_LEN) {
            if self.buffer.len() + piece.len() > BUFFER_LEN {
                self.flush()?;
            }
            self.buffer.extend_from_slice(piece);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.at)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// Writes a table of the given packs, as `author` tells of them, to an empty file.
pub fn write_table(file: &File, segments: &[SegmentId], author: Author, packs: &[PackEntry]) -> io::Result<()> {
    let mut writer = TableWriter::default();
    segments.iter().for_each(|segment| writer.push_segment(*segment));
    let frames = packs.iter().flat_map(|pack| &pack.directory.frames);
    writer.frames.reserve_exact(frames.clone().count() * FRAME_LEN);
    let mut rows = Vec::with_capacity(frames.map(|frame| frame.chunks.len()).sum());
    packs.iter().for_each(|pack| writer.push_pack(author, pack, |row| rows.push(row)));
    rows.sort_unstable();
    writer.finish(file, rows.len(), rows.into_iter())
}

/// Writes a table with everything that `tables` hold, which are sound, to an empty file, in memory that does not grow with their
/// chunks but for a sum for each page.
pub fn merge_tables(file: &File, tables: &[Arc<Table>]) -> io::Result<()> {
    let mut writer = TableWriter::default();
    let mut heads: Vec<_> = tables
        .iter()
        .map(|table| {
            let first = writer.push_table(table);
            let mut rows = table.rows().map(move |row| Row { frame: row.frame + first, ..row });
            (rows.next(), rows)
        })
        .collect();
    let chunks = tables.iter().map(|table| table.layout.chunks).sum();
    let merged = std::iter::from_fn(move || {
        let (_, least) = heads.iter().enumerate().filter_map(|(i, (head, _))| Some((head.as_ref()?, i))).min()?;
        let (head, rows) = &mut heads[least];
        std::mem::replace(head, rows.next())
    });
    writer.finish(file, chunks, merged)
}
