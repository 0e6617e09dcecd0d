//! The bytes of a slots file: a header in the first page, behind it 32 bytes for each address. All numbers are little
//! endian. The file is sparse: slots that were never written read as zeros, which means fresh.
//!
//! The file is an index of the attachments, which can always be built anew from them. What makes it trustworthy is its
//! dirty flag: it is set before anything else is changed, attachments too, and cleared last.

use super::range::Window;

/// Changes whenever the layout does; a file of another version is built anew.
const MAGIC: [u8; 8] = *b"LodenIP1";

/// Slots begin behind the first page.
const SLOTS: u64 = 4096;

/// The boot ID is a UUID, text of 36 bytes; there is room to spare.
pub(super) const BOOT_ID_LEN: usize = 64;

/// Everything in front of the checksum.
const SUMMED: usize = 160;
const DIRTY: usize = SUMMED + 8;

/// Length of a header with checksum and dirty flag.
pub(super) const HEADER_LEN: usize = DIRTY + 1;

pub(super) const SLOT_LEN: usize = 32;

/// Where the dirty flag is.
pub(super) const DIRTY_OFFSET: u64 = DIRTY as u64;

/// The number of a slot; `None` is stored as zero, all others one higher.
pub(super) type Link = Option<u32>;

/// What a slots file knows of all its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) boot_id: [u8; BOOT_ID_LEN],
    pub(super) window: Window,
    /// Slot of the gateway, if it lies among the addresses.
    pub(super) gateway: Link,
    /// Where to look for a fresh slot: there is none before this one. The next may be further on, behind addresses that
    /// were asked for before their turn.
    pub(super) fresh: u32,
    /// The address that was given back first.
    pub(super) oldest: Link,
    /// The address that was given back last.
    pub(super) newest: Link,
    /// How many addresses are held by attachments.
    pub(super) used: u32,
    /// How many addresses others have.
    pub(super) foreign: u32,
}

/// What a slots file knows of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// Never given.
    Fresh,
    /// Held by an attachment.
    Used,
    /// Given back: in the free list.
    Free(Free),
    /// Held by another program's pod.
    Foreign,
    /// The gateway.
    Gateway,
}

/// A slot of the free list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Free {
    /// When it was given back, in milliseconds since 1970; zero when nobody remembers.
    pub(super) since: u64,
    /// The slot that was given back before this one.
    pub(super) older: Link,
    /// The slot that was given back after this one.
    pub(super) newer: Link,
}

/// Where the links are in a free slot, to change one alone.
pub(super) const OLDER_OFFSET: u64 = 4;
pub(super) const NEWER_OFFSET: u64 = 8;

/// Where a slot begins.
pub(super) fn slot_offset(index: u32) -> u64 {
    SLOTS + u64::from(index) * SLOT_LEN as u64
}

impl Header {
    /// The header with its checksum and a clear dirty flag.
    pub(super) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[8..72].copy_from_slice(&self.boot_id);
        bytes[72] = if self.window.v4 { 4 } else { 6 };
        bytes[80..96].copy_from_slice(&self.window.start.to_le_bytes());
        bytes[96..112].copy_from_slice(&self.window.end.to_le_bytes());
        let numbers = [
            link(self.gateway),
            self.fresh,
            link(self.oldest),
            link(self.newest),
            self.used,
            self.foreign,
        ];
        for (place, number) in bytes[112..136].chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        seal(&mut bytes);
        bytes
    }

    /// The header, whether the dirty flag is set or not; `None` if it is not one of this version, or damaged.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, bool)> {
        if bytes.len() != HEADER_LEN || bytes[..8] != MAGIC {
            return None;
        }
        if bytes[SUMMED..DIRTY] != fnv1a_64(&bytes[..SUMMED]).to_le_bytes() {
            return None;
        }
        let window = Window::new(bytes[72] == 4, u128_at(bytes, 80)?, u128_at(bytes, 96)?)?;
        let number = |place: usize| u32_at(bytes, 112 + 4 * place);
        let slot = |place| {
            number(place)
                .map(linked)
                .filter(|link| link.is_none_or(|index| index < window.len()))
        };
        let header = Self {
            boot_id: bytes[8..72].try_into().ok()?,
            window,
            gateway: slot(0)?,
            fresh: number(1).filter(|&fresh| fresh <= window.len())?,
            oldest: slot(2)?,
            newest: slot(3)?,
            used: number(4)?,
            foreign: number(5)?,
        };
        Some((header, bytes[DIRTY] != 0))
    }
}

/// Completes a header: mark, checksum, clear dirty flag.
pub(super) fn seal(bytes: &mut [u8; HEADER_LEN]) {
    bytes[..8].copy_from_slice(&MAGIC);
    let sum = fnv1a_64(&bytes[..SUMMED]);
    bytes[SUMMED..DIRTY].copy_from_slice(&sum.to_le_bytes());
    bytes[DIRTY] = 0;
}

impl Slot {
    pub(super) fn encode(self) -> [u8; SLOT_LEN] {
        let (state, free) = match self {
            Self::Fresh => (0_u32, Free::default()),
            Self::Used => (1, Free::default()),
            Self::Free(free) => (2, free),
            Self::Foreign => (3, Free::default()),
            Self::Gateway => (4, Free::default()),
        };
        let mut bytes = [0; SLOT_LEN];
        bytes[..4].copy_from_slice(&state.to_le_bytes());
        bytes[4..8].copy_from_slice(&link(free.older).to_le_bytes());
        bytes[8..12].copy_from_slice(&link(free.newer).to_le_bytes());
        bytes[16..24].copy_from_slice(&free.since.to_le_bytes());
        bytes
    }

    /// `None` if the bytes are no slot.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        match u32_at(bytes, 0)? {
            0 => Some(Self::Fresh),
            1 => Some(Self::Used),
            2 => Some(Self::Free(Free {
                since: u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?),
                older: linked(u32_at(bytes, 4)?),
                newer: linked(u32_at(bytes, 8)?),
            })),
            3 => Some(Self::Foreign),
            4 => Some(Self::Gateway),
            _ => None,
        }
    }
}

/// How a link is stored.
pub(super) fn link(link: Link) -> u32 {
    link.map_or(0, |index| index + 1)
}

fn linked(stored: u32) -> Link {
    stored.checked_sub(1)
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        bytes.get(offset..offset + 4)?.try_into().ok()?,
    ))
}

fn u128_at(bytes: &[u8], offset: usize) -> Option<u128> {
    Some(u128::from_le_bytes(
        bytes.get(offset..offset + 16)?.try_into().ok()?,
    ))
}

/// FNV-1a with 64 bits (RFC 9923), against accidents.
fn fnv1a_64(bytes: &[u8]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.iter().fold(OFFSET, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(PRIME)
    })
}

#[cfg(test)]
mod tests;
