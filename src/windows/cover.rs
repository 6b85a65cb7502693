//! Covers: which parts of chunks some bytes consist of, from the first byte to the last.

/// A part of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch<K> {
    /// The chunk.
    pub key: K,
    /// Where in the chunk it begins.
    pub offset: u32,
    /// Its length, not zero.
    pub length: u32,
}

/// Parts of chunks, one behind the other; those that touch in their chunk are one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cover<K> {
    stretches: Vec<Stretch<K>>,
    /// Where each ends in what is covered.
    ends: Vec<u32>,
}

impl<K> Default for Cover<K> {
    fn default() -> Self {
        Self { stretches: Vec::new(), ends: Vec::new() }
    }
}

impl<K: Copy + PartialEq> Cover<K> {
    /// Makes the cover of bytes that are a whole chunk.
    pub fn of_chunk(key: K, length: u32) -> Self {
        let mut cover = Self::default();
        cover.push(Stretch { key, offset: 0, length });
        cover
    }

    /// Returns how many bytes are covered.
    pub fn length(&self) -> u32 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Returns the parts, in order.
    pub fn stretches(&self) -> &[Stretch<K>] {
        &self.stretches
    }

    /// Appends a part; one of no length is none.
    pub fn push(&mut self, stretch: Stretch<K>) {
        let Stretch { key, offset, length } = stretch;
        if length == 0 {
            return;
        }
        let end = self.length() + length;
        match self.stretches.last_mut().filter(|last| last.key == key && last.offset + last.length == offset) {
            Some(last) => {
                last.length += length;
                *self.ends.last_mut().expect("as many as stretches") = end;
            }
            None => {
                self.stretches.push(stretch);
                self.ends.push(end);
            }
        }
    }

    /// Gives the parts of the bytes `from` to `to`, which are within what is covered, to `take`.
    pub fn slice(&self, from: u32, to: u32, mut take: impl FnMut(Stretch<K>)) {
        let first = self.ends.partition_point(|end| *end <= from);
        for (stretch, end) in self.stretches[first..].iter().zip(&self.ends[first..]) {
            let start = end - stretch.length;
            let (begin, stop) = (start.max(from), (*end).min(to));
            if begin >= stop {
                return;
            }
            take(Stretch { key: stretch.key, offset: stretch.offset + (begin - start), length: stop - begin });
        }
    }

    /// Returns the chunks, each once, in order of first use.
    pub fn keys(&self) -> Vec<K>
    where
        K: Eq + std::hash::Hash,
    {
        let mut seen = std::collections::HashSet::new();
        self.stretches.iter().map(|stretch| stretch.key).filter(|key| seen.insert(*key)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(key: char, offset: u32, length: u32) -> Stretch<char> {
        Stretch { key, offset, length }
    }

    #[test]
    fn parts_that_touch_are_one_and_any_bytes_can_be_asked_for() {
        let mut cover = Cover::default();
        for part in
            [stretch('a', 5, 10), stretch('a', 15, 5), stretch('b', 0, 0), stretch('b', 7, 3), stretch('a', 0, 1)]
        {
            cover.push(part);
        }
        assert_eq!(cover.stretches(), [stretch('a', 5, 15), stretch('b', 7, 3), stretch('a', 0, 1)]);
        assert_eq!((cover.length(), cover.keys()), (19, vec!['a', 'b']));
        let slice = |from, to| {
            let mut parts = Vec::new();
            cover.slice(from, to, |part| parts.push(part));
            parts
        };
        assert_eq!(slice(0, 19), cover.stretches());
        assert_eq!(slice(3, 16), [stretch('a', 8, 12), stretch('b', 7, 1)]);
        assert_eq!(slice(17, 19), [stretch('b', 9, 1), stretch('a', 0, 1)]);
        assert_eq!(slice(15, 15), []);
        assert_eq!(slice(4, 4), []);
        let all = |at: u32| slice(at, at + 1);
        let bytes: Vec<_> = (0..19).flat_map(all).map(|part| (part.key, part.offset, part.length)).collect();
        assert_eq!(bytes.len(), 19);
        assert_eq!((bytes[14], bytes[15], bytes[18]), (('a', 19, 1), ('b', 7, 1), ('a', 0, 1)));
    }
}
