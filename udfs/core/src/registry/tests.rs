//! The registry under crashes, lost replies, other processes, damage and load.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use futures::future::{BoxFuture, join_all};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::testing::{Fault, FaultStore, flip, manifest, open, parameters, publish, request};
use super::*;
use crate::error::{Code, Error, Result};

/// What a user sees: per model its active version and its versions, each of which must load.
type Seen = BTreeMap<String, (Option<u32>, Vec<u32>)>;

async fn seen(registry: &Registry) -> Seen {
    let mut seen: Seen = registry.list_models().into_iter().map(|model| (model.name, (model.active_version, vec![]))).collect();
    for entry in registry.list_versions() {
        assert_eq!(registry.resolve(&entry.reference.to_string()).unwrap(), entry.reference);
        registry.load(&entry.reference).await.unwrap();
        seen.get_mut(entry.reference.name.as_ref()).unwrap().1.push(entry.reference.version);
    }
    for (name, (active, versions)) in &seen {
        assert_eq!(registry.resolve(name).ok().map(|found| found.version), *active);
        assert!(active.is_none_or(|active| versions.contains(&active)));
    }
    seen
}

/// Model `a` with versions 1, 2, 3 (3 active, after 1 and 2), model `b` with version 1, and a dropped model `c`.
async fn base() -> Arc<InMemory> {
    let store = Arc::new(InMemory::new());
    let registry = open(&store).await;
    for version in 1..=3 {
        publish(&registry, "a", version).await.unwrap();
        registry.activate("a", Some(version)).await.unwrap();
    }
    publish(&registry, "b", 9).await.unwrap();
    publish(&registry, "c", 9).await.unwrap();
    registry.drop_model("c", None).await.unwrap();
    store
}

type Change = for<'a> fn(&'a Registry) -> BoxFuture<'a, Result<()>>;

const CHANGES: &[(&str, Change)] = &[
    ("publish", |r| Box::pin(async { publish(r, "a", 7).await.map(drop) })),
    ("publish the first", |r| Box::pin(async { publish(r, "new", 7).await.map(drop) })),
    ("publish after a drop", |r| Box::pin(async { publish(r, "c", 7).await.map(drop) })),
    ("activate", |r| Box::pin(async { r.activate("a", Some(1)).await.map(drop) })),
    ("activate the first", |r| Box::pin(async { r.activate("b", None).await.map(drop) })),
    ("rollback", |r| Box::pin(async { r.rollback("a").await.map(drop) })),
    ("rename", |r| Box::pin(async { r.rename("a", "d").await.map(drop) })),
    ("rename to a dropped name", |r| Box::pin(async { r.rename("a", "c").await.map(drop) })),
    ("drop a version", |r| Box::pin(async { r.drop_model("a", Some(2)).await.map(drop) })),
    ("drop", |r| Box::pin(async { r.drop_model("a", None).await.map(drop) })),
];

