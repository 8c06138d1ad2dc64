//! `ml.profile_lineage`: one row per materialized view and thing that its query reads, with the version that was read.

use async_trait::async_trait;

use super::MlContext;
use super::view::{Column, Kind, View, big, bool, text, time};
use crate::error::Result;

#[derive(Debug)]
pub(super) struct ProfileLineage;

#[async_trait]
impl View for ProfileLineage {
    fn name(&self) -> &'static str {
        "profile_lineage"
    }

    fn columns(&self) -> &'static [(&'static str, Kind)] {
        &[
            ("name", Kind::Text),
            ("version", Kind::BigInt),
            ("input", Kind::Text),
            ("kind", Kind::Text),
            ("version_read", Kind::Text),
            ("version_now", Kind::Text),
            ("changed", Kind::Bool),
            ("refreshed_at", Kind::Time),
            ("owner", Kind::Text),
            ("definition", Kind::Text),
        ]
    }

    async fn rows(&self, context: &MlContext) -> Result<Vec<Column>> {
        let profiles = context.profiles.list().await?;
        let rows: Vec<_> = profiles.iter().flat_map(|profile| profile.inputs.iter().map(move |input| (profile, input))).collect();
        Ok(vec![
            text(&rows, |(profile, _)| Some(&profile.name)),
            big(&rows, |(profile, _)| Some(profile.last.as_ref()?.version)),
            text(&rows, |(_, input)| Some(&input.name)),
            text(&rows, |(_, input)| Some(&input.kind)),
            text(&rows, |(_, input)| input.read.as_deref()),
            text(&rows, |(_, input)| input.newest.as_deref()),
            bool(&rows, |(_, input)| Some(input.read.as_ref()? != input.newest.as_ref()?)),
            time(&rows, |(profile, _)| Some(profile.last.as_ref()?.refreshed_at_us)),
            text(&rows, |(profile, _)| Some(&profile.owner)),
            text(&rows, |(profile, _)| Some(&profile.definition)),
        ])
    }
}
