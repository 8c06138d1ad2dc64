//! Networks on an NVIDIA GPU: the same architectures, trained and scored by kernels of our own, cuBLAS and cuDNN.
//!
//! An operator of [`super::ops`] that meets a [`Tape`](super::ops::Tape) made with [`Tape::on`](super::ops::Tape::on) hands
//! its work to [`DeviceTape`], whose operators ([`ops`]) give orders to a [`Device`]: products of matrices and kernels
//! (`kernels/*.cu`). Nothing above the operators knows where numbers lie, so an architecture is written once. [`Trainer`]
//! runs whole steps with weights, gradients and moments on the device; [`DeviceNetwork`] scores; [`choose`] decides which
//! device a job gets.
//!
//! **What a GPU is.** Everything goes through the trait [`Backend`]. `driver` (feature `cuda`) is the real one: it opens
//! libcuda, NVRTC, cuBLAS and cuDNN when a GPU is first asked for, never before, so one binary runs with and without them.
//! Kernels are compiled on first use for the GPU at hand, and the result is kept in the user's cache folder. `shim` (tests)
//! runs the same kernels compiled by the C compiler, which is how every order of a step is tested where there is no GPU.
//!
//! **Building.** `cargo build --release --features cuda` needs neither CUDA nor a GPU. At run time NVIDIA's driver (580 or
//! newer for CUDA 13) must be there, and `libnvrtc.so.13` (with its builtins), `libcublas.so.13`, `libcublasLt.so.13` and,
//! for faster recurrent layers, `libcudnn.so.9` where the loader finds them: in the system's CUDA, or beside PyTorch with
//! `LD_LIBRARY_PATH=$SITE/nvidia/cu13/lib:$SITE/nvidia/cudnn/lib`, `$SITE` being that Python's site-packages. Without cuDNN
//! our kernels run the recurrent layers step by step. `PORTRAIT_CUDA_CACHE` names another cache folder, and
//! `PORTRAIT_CUDNN=off` leaves cuDNN out.
//!
//! **Exactness.** The same device gives the same bytes: sums have one order and no kernel uses atomics. A device and the host
//! agree to rounding (within 1e-4 of a step's gradients), dropout included, because shards and random numbers are the same;
//! the option `precision` (`tf32`, `bf16`) trades that for speed.
//!
//! Absent on purpose: convolutions, pictures and texts, layers in both directions, weights of 8 bits, losses over a sample of
//! many items, tables that are updated row by row, private training, ensembles, and several GPUs at once. All of that stays
//! on the CPU ([`choose`]).

mod backend;
mod batch;
pub mod choose;
#[cfg(feature = "cuda")]
mod cudnn;
mod device;
#[cfg(feature = "cuda")]
mod driver;
pub mod kernels;
mod network;
mod ops;
#[cfg(test)]
pub(crate) mod shim;
mod tape;
#[cfg(test)]
mod tests;
mod trainer;
#[cfg(any(feature = "cuda", test))]
mod trial;

pub use backend::{Backend, Cell, Precision};
pub use device::{Array, Device};
pub use network::DeviceNetwork;
pub use tape::{DeviceTape, Shards};
pub use trainer::Trainer;
