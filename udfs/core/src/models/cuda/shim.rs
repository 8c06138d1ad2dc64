//! A device that is none: the kernels compiled by the machine's C compiler, their blocks and lanes in loops, products of
//! matrices in the plainest way. What it computes is what a GPU computes, rounding apart, in the same orders.
//!
//! Memory has marks behind its end that are looked at when it is freed, so a kernel that writes too far is found.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use super::Device;
use super::backend::{Args, Backend, Later, Launch, Matrix, Product, out_of_memory};
use super::kernels;
use crate::error::{Error, Result};

/// `void kernel(const Args *, unsigned block, unsigned blocks, unsigned lanes, unsigned backwards, float *shared)`
type Kernel = unsafe extern "C" fn(*const Args, u32, u32, u32, u32, *mut f32);

/// Bytes behind every piece of memory, and what they hold.
const MARK: usize = 64;
const MARKED: u8 = 0xA5;

/// The compiled kernels of this test run.
#[derive(Debug)]
struct Library {
    kernels: BTreeMap<String, Kernel>,
    /// Holds the code that `kernels` points to.
    _library: libloading::Library,
}

/// Compiles all kernels once. Tests in other processes may do the same: each has a folder of its own.
fn library() -> &'static Library {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [source, library]: [PathBuf; 2] = ["kernels.c", "kernels.so"].map(|name| folder.path().join(name));
        std::fs::write(&source, kernels::source()).expect("the kernels' text is written");
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
        let flags = ["-x", "c", "-std=c11", "-O1", "-ffp-contract=off", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"];
        let unused = ["-Wno-unused-parameter", "-Wno-unused-function", "-Wno-unknown-pragmas"];
        let mut command = Command::new(&compiler);
        command.args(flags).args(unused).arg("-o").args([&library, &source]).arg("-lm");
        let done = command.output().unwrap_or_else(|error| panic!("the tests of kernels need a C compiler; \"{compiler}\": {error}"));
        assert!(done.status.success(), "the kernels are no C:\n{}", String::from_utf8_lossy(&done.stderr));
        // SAFETY: the library is our own and runs no code when it is loaded.
        let library = unsafe { libloading::Library::new(&library) }.expect("the kernels are loaded");
        let find = |name: &String| {
            // SAFETY: every kernel has this type.
            let kernel = unsafe { library.get::<Kernel>(name.as_bytes()) }.expect("the kernel is there");
            (name.clone(), *kernel)
        };
        let kernels = kernels::names().iter().map(find).collect();
        Library { kernels, _library: library }
    })
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Shim {
    library: &'static Library,
    /// Size of each piece of memory by its address.
    memory: Mutex<BTreeMap<u64, usize>>,
    /// Uploads of this step and the one before.
    uploads: Mutex<[Vec<Box<[u64]>>; 2]>,
    /// Bytes it has.
    limit: usize,
    /// Whether lanes run from the last to the first.
    backwards: bool,
}

impl Shim {
    /// A device with so many bytes of memory.
    pub(crate) fn device(limit: usize, backwards: bool) -> Arc<Device> {
        let (memory, uploads) = (Mutex::default(), Mutex::default());
        Device::new(Box::new(Self { library: library(), memory, uploads, limit, backwards }))
    }

    /// A device with enough memory.
    pub(crate) fn usual() -> Arc<Device> {
        Self::device(1 << 30, false)
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        assert!(self.memory.lock().unwrap().is_empty(), "memory of the device was not given back");
    }
}

fn slice<'a>(address: u64, bytes: usize) -> &'a mut [u8] {
    // SAFETY: addresses come from `alloc` and `upload`; orders run one after the other.
    unsafe { std::slice::from_raw_parts_mut(address as *mut u8, bytes) }
}

fn number(matrix: Matrix, of_batch: usize, row: usize, column: usize) -> *mut f32 {
    let (row, column) = if matrix.transposed { (column, row) } else { (row, column) };
    (matrix.address as *mut f32).wrapping_add(of_batch * matrix.step + row * matrix.stride + column)
}

