//! Crockford's base 32, for what people copy from paper: no I, L, O, U, which are misread.

/// The symbols, five bits each.
pub(super) const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Returns the eight symbols of five bytes, the highest bits first.
pub(super) fn symbols(bytes: &[u8; 5]) -> [u8; 8] {
    let bits = bytes.iter().fold(0u64, |bits, &byte| bits << 8 | u64::from(byte));
    std::array::from_fn(|i| ALPHABET[(bits >> (35 - 5 * i)) as usize & 31])
}

/// Returns the five bytes that eight symbols stand for.
pub(super) fn bytes(symbols: &[u8; 8]) -> Option<[u8; 5]> {
    let mut bits = 0u64;
    for symbol in symbols {
        bits = bits << 5 | ALPHABET.iter().position(|a| a == symbol)? as u64;
    }
    Some(std::array::from_fn(|i| (bits >> (32 - 8 * i)) as u8))
}

/// Reads a symbol as it was meant: `O` is a zero, `I` and `L` are ones. Letters are capitals.
pub(super) fn meant(symbol: u8) -> u8 {
    match symbol {
        b'O' => b'0',
        b'I' | b'L' => b'1',
        other => other,
    }
}
