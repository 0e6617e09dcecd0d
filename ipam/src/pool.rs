//! The addresses of a node's pods: who holds which, on disk, in the same time however many are held.
//!
//! Every network has a directory:
//!
//! | name | what it is |
//! | --- | --- |
//! | `lock` | an flock on it is held during every change |
//! | `attachments/<container>@<interface>` | one file for each attachment, put in place by a rename. They alone decide |
//! | `slots-<first>-<last>` | an index of the attachments for one range: which address is next. Built anew when in doubt |
//!
//! A process may be killed at any point of a change, since an index is marked before anything is changed and an attachment
//! appears and vanishes in one step. No attachment outlives the boot of the host in which it was made.
//!
//! The host's links and routes are not looked at here. Whoever attaches pods decides by those whether to take an
//! attachment over or to release it.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

mod attachment;
mod boot;
mod disk;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod layout;
mod lock;
mod making;
mod occupancy;
mod owner;
mod pick;
#[cfg(test)]
mod probe;
mod range;
mod rebuild;
mod records;
mod session;
mod slots;
#[cfg(test)]
mod tests;

pub use attachment::{Attachment, Details, ForeignPlugin, HeldAddress, Kind, NetnsIdentity, Pod};
pub use boot::BootId;
pub use error::PoolError;
pub use making::{Making, Stage};
pub use occupancy::Occupancy;
pub(crate) use owner::check_network;
pub use owner::{NameError, Owner};
pub use range::{Range, RangeError, RangeSet, RangeSpec};
pub(crate) use range::{check as check_ranges, from_bits, to_bits};

use disk::Disk;
use layout::Slot;
use session::Session;

/// Where pools are kept unless told otherwise. A reboot empties it, as it ends every pod.
pub const DEFAULT_DIRECTORY: &str = "/run/loden/ipam";

/// How long an address given back stays out of use, where there are others.
pub const DEFAULT_COOLDOWN: Duration = Duration::from_secs(30);

/// How long the lock is waited for: less than any runtime waits for a CNI program.
pub const DEFAULT_LOCK_WAIT: Duration = Duration::from_secs(8);

/// How a pool behaves, and where it gets from what is not on disk.
#[derive(Clone)]
pub struct Options {
    /// How long to wait for the lock.
    pub lock_wait: Duration,
    /// How long an address given back counts as cooling. Addresses come back into use in the order in which they were
    /// given back and after all that were never given, so this changes no choice, only what [`Pool::usage`] tells.
    pub cooldown: Duration,
    /// The present boot of the host; the kernel is asked unless one is given.
    pub boot_id: Option<BootId>,
    /// The time.
    pub clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
    /// Addresses that pods of another program have. Asked for only when an index is built anew; see
    /// [`Pool::release_foreign`] and [`Pool::distrust`].
    pub foreign: Arc<dyn Fn() -> io::Result<Vec<IpAddr>> + Send + Sync>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lock_wait: DEFAULT_LOCK_WAIT,
            cooldown: DEFAULT_COOLDOWN,
            boot_id: None,
            clock: Arc::new(SystemTime::now),
            foreign: Arc::new(|| Ok(Vec::new())),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("lock_wait", &self.lock_wait)
            .field("cooldown", &self.cooldown)
            .field("boot_id", &self.boot_id)
            .finish_non_exhaustive()
    }
}

/// How many addresses a range has, and what has become of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All that can be given, the gateway not counted. Of larger ranges the first 65,536 count.
    pub total: u64,
    /// Held by attachments.
    pub used: u64,
    /// Held by pods of another program.
    pub foreign: u64,
    /// Neither held, nor given back a short while ago.
    pub free: u64,
    /// Given back so shortly ago that all others are given first.
    pub cooling: u64,
}

/// The addresses of the pods of one network on this node.
#[derive(Debug)]
pub struct Pool {
    disk: Disk,
    network: String,
    options: Options,
    boot_id: BootId,
}

impl Pool {
    /// The pool of a network. Nothing is made on disk before the first reservation.
    ///
    /// # Errors
    ///
    /// [`PoolError::Name`] if the network's name is not one that CNI allows, [`PoolError::BootId`].
    pub fn open(directory: &Path, network: &str, options: Options) -> Result<Self, PoolError> {
        let root: PathBuf = directory.join(owner::network_directory(network)?);
        let boot_id = options.boot_id.clone().map_or_else(BootId::current, Ok)?;
        Ok(Self {
            disk: Disk::new(root),
            network: network.to_owned(),
            options,
            boot_id,
        })
    }

