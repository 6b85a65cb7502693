//! The names that stood in a directory of the target before anything was put into it, in one piece of memory.

/// Sorted names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Names {
    /// Takes names in any order.
    pub fn new(mut names: Vec<Vec<u8>>) -> Self {
        names.sort_unstable();
        let mut kept = Self::default();
        for name in names {
            kept.bytes.extend_from_slice(&name);
            kept.ends.push(kept.bytes.len());
        }
        kept
    }

    /// Returns the name at a position of the order, or `None` behind the last.
    pub fn get(&self, at: usize) -> Option<&[u8]> {
        let end = *self.ends.get(at)?;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.bytes[start..end])
    }

    /// Tells whether a name is among them, byte for byte.
    pub fn contains(&self, name: &[u8]) -> bool {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(middle).map(|found| found.cmp(name)) {
                Some(std::cmp::Ordering::Less) => low = middle + 1,
                Some(std::cmp::Ordering::Greater) | None => high = middle,
                Some(std::cmp::Ordering::Equal) => return true,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_byte_for_byte() {
        let names = Names::new(["b", "", "abc", "a", "B"].map(|name| name.as_bytes().to_vec()).to_vec());
        let sorted: Vec<&[u8]> = (0..).map_while(|at| names.get(at)).collect();
        assert_eq!(sorted, [&b""[..], b"B", b"a", b"abc", b"b"]);
        assert!(sorted.iter().all(|name| names.contains(name)));
        assert!(!names.contains(b"ab") && !names.contains(b"A") && !names.contains(b"c"));
        assert!(!Names::default().contains(b""));
    }
}
