//! Temporary files for rows that do not fit in memory: what the program around must give, and how they are written and
//! read here.
//!
//! A [`Log`] only grows: what is appended waits in memory until there is enough of it for one write. It is read back
//! from front to back through a [`Window`], or at many places at once, neighbours together. Nothing is ever changed in
//! place, and a file is gone when the last owner drops it.
//!
//! Absent on purpose: folders, limits, and what the bytes mean.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};

/// Bytes of one write, and of one read from front to back.
const CHUNK_BYTES: usize = 1 << 20;
/// Pieces of a file with at most so much between them are read at once: on a disk a gap of this size costs less than
/// another read.
const GAP_BYTES: u64 = 16 << 10;

/// Where temporary files come from. The program around knows the folder and how much may lie in it.
pub trait SpillSpace: fmt::Debug + Send + Sync {
    /// A new, empty file; `what` says in messages what it is for.
    ///
    /// # Errors
    /// `DiskFull`, `Io`; `OutOfMemory` where the program allows no temporary files.
    fn create(&self, what: &str) -> Result<Arc<dyn SpillFile>>;
}

/// A temporary file. It is removed when dropped.
pub trait SpillFile: fmt::Debug + Send + Sync {
    /// Appends bytes. One owner appends; when it fails the file is of no more use.
    ///
    /// # Errors
    /// `DiskFull` when the disk, or the space that the program allows, is full; `Io`.
    fn append(&self, bytes: &[u8]) -> Result<()>;

    /// Reads the bytes from `offset` on into the whole of `to`; from several threads at once.
    ///
    /// # Errors
    /// `Io`.
    fn read_at(&self, offset: u64, to: &mut [u8]) -> Result<()>;
}

/// A number as files hold it: little-endian.
pub(super) trait Number: Copy {
    const BYTES: usize;
    fn put(self, to: &mut Vec<u8>);
    /// From exactly [`BYTES`](Self::BYTES) bytes.
    fn get(bytes: &[u8]) -> Self;
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Number for $number {
            const BYTES: usize = size_of::<$number>();

            fn put(self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_le_bytes());
            }

            fn get(bytes: &[u8]) -> Self {
                let mut own = [0; size_of::<$number>()];
                own.copy_from_slice(bytes);
                <$number>::from_le_bytes(own)
            }
        }
    )*};
}

numbers!(u32, f32, i64, f64);

/// Appends numbers to bytes.
pub(super) fn put_all<T: Number>(numbers: &[T], to: &mut Vec<u8>) {
    to.reserve(numbers.len() * T::BYTES);
    numbers.iter().for_each(|number| number.put(to));
}

/// Appends the numbers that bytes hold.
pub(super) fn get_all<T: Number>(bytes: &[u8], to: &mut Vec<T>) {
    to.extend(bytes.chunks_exact(T::BYTES).map(T::get));
}

/// The numbers that bytes hold, into a place of the same length.
pub(super) fn get_into<T: Number>(bytes: &[u8], to: &mut [T]) {
    to.iter_mut().zip(bytes.chunks_exact(T::BYTES)).for_each(|(to, bytes)| *to = T::get(bytes));
}

/// A file that grows at its end. A clone reads the same bytes; only one of them may go on appending.
#[derive(Debug, Clone)]
pub(super) struct Log {
    file: Arc<dyn SpillFile>,
    written: u64,
    waiting: Vec<u8>,
}

impl Log {
    pub(super) fn create(space: &dyn SpillSpace, what: &str) -> Result<Self> {
        Ok(Self { file: space.create(what)?, written: 0, waiting: Vec::new() })
    }

    /// Bytes appended so far.
    pub(super) const fn len(&self) -> u64 {
        self.written + self.waiting.len() as u64
    }

    /// Where the next bytes are put; [`settle`](Self::settle) comes after them.
    pub(super) const fn end(&mut self) -> &mut Vec<u8> {
        &mut self.waiting
    }

    /// Writes what waits if it is enough.
    pub(super) fn settle(&mut self) -> Result<()> {
        if self.waiting.len() >= CHUNK_BYTES { self.flush() } else { Ok(()) }
    }

    /// Writes what waits.
    pub(super) fn flush(&mut self) -> Result<()> {
        if !self.waiting.is_empty() {
            self.file.append(&self.waiting)?;
            self.written += self.waiting.len() as u64;
            self.waiting.clear();
        }
        Ok(())
    }

