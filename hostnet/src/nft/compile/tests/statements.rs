//! What is done with a packet, and where chains are hooked in.

use super::*;

#[test]
fn statements() {
    let masquerade = |random, fully_random| {
        Expr::Masquerade(Masquerade {
            random,
            fully_random,
        })
    };
    for (expr, text, code) in [
        (Expr::Accept, "accept", "immediate reg 0 accept"),
        (
            Expr::Counter,
            "counter packets 0 bytes 0",
            "counter pkts 0 bytes 0",
        ),
        (Expr::Drop, "drop", "immediate reg 0 drop"),
        (
            Expr::Goto("a".to_owned()),
            "goto a",
            "immediate reg 0 goto -> a",
        ),
        (
            Expr::Jump("a".to_owned()),
            "jump a",
            "immediate reg 0 jump -> a",
        ),
        (Expr::Notrack, "notrack", "notrack"),
        (Expr::Return, "return", "immediate reg 0 return"),
        (masquerade(false, false), "masquerade", "masq"),
        (
            masquerade(true, false),
            "masquerade random",
            "masq flags 0x4",
        ),
        (
            masquerade(false, true),
            "masquerade fully-random",
            "masq flags 0x10",
        ),
        (
            masquerade(true, true),
            "masquerade random,fully-random",
            "masq flags 0x14",
        ),
    ] {
        check_ip(expr, text, &[code]);
    }
}

#[test]
fn hooks_compile_to_the_numbers_of_the_kernel() {
    for (hook, number) in [
        (Hook::Prerouting, 0),
        (Hook::Input, 1),
        (Hook::Forward, 2),
        (Hook::Output, 3),
        (Hook::Postrouting, 4),
    ] {
        let compiled = super::super::compile_hook(BaseHook {
            kind: ChainKind::Route,
            hook,
            priority: priority::RAW,
            policy: Policy::Drop,
        });
        assert_eq!(
            (
                compiled.kind.as_str(),
                compiled.hook,
                compiled.priority,
                compiled.policy
            ),
            ("route", number, -300, 0)
        );
    }
}
