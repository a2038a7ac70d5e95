//! Limits: whether a document says what is checked. utoipa's attributes take literals only, so each stands twice.

use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa::PartialSchema;

/// Holds a number of a type's schema, such as `/maximum` or `/properties/lines/maxItems`, against the constant.
///
/// # Panics
/// When these aren't the same.
pub fn assert_limit<T: PartialSchema>(pointer: &str, limit: impl Into<Value>) {
    let schema = serde_json::to_value(T::schema()).expect("JSON");
    let limit = limit.into();
    assert_eq!(schema.pointer(pointer), Some(&limit), "{pointer} of {}: {schema}", std::any::type_name::<T>());
}

/// Holds the smallest and the largest number of a type's schema against what is read as one.
///
/// # Panics
/// When a number within is refused, or one beyond is taken.
pub fn assert_bounds<T: PartialSchema + DeserializeOwned>() {
    let (schema, name) = (serde_json::to_value(T::schema()).expect("JSON"), std::any::type_name::<T>());
    let bound = |name: &str| schema[name].as_i64().unwrap_or_else(|| panic!("{schema} has no {name}"));
    let (least, most) = (bound("minimum"), bound("maximum"));
    for (number, is_within) in [(least, true), (most, true), (least - 1, false), (most + 1, false)] {
        let is_read = serde_json::from_value::<T>(number.into()).is_ok();
        assert_eq!(is_read, is_within, "{number} as {name}");
    }
}
