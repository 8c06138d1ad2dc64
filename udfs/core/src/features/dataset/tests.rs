use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::*;
use crate::error::Code;
use crate::features::inputs::InputShape;
use crate::features::options::Options;
use crate::features::png::tests::png;
use crate::features::spill::testing::Space;
use crate::features::table_columns::TableColumns;
use crate::features::tabular::DAY_US;
use crate::features::target::Target;
use crate::features::testing::{columns, history, schema, strings};
use crate::kernels::splitmix;

const HORIZON_US: i64 = 7 * DAY_US;

fn watermark() -> i64 {
    (0..400).filter_map(|user| history(user, 40).times_us.last().copied()).max().unwrap()
}

fn builder(target: &str, options: &Options) -> EventDatasetBuilder {
    let target = Target::parse(target).unwrap();
    EventDatasetBuilder::new(&columns(), schema(), &target, HORIZON_US, None, options, watermark()).unwrap()
}

fn dataset(target: &str, options: &Options) -> Result<Dataset> {
    let mut builder = builder(target, options);
    for user in 0..400 {
        builder.push(&history(user, 40), &strings()).unwrap();
    }
    assert!(builder.bytes() > 400 * 40 * 28);
    builder.finish()
}

fn consistent(dataset: &Dataset) {
    let rows = dataset.inputs.rows;
    let shape = dataset.encoder.shape();
    assert_eq!(dataset.inputs.numeric.len(), rows * shape.numeric);
    assert_eq!(dataset.inputs.categorical.len(), rows * shape.categorical.len());
    assert!(dataset.inputs.numeric.iter().all(|x| x.is_finite()));
    for row in dataset.inputs.categorical.chunks(shape.categorical.len().max(1)) {
        assert!(row.iter().zip(&shape.categorical).all(|(id, size)| (*id as usize) < *size));
    }
    let (labels, most) = match &dataset.labels {
        Labels::Class(classes) => (classes.len(), classes.iter().max().map_or(0, |c| *c as usize + 1)),
        Labels::Value(values) => (values.len(), 0),
    };
    assert_eq!((labels, dataset.split.len()), (rows, rows));
    assert!(most <= dataset.classes.len());
    let features = dataset.encoder.feature_names();
    let fields = shape.sequence.as_ref().map_or(0, |s| s.fields.len() + s.numeric);
    assert_eq!(features.len(), shape.numeric + shape.categorical.len() + fields);
    if let (Some(sequences), Some(shape)) = (&dataset.inputs.sequence, &shape.sequence) {
        let steps = sequences.numeric.len() / shape.numeric;
        assert_eq!(sequences.tokens.len(), steps * shape.fields.len());
        assert!(
            sequences
                .tokens
                .chunks(shape.fields.len())
                .flat_map(|step| step.iter().zip(&shape.fields))
                .all(|(id, size)| (*id as usize) < *size)
        );
        assert_eq!(sequences.spans.len(), rows);
        for (start, len) in &sequences.spans {
            assert!(*len as usize <= shape.max_len && (*start + *len) as usize <= steps && *len > 0);
        }
    }
}

#[test]
fn every_target_gives_consistent_rows() {
    for target in
        ["purchase", "next_event", "next_item", "ladder(view<cart<purchase)", "count(view)", "sum(price, purchase)", "sum(age)", "none"]
    {
        let dataset = dataset(target, &Options::default()).unwrap();
        consistent(&dataset);
        assert_eq!(dataset.users_total, 400);
        for part in [Rows::Train, Rows::Validation, Rows::Test] {
            assert!(!dataset.rows_of(part).is_empty(), "{target} {part:?}");
        }
        let again = self::dataset(target, &Options::default()).unwrap();
        assert_eq!(again.inputs.numeric, dataset.inputs.numeric);
        assert_eq!(again.encoder, dataset.encoder);
    }
}

