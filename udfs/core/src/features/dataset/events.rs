//! Histories → training data.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use super::attachments::{self, History};
use super::store::HistoryStore;
use super::{Dataset, FILE_BUFFERS, Interrupt, check_enough, class_map};
use crate::error::{Code, Error, Result};
use crate::features::anchor::{Cutter, Grid, NONE_CODE, Question, Row, Summand, split_by_time};
use crate::features::encoder::{Encoder, EventPlan, RawRows, Source, fit, is_excluded, too_many_steps};
use crate::features::events::{Events, Strings, UserHistory, UserKey, extra_name};
use crate::features::inputs::{InputShape, Labels, Rows};
use crate::features::options::Options;
use crate::features::roles::{EventColumns, ValueColumn, undefined_column};
use crate::features::sequence::{SequencePlan, SequenceState, step_logs};
use crate::features::spill::SpillSpace;
use crate::features::spilled::RowSink;
use crate::features::tabular::{CodeTable, DAY_US, EVENT_TYPES_MAX, TabularPlan, TabularState, slug};
use crate::features::target::{NONE_CLASS, OTHER_CLASS, Target};
use crate::features::vocabulary::Vocabulary;
use crate::kernels::intern::{Interner, NULL_CODE};
use crate::kernels::nearest::nearest;
use crate::kernels::splitmix;

/// Items with a token, and for `next_item` a class, of their own at most, where the option `max_items` says nothing.
const ITEMS_MAX: usize = 100_000;
/// Categories with a token of their own, at most.
const CATEGORIES_MAX: usize = 2000;

/// What a row in files leaves in memory: label, part, span, anchor, recency and frequency, and while its features are
/// fitted a column, its copy and the list of train rows.
const SPILLED_ROW_BYTES: usize = 4 + 1 + 8 + 8 + 8 + 12;

/// Collects histories, then cuts them into rows.
#[derive(Debug)]
pub struct EventDatasetBuilder {
    columns: EventColumns,
    target: Target,
    options: Options,
    store: HistoryStore,
    cutter: Cutter,
    tabular: TabularPlan,
    rows: Vec<Row>,
    users_total: u64,
    sampled_out: u64,
    censored_rows: u64,
    interrupt: Interrupt,
    /// Where what does not fit in memory goes.
    space: Option<Arc<dyn SpillSpace>>,
}

impl EventDatasetBuilder {
    /// A builder for histories of `schema` (canonical), the watermark being the source's largest event time. Without
    /// `anchor_every_us` the option `anchor_every` counts, then the horizon.
    ///
    /// # Errors
    /// `InvalidParameter`, `UndefinedColumn` for a target that the columns cannot give.
    pub fn new(
        columns: &EventColumns,
        schema: SchemaRef,
        target: &Target,
        horizon_us: i64,
        anchor_every_us: Option<i64>,
        options: &Options,
        watermark_us: i64,
    ) -> Result<Self> {
        if horizon_us <= 0 {
            return Err(Error::invalid("the horizon must be positive"));
        }
        let every_us = anchor_every_us.or(options.anchor_every_us()?).unwrap_or(horizon_us);
        if every_us <= 0 {
            return Err(Error::invalid("anchor_every must be positive"));
        }
        let mut options = options.clone();
        // The feature made of an excluded column has a name of its own.
        let excluded = columns.extra.iter().filter(|name| is_excluded(name, &options.exclude));
        let excluded: Vec<String> = excluded.map(|name| format!("last_{}", slug(name))).collect();
        options.exclude.extend(excluded);
        let extras = columns.extra.iter().map(|name| {
            let number = schema.field_with_name(&extra_name(name)).is_ok_and(|field| field.data_type().is_numeric());
            (name.clone(), number)
        });
        let kept = |column: Option<&String>, role: &str| {
            column.is_some_and(|name| !is_excluded(name, &options.exclude) && !options.exclude.iter().any(|e| e.eq_ignore_ascii_case(role)))
        };
        let value_names = match &columns.value {
            Some(ValueColumn::Column(name)) => vec![name],
            Some(ValueColumn::Product(price, quantity)) => vec![price, quantity],
            None => Vec::new(),
        };
        let tabular = TabularPlan {
            event_types: Vec::new(),
            event: columns.event.is_some(),
            item: kept(columns.item.as_ref(), "item"),
            category: kept(columns.category.as_ref(), "category"),
            value: !value_names.is_empty() && value_names.iter().all(|name| kept(Some(name), "value")),
            extras: extras.collect(),
        };
        let mut strings = Strings::for_columns(columns);
        let question = question(target, columns, &tabular, &mut strings)?;
        Ok(Self {
            columns: columns.clone(),
            target: target.clone(),
            cutter: Cutter {
                question,
                grid: Grid { watermark_us, horizon_us, every_us },
                min_history: options.min_history.max(1) as usize,
                only: None,
            },
            options,
            store: HistoryStore::new(strings),
            tabular,
            rows: Vec::new(),
            users_total: 0,
            sampled_out: 0,
            censored_rows: 0,
            interrupt: Interrupt::default(),
            space: None,
        })
    }

