//! THE error table: from the kind of a fault to its SQLSTATE, and an error as the wire carries it.
//!
//! Internal errors never reach a client: their text is logged under an id, and the client reads the id.

use pgwire::messages::response::{ErrorResponse, NoticeResponse};

use crate::error::{Code, Error};

/// The SQLSTATE of a kind of fault. Exhaustive on purpose: a new kind must be given its code here.
pub fn sqlstate(code: Code) -> &'static str {
    match code {
        Code::InvalidParameter => "22023",
        Code::InvalidText => "22P02",
        Code::UndefinedColumn => "42703",
        Code::UndefinedTable => "42P01",
        Code::UndefinedFunction => "42883",
        Code::UndefinedObject => "42704",
        Code::DuplicateObject => "42710",
        Code::DuplicateTable => "42P07",
        Code::DatatypeMismatch => "42804",
        Code::Syntax => "42601",
        Code::AmbiguousColumn => "42702",
        Code::Grouping => "42803",
        Code::DivisionByZero => "22012",
        Code::NumericOutOfRange => "22003",
        Code::InvalidDatetime => "22007",
        Code::NotReady => "55000",
        Code::FeatureNotSupported => "0A000",
        Code::InsufficientPrivilege => "42501",
        Code::ReadOnly => "25006",
        Code::Cancelled => "57014",
        Code::OutOfMemory => "53200",
        Code::DiskFull => "53100",
        Code::TooComplex => "54000",
        Code::TooManyConnections => "53300",
        Code::Shutdown => "57P01",
        Code::DatetimeOverflow => "22008",
        Code::BadCopyFormat => "22P04",
        Code::InvalidRegex => "2201B",
        Code::InvalidEncoding => "22021",
        Code::NotNull => "23502",
        Code::Cardinality => "21000",
        Code::DuplicateColumn => "42701",
        Code::WrongObjectType => "42809",
        Code::InvalidTableDefinition => "42P16",
        Code::IndeterminateType => "42P18",
        Code::UndefinedParameter => "42P02",
        Code::DuplicatePrepared => "42P05",
        Code::UndefinedPrepared => "26000",
        Code::UndefinedCursor => "34000",
        Code::DuplicateCursor => "42P03",
        Code::UndefinedSchema => "3F000",
        Code::UndefinedDatabase => "3D000",
        Code::DependentObjects => "2BP01",
        Code::InvalidGrant => "0LP01",
        Code::ReservedName => "42939",
        Code::FixedSetting => "55P02",
        Code::FailedTransaction => "25P02",
        Code::NoTransaction => "25P01",
        Code::ActiveTransaction => "25001",
        Code::Serialization => "40001",
        Code::Protocol => "08P01",
        Code::DataCorrupted => "XX001",
        Code::Io => "58030",
        Code::Internal => "XX000",
    }
}

/// How bad it is: after a FATAL error the connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    /// The statement ends.
    Error,
    /// The connection ends.
    Fatal,
}

/// An error as a client reads it.
#[derive(Debug, Clone)]
pub(crate) struct PgError {
    pub(crate) severity: Severity,
    pub(crate) sqlstate: &'static str,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    pub(crate) hint: Option<String>,
    /// Characters from the start of the statement's text, from 1.
    pub(crate) position: Option<u32>,
}

/// The room's result.
pub(crate) type PgResult<T> = Result<T, PgError>;

impl PgError {
    /// An error that ends the statement.
    pub(crate) fn new(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, sqlstate, message: message.into(), detail: None, hint: None, position: None }
    }

    /// An error that ends the connection.
    pub(crate) fn fatal(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Fatal, ..Self::new(sqlstate, message) }
    }

    /// The peer broke the protocol; the connection cannot be trusted any more.
    pub(crate) fn protocol(message: impl Into<String>) -> Self {
        Self::fatal("08P01", message)
    }

    /// The statement was cancelled by the user.
    pub(crate) fn cancelled() -> Self {
        Self::new("57014", "canceling statement due to user request")
    }

    /// A bug of ours: logged under an id, masked for the client.
    pub(crate) fn internal(text: &str) -> Self {
        let id = uuid::Uuid::new_v4().simple().to_string();
        tracing::error!(error_id = %id, error = text, "internal error");
        let mut error = Self::new("XX000", format!("internal error {id}"));
        error.hint = Some("The server log has the details under this id.".into());
        error
    }

    #[must_use]
    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error, ending the connection.
    #[must_use]
    pub(crate) fn into_fatal(mut self) -> Self {
        self.severity = Severity::Fatal;
        self
    }

    /// As a message.
    pub(crate) fn response(&self) -> ErrorResponse {
        let severity = match self.severity {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        };
        let mut fields = fields(severity, self.sqlstate, &self.message);
        push(&mut fields, b'D', self.detail.as_deref());
        push(&mut fields, b'H', self.hint.as_deref());
        push(&mut fields, b'P', self.position.map(|position| position.to_string()).as_deref());
        ErrorResponse::new(fields)
    }
}

impl From<Error> for PgError {
    fn from(error: Error) -> Self {
        let error = crate::error::told(error);
        if error.code == Code::Internal {
            return Self::internal(&format!("{} {}", error.message, error.detail.unwrap_or_default()));
        }
        Self {
            severity: Severity::Error,
            sqlstate: sqlstate(error.code),
            message: error.message,
            detail: error.detail,
            hint: error.hint,
            position: error.position,
        }
    }
}

impl From<datafusion::error::DataFusionError> for PgError {
    fn from(error: datafusion::error::DataFusionError) -> Self {
        crate::error::classify(error).into()
    }
}

/// A message for the user that is no error: NOTICE or WARNING.
pub(crate) fn notice(severity: &str, sqlstate: &str, message: &str) -> NoticeResponse {
    NoticeResponse::new(fields(severity, sqlstate, message))
}

fn fields(severity: &str, sqlstate: &str, message: &str) -> Vec<(u8, String)> {
    let mut fields = Vec::with_capacity(8);
    push(&mut fields, b'S', Some(severity));
    push(&mut fields, b'V', Some(severity));
    push(&mut fields, b'C', Some(sqlstate));
    push(&mut fields, b'M', Some(message));
    fields
}

/// A NUL would end the field early and shift every one after it.
fn push(fields: &mut Vec<(u8, String)>, code: u8, value: Option<&str>) {
    if let Some(value) = value {
        fields.push((code, value.replace('\0', "")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_errors_are_masked() {
        let error = PgError::from(Error::internal("secret at /var/lib"));
        assert_eq!(error.sqlstate, "XX000");
        assert!(!error.message.contains("secret"));
        assert!(error.hint.is_some());
    }

    #[test]
    fn fields_carry_position_and_no_nul() {
        let error = PgError::from(Error::new(Code::Syntax, "bad\0text").at(7).detail("d").hint("h"));
        let fields = error.response().fields;
        let get = |code| fields.iter().find(|(field, _)| *field == code).map(|(_, value)| value.as_str());
        assert_eq!(get(b'S'), Some("ERROR"));
        assert_eq!(get(b'V'), Some("ERROR"));
        assert_eq!(get(b'C'), Some("42601"));
        assert_eq!(get(b'M'), Some("badtext"));
        assert_eq!(get(b'D'), Some("d"));
        assert_eq!(get(b'H'), Some("h"));
        assert_eq!(get(b'P'), Some("7"));
    }
}
