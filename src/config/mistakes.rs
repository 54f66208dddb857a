//! What a broken configuration says: the page `mistakes.md`, checked.

use proptest::prelude::*;

use super::tests::{EXAMPLE, environment};
use super::*;

/// A snippet of the page and what stands beside it.
struct Mistake<'p> {
    file: &'p str,
    name: &'p str,
    text: &'p str,
    message: &'p str,
}

#[test]
fn every_mistake_has_its_place_its_key_and_what_was_expected() {
    let environment = FixedEnvironment::default()
        .with_variable("SET", "a-secret")
        .with_file("notes.txt", "buy milk")
        .with_file("chain.pem", "-----BEGIN CERTIFICATE-----\n");
    let page = mistakes(include_str!("mistakes.md"));
    assert!(page.len() >= 100, "the page was not understood");
    for mistake in page {
        let errors = match mistake.file {
            "weir.toml" => parse(mistake.text.as_bytes(), mistake.file, &environment).map(drop),
            file => prices::table(&[(file, mistake.text)], &environment).map(drop),
        };
        let said = errors.expect_err(mistake.name).to_string();
        assert_eq!(said, mistake.message, "{}", mistake.name);
        assert!(!said.contains("hunter2"), "{} shows a secret", mistake.name);
    }
}

#[test]
fn neither_a_byte_order_mark_nor_windows_line_ends_move_the_place() {
    for (text, place) in [
        ("\u{feff}lisen = 1", "weir.toml:1:1: lisen: "),
        (
            "[server]\r\n\r\nlisen = 1\r\n",
            "weir.toml:3:1: server.lisen: ",
        ),
    ] {
        let errors = parse(text.as_bytes(), "weir.toml", &FixedEnvironment::default());
        let said = errors.expect_err(text).to_string();
        assert!(said.starts_with(place), "{said}");
    }
}

