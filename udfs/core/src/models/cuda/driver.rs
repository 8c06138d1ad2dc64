//! NVIDIA's driver, NVRTC and cuBLAS as a [`Backend`]. All libraries are opened when they are first called; what the crate
//! `cudarc` does about one that is missing, or too old for a call, is to panic, so nothing here is called before
//! [`find`] and [`open`] have looked, and both catch what they did not see coming.
//!
//! One stream computes; another brings batches from pinned memory, two steps' worth of it, so that the next batch travels
//! while the last is computed with.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::cublas::{result as blas, sys as blas_sys};
use cudarc::driver::{result as cuda, sys};
use cudarc::nvrtc::{result as nvrtc, sys as nvrtc_sys};

use super::backend::{Backend, Later, Launch, Layers, Matrix, Precision, Product, out_of_memory};
use super::choose::Gpu;
use super::cudnn::Cudnn;
use super::kernels;
use crate::error::{Error, Result};

/// Bytes of the pinned memory that batches travel through, at least.
const UPLOAD_MIN: usize = 4 << 20;
/// Where uploads begin: at multiples of this.
const ALIGNMENT: usize = 256;

type Found<T> = std::result::Result<T, String>;

/// The error of a call that cannot fail unless the device does.
pub(super) fn failed(what: &str, error: impl std::fmt::Debug) -> Error {
    Error::internal(format!("the device failed to {what}: {error:?}"))
}

/// Runs what may panic because a library or one of its functions is missing.
fn guarded<T>(run: impl FnOnce() -> Found<T>) -> Found<T> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err("A library of CUDA is too old for this build".into()))
}

/// The GPUs of this machine.
///
/// # Errors
/// Why there is none.
pub(super) fn find() -> Found<Vec<Gpu>> {
    guarded(|| {
        // SAFETY: opening NVIDIA's driver runs its start-up code only.
        if !unsafe { sys::is_culib_present() } {
            return Err("NVIDIA's driver (libcuda.so.1) is not installed".into());
        }
        let say = |error: cuda::DriverError| format!("NVIDIA's driver finds no GPU that works ({})", name(error));
        cuda::init().map_err(say)?;
        let count = cuda::device::get_count().map_err(say)?;
        let gpu = |index: i32| {
            let device = cuda::device::get(index)?;
            // SAFETY: the device comes from the driver.
            let memory_bytes = unsafe { cuda::device::total_mem(device) }?;
            Ok(Gpu { index: index as usize, name: cuda::device::get_name(device)?, memory_bytes })
        };
        let gpus: Vec<Gpu> = (0..count).map(gpu).collect::<std::result::Result<_, _>>().map_err(say)?;
        if gpus.is_empty() { Err("This machine has no GPU".into()) } else { Ok(gpus) }
    })
}

fn name(error: cuda::DriverError) -> String {
    format!("{:?}", error.0)
}

/// Opens a GPU that [`find`] found.
///
/// # Errors
/// Which library is missing, or what failed.
pub(super) fn open(index: usize, precision: Precision) -> Found<Driver> {
    guarded(|| {
        // SAFETY: opening these libraries runs their start-up code only.
        let missing = unsafe {
            match (cudarc::nvrtc::sys::is_culib_present(), cudarc::cublas::sys::is_culib_present()) {
                (false, _) => Some("NVRTC (libnvrtc.so.13)"),
                (_, false) => Some("cuBLAS (libcublas.so.13)"),
                _ => None,
            }
        };
        if let Some(library) = missing {
            return Err(format!("{library} was not found; LD_LIBRARY_PATH must name its folder"));
        }
        Driver::new(index, precision)
    })
}

/// A GPU. Orders of one driver come from one thread at a time: those who share it take turns.
pub(super) struct Driver {
    context: sys::CUcontext,
    ordinal: sys::CUdevice,
    stream: sys::CUstream,
    /// Brings uploads.
    copies: sys::CUstream,
    module: sys::CUmodule,
    functions: BTreeMap<String, sys::CUfunction>,
    blas: blas_sys::cublasHandle_t,
    compute: blas_sys::cublasComputeType_t,
    uploads: Mutex<Uploads>,
    /// Pinned memory for numbers on their way back, that nobody uses now.
    slots: Arc<Mutex<Vec<Slot>>>,
    layers: Option<Cudnn>,
}

// SAFETY: the driver's handles may be used from any thread whose current context is theirs, which every method sees to.
unsafe impl Send for Driver {}
// SAFETY: as above; orders come from one thread at a time.
unsafe impl Sync for Driver {}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("ordinal", &self.ordinal).finish_non_exhaustive()
    }
}