    /// The present boot, as it stands in every attachment.
    #[must_use]
    pub fn boot_id(&self) -> &BootId {
        &self.boot_id
    }

    /// Takes an address of every set for an interface. Of the addresses requested, each set gives the first that lies in
    /// one of its ranges.
    ///
    /// # Errors
    ///
    /// [`PoolError::Duplicate`] if the owner holds addresses already; it tells enough to choose between refusing,
    /// [`Self::take_over`] and [`Self::release`]. [`PoolError::Exhausted`], [`PoolError::Taken`], [`PoolError::Gateway`],
    /// [`PoolError::OutOfRange`], [`PoolError::Range`], [`PoolError::Busy`], [`PoolError::Corrupt`], [`PoolError::Io`].
    pub fn reserve(
        &self,
        owner: &Owner,
        sets: &[RangeSet],
        requested: &[IpAddr],
        details: Details,
    ) -> Result<Attachment, PoolError> {
        let making = self.begin(owner, sets, requested, details)?;
        Ok(making.attachment)
    }

    /// The same for an attachment that is still to be made: until it is [complete](Making::complete) others see that it is not.
    ///
    /// # Errors
    ///
    /// Those of [`Self::reserve`].
    pub fn begin(
        &self,
        owner: &Owner,
        sets: &[RangeSet],
        requested: &[IpAddr],
        details: Details,
    ) -> Result<Making, PoolError> {
        range::check(sets)?;
        let lock = self.lock()?;
        let now = self.now();
        let attachment = self.new_attachment(owner, details, now)?;
        Session::new(self, lock, millis(now)).reserve(attachment, sets, requested)
    }

    /// The same for an attachment whose addresses, if it has any, are not the pool's.
    ///
    /// # Errors
    ///
    /// [`PoolError::Duplicate`] if the owner has an attachment already; [`PoolError::Busy`], [`PoolError::Corrupt`],
    /// [`PoolError::Io`].
    pub fn begin_foreign(&self, owner: &Owner, details: Details) -> Result<Making, PoolError> {
        let _lock = self.lock()?;
        let attachment = self.new_attachment(owner, details, self.now())?;
        let record = records::write(&self.disk, &attachment)?;
        Ok(Making::new(attachment, record))
    }

    fn new_attachment(
        &self,
        owner: &Owner,
        details: Details,
        now: Duration,
    ) -> Result<Attachment, PoolError> {
        if let Some(existing) = self.attachment(owner)? {
            return Err(PoolError::Duplicate {
                existing: Box::new(existing),
            });
        }
        Ok(Attachment {
            owner: owner.clone(),
            network: self.network.clone(),
            addresses: Vec::new(),
            details,
            boot_id: self.boot_id.to_string(),
            created: now.as_secs(),
        })
    }

    /// Lets an owner keep its addresses for a new life of its interface, or records what has become of one that is being made.
    ///
    /// # Errors
    ///
    /// [`PoolError::Absent`] if it holds none; [`PoolError::Busy`], [`PoolError::Corrupt`], [`PoolError::Io`].
    pub fn take_over(&self, owner: &Owner, details: Details) -> Result<Making, PoolError> {
        let _lock = self.lock()?;
        let Some(existing) = self.attachment(owner)? else {
            return Err(PoolError::Absent {
                owner: owner.clone(),
                network: self.network.clone(),
            });
        };
        let attachment = Attachment {
            details,
            created: self.now().as_secs(),
            ..existing
        };
        let record = records::write(&self.disk, &attachment)?;
        Ok(Making::new(attachment, record))
    }

    /// How far the attachment of an owner has come; nothing if it has none.
    ///
    /// # Errors
    ///
    /// [`PoolError::Io`].
    pub fn stage(&self, owner: &Owner) -> Result<Option<Stage>, PoolError> {
        making::stage(&self.disk, owner)
    }

    /// Gives an owner's addresses back and tells what it held; nothing if it held none.
    ///
    /// # Errors
    ///
    /// [`PoolError::Busy`], [`PoolError::Io`].
    pub fn release(&self, owner: &Owner) -> Result<Option<Attachment>, PoolError> {
        self.release_if(owner, |_| true)
    }

