//! Go's command line syntax, which flannel's unit files and manifests use, turned into the one that clap reads.
//!
//! Go's `flag` package takes one dash or two, a value after `=` or as the next word (booleans only after `=`), and stops at
//! the first word that is no flag. Nothing here knows what a flag means; only whether it is boolean.

/// What the command line says, each flag as `--name=value` (or `--name` where no value belongs to it).
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Normalised {
    /// The flags in the order given.
    pub flags: Vec<String>,
    /// The first word that is no flag and everything behind it: a command of ours and its arguments.
    pub rest: Vec<String>,
}

impl Normalised {
    /// Reads `words` (without the program's name). `is_boolean` tells for a flag's name whether it is boolean; a name
    /// that it does not know counts as boolean, so that no word is swallowed as the value of a misspelled flag.
    pub fn from_words<I, F>(words: I, is_boolean: F) -> Self
    where
        I: IntoIterator<Item = String>,
        F: Fn(&str) -> bool,
    {
        let mut normalised = Self::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            if word == "--" {
                break;
            }
            let Some(flag) = flag_text(&word) else {
                normalised.rest.push(word);
                break;
            };
            if flag == "h" {
                normalised.flags.push("--help".to_owned());
                continue;
            }
            if flag.contains('=') || is_boolean(flag) {
                normalised.flags.push(format!("--{flag}"));
                continue;
            }
            normalised.flags.push(match words.next() {
                Some(value) => format!("--{flag}={value}"),
                None => format!("--{flag}"),
            });
        }
        normalised.rest.extend(words);
        normalised
    }

    /// Whether the flag `name` stands on the command line.
    pub fn has(&self, name: &str) -> bool {
        self.flags.iter().any(|flag| flag_name(flag) == name)
    }
}

/// Reads a boolean the way Go's `strconv.ParseBool` does.
///
/// # Errors
/// Names the texts that are accepted.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(
            "expected true or false (also 1, t, T, TRUE, True, 0, f, F, FALSE, False)".to_owned(),
        ),
    }
}

/// The text behind the dashes, or `None` for a word that is no flag (a lone `-` is none either).
fn flag_text(word: &str) -> Option<&str> {
    let text = word.strip_prefix('-')?;
    let text = text.strip_prefix('-').unwrap_or(text);
    if text.is_empty() { None } else { Some(text) }
}

fn flag_name(flag: &str) -> &str {
    let text = flag.trim_start_matches('-');
    text.split_once('=').map_or(text, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(words: &[&str]) -> Normalised {
        Normalised::from_words(words.iter().map(|w| (*w).to_owned()), |name| {
            !matches!(name, "etcd-prefix" | "iface")
        })
    }

    #[test]
    fn one_dash_and_two_are_the_same() {
        assert_eq!(read(&["-etcd-prefix=/x"]), read(&["--etcd-prefix", "/x"]));
    }

    #[test]
    fn a_value_may_begin_with_a_dash() {
        assert_eq!(read(&["-iface", "-odd"]).flags, ["--iface=-odd"]);
    }

    #[test]
    fn a_boolean_does_not_take_the_next_word() {
        let got = read(&["-ip-masq", "true", "-iface=eth0"]);
        assert_eq!(got.flags, ["--ip-masq"]);
        assert_eq!(got.rest, ["true", "-iface=eth0"]);
    }

    #[test]
    fn parsing_stops_at_two_dashes_and_at_the_first_word() {
        assert_eq!(read(&["--", "-iface"]).rest, ["-iface"]);
        assert_eq!(
            read(&["-iface=a", "status", "-o", "json"]).rest,
            ["status", "-o", "json"]
        );
        assert_eq!(read(&["-"]).rest, ["-"]);
    }

    #[test]
    fn a_flag_at_the_end_without_its_value_stays_for_clap_to_refuse() {
        assert_eq!(read(&["-iface"]).flags, ["--iface"]);
    }

    #[test]
    fn knows_which_flags_were_given() {
        let got = read(&["-iface=a", "--ip-masq"]);
        assert!(got.has("iface") && got.has("ip-masq"));
        assert!(!got.has("etcd-prefix"));
    }

    proptest! {
        #[test]
        fn no_word_is_lost(words in proptest::collection::vec("[a-g=-]{0,8}", 0..8)) {
            let all: usize = words.iter().map(String::len).sum();
            let got = Normalised::from_words(words, |_| true);
            let kept: usize = got.flags.iter().chain(&got.rest).map(String::len).sum();
            // Rewriting adds at most one dash to each flag; only "--" itself disappears.
            prop_assert!(kept + 2 >= all && kept <= all + got.flags.len());
        }
    }
}