/// Every change, with its n-th write gone wrong for every n: what the next process sees is the old state or the
/// new one; what was reported as done is the new one; trying again gets there.
#[tokio::test]
async fn any_write_may_fail() {
    let store = base().await;
    let before = seen(&open(&store).await).await;
    for (name, change) in CHANGES {
        let done = Arc::new(store.fork());
        change(&open(&done).await).await.unwrap();
        let after = seen(&open(&done).await).await;
        assert_ne!(before, after, "{name}");
        for fault in [Fault::Crash, Fault::Refuse, Fault::LoseReply] {
            for at in 0.. {
                let place = format!("{name}, {fault:?} at write {at}");
                let inner = Arc::new(store.fork());
                let faulty = FaultStore::new(&inner, fault, at);
                let registry = Registry::open(Arc::<FaultStore>::clone(&faulty), Path::from("registry"), 1 << 30).await.unwrap();
                let outcome = change(&registry).await;
                let next = open(&inner).await;
                let now = seen(&next).await;
                assert!(now == before || now == after, "{place}: {now:?}");
                assert!(outcome.is_err() || now == after, "{place}: reported as done");
                registry.refresh().await.unwrap();
                assert_eq!(seen(&registry).await, now, "{place}: this process sees what the next one sees");
                if now == before {
                    change(&next).await.unwrap_or_else(|error| panic!("{place}: again: {error}"));
                    let numbers = |seen: &Seen| seen.iter().map(|(name, (_, versions))| (name.clone(), versions.len())).collect::<Vec<_>>();
                    assert_eq!(numbers(&seen(&open(&inner).await).await), numbers(&after), "{place}: again");
                }
                if !faulty.struck() {
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_version_goes_through_its_life() {
    let store = Arc::new(InMemory::new());
    let registry = open(&store).await;
    let ticket = registry.begin_version(request("shopper")).await.unwrap();
    assert_eq!(ticket.reference.to_string(), "shopper@1");
    let error = registry.resolve("shopper").unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (Code::NotReady, "version 1 of model \"shopper\" is not ready"));
    assert_eq!(registry.resolve("shopper@1").unwrap_err().code, Code::NotReady);

    let manifest = manifest();
    let weights = parameters(&manifest, 1);
    let first = registry.publish(ticket, manifest, &weights).await.unwrap();
    let error = registry.resolve("shopper").unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (Code::NotReady, "model \"shopper\" has no active version"));
    assert_eq!(registry.resolve("shopper@1").unwrap(), first);

    let done = registry.activate("shopper", None).await.unwrap();
    assert_eq!((done.reference.version, done.previous, done.changed), (1, None, true));
    assert!(!registry.activate("shopper", Some(1)).await.unwrap().changed);
    let loaded = registry.load(&registry.resolve("shopper").unwrap()).await.unwrap();
    assert_eq!(loaded.manifest.info.valid_epoch_loss(), 0.1 + 0.2);
    assert_eq!(registry.parameters(&first).await.unwrap(), weights);

    // A training that is given up leaves its number unused.
    drop(registry.begin_version(request("shopper")).await.unwrap());
    let third = publish(&registry, "shopper", 3).await.unwrap();
    assert_eq!(third.version, 3);
    registry.activate("shopper", Some(3)).await.unwrap();
    assert_eq!(registry.rollback("shopper").await.unwrap().reference.version, 1);
    let error = registry.rollback("shopper").await.unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (Code::NotReady, "model \"shopper\" has no version to go back to"));

    let error = registry.drop_model("shopper", Some(1)).await.unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (Code::NotReady, "version 1 of model \"shopper\" is active"));
    registry.drop_model("shopper", Some(3)).await.unwrap();
    let error = registry.resolve("shopper@3").unwrap_err();
    assert_eq!((error.code, error.detail.as_deref()), (Code::UndefinedObject, Some("It has version 1.")));
}

impl VersionInfo {
    fn valid_epoch_loss(&self) -> f64 {
        self.history[0].valid_loss
    }
}

#[tokio::test]
async fn unknown_names_get_the_nearest_one() {
    let registry = open(&base().await).await;
    publish(&registry, "shopper", 1).await.unwrap();
    let error = registry.resolve("shoper").unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (Code::UndefinedObject, "model \"shoper\" does not exist"));
    assert_eq!(error.detail.as_deref(), Some("The registry holds 3 models: \"a\", \"b\", \"shopper\"."));
    assert_eq!(error.hint.as_deref(), Some("Did you mean \"shopper\"?"));
    // A dropped model and a first training that was given up are unknown.
    drop(registry.begin_version(request("zebra")).await.unwrap());
    for name in ["c", "zebra", "zebra@1", ""] {
        assert_eq!(registry.resolve(name).unwrap_err().code, Code::UndefinedObject, "{name}");
    }
    for name in ["a@", "a@x"] {
        assert_eq!(registry.resolve(name).unwrap_err().code, Code::InvalidParameter, "{name}");
    }
}