#[test]
fn five_mistakes_are_shown_at_once() {
    let errors = parse(FIVE_MISTAKES.as_bytes(), "weir.toml", &environment()).unwrap_err();
    assert_eq!(errors.to_string(), "\
weir.toml:2:10: server.listen: is an integer, expected an IP address and a port such as \"127.0.0.1:8080\" or \"[::1]:8080\"
weir.toml:3:1: server.idle_timout: is not a known key, did you mean \"idle_timeout\"?
weir.toml:6:9: plans[0].price: is an integer, expected money; write it as a string: \"200.00\"
weir.toml:9:8: accounts[0].plan: there is no plan \"pr\", did you mean \"pro\"?
weir.toml:10:9: accounts[0].since: is a string, expected a date without quotes, such as 2025-03-01");
}

#[test]
fn beside_a_syntax_error_all_is_told_but_what_may_be_missing_for_it() {
    let text = FIVE_MISTAKES.replace("\"soon\"", "2025-13-01");
    let errors = parse(text.as_bytes(), "weir.toml", &environment()).unwrap_err();
    let lines: Vec<usize> = errors
        .errors
        .iter()
        .filter_map(|e| Some(e.position?.line))
        .collect();
    assert_eq!(lines, [2, 3, 6, 10], "{errors}");
}

#[test]
fn mistakes_of_several_files_come_together() {
    let environment = FixedEnvironment::default()
        .with_file("one.toml", "[[models]]\nmodel = \"m\"\nprices = [{ from = 2025-01-01, input = \"1\", source = \"s\" }]\n")
        .with_file("two.toml", "[[models]]\nmodel = \"m\"\nprices = [{ from = 2025-01-01, input = 1, source = \"s\" }]\n");
    let text = "[prices]\nfiles = [\"one.toml\", \"two.toml\"]\nunpriced = \"deny\"\n";
    let errors = parse(text.as_bytes(), "weir.toml", &environment).unwrap_err();
    assert_eq!(errors.to_string(), "\
weir.toml:3:12: prices.unpriced: is \"deny\", expected \"allow\" or \"reject\"
two.toml:2:9: models[0].model: \"m\" has prices already (one.toml:2), expected each model once
two.toml:3:40: models[0].prices[0].input: is an integer, expected money; write it as a string: \"1.00\"");
}

#[test]
fn what_is_not_utf8_has_its_place() {
    let errors = parse(b"# \xc3\xa9\n# \xc3\xa9 \xff", "weir.toml", &environment());
    assert_eq!(
        errors.unwrap_err().to_string(),
        "weir.toml:2:5: is not UTF-8 here, expected UTF-8 text"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let errors = load(Some(Path::new("nowhere/weir.toml"))).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "nowhere/weir.toml: cannot be read: No such file or directory (os error 2), expected a configuration file"
    );
}

#[test]
fn a_flood_of_anything_is_refused_in_bounded_time_and_words() {
    let keys: String = (0..20_000).map(|n| format!("key{n} = 1\n")).collect();
    let floods = [
        "[".repeat(1 << 18),
        "a=[".repeat(80_000),
        "a={a=".repeat(50_000),
        "a.".repeat(120_000),
        "[[plans]]\n".repeat(25_000),
        "[a]\n".repeat(60_000),
        "\"".repeat(1 << 18),
        "= = =\n".repeat(40_000),
        "\u{0}".repeat(1 << 18),
        keys,
    ];
    for flood in floods {
        let errors = parse(flood.as_bytes(), "weir.toml", &environment()).unwrap_err();
        assert!(errors.errors.len() <= ConfigErrors::MAX);
        assert!(errors.to_string().len() < 1 << 18, "{}", &flood[..20]);
    }
}

#[test]
fn tables_nested_as_deep_as_the_parser_takes_them_do_not_overflow_the_stack() {
    let dotted = vec!["a"; 79].join(".");
    let nested = format!("{dotted} = {{").repeat(79);
    let text = format!("[{dotted}]\n{nested}{}", "}".repeat(79));
    assert!(parse(text.as_bytes(), "weir.toml", &environment()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = parse(&bytes, "weir.toml", &environment());
    }

    #[test]
    fn no_damage_to_a_good_file_makes_it_panic(
        cuts in proptest::collection::vec((0..EXAMPLE.len(), 0..12_usize, "[a-z\\[\\]{}=\"'.,#\n0-9é \\\\-]{0,6}"), 1..4),
    ) {
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        for (at, length, instead) in cuts {
            let at = at.min(bytes.len());
            let end = (at + length).min(bytes.len());
            bytes.splice(at..end, instead.bytes());
        }
        // The shipped price table would take most of the time.
        let environment = environment().with_file("etc/prices.toml", "");
        let _ = parse(&bytes, "etc/weir.toml", &environment);
        let text = String::from_utf8_lossy(&bytes);
        let _ = prices::table(&[("prices.toml", &text)], &environment);
    }
}

/// The page's sections: `## FILE`, and under it `### NAME` with a fenced snippet and a fenced message.
fn mistakes(page: &str) -> Vec<Mistake<'_>> {
    let files = page.split("\n## ").skip(1);
    let sections = files.flat_map(|section| {
        let (file, rest) = section.split_once('\n').unwrap();
        rest.split("\n### ").skip(1).map(move |entry| (file, entry))
    });
    sections
        .map(|(file, entry)| {
            let (name, rest) = entry.split_once('\n').unwrap();
            let (text, rest) = fenced(rest, "```toml\n");
            let (message, _) = fenced(rest, "```text\n");
            Mistake {
                file,
                name,
                text,
                message: message.trim_end_matches('\n'),
            }
        })
        .collect()
}

/// What stands between an opening fence and the next closing one, and what follows.
fn fenced<'p>(page: &'p str, open: &str) -> (&'p str, &'p str) {
    let (_, inside) = page.split_once(open).unwrap();
    let end = inside.find("```").unwrap();
    inside.split_at(end)
}

const FIVE_MISTAKES: &str = r#"[server]
listen = 8080
idle_timout = "75s"
[[plans]]
id = "pro"
price = 200
[[accounts]]
id = "acme"
plan = "pr"
since = "soon"
"#;
