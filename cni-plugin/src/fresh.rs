//! Settings of a link that was made a moment ago.
//!
//! Nobody else can have set them, so they are written without being read first: an ADD has a hundred system calls at most,
//! and [`hostnet::sysctl`], which spares the writing where it can, would take eight for each.

use std::fs::File;
use std::io::{self, Write};

/// Writes a setting of the calling thread's namespace, named by its path below `/proc/sys`. A setting that this kernel does
/// not have is none to be made.
///
/// # Errors
///
/// What the kernel says.
pub(crate) fn set(setting: &str, value: &str) -> io::Result<()> {
    match File::options()
        .write(true)
        .open(format!("/proc/sys/{setting}"))
    {
        Ok(mut file) => file.write_all(value.as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_is_not_there_is_no_error() {
        set("net/ipv4/conf/no.such.link/arp_notify", "1").unwrap();
    }

    #[test]
    fn a_setting_that_cannot_be_made_is_one() {
        // Refused to everybody.
        assert!(set("kernel/ostype", "Plan 9").is_err());
    }
}
