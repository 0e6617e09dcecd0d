use proptest::prelude::*;

use super::*;
use crate::attr::Writer;

impl Socket {
    /// Makes the next messages too long.
    pub(crate) fn shrink_buffer(&mut self, length: usize) {
        self.buffer = Vec::with_capacity(length);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_split_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let total: usize = Datagram::new(&bytes).map(|message| MESSAGE_HEADER_LENGTH + message.payload.len()).sum();
        prop_assert!(total <= bytes.len());
    }

    #[test]
    fn a_batch_is_split_into_the_messages_it_was_made_of(
        wanted in proptest::collection::vec((any::<u16>(), any::<u16>(), any::<u32>(), proptest::collection::vec(any::<u8>(), 0..30)), 0..10),
    ) {
        let mut writer = Writer::new();
        for (kind, flags, sequence, body) in &wanted {
            writer.message(*kind, *flags, *sequence, &[], |writer| writer.put(9, body));
        }
        let found: Vec<_> = Datagram::new(writer.bytes()).collect();
        prop_assert_eq!(found.len(), wanted.len());
        for (message, (kind, flags, sequence, body)) in found.iter().zip(&wanted) {
            prop_assert_eq!((message.kind, message.flags, message.sequence), (*kind, *flags, *sequence));
            let attribute = crate::attr::Attributes::new(message.payload).next();
            prop_assert_eq!(attribute.map(|attribute| attribute.payload), Some(body.as_slice()));
        }
    }
}

#[test]
fn sequence_numbers_never_wrap_inside_a_batch() {
    let mut socket = Socket::open(Family::Route).unwrap();
    assert_eq!(socket.sequence(3), 1);
    assert_eq!(socket.sequence(1), 4);
    socket.next_sequence = u32::MAX - 2;
    assert_eq!(socket.sequence(128), 1);
    assert_eq!(socket.sequence(1), 129);
}

#[test]
fn the_kernel_answers_a_request_and_a_wait_without_one_does_not_block() {
    // Listing links needs no privilege; a request of an unknown type is answered with an error in words or without.
    let mut socket = Socket::open(Family::Route).unwrap();
    assert!(socket.receive_now().unwrap().is_none());
    let mut writer = Writer::new();
    let sequence = socket.sequence(1);
    const RTM_GETLINK: u16 = 18;
    const NLM_F_REQUEST: u16 = 1;
    const NO_SUCH_LINK: i32 = i32::MAX;
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&NO_SUCH_LINK.to_ne_bytes());
    writer.message(RTM_GETLINK, NLM_F_REQUEST, sequence, &header, |_| {});
    socket.send(writer.bytes()).unwrap();
    let answer = socket.receive().unwrap().next().unwrap();
    assert_eq!(answer.sequence, sequence);
    let error = crate::error::KernelError::from_message(&answer).unwrap_err();
    assert!(error.is_not_found(), "{error}");
}

#[test]
fn a_message_longer_than_the_buffer_is_told_and_fits_the_next_time() {
    let mut socket = Socket::open(Family::Route).unwrap();
    socket.shrink_buffer(64);
    let ask = |socket: &mut Socket| {
        const RTM_GETLINK: u16 = 18;
        const NLM_F_REQUEST: u16 = 1;
        const LOOPBACK: u32 = 1;
        let mut header = [0; 16];
        header[4..8].copy_from_slice(&LOOPBACK.to_ne_bytes());
        let mut writer = Writer::new();
        writer.message(RTM_GETLINK, NLM_F_REQUEST, 9, &header, |_| {});
        socket.send(writer.bytes()).unwrap();
    };
    ask(&mut socket);
    let error = socket.receive().unwrap_err();
    assert!(
        matches!(error, Error::Truncated { buffer: 64, .. }),
        "{error}"
    );
    ask(&mut socket);
    assert_eq!(socket.receive().unwrap().count(), 1);
}
