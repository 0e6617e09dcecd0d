//! A directory of the reference plugin host-local, in whatever state others left it.

use std::fs;

use ipam::Owner;
use ipam::host_local::{Holder, HostLocal};

use super::files;

pub(super) const FILES: &[&str] = &[
    "\u{1e}10.244.1.7\n",
    "\u{1e}fd00::7\n",
    "\u{1e}last_reserved_ip.0\n",
    "\u{1e}lock\n",
    "\u{1e}loden.new\n",
    "\u{1e}::ffff:10.244.1.7\n",
    "one\r\neth0",
    "one\neth0",
    "one",
    "two\r\neth0",
    "\r\n",
];

pub(super) fn directory(input: &[u8]) {
    for (_, content) in files(input) {
        if let Some(holder) = Holder::parse(content) {
            assert_eq!(
                Holder::parse(holder.to_string().as_bytes()).as_ref(),
                Some(&holder)
            );
        }
    }
    let root = tempfile::tempdir().expect("a directory for the files");
    let store = HostLocal::new(root.path(), "cbr0").expect("the name is allowed");
    fs::create_dir(store.directory()).expect("the directory is new");
    for (name, content) in files(input).filter(|(name, _)| !name.contains('/')) {
        fs::write(store.directory().join(name), content)
            .expect("the name is free or that of a file");
    }
    changes(&store);
}

/// What is promised of any directory whose files can be read.
fn changes(store: &HostLocal) {
    let one = Owner::new("one", "eth0").expect("the names are allowed");
    let names = || {
        let entries = fs::read_dir(store.directory()).expect("the directory is there");
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let before = store.reservations().expect("the files can be read");
    assert!(before.is_sorted_by_key(|held| held.address));
    let _ = store.last_reserved(0).expect("the file can be read");
    let locked = store.lock().expect("nobody else has the lock");

    let files_before = names();
    let released = locked.release_all(&one).expect("the files can be removed");
    let files_after = names();
    assert_eq!(files_before.len() - files_after.len(), released.len());
    assert!(released.iter().all(|held| before.contains(held)));
    let left = store.reservations().expect("the files can be read");
    assert_eq!(left.len() + released.len(), before.len());

    let address = "10.244.1.7".parse().expect("an address");
    let taken = store
        .reservation(address)
        .expect("the file can be read")
        .is_some();
    let reserved = locked.reserve(address, &one, 0);
    assert_eq!(reserved.is_err(), taken, "{reserved:?}");
    if reserved.is_ok() {
        assert_eq!(
            store.last_reserved(0).expect("the file can be read"),
            Some(address)
        );
        assert!(
            store
                .held_by(&one)
                .expect("the files can be read")
                .iter()
                .any(|held| held.address == address)
        );
        assert!(
            locked
                .release(address, &one)
                .expect("the file can be removed")
        );
    }
    for held in left {
        assert!(locked.remove(&held).expect("the file can be removed"));
    }
    assert_eq!(store.reservations().expect("the files can be read"), []);
}
