//! Limits: whether a document says what is checked. utoipa's attributes take literals only, so each stands twice.

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