#[tokio::test]
async fn numbers_are_never_given_out_twice() {
    let store = base().await;
    let registry = open(&store).await;
    registry.drop_model("a", None).await.unwrap();
    assert_eq!(publish(&registry, "a", 1).await.unwrap().version, 4, "after a drop");
    registry.rename("a", "z").await.unwrap();
    assert_eq!(publish(&registry, "a", 1).await.unwrap().version, 5, "after a rename");
    let registry = open(&store).await;
    assert_eq!(publish(&registry, "z", 1).await.unwrap().version, 5, "after a restart");
    registry.drop_model("a", None).await.unwrap();
    registry.rename("z", "a").await.unwrap();
    assert_eq!(publish(&registry, "a", 1).await.unwrap().version, 6, "under a name that another model had");
}

#[tokio::test]
async fn a_pinned_version_outlives_rename_and_what_is_loaded_outlives_drop() {
    let registry = open(&base().await).await;
    let pinned = registry.resolve("a").unwrap();
    registry.rename("a", "d").await.unwrap();
    assert_eq!(registry.resolve("a").unwrap_err().code, Code::UndefinedObject);
    assert_eq!(registry.resolve("d").unwrap().id, pinned.id);
    let loaded = registry.load(&pinned).await.unwrap();
    registry.drop_model("d", None).await.unwrap();
    assert_eq!(loaded.manifest.info.version, 3);
    assert_eq!(registry.load(&pinned).await.unwrap_err().code, Code::UndefinedObject);
    assert!(!registry.rename("b", "b").await.unwrap());
    publish(&registry, "e", 1).await.unwrap();
    assert_eq!(registry.rename("b", "e").await.unwrap_err().code, Code::DuplicateObject);
    assert_eq!(registry.rename("b", "x@1").await.unwrap_err().code, Code::InvalidParameter);
}

#[tokio::test]
async fn a_training_survives_rename_but_not_drop() {
    let registry = open(&base().await).await;
    let (first, second) = (registry.begin_version(request("a")).await.unwrap(), registry.begin_version(request("a")).await.unwrap());
    registry.rename("a", "d").await.unwrap();
    let manifest = manifest();
    registry.publish(first, manifest.clone(), &parameters(&manifest, 1)).await.unwrap();
    assert_eq!(registry.resolve("d@4").unwrap().version, 4);
    registry.drop_model("d", None).await.unwrap();
    let error = registry.publish(second, manifest.clone(), &parameters(&manifest, 1)).await.unwrap_err();
    assert_eq!(error.code, Code::NotReady);
    assert_eq!(registry.resolve("d").unwrap_err().code, Code::UndefinedObject);
}

#[tokio::test]
async fn two_processes_share_a_store() {
    let store = Arc::new(InMemory::new());
    let (one, two) = (open(&store).await, open(&store).await);
    // Both create the model at once: one model, two versions.
    let (a, b) = tokio::join!(publish(&one, "m", 1), publish(&two, "m", 2));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.id, b.id);
    assert_ne!(a.version, b.version);
    one.refresh().await.unwrap();
    two.refresh().await.unwrap();
    // Both change it at once: both changes count.
    let (x, y) = tokio::join!(one.activate("m", Some(1)), two.activate("m", Some(2)));
    assert!(x.unwrap().changed && y.unwrap().changed);
    one.refresh().await.unwrap();
    two.refresh().await.unwrap();
    assert_eq!(one.resolve("m").unwrap(), two.resolve("m").unwrap());
    one.rollback("m").await.unwrap();
    two.refresh().await.unwrap();
    assert_eq!(one.resolve("m").unwrap(), two.resolve("m").unwrap());
    two.drop_model("m", None).await.unwrap();
    one.refresh().await.unwrap();
    assert_eq!(one.resolve("m").unwrap_err().code, Code::UndefinedObject);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_resolve_while_they_change() {
    let registry = Arc::new(open(&base().await).await);
    let changer = tokio::spawn({
        let registry = Arc::clone(&registry);
        async move {
            for round in 0..60 {
                registry.activate("a", Some(round % 3 + 1)).await.unwrap();
            }
        }
    });
    while !changer.is_finished() {
        let found = registry.resolve("a").unwrap();
        assert_eq!(registry.load(&found).await.unwrap().manifest.info.version, found.version);
        tokio::task::yield_now().await;
    }
    changer.await.unwrap();
}

