//! Names of owners and groups, asked once per number or name: behind a name there may be a slow directory service.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::hash::Hash;
use std::os::unix::ffi::OsStrExt;
use std::sync::{PoisonError, RwLock};

/// Names and numbers of users and groups as this host knows them, cached for good.
#[derive(Debug, Default)]
pub struct Owners {
    user_names: RwLock<HashMap<u32, Option<Vec<u8>>>>,
    group_names: RwLock<HashMap<u32, Option<Vec<u8>>>>,
    users: RwLock<HashMap<Vec<u8>, Option<u32>>>,
    groups: RwLock<HashMap<Vec<u8>, Option<u32>>>,
}

impl Owners {
    /// Returns the name of user `uid`, if the host knows it.
    pub fn user_name(&self, uid: u32) -> Option<Vec<u8>> {
        cached(&self.user_names, &uid, || Some(uzers::get_user_by_uid(uid)?.name().as_bytes().to_vec()))
    }

    /// Returns the name of group `gid`, if the host knows it.
    pub fn group_name(&self, gid: u32) -> Option<Vec<u8>> {
        cached(&self.group_names, &gid, || Some(uzers::get_group_by_gid(gid)?.name().as_bytes().to_vec()))
    }

    /// Returns the number of the user called `name`, if the host knows it.
    pub fn user_id(&self, name: &[u8]) -> Option<u32> {
        cached(&self.users, name, || Some(uzers::get_user_by_name(OsStr::from_bytes(name))?.uid()))
    }

    /// Returns the number of the group called `name`, if the host knows it.
    pub fn group_id(&self, name: &[u8]) -> Option<u32> {
        cached(&self.groups, name, || Some(uzers::get_group_by_name(OsStr::from_bytes(name))?.gid()))
    }
}

fn cached<K, Q, V>(known: &RwLock<HashMap<K, Option<V>>>, key: &Q, ask: impl FnOnce() -> Option<V>) -> Option<V>
where
    K: Hash + Eq + std::borrow::Borrow<Q>,
    Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    V: Clone,
{
    if let Some(answer) = known.read().unwrap_or_else(PoisonError::into_inner).get(key) {
        return answer.clone();
    }
    let answer = ask();
    known.write().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), answer.clone());
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_both_ways_and_a_stranger_is_not() {
        let owners = Owners::default();
        for _ in 0..2 {
            assert_eq!(owners.user_name(0).as_deref(), Some(b"root".as_slice()));
            assert_eq!(owners.user_id(b"root"), Some(0));
            assert_eq!(owners.group_id(b"root"), Some(0));
            assert_eq!(owners.user_name(3_999_999_999), None);
            assert_eq!(owners.user_id(b"no such user"), None);
        }
    }
}
