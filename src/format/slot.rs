//! What a key slot's age file holds.

use minicbor::Decoder;
use zeroize::Zeroizing;

use crate::crypto::derive::{ReaderKey, WriterKey};
use crate::crypto::sign::VerifyingKey;
use crate::format::FormatError;
use crate::format::wire::{encode_secret, read_array, read_bytes, read_map, read_secret, write_array};
use crate::model::id::RepositoryId;

const WHAT: &str = "a key slot";
/// Bytes of an encoded slot besides its label.
const ROOM: usize = 160;
/// Bytes that an encoded host takes besides its name.
const HOST_ROOM: usize = 9;

/// The root secret that a slot gives.
#[derive(Debug, Clone)]
pub enum RootKey {
    /// Can do everything.
    Reader(ReaderKey),
    /// Can back up and read nothing: the key of one writer.
    Writer(WriterKey),
}

impl RootKey {
    /// Returns what it can do.
    pub fn role(&self) -> Role {
        match self {
            RootKey::Reader(_) => Role::Reader,
            RootKey::Writer(_) => Role::Writer,
        }
    }
}

/// What the key of a slot can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Everything.
    Reader = 0,
    /// Back up, and read nothing.
    Writer = 1,
}

impl Role {
    /// Reads the number that stands for a role.
    pub fn from_number(number: u64) -> Option<Self> {
        [Role::Reader, Role::Writer].into_iter().find(|role| *role as u64 == number)
    }
}

/// A key slot's content.
#[derive(Debug, Clone)]
pub struct Slot {
    /// The repository it belongs to.
    pub repository: RepositoryId,
    /// The key it gives.
    pub root: RootKey,
    /// Checks the repository's signatures.
    pub verifying_key: VerifyingKey,
    /// What the slot is for, chosen by its maker.
    pub label: String,
    /// The hosts that a writer's snapshots may state, for it to know before it begins; any when there are none. What counts
    /// is what the keyring says.
    pub hosts: Vec<String>,
}

impl Slot {
    /// Describes a slot that gives the reader key.
    pub fn of_reader(repository: RepositoryId, reader: &ReaderKey, label: &str) -> Self {
        let (root, verifying_key) = (RootKey::Reader(reader.clone()), reader.verifying_key(repository));
        Self { repository, root, verifying_key, label: label.to_owned(), hosts: Vec::new() }
    }

    /// Encodes the content to be sealed with age.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let (role, secret) = match &self.root {
            RootKey::Reader(key) => (self.root.role(), &key.0),
            RootKey::Writer(key) => (self.root.role(), &key.0),
        };
        let room = self.hosts.iter().map(|host| host.len() + HOST_ROOM).sum::<usize>() + self.label.len() + ROOM;
        let fields = if self.hosts.is_empty() { 6 } else { 7 };
        encode_secret(room, |e| {
            e.map(fields)?.u8(0)?.u64(1)?.u8(1)?.u8(role as u8)?.u8(2)?.bytes(secret.expose())?;
            e.u8(3)?.bytes(&self.repository.0)?.u8(4)?.bytes(&self.verifying_key.0)?.u8(5)?.str(&self.label)?;
            if !self.hosts.is_empty() {
                write_array(e.u8(6)?, &self.hosts, |e, host| e.str(host).map(drop))?;
            }
            Ok(())
        })
    }

    /// Decodes a slot's content.
    ///
    /// # Errors
    /// [`FormatError`] when a field is missing or a newer program wrote it.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let (mut version, mut role, mut secret, mut repository, mut verifying_key) = (0, 0, None, None, None);
        let (mut label, mut hosts) = (String::new(), Vec::new());
        read_map(WHAT, &mut Decoder::new(bytes), |key, d| {
            match key {
                0 => version = d.u64()?,
                1 => role = d.u64()?,
                2 => secret = Some(read_secret(d)?),
                3 => repository = Some(RepositoryId(read_bytes(d)?)),
                4 => verifying_key = Some(VerifyingKey(read_bytes(d)?)),
                5 => label = d.str()?.to_owned(),
                6 => hosts = read_array(d, |d| d.str().map(str::to_owned))?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if version != 1 {
            return Err(FormatError::Newer { what: WHAT, version });
        }
        let (Some(secret), Some(repository), Some(verifying_key)) = (secret, repository, verifying_key) else {
            return Err(FormatError::invalid(WHAT, "a field is missing"));
        };
        let root = match Role::from_number(role) {
            Some(Role::Reader) => RootKey::Reader(ReaderKey(secret)),
            Some(Role::Writer) => RootKey::Writer(WriterKey(secret)),
            None => return Err(FormatError::invalid(WHAT, format!("role {role}"))),
        };
        Ok(Self { repository, root, verifying_key, label, hosts })
    }
}
