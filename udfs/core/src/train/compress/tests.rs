//! A table of one number and two texts, a model of it, and what becomes of both when strings go or a student learns.

use std::sync::Arc;

use arrow::array::{Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};

use super::*;
use crate::features::TableDatasetBuilder;
use crate::features::options::Options;
use crate::models::ops::{Distillation, Philox};
use crate::models::{Compressed, Scheme, Task, load, load_compressed};
use crate::train::{TrainRequest, Trained, distil, train};

const ROWS: usize = 900;

/// The number decides half of the label, the more frequent of the texts the other half.
fn table() -> RecordBatch {
    let random = Philox::new(4, 4);
    let number = |row: usize| random.normal(row as u64);
    // Text `i` is seen about twice as often as text `i + 1`.
    let text = |row: usize| (random.fork(1).uniform(row as u64).log2().abs() as usize).min(9);
    let other = |row: usize| random.fork(2).below(row as u64, 40);
    let label = |row: usize| if number(row) + if text(row).is_multiple_of(2) { 1.0 } else { -1.0 } > 0.0 { "yes" } else { "no" };
    let schema = Arc::new(Schema::new(vec![
        Field::new("a", DataType::Float64, true),
        Field::new("c", DataType::Utf8, true),
        Field::new("d", DataType::Utf8, true),
        Field::new("label", DataType::Utf8, true),
    ]));
    let texts = |of: &dyn Fn(usize) -> String| (0..ROWS).map(|row| Some(of(row))).collect::<StringArray>();
    let numbers: Float64Array = (0..ROWS).map(|row| Some(number(row))).collect();
    let columns = [texts(&|row| format!("c{}", text(row))), texts(&|row| format!("d{}", other(row))), texts(&|row| label(row).into())];
    let [c, d, label] = columns.map(|column| Arc::new(column) as _);
    RecordBatch::try_new(schema, vec![Arc::new(numbers), c, d, label]).unwrap()
}

fn dataset() -> Dataset {
    let table = table();
    let mut builder = TableDatasetBuilder::new(table.schema(), "label", &Options::default(), None).unwrap();
    builder.push(&table).unwrap();
    builder.finish().unwrap()
}

fn options() -> Options {
    Options { epochs: Some(25), hidden_dim: Some(16), embedding_dim: Some(4), learning_rate: Some(1e-2), ..Options::default() }
}

fn request<'a>(dataset: &'a Dataset, options: &'a Options, architecture: Architecture, cancel: &'a CancellationToken) -> TrainRequest<'a> {
    TrainRequest {
        dataset,
        architecture: Some(architecture),
        options,
        task: Task::Classification,
        threads: 2,
        cancel,
        progress: &|_| {},
        init: None,
        checkpoints: None,
        memory: None,
    }
}

fn scorer(trained: &Trained) -> Scorer {
    Scorer::new(Arc::from(load(&trained.config, &trained.parameters).unwrap()), trained.calibration.clone())
}

fn logits(config: &NetworkConfig, parameters: &Parameters, inputs: &Inputs) -> Vec<f32> {
    let network = load(config, parameters).unwrap();
    let mut batch = Batch::default();
    Batch::gather(inputs, &config.shape, &(0..inputs.rows as u32).collect::<Vec<_>>(), &mut batch);
    network.forward(&batch).unwrap().logits
}

#[test]
fn what_is_measured_is_what_training_reported() {
    let (dataset, options, cancel) = (dataset(), options(), CancellationToken::new());
    let trained = train(request(&dataset, &options, Architecture::Dnn, &cancel)).unwrap();
    let own = scorer(&trained);
    let measures = Measures::of(&own, &dataset, &cancel).unwrap();
    assert_eq!((measures.valid.value, measures.test.value), (trained.valid, trained.test));
    assert_eq!(recalibrated(own.network(), own.calibration(), &dataset, &cancel).unwrap(), trained.calibration);
    assert!(rate(own.network().as_ref(), &dataset.inputs, &cancel).unwrap() > 0.0);
    let small = Compressed::of(&trained.config, &trained.parameters, Scheme::Int8).unwrap();
    let small: Arc<dyn Network> = Arc::from(load_compressed(&trained.config, &small).unwrap());
    let calibration = recalibrated(&small, own.calibration(), &dataset, &cancel).unwrap();
    assert_ne!(calibration, trained.calibration);
    let after = Measures::of(&Scorer::new(small, calibration), &dataset, &cancel).unwrap();
    assert!((after.test.value - trained.test).abs() < 0.02, "{} instead of {}", after.test.value, trained.test);
    cancel.cancel();
    assert!(rate(own.network().as_ref(), &dataset.inputs, &cancel).is_err());
}

