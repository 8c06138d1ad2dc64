//! A device with its memory kept in stock, arrays on it, and short ways to run kernels and products.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::backend::{Args, Backend, Later, Launch, Layers, Matrix, Product, too_large};
use crate::error::{Code, Error, Result};

/// Bytes of the smallest block of memory.
const BLOCK_MIN: usize = 512;
/// Lanes of a block that works element by element.
const LANES: usize = 256;
/// Most blocks of a grid; lanes take several elements beyond.
const BLOCKS_MAX: usize = 1 << 16;
/// Partial sums that are computed side by side.
const SUMS: usize = 1 << 16;

/// A device and the memory that it will need again. Memory that was freed is handed out anew in the order of the orders,
/// so nobody waits for the device to be done with it.
#[derive(Debug)]
pub struct Device {
    backend: Box<dyn Backend>,
    stock: Mutex<BTreeMap<usize, Vec<u64>>>,
    /// Whether whole recurrent layers of the vendor's library are used.
    whole_layers: AtomicBool,
}

/// Memory that goes back into stock when nobody holds it.
#[derive(Debug)]
struct Block {
    device: Arc<Device>,
    address: u64,
    bytes: usize,
}

impl Drop for Block {
    fn drop(&mut self) {
        self.device.stock.lock().unwrap_or_else(PoisonError::into_inner).entry(self.bytes).or_default().push(self.address);
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.release();
    }
}

/// Numbers on a device: four bytes each, f32 or u32. Cheap to clone; memory is shared.
#[derive(Debug, Clone)]
pub struct Array {
    /// `None` for what was uploaded for one step.
    block: Option<Arc<Block>>,
    address: u64,
    len: usize,
}

impl Array {
    /// Where it lies.
    #[must_use]
    pub const fn at(&self) -> u64 {
        self.address
    }

    /// How many numbers.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where number `index` lies.
    #[must_use]
    pub const fn from(&self, index: usize) -> u64 {
        self.address + 4 * index as u64
    }

    /// Numbers `from .. from + len`, in the same memory.
    #[must_use]
    pub fn part(&self, from: usize, len: usize) -> Self {
        Self { block: self.block.clone(), address: self.from(from), len }
    }

    /// Whether nobody else sees its memory.
    pub(super) fn is_sole(&self) -> bool {
        self.block.as_ref().is_some_and(|block| Arc::strong_count(block) == 1)
    }
}

/// The size that memory of `bytes` is cut to: powers of two, beyond a mebibyte eighths of them.
fn size_class(bytes: usize) -> usize {
    let power = bytes.max(BLOCK_MIN).next_power_of_two();
    if power <= 1 << 20 { power } else { bytes.next_multiple_of(power / 16) }
}

