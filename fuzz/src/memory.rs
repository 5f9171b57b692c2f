//! The memory that Rust code allocates, counted. The module makes the server's allocator that of the whole program; this is
//! that allocator.

use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};

use redis_module::raw;

static USED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" {
    fn malloc(bytes: usize) -> *mut c_void;
    fn calloc(count: usize, bytes: usize) -> *mut c_void;
    fn realloc(at: *mut c_void, bytes: usize) -> *mut c_void;
    fn free(at: *mut c_void);
    fn malloc_usable_size(at: *mut c_void) -> usize;
}

fn add(at: *mut c_void) -> *mut c_void {
    // SAFETY: the block was just allocated, or is null, whose size is 0.
    let bytes = unsafe { malloc_usable_size(at) };
    let used = USED.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(used, Ordering::Relaxed);
    at
}

fn subtract(at: *mut c_void) {
    // SAFETY: the caller has a block, or null.
    USED.fetch_sub(unsafe { malloc_usable_size(at) }, Ordering::Relaxed);
}

// SAFETY of all four: the arguments are those of the C library's functions.
pub(crate) unsafe extern "C" fn alloc(bytes: usize) -> *mut c_void {
    // SAFETY: see above.
    add(unsafe { malloc(bytes) })
}

pub(crate) unsafe extern "C" fn alloc_zeroed(count: usize, bytes: usize) -> *mut c_void {
    // SAFETY: see above.
    add(unsafe { calloc(count, bytes) })
}

pub(crate) unsafe extern "C" fn resize(at: *mut c_void, bytes: usize) -> *mut c_void {
    subtract(at);
    // SAFETY: see above.
    add(unsafe { realloc(at, bytes) })
}

pub(crate) unsafe extern "C" fn release(at: *mut c_void) {
    subtract(at);
    // SAFETY: see above.
    unsafe { free(at) }
}

extern "C" fn install() {
    // SAFETY: nothing else runs yet.
    unsafe {
        raw::RedisModule_Alloc = Some(alloc);
        raw::RedisModule_Calloc = Some(alloc_zeroed);
        raw::RedisModule_Realloc = Some(resize);
        raw::RedisModule_Free = Some(release);
    }
}

/// Runs before `main`, which allocates long before a target loads the module.
#[used]
#[unsafe(link_section = ".init_array")]
static INSTALL: extern "C" fn() = install;

/// Bytes that any input may take, mostly of buffers that are kept: the queue's for 512 KB of expanded records, the
/// cache's for 256 KB.
const ANY_INPUT: usize = 8 << 20;

/// Bytes that each byte of the input may take: the smallest lease of an account takes some bytes, and an entry in memory.
const PER_BYTE: usize = 512;

/// Runs `body`, and checks that it allocates no more at a time than an input of `len` bytes justifies.
pub fn bounded<T>(len: usize, body: impl FnOnce() -> T) -> T {
    let before = USED.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = body();
    let taken = PEAK.load(Ordering::Relaxed).saturating_sub(before);
    assert!(taken <= ANY_INPUT + PER_BYTE * len, "{len} bytes of input took {taken} bytes of memory");
    result
}

/// A block's bytes in another place.
///
/// # Safety
/// The block is one of [`alloc`]'s; it is freed.
pub(crate) unsafe fn moved(at: *mut c_void) -> *mut c_void {
    // SAFETY: both blocks have room for that many bytes.
    unsafe {
        let bytes = malloc_usable_size(at);
        let to = alloc(bytes);
        std::ptr::copy_nonoverlapping(at.cast::<u8>(), to.cast::<u8>(), bytes);
        release(at);
        to
    }
}
