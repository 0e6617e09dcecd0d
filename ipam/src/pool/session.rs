//! Work under the lock of a pool: the slots files that it needs, each opened once and built anew where needed.

use std::fs::File;
use std::net::IpAddr;

use nix::fcntl::Flock;

use super::Pool;
use super::attachment::{Attachment, HeldAddress};
use super::disk::{Disk, named};
use super::error::PoolError;
use super::layout::Slot;
use super::lock::Lock;
use super::making::Making;
use super::pick::{Miss, Pick};
use super::range::{Range, RangeSet, Window};
use super::rebuild::{Plan, rebuild};
use super::records;
use super::slots::{Fault, Slots};

/// The lock, and what was opened under it.
pub(super) struct Session<'a> {
    pub(super) pool: &'a Pool,
    pub(super) disk: &'a Disk,
    now: u64,
    pub(super) open: Vec<Slots<'a>>,
    _lock: Lock,
}

impl<'a> Session<'a> {
    pub(super) fn new(pool: &'a Pool, lock: Lock, now: u64) -> Self {
        Self {
            pool,
            disk: &pool.disk,
            now,
            open: Vec::new(),
            _lock: lock,
        }
    }

    /// Takes an address of every set for the attachment, and puts both on disk.
    pub(super) fn reserve(
        &mut self,
        mut attachment: Attachment,
        sets: &[RangeSet],
        requested: &[IpAddr],
    ) -> Result<Making, PoolError> {
        let picks = match self.pick_all(sets, requested) {
            Err(Miss::Corrupt(place)) => {
                self.rebuild_open(place)?;
                self.pick_all(sets, requested)
                    .map_err(|miss| self.refusal(miss))?
            }
            picks => picks.map_err(|miss| self.refusal(miss))?,
        };
        attachment.addresses = picks.iter().map(|pick| pick.held).collect();
        let record = self.write(&attachment, &picks)?;
        Ok(Making::new(attachment, record))
    }

    /// The order makes a kill harmless at any point: while a file is marked as being changed, the attachments decide.
    fn write(&mut self, attachment: &Attachment, picks: &[Pick]) -> Result<Flock<File>, PoolError> {
        let slots: Vec<_> = picks.iter().filter_map(|pick| pick.slot).collect();
        for &(place, ..) in &slots {
            self.begin(place)?;
        }
        let record = match records::write(self.disk, attachment) {
            Ok(record) => record,
            Err(error) => {
                // Nothing has changed.
                self.finish(slots.iter().map(|&(place, ..)| place));
                return Err(error);
            }
        };
        for &(place, index, slot) in &slots {
            if let Err(source) = self.open[place].take(index, slot) {
                let path = self.disk.path(self.open[place].window().file_name());
                // The caller is told that it has nothing, so it must have nothing. All files keep their marks.
                records::remove(self.disk, &attachment.owner.file_name())?;
                return Err(named("cannot write", &path)(source));
            }
        }
        self.finish(slots.iter().map(|&(place, ..)| place));
        Ok(record)
    }

    /// Takes the marks away. Where this fails the mark stays, and the file is built anew at its next use: no reason to
    /// fail for a change that is complete.
    fn finish(&self, places: impl Iterator<Item = usize>) {
        for place in places {
            let _ = self.open[place].finish();
        }
    }

    /// Removes an attachment and gives its addresses back.
    pub(super) fn release(&mut self, attachment: &Attachment) -> Result<(), PoolError> {
        let mut slots = Vec::new();
        for held in &attachment.addresses {
            // A file that is missing or not in order is built anew at its next use, without this attachment.
            if let Some(place) = self.find(held)? {
                slots.push((place, held.address));
            }
        }
        for &(place, _) in &slots {
            self.begin(place)?;
        }
        records::remove(self.disk, &attachment.owner.file_name())?;
        for &(place, address) in &slots {
            // The attachment is gone, so all that can be lost here is the order in which addresses come back: the mark
            // stays and the file is built anew.
            if self.give_back(place, address).is_err() {
                return Ok(());
            }
        }
        self.finish(slots.iter().map(|&(place, _)| place));
        Ok(())
    }

    /// Gives back an address of another program's pod; whether it was noted as such.
    pub(super) fn release_foreign(&mut self, address: IpAddr) -> Result<bool, PoolError> {
        let Some(place) = self.search(address)? else {
            return Ok(false);
        };
        let Some(index) = self.open[place].window().index(address) else {
            return Ok(false);
        };
        if !matches!(self.open[place].slot(index), Ok(Slot::Foreign)) {
            return Ok(false);
        }
        self.begin(place)?;
        // As in `release`: an error leaves the mark.
        let _ = self
            .give_back(place, address)
            .and_then(|()| Ok(self.open[place].finish()?));
        Ok(true)
    }