/// Pinned memory and its twin on the device.
struct Piece {
    host: *mut u8,
    device: sys::CUdeviceptr,
    bytes: usize,
    used: usize,
}

/// What was uploaded in one step.
struct Area {
    pieces: Vec<Piece>,
    /// When all orders of the step are done.
    done: sys::CUevent,
}

struct Uploads {
    areas: [Area; 2],
    at: usize,
    /// When the last upload is there.
    arrived: sys::CUevent,
}

/// Pinned memory for a few numbers, and when they are there.
struct Slot {
    host: *mut f32,
    count: usize,
    arrived: sys::CUevent,
}

// SAFETY: pinned memory and events may be used from any thread.
unsafe impl Send for Slot {}
// SAFETY: as above; nothing changes them through a shared reference.
unsafe impl Sync for Slot {}

fn event() -> std::result::Result<sys::CUevent, cuda::DriverError> {
    cuda::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)
}

impl Driver {
    fn new(index: usize, precision: Precision) -> Found<Self> {
        let say = |error: cuda::DriverError| format!("The GPU cannot be opened ({})", name(error));
        let ordinal = cuda::device::get(index as i32).map_err(say)?;
        // SAFETY: the device comes from the driver; the context is released when this is dropped.
        let context = unsafe { cuda::primary_ctx::retain(ordinal) }.map_err(say)?;
        // SAFETY: as above.
        unsafe { cuda::ctx::set_current(context) }.map_err(say)?;
        let image = image(ordinal)?;
        // SAFETY: the image is a whole cubin.
        let module = unsafe { cuda::module::load_data(image.as_ptr().cast()) }.map_err(say)?;
        let mut functions = BTreeMap::new();
        for name in kernels::names() {
            let symbol = CString::new(name.as_str()).map_err(|error| error.to_string())?;
            // SAFETY: the module is loaded.
            functions.insert(name, unsafe { cuda::module::get_function(module, symbol) }.map_err(say)?);
        }
        let non_blocking = || cuda::stream::create(cuda::stream::StreamKind::NonBlocking);
        let (stream, copies) = (non_blocking().map_err(say)?, non_blocking().map_err(say)?);
        let handle = blas::create_handle().map_err(|error| format!("cuBLAS cannot be started ({error:?})"))?;
        // SAFETY: both are new; cuBLAS knows the driver's streams under another name.
        unsafe { blas::set_stream(handle, stream.cast()) }.map_err(|error| format!("cuBLAS cannot be started ({error:?})"))?;
        let area = || Ok(Area { pieces: Vec::new(), done: event()? });
        let uploads = || Ok(Uploads { areas: [area()?, area()?], at: 0, arrived: event()? });
        Ok(Self {
            context,
            ordinal,
            stream,
            copies,
            module,
            functions,
            blas: handle,
            compute: match precision {
                Precision::Full => blas_sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
                Precision::Tf32 => blas_sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
                Precision::Bf16 => blas_sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_16BF,
            },
            uploads: Mutex::new(uploads().map_err(say)?),
            slots: Arc::default(),
            layers: Cudnn::open(stream, precision),
        })
    }

    /// Makes the GPU's context that of this thread.
    fn enter(&self) -> Result<()> {
        // SAFETY: the context lives as long as this.
        unsafe { cuda::ctx::set_current(self.context) }.map_err(|error| failed("answer", error))
    }

    fn wait(&self) -> Result<()> {
        // SAFETY: the stream lives as long as this.
        unsafe { cuda::stream::synchronize(self.stream) }.map_err(|error| failed("compute", error))
    }

    /// A piece of the step's area with room for `bytes`.
    fn room(uploads: &mut Uploads, bytes: usize) -> Result<&mut Piece> {
        let pieces = &mut uploads.areas[uploads.at].pieces;
        if pieces.last().is_none_or(|piece| piece.used + bytes > piece.bytes) {
            let most = pieces.last().map_or(UPLOAD_MIN, |piece| 2 * piece.bytes).max(bytes.next_multiple_of(ALIGNMENT));
            // SAFETY: both are freed when the driver is dropped.
            let device = unsafe { cuda::malloc_sync(most) }.map_err(|_| out_of_memory(most))?;
            // SAFETY: as above.
            let host = unsafe { cuda::malloc_host(most, 0) }.map_err(|_| out_of_memory(most))?;
            pieces.push(Piece { host: host.cast(), device, bytes: most, used: 0 });
        }
        pieces.last_mut().ok_or_else(|| Error::internal("an upload found no room"))
    }
}

