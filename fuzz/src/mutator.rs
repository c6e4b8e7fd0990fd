//! From lawful inputs to nearly lawful ones: what a stranger, a torn disk or a slip makes of bytes.
//!
//! Input number `n` of a run is a pure function of corpus, seed and `n`, so that one number is
//! enough to see a failure again. Knows nothing about formats but the length fields of CBOR and the
//! brackets and separators of texts.
//! Invariant: no input is longer than [`LEN_MAX`].

use mesh_base::chance;

/// Longest input; enough to tell growth by size from a fixed cost.
pub const LEN_MAX: usize = 64 * 1024;
/// Longest input but for one in [`LONG_EVERY`]: long ones are slow, and find little of their own.
const LEN_USUAL: usize = 3 * 1024;
/// How seldom an input may be as long as [`LEN_MAX`].
const LONG_EVERY: u64 = 512;

/// Integers at which formats and programs change their minds.
const EDGES: &[u64] = &[
    0,
    1,
    2,
    23,
    24,
    25,
    127,
    128,
    255,
    256,
    4095,
    4096,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x00ff_ffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
];

/// Heads of CBOR items that claim much, and pieces of the texts that we read.
const WORDS: &[&[u8]] = &[
    &[0x9b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
    &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x9a, 0, 0x10, 0, 0],
    &[0x99, 0x7f, 0xff],
    &[0x9f],
    &[0xbb, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff],
    &[0xba, 0, 1, 0, 0],
    &[0xbf],
    &[0x5b, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff],
    &[0x5a, 0x7f, 0xff, 0xff, 0xff],
    &[0x5f],
    &[0x7b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x7f],
    &[0xc2, 0x50],
    &[0xc3, 0x58, 0x20],
    &[0xd9, 0xd9, 0xf7],
    &[0xf6],
    &[0xf7],
    &[0xf9, 0x7e, 0],
    &[0xfb],
    &[0xff],
    &[0x80],
    &[0xa0],
    &[0x40],
    &[0x60],
    &[0x81],
    b"[",
    b"[0,",
    b"{",
    b"{\"a\":",
    b"]",
    b"}",
    b"\"",
    b"\"\"\"",
    b"'''",
    b"\\u0000",
    b"\\ud800",
    b"%00",
    b"%",
    b"&a=",
    b"?",
    b"/",
    b"=",
    b"\n",
    b"\r\n",
    b"[[a]]\n",
    b"[a.b.c]\n",
    b"a.b.c = 1\n",
    b"{{",
    b"}}",
    b"-",
    b".",
    b"0",
    b"-0",
    b"9223372036854775807",
    b"18446744073709551616",
    b"1e400",
    b"EUR",
    b"/month",
    "é".as_bytes(),
    "\u{10ffff}".as_bytes(),
    &[0xed, 0xa0, 0x80],
    &[0xa5, 1],
];

/// The choices of one input.
#[derive(Debug, Clone)]
pub struct Chance(chance::Chance);

impl Chance {
    /// Returns the generator of one input of one run.
    pub fn new(seed: u64, number: u64) -> Self {
        let first = chance::Chance::new(seed).bits();
        let mixed = first ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93);
        Self(chance::Chance::new(mixed))
    }

    fn next(&mut self) -> u64 {
        self.0.bits()
    }

    /// Returns a number below `end`, or zero if there is none.
    fn below(&mut self, end: usize) -> usize {
        match end {
            // Without a draw, so that an input stays what its number says.
            0 => 0,
            // Proof: what is below a usize is one.
            end => self.0.below(end as u64) as usize,
        }
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.next().is_multiple_of(many)
    }

    /// Returns one of some things; nothing if there are none.
    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }

    /// Returns a range inside `len`, mostly a short one.
    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.below(len + 1);
        let most = if self.one_in(4) { len } else { 16 };
        let end = start + self.below((len - start).min(most) + 1);
        start..end
    }
}

/// Returns one input made from `corpus`.
pub fn input<T: AsRef<[u8]>>(corpus: &[T], mut chance: Chance) -> Vec<u8> {
    let chance = &mut chance;
    let len_max = if chance.one_in(LONG_EVERY) {
        LEN_MAX
    } else {
        LEN_USUAL
    };
    let mut bytes = seed(corpus, chance, len_max).to_vec();
    if chance.one_in(64) {
        bytes = (0..chance.below(200))
            .map(|_| chance.next() as u8)
            .collect();
    }
    if LEN_USUAL < len_max {
        fill(&mut bytes, chance, len_max);
    }
    // Mostly one change, for two wrong places hide each other.
    let changes = 1 + chance.next().trailing_ones().min(6);
    for _ in 0..changes {
        change(&mut bytes, corpus, chance, len_max);
        bytes.truncate(len_max);
    }
    bytes
}

/// Picks what to begin with; long ones seldom, because they cost more time than they find.
fn seed<'a, T: AsRef<[u8]>>(corpus: &'a [T], chance: &mut Chance, len_max: usize) -> &'a [u8] {
    let mut picked: &[u8] = &[];
    for _ in 0..4 {
        picked = chance.pick(corpus).map_or(&[], AsRef::as_ref);
        if picked.len() <= LEN_USUAL || LEN_USUAL < len_max {
            break;
        }
    }
    picked
}