/// Everything that a training reads of both, to the bit.
fn same(here: &Dataset, there: &Dataset) {
    let loaded = there.inputs.to_memory(there.encoder.shape()).unwrap();
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&here.inputs.numeric), bits(&loaded.numeric));
    assert_eq!((here.inputs.rows, &here.inputs.categorical, &here.inputs.images), (loaded.rows, &loaded.categorical, &loaded.images));
    assert_eq!(here.inputs.sequence.is_some(), loaded.sequence.is_some());
    if let (Some(here), Some(there)) = (&here.inputs.sequence, &loaded.sequence) {
        assert_eq!((&here.tokens, &here.spans, bits(&here.numeric)), (&there.tokens, &there.spans, bits(&there.numeric)));
    }
    match (&here.labels, &there.labels) {
        (Labels::Class(here), Labels::Class(there)) => assert_eq!(here, there),
        (Labels::Value(here), Labels::Value(there)) => assert_eq!(bits(here), bits(there)),
        _ => panic!("labels of two kinds"),
    }
    assert_eq!((&here.classes, &here.split, &here.encoder, &here.rfm), (&there.classes, &there.split, &there.encoder, &there.rfm));
    assert_eq!((here.users_total, here.dropped_rows, here.censored_rows), (there.users_total, there.dropped_rows, there.censored_rows));
    assert_eq!(here.fingerprint().unwrap(), there.fingerprint().unwrap());
}

/// The dataset of [`dataset`], spilled before user `at`.
fn spilled(target: &str, options: &Options, at: u64, space: &Space) -> Result<Dataset> {
    let mut builder = builder(target, options);
    for user in 0..400 {
        if user == at {
            builder.spill(space.shared())?;
        }
        builder.push(&history(user, 40), &strings())?;
    }
    if at >= 400 {
        builder.spill(space.shared())?;
    }
    assert!(builder.is_spilled());
    builder.finish()
}

#[test]
fn a_spilled_dataset_is_the_same_to_the_bit() {
    let selected = Options { select_k: Some(20), sample: 0.7, ..Options::default() };
    let cases = [("purchase", Options::default(), 150), ("next_event", selected, 0), ("sum(price, purchase)", Options::default(), 400)];
    for (target, options, at) in cases {
        let space = Space::default();
        let (here, there) = (dataset(target, &options).unwrap(), spilled(target, &options, at, &space).unwrap());
        same(&here, &there);
        assert!(there.inputs.numeric.is_empty() && there.inputs.spilled_bytes() as usize == here.inputs.bytes() - here.inputs.rows * 8);
        assert!(there.bytes() * 3 < here.bytes(), "{target}: {} bytes of {}", there.bytes(), here.bytes());
        // Encoded rows and steps remain; histories and engineered rows are gone.
        assert_eq!(space.files(), 2);
        drop(there);
        assert_eq!(space.files(), 0);
    }
}

#[test]
fn spilled_test_rows_are_encoded_alike_by_a_stored_encoder() {
    let trained = dataset("purchase", &Options::default()).unwrap();
    let finished = |space: Option<&Space>| {
        let mut builder = builder("purchase", &Options::default());
        for user in 0..400 {
            builder.push(&history(user, 40), &strings()).unwrap();
            if let Some(space) = space.filter(|_| user == 33) {
                builder.spill(space.shared()).unwrap();
            }
        }
        builder.finish_with(&trained.encoder, &trained.classes).unwrap()
    };
    let space = Space::default();
    let (here, there) = (finished(None), finished(Some(&space)));
    same(&here, &there);
    assert_eq!((&here.users, &here.anchors_us), (&there.users, &there.anchors_us));
    assert!(there.inputs.spilled_bytes() > 0);
}

#[test]
fn less_memory_is_needed_once_spilled() {
    let space = Space::default();
    let mut builder = builder("next_event", &Options::default());
    for user in 0..2000 {
        builder.push(&history(user, 40), &strings()).unwrap();
    }
    let before = builder.bytes();
    builder.spill(space.shared()).unwrap();
    assert!(builder.bytes() - FILE_BUFFERS < before / 10, "{} of {before}", builder.bytes());
}

