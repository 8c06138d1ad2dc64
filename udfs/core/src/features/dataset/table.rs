//! Labelled rows → training data (`column(label)`).

mod shared;

pub use shared::Share;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, SchemaRef};

use super::labels::{HeldOut, fold_split, stratified_split};
use super::{Dataset, FILE_BUFFERS, Interrupt, ROWS_MIN, check_enough, class_map, rows_of};
use crate::error::{Code, Error, Result};
use crate::features::encoder::{Encoder, Fitted, RawRows, Source, fit};
use crate::features::images::{Pictures, bytes_of, holds_bytes, no_bytes};
use crate::features::inputs::{ImageShape, InputShape, Inputs, Labels, Rows};
use crate::features::options::Options;
use crate::features::roles::{is_number, is_text, sql_type, undefined_column};
use crate::features::spill::{SpillSpace, Window};
use crate::features::spilled::RowSink;
use crate::features::table::{TablePlan, column_of, text_of, to_micros, to_type};
use crate::features::table_columns::TableColumns;
use crate::features::text::{TextColumn, no_text};
use crate::features::vocabulary::NULL_ID;
use crate::kernels::intern::{Interner, NULL_CODE};
use crate::kernels::splitmix;

/// Integers with at most this many values are classes, beyond it a number to predict.
const INTEGER_CLASSES_MAX: usize = 10;
/// Classes at most.
const CLASSES_MAX: usize = 1000;
/// What a row in files leaves in memory: its label as it came and as it is learned, its part, and while features are
/// fitted a column, its copy and the list of train rows.
const SPILLED_ROW_BYTES: usize = 8 + 8 + 1 + 12;
/// What the positive one of two classes is often called; else it is the rarer one.
const POSITIVES: [&str; 8] = ["true", "yes", "y", "1", "t", "positive", "good", "1.0"];

/// The labels as they come.
#[derive(Debug, Clone)]
enum LabelColumn {
    Texts(Interner, Vec<u32>),
    Numbers {
        integers: bool,
        values: Vec<f64>,
    },
    /// So many rows without any.
    Nothing(usize),
}

/// Collects the rows of a labelled table (`column(label)`).
///
/// Booleans, texts and integers of at most ten values are classes, and so are numbers that are all 0 or 1; other
/// numbers are to be predicted. Rows without a label, or without a picture where one is learned from, are dropped and counted.
#[derive(Debug, Clone)]
pub struct TableDatasetBuilder {
    plan: TablePlan,
    unusable: Vec<String>,
    label_column: String,
    label_type: String,
    split_time: Option<String>,
    options: Options,
    raw: RawRows,
    tables: Vec<Interner>,
    pictures: Option<Pictures>,
    texts: Vec<TextColumn>,
    labels: LabelColumn,
    times: Vec<f64>,
    seen: u64,
    dropped_rows: u64,
    sampled_out: u64,
    fold: Option<(u32, u32)>,
    /// Where what does not fit in memory goes.
    space: Option<Arc<dyn SpillSpace>>,
}

fn field_name(schema: &SchemaRef, name: &str) -> Result<(String, DataType)> {
    let exact = schema.field_with_name(name).ok();
    let mut alike = schema.fields().iter().filter(|field| field.name().eq_ignore_ascii_case(name));
    let field = exact.or_else(|| match (alike.next(), alike.next()) {
        (Some(field), None) => Some(field.as_ref()),
        _ => None,
    });
    field
        .map(|field| (field.name().clone(), field.data_type().clone()))
        .ok_or_else(|| undefined_column(name, schema.fields().iter().map(|field| field.name().as_str())))
}

/// How a label column is collected.
fn label_of(label_column: &str, label_type: &DataType) -> Result<LabelColumn> {
    Ok(match label_type {
        data_type if is_text(data_type) || *data_type == DataType::Boolean => LabelColumn::Texts(Interner::default(), Vec::new()),
        data_type if is_number(data_type) => {
            let integers = match data_type {
                DataType::Dictionary(_, values) => values.is_integer(),
                other => other.is_integer(),
            };
            LabelColumn::Numbers { integers, values: Vec::new() }
        }
        other => {
            let r#type = sql_type(other);
            return Err(Error::invalid(format!("column \"{label_column}\" of type {type} cannot be a label"))
                .hint("A label is a boolean, a text or a number."));
        }
    })
}

