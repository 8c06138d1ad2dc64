//! Whole recurrent layers by cuDNN (the RNN functions of version 8 and later). Packed sequences, the order of gates and the
//! two biases are PyTorch's, which are cuDNN's: what differs is that it wants a layer's weights in one block of its own.
//!
//! Used when the library loads and [`agrees`](super::choose) with our own kernels on a small example.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::{Mutex, PoisonError};

use cudarc::cudnn::sys as dnn;
use cudarc::driver::{result as cuda, sys};

use super::backend::{Cell, Kept, LayerShape, Layers, Precision, out_of_memory};
use super::driver::failed;
use crate::error::{Error, Result};

/// cuDNN on one stream.
pub(super) struct Cudnn {
    handle: dnn::cudnnHandle_t,
    stream: sys::CUstream,
    math: dnn::cudnnMathType_t,
    dropout: dnn::cudnnDropoutDescriptor_t,
    inner: Mutex<Inner>,
}

// SAFETY: handles may be used from any thread whose current context is theirs; calls take turns (`inner`).
unsafe impl Send for Cudnn {}
// SAFETY: as above.
unsafe impl Sync for Cudnn {}

impl std::fmt::Debug for Cudnn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cudnn")
    }
}

/// A cell with its widths of input and state.
type Key = (Cell, usize, usize);

#[derive(Default)]
struct Inner {
    layers: BTreeMap<Key, Layer>,
    /// Room that calls work in, by address and bytes.
    room: (u64, usize),
}

/// What cuDNN says of a layer once and for all.
#[derive(Clone)]
struct Layer {
    descriptor: dnn::cudnnRNNDescriptor_t,
    bytes: usize,
    /// Where pieces of its weights lie in its block and among ours: which of our four arrays, from which number, to which
    /// number of the block, how many.
    moves: Vec<(usize, usize, usize, usize)>,
}

/// Descriptors of one call, destroyed behind it.
struct Call {
    x: dnn::cudnnRNNDataDescriptor_t,
    h: dnn::cudnnRNNDataDescriptor_t,
    state: dnn::cudnnTensorDescriptor_t,
}

impl Drop for Call {
    fn drop(&mut self) {
        // SAFETY: made by `Call::new`, and nobody else has them.
        unsafe {
            let _ = dnn::cudnnDestroyRNNDataDescriptor(self.x);
            let _ = dnn::cudnnDestroyRNNDataDescriptor(self.h);
            let _ = dnn::cudnnDestroyTensorDescriptor(self.state);
        }
    }
}

fn done(status: dnn::cudnnStatus_t) -> Result<()> {
    if status == dnn::cudnnStatus_t::CUDNN_STATUS_SUCCESS { Ok(()) } else { Err(failed("run a recurrent layer", status)) }
}

const fn at(address: u64) -> *mut c_void {
    address as *mut c_void
}

impl Call {
    fn new(shape: &LayerShape) -> Result<Self> {
        let mut call = Self { x: null_mut(), h: null_mut(), state: null_mut() };
        let rows = shape.lengths.len() as i32;
        let longest = shape.lengths.first().copied().unwrap_or(0);
        // SAFETY: descriptors are written before they are used; `lengths` has a number for each row.
        unsafe {
            done(dnn::cudnnCreateRNNDataDescriptor(&mut call.x))?;
            done(dnn::cudnnCreateRNNDataDescriptor(&mut call.h))?;
            done(dnn::cudnnCreateTensorDescriptor(&mut call.state))?;
            for (descriptor, width) in [(call.x, shape.inputs), (call.h, shape.hidden)] {
                done(dnn::cudnnSetRNNDataDescriptor(
                    descriptor,
                    dnn::cudnnDataType_t::CUDNN_DATA_FLOAT,
                    dnn::cudnnRNNDataLayout_t::CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED,
                    longest,
                    rows,
                    width as i32,
                    shape.lengths.as_ptr(),
                    null_mut(),
                ))?;
            }
            let hidden = shape.hidden as i32;
            let (dims, strides) = ([1, rows, hidden], [rows * hidden, hidden, 1]);
            let float = dnn::cudnnDataType_t::CUDNN_DATA_FLOAT;
            done(dnn::cudnnSetTensorNdDescriptor(call.state, float, 3, dims.as_ptr(), strides.as_ptr()))?;
        }
        Ok(call)
    }
}