/// Whatever fails and whenever, the error is the disk's, and nothing stays behind.
#[test]
fn a_disk_that_fails_leaves_nothing_behind() {
    use std::sync::atomic::Ordering::SeqCst;
    let space = Space::default();
    drop(spilled("purchase", &Options::default(), 100, &space).unwrap());
    let (appends, reads) = (space.0.appends.load(SeqCst), space.0.reads.load(SeqCst));
    assert!(appends > 4 && reads > 20, "{appends} {reads}");
    for at in [1, 2, appends / 2, appends] {
        let space = Space::default();
        space.0.full_at.store(at, SeqCst);
        let error = spilled("purchase", &Options::default(), 100, &space).unwrap_err();
        assert_eq!((error.code, space.files()), (Code::DiskFull, 0), "{at} of {appends}");
    }
    for at in [1, reads / 2, reads] {
        let space = Space::default();
        space.0.broken_at.store(at, SeqCst);
        let error = spilled("purchase", &Options::default(), 100, &space).unwrap_err();
        assert_eq!((error.code, space.files()), (Code::Io, 0), "{at} of {reads}");
    }
}

#[test]
fn who_cancels_a_spilled_reading_finds_no_files() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    // The check of that number says stop: before and while features are engineered, and while they are fitted.
    for stop_at in [1, 4, 400, 4000] {
        let (space, checks) = (Space::default(), Arc::new(AtomicUsize::new(0)));
        let stop = move || checks.fetch_add(1, Ordering::SeqCst) + 1 >= stop_at;
        let mut builder = builder("next_event", &Options::default()).interrupted_by(stop);
        builder.spill(space.shared()).unwrap();
        for user in 0..150 {
            builder.push(&history(user, 40), &strings()).unwrap();
        }
        assert_eq!(space.files(), 1);
        assert_eq!(builder.finish().unwrap_err().code, Code::Cancelled, "{stop_at}");
        assert_eq!(space.files(), 0);
    }
}

#[test]
fn classes_by_target() {
    let classes = |target: &str| dataset(target, &Options::default()).unwrap().classes;
    assert_eq!(classes("purchase"), ["none", "purchase"]);
    assert_eq!(classes("ladder(view<cart)"), ["none", "view", "cart"]);
    let mut next = classes("next_event");
    next.sort_unstable();
    assert_eq!(next, ["add to wish list", "cart", "none", "purchase", "view"]);
    assert_eq!(classes("next_item").len(), 31);
    assert!(classes("count(view)").is_empty());
}

#[test]
fn windows_of_parts_never_overlap_later_anchors() {
    let dataset = dataset("purchase", &Options::default()).unwrap();
    let anchors = |part| dataset.rows_of(part).into_iter().map(|row| dataset.anchors_us[row as usize]).collect::<Vec<_>>();
    let (train, validation, test) = (anchors(Rows::Train), anchors(Rows::Validation), anchors(Rows::Test));
    assert!(train.iter().max().unwrap() + HORIZON_US <= *validation.iter().min().unwrap());
    assert!(validation.iter().max().unwrap() + HORIZON_US <= *test.iter().min().unwrap());
    assert_eq!(test.iter().max().unwrap() + HORIZON_US, watermark());
}

/// What is fitted must not know what happened after the last train anchor.
#[test]
fn nothing_is_fitted_on_validation_or_test() {
    let original = dataset("purchase", &Options::default()).unwrap();
    let last_train = original.rows_of(Rows::Train).into_iter().map(|row| original.anchors_us[row as usize]).max().unwrap();
    let mut builder = builder("purchase", &Options::default());
    let mut strings = strings();
    let strange = strings.items.intern("an item of the future");
    for user in 0..400 {
        let mut history = history(user, 40);
        for index in 0..history.len() {
            if history.times_us[index] > last_train + HORIZON_US {
                history.items[index] = strange;
                history.values[index] = 1e9;
            }
        }
        builder.push(&history, &strings).unwrap();
    }
    assert_eq!(builder.finish().unwrap().encoder, original.encoder);
}

