//! Links between ids, durable: who is the same person.
//!
//! Life of a change: ids become numbers and wait in a [`Batch`] → one change at a time: a copy of the graph is changed, which shares
//! all that stays the same → the steps that had an effect are one new file (see [`segments`]), fsynced → the copy is the newest
//! state. Whoever read an older state keeps it. At the start all files are read; in memory ids, persons and links take about a
//! hundred bytes a link, counted against the query memory.
//!
//! Must never know: who may link, SQL, where ids are used.

mod segments;

use std::collections::VecDeque;
use std::sync::Arc;

use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use parking_lot::{Mutex, RwLock};
use portrait_udfs::context::{LinkOf, Linked};
use portrait_udfs::error::{Code, Error, Result};
use portrait_udfs::kernels::identity::{ERASED, Graph, Names, People, id_order};
use portrait_udfs::kernels::intern::{Interner, NULL_CODE};
use tokio_util::sync::CancellationToken;

use self::segments::{PIECE_BYTES, Segment, Step, Writer, encode};
use crate::storage::DurableLocal;
use crate::storage::erasure::{Forgotten, Users};

/// Numbers that there are.
const IDS_MAX: usize = u32::MAX as usize - 1;
/// Ids of changes that are remembered for whoever follows them.
const RECENT_IDS: usize = 1 << 16;
/// Files that are joined while the statement waits, together.
const JOINED_AT_ONCE_BYTES: u64 = 4 << 20;
/// Steps between two looks at the cancel token.
const STEPS_AT_ONCE: usize = 4096;

/// All links of a data directory.
#[derive(Debug)]
pub(crate) struct Identities {
    store: Arc<DurableLocal>,
    /// Links lie in the folder: a server whose tables lie elsewhere keeps none, or another one would not know them.
    writable: bool,
    forgotten: Arc<Forgotten>,
    names: Names,
    sources: Names,
    newest: RwLock<People>,
    /// The files; locked by whoever changes anything.
    files: tokio::sync::Mutex<Vec<Segment>>,
    recent: Mutex<VecDeque<(u64, Vec<u32>)>>,
    memory: RwLock<Option<MemoryReservation>>,
}

/// A link to make, or to remove.
#[derive(Debug, Clone, Copy)]
struct Pending {
    ids: [u32; 2],
    source: u32,
    at_us: i64,
    unlink: bool,
}

/// Links that wait for their change.
#[derive(Debug)]
pub(crate) struct Batch {
    all: Arc<Identities>,
    steps: Vec<Pending>,
    memory: Option<MemoryReservation>,
}

/// What an erasure took out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Gone {
    /// Links.
    pub(crate) links: u64,
    /// Files that held the ids.
    pub(crate) files: u64,
}

/// A changed copy of the graph.
struct Changed {
    graph: Graph,
    steps: Vec<Pending>,
    /// Ids whose persons are other ones now: all of the persons that they belong to.
    touched: Vec<u32>,
    linked: Linked,
}

impl Identities {
    /// Reads all files. Call only while nothing else works in the folder.
    ///
    /// # Errors
    /// XX001 naming a damaged file.
    pub(crate) fn open(store: &Arc<DurableLocal>, writable: bool, forgotten: &Arc<Forgotten>) -> Result<Arc<Self>> {
        let files = if writable { segments::list(store)? } else { Vec::new() };
        let (names, sources) = (Names::default(), Names::default());
        let mut graph = Graph::default();
        {
            let (mut names, mut sources) = (names.write(), sources.write());
            for file in &files {
                segments::read(store, file, |step| {
                    let (Step::Link { ids, .. } | Step::Unlink { ids }) = step;
                    let ids = ids.map(|id| names.intern(id));
                    let order = |a, b| id_order(names.get(a), names.get(b));
                    match step {
                        Step::Unlink { .. } => {
                            graph.unlink(ids, order);
                        }
                        Step::Link { source, at_us, .. } => {
                            let source = source.map_or(NULL_CODE, |source| sources.intern(source));
                            // What was allowed once stays.
                            let _ = graph.link(ids, source, at_us, usize::MAX, order);
                        }
                    }
                    Ok(())
                })?;
            }
        }
        let version = files.last().map_or(0, |last| last.last);
        let newest = RwLock::new(People::new(names.clone(), sources.clone(), Arc::new(graph), version));
        Ok(Arc::new(Self {
            store: Arc::clone(store),
            writable,
            forgotten: Arc::clone(forgotten),
            names,
            sources,
            newest,
            files: tokio::sync::Mutex::new(files),
            recent: Mutex::default(),
            memory: RwLock::default(),
        }))
    }

