//! The option of private training.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Given;
use crate::error::{Error, Result};
use crate::kernels::nearest::nearest;

/// What a private training may spend, or how much noise it takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// ε; the noise follows from it.
    Epsilon(f64),
    /// Standard deviation of the noise in units of the clipping norm; ε follows from it.
    NoiseMultiplier(f64),
}

/// The option `privacy`: training by DP-SGD.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Privacy {
    /// What may be spent.
    pub budget: Budget,
    /// The probability with which ε may fail; `None` = a tenth of one in the number of users, at most 1e-5.
    pub delta: Option<f64>,
    /// Largest norm of one user's gradient.
    pub clip_norm: f64,
}

/// The keys of an object option.
struct Keys<'a> {
    option: &'a str,
    map: &'a Map<String, Value>,
}

impl Keys<'_> {
    fn known(&self, keys: &[&str]) -> Result<()> {
        match self.map.keys().find(|key| !keys.contains(&key.as_str())) {
            Some(unknown) => {
                let error = Error::invalid(format!("unknown key \"{unknown}\" in option \"{}\"", self.option))
                    .detail(format!("Valid keys are {}.", keys.join(", ")));
                Err(match nearest(unknown, keys.iter().copied()) {
                    Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
                    None => error,
                })
            }
            None => Ok(()),
        }
    }

    fn bad(&self, key: &str, expected: &str) -> Error {
        let shown = self.map.get(key).map(Value::to_string).unwrap_or_default();
        Error::invalid(format!("invalid value for \"{key}\" in option \"{}\": {shown}", self.option))
            .hint(format!("It must be {expected}."))
    }

    fn number(&self, key: &str, fits: impl Fn(f64) -> bool, expected: &str) -> Result<Option<f64>> {
        let Some(value) = self.map.get(key) else { return Ok(None) };
        value.as_f64().filter(|number| number.is_finite() && fits(*number)).map(Some).ok_or_else(|| self.bad(key, expected))
    }
}

/// `{"epsilon": 3}` or `{"noise_multiplier": 1.1}`, with `delta` and `clip_norm`.
pub(super) fn privacy(given: &Given<'_>) -> Result<Option<Privacy>> {
    let Some(Value::Object(map)) = given.object()? else { return Ok(None) };
    let keys = Keys { option: given.key, map: &map };
    keys.known(&["epsilon", "noise_multiplier", "delta", "clip_norm"])?;
    let epsilon = keys.number("epsilon", |n| n > 0.0, "a number above 0")?;
    let noise = keys.number("noise_multiplier", |n| n > 0.0, "a number above 0")?;
    let budget = match (epsilon, noise) {
        (Some(epsilon), None) => Budget::Epsilon(epsilon),
        (None, Some(noise)) => Budget::NoiseMultiplier(noise),
        _ => {
            return Err(Error::invalid("option \"privacy\" needs either epsilon or noise_multiplier")
                .hint("For example '{\"privacy\": {\"epsilon\": 3, \"delta\": 1e-5, \"clip_norm\": 1.0}}'."));
        }
    };
    Ok(Some(Privacy {
        budget,
        delta: keys.number("delta", |n| n > 0.0 && n < 1.0, "a number between 0 and 1")?,
        clip_norm: keys.number("clip_norm", |n| n > 0.0, "a number above 0")?.unwrap_or(1.0),
    }))
}