#[test]
fn too_little_data_says_so_with_counts() {
    let mut few = builder("purchase", &Options::default());
    for user in 0..5 {
        few.push(&history(user, 20), &strings()).unwrap();
    }
    let error = few.finish().unwrap_err();
    assert_eq!(error.code, Code::InvalidParameter);
    assert!(
        error.message.starts_with("too little data: ") && error.detail.as_deref().unwrap().contains("5 users with 100 events"),
        "{error:?}"
    );
    assert!(error.detail.unwrap().contains("Labels: none "));

    let error = builder("purchase", &Options::default()).finish().unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (Code::InvalidParameter, "too little data: 0 labelled anchors"));

    let error = dataset("purchse", &Options::default()).unwrap_err();
    assert_eq!(error.code, Code::InvalidParameter);
    assert!(error.hint.unwrap().contains("\"purchase\""));
}

#[test]
fn finishing_can_be_interrupted() {
    let mut builder = builder("purchase", &Options::default()).interrupted_by(|| true);
    (0..400).for_each(|user| builder.push(&history(user, 40), &strings()).unwrap());
    assert_eq!(builder.finish().unwrap_err().code, Code::Cancelled);
}

#[test]
fn one_class_is_nothing_to_learn() {
    let target = Target::parse("view").unwrap();
    let mut builder = EventDatasetBuilder::new(&columns(), schema(), &target, HORIZON_US, None, &Options::default(), watermark()).unwrap();
    for user in 0..400 {
        let mut history = history(user, 40);
        history.events.fill(1);
        builder.push(&history, &strings()).unwrap();
    }
    // "view" is in the string table but in no event.
    assert_eq!(builder.finish().unwrap_err().code, Code::InvalidParameter);
}

#[test]
fn targets_that_the_columns_cannot_give() {
    let bare = crate::features::EventColumns { event: None, item: None, value: None, ..columns() };
    for (target, code) in [
        ("next_event", Code::UndefinedColumn),
        ("next_item", Code::UndefinedColumn),
        ("ladder(a<b)", Code::UndefinedColumn),
        ("sum(price)", Code::UndefinedColumn),
        ("column(x)", Code::InvalidParameter),
    ] {
        let target = Target::parse(target).unwrap();
        let result = EventDatasetBuilder::new(&bare, schema(), &target, HORIZON_US, None, &Options::default(), 0);
        assert_eq!(result.err().map(|error| error.code), Some(code), "{target}");
    }
    let target = Target::parse("purchase").unwrap();
    assert!(EventDatasetBuilder::new(&bare, schema(), &target, 0, None, &Options::default(), 0).is_err());
}

#[test]
fn a_stored_encoder_gives_the_test_rows_again() {
    for target in ["purchase", "next_event", "ladder(view<cart<purchase)", "sum(price)"] {
        let trained = dataset(target, &Options::default()).unwrap();
        let mut builder = builder(target, &Options::default());
        (0..400).for_each(|user| builder.push(&history(user, 40), &strings()).unwrap());
        let stored: Encoder = serde_json::from_str(&serde_json::to_string(&trained.encoder).unwrap()).unwrap();
        let again = builder.finish_with(&stored, &trained.classes).unwrap();
        consistent(&again);
        let rows = trained.rows_of(Rows::Test);
        assert_eq!(again.inputs.rows, rows.len());
        let width = trained.encoder.shape().numeric;
        let expected: Vec<f32> = rows.iter().flat_map(|row| trained.inputs.numeric[*row as usize * width..][..width].to_vec()).collect();
        assert_eq!(again.inputs.numeric, expected, "{target}");
        match (&again.labels, &trained.labels) {
            (Labels::Class(got), Labels::Class(all)) => assert_eq!(*got, rows.iter().map(|row| all[*row as usize]).collect::<Vec<_>>()),
            (Labels::Value(got), Labels::Value(all)) => assert_eq!(*got, rows.iter().map(|row| all[*row as usize]).collect::<Vec<_>>()),
            _ => panic!("labels of another kind"),
        }
        assert_eq!(again.rfm, rows.iter().map(|row| trained.rfm[*row as usize]).collect::<Vec<_>>());
    }
}

