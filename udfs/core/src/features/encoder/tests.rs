use super::*;
use crate::features::dataset::{Dataset, EventDatasetBuilder};
use crate::features::events::Extra;
use crate::features::inputs::Inputs;
use crate::features::options::Options;
use crate::features::tabular::DAY_US;
use crate::features::target::Target;
use crate::features::testing::{columns, history, schema, strings};
use crate::kernels::intern::NULL_CODE;

const USERS: u64 = 300;

fn trained(options: &Options) -> Dataset {
    let watermark = (0..USERS).filter_map(|user| history(user, 40).times_us.last().copied()).max().unwrap();
    let target = Target::parse("purchase").unwrap();
    let mut builder = EventDatasetBuilder::new(&columns(), schema(), &target, 10 * DAY_US, None, options, watermark).unwrap();
    (0..USERS).for_each(|user| builder.push(&history(user, 40), &strings()).unwrap());
    builder.finish().unwrap()
}

/// The steps of a row, wherever they lie.
fn steps(encoder: &Encoder, inputs: &Inputs, row: usize) -> (Vec<u32>, Vec<u32>) {
    let (sequences, shape) = (inputs.sequence.as_ref().unwrap(), encoder.shape().sequence.as_ref().unwrap());
    let (start, len) = sequences.spans[row];
    let (start, len, fields) = (start as usize, len as usize, shape.fields.len());
    let numbers = &sequences.numeric[start * shape.numeric..(start + len) * shape.numeric];
    (sequences.tokens[start * fields..(start + len) * fields].to_vec(), numbers.iter().map(|x| x.to_bits()).collect())
}

#[test]
fn a_training_row_is_the_scoring_row() {
    let dataset = trained(&Options { max_seq_len: 16, ..Options::default() });
    let stored = serde_json::to_string(&dataset.encoder).unwrap();
    let encoder: Encoder = serde_json::from_str(&stored).unwrap();
    assert_eq!(encoder, dataset.encoder);
    assert_eq!(serde_json::to_string(&encoder).unwrap(), stored);
    assert_eq!(encoder.schema_version, SCHEMA_VERSION);
    let (numeric, categorical) = (encoder.shape().numeric, encoder.shape().categorical.len());
    let mut many = encoder.history_encoder().unwrap();
    for row in 0..dataset.inputs.rows {
        let UserKey::Int64(user) = dataset.users[row] else { panic!("integer keys") };
        let whole = history(user as u64, 40);
        let anchor = dataset.anchors_us[row];
        let mut out = Inputs::default();
        assert!(many.push(&whole, &strings(), anchor, &mut out).unwrap());
        if row % 97 == 0 {
            let mut one = Inputs::default();
            assert!(encoder.encode_history(&whole, &strings(), anchor, &mut one).unwrap());
            assert_eq!((&one.numeric, &one.categorical), (&out.numeric, &out.categorical));
        }
        assert_eq!(out.rows, 1);
        assert_eq!(out.numeric, dataset.inputs.numeric[row * numeric..][..numeric]);
        assert_eq!(out.categorical, dataset.inputs.categorical[row * categorical..][..categorical]);
        assert_eq!(steps(&encoder, &out, 0), steps(&encoder, &dataset.inputs, row));
    }
}

#[test]
fn what_was_never_seen_is_a_category_of_its_own() {
    let encoder = trained(&Options::default()).encoder;
    let mut strings = strings();
    let mut stranger = history(9999, 6);
    stranger.events.fill(strings.events.intern("teleport"));
    stranger.items.fill(strings.items.intern("a thing"));
    stranger.categories.fill(strings.categories.intern("things"));
    stranger.extras = vec![Extra::Text(vec![strings.extras[0].intern("fridge"); 6]), Extra::Number(vec![f64::NAN; 6])];
    let mut out = Inputs::default();
    let mut many = encoder.history_encoder().unwrap();
    assert!(many.push(&stranger, &strings, i64::MAX / 2, &mut out).unwrap());
    let names: Vec<FeatureInfo> = encoder.feature_names();
    let id_of = |out: &Inputs, name: &str| {
        let categories: Vec<&FeatureInfo> = names.iter().filter(|f| f.kind == FeatureKind::Categorical).collect();
        out.categorical[categories.iter().position(|f| f.name == name).unwrap()]
    };
    for name in ["last_event", "last_item", "last_category", "top_category", "last_device"] {
        assert_eq!(id_of(&out, name), UNSEEN_ID, "{name}");
    }
    assert_eq!(many.counts().unseen, 5);
    stranger.events.fill(NULL_CODE);
    stranger.items.fill(NULL_CODE);
    stranger.categories.fill(NULL_CODE);
    stranger.values.fill(f64::NAN);
    let mut out = Inputs::default();
    encoder.encode_history(&stranger, &strings, i64::MAX / 2, &mut out).unwrap();
    for name in ["last_event", "last_item", "last_category", "top_category"] {
        assert_eq!(id_of(&out, name), NULL_ID, "{name}");
    }
    assert!(out.numeric.iter().all(|x| x.is_finite()));
}