#[tokio::test]
async fn one_load_however_many_ask() {
    let registry = open(&base().await).await;
    let pinned = registry.resolve("a").unwrap();
    let loaded = join_all((0..50).map(|_| registry.load(&pinned))).await;
    let first = loaded[0].as_ref().unwrap();
    assert!(loaded.iter().all(|model| Arc::ptr_eq(model.as_ref().unwrap(), first)));
    let stats = registry.cache_stats();
    assert_eq!((stats.loads, stats.evictions, stats.bytes), (1, 0, first.bytes));
    let entry = &registry.cache_entries()[0];
    assert_eq!((entry.reference.to_string().as_str(), entry.users), ("a@3", 50));
}

#[tokio::test]
async fn the_cache_keeps_what_fits_and_what_is_used() {
    let store = base().await;
    let bytes = open(&store).await.load(&open(&store).await.resolve("a").unwrap()).await.unwrap().bytes;
    let registry = Registry::open(Arc::<InMemory>::clone(&store), Path::from("registry"), bytes * 2).await.unwrap();
    let version = |version| registry.resolve(&format!("a@{version}")).unwrap();
    let cached = || registry.cache_entries().iter().map(|entry| entry.reference.version).collect::<Vec<_>>();
    for number in [1, 2, 1, 3] {
        registry.load(&version(number)).await.unwrap();
    }
    assert_eq!(cached(), [3, 1], "2 was used longest ago");
    assert_eq!(registry.cache_stats().bytes, bytes * 2);
    let (_one, _three) = (registry.load(&version(1)).await.unwrap(), registry.load(&version(3)).await.unwrap());
    registry.load(&version(2)).await.unwrap();
    assert_eq!(cached(), [3, 1], "what is used stays");
    drop((_one, _three));
    assert!(registry.unload(&version(3)));
    assert!(!registry.unload(&version(3)));
    assert_eq!(registry.cache_stats(), CacheStats { limit_bytes: bytes * 2, bytes, hits: 3, loads: 4, evictions: 2 });
}

#[tokio::test]
async fn a_flipped_bit_names_its_file() {
    let store = base().await;
    let check = |error: Error, path: &Path| {
        assert_eq!(error.code, Code::DataCorrupted, "{error}");
        assert!(error.message.contains(path.as_ref()), "{error} does not name {path}");
    };
    for at in (0..2000).step_by(97) {
        let damaged = Arc::new(store.fork());
        let path = flip(&damaged, "weights.safetensors", at).await;
        let registry = open(&damaged).await;
        let versions = registry.list_versions();
        let hit = versions.iter().find(|entry| path.as_ref().contains(entry.reference.id.as_ref())).unwrap();
        let name = format!("{}@{}", hit.reference.name, path.parts().nth(3).unwrap().as_ref().parse::<u32>().unwrap());
        check(registry.load(&registry.resolve(&name).unwrap()).await.unwrap_err(), &path);

        let damaged = Arc::new(store.fork());
        let path = flip(&damaged, "manifest.json", at).await;
        let registry = open(&damaged).await;
        check(registry.resolve(&name).unwrap_err(), &path);
        let hit = registry.list_versions().into_iter().find(|entry| entry.reference.to_string() == name).unwrap();
        assert_eq!((hit.state, hit.info.is_none()), ("failed", true));
    }
}

#[tokio::test]
async fn a_damaged_record_stops_its_model_only_and_can_be_mended() {
    let store = base().await;
    let registry = open(&store).await;
    let id = registry.resolve("a").unwrap().id;
    let states = Path::from(format!("registry/models/{id}/state"));
    let all: Vec<_> = store.list(Some(&states)).try_collect().await.unwrap();
    let newest = all.iter().map(|meta| meta.location.clone()).max().unwrap();
    store.put(&newest, b"nonsense".to_vec().into()).await.unwrap();
    let registry = open(&store).await;
    let error = registry.resolve("a").unwrap_err();
    assert_eq!(error.code, Code::DataCorrupted);
    assert!(error.message.contains(newest.as_ref()));
    registry.activate("b", None).await.unwrap();
    registry.activate("a", Some(2)).await.unwrap();
    assert_eq!(registry.resolve("a").unwrap().version, 2);
    assert_eq!(open(&store).await.resolve("a").unwrap().version, 2);
}

