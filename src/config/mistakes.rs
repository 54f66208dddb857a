//! What a broken configuration says: the page `mistakes.md`, checked.

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