fn pictures_of(schema: &SchemaRef, name: &str, options: &Options) -> Result<Pictures> {
    let (name, data_type) = field_name(schema, name)?;
    if !holds_bytes(&data_type) {
        return Err(no_bytes(&name, &data_type));
    }
    Ok(Pictures::new(name, options.image_size))
}

fn text_column(schema: &SchemaRef, name: &str, options: &Options) -> Result<TextColumn> {
    let (name, data_type) = field_name(schema, name)?;
    if !is_text(&data_type) {
        return Err(no_text(&name, &data_type));
    }
    Ok(TextColumn::new(name, options.network.max_text_len as usize))
}

/// The columns that may be features: those named, else all.
fn features_of<'a>(schema: &'a SchemaRef, columns: &TableColumns, taken: &[&str]) -> Result<Vec<&'a str>> {
    let Some(names) = &columns.features else { return Ok(schema.fields().iter().map(|field| field.name().as_str()).collect()) };
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        let (name, _) = field_name(schema, name)?;
        if taken.contains(&name.as_str()) {
            return Err(Error::invalid(format!("column \"{name}\" cannot play two roles")));
        }
        found.extend(schema.fields().iter().map(|field| field.name().as_str()).filter(|own| *own == name));
    }
    Ok(found)
}

impl TableDatasetBuilder {
    /// A builder for rows of `schema` with the label in `label_column`. Rows are split by the order of `split_time`
    /// (else of the option of that name) when it names a column, which then is no feature; else at random, by class.
    ///
    /// # Errors
    /// `UndefinedColumn` with the nearest name, `InvalidParameter` for a label or split column of an unfit type.
    pub fn new(schema: SchemaRef, label_column: &str, options: &Options, split_time: Option<String>) -> Result<Self> {
        Self::with_columns(schema, label_column, &TableColumns::default(), options, split_time)
    }

    /// As [`new`](Self::new), learning from some columns only, from pictures, or from texts.
    ///
    /// # Errors
    /// As there, and `DatatypeMismatch` for a picture that is not `bytea` or a text that is not text.
    pub fn with_columns(
        schema: SchemaRef,
        label_column: &str,
        columns: &TableColumns,
        options: &Options,
        split_time: Option<String>,
    ) -> Result<Self> {
        let (label_column, label_type) = field_name(&schema, label_column)?;
        let labels = label_of(&label_column, &label_type)?;
        Self::with_labels(schema, label_column, sql_type(&label_type), labels, columns, options, split_time)
    }

    /// A builder for rows without a label, for networks that learn what rows look like. Every row is kept.
    ///
    /// # Errors
    /// As [`with_columns`](Self::with_columns).
    pub fn unlabelled(schema: SchemaRef, columns: &TableColumns, options: &Options) -> Result<Self> {
        Self::with_labels(schema, String::new(), String::new(), LabelColumn::Nothing(0), columns, options, options.split_time.clone())
    }

