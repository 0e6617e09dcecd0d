use proptest::prelude::*;

use super::*;
use crate::{attr::Writer, socket::Datagram};

/// An `NLMSG_ERROR` as the kernel writes it: error number, the header of the request (and its body unless capped), attributes.
fn error_message(errno: i32, capped: bool, text: Option<&str>) -> Vec<u8> {
    let mut flags = 0;
    if capped {
        flags |= NLM_F_CAPPED;
    }
    if text.is_some() {
        flags |= NLM_F_ACK_TLVS;
    }
    let mut writer = Writer::new();
    writer.message(NLMSG_ERROR, flags, 7, &(-errno).to_ne_bytes(), |writer| {
        let mut request = Writer::new();
        request.message(24, 5, 7, &[0; 12], |request| request.put_text(3, "quoted"));
        let quoted = request.bytes();
        writer.raw(if capped {
            &quoted[..MESSAGE_HEADER_LENGTH]
        } else {
            quoted
        });
        if let Some(text) = text {
            writer.put_u32(2, 44);
            writer.put_text(NLMSGERR_ATTR_MSG, text);
        }
    });
    writer.bytes().to_vec()
}

fn read(bytes: &[u8]) -> Result<(), KernelError> {
    KernelError::from_message(&Datagram::new(bytes).next().unwrap())
}

#[test]
fn the_kernels_words_are_found_behind_a_capped_and_a_full_quotation() {
    for capped in [true, false] {
        let error = read(&error_message(
            22,
            capped,
            Some("Nexthop has invalid gateway"),
        ))
        .unwrap_err();
        assert_eq!(
            error,
            KernelError {
                errno: 22,
                text: Some("Nexthop has invalid gateway".into())
            }
        );
        assert_eq!(
            error.to_string(),
            "Nexthop has invalid gateway (Invalid argument, errno 22)"
        );
    }
}

#[test]
fn an_error_without_words_still_reads() {
    let error = read(&error_message(17, true, None)).unwrap_err();
    assert_eq!(error.to_string(), "File exists (errno 17)");
    assert!(error.is_exists() && !error.is_not_found());
}

#[test]
fn zero_is_an_acknowledgement() {
    assert_eq!(read(&error_message(0, true, None)), Ok(()));
    assert_eq!(
        read(&error_message(0, true, Some("only a warning"))),
        Ok(())
    );
}

#[test]
fn the_end_of_a_dump_may_carry_an_error() {
    let mut writer = Writer::new();
    writer.message(
        NLMSG_DONE,
        2 | NLM_F_ACK_TLVS,
        1,
        &(-22i32).to_ne_bytes(),
        |writer| {
            writer.put_text(
                NLMSGERR_ATTR_MSG,
                "Invalid values in header for link dump request",
            );
        },
    );
    let error = read(writer.bytes()).unwrap_err();
    assert_eq!(error.errno, 22);
    assert_eq!(
        error.text.as_deref(),
        Some("Invalid values in header for link dump request")
    );

    let mut empty = Writer::new();
    empty.message(NLMSG_DONE, 2, 1, &[], |_| {});
    assert_eq!(read(empty.bytes()), Ok(()));
}

#[test]
fn absence_is_recognised_for_every_kind_of_object() {
    for errno in [
        Errno::ENODEV,
        Errno::ESRCH,
        Errno::ENOENT,
        Errno::EADDRNOTAVAIL,
    ] {
        assert!(KernelError::new(errno as i32).is_not_found(), "{errno}");
    }
    assert!(!KernelError::new(Errno::EINVAL as i32).is_not_found());
}

proptest! {
    #[test]
    fn arbitrary_error_payloads_never_panic(
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        flags: u16,
        done: bool,
    ) {
        let kind = if done { NLMSG_DONE } else { NLMSG_ERROR };
        let message = Message { kind, flags, sequence: 1, payload: &payload };
        if let Err(error) = KernelError::from_message(&message) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
