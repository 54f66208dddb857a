use std::convert::Infallible;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn read(text: &str) -> Option<Vec<(String, String)>> {
    let mut seen = Vec::new();
    let all = members(text.as_bytes(), |name, value| {
        let value = std::str::from_utf8(value).unwrap();
        seen.push((name.into_owned(), value.to_owned()));
        Ok::<(), Infallible>(())
    });
    all.is_ok().then_some(seen)
}

#[test]
fn members_come_in_order_with_their_names_unescaped() {
    let seen = read(r#" {"a":1,"mod\u0065l":"x","c":[{"d":2}]} "#).unwrap();
    let expected = [("a", "1"), ("model", "\"x\""), ("c", r#"[{"d":2}]"#)];
    assert_eq!(
        seen,
        expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
}

#[test]
fn what_is_no_whole_object_is_an_error_that_says_where() {
    for text in [
        "",
        "{",
        "[]",
        "7",
        r#"{"a":1} x"#,
        r#"{"a":1}{}"#,
        "\u{feff}{}",
        r#"{"a":01}"#,
        r#"{"a":1.}"#,
        r#"{"a":-}"#,
        r#"{"a":+1}"#,
        r#"{"a":.5}"#,
        r#"{"a":1e}"#,
        r#"{"a":nul}"#,
        r#"{"a":nulll}"#,
        r#"{"a":[1,]}"#,
        r#"{"a":[,1]}"#,
        r#"{"a":[1}"#,
        r#"{"a":{"b"}}"#,
        r#"{"a":{"b":1]}"#,
        r#"{"a":{1:1}}"#,
        r#"{"a":1,}"#,
        r#"{,"a":1}"#,
        r#"{"a":"\x"}"#,
        r#"{"a":"\u12g4"}"#,
        "{\"a\":\"line\nbreak\"}",
        "{\"a\":\"\u{1}\"}",
        r#"{'a':1}"#,
    ] {
        let stopped = members(text.as_bytes(), |_, _| Ok::<(), Infallible>(()));
        let Err(Stopped::Syntax(error)) = stopped else {
            panic!("{text} was taken");
        };
        assert!(
            error.to_string().contains("line 1") || text.contains('\n'),
            "{text}: {error}"
        );
    }
}

#[test]
fn nesting_does_not_use_up_the_stack() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(read(&deep).unwrap().len(), 1);
    let mixed = format!(
        "{{\"a\":{}1{}}}",
        "[{\"b\":".repeat(50_000),
        "}]".repeat(50_000)
    );
    assert_eq!(read(&mixed).unwrap().len(), 1);
}

#[test]
fn a_long_string_is_as_good_as_its_worst_byte() {
    let object = |text: &[u8]| [b"{\"a\":\"", text, b"\"}"].concat();
    let taken = |text: &[u8]| members(&object(text), |_, _| Ok::<(), Infallible>(())).is_ok();
    for length in [
        0,
        1,
        31,
        PIECE_BYTES - 1,
        PIECE_BYTES,
        PIECE_BYTES + 1,
        3 * PIECE_BYTES,
    ] {
        let text = vec![b'x'; length];
        assert!(taken(&text), "{length}");
        for at in [0, length / 2, length]
            .into_iter()
            .filter(|at| *at <= length)
        {
            // Characters that lie across two pieces too; half of one, a control character, an end too early.
            for (middle, good) in [
                ("é".as_bytes(), true),
                ("😀".as_bytes(), true),
                (b"\\\"", true),
                (b"\x7f", true),
                (b"\xc3", false),
                (b"\xff", false),
                (b"\x1f", false),
                (b"\0", false),
                (b"\"", false),
            ] {
                let text = [&text[..at], middle, &text[at..]].concat();
                assert_eq!(taken(&text), good, "{middle:?} at {at} of {length}");
            }
        }
        let open = [b"{\"a\":\"", &*text].concat();
        assert!(members(&open, |_, _| Ok::<(), Infallible>(())).is_err());
    }
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 30, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map("[a\"\\\\é\n]{0,3}", inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_text_is_an_object_exactly_when_serde_json_says_so(
        text in "[\\{\\}\\[\\]\",:01a.eE+ \\\\/untrflsx\u{1}-]{0,24}",
    ) {
        let theirs = serde_json::from_str::<Value>(&text).is_ok_and(|value| value.is_object());
        prop_assert_eq!(read(&text).is_some(), theirs);
    }

    #[test]
    fn an_object_with_one_byte_changed_is_one_exactly_when_serde_json_says_so(
        value in prop::collection::hash_map("[a\"\\\\é]{0,3}", values(), 0..4),
        pretty in any::<bool>(),
        at in any::<prop::sample::Index>(),
        byte in prop::sample::select(b"{}[]\",:0a \\n1e-.".as_slice()),
    ) {
        let json = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
        let mut changed = json.clone();
        let at = at.index(changed.len());
        changed[at] = byte;
        for bytes in [json, changed] {
            let Ok(text) = std::str::from_utf8(&bytes) else {
                prop_assert!(members(&bytes, |_, _| Ok::<(), Infallible>(())).is_err());
                continue;
            };
            // As the request path has it: names are read, values only passed over.
            let theirs = serde_json::from_str::<BTreeMap<String, IgnoredAny>>(text);
            prop_assert_eq!(read(text).is_some(), theirs.is_ok(), "{}", text);
            if let Some(members) = read(text) {
                for (name, value) in members {
                    prop_assert!(serde_json::from_str::<IgnoredAny>(&value).is_ok());
                    prop_assert!(theirs.as_ref().unwrap().contains_key(&name));
                }
            }
        }
    }
}
