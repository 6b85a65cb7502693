//! Names of what is not complete: nobody can guess them, and a later restore knows its own from anybody else's.
//!
//! A name is 64 random bits and a check of them. Nobody can make the file before it is made here, to read what is
//! restored into it; and a file that somebody called `.coffre-restore-notes` is never taken for a leftover.

use std::collections::HashMap;
use std::sync::Mutex;

/// Begins the name of everything that is not complete.
pub const TEMPORARY_PREFIX: &[u8] = b".coffre-restore-";

/// Makes a name.
pub(super) fn name() -> Vec<u8> {
    let random = getrandom::u64().expect("the operating system gives random bytes");
    [TEMPORARY_PREFIX, format!("{random:016x}{:016x}", check(random)).as_bytes()].concat()
}

/// Tells whether a name was made by [`name`], in this run or another.
pub(super) fn is_one(name: &[u8]) -> bool {
    let digits = name.strip_prefix(TEMPORARY_PREFIX).and_then(|digits| std::str::from_utf8(digits).ok());
    let Some((random, checked)) = digits.filter(|digits| digits.len() == 32).and_then(|d| d.split_at_checked(16))
    else {
        return false;
    };
    u64::from_str_radix(random, 16).is_ok_and(|random| checked == format!("{:016x}", check(random)))
}

fn check(random: u64) -> u64 {
    let hash = blake3::hash(&[b"coffre restore temporary".as_slice(), &random.to_be_bytes()].concat());
    u64::from_be_bytes(hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes"))
}

/// Names that are in use, each with the directory it is in.
#[derive(Debug, Default)]
pub(super) struct InUse(Mutex<HashMap<Vec<u8>, Vec<u8>>>);

impl InUse {
    /// Notes a name that was just made.
    pub(super) fn add(&self, directory: &[u8], name: &[u8]) {
        self.0.lock().expect("no panic while held").insert(name.to_vec(), directory.to_vec());
    }

    /// Forgets a name, which is gone or is a file's own now.
    pub(super) fn remove(&self, name: &[u8]) {
        self.0.lock().expect("no panic while held").remove(name);
    }

    /// Takes all that are left: directories and names.
    pub(super) fn take(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let left = std::mem::take(&mut *self.0.lock().expect("no panic while held"));
        left.into_iter().map(|(name, directory)| (directory, name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_made_here_are_known_as_such() {
        let (one, other) = (name(), name());
        assert_ne!(one, other);
        assert!(is_one(&one) && is_one(&other));
        let mut changed = one.clone();
        let last = changed.last_mut().expect("not empty");
        *last = if *last == b'0' { b'1' } else { b'0' };
        assert!(!is_one(&changed));
        for users in [".coffre-restore-x", ".coffre-restore-", "x", ".coffre-restore-00000000000000000000000000000000"]
        {
            assert!(!is_one(users.as_bytes()), "{users}");
        }
        assert!(!is_one(&one[1..]) && !is_one(&[&one[..], b"0"].concat()));
    }
}
