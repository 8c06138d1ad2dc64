//! The one error of the crate: who is to blame, and what a person at the SQL prompt should read.
//!
//! Kernels, features, models and training return [`Error`]; the SQL faces hand it to DataFusion as
//! `DataFusionError::External`, where [`Error::find`] gets it back whole.

use std::fmt;

/// What kind of fault it is. The server maps each to one SQLSTATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// An option or argument is unknown or out of range (22023).
    InvalidParameter,
    /// A text cannot be read as the type it should have (22P02).
    InvalidText,
    /// A column that is needed is missing (42703).
    UndefinedColumn,
    /// A table or view does not exist (42P01).
    UndefinedTable,
    /// A function does not exist (42883).
    UndefinedFunction,
    /// A model, version, job or setting does not exist (42704).
    UndefinedObject,
    /// An object of that name exists already (42710).
    DuplicateObject,
    /// A table of that name exists already (42P07).
    DuplicateTable,
    /// A column or value has the wrong type (42804).
    DatatypeMismatch,
    /// The statement cannot be parsed (42601).
    Syntax,
    /// A column name fits more than one table (42702).
    AmbiguousColumn,
    /// A column is neither grouped nor aggregated (42803).
    Grouping,
    /// Division by zero (22012).
    DivisionByZero,
    /// A number does not fit its type (22003).
    NumericOutOfRange,
    /// A text is not a valid date, time or interval (22007).
    InvalidDatetime,
    /// The object is not in a state that allows this (55000).
    NotReady,
    /// Not supported, or not supported here (0A000).
    FeatureNotSupported,
    /// The role may not do this (42501).
    InsufficientPrivilege,
    /// Writing in a read-only session or transaction (25006).
    ReadOnly,
    /// Cancelled by the user or by a timeout (57014).
    Cancelled,
    /// Out of memory (53200).
    OutOfMemory,
    /// Disk full (53100).
    DiskFull,
    /// A statement's text, nesting or number of parts is over the limit (54000).
    TooComplex,
    /// Too many connections or statements at once (53300).
    TooManyConnections,
    /// The server is going down (57P01).
    Shutdown,
    /// A date or time does not fit its type (22008).
    DatetimeOverflow,
    /// The data of a COPY are not as its format wants them (22P04).
    BadCopyFormat,
    /// A regular expression cannot be compiled (2201B).
    InvalidRegex,
    /// A text is not valid UTF-8 or holds a NUL (22021).
    InvalidEncoding,
    /// NULL where the column forbids it (23502).
    NotNull,
    /// A subquery used as a value gave more than one row (21000).
    Cardinality,
    /// A column is named twice (42701).
    DuplicateColumn,
    /// The object is of another kind than the statement needs (42809).
    WrongObjectType,
    /// A table cannot be defined like this (42P16).
    InvalidTableDefinition,
    /// A parameter's type cannot be told (42P18).
    IndeterminateType,
    /// There is no such parameter `$n` (42P02).
    UndefinedParameter,
    /// A prepared statement of that name exists already (42P05).
    DuplicatePrepared,
    /// A prepared statement does not exist (26000).
    UndefinedPrepared,
    /// A cursor of that name exists already (42P03).
    DuplicateCursor,
    /// A cursor or portal does not exist (34000).
    UndefinedCursor,
    /// A schema does not exist (3F000).
    UndefinedSchema,
    /// A database does not exist (3D000).
    UndefinedDatabase,
    /// Other objects depend on the one to be dropped (2BP01).
    DependentObjects,
    /// A privilege that such an object does not have, a circle of roles (0LP01).
    InvalidGrant,
    /// A name that is not to be given (42939).
    ReservedName,
    /// The setting cannot be changed now (55P02).
    FixedSetting,
    /// The transaction has failed; only ROLLBACK helps (25P02).
    FailedTransaction,
    /// Not inside a transaction block (25P01).
    NoTransaction,
    /// Inside a transaction block where that is forbidden (25001).
    ActiveTransaction,
    /// Another statement changed the same table at the same time (40001).
    Serialization,
    /// The client broke the protocol (08P01).
    Protocol,
    /// A stored file is damaged (XX001).
    DataCorrupted,
    /// Reading or writing failed (58030).
    Io,
    /// A bug of ours (XX000); its text is logged and masked for clients.
    Internal,
}

/// An error as PostgreSQL would word it: primary message, DETAIL and HINT.
#[derive(Debug, Clone)]
pub struct Error {
    /// Whose fault it is.
    pub code: Code,
    /// Lower case, no final dot, identifiers in double quotes.
    pub message: String,
    /// What was seen; a whole sentence.
    pub detail: Option<String>,
    /// What to do about it; a whole sentence.
    pub hint: Option<String>,
    /// Where in the statement's text, in characters counted from 1. Known for syntax errors and unknown names.
    pub position: Option<u32>,
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A new error without DETAIL and HINT.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: None, hint: None, position: None }
    }

    /// An [`Code::InvalidParameter`] error.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidParameter, message)
    }

    /// An [`Code::Internal`] error.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// The error of a cancelled statement.
    pub fn cancelled() -> Self {
        Self::new(Code::Cancelled, "canceling statement due to user request")
    }

    /// Adds a DETAIL.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds a HINT.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says where in the statement's text the fault lies: characters counted from 1.
    #[must_use]
    pub fn at(mut self, position: u32) -> Self {
        self.position = Some(position);
        self
    }

    /// The crate's error for whatever the query engine says: our own error when there is one inside.
    #[cfg(feature = "datafusion")]
    pub fn from_engine(error: datafusion_common::DataFusionError) -> Self {
        use datafusion_common::DataFusionError as Engine;
        if let Some(found) = Self::find(&error) {
            return found.clone();
        }
        let text = || error.strip_backtrace();
        match error.find_root() {
            Engine::ResourcesExhausted(_) => Self::new(Code::OutOfMemory, "out of memory").detail(format!("{}.", text())),
            Engine::IoError(io) if io.kind() == std::io::ErrorKind::StorageFull => Self::new(Code::DiskFull, text()),
            Engine::IoError(_) | Engine::ObjectStore(_) | Engine::ParquetError(_) => Self::new(Code::Io, text()),
            Engine::SQL(..) => Self::new(Code::Syntax, text()),
            Engine::SchemaError(..) => Self::new(Code::UndefinedColumn, text()),
            Engine::Plan(message) if message.contains("not found") => Self::new(Code::UndefinedTable, text()),
            Engine::Plan(_) | Engine::NotImplemented(_) => Self::new(Code::FeatureNotSupported, text()),
            _ => Self::internal(text()),
        }
    }

    /// Finds the crate's error inside whatever an engine wrapped around it.
    pub fn find<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found);
            }
            next = error.source();
        }
        None
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self::internal(format!("tensor operation failed: {error}"))
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let code = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Code::DiskFull,
            std::io::ErrorKind::OutOfMemory => Code::OutOfMemory,
            _ => Code::Io,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(feature = "datafusion")]
impl From<Error> for datafusion_common::DataFusionError {
    fn from(error: Error) -> Self {
        Self::External(Box::new(error))
    }
}
