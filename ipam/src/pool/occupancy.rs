//! How much of every range is in use, as the files say, for somebody who only wants to know: nothing is locked, changed or
//! built anew.

use std::net::IpAddr;

use super::disk::named;
use super::error::PoolError;
use super::layout::{HEADER_LEN, Header, SLOT_LEN, Slot, slot_offset};
use super::range::Window;
use super::{Pool, Usage, millis};

/// A range of which addresses were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupancy {
    /// Its first address.
    pub first: IpAddr,
    /// Its last.
    pub last: IpAddr,
    /// How much of it is in use; by what is being changed at this moment it may be off by one.
    pub usage: Usage,
}

impl Pool {
    /// Every range of which addresses were given since the host was booted, in their order.
    ///
    /// # Errors
    ///
    /// [`PoolError::Io`].
    pub fn occupancies(&self) -> Result<Vec<Occupancy>, PoolError> {
        let mut found = Vec::new();
        for name in self.disk.list("")? {
            if let Some(window) = Window::from_file_name(&name) {
                found.extend(self.occupancy(window)?);
            }
        }
        found.sort_by_key(|range| range.first);
        Ok(found)
    }

    /// `None` for a file that is of another boot or damaged: the next who needs it builds it anew.
    fn occupancy(&self, window: Window) -> Result<Option<Occupancy>, PoolError> {
        let name = window.file_name();
        let Some(file) = self.disk.open_to_read(&name)? else {
            return Ok(None);
        };
        let read = |bytes: &mut [u8], offset| {
            let read = self.disk.read_at(&file, bytes, offset);
            read.map_err(named("cannot read", &self.disk.path(&name)))
        };
        let mut bytes = [0; HEADER_LEN];
        let length = read(&mut bytes, 0)?;
        let header = match Header::decode(&bytes[..length]) {
            Some((header, _)) if header.boot_id == self.boot_id.bytes() => header,
            _ => return Ok(None),
        };
        let mut bytes = vec![0; window.len() as usize * SLOT_LEN];
        let length = read(&mut bytes, slot_offset(0))?;
        let total = u64::from(window.len() - u32::from(header.gateway.is_some()));
        let slots = bytes[..length].chunks_exact(SLOT_LEN).map(Slot::decode);
        Ok(Some(Occupancy {
            first: window.address(0),
            last: window.address(window.len() - 1),
            usage: self.usage_of(total, slots.flatten()),
        }))
    }

    fn usage_of(&self, total: u64, slots: impl Iterator<Item = Slot>) -> Usage {
        let cooldown = millis(self.options.cooldown);
        let cooled = millis(self.now()).saturating_sub(cooldown);
        let (mut used, mut foreign, mut cooling) = (0, 0, 0);
        for slot in slots {
            match slot {
                Slot::Used => used += 1,
                Slot::Foreign => foreign += 1,
                Slot::Free(free) if free.since > cooled => cooling += 1,
                Slot::Free(_) | Slot::Fresh | Slot::Gateway => {}
            }
        }
        Usage {
            total,
            used,
            foreign,
            free: total.saturating_sub(used + foreign + cooling),
            cooling,
        }
    }
}
