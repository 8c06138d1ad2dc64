//! Messages that are almost right, before and after login: the server answers throughout, and keeps nothing of them.
//!
//! `PORTRAIT_FUZZ=1000000` sends so many (20,000 otherwise), `PORTRAIT_FUZZ_SEED` chooses which.

use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Server;
use super::raw::{Raw, message};

/// Connections at once.
const CLIENTS: u64 = 8;
/// How much the process may grow, as the server's users count it.
const GROWTH_BYTES: u64 = 200 << 20;

/// What clients say when they are right: the seeds of what they say here.
fn seeds() -> Vec<Vec<u8>> {
    let parse = |name: &str, sql: &str, oids: &[u32]| {
        let mut body = format!("{name}\0{sql}\0").into_bytes();
        body.extend_from_slice(&(oids.len() as u16).to_be_bytes());
        oids.iter().for_each(|oid| body.extend_from_slice(&oid.to_be_bytes()));
        message('P', &body)
    };
    let bind = |portal: &str, name: &str, formats: &[u16], values: &[Option<&[u8]>], results: &[u16]| {
        let mut body = format!("{portal}\0{name}\0").into_bytes();
        body.extend_from_slice(&(formats.len() as u16).to_be_bytes());
        formats.iter().for_each(|format| body.extend_from_slice(&format.to_be_bytes()));
        body.extend_from_slice(&(values.len() as u16).to_be_bytes());
        for value in values {
            match value {
                Some(bytes) => {
                    body.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
                    body.extend_from_slice(bytes);
                }
                None => body.extend_from_slice(&(-1_i32).to_be_bytes()),
            }
        }
        body.extend_from_slice(&(results.len() as u16).to_be_bytes());
        results.iter().for_each(|format| body.extend_from_slice(&format.to_be_bytes()));
        message('B', &body)
    };
    let execute = |portal: &str, rows: i32| {
        let mut body = format!("{portal}\0").into_bytes();
        body.extend_from_slice(&rows.to_be_bytes());
        message('E', &body)
    };
    let mut found: Vec<Vec<u8>> = [
        "SELECT 1",
        "SELECT * FROM generate_series(1, 20)",
        "SELECT 'a', NULL, 1.5, ARRAY[1, 2], TIMESTAMP '2024-01-01'",
        "BEGIN",
        "ROLLBACK",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "FETCH 5 FROM c",
        "SET TimeZone = 'Europe/Paris'",
        "SELECT oid, typname FROM pg_type LIMIT 3",
        "COPY (SELECT 1) TO STDOUT (FORMAT binary)",
        "COPY nothing FROM STDIN",
        "PREPARE p AS SELECT $1::int",
        "EXECUTE p(1)",
        "DISCARD ALL",
        "",
        ";;",
        "SELECT \u{1F980}",
    ]
    .iter()
    .map(|sql| message('Q', format!("{sql}\0").as_bytes()))
    .collect();
    found.extend([
        parse("", "SELECT $1::int8 + $2", &[20, 0]),
        parse("s", "SELECT $1", &[25]),
        parse("array", "SELECT $1::float4[]", &[1021]),
        bind("", "", &[1, 0], &[Some(&7_i64.to_be_bytes()), Some(b"35")], &[1]),
        bind("p", "s", &[], &[None], &[]),
        bind("", "array", &[0], &[Some(b"{1,2,NULL}")], &[1]),
        message('D', b"S\0"),
        message('D', b"Pp\0"),
        execute("", 0),
        execute("p", 1),
        execute("p", i32::MAX),
        message('C', b"Ss\0"),
        message('H', b""),
        message('S', b""),
        message('d', b"1\t2\n"),
        message('c', b""),
        message('f', b"enough\0"),
        message('F', &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
        message('p', b"secret\0"),
    ]);
    found
}

/// Packets before login.
fn greetings() -> Vec<Vec<u8>> {
    let packet = |body: &[u8]| [&(body.len() as u32 + 4).to_be_bytes()[..], body].concat();
    let startup = |version: u32, rest: &[u8]| packet(&[&version.to_be_bytes()[..], rest].concat());
    vec![
        startup(196_608, b"user\0ann\0database\0portrait\0\0"),
        startup(196_610, b"user\0ann\0database\0portrait\0options\0-c TimeZone=UTC\0\0"),
        startup(80_877_103, b""),
        startup(80_877_104, b""),
        startup(80_877_102, &[0, 0, 0, 1, 0, 0, 0, 2]),
        message('p', b"SCRAM-SHA-256\0\0\0\0\x20n,,n=,r=abcdefghijklmnopqrstuvwx"),
        message('Q', b"SELECT 1\0"),
    ]
}

/// One of the seeds, changed in one to four places, or not at all.
fn changed(random: &mut StdRng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds.choose(random).unwrap().clone();
    for _ in 0..random.random_range(0..5) {
        let at = random.random_range(0..bytes.len().max(1));
        match random.random_range(0..9) {
            0 => bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << random.random_range(0..8)),
            1 => bytes.truncate(at),
            2 => bytes.insert(at.min(bytes.len()), random.random()),
            3 => bytes.extend((0..random.random_range(0..64)).map(|_| random.random::<u8>())),
            // Lengths and counts: nothing, small, huge, negative.
            4 if bytes.len() >= 5 => {
                let length: i32 = *[0, 1, 3, 4, 5, 8, 1000, 70_000, i32::MAX, -1, i32::MIN].choose(random).unwrap();
                bytes[1..5].copy_from_slice(&length.to_be_bytes());
            }
            5 if bytes.len() > at + 1 => bytes[at..at + 2].copy_from_slice(&random.random_range(-1_i16..300).to_be_bytes()),
            6 => bytes.get_mut(0).into_iter().for_each(|byte| *byte = random.random()),
            7 => {
                let other = seeds.choose(random).unwrap();
                bytes.extend_from_slice(&other[..random.random_range(0..=other.len())]);
            }
            _ => bytes.get_mut(at).into_iter().for_each(|byte| *byte = 0),
        }
    }
    bytes
}

