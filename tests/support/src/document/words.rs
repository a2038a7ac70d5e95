//! Lists of words: whether a document spells them as they are read.

use std::fmt;

use serde::{
    Deserializer,
    de::{self, DeserializeOwned, Visitor},
    forward_to_deserialize_any,
};
use utoipa::PartialSchema;

/// Holds what documents say of an enum against what serde reads as one.
///
/// # Panics
/// When these aren't the same words.
pub fn assert_words<T: PartialSchema + DeserializeOwned>() {
    let schema = serde_json::to_value(T::schema()).expect("JSON");
    let documented: Vec<&str> =
        schema["enum"].as_array().into_iter().flatten().filter_map(|word| word.as_str()).collect();
    let Err(Learnt(read)) = T::deserialize(Learning) else { panic!("no enum, as it reads something else") };
    assert!(!read.is_empty(), "no enum");
    assert_eq!(documented, read, "{}", std::any::type_name::<T>());
}

/// Reads nothing, and learns which words there are.
struct Learning;

#[derive(Debug)]
struct Learnt(&'static [&'static str]);

impl<'de> Deserializer<'de> for Learning {
    type Error = Learnt;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Learnt> {
        Err(Learnt(&[]))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Learnt> {
        Err(Learnt(words))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl fmt::Display for Learnt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for Learnt {}

impl de::Error for Learnt {
    fn custom<M: fmt::Display>(_: M) -> Self {
        Self(&[])
    }
}
