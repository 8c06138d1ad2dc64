//! Files that SQL reads whole, as values: pictures that lie beside a table whose rows name them.
//!
//! A path is a text under a data root; what may be read is the program's affair ([`crate::context::FileAccess`]). Nothing
//! here knows what is in a file.

mod pg_read_binary_file;

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

use super::register::MlContext;

/// The scalar functions of the room.
pub fn scalars(context: &Arc<MlContext>) -> Vec<Arc<ScalarUDF>> {
    vec![Arc::new(ScalarUDF::new_from_impl(pg_read_binary_file::PgReadBinaryFile::new(context)))]
}
