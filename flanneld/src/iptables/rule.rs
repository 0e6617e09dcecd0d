//! One rule as `iptables-save` prints it, and what it means: the parts of it, whatever their order and spelling.

use std::fmt;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use thiserror::Error;

/// A rule without the chain it stands in.
///
/// Two rules are equal when they mean the same: versions of iptables print the same rule in different ways.
#[derive(Clone, Debug)]
pub struct Rule {
    /// As it was printed, which is what a deletion has to repeat.
    text: String,
    /// The matches and the target, each with its options, in a fixed order.
    parts: Vec<Vec<String>>,
}

/// A rule that cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the rule {text:?} has a quotation mark without its partner")]
pub struct UnreadableRule {
    /// The rule.
    pub text: String,
}

impl Rule {
    /// The chain that the rule jumps or goes to, or its target.
    pub(super) fn target(&self) -> Option<&str> {
        self.parts
            .iter()
            .find(|part| is(part, "-j") || is(part, "-g"))
            .and_then(|part| part.get(1))
            .map(String::as_str)
    }

    /// The rule taken apart, if it has no other parts than those that flannel ever used for masquerading and forwarding.
    pub(super) fn shape(&self) -> Option<Shape> {
        let mut shape = Shape::default();
        for part in &self.parts {
            let words: Vec<&str> = part.iter().map(String::as_str).collect();
            match words.as_slice() {
                ["-s", network] => shape.source = Some(Side::Is(network.parse().ok()?)),
                ["!", "-s", network] => shape.source = Some(Side::IsNot(network.parse().ok()?)),
                ["-d", network] => shape.destination = Some(Side::Is(network.parse().ok()?)),
                ["!", "-d", network] => {
                    shape.destination = Some(Side::IsNot(network.parse().ok()?));
                }
                ["-m", "comment", "--comment", comment] => {
                    shape.comment = Some((*comment).to_owned());
                }
                ["-j", target] | ["-j", target, "--random-fully"] => {
                    (*target).clone_into(&mut shape.target);
                }
                _ => return None,
            }
        }
        Some(shape)
    }
}

/// What a rule of flannel's can say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) source: Option<Side>,
    pub(super) destination: Option<Side>,
    pub(super) comment: Option<String>,
    pub(super) target: String,
}

/// A condition on one of a packet's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Is(IpNetwork),
    IsNot(IpNetwork),
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.parts == other.parts
    }
}

impl Eq for Rule {}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Rule {
    type Err = UnreadableRule;

    fn from_str(text: &str) -> Result<Self, UnreadableRule> {
        let words = words(text).ok_or_else(|| UnreadableRule {
            text: text.to_owned(),
        })?;
        let mut parts = parts(words);
        parts
            .retain(|part| !matches!(part.as_slice(), [side, any] if is_side(side) && is_any(any)));
        // All matches have to hold, so their order says nothing.
        parts.sort();
        Ok(Self {
            text: text.to_owned(),
            parts,
        })
    }
}

/// Splits at spaces; what stands in double quotes is one word, and there a backslash takes the next character as it is.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().push(characters.next()?),
            ' ' | '\t' if !quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    (!quoted).then_some(words)
}

/// Groups words into parts: an option with one dash and all that belongs to it, its `!` included.
fn parts(words: Vec<String>) -> Vec<Vec<String>> {
    let mut parts: Vec<Vec<String>> = Vec::new();
    let mut words = words.into_iter().peekable();
    let mut in_negated = false;
    while let Some(word) = words.next() {
        let negates = word == "!" && words.peek().is_some_and(|next| is_short(next));
        let begins = negates || (is_short(&word) && !in_negated);
        in_negated = negates;
        let is_comment = word == "--comment";
        let is_address = is_side(&word);
        if begins || parts.is_empty() {
            parts.push(Vec::new());
        }
        let Some(part) = parts.last_mut() else {
            continue;
        };
        part.push(word);
        // A comment may look like anything.
        if is_comment {
            part.extend(words.next());
        } else if is_address {
            part.extend(words.next().map(canonical));
        }
    }
    parts
}

fn is(part: &[String], option: &str) -> bool {
    part.first().is_some_and(|word| word == option)
}

fn is_short(word: &str) -> bool {
    word.len() == 2 && word.starts_with('-') && word != "--"
}

fn is_side(word: &str) -> bool {
    matches!(word, "-s" | "-d")
}

fn is_any(network: &str) -> bool {
    matches!(network, "0.0.0.0/0" | "::/0")
}

/// A network as it is printed today; older versions print masks, and leave out the length of a single address.
fn canonical(network: String) -> String {
    network
        .parse()
        .ok()
        .and_then(|parsed: IpNetwork| IpNetwork::new(parsed.network(), parsed.prefix()).ok())
        .map_or(network, |parsed| parsed.to_string())
}

#[cfg(test)]
mod tests;