fn bytes_of<T: Copy>(values: &[T]) -> &[u8] {
    // SAFETY: `T` is f32 or u32, which any bytes can be read from.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// A matrix as it lies: `[_, stride]`.
pub(super) const fn plain(address: u64, stride: usize) -> Matrix {
    Matrix { address, stride, transposed: false, step: 0 }
}

/// The transpose of a matrix that lies `[_, stride]`.
pub(super) const fn turned(address: u64, stride: usize) -> Matrix {
    Matrix { address, stride, transposed: true, step: 0 }
}

impl Device {
    /// A device with nothing in stock.
    #[must_use]
    pub fn new(backend: Box<dyn Backend>) -> Arc<Self> {
        Arc::new(Self { backend, stock: Mutex::default(), whole_layers: AtomicBool::new(true) })
    }

    /// What it is.
    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// Whole recurrent layers, where the vendor's library has them and they are used.
    pub(super) fn layers(&self) -> Option<&dyn Layers> {
        if self.whole_layers.load(Ordering::Relaxed) { self.backend.layers() } else { None }
    }

    /// Uses whole recurrent layers or not.
    #[cfg(any(feature = "cuda", test))]
    pub(super) fn use_layers(&self, whole: bool) {
        self.whole_layers.store(whole, Ordering::Relaxed);
    }

    /// Gives the memory in stock back.
    pub fn release(&self) {
        let stock = std::mem::take(&mut *self.stock.lock().unwrap_or_else(PoisonError::into_inner));
        stock.into_values().flatten().for_each(|address| self.backend.free(address));
    }

    /// An array of `len` numbers that are anything.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn array(self: &Arc<Self>, len: usize) -> Result<Array> {
        if u32::try_from(len).is_err() {
            return Err(too_large());
        }
        let bytes = size_class(4 * len);
        let held = self.stock.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&bytes).and_then(Vec::pop);
        let address = match held {
            Some(address) => address,
            None => match self.backend.alloc(bytes) {
                Err(error) if error.code == Code::OutOfMemory => {
                    self.release();
                    self.backend.alloc(bytes)?
                }
                other => other?,
            },
        };
        Ok(Array { block: Some(Arc::new(Block { device: Arc::clone(self), address, bytes })), address, len })
    }

    /// An array of zeros.
    ///
    /// # Errors
    /// As [`Device::array`].
    pub fn zeros(self: &Arc<Self>, len: usize) -> Result<Array> {
        let array = self.array(len)?;
        self.clear(&array)?;
        Ok(array)
    }

    /// Fills an array with zeros.
    ///
    /// # Errors
    /// `Internal` when the device fails.
    pub fn clear(&self, array: &Array) -> Result<()> {
        if array.is_empty() { Ok(()) } else { self.backend.clear(array.at(), 4 * array.len()) }
    }

    /// An array that stays, with these values.
    ///
    /// # Errors
    /// As [`Device::array`].
    pub fn keep<T: Copy>(self: &Arc<Self>, values: &[T]) -> Result<Array> {
        let array = self.array(values.len())?;
        self.write(&array, values)?;
        Ok(array)
    }

    /// Overwrites an array.
    ///
    /// # Errors
    /// `Internal` when the lengths differ or the device fails.
    pub fn write<T: Copy>(&self, array: &Array, values: &[T]) -> Result<()> {
        if values.len() != array.len() {
            return Err(Error::internal("values do not fit the array on the device"));
        }
        if values.is_empty() { Ok(()) } else { self.backend.write(array.at(), bytes_of(values)) }
    }

    /// An array for this step only.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn upload<T: Copy>(&self, values: &[T]) -> Result<Array> {
        let address = if values.is_empty() { 0 } else { self.backend.upload(bytes_of(values))? };
        Ok(Array { block: None, address, len: values.len() })
    }

    /// Copies an array to the host.
    ///
    /// # Errors
    /// `Internal` when the device fails.
    pub fn read(&self, array: &Array) -> Result<Vec<f32>> {
        let mut values = vec![0f32; array.len()];
        if !values.is_empty() {
            // SAFETY: any bytes are an f32.
            let bytes = unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), 4 * array.len()) };
            self.backend.read(array.at(), bytes)?;
        }
        Ok(values)
    }

    /// The same, to be waited for later.
    ///
    /// # Errors
    /// `Internal` when the device fails.
    pub fn read_later(&self, array: &Array) -> Result<Later> {
        self.backend.read_later(array.at(), array.len())
    }

    /// A copy.
    ///
    /// # Errors
    /// As [`Device::array`].
    pub fn copy(self: &Arc<Self>, from: &Array) -> Result<Array> {
        let to = self.array(from.len())?;
        if !from.is_empty() {
            self.backend.copy(from.at(), to.at(), 4 * from.len())?;
        }
        Ok(to)
    }

    /// Runs a kernel on `count` elements.
    ///
    /// # Errors
    /// `Internal` when the device fails.
    pub fn each(&self, kernel: &'static str, count: usize, addresses: &[u64], counts: &[usize], numbers: &[f32]) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        let blocks = count.div_ceil(LANES).min(BLOCKS_MAX) as u32;
        self.launch(kernel, [blocks, LANES as u32, 0], addresses, counts, numbers)
    }

    /// Runs a kernel with a block for each of `rows` rows of `width` numbers, and `shared` numbers of four bytes for each lane.
    ///
    /// # Errors
    /// `Internal` when the device fails.
    pub fn rows(
        &self,
        kernel: &'static str,
        (rows, width, shared): (usize, usize, usize),
        addresses: &[u64],
        counts: &[usize],
        numbers: &[f32],
    ) -> Result<()> {
        if rows == 0 {
            return Ok(());
        }
        let lanes = width.next_power_of_two().clamp(32, LANES);
        self.launch(kernel, [rows.min(BLOCKS_MAX) as u32, lanes as u32, (4 * shared * lanes) as u32], addresses, counts, numbers)
    }

    /// Runs a kernel with so many blocks of so many lanes that share so many bytes.
    ///
    /// # Errors
    /// `Internal` when the device fails.
    pub fn launch(
        &self,
        kernel: &'static str,
        [blocks, lanes, shared_bytes]: [u32; 3],
        addresses: &[u64],
        counts: &[usize],
        numbers: &[f32],
    ) -> Result<()> {
        self.backend.launch(&Launch { kernel, blocks, lanes, shared_bytes, args: Args::new(addresses, counts, numbers)? })
    }

    /// `c [m, n] (+)= a [m, k] · b [k, n]`; `c` is at an address with a row stride.
    ///
    /// # Errors
    /// `Internal` when the device fails.
    pub fn multiply(&self, [m, n, k]: [usize; 3], a: Matrix, b: Matrix, c: (u64, usize), held: bool) -> Result<()> {
        self.multiply_batch(Product { m, n, k, a, b, c: plain(c.0, c.1), held, batch: 1 })
    }

    /// The same for a batch.
    ///
    /// # Errors
    /// `Internal` when the device fails, or asks for a sum over nothing in rows apart.
    pub fn multiply_batch(&self, product: Product) -> Result<()> {
        if product.m == 0 || product.n == 0 || product.batch == 0 {
            return Ok(());
        }
        if product.k > 0 {
            return self.backend.multiply(&product);
        }
        match (product.held, product.batch, product.c.stride == product.n) {
            (true, ..) => Ok(()),
            (false, 1, true) => self.backend.clear(product.c.address, 4 * product.m * product.n),
            _ => Err(Error::internal("a product over nothing")),
        }
    }

    /// Sums of the columns of `a [rows, width]`, times `b` where there is one (see the kernel `sum_columns`: its address, width
    /// and divisor), added to `to` if `held`. The order of the sum depends on the shape only.
    ///
    /// # Errors
    /// As [`Device::array`].
    pub fn sum_columns(
        self: &Arc<Self>,
        [rows, width]: [usize; 2],
        a: u64,
        b: Option<(u64, usize, usize)>,
        (to, held): (u64, bool),
    ) -> Result<()> {
        if width == 0 {
            return Ok(());
        }
        let chunk = rows.div_ceil((SUMS / width).clamp(1, rows.div_ceil(16).max(1))).max(1);
        let chunks = rows.div_ceil(chunk);
        let parts = self.array(chunks * width)?;
        let (b, b_width, b_divides) = b.unwrap_or((0, 1, 1));
        self.each("sum_columns", chunks * width, &[a, b, parts.at()], &[rows, width, chunk, chunks, b_width, b_divides], &[])?;
        self.each("sum_parts", width, &[parts.at(), to], &[width, chunks, usize::from(held)], &[])
    }

    /// `to += factor · from`.
    ///
    /// # Errors
    /// `Internal` when the device fails.
    pub fn add_scaled(&self, from: &Array, factor: f32, to: &Array) -> Result<()> {
        self.each("add_scaled", from.len(), &[from.at(), to.at()], &[from.len()], &[factor])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_cut_to_few_sizes() {
        assert_eq!([0, 1, 513, 5000].map(size_class), [512, 512, 1024, 8192]);
        for bytes in [1_100_000, 3_000_000, 123_456_789] {
            let class = size_class(bytes);
            assert!(class >= bytes && class as f64 <= bytes as f64 * 1.126, "{bytes}: {class}");
        }
    }
}
