//! What a device must be able to do: hold memory, multiply matrices, run a kernel. Everything else of this room is written
//! against it, so that the same orders run on a GPU ([`super::driver`]) and, in tests, on kernels compiled for the CPU.

use crate::error::{Code, Error, Result};
use crate::models::ops::Activation;

/// What a kernel is told (`Args` of `kernels/prelude.h`): addresses, counts and numbers.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Args {
    /// Addresses of arrays; 0 = none.
    pub addresses: [u64; 14],
    /// Counts.
    pub counts: [u32; 14],
    /// Numbers.
    pub numbers: [f32; 8],
}

impl Args {
    /// From slices, the rest 0.
    ///
    /// # Errors
    /// `Internal` when there are too many, or a count is over 2³².
    pub fn new(addresses: &[u64], counts: &[usize], numbers: &[f32]) -> Result<Self> {
        let mut args = Self::default();
        if addresses.len() > args.addresses.len() || counts.len() > args.counts.len() || numbers.len() > args.numbers.len() {
            return Err(Error::internal("a kernel has too many arguments"));
        }
        args.addresses[..addresses.len()].copy_from_slice(addresses);
        args.numbers[..numbers.len()].copy_from_slice(numbers);
        for (to, from) in args.counts.iter_mut().zip(counts) {
            *to = u32::try_from(*from).map_err(|_| too_large())?;
        }
        Ok(args)
    }
}

/// The error of an array with more numbers than kernels count.
pub(super) fn too_large() -> Error {
    Error::new(Code::OutOfMemory, "the batch is too large for the device").hint("Set a smaller batch_size.")
}

/// The error of a device that has no memory left.
#[cfg(any(feature = "cuda", test))]
pub(super) fn out_of_memory(bytes: usize) -> Error {
    Error::new(Code::OutOfMemory, "out of memory on the device")
        .detail(if bytes > 0 { format!("{bytes} more bytes were asked for.") } else { "A library of CUDA asked for more.".to_owned() })
        .hint("Set a smaller batch_size, or device => 'cpu'.")
}

/// One kernel to run.
#[derive(Debug, Clone, Copy)]
pub struct Launch {
    /// Its name in `kernels/`.
    pub kernel: &'static str,
    /// Blocks of the grid.
    pub blocks: u32,
    /// Lanes of a block; a power of two up to 256.
    pub lanes: u32,
    /// Bytes that the lanes of a block share.
    pub shared_bytes: u32,
    /// What it is told.
    pub args: Args,
}

/// A row-major matrix that a product reads or writes.
#[derive(Debug, Clone, Copy)]
pub struct Matrix {
    /// Where it begins.
    pub address: u64,
    /// Numbers from one row, as it lies, to the next.
    pub stride: usize,
    /// Whether it is read with rows and columns exchanged.
    pub transposed: bool,
    /// Numbers from one matrix of a batch to the next.
    pub step: usize,
}

impl Matrix {
    /// With rows and columns exchanged.
    #[must_use]
    pub const fn turned(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    /// One of a batch that lie `step` numbers apart.
    #[must_use]
    pub const fn every(self, step: usize) -> Self {
        Self { step, ..self }
    }
}

/// `c (+)= a · b` for each of a batch: `a [m, k]`, `b [k, n]`, `c [m, n]`.
#[derive(Debug, Clone, Copy)]
pub struct Product {
    /// Rows of the result.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// What is summed over.
    pub k: usize,
    /// Left.
    pub a: Matrix,
    /// Right.
    pub b: Matrix,
    /// Result.
    pub c: Matrix,
    /// Whether the result is added to what is there.
    pub held: bool,
    /// Matrices of the batch.
    pub batch: usize,
}

/// How exactly products of matrices are computed; sums are always in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// As f32.
    #[default]
    Full,
    /// Factors rounded to TF32 (10 bits of mantissa).
    Tf32,
    /// Factors rounded to bfloat16 (7 bits of mantissa).
    Bf16,
}

/// Numbers on their way to the host; the call waits for them.
pub(super) type Later = Box<dyn FnOnce() -> Result<Vec<f32>> + Send + Sync>;

/// A device. Orders run one after the other, in the order given; the host does not wait for them unless a method says so.
pub trait Backend: Send + Sync + std::fmt::Debug {
    /// Memory of so many bytes, not cleared.
    ///
    /// # Errors
    /// `OutOfMemory`.
    fn alloc(&self, bytes: usize) -> Result<u64>;

    /// Gives memory back; orders given before may still use it.
    fn free(&self, address: u64);