impl Cudnn {
    /// `None` when the library is not there, is switched off or does not start.
    pub(super) fn open(stream: sys::CUstream, precision: Precision) -> Option<Self> {
        // SAFETY: opening the library runs its start-up code only.
        if std::env::var("PORTRAIT_CUDNN").is_ok_and(|value| value == "off") || !unsafe { dnn::is_culib_present() } {
            return None;
        }
        let math = match precision {
            Precision::Full => dnn::cudnnMathType_t::CUDNN_FMA_MATH,
            Precision::Tf32 => dnn::cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
            Precision::Bf16 => dnn::cudnnMathType_t::CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION,
        };
        let (mut handle, mut dropout) = (null_mut(), null_mut());
        // SAFETY: handle and descriptor are written before they are used. Dropout of nothing needs no memory.
        let started = unsafe {
            done(dnn::cudnnCreate(&mut handle))
                .and_then(|()| done(dnn::cudnnSetStream(handle, stream.cast())))
                .and_then(|()| done(dnn::cudnnCreateDropoutDescriptor(&mut dropout)))
                .and_then(|()| done(dnn::cudnnSetDropoutDescriptor(dropout, handle, 0.0, null_mut(), 0, 0)))
        };
        match started {
            Ok(()) => Some(Self { handle, stream, math, dropout, inner: Mutex::default() }),
            Err(error) => {
                tracing::warn!("cuDNN cannot be used: {error}");
                None
            }
        }
    }

