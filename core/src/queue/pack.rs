//! The bytes of closed blocks, to which nothing is appended. Running their [`Job`], on any thread, compresses them.
//!
//! The format is zstd, level 1 (docs/src/internals/decisions.md, "Blocks of 64 KB, compressed with Zstandard at level
//! 1").

use std::cell::RefCell;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use super::bounds::BLOCK_BYTES;
use super::pieces::Pieces;
use crate::memory::allocated_bytes;

/// The most bytes that are compressed as one: expanding them takes a third of a millisecond. A single record that is
/// longer is not compressed.
pub(super) const PACKED_BYTES_MAX: usize = 512 * 1024;

/// Below this size the allocations cost more than compression saves.
const PACKED_BYTES_MIN: usize = 1024;

const LEVEL: i32 = 1;

/// Bytes, raw or compressed. Compressed bytes stay compressed.
#[derive(Debug)]
pub(super) struct Pack {
    /// Removed once `packed` is set. Locked only to remove it, or by the thread that owns the queue. A forked child
    /// that looks at `packed` first never finds it locked.
    raw: Mutex<Option<Arc<Vec<u8>>>>,
    /// `Some(None)` if compressing does not pay.
    packed: OnceLock<Option<Pieces>>,
}

enum Form<'a> {
    Packed(&'a Pieces),
    Raw(Arc<Vec<u8>>),
}

/// The work of compressing one [`Pack`], for any thread. Running it does nothing if the records are gone by then.
#[derive(Debug, Clone)]
pub struct Job {
    raw: Arc<Vec<u8>>,
    pack: Weak<Pack>,
}

impl Pack {
    /// Bytes to be compressed, and the job that compresses them, if that is likely to pay.
    pub fn raw(bytes: Vec<u8>) -> (Arc<Self>, Option<Job>) {
        let worth_it = (PACKED_BYTES_MIN..=PACKED_BYTES_MAX).contains(&bytes.len());
        let raw = Arc::new(bytes);
        let pack = Arc::new(Self { raw: Mutex::new(Some(raw.clone())), packed: OnceLock::new() });
        let job = worth_it.then(|| Job { raw, pack: Arc::downgrade(&pack) });
        (pack, job)
    }

    /// Bytes that [`Self::saved`] passed on. `None` unless they expand to exactly `len` bytes.
    pub fn packed(bytes: &[u8], len: usize) -> Option<Arc<Self>> {
        if len > PACKED_BYTES_MAX
            || !with_expanded(|out| out.extend_from_slice(bytes), len, |expanded| expanded.len() == len)
        {
            return None;
        }
        Some(Arc::new(Self { raw: Mutex::new(None), packed: OnceLock::from(Some(Pieces::of(bytes))) }))
    }

    /// Passes on the bytes as they are kept, and whether they are compressed.
    pub fn saved<R>(&self, with: impl FnOnce(&[u8], bool) -> R) -> R {
        match self.form() {
            Form::Packed(packed) => {
                let mut bytes = Vec::new();
                packed.append_to(&mut bytes);
                with(&bytes, true)
            }
            Form::Raw(raw) => with(&raw, false),
        }
    }

    /// The bytes themselves, `len` of them.
    pub fn with<R>(&self, len: usize, with: impl FnOnce(&[u8]) -> R) -> R {
        match self.form() {
            Form::Packed(packed) => with_expanded(|out| packed.append_to(out), len, with),
            Form::Raw(raw) => with(&raw),
        }
    }

    pub fn to_vec(&self, len: usize) -> Vec<u8> {
        self.with(len, <[u8]>::to_vec)
    }

    fn form(&self) -> Form<'_> {
        if let Some(Some(packed)) = self.packed.get() {
            return Form::Packed(packed);
        }
        let raw = self.raw.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match (raw, self.packed.get()) {
            (Some(raw), _) => Form::Raw(raw),
            // The raw bytes were removed just now, so the compressed ones are set.
            (None, Some(Some(packed))) => Form::Packed(packed),
            (None, _) => Form::Raw(Arc::default()),
        }
    }

    /// Bytes allocated, of `len` kept.
    pub fn memory_bytes(&self, len: usize) -> usize {
        let kept = match self.packed.get() {
            Some(Some(packed)) => packed.memory_bytes(),
            _ => allocated_bytes(len),
        };
        allocated_bytes(size_of::<Self>() + 2 * size_of::<usize>()) + kept
    }

    /// Allocations to free with it.
    pub fn allocations(&self) -> usize {
        2 + self.packed.get().and_then(Option::as_ref).map_or(1, Pieces::allocations)
    }

    /// The compressed buffers, unless they are shared.
    pub fn buffers_mut(pack: &mut Arc<Self>) -> impl Iterator<Item = &mut Vec<u8>> {
        let packed = Arc::get_mut(pack).and_then(|pack| pack.packed.get_mut()?.as_mut());
        packed.into_iter().flat_map(Pieces::buffers_mut)
    }
}

