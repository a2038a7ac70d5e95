//! Why an operator does something. It is said with every call that changes something, and stands in the audit log.

use service_runtime::Problem;
use utoipa::ToSchema;

// A field of this type has no doc comment: utoipa would make of it all of a text and an object, which nothing is.
/// Why: it stands in the audit log.
#[derive(ToSchema)]
#[schema(value_type = String, min_length = 1, max_length = 500, pattern = r"^[^\u0000]*[^\s\u0000][^\u0000]*$")]
pub struct Justification(());

impl Justification {
    /// The longest reason, in characters.
    pub const MAX_CHARS: usize = 500;

    /// What is said, without the space around it.
    ///
    /// # Errors
    /// 422 `invalid-field` for nothing, and for what is too long or holds a NUL.
    pub fn said(said: Option<&str>) -> Result<String, Problem> {
        let said = said.map(str::trim).unwrap_or_default();
        if said.is_empty() {
            return Err(Problem::invalid_field("reason", "Say why: it stands in the audit log."));
        }
        if said.chars().count() > Self::MAX_CHARS || said.contains('\0') {
            let detail = format!("At most {} characters, without NUL, are expected.", Self::MAX_CHARS);
            return Err(Problem::invalid_field("reason", detail));
        }
        Ok(said.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use test_support::assert_limit;

    use super::*;

    #[test]
    fn a_reason_says_something() {
        for nothing in [None, Some(""), Some("  \n"), Some("a\0")] {
            assert_eq!(Justification::said(nothing).expect_err("refused").body().field.as_deref(), Some("reason"));
        }
        assert!(Justification::said(Some(&"x".repeat(501))).is_err());
        assert_eq!(Justification::said(Some(" the platform is back ")).expect("fine"), "the platform is back");
    }

    #[test]
    fn the_document_says_the_limit_that_is_checked() {
        assert_limit::<Justification>("/maxLength", Justification::MAX_CHARS);
    }
}
