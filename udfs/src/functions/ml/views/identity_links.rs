//! `ml.identity_links`: one row per link between two ids, as `link_ids_from` takes them.

use async_trait::async_trait;

use super::MlContext;
use super::view::{Column, Kind, PAGE_ROWS, SeenBy, View, text, time};
use crate::context::StatementContext;
use crate::error::Result;
use crate::kernels::identity::NamedLink;

#[derive(Debug)]
pub(super) struct IdentityLinks;

#[async_trait]
impl View for IdentityLinks {
    fn name(&self) -> &'static str {
        "identity_links"
    }

    fn columns(&self) -> &'static [(&'static str, Kind)] {
        &[("a", Kind::Text), ("b", Kind::Text), ("source", Kind::Text), ("linked_at", Kind::Time), ("user_id", Kind::Text)]
    }

    fn seen_by(&self) -> SeenBy {
        SeenBy::Superusers
    }

    async fn page(&self, context: &MlContext, statement: &StatementContext, from: usize) -> Result<Option<(Vec<Column>, usize)>> {
        let people = statement.people(&*context.identities);
        let (graph, reader) = (people.graph(), people.read());
        let mut rows: Vec<NamedLink> = Vec::new();
        let mut next = from;
        while rows.len() < PAGE_ROWS
            && let Some((link, after)) = graph.link_from(next)
        {
            rows.push(reader.named(link));
            next = after;
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let columns = vec![
            text(&rows, |link| Some(&link.ids[0])),
            text(&rows, |link| Some(&link.ids[1])),
            text(&rows, |link| link.source.as_deref()),
            time(&rows, |link| Some(link.at_us)),
            Column::Text(rows.iter().map(|link| Some(reader.canonical(&link.ids[0]).to_owned())).collect()),
        ];
        Ok(Some((columns, next)))
    }
}
