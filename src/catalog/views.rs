//! What a view is beside its query: the options that say with whose rights it is read, and what may take its place.

use std::future::Future;

use datafusion::arrow::datatypes::{Field, SchemaRef};
use portrait_udfs::error::{Code, Error, Result};
use portrait_udfs::functions::relation::sql_type;
use serde::{Deserialize, Serialize};

use super::access::Rights;
use super::file::{Body, Relation};
use super::{Catalog, Object, ObjectKind};
use crate::storage::TextType;
use crate::storage::types::schema_from_text;

/// Read with the rights of whoever reads the view, not with its owner's.
const INVOKER: &str = "security_invoker";
/// Evaluate nothing of a query before the view's own conditions.
const BARRIER: &str = "security_barrier";

tokio::task_local! {
    /// Who reads the outermost view that is being planned.
    static READER: String;
}

/// Plans something that `role` reads: views that are read with the rights of their reader mean the outermost one, also inside
/// views that are read with their owner's.
pub(crate) async fn reading_as<T>(role: &str, read: impl Future<Output = T>) -> T {
    if READER.try_with(|_| ()).is_ok() { read.await } else { READER.scope(role.to_owned(), read).await }
}

/// A view as it is planned.
#[derive(Debug)]
pub(super) struct View {
    pub(super) query: String,
    pub(super) options: ViewOptions,
}

impl View {
    /// With whose rights the query of a view of `owner` is planned.
    pub(super) fn reader(&self, owner: &str) -> String {
        let reader = READER.try_with(String::clone).ok().filter(|_| self.options.invoker());
        reader.unwrap_or_else(|| owner.to_owned())
    }
}

/// The options of a view, in the order in which they were given, as texts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ViewOptions(Vec<(String, String)>);

impl ViewOptions {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets an option.
    ///
    /// # Errors
    /// 22023 for one that views do not have, or a value that is no boolean; 0A000 for `check_option`.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            INVOKER | BARRIER if boolean(value).is_none() => {
                return Err(Error::invalid(format!("invalid value for boolean option \"{name}\": {value}")));
            }
            INVOKER | BARRIER => {}
            "check_option" => {
                let message = "WITH CHECK OPTION is supported only on automatically updatable views";
                return Err(Error::new(Code::FeatureNotSupported, message).detail("Nothing can be inserted into a view."));
            }
            _ => {
                return Err(
                    Error::invalid(format!("unrecognized parameter \"{name}\"")).hint(format!("Views have {INVOKER} and {BARRIER}."))
                );
            }
        }
        self.reset(name);
        self.0.push((name.to_owned(), value.to_owned()));
        Ok(())
    }

    /// Takes an option back.
    pub fn reset(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    /// Whether the view is read with the rights of whoever reads it.
    pub fn invoker(&self) -> bool {
        self.is_on(INVOKER)
    }

    /// Whether nothing of a query may be evaluated before the view's own conditions.
    pub fn barrier(&self) -> bool {
        self.is_on(BARRIER)
    }

    fn is_on(&self, name: &str) -> bool {
        self.0.iter().any(|(known, value)| known == name && boolean(value) == Some(true))
    }

    /// Each as `name=value`.
    pub fn texts(&self) -> Vec<String> {
        self.0.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }
}

/// Reads a boolean as PostgreSQL's options do: words may be cut short where one letter tells them apart.
fn boolean(text: &str) -> Option<bool> {
    let text = text.to_ascii_lowercase();
    let short = |word: &str| !text.is_empty() && word.starts_with(text.as_str());
    match text.as_str() {
        "on" | "1" => Some(true),
        "off" | "of" | "0" => Some(false),
        _ if short("true") || short("yes") => Some(true),
        _ if short("false") || short("no") => Some(false),
        _ => None,
    }
}

/// Whether a view with columns `given` may take the place of `present`: those who read that find its columns again.
///
/// # Errors
/// 42P16.
pub(super) fn may_replace(present: &Relation, given: &SchemaRef) -> Result<()> {
    let refused = |message: String| Err(Error::new(Code::InvalidTableDefinition, message));
    let before = schema_from_text(&present.schema)?;
    if given.fields().len() < before.fields().len() {
        return refused("cannot drop columns from view".to_owned());
    }
    for (old, new) in before.fields().iter().zip(given.fields()) {
        if old.name() != new.name() {
            return refused(format!("cannot change name of view column \"{}\" to \"{}\"", old.name(), new.name()));
        }
        // By the names of types: what numeric columns round to depends on how they are computed.
        // A view of before may not know yet that its texts are more than that.
        let other = TextType::of(old).is_some_and(|found| TextType::of(new) != Some(found));
        if other || sql_name(old) != sql_name(new) {
            let (from, to) = (type_name(old), type_name(new));
            return refused(format!("cannot change data type of view column \"{}\" from {from} to {to}", old.name()));
        }
    }
    Ok(())
}

