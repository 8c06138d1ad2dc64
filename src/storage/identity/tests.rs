use std::path::Path;

use datafusion::execution::memory_pool::GreedyMemoryPool;
use portrait_udfs::kernels::splitmix;

use super::*;
use crate::storage::erasure::hash_of;

fn open(folder: &Path) -> Arc<Identities> {
    let store = Arc::new(DurableLocal::open(folder).unwrap());
    Identities::open(&store, true, &Arc::default()).unwrap()
}

async fn change(identities: &Arc<Identities>, links: &[(&str, &str)], unlinks: &[(&str, &str)]) -> Result<Linked> {
    let mut batch = identities.batch();
    for (a, b) in links {
        batch.link(LinkOf { a, b, source: Some("login"), at_us: 7 })?;
    }
    for (a, b) in unlinks {
        batch.unlink(a, b)?;
    }
    batch.commit(32, CancellationToken::new()).await
}

/// All links in words, sorted.
fn links(identities: &Identities) -> Vec<String> {
    let people = identities.people();
    let (reader, mut found, mut place) = (people.read(), Vec::new(), 0);
    while let Some((link, next)) = people.graph().link_from(place) {
        let link = reader.named(link);
        found.push(format!("{}-{} {} {}", link.ids[0], link.ids[1], link.source.unwrap_or_default(), link.at_us));
        place = next;
    }
    found.sort();
    found
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder.join("identities")).map_or(0, Iterator::count)
}

#[tokio::test]
async fn many_changes_come_back_from_few_files() {
    let folder = tempfile::tempdir().unwrap();
    let mut identities = open(folder.path());
    let mut made: Vec<(String, String)> = Vec::new();
    for round in 0..600_u64 {
        if splitmix::at(3, round).is_multiple_of(3) && !made.is_empty() {
            // Mostly one that is there.
            let (a, b) = &made[splitmix::at(4, round) as usize % made.len()];
            change(&identities, &[], &[(b, a)]).await.unwrap();
        } else {
            let pair = [1, 2].map(|of| format!("id {}", splitmix::at(of, round) % 400));
            // A person may become too large; that changes nothing.
            let _ = change(&identities, &[(&pair[0], &pair[1])], &[]).await;
            made.push(pair.into());
        }
        if round % 100 == 99 {
            let (before, version) = (links(&identities), identities.version());
            drop(identities);
            identities = open(folder.path());
            assert_eq!((links(&identities), identities.version()), (before, version), "round {round}");
        }
    }
    assert!(identities.version() > 200, "{}", identities.version());
    assert!(files(folder.path()) < 30, "{} files", files(folder.path()));
}

#[tokio::test]
async fn a_change_is_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let identities = open(folder.path());
    let done = change(&identities, &[("a", "b"), ("b", "a"), ("c", "c"), ("c", "b")], &[("a", "z")]).await.unwrap();
    assert_eq!(done, Linked { changed: 2, same: 3, suppressed: 0, persons: 1 });
    // Nothing changes: nothing is written, and nobody has to look again.
    assert_eq!((identities.version(), files(folder.path())), (1, 1));
    assert_eq!(change(&identities, &[("a", "b")], &[("x", "y")]).await.unwrap().changed, 0);
    assert_eq!((identities.version(), files(folder.path())), (1, 1));
    let before = links(&identities);
    let many: Vec<String> = (0..40).map(|n| format!("shared {n}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|id| (id.as_str(), "a")).collect();
    let error = change(&identities, &many, &[]).await.unwrap_err();
    assert_eq!(error.code, Code::TooComplex, "{error}");
    assert_eq!(change(&identities, &[("d", "e"), ("", "a")], &[]).await.unwrap_err().code, Code::InvalidParameter);
    let mut batch = identities.batch();
    batch.link(LinkOf { a: "d", b: "e", source: None, at_us: 0 }).unwrap();
    let cancelled = CancellationToken::new();
    cancelled.cancel();
    assert_eq!(batch.commit(32, cancelled).await.unwrap_err().code, Code::Cancelled);
    assert_eq!((links(&identities), identities.version(), files(folder.path())), (before.clone(), 1, 1));
    let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(200_000));
    identities.set_pool(&pool);
    assert!(pool.reserved() > 1000);
    let names: Vec<String> = (0..20_000).map(|n| format!("a long id of nobody in particular {n}")).collect();
    let pairs: Vec<(&str, &str)> = names.chunks(2).map(|two| (two[0].as_str(), two[1].as_str())).collect();
    assert_eq!(change(&identities, &pairs, &[]).await.unwrap_err().code, Code::OutOfMemory);
    assert_eq!((links(&identities), identities.version()), (before, 1));
}

#[tokio::test]
async fn who_follows_is_told_what_changed() {
    let folder = tempfile::tempdir().unwrap();
    let identities = open(folder.path());
    change(&identities, &[("a", "b")], &[]).await.unwrap();
    change(&identities, &[("c", "b")], &[]).await.unwrap();
    change(&identities, &[], &[("a", "b")]).await.unwrap();
    let names = |ids: Option<Vec<u32>>| {
        let people = identities.people();
        let reader = people.read();
        ids.map(|ids| ids.into_iter().map(|id| reader.name(id).to_owned()).collect::<Vec<_>>().join(""))
    };
    assert_eq!(names(identities.touched_since(0, 3)).as_deref(), Some("abcbab"));
    assert_eq!(names(identities.touched_since(1, 2)).as_deref(), Some("cb"));
    assert_eq!(names(identities.touched_since(3, 3)).as_deref(), Some(""));
    // After a start nothing is known of what was before.
    drop(identities);
    let identities = open(folder.path());
    assert_eq!((identities.touched_since(2, 3), identities.touched_since(3, 3)), (None, Some(vec![])));
}

#[tokio::test]
async fn erased_ids_are_in_no_file_and_in_no_name() {
    let folder = tempfile::tempdir().unwrap();
    let identities = open(folder.path());
    change(&identities, &[("alice-4711", "web-9"), ("bob", "web-7"), ("web-9", "app-1")], &[]).await.unwrap();
    // No link is left of it, and yet a file names it.
    change(&identities, &[("gone-1", "bob")], &[]).await.unwrap();
    change(&identities, &[], &[("gone-1", "bob")]).await.unwrap();
    let key = [3; 32];
    let users = Users::new(key, ["alice-4711", "gone-1", "nobody"].map(|user| hash_of(&key, user)).into_iter().collect());
    let gone = identities.forget(&users).await.unwrap();
    assert_eq!(gone, Gone { links: 1, files: 3 });
    assert_eq!(links(&identities), ["bob-web-7 login 7", "web-9-app-1 login 7"]);
    let held = |folder: &Path, id: &str| {
        let all = std::fs::read_dir(folder.join("identities")).unwrap();
        all.filter(|file| std::fs::read(file.as_ref().unwrap().path()).unwrap().windows(id.len()).any(|bytes| bytes == id.as_bytes()))
            .count()
    };
    assert_eq!(["alice-4711", "gone-1", "web-9"].map(|id| held(folder.path(), id)), [0, 0, 1]);
    let people = identities.people();
    assert!(!people.names().read().iter().any(|id| id.contains("alice") || id.contains("gone")));
    assert_eq!((people.read().canonical("web-9"), people.read().canonical("alice-4711")), ("app-1", "alice-4711"));
    assert_eq!(identities.forget(&users).await.unwrap(), Gone::default());
    let (before, version) = (links(&identities), identities.version());
    drop(identities);
    let identities = open(folder.path());
    assert_eq!((links(&identities), identities.version()), (before, version));
}