impl Backend for Driver {
    fn alloc(&self, bytes: usize) -> Result<u64> {
        self.enter()?;
        // SAFETY: freed by `free`.
        unsafe { cuda::malloc_sync(bytes) }.map_err(|error| match error.0 {
            sys::cudaError_enum::CUDA_ERROR_OUT_OF_MEMORY => out_of_memory(bytes),
            _ => failed("give memory", error),
        })
    }

    fn free(&self, address: u64) {
        if self.enter().is_ok() {
            // SAFETY: it comes from `alloc`; the driver waits for what still uses it.
            let freed = unsafe { cuda::free_sync(address) };
            debug_assert!(freed.is_ok(), "{freed:?}");
        }
    }

    fn clear(&self, address: u64, bytes: usize) -> Result<()> {
        self.enter()?;
        // SAFETY: the caller's memory.
        unsafe { cuda::memset_d8_async(address, 0, bytes, self.stream) }.map_err(|error| failed("clear memory", error))
    }

    fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        self.enter()?;
        // SAFETY: the caller's memory.
        unsafe { cuda::memcpy_dtod_async(to, from, bytes, self.stream) }.map_err(|error| failed("copy memory", error))
    }

    fn write(&self, to: u64, bytes: &[u8]) -> Result<()> {
        self.enter()?;
        // SAFETY: the caller's memory; `bytes` live until the stream has waited.
        unsafe { cuda::memcpy_htod_async(to, bytes, self.stream) }.map_err(|error| failed("take memory", error))?;
        self.wait()
    }

    fn read(&self, from: u64, into: &mut [u8]) -> Result<()> {
        self.enter()?;
        // SAFETY: the caller's memory; `into` lives until the stream has waited.
        unsafe { cuda::memcpy_dtoh_async(into, from, self.stream) }.map_err(|error| failed("give results", error))?;
        self.wait()
    }

    fn read_later(&self, from: u64, count: usize) -> Result<Later> {
        self.enter()?;
        let say = |error: cuda::DriverError| failed("give results", error);
        let held = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.iter().position(|slot| slot.count >= count).map(|at| slots.swap_remove(at))
        };
        let slot = match held {
            Some(slot) => slot,
            // SAFETY: freed when the driver is dropped.
            None => Slot { host: unsafe { cuda::malloc_host(4 * count, 0) }.map_err(say)?.cast(), count, arrived: event().map_err(say)? },
        };
        // SAFETY: the slot is ours until the event, and holds `count` numbers.
        unsafe {
            cuda::memcpy_dtoh_async(std::slice::from_raw_parts_mut(slot.host, count), from, self.stream).map_err(say)?;
            cuda::event::record(slot.arrived, self.stream).map_err(say)?;
        }
        let (slots, context) = (Arc::clone(&self.slots), self.context as usize);
        Ok(Box::new(move || {
            let slot = slot;
            // SAFETY: callers drop what they wait for before the device; the numbers are there after the event.
            let values = unsafe {
                cuda::ctx::set_current(context as sys::CUcontext).map_err(say)?;
                cuda::event::synchronize(slot.arrived).map_err(say)?;
                std::slice::from_raw_parts(slot.host, count).to_vec()
            };
            slots.lock().unwrap_or_else(PoisonError::into_inner).push(slot);
            Ok(values)
        }))
    }

    fn begin(&self) -> Result<()> {
        self.enter()?;
        let mut uploads = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        let say = |error: cuda::DriverError| failed("begin a step", error);
        // SAFETY: events and stream live as long as this.
        unsafe {
            cuda::event::record(uploads.areas[uploads.at].done, self.stream).map_err(say)?;
            uploads.at = 1 - uploads.at;
            cuda::event::synchronize(uploads.areas[uploads.at].done).map_err(say)?;
        }
        let at = uploads.at;
        let pieces = &mut uploads.areas[at].pieces;
        // The last piece is the largest: once it holds a step, the others are not needed.
        pieces.iter_mut().for_each(|piece| piece.used = 0);
        while pieces.len() > 1 {
            free_piece(&pieces.remove(0));
        }
        Ok(())
    }

    fn upload(&self, bytes: &[u8]) -> Result<u64> {
        self.enter()?;
        let mut uploads = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        let say = |error: cuda::DriverError| failed("take a batch", error);
        let piece = Self::room(&mut uploads, bytes.len())?;
        let at = piece.used;
        piece.used = (at + bytes.len()).next_multiple_of(ALIGNMENT);
        let to = piece.device + at as u64;
        // SAFETY: `room` saw to the room, which no copy of an earlier step uses any more: `begin` has waited.
        unsafe {
            let held = std::slice::from_raw_parts_mut(piece.host.add(at), bytes.len());
            held.copy_from_slice(bytes);
            cuda::memcpy_htod_async(to, held, self.copies).map_err(say)?;
            cuda::event::record(uploads.arrived, self.copies).map_err(say)?;
            let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
            cuda::stream::wait_event(self.stream, uploads.arrived, flags).map_err(say)?;
        }
        Ok(to)
    }

    /// cuBLAS counts columns first: what lies row by row is the transpose to it, so it computes `cᵀ = bᵀ · aᵀ`.
    fn multiply(&self, product: &Product) -> Result<()> {
        self.enter()?;
        let Product { m, n, k, a, b, c, held, batch } = *product;
        let turned = |matrix: Matrix| match matrix.transposed {
            true => blas_sys::cublasOperation_t::CUBLAS_OP_T,
            false => blas_sys::cublasOperation_t::CUBLAS_OP_N,
        };
        let (one, beta) = (1f32, if held { 1f32 } else { 0f32 });
        let scalar = |value: &f32| std::ptr::from_ref(value).cast::<c_void>();
        let float = blas_sys::cudaDataType_t::CUDA_R_32F;
        let algorithm = blas_sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT;
        // SAFETY: the caller's matrices have these sizes; the scalars are read before the call returns.
        let status = unsafe {
            blas_sys::cublasGemmStridedBatchedEx(
                self.blas,
                turned(b),
                turned(a),
                n as i32,
                m as i32,
                k as i32,
                scalar(&one),
                b.address as *const c_void,
                float,
                b.stride as i32,
                b.step as i64,
                a.address as *const c_void,
                float,
                a.stride as i32,
                a.step as i64,
                scalar(&beta),
                c.address as *mut c_void,
                float,
                c.stride as i32,
                c.step as i64,
                batch as i32,
                self.compute,
                algorithm,
            )
        };
        match status {
            blas_sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS => Ok(()),
            blas_sys::cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED => Err(out_of_memory(0)),
            other => Err(failed("multiply", other)),
        }
    }

    fn launch(&self, launch: &Launch) -> Result<()> {
        self.enter()?;
        let function = self.functions.get(launch.kernel);
        let function = *function.ok_or_else(|| Error::internal(format!("there is no kernel \"{}\"", launch.kernel)))?;
        let mut args = launch.args;
        let mut parameters = [std::ptr::from_mut(&mut args).cast::<c_void>()];
        let (grid, block) = ((launch.blocks, 1, 1), (launch.lanes, 1, 1));
        // SAFETY: every kernel takes one `Args`, which the driver copies, and stays within the arrays that it names.
        unsafe { cuda::launch_kernel(function, grid, block, launch.shared_bytes, self.stream, &mut parameters) }
            .map_err(|error| failed(&format!("run \"{}\"", launch.kernel), error))
    }

    fn layers(&self) -> Option<&dyn Layers> {
        self.layers.as_ref().map(|layers| layers as &dyn Layers)
    }
}

