//! Entry points for fuzzing the bytes of slots files. The feature `fuzzing` is for `tests/fuzz` only; nothing of it is part
//! of the crate's interface.

use super::layout::{HEADER_LEN, Header, SLOT_LEN, Slot};

/// Reads whatever bytes as a header and as slots, and panics if a promise of the layout is broken.
pub fn slots(bytes: &[u8]) {
    let (header, slots) = bytes.split_at(bytes.len().min(HEADER_LEN));
    if let Some((header, dirty)) = Header::decode(header) {
        let mut again = header.encode();
        again[HEADER_LEN - 1] = u8::from(dirty);
        assert_eq!(Header::decode(&again), Some((header.clone(), dirty)));
        let len = header.window.len();
        let within = |link: Option<u32>| link.is_none_or(|index| index < len);
        assert!(within(header.gateway) && within(header.oldest) && within(header.newest));
        assert!(header.fresh <= len);
        let last = header.window.address(len - 1);
        assert_eq!(header.window.index(last), Some(len - 1));
    }
    for bytes in slots.chunks(SLOT_LEN) {
        if let Some(slot) = Slot::decode(bytes) {
            assert_eq!(Slot::decode(&slot.encode()), Some(slot));
        }
    }
}

/// Makes the header of a slots file pass for one that a pool wrote: with its mark, its checksum and no change under way.
pub fn seal(file: &mut Vec<u8>) {
    file.resize(file.len().max(HEADER_LEN), 0);
    if let Some(header) = file.first_chunk_mut::<HEADER_LEN>() {
        super::layout::seal(header);
    }
}
