//! Walking a request body without a tree: a value is looked into only where its meaning is known, so what a body holds
//! besides costs neither memory nor recursion.

use std::borrow::Cow;

pub(super) use crate::dialect::json::{each_element, text};

/// Calls `each` with every member of an object; any other value has none.
pub(super) fn each_member<'v>(value: &'v str, mut each: impl FnMut(&str, &'v str)) {
    if is_object(value) {
        // What is walked has been found to be well-formed before.
        crate::dialect::json::each_member(value, |name, value| each(&name, value));
    }
}

/// Whether the value is an array.
pub(super) fn is_array(value: &str) -> bool {
    value.starts_with('[')
}

/// Whether the value is an object.
pub(super) fn is_object(value: &str) -> bool {
    value.starts_with('{')
}

/// The member of this name; the last one, if it is given twice.
pub(super) fn member<'v>(value: &'v str, name: &str) -> Option<&'v str> {
    let mut found = None;
    each_member(value, |member, value| {
        if member == name {
            found = Some(value);
        }
    });
    found
}

/// The text of the member of this name; empty where there is none.
pub(super) fn member_text<'v>(value: &'v str, name: &str) -> Cow<'v, str> {
    member(value, name).and_then(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_found_by_its_name_however_it_is_written() {
        let value = r#"{"a": [1, {"b": "}"}], "\u0062": "x\ny", "c": 1, "c": "last"}"#;
        assert_eq!(member(value, "a"), Some(r#"[1, {"b": "}"}]"#));
        assert_eq!(member_text(value, "b"), "x\ny");
        assert_eq!(member_text(value, "c"), "last");
        assert_eq!(member_text(value, "a"), "");
        assert_eq!(member("7", "a"), None);
    }
}
