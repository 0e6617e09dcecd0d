//! The prefix of a network's annotations (`--kube-annotation-prefix`).

use std::fmt;
use std::str::FromStr;

use super::NodeAnnotation;
use crate::cidr::shortened;

/// A prefix, complete: behind it stands the annotation's name. Several networks in one cluster have one each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnotationPrefix(String);

/// A text that is no prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{text}\" is no prefix of annotations; write a domain with a dot, and if need be one slash and a name, all in small letters: example.com or example.com/first"
)]
pub struct PrefixError {
    /// The text as given, cut when long.
    pub text: String,
}

impl AnnotationPrefix {
    /// The whole key of an annotation.
    #[must_use]
    pub fn key(&self, annotation: NodeAnnotation) -> String {
        format!("{}{annotation}", self.0)
    }

    /// The text, with the slash or dash that it ends in.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AnnotationPrefix {
    type Err = PrefixError;

    /// flannel's rule: `example.com` becomes `example.com/`, and `example.com/first` becomes `example.com/first-`.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (domain, name) = text.split_once('/').unwrap_or((text, ""));
        let labels: Vec<&str> = domain.split('.').collect();
        let labelled = |label: &&str| !label.is_empty() && label.bytes().all(is_plain);
        if labels.len() < 2 || !labels.iter().all(labelled) || !name.bytes().all(is_plain) {
            return Err(PrefixError {
                text: shortened(text),
            });
        }
        let dash = match name.bytes().last() {
            None | Some(b'-') => "",
            Some(_) => "-",
        };
        // A name of one dash is left as it is by flannel and then refused, because nothing stands before the dash.
        if name == "-" {
            return Err(PrefixError {
                text: shortened(text),
            });
        }
        Ok(Self(format!("{domain}/{name}{dash}")))
    }
}

impl fmt::Display for AnnotationPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-')
}