#[test]
fn a_back_test_at_the_test_anchor_is_the_test() {
    let trained = dataset("purchase", &Options::default()).unwrap();
    let mut builder = builder("purchase", &Options::default()).at_anchors(vec![watermark() - HORIZON_US]);
    (0..400).for_each(|user| builder.push(&history(user, 40), &strings()).unwrap());
    let again = builder.finish_with(&trained.encoder.clone().reading_only(&InputShape::default()), &trained.classes).unwrap();
    assert_eq!(again.inputs.rows, trained.rows_of(Rows::Test).len());
    assert!(again.inputs.sequence.is_none());
}

#[test]
fn unknown_classes_are_left_out_and_counted() {
    let trained = dataset("next_event", &Options::default()).unwrap();
    let mut builder = builder("next_event", &Options::default());
    (0..400).for_each(|user| builder.push(&history(user, 40), &strings()).unwrap());
    let classes: Vec<String> = trained.classes.iter().filter(|class| *class != "cart").cloned().collect();
    let again = builder.finish_with(&trained.encoder, &classes).unwrap();
    assert!(again.dropped_rows > 0);
    assert_eq!(again.inputs.rows as u64 + again.dropped_rows, trained.rows_of(Rows::Test).len() as u64);
    consistent(&again);
}

#[test]
fn samples_exclusions_and_selection() {
    let mut options = Options::default();
    options.set_json("{\"sample\": 0.5, \"exclude\": [\"hour_*\", \"device\", \"seq_item\", \"price\"], \"select_k\": 12}").unwrap();
    // Half of these users do not buy in the last week.
    assert!(dataset("purchase", &options).unwrap_err().message.starts_with("there is only one class in test"));
    let dataset = dataset("next_event", &options).unwrap();
    consistent(&dataset);
    assert!(dataset.sampled_out > 150 && dataset.sampled_out < 250);
    let names: Vec<String> = dataset.encoder.feature_names().into_iter().map(|feature| feature.name).collect();
    assert!(!names.iter().any(|n| n.starts_with("hour_") || n == "last_device" || n == "seq_item" || n.starts_with("value_")), "{names:?}");
    assert!(dataset.encoder.shape().numeric + dataset.encoder.shape().categorical.len() <= 24);
    options.set_json("{\"exclude\": [\"purchase_cuont_30d\"]}").unwrap();
    let error = self::dataset("next_event", &options).unwrap_err();
    assert_eq!(error.code, Code::UndefinedColumn);
    assert!(error.hint.unwrap().contains("purchase_count_30d"));
}

fn table_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("Pages", DataType::Float64, true),
        Field::new("month", DataType::Utf8, true),
        Field::new("constant", DataType::Float64, true),
        Field::new("weekend", DataType::Boolean, true),
        Field::new("Revenue", DataType::Boolean, true),
        Field::new("spent", DataType::Float64, true),
        Field::new("stars", DataType::Int64, true),
    ]))
}

fn table(rows: u64) -> RecordBatch {
    let draw = |stream: u64, row: u64, below: u64| splitmix::at(stream, row) % below;
    let columns: Vec<ArrayRef> = vec![
        Arc::new((0..rows as i64).collect::<Int64Array>()),
        Arc::new((0..rows).map(|row| (draw(1, row, 10) > 0).then(|| draw(2, row, 1000) as f64)).collect::<Float64Array>()),
        Arc::new((0..rows).map(|row| ["Feb", "Mar", "May", ""].get(draw(3, row, 5) as usize).copied()).collect::<StringArray>()),
        Arc::new(Float64Array::from(vec![7.0; rows as usize])),
        Arc::new((0..rows).map(|row| Some(draw(4, row, 2) == 0)).collect::<BooleanArray>()),
        Arc::new((0..rows).map(|row| (draw(5, row, 50) > 0).then(|| draw(6, row, 10) < 2)).collect::<BooleanArray>()),
        Arc::new((0..rows).map(|row| Some(draw(7, row, 10_000) as f64)).collect::<Float64Array>()),
        Arc::new((0..rows).map(|row| Some(1 + draw(8, row, 5) as i64)).collect::<Int64Array>()),
    ];
    RecordBatch::try_new(table_schema(), columns).unwrap()
}