    /// What cuDNN says of a layer; `weights` is a block for its weights when there is one already.
    fn layer<'a>(&self, inner: &'a mut Inner, shape: &LayerShape, weights: u64) -> Result<&'a Layer> {
        let key = (shape.cell, shape.inputs, shape.hidden);
        let layer = match inner.layers.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(self.describe(shape)?),
        };
        if layer.moves.is_empty() && weights != 0 {
            layer.moves = self.moves(layer, shape, weights)?;
        }
        Ok(layer)
    }

    fn describe(&self, shape: &LayerShape) -> Result<Layer> {
        let mode = match shape.cell {
            Cell::Tanh => dnn::cudnnRNNMode_t::CUDNN_RNN_TANH,
            Cell::Relu => dnn::cudnnRNNMode_t::CUDNN_RNN_RELU,
            Cell::Gru => dnn::cudnnRNNMode_t::CUDNN_GRU,
            Cell::Lstm => dnn::cudnnRNNMode_t::CUDNN_LSTM,
        };
        let (mut descriptor, mut bytes) = (null_mut(), 0);
        let float = dnn::cudnnDataType_t::CUDNN_DATA_FLOAT;
        // SAFETY: the descriptor is written before it is used.
        unsafe {
            done(dnn::cudnnCreateRNNDescriptor(&mut descriptor))?;
            done(dnn::cudnnSetRNNDescriptor_v8(
                descriptor,
                dnn::cudnnRNNAlgo_t::CUDNN_RNN_ALGO_STANDARD,
                mode,
                dnn::cudnnRNNBiasMode_t::CUDNN_RNN_DOUBLE_BIAS,
                dnn::cudnnDirectionMode_t::CUDNN_UNIDIRECTIONAL,
                dnn::cudnnRNNInputMode_t::CUDNN_LINEAR_INPUT,
                float,
                float,
                self.math,
                shape.inputs as i32,
                shape.hidden as i32,
                shape.hidden as i32,
                1,
                self.dropout,
                0,
            ))?;
            done(dnn::cudnnGetRNNWeightSpaceSize(self.handle, descriptor, &mut bytes))?;
        }
        Ok(Layer { descriptor, bytes, moves: Vec::new() })
    }

    /// Where each gate's matrices and biases lie; neighbours are moved together.
    fn moves(&self, layer: &Layer, shape: &LayerShape, weights: u64) -> Result<Vec<(usize, usize, usize, usize)>> {
        let (gates, inputs, hidden) = (shape.cell.gates(), shape.inputs, shape.hidden);
        let (mut matrix, mut bias) = (null_mut(), null_mut());
        // SAFETY: the descriptors are written before they are used.
        unsafe {
            done(dnn::cudnnCreateTensorDescriptor(&mut matrix))?;
            done(dnn::cudnnCreateTensorDescriptor(&mut bias))?;
        }
        let mut moves: Vec<(usize, usize, usize, usize)> = Vec::new();
        let mut add = |array: usize, from: usize, to: usize, len: usize| match moves.last_mut() {
            Some(last) if last.0 == array && last.1 + last.3 == from && last.2 + last.3 == to => last.3 += len,
            _ => moves.push((array, from, to, len)),
        };
        for of_bias in [false, true] {
            for id in 0..2 * gates {
                let (mut matrix_at, mut bias_at) = (null_mut(), null_mut());
                // SAFETY: the block has the size that cuDNN asked for; the addresses it gives lie inside.
                let status = unsafe {
                    dnn::cudnnGetRNNWeightParams(
                        self.handle,
                        layer.descriptor,
                        0,
                        layer.bytes,
                        at(weights),
                        id as i32,
                        matrix,
                        &mut matrix_at,
                        bias,
                        &mut bias_at,
                    )
                };
                done(status)?;
                let (second, gate) = (id / gates, id % gates);
                let width = if of_bias { 1 } else { [inputs, hidden][second] };
                let found = if of_bias { bias_at } else { matrix_at } as u64;
                let to = found.checked_sub(weights).ok_or_else(|| Error::internal("cuDNN keeps weights outside their block"))? / 4;
                add(second + 2 * usize::from(of_bias), gate * hidden * width, to as usize, hidden * width);
            }
        }
        // SAFETY: made above.
        unsafe {
            let _ = dnn::cudnnDestroyTensorDescriptor(matrix);
            let _ = dnn::cudnnDestroyTensorDescriptor(bias);
        }
        Ok(moves)
    }

    /// Sizes of the room and of the notes of a call, in bytes.
    fn room_and_notes(&self, layer: &Layer, call: &Call, training: bool) -> Result<(usize, usize)> {
        let (mut room, mut notes) = (0, 0);
        // SAFETY: both are written.
        done(unsafe { dnn::cudnnGetRNNTempSpaceSizes(self.handle, layer.descriptor, mode(training), call.x, &mut room, &mut notes) })?;
        Ok((room, notes))
    }

    /// Room for a call of at least `bytes`.
    fn room(&self, inner: &mut Inner, bytes: usize) -> Result<u64> {
        if inner.room.1 < bytes {
            // SAFETY: the driver waits for what still uses the old room before it is freed.
            unsafe {
                if inner.room.0 != 0 {
                    cuda::free_sync(inner.room.0).map_err(|error| failed("give memory back", error))?;
                }
                inner.room = (0, 0);
                inner.room = (cuda::malloc_sync(bytes).map_err(|_| out_of_memory(bytes))?, bytes);
            }
        }
        Ok(inner.room.0)
    }

    /// Copies our arrays into cuDNN's block, or back.
    fn carry(&self, layer: &Layer, ours: [u64; 4], block: u64, back: bool) -> Result<()> {
        for (array, from, to, len) in layer.moves.iter().copied() {
            let (own, theirs) = (ours[array] + 4 * from as u64, block + 4 * to as u64);
            let (from, to) = if back { (theirs, own) } else { (own, theirs) };
            // SAFETY: the moves lie inside both.
            unsafe { cuda::memcpy_dtod_async(to, from, 4 * len, self.stream) }.map_err(|error| failed("copy weights", error))?;
        }
        Ok(())
    }
}

