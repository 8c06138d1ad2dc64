//! What only some architectures or inputs ask of a configuration; left out of a manifest where it is as usual.

use serde::{Deserialize, Serialize};

use super::ops::Activation;

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Variant {
    /// Whether recurrent layers also read from the last event to the first.
    pub bidirectional: bool,
    /// Whether the rnn's states pass a relu instead of a hyperbolic tangent.
    pub relu: bool,
    /// How texts are read.
    pub text: TextModel,
    /// Width of a word's embedding.
    pub text_dim: usize,
    /// How the dnn reads numbers.
    pub numbers: Numbers,
    /// Pairs of categorical features whose joint values the wide part knows.
    pub crosses: Vec<[usize; 2]>,
}

impl Default for Variant {
    fn default() -> Self {
        Self { bidirectional: false, relu: false, text: TextModel::Bag, text_dim: 0, numbers: Numbers::Piecewise, crosses: Vec::new() }
    }
}

impl Variant {
    /// Whether nothing is out of the ordinary.
    #[must_use]
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }

    /// The activation of a simple recurrent layer.
    #[must_use]
    pub const fn activation(&self) -> Activation {
        if self.relu { Activation::Relu } else { Activation::Tanh }
    }
}

/// How the words of a text become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextModel {
    /// Their mean and their mean under a learned attention (Joulin et al., 2017; Yang et al., 2016).
    Bag,
    /// Convolutions with their maximum over the text (Kim, 2014).
    Cnn,
}

/// How numbers enter the dnn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Numbers {
    /// Piecewise-linear embeddings over quantiles, or as they are where there are no bins.
    Piecewise,
    /// Periodic embeddings (RealMLP's PBLD).
    Periodic,
}