impl Backend for Shim {
    fn alloc(&self, bytes: usize) -> Result<u64> {
        let mut memory = self.memory.lock().unwrap();
        if memory.values().sum::<usize>() + bytes > self.limit {
            return Err(out_of_memory(bytes));
        }
        let mut piece = vec![u64::MAX; (bytes + MARK).div_ceil(8)].into_boxed_slice();
        let address = piece.as_mut_ptr() as u64;
        std::mem::forget(piece);
        slice(address + bytes as u64, MARK).fill(MARKED);
        memory.insert(address, bytes);
        Ok(address)
    }

    fn free(&self, address: u64) {
        let bytes = self.memory.lock().unwrap().remove(&address).expect("memory of this device");
        assert!(slice(address + bytes as u64, MARK).iter().all(|mark| *mark == MARKED), "a kernel wrote behind its array");
        let words = (bytes + MARK).div_ceil(8);
        // SAFETY: `alloc` made it with this length.
        drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(address as *mut u64, words)) });
    }

    fn clear(&self, address: u64, bytes: usize) -> Result<()> {
        slice(address, bytes).fill(0);
        Ok(())
    }

    fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        slice(to, bytes).copy_from_slice(slice(from, bytes));
        Ok(())
    }

    fn write(&self, to: u64, bytes: &[u8]) -> Result<()> {
        slice(to, bytes.len()).copy_from_slice(bytes);
        Ok(())
    }

    fn read(&self, from: u64, into: &mut [u8]) -> Result<()> {
        into.copy_from_slice(slice(from, into.len()));
        Ok(())
    }

    fn read_later(&self, from: u64, count: usize) -> Result<Later> {
        let mut values = vec![0f32; count];
        let bytes = slice(from, 4 * count);
        values.iter_mut().zip(bytes.chunks_exact(4)).for_each(|(to, from)| *to = f32::from_le_bytes([from[0], from[1], from[2], from[3]]));
        Ok(Box::new(move || Ok(values)))
    }

    fn begin(&self) -> Result<()> {
        let mut uploads = self.uploads.lock().unwrap();
        uploads.swap(0, 1);
        uploads[0].clear();
        Ok(())
    }

    fn upload(&self, bytes: &[u8]) -> Result<u64> {
        let mut piece = vec![u64::MAX; bytes.len().div_ceil(8)].into_boxed_slice();
        let address = piece.as_mut_ptr() as u64;
        slice(address, bytes.len()).copy_from_slice(bytes);
        self.uploads.lock().unwrap()[0].push(piece);
        Ok(address)
    }

    fn multiply(&self, product: &Product) -> Result<()> {
        let Product { m, n, k, a, b, c, held, batch } = *product;
        for of_batch in 0..batch {
            for row in 0..m {
                for column in 0..n {
                    // SAFETY: the caller's matrices have these sizes.
                    unsafe {
                        let sum: f64 =
                            (0..k).map(|i| f64::from(*number(a, of_batch, row, i)) * f64::from(*number(b, of_batch, i, column))).sum();
                        let to = number(c, of_batch, row, column);
                        *to = if held { *to + sum as f32 } else { sum as f32 };
                    }
                }
            }
        }
        Ok(())
    }

    fn launch(&self, launch: &Launch) -> Result<()> {
        let kernel = self.library.kernels.get(launch.kernel);
        let kernel = kernel.ok_or_else(|| Error::internal(format!("there is no kernel \"{}\"", launch.kernel)))?;
        assert!(launch.lanes.is_power_of_two() && launch.lanes <= 256 && launch.shared_bytes <= 48 << 10, "{launch:?}");
        let mut shared = vec![f64::NAN; (launch.shared_bytes as usize).div_ceil(8) + MARK / 8];
        let marks = launch.shared_bytes as usize / 8 + 1;
        for block in 0..launch.blocks {
            let pointer: *mut c_void = shared.as_mut_ptr().cast();
            // SAFETY: kernels stay within the arrays they are told, or a mark says so.
            unsafe { kernel(&launch.args, block, launch.blocks, launch.lanes, u32::from(self.backwards), pointer.cast()) };
            assert!(shared[marks..].iter().all(|mark| mark.is_nan()), "\"{}\" writes behind what its lanes share", launch.kernel);
            shared.fill(f64::NAN);
        }
        Ok(())
    }
}