#[tokio::test]
async fn an_unknown_format_is_refused() {
    let store = base().await;
    let registry = open(&store).await;
    let pinned = registry.resolve("a").unwrap();
    let mut future = registry.manifest(&pinned).await.unwrap().as_ref().clone();
    future.format_version = FORMAT_VERSION + 1;
    let path = Path::from(format!("registry/models/{}/{:06}/manifest.json", pinned.id, pinned.version));
    store.put(&path, exact::to_bytes(&future).unwrap().into()).await.unwrap();
    let error = open(&store).await.resolve("a").unwrap_err();
    assert_eq!(error.code, Code::FeatureNotSupported);
    assert!(error.message.contains(path.as_ref()), "{error}");
    assert_eq!(open(&store).await.resolve("a@2").unwrap().version, 2);
}

#[tokio::test]
async fn leftovers_are_swept_when_they_are_old() {
    let store = base().await;
    let registry = open(&store).await;
    let ticket = registry.begin_version(request("a")).await.unwrap();
    let orphan = Path::from(format!("registry/models/{}/{:06}/weights.safetensors", ticket.reference.id, ticket.reference.version));
    store.put(&orphan, b"half".to_vec().into()).await.unwrap();
    registry.sweep(Duration::from_secs(60)).await;
    assert!(store.head(&orphan).await.is_ok(), "it may be another process's");
    registry.sweep(Duration::ZERO).await;
    assert!(store.head(&orphan).await.is_err());
    // Files of a dropped version that could not be removed then go at the next start.
    let dead = Path::from(format!("registry/models/{}/{:06}/weights.safetensors", ticket.reference.id, 2));
    let bytes = store.get(&dead).await.unwrap().bytes().await.unwrap();
    registry.drop_model("a", Some(2)).await.unwrap();
    store.put(&dead, bytes.into()).await.unwrap();
    open(&store).await;
    assert!(store.head(&dead).await.is_err());
    assert_eq!(open(&store).await.list_versions().len(), 3);
}

#[tokio::test]
async fn models_travel() {
    let (home, files, away) = (open(&base().await).await, Arc::new(InMemory::new()), open(&Arc::new(InMemory::new())).await);
    let folder = |path: &str| Folder { store: Arc::<InMemory>::clone(&files), path: Path::from(path) };
    let pinned = home.resolve("a").unwrap();
    assert!(home.export(&pinned, &folder("out/a")).await.unwrap());
    assert!(!home.export(&pinned, &folder("out/a")).await.unwrap(), "doing it twice changes nothing");
    let other = home.resolve("a@1").unwrap();
    assert_eq!(home.export(&other, &folder("out/a")).await.unwrap_err().code, Code::DuplicateObject);

    let done = away.import(request("copy"), &folder("out/a")).await.unwrap();
    assert_eq!((done.reference.to_string().as_str(), done.changed, done.activated), ("copy@1", true, true));
    let again = away.import(request("copy"), &folder("out/a")).await.unwrap();
    assert_eq!((again.reference, again.changed), (done.reference.clone(), false));
    assert_eq!(away.parameters(&done.reference).await.unwrap(), home.parameters(&pinned).await.unwrap());
    let (mine, theirs) = (away.manifest(&done.reference).await.unwrap(), home.manifest(&pinned).await.unwrap());
    assert_eq!((&mine.preprocessor, &mine.config, &mine.info.classes), (&theirs.preprocessor, &theirs.config, &theirs.info.classes));

    home.export(&other, &folder("out/b")).await.unwrap();
    let next = away.import(request("copy"), &folder("out/b")).await.unwrap();
    assert_eq!((next.reference.version, next.activated), (2, false));

    assert_eq!(away.import(request("x"), &folder("empty")).await.unwrap_err().code, Code::UndefinedObject);
    for file in ["model.safetensors", "manifest.json"] {
        let path = flip(&files, &format!("out/b/{file}"), 700).await;
        let error = away.import(request("x"), &folder("out/b")).await.unwrap_err();
        assert_eq!(error.code, Code::DataCorrupted);
        assert!(error.message.contains(path.as_ref()), "{error}");
    }
    assert_eq!(away.resolve("x").unwrap_err().code, Code::UndefinedObject, "a refused import leaves nothing");
}