    /// From now on the memory is counted in `pool`.
    pub(crate) fn set_pool(&self, pool: &Arc<dyn MemoryPool>) {
        let memory = MemoryConsumer::new("Identities").register(pool);
        // What is there is there.
        memory.resize(self.bytes(&self.people()));
        *self.memory.write() = Some(memory);
    }

    /// Who is who, now.
    pub(crate) fn people(&self) -> People {
        self.newest.read().clone()
    }

    /// Changes with every change of links.
    pub(crate) fn version(&self) -> u64 {
        self.newest.read().version()
    }

    /// Ids of all persons that changes after `version`, up to `now`, made others; `None` when those are not known any more.
    pub(crate) fn touched_since(&self, version: u64, now: u64) -> Option<Vec<u32>> {
        let recent = self.recent.lock();
        let known = recent.front().map_or(version == now, |(first, _)| *first <= version + 1);
        let within = |(at, _): &&(u64, Vec<u32>)| (version + 1..=now).contains(at);
        known.then(|| recent.iter().filter(within).flat_map(|(_, ids)| ids.iter().copied()).collect())
    }

    /// Takes links for one change.
    pub(crate) fn batch(self: &Arc<Self>) -> Batch {
        let memory = self.memory.read().as_ref().map(MemoryReservation::new_empty);
        Batch { all: Arc::clone(self), steps: Vec::new(), memory }
    }

    fn bytes(&self, people: &People) -> usize {
        self.names.read().bytes() + self.sources.read().bytes() + people.graph().bytes()
    }

    fn count_memory(&self, people: &People) -> Result<()> {
        let bytes = self.bytes(people);
        match &*self.memory.read() {
            Some(memory) => memory.try_resize(bytes).map_err(crate::storage::engine_error),
            None => Ok(()),
        }
    }

