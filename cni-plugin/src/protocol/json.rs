//! JSON as CNI configs need it read.
//!
//! Runtimes and plugins of this ecosystem are written in Go, whose decoder matches keys whatever their case, takes
//! the last of several equal keys and treats `null` as absent; containerd even sends its capabilities in
//! CamelCase. So the document is kept as it came, members in order, and asked by these rules. A [`Section`] is an
//! object that knows where it stands, so that an error names `delegate.mtu` and not just `mtu`.

use std::fmt;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Number;

use super::Error;

/// Any JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// Any number
    Number(Number),
    /// Text
    String(String),
    /// A list
    Array(Vec<Self>),
    /// Members in the order of the document
    Object(Object),
}

/// The members of a JSON object in the order of the document, repeated keys included.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object {
    members: Vec<(String, Json)>,
}

impl Json {
    /// Reads one document; anything but white space after it is an error.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// What kind of value this is, for error messages.
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u32> for Json {
    fn from(value: u32) -> Self {
        Self::Number(value.into())
    }
}

impl From<Object> for Json {
    fn from(object: Object) -> Self {
        Self::Object(object)
    }
}

impl From<Vec<Self>> for Json {
    fn from(list: Vec<Self>) -> Self {
        Self::Array(list)
    }
}

impl Object {
    /// The value of `key`: the last member of that name in any case that is not `null`.
    pub fn member(&self, key: &str) -> Option<&Json> {
        self.members
            .iter()
            .rev()
            .find(|(name, value)| name.eq_ignore_ascii_case(key) && *value != Json::Null)
            .map(|(_, value)| value)
    }

    /// All members.
    pub fn members(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.members
            .iter()
            .map(|(key, value)| (key.as_str(), value))
    }

    /// Whether `key` has a value. An empty list or text is a value, `null` is none.
    pub fn has(&self, key: &str) -> bool {
        self.member(key).is_some()
    }

    /// Gives `key` this value and no other.
    pub fn set(&mut self, key: &str, value: impl Into<Json>) {
        self.remove(key);
        self.members.push((key.to_owned(), value.into()));
    }

    /// Gives `key` this value unless it has one.
    pub fn set_default(&mut self, key: &str, value: impl Into<Json>) {
        if !self.has(key) {
            self.set(key, value);
        }
    }

    /// Takes `key` away, however often and in whatever case it is there.
    pub fn remove(&mut self, key: &str) {
        self.members
            .retain(|(name, _)| !name.eq_ignore_ascii_case(key));
    }
}

/// An object inside a config together with its path.
#[derive(Clone, Debug, PartialEq)]
pub struct Section<'a> {
    object: &'a Object,
    path: String,
}

impl<'a> Section<'a> {
    /// The whole config.
    pub fn root(object: &'a Object) -> Self {
        Self {
            object,
            path: String::new(),
        }
    }