#[derive(Debug)]
struct OwnersOnly;

impl ModelPermissions for OwnersOnly {
    fn check(&self, caller: &str, model: &str, owner: &str, action: ModelAction) -> Result<()> {
        if caller == owner || action == ModelAction::Execute {
            return Ok(());
        }
        Err(Error::new(Code::InsufficientPrivilege, format!("must be owner of model \"{model}\"")))
    }
}

#[tokio::test]
async fn permissions_are_asked_with_the_owner() {
    let registry = open(&base().await).await.with_permissions(Arc::new(OwnersOnly));
    registry.authorize("ann", "a@1", ModelAction::Own).unwrap();
    registry.authorize("bob", "a", ModelAction::Execute).unwrap();
    let error = registry.authorize("bob", "a@1", ModelAction::Own).unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (Code::InsufficientPrivilege, "must be owner of model \"a\""));
    registry.authorize("bob", "unheard", ModelAction::Own).unwrap();
}

#[tokio::test]
async fn versions_that_hold_erased_users_are_known_and_what_comes_of_them() {
    let store = Arc::new(InMemory::new());
    let registry = open(&store).await;
    let first = publish(&registry, "a", 1).await.unwrap();
    publish(&registry, "b", 1).await.unwrap();
    assert_eq!(registry.erased(&first), (ContainsErased::No, OnErasure::Disclose));
    registry.mark_erased(&first, ContainsErased::Yes).await.unwrap();
    // What is known is never made less.
    registry.mark_erased(&first, ContainsErased::Unknown).await.unwrap();
    registry.may_answer(&first).unwrap();
    assert!(registry.set_policy("a", OnErasure::Refuse).await.unwrap());
    assert!(!registry.set_policy("a", OnErasure::Refuse).await.unwrap());
    assert_eq!(registry.set_policy("nothing", OnErasure::Refuse).await.unwrap_err().code, Code::UndefinedObject);
    assert_eq!(registry.load_to_answer(&first).await.unwrap_err().code, Code::NotReady);
    // It can be looked at, trained from and compared all the same.
    registry.load(&first).await.unwrap();
    // A version that is made of it holds them too; one that is being made while users are erased may.
    let mut made = manifest();
    made.info.options = serde_json::json!({ "warm_from": "a@1" });
    let weights = parameters(&made, 2);
    let child = registry.publish(registry.begin_version(request("a")).await.unwrap(), made, &weights).await.unwrap();
    let ticket = registry.begin_version(request("a")).await.unwrap();
    assert_eq!(registry.list_training(), std::slice::from_ref(&ticket.reference));
    registry.mark_erased(&ticket.reference, ContainsErased::Unknown).await.unwrap();
    let made = manifest();
    let weights = parameters(&made, 3);
    let during = registry.publish(ticket, made, &weights).await.unwrap();
    let later = publish(&registry, "a", 4).await.unwrap();
    registry.rename("a", "c").await.unwrap();
    let again = open(&store).await;
    let found: Vec<ContainsErased> = [&first, &child, &during, &later].map(|version| again.erased(version).0).to_vec();
    assert_eq!(found, [ContainsErased::Yes, ContainsErased::Yes, ContainsErased::Unknown, ContainsErased::No]);
    assert_eq!(again.may_answer(&during).unwrap_err().code, Code::NotReady);
    again.may_answer(&later).unwrap();
    let shown: Vec<(String, &str, OnErasure)> =
        again.list_models().into_iter().map(|model| (model.name, model.contains_erased.as_str(), model.on_erasure)).collect();
    assert_eq!(shown, [("b".to_owned(), "no", OnErasure::Disclose), ("c".to_owned(), "no", OnErasure::Refuse)]);
    // The strings that a version knows by name.
    let known = again.manifest(&first).await.unwrap();
    assert!(known.names_one(&|text| text == "FR") && known.names_one(&|text| text == "yes"));
    assert!(!known.names_one(&|text| text == "PT"));
}
