//! The verbs: replace, delete, observe.

use std::collections::BTreeSet;

use nix::{
    libc,
    sys::socket::{
        setsockopt,
        sockopt::{SndBuf, SndBufForce},
    },
};

use crate::{
    attr::Writer,
    error::{Error as NetlinkError, KernelError, NLMSG_DONE, NLMSG_ERROR},
    socket::{self, Socket},
};

use super::{
    compiled::CompiledTable,
    error::Error,
    message::{Change, Query, transaction, trial},
    observe::{self, ChainHead, Observation},
    passage::{Obstacle, Packet},
    plan,
    ruleset::{Family, Hook, Table},
};

/// The ruleset of the network namespace it was opened in.
///
/// Tables other than those named in a call are never touched.
#[derive(Debug)]
pub struct Nftables {
    socket: Socket,
}

impl Nftables {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`Error::Netlink`] when the kernel gives no netfilter socket.
    pub fn open() -> Result<Self, Error> {
        Ok(Self {
            socket: Socket::open(socket::Family::Netfilter)?,
        })
    }

    /// Makes these tables hold exactly what they say, all of them in one transaction; absent ones are created.
    ///
    /// A table that has the right chains and sets already keeps them and gets new rules and elements: one switch, between
    /// two packets. Otherwise it is deleted and made anew in the same transaction. Then the new chains come into the hooks
    /// before the old ones leave, each active from the same moment on; only a packet that is between the two in that
    /// moment could miss both.
    ///
    /// # Errors
    /// A table that cannot be compiled ([`Table::compile`]), or one the kernel refuses ([`Error::Refused`], with its own
    /// words); in both cases everything is as it was. [`Error::Query`] when the kernel does not tell what is there, as one
    /// without nf_tables; [`Error::Netlink`] when it could not be reached.
    pub fn replace(&mut self, tables: &[Table]) -> Result<(), Error> {
        let compiled = tables.iter().map(Table::compile);
        self.replace_compiled(&compiled.collect::<Result<Vec<_>, _>>()?)
    }

    /// As [`Self::replace`], for tables that are compiled already.
    ///
    /// # Errors
    /// As there, but for those of the compilation.
    pub fn replace_compiled(&mut self, compiled: &[CompiledTable]) -> Result<(), Error> {
        for _ in 0..ATTEMPTS {
            let generation = self.generation()?;
            let Some(observed) = self.read_all(compiled)? else {
                continue;
            };
            let known = compiled.iter().zip(observed.iter().map(Option::as_ref));
            match self.send(&plan::replacement(known), Some(generation)) {
                // The ruleset is of another generation by now, so what was read may be wrong.
                Err(Error::Refused { error, .. }) if error.errno == libc::ERESTART => {}
                outcome => return outcome,
            }
        }
        // Somebody writes all the time. Making the tables anew is right whatever they hold at the moment.
        let unknown = compiled.iter().map(|table| (table, None));
        self.send(&plan::replacement(unknown), None)
    }

    /// Asks the kernel whether it could hold these tables, without changing anything: whether it has all that their chains and rules
    /// are made of. That a statement is not allowed where it stands may come to light at the writing only.
    ///
    /// # Errors
    /// As [`Self::replace`], with what the kernel would say then.
    pub fn check(&mut self, tables: &[Table]) -> Result<(), Error> {
        let compiled = tables.iter().map(Table::compile);
        let compiled = compiled.collect::<Result<Vec<_>, _>>()?;
        let unknown = compiled.iter().map(|table| (table, None));
        let changes = plan::replacement(unknown);
        let first = self.socket.sequence(changes.len() + 2);
        self.exchange(&changes, first, &trial(&changes, first, None))
    }

    /// The chains of all tables of a family, whoever made them.
    ///
    /// # Errors
    /// [`Error::Busy`] when others changed the ruleset during every attempt, [`Error::Query`] when the kernel does not tell,
    /// [`Error::Netlink`] when it could not be reached.
    pub fn chains(&mut self, family: Family) -> Result<Vec<ChainHead>, Error> {
        for _ in 0..ATTEMPTS {
            let mut chains = Vec::new();
            let answer = self.ask(Query::Chains(family), |payload| {
                chains.extend(observe::chain_head(payload, family));
            })?;
            if answer != Answer::Interrupted {
                return Ok(chains);
            }
        }
        Err(Error::Busy {
            table: format!("list of family {family}"),
            attempts: ATTEMPTS,
        })
    }

    /// Where in the tables of all programs a packet ends at this hook, in no order.
    ///
    /// # Errors
    /// As [`Self::observe`].
    pub fn obstacles(&mut self, hook: Hook, packet: &Packet) -> Result<Vec<Obstacle>, Error> {
        self.each_table(|table| table.obstacles(hook, packet))
    }

    /// Where in the tables of all programs a packet without a mark gets another source or destination at this hook, in no order.
    ///
    /// # Errors
    /// As [`Self::observe`].
    pub fn rewrites(&mut self, hook: Hook, packet: &Packet) -> Result<Vec<Obstacle>, Error> {
        self.each_table(|table| table.rewrites(hook, packet))
    }

    fn each_table(
        &mut self,
        look: impl Fn(&CompiledTable) -> Vec<Obstacle>,
    ) -> Result<Vec<Obstacle>, Error> {
        let mut obstacles = Vec::new();
        for family in [Family::Inet, Family::Ip, Family::Ip6] {
            let chains = self.chains(family)?.into_iter();
            let hooked = chains.filter(|chain| chain.policy.is_some());
            let tables: BTreeSet<String> = hooked.map(|chain| chain.table).collect();
            for table in tables {
                let table = self.observe(family, &table)?;
                obstacles.extend(table.iter().flat_map(&look));
            }
        }
        Ok(obstacles)
    }

    /// Deletes these tables in one transaction; those that are not there are no error.
    ///
    /// # Errors
    /// [`Error::Refused`] when the kernel refuses, [`Error::Netlink`] when it could not be reached.
    pub fn delete(&mut self, tables: &[(Family, &str)]) -> Result<(), Error> {
        // Adding first makes the deletion of an absent table succeed, without a look that could be outdated.
        let changes: Vec<Change<'_>> = tables
            .iter()
            .flat_map(|&(family, name)| {
                [
                    Change::AddTableNamed(family, name),
                    Change::DeleteTable(family, name),
                ]
            })
            .collect();
        self.send(&changes, None)
    }

    /// Reads a table; `None` when it is not there.
    ///
    /// # Errors
    /// [`Error::Busy`] when others changed the ruleset during every attempt, [`Error::Query`] when the kernel does not tell,
    /// [`Error::Netlink`] when it could not be reached.
    pub fn observe(&mut self, family: Family, name: &str) -> Result<Option<CompiledTable>, Error> {
        for _ in 0..ATTEMPTS {
            let before = self.generation()?;
            let reading = self.read(family, name)?;
            if let Some(table) = reading
                && self.generation()? == before
            {
                return Ok(table);
            }
        }
        Err(Error::Busy {
            table: format!("{family} {name}"),
            attempts: ATTEMPTS,
        })
    }

    /// The number of the ruleset's generation: another one after each transaction of anybody.
    fn generation(&mut self) -> Result<u32, Error> {
        let mut number = None;
        self.ask(Query::Generation, |payload| {
            number = observe::generation(payload);
        })?;
        number.ok_or_else(|| not_given(Query::Generation, KernelError::new(libc::EBADMSG)))
    }

    /// Reads each table's present state; `None` when that changed meanwhile.
    fn read_all(
        &mut self,
        tables: &[CompiledTable],
    ) -> Result<Option<Vec<Option<CompiledTable>>>, Error> {
        let mut observed = Vec::with_capacity(tables.len());
        for table in tables {
            let Some(reading) = self.read(table.family, &table.name)? else {
                return Ok(None);
            };
            observed.push(reading);
        }
        Ok(Some(observed))
    }

    /// Reads a table, if it is there; `None` when the ruleset changed meanwhile in a way the kernel noticed.
    fn read(&mut self, family: Family, name: &str) -> Result<Option<Option<CompiledTable>>, Error> {
        let mut seen = Observation::new(family, name);
        if self.ask(Query::Table(family, name), |payload| seen.table(payload))? == Answer::Absent {
            return Ok(Some(None));
        }
        let mut answers = vec![
            self.ask(Query::Chains(family), |payload| seen.chain(payload))?,
            self.ask(Query::Rules(family, name), |payload| seen.rule(payload))?,
            self.ask(Query::Sets(family, name), |payload| seen.set(payload))?,
        ];
        for set in seen.sets() {
            let query = Query::Elements(family, name, &set);
            answers.push(self.ask(query, |payload| seen.elements(payload))?);
        }
        let complete = answers.iter().all(|answer| *answer == Answer::Complete);
        Ok(complete.then(|| seen.finish()))
    }

    /// Sends a question and hands the payload of each message of the answer to `each`.
    fn ask(&mut self, query: Query<'_>, mut each: impl FnMut(&[u8])) -> Result<Answer, Error> {
        let sequence = self.socket.sequence(1);
        self.socket.send(query.write(sequence).bytes())?;
        let outcome = self.answer(query, sequence, &mut each);
        if !matches!(outcome, Ok(Answer::Complete)) {
            // The rest of an abandoned answer is nobody's.
            self.socket.drain();
        }
        outcome
    }

    fn answer(
        &mut self,
        query: Query<'_>,
        sequence: u32,
        each: &mut impl FnMut(&[u8]),
    ) -> Result<Answer, Error> {
        let mut interrupted = false;
        loop {
            let datagram = match self.socket.receive() {
                Ok(datagram) => datagram,
                // The buffer is larger now, or empty again: the question can be repeated.
                Err(NetlinkError::Overrun | NetlinkError::Truncated { .. }) => {
                    return Ok(Answer::Interrupted);
                }
                Err(error) => return Err(error.into()),
            };
            for message in datagram.filter(|message| message.sequence == sequence) {
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                if !matches!(message.kind, NLMSG_DONE | NLMSG_ERROR) {
                    each(message.payload);
                    if !query.is_dump() {
                        return Ok(Answer::Complete);
                    }
                    continue;
                }
                return match KernelError::from_message(&message) {
                    Ok(()) if interrupted => Ok(Answer::Interrupted),
                    Ok(()) => Ok(Answer::Complete),
                    Err(error) if error.errno == libc::EINTR => Ok(Answer::Interrupted),
                    Err(error) if error.is_not_found() => Ok(Answer::Absent),
                    Err(error) => Err(not_given(query, error)),
                };
            }
        }
    }

    /// Sends a transaction and waits for the kernel's word on it.
    fn send(&mut self, changes: &[Change<'_>], generation: Option<u32>) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        let first = self.socket.sequence(changes.len() + 2);
        self.exchange(changes, first, &transaction(changes, first, generation))
    }

    fn exchange(
        &mut self,
        changes: &[Change<'_>],
        first: u32,
        batch: &Writer,
    ) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        self.make_room(batch.bytes().len());
        self.socket.send(batch.bytes())?;
        let outcome = self.verdict(changes, first);
        if outcome.is_err() {
            self.socket.drain();
        }
        outcome
    }

    /// Reads answers up to the one to the last change, and tells the first error among them.
    ///
    /// The kernel reports an error for each change it refuses, in their order; one about the whole transaction comes with
    /// the number of the message that began it, and nothing comes after that.
    fn verdict(&mut self, changes: &[Change<'_>], first: u32) -> Result<(), Error> {
        let mut outcome = Ok(());
        loop {
            for message in self.socket.receive()? {
                let Some(place) = message.sequence.checked_sub(first) else {
                    continue;
                };
                let place = usize::try_from(place).unwrap_or(usize::MAX);
                if message.kind != NLMSG_ERROR || place > changes.len() {
                    continue;
                }
                if let (Ok(()), Err(error)) = (&outcome, KernelError::from_message(&message)) {
                    let change = place.checked_sub(1).and_then(|place| changes.get(place));
                    outcome = Err(change.map_or_else(
                        || refused(&"the transaction", error.clone()),
                        |change| refused(change, error.clone()),
                    ));
                }
                if place == 0 || place == changes.len() {
                    return outcome;
                }
            }
        }
    }

    /// Makes the socket take a datagram of this length; one it does not take is refused at the send.
    fn make_room(&self, length: usize) {
        if length > DEFAULT_SEND_BUFFER {
            // Beyond net.core.wmem_max only the first works, and only for the administrator of the host.
            let _ = setsockopt(&self.socket, SndBufForce, &length)
                .or_else(|_| setsockopt(&self.socket, SndBuf, &length));
        }
    }
}

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// There is no such object.
    Absent,
    /// All of it came.
    Complete,
    /// The ruleset changed, or messages got lost, while it came.
    Interrupted,
}

fn not_given(query: Query<'_>, error: KernelError) -> Error {
    Error::Query {
        what: query.to_string(),
        error,
    }
}

fn refused(what: &impl ToString, error: KernelError) -> Error {
    Error::Refused {
        what: what.to_string(),
        error,
    }
}

/// How often a reading is repeated when others change the ruleset at the same time.
const ATTEMPTS: usize = 5;
/// Well below what a datagram may have by default (`net.core.wmem_default`, 212,992 bytes).
const DEFAULT_SEND_BUFFER: usize = 100_000;
// linux/netlink.h
const NLM_F_DUMP_INTR: u16 = 0x10;
