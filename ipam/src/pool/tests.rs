//! Tests of the pool as a whole: its rules, a model it is held against, kills at every step, and many processes at once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use super::slots::Slots;
use super::*;

mod choice;
mod cost;
mod crash;
mod keeping;
mod model;

/// A directory with a pool in it, a clock that stands still, and a boot.
struct Bench {
    directory: tempfile::TempDir,
    clock: Arc<AtomicU64>,
    boot: BootId,
    foreign: Vec<IpAddr>,
}

impl Bench {
    fn new() -> Self {
        Self {
            directory: directory(),
            clock: Arc::new(AtomicU64::new(1_700_000_000)),
            boot: BootId::new("first boot"),
            foreign: Vec::new(),
        }
    }

    /// The pool as a new process sees it.
    fn pool(&self) -> Pool {
        let clock = Arc::clone(&self.clock);
        let foreign = self.foreign.clone();
        let options = Options {
            boot_id: Some(self.boot.clone()),
            clock: Arc::new(move || {
                UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::Relaxed))
            }),
            foreign: Arc::new(move || Ok(foreign.clone())),
            ..Options::default()
        };
        Pool::open(self.directory.path(), "cbr0", options).unwrap()
    }

    fn pass(&self, seconds: u64) {
        self.clock.fetch_add(seconds, Ordering::Relaxed);
    }

    fn reserve(&self, name: &str, sets: &[RangeSet]) -> Vec<IpAddr> {
        addresses(
            &self
                .pool()
                .reserve(&owner(name), sets, &[], Details::default())
                .unwrap(),
        )
    }

    fn request(
        &self,
        name: &str,
        sets: &[RangeSet],
        address: &str,
    ) -> Result<Attachment, PoolError> {
        self.pool().reserve(
            &owner(name),
            sets,
            &[address.parse().unwrap()],
            Details::default(),
        )
    }

    fn release(&self, name: &str) -> Option<Attachment> {
        self.pool().release(&owner(name)).unwrap()
    }

    fn held(&self) -> Vec<IpAddr> {
        self.pool()
            .attachments()
            .unwrap()
            .flat_map(|attachment| addresses(&attachment.unwrap()))
            .collect()
    }

    /// An index that claims to be in order is: its free list has every free slot once, in the order of their return, and
    /// its counters are right. What is wrong here would be built anew in time, so nothing else would tell.
    fn inspect(&self, range: &Range) {
        let pool = self.pool();
        let Some(slots) = Slots::open(&pool.disk, range.window(), &self.boot.bytes()).unwrap()
        else {
            return;
        };
        // Slots that are damaged are met only when they are used.
        let (header, Ok(all)) = (slots.header(), slots.all()) else {
            return;
        };
        let mut older = None;
        let mut next = header.oldest;
        let mut listed = 0;
        let mut since = 0;
        while let Some(index) = next {
            let Slot::Free(free) = slots.slot(index).unwrap() else {
                panic!("slot {index} is listed but not free")
            };
            assert_eq!(
                free.older, older,
                "slot {index} does not know who came back before it"
            );
            assert!(since <= free.since, "slot {index} is out of order");
            (older, next, since) = (Some(index), free.newer, free.since);
            listed += 1;
        }
        assert_eq!(header.newest, older);
        let count =
            |wanted: fn(&Slot) -> bool| all.iter().filter(|slot| wanted(slot)).count() as u32;
        assert_eq!(listed, count(|slot| matches!(slot, Slot::Free(_))));
        assert_eq!(header.used, count(|slot| *slot == Slot::Used));
        assert_eq!(header.foreign, count(|slot| *slot == Slot::Foreign));
        let passed = all.iter().take(header.fresh as usize);
        assert!(
            !passed.copied().any(|slot| slot == Slot::Fresh),
            "an address was passed over"
        );
    }

    /// Whatever happened before: no address is held twice, none can be given that is held, and all others can be given.
    fn audit(&self, sets: &[RangeSet]) {
        let before = self.held();
        let mut seen = BTreeSet::from_iter(before.iter().copied());
        assert_eq!(
            seen.len(),
            before.len(),
            "an address is held twice: {before:?}"
        );
        let holders: Vec<_> = self
            .pool()
            .attachments()
            .unwrap()
            .map(|attachment| attachment.unwrap().owner)
            .collect();
        for range in sets.iter().flatten() {
            self.inspect(range);
            let held = before
                .iter()
                .filter(|&&address| range.contains(address))
                .count() as u64;
            let usage = self.pool().usage(range).unwrap();
            assert_eq!(
                usage.used, held,
                "the index of {range} does not count the attachments"
            );
            assert_eq!(
                usage.used + usage.foreign + usage.cooling + usage.free,
                usage.total
            );
            for filler in 0.. {
                let filler = owner(&format!(
                    "filler{filler}-{}",
                    range.start().to_string().replace(':', "_")
                ));
                match self
                    .pool()
                    .reserve(&filler, &[vec![*range]], &[], Details::default())
                {
                    Ok(attachment) => {
                        let address = attachment.addresses[0].address;
                        assert!(seen.insert(address), "{address} was given twice");
                        assert!(
                            range.contains(address) && range.gateway() != Some(address),
                            "{address} was given"
                        );
                    }
                    Err(PoolError::Exhausted { .. }) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            let given = seen
                .iter()
                .filter(|&&address| range.contains(address))
                .count() as u64;
            assert_eq!(
                given + usage.foreign,
                usage.total,
                "addresses of {range} have leaked"
            );
        }
        let pool = self.pool();
        let fillers: Vec<_> = pool
            .attachments()
            .unwrap()
            .map(|attachment| attachment.unwrap().owner)
            .collect();
        for filler in fillers.iter().filter(|filler| !holders.contains(filler)) {
            assert!(pool.release(filler).unwrap().is_some());
        }
        assert_eq!(
            BTreeSet::from_iter(self.held()),
            BTreeSet::from_iter(before)
        );
        for range in sets.iter().flatten() {
            let held = self
                .held()
                .into_iter()
                .filter(|&address| range.contains(address))
                .count() as u64;
            assert_eq!(self.pool().usage(range).unwrap().used, held);
        }
    }
}

/// In memory where there is such a file system, as pools are on a host.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

fn owner(name: &str) -> Owner {
    Owner::new(name, "eth0").unwrap()
}

fn range(subnet: &str) -> Range {
    RangeSpec::whole(subnet.parse().unwrap())
        .shared_link()
        .unwrap()
}

fn part(subnet: &str, start: &str, end: &str) -> Range {
    let whole = RangeSpec::whole(subnet.parse().unwrap());
    RangeSpec {
        start: Some(start.parse().unwrap()),
        end: Some(end.parse().unwrap()),
        ..whole
    }
    .shared_link()
    .unwrap()
}

fn addresses(attachment: &Attachment) -> Vec<IpAddr> {
    attachment
        .addresses
        .iter()
        .map(|held| held.address)
        .collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