    /// Whether [`spill`](Self::spill) can help: pictures and texts of events stay in memory.
    #[must_use]
    pub const fn can_spill(&self) -> bool {
        self.columns.image.is_none() && self.columns.text.is_empty()
    }

    /// Keys are as wide as all the rest of a row in files: there they stay only where an option asks whose a row is.
    const fn keeps_users(&self) -> bool {
        let Options { privacy, folds, ensemble, .. } = &self.options;
        self.space.is_none() || privacy.is_some() || folds.is_some() || ensemble.is_some()
    }

    /// Moves what was collected to temporary files. What is still to come follows, and so do the encoded rows: the
    /// dataset is the same, and only a few bytes of each row and user stay in memory.
    ///
    /// # Errors
    /// What the space says: `DiskFull`, `Io`.
    pub fn spill(&mut self, space: Arc<dyn SpillSpace>) -> Result<()> {
        self.store.spill(space.as_ref())?;
        self.space.get_or_insert(space);
        Ok(())
    }

    /// Whether it was told to.
    #[must_use]
    pub const fn is_spilled(&self) -> bool {
        self.space.is_some()
    }

    /// Makes finishing stop soon after `stop` says so, with the error of a cancelled statement.
    #[must_use]
    pub fn interrupted_by(mut self, stop: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.interrupt = Interrupt::new(stop);
        self
    }

    /// Only rows at these anchors, all of them test rows; for `next_event` and `next_item` the events within their
    /// range are anchors. Call it before the first [`push`](Self::push).
    #[must_use]
    pub fn at_anchors(mut self, mut anchors_us: Vec<i64>) -> Self {
        anchors_us.sort_unstable();
        anchors_us.dedup();
        self.cutter.only = Some(anchors_us);
        self
    }

    /// Takes one user's history.
    ///
    /// # Errors
    /// `OutOfMemory` when there are more users or rows than an index holds; `DiskFull` and `Io` of temporary files.
    pub fn push(&mut self, history: &UserHistory, strings: &Strings) -> Result<()> {
        self.users_total += 1;
        if self.options.sample < 1.0 && splitmix::fraction(self.options.seed, key_hash(&history.user)) >= self.options.sample {
            self.sampled_out += 1;
            return Ok(());
        }
        let user = u32::try_from(self.store.len()).map_err(|_| too_many_steps())?;
        self.store.push(history, strings);
        self.censored_rows += self.cutter.cut(user, &self.store.view(user as usize), &mut self.rows);
        u32::try_from(self.rows.len().max(self.store.event_count())).map_err(|_| too_many_steps())?;
        self.store.settle()
    }

