use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};

use super::*;
use crate::error::Code;
use crate::features::dataset::{Dataset, EventDatasetBuilder, TableDatasetBuilder};
use crate::features::encoder::Encoder;
use crate::features::events::{Extra, Strings, UserHistory, UserKey};
use crate::features::inputs::{ImageShape, InputShape, Rows};
use crate::features::png::tests::png;
use crate::features::tabular::DAY_US;
use crate::features::target::Target;
use crate::features::testing::{columns, history, schema, strings};
use crate::features::{FeatureKind, TableColumns};
use crate::kernels::splitmix;

const USERS: u64 = 300;
const QUERIES: [&str; 5] = ["red dress size 8", "blue shoes", "", "winter coat and a red scarf", "shoes"];

fn event_columns() -> EventColumns {
    EventColumns { text: vec!["query".into(), "note".into()], image: Some("photo".into()), ..columns() }
}

/// Names of the codes of [`attached`]: queries, notes nobody writes, three pictures and one that cannot be read.
fn attached_strings() -> Strings {
    let mut own = Strings::for_columns(&event_columns());
    let plain = strings();
    (own.events, own.items, own.categories) = (plain.events.clone(), plain.items.clone(), plain.categories.clone());
    own.extras[0] = plain.extras[0].clone();
    for query in QUERIES {
        own.extras[2].intern(query);
    }
    for grey in [10, 20, 30] {
        own.extras[4].intern_bytes(&png(2, 3, 1, &[grey; 6]));
    }
    own.extras[4].intern_bytes(b"no picture");
    own
}

fn attached(user: u64) -> UserHistory {
    let mut own = history(user, 40);
    let draw = |stream: u64, at: usize, below: u64| splitmix::at(user * 7 + stream, at as u64) % below;
    let codes =
        |stream, known: u64| (0..40).map(move |at| if draw(stream, at, 3) == 0 { draw(stream + 1, at, known) as u32 } else { NULL_CODE });
    own.extras.push(Extra::Text(codes(1, QUERIES.len() as u64).collect()));
    own.extras.push(Extra::Text(vec![NULL_CODE; 40]));
    // Every tenth user never sends a picture.
    own.extras.push(Extra::Text(if user.is_multiple_of(10) { vec![NULL_CODE; 40] } else { codes(3, 4).collect() }));
    own
}

fn builder(options: &Options) -> EventDatasetBuilder {
    let watermark = (0..USERS).filter_map(|user| history(user, 40).times_us.last().copied()).max().unwrap();
    let mut builder =
        EventDatasetBuilder::new(&event_columns(), schema(), &Target::Event("purchase".into()), 10 * DAY_US, None, options, watermark)
            .unwrap();
    (0..USERS).for_each(|user| builder.push(&attached(user), &attached_strings()).unwrap());
    builder
}

/// What a row shows of its picture and texts.
fn shown(inputs: &Inputs, shape: &InputShape, row: usize) -> (Option<Vec<u8>>, Vec<Vec<u32>>) {
    let len = shape.image.map_or(0, ImageShape::len);
    let picture = inputs.pictured[row];
    let pixels = (picture != NO_PICTURE).then(|| inputs.images[picture as usize * len..(picture as usize + 1) * len].to_vec());
    (pixels, inputs.texts.iter().map(|texts| texts.row(row).to_vec()).collect())
}

fn score(encoder: &Encoder, dataset: &Dataset, row: usize) -> Inputs {
    let UserKey::Int64(user) = dataset.users[row] else { panic!("integer keys") };
    let mut out = Inputs::default();
    assert!(encoder.encode_history(&attached(user as u64), &attached_strings(), dataset.anchors_us[row], &mut out).unwrap());
    out
}

#[test]
fn the_latest_picture_and_texts_of_a_history() {
    let options = Options::from_json("{\"max_text_len\": 9}").unwrap();
    let dataset = builder(&options).finish().unwrap();
    let shape = dataset.encoder.shape();
    assert_eq!((shape.image, shape.image_optional), (Some(ImageShape { height: 2, width: 3, channels: 1 }), true));
    assert_eq!(shape.texts.iter().map(|text| text.max_len).collect::<Vec<_>>(), [9, 9]);
    let last: Vec<FeatureKind> = dataset.encoder.feature_names().iter().rev().take(3).map(|feature| feature.kind).collect();
    assert_eq!(last, [FeatureKind::Text, FeatureKind::Text, FeatureKind::Image]);
    let stored: Encoder = serde_json::from_str(&serde_json::to_string(&dataset.encoder).unwrap()).unwrap();
    let (mut with, mut without, mut longest) = (0, 0, 0);
    for row in 0..dataset.inputs.rows {
        let learned = shown(&dataset.inputs, shape, row);
        // Scoring the user at the same moment reads the same.
        assert_eq!(shown(&score(&stored, &dataset, row), shape, 0), learned);
        assert_eq!(learned.1[1], [0], "nobody writes notes");
        longest = longest.max(learned.1[0].len());
        *if learned.0.is_some() { &mut with } else { &mut without } += 1;
        let UserKey::Int64(user) = dataset.users[row] else { panic!("integer keys") };
        assert!(user % 10 != 0 || learned.0.is_none());
    }
    assert!(with > without && without > USERS as usize / 20 && longest == 9, "{with} {without} {longest}");
    // The test rows of a stored encoder are those of its training.
    let again = builder(&options).finish_with(&stored, &dataset.classes).unwrap();
    let test = dataset.rows_of(Rows::Test);
    for (at, row) in test.iter().enumerate().step_by(7) {
        assert_eq!(shown(&again.inputs, shape, at), shown(&dataset.inputs, shape, *row as usize));
    }
}

