//! Weights of 8 or 4 bits: which parameters are rounded, how they are stored, and the network that computes with them.
//!
//! Every parameter of two or more dimensions whose name ends in `weight` (or is a recurrent layer's) is rounded row by row;
//! biases, norms, scalings and bin edges stay floats. A file is safetensors like any other: an 8-bit parameter is `I8` of its
//! own shape, a 4-bit one `U8` `[rows, ⌈columns / 2⌉]` with two numbers to a byte, each beside `<name>.scale` in `BF16`, one
//! for each row or for each 32 columns of it.
//!
//! When a model is loaded, what the 8-bit [layers](super::ops) know is packed for them; 4-bit weights become 8-bit ones.
//! Everything else becomes floats again: it is small, and a network whose operators know nothing of this still scores.

use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::architecture::{ParameterSpec, Weights, module};
use super::ops::int8::weights::{GROUP4, Matrix4, Matrix8};
use super::ops::int8::{Cell, Weight8};
use super::ops::storage::tensor;
use super::ops::{Activation, Tape};
use super::{Architecture, NetworkConfig, Parameters};
use crate::error::{Code, Error, Result};

/// Outputs and inputs that a dense layer must have to be worth computing with bytes.
const SIDE_MIN: usize = 16;

/// How weights are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// Not at all.
    Float32,
    /// 8 bits, a scale for each row.
    Int8,
    /// 4 bits, a scale for each 32 columns.
    Int4,
}

impl Scheme {
    /// The name used in SQL.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }
}

/// One parameter as it is stored.
#[derive(Debug, Clone, PartialEq)]
enum Stored {
    Float(Vec<f32>),
    Int8(Matrix8),
    Int4(Matrix4),
}

impl Stored {
    fn floats(&self) -> Vec<f32> {
        match self {
            Self::Float(values) => values.clone(),
            Self::Int8(matrix) => matrix.floats(),
            Self::Int4(matrix) => matrix.floats(),
        }
    }
}

/// A model's weights, rounded: name → shape and values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Compressed(BTreeMap<String, (Vec<usize>, Stored)>);

/// What a parameter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Stays floats in the file too.
    Float,
    /// Rounded in the file; the layer computes with floats.
    Stored,
    /// Vectors that are looked up.
    Table,
    /// A dense layer.
    Dense,
    /// A recurrent layer.
    Recurrent(Cell),
    /// A convolution over steps with so many taps.
    Taps(usize),
}

/// What is done with a parameter of a network. A name that nobody knows is stored rounded and computed in floats.
fn role(config: &NetworkConfig, spec: &ParameterSpec) -> Role {
    let name = spec.name.as_str();
    let recurrent = name.contains(".weight_ih") || name.contains(".weight_hh");
    if spec.shape.len() < 2 || !spec.trainable || !(name.ends_with("weight") || recurrent) {
        return Role::Float;
    }
    // The coefficients of a linear model are read by people, and are few.
    if config.architecture == Architecture::Logreg && !name.starts_with("categorical.") {
        return Role::Stored;
    }
    if name.starts_with("tokens.") || name.starts_with("categorical.") || name == "positions.weight" {
        return Role::Table;
    }
    let wide = spec.shape[0] >= SIDE_MIN && spec.shape[1] >= SIDE_MIN;
    match config.architecture {
        Architecture::Lstm if recurrent => Role::Recurrent(Cell::Lstm),
        Architecture::Gru if recurrent => Role::Recurrent(Cell::Gru),
        Architecture::Rnn if recurrent => Role::Recurrent(Cell::Rnn(Activation::Tanh)),
        Architecture::Cnn if config.shape.image.is_none() && name.starts_with("convs.") && spec.shape.len() == 3 && wide => {
            Role::Taps(spec.shape[2])
        }
        _ if spec.shape.len() == 2 && wide && is_dense(name) => Role::Dense,
        _ => Role::Stored,
    }
}

/// Whether a name is that of a layer of [`linear`](super::ops::linear) or [`batch_ensemble`](super::ops::batch_ensemble).
fn is_dense(name: &str) -> bool {
    let parts: Vec<&str> = name.split('.').collect();
    match parts.as_slice() {
        ["input" | "tabular" | "head" | "output", "weight"] | ["blocks" | "state", _, "weight"] => true,
        ["layers", _, part, "weight"] => matches!(*part, "query" | "key_value" | "attended" | "linear1" | "linear2"),
        _ => false,
    }
}

fn damaged(reason: impl std::fmt::Display) -> Error {
    Error::new(Code::DataCorrupted, "model weights are damaged").detail(format!("{reason}."))
}

