//! What the CNI program leaves about pods beside its own records: it writes each address where host-local writes it, too, and
//! host-local's directory of a network stays when the last address is free.

use std::fs;
use std::path::{Path, PathBuf};

/// Of each network that the CNI program has a pool for, host-local's directory, if no address is reserved in it.
pub(super) fn of_host_local(pools: &Path, theirs: &Path) -> Vec<PathBuf> {
    let networks = fs::read_dir(pools).into_iter().flatten().flatten();
    networks
        .map(|network| theirs.join(network.file_name()))
        .filter(|directory| holds_no_address(directory))
        .collect()
}

/// What cannot be read may hold one.
fn holds_no_address(directory: &Path) -> bool {
    let Ok(mut entries) = fs::read_dir(directory) else {
        return false;
    };
    entries.all(|entry| {
        entry.is_ok_and(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name == "lock" || name.starts_with("last_reserved_ip.")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_ours_goes_when_no_address_is_in_it() {
        let root = tempfile::tempdir().expect("a directory");
        let (pools, theirs) = (root.path().join("pools"), root.path().join("networks"));
        for network in ["free", "held", "absent"] {
            fs::create_dir_all(pools.join(network)).expect("a pool");
        }
        for network in ["free", "held", "foreign"] {
            let directory = theirs.join(network);
            fs::create_dir_all(&directory).expect("a network");
            fs::write(directory.join("lock"), "").expect("a file");
            fs::write(directory.join("last_reserved_ip.0"), "10.244.0.2").expect("a file");
        }
        fs::write(theirs.join("held/10.244.0.2"), "container").expect("a file");
        assert_eq!(of_host_local(&pools, &theirs), [theirs.join("free")]);
    }
}