    fn with_labels(
        schema: SchemaRef,
        label_column: String,
        label_type: String,
        labels: LabelColumn,
        columns: &TableColumns,
        options: &Options,
        split_time: Option<String>,
    ) -> Result<Self> {
        let split_time = match split_time.or_else(|| options.split_time.clone()) {
            Some(name) => {
                let (name, data_type) = field_name(&schema, &name)?;
                if data_type.is_nested() || name == label_column {
                    let r#type = sql_type(&data_type);
                    return Err(Error::invalid(format!("column \"{name}\" of type {type} cannot order a split")));
                }
                Some(name)
            }
            None => None,
        };
        let pictures = match &columns.image {
            Some(name) => Some(pictures_of(&schema, name, options)?),
            None => None,
        };
        let texts = columns.texts.iter().map(|name| text_column(&schema, name, options)).collect::<Result<Vec<_>>>()?;
        let mut leave_out = vec![label_column.as_str()];
        leave_out.extend(split_time.as_deref());
        leave_out.extend(pictures.iter().map(|pictures| pictures.column.as_str()));
        for text in &texts {
            if leave_out.contains(&text.column.as_str()) {
                return Err(Error::invalid(format!("column \"{}\" cannot play two roles", text.column)));
            }
            leave_out.push(&text.column);
        }
        let named = features_of(&schema, columns, &leave_out)?;
        leave_out.extend(schema.fields().iter().map(|field| field.name().as_str()).filter(|name| !named.contains(name)));
        let (plan, unusable) = TablePlan::new(&schema, &leave_out);
        let raw = RawRows::new(plan.numeric_names(), plan.categorical_names());
        let tables = vec![Interner::default(); raw.categorical_names.len()];
        Ok(Self {
            plan,
            unusable,
            label_type,
            label_column,
            split_time,
            options: options.clone(),
            raw,
            tables,
            pictures,
            texts,
            labels,
            times: Vec::new(),
            seen: 0,
            dropped_rows: 0,
            sampled_out: 0,
            fold: None,
            space: None,
        })
    }

    /// Makes finishing stop soon after `stop` says so, with the error of a cancelled statement.
    #[must_use]
    pub fn interrupted_by(mut self, stop: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.raw.interrupt = Interrupt::new(stop);
        self
    }

    /// Whether [`spill`](Self::spill) can help: texts, and rows that are learned without a label, stay in memory.
    #[must_use]
    pub const fn can_spill(&self) -> bool {
        self.texts.is_empty() && !matches!(self.labels, LabelColumn::Nothing(_))
    }

    /// Moves the rows that were collected to temporary files. Those that are still to come follow, and so do the encoded
    /// rows: the dataset is the same, and only a few bytes of each row stay in memory. Clones share the files: none of
    /// them may take more rows.
    ///
    /// # Errors
    /// What the space says: `DiskFull`, `Io`.
    pub fn spill(&mut self, space: Arc<dyn SpillSpace>) -> Result<()> {
        self.raw.spill(space.as_ref())?;
        if let Some(pictures) = &mut self.pictures {
            pictures.spill(space.as_ref())?;
        }
        self.space.get_or_insert(space);
        Ok(())
    }

    /// Whether it was told to.
    #[must_use]
    pub const fn is_spilled(&self) -> bool {
        self.space.is_some()
    }

    /// Makes fold `fold` (from 0) of `folds` the test rows, for cross-validation: everything is fitted anew on the
    /// others. Folds are stratified and follow from the seed. Clone the builder to finish each fold.
    #[must_use]
    pub const fn with_fold(mut self, fold: u32, folds: u32) -> Self {
        self.fold = Some((fold, folds));
        self
    }

    /// Columns of a type that cannot be a feature.
    #[must_use]
    pub fn unusable_columns(&self) -> &[String] {
        &self.unusable
    }

