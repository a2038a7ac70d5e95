//! What the documents of HTTP calls say of ids, amounts, reasons and traces: what their JSON Schemas say, so that a
//! limit has one home for both.

use std::borrow::Cow;

use schemars::{JsonSchema, schema_for};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{Object, RefOr, Schema},
};

use crate::{
    ids::{CouponId, EntryId, EventId, IssuedCouponId, OrderId, ProductId, UserId},
    money::{Percent, Quantity, Won},
    reason::{CancelReason, ClaimRefusal, ReasonCode},
    trace::TraceId,
};

macro_rules! documented {
    ($($name:ident),+ $(,)?) => {
        $(
            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    of_json_schema::<Self>().into()
                }
            }

            impl ToSchema for $name {
                fn name() -> Cow<'static, str> {
                    Self::schema_name()
                }
            }
        )+
    };
}

documented! {
    CancelReason, ClaimRefusal, CouponId, EntryId, EventId, IssuedCouponId, OrderId, Percent, ProductId, Quantity,
    ReasonCode, UserId, Won,
}

/// Asked for with capitals, too; answered, as in events, without.
const TRACE_ID: &str = "^0*[1-9A-Fa-f][0-9A-Fa-f]*$";

impl PartialSchema for TraceId {
    fn schema() -> RefOr<Schema> {
        let mut schema = of_json_schema::<Self>();
        schema.pattern = Some(TRACE_ID.to_owned());
        schema.into()
    }
}

impl ToSchema for TraceId {
    fn name() -> Cow<'static, str> {
        Self::schema_name()
    }
}

/// A document has a dialect, and names of its own.
const NOT_TAKEN: [&str; 2] = ["$schema", "title"];

fn of_json_schema<T: JsonSchema>() -> Object {
    let mut schema = schema_for!(T);
    for keyword in NOT_TAKEN {
        schema.remove(keyword);
    }
    serde_json::from_value(schema.into()).expect("ids, amounts and reasons are texts and numbers")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_has_the_limits_of_the_json_schema() {
        let schema = |schema: RefOr<Schema>| serde_json::to_value(schema).expect("JSON");
        let won = schema(Won::schema());
        assert_eq!((&won["minimum"], &won["maximum"]), (&json!(0), &json!(Won::MAX.get())));
        let product = schema(ProductId::schema());
        assert_eq!((&product["minLength"], &product["maxLength"]), (&json!(1), &json!(128)));
        assert!(product["pattern"].is_string(), "{product}");
        assert_eq!(schema(OrderId::schema())["format"], "uuid");
        assert_eq!(schema(TraceId::schema())["pattern"], TRACE_ID, "asked for in either case");
        let reason = schema(CancelReason::schema());
        assert_eq!((&reason["type"], &reason["enum"]), (&json!("string"), &json!(null)), "the list is open");
        assert!(reason["pattern"].is_string(), "{reason}");
    }
}