    /// The members themselves.
    pub fn object(&self) -> &'a Object {
        self.object
    }

    /// How `key` of this section is called in messages.
    pub fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Whether `key` has a value.
    pub fn has(&self, key: &str) -> bool {
        self.object.has(key)
    }

    /// A text; `None` when absent.
    pub fn string(&self, key: &str) -> Result<Option<&'a str>, Error> {
        match self.object.member(key) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong_type(key, "a string", other)),
        }
    }

    /// A text parsed into `T`; empty counts as absent, as it does for Go's zero values.
    pub fn parsed<T>(&self, key: &str) -> Result<Option<T>, Error>
    where
        T: std::str::FromStr,
        T::Err: fmt::Display,
    {
        let Some(text) = self.string(key)?.filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        text.parse()
            .map(Some)
            .map_err(|reason: T::Err| Error::InvalidConfig {
                key: self.path_of(key),
                value: text.to_owned(),
                reason: reason.to_string(),
            })
    }

    /// A boolean; `None` when absent.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, Error> {
        match self.object.member(key) {
            None => Ok(None),
            Some(Json::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(self.wrong_type(key, "true or false", other)),
        }
    }

    /// A number that fits 32 bits without a sign; `None` when absent.
    pub fn number(&self, key: &str) -> Result<Option<u32>, Error> {
        match self.object.member(key) {
            None => Ok(None),
            Some(Json::Number(number)) => number
                .as_u64()
                .and_then(|wide| u32::try_from(wide).ok())
                .map(Some)
                .ok_or_else(|| Error::InvalidConfig {
                    key: self.path_of(key),
                    value: number.to_string(),
                    reason: "it must be a whole number from 0 to 4294967295".to_owned(),
                }),
            Some(other) => Err(self.wrong_type(key, "a number", other)),
        }
    }

    /// An object; `None` when absent.
    pub fn section(&self, key: &str) -> Result<Option<Self>, Error> {
        match self.object.member(key) {
            None => Ok(None),
            Some(Json::Object(object)) => Ok(Some(Self {
                object,
                path: self.path_of(key),
            })),
            Some(other) => Err(self.wrong_type(key, "an object", other)),
        }
    }

    /// A list; `None` when absent, which is not the same as empty.
    pub fn list(&self, key: &str) -> Result<Option<&'a [Json]>, Error> {
        match self.object.member(key) {
            None => Ok(None),
            Some(Json::Array(items)) => Ok(Some(items)),
            Some(other) => Err(self.wrong_type(key, "a list", other)),
        }
    }

    /// A list of objects; absent and empty are both no objects.
    pub fn sections(&self, key: &str) -> Result<Vec<Self>, Error> {
        self.list(key)?
            .unwrap_or_default()
            .iter()
            .enumerate()
            .map(|(index, item)| self.item_section(key, index, item))
            .collect()
    }

    /// `item`, the element `index` of the list `key`, as an object.
    pub fn item_section(&self, key: &str, index: usize, item: &'a Json) -> Result<Self, Error> {
        let key = format!("{key}[{index}]");
        match item {
            Json::Object(object) => Ok(Self {
                object,
                path: self.path_of(&key),
            }),
            other => Err(self.wrong_type(&key, "an object", other)),
        }
    }

    /// A list of texts; absent and empty are both no texts.
    pub fn strings(&self, key: &str) -> Result<Vec<String>, Error> {
        self.list(key)?
            .unwrap_or_default()
            .iter()
            .enumerate()
            .map(|(index, item)| match item {
                Json::String(text) => Ok(text.clone()),
                other => Err(self.wrong_type(&format!("{key}[{index}]"), "a string", other)),
            })
            .collect()
    }

    /// The error for a value of the wrong kind.
    pub fn wrong_type(&self, key: &str, expected: &'static str, found: &Json) -> Error {
        Error::WrongType {
            key: self.path_of(key),
            expected,
            found: found.kind(),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Json, E> {
        Number::from_f64(value)
            .map(Json::Number)
            .ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Json, E> {
        Ok(Json::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = entries.next_entry()? {
            members.push(member);
        }
        Ok(Json::Object(Object { members }))
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Self::Object(object) => object.serialize(serializer),
        }
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.members.len()))?;
        for (key, value) in &self.members {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn object(text: &str) -> Object {
        match Json::parse(text.as_bytes()) {
            Ok(Json::Object(object)) => object,
            other => panic!("not an object: {other:?}"),
        }
    }

    #[test]
    fn keys_match_in_any_case_and_the_last_one_wins() {
        let object = object(r#"{"Name":"a","name":"b","NAME":null,"nAmE":"c","other":1}"#);
        assert_eq!(object.member("name"), Some(&Json::from("c")));
    }

    #[test]
    fn null_is_absent_and_empty_is_not() {
        let object = object(r#"{"gone":null,"empty":[],"text":""}"#);
        let section = Section::root(&object);
        assert_eq!(section.list("gone").unwrap(), None);
        assert_eq!(section.list("missing").unwrap(), None);
        assert_eq!(section.list("empty").unwrap(), Some(&[][..]));
        assert_eq!(section.string("text").unwrap(), Some(""));
        assert_eq!(section.parsed::<u8>("text").unwrap(), None);
    }

    #[test]
    fn errors_name_the_whole_path() {
        let object = object(r#"{"delegate":{"mtu":"big","list":[1,{"x":-1}]}}"#);
        let delegate = Section::root(&object).section("delegate").unwrap().unwrap();
        let error = delegate.number("mtu").unwrap_err().to_string();
        assert!(error.contains("delegate.mtu"), "{error}");
        let error = delegate.sections("list").unwrap_err().to_string();
        assert!(error.contains("delegate.list[0]"), "{error}");
        let items = delegate.list("list").unwrap().unwrap();
        let item = delegate.item_section("list", 1, &items[1]).unwrap();
        let error = item.number("x").unwrap_err().to_string();
        assert!(error.contains("delegate.list[1].x"), "{error}");
    }

    #[test]
    fn setting_replaces_every_spelling() {
        let mut object = object(r#"{"MTU":1,"b":2,"mtu":3}"#);
        object.set("mtu", 1450);
        object.set_default("b", 9);
        assert_eq!(
            serde_json::to_string(&object).unwrap(),
            r#"{"b":2,"mtu":1450}"#
        );
    }

    #[test]
    fn depth_is_bounded() {
        let deep = "[".repeat(100_000);
        assert!(Json::parse(deep.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Json::parse(&bytes);
        }

        #[test]
        fn what_is_written_reads_back(json in documents()) {
            let text = serde_json::to_vec(&json).unwrap();
            prop_assert_eq!(Json::parse(&text).unwrap(), json);
        }
    }

    fn documents() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::Bool),
            any::<u64>().prop_map(|n| Json::Number(n.into())),
            ".*".prop_map(Json::String),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
                proptest::collection::vec((".*", inner), 0..4)
                    .prop_map(|members| Json::Object(Object { members })),
            ]
        })
    }
}