    /// Reads the bytes from `offset` on, whether they wait or are written.
    pub(super) fn read_at(&self, offset: u64, to: &mut [u8]) -> Result<()> {
        if offset + to.len() as u64 > self.len() {
            return Err(Error::internal("a temporary file is read beyond its end"));
        }
        let in_file = self.written.saturating_sub(offset).min(to.len() as u64) as usize;
        let (file, waiting) = to.split_at_mut(in_file);
        if !file.is_empty() {
            self.file.read_at(offset, file)?;
        }
        if !waiting.is_empty() {
            let from = (offset + in_file as u64 - self.written) as usize;
            waiting.copy_from_slice(&self.waiting[from..from + waiting.len()]);
        }
        Ok(())
    }

    /// Reads `pieces`, each an offset and a length, with few reads: neighbours come together, and all in the order of the
    /// file. `take` gets each piece by its place in the list.
    pub(super) fn read_pieces(&self, pieces: &[(u64, usize)], mut take: impl FnMut(usize, &[u8])) -> Result<()> {
        let mut order: Vec<usize> = (0..pieces.len()).filter(|at| pieces[*at].1 > 0).collect();
        order.sort_unstable_by_key(|at| (pieces[*at].0, *at));
        let end_of = |at: usize| pieces[at].0 + pieces[at].1 as u64;
        let mut buffer = Vec::new();
        let mut rest = order.as_slice();
        while let [first, others @ ..] = rest {
            let (start, mut end) = (pieces[*first].0, end_of(*first));
            let more = others.iter().take_while(|at| {
                let near = pieces[**at].0 <= end + GAP_BYTES && end_of(**at) <= start + CHUNK_BYTES as u64;
                end = if near { end.max(end_of(**at)) } else { end };
                near
            });
            let count = 1 + more.count();
            buffer.resize((end - start) as usize, 0);
            self.read_at(start, &mut buffer)?;
            for at in &rest[..count] {
                let (offset, len) = pieces[*at];
                take(*at, &buffer[(offset - start) as usize..][..len]);
            }
            rest = &rest[count..];
        }
        Ok(())
    }
}

