//! SHA-256: of packs, so that who cannot open one can tell which copy of it is right, and of a stream, to compare a program with
//! what a page says.

use std::io::{self, Read};

use aws_lc_rs::digest::{Context, SHA256, digest};

/// A SHA-256 that is taken of an object while it passes.
#[derive(Clone)]
pub struct Sha256(Context);

impl Default for Sha256 {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl std::fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sha256")
    }
}

impl Sha256 {
    /// Takes what comes next.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the SHA-256 of all that came.
    pub fn finish(self) -> [u8; 32] {
        self.0.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

/// Returns the SHA-256 of a whole object.
pub fn sha256_of(object: &[u8]) -> [u8; 32] {
    digest(&SHA256, object).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// Returns the SHA-256 of everything that `reader` gives, in hexadecimal digits.
///
/// # Errors
/// What the reader reports.
pub fn sha256(mut reader: impl Read) -> io::Result<String> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => context.update(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_the_one_that_sha256sum_prints() {
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&b"abc"[..]).expect("read"), known);
        assert_eq!(crate::model::id::hex(&sha256_of(b"abc")), known);
        let mut passing = Sha256::default();
        [&b"a"[..], b"", b"bc"].into_iter().for_each(|bytes| passing.update(bytes));
        assert_eq!(crate::model::id::hex(&passing.finish()), known);
    }
}
