//! One slots file: which of its addresses is next, taking it, and giving it back, each in constant time.
//!
//! An address comes back into use as late as possible: first those never given, in their order, then those given back,
//! the one that was given back first at the front.

use std::fs::File;
use std::io;
use std::net::IpAddr;

use super::disk::{Disk, named};
use super::error::PoolError;
use super::layout::{
    BOOT_ID_LEN, DIRTY_OFFSET, Free, HEADER_LEN, Header, Link, NEWER_OFFSET, OLDER_OFFSET,
    SLOT_LEN, Slot, link, slot_offset,
};
use super::range::Window;

/// How many slots are read at once when looking for a fresh one: more than one page would cost more than one access.
const SLOTS_PER_LOOK: u32 = 128;

/// An open slots file, under the lock of the pool.
pub(super) struct Slots<'a> {
    disk: &'a Disk,
    file: File,
    header: Header,
}

/// Why a slots file is no help.
#[derive(Debug)]
pub(super) enum Fault {
    /// It contradicts itself and has to be built anew.
    Corrupt,
    /// It cannot be read or written.
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl<'a> Slots<'a> {
    /// Opens the file for these addresses; `None` if it is not there, dirty, damaged, another version's or of another boot.
    pub(super) fn open(
        disk: &'a Disk,
        window: Window,
        boot_id: &[u8; BOOT_ID_LEN],
    ) -> Result<Option<Self>, PoolError> {
        let name = window.file_name();
        let Some(file) = disk.open(&name)? else {
            return Ok(None);
        };
        let mut bytes = [0; HEADER_LEN];
        let read = disk
            .read_at(&file, &mut bytes, 0)
            .map_err(named("cannot read", &disk.path(&name)))?;
        match Header::decode(&bytes[..read]) {
            Some((header, false)) if header.window == window && header.boot_id == *boot_id => {
                Ok(Some(Self { disk, file, header }))
            }
            _ => Ok(None),
        }
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    pub(super) fn window(&self) -> Window {
        self.header.window
    }

    /// The next address that was never given. Those asked for by number may lie ahead of their turn and are passed over.
    pub(super) fn fresh(&mut self) -> Result<Link, Fault> {
        let end = self.window().len();
        let mut bytes = [0; SLOTS_PER_LOOK as usize * SLOT_LEN];
        while self.header.fresh < end {
            let many = SLOTS_PER_LOOK.min(end - self.header.fresh);
            let bytes = &mut bytes[..many as usize * SLOT_LEN];
            bytes.fill(0);
            self.disk
                .read_at(&self.file, bytes, slot_offset(self.header.fresh))?;
            for slot in bytes.chunks_exact(SLOT_LEN) {
                if Slot::decode(slot).ok_or(Fault::Corrupt)? == Slot::Fresh {
                    return self.no_gateway(self.header.fresh).map(Some);
                }
                self.header.fresh += 1;
            }
        }
        Ok(None)
    }

    /// The address that was given back first, and when.
    pub(super) fn oldest(&self) -> Result<Option<(u32, Free)>, Fault> {
        let Some(index) = self.header.oldest else {
            return Ok(None);
        };
        match self.slot(index)? {
            Slot::Free(free) if free.older.is_none() => Ok(Some((self.no_gateway(index)?, free))),
            _ => Err(Fault::Corrupt),
        }
    }

    /// Slots have no checksum: where a bad disk lost some, the gateway must not be given to a pod.
    fn no_gateway(&self, index: u32) -> Result<u32, Fault> {
        if self.header.gateway == Some(index) {
            return Err(Fault::Corrupt);
        }
        Ok(index)
    }

    /// What is known of an address.
    pub(super) fn slot(&self, index: u32) -> Result<Slot, Fault> {
        let mut bytes = [0; SLOT_LEN];
        self.disk
            .read_at(&self.file, &mut bytes, slot_offset(index))?;
        let slot = Slot::decode(&bytes).ok_or(Fault::Corrupt)?;
        let out_of_bounds = |link: Link| link.is_some_and(|index| index >= self.window().len());
        match slot {
            Slot::Free(free) if out_of_bounds(free.older) || out_of_bounds(free.newer) => {
                Err(Fault::Corrupt)
            }
            slot => Ok(slot),
        }
    }

    /// All slots that were ever written.
    pub(super) fn all(&self) -> Result<Vec<Slot>, Fault> {
        let mut bytes = vec![0; self.window().len() as usize * SLOT_LEN];
        let read = self.disk.read_at(&self.file, &mut bytes, slot_offset(0))?;
        let slots = bytes[..read]
            .chunks_exact(SLOT_LEN)
            .map(|bytes| Slot::decode(bytes).ok_or(Fault::Corrupt));
        slots.collect()
    }

    /// Says that a change has begun. Until [`Self::finish`] nobody takes this file for the truth.
    pub(super) fn begin(&self) -> io::Result<()> {
        self.disk.write_at(&self.file, &[1], DIRTY_OFFSET)
    }

    /// Says that the change is complete.
    pub(super) fn finish(&self) -> io::Result<()> {
        self.disk.write_at(&self.file, &self.header.encode(), 0)
    }

    /// Takes an address, of which `slot` is known.
    pub(super) fn take(&mut self, index: u32, slot: Slot) -> io::Result<()> {
        if let Slot::Free(free) = slot {
            self.unlink(free)?;
        }
        self.header.used += 1;
        self.put(index, Slot::Used)
    }

    /// Gives an address back.
    pub(super) fn give_back(&mut self, index: u32, now: u64) -> Result<(), Fault> {
        match self.slot(index)? {
            Slot::Used => self.header.used = self.header.used.saturating_sub(1),
            Slot::Foreign => self.header.foreign = self.header.foreign.saturating_sub(1),
            Slot::Fresh | Slot::Free(_) | Slot::Gateway => return Err(Fault::Corrupt),
        }
        if self.header.gateway == Some(index) {
            return Ok(self.put(index, Slot::Gateway)?);
        }
        let older = self.header.newest.replace(index);
        match older {
            Some(older) => self.set_link(older, NEWER_OFFSET, Some(index))?,
            None => self.header.oldest = Some(index),
        }
        Ok(self.put(
            index,
            Slot::Free(Free {
                since: now,
                older,
                newer: None,
            }),
        )?)
    }

    fn unlink(&mut self, free: Free) -> io::Result<()> {
        match free.older {
            Some(older) => self.set_link(older, NEWER_OFFSET, free.newer)?,
            None => self.header.oldest = free.newer,
        }
        match free.newer {
            Some(newer) => self.set_link(newer, OLDER_OFFSET, free.older),
            None => {
                self.header.newest = free.older;
                Ok(())
            }
        }
    }

    fn put(&self, index: u32, slot: Slot) -> io::Result<()> {
        self.disk
            .write_at(&self.file, &slot.encode(), slot_offset(index))
    }

    fn set_link(&self, index: u32, offset: u64, to: Link) -> io::Result<()> {
        self.disk.write_at(
            &self.file,
            &link(to).to_le_bytes(),
            slot_offset(index) + offset,
        )
    }
}

/// What a slots file of the present boot remembers, even a dirty one: every slot that was ever written and can be read.
pub(super) fn recall(
    disk: &Disk,
    window: Window,
    boot_id: &[u8; BOOT_ID_LEN],
) -> Result<Vec<(IpAddr, Slot)>, PoolError> {
    let name = window.file_name();
    let Some(file) = disk.open(&name)? else {
        return Ok(Vec::new());
    };
    let refused = named("cannot read", &disk.path(&name));
    let mut bytes = [0; HEADER_LEN];
    let read = disk.read_at(&file, &mut bytes, 0).map_err(&refused)?;
    match Header::decode(&bytes[..read]) {
        Some((header, _)) if header.window == window && header.boot_id == *boot_id => {}
        _ => return Ok(Vec::new()),
    }
    let mut bytes = vec![0; window.len() as usize * SLOT_LEN];
    let read = disk
        .read_at(&file, &mut bytes, slot_offset(0))
        .map_err(refused)?;
    let slots = bytes[..read].chunks_exact(SLOT_LEN).zip(0..);
    let slots =
        slots.filter_map(|(bytes, index)| Some((window.address(index), Slot::decode(bytes)?)));
    Ok(slots.collect())
}
