//! A vector whose copies share what they have in common: a change copies one chunk of it.

use std::sync::Arc;

/// Elements of one chunk.
const CHUNK: usize = 2048;

/// See the module's header.
#[derive(Debug, Clone)]
pub struct Chunked<T> {
    chunks: Vec<Arc<Vec<T>>>,
    len: usize,
}

impl<T> Default for Chunked<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }
}

impl<T: Copy> Chunked<T> {
    /// How many elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The element at a place.
    #[must_use]
    pub fn get(&self, at: usize) -> Option<T> {
        self.chunks.get(at / CHUNK)?.get(at % CHUNK).copied()
    }

    /// Changes the element at a place; nothing happens outside the vector.
    pub fn set(&mut self, at: usize, value: T) {
        if let Some(place) = self.chunks.get_mut(at / CHUNK).and_then(|chunk| Arc::make_mut(chunk).get_mut(at % CHUNK)) {
            *place = value;
        }
    }

    /// Adds an element at the end.
    pub fn push(&mut self, value: T) {
        if self.len.is_multiple_of(CHUNK) {
            self.chunks.push(Arc::new(Vec::with_capacity(CHUNK)));
        }
        if let Some(chunk) = self.chunks.last_mut() {
            Arc::make_mut(chunk).push(value);
            self.len += 1;
        }
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.chunks.iter().flat_map(|chunk| chunk.iter().copied())
    }

    /// The bytes it holds, those that it shares included.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<T>() + self.chunks.capacity() * size_of::<Arc<Vec<T>>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_what_it_was() {
        let mut vector = Chunked::default();
        (0..5000_u32).for_each(|value| vector.push(value));
        let before = vector.clone();
        vector.set(0, 7);
        vector.set(4999, 8);
        vector.set(5000, 9);
        vector.push(10);
        assert_eq!((before.len(), before.get(0), before.get(4999), before.get(5000)), (5000, Some(0), Some(4999), None));
        assert_eq!((vector.len(), vector.get(0), vector.get(4999), vector.get(5000)), (5001, Some(7), Some(8), Some(10)));
        assert_eq!(before.iter().map(u64::from).sum::<u64>(), 4999 * 2500);
        // Only the chunks that were changed are other ones.
        assert!(Arc::ptr_eq(&before.chunks[1], &vector.chunks[1]));
    }
}
