//! The function reference, generated from the functions themselves: `udfs/FUNCTIONS.md`.
//!
//! Nothing is written here that a function does not say about itself, so the page cannot drift from the code; a
//! test compares the two.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use datafusion::logical_expr::Documentation;

use super::relation::{Kind, MlRelation, Parameter};
use crate::features::OPTION_KEYS;

const HEADER: &str = "<!-- Generated from the functions themselves; `UPDATE_REFERENCE=1 cargo test -p portrait-udfs --test it` writes it anew. -->
# Functions

Arguments after the required ones are named: `name => value`. A `source` is the name of a table or view, `$$SELECT …$$`, a subquery in
parentheses, or a path or glob under a data root; it is one read-only query. A `model` is `name` (the active version) or `name@3`. Errors have
PostgreSQL's codes.
";

/// The whole page.
pub fn markdown(relations: &[Arc<dyn MlRelation>], functions: &BTreeMap<String, Documentation>) -> String {
    let mut page = String::from(HEADER);
    page.push_str("\n## In FROM\n");
    let sorted: BTreeMap<&str, &Arc<dyn MlRelation>> = relations.iter().map(|relation| (relation.name(), relation)).collect();
    for relation in sorted.values() {
        describe(&mut page, relation.as_ref());
    }
    let mut sections: BTreeMap<&str, Vec<(&str, &Documentation)>> = BTreeMap::new();
    for (name, documentation) in functions {
        sections.entry(documentation.doc_section.label).or_default().push((name, documentation));
    }
    for (label, members) in sections {
        let _ = write!(page, "\n## {label}\n");
        for (name, documentation) in members {
            function(&mut page, name, documentation);
        }
    }
    options(&mut page);
    page
}

/// The signature: `f(model text, source, target => 'next_event')`.
pub fn signature(name: &str, parameters: &[Parameter]) -> String {
    let shown = parameters.iter().map(|p| match (p.required, p.kind) {
        (true, Kind::Source | Kind::Model) => p.name.to_owned(),
        (true, kind) => format!("{} {}", p.name, kind.sql_name()),
        (false, _) => format!("{} => {}", p.name, p.default),
    });
    format!("{name}({})", shown.collect::<Vec<_>>().join(", "))
}

fn describe(page: &mut String, relation: &dyn MlRelation) {
    let _ = write!(page, "\n### {}\n\n{}\n\n", relation.name(), relation.doc());
    let _ = write!(page, "```text\n{}\n```\n\n", signature(relation.name(), relation.parameters()));
    let _ = writeln!(page, "| argument | type | default | |\n|---|---|---|---|");
    for parameter in relation.parameters() {
        let default = if parameter.required { String::new() } else { format!("`{}`", parameter.default) };
        let _ = writeln!(page, "| `{}` | {} | {default} | {} |", parameter.name, parameter.kind.sql_name(), cell(parameter.doc));
    }
    if relation.takes_options() {
        let _ = writeln!(page, "\nEvery training option may also be written as a named argument, such as `epochs => 5`.");
    }
    if !relation.example().is_empty() {
        let _ = write!(page, "\n```sql\n{};\n```\n", relation.example());
    }
}

fn function(page: &mut String, name: &str, documentation: &Documentation) {
    let _ = write!(page, "\n### {name}\n\n{}\n\n```text\n{}\n```\n", documentation.description.trim(), documentation.syntax_example);
    if let Some(arguments) = &documentation.arguments {
        let _ = writeln!(page, "\n| argument | |\n|---|---|");
        for (argument, text) in arguments {
            let _ = writeln!(page, "| `{argument}` | {} |", cell(text));
        }
    }
    if let Some(example) = &documentation.sql_example {
        let _ = write!(page, "\n{}\n", example.trim());
    }
}

fn options(page: &mut String) {
    page.push_str(
        "\n## Training options\n\nKeys of the `options` JSON; each may also be set for a session with `SET ml.<key> = …`.\n\n\
         | option | type | default | |\n|---|---|---|---|\n",
    );
    for option in OPTION_KEYS {
        let _ = writeln!(page, "| `{}` | {} | {} | {} |", option.key, option.r#type, cell(option.default), cell(option.doc));
    }
}

/// Text inside a table cell.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