    /// Fills memory with zeros.
    ///
    /// # Errors
    /// `Internal` when the device fails, as all below.
    fn clear(&self, address: u64, bytes: usize) -> Result<()>;

    /// Copies on the device.
    ///
    /// # Errors
    /// See [`Backend::clear`].
    fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()>;

    /// Copies to the device; returns when the bytes are there.
    ///
    /// # Errors
    /// See [`Backend::clear`].
    fn write(&self, to: u64, bytes: &[u8]) -> Result<()>;

    /// Copies to the host; waits for all orders given before.
    ///
    /// # Errors
    /// See [`Backend::clear`].
    fn read(&self, from: u64, into: &mut [u8]) -> Result<()>;

    /// The same for a few numbers, to be waited for later.
    ///
    /// # Errors
    /// See [`Backend::clear`].
    fn read_later(&self, from: u64, count: usize) -> Result<Later>;

    /// A step begins: what was uploaded in the step before the last is forgotten.
    ///
    /// # Errors
    /// See [`Backend::clear`].
    fn begin(&self) -> Result<()>;

    /// A copy of `bytes` for the kernels of this step, aligned to 256 bytes. They travel beside the computing: the host goes
    /// on at once and the next orders wait for them.
    ///
    /// # Errors
    /// `OutOfMemory`.
    fn upload(&self, bytes: &[u8]) -> Result<u64>;

    /// Multiplies matrices.
    ///
    /// # Errors
    /// See [`Backend::clear`].
    fn multiply(&self, product: &Product) -> Result<()>;

    /// Runs a kernel.
    ///
    /// # Errors
    /// See [`Backend::clear`].
    fn launch(&self, launch: &Launch) -> Result<()>;

    /// Whole recurrent layers, where the vendor's library has them.
    fn layers(&self) -> Option<&dyn Layers> {
        None
    }
}

/// A recurrent cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cell {
    /// Elman's, with the hyperbolic tangent.
    Tanh,
    /// Elman's, with a relu.
    Relu,
    /// Gated recurrent units.
    Gru,
    /// Long short-term memory.
    Lstm,
}

impl Cell {
    /// Elman's cell with this activation.
    ///
    /// # Errors
    /// `Internal` when no device has it.
    pub fn of(activation: Activation) -> Result<Self> {
        match activation {
            Activation::Tanh => Ok(Self::Tanh),
            Activation::Relu => Ok(Self::Relu),
            _ => Err(Error::internal("a recurrent layer's activation has no kernel")),
        }
    }

    /// Rows of its matrices per hidden unit.
    #[must_use]
    pub const fn gates(self) -> usize {
        match self {
            Self::Tanh | Self::Relu => 1,
            Self::Gru => 3,
            Self::Lstm => 4,
        }
    }
}

/// One recurrent layer over packed sequences.
#[derive(Debug, Clone)]
pub struct LayerShape {
    /// Its cell.
    pub cell: Cell,
    /// Width of the input.
    pub inputs: usize,
    /// Width of the state.
    pub hidden: usize,
    /// Steps of each row that has any, longest first.
    pub lengths: Vec<i32>,
    /// The same on the device.
    pub lengths_address: u64,
}

impl LayerShape {
    /// Packed steps.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.lengths.iter().map(|len| *len as usize).sum()
    }
}

/// What a layer's forward pass keeps for the way back, in memory that the caller frees.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kept {
    /// The weights as the library wants them.
    pub weights: (u64, usize),
    /// The library's own notes.
    pub reserve: (u64, usize),
}

/// Whole recurrent layers of a vendor's library. Weights are PyTorch's: `weight_ih`, `weight_hh`, `bias_ih`, `bias_hh`.
pub trait Layers: Send + Sync + std::fmt::Debug {
    /// Bytes that [`Kept`] needs: weights and notes.
    ///
    /// # Errors
    /// `Internal` when the library fails, as all below.
    fn sizes(&self, shape: &LayerShape, training: bool) -> Result<(usize, usize)>;

    /// `x [steps, inputs]` → `h [steps, hidden]`.
    ///
    /// # Errors
    /// See [`Layers::sizes`].
    fn forward(&self, shape: &LayerShape, weights: [u64; 4], x: u64, h: u64, kept: Kept, training: bool) -> Result<()>;

    /// The gradient `d_h` of `h` → those of `x` and the weights. `scratch` has the size of the library's weights.
    ///
    /// # Errors
    /// See [`Layers::sizes`].
    fn backward(&self, shape: &LayerShape, kept: Kept, x_h: [u64; 2], d_h: u64, d_x: u64, d_weights: [u64; 4], scratch: u64) -> Result<()>;
}
