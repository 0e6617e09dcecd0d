use super::*;
use crate::{
    nft::{Expr, Rule, Table, compiled::CompiledTable, plan},
    socket::Datagram,
};

fn compiled(rules: Vec<Rule>) -> CompiledTable {
    let chain = crate::nft::Chain {
        name: "forward_".to_owned(),
        hook: None,
        rules,
    };
    let table = Table {
        family: Family::Ip,
        name: "t".to_owned(),
        comment: Some("hello".to_owned()),
        sets: Vec::new(),
        ports: Vec::new(),
        chains: vec![chain],
    };
    table.compile().expect("it compiles")
}

/// The messages that `nft -f` (1.0.6) sends for this table, taken with `strace`. (It sends the flags of the table, 0, too.)
#[test]
#[cfg(target_endian = "little")]
fn the_bytes_are_those_of_nft() {
    let prefix = "10.244.0.0/16".parse().expect("a prefix");
    let rule = Rule::new([Expr::Source(prefix), Expr::Accept]).with_comment("c1");
    let table = compiled(vec![rule]);
    let chain = &table.chains["forward_"];
    let changes = [
        Change::AddTable(&table),
        Change::AddChain(&table, "forward_", chain),
        Change::AddRule(&table, "forward_", 1, &chain.rules[0]),
    ];
    let batch = transaction(&changes, 0, None);
    let bodies: Vec<String> = Datagram::new(batch.bytes())
        .map(|message| hex(message.payload))
        .collect();
    let begin_and_end = "0000000a";
    let table = "02000000 0600010074000000 0c0006000006 68656c6c6f00".replace(' ', "");
    let chain = "02000000 0600010074000000 0d000300666f72776172645f00000000".replace(' ', "");
    let rule = [
        "02000000",
        "0600010074000000",
        "0d000200666f72776172645f00000000",
        "94000480",
        // payload load 2b @ network header + 12 => reg 1
        "34000180 0c0001007061796c6f616400 24000280",
        "0800010000000001 0800020000000001 080003000000000c 0800040000000002",
        // cmp eq reg 1 0x0000f40a
        "2c000180 08000100636d7000 20000280",
        "0800010000000001 0800020000000000 0c000380060001000af40000",
        // immediate reg 0 accept
        "30000180 0e000100696d6d656469617465000000 1c000280",
        "0800010000000000 10000280 0c000280 0800010000000001",
        // the comment
        "0900070000036331 00000000",
    ];
    let rule = rule.concat().replace(' ', "");
    assert_eq!(
        bodies,
        [begin_and_end, &table, &chain, &rule, begin_and_end]
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_transaction_is_framed_numbered_and_acknowledged_once() {
    let table = compiled(vec![Rule::new([Expr::Drop]), Rule::new([Expr::Accept])]);
    let changes = plan::replacement([(&table, None)]);
    let batch = transaction(&changes, 100, Some(7));
    let messages: Vec<_> = Datagram::new(batch.bytes()).collect();
    let kinds: Vec<u16> = messages.iter().map(|message| message.kind).collect();
    // begin; table added, deleted, added; chain; two rules; end
    assert_eq!(
        kinds,
        [0x10, 0xa00, 0xa02, 0xa00, 0xa03, 0xa06, 0xa06, 0x11]
    );
    let numbers: Vec<u32> = messages.iter().map(|message| message.sequence).collect();
    assert_eq!(numbers, (100..108).collect::<Vec<u32>>());
    let acknowledged: Vec<bool> = messages.iter().map(|m| m.flags & NLM_F_ACK != 0).collect();
    assert_eq!(
        acknowledged,
        [false, false, false, false, false, false, true, false]
    );
    // Subsystem 10, then the generation it is meant for.
    assert_eq!(hex(messages[0].payload)[..8], *"0000000a");
    assert_eq!(messages[0].payload[8..], 7_u32.to_be_bytes());
}

#[test]
fn changes_name_their_object() {
    let table = compiled(vec![
        Rule::new([Expr::Drop]),
        Rule::new([Expr::Accept]).with_comment("why"),
    ]);
    let texts: Vec<String> = plan::replacement([(&table, None)])
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        texts,
        [
            "table ip t",
            "deletion of table ip t",
            "table ip t",
            "chain ip t forward_",
            "rule 1 of chain ip t forward_",
            "rule 2 of chain ip t forward_ (\"why\")",
        ]
    );
}
