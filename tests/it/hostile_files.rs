//! Parquet files that are not what they say: an error for who reads them, no words about the server's folders, and the next
//! statement works. `PORTRAIT_HOSTILE` says how many (60 unless it is set).

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use portrait::error::Code;

use crate::common::{Random, count, engine, rows};

/// A file of three row groups.
fn file(compression: Compression) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter([
        ("user_id", Arc::new((0..3000).map(|n| Some(n % 97)).collect::<Int64Array>()) as ArrayRef),
        ("kind", Arc::new((0..3000).map(|n| Some(["view", "cart", "purchase"][n % 3])).collect::<StringArray>()) as ArrayRef),
        ("price", Arc::new((0..3000).map(|n| Some(f64::from(n) * 0.5)).collect::<Float64Array>()) as ArrayRef),
    ])
    .unwrap();
    let properties = WriterProperties::builder().set_compression(compression).set_max_row_group_row_count(Some(1000)).build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

/// Bytes changed in the footer or anywhere, the end cut off, or a footer of another length.
fn harmed(whole: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    let footer = u32::from_le_bytes(whole[whole.len() - 8..whole.len() - 4].try_into().unwrap()) as usize;
    for _ in 0..=random.below(4) {
        let start = if random.below(10) < 6 { whole.len() - 8 - footer } else { 4 };
        let at = start + random.below((whole.len() - 4 - start) as u64) as usize;
        bytes[at] = match random.below(4) {
            0 => 0,
            1 => 0xFF,
            2 => random.below(256) as u8,
            _ => bytes[at] ^ (1 << random.below(8)),
        };
    }
    match random.below(12) {
        0 => bytes.truncate(12 + random.below(whole.len() as u64 - 12) as usize),
        1 => bytes[whole.len() - 8..whole.len() - 4].copy_from_slice(&[0xFF, 0xFF, 0xFF, 0x7F]),
        2 => bytes[whole.len() - 8..whole.len() - 4].copy_from_slice(&[0; 4]),
        _ => {}
    }
    bytes
}

fn put(folder: &Path, number: u32, bytes: &[u8]) {
    let folder = folder.join("files").join(format!("h{number}"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("f.parquet"), bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_errors_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine(folder.path()).await;
    let session = engine.session("portrait").unwrap();
    let files = [file(Compression::ZSTD(ZstdLevel::default())), file(Compression::UNCOMPRESSED)];
    let (mut random, mut refused, mut read) = (Random(14), 0, 0);
    for number in 0..count("PORTRAIT_HOSTILE", 60) {
        put(folder.path(), number, &harmed(&files[number as usize % 2], &mut random));
        let statements = [
            format!("CREATE EXTERNAL TABLE h{number} STORED AS PARQUET LOCATION 'h{number}/'"),
            format!("SELECT count(*), sum(user_id), sum(price), max(kind) FROM h{number}"),
            format!("SELECT count(*) FROM h{number} WHERE user_id = 5 AND kind = 'cart'"),
            format!("SELECT kind FROM h{number} ORDER BY price DESC LIMIT 3"),
        ];
        for (at, statement) in statements.iter().enumerate() {
            let Err(error) = rows(&session, statement).await else {
                read += usize::from(at > 0);
                continue;
            };
            refused += usize::from(error.code != Code::UndefinedTable);
            // A footer may say of a column that it is of another type. A page that makes the reader panic is no more than an internal
            // error yet.
            assert!(at > 0 || error.code != Code::Internal, "{statement}: {error:?}");
            let told = format!("{error} {:?} {:?}", error.detail, error.hint);
            assert!(!told.contains(&*folder.path().to_string_lossy()), "{statement}: {told}");
        }
    }
    assert!(refused > 0 && read > 0, "{refused} statements were refused, {read} answered");
    put(folder.path(), 1_000_000, &files[0]);
    rows(&session, "CREATE EXTERNAL TABLE whole STORED AS PARQUET LOCATION 'h1000000/'").await.unwrap();
    assert_eq!(rows(&session, "SELECT count(*) FROM whole").await.unwrap().concat(), "3000");
}