    /// The bytes it holds and will hold when finished, encoded rows and steps included; for the memory pool.
    #[must_use]
    pub fn bytes(&self) -> usize {
        if self.space.is_some() {
            let user = if self.keeps_users() { std::mem::size_of::<UserKey>() } else { 0 };
            return self.store.bytes() + self.rows.len() * (std::mem::size_of::<Row>() + SPILLED_ROW_BYTES + user) + FILE_BUFFERS;
        }
        // Raw and encoded numbers and ids stand side by side while encoding.
        let width = self.tabular.numeric_names().len() + EVENT_TYPES_MAX.min(self.store.strings.events.len()) * 6 + 8;
        let row = std::mem::size_of::<Row>() + width * 8 + 64;
        let words = self.store.event_count() * self.columns.text.len() * attachments::BYTES_PER_TEXT;
        self.store.bytes() + self.rows.len() * row + self.store.event_count() * 28 + words
    }

    /// Fits the encoder on the train rows and encodes all rows.
    ///
    /// # Errors
    /// `InvalidParameter` (22023) with counts when there is too little to learn from.
    pub fn finish(mut self) -> Result<Dataset> {
        match self.cutter.question {
            Question::NextEvent | Question::NextItem => self.censored_rows += split_by_time(&mut self.rows),
            Question::Nothing => self.split_by_user(),
            _ => {}
        }
        self.check_events_exist()?;
        let split: Vec<Rows> = self.rows.iter().map(|row| row.part).collect();
        let (labels, classes) = self.labels();
        if self.target != Target::None {
            check_enough(&split, &labels, &classes, "anchors", &self.facts(&labels, &classes))?;
        } else if split.len() < super::ROWS_MIN {
            return Err(
                Error::invalid(format!("too little data: {} users with enough history", split.len())).detail(self.facts(&labels, &classes))
            );
        }
        let known = self.known_prefixes();
        self.tabular.event_types = self.event_types(&known)?;
        let weekdays = weekday_table();
        let (raw, rfm) = self.raw_rows()?;
        let tables: Vec<&Interner> =
            self.tabular.categorical_names().iter().map(|(_, table)| table_of(*table, &self.store.strings, &weekdays)).collect();
        let train: Vec<u32> = super::rows_of(&split, Rows::Train);
        self.interrupt.check(0)?;
        let fitted = fit(&raw, &train, &labels, &tables, &self.options, &self.excludable())?;
        let sequence = self.fit_sequence(&known)?;
        let typical_gap_us = self.typical_gap_us(&known)?;
        let shape = InputShape {
            numeric: fitted.numeric.len(),
            categorical: fitted.categorical.iter().map(|feature| feature.vocabulary.size()).collect(),
            sequence: Some(sequence.shape()),
            ..InputShape::default()
        };
        let mut sink = RowSink::new(self.space.as_deref(), &shape)?;
        sink.reserve(self.rows.len(), &shape);
        raw.encode(self.rows.len(), &fitted, &tables, &mut sink, |_, _| Ok(()))?;
        drop(raw);
        self.encode_sequences(&sequence, &mut sink)?;
        let mut inputs = sink.finish(self.rows.len())?;
        // Histories with pictures or texts are never spilled: see `can_spill`.
        let histories = History { store: &self.store, rows: &self.rows, columns: &self.columns };
        let image = attachments::pictures(histories, &self.options, &mut inputs)?;
        let texts = attachments::texts(histories, &known, &self.options, &mut inputs);
        let mut plan = self.plan(sequence, typical_gap_us);
        (plan.image, plan.texts) = (image, texts);
        let encoder = Encoder::new(Source::Events(Box::new(plan)), fitted);
        let keyed = if self.keeps_users() { self.rows.as_slice() } else { &[] };
        Ok(Dataset {
            inputs,
            labels,
            classes,
            of_items: self.target == Target::NextItem,
            split,
            users: keyed.iter().map(|row| self.store.users[row.user as usize].clone()).collect(),
            anchors_us: self.rows.iter().map(|row| row.anchor_us).collect(),
            encoder,
            users_total: self.users_total,
            dropped_rows: 0,
            censored_rows: self.censored_rows,
            sampled_out: self.sampled_out,
            rfm,
        })
    }