/// The part of a log that was read last. Reading goes from front to back: what lies behind is read along.
#[derive(Debug, Default)]
pub(super) struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// `len` bytes from `offset` on.
    pub(super) fn get(&mut self, log: &Log, offset: u64, len: usize) -> Result<&[u8]> {
        let is_here = offset >= self.start && offset + len as u64 <= self.start + self.bytes.len() as u64;
        if !is_here {
            let behind = usize::try_from(log.len().saturating_sub(offset)).unwrap_or(usize::MAX);
            // Nothing is here if reading fails.
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.resize(len.max(CHUNK_BYTES.min(behind)), 0);
            log.read_at(offset, &mut bytes)?;
            (self.start, self.bytes) = (offset, bytes);
        }
        Ok(&self.bytes[(offset - self.start) as usize..][..len])
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Temporary files in memory that count what is done to them and fail when told to.

    use std::sync::atomic::{AtomicUsize, Ordering};

    use parking_lot::RwLock;

    use super::*;
    use crate::error::Code;

    /// What is done to the files of a [`Space`].
    #[derive(Debug, Default)]
    pub(crate) struct Counts {
        pub(crate) files: AtomicUsize,
        pub(crate) appends: AtomicUsize,
        pub(crate) reads: AtomicUsize,
        /// The append of this number (from 1) and all after it fail; 0 = none.
        pub(crate) full_at: AtomicUsize,
        /// The read of this number (from 1) and all after it fail; 0 = none.
        pub(crate) broken_at: AtomicUsize,
    }

    #[derive(Debug, Clone, Default)]
    pub(crate) struct Space(pub(crate) Arc<Counts>);

    #[derive(Debug)]
    struct File(Arc<Counts>, RwLock<Vec<u8>>);

    impl Space {
        pub(crate) fn shared(&self) -> Arc<dyn SpillSpace> {
            Arc::new(self.clone())
        }

        pub(crate) fn files(&self) -> usize {
            self.0.files.load(Ordering::SeqCst)
        }
    }

    impl SpillSpace for Space {
        fn create(&self, _what: &str) -> Result<Arc<dyn SpillFile>> {
            self.0.files.fetch_add(1, Ordering::SeqCst);
            Ok(Arc::new(File(Arc::clone(&self.0), RwLock::default())))
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            self.0.files.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Counts one more; whether it fails.
    fn fails(count: &AtomicUsize, from: &AtomicUsize) -> bool {
        let at = count.fetch_add(1, Ordering::SeqCst) + 1;
        let from = from.load(Ordering::SeqCst);
        from > 0 && at >= from
    }

    impl SpillFile for File {
        fn append(&self, bytes: &[u8]) -> Result<()> {
            if fails(&self.0.appends, &self.0.full_at) {
                return Err(Error::new(Code::DiskFull, "no space left"));
            }
            self.1.write().extend_from_slice(bytes);
            Ok(())
        }

        fn read_at(&self, offset: u64, to: &mut [u8]) -> Result<()> {
            if fails(&self.0.reads, &self.0.broken_at) {
                return Err(Error::new(Code::Io, "the disk does not answer"));
            }
            to.copy_from_slice(&self.1.read()[offset as usize..][..to.len()]);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::testing::Space;
    use super::*;
    use crate::kernels::splitmix;

    /// A log of the numbers `0..count`, with half of them in the file.
    fn log(space: &Space, count: u32) -> Log {
        let mut log = Log::create(space, "test").unwrap();
        for number in 0..count {
            number.put(log.end());
            log.settle().unwrap();
            if number == count / 2 {
                log.flush().unwrap();
            }
        }
        log
    }

    #[test]
    fn what_waits_and_what_is_written_read_alike() {
        let space = Space::default();
        let log = log(&space, 1000);
        assert_eq!(log.len(), 4000);
        let (mut window, mut numbers) = (Window::default(), Vec::<u32>::new());
        for at in 0..1000u64 {
            get_all(window.get(&log, at * 4, 4).unwrap(), &mut numbers);
        }
        assert_eq!(numbers, (0..1000).collect::<Vec<u32>>());
        let mut across = vec![0; 400];
        log.read_at(1800, &mut across).unwrap();
        assert_eq!((u32::get(&across[..4]), u32::get(&across[396..])), (450, 549));
        assert!(log.read_at(3999, &mut [0; 2]).is_err());
        assert_eq!(space.files(), 1);
        let clone = log.clone();
        drop(log);
        assert_eq!(space.files(), 1);
        drop(clone);
        assert_eq!(space.files(), 0);
    }

    #[test]
    fn pieces_come_whole_whatever_their_order_and_few_reads_do() {
        let space = Space::default();
        let log = log(&space, 1 << 20);
        space.0.reads.store(0, Ordering::SeqCst);
        let mut pieces: Vec<(u64, usize)> = (0..500).map(|i| (splitmix::at(1, i) % (1 << 20) * 4, 4)).collect();
        pieces.extend([(0, 0), pieces[3], (pieces[5].0, 0), (40_000, 400), (40_040, 40)]);
        let mut seen = vec![0; pieces.len()];
        log.read_pieces(&pieces, |at, bytes| {
            assert_eq!((bytes.len(), u32::get(&bytes[..4])), (pieces[at].1, (pieces[at].0 / 4) as u32));
            seen[at] += 1;
        })
        .unwrap();
        assert!(seen.iter().zip(&pieces).all(|(seen, piece)| *seen == usize::from(piece.1 > 0)));
        assert!(space.0.reads.load(Ordering::SeqCst) < 250);
        space.0.reads.store(0, Ordering::SeqCst);
        let ordered: Vec<(u64, usize)> = (0..10_000).map(|at| (at * 4, 4)).collect();
        log.read_pieces(&ordered, |_, _| {}).unwrap();
        assert_eq!(space.0.reads.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn numbers_survive_to_the_bit() {
        let mut bytes = Vec::new();
        put_all(&[f32::from_bits(0x7FC0_1234), -0.0], &mut bytes);
        let mut back = Vec::<f32>::new();
        get_all(&bytes, &mut back);
        assert_eq!(back.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), [0x7FC0_1234, 0x8000_0000]);
        let mut place = [0f32; 2];
        get_into(&bytes, &mut place);
        assert_eq!(place[1].to_bits(), 0x8000_0000);
        bytes.clear();
        i64::MIN.put(&mut bytes);
        f64::MAX.put(&mut bytes);
        assert_eq!((i64::get(&bytes[..8]), f64::get(&bytes[8..])), (i64::MIN, f64::MAX));
    }
}
