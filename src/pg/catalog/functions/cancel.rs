//! `pg_cancel_backend(pid)` cancels the statement of another connection, for drivers that send no cancel request;
//! `pg_terminate_backend(pid)` ends the connection as well.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::BooleanBuilder;
use arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use super::integer;
use crate::engine::WeakSession;
use crate::error::{Code, Error};
use crate::pg::cancel::CancelRegistry;

/// Both as DataFusion registers them.
pub(super) fn functions(session: &WeakSession, cancels: &Arc<CancelRegistry>) -> [Arc<ScalarUDF>; 2] {
    let function = |end| {
        let signature = Signature::exact(vec![DataType::Int64], Volatility::Volatile);
        Arc::new(ScalarUDF::new_from_impl(CancelBackend { end, signature, session: session.clone(), cancels: Arc::clone(cancels) }))
    };
    [function(false), function(true)]
}

#[derive(Debug)]
struct CancelBackend {
    /// Whether the connection ends as well.
    end: bool,
    signature: Signature,
    session: WeakSession,
    cancels: Arc<CancelRegistry>,
}

impl PartialEq for CancelBackend {
    fn eq(&self, other: &Self) -> bool {
        self.end == other.end && self.session == other.session && Arc::ptr_eq(&self.cancels, &other.cancels)
    }
}

impl Eq for CancelBackend {}

impl Hash for CancelBackend {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.session.hash(state);
    }
}

impl ScalarUDFImpl for CancelBackend {
    fn name(&self) -> &str {
        if self.end { "pg_terminate_backend" } else { "pg_cancel_backend" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let session = self.session.upgrade().ok_or_else(|| Error::internal("the session is gone"))?;
        let rights = session.engine().catalog().rights(&session.user());
        let [pids] = datafusion::common::utils::take_function_args(self.name(), args.args)?;
        let pids = pids.into_array(args.number_rows)?;
        let mut answers = BooleanBuilder::new();
        for row in 0..args.number_rows {
            let pid = integer(&[datafusion::scalar::ScalarValue::try_from_array(&pids, row)?], 0);
            let Some(pid) = pid else {
                answers.append_null();
                continue;
            };
            let user = |user: &str| rights.owns_of(user) || rights.is_member("pg_signal_backend");
            let stop = |pid| if self.end { self.cancels.end_for(pid, user) } else { self.cancels.cancel_for(pid, user) };
            match i32::try_from(pid).ok().and_then(stop) {
                Some(true) => answers.append_value(true),
                Some(false) => {
                    let what = if self.end { "terminate process" } else { "cancel query" };
                    return Err(Error::new(Code::InsufficientPrivilege, format!("permission denied to {what}"))
                        .detail("Only superusers, members of the role and of pg_signal_backend may do that.")
                        .into());
                }
                // As in PostgreSQL: the connection may have ended meanwhile.
                None => answers.append_value(false),
            }
        }
        Ok(ColumnarValue::Array(Arc::new(answers.finish())))
    }
}
