//! The reference page is what the functions say about themselves.

use crate::program::Program;
use portrait_udfs::functions::{aggregates, documentation, reference, relations, scalars, windows};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_md_is_up_to_date() {
    let program = Program::new().await;
    let documented = documentation(&program.context);
    let (scalars, aggregates, windows) = (scalars(&program.context), aggregates(), windows());
    let names = scalars.iter().map(|f| f.name()).chain(aggregates.iter().map(|f| f.name())).chain(windows.iter().map(|f| f.name()));
    let undocumented: Vec<&str> = names.filter(|name| !documented.contains_key(*name)).collect();
    assert!(undocumented.is_empty(), "no #[user_doc]: {undocumented:?}");
    let relations = relations();
    for relation in &relations {
        assert!(!relation.doc().is_empty(), "{} has no documentation", relation.name());
        assert!(relation.parameters().iter().all(|p| !p.doc.is_empty()), "{} has an argument without documentation", relation.name());
        let required = relation.parameters().iter().skip_while(|p| p.required).all(|p| !p.required);
        assert!(required, "{}: required arguments come first", relation.name());
    }
    let page = reference::markdown(&relations, &documented);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/FUNCTIONS.md");
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert!(stored == page, "FUNCTIONS.md is out of date: run UPDATE_REFERENCE=1 cargo test -p portrait-udfs --test it");
}