    /// The test rows, encoded by an encoder that was fitted before and labelled by its model's classes: how a version is
    /// evaluated on other data. Labels outside `classes` become `other` where there is such a class; else their rows are
    /// left out and counted in `dropped_rows`. There is no least number of rows.
    ///
    /// # Errors
    /// `InvalidParameter` when `encoder` is of a labelled-table model.
    pub fn finish_with(self, encoder: &Encoder, classes: &[String]) -> Result<Dataset> {
        self.encoded(encoder, classes, false)
    }

    /// The same for the rows of every part, each with its part: what a version was trained from, as it reads it.
    ///
    /// # Errors
    /// As [`finish_with`](Self::finish_with).
    pub fn finish_all_with(self, encoder: &Encoder, classes: &[String]) -> Result<Dataset> {
        self.encoded(encoder, classes, true)
    }

    fn encoded(mut self, encoder: &Encoder, classes: &[String], all_parts: bool) -> Result<Dataset> {
        if self.cutter.only.is_none() {
            match self.cutter.question {
                Question::NextEvent | Question::NextItem => self.censored_rows += split_by_time(&mut self.rows),
                Question::Nothing => self.split_by_user(),
                _ => {}
            }
        }
        self.rows.retain(|row| all_parts || row.part == Rows::Test);
        let (labels, own) = self.labels();
        let (labels, dropped_rows) = self.relabel(labels, &own, classes);
        let mut history_encoder = encoder.history_encoder()?;
        let mut sink = RowSink::new(self.space.as_deref(), encoder.shape())?;
        let mut rfm = Vec::with_capacity(self.rows.len());
        let (mut cursor, mut user) = (self.store.cursor(), None);
        for (step, row) in self.rows.iter().enumerate() {
            self.interrupt.check(step)?;
            let events = cursor.view(row.user as usize)?;
            if user.replace(row.user) != Some(row.user) {
                history_encoder.begin();
            }
            let before = sink.steps_before();
            history_encoder.append(&events, &self.store.strings, row.end as usize, row.anchor_us, sink.inputs())?;
            if let Some((start, _)) = sink.inputs().sequence.as_mut().and_then(|sequence| sequence.spans.last_mut()) {
                *start = u32::try_from(before + *start as usize).map_err(|_| too_many_steps())?;
            }
            sink.settle()?;
            rfm.push(recency_and_frequency(&events, row));
        }
        let inputs = sink.finish(self.rows.len())?;
        Ok(Dataset {
            inputs,
            labels,
            classes: classes.to_vec(),
            of_items: self.target == Target::NextItem,
            split: self.rows.iter().map(|row| row.part).collect(),
            users: self.rows.iter().map(|row| self.store.users[row.user as usize].clone()).collect(),
            anchors_us: self.rows.iter().map(|row| row.anchor_us).collect(),
            encoder: encoder.clone(),
            users_total: self.users_total,
            dropped_rows,
            censored_rows: self.censored_rows,
            sampled_out: self.sampled_out,
            rfm,
        })
    }

    /// Labels by other class names; leaves out the rows that have none, and counts them.
    fn relabel(&mut self, labels: Labels, own: &[String], classes: &[String]) -> (Labels, u64) {
        let Labels::Class(labels) = labels else { return (labels, 0) };
        let map = class_map(own, classes);
        let before = self.rows.len();
        let mut labels = labels.into_iter().map(|label| map[label as usize]);
        let mut kept = Vec::with_capacity(before);
        self.rows.retain(|_| match labels.next().flatten() {
            Some(label) => {
                kept.push(label);
                true
            }
            None => false,
        });
        (Labels::Class(kept), (before - self.rows.len()) as u64)
    }

    fn plan(&self, sequence: SequencePlan, typical_gap_us: i64) -> EventPlan {
        EventPlan {
            columns: self.columns.clone(),
            tabular: self.tabular.clone(),
            sequence: Some(sequence),
            image: None,
            texts: Vec::new(),
            min_history: self.options.min_history.max(1),
            typical_gap_us,
            watermark_us: self.cutter.grid.watermark_us,
        }
    }

