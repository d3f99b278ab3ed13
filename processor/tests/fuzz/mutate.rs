//! Small damage to good bytes: flipped, cut, doubled, mixed with other good bytes, and with what parsers stumble over.

/// What one byte alone rarely makes.
const TOKENS: [&[u8]; 30] = [
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\0",
    b"\r\n",
    b"\n\n",
    b"\"",
    b"\"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"null",
    b"1e999",
    b"-0",
    b"9223372036854775808",
    b"0.1e-400",
    b"NaN",
    b"2026-02-30T25:61:61Z",
    b"&a [*a, *a]",
    b"!!binary x",
    b"'",
    b"|\n",
    b"SELECT",
    b"\t",
];
/// Bytes that a mutation doubles or takes at most.
const PIECE_MAX: usize = 64;
/// How deep a nest is that is put in.
const DEEP: usize = 2_000;
/// An input grows to this size at most.
const BYTES_MAX: usize = 64 * 1024;

/// One of the good inputs with one to eight damages.
pub fn mutated(good: &[Vec<u8>], rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = good[rng.usize(..good.len())].clone();
    for _ in 0..rng.usize(1..=8) {
        damage(&mut bytes, good, rng);
        bytes.truncate(BYTES_MAX);
    }
    bytes
}

fn damage(bytes: &mut Vec<u8>, good: &[Vec<u8>], rng: &mut fastrand::Rng) {
    let at = rng.usize(..=bytes.len());
    let end = (at + rng.usize(..PIECE_MAX)).min(bytes.len());
    match rng.u8(..9) {
        0 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(..8),
        1 if at < bytes.len() => bytes[at] = rng.u8(..),
        2 => drop(bytes.drain(at..end)),
        3 => bytes.truncate(at),
        4 => {
            let piece = bytes[at..end].to_vec();
            let to = rng.usize(..=bytes.len());
            bytes.splice(to..to, piece);
        }
        5 => {
            let other = &good[rng.usize(..good.len())];
            let from = rng.usize(..=other.len());
            bytes.splice(at..end, other[from..].iter().copied());
        }
        6 => {
            let open = if rng.bool() { b'[' } else { b'{' };
            bytes.splice(at..at, std::iter::repeat_n(open, rng.usize(..DEEP)));
        }
        _ => {
            let token = TOKENS[rng.usize(..TOKENS.len())];
            bytes.splice(at..end.min(at + rng.usize(..4)), token.iter().copied());
        }
    }
}
