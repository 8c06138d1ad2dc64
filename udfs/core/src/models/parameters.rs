//! A model's weights on the host: named arrays, to and from safetensors bytes.
//!
//! Names and orientation are PyTorch's (`gru.weight_ih_l0`, linear weights `[out, in]`), so that
//! `torch.load_state_dict(safetensors.torch.load(bytes))` understands them.

use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::error::{Code, Error, Result};

/// Named arrays of `f32`: name → (shape, row-major values).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parameters(pub BTreeMap<String, (Vec<usize>, Vec<f32>)>);

fn corrupted(reason: impl std::fmt::Display) -> Error {
    Error::new(Code::DataCorrupted, "model weights are damaged").detail(format!("{reason}."))
}

impl Parameters {
    /// How many numbers it holds.
    pub fn count(&self) -> usize {
        self.0.values().map(|(_, values)| values.len()).sum()
    }

    /// The bytes its numbers take.
    pub fn bytes(&self) -> usize {
        self.count() * size_of::<f32>()
    }

    /// The same names, shapes and bits give the same bytes.
    ///
    /// # Errors
    /// `Internal` when a shape and its values disagree.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let encoded: Vec<(&String, &Vec<usize>, Vec<u8>)> = self
            .0
            .iter()
            .map(|(name, (shape, values))| (name, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect()))
            .collect();
        let mut views = Vec::with_capacity(encoded.len());
        for (name, shape, bytes) in &encoded {
            let view = TensorView::new(Dtype::F32, (*shape).clone(), bytes)
                .map_err(|error| Error::internal(format!("parameter \"{name}\" cannot be stored: {error}")))?;
            views.push((name.as_str(), view));
        }
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        safetensors::serialize(views, Some(metadata)).map_err(|error| Error::internal(format!("weights cannot be stored: {error}")))
    }

    /// Reads what [`to_safetensors`](Self::to_safetensors) or PyTorch wrote (`f32` only).
    ///
    /// # Errors
    /// `DataCorrupted` when the bytes are not safetensors of `f32`, or a weight is not finite.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self> {
        let tensors = SafeTensors::deserialize(bytes).map_err(corrupted)?;
        let mut parameters = BTreeMap::new();
        for (name, view) in tensors.tensors() {
            if view.dtype() != Dtype::F32 {
                return Err(corrupted(format!("parameter \"{name}\" is {:?} instead of F32", view.dtype())));
            }
            let values: Vec<f32> = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            if values.iter().any(|value| !value.is_finite()) {
                return Err(corrupted(format!("parameter \"{name}\" holds a number that is not finite")));
            }
            parameters.insert(name, (view.shape().to_vec(), values));
        }
        Ok(Self(parameters))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Parameters {
        let mut parameters = Parameters::default();
        parameters.0.insert("b.weight".into(), (vec![2, 2], vec![1.0, -2.5, 3.0e-8, 4.0]));
        parameters.0.insert("a.bias".into(), (vec![3], vec![0.0, 1.0, 2.0]));
        parameters
    }

    #[test]
    fn safetensors_round_trip() {
        let bytes = sample().to_safetensors().unwrap();
        assert_eq!(Parameters::from_safetensors(&bytes).unwrap(), sample());
        assert_eq!(bytes, sample().to_safetensors().unwrap());
    }

    #[test]
    fn damaged_bytes_are_an_error() {
        let mut bytes = sample().to_safetensors().unwrap();
        bytes.truncate(bytes.len() - 1);
        assert_eq!(Parameters::from_safetensors(&bytes).unwrap_err().code, Code::DataCorrupted);
        assert_eq!(Parameters::from_safetensors(b"nonsense").unwrap_err().code, Code::DataCorrupted);
        let mut nan = sample();
        nan.0.insert("c".into(), (vec![1], vec![f32::NAN]));
        assert_eq!(Parameters::from_safetensors(&nan.to_safetensors().unwrap()).unwrap_err().code, Code::DataCorrupted);
    }
}
