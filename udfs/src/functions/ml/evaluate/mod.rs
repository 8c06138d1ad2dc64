//! How good a model is: every figure beside its baseline, on rows that it has not learned from.
//!
//! Life of a call: [`window`] says which rows → the reader of `train::read` cuts and encodes them with the model's own
//! encoder → [`judge`] scores them → one file per function turns that into rows.

use std::sync::Arc;

use crate::functions::relation::MlRelation;

pub mod backtest_model;
pub mod calibration;
pub(in crate::functions::ml) mod columns;
pub mod confusion_matrix;
pub mod cross_validate;
pub mod evaluate_model;
pub(crate) mod judge;
pub mod lift_table;
pub mod pr_curve;
pub mod roc_curve;
mod window;

/// The functions of this family.
pub fn relations() -> Vec<Arc<dyn MlRelation>> {
    vec![
        Arc::new(evaluate_model::EvaluateModel),
        Arc::new(confusion_matrix::ConfusionMatrix),
        Arc::new(roc_curve::RocCurve),
        Arc::new(pr_curve::PrCurve),
        Arc::new(calibration::Calibration),
        Arc::new(lift_table::LiftTable),
        Arc::new(backtest_model::BacktestModel),
        Arc::new(cross_validate::CrossValidate),
    ]
}