#[test]
fn pruned_strings_are_unseen_and_all_others_as_before() {
    let dataset = dataset();
    let table = table();
    for architecture in [Architecture::Logreg, Architecture::Dnn] {
        let options = options();
        let config = crate::train::hyper::resolve(architecture, dataset.encoder.shape(), 2, Task::Classification, &options, ROWS).config;
        let mut parameters = Parameters::default();
        for spec in crate::models::specs(&config).unwrap() {
            let random = Philox::named(1, &spec.name);
            let values = (0..spec.shape.iter().product::<usize>() as u64).map(|at| random.normal(at) as f32).collect();
            parameters.0.insert(spec.name, (spec.shape, values));
        }
        let before = logits(&config, &parameters, &dataset.inputs);
        for keep in [Keep::Most(12), Keep::Seen(14, &dataset)] {
            let pruned = prune(&dataset.encoder, &config, &parameters, keep).unwrap();
            assert!(pruned.dropped > 0 && pruned.parameters.count() < parameters.count());
            assert_eq!(pruned.encoder.shape().categorical, pruned.config.shape.categorical);
            let own = pruned.encoded(&dataset);
            // The smaller encoder says the same of the raw rows, which a table's rows are in the order of.
            let (again, _) = pruned.encoder.encode_known_rows(&table).unwrap();
            assert_eq!(again.categorical, own.inputs.categorical);
            let after = logits(&pruned.config, &pruned.parameters, &own.inputs);
            let mut as_unseen = dataset.inputs.clone();
            for (id, own) in as_unseen.categorical.iter_mut().zip(&own.inputs.categorical) {
                *id = if *own == UNSEEN_ID { UNSEEN_ID } else { *id };
            }
            assert_eq!(after, logits(&config, &parameters, &as_unseen));
            assert_ne!(after, before);
        }
    }
    // Frequent strings stay, and never fewer than vectors of the width want: 2 · 4 − 1 ids.
    let config = crate::train::hyper::resolve(Architecture::Dnn, dataset.encoder.shape(), 2, Task::Classification, &options(), ROWS).config;
    let parameters = crate::models::specs(&config).unwrap().into_iter();
    let parameters = Parameters(parameters.map(|spec| (spec.name.clone(), (spec.shape.clone(), spec.initial(1)))).collect());
    let pruned = prune(&dataset.encoder, &config, &parameters, Keep::Most(1)).unwrap();
    assert_eq!(pruned.config.shape.categorical, [7, 7]);
    let vocabularies = pruned.encoder.vocabularies();
    assert_eq!(vocabularies[0].strings().map(|(_, text)| text).collect::<Vec<_>>()[..3], ["c0", "c1", "c2"]);
    assert_eq!(prune(&dataset.encoder, &config, &parameters, Keep::Most(1000)).unwrap().dropped, 0);
}

#[test]
fn a_student_learns_what_its_teacher_says() {
    let (truth, options, cancel) = (dataset(), options(), CancellationToken::new());
    let teacher = scorer(&train(request(&truth, &options, Architecture::Dnn, &cancel)).unwrap());
    let best = Measures::of(&teacher, &truth, &cancel).unwrap().test.value;
    // Labels of the training rows that say nothing: what the student learns it has from its teacher.
    let mut noise = truth.clone();
    let Labels::Class(labels) = &mut noise.labels else { panic!("classes") };
    for row in truth.rows_of(Rows::Train) {
        labels[row as usize] = Philox::new(1, 9).below(u64::from(row), 2);
    }
    let taught = |share: f64| {
        let how = Distillation { temperature: 2.0, share };
        let trained = distil(request(&noise, &options, Architecture::Logreg, &cancel), &teacher, how).unwrap();
        (trained.test, trained.parameters)
    };
    let (alone, (learned, parameters)) = (taught(1.0).0, taught(0.0));
    assert!(best > 0.9 && learned > best - 0.06 && alone < learned - 0.1, "teacher {best}, student {learned}, alone {alone}");
    assert_eq!(parameters, taught(0.0).1);
    let how = Distillation { temperature: 2.0, share: 0.5 };
    let oversampled = Options { oversample: crate::features::options::Oversample::Random, ..options.clone() };
    assert!(distil(request(&truth, &oversampled, Architecture::Logreg, &cancel), &teacher, how).is_err());
}
