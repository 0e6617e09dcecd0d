//! JSON objects read by Go's rules, which is what flannel's users write for: keys match in any case of letters, the last
//! of several wins, `null` counts as absent, and what is not known is passed over.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of an object under their keys in lower case.
#[derive(Debug, Default)]
pub(crate) struct Members(BTreeMap<String, Box<RawValue>>);

impl Members {
    /// Reads one object that fills the whole text.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }

    /// The text of a member.
    pub(crate) fn raw(&self, key: &str) -> Option<&RawValue> {
        self.0.get(&key.to_ascii_lowercase()).map(|value| &**value)
    }

    /// A member as the type it must have; the error is the text that stands there instead.
    pub(crate) fn value<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, String> {
        let Some(raw) = self.raw(key) else {
            return Ok(None);
        };
        serde_json::from_str(raw.get())
            .map(Some)
            .map_err(|_| crate::cidr::shortened(raw.get()))
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Collect)
    }
}

struct Collect;

impl<'de> Visitor<'de> for Collect {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = BTreeMap::new();
        while let Some((key, value)) = map.next_entry::<String, Box<RawValue>>()? {
            if value.get() != "null" {
                members.insert(key.to_ascii_lowercase(), value);
            }
        }
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_of_equal_keys_wins_whatever_their_case() {
        let members = Members::parse(br#"{"Port":1,"port":2,"PORT":3,"port":null}"#).unwrap();
        assert_eq!(members.value::<u16>("Port"), Ok(Some(3)));
        assert_eq!(members.value::<u16>("VNI"), Ok(None));
    }

    #[test]
    fn a_wrong_type_is_shown_as_it_stands() {
        let members = Members::parse(br#"{"Port":"high"}"#).unwrap();
        assert_eq!(members.value::<u16>("Port"), Err(r#""high""#.to_string()));
    }

    #[test]
    fn only_one_whole_object_is_taken() {
        for text in ["", "[]", "null", "1", "{", "{} {}", "{\"a\":}"] {
            assert!(Members::parse(text.as_bytes()).is_err(), "{text} was taken");
        }
    }
}