    /// Takes a batch of rows.
    ///
    /// # Errors
    /// `UndefinedColumn`, `DatatypeMismatch`, `InvalidParameter` for too many classes; `DiskFull` and `Io` of temporary
    /// files.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let rows = self.plan.read(batch)?;
        let label = match &self.labels {
            LabelColumn::Nothing(_) => None,
            _ => Some(column_of(batch, &self.label_column)?),
        };
        let times = match &self.split_time {
            Some(name) => Some(order_of(column_of(batch, name)?, name)?),
            None => None,
        };
        let pictures = match &self.pictures {
            Some(pictures) => Some(bytes_of(column_of(batch, &pictures.column)?, &pictures.column)?),
            None => None,
        };
        let texts = self.texts.iter().map(|text| text_of(batch, &text.column)).collect::<Result<Vec<_>>>()?;
        let mut keep = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            if self.is_kept(row, label, times.as_deref()) && self.sees(row, pictures.as_deref())? {
                keep.push(row);
            }
        }
        match (&mut self.labels, label) {
            (LabelColumn::Nothing(rows), _) => *rows += keep.len(),
            (_, None) => return Err(Error::internal("a labelled table has no label")),
            (LabelColumn::Texts(table, codes), Some(label)) => {
                let texts = to_type(label, &DataType::Utf8, &self.label_column)?;
                let texts = texts.as_string::<i32>();
                codes.extend(keep.iter().map(|row| table.intern(texts.value(*row))));
                if table.len() > CLASSES_MAX {
                    return Err(Error::invalid(format!("column \"{}\" has more than {CLASSES_MAX} different labels", self.label_column))
                        .hint("A text label has to be one of a few classes."));
                }
            }
            (LabelColumn::Numbers { values, .. }, Some(label)) => {
                let numbers = to_type(label, &DataType::Float64, &self.label_column)?;
                let numbers = numbers.as_primitive::<Float64Type>();
                values.extend(keep.iter().map(|row| numbers.value(*row)));
            }
        }
        for row in &keep {
            for (own, texts) in self.texts.iter_mut().zip(&texts) {
                own.push(texts.is_valid(*row).then(|| texts.value(*row)));
            }
            self.raw.numbers.extend((0..self.raw.numeric_names.len()).map(|column| rows.number(*row, column)));
            for (column, table) in self.tables.iter_mut().enumerate() {
                self.raw.codes.push(rows.text(*row, column).map_or(NULL_CODE, |text| table.intern(text)));
            }
            self.times.extend(times.as_ref().map(|times| times[*row]));
            self.raw.settle()?;
        }
        u32::try_from(self.rows()).map_err(|_| Error::new(Code::OutOfMemory, "the labelled table has too many rows"))?;
        Ok(())
    }

    /// Whether a row has a label (and a split time), and is in the sample; counts it if not.
    fn is_kept(&mut self, row: usize, label: Option<&ArrayRef>, times: Option<&[f64]>) -> bool {
        self.seen += 1;
        let finite = label.is_none_or(|label| match label.data_type() {
            DataType::Float64 => label.is_valid(row) && label.as_primitive::<Float64Type>().value(row).is_finite(),
            _ => !label.is_null(row),
        });
        if !finite || times.is_some_and(|times| times[row].is_nan()) {
            self.dropped_rows += 1;
            return false;
        }
        if self.options.sample < 1.0 && splitmix::fraction(self.options.seed, self.seen) >= self.options.sample {
            self.sampled_out += 1;
            return false;
        }
        true
    }

    /// Takes the picture of a row, if rows have one; without it the row is dropped.
    fn sees(&mut self, row: usize, pictures: Option<&[Option<&[u8]>]>) -> Result<bool> {
        let (Some(own), Some(pictures)) = (&mut self.pictures, pictures) else { return Ok(true) };
        let seen = own.push(self.seen, pictures[row])?;
        self.dropped_rows += u64::from(!seen);
        Ok(seen)
    }

    const fn rows(&self) -> usize {
        match &self.labels {
            LabelColumn::Texts(_, codes) => codes.len(),
            LabelColumn::Numbers { values, .. } => values.len(),
            LabelColumn::Nothing(rows) => *rows,
        }
    }

    /// The bytes it holds and will hold when finished; for the memory pool.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let others = self.tables.iter().map(Interner::bytes).sum::<usize>()
            + self.pictures.as_ref().map_or(0, Pictures::bytes)
            + self.texts.iter().map(TextColumn::bytes).sum::<usize>();
        if self.space.is_some() {
            return self.rows() * SPILLED_ROW_BYTES + self.times.len() * 16 + others + FILE_BUFFERS;
        }
        (self.raw.numbers.len() + self.raw.codes.len()) * 8 + self.rows() * 24 + others
    }

    /// Fits the encoder on the train rows and encodes all rows.
    ///
    /// # Errors
    /// `InvalidParameter` (22023) with counts when there is too little to learn from.
    pub fn finish(self) -> Result<Dataset> {
        let (labels, classes) = self.labels()?;
        let split = self.split(&labels);
        self.dataset(labels, classes, split)
    }

    fn split(&self, labels: &Labels) -> Vec<Rows> {
        match self.fold {
            Some((fold, folds)) => fold_split(labels, self.rows(), fold as usize, folds as usize, self.options.seed),
            None if self.split_time.is_some() => self.split_by_time(),
            None => stratified_split(labels, self.rows(), HeldOut::new(&self.options), self.options.seed),
        }
    }

    /// The test rows (or all rows, as test rows), encoded by an encoder that was fitted before and labelled by its
    /// model's classes. Rows with a label outside `classes` are left out and counted. There is no least number of rows.
    ///
    /// # Errors
    /// `UndefinedColumn` for a column that the model needs, `InvalidParameter` when `encoder` is of a model of events.
    pub fn finish_with(self, encoder: &Encoder, classes: &[String], all_rows: bool) -> Result<Dataset> {
        self.encoded(encoder, classes, all_rows, false)
    }

    /// The same for the rows of every part, each with its part: what a version was trained from, as it reads it.
    ///
    /// # Errors
    /// As [`finish_with`](Self::finish_with).
    pub fn finish_all_with(self, encoder: &Encoder, classes: &[String]) -> Result<Dataset> {
        self.encoded(encoder, classes, false, true)
    }

    fn encoded(self, encoder: &Encoder, classes: &[String], all_rows: bool, all_parts: bool) -> Result<Dataset> {
        let (labels, own) = if classes.is_empty() { (self.number_labels(classes)?, Vec::new()) } else { self.labels()? };
        let split = if all_rows { vec![Rows::Test; self.rows()] } else { self.split(&labels) };
        let map = class_map(&own, classes);
        let mut rows: Vec<u32> = (0..split.len() as u32).filter(|row| all_parts || split[*row as usize] == Rows::Test).collect();
        let before = rows.len();
        let labels = match labels {
            Labels::Value(values) => {
                if !classes.is_empty() {
                    return Err(self.label_mismatch(classes));
                }
                Labels::Value(rows.iter().map(|row| values[*row as usize]).collect())
            }
            Labels::Class(labels) => {
                rows.retain(|row| map[labels[*row as usize] as usize].is_some());
                Labels::Class(rows.iter().filter_map(|row| map[labels[*row as usize] as usize]).collect())
            }
        };
        let dropped_rows = self.dropped_rows + (before - rows.len()) as u64;
        let inputs = self.encode_with(encoder, &rows)?;
        Ok(Dataset {
            of_items: false,
            inputs,
            labels,
            classes: classes.to_vec(),
            split: rows.iter().map(|row| split[*row as usize]).collect(),
            users: Vec::new(),
            anchors_us: Vec::new(),
            encoder: encoder.clone(),
            users_total: self.seen,
            dropped_rows,
            censored_rows: 0,
            sampled_out: self.sampled_out,
            rfm: Vec::new(),
        })
    }

    fn label_mismatch(&self, classes: &[String]) -> Error {
        let kind = if classes.is_empty() { "numbers" } else { "classes" };
        Error::new(
            Code::DatatypeMismatch,
            format!("column \"{}\" does not hold the {kind} that the model was trained on", self.label_column),
        )
    }

    /// The labels as numbers, however few they are: a model of numbers stays one.
    fn number_labels(&self, classes: &[String]) -> Result<Labels> {
        match &self.labels {
            LabelColumn::Numbers { values, .. } => Ok(Labels::Value(values.iter().map(|value| *value as f32).collect())),
            LabelColumn::Nothing(rows) => Ok(Labels::Value(vec![0.0; *rows])),
            LabelColumn::Texts(..) => Err(self.label_mismatch(classes)),
        }
    }

    /// Encodes the kept rows by a stored encoder: its columns by name, wherever they stand here.
    fn encode_with(&self, encoder: &Encoder, rows: &[u32]) -> Result<Inputs> {
        let stored = encoder.table_plan()?;
        let place = |stored: Vec<String>, own: &[String]| -> Vec<Option<usize>> {
            let at = |name: &String| own.iter().position(|o| o == name).or_else(|| own.iter().position(|o| o.eq_ignore_ascii_case(name)));
            stored.iter().map(at).collect()
        };
        for wanted in stored.columns.iter().filter(|column| column.used) {
            let Some(column) = self.plan.columns.iter().find(|column| column.name.eq_ignore_ascii_case(&wanted.name)) else {
                return Err(undefined_column(&wanted.name, self.plan.columns.iter().map(|column| column.name.as_str()))
                    .detail("The model was trained with this column and needs it to score."));
            };
            if column.kind != wanted.kind {
                return Err(Error::new(Code::DatatypeMismatch, format!("column \"{}\" has another type than in training", column.name))
                    .hint("Cast it to the type that it had."));
            }
        }
        let numbers = place(stored.numeric_names(), &self.raw.numeric_names);
        let texts = place(stored.categorical_names(), &self.raw.categorical_names);
        let pictures = match &stored.image {
            Some(image) => {
                let pictures = self.pictures.as_ref().filter(|pictures| pictures.column.eq_ignore_ascii_case(&image.column));
                Some((pictures.ok_or_else(|| Error::internal("the pictures of a model were not read"))?, image.shape))
            }
            None => None,
        };
        let mut sink = RowSink::new(self.space.as_deref(), encoder.shape())?;
        let (mut cursor, mut window) = (self.raw.cursor(), Window::default());
        for row in rows {
            let (row, inputs) = (*row as usize, sink.inputs());
            self.raw.interrupt.check(row)?;
            cursor.seek(row)?;
            for feature in &encoder.numeric {
                let raw = numbers[feature.source].map_or(f32::NAN, |column| cursor.number(column));
                inputs.numeric.push(feature.encode(raw));
            }
            for feature in &encoder.categorical {
                let code = texts[feature.source].map_or(NULL_CODE, |column| cursor.code(column));
                let table = texts[feature.source].map(|column| &self.tables[column]);
                let text = table.filter(|_| code != NULL_CODE).map(|table| table.get(code));
                inputs.categorical.push(text.map_or(NULL_ID, |text| feature.vocabulary.id(text)));
            }
            if let Some((pictures, shape)) = pictures {
                pictures.append(row, shape, &mut window, &mut inputs.images)?;
            }
            sink.settle()?;
        }
        let mut inputs = sink.finish(rows.len())?;
        for plan in &stored.texts {
            let own = self.texts.iter().find(|text| text.column.eq_ignore_ascii_case(&plan.column));
            let own = own.ok_or_else(|| Error::internal("the texts of a model were not read"))?;
            inputs.texts.push(own.encode(plan, rows.iter().map(|row| *row as usize)));
        }
        Ok(inputs)
    }

    fn dataset(&self, labels: Labels, classes: Vec<String>, split: Vec<Rows>) -> Result<Dataset> {
        match self.labels {
            LabelColumn::Nothing(rows) if rows < ROWS_MIN => {
                return Err(Error::invalid(format!("too little data: {rows} rows")).hint(format!("At least {ROWS_MIN} rows are needed.")));
            }
            LabelColumn::Nothing(_) => {}
            _ => check_enough(&split, &labels, &classes, "rows", &self.facts(&labels, &classes))?,
        }
        let tables: Vec<&Interner> = self.tables.iter().collect();
        let train = rows_of(&split, Rows::Train);
        let mut options = self.options.clone();
        let ids = self.id_columns()?;
        let columns = self.plan.columns.iter().map(|column| &column.name);
        let also_known =
            columns.chain(&self.unusable).chain([&self.label_column]).chain(&self.split_time).cloned().collect::<Vec<String>>();
        options.exclude.extend(ids);
        options.exclude.extend(self.excluded_times());
        // A picture or a text alone is enough to learn from.
        let fitted = match (self.pictures.is_some() || !self.texts.is_empty(), self.plan.columns.is_empty()) {
            (true, true) => Fitted::default(),
            _ => fit(&self.raw, &train, &labels, &tables, &options, &also_known)?,
        };
        let mut plan = self.plan.clone();
        plan.image = self.pictures.as_ref().map(Pictures::plan);
        for text in &self.texts {
            plan.texts.push(text.fit(train.iter().map(|row| (*row as usize, 1))));
        }
        let image = plan.image.as_ref().map(|image| image.shape);
        let mut inputs = self.encode(&fitted, &tables, image)?;
        // Tables with texts are never spilled: see `can_spill`.
        inputs.texts = self.texts.iter().zip(&plan.texts).map(|(text, plan)| text.encode(plan, 0..self.rows())).collect();
        let sources = |sources: &mut dyn Iterator<Item = usize>| sources.collect::<Vec<usize>>();
        plan.keep_used(&sources(&mut fitted.numeric.iter().map(|f| f.source)), &sources(&mut fitted.categorical.iter().map(|f| f.source)));
        Ok(Dataset {
            of_items: false,
            inputs,
            labels,
            classes,
            split,
            users: Vec::new(),
            anchors_us: Vec::new(),
            encoder: Encoder::new(Source::Table(plan), fitted),
            users_total: self.seen,
            dropped_rows: self.dropped_rows,
            censored_rows: 0,
            sampled_out: self.sampled_out,
            rfm: Vec::new(),
        })
    }

    /// Every row, encoded by what was fitted, with its picture.
    fn encode(&self, fitted: &Fitted, tables: &[&Interner], image: Option<ImageShape>) -> Result<Inputs> {
        let shape = InputShape {
            numeric: fitted.numeric.len(),
            categorical: fitted.categorical.iter().map(|feature| feature.vocabulary.size()).collect(),
            image,
            ..InputShape::default()
        };
        let mut sink = RowSink::new(self.space.as_deref(), &shape)?;
        sink.reserve(self.rows(), &shape);
        let mut window = Window::default();
        self.raw.encode(self.rows(), fitted, tables, &mut sink, |row, inputs| match (&self.pictures, image) {
            (Some(pictures), Some(shape)) => pictures.append(row, shape, &mut window, &mut inputs.images),
            _ => Ok(()),
        })?;
        sink.finish(self.rows())
    }

    /// A time column in `exclude` stands for the features made of it.
    fn excluded_times(&self) -> Vec<String> {
        let columns = self.plan.columns.iter().map(|column| column.name.clone());
        let excluded = columns.filter(|name| self.options.exclude.iter().any(|pattern| pattern.eq_ignore_ascii_case(name)));
        excluded
            .flat_map(|name| ["days", "hour", "weekday", "month"].map(|part| format!("{name}_{part}")))
            .filter(|name| self.raw.numeric_names.contains(name))
            .collect()
    }

    /// Numbers named `id` that are different in every row: they tell nothing that holds for other rows.
    fn id_columns(&self) -> Result<Vec<String>> {
        let named = |name: &str| ["id", "rowid", "row_id", "index", "row_number", "unnamed: 0"].contains(&name.to_lowercase().as_str());
        let all: Vec<u32> = (0..self.rows() as u32).collect();
        let (mut ids, mut values) = (Vec::new(), Vec::new());
        for (column, name) in self.raw.numeric_names.iter().enumerate().filter(|(_, name)| named(name)) {
            self.raw.numbers_of(column, &all, &mut values)?;
            let mut values: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
            values.sort_unstable();
            if values.windows(2).all(|pair| pair[0] != pair[1]) {
                ids.push(name.clone());
            }
        }
        Ok(ids)
    }

    /// Train, validation, test in the order of time; equal times stay together.
    fn split_by_time(&self) -> Vec<Rows> {
        let mut sorted = self.times.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let cut = |fraction: f64| sorted.get(((sorted.len() as f64) * fraction) as usize).copied().unwrap_or(f64::INFINITY);
        let HeldOut { validation, test } = HeldOut::new(&self.options);
        let (first, second) = (cut(1.0 - validation - test), cut(1.0 - test));
        let part = |time: &f64| match *time {
            time if time < first => Rows::Train,
            time if time < second => Rows::Validation,
            _ => Rows::Test,
        };
        self.times.iter().map(part).collect()
    }

    fn labels(&self) -> Result<(Labels, Vec<String>)> {
        let (codes, names): (Vec<u32>, Vec<String>) = match &self.labels {
            LabelColumn::Texts(table, codes) => {
                let mut names: Vec<String> = table.iter().map(str::to_owned).collect();
                names.sort_unstable();
                let place: Vec<u32> = table.iter().map(|text| names.partition_point(|name| name.as_str() < text) as u32).collect();
                (codes.iter().map(|code| place[*code as usize]).collect(), names)
            }
            LabelColumn::Nothing(rows) => return Ok((Labels::Value(vec![0.0; *rows]), Vec::new())),
            LabelColumn::Numbers { integers, values } => {
                let mut distinct: Vec<f64> = Vec::new();
                for value in values {
                    if !distinct.contains(value) && distinct.len() <= INTEGER_CLASSES_MAX {
                        distinct.push(*value);
                    }
                }
                distinct.sort_unstable_by(f64::total_cmp);
                let binary = distinct.iter().all(|value| *value == 0.0 || *value == 1.0);
                if distinct.len() > INTEGER_CLASSES_MAX || !(*integers || binary) {
                    return Ok((Labels::Value(values.iter().map(|value| *value as f32).collect()), Vec::new()));
                }
                let place = |value: &f64| distinct.partition_point(|known| known < value) as u32;
                (values.iter().map(place).collect(), distinct.iter().map(|value| format!("{value}")).collect())
            }
        };
        Ok(positive_last(codes, names))
    }

    fn facts(&self, labels: &Labels, classes: &[String]) -> String {
        let mut facts = format!(
            "{} rows were read, {} of them without a label{}; \"{}\" is of type {}.",
            self.seen,
            self.dropped_rows,
            if self.pictures.is_some() { " or a picture" } else { "" },
            self.label_column,
            self.label_type
        );
        if let Some(unreadable) = self.pictures.as_ref().and_then(Pictures::facts) {
            facts.push_str(&unreadable);
        }
        if let Labels::Class(labels) = labels
            && classes.len() <= 20
        {
            let count = |class: usize| labels.iter().filter(|label| **label as usize == class).count();
            let counts: Vec<String> = classes.iter().enumerate().map(|(class, name)| format!("{name} {}", count(class))).collect();
            facts.push_str(&format!(" Labels: {}.", counts.join(", ")));
        }
        facts
    }
}

