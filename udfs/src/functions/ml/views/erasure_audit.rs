//! `ml.erasure_audit`: one row per erasure and object that it reached.

use async_trait::async_trait;

use super::MlContext;
use super::view::{Column, Kind, SeenBy, View, big, text, time};
use crate::context::{ErasedFrom, ErasureInfo};
use crate::error::Result;

#[derive(Debug)]
pub(super) struct ErasureAudit;

#[async_trait]
impl View for ErasureAudit {
    fn name(&self) -> &'static str {
        "erasure_audit"
    }

    fn columns(&self) -> &'static [(&'static str, Kind)] {
        &[
            ("erasure", Kind::BigInt),
            ("requested_by", Kind::Text),
            ("requested_at", Kind::Time),
            ("finished_at", Kind::Time),
            ("users", Kind::BigInt),
            ("user_hashes", Kind::Text),
            ("suppressed", Kind::Text),
            ("kind", Kind::Text),
            ("object", Kind::Text),
            ("removed", Kind::BigInt),
            ("files", Kind::BigInt),
            ("remark", Kind::Text),
        ]
    }

    fn seen_by(&self) -> SeenBy {
        SeenBy::Superusers
    }

    async fn rows(&self, context: &MlContext) -> Result<Vec<Column>> {
        let erasures = context.erasure.list();
        let mut rows: Vec<(&ErasureInfo, Option<String>, Option<&ErasedFrom>)> = Vec::new();
        for erasure in &erasures {
            // Beside the first object alone: they are a thousand, perhaps.
            rows.push((erasure, Some(erasure.users.join(" ")), erasure.removed.first()));
            rows.extend(erasure.removed.iter().skip(1).map(|object| (erasure, None, Some(object))));
        }
        Ok(vec![
            big(&rows, |row| Some(row.0.id)),
            text(&rows, |row| Some(&row.0.requested_by)),
            time(&rows, |row| Some(row.0.requested_at_us)),
            time(&rows, |row| row.0.finished_at_us),
            big(&rows, |row| Some(row.0.count)),
            text(&rows, |row| row.1.as_deref()),
            text(&rows, |row| Some(if row.0.suppressed { "yes" } else { "no" })),
            text(&rows, |row| row.2.map(|object| object.kind.as_str())),
            text(&rows, |row| row.2.map(|object| object.object.as_str())),
            big(&rows, |row| row.2.map(|object| object.removed)),
            big(&rows, |row| row.2.map(|object| object.files)),
            text(&rows, |row| row.2.map(|object| object.remark.as_str()).filter(|remark| !remark.is_empty())),
        ])
    }
}