fn type_name(field: &Field) -> String {
    TextType::of(field).map_or_else(|| sql_name(field), |found| found.name().to_owned())
}

fn sql_name(field: &Field) -> String {
    match sql_type(field.data_type()).as_str() {
        "timestamp" => "timestamp without time zone".to_owned(),
        "time" => "time without time zone".to_owned(),
        other => other.to_owned(),
    }
}

impl Catalog {
    /// The options of a view; those of anything else are none.
    pub fn view_options(&self, name: &str) -> ViewOptions {
        match self.inner.state().definitions.relations.get(name).map(|relation| &relation.body) {
            Some(Body::View { options, .. }) => options.clone(),
            _ => ViewOptions::default(),
        }
    }

    /// `ALTER VIEW … SET` and `RESET`: options with their new values, `None` = none.
    ///
    /// # Errors
    /// 42P01, 42809, 42501 for others than the owner; as [`ViewOptions::set`].
    pub async fn set_view_options(&self, caller: &str, name: &str, changes: Vec<(String, Option<String>)>) -> Result<()> {
        let (caller, name) = (caller.to_owned(), name.to_owned());
        self.inner
            .change(move |definitions| {
                let missing = || Error::new(Code::UndefinedTable, format!("relation \"{name}\" does not exist"));
                let relation = definitions.relations.get(&name).ok_or_else(missing)?;
                let kind = ObjectKind::of(&relation.body);
                Rights::owner_in(definitions, &caller, &relation.owner, &Object::table(name.as_str()))
                    .map_err(|error| Error { message: format!("must be owner of {} {name}", kind.words()), ..error })?;
                let Some(Body::View { options, .. }) = definitions.relations.get_mut(&name).map(|relation| &mut relation.body) else {
                    return Err(kind.wrong(&name, ObjectKind::View));
                };
                for (option, value) in &changes {
                    match value {
                        Some(value) => options.set(option, value)?,
                        None => options.reset(option),
                    }
                }
                Ok(())
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::datatypes::{DataType, Schema};

    use super::*;
    use crate::storage::types::schema_to_text;

    #[test]
    fn options_are_kept_as_they_were_given() {
        let mut options = ViewOptions::default();
        options.set(INVOKER, "TRUE").unwrap();
        options.set(BARRIER, "of").unwrap();
        assert!(options.invoker() && !options.barrier());
        options.set(INVOKER, "off").unwrap();
        assert_eq!(options.texts(), ["security_barrier=of", "security_invoker=off"]);
        for (name, value, code) in [
            (INVOKER, "maybe", Code::InvalidParameter),
            (INVOKER, "", Code::InvalidParameter),
            (INVOKER, "o", Code::InvalidParameter),
            ("fillfactor", "10", Code::InvalidParameter),
            ("check_option", "local", Code::FeatureNotSupported),
        ] {
            assert_eq!(options.set(name, value).unwrap_err().code, code, "{name}={value}");
        }
        options.reset(BARRIER);
        options.reset("fillfactor");
        assert_eq!(options.texts(), ["security_invoker=off"]);
    }

    #[test]
    fn columns_are_added_behind_those_that_were_there() {
        let columns = |all: &[(&str, DataType)]| {
            let field = |(name, data_type): &(&str, DataType)| Field::new(*name, data_type.clone(), true);
            Arc::new(Schema::new(all.iter().map(field).collect::<Vec<_>>()))
        };
        let before = [("a", DataType::Int32), ("b", DataType::Decimal128(10, 2))];
        let body = Body::View { query: String::new(), options: ViewOptions::default() };
        let present = Relation { oid: 1, owner: String::new(), schema: schema_to_text(&columns(&before)), body };
        let check = |given: &[(&str, DataType)]| may_replace(&present, &columns(given)).map_err(|error| error.message);
        assert_eq!(check(&before), Ok(()));
        assert_eq!(check(&[("a", DataType::Int32), ("b", DataType::Decimal128(20, 4)), ("c", DataType::Utf8)]), Ok(()));
        assert_eq!(check(&before[..1]).unwrap_err(), "cannot drop columns from view");
        let renamed = [("a", DataType::Int32), ("x", DataType::Utf8)];
        assert_eq!(check(&renamed).unwrap_err(), "cannot change name of view column \"b\" to \"x\"");
        let other = [("a", DataType::Utf8), ("b", DataType::Decimal128(10, 2))];
        assert_eq!(check(&other).unwrap_err(), "cannot change data type of view column \"a\" from integer to text");
    }
}