#[test]
fn words_come_from_what_training_may_know() {
    let dataset = builder(&Options::default()).finish().unwrap();
    let known = dataset.encoder.vocabularies();
    let query = known.iter().find(|vocabulary| vocabulary.feature == "query").unwrap();
    assert_eq!((query.kind, query.table().as_str()), (FeatureKind::Text, "text.0.tokens.weight"));
    let words: Vec<&str> = query.strings().map(|(_, text)| text).collect();
    assert!(["red", "shoes", "#8e0", "scarf"].iter().all(|word| words.contains(word)), "{words:?}");
}

#[test]
fn a_network_that_reads_neither_costs_neither() {
    let dataset = builder(&Options::default()).finish().unwrap();
    let shape = InputShape { image: None, image_optional: false, texts: Vec::new(), ..dataset.encoder.shape().clone() };
    let encoder = dataset.encoder.clone().reading_only(&shape);
    assert_eq!(*encoder.shape(), shape);
    let inputs = score(&encoder, &dataset, 0);
    assert!(inputs.images.is_empty() && inputs.pictured.is_empty() && inputs.texts.is_empty());
}

#[test]
fn scored_rows_join() {
    let dataset = builder(&Options::default()).finish().unwrap();
    let (shape, mut all) = (dataset.encoder.shape(), Inputs::default());
    let rows = [0, 5, 9, 200];
    rows.iter().for_each(|row| all.append(score(&dataset.encoder, &dataset, *row)));
    for (at, row) in rows.into_iter().enumerate() {
        assert_eq!(shown(&all, shape, at), shown(&dataset.inputs, shape, row));
    }
    assert!(all.bytes() > 0);
    all.clear();
    assert_eq!((all.rows, all.pictured.len(), all.texts[0].spans.len()), (0, 0, 0));
    // A session that a caller writes down has no texts and no pictures.
    let session = dataset.encoder.encode_sequence(&["view", "cart"], None, None).unwrap();
    assert_eq!((session.pictured, session.texts[0].row(0).to_vec()), (vec![NO_PICTURE], vec![0]));
}

fn reviews(rows: u64) -> RecordBatch {
    let text = |row: u64| match splitmix::at(1, row) % 4 {
        0 => None,
        1 => Some(""),
        2 => Some("A GOOD dress, good fit"),
        _ => Some("bad quality"),
    };
    let columns: [(&str, ArrayRef); 3] = [
        ("age", Arc::new((0..rows).map(|row| Some((splitmix::at(2, row) % 50) as f64)).collect::<Float64Array>())),
        ("review", Arc::new((0..rows).map(text).collect::<StringArray>())),
        ("liked", Arc::new((0..rows).map(|row| Some(["no", "yes"][(splitmix::at(3, row) % 2) as usize])).collect::<StringArray>())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
}

fn review_builder(columns: &str, batch: &RecordBatch) -> crate::Result<TableDatasetBuilder> {
    let columns = TableColumns::parse(columns).unwrap();
    let mut builder = TableDatasetBuilder::with_columns(batch.schema(), "liked", &columns, &Options::default(), None)?;
    builder.push(&batch.slice(0, 300))?;
    builder.push(&batch.slice(300, batch.num_rows() - 300))?;
    Ok(builder)
}

#[test]
fn texts_of_labelled_rows() {
    let batch = reviews(1000);
    let dataset = review_builder("auto, text=Review", &batch).unwrap().finish().unwrap();
    assert_eq!(dataset.encoder.row_columns(), ["age", "review"]);
    assert_eq!((dataset.encoder.shape().numeric, dataset.encoder.shape().texts.len()), (1, 1));
    let scored = dataset.encoder.encode_rows(&batch).unwrap();
    let again = review_builder("text=review", &batch).unwrap();
    assert_eq!(again.clone().finish().unwrap().encoder.row_columns(), ["review"]);
    let evaluated = review_builder("auto, text=review", &batch).unwrap().finish_with(&dataset.encoder, &dataset.classes, true).unwrap();
    for row in 0..1000 {
        let learned = dataset.inputs.texts[0].row(row);
        assert_eq!((scored.texts[0].row(row), evaluated.inputs.texts[0].row(row)), (learned, learned));
        match splitmix::at(1, row as u64) % 4 {
            0 => assert_eq!(learned, [0]),
            1 => assert_eq!(learned, [1]),
            2 => assert!(learned.len() == 5 && learned[1] == learned[3]),
            _ => assert!(learned.len() == 2 && learned[0] != learned[1]),
        }
    }
    let error = dataset.encoder.encode_rows(&batch.project(&[0, 2]).unwrap()).unwrap_err();
    assert_eq!(error.code, Code::UndefinedColumn);
    assert_eq!(review_builder("text=age", &batch).unwrap_err().code, Code::DatatypeMismatch);
    assert_eq!(review_builder("text=liked", &batch).unwrap_err().code, Code::InvalidParameter);
    assert_eq!(review_builder("text=reviw", &batch).unwrap_err().code, Code::UndefinedColumn);
}
