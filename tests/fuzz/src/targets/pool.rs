//! The files of the pool of pod addresses, as a bad disk, an administrator or another version may leave them.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use ipam::pool::{BootId, Details, Options, RangeSpec};
use ipam::{Attachment, Owner, Pool, PoolError};

use super::{files, sentence};

pub(super) const ATTACHMENT: &[&str] = &[
    "\"owner\":{\"containerId\":\"one\",\"ifname\":\"eth0\"}",
    "\"network\":\"cbr0\"",
    "\"addresses\":[",
    "{\"address\":\"10.244.1.2\",\"prefix\":24}",
    "\"gateway\":\"10.244.1.1\"",
    "\"slots\":[\"10.244.1.2\",\"10.244.1.254\"]",
    "\"details\":{",
    "\"netns\":{\"path\":\"/x\",\"dev\":4,\"ino\":5}",
    "\"kind\":{\"type\":\"routed\"}",
    "\"kind\":{\"type\":\"bridge\",\"name\":\"cni0\"}",
    "\"pod\":{",
    "\"bootId\":\"boot\"",
    "\"created\":1",
    "null",
    "}",
    "]",
    ",",
];

pub(super) fn attachment(input: &[u8]) {
    let Ok(attachment) = serde_json::from_slice::<Attachment>(input) else {
        return;
    };
    let owner = &attachment.owner;
    assert_eq!(
        Owner::new(owner.container_id(), owner.ifname()).as_ref(),
        Ok(owner)
    );
    let json = serde_json::to_vec(&attachment).expect("an attachment is JSON");
    let again: Attachment = serde_json::from_slice(&json).expect("what was written reads back");
    assert_eq!(again, attachment);
}

pub(super) fn slots(input: &[u8]) {
    ipam::pool::fuzzing::slots(input);
    let mut sealed = input.to_vec();
    ipam::pool::fuzzing::seal(&mut sealed);
    ipam::pool::fuzzing::slots(&sealed);
}

pub(super) const DIRECTORY: &[&str] = &[
    "\u{1e}attachments/one@eth0\n",
    "\u{1e}attachments/two@eth0\n",
    "\u{1e}slots-10.244.1.2-10.244.1.6\n",
    "\u{1e}slots-10.244.1.0-10.244.1.255\n",
    "\u{1e}lock\n",
    "\u{1e}slots.new\n",
    "\u{1e}attachment.new\n",
    "\u{1e}sealed/slots-10.244.1.2-10.244.1.6\n",
    "LodenIP1",
    "10.244.1.2",
    "10.244.1.6",
    "\"boot\"",
    "eth0",
];

/// Files with this in front of their name get a checksum that is right, as no accident makes it: they are believed, and
/// may tell of addresses what is not so.
const SEALED: &str = "sealed/";

pub(super) fn directory(input: &[u8]) {
    let root = tempfile::tempdir().expect("a directory for the files");
    let directory = root.path().join("cbr0");
    fs::create_dir_all(directory.join("attachments")).expect("the directory is new");
    let mut believed = false;
    for (name, content) in files(input) {
        let (name, content) = match name.strip_prefix(SEALED) {
            Some(name) => {
                believed = true;
                let mut content = content.to_vec();
                ipam::pool::fuzzing::seal(&mut content);
                (name, content)
            }
            None => (name, content.to_vec()),
        };
        // A pool writes whole files, and reads nothing below other directories.
        let fits = !name.contains('/')
            || name
                .strip_prefix("attachments/")
                .is_some_and(|name| !name.contains('/'));
        if fits && name != "attachments" {
            fs::write(directory.join(name), content).expect("the name is free or that of a file");
        }
    }
    changes(root.path(), believed);
}

fn pool(root: &Path) -> Pool {
    let options = Options {
        lock_wait: Duration::from_secs(1),
        boot_id: Some(BootId::new("boot")),
        clock: Arc::new(|| UNIX_EPOCH + Duration::from_secs(1_000_000)),
        ..Options::default()
    };
    Pool::open(root, "cbr0", options).expect("the name is allowed")
}

fn changes(root: &Path, believed: bool) {
    let pool = pool(root);
    let spec = RangeSpec::whole("10.244.1.0/29".parse().expect("a subnet"));
    let range = spec.shared_link().expect("the subnet is large enough");
    if let Ok(usage) = said(pool.usage(&range)) {
        assert_eq!(usage.total, 5);
        assert!(
            believed || usage.used + usage.foreign <= usage.total,
            "{usage:?}"
        );
    }
    let mut held = held(&pool);
    for name in ["new1", "new2", "new3"] {
        let owner = Owner::new(name, "eth0").expect("the names are allowed");
        let Ok(attachment) = said(pool.reserve(&owner, &[vec![range]], &[], Details::default()))
        else {
            continue;
        };
        for address in attachment.addresses.iter().map(|held| held.address) {
            assert!(
                range.contains(address) && range.gateway() != Some(address),
                "{address}"
            );
            assert!(
                held.insert(address) || believed,
                "{address} was given twice"
            );
        }
        assert_eq!(
            said(pool.attachment(&owner)).ok().flatten().as_ref(),
            Some(&attachment)
        );
    }
    for name in ["new1", "one", "new2", "two"] {
        let owner = Owner::new(name, "eth0").expect("the names are allowed");
        if said(pool.release(&owner)).is_ok() {
            assert!(
                matches!(pool.attachment(&owner), Ok(None)),
                "{owner} is still there"
            );
        }
    }
    let _ = said(pool.release_foreign("10.244.1.3".parse().expect("an address")));
    let _ = said(pool.distrust());
    let _ = said(pool.usage(&range));
}

/// The addresses that attachments hold, of which none may be given again.
fn held(pool: &Pool) -> BTreeSet<IpAddr> {
    let Ok(attachments) = said(pool.attachments()) else {
        return BTreeSet::new();
    };
    let attachments = attachments.filter_map(|attachment| said(attachment).ok());
    attachments
        .flat_map(|attachment| attachment.addresses)
        .map(|held| held.address)
        .collect()
}

fn said<T>(result: Result<T, PoolError>) -> Result<T, PoolError> {
    if let Err(error) = &result {
        sentence(error);
    }
    result
}