    /// Makes a change: durable, then visible.
    async fn apply(&self, steps: Vec<Pending>, ids_max: usize, cancel: CancellationToken) -> Result<Linked> {
        let mut files = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Error::cancelled()),
            files = self.files.lock() => files,
        };
        let before = self.people();
        let work = Work {
            names: self.names.clone(),
            nobody: [self.forgotten.hidden(), self.forgotten.suppressed()],
            graph: before.graph().as_ref().clone(),
            ids_max,
            cancel,
        };
        let work = tokio::task::spawn_blocking(move || work.change(steps));
        let changed = work.await.map_err(|error| Error::internal(format!("a change of links ended early: {error}")))??;
        if changed.steps.is_empty() {
            return Ok(changed.linked);
        }
        let version = before.version() + 1;
        let after = People::new(self.names.clone(), self.sources.clone(), Arc::new(changed.graph), version);
        self.count_memory(&after)?;
        let mut writer = Writer::begin(&self.store, version, version).await?;
        for steps in changed.steps.chunks(STEPS_AT_ONCE) {
            let bytes = self.encoded(steps);
            writer.add(&bytes).await?;
        }
        files.push(writer.finish().await?);
        self.publish(after, changed.touched);
        Ok(changed.linked)
    }

    fn encoded(&self, steps: &[Pending]) -> Vec<u8> {
        let (names, sources) = (self.names.read(), self.sources.read());
        let mut bytes = Vec::new();
        for step in steps {
            let ids = step.ids.map(|id| names.get(id));
            let source = (step.source != NULL_CODE).then(|| sources.get(step.source));
            encode(if step.unlink { Step::Unlink { ids } } else { Step::Link { ids, source, at_us: step.at_us } }, &mut bytes);
        }
        bytes
    }

    fn publish(&self, people: People, touched: Vec<u32>) {
        let mut recent = self.recent.lock();
        recent.push_back((people.version(), touched));
        let mut ids: usize = recent.iter().map(|(_, ids)| ids.len().max(1)).sum();
        while ids > RECENT_IDS
            && let Some((_, gone)) = recent.pop_front()
        {
            ids -= gone.len().max(1);
        }
        *self.newest.write() = people;
    }

    /// Joins files when there are many: small ones at once, others while nobody waits.
    async fn tidy(self: &Arc<Self>) {
        let bytes: u64 = {
            let files = self.files.lock().await;
            let Some(start) = segments::run_to_join(&files) else { return };
            files[start..].iter().map(|file| file.bytes).sum()
        };
        let own = Arc::clone(self);
        let work = async move {
            if let Err(error) = own.join_files().await {
                tracing::warn!(%error, "files of links not joined");
            }
        };
        if bytes <= JOINED_AT_ONCE_BYTES { work.await } else { drop(tokio::spawn(work)) }
    }

    async fn join_files(&self) -> Result<()> {
        let mut files = self.files.lock().await;
        let Some(start) = segments::run_to_join(&files) else { return Ok(()) };
        let joined = match start {
            // What links there are is all that there is to know of the past.
            0 => self.write_all(self.people(), files.last().map_or(0, |last| last.last)).await?,
            _ => segments::join(&self.store, &files[start..]).await?,
        };
        let covered = files.split_off(start);
        files.push(joined);
        for file in covered {
            segments::remove(&self.store, &file).await;
        }
        Ok(())
    }

    /// Writes every link of a state as one file, which takes the place of all files up to change `last`.
    async fn write_all(&self, people: People, last: u64) -> Result<Segment> {
        let mut writer = Writer::begin(&self.store, 1, last).await?;
        let (graph, mut place, mut bytes) = (people.graph(), Some(0), Vec::new());
        while let Some(from) = place {
            place = self.encoded_from(graph, from, &mut bytes);
            writer.add(&bytes).await?;
            bytes.clear();
        }
        writer.finish().await
    }

    /// The links from a place on, as many as are written at once, and where to go on.
    fn encoded_from(&self, graph: &Graph, from: usize, bytes: &mut Vec<u8>) -> Option<usize> {
        let (names, sources) = (self.names.read(), self.sources.read());
        let mut place = from;
        while let Some((link, next)) = graph.link_from(place) {
            let source = (link.source != NULL_CODE).then(|| sources.get(link.source));
            encode(Step::Link { ids: link.ids.map(|id| names.get(id)), source, at_us: link.at_us }, bytes);
            place = next;
            if bytes.len() >= PIECE_BYTES {
                return Some(place);
            }
        }
        None
    }

    /// Takes users and all their links out, of memory and of files.
    ///
    /// # Errors
    /// Failures of the store: then the ids may still be in files, and another call goes on.
    pub(crate) async fn forget(&self, users: &Users) -> Result<Gone> {
        let mut files = self.files.lock().await;
        let gone: Vec<u32> = {
            let names = self.names.read();
            (0..).zip(names.iter()).filter(|(_, id)| users.contains(id)).map(|(code, _)| code).collect()
        };
        if gone.is_empty() || files.is_empty() {
            return Ok(Gone::default());
        }
        let before = self.people();
        let (mut graph, mut touched) = (before.graph().as_ref().clone(), gone.clone());
        {
            let names = self.names.read();
            for id in &gone {
                let links: Vec<[u32; 2]> = graph.links_of(*id).map(|link| link.ids).collect();
                for ids in links {
                    touched.extend(ids);
                    graph.unlink(ids, |a, b| id_order(names.get(a), names.get(b)));
                }
            }
        }
        let links = (before.graph().link_count() - graph.link_count()) as u64;
        let version = before.version() + 1;
        let after = People::new(self.names.clone(), self.sources.clone(), Arc::new(graph), version);
        let whole = self.write_all(after.clone(), version).await?;
        let covered = std::mem::replace(&mut *files, vec![whole]);
        for file in &covered {
            segments::remove(&self.store, file).await;
        }
        self.publish(after, touched);
        let mut names = self.names.write();
        let mut erased = gone.iter().copied().peekable();
        let kept: Interner = (0..)
            .zip(names.iter())
            .map(|(code, id)| if erased.next_if_eq(&code).is_some() { format!("{ERASED}{code}") } else { id.to_owned() })
            .collect::<Vec<String>>()
            .iter()
            .map(String::as_str)
            .collect();
        *names = kept;
        Ok(Gone { links, files: covered.len() as u64 })
    }
}