    /// Users, not rows, are dealt to the parts: without labels there is no window to keep apart.
    fn split_by_user(&mut self) {
        for row in &mut self.rows {
            let at = splitmix::fraction(self.options.seed ^ 0x5EED, key_hash(&self.store.users[row.user as usize]));
            row.part = match at {
                at if at < 0.8 => Rows::Train,
                at if at < 0.9 => Rows::Validation,
                _ => Rows::Test,
            };
        }
    }

    /// A target that names an event which never occurs is a typing mistake.
    fn check_events_exist(&self) -> Result<()> {
        if self.columns.event.is_none() || self.store.event_count() == 0 {
            return Ok(());
        }
        // The target's own names are in the table whether they occur or not.
        let mut counts = vec![0_u64; self.store.strings.events.len()];
        let mut cursor = self.store.cursor();
        for user in 0..self.store.len() {
            count(cursor.view(user)?.events, &mut counts);
        }
        for name in self.target.events() {
            if self.store.strings.events.find(name).is_none_or(|code| counts[code as usize] == 0) {
                let seen = Vocabulary::fit(&self.store.strings.events, &counts, 1, 20);
                let error = Error::invalid(format!("event \"{name}\" of the target does not occur in the source"))
                    .detail(format!("The most frequent event types are {}.", seen.iter().collect::<Vec<_>>().join(", ")));
                return Err(match nearest(name, seen.iter()) {
                    Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
                    None => error,
                });
            }
        }
        Ok(())
    }

    fn facts(&self, labels: &Labels, classes: &[String]) -> String {
        let part = |part| self.rows.iter().filter(|row| row.part == part).count();
        let (users, events, censored) = (self.store.len(), self.store.event_count(), self.censored_rows);
        let mut facts = format!(
            "{users} users with {events} events give {} labelled anchors ({} train, {} validation, {} test); {censored} are censored.",
            self.rows.len(),
            part(Rows::Train),
            part(Rows::Validation),
            part(Rows::Test),
        );
        if let Labels::Class(labels) = labels
            && classes.len() <= 20
        {
            let count = |class: usize| labels.iter().filter(|label| **label as usize == class).count();
            let counts: Vec<String> = classes.iter().enumerate().map(|(class, name)| format!("{name} {}", count(class))).collect();
            facts.push_str(&format!(" Labels: {}.", counts.join(", ")));
        }
        let span_days = self.cutter.grid.horizon_us as f64 / DAY_US as f64;
        facts.push_str(&format!(" The horizon is {span_days} days; train, validation and test need three of them."));
        facts
    }

    fn items_max(&self) -> usize {
        self.options.max_items.map_or(ITEMS_MAX, |most| most as usize)
    }

    /// Labels with class names. Every class that occurs has one, so that no row is dropped for its label.
    fn labels(&self) -> (Labels, Vec<String>) {
        let classes = |names: Vec<String>| (Labels::Class(self.rows.iter().map(|row| row.label as u32).collect()), names);
        match &self.target {
            Target::Event(event) => classes(vec![NONE_CLASS.into(), event.clone()]),
            Target::Ladder(stages) => classes(std::iter::once(NONE_CLASS.to_owned()).chain(stages.iter().cloned()).collect()),
            Target::NextEvent => self.named_labels(&self.store.strings.events, usize::MAX),
            Target::NextItem => self.named_labels(&self.store.strings.items, self.items_max()),
            _ => (Labels::Value(self.rows.iter().map(|row| row.label as f32).collect()), Vec::new()),
        }
    }

