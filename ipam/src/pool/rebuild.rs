//! Building a slots file anew from the attachments: when there is none yet, when a change of it was cut short, when it is
//! damaged, when the host has booted since, or when the ranges have changed.
//!
//! This takes time in proportion to the number of attachments, and is the only thing in the pool that does, beside lists.

use std::collections::HashMap;
use std::net::IpAddr;

use super::disk::Disk;
use super::error::PoolError;
use super::layout::{BOOT_ID_LEN, Free, Header, Slot, slot_offset};
use super::range::Window;
use super::{records, slots};

/// The name under which the file is written before it is put in place.
const DRAFT: &str = "slots.new";

/// What a slots file is to be built for.
pub(super) struct Plan {
    pub(super) window: Window,
    pub(super) gateway: Option<u32>,
    pub(super) boot_id: [u8; BOOT_ID_LEN],
    /// The boot ID as it stands in attachments.
    pub(super) boot: String,
    pub(super) now: u64,
}

/// Builds the file and puts it in place. Before that, files that overlap it are removed, as each address must have one
/// slot only.
pub(super) fn rebuild(disk: &Disk, plan: &Plan, foreign: &[IpAddr]) -> Result<(), PoolError> {
    let mut slots = vec![None; plan.window.len() as usize];
    let overlapping = recall(disk, plan, &mut slots)?;
    for index in foreign
        .iter()
        .filter_map(|&address| plan.window.index(address))
    {
        slots[index as usize] = Some(Slot::Foreign);
    }
    for address in held(disk, &plan.boot)? {
        if let Some(index) = plan.window.index(address) {
            slots[index as usize] = Some(Slot::Used);
        }
    }
    let bytes = encode(plan, slots);
    for window in overlapping {
        disk.remove(window.file_name())?;
    }
    disk.replace(DRAFT, plan.window.file_name(), &bytes)
}

/// The addresses of all attachments. Those of a former boot are removed: nothing of them is left in the kernel.
fn held(disk: &Disk, boot: &str) -> Result<Vec<IpAddr>, PoolError> {
    let mut addresses = Vec::new();
    for name in records::names(disk)? {
        let Some(attachment) = records::read_file(disk, &name)? else {
            continue;
        };
        if attachment.boot_id == boot {
            addresses.extend(attachment.addresses.iter().map(|held| held.address));
        } else {
            records::remove(disk, &name)?;
        }
    }
    Ok(addresses)
}

/// Notes what older files remember of addresses that nobody holds any more. Returns the files that overlap the new one.
fn recall(disk: &Disk, plan: &Plan, slots: &mut [Option<Slot>]) -> Result<Vec<Window>, PoolError> {
    let mut overlapping = Vec::new();
    for name in disk.list("")? {
        let Some(window) = Window::from_file_name(&name) else {
            continue;
        };
        if !window.overlaps(plan.window) {
            continue;
        }
        if window != plan.window {
            overlapping.push(window);
        }
        for (address, slot) in slots::recall(disk, window, &plan.boot_id)? {
            let Some(index) = plan.window.index(address) else {
                continue;
            };
            let since = match slot {
                Slot::Free(free) => free.since,
                // It was given back just before, or by a process that did not get to noting it here.
                Slot::Used | Slot::Foreign => plan.now,
                Slot::Fresh | Slot::Gateway => continue,
            };
            slots[index as usize] = Some(Slot::Free(Free {
                since,
                ..Free::default()
            }));
        }
    }
    Ok(overlapping)
}

/// The bytes of the file, up to the last slot that is not fresh.
fn encode(plan: &Plan, mut slots: Vec<Option<Slot>>) -> Vec<u8> {
    let beyond_last = slots
        .iter()
        .rposition(Option::is_some)
        .map_or(0, |last| last as u32 + 1);
    let mut header = Header {
        boot_id: plan.boot_id,
        window: plan.window,
        gateway: plan.gateway,
        fresh: beyond_last,
        oldest: None,
        newest: None,
        used: 0,
        foreign: 0,
    };
    for slot in &mut slots[..header.fresh as usize] {
        // Nobody remembers it, but its turn is over.
        slot.get_or_insert(Slot::Free(Free::default()));
    }
    if let Some(slot) = plan.gateway.and_then(|index| slots.get_mut(index as usize))
        && !matches!(slot, Some(Slot::Used | Slot::Foreign))
    {
        *slot = Some(Slot::Gateway);
    }
    for slot in &slots {
        match slot {
            Some(Slot::Used) => header.used += 1,
            Some(Slot::Foreign) => header.foreign += 1,
            _ => {}
        }
    }
    chain(&mut header, &mut slots);
    let mut bytes = header.encode().to_vec();
    for (slot, index) in slots.into_iter().zip(0..) {
        if let Some(slot) = slot {
            bytes.resize(slot_offset(index) as usize, 0);
            bytes.extend_from_slice(&slot.encode());
        }
    }
    bytes
}

/// Makes the free list, the one that was given back first at the front.
fn chain(header: &mut Header, slots: &mut [Option<Slot>]) {
    let free = |slot: &Option<Slot>| match slot {
        Some(Slot::Free(free)) => Some(free.since),
        _ => None,
    };
    let mut order: Vec<(u64, u32)> = slots
        .iter()
        .zip(0..)
        .filter_map(|(slot, index)| Some((free(slot)?, index)))
        .collect();
    order.sort_unstable();
    header.oldest = order.first().map(|&(_, index)| index);
    header.newest = order.last().map(|&(_, index)| index);
    let older: HashMap<u32, u32> = order
        .windows(2)
        .map(|pair| (pair[1].1, pair[0].1))
        .collect();
    let newer: HashMap<u32, u32> = order
        .windows(2)
        .map(|pair| (pair[0].1, pair[1].1))
        .collect();
    for (since, index) in order {
        let (older, newer) = (older.get(&index).copied(), newer.get(&index).copied());
        slots[index as usize] = Some(Slot::Free(Free {
            since,
            older,
            newer,
        }));
    }
}
