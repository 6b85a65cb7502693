//! A sample of bounded size: values by keys that are random numbers, of which every so manyth is kept, the fewer the more there are.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Keys are random already.
#[derive(Debug, Default, Clone, Copy)]
pub struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are numbers")
    }

    fn write_u64(&mut self, key: u64) {
        // The table looks at the highest bits and at the lowest, and of these the sample has taken some.
        self.0 = key.rotate_right(24);
    }
}

/// Values of those keys whose lowest bits are zero, at most so many.
#[derive(Debug, Clone)]
pub struct Sample<V> {
    values: HashMap<u64, V, BuildHasherDefault<AsIs>>,
    /// How many of the lowest bits are zero in each key that is kept.
    bits: u32,
    most: usize,
}

impl<V> Sample<V> {
    /// Makes an empty one of at most `most` values, which keeps one key in 2^`bits` to begin with.
    pub fn new(most: usize, bits: u32) -> Self {
        Self { values: HashMap::default(), bits, most }
    }

    /// Tells whether the value of a key would be kept.
    pub fn takes(&self, key: u64) -> bool {
        key.trailing_zeros() >= self.bits
    }

    /// Returns the value of a key, if it is kept.
    pub fn get(&self, key: u64) -> Option<&V> {
        if self.takes(key) { self.values.get(&key) } else { None }
    }

    /// Returns the value of a key to be changed, first made from `new`; `None` when it is not kept.
    pub fn entry(&mut self, key: u64, new: impl FnOnce() -> V) -> Option<&mut V> {
        if !self.takes(key) {
            return None;
        }
        if self.values.len() >= self.most && !self.values.contains_key(&key) {
            while self.values.len() >= self.most {
                self.bits += 1;
                let bits = self.bits;
                self.values.retain(|key, _| key.trailing_zeros() >= bits);
            }
            if !self.takes(key) {
                return None;
            }
        }
        Some(self.values.entry(key).or_insert_with(new))
    }

    /// Returns how many of the lowest bits are zero in each key that is kept.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// Returns the values that are kept, in no order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u64, &V)> {
        self.values.iter().map(|(key, value)| (*key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_keeps_its_bound_and_what_it_keeps_is_right() {
        let key = |i: u64| u64::from_le_bytes(blake3::hash(&i.to_le_bytes()).as_bytes()[..8].try_into().expect("8"));
        let mut sample = Sample::new(100, 2);
        for i in 0..10_000 {
            let before = sample.takes(key(i));
            let kept = sample.entry(key(i), || i).copied();
            assert!(kept.is_none() || before && kept == Some(i));
        }
        assert!((25..=100).contains(&sample.iter().len()), "{}", sample.iter().len());
        assert!(sample.bits() >= 6);
        for i in 0..10_000 {
            assert_eq!(sample.get(key(i)).is_some(), sample.takes(key(i)), "{i}");
        }
        *sample.entry(1 << 60, || 1).expect("all its low bits are zero") += 5;
        assert_eq!(sample.get(1 << 60), Some(&6));
    }

    #[test]
    fn the_same_key_again_and_again_is_one() {
        let mut sample = Sample::new(2, 0);
        for _ in 0..1000 {
            *sample.entry(0, || 0u32).expect("all its bits are zero") += 1;
        }
        assert_eq!((sample.bits(), sample.get(0)), (0, Some(&1000)));
    }
}
