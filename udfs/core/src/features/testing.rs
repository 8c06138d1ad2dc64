//! Random histories for the tests of this room.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit as ArrowTimeUnit};

use super::events::{Extra, KeyType, Strings, UserHistory, UserKey, canonical_schema};
use super::roles::{EventColumns, TimeUnit, ValueColumn};
use super::tabular::DAY_US;
use crate::kernels::intern::NULL_CODE;
use crate::kernels::splitmix;

pub(super) const EVENTS: [&str; 4] = ["view", "cart", "purchase", "add to wish list"];

/// Columns with every role and one extra of each kind.
pub(super) fn columns() -> EventColumns {
    EventColumns {
        user: "user_id".into(),
        time: "ts".into(),
        event: Some("event".into()),
        item: Some("sku".into()),
        category: Some("category".into()),
        value: Some(ValueColumn::Column("price".into())),
        extra: vec!["device".into(), "age".into()],
        text: Vec::new(),
        image: None,
        key_type: KeyType::Int64,
        time_unit: TimeUnit::Timestamp,
    }
}

pub(super) fn schema() -> SchemaRef {
    let source = Schema::new(vec![
        Field::new("user_id", DataType::Int64, true),
        Field::new("ts", DataType::Timestamp(ArrowTimeUnit::Microsecond, None), true),
        Field::new("event", DataType::Utf8, true),
        Field::new("sku", DataType::Utf8, true),
        Field::new("category", DataType::Utf8, true),
        Field::new("price", DataType::Float64, true),
        Field::new("device", DataType::Utf8, true),
        Field::new("age", DataType::Float64, true),
    ]);
    canonical_schema(&columns(), &source)
}

/// String tables that hold the names of [`history`]'s codes.
pub(super) fn strings() -> Strings {
    let mut strings = Strings::for_columns(&columns());
    for name in EVENTS {
        strings.events.intern(name);
    }
    for item in 0..30 {
        strings.items.intern(&format!("sku-{item}"));
    }
    for category in 0..5 {
        strings.categories.intern(&format!("category {category}"));
    }
    for device in ["phone", "desktop"] {
        strings.extras[0].intern(device);
    }
    strings
}

/// A history of `len` events over some 200 days, with ties, gaps of every size and NULLs, all from `seed`.
pub(super) fn history(seed: u64, len: usize) -> UserHistory {
    let mut counter = 0;
    let mut draw = |below: u64| {
        counter += 1;
        splitmix::at(seed, counter) % below
    };
    let mut time = 1_500_000_000_000_000 + draw(86_400) as i64 * 1_000_000;
    let mut history = UserHistory {
        user: UserKey::Int64(seed as i64),
        times_us: Vec::new(),
        events: Vec::new(),
        items: Vec::new(),
        categories: Vec::new(),
        values: Vec::new(),
        extras: vec![Extra::Text(Vec::new()), Extra::Number(Vec::new())],
    };
    for _ in 0..len {
        time += match draw(5) {
            0 => 0,
            1 => draw(120) as i64 * 1_000_000,
            2 => 30 * 60_000_000 + draw(2) as i64,
            3 => draw(DAY_US as u64) as i64,
            _ => draw(12 * DAY_US as u64) as i64,
        };
        let or_null = |null: bool, code: u64| if null { NULL_CODE } else { code as u32 };
        history.times_us.push(time);
        history.events.push(or_null(draw(20) == 0, draw(4)));
        history.items.push(or_null(draw(10) == 0, draw(30)));
        history.categories.push(or_null(draw(10) == 0, draw(5)));
        history.values.push(if draw(4) == 0 { f64::NAN } else { draw(2000) as f64 / 16.0 - 20.0 });
        let device = or_null(draw(3) == 0, draw(2));
        let age = if draw(3) == 0 { f64::NAN } else { draw(60) as f64 };
        match &mut history.extras[..] {
            [Extra::Text(devices), Extra::Number(ages)] => {
                devices.push(device);
                ages.push(age);
            }
            _ => unreachable!("just made"),
        }
    }
    history
}

/// A key for a text.
pub(super) fn text_key(text: &str) -> UserKey {
    UserKey::Utf8(Arc::from(text))
}
