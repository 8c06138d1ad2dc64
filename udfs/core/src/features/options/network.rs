//! The options of single architectures and inputs: directions and activation of recurrent layers, how texts and numbers are
//! read, the crosses of the wide part.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Given;
use crate::error::Result;

/// How the words of a text become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextChoice {
    /// The architecture chooses.
    Auto,
    /// A bag of words: their mean, and their mean under an attention.
    Bag,
    /// Convolutions over neighbouring words.
    Cnn,
}

/// How numbers enter a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NumericEmbedding {
    /// Piecewise-linear embeddings.
    Piecewise,
    /// Periodic embeddings.
    Periodic,
    /// As they are.
    None,
}

/// Which pairs of categories the wide part knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Crosses {
    /// Those that tell most beyond their single features.
    Auto,
    /// None.
    None,
    /// These.
    Pairs(Vec<[String; 2]>),
}

/// See the module; part of the flat namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // OPTION_KEYS documents each
pub struct NetworkOptions {
    pub bidirectional: bool,
    pub activation: Activation,
    pub text_model: TextChoice,
    pub max_text_len: u32,
    pub numeric_embedding: NumericEmbedding,
    pub crosses: Crosses,
}

/// What the states of the rnn pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// The hyperbolic tangent.
    Tanh,
    /// A rectifier.
    Relu,
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self {
            bidirectional: false,
            activation: Activation::Tanh,
            text_model: TextChoice::Auto,
            max_text_len: 256,
            numeric_embedding: NumericEmbedding::Piecewise,
            crosses: Crosses::Auto,
        }
    }
}

impl NetworkOptions {
    /// Sets one option of this module; `false` when it is not one.
    pub(super) fn set(&mut self, given: &Given<'_>) -> Result<bool> {
        match given.key {
            "bidirectional" => self.bidirectional = given.boolean()?,
            "activation" => self.activation = given.one_of(&[("tanh", Activation::Tanh), ("relu", Activation::Relu)])?,
            "text_model" => {
                self.text_model = given.one_of(&[("auto", TextChoice::Auto), ("bag", TextChoice::Bag), ("cnn", TextChoice::Cnn)])?;
            }
            "max_text_len" => self.max_text_len = given.integer(1, 4096)?,
            "numeric_embedding" => {
                let choices = [
                    ("piecewise", NumericEmbedding::Piecewise),
                    ("periodic", NumericEmbedding::Periodic),
                    ("none", NumericEmbedding::None),
                ];
                self.numeric_embedding = given.one_of(&choices)?;
            }
            "crosses" => self.crosses = crosses(given)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn crosses(given: &Given<'_>) -> Result<Crosses> {
    let expected = "auto, none, or a JSON array such as [\"country*device\"]";
    match given.text().map(str::to_ascii_lowercase).as_deref() {
        Some("auto") => return Ok(Crosses::Auto),
        Some("none") => return Ok(Crosses::None),
        _ if *given.value == Value::Null => return Ok(Crosses::Auto),
        _ => {}
    }
    let pair = |text: &String| {
        let (a, b) = text.split_once('*')?;
        let [a, b] = [a, b].map(str::trim);
        (!a.is_empty() && !b.is_empty() && !b.contains('*')).then(|| [a.to_owned(), b.to_owned()])
    };
    let names = given.names().map_err(|_| given.bad(expected))?;
    let pairs: Option<Vec<[String; 2]>> = names.iter().map(pair).collect();
    match pairs {
        Some(pairs) if pairs.is_empty() => Ok(Crosses::None),
        Some(pairs) => Ok(Crosses::Pairs(pairs)),
        None => Err(given.bad(expected)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Options;
    use super::*;

    #[test]
    fn every_option_of_networks() {
        let options = Options::from_json(
            r#"{"bidirectional": true, "activation": "relu", "text_model": "cnn", "max_text_len": 32, "numeric_embedding": "periodic",
                "crosses": ["country*device", "last_event * last_item"]}"#,
        )
        .unwrap();
        let pairs = [["country", "device"], ["last_event", "last_item"]].map(|pair| pair.map(str::to_owned));
        let expected = NetworkOptions {
            bidirectional: true,
            activation: Activation::Relu,
            text_model: TextChoice::Cnn,
            max_text_len: 32,
            numeric_embedding: NumericEmbedding::Periodic,
            crosses: Crosses::Pairs(pairs.into()),
        };
        assert_eq!(options.network, expected);
        // They live in the flat namespace, and what was stored before them can be read.
        let stored = serde_json::to_value(&options).unwrap();
        assert_eq!(stored["text_model"], "cnn");
        assert_eq!(serde_json::from_value::<Options>(stored).unwrap(), options);
        assert_eq!(serde_json::from_str::<Options>("{}").unwrap(), Options::default());
        for (given, expected) in [("\"auto\"", Crosses::Auto), ("\"none\"", Crosses::None), ("[]", Crosses::None), ("null", Crosses::Auto)]
        {
            assert_eq!(Options::from_json(&format!("{{\"crosses\": {given}}}")).unwrap().network.crosses, expected);
        }
        for wrong in [r#"["country"]"#, r#"["a*"]"#, r#"["a*b*c"]"#, "3"] {
            assert!(Options::from_json(&format!("{{\"crosses\": {wrong}}}")).is_err(), "{wrong}");
        }
        assert!(Options::from_json(r#"{"activation": "gelu"}"#).is_err());
    }
}
