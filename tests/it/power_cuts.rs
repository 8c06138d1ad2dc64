//! What a power cut leaves: only what was fsynced, and everything that was acknowledged.
//!
//! The data directory lies on an ext4 image that writes nothing back by itself for five minutes. The server is stopped in the
//! middle of its work and the image copied: what is in the page cache alone is not in the copy. The next server starts on the
//! copy, as it would after the power came back. Needs root and loop devices; elsewhere the test says that it did nothing.
//!
//! `PORTRAIT_CUTS` says how often (2 times unless it is set; 100 at full size).

use std::path::Path;

use crate::common::disk::{Mounted, make_image};
use crate::common::server::{ServerProcess, connect, seen};
use crate::common::workload::Workload;
use crate::common::{Random, count};

const IMAGE_BYTES: u64 = 2 << 30;

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let (image, next) = (folder.path().join("now.img"), folder.path().join("next.img"));
    let disk = match make_image(&image, IMAGE_BYTES).and_then(|()| Mounted::image(&image)) {
        Ok(disk) => disk,
        Err(why) => return println!("skipped, no power was cut: {why}"),
    };
    unsynced_files_are_lost(&disk, &image, &next);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(cut_again_and_again(count("PORTRAIT_CUTS", 2), disk, &image, &next));
}

/// A way of cutting that loses nothing at all would prove nothing.
fn unsynced_files_are_lost(disk: &Mounted, image: &Path, copy: &Path) {
    use std::io::Write;
    for (name, synced) in [("synced", true), ("unsynced", false)] {
        let mut file = std::fs::File::create(disk.path().join(name)).unwrap();
        file.write_all(b"there").unwrap();
        if synced {
            file.sync_all().unwrap();
        }
    }
    std::fs::File::open(disk.path()).unwrap().sync_all().unwrap();
    std::fs::write(disk.path().join("late"), "there").unwrap();
    std::fs::write(disk.path().join("unsynced"), "there, and more").unwrap();
    copy_image(image, copy);
    let after = Mounted::image(copy).unwrap();
    let read = |name: &str| std::fs::read_to_string(after.path().join(name)).unwrap_or_default();
    assert_eq!((read("synced").as_str(), read("late").as_str()), ("there", ""));
    assert_ne!(read("unsynced"), "there, and more");
}

async fn cut_again_and_again(cuts: u32, mut disk: Mounted, image: &Path, next: &Path) {
    let (workload, mut random) = (Workload::default(), Random(4242));
    let mut longest = std::time::Duration::ZERO;
    for cut in 0..=cuts {
        let data = disk.path().join("data");
        let mut server = ServerProcess::start(&data, &[]);
        let client = connect(server.port()).await.unwrap();
        if cut == 0 {
            workload.prepare(&data, &client).await;
            // That file is the test's own, not the server's: nobody promised to keep it.
            std::fs::File::open(data.join("files/incoming.csv")).and_then(|file| file.sync_all()).unwrap();
            std::fs::File::open(data.join("files")).and_then(|folder| folder.sync_all()).unwrap();
        } else {
            seen(&client, "SELECT count(*) FROM events").await;
            longest = longest.max(server.age());
            workload.check(&client).await.unwrap_or_else(|faults| panic!("after cut {cut}:\n{faults}"));
            if cut % 25 == 0 {
                println!("{cut} cuts");
            }
        }
        drop(client);
        if cut == cuts {
            break;
        }
        let tasks = workload.begin(server.port());
        tokio::time::sleep(random.millis(0, 2000)).await;
        server.signal(libc::SIGSTOP);
        // What the kernel does for the server at this moment comes to its end: a copy takes a while, a cut does not.
        std::thread::sleep(std::time::Duration::from_millis(100));
        copy_image(image, next);
        server.kill();
        for task in tasks {
            task.await.unwrap();
        }
        drop(disk);
        std::fs::rename(next, image).unwrap();
        disk = Mounted::image(image).unwrap();
    }
    println!("{cuts} cuts; from the start to the first answer at most {longest:?}");
    println!("{}", workload.report());
}

fn copy_image(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp").arg("--sparse=always").args([from, to]).status().unwrap();
    assert!(done.success());
}