/// Puts the positive one of two classes second: by its name, else the rarer one.
fn positive_last(mut codes: Vec<u32>, mut names: Vec<String>) -> (Labels, Vec<String>) {
    let first = || codes.iter().filter(|code| **code == 0).count() as f64 / codes.len() as f64;
    if names.len() == 2 && positive_first(&names, first()) {
        names.swap(0, 1);
        codes.iter_mut().for_each(|code| *code = 1 - *code);
    }
    (Labels::Class(codes), names)
}

/// Whether the first of two classes is the positive one: by its name, else by its share of the rows.
pub(in crate::features) fn positive_first(names: &[String], share: f64) -> bool {
    let positive = |name: &String| POSITIVES.contains(&name.to_lowercase().as_str());
    match (positive(&names[0]), positive(&names[1])) {
        (true, false) => true,
        (false, true) => false,
        _ => share < 0.5,
    }
}

/// The values of a column that orders a split; NaN = NULL.
fn order_of(array: &ArrayRef, name: &str) -> Result<Vec<f64>> {
    if is_number(array.data_type()) {
        let numbers = to_type(array, &DataType::Float64, name)?;
        return Ok(numbers.as_primitive::<Float64Type>().iter().map(|value| value.unwrap_or(f64::NAN)).collect());
    }
    Ok(to_micros(array, name)?.iter().map(|time| time.map_or(f64::NAN, |time| time as f64)).collect())
}
