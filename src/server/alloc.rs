//! The server's allocator as Rust's, so that `used_memory`, `maxmemory` and `MEMORY` count the module's memory.

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;

use redis_module::raw;

pub struct ServerAlloc;

/// The allocators of all supported servers align to 16 bytes. A larger alignment is met by rounding the size up to a
/// multiple of it, since jemalloc and glibc align larger blocks accordingly; nothing in the module asks for one.
fn padded(size: usize, align: usize) -> usize {
    size.next_multiple_of(align.max(1))
}

// SAFETY: the server's functions are malloc, calloc, realloc and free with accounting. Their pointers are filled in by
// the first line of `RedisModule_OnLoad`, and the module allocates nothing before.
unsafe impl GlobalAlloc for ServerAlloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the pointer is written once, at load; the server's malloc takes any size.
        unsafe {
            match raw::RedisModule_Alloc {
                Some(alloc) => alloc(padded(layout.size(), layout.align())).cast(),
                None => std::ptr::null_mut(),
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        unsafe {
            match raw::RedisModule_Calloc {
                Some(calloc) => calloc(1, padded(layout.size(), layout.align())).cast(),
                None => std::ptr::null_mut(),
            }
        }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as in `alloc`; the caller passes a block that one of these functions returned.
        unsafe {
            match raw::RedisModule_Realloc {
                Some(realloc) => realloc(at.cast::<c_void>(), padded(new_size, layout.align())).cast(),
                None => std::ptr::null_mut(),
            }
        }
    }

    unsafe fn dealloc(&self, at: *mut u8, _layout: Layout) {
        // SAFETY: as in `realloc`.
        unsafe {
            if let Some(free) = raw::RedisModule_Free {
                free(at.cast::<c_void>());
            }
        }
    }
}
