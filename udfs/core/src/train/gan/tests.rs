//! Generators on small made-up tables and pictures: every mode and class is there, as often as in the source, what belongs
//! together stays together, and the same seed gives the same bytes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::Float64Type;
use flate2::Crc;

use super::*;
use crate::error::Code;
use crate::features::{RowTableBuilder, TableColumns};
use crate::kernels::splitmix;

const ROWS: usize = 1500;
const KINDS: [(&str, f64, f64); 3] = [("a", -10.0, 0.6), ("b", 0.0, 0.3), ("c", 10.0, 0.1)];

fn uniform(stream: u64, row: usize) -> f64 {
    splitmix::fraction(stream, row as u64)
}

/// A kind, and a number that knows it: a narrow bell around −10, 0 or 10. A quarter of `spent` is NULL.
fn mixture() -> RecordBatch {
    let kind = |row: usize| {
        let at = uniform(1, row);
        if at < 0.6 { 0 } else { usize::from(at >= 0.9) + 1 }
    };
    let bell = |row: usize| (0..12u64).map(|of| uniform(splitmix::at(2, of), row)).sum::<f64>() - 6.0;
    let x: Float64Array = (0..ROWS).map(|row| Some(KINDS[kind(row)].1 + 0.5 * bell(row))).collect();
    let spent: Float64Array = (0..ROWS).map(|row| (uniform(3, row) > 0.25).then(|| (uniform(4, row) * 1000.0).round() / 10.0)).collect();
    let kinds: StringArray = (0..ROWS).map(|row| Some(KINDS[kind(row)].0)).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("x", Arc::new(x) as ArrayRef, false),
        ("spent", Arc::new(spent), true),
        ("kind", Arc::new(kinds), false),
    ])
    .unwrap()
}

fn table(batch: &RecordBatch, columns: &str, label: Option<&str>, options: &Options) -> RowTable {
    let mut builder = RowTableBuilder::new(batch.schema(), &TableColumns::parse(columns).unwrap(), label, options).unwrap();
    builder.push(batch).unwrap();
    builder.finish().unwrap()
}

fn options(epochs: u32) -> Options {
    Options {
        epochs: Some(epochs),
        hidden_dim: Some(48),
        embedding_dim: Some(16),
        batch_size: Some(100),
        learning_rate: Some(2e-3),
        ..Options::default()
    }
}

fn run(table: &RowTable, options: &Options, threads: usize) -> Result<Trained> {
    let cancel = CancellationToken::new();
    train(&GanRequest { table, options, threads, cancel: &cancel, progress: &|_| {} })
}

fn generator(trained: &Trained, table: &RowTable, seed: u64) -> Generator {
    Generator::new(Arc::from(models::load(&trained.config, &trained.parameters).unwrap()), &table.plan, seed)
}

#[test]
fn every_mode_is_covered_and_classes_keep_their_shares() {
    let options = options(80);
    let table = table(&mixture(), "auto", Some("kind"), &options);
    let trained = run(&table, &options, 2).unwrap();
    assert_eq!((trained.metric, trained.history.len()), (Metric::ColumnDistance, 80));
    assert!(trained.test < 0.15 && trained.test < trained.baseline / 2.0, "{} against {}", trained.test, trained.baseline);
    let rows = generator(&trained, &table, 1).rows(0, 2000).unwrap();
    assert_eq!(rows.schema(), table.plan.schema());
    let (x, kinds) = (rows["x"].as_primitive::<Float64Type>(), rows["kind"].as_string::<i32>());
    let mut right = 0;
    for (kind, middle, share) in KINDS {
        let near = x.iter().flatten().filter(|x| (x - middle).abs() < 3.0).count() as f64 / 2000.0;
        let named = kinds.iter().flatten().filter(|own| *own == kind).count() as f64 / 2000.0;
        assert!((near - share).abs() < 0.12 && near > share / 3.0, "{kind}: {near} near {middle} instead of {share}");
        assert!((named - share).abs() < 0.12 && named > share / 3.0, "{kind}: {named} instead of {share}");
        right += (0..2000).filter(|row| kinds.value(*row) == kind && (x.value(*row) - middle).abs() < 3.0).count();
    }
    // What belongs together stays together: by chance it would be 46 in a hundred.
    assert!(right > 1500, "{right} of 2000");
    let nulls = rows["spent"].null_count() as f64 / 2000.0;
    assert!((nulls - 0.25).abs() < 0.12, "{nulls}");
    let notes = trained.notes.join("; ");
    assert!(
        ["column_distance", "tstr_accuracy", "detection_auc", "nearest_distance", "copies"].iter().all(|name| notes.contains(name)),
        "{notes}"
    );
}