const fn mode(training: bool) -> dnn::cudnnForwardMode_t {
    if training { dnn::cudnnForwardMode_t::CUDNN_FWD_MODE_TRAINING } else { dnn::cudnnForwardMode_t::CUDNN_FWD_MODE_INFERENCE }
}

impl Layers for Cudnn {
    fn sizes(&self, shape: &LayerShape, training: bool) -> Result<(usize, usize)> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let layer = self.layer(&mut inner, shape, 0)?.clone();
        let (_, notes) = self.room_and_notes(&layer, &Call::new(shape)?, training)?;
        Ok((layer.bytes, notes))
    }

    fn forward(&self, shape: &LayerShape, weights: [u64; 4], x: u64, h: u64, kept: Kept, training: bool) -> Result<()> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let layer = self.layer(&mut inner, shape, kept.weights.0)?.clone();
        let call = Call::new(shape)?;
        let (bytes, notes) = self.room_and_notes(&layer, &call, training)?;
        let room = self.room(&mut inner, bytes)?;
        self.carry(&layer, weights, kept.weights.0, false)?;
        // SAFETY: all memory has the size that cuDNN asked for; states that are not given are zeros.
        done(unsafe {
            dnn::cudnnRNNForward(
                self.handle,
                layer.descriptor,
                mode(training),
                shape.lengths_address as *const i32,
                call.x,
                at(x),
                call.h,
                at(h),
                call.state,
                null(),
                null_mut(),
                call.state,
                null(),
                null_mut(),
                layer.bytes,
                at(kept.weights.0),
                bytes,
                at(room),
                notes,
                if notes > 0 { at(kept.reserve.0) } else { null_mut() },
            )
        })
    }

    fn backward(
        &self,
        shape: &LayerShape,
        kept: Kept,
        [x, h]: [u64; 2],
        d_h: u64,
        d_x: u64,
        d_weights: [u64; 4],
        scratch: u64,
    ) -> Result<()> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let layer = self.layer(&mut inner, shape, kept.weights.0)?.clone();
        let call = Call::new(shape)?;
        let (bytes, notes) = self.room_and_notes(&layer, &call, true)?;
        let room = self.room(&mut inner, bytes)?;
        let (lengths, reserve) = (shape.lengths_address as *const i32, at(kept.reserve.0));
        // SAFETY: as above; the block of gradients is cleared before it is added to.
        unsafe {
            done(dnn::cudnnRNNBackwardData_v8(
                self.handle,
                layer.descriptor,
                lengths,
                call.h,
                at(h),
                at(d_h),
                call.x,
                at(d_x),
                call.state,
                null(),
                null(),
                null_mut(),
                call.state,
                null(),
                null(),
                null_mut(),
                layer.bytes,
                at(kept.weights.0),
                bytes,
                at(room),
                notes,
                reserve,
            ))?;
            cuda::memset_d8_async(scratch, 0, layer.bytes, self.stream).map_err(|error| failed("clear memory", error))?;
            done(dnn::cudnnRNNBackwardWeights_v8(
                self.handle,
                layer.descriptor,
                dnn::cudnnWgradMode_t::CUDNN_WGRAD_MODE_ADD,
                lengths,
                call.x,
                at(x),
                call.state,
                null(),
                call.h,
                at(h),
                layer.bytes,
                at(scratch),
                bytes,
                at(room),
                notes,
                reserve,
            ))?;
        }
        self.carry(&layer, d_weights, scratch, true)
    }
}

impl Drop for Cudnn {
    fn drop(&mut self) {
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the driver, which holds this, has waited for the stream and made the context current.
        unsafe {
            for layer in inner.layers.values() {
                let _ = dnn::cudnnDestroyRNNDescriptor(layer.descriptor);
            }
            if inner.room.0 != 0 {
                let _ = cuda::free_sync(inner.room.0);
            }
            let _ = (dnn::cudnnDestroyDropoutDescriptor(self.dropout), dnn::cudnnDestroy(self.handle));
        }
    }
}
