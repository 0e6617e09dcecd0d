//! What a node holds: links, routes, neighbours, rules, files. Compared before and after, it shows what was left behind.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use crate::bench::Bench;

/// Lines by what they are of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State(BTreeMap<String, BTreeSet<String>>);

/// Rules of others (kube-proxy's) follow the Services and are not looked at. Link-local routes and addresses come and go with the
/// interfaces that are listed anyway; entries that the kernel learned are not ours.
const SCRIPT: &str = r#"
echo '@ link'; ip -o link | sed 's/^[0-9]*: //; s/[@:].*//'
echo '@ route'; { ip -4 route show table all; ip -6 route show table all; } | grep -v -e 'table local' -e '^local' -e '^broadcast' \
  -e '^multicast' -e '^anycast' -e '^ff00::/8' -e '^fe80::' | sed 's/ expires [0-9]*sec//; s/ *$//'
echo '@ rule'; ip -4 rule; ip -6 rule
echo '@ neighbour'; { ip neigh show nud permanent; ip -6 neigh show nud permanent; } | sed 's/ *$//'
echo '@ fdb'; bridge fdb show 2>/dev/null | grep -v -e '33:33:' -e '01:00:5e' | grep permanent
echo '@ table'; nft list tables 2>/dev/null | grep -v -e kube-proxy -e 'table ip6\? \(nat\|filter\|mangle\|raw\|security\)$'
echo '@ chain'; nft list chains 2>/dev/null | awk '/^table/ { t = $2 " " $3 } /chain/ { print t, $2 }' | grep -v kube-proxy | grep -i -e flannel -e loden -e portmap -e hostport -e CNI-
echo '@ element'; nft list tables 2>/dev/null | awk 'tolower($3) ~ /flannel|loden/ { print $2, $3 }' | while read -r family table; do
  nft -s list table "$family" "$table" | awk -v of="$family $table" '
    $1 == "set" || $1 == "map" { of_set = $2 }
    sub(/.*elements = \{/, "") { inside = 1 }
    inside {
      n = split($0, all, ",")
      for (i = 1; i <= n; i++) { gsub(/[{}]/, "", all[i]); gsub(/^[ \t]+|[ \t]+$/, "", all[i]); if (all[i] != "") print of, of_set, all[i] }
    }
    /\}/ { inside = 0 }'
done
echo '@ file'; cd /host; find opt/cni/bin etc/cni/net.d run/flannel run/loden var/lib/cni -type f 2>/dev/null
echo '@ end'
"#;

impl State {
    /// Of what `SCRIPT` says.
    fn parse(text: &str) -> Self {
        let mut state = Self::default();
        let mut kind = String::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match line.strip_prefix("@ ") {
                Some(next) => kind = next.to_owned(),
                None => drop(
                    state
                        .0
                        .entry(kind.clone())
                        .or_default()
                        .insert(line.to_owned()),
                ),
            }
        }
        state
    }

    /// Lines that are here and not there, and the other way round: `+` came, `-` went.
    pub(crate) fn difference(&self, before: &Self) -> Vec<String> {
        let none = BTreeSet::new();
        let kinds: BTreeSet<&String> = self.0.keys().chain(before.0.keys()).collect();
        let of = |state: &Self, kind: &str| state.0.get(kind).unwrap_or(&none).clone();
        kinds
            .into_iter()
            .flat_map(|kind| {
                let (now, then) = (of(self, kind), of(before, kind));
                let came = now.difference(&then).map(|line| format!("+{kind} {line}"));
                let went = then.difference(&now).map(|line| format!("-{kind} {line}"));
                came.chain(went).collect::<Vec<_>>()
            })
            .collect()
    }
}

impl Bench {
    /// What each node holds now.
    pub(crate) fn states(&self) -> Result<Vec<State>> {
        self.nodes
            .iter()
            .map(|node| self.state(&node.name))
            .collect()
    }

    /// What one node holds now.
    pub(crate) fn state(&self, node: &str) -> Result<State> {
        let text = self.at_host(node, SCRIPT)?;
        anyhow::ensure!(
            text.contains("@ end"),
            "node {node} was not looked at to the end"
        );
        Ok(State::parse(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_and_went_is_told() {
        let before = State::parse("@ link\nlo\neth0\n@ route\ndefault via 10.0.0.1\n@ end\n");
        let after = State::parse("@ link\nlo\neth0\nvetha\n@ file\nopt/cni/bin/flannel\n@ end\n");
        assert_eq!(
            after.difference(&before),
            [
                "+file opt/cni/bin/flannel",
                "+link vetha",
                "-route default via 10.0.0.1"
            ]
        );
        assert!(before.difference(&before).is_empty());
    }
}
