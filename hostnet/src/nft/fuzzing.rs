//! The decoder of nf_tables under whatever bytes; see [`crate::fuzzing`].

use crate::socket::Datagram;

use super::{
    compiled::CompiledTable,
    instruction::Instruction,
    message::transaction,
    observe::{Observation, chain_head, generation},
    plan,
    ruleset::Family,
};

/// The name of the table that is looked for in the bytes.
const NAME: &str = "flannel-ipv4";

pub(crate) fn observe(bytes: &[u8]) {
    let Some(observed) = read(bytes) else {
        return;
    };
    // Printing and comparing are for people who look for a difference.
    assert!(observed.to_string().len() <= 100 * bytes.len() + 1000);
    assert_eq!(observed.drift(Some(&observed)), []);
    let _ = observed.drift(None);
    if !foreign(&observed) {
        // Marks that we never set are not written; after that nothing is lost.
        let once = written_and_read(&observed);
        assert!(once.is_some(), "it cannot be read when written");
        let twice = once.as_ref().and_then(written_and_read);
        assert_eq!(twice, once, "it changes each time it is written");
    }
}

fn written_and_read(table: &CompiledTable) -> Option<CompiledTable> {
    let changes = plan::replacement([(table, None)]);
    read(transaction(&changes, 1, None).bytes())
}

/// Reads the messages of a list as [`super::Nftables::observe`] does.
fn read(bytes: &[u8]) -> Option<CompiledTable> {
    let mut seen = Observation::new(Family::Ip, NAME);
    for message in Datagram::new(bytes) {
        let payload = message.payload;
        let _ = generation(payload);
        let _ = chain_head(payload, Family::Ip);
        match message.kind {
            0xa00 => seen.table(payload),
            0xa03 => seen.chain(payload),
            0xa06 => seen.rule(payload),
            0xa09 => seen.set(payload),
            0xa0c => seen.elements(payload),
            _ => {}
        }
    }
    seen.finish()
}

/// Whether the table has rules that are none of ours: those are seen and shown, but never written.
fn foreign(table: &CompiledTable) -> bool {
    let mut rules = table.chains.values().flat_map(|chain| &chain.rules);
    let foreign = |instruction: &Instruction| matches!(instruction, Instruction::Other { .. });
    rules.any(|rule| rule.instructions.iter().any(foreign))
}
