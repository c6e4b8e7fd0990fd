//! How the C library's allocator gives memory back: large blocks at once, few arenas.
//!
//! The slow hash of an address takes 8 MiB for 5 ms. glibc raises its own threshold for separate
//! mappings after the first such block; from then on the blocks come from the heap, small
//! allocations settle in what they leave behind, and every new address costs 8 MiB for ever. A
//! fixed threshold keeps them apart.

/// Blocks from this size on are mapped alone and given back when they are freed.
const MAPPED_ALONE: libc::c_int = 1 << 20;
/// One arena for each core of a small home server; each more may keep its own free memory.
const ARENAS_MAX: libc::c_int = 2;

/// Sets the allocator's limits; call before threads start. Elsewhere than on glibc it does nothing.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `mallopt` takes two integers and touches only the allocator's own settings; no other
    // thread runs yet. A refusal (0) leaves the default, which is only larger.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_ALONE);
        libc::mallopt(libc::M_ARENA_MAX, ARENAS_MAX);
    }
}
