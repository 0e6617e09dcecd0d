//! Clocks that are wrong, for single programs: the kernel has but one.

use std::fs;

use anyhow::Result;

use crate::skip;

/// The environment in which a program takes this many seconds for past that are not, by libfaketime; the clock that goes evenly is left alone.
///
/// # Errors
/// The test is skipped where there is no such library.
pub fn apart(seconds: i64) -> Result<[(&'static str, String); 3]> {
    for entry in fs::read_dir("/usr/lib")? {
        let library = entry?.path().join("faketime/libfaketimeMT.so.1");
        if library.exists() {
            return Ok([
                ("LD_PRELOAD", library.display().to_string()),
                ("FAKETIME", format!("{seconds:+}")),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ]);
        }
    }
    skip("there is no libfaketime here")
}