/// Where the scales of a parameter are stored.
fn scale_name(name: &str) -> String {
    format!("{name}.scale")
}

fn bytes_of(scales: &[u16]) -> Vec<u8> {
    scales.iter().flat_map(|bits| bits.to_le_bytes()).collect()
}

/// Whether bytes are weights that [`Compressed::to_safetensors`] wrote; plain weights are all `F32`.
#[must_use]
pub fn is_compressed(bytes: &[u8]) -> bool {
    SafeTensors::deserialize(bytes).is_ok_and(|tensors| tensors.tensors().iter().any(|(_, view)| view.dtype() != Dtype::F32))
}

impl Compressed {
    /// Rounds the parameters of a network.
    ///
    /// # Errors
    /// `Internal` when they do not fit the configuration.
    pub fn of(config: &NetworkConfig, parameters: &Parameters, scheme: Scheme) -> Result<Self> {
        let mut all = BTreeMap::new();
        for spec in module(config)?.specs() {
            let (shape, values) = parameters
                .0
                .get(&spec.name)
                .filter(|(shape, _)| *shape == spec.shape)
                .ok_or_else(|| Error::internal(format!("parameter \"{}\" is missing or has another shape", spec.name)))?;
            let rows = shape.first().copied().unwrap_or(1);
            let stored = match (role(config, &spec), scheme) {
                (Role::Float, _) | (_, Scheme::Float32) => Stored::Float(values.clone()),
                (_, Scheme::Int4) => Stored::Int4(Matrix4::of(values, rows)),
                (own, Scheme::Int8) => Stored::Int8(rounded(own, values, rows)),
            };
            all.insert(spec.name, (shape.clone(), stored));
        }
        Ok(Self(all))
    }

    /// How most of it is stored.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        let has = |is: fn(&Stored) -> bool| self.0.values().any(|(_, stored)| is(stored));
        if has(|stored| matches!(stored, Stored::Int4(_))) {
            Scheme::Int4
        } else if has(|stored| matches!(stored, Stored::Int8(_))) {
            Scheme::Int8
        } else {
            Scheme::Float32
        }
    }

    /// As floats.
    #[must_use]
    pub fn parameters(&self) -> Parameters {
        Parameters(self.0.iter().map(|(name, (shape, stored))| (name.clone(), (shape.clone(), stored.floats()))).collect())
    }

    /// Numbers that it holds, as floats or not.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.values().map(|(shape, _)| shape.iter().product::<usize>()).sum()
    }

    /// The same weights give the same bytes.
    ///
    /// # Errors
    /// `Internal` when a shape and its values disagree.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let mut encoded: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
        for (name, (shape, stored)) in &self.0 {
            let rows = shape.first().copied().unwrap_or(1);
            let columns = shape.iter().skip(1).product::<usize>();
            match stored {
                Stored::Float(values) => {
                    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                    encoded.push((name.clone(), Dtype::F32, shape.clone(), bytes));
                }
                Stored::Int8(matrix) => {
                    let (values, scales) = matrix.parts();
                    encoded.push((name.clone(), Dtype::I8, shape.clone(), values.iter().map(|value| value.cast_unsigned()).collect()));
                    encoded.push((scale_name(name), Dtype::BF16, vec![rows], bytes_of(scales)));
                }
                Stored::Int4(matrix) => {
                    let (bytes, scales) = matrix.parts();
                    encoded.push((name.clone(), Dtype::U8, vec![rows, columns.div_ceil(2)], bytes.to_vec()));
                    encoded.push((scale_name(name), Dtype::BF16, vec![rows, columns.div_ceil(GROUP4)], bytes_of(scales)));
                }
            }
        }
        let mut views = Vec::with_capacity(encoded.len());
        for (name, dtype, shape, bytes) in &encoded {
            let view = TensorView::new(*dtype, shape.clone(), bytes)
                .map_err(|error| Error::internal(format!("parameter \"{name}\" cannot be stored: {error}")))?;
            views.push((name.as_str(), view));
        }
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        safetensors::serialize(views, Some(metadata)).map_err(|error| Error::internal(format!("weights cannot be stored: {error}")))
    }

    /// Reads weights of a network, rounded or not.
    ///
    /// # Errors
    /// `DataCorrupted` when they do not fit the configuration or hold what is no weight.
    pub fn from_safetensors(config: &NetworkConfig, bytes: &[u8]) -> Result<Self> {
        let tensors = SafeTensors::deserialize(bytes).map_err(damaged)?;
        let mut all = BTreeMap::new();
        for spec in module(config)?.specs() {
            let stored = read(&tensors, &spec)?;
            all.insert(spec.name, (spec.shape, stored));
        }
        Ok(Self(all))
    }

    /// The parameters for a forward pass, and the bytes of memory they hold.
    pub(super) fn weights(&self, config: &NetworkConfig) -> Result<(Weights, usize)> {
        let tape = Tape::silent();
        let (mut weights, mut held) = (Weights::default(), 0);
        for spec in module(config)?.specs() {
            let Some((shape, stored)) = self.0.get(&spec.name) else {
                return Err(damaged(format!("Parameter \"{}\" is missing", spec.name)));
            };
            let var = match eight_bits(role(config, &spec), shape, stored)? {
                Some(weight) => {
                    held += weight.bytes();
                    tape.eight_bits(weight, shape)?
                }
                None => {
                    held += shape.iter().product::<usize>() * size_of::<f32>();
                    tape.constant(&tensor(stored.floats(), shape)?)?
                }
            };
            weights.insert(spec.name, var);
        }
        Ok((weights, held))
    }
}

