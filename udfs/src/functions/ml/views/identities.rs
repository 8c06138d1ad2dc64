//! `ml.identities`: one row per id of everybody who has several.

use async_trait::async_trait;

use super::MlContext;
use super::view::{Column, Kind, PAGE_ROWS, SeenBy, View, big, text, time};
use crate::context::StatementContext;
use crate::error::Result;
use crate::kernels::identity::NamedLink;

#[derive(Debug)]
pub(super) struct Identities;

#[async_trait]
impl View for Identities {
    fn name(&self) -> &'static str {
        "identities"
    }

    fn columns(&self) -> &'static [(&'static str, Kind)] {
        &[("user_id", Kind::Text), ("id", Kind::Text), ("source", Kind::Text), ("linked_at", Kind::Time), ("links", Kind::BigInt)]
    }

    fn seen_by(&self) -> SeenBy {
        SeenBy::Superusers
    }

    async fn page(&self, context: &MlContext, statement: &StatementContext, from: usize) -> Result<Option<(Vec<Column>, usize)>> {
        let people = statement.people(&*context.identities);
        let (graph, reader) = (people.graph(), people.read());
        let mut rows: Vec<(&str, &str, Vec<NamedLink>)> = Vec::new();
        let mut next = from;
        while next < graph.len() && rows.len() < PAGE_ROWS {
            let id = next as u32;
            if !graph.is_alone(id) {
                let id = reader.name(id);
                rows.push((reader.canonical(id), id, reader.links(id)));
            }
            next += 1;
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let columns = vec![
            text(&rows, |row| Some(row.0)),
            text(&rows, |row| Some(row.1)),
            text(&rows, |row| row.2.first()?.source.as_deref()),
            time(&rows, |row| row.2.first().map(|link| link.at_us)),
            big(&rows, |row| Some(row.2.len() as u64)),
        ];
        Ok(Some((columns, next)))
    }
}
