use arrow::array::{Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema, TimeUnit};
use datafusion::execution::memory_pool::UnboundedMemoryPool;
use datafusion::physical_plan::EmptyRecordBatchStream;

use super::*;
use crate::kernels::identity::{Graph, Names, id_order};
use crate::kernels::intern::NULL_CODE;
use crate::kernels::splitmix;

/// Events in memory, sorted.
#[derive(Debug)]
struct Fixed(RecordBatch);

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("user", DataType::Int64, false),
        Field::new("time", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("event", DataType::Utf8, true),
    ]))
}

type Row = (i64, i64, Option<String>);

fn batch(rows: &[Row]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| Some(row.0)).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| Some(row.1)).collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        Arc::new(rows.iter().map(|row| row.2.clone()).collect::<StringArray>()),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn rows(batches: &[RecordBatch]) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in batches {
        let users = batch.column(0).as_primitive::<Int64Type>();
        let times = batch.column(1).as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
        let events = batch.column(2).as_string::<i32>();
        rows.extend(
            (0..batch.num_rows())
                .map(|row| (users.value(row), times.value(row), events.is_valid(row).then(|| events.value(row).to_owned()))),
        );
    }
    rows
}

#[async_trait]
impl UserHistories for Fixed {
    fn watermark_us(&self) -> Option<i64> {
        None
    }

    fn dropped_rows(&self) -> u64 {
        0
    }

    fn fingerprint(&self) -> Option<String> {
        None
    }

    async fn scan(&self, _: usize) -> Result<Vec<SendableRecordBatchStream>> {
        Ok(Vec::new())
    }

    async fn lookup(&self, users: ArrayRef) -> Result<SendableRecordBatchStream> {
        let users = users.as_primitive::<Int64Type>().values().to_vec();
        assert!(users.is_sorted_by(|a, b| a < b), "sorted and distinct");
        if users.is_empty() {
            return Ok(Box::pin(EmptyRecordBatchStream::new(schema())));
        }
        let found: Vec<Row> = rows(std::slice::from_ref(&self.0)).into_iter().filter(|row| users.contains(&row.0)).collect();
        let batches: Vec<_> = found.chunks(100).map(|rows| Ok(batch(rows))).collect();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema(), stream::iter(batches))))
    }
}

/// Orders as sources do: NULLs last.
fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by_key(|row| (row.0, row.1, row.2.is_none(), row.2.clone()));
    rows
}

#[tokio::test]
async fn a_person_has_the_events_of_all_ids_in_their_order() {
    let random = |of: u64, at: u64| splitmix::at(of, at);
    let events: Vec<Row> = (0..20_000)
        .map(|at| {
            (random(1, at) as i64 % 900, random(2, at) as i64 % 50, (!at.is_multiple_of(7)).then(|| format!("e{}", random(3, at) % 5)))
        })
        .collect();
    let inner = Arc::new(Fixed(batch(&sorted(events.clone()))));
    let (names, mut graph) = (Names::default(), Graph::default());
    for at in 0..400 {
        let mut ids = [format!("{}", random(4, at) as i64 % 900), format!("{}", random(5, at) as i64 % 900)];
        if at.is_multiple_of(5) {
            ids[0] = format!("cookie {}", random(4, at) % 50);
        }
        let codes = ids.map(|id| names.write().intern(&id));
        let _ = graph.link(codes, NULL_CODE, 0, 20, |a, b| id_order(names.read().get(a), names.read().get(b)));
    }
    let people = People::new(names, Names::default(), Arc::new(graph), 1);
    let merged = Merged { inner, people: people.clone(), pool: Arc::new(UnboundedMemoryPool::default()) };
    let alone = (0..900_i64).find(|user| people.read().ids(&user.to_string()).is_none()).unwrap();
    for users in [vec![], vec![5], vec![alone], vec![-1, alone, 2000], (0..900).collect(), (0..900).step_by(3).collect()] {
        let expected: Vec<Row> = {
            let reader = people.read();
            let of = |user: i64| {
                let ids: Vec<i64> = match reader.ids(&user.to_string()) {
                    Some(ids) => ids.into_iter().filter_map(whole).collect(),
                    None => vec![user],
                };
                events.iter().filter(|row| ids.contains(&row.0)).map(|row| (user, row.1, row.2.clone())).collect::<Vec<Row>>()
            };
            sorted(users.iter().flat_map(|user| of(*user)).collect())
        };
        let asked: ArrayRef = Arc::new(Int64Array::from(users.clone()));
        let found: Vec<RecordBatch> = merged.lookup(asked).await.unwrap().try_collect().await.unwrap();
        assert_eq!(rows(&found), expected, "{} users", users.len());
    }
}