/// 8-bit weights as their role wants them.
fn rounded(role: Role, values: &[f32], rows: usize) -> Matrix8 {
    match role {
        Role::Dense | Role::Recurrent(_) => Matrix8::of(values, rows, 1),
        Role::Taps(taps) => Matrix8::of(values, rows, taps),
        Role::Float | Role::Stored | Role::Table => Matrix8::table(values, rows),
    }
}

/// What the 8-bit layers read; `None` for a parameter that is computed with in floats.
fn eight_bits(role: Role, shape: &[usize], stored: &Stored) -> Result<Option<Weight8>> {
    let rows = shape.first().copied().unwrap_or(1);
    let matrix = match (role, stored) {
        (Role::Float | Role::Stored, _) | (_, Stored::Float(_)) => return Ok(None),
        (_, Stored::Int8(matrix)) => matrix.clone(),
        (_, Stored::Int4(matrix)) => rounded(role, &matrix.floats(), rows),
    };
    Ok(match role {
        Role::Float | Role::Stored => None,
        Role::Table => Some(Weight8::Table(matrix)),
        Role::Dense => Some(Weight8::dense(&matrix)?),
        Role::Recurrent(cell) => Some(Weight8::recurrent(&matrix, cell)?),
        Role::Taps(taps) => Some(Weight8::taps(&matrix, taps)?),
    })
}

/// One parameter of a file.
fn read(tensors: &SafeTensors<'_>, spec: &ParameterSpec) -> Result<Stored> {
    let name = &spec.name;
    let missing = |error| damaged(format!("Parameter \"{name}\": {error}"));
    let view = tensors.tensor(name).map_err(missing)?;
    let rows = spec.shape.first().copied().unwrap_or(1);
    let columns = spec.shape.iter().skip(1).product::<usize>();
    let fits = match view.dtype() {
        Dtype::U8 => view.shape() == [rows, columns.div_ceil(2)],
        _ => view.shape() == spec.shape,
    };
    if !fits {
        return Err(damaged(format!("Parameter \"{name}\" of shape {:?} has another shape", spec.shape)));
    }
    let scales = || -> Result<Vec<u16>> {
        let scales = tensors.tensor(&scale_name(name)).map_err(missing)?;
        if scales.dtype() != Dtype::BF16 {
            return Err(damaged(format!("The scales of parameter \"{name}\" are {:?} instead of BF16", scales.dtype())));
        }
        Ok(scales.data().chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect())
    };
    match view.dtype() {
        Dtype::F32 => {
            let values: Vec<f32> = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            if values.iter().any(|value| !value.is_finite()) {
                return Err(damaged(format!("Parameter \"{name}\" holds a number that is not finite")));
            }
            Ok(Stored::Float(values))
        }
        Dtype::I8 => {
            let matrix = Matrix8::stored(view.data().iter().map(|byte| byte.cast_signed()).collect(), scales()?)?;
            if (matrix.outputs(), matrix.inputs()) != (rows, columns) {
                return Err(damaged(format!("Parameter \"{name}\" and its scales do not fit")));
            }
            Ok(Stored::Int8(matrix))
        }
        Dtype::U8 => Ok(Stored::Int4(Matrix4::stored(view.data().to_vec(), scales()?, rows, columns)?)),
        other => Err(damaged(format!("Parameter \"{name}\" is {other:?} instead of F32, I8 or U8"))),
    }
}

#[cfg(test)]
mod tests;
