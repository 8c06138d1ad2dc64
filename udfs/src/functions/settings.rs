//! `SET ml.<option> = …`: defaults for the training options of a session.

use std::collections::BTreeMap;

use datafusion::prelude::SessionConfig;

use super::relation::Arguments;
use crate::error::{Code, Error, Result};
use crate::features::options::Options;

/// Option name (without the prefix `ml.`) → text. A server puts it into the session's configuration with
/// `config.set_extension(Arc::new(MlSettings(…)))`; it checks a value with [`check`](Self::check) when it is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MlSettings(pub BTreeMap<String, String>);

impl MlSettings {
    /// Checks that `key` is an option and that `value` can be its value.
    ///
    /// # Errors
    /// 22023, naming the valid options and the nearest.
    pub fn check(key: &str, value: &str) -> Result<()> {
        Options::default().set(key, &serde_json::Value::String(value.to_owned()))
    }

    /// The options of a call: defaults, then the session's settings, then the `options` JSON, then options that
    /// were written as named arguments.
    ///
    /// # Errors
    /// 22023 for an unknown option or a value out of range, 22P02 when the JSON cannot be read.
    pub fn options(config: &SessionConfig, args: &Arguments) -> Result<Options> {
        Self::options_on(Options::default(), config, args)
    }

    /// The same on top of other options than the defaults.
    ///
    /// # Errors
    /// As [`options`](Self::options).
    pub fn options_on(mut options: Options, config: &SessionConfig, args: &Arguments) -> Result<Options> {
        if let Some(settings) = config.get_extension::<Self>() {
            for (key, value) in &settings.0 {
                options.set(key, &serde_json::Value::String(value.to_owned()))?;
            }
        }
        if let Some(json) = args.text("options") {
            for (key, value) in parse_object(json)? {
                options.set(&key, &value)?;
            }
        }
        for (key, value) in args.options() {
            options.set(key, value)?;
        }
        Ok(options)
    }
}

/// Reads the `options` argument.
///
/// # Errors
/// 22P02 when it is no JSON object.
pub(crate) fn parse_object(json: &str) -> Result<serde_json::Map<String, serde_json::Value>> {
    if json.trim().is_empty() {
        return Ok(serde_json::Map::new());
    }
    let unreadable = |detail: String| Error::new(Code::InvalidText, "invalid input syntax for type json").detail(detail);
    match serde_json::from_str(json) {
        Ok(serde_json::Value::Object(map)) => Ok(map),
        Ok(_) => Err(unreadable("Options are one JSON object, like {\"epochs\": 5}.".into())),
        Err(error) => Err(unreadable(format!("{error}."))),
    }
}
