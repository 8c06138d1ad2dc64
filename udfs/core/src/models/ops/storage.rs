//! The door to candle's storage: tensors made from vectors, slices read from tensors.

use std::sync::Mutex;

use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Storage, StorageRef, Tensor};

use super::real::Real;
use crate::error::{Error, Result};

/// A tensor of `shape` on the CPU that owns `values`; nothing is copied.
///
/// # Errors
/// `Internal` when shape and length disagree.
pub fn tensor<T: Real>(values: Vec<T>, shape: &[usize]) -> Result<Tensor> {
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// Holds a tensor's storage open for reading.
#[allow(missing_debug_implementations, reason = "a lock guard")]
pub struct Read<'a> {
    guard: StorageRef<'a>,
    range: (usize, usize),
}

/// Opens a contiguous CPU tensor for reading.
///
/// # Errors
/// `Internal` when it is not contiguous.
pub fn read(tensor: &Tensor) -> Result<Read<'_>> {
    let (guard, layout) = tensor.storage_and_layout();
    let range = layout.contiguous_offsets().ok_or_else(|| Error::internal("operator input is not contiguous"))?;
    Ok(Read { guard, range })
}

impl Read<'_> {
    /// The values, row-major.
    ///
    /// # Errors
    /// `Internal` when the tensor lives on another device or has another type.
    pub fn slice<T: Real>(&self) -> Result<&[T]> {
        match &*self.guard {
            Storage::Cpu(storage) => Ok(&storage.as_slice::<T>()?[self.range.0..self.range.1]),
            _ => Err(Error::internal("operator has no implementation for this device")),
        }
    }
}

/// Copies a tensor's values to the host.
///
/// # Errors
/// As [`read`] and [`Read::slice`].
pub fn to_vec<T: Real>(tensor: &Tensor) -> Result<Vec<T>> {
    Ok(read(tensor)?.slice::<T>()?.to_vec())
}

/// Lets `change` write a tensor's values in place.
///
/// # Errors
/// `Internal` when the tensor is not a contiguous CPU tensor of `T`.
pub fn modify<T: Real>(tensor: &Tensor, change: impl FnOnce(&mut [T]) + Send) -> Result<()> {
    let op = Modify(Mutex::new(Some(change)), std::marker::PhantomData::<fn() -> T>);
    Ok(tensor.inplace_op1(&op)?)
}

struct Modify<F, T>(Mutex<Option<F>>, std::marker::PhantomData<fn() -> T>);

impl<T: Real, F: FnOnce(&mut [T])> InplaceOp1 for Modify<F, T> {
    fn name(&self) -> &'static str {
        "modify"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (start, end) = layout.contiguous_offsets().ok_or_else(|| candle_core::Error::Msg("not contiguous".into()))?;
        let values = T::storage_mut(storage).ok_or_else(|| candle_core::Error::Msg("unexpected type".into()))?;
        if let Some(change) = self.0.lock().ok().and_then(|mut change| change.take()) {
            change(&mut values[start..end]);
        }
        Ok(())
    }
}

/// Runs `$body` with `$T` = the tensor's element type.
macro_rules! dispatch {
    ($tensor:expr, $T:ident => $body:expr) => {
        match $tensor.dtype() {
            candle_core::DType::F32 => {
                type $T = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $T = f64;
                $body
            }
            other => Err($crate::error::Error::internal(format!("operator has no implementation for {other:?}"))),
        }
    };
}
pub(super) use dispatch;

/// A contiguous version of `tensor`, itself when it is contiguous already.
///
/// # Errors
/// `Internal` for element types other than `f32` and `f64`.
pub fn contiguous(tensor: &Tensor) -> Result<Tensor> {
    match tensor.dtype() {
        DType::F32 | DType::F64 => Ok(tensor.contiguous()?),
        other => Err(Error::internal(format!("operators have no implementation for {other:?}"))),
    }
}
