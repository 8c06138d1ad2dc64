//! A server that is killed while everything writes at once keeps what it acknowledged, and nothing by halves.
//!
//! `PORTRAIT_KILLS` says how often it is killed (4 times unless it is set; 500 at full size).

use std::time::Duration;

use crate::common::Random;
use crate::common::kills;
use crate::common::server::{ServerProcess, connect, seen};
use crate::common::workload::Workload;

/// One server in so many lives until an erasure was acknowledged, but no longer than this.
const ERASURE_EVERY: u32 = 8;
const ERASURE_MAX: Duration = Duration::from_secs(30);

#[test]
fn a_killed_server_keeps_what_it_acknowledged() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(kill_again_and_again(kills(4)));
}

async fn kill_again_and_again(kills: u32) {
    let data = tempfile::tempdir().unwrap();
    let (workload, mut random) = (Workload::default(), Random(77));
    let mut starts = Vec::new();
    for kill in 0..=kills {
        let mut server = ServerProcess::start(data.path(), &[]);
        let client = connect(server.port()).await.unwrap();
        if kill == 0 {
            workload.prepare(data.path(), &client).await;
        } else {
            seen(&client, "SELECT count(*) FROM events").await;
            starts.push(server.age());
            workload.check(&client).await.unwrap_or_else(|faults| panic!("after kill {kill}:\n{faults}"));
            if kill % 25 == 0 {
                println!("{kill} kills; longest start {:?}", starts.iter().max().unwrap_or(&Duration::ZERO));
            }
        }
        drop(client);
        if kill == kills {
            break;
        }
        let tasks = workload.begin(server.port());
        // Beside everything else an erasure takes longer than most servers live here.
        if kill % ERASURE_EVERY == 1 {
            workload.until_erased(ERASURE_MAX).await;
        }
        tokio::time::sleep(random.millis(0, 2000)).await;
        server.kill();
        for task in tasks {
            task.await.unwrap();
        }
    }
    starts.sort();
    let of = |part: f64| starts.get((starts.len() as f64 * part) as usize).or(starts.last()).copied().unwrap_or(Duration::ZERO);
    println!("{kills} kills; from the start to the first answer: median {:?}, 99% {:?}, longest {:?}", of(0.5), of(0.99), of(1.0));
    println!("{}", workload.report());
}