fn table_builder(label: &str, options: &Options, batch: &RecordBatch) -> TableDatasetBuilder {
    let mut builder = TableDatasetBuilder::new(batch.schema(), label, options, None).unwrap();
    builder.push(&batch.slice(0, batch.num_rows() / 3)).unwrap();
    builder.push(&batch.slice(batch.num_rows() / 3, batch.num_rows() - batch.num_rows() / 3)).unwrap();
    builder
}

#[test]
fn labelled_tables() {
    let batch = table(2000);
    let dataset = table_builder("revenue", &Options::default(), &batch).finish().unwrap();
    consistent(&dataset);
    assert_eq!(dataset.classes, ["false", "true"]);
    assert!(dataset.dropped_rows > 10);
    assert_eq!(dataset.inputs.rows as u64 + dataset.dropped_rows, 2000);
    let names: Vec<String> = dataset.encoder.feature_names().into_iter().map(|feature| feature.name).collect();
    assert_eq!(names, ["Pages", "Pages_missing", "weekend", "spent", "stars", "month"], "neither the id nor the constant");
    let Labels::Class(labels) = &dataset.labels else { panic!("classes") };
    let share = |part| {
        let rows = dataset.rows_of(part);
        (
            rows.len() as f64 / dataset.split.len() as f64,
            rows.iter().filter(|row| labels[**row as usize] == 1).count() as f64 / rows.len() as f64,
        )
    };
    let all = labels.iter().filter(|label| **label == 1).count() as f64 / labels.len() as f64;
    for (part, size) in [(Rows::Train, 0.7), (Rows::Validation, 0.15), (Rows::Test, 0.15)] {
        assert!((share(part).0 - size).abs() < 0.01 && (share(part).1 - all).abs() < 0.02, "{part:?} {:?}", share(part));
    }
    let other_seed = table_builder("Revenue", &Options { seed: 7, ..Options::default() }, &batch).finish().unwrap();
    assert_ne!(other_seed.split, dataset.split);
}

#[test]
fn labels_by_type() {
    let batch = table(1000);
    let finish = |label: &str| table_builder(label, &Options::default(), &batch).finish().unwrap();
    assert_eq!(finish("stars").classes, ["1", "2", "3", "4", "5"]);
    assert!(matches!(finish("spent").labels, Labels::Value(_)));
    // The id holds more than ten integers: a number.
    assert!(matches!(finish("id").labels, Labels::Value(_)));
    assert_eq!(finish("month").classes, ["", "Feb", "Mar", "May"]);
    let error = TableDatasetBuilder::new(table_schema(), "revnue", &Options::default(), None).unwrap_err();
    assert_eq!(error.code, Code::UndefinedColumn);
    let error = table_builder("constant", &Options::default(), &batch).finish().unwrap_err();
    assert!(error.message.contains("nothing to learn"), "{error:?}");
    let error = table_builder("Revenue", &Options::default(), &table(50)).finish().unwrap_err();
    assert!(error.message.starts_with("too little data"), "{error:?}");
}

#[test]
fn splits_by_time() {
    let batch = table(1000);
    let mut builder = TableDatasetBuilder::new(batch.schema(), "Revenue", &Options::default(), Some("ID".into())).unwrap();
    builder.push(&batch).unwrap();
    let dataset = builder.finish().unwrap();
    let first_of = |part| dataset.rows_of(part)[0];
    assert!(dataset.split.is_sorted_by_key(|part| *part as u8), "ids ascend, so do the parts");
    assert!(first_of(Rows::Train) < first_of(Rows::Validation) && first_of(Rows::Validation) < first_of(Rows::Test));
}