/// Sends what it likes on connections of its own; what the server says is thrown away.
async fn misbehave(address: SocketAddr, seed: u64, count: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let (seeds, greetings) = (seeds(), greetings());
    let mut sent = 0;
    while sent < count {
        let known = random.random_bool(0.8);
        let tcp = if known { Raw::ready(address).await.0 } else { TcpStream::connect(address).await.unwrap() };
        let (mut reader, mut writer) = tcp.into_split();
        let draining = tokio::spawn(async move {
            let mut buffer = vec![0; 1 << 16];
            while matches!(reader.read(&mut buffer).await, Ok(read) if read > 0) {}
        });
        for _ in 0..random.random_range(1..60) {
            let bytes = changed(&mut random, if known { &seeds } else { &greetings });
            sent += 1;
            if writer.write_all(&bytes).await.is_err() {
                break;
            }
        }
        // Now and then the client waits for the end of what it began; as a rule it is simply gone.
        if random.random_bool(0.1) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        drop(writer);
        draining.abort();
    }
}

fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn almost_right_messages_harm_nobody() {
    let (count, seed) = (from_environment("PORTRAIT_FUZZ", 20_000), from_environment("PORTRAIT_FUZZ_SEED", 1));
    let server = Server::start_with(portrait::config::AuthMode::Trust, None, |config| config.max_connections = 500);
    server.run(async {
        let control = server.connect("ann").await;
        // What is allocated once is not growth: a first round of the same, and each thread's own buffers.
        misbehave(server.address, seed ^ u64::MAX, count.min(5_000)).await;
        let before = resident_bytes();
        let workers: Vec<_> =
            (0..CLIENTS).map(|worker| tokio::spawn(misbehave(server.address, seed * 1_000 + worker, count / CLIENTS))).collect();
        let mut asked = 0;
        while workers.iter().any(|worker| !worker.is_finished()) {
            let answer = tokio::time::timeout(Duration::from_secs(30), control.query_one("SELECT 1 + 1", &[])).await;
            assert_eq!(answer.expect("the server answers others").unwrap().get::<_, i64>(0), 2);
            asked += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for worker in workers {
            worker.await.unwrap();
        }
        // Connections end; what they held is free again.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let grown = resident_bytes().saturating_sub(before);
        println!("{count} messages, {asked} answers to another client meanwhile, grown by {} MiB", grown >> 20);
        assert!(grown < GROWTH_BYTES, "the process grew by {} MiB", grown >> 20);
        let others = control.query_one("SELECT count(*) FROM pg_stat_activity", &[]).await.unwrap().get::<_, i64>(0);
        assert_eq!(others, 1, "connections that are gone are forgotten");
    });
}
