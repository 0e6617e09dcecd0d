//! The memory of this process.

/// Gives the kernel back what the program no longer uses. glibc's allocator keeps most of what is freed for the next time, which after
/// a list of thousands of objects is some megabytes. Does nothing with another C library.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number by value, may be called by any thread at any time, and touches only what is free.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
