//! A synthetic shop: users of very different activity browse, fill carts and buy over 180 days.
//!
//! The log comes in time order, as a real one does, so one user's events lie scattered over every file. Whether a
//! user buys depends on a hidden taste and on what they did lately, so a model has something to learn. The same
//! arguments give the same bytes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

const START_US: i64 = 1_735_689_600_000_000; // 2025-01-01
const DAYS: i64 = 180;
const DAY_US: i64 = 86_400_000_000;
const ITEMS: u64 = 50_000;
const CATEGORIES: u64 = 200;
const BATCH_ROWS: usize = 65_536;

/// SplitMix64 (Steele et al., 2014): a hash of a counter, so any event can be computed on its own.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

fn unit(x: u64) -> f64 {
    (mix(x) >> 11) as f64 / (1u64 << 53) as f64
}

/// Writes `events` events of `users` users into `folder` as Parquet files of a million rows; does nothing when the
/// folder holds that very log already. Returns the folder.
pub fn write_log(folder: &Path, users: u64, events: u64) -> std::io::Result<PathBuf> {
    let done = folder.join("COMPLETE");
    if std::fs::read_to_string(&done).is_ok_and(|text| text == format!("{users} {events}")) {
        return Ok(folder.to_path_buf());
    }
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder)?;
    let rows_per_file = 1_000_000.min(events.div_ceil(2)).max(1);
    let mut first = 0;
    while first < events {
        let last = (first + rows_per_file).min(events);
        write_file(&folder.join(format!("events-{:05}.parquet", first / rows_per_file)), users, events, first..last)?;
        first = last;
    }
    std::fs::write(done, format!("{users} {events}"))?;
    Ok(folder.to_path_buf())
}

fn schema() -> Arc<Schema> {
    Arc::new(Schema::new(vec![
        Field::new("user_id", DataType::Int64, false),
        Field::new("event_time", DataType::Timestamp(TimeUnit::Microsecond, None), false),
        Field::new("event_type", DataType::Utf8, false),
        Field::new("item_id", DataType::Int64, false),
        Field::new("category", DataType::Utf8, false),
        Field::new("price", DataType::Float64, false),
    ]))
}

fn write_file(path: &Path, users: u64, events: u64, range: std::ops::Range<u64>) -> std::io::Result<()> {
    let level = ZstdLevel::try_new(3).map_err(std::io::Error::other)?;
    let properties =
        WriterProperties::builder().set_compression(Compression::ZSTD(level)).set_max_row_group_row_count(Some(262_144)).build();
    let mut writer = ArrowWriter::try_new(File::create(path)?, schema(), Some(properties))?;
    let mut at = range.start;
    while at < range.end {
        let end = (at + BATCH_ROWS as u64).min(range.end);
        writer.write(&batch(users, events, at..end).map_err(std::io::Error::other)?)?;
        at = end;
    }
    writer.close()?;
    Ok(())
}

fn batch(users: u64, events: u64, range: std::ops::Range<u64>) -> Result<RecordBatch, arrow::error::ArrowError> {
    let rows = (range.end - range.start) as usize;
    let (mut user, mut time, mut item) = (Vec::with_capacity(rows), Vec::with_capacity(rows), Vec::with_capacity(rows));
    let (mut kind, mut category, mut price) = (Vec::with_capacity(rows), Vec::with_capacity(rows), Vec::with_capacity(rows));
    for n in range {
        // Activity falls off like 1/(rank + 0.02): the busiest tenth makes about two thirds of the events.
        let skew = unit(n * 4 + 1);
        let rank = 0.02 * ((1.02f64 / 0.02).powf(skew) - 1.0);
        let rank = 0.3 * unit(n * 4 + 3) + 0.7 * rank;
        let id = mix((rank * users as f64) as u64 % users) % (users * 8);
        let taste = unit(id ^ 0xA5A5);
        let now = START_US + (n as i64).wrapping_mul(DAYS * DAY_US / events as i64) + (unit(n) * 60e6) as i64;
        let week = ((now - START_US) / (7 * DAY_US)) as u64;
        let mood = unit(id.wrapping_mul(31).wrapping_add(week / 3)); // weeks of interest come and go
        let buy = 0.01 + 0.12 * taste * taste + 0.10 * mood * mood * mood;
        let draw = unit(n * 4 + 2);
        kind.push(if draw < buy {
            "purchase"
        } else if draw < buy * 3.0 {
            "cart"
        } else {
            "view"
        });
        let favourite = mix(id.wrapping_mul(17)) % CATEGORIES;
        let group = if unit(n * 4 + 5) < 0.6 { favourite } else { mix(n * 4 + 6) % CATEGORIES };
        let thing = group + CATEGORIES * ((unit(n * 4 + 7).powi(3) * (ITEMS / CATEGORIES) as f64) as u64);
        user.push(id as i64);
        time.push(now);
        item.push(thing as i64);
        category.push(format!("c{group:03}"));
        price.push((100.0 * (2.0 + 60.0 * unit(thing).powi(2))).round() / 100.0);
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(user)),
        Arc::new(TimestampMicrosecondArray::from(time)),
        Arc::new(StringArray::from(kind)),
        Arc::new(Int64Array::from(item)),
        Arc::new(StringArray::from(category)),
        Arc::new(Float64Array::from(price)),
    ];
    RecordBatch::try_new(schema(), columns)
}