    /// Classes named by a string table, most frequent in train first, then `none`, then `other` for the rest.
    fn named_labels(&self, table: &Interner, classes_max: usize) -> (Labels, Vec<String>) {
        let mut counts = vec![0_u64; table.len()];
        for row in self.rows.iter().filter(|row| row.label != NONE_CODE) {
            // A class of the other parts alone comes last, but has a name.
            counts[row.label as usize] += if row.part == Rows::Train { 1 << 32 } else { 1 };
        }
        let kept = Vocabulary::fit(table, &counts, 1, classes_max);
        let mut classes: Vec<String> = kept.iter().map(str::to_owned).collect();
        let mut class_of: Vec<Option<u32>> = vec![None; table.len()];
        for (class, name) in classes.iter().enumerate() {
            if let Some(code) = table.find(name) {
                class_of[code as usize] = Some(class as u32);
            }
        }
        let mut extra = |wanted: bool, name: &str| {
            let class = classes.len() as u32;
            if wanted {
                // An event type may be called "none": the class then is the same word, as PostgreSQL users expect of text.
                match classes.iter().position(|known| known == name) {
                    Some(known) => return known as u32,
                    None => classes.push(name.to_owned()),
                }
            }
            class
        };
        let none = extra(self.rows.iter().any(|row| row.label == NONE_CODE), NONE_CLASS);
        let is_other = |row: &Row| row.label != NONE_CODE && class_of[row.label as usize].is_none();
        let other = extra(self.rows.iter().any(is_other), OTHER_CLASS);
        let label = |row: &Row| if row.label == NONE_CODE { none } else { class_of[row.label as usize].unwrap_or(other) };
        (Labels::Class(self.rows.iter().map(label).collect()), classes)
    }

    /// Per user, how many of the first events some train row may know: what vocabularies and scales are fitted on.
    fn known_prefixes(&self) -> Vec<u32> {
        let mut known = vec![0; self.store.len()];
        for row in self.rows.iter().filter(|row| row.part == Rows::Train) {
            let known = &mut known[row.user as usize];
            *known = row.end.max(*known);
        }
        known
    }

    fn event_types(&self, known: &[u32]) -> Result<Vec<String>> {
        let mut counts = vec![0; self.store.strings.events.len()];
        self.each_known(known, |events, known| count(events.events.get(..known).unwrap_or_default(), &mut counts))?;
        // With one type only, its counts are the events' counts.
        let types = Vocabulary::fit(&self.store.strings.events, &counts, 1, EVENT_TYPES_MAX);
        Ok(if types.len() > 1 { types.into() } else { Vec::new() })
    }