fn change<T: AsRef<[u8]>>(bytes: &mut Vec<u8>, corpus: &[T], chance: &mut Chance, len_max: usize) {
    let at = chance.below(bytes.len());
    match chance.below(13) {
        0 | 1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << chance.below(8);
            }
        }
        2 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = chance.next() as u8;
            }
        }
        // A length, a count or a number beside the right one.
        3 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = byte.wrapping_add_signed(if chance.one_in(2) { 1 } else { -1 });
            }
        }
        4 => write_edge(bytes, at, chance),
        5 => bytes.truncate(at),
        6 => drop(bytes.drain(chance.range(bytes.len()))),
        7 => {
            let word = chance.pick(WORDS).copied().unwrap_or_default();
            insert(bytes, at, word);
        }
        8 => {
            let word = chance.pick(WORDS).copied().unwrap_or_default();
            overwrite(bytes, at, word);
        }
        9 => repeat(bytes, chance, len_max),
        10 => swap(bytes, chance),
        11 => {
            let other = chance.pick(corpus).map_or(&[][..], AsRef::as_ref);
            let piece = other.get(chance.range(other.len())).unwrap_or_default();
            insert(bytes, at, piece);
        }
        _ => {
            let other = chance.pick(corpus).map_or(&[][..], AsRef::as_ref);
            let from = chance.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(other.get(from..).unwrap_or_default());
        }
    }
}

fn write_edge(bytes: &mut [u8], at: usize, chance: &mut Chance) {
    let edge = chance.pick(EDGES).copied().unwrap_or_default();
    let (big, little) = (edge.to_be_bytes(), edge.to_le_bytes());
    let len = 1 << chance.below(4);
    let number = if chance.one_in(2) {
        big.get(8 - len..)
    } else {
        little.get(..len)
    };
    overwrite(bytes, at, number.unwrap_or_default());
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    for (place, byte) in bytes.iter_mut().skip(at).zip(with) {
        *place = *byte;
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    let at = at.min(bytes.len());
    bytes.splice(at..at, piece.iter().copied());
}

/// Says a short piece again until an input is as long as it may be.
fn fill(bytes: &mut Vec<u8>, chance: &mut Chance, len_max: usize) {
    let at = chance.below(bytes.len());
    let end = bytes.len().min(at + 1 + chance.below(12));
    let piece = bytes.get(at..end).unwrap_or_default().to_vec();
    let room = len_max.saturating_sub(bytes.len());
    if let Some(times) = room.checked_div(piece.len()) {
        insert(bytes, at, &piece.repeat(times));
    }
}

/// Says a piece again, up to as often as fits.
fn repeat(bytes: &mut Vec<u8>, chance: &mut Chance, len_max: usize) {
    let range = chance.range(bytes.len());
    let at = range.end;
    let piece = bytes.get(range).unwrap_or_default().to_vec();
    let room = len_max.saturating_sub(bytes.len());
    let times = match piece.len() {
        0 => 0,
        len if chance.one_in(8) => room / len,
        len => (1 + chance.below(8)).min(room / len),
    };
    insert(bytes, at, &piece.repeat(times));
}

fn swap(bytes: &mut Vec<u8>, chance: &mut Chance) {
    let piece: Vec<u8> = bytes.drain(chance.range(bytes.len())).collect();
    let at = chance.below(bytes.len() + 1);
    insert(bytes, at, &piece);
}

#[cfg(test)]
mod tests {
    use mesh_base::digest::Digest;

    use super::*;

    const CORPUS: [&[u8]; 2] = [b"{\"recipe\":\"postgres\"}", &[0x82, 0x01, 0x02]];

    #[test]
    fn same_seed_and_number_give_the_same_input() {
        let of = |seed, number| input(&CORPUS, Chance::new(seed, number));
        assert_eq!(of(1, 2), of(1, 2));
        let others = [of(1, 3), of(2, 2), of(1, 4), of(3, 2)];
        assert!(others.iter().any(|other| *other != of(1, 2)));
    }

    #[test]
    fn number_of_an_input_says_what_it_is_for_good() {
        let mut chance = Chance::new(7, 1);
        let numbers = [(); 4].map(|()| chance.next());
        let expect = [
            0x7490_edf8_a094_4314,
            0xf938_c38f_e893_3dd4,
            0x6f43_0f96_f6c7_6e0d,
            0x7f4e_d9d9_767b_c347,
        ];
        assert_eq!(numbers, expect);
        let none: [&[u8]; 0] = [];
        let digest_of = |corpus: &[&[u8]]| {
            let inputs = (0..2000).map(|n| input(corpus, Chance::new(7, n)));
            // With their lengths, so that one that grows at another's cost is seen.
            let all: Vec<u8> = inputs
                .flat_map(|input| [&input.len().to_be_bytes()[..], &input].concat())
                .collect();
            Digest::of(&all).to_string()
        };
        let digest = "4a6d4d68993a6570458a954267d25a7bdd4ac3209e0ed0d2bacd100d1f4a757f";
        assert_eq!(digest_of(&CORPUS), digest);
        // Where there is nothing to draw from, nothing is drawn.
        let digest = "0dca2f53f89eb04a6ce38abdafb323755f894575f6f8f2a3018d2d51c10a95cb";
        assert_eq!(digest_of(&none), digest);
    }

    #[test]
    fn inputs_keep_their_limit_and_few_are_lawful() {
        let inputs: Vec<_> = (0..20_000)
            .map(|n| input(&CORPUS, Chance::new(7, n)))
            .collect();
        assert!(inputs.iter().all(|input| input.len() <= LEN_MAX));
        assert!(inputs.iter().any(|input| LEN_USUAL < input.len()));
        let same = inputs
            .iter()
            .filter(|input| CORPUS.contains(&input.as_slice()));
        assert!(same.count() < inputs.len() / 10);
    }

    #[test]
    fn empty_corpus_gives_inputs_too() {
        let none: [&[u8]; 0] = [];
        let longest = (0..2000)
            .map(|n| input(&none, Chance::new(1, n)).len())
            .max();
        assert!(longest.is_some_and(|len| 0 < len));
    }
}