    /// Marks every slots file as not in order.
    pub(super) fn distrust(&self) -> Result<(), PoolError> {
        for name in self.disk.list("")? {
            let Some(window) = Window::from_file_name(&name) else {
                continue;
            };
            if let Some(slots) = self.read(window)? {
                slots
                    .begin()
                    .map_err(named("cannot write", &self.disk.path(name)))?;
            }
        }
        Ok(())
    }

    /// The file for a range, in order and of this boot.
    pub(super) fn slots(&mut self, range: &Range) -> Result<&mut Slots<'a>, PoolError> {
        let place = self.place(range)?;
        Ok(&mut self.open[place])
    }

    fn refusal(&self, miss: Miss) -> PoolError {
        match miss {
            Miss::Refused(error) => error,
            Miss::Corrupt(place) => PoolError::Corrupt {
                path: self.disk.path(self.open[place].window().file_name()),
                reason: "it contradicts itself although it was just built anew".to_owned(),
            },
        }
    }

    fn begin(&self, place: usize) -> Result<(), PoolError> {
        let slots = &self.open[place];
        slots.begin().map_err(named(
            "cannot write",
            &self.disk.path(slots.window().file_name()),
        ))
    }

    fn give_back(&mut self, place: usize, address: IpAddr) -> Result<(), Fault> {
        let slots = &mut self.open[place];
        let index = slots.window().index(address).ok_or(Fault::Corrupt)?;
        slots.give_back(index, self.now)
    }

    /// The place of a range's file among the open ones; it is built anew if it is not in order.
    pub(super) fn place(&mut self, range: &Range) -> Result<usize, PoolError> {
        let window = range.window();
        let gateway = range.gateway().and_then(|gateway| window.index(gateway));
        if let Some(place) = self.open.iter().position(|slots| slots.window() == window) {
            return Ok(place);
        }
        let current = self
            .read(window)?
            .filter(|slots| slots.header().gateway == gateway);
        let slots = match current {
            Some(slots) => slots,
            None => self.build(window, gateway)?,
        };
        self.open.push(slots);
        Ok(self.open.len() - 1)
    }

    /// Opens a file, if it is in order.
    fn read(&self, window: Window) -> Result<Option<Slots<'a>>, PoolError> {
        Slots::open(self.disk, window, &self.pool.boot_id.bytes())
    }

    fn rebuild_open(&mut self, place: usize) -> Result<(), PoolError> {
        let (window, gateway) = (self.open[place].window(), self.open[place].header().gateway);
        self.open[place] = self.build(window, gateway)?;
        Ok(())
    }

    fn build(&self, window: Window, gateway: Option<u32>) -> Result<Slots<'a>, PoolError> {
        let boot = &self.pool.boot_id;
        let plan = Plan {
            window,
            gateway,
            boot_id: boot.bytes(),
            boot: boot.to_string(),
            now: self.now,
        };
        rebuild(self.disk, &plan, &self.pool.foreign()?)?;
        self.read(window)?.ok_or_else(|| PoolError::Corrupt {
            path: self.disk.path(window.file_name()),
            reason: "it was just built anew but does not read as written".to_owned(),
        })
    }

    /// The file that has the slot of an address, if it is in order: the one it was taken from, unless the ranges have
    /// changed since.
    fn find(&mut self, held: &HeldAddress) -> Result<Option<usize>, PoolError> {
        if let Some(window) = held.window()
            && let Some(place) = self.trusted(window)?
        {
            return Ok(Some(place));
        }
        self.search(held.address)
    }

    fn search(&mut self, address: IpAddr) -> Result<Option<usize>, PoolError> {
        let mut windows = self
            .disk
            .list("")?
            .into_iter()
            .filter_map(|name| Window::from_file_name(&name));
        match windows.find(|window| window.index(address).is_some()) {
            Some(window) => self.trusted(window),
            None => Ok(None),
        }
    }

    /// The place of a file among the open ones, if it is in order.
    fn trusted(&mut self, window: Window) -> Result<Option<usize>, PoolError> {
        if let Some(place) = self.open.iter().position(|slots| slots.window() == window) {
            return Ok(Some(place));
        }
        Ok(self.read(window)?.map(|slots| {
            self.open.push(slots);
            self.open.len() - 1
        }))
    }
}

/// How many addresses a file can give at all.
pub(super) fn capacity(slots: &Slots<'_>) -> u32 {
    slots.window().len() - u32::from(slots.header().gateway.is_some())
}
