use std::io;

use nix::libc;
use proptest::prelude::*;

use super::*;
use crate::{
    link::{LinkIndex, change::LinkChange},
    socket::Datagram,
};

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let one = (1u32.., any::<bool>()).prop_map(|(index, three)| {
        if !three {
            return Change::DeleteLink(LinkIndex(index));
        }
        // Three messages for one change.
        Change::SetLink(LinkChange {
            no_ipv6_link_local: true,
            hairpin: Some(true),
            ..LinkChange::up(LinkIndex(index))
        })
    });
    proptest::collection::vec(one, 1..20)
}

proptest! {
    #[test]
    fn only_the_last_message_asks_for_an_answer(changes in changes(), first in 1u32..1_000_000) {
        let mut bytes = Vec::new();
        let next = encode(&mut bytes, &changes, first, NLM_F_ACK);
        prop_assert_eq!(next as usize, first as usize + changes.len());
        let messages: Vec<_> = Datagram::new(&bytes).map(|message| (message.sequence, message.flags & NLM_F_ACK)).collect();
        let expected: Vec<_> = changes
            .iter()
            .enumerate()
            .flat_map(|(position, change)| vec![first + position as u32; change.encode().len()])
            .collect();
        prop_assert_eq!(messages.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), expected);
        let asking: Vec<_> = messages.iter().map(|(_, flag)| *flag == NLM_F_ACK).collect();
        prop_assert_eq!(asking.iter().filter(|asking| **asking).count(), 1);
        prop_assert_eq!(asking.last(), Some(&true));
    }

    #[test]
    fn answers_find_their_change(count in 1usize..200, first: u32, sequence: u32) {
        let first = first.min(u32::MAX - 1000);
        let outcome = Outcome::new(first, count);
        match outcome.position(sequence) {
            Some(position) => {
                prop_assert!(position < count);
                prop_assert_eq!(first + position as u32, sequence);
            }
            None => prop_assert!(sequence < first || (sequence - first) as usize >= count),
        }
    }
}

fn two_changes() -> [Change; 2] {
    [
        Change::DeleteLink(LinkIndex(7)),
        Change::DeleteLink(LinkIndex(8)),
    ]
}

#[test]
fn silence_is_consent_and_the_first_error_is_the_cause() {
    let mut outcome = Outcome::new(10, 2);
    assert_eq!(outcome.refusals(&two_changes(), 0).count(), 0);
    outcome.answer(1, Err(KernelError::new(libc::ENODEV)));
    outcome.answer(1, Err(KernelError::new(libc::EINVAL)));
    outcome.answer(1, Ok(()));
    let refused: Vec<_> = outcome.refusals(&two_changes(), 128).collect();
    let expected = Refused {
        index: 129,
        change: "delete link 8".into(),
        error: KernelError::new(libc::ENODEV),
    };
    assert_eq!(refused, [expected]);
}

#[test]
fn what_is_not_known_is_said_to_be_so() {
    let lost = |error: &Error| {
        let mut outcome = Outcome::new(10, 2);
        outcome.answer(0, Err(KernelError::new(libc::ENODEV)));
        outcome.lose(error);
        outcome
            .refusals(&two_changes(), 0)
            .map(|refused| refused.to_string())
            .collect::<Vec<_>>()
    };
    let known = "cannot delete link 7: No such device (errno 19)";
    assert_eq!(
        lost(&Error::Overrun),
        [
            known,
            "cannot delete link 8: the kernel's answer was lost; look again what is there (No buffer space available, errno 105)"
        ]
    );
    let unsent = Error::Send(io::Error::from_raw_os_error(libc::EPERM));
    assert_eq!(lost(&unsent)[0], known);
    assert!(lost(&unsent)[1].starts_with("cannot delete link 8: the request could not be sent"));
}
