//! `iptables-restore --noflush` as its manual describes it, on data: what the tables are after a script, or why it is refused.

use super::{Rule, Saved, SavedChain, SavedTable};

pub(super) fn restored(before: &Saved, script: &str) -> Result<Saved, String> {
    let mut after = before.clone();
    let mut open: Option<(String, SavedTable)> = None;
    for line in script.lines() {
        if let Some(name) = line.strip_prefix('*') {
            let table = after.tables.get(name).cloned();
            open = Some((name.to_owned(), table.unwrap_or_else(|| builtin(name))));
        } else if line == "COMMIT" {
            after.tables.extend(open.take());
        } else {
            let (_, table) = open.as_mut().ok_or("outside of a table")?;
            change(table, line).map_err(|reason| format!("{line}: {reason}"))?;
        }
    }
    match open {
        Some(_) => Err("no COMMIT".to_owned()),
        None => Ok(after),
    }
}

fn change(table: &mut SavedTable, line: &str) -> Result<(), String> {
    if let Some(chain) = line.strip_prefix(':') {
        let (name, policy) = chain.split_once(' ').ok_or("no policy")?;
        if policy != "- [0:0]" {
            return Err("only chains of our own are declared".to_owned());
        }
        table.insert(name.to_owned(), SavedChain::default());
        return Ok(());
    }
    let (verb, rest) = line.split_once(' ').ok_or("no verb")?;
    if verb == "-X" {
        let led_to =
            |chain: &SavedChain| chain.rules.iter().any(|rule| rule.target() == Some(rest));
        if table.values().any(led_to) {
            return Err("something leads there".to_owned());
        }
        let chain = table.remove(rest).ok_or("no such chain")?;
        return chain
            .rules
            .is_empty()
            .then_some(())
            .ok_or("it has rules".to_owned());
    }
    let (name, text) = rest.split_once(' ').ok_or("no rule")?;
    let rule: Rule = text.parse().map_err(|error| format!("{error}"))?;
    let target = rule
        .target()
        .filter(|target| target.starts_with("FLANNEL-"));
    if verb == "-A" && target.is_some_and(|target| !table.contains_key(target)) {
        return Err("it leads nowhere".to_owned());
    }
    if !table.contains_key(name) && is_builtin(name) {
        table.insert(name.to_owned(), accepting());
    }
    let chain = table.get_mut(name).ok_or("no such chain")?;
    match verb {
        "-A" => chain.rules.push(rule),
        "-D" => {
            let place = chain.rules.iter().position(|found| *found == rule);
            chain.rules.remove(place.ok_or("no such rule")?);
        }
        _ => return Err("unknown verb".to_owned()),
    }
    Ok(())
}

fn accepting() -> SavedChain {
    SavedChain {
        policy: Some("ACCEPT".to_owned()),
        rules: Vec::new(),
    }
}

fn is_builtin(name: &str) -> bool {
    matches!(
        name,
        "PREROUTING" | "INPUT" | "FORWARD" | "OUTPUT" | "POSTROUTING"
    )
}

fn builtin(table: &str) -> SavedTable {
    let chains: &[&str] = match table {
        "nat" => &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"],
        "filter" => &["INPUT", "FORWARD", "OUTPUT"],
        _ => &["PREROUTING", "OUTPUT"],
    };
    chains
        .iter()
        .map(|name| ((*name).to_owned(), accepting()))
        .collect()
}
