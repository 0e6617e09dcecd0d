//! Which addresses an interface gets. Nothing is changed here.

use std::net::IpAddr;

use super::attachment::HeldAddress;
use super::disk::named;
use super::error::PoolError;
use super::layout::{Free, Slot};
use super::range::{Range, RangeSet};
use super::session::{Session, capacity};
use super::slots::Fault;

/// An address that can be given.
pub(super) struct Pick {
    /// Which of the open files has its slot, the slot's number and what is in it. Beyond the slots there is none.
    pub(super) slot: Option<(usize, u32, Slot)>,
    pub(super) held: HeldAddress,
}

/// Why a set gives no address.
pub(super) enum Miss {
    /// The file at this place contradicts itself.
    Corrupt(usize),
    Refused(PoolError),
}

impl From<PoolError> for Miss {
    fn from(error: PoolError) -> Self {
        Self::Refused(error)
    }
}

impl Session<'_> {
    pub(super) fn pick_all(
        &mut self,
        sets: &[RangeSet],
        requested: &[IpAddr],
    ) -> Result<Vec<Pick>, Miss> {
        let wishes = assign(sets, requested)?;
        let picks = sets.iter().zip(wishes).map(|(set, wish)| match wish {
            Some(address) => self.pick_requested(set, address),
            None => self.pick(set),
        });
        picks.collect()
    }

    /// A fresh address of the first range that has one, else the one of all ranges that was given back first. So one that
    /// still cools down is given only where there is no other.
    fn pick(&mut self, set: &RangeSet) -> Result<Pick, Miss> {
        let mut oldest: Option<(Free, usize, u32, &Range)> = None;
        let mut total = 0;
        for range in set {
            let place = self.place(range)?;
            let fresh = self.open[place].fresh();
            if let Some(index) = self.sound(place, fresh)? {
                return Ok(self.picked(range, place, index, Slot::Fresh));
            }
            let candidate = self.open[place].oldest();
            if let Some((index, free)) = self.sound(place, candidate)?
                && oldest.is_none_or(|(other, ..)| free.since < other.since)
            {
                oldest = Some((free, place, index, range));
            }
            total += u64::from(capacity(&self.open[place]));
        }
        match oldest {
            Some((free, place, index, range)) => {
                Ok(self.picked(range, place, index, Slot::Free(free)))
            }
            None => Err(PoolError::Exhausted {
                ranges: ranges(set),
                total,
            }
            .into()),
        }
    }

    fn pick_requested(&mut self, set: &RangeSet, address: IpAddr) -> Result<Pick, Miss> {
        let Some(range) = set.iter().find(|range| range.contains(address)) else {
            return Err(PoolError::OutOfRange {
                address,
                ranges: ranges(set),
            }
            .into());
        };
        if range.gateway() == Some(address) {
            return Err(PoolError::Gateway { address }.into());
        }
        let Some(index) = range.window().index(address) else {
            return self.pick_beyond(range, address);
        };
        let place = self.place(range)?;
        let slot = self.open[place].slot(index);
        match self.sound(place, slot)? {
            slot @ (Slot::Fresh | Slot::Free(_)) => Ok(self.picked(range, place, index, slot)),
            Slot::Used | Slot::Foreign => Err(PoolError::Taken { address }.into()),
            Slot::Gateway => Err(PoolError::Gateway { address }.into()),
        }
    }

    /// Most addresses of an IPv6 subnet have no slot. Who asks for one of those pays for a look at all attachments.
    fn pick_beyond(&self, range: &Range, address: IpAddr) -> Result<Pick, Miss> {
        for attachment in self.pool.attachments()? {
            if attachment?
                .addresses
                .iter()
                .any(|held| held.address == address)
            {
                return Err(PoolError::Taken { address }.into());
            }
        }
        if self.pool.foreign()?.contains(&address) {
            return Err(PoolError::Taken { address }.into());
        }
        Ok(Pick {
            slot: None,
            held: HeldAddress::new(range, address),
        })
    }

    fn picked(&self, range: &Range, place: usize, index: u32, slot: Slot) -> Pick {
        let held = HeldAddress::new(range, self.open[place].window().address(index));
        Pick {
            slot: Some((place, index, slot)),
            held,
        }
    }

    fn sound<T>(&self, place: usize, result: Result<T, Fault>) -> Result<T, Miss> {
        result.map_err(|fault| match fault {
            Fault::Corrupt => Miss::Corrupt(place),
            Fault::Io(source) => {
                let path = self.disk.path(self.open[place].window().file_name());
                Miss::Refused(named("cannot read", &path)(source))
            }
        })
    }
}

/// Which requested address each set is to give, if any: the first that lies in one of its ranges. All must find a set.
fn assign(sets: &[RangeSet], requested: &[IpAddr]) -> Result<Vec<Option<IpAddr>>, PoolError> {
    let mut left = requested.to_vec();
    let wishes = sets.iter().map(|set| {
        let lies_in = |address: &IpAddr| set.iter().any(|range| range.contains(*address));
        left.iter()
            .position(lies_in)
            .map(|place| left.remove(place))
    });
    let wishes = wishes.collect();
    let is_gateway = |address| {
        sets.iter()
            .flatten()
            .any(|range| range.gateway() == Some(address))
    };
    match left.first() {
        Some(&address) if is_gateway(address) => Err(PoolError::Gateway { address }),
        Some(&address) => Err(PoolError::OutOfRange {
            address,
            ranges: ranges(sets.iter().flatten()),
        }),
        None => Ok(wishes),
    }
}

fn ranges<'r>(ranges: impl IntoIterator<Item = &'r Range>) -> String {
    ranges
        .into_iter()
        .map(Range::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
