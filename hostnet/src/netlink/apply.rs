//! Making changes: many messages in one send, one acknowledgement, and each refusal brought back to its change.

use netlink_packet_core::{NLM_F_ACK, NetlinkMessage};
use nix::errno::Errno;

use super::{Netlink, link_request, write};
use crate::{
    change::{Change, Refusals, Refused},
    error::{Error, KernelError, NLMSG_ERROR},
    link::Link,
};

impl Netlink {
    /// Makes changes, in order, in as few sends as possible. The kernel goes on after a refusal, and so does this.
    ///
    /// # Errors
    /// All changes that were refused, and those of which the kernel's answer was lost.
    pub fn apply(&mut self, changes: &[Change]) -> Result<(), Refusals> {
        let mut refused = Vec::new();
        for (number, batch) in changes.chunks(BATCH).enumerate() {
            let mut bytes = Vec::new();
            let first = self.socket.sequence(batch.len());
            encode(&mut bytes, batch, first, NLM_F_ACK);
            self.count(batch.len());
            let mut outcome = Outcome::new(first, batch.len());
            if let Err(error) = self.exchange(&bytes, &mut outcome) {
                outcome.lose(&error);
            }
            refused.extend(outcome.refusals(batch, number * BATCH));
        }
        if refused.is_empty() {
            Ok(())
        } else {
            Err(Refusals(refused))
        }
    }

    /// Makes changes and then looks at the link with this name, all in one send (for up to 127 changes): the quick way to
    /// the numbers of a link that was just made.
    ///
    /// # Errors
    /// As [`Self::apply`]; the look-up counts as one more change behind the others.
    pub fn apply_and_link(&mut self, changes: &[Change], name: &str) -> Result<Link, Refusals> {
        let (before, last) = changes.split_at(changes.len().saturating_sub(BATCH - 1));
        let mut refused = match self.apply(before) {
            Ok(()) => Vec::new(),
            Err(Refusals(refused)) => refused,
        };
        let mut bytes = Vec::new();
        let first = self.socket.sequence(last.len() + 1);
        let lookup = encode(&mut bytes, last, first, 0);
        self.count(last.len());
        self.traffic.lookups += 1;
        write(
            &mut bytes,
            &mut NetlinkMessage::from(link_request(&name.into())),
            0,
            lookup,
        );
        let mut outcome = Outcome::new(first, last.len() + 1);
        if let Err(error) = self.exchange(&bytes, &mut outcome) {
            outcome.lose(&error);
        }
        refused.extend(outcome.refusals(last, before.len()));
        if let Some(Err(error)) = outcome.answers.last() {
            refused.push(Refused {
                index: changes.len(),
                change: format!("look at link {name}"),
                error: error.clone(),
            });
        }
        match outcome.link {
            Some(link) if refused.is_empty() => Ok(link),
            _ => Err(Refusals(refused)),
        }
    }

    fn count(&mut self, changes: usize) {
        self.traffic.changes += u64::try_from(changes).unwrap_or(u64::MAX);
        self.traffic.batches += 1;
    }

    /// Sends a batch and reads answers up to the one to its last message. The kernel has worked on all of it by the time the
    /// send returns; answers to the last message are the last to come.
    fn exchange(&mut self, bytes: &[u8], outcome: &mut Outcome) -> Result<(), Error> {
        self.socket.send(bytes)?;
        loop {
            let datagram = match self.socket.receive() {
                Ok(datagram) => datagram,
                Err(error) => {
                    self.socket.drain();
                    return Err(error);
                }
            };
            for message in datagram {
                let Some(position) = outcome.position(message.sequence) else {
                    continue;
                };
                if message.kind == NLMSG_ERROR {
                    outcome.answer(position, KernelError::from_message(&message));
                } else if let Some(link) = Link::decode(message.payload) {
                    outcome.link = Some(link);
                    outcome.answer(position, Ok(()));
                }
                if position + 1 == outcome.answers.len() {
                    return Ok(());
                }
            }
        }
    }
}

/// What is known of the messages of one batch, in the order of their sequence numbers.
struct Outcome {
    first: u32,
    answers: Vec<Result<(), KernelError>>,
    link: Option<Link>,
}

impl Outcome {
    /// Silence is consent: only the last message is acknowledged, errors of the others are always reported.
    fn new(first: u32, count: usize) -> Self {
        Self {
            first,
            answers: vec![Ok(()); count],
            link: None,
        }
    }

    fn position(&self, sequence: u32) -> Option<usize> {
        let position = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        (position < self.answers.len()).then_some(position)
    }

    fn answer(&mut self, position: usize, answer: Result<(), KernelError>) {
        // Of several messages for one change, the first error is the cause of the others.
        if let Some(known @ Ok(())) = self.answers.get_mut(position) {
            *known = answer;
        }
    }

    /// Nothing is known of the changes without an answer: neither that they were made nor that they were not.
    fn lose(&mut self, error: &Error) {
        let (errno, text) = match error {
            Error::Send(error) => (error.raw_os_error(), error_text(error)),
            Error::Receive(error) => (error.raw_os_error(), LOST.to_owned()),
            _ => (Some(Errno::ENOBUFS as i32), LOST.to_owned()),
        };
        let errno = errno.unwrap_or(Errno::EIO as i32);
        for answer in &mut self.answers {
            if answer.is_ok() {
                *answer = Err(KernelError {
                    errno,
                    text: Some(text.clone()),
                });
            }
        }
    }

    fn refusals<'a>(
        &'a self,
        changes: &'a [Change],
        offset: usize,
    ) -> impl Iterator<Item = Refused> + 'a {
        let outcomes = changes.iter().zip(&self.answers).enumerate();
        outcomes.filter_map(move |(position, (change, answer))| {
            let error = answer.as_ref().err()?.clone();
            Some(Refused {
                index: offset + position,
                change: change.to_string(),
                error,
            })
        })
    }
}

/// Appends the messages of changes, numbered from `sequence`, with these flags on the last one. Returns the next number.
fn encode(bytes: &mut Vec<u8>, changes: &[Change], first: u32, last_flags: u16) -> u32 {
    let mut sequence = first;
    for (position, change) in changes.iter().enumerate() {
        let messages = change.encode();
        let count = messages.len();
        for (part, (message, flags)) in messages.into_iter().enumerate() {
            let is_last = position + 1 == changes.len() && part + 1 == count;
            let flags = if is_last { flags | last_flags } else { flags };
            // The messages of one change share its number.
            write(bytes, &mut NetlinkMessage::from(message), flags, sequence);
        }
        sequence += 1;
    }
    sequence
}

fn error_text(error: &std::io::Error) -> String {
    format!("the request could not be sent: {error}")
}

/// Changes in one send. All of them may be refused, and each refusal takes close to 1 KiB of a receive buffer of 208 KiB;
/// of 512 answers half were lost, of 256 none.
const BATCH: usize = 128;
const LOST: &str = "the kernel's answer was lost; look again what is there";

#[cfg(test)]
mod tests;