fn free_piece(piece: &Piece) {
    // SAFETY: the piece is not used any more.
    unsafe {
        let _ = cuda::free_sync(piece.device);
        let _ = cuda::free_host(piece.host.cast());
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if self.enter().is_err() {
            return;
        }
        let _ = self.wait();
        self.layers = None;
        let uploads = self.uploads.get_mut().unwrap_or_else(PoisonError::into_inner);
        uploads.areas.iter().flat_map(|area| &area.pieces).for_each(free_piece);
        // SAFETY: nothing is used after this, and the streams are done.
        unsafe {
            for slot in std::mem::take(&mut *self.slots.lock().unwrap_or_else(PoisonError::into_inner)) {
                let _ = (cuda::event::destroy(slot.arrived), cuda::free_host(slot.host.cast()));
            }
            let [one, two] = [uploads.areas[0].done, uploads.areas[1].done];
            for event in [one, two, uploads.arrived] {
                let _ = cuda::event::destroy(event);
            }
            let _ = (blas::destroy_handle(self.blas), cuda::module::unload(self.module));
            let _ = (cuda::stream::destroy(self.copies), cuda::stream::destroy(self.stream));
            let _ = cuda::primary_ctx::release(self.ordinal);
        }
    }
}

/// The kernels compiled for a GPU: from the cache, or by NVRTC.
fn image(device: sys::CUdevice) -> Found<Vec<u8>> {
    let attribute = |which| {
        // SAFETY: the device comes from the driver.
        unsafe { cuda::device::get_attribute(device, which) }.map_err(|error| format!("The GPU does not say what it is ({})", name(error)))
    };
    let major = attribute(sys::CUdevice_attribute_enum::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(sys::CUdevice_attribute_enum::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    let (mut version, mut patch) = (0, 0);
    // SAFETY: both are written.
    unsafe { nvrtc_sys::nvrtcVersion(&mut version, &mut patch) }
        .result()
        .map_err(|error| format!("NVRTC cannot be started ({error:?})"))?;
    let architecture = format!("sm_{major}{minor}");
    let source = kernels::source();
    let key = blake3::hash(format!("{architecture} {version}.{patch}\n{source}").as_bytes()).to_hex();
    let cached = cache_folder().map(|folder| folder.join(format!("{architecture}-{}.cubin", &key[..32])));
    if let Some(image) = cached.as_deref().and_then(|path| std::fs::read(path).ok()).filter(|image| image.starts_with(b"\x7fELF")) {
        return Ok(image);
    }
    let image = compile(&source, &architecture)?;
    if let Some(path) = &cached
        && let Err(error) = store(path, &image)
    {
        tracing::info!("compiled kernels are not kept in {}: {error}", path.display());
    }
    Ok(image)
}

/// Where compiled kernels are kept between runs; `None` without a home.
fn cache_folder() -> Option<PathBuf> {
    let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    named("PORTRAIT_CUDA_CACHE")
        .or_else(|| named("XDG_CACHE_HOME").map(|folder| folder.join("portrait")))
        .or_else(|| named("HOME").map(|folder| folder.join(".cache").join("portrait")))
}

/// Writes beside and renames: others see the whole file or none.
fn store(path: &Path, image: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder)?;
    let beside = path.with_extension(format!("{}.tmp", std::process::id()));
    std::fs::write(&beside, image)?;
    std::fs::rename(&beside, path)
}

fn compile(source: &str, architecture: &str) -> Found<Vec<u8>> {
    let text = CString::new(source).map_err(|error| error.to_string())?;
    let program = nvrtc::create_program(&text, Some(c"portrait.cu")).map_err(|error| format!("NVRTC cannot be started ({error:?})"))?;
    let options = [format!("--gpu-architecture={architecture}"), "--std=c++17".into()];
    // SAFETY: the program lives until it is destroyed below.
    unsafe {
        let compiled = nvrtc::compile_program(program, &options).map_err(|error| {
            let log = nvrtc::get_program_log(program).unwrap_or_default();
            let log = if log.is_empty() { String::new() } else { CStr::from_ptr(log.as_ptr()).to_string_lossy().trim().to_owned() };
            format!("NVRTC cannot compile the kernels for {architecture} ({error:?}): {log}")
        });
        let image = compiled.and_then(|()| {
            let say = |error| format!("NVRTC gives no kernels for {architecture} ({error:?})");
            let mut bytes = 0;
            nvrtc_sys::nvrtcGetCUBINSize(program, &mut bytes).result().map_err(say)?;
            let mut image = vec![0u8; bytes];
            nvrtc_sys::nvrtcGetCUBIN(program, image.as_mut_ptr().cast()).result().map_err(say)?;
            Ok(image)
        });
        let _ = nvrtc::destroy_program(program);
        image
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without a GPU the libraries are missing, or their calls fail: both are sentences, never a panic.
    #[test]
    fn what_is_missing_is_said() {
        if let Err(reason) = find() {
            assert!(reason.contains("GPU") || reason.contains("libcuda"), "{reason}");
            assert!(open(0, Precision::Full).is_err());
        }
    }

    #[test]
    fn compiled_kernels_are_kept_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep").join("sm_90-x.cubin");
        store(&path, b"\x7fELF one").unwrap();
        store(&path, b"\x7fELF two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"\x7fELF two");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    /// Where NVRTC is, the kernels compile for the GPUs of the last years; elsewhere their C is what tests see.
    #[test]
    fn kernels_compile_where_the_compiler_is() {
        // SAFETY: opening the library runs its start-up code only.
        if !unsafe { cudarc::nvrtc::sys::is_culib_present() } {
            return;
        }
        for architecture in ["sm_80", "sm_90"] {
            assert!(compile(&kernels::source(), architecture).unwrap().starts_with(b"\x7fELF"));
        }
        assert!(compile("not a kernel", "sm_90").unwrap_err().contains("portrait.cu"));
    }
}