#[test]
fn folds_partition_the_rows() {
    let labels = Labels::Class((0..997).map(|row| u32::from(splitmix::at(1, row).is_multiple_of(10))).collect());
    let folds = stratified_folds(&labels, 5, 42);
    let mut all: Vec<u32> = folds.concat();
    all.sort_unstable();
    assert_eq!(all, (0..997).collect::<Vec<u32>>());
    let Labels::Class(classes) = &labels else { unreachable!() };
    let positives: Vec<usize> = folds.iter().map(|fold| fold.iter().filter(|row| classes[**row as usize] == 1).count()).collect();
    assert!(positives.iter().max().unwrap() - positives.iter().min().unwrap() <= 1, "{positives:?}");
    assert_ne!(stratified_folds(&labels, 5, 43), folds);

    let batch = table(1000);
    let builder = table_builder("Revenue", &Options::default(), &batch);
    let mut tested = vec![0; builder.clone().finish().unwrap().inputs.rows];
    for fold in 0..5 {
        let dataset = builder.clone().with_fold(fold, 5).finish().unwrap();
        dataset.rows_of(Rows::Test).iter().for_each(|row| tested[*row as usize] += 1);
        assert!(!dataset.rows_of(Rows::Validation).is_empty());
    }
    assert!(tested.iter().all(|times| *times == 1));
}