    /// The same if the attachment is still one to release, which is asked under the lock: since it was listed, the same
    /// owner may have been detached and attached again.
    ///
    /// # Errors
    ///
    /// [`PoolError::Busy`], [`PoolError::Io`].
    pub fn release_if(
        &self,
        owner: &Owner,
        stale: impl FnOnce(&Attachment) -> bool,
    ) -> Result<Option<Attachment>, PoolError> {
        let lock = self.lock()?;
        let mut session = Session::new(self, lock, millis(self.now()));
        match records::read(&self.disk, owner) {
            Ok(Some(attachment)) if attachment.boot_id != self.boot_id.0 => {
                records::remove(&self.disk, &owner.file_name())?;
                Ok(None)
            }
            Ok(Some(attachment)) if stale(&attachment) => {
                session.release(&attachment)?;
                Ok(Some(attachment))
            }
            Ok(_) => Ok(None),
            // Whatever the file said, the owner is gone; which addresses were its own comes out of the other files.
            Err(PoolError::Corrupt { .. }) => {
                session.distrust()?;
                records::remove(&self.disk, &owner.file_name())?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// What an owner holds.
    ///
    /// # Errors
    ///
    /// [`PoolError::Corrupt`], [`PoolError::Io`].
    pub fn attachment(&self, owner: &Owner) -> Result<Option<Attachment>, PoolError> {
        Ok(records::read(&self.disk, owner)?
            .filter(|attachment| attachment.boot_id == self.boot_id.0))
    }

    /// All attachments. They are read one by one without the lock, so some may be gone when this ends.
    ///
    /// # Errors
    ///
    /// [`PoolError::Io`]; an item is [`PoolError::Corrupt`] or [`PoolError::Io`] for a file that cannot be understood.
    pub fn attachments(
        &self,
    ) -> Result<impl Iterator<Item = Result<Attachment, PoolError>> + '_, PoolError> {
        let names = records::names(&self.disk)?.into_iter();
        let all = names.filter_map(|name| records::read_file(&self.disk, &name).transpose());
        Ok(all.filter(|item| {
            item.as_ref()
                .map_or(true, |attachment| attachment.boot_id == self.boot_id.0)
        }))
    }

    /// How much of a range is in use.
    ///
    /// # Errors
    ///
    /// [`PoolError::Busy`], [`PoolError::Corrupt`], [`PoolError::Io`].
    pub fn usage(&self, range: &Range) -> Result<Usage, PoolError> {
        let lock = self.lock()?;
        let now = millis(self.now());
        let mut session = Session::new(self, lock, now);
        let slots = session.slots(range)?;
        let total = u64::from(session::capacity(slots));
        let (used, foreign) = (
            u64::from(slots.header().used),
            u64::from(slots.header().foreign),
        );
        let cooled = now
            .saturating_sub(u64::try_from(self.options.cooldown.as_millis()).unwrap_or(u64::MAX));
        let cooling = slots.all().unwrap_or_default().into_iter();
        let cooling = cooling
            .filter(|slot| matches!(slot, Slot::Free(free) if free.since > cooled))
            .count() as u64;
        let free = total.saturating_sub(used + foreign + cooling);
        Ok(Usage {
            total,
            used,
            foreign,
            free,
            cooling,
        })
    }

    /// Notes that a pod of another program has given its address back; whether it was noted as such.
    ///
    /// # Errors
    ///
    /// [`PoolError::Busy`], [`PoolError::Io`].
    pub fn release_foreign(&self, address: IpAddr) -> Result<bool, PoolError> {
        let lock = self.lock()?;
        Session::new(self, lock, millis(self.now())).release_foreign(address)
    }

    /// Lets every index be built anew at its next use: after attachments or addresses of other programs have changed
    /// behind the pool's back.
    ///
    /// # Errors
    ///
    /// [`PoolError::Busy`], [`PoolError::Io`].
    pub fn distrust(&self) -> Result<(), PoolError> {
        let lock = self.lock()?;
        Session::new(self, lock, millis(self.now())).distrust()
    }

    fn lock(&self) -> Result<lock::Lock, PoolError> {
        lock::acquire(&self.disk, self.options.lock_wait, || {
            self.disk.make_directory(records::DIRECTORY)
        })
    }

    fn foreign(&self) -> Result<Vec<IpAddr>, PoolError> {
        (self.options.foreign)().map_err(disk::named(
            "cannot read what others hold beside",
            &self.disk.path(""),
        ))
    }

    /// Since 1970; a clock that stands before that is taken as standing there.
    fn now(&self) -> Duration {
        (self.options.clock)()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
