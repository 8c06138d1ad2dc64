//! What differential privacy costs: `dp_epsilon` and `dp_noise_multiplier`, the accountant of private training as scalar
//! functions. They look at no data.

mod dp_epsilon;
mod dp_noise_multiplier;
mod numbers;

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;

use super::super::MlContext;

/// The scalar functions of the family.
pub fn scalars(_context: &Arc<MlContext>) -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::new(ScalarUDF::new_from_impl(dp_epsilon::DpEpsilon::new())),
        Arc::new(ScalarUDF::new_from_impl(dp_noise_multiplier::DpNoiseMultiplier::new())),
    ]
}
