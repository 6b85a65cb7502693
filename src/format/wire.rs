//! Reading helpers shared by the decoders: a bounds-checked cursor for tables, field loops for CBOR records.

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};
use zeroize::Zeroizing;

use crate::crypto::secret::Secret;
use crate::format::FormatError;

/// A CBOR map without fields; the number of up to 23 fields is added to it.
const EMPTY_MAP: u8 = 0xa0;

/// Reads fixed-size values from the front of a slice; never past its end.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// Starts reading `what` from `bytes`.
    pub(crate) fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    /// Takes the next `len` bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], FormatError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(FormatError::Truncated(self.what))?;
        self.rest = rest;
        Ok(head)
    }

    /// Takes the next `N` bytes as an array.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        Ok(self.bytes(N)?.try_into().expect("as many as asked for"))
    }

    pub(crate) fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Takes a LEB128 number.
    pub(crate) fn varint(&mut self) -> Result<u64, FormatError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(FormatError::invalid(self.what, "a number is longer than 64 bits"))
    }

    /// Takes a LEB128 number that counts things of which each takes at least one more byte of input.
    pub(crate) fn length(&mut self) -> Result<usize, FormatError> {
        let value = self.varint()?;
        match usize::try_from(value) {
            Ok(value) if value <= self.rest.len() => Ok(value),
            _ => Err(FormatError::Truncated(self.what)),
        }
    }

    /// Checks that `count` items of `size` bytes follow, so that room for them may be reserved.
    pub(crate) fn expect_items(&self, count: usize, size: usize) -> Result<(), FormatError> {
        match count.checked_mul(size) {
            Some(total) if total <= self.rest.len() => Ok(()),
            _ => Err(FormatError::Truncated(self.what)),
        }
    }

    /// Takes the mark that tells what follows.
    pub(crate) fn mark(&mut self, mark: &[u8; 8]) -> Result<(), FormatError> {
        if self.array::<8>()? == *mark { Ok(()) } else { Err(FormatError::WrongMark(self.what)) }
    }

    /// Returns what has not been read.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Ends reading; bytes left over are an error.
    pub(crate) fn finish(self) -> Result<(), FormatError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(FormatError::invalid(self.what, format!("{} bytes are left over", self.rest.len())))
        }
    }
}

/// Reads a CBOR map with integer keys; `field` is called for each key and returns whether it knew it.
///
/// Unknown keys are skipped: a newer program may have added them, and says in `config` when ignoring them is not safe.
pub(crate) fn read_map<'b>(
    what: &'static str,
    decoder: &mut Decoder<'b>,
    mut field: impl FnMut(u64, &mut Decoder<'b>) -> Result<bool, minicbor::decode::Error>,
) -> Result<(), FormatError> {
    let cbor = |error: minicbor::decode::Error| FormatError::invalid(what, error);
    let len = decoder.map().map_err(cbor)?.ok_or_else(|| FormatError::invalid(what, "a map without length"))?;
    for _ in 0..len {
        let key = decoder.u64().map_err(cbor)?;
        if !field(key, decoder).map_err(cbor)? {
            decoder.skip().map_err(cbor)?;
        }
    }
    Ok(())
}

/// Begins an array that must have `len` items.
pub(super) fn expect_array(d: &mut Decoder<'_>, len: u64) -> Result<(), minicbor::decode::Error> {
    match d.array()? {
        Some(found) if found == len => Ok(()),
        _ => Err(minicbor::decode::Error::message("an array has the wrong length")),
    }
}

/// Reads an array of items.
pub(crate) fn read_array<'b, T>(
    decoder: &mut Decoder<'b>,
    mut item: impl FnMut(&mut Decoder<'b>) -> Result<T, minicbor::decode::Error>,
) -> Result<Vec<T>, minicbor::decode::Error> {
    let len = decoder.array()?.ok_or_else(|| minicbor::decode::Error::type_mismatch(Type::ArrayIndef))?;
    let mut items = Vec::new();
    for _ in 0..len {
        items.push(item(decoder)?);
    }
    Ok(items)
}

/// Reads a byte string of items of `N` bytes each.
pub(super) fn read_items<const N: usize, T>(
    d: &mut Decoder<'_>,
    item: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, minicbor::decode::Error> {
    let (items, rest) = d.bytes()?.as_chunks::<N>();
    match rest.is_empty() {
        true => Ok(items.iter().copied().map(item).collect()),
        false => Err(minicbor::decode::Error::message("an id is cut off")),
    }
}

/// Reads a byte string of exactly `N` bytes.
pub(crate) fn read_bytes<const N: usize>(decoder: &mut Decoder<'_>) -> Result<[u8; N], minicbor::decode::Error> {
    decoder.bytes()?.try_into().map_err(|_| minicbor::decode::Error::message("a byte string has the wrong length"))
}

/// Reads a byte string that is a key, straight into memory that is wiped.
pub(super) fn read_secret(decoder: &mut Decoder<'_>) -> Result<Secret, minicbor::decode::Error> {
    Secret::from_slice(decoder.bytes()?).ok_or_else(|| minicbor::decode::Error::message("a key has the wrong length"))
}

/// Encodes into a vector, which cannot fail.
pub(crate) fn encode(
    write: impl FnOnce(
        &mut minicbor::Encoder<&mut Vec<u8>>,
    ) -> Result<(), minicbor::encode::Error<std::convert::Infallible>>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut minicbor::Encoder::new(&mut bytes)).expect("writing to memory does not fail");
    bytes
}