#[test]
fn short_and_later_histories() {
    let encoder = trained(&Options { min_history: 3, ..Options::default() }).encoder;
    let history = history(5, 6);
    let mut out = Inputs::default();
    assert!(!encoder.encode_history(&history, &strings(), history.times_us[0] - 1, &mut out).unwrap());
    assert_eq!((out.rows, out.numeric.len()), (0, 0));
    assert!(encoder.encode_history(&history, &strings(), history.times_us[5], &mut out).unwrap());
    assert_eq!(encoder.min_history(), 3);
    let one = trained(&Options::default()).encoder;
    let single = crate::features::testing::history(8, 1);
    let mut out = Inputs::default();
    assert!(one.encode_history(&single, &strings(), single.times_us[0], &mut out).unwrap());
    assert!(out.numeric.iter().all(|x| x.is_finite()));
}

#[test]
fn sequences_without_a_user() {
    let encoder = trained(&Options::default()).encoder;
    let inputs = encoder.encode_sequence(&["view", "cart", "nonsense"], Some(&["sku-1", "sku-2", "?"]), None).unwrap();
    assert_eq!((inputs.rows, inputs.sequence.as_ref().unwrap().spans.clone()), (1, vec![(0, 3)]));
    let times = [0, 5_000_000, 5_000_000];
    assert_eq!(encoder.encode_sequence(&["view", "cart", "view"], None, Some(&times)).unwrap().rows, 1);
    assert_eq!(encoder.encode_sequence(&[], None, None).unwrap().rows, 0);
    for error in [
        encoder.encode_sequence(&["view"], Some(&[]), None).unwrap_err(),
        encoder.encode_sequence(&["view"], None, Some(&[1, 2])).unwrap_err(),
        encoder.encode_sequence(&["view", "cart"], None, Some(&[2, 1])).unwrap_err(),
    ] {
        assert_eq!(error.code, crate::error::Code::InvalidParameter);
    }
    // The same events of a user are the same row.
    let user = UserHistory {
        user: UserKey::Int64(1),
        times_us: times.to_vec(),
        events: vec![0, 1, 0],
        items: vec![NULL_CODE; 3],
        categories: vec![NULL_CODE; 3],
        values: vec![f64::NAN; 3],
        extras: vec![Extra::Text(vec![NULL_CODE; 3]), Extra::Number(vec![f64::NAN; 3])],
    };
    let mut out = Inputs::default();
    encoder.encode_history(&user, &strings(), 5_000_000, &mut out).unwrap();
    let direct = encoder.encode_sequence(&["view", "cart", "view"], None, Some(&times)).unwrap();
    assert_eq!((out.numeric, out.categorical), (direct.numeric, direct.categorical));
    assert!(encoder.clone().encode_rows(&RecordBatch::new_empty(schema())).is_err());
}

#[test]
fn vocabularies_name_every_table_and_what_its_rows_mean() {
    let dataset = trained(&Options::default());
    let (encoder, shape) = (&dataset.encoder, dataset.encoder.shape());
    let all = encoder.vocabularies();
    let sizes = |kind: FeatureKind| all.iter().filter(|v| v.kind == kind).map(|v| v.size).collect::<Vec<_>>();
    assert_eq!(sizes(FeatureKind::Categorical), shape.categorical);
    assert_eq!(sizes(FeatureKind::Token), shape.sequence.as_ref().unwrap().fields);
    let names: Vec<FeatureInfo> = encoder.feature_names().into_iter().filter(|f| f.size > 0).collect();
    assert_eq!(all.iter().map(|v| v.feature).collect::<Vec<_>>(), names.iter().map(|f| f.name.as_str()).collect::<Vec<_>>());
    let events = all.iter().find(|v| v.feature == "seq_event").unwrap();
    assert_eq!((events.table().as_str(), events.text(0), events.text(1)), ("tokens.0.weight", None, None));
    assert_eq!(events.strings().count(), events.size - 2);
    assert!(events.strings().all(|(id, text)| events.text(id) == Some(text)));
    let hours = all.iter().find(|v| v.feature == "seq_hour").unwrap();
    assert_eq!((hours.strings().count(), hours.text(5)), (0, None));
}
