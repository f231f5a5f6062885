//! Parses JSON that every reader interprets alike.
//!
//! Runtimes are written in Go, whose `encoding/json` matches the names of fields whatever their case and takes the last
//! of several. A manifest with `layers` and `LAYERS` would be one image here and another one there. So objects with two
//! names that are equal or differ in case only are refused at any depth. Text that is not UTF-8, which Go
//! would repair, is refused by `serde_json`, and so is nesting deeper than 128.

use std::{collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// Parses one JSON text.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice::<Unambiguous>(bytes).map(|unambiguous| unambiguous.0)
}

struct Unambiguous(Value);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Unambiguous)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Unambiguous(value)) = items.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        let mut names = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            if !names.insert(folded(&name)) {
                return Err(A::Error::custom(format!("the name {name:?} occurs twice in one object")));
            }
            let Unambiguous(value) = members.next_value()?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

/// Folds the case of a name as Go does. Through upper case first, because Go takes `ſ` for `s` and the Kelvin sign for
/// `k`.
fn folded(name: &str) -> String {
    name.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // What fails in here fails the test.
mod tests {
    use super::*;

    #[test]
    fn unambiguous_json_is_parsed() {
        let text = r#"{"a":[1,-2,0.5,"x",null,true,{"B":{},"c":[]}],"á":"\u00e9"}"#;
        assert_eq!(parse(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn names_that_go_considers_equal_are_rejected() {
        for text in [
            r#"{"layers":1,"layers":2}"#,
            r#"{"layers":1,"Layers":2}"#,
            r#"{"a":[{"b":{"digest":1,"DIGEST":1}}]}"#,
            "{\"layers\":1,\"layer\u{17f}\":2}",
            "{\"kind\":1,\"\u{212a}ind\":2}",
            r#"{"layers":1,"\u006cayers":2}"#,
        ] {
            assert!(parse(text.as_bytes()).unwrap_err().to_string().contains("occurs twice"), "{text}");
        }
    }

    #[test]
    fn invalid_json_is_rejected() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        for bytes in
            [b"".as_slice(), b"{} {}", b"{\"a\":\"\xff\"}", b"\xef\xbb\xbf{}", b"{\"a\":1e999}", deep.as_bytes()]
        {
            assert!(parse(bytes).is_err());
        }
    }
}