/// An encoder that wrote a field's value, or why it could not.
pub(crate) type Written<'e, 'v> =
    Result<&'e mut Encoder<&'v mut Vec<u8>>, minicbor::encode::Error<std::convert::Infallible>>;

/// A CBOR map with integer keys, written field by field; its length is written last, so it is what was written.
pub(crate) struct Record<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    fields: u8,
}

impl<'a> Record<'a> {
    /// Begins a record at the end of `out`.
    pub(crate) fn begin(out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        out.push(EMPTY_MAP);
        Self { out, start, fields: 0 }
    }

    /// Appends a field; `write` writes exactly one value.
    pub(crate) fn field(
        &mut self,
        key: u8,
        write: impl for<'e, 'v> FnOnce(&'e mut Encoder<&'v mut Vec<u8>>) -> Written<'e, 'v>,
    ) -> &mut Self {
        let mut encoder = Encoder::new(&mut *self.out);
        encoder.u8(key).and_then(write).expect("writing to memory does not fail");
        self.fields += 1;
        self
    }

    /// Appends a field that is there for `Some` alone.
    pub(crate) fn field_if<T>(
        &mut self,
        key: u8,
        value: Option<T>,
        write: impl for<'e, 'v> FnOnce(&'e mut Encoder<&'v mut Vec<u8>>, T) -> Written<'e, 'v>,
    ) -> &mut Self {
        match value {
            Some(value) => self.field(key, |e| write(e, value)),
            None => self,
        }
    }

    /// Completes the record.
    ///
    /// # Panics
    /// With more than 23 fields, whose number would not fit into the one byte kept for it.
    pub(crate) fn finish(&mut self) {
        assert!(self.fields < 24, "a record has at most 23 fields");
        self.out[self.start] = EMPTY_MAP + self.fields;
    }
}

/// Encodes a record into a vector of its own.
pub(crate) fn encode_record(write: impl FnOnce(&mut Record<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut record = Record::begin(&mut bytes);
    write(&mut record);
    record.finish();
    bytes
}

/// Writes an array of items.
pub(crate) fn write_array<'e, 'v, T>(
    e: &'e mut Encoder<&'v mut Vec<u8>>,
    items: &[T],
    mut item: impl FnMut(&mut Encoder<&'v mut Vec<u8>>, &T) -> EncodeResult,
) -> Written<'e, 'v> {
    e.array(items.len() as u64)?;
    items.iter().try_for_each(|it| item(e, it))?;
    Ok(e)
}

/// Encodes a secret of at most `len` bytes, framing included, into memory that is wiped. It is reserved ahead, because
/// a vector that grows leaves copies behind.
///
/// # Panics
/// When it is longer.
pub(crate) fn encode_secret(
    len: usize,
    write: impl FnOnce(
        &mut minicbor::Encoder<&mut Vec<u8>>,
    ) -> Result<(), minicbor::encode::Error<std::convert::Infallible>>,
) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(len));
    let reserved = bytes.capacity();
    write(&mut minicbor::Encoder::new(&mut *bytes)).expect("writing to memory does not fail");
    assert_eq!(bytes.capacity(), reserved, "a secret fits the memory reserved for it");
    bytes
}

/// The error type of encoders into memory.
pub(crate) type EncodeResult = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::write_varint;

    #[test]
    fn varints_round_trip_and_end() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            write_varint(value, &mut bytes);
            let mut cursor = Cursor::new("test", &bytes);
            assert_eq!(cursor.varint(), Ok(value));
            assert_eq!(cursor.finish(), Ok(()));
        }
        assert!(Cursor::new("test", &[0xff; 11]).varint().is_err());
        assert!(Cursor::new("test", &[0x80]).varint().is_err());
    }

    #[test]
    fn a_record_counts_the_fields_that_were_written() {
        let mut bytes = vec![7];
        let mut record = Record::begin(&mut bytes);
        record.field(0, |e| e.u64(300)).field_if(1, None::<u8>, |e, value| e.u8(value));
        record.field_if(2, Some("x"), |e, value| e.str(value)).finish();
        assert_eq!(bytes, [7, 0xa2, 0, 0x19, 1, 44, 2, 0x61, b'x']);
        let (mut seen, mut decoder) = (Vec::new(), Decoder::new(&bytes[1..]));
        let field = |key, d: &mut Decoder<'_>| d.skip().map(|()| seen.push(key)).map(|()| true);
        assert_eq!(read_map("test", &mut decoder, field), Ok(()));
        assert_eq!((seen, decoder.position()), (vec![0, 2], 8));
        assert_eq!(encode_record(|_| {}), [0xa0]);
    }

    #[test]
    #[should_panic(expected = "fits the memory reserved")]
    fn a_secret_never_leaves_a_copy_behind_by_growing() {
        let write = |e: &mut minicbor::Encoder<&mut Vec<u8>>| e.bytes(&[1; 32]).map(drop);
        assert_eq!(encode_secret(64, write).len(), 34);
        encode_secret(8, write);
    }
}