impl Job {
    pub fn run(self) {
        if self.pack.strong_count() == 0 {
            return;
        }
        let packed = compressed(&self.raw);
        let Some(pack) = self.pack.upgrade() else { return };
        let is_packed = packed.is_some();
        if pack.packed.set(packed).is_ok() && is_packed {
            pack.raw.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }
}

thread_local! {
    static COMPRESSOR: RefCell<Compressor> = const { RefCell::new(Compressor { zstd: None, buffer: Vec::new() }) };
    static EXPANDER: RefCell<Expander> =
        const { RefCell::new(Expander { zstd: None, packed: Vec::new(), buffer: Vec::new() }) };
}

/// A context and a buffer, reused by all calls.
struct Compressor {
    zstd: Option<zstd::bulk::Compressor<'static>>,
    buffer: Vec<u8>,
}

/// The compressed bytes, if they take less memory.
fn compressed(bytes: &[u8]) -> Option<Pieces> {
    COMPRESSOR.with(|slot| {
        let Compressor { zstd, buffer } = &mut *slot.try_borrow_mut().ok()?;
        let zstd = match zstd {
            Some(zstd) => zstd,
            empty => empty.insert(zstd::bulk::Compressor::new(LEVEL).ok()?),
        };
        make_room(buffer, zstd::zstd_safe::compress_bound(bytes.len()));
        zstd.compress_to_buffer(bytes, buffer).ok()?;
        let worth_it = allocated_bytes(buffer.len()) < allocated_bytes(bytes.len());
        worth_it.then(|| Pieces::of(buffer))
    })
}

/// Empties a buffer and makes room for `len` bytes. Returns the memory of a buffer that was needed for much more.
fn make_room(buffer: &mut Vec<u8>, len: usize) {
    buffer.clear();
    if buffer.capacity() > 2 * len.max(BLOCK_BYTES) {
        *buffer = Vec::new();
    }
    buffer.reserve_exact(len);
}

/// A context and buffers, reused by all calls.
#[derive(Default)]
struct Expander {
    zstd: Option<zstd::bulk::Decompressor<'static>>,
    packed: Vec<u8>,
    buffer: Vec<u8>,
}

impl Expander {
    /// Expands what `packed` appends, to at most `len` bytes; to nothing if that is not a zstd frame or holds more.
    fn expand(&mut self, packed: impl FnOnce(&mut Vec<u8>), len: usize) -> &[u8] {
        make_room(&mut self.packed, 0);
        packed(&mut self.packed);
        // No more than this is written, whatever length the frame states.
        make_room(&mut self.buffer, len);
        if self.zstd.is_none() {
            self.zstd = zstd::bulk::Decompressor::new().ok();
        }
        if let Some(zstd) = &mut self.zstd
            && zstd.decompress_to_buffer(&self.packed, &mut self.buffer).is_err()
        {
            self.buffer.clear();
        }
        &self.buffer
    }
}

fn with_expanded<R>(packed: impl FnOnce(&mut Vec<u8>), len: usize, with: impl FnOnce(&[u8]) -> R) -> R {
    EXPANDER.with(|expander| match expander.try_borrow_mut() {
        Ok(mut expander) => with(expander.expand(packed, len)),
        // A caller on this thread is using it already.
        Err(_) => with(Expander::default().expand(packed, len)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(len: usize) -> Vec<u8> {
        (0..len).map(|at| b"the quick brown fox "[at % 20]).collect()
    }

    #[test]
    fn bytes_are_the_same_before_and_after() {
        let bytes = text(60_000);
        let (pack, job) = Pack::raw(bytes.clone());
        assert_eq!(pack.to_vec(60_000), bytes);
        job.unwrap().run();
        assert_eq!(pack.to_vec(60_000), bytes);
        assert!(pack.memory_bytes(60_000) < 2_000);
        let saved = pack.saved(|bytes, packed| packed.then(|| bytes.to_vec())).unwrap();
        assert_eq!(Pack::packed(&saved, 60_000).unwrap().to_vec(60_000), bytes);
        for len in [0, 59_999, 60_001, PACKED_BYTES_MAX + 1, usize::MAX] {
            assert!(Pack::packed(&saved, len).is_none(), "{len}");
        }
    }

    #[test]
    fn what_does_not_shrink_or_is_too_large_stays() {
        let noise: Vec<u8> = (0..60_000u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
        let mut state = 1u64;
        let noise: Vec<u8> = noise
            .iter()
            .map(|byte| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                byte ^ (state >> 56) as u8
            })
            .collect();
        let (pack, job) = Pack::raw(noise.clone());
        job.unwrap().run();
        assert_eq!(pack.saved(|bytes, packed| (bytes.to_vec(), packed)), (noise, false));
        assert!(Pack::raw(text(PACKED_BYTES_MAX + 1)).1.is_none());
        assert!(Pack::raw(text(100)).1.is_none());
    }

    #[test]
    fn bytes_that_are_gone_are_not_compressed() {
        let (pack, job) = Pack::raw(text(60_000));
        drop(pack);
        job.unwrap().run();
    }

    #[test]
    fn readers_and_the_job_meet_at_any_time() {
        let bytes = text(30_000);
        for _ in 0..2_000 {
            let (pack, job) = Pack::raw(bytes.clone());
            let worker = std::thread::spawn(|| job.unwrap().run());
            assert!(pack.with(30_000, |read| read == bytes));
            worker.join().unwrap();
            assert!(pack.with(30_000, |read| read == bytes));
        }
    }

    #[test]
    fn any_bytes_are_refused_without_panic() {
        let mut state = 7u64;
        for round in 0..20_000usize {
            let mut packed = Vec::new();
            compressed(&text(5_000)).unwrap().append_to(&mut packed);
            for _ in 0..1 + round % 3 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (state >> 33) as usize % packed.len();
                packed[at] = (state >> 25) as u8;
            }
            if let Some(pack) = Pack::packed(&packed, 5_000) {
                assert_eq!(pack.to_vec(5_000).len(), 5_000);
            }
        }
    }
}
