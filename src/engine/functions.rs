//! `current_setting` and `set_config`: settings as functions; and how any function finds its session.

use std::sync::Arc;

use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::common::utils::take_function_args;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility};
use datafusion::prelude::SessionConfig;
use portrait_udfs::error::{Code, Error, Result};

use super::settings::Scope;
use super::{Session, WeakSession};

/// Carries the session through the options that functions see; no SQL setting reads or writes it.
#[derive(Debug, Clone, Default)]
struct SessionOptions(WeakSession);

impl ConfigExtension for SessionOptions {
    const PREFIX: &'static str = "portrait_session";
}

impl ExtensionOptions for SessionOptions {
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn std::any::Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, _value: &str) -> DataFusionResult<()> {
        Err(DataFusionError::from(Error::new(Code::UndefinedObject, format!("unrecognized configuration parameter \"{key}\""))))
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }
}

/// Puts `session` where its functions find it.
pub(super) fn attach(session: &WeakSession, config: &mut SessionConfig) {
    config.options_mut().extensions.insert(SessionOptions(session.clone()));
}

/// The session that a function runs in, from the options that it is called with.
pub fn session_of(options: &ConfigOptions) -> Option<Session> {
    options.extensions.get::<SessionOptions>().and_then(|found| found.0.upgrade())
}

/// The functions of this file.
pub(super) fn scalars() -> Vec<Arc<ScalarUDF>> {
    vec![Arc::new(ScalarUDF::from(CurrentSetting::new())), Arc::new(ScalarUDF::from(SetConfig::new()))]
}

fn session(args: &ScalarFunctionArgs) -> Result<Session> {
    session_of(&args.config_options).ok_or_else(|| Error::internal("a function has no session"))
}

/// `current_setting(name [, missing_ok])`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CurrentSetting {
    signature: Signature,
}

impl CurrentSetting {
    fn new() -> Self {
        let signatures = vec![TypeSignature::Exact(vec![DataType::Utf8]), TypeSignature::Exact(vec![DataType::Utf8, DataType::Boolean])];
        // Volatile, so that a prepared statement reads the setting when it runs.
        Self { signature: Signature::one_of(signatures, Volatility::Volatile) }
    }
}

impl ScalarUDFImpl for CurrentSetting {
    fn name(&self) -> &str {
        "current_setting"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let session = session(&args)?;
        let columns = args.args.iter().map(|arg| arg.to_array(args.number_rows)).collect::<DataFusionResult<Vec<_>>>()?;
        let names = columns.first().ok_or_else(|| Error::internal("current_setting has no argument"))?.as_string::<i32>();
        let missing_ok = |row: usize| columns.get(1).is_some_and(|flags| !flags.is_null(row) && flags.as_boolean().value(row));
        let mut values: Vec<Option<String>> = Vec::with_capacity(names.len());
        for (row, name) in names.iter().enumerate() {
            values.push(match name {
                None => None,
                Some(name) => match session.with_settings(|settings| settings.show(name)) {
                    Ok(value) => Some(value),
                    Err(_) if missing_ok(row) => None,
                    Err(error) => return Err(error.into()),
                },
            });
        }
        Ok(ColumnarValue::Array(Arc::new(StringArray::from(values))))
    }
}

/// `set_config(name, value, is_local)`: sets, and returns what was set.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SetConfig {
    signature: Signature,
}

impl SetConfig {
    fn new() -> Self {
        Self { signature: Signature::exact(vec![DataType::Utf8, DataType::Utf8, DataType::Boolean], Volatility::Volatile) }
    }
}

impl ScalarUDFImpl for SetConfig {
    fn name(&self) -> &str {
        "set_config"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let session = session(&args)?;
        let columns = args.args.iter().map(|arg| arg.to_array(args.number_rows)).collect::<DataFusionResult<Vec<_>>>()?;
        let [names, values, locals] = take_function_args(self.name(), &columns)?;
        let (names, values, locals) = (names.as_string::<i32>(), values.as_string::<i32>(), locals.as_boolean());
        let mut shown: Vec<Option<String>> = Vec::with_capacity(names.len());
        for row in 0..names.len() {
            if names.is_null(row) {
                return Err(Error::invalid("SET requires parameter name").into());
            }
            let name = names.value(row);
            let value = (!values.is_null(row)).then(|| values.value(row));
            let scope = if !locals.is_null(row) && locals.value(row) { Scope::Transaction } else { Scope::Session };
            if name.eq_ignore_ascii_case("role") {
                session.set_role(value.filter(|role| !role.eq_ignore_ascii_case("none")), scope)?;
                shown.push(value.map(str::to_owned));
                continue;
            }
            shown.push(Some(session.change_settings(|settings| settings.set(name, value, scope).and_then(|()| settings.show(name)))?));
        }
        Ok(ColumnarValue::Array(Arc::new(StringArray::from(shown))))
    }
}
