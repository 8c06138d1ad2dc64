//! Every call to the store fails once, before or after its effect: nothing is lost, nothing is there twice, and the table
//! can be read and written afterwards.

use std::ops::Range;

use datafusion::arrow::array::{ArrayRef, Int64Array, TimestampMicrosecondArray, new_null_array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use object_store::ObjectStore;
use object_store::memory::InMemory;

use super::super::columns::{EventOptions, Role};
use super::*;
use crate::storage::objects::faults::{Fault, Faulty};

/// A table of events and its quarantine over a store.
struct Tables {
    events: Arc<DeltaTable>,
    quarantine: Arc<DeltaTable>,
    env: Arc<RuntimeEnv>,
}

fn columns() -> (super::super::columns::EventColumns, SchemaRef) {
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("user", DataType::Int64, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("id", DataType::Int64, true),
    ]));
    let options = EventOptions { user: "user".into(), time: "at".into(), event_id: Some("id".into()), ..EventOptions::default() };
    super::super::columns::EventColumns::resolve("e", &schema, &options).unwrap()
}

fn tables(store: Faulty, ids: (Uuid, Uuid)) -> Tables {
    let (columns, schema) = columns();
    let refused = super::super::columns::EventColumns::quarantine_schema(&schema);
    let role = Role::Quarantine { of: "e".into(), ingested_at: columns.ingested_at.clone() };
    let store: Arc<dyn ObjectStore> = Arc::new(store);
    let events = DeltaTable::over(&store, ids.0, "e", schema, Role::Events(columns)).unwrap();
    let quarantine = DeltaTable::over(&store, ids.1, "e_quarantine", refused, role).unwrap();
    Tables { events: Arc::new(events), quarantine: Arc::new(quarantine), env: Arc::new(RuntimeEnv::default()) }
}

fn rows(ids: Range<i64>) -> RecordBatch {
    let (_, schema) = columns();
    let users: Int64Array = ids.clone().map(|id| (id % 10 != 3).then_some(id % 7)).collect();
    let times = TimestampMicrosecondArray::from_iter_values(ids.clone().map(|id| id * 1000));
    let arrival = new_null_array(schema.field(3).data_type(), times.len());
    let columns: Vec<ArrayRef> = vec![Arc::new(users), Arc::new(times), Arc::new(Int64Array::from_iter_values(ids)), arrival];
    RecordBatch::try_new(schema, columns).unwrap()
}

impl Tables {
    async fn ingest(&self, ids: Range<i64>) -> Result<Arrivals> {
        let options = IngestOptions { now_us: 1_000_000_000, future_tolerance_us: 0, erasures: 0 };
        let mut intake = Intake::new(&self.events, &self.quarantine, &self.env, options)?;
        intake.add(&rows(ids)).await?;
        intake.finish().await
    }

    /// How many rows there are, by the log; every file that it names must be there.
    async fn count(&self, store: &InMemory) -> u64 {
        let snapshot = self.events.snapshot().await.unwrap();
        for file in &snapshot.files {
            object_store::ObjectStoreExt::head(store, &file.object_meta.location).await.unwrap();
        }
        snapshot.files.iter().map(|file| super::super::table::rows_of(file).unwrap()).sum()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_failing_call_loses_or_doubles_an_event() {
    // Of ids 0..100 ten have no user; of 0..150 fifteen.
    for late in [false, true] {
        for fails in 0.. {
            let memory = Arc::new(InMemory::new());
            let store = Faulty::over(Arc::clone(&memory));
            let ids = (Uuid::new_v4(), Uuid::new_v4());
            let sound = tables(store.clone(), ids);
            sound.events.create_empty().await.unwrap();
            sound.quarantine.create_empty().await.unwrap();
            assert_eq!(sound.ingest(0..100).await.unwrap(), Arrivals { read: 100, new: 90, duplicate: 0, quarantined: 10, suppressed: 0 });

            let faulty = store.failing(Fault { call: fails, late });
            let broken = tables(faulty.clone(), ids);
            let outcome = broken.ingest(50..150).await;
            drop(broken);
            // Files of a failed statement are removed behind its back.
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;

            let after = tables(store.clone(), ids);
            let count = after.count(&memory).await;
            match &outcome {
                Ok(arrivals) => assert_eq!((arrivals.new, count), (45, 135), "call {fails}, late {late}"),
                Err(_) => assert!(count == 90 || count == 135, "call {fails}, late {late}: {count} rows"),
            }
            // Again: now everything is there, once.
            let again = after.ingest(0..150).await.unwrap();
            assert_eq!((again.new, again.quarantined), (135 - count, 15), "call {fails}, late {late}");
            assert_eq!(after.count(&memory).await, 135);
            if faulty.calls() <= fails {
                assert!(outcome.is_ok() && fails > 10);
                break;
            }
        }
    }
}