    fn each_known(&self, known: &[u32], mut visit: impl FnMut(Events<'_>, usize)) -> Result<()> {
        let mut cursor = self.store.cursor();
        for (user, known) in known.iter().enumerate() {
            self.interrupt.check(user)?;
            visit(cursor.view(user)?, *known as usize);
        }
        Ok(())
    }

    fn raw_rows(&self) -> Result<(RawRows, Vec<[f32; 2]>)> {
        let plan = &self.tabular;
        let mut raw = RawRows::new(plan.numeric_names(), plan.categorical_names().into_iter().map(|(name, _)| name).collect());
        raw.interrupt = self.interrupt.clone();
        match &self.space {
            Some(space) => raw.spill(space.as_ref())?,
            None => {
                raw.numbers.reserve_exact(self.rows.len() * raw.numeric_names.len());
                raw.codes.reserve_exact(self.rows.len() * raw.categorical_names.len());
            }
        }
        let mut rfm = Vec::with_capacity(self.rows.len());
        let mut state = TabularState::new(plan);
        let (mut cursor, mut user) = (self.store.cursor(), None);
        for (step, row) in self.rows.iter().enumerate() {
            self.interrupt.check(step)?;
            let events = cursor.view(row.user as usize)?;
            if user != Some(row.user) {
                user = Some(row.user);
                state.begin();
            }
            state.advance(plan, &events, &self.store.strings, row.end as usize);
            state.emit(plan, &events, row.anchor_us, &mut raw.numbers, &mut raw.codes);
            raw.settle()?;
            rfm.push(recency_and_frequency(&events, row));
        }
        Ok((raw, rfm))
    }

    fn fit_sequence(&self, known: &[u32]) -> Result<SequencePlan> {
        let strings = &self.store.strings;
        let mut event_counts = vec![0; strings.events.len()];
        let mut item_counts = vec![0; strings.items.len()];
        let mut category_counts = vec![0; strings.categories.len()];
        let (mut gaps, mut values) = (LogMoments::default(), LogMoments::default());
        self.each_known(known, |events, known| {
            count(events.events.get(..known).unwrap_or_default(), &mut event_counts);
            count(events.items.get(..known).unwrap_or_default(), &mut item_counts);
            count(events.categories.get(..known).unwrap_or_default(), &mut category_counts);
            for index in 0..known {
                let (gap, value) = step_logs(&events, index);
                gaps.add(gap);
                values.add(value);
            }
        })?;
        let kept = |name: &str| !is_excluded(name, &self.options.exclude);
        let fitted = |present: bool, name: &str, table: &Interner, counts: &[u64], count_min: u64, max: usize| {
            (present && kept(name)).then(|| Vocabulary::fit(table, counts, count_min, max))
        };
        let plan = &self.tabular;
        Ok(SequencePlan {
            max_len: self.options.max_seq_len as usize,
            events: fitted(plan.event, "seq_event", &strings.events, &event_counts, 1, 1000),
            items: fitted(plan.item, "seq_item", &strings.items, &item_counts, 3, self.items_max()),
            categories: fitted(plan.category, "seq_category", &strings.categories, &category_counts, 2, CATEGORIES_MAX),
            gap: kept("seq_gap"),
            hour: kept("seq_hour"),
            gap_scale: gaps.center_and_scale(),
            value_scale: (plan.value && kept("seq_value")).then(|| values.center_and_scale()),
        })
    }

    fn encode_sequences(&self, plan: &SequencePlan, sink: &mut RowSink) -> Result<()> {
        let shape = plan.shape();
        let mut cursor = self.store.cursor();
        // Steps before the first anchor's reach and after the last anchor are never read.
        let mut state = SequenceState::default();
        let mut rows = self.rows.iter().peekable();
        while let Some(first) = rows.next() {
            let user = first.user;
            self.interrupt.check(user as usize)?;
            let mut ends = vec![first.end as usize];
            while let Some(row) = rows.next_if(|row| row.user == user) {
                ends.push(row.end as usize);
            }
            let start = ends[0].saturating_sub(plan.max_len);
            let before = sink.steps_before();
            let Some(sequences) = &mut sink.inputs().sequence else { break };
            let base = before + sequences.numeric.len() / shape.numeric;
            let events = cursor.view(user as usize)?;
            state.push(plan, &events, &self.store.strings, start, ends[ends.len() - 1], sequences);
            for end in ends {
                let from = end.saturating_sub(plan.max_len);
                sequences.spans.push(((base + from - start) as u32, (end - from) as u32));
            }
            sink.settle()?;
        }
        Ok(())
    }

    /// The median gap between events, of a sample of them when there are many.
    fn typical_gap_us(&self, known: &[u32]) -> Result<i64> {
        let total: usize = known.iter().map(|known| *known as usize).sum();
        let step = total / 100_000 + 1;
        let mut gaps = Vec::new();
        let mut index = 0;
        self.each_known(known, |events, known| {
            for pair in events.times_us[..known].windows(2) {
                if index % step == 0 {
                    gaps.push(pair[1] - pair[0]);
                }
                index += 1;
            }
        })?;
        Ok(crate::kernels::quantile::quantile_us(&mut gaps, 0.5).unwrap_or(0))
    }

    /// Names that `exclude` may hold besides features.
    fn excludable(&self) -> Vec<String> {
        let columns = &self.columns;
        let mut names: Vec<String> =
            ["item", "category", "value", "seq_event", "seq_item", "seq_category", "seq_gap", "seq_hour", "seq_value"]
                .map(str::to_owned)
                .into();
        names.extend([&columns.item, &columns.category].into_iter().flatten().cloned());
        names.extend(columns.extra.iter().cloned());
        match &columns.value {
            Some(ValueColumn::Column(name)) => names.push(name.clone()),
            Some(ValueColumn::Product(price, quantity)) => names.extend([price.clone(), quantity.clone()]),
            None => {}
        }
        names
    }
}

/// Resolves the names of a target.
fn question(target: &Target, columns: &EventColumns, plan: &TabularPlan, strings: &mut Strings) -> Result<Question> {
    let has_events = columns.event.is_some();
    let mut code = |event: &str| has_events.then(|| strings.events.intern(event));
    let no_events = |what: &str| {
        Error::new(Code::UndefinedColumn, format!("target {what} needs an event type, and no column could be recognised as one"))
            .hint("Name it: columns => 'event=<column>'.")
    };
    Ok(match target {
        Target::NextEvent if has_events => Question::NextEvent,
        Target::NextItem if columns.item.is_some() => Question::NextItem,
        Target::NextItem => {
            return Err(Error::new(Code::UndefinedColumn, "target next_item needs an item, and no column could be recognised as one")
                .hint("Name it: columns => 'item=<column>'."));
        }
        Target::Ladder(stages) if has_events => Question::Ladder(stages.iter().filter_map(|stage| code(stage)).collect()),
        Target::NextEvent | Target::Ladder(_) => return Err(no_events(&target.to_string())),
        Target::Event(event) => Question::Event(code(event)),
        Target::Count(event) => Question::Count(code(event)),
        Target::Sum { event: Some(_), .. } if !has_events => return Err(no_events(&target.to_string())),
        Target::Sum { column, event } => {
            let summand = match plan.extras.iter().position(|(name, number)| *number && name.eq_ignore_ascii_case(column)) {
                Some(extra) => Summand::Extra(extra),
                None if columns.is_value(column) => Summand::Value,
                None => return Err(undefined_column(column, plan.extras.iter().map(|(name, _)| name.as_str()))),
            };
            Question::Sum(summand, event.as_deref().and_then(code))
        }
        Target::Column(_) => {
            return Err(Error::invalid("target column(…) needs a labelled table, not events"));
        }
        Target::None => Question::Nothing,
    })
}

fn recency_and_frequency(events: &Events<'_>, row: &Row) -> [f32; 2] {
    let last = events.times_us[row.end as usize - 1];
    [((row.anchor_us - last) as f64 / DAY_US as f64) as f32, row.end as f32]
}

fn count(codes: &[u32], counts: &mut [u64]) {
    for code in codes.iter().filter(|code| **code != NULL_CODE) {
        counts[*code as usize] += 1;
    }
}

fn key_hash(user: &UserKey) -> u64 {
    match user {
        UserKey::Int64(key) => *key as u64,
        // FNV-1a: stable for ever, and texts are hashed once per user.
        UserKey::Utf8(key) => key.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)),
    }
}