impl Batch {
    /// Adds a link to make.
    ///
    /// # Errors
    /// 22023 for an id that cannot be one, 53200, 54000.
    pub(crate) fn link(&mut self, link: LinkOf<'_>) -> Result<()> {
        let source = link.source.map_or(NULL_CODE, |source| {
            let known = self.all.sources.read().find(source);
            known.unwrap_or_else(|| self.all.sources.write().intern(source))
        });
        let ids = [link.a, link.b];
        if ids.iter().any(|id| id.is_empty() || id.starts_with(ERASED)) {
            return Err(Error::invalid("an id must not be empty").hint("Leave such rows out: everybody would be the same person."));
        }
        let ids = {
            let mut names = self.all.names.write();
            if names.len() >= IDS_MAX {
                return Err(Error::new(Code::TooComplex, "there are more than four billion ids"));
            }
            ids.map(|id| names.intern(id))
        };
        self.push(Pending { ids, source, at_us: link.at_us, unlink: false })
    }

    /// Adds a link to remove.
    ///
    /// # Errors
    /// As [`link`](Self::link).
    pub(crate) fn unlink(&mut self, a: &str, b: &str) -> Result<()> {
        // One that was never linked has no number, and gets none.
        let ids = {
            let names = self.all.names.read();
            [a, b].map(|id| names.find(id).unwrap_or(NULL_CODE))
        };
        self.push(Pending { ids, source: NULL_CODE, at_us: 0, unlink: true })
    }

    fn push(&mut self, step: Pending) -> Result<()> {
        if self.steps.len() == self.steps.capacity() {
            let more = self.steps.capacity().max(64);
            if let Some(memory) = &self.memory {
                memory.try_grow(more * size_of::<Pending>()).map_err(crate::storage::engine_error)?;
            }
            self.steps.reserve_exact(more);
        }
        if self.steps.len().is_multiple_of(STEPS_AT_ONCE) {
            self.all.count_memory(&self.all.people())?;
        }
        self.steps.push(step);
        Ok(())
    }

    /// Makes them durable and visible, all or none. What has begun to be written is carried through when the caller goes away.
    ///
    /// # Errors
    /// 54000, 53200, 53100, 58030; 57014 before anything is written.
    pub(crate) async fn commit(self, ids_max: usize, cancel: CancellationToken) -> Result<Linked> {
        if !self.all.writable {
            return Err(Error::new(Code::FeatureNotSupported, "links between ids are not kept in object storage")
                .detail("The tables of this server lie there, and another server would not know the links.")
                .hint("Keep them in a table, and join with it."));
        }
        let change = tokio::spawn(async move {
            let Self { all, steps, memory: _memory } = self;
            let done = all.apply(steps, ids_max, cancel).await?;
            all.tidy().await;
            Ok(done)
        });
        change.await.map_err(|error| Error::internal(format!("a change of links ended early: {error}")))?
    }
}

/// What a change is made with, on a thread of its own.
struct Work {
    names: Names,
    /// Users of whom nothing is taken.
    nobody: [Arc<Users>; 2],
    graph: Graph,
    ids_max: usize,
    cancel: CancellationToken,
}

impl Work {
    fn change(mut self, steps: Vec<Pending>) -> Result<Changed> {
        let names = self.names.read();
        let order = |a: u32, b: u32| id_order(names.get(a), names.get(b));
        let nobody = |id: &u32| self.nobody.iter().any(|users| users.contains(names.get(*id)));
        let (mut done, mut touched, mut linked) = (Vec::new(), Vec::new(), Linked::default());
        for (at, step) in steps.into_iter().enumerate() {
            if at % STEPS_AT_ONCE == 0 && self.cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            if !step.unlink && step.ids.iter().any(nobody) {
                linked.suppressed += 1;
                continue;
            }
            let [a, b] = step.ids;
            let changed = match step.unlink {
                true => self.graph.unlink(step.ids, order),
                false => {
                    let made = self.graph.link(step.ids, step.source, step.at_us, self.ids_max, order);
                    made.map_err(|found| too_many([names.get(a), names.get(b)], found.ids, self.ids_max))?
                }
            };
            if changed {
                touched.extend([a, b]);
                done.push(step);
                linked.changed += 1;
            } else {
                linked.same += 1;
            }
        }
        linked.persons = self.graph.shared_count() as u64;
        Ok(Changed { graph: self.graph, steps: done, touched, linked })
    }
}

fn too_many([a, b]: [&str; 2], ids: usize, ids_max: usize) -> Error {
    Error::new(Code::TooComplex, format!("a person would have {ids} ids, more than {ids_max}"))
        .detail(format!("The link between \"{a}\" and \"{b}\" would join them."))
        .hint("An id of many persons is mostly a shared device: leave its links out, or raise identity_ids_max with SET.")
}

#[cfg(test)]
mod tests;