#[test]
fn the_same_bytes_with_any_number_of_threads_and_in_any_batches() {
    let options = options(1);
    let table = table(&mixture(), "auto", None, &options);
    let trained = run(&table, &options, 1).unwrap();
    assert_eq!(trained.parameters, run(&table, &options, 3).unwrap().parameters);
    let other = Options { seed: 7, ..options.clone() };
    assert_ne!(trained.parameters, run(&table, &other, 1).unwrap().parameters);
    let own = generator(&trained, &table, 5);
    let whole = own.rows(0, 700).unwrap();
    assert_eq!(whole.slice(0, 123), own.rows(0, 123).unwrap());
    assert_eq!(whole.slice(123, 577), own.rows(123, 577).unwrap());
    assert_ne!(whole, generator(&trained, &table, 6).rows(0, 700).unwrap());
}

#[test]
fn it_can_be_stopped() {
    let table = table(&mixture(), "auto", None, &options(1));
    let cancel = CancellationToken::new();
    cancel.cancel();
    let own = options(1);
    let stopped = train(&GanRequest { table: &table, options: &own, threads: 1, cancel: &cancel, progress: &|_| {} });
    assert_eq!(stopped.unwrap_err().code, Code::Cancelled);
    let short = Options { max_seconds: Some(0.05), ..options(5000) };
    let trained = run(&table, &short, 1).unwrap();
    assert!(trained.notes.iter().any(|note| note.contains("max_seconds")), "{:?}", trained.notes);
    // Somebody who keeps what there is gets it.
    let (kept, cancel) = (Options { keep_partial: true, ..options(5000) }, CancellationToken::new());
    let progress = |progress: Progress| {
        if progress.batch == 5 {
            cancel.cancel();
        }
    };
    let trained = train(&GanRequest { table: &table, options: &kept, threads: 1, cancel: &cancel, progress: &progress }).unwrap();
    assert!(trained.notes.iter().any(|note| note.contains("cancelled")));
}

/// A grey PNG, not packed.
fn png(side: usize, pixels: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut put = |kind: &[u8; 4], content: &[u8]| {
        bytes.extend((content.len() as u32).to_be_bytes());
        let mut crc = Crc::new();
        crc.update(kind);
        crc.update(content);
        bytes.extend(kind);
        bytes.extend(content);
        bytes.extend(crc.sum().to_be_bytes());
    };
    let length = (side as u32).to_be_bytes();
    put(b"IHDR", &[&length[..], &length[..], &[8, 0, 0, 0, 0]].concat());
    let rows: Vec<u8> = pixels.chunks(side).flat_map(|row| [&[0], row].concat()).collect();
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &rows).unwrap();
    put(b"IDAT", &packed.finish().unwrap());
    put(b"IEND", b"");
    bytes
}

/// Bright upper or lower halves, three in ten of them lower.
fn halves() -> RecordBatch {
    let lower = |row: usize| uniform(1, row) < 0.3;
    let picture = |row: usize| -> Vec<u8> {
        (0..64).map(|at| if (at >= 32) == lower(row) { 180 } else { 20 } + (uniform(splitmix::at(2, at), row) * 60.0) as u8).collect()
    };
    let photos: BinaryArray = (0..400).map(|row| Some(png(8, &picture(row)))).collect();
    let names: StringArray = (0..400).map(|row| Some(if lower(row) { "lower" } else { "upper" })).collect();
    RecordBatch::try_from_iter([("photo", Arc::new(photos) as ArrayRef), ("half", Arc::new(names))]).unwrap()
}

#[test]
fn pictures_show_the_class_that_they_are_said_to() {
    let options = Options {
        epochs: Some(12),
        hidden_dim: Some(8),
        embedding_dim: Some(8),
        batch_size: Some(32),
        learning_rate: Some(1e-3),
        ..Options::default()
    };
    let table = table(&halves(), "image=photo", Some("half"), &options);
    let trained = run(&table, &options, 2).unwrap();
    let recognised = trained.notes.iter().find(|note| note.starts_with("recognised")).unwrap();
    let made = generator(&trained, &table, 3).make(0, 400).unwrap();
    let mut right = 0;
    for (picture, class) in made.values.chunks_exact(64).zip(&made.classes) {
        let (upper, lower) = (picture[..32].iter().sum::<f32>(), picture[32..].iter().sum::<f32>());
        right += usize::from((lower > upper) == (*class == 1));
    }
    assert!(right > 340, "{right} of 400; {recognised}");
    let lower = made.classes.iter().filter(|class| **class == 1).count();
    assert!((90..150).contains(&lower), "{lower} of 400");
    assert_eq!(trained.parameters, run(&table, &options, 1).unwrap().parameters);
}
