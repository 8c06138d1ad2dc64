//! Strings to dense codes, one hash per call and no allocation per known string.

/// The code of NULL.
pub const NULL_CODE: u32 = u32::MAX;

/// Distinct strings in one arena, numbered from 0 in order of first sight. Open addressing, at most half full.
#[derive(Debug, Clone, Default)]
pub struct Interner {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Low half of the hash, then `code + 1`; zero = free. One cache line answers most misses.
    slots: Vec<u64>,
}

/// A multiply-and-fold hash of eight bytes at a time; good enough for names, never for adversaries' sets larger
/// than memory, since a lookup compares whole strings.
fn hash(text: &[u8]) -> u64 {
    const K: u64 = 0x9E37_79B9_7F4A_7C15;
    let fold = |a: u64, b: u64| {
        let wide = u128::from(a) * u128::from(b);
        (wide as u64) ^ ((wide >> 64) as u64)
    };
    let mut state = K ^ text.len() as u64;
    let (words, rest) = text.as_chunks::<8>();
    for word in words {
        state = fold(state ^ u64::from_le_bytes(*word), K);
    }
    if !rest.is_empty() {
        let mut tail = [0_u8; 8];
        tail[..rest.len()].copy_from_slice(rest);
        state = fold(state ^ u64::from_le_bytes(tail), 0xD6E8_FEB8_6659_FD93);
    }
    fold(state, K)
}

/// Which codes the short texts had that were asked for lately. A text of twelve bytes or less is told by the sixteen bytes of its
/// view in Arrow's layout, so that a known one is found without reading or hashing it.
#[derive(Debug, Clone, Default)]
pub struct ShortTexts(Vec<(u128, u32)>);

/// Entries of [`ShortTexts`].
const SHORT_TEXTS: usize = 1 << 10;

impl ShortTexts {
    /// The code of the text behind a view; `find` is asked when it is long or was not asked for lately.
    #[inline]
    pub fn code(&mut self, view: u128, find: impl FnOnce() -> u32) -> u32 {
        if view as u32 > 12 {
            return find();
        }
        if self.0.is_empty() {
            self.0.resize(SHORT_TEXTS, (0, NULL_CODE));
        }
        let mixed = ((view >> 64) as u64 ^ view as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let slot = &mut self.0[(mixed >> 54) as usize];
        if slot.1 == NULL_CODE || slot.0 != view {
            *slot = (view, find());
        }
        slot.1
    }

    /// The bytes it holds.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<(u128, u32)>()
    }
}

const fn entry(hash: u64, code: u32) -> u64 {
    (hash << 32) | (code as u64 + 1)
}

impl Interner {
    /// Number of distinct strings.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether no string was seen.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The string of a code that this interner gave out; empty for any other.
    #[must_use]
    pub fn get(&self, code: u32) -> &str {
        let index = code as usize;
        let Some(&end) = self.ends.get(index) else { return "" };
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        std::str::from_utf8(&self.bytes[start..end]).unwrap_or("")
    }

    /// The code of `text` if it was seen.
    #[must_use]
    pub fn find(&self, text: &str) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        self.probe(text.as_bytes(), hash(text.as_bytes())).ok()
    }

    /// The code of `text`, a new one when it was not seen before.
    pub fn intern(&mut self, text: &str) -> u32 {
        self.intern_bytes(text.as_bytes())
    }

    /// The same for bytes that are no text; [`get`](Self::get) does not know them, [`bytes_of`](Self::bytes_of) does.
    pub fn intern_bytes(&mut self, text: &[u8]) -> u32 {
        if (self.ends.len() + 1) * 2 > self.slots.len() {
            self.grow();
        }
        let hash = hash(text);
        let slot = match self.probe(text, hash) {
            Ok(code) => return code,
            Err(slot) => slot,
        };
        let code = self.ends.len() as u32;
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
        self.slots[slot] = entry(hash, code);
        code
    }

    /// The code of a text, or the free slot where it belongs. There is always a free slot.
    #[inline]
    fn probe(&self, text: &[u8], hash: u64) -> Result<u32, usize> {
        let mask = self.slots.len() - 1;
        let mut slot = (hash >> 32) as usize & mask;
        loop {
            let found = self.slots[slot];
            if found == 0 {
                return Err(slot);
            }
            let code = found as u32 - 1;
            if (found >> 32) as u32 == hash as u32 && self.bytes_of(code) == text {
                return Ok(code);
            }
            slot = (slot + 1) & mask;
        }
    }

    /// All strings in code order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.ends.len() as u32).map(|code| self.get(code))
    }

    /// The bytes it holds.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * 8 + self.slots.capacity() * 8
    }

    /// The bytes of a code that this interner gave out.
    #[must_use]
    pub fn bytes_of(&self, code: u32) -> &[u8] {
        let index = code as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(16);
        let mask = size - 1;
        let mut slots = vec![0_u64; size];
        for code in 0..self.ends.len() as u32 {
            let hash = hash(self.bytes_of(code));
            let mut slot = (hash >> 32) as usize & mask;
            while slots[slot] != 0 {
                slot = (slot + 1) & mask;
            }
            slots[slot] = entry(hash, code);
        }
        self.slots = slots;
    }
}

impl<'a> FromIterator<&'a str> for Interner {
    fn from_iter<I: IntoIterator<Item = &'a str>>(texts: I) -> Self {
        let mut interner = Self::default();
        for text in texts {
            interner.intern(text);
        }
        interner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_texts_have_the_codes_of_the_interner() {
        let (mut interner, mut short) = (Interner::default(), ShortTexts::default());
        let view = |text: &str| {
            let mut bytes = [0_u8; 16];
            bytes[..4].copy_from_slice(&(text.len() as u32).to_le_bytes());
            bytes[4..4 + text.len().min(12)].copy_from_slice(&text.as_bytes()[..text.len().min(12)]);
            u128::from_le_bytes(bytes)
        };
        for i in 0..20_000_u64 {
            let number = crate::kernels::splitmix::at(3, i) % 3000;
            let text = if number.is_multiple_of(7) { format!("longer than a view is {number}") } else { format!("c{number}") };
            let code = short.code(view(&text), || interner.intern(&text));
            assert_eq!(interner.find(&text), Some(code));
        }
        assert_eq!(short.code(view(""), || interner.intern("")), interner.find("").unwrap());
    }

    #[test]
    fn codes_are_dense_and_stable() {
        let mut interner = Interner::default();
        let texts: Vec<String> = (0..5000).map(|i| format!("{}", i * 7919 % 3001)).collect();
        let codes: Vec<u32> = texts.iter().map(|t| interner.intern(t)).collect();
        assert_eq!(interner.len(), 3001);
        for (text, code) in texts.iter().zip(&codes) {
            assert_eq!(interner.get(*code), text);
            assert_eq!(interner.find(text), Some(*code));
        }
        assert_eq!(interner.find("none"), None);
        assert_eq!(interner.get(NULL_CODE), "");
        assert_eq!(interner.iter().count(), 3001);
    }

    #[test]
    fn near_equal_and_empty_texts_differ() {
        let mut interner = Interner::default();
        let texts = ["", "\0", "\0\0", "a", "a\0", "abcdefgh", "abcdefg", "abcdefgh\0", "käse", "kase"];
        let codes: Vec<u32> = texts.iter().map(|t| interner.intern(t)).collect();
        assert_eq!(codes, (0..texts.len() as u32).collect::<Vec<_>>());
    }
}
