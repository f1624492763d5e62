//! Many words at once, faster than any of them could be read letter by letter.
//!
//! Four bytes are looked at in every fourth place, wherever a word may stand. A word of seven bytes or more has such a
//! place wholly inside it, so that a filter of the four bytes that stand at its first four places finds it;
//! `aho-corasick` looks at every byte and is several times slower with this many words. Of a word of five or six bytes at
//! least the first two of those four are in it, which a second filter knows.

/// Places between two looks, and bytes compared with the first filter.
const STRIDE: usize = 4;
/// Bytes compared with the second filter.
const PAIR: usize = 2;
/// Bytes a word needs to be found.
pub(crate) const LEAST: usize = PAIR + STRIDE - 1;
/// Bytes looked at between two decisions.
const BLOCK: usize = 16;
/// Bits of either filter: 8 KiB, a quarter of the fastest cache of a processor.
const FILTER_BITS: u32 = 16;
/// Cells of either filter.
const CELLS: usize = 1 << (FILTER_BITS - 6);

/// Words to be looked for.
#[derive(Debug)]
pub(crate) struct Words {
    words: Vec<Vec<u8>>,
    /// By multiplication with the golden ratio (Knuth, The Art of Computer Programming, 6.4).
    fours: Probes<0x9e37_79b1, { 32 - FILTER_BITS }>,
    /// By themselves: the upper half is shifted out.
    pairs: Probes<{ 1 << (32 - FILTER_BITS) }, { 32 - FILTER_BITS }>,
}

impl Words {
    /// Words shorter than [`LEAST`] are not found.
    pub(crate) fn new(words: impl Iterator<Item = Vec<u8>>) -> Self {
        let words: Vec<Vec<u8>> = words.collect();
        let (mut fours, mut pairs) = (Probes::new(), Probes::new());
        for (index, word) in words.iter().enumerate().filter(|(_, word)| word.len() >= LEAST) {
            for into in 0..STRIDE {
                match word.get(into..).unwrap_or_default() {
                    [a, b, c, d, ..] => fours.enter(u32::from_le_bytes([*a, *b, *c, *d]), index, into),
                    [a, b, ..] => pairs.enter(u32::from_le_bytes([*a, *b, 0, 0]), index, into),
                    _ => {}
                }
            }
        }
        fours.sorted.sort_unstable();
        pairs.sorted.sort_unstable();
        Self { words, fours, pairs }
    }

    pub(crate) fn len(&self) -> usize {
        self.words.len()
    }

    /// Calls back with the index of every word of which a place that is looked at lies in the window, and where it begins.
    /// Windows are multiples of sixteen bytes, except the last.
    pub(crate) fn find(&self, bytes: &[u8], from: usize, to: usize, found: &mut dyn FnMut(usize, usize)) {
        let mut at = from;
        let (blocks, rest) = bytes.get(from..to).unwrap_or_default().as_chunks::<BLOCK>();
        for block in blocks {
            if self.may_hold(block) {
                self.look(bytes, block, at, found);
            }
            at += BLOCK;
        }
        // Behind the end there is nothing; a word in the next window may reach into this one.
        let mut block = [0; BLOCK];
        if !rest.is_empty() {
            let rest = bytes.get(at..bytes.len().min(at + BLOCK)).unwrap_or_default();
            block.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            self.look(bytes, &block, at, found);
        }
    }

    /// Without a branch for each place: nearly all blocks hold nothing.
    fn may_hold(&self, block: &[u8; BLOCK]) -> bool {
        let mut seen = 0;
        for four in block.as_chunks::<STRIDE>().0 {
            let four = u32::from_le_bytes(*four);
            seen |= self.fours.bit(four) | self.pairs.bit(four);
        }
        seen & 1 != 0
    }

    #[cold]
    fn look(&self, bytes: &[u8], block: &[u8; BLOCK], at: usize, found: &mut dyn FnMut(usize, usize)) {
        for (index, four) in block.as_chunks::<STRIDE>().0.iter().enumerate() {
            let four = u32::from_le_bytes(*four);
            let candidates = self.fours.candidates(four).chain(self.pairs.candidates(four & 0xffff));
            for (word, into) in candidates {
                let start = (at + index * STRIDE).checked_sub(into);
                let text = self.words.get(word).map_or(&[][..], Vec::as_slice);
                if let Some(start) = start
                    && bytes.get(start..).is_some_and(|rest| rest.starts_with(text))
                {
                    found(word, start);
                }
            }
        }
    }
}

