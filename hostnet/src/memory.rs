//! The memory of this process: what it no longer uses, and what it holds of files that it could read again, its own code above all. A daemon
//! needs little of that once it has started.

use std::ffi::c_void;
use std::fs;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;

use nix::sys::mman::{MmapAdvise, madvise};

/// Lets go of what is mapped of files and was never written to. What is needed again comes back from the page cache by itself, 64 KiB at a
/// time; nothing is lost. How many bytes of address space that was.
///
/// # Errors
/// `/proc` does not tell the mappings.
pub fn let_go_of_files() -> io::Result<usize> {
    let smaps = fs::read_to_string("/proc/self/smaps")?;
    let mut bytes = 0;
    for range in untouched(&smaps) {
        let Some(start) =
            NonNull::new(std::ptr::with_exposed_provenance_mut::<c_void>(range.start))
        else {
            continue;
        };
        // SAFETY: the range is a mapping of a file, private, which nobody in this process may write to and of which no page differs from the
        // file: each reads the same after it was dropped as before. It is not unmapped, so that no pointer into it dangles.
        let dropped = unsafe { madvise(start, range.len(), MmapAdvise::MADV_DONTNEED) };
        if dropped.is_ok() {
            bytes += range.len();
        }
    }
    Ok(bytes)
}

/// Gives the kernel back what the program no longer uses. glibc's allocator keeps most of what is freed for the next time, which after
/// a list of thousands of objects is some megabytes. Does nothing with another C library.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number by value, may be called by any thread at any time, and touches only what is free.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

/// The mappings of files that are private, not writable, and without a page of their own. Relocated constants have such pages, and are the
/// reason to look.
fn untouched(smaps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut current = None;
    for line in smaps.lines() {
        if let Some(mapping) = mapping(line) {
            current = mapping;
        } else if let Some(own) = line.strip_prefix("Anonymous:")
            && let Some(range) = current.take()
            && own.split_whitespace().next() == Some("0")
        {
            found.push(range);
        }
    }
    found
}

/// The range that a heading names if it is one that may qualify; nothing if the line is no heading.
fn mapping(line: &str) -> Option<Option<Range<usize>>> {
    let mut words = line.split_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let range = address(start)?..address(end)?;
    let permissions = words.next()?;
    let file = words.nth(3).is_some_and(|path| path.starts_with('/'));
    let qualifies = file && permissions.starts_with("r-") && permissions.ends_with('p');
    Some(qualifies.then_some(range))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
1000-3000 r--p 00000000 fe:00 77                    /opt/bin/flanneld
Rss:                   8 kB
Anonymous:             0 kB
AnonHugePages:         0 kB
3000-9000 r-xp 00002000 fe:00 77                    /opt/bin/flanneld
Anonymous:             0 kB
9000-b000 r--p 00008000 fe:00 77                    /opt/bin/flanneld
Anonymous:             4 kB
b000-c000 rw-p 0000a000 fe:00 77                    /opt/bin/flanneld
Anonymous:             0 kB
c000-d000 r--s 00000000 fe:00 78                    /run/shared
Anonymous:             0 kB
d000-f000 r-xp 00000000 00:00 0                     [vdso]
Anonymous:             0 kB
f000-ff00 rw-p 00000000 00:00 0 
Anonymous:             0 kB
";

    #[test]
    fn only_what_is_as_the_file_has_it_is_let_go() {
        assert_eq!(untouched(SMAPS), [0x1000..0x3000, 0x3000..0x9000]);
        assert_eq!(untouched("VmRSS: 7 kB\n\nAnonymous: 0 kB"), []);
    }

    #[test]
    fn the_process_goes_on_and_holds_less() {
        let text = || -> String { "a".repeat(3) + &format!("{:?}", [1.5, 2.5]) };
        let before = text();
        let bytes = let_go_of_files().unwrap();
        assert!(bytes > 100_000, "{bytes}");
        assert_eq!(text(), before);
    }
}
