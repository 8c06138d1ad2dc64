//! `ml.transform_features`: one row per feature of every version of every stored transform, in order.

use std::sync::Arc;

use async_trait::async_trait;

use super::MlContext;
use super::view::{Column, Kind, SeenBy, View, int, text};
use crate::error::Result;
use crate::registry::StoredTransform;

#[derive(Debug)]
pub(super) struct TransformFeatures;

struct Row {
    stored: Arc<StoredTransform>,
    position: u32,
    feature: String,
    inputs: Arc<str>,
    parameters: Arc<str>,
}

#[async_trait]
impl View for TransformFeatures {
    fn name(&self) -> &'static str {
        "transform_features"
    }

    fn columns(&self) -> &'static [(&'static str, Kind)] {
        &[
            ("transform", Kind::Text),
            ("version", Kind::Int),
            ("position", Kind::Int),
            ("feature", Kind::Text),
            ("inputs", Kind::Text),
            ("parameters", Kind::Text),
        ]
    }

    fn seen_by(&self) -> SeenBy {
        SeenBy::UsersOfTransform("transform")
    }

    async fn rows(&self, context: &MlContext) -> Result<Vec<Column>> {
        let mut rows = Vec::new();
        for stored in context.registry.list_transforms() {
            let mut position = 0;
            for entry in &stored.fitted.entries {
                let (inputs, parameters): (Arc<str>, Arc<str>) = (entry.input_names(&stored.fitted).into(), entry.describe().into());
                for feature in &entry.features {
                    position += 1;
                    let (inputs, parameters) = (Arc::clone(&inputs), Arc::clone(&parameters));
                    rows.push(Row { stored: Arc::clone(&stored), position, feature: feature.clone(), inputs, parameters });
                }
            }
        }
        Ok(vec![
            text(&rows, |row| Some(&row.stored.name)),
            int(&rows, |row| Some(row.stored.version)),
            int(&rows, |row| Some(row.position)),
            text(&rows, |row| Some(&row.feature)),
            text(&rows, |row| Some(&row.inputs)),
            text(&rows, |row| Some(&row.parameters)),
        ])
    }
}
