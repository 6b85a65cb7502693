//! Whether content begins like random bytes, which is how encrypted content looks.
//!
//! Encrypted bytes are as even as a die, in the first kilobytes already; what compresses data puts a mark before it, or tables that are
//! not as even. Where that is wrong of some files it is so night after night: what counts is how many files come to look so.

/// What is looked at, at most, in bytes.
const SAMPLE: usize = 16 << 10;
/// Content shorter than this says too little.
const SHORTEST: usize = 512;
/// Chi-squared of even bytes is near 255, its number of degrees of freedom, with a standard deviation of 22.6; seven of these let one in a
/// thousand million random files pass for another. English text of 512 bytes is near 7000, base64 of as many near 1500.
const CHI_SQUARED_MAX: f64 = 255.0 + 7.0 * 22.6;

/// Tells whether content that begins with `head` looks random and like no format that is known by its first bytes.
pub(super) fn looks_random(head: &[u8]) -> bool {
    let sample = &head[..head.len().min(SAMPLE)];
    sample.len() >= SHORTEST && is_even(sample) && !is_zlib(sample) && infer::get(sample).is_none()
}

fn is_even(sample: &[u8]) -> bool {
    let mut counts = [0u32; 256];
    sample.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
    let even = sample.len() as f64 / 256.0;
    let chi_squared: f64 = counts.iter().map(|&count| (f64::from(count) - even).powi(2) / even).sum();
    chi_squared <= CHI_SQUARED_MAX
}

/// Tells whether bytes begin as zlib's do (RFC 1950), such as objects of Git: 32 KiB of window and a sum that can be divided.
fn is_zlib(sample: &[u8]) -> bool {
    sample[0] == 0x78 && u16::from_be_bytes([sample[0], sample[1]]).is_multiple_of(31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(seed: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
        out
    }

    #[test]
    fn random_bytes_look_random_however_many_there_are() {
        // A mark of two bytes is there by chance in one of ten thousand.
        let missed = |len| (0..1000).filter(|&seed| !looks_random(&random(seed, len))).count();
        for len in [SHORTEST, 1000, 4096, SAMPLE, 1 << 17] {
            assert!(missed(len) <= 5, "{} of 1000 of {len} bytes are missed", missed(len));
        }
    }

    #[test]
    fn what_people_and_programs_write_does_not() {
        let text = b"The quick brown fox jumps over the lazy dog. ".repeat(100);
        let base64: Vec<u8> = random(1, 4096).iter().map(|byte| b'A' + byte % 64).collect();
        let zlib = [&[0x78, 0x9c], &random(2, 4096)[..]].concat();
        let gzip = [&[0x1f, 0x8b, 8, 0], &random(3, 4096)[..]].concat();
        let jpeg = [&[0xff, 0xd8, 0xff, 0xe0], &random(4, 4096)[..]].concat();
        let records: Vec<u8> = (0..500u64).flat_map(|at| (at * 7919).to_le_bytes()).collect();
        let short = random(5, SHORTEST - 1);
        let all: [(&str, &[u8]); 9] = [
            ("text", &text),
            ("text of 512 bytes", &text[..SHORTEST]),
            ("base64", &base64),
            ("base64 of 512 bytes", &base64[..SHORTEST]),
            ("zlib", &zlib),
            ("gzip", &gzip),
            ("jpeg", &jpeg),
            ("numbers", &records),
            ("what is too short", &short),
        ];
        for (what, bytes) in all {
            assert!(!looks_random(bytes), "{what}");
        }
        assert!(!looks_random(&[]));
    }
}
