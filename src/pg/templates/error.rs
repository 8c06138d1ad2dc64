//! What goes wrong with a template or with the text that it reads, in PostgreSQL's words.

use std::fmt;

/// An error as PostgreSQL reports it: SQLSTATE, message, and the detail and hint where there are any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TemplateError {
    /// SQLSTATE, five characters.
    pub(crate) code: &'static str,
    /// Primary message.
    pub(crate) message: String,
    /// DETAIL line.
    pub(crate) detail: Option<String>,
    /// HINT line.
    pub(crate) hint: Option<&'static str>,
}

impl TemplateError {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: None, hint: None }
    }

    pub(super) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub(super) fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    /// The text does not have the form that the template asks for.
    pub(super) fn format(message: impl Into<String>) -> Self {
        Self::new("22007", message)
    }

    /// The text was read, and says a date or time that there is none of.
    pub(super) fn field_overflow(text: &str) -> Self {
        Self::new("22008", format!("date/time field value out of range: \"{text}\""))
    }

    /// The template itself is wrong.
    pub(super) fn syntax(message: impl Into<String>) -> Self {
        Self::new("42601", message)
    }

    /// A pattern that works in one direction only.
    pub(super) fn unsupported(message: impl Into<String>) -> Self {
        Self::new("0A000", message)
    }

    /// A number outside of the type that PostgreSQL computes with.
    pub(super) fn number_range(message: impl Into<String>) -> Self {
        Self::new("22003", message)
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for TemplateError {}