/// Labelled rows with a picture each.
fn pictures(rows: u64) -> RecordBatch {
    let draw = |stream: u64, row: u64, below: u64| splitmix::at(stream, row) % below;
    let photo = |row: u64| {
        let (height, width) = (4 + draw(1, row, 2) as usize, 6);
        let pixels: Vec<u8> = (0..(height * width) as u64).map(|at| draw(2, row * 64 + at, 256) as u8).collect();
        (draw(3, row, 20) > 0).then(|| png(height, width, 1, &pixels))
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("photo", Arc::new((0..rows).map(photo).collect::<BinaryArray>())),
        ("price", Arc::new((0..rows).map(|row| Some(draw(4, row, 1000) as f64)).collect::<Float64Array>())),
        ("brand", Arc::new((0..rows).map(|row| ["a", "b", "c"].get(draw(5, row, 3) as usize).copied()).collect::<StringArray>())),
        ("sold", Arc::new((0..rows).map(|row| Some(draw(6, row, 3) == 0)).collect::<BooleanArray>())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

#[test]
fn texts_and_rows_without_a_label_stay_in_memory() {
    let (schema, options) = (pictures(1).schema(), Options::default());
    let of = |columns: &TableColumns| TableDatasetBuilder::with_columns(Arc::clone(&schema), "sold", columns, &options, None).unwrap();
    let photo = TableColumns { image: Some("photo".into()), ..TableColumns::default() };
    assert!(of(&TableColumns::default()).can_spill() && of(&photo).can_spill());
    assert!(!of(&TableColumns { texts: vec!["brand".into()], ..photo.clone() }).can_spill());
    assert!(!TableDatasetBuilder::unlabelled(Arc::clone(&schema), &photo, &options).unwrap().can_spill());
}

#[test]
fn a_spilled_table_is_the_same_to_the_bit() {
    let (rows, seen, alone) = (table(3000), pictures(600), pictures(600).project(&[0, 3]).unwrap());
    let with_photo = TableColumns { image: Some("photo".into()), ..TableColumns::default() };
    let cases = [
        (&rows, "Revenue", TableColumns::default(), Some("id")),
        (&rows, "spent", TableColumns::default(), None),
        (&seen, "sold", with_photo.clone(), None),
        (&alone, "sold", with_photo, None),
    ];
    for (batch, label, columns, split_time) in cases {
        let space = Space::default();
        let filled = |spill_at: Option<usize>| {
            let split_time = split_time.map(str::to_owned);
            let options = Options::default();
            let mut builder = TableDatasetBuilder::with_columns(batch.schema(), label, &columns, &options, split_time).unwrap();
            for start in (0..batch.num_rows()).step_by(100) {
                if spill_at == Some(start) {
                    builder.spill(space.shared()).unwrap();
                }
                builder.push(&batch.slice(start, 100)).unwrap();
            }
            builder
        };
        let (here, there) = (filled(None), filled(Some(300)));
        assert!(there.is_spilled() && here.bytes() > there.bytes() - FILE_BUFFERS);
        for fold in [None, Some(1)] {
            let finished = |builder: &TableDatasetBuilder| match fold {
                Some(fold) => builder.clone().with_fold(fold, 3).finish().unwrap(),
                None => builder.clone().finish().unwrap(),
            };
            let (here, there) = (finished(&here), finished(&there));
            same(&here, &there);
            assert!(there.inputs.spilled_bytes() > 0);
        }
        let trained = here.clone().finish().unwrap();
        for all_rows in [false, true] {
            let encoded =
                |builder: &TableDatasetBuilder| builder.clone().finish_with(&trained.encoder, &trained.classes, all_rows).unwrap();
            same(&encoded(&here), &encoded(&there));
        }
        drop(there);
        assert_eq!(space.files(), 0);
    }
}

#[test]
fn rows_score_as_they_trained() {
    let batch = table(1000);
    let options = Options { exclude: vec!["stars".into()], ..Options::default() };
    let dataset = table_builder("spent", &options, &batch).finish().unwrap();
    assert_eq!(dataset.encoder.row_columns(), ["Pages", "month", "weekend", "Revenue"]);
    // Columns in another order and of wider types, one extra, none that is not needed.
    let wide: ArrayRef = arrow::compute::cast(batch.column(2), &DataType::LargeUtf8).unwrap();
    let weekend: ArrayRef = arrow::compute::cast(batch.column(4), &DataType::Int64).unwrap();
    let reordered = RecordBatch::try_from_iter_with_nullable([
        ("extra", Arc::clone(batch.column(0)), true),
        ("weekend", weekend, true),
        ("Revenue", Arc::clone(batch.column(5)), true),
        ("MONTH", wide, true),
        ("Pages", Arc::clone(batch.column(1)), true),
    ])
    .unwrap();
    let (inputs, counts, _) = dataset.encoder.encode_rows_counted(&reordered).unwrap();
    assert_eq!((inputs.numeric, inputs.categorical), (dataset.inputs.numeric.clone(), dataset.inputs.categorical.clone()));
    assert!(counts.nulls > 0 && counts.unseen == 0);
    let error = dataset.encoder.encode_rows(&reordered.project(&[0, 1, 2, 3]).unwrap()).unwrap_err();
    assert_eq!(error.code, Code::UndefinedColumn);

    let unseen = RecordBatch::try_from_iter_with_nullable([
        ("weekend", Arc::new(BooleanArray::from(vec![None, Some(true)])) as ArrayRef, true),
        ("Revenue", Arc::new(BooleanArray::from(vec![None, Some(true)])) as ArrayRef, true),
        ("month", Arc::new(StringArray::from(vec![Some("Smarch"), None])) as ArrayRef, true),
        ("Pages", Arc::new(Float64Array::from(vec![None, Some(f64::INFINITY)])) as ArrayRef, true),
    ])
    .unwrap();
    let (inputs, counts, _) = dataset.encoder.encode_rows_counted(&unseen).unwrap();
    assert_eq!((inputs.categorical, counts.unseen), (vec![1, 0], 1));
    assert!(inputs.numeric.iter().all(|x| x.is_finite()));

    let again = table_builder("spent", &options, &batch).finish_with(&dataset.encoder, &[], true).unwrap();
    assert_eq!((again.inputs.numeric, again.inputs.categorical), (dataset.inputs.numeric, dataset.inputs.categorical));
}