fn weekday_table() -> Interner {
    (0..7).map(|day| CodeTable::Weekday.text(&EMPTY, day)).collect()
}

static EMPTY: std::sync::LazyLock<Strings> = std::sync::LazyLock::new(Strings::default);

fn table_of<'a>(table: CodeTable, strings: &'a Strings, weekdays: &'a Interner) -> &'a Interner {
    match table {
        CodeTable::Events => &strings.events,
        CodeTable::Items => &strings.items,
        CodeTable::Categories => &strings.categories,
        CodeTable::Extra(index) => &strings.extras[index],
        CodeTable::Weekday => weekdays,
    }
}

/// Mean and deviation of logarithms; NaN is left out.
#[derive(Debug, Default)]
struct LogMoments {
    count: f64,
    sum: f64,
    squares: f64,
}

impl LogMoments {
    fn add(&mut self, x: f64) {
        if !x.is_nan() {
            self.count += 1.0;
            self.sum += x;
            self.squares += x * x;
        }
    }

    fn center_and_scale(&self) -> (f32, f32) {
        let mean = self.sum / self.count.max(1.0);
        let std = (self.squares / self.count.max(1.0) - mean * mean).max(0.0).sqrt();
        (mean as f32, if std > 1e-6 { std as f32 } else { 1.0 })
    }
}