/// The beginnings of what may stand at a place that is looked at. Their bit in the filter is their product with a number,
/// shifted to the right.
#[derive(Debug)]
struct Probes<const FACTOR: u32, const SHIFT: u32> {
    filter: Box<[u64; CELLS]>,
    /// The bytes, the index of the word, and how far into it they stand.
    sorted: Vec<(u32, usize, usize)>,
}

impl<const FACTOR: u32, const SHIFT: u32> Probes<FACTOR, SHIFT> {
    fn new() -> Self {
        Self { filter: Box::new([0; CELLS]), sorted: Vec::new() }
    }

    fn place(probe: u32) -> u32 {
        probe.wrapping_mul(FACTOR) >> SHIFT
    }

    /// The lowest bit says whether these bytes may be known.
    fn bit(&self, probe: u32) -> u64 {
        let place = Self::place(probe);
        // The mask lets the compiler see that the index is always within the filter.
        self.filter[(place >> 6) as usize & (CELLS - 1)] >> (place & 63)
    }

    fn enter(&mut self, probe: u32, word: usize, into: usize) {
        let place = Self::place(probe);
        if let Some(cell) = self.filter.get_mut((place >> 6) as usize) {
            *cell |= 1 << (place & 63);
        }
        self.sorted.push((probe, word, into));
    }

    /// The words in which these bytes stand, and how far into them.
    fn candidates(&self, probe: u32) -> impl Iterator<Item = (usize, usize)> {
        let first = self.sorted.partition_point(|&(one, _, _)| one < probe);
        let rest = self.sorted.get(first..).unwrap_or_default();
        rest.iter().take_while(move |&&(one, _, _)| one == probe).map(|&(_, word, into)| (word, into))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(words: &[&str], bytes: &[u8]) -> Vec<(usize, usize)> {
        let words = Words::new(words.iter().map(|word| word.as_bytes().to_vec()));
        let mut found = Vec::new();
        for from in (0..bytes.len()).step_by(48) {
            words.find(bytes, from, bytes.len().min(from + 48), &mut |word, at| found.push((word, at)));
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    #[test]
    fn every_word_is_found_at_every_alignment() {
        const WORDS: [&str; 6] = ["LM_LICENSE_FILE", "seven_7", "*IDN?", "Qt5Core", "OpenLM", "LM_LICENSE"];
        for before in 0..100 {
            for (index, word) in WORDS.iter().enumerate() {
                for behind in ["", "\0", "and so on"] {
                    let text = [&vec![b'x'; before], word.as_bytes(), behind.as_bytes()].concat();
                    assert!(all(&WORDS, &text).contains(&(index, before)), "{word} at {before}");
                }
                let text = [&vec![b'x'; before], word.as_bytes()].concat();
                assert!(all(&WORDS, &text[..text.len() - 1]).iter().all(|found| found.0 != index));
            }
        }
    }

    #[test]
    fn it_finds_what_a_plain_search_finds() {
        const WORDS: [&str; 6] = ["abcabca", "bcabcab", "cabca", "abcabc", "aaaaaaaa", "bcabcabcabcab"];
        let mut state = 1_u32;
        let mut text: Vec<u8> = Vec::new();
        for _ in 0..20_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            text.push(if text.len() % 500 < 30 { b'a' } else { b"abcabc"[(state >> 16) as usize % 6] });
        }
        let mut expected = Vec::new();
        for (index, word) in WORDS.iter().enumerate() {
            let starts = text.windows(word.len()).enumerate().filter(|(_, at)| *at == word.as_bytes());
            expected.extend(starts.map(|(at, _)| (index, at)));
        }
        expected.sort_unstable();
        assert!(expected.len() > 100);
        assert_eq!(all(&WORDS, &text), expected);
    }

    #[test]
    fn no_word_is_too_short() {
        for mark in crate::technology::MARKS {
            assert!(mark.len() >= LEAST, "{mark}");
        }
        assert!(all(&["abcd", ""], b"abcdabcdabcd").is_empty());
    }
}
