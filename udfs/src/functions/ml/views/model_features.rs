//! `ml.model_features`: what each version reads, in the network's order.

use async_trait::async_trait;

use super::MlContext;
use super::view::{Column, Kind, SeenBy, View, int, text};
use crate::error::{Code, Result};

#[derive(Debug)]
pub(super) struct ModelFeatures;

#[async_trait]
impl View for ModelFeatures {
    fn name(&self) -> &'static str {
        "model_features"
    }

    fn columns(&self) -> &'static [(&'static str, Kind)] {
        &[("model", Kind::Text), ("version", Kind::Int), ("position", Kind::Int), ("feature", Kind::Text), ("kind", Kind::Text)]
    }

    fn seen_by(&self) -> SeenBy {
        SeenBy::UsersOfModel { model: "model", owner: None }
    }

    async fn rows(&self, context: &MlContext) -> Result<Vec<Column>> {
        let mut rows = Vec::new();
        for entry in context.registry.list_versions() {
            let manifest = match context.registry.manifest(&entry.reference).await {
                Ok(manifest) => manifest,
                // Damaged or dropped meanwhile: `ml.model_versions` says so, the other versions are still listed.
                Err(error) if matches!(error.code, Code::DataCorrupted | Code::FeatureNotSupported | Code::UndefinedObject) => continue,
                Err(error) => return Err(error),
            };
            for (position, feature) in (1_u32..).zip(manifest.preprocessor.feature_names()) {
                rows.push((entry.reference.clone(), position, feature));
            }
        }
        Ok(vec![
            text(&rows, |(reference, ..)| Some(&reference.name)),
            int(&rows, |(reference, ..)| Some(reference.version)),
            int(&rows, |(_, position, _)| Some(*position)),
            text(&rows, |(.., feature)| Some(&feature.name)),
            text(&rows, |(.., feature)| Some(feature.kind.name())),
        ])
    }
}
