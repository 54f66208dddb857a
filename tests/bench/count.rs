//! Token counting: throughput on ordinary text, time on hostile text, and the bound that admission takes of a body.
//!
//! `cargo bench --bench count`. The bars: 20 MB/s of English on one core, half a second for 1 MiB of anything.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use weir::dialect::Endpoint;
use weir::meter::count::{Encoding, Extent, Tokenizer, upper_bound_input, warm_up};

const MIB: usize = 1 << 20;

/// A fixed walk through the words: text without a period that a cache could learn.
#[expect(
    clippy::indexing_slicing,
    reason = "the index is reduced to the length"
)]
fn walk(words: &[&str], bytes: usize) -> String {
    let mut state = 1_u64;
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        text.push_str(words[(state >> 33) as usize % words.len()]);
    }
    text
}

fn english(bytes: usize) -> String {
    walk(
        &[
            "The ",
            "gateway ",
            "counts ",
            "every ",
            "token ",
            "of ",
            "a ",
            "request ",
            "before ",
            "it ",
            "is ",
            "sent. ",
            "When ",
            "nothing ",
            "was ",
            "reported, ",
            "its ",
            "own ",
            "figure ",
            "stands ",
            "in ",
            "the ",
            "ledger, ",
            "and ",
            "says ",
            "so.\n",
            "Subscribers ",
            "whose ",
            "habits ",
            "differ ",
            "pay ",
            "what ",
            "they've ",
            "used; ",
            "2026 ",
            "was ",
            "no ",
            "exception. ",
        ],
        bytes,
    )
}

fn ordinary(c: &mut Criterion) {
    warm_up();
    let mut group = c.benchmark_group("count");
    let code = include_str!("count.rs").repeat(MIB / include_str!("count.rs").len());
    let chinese = walk(
        &[
            "网关", "在", "发送", "请求", "之前", "计算", "每个", "令牌", "，", "。", "账本",
            "记录",
        ],
        MIB,
    );
    for (name, text) in [
        ("english", english(MIB)),
        ("code", code),
        ("chinese", chinese),
    ] {
        group.throughput(Throughput::Bytes(text.len() as u64));
        for (encoding, encoding_name) in [
            (Encoding::O200kBase, "o200k"),
            (Encoding::Cl100kBase, "cl100k"),
        ] {
            group.bench_with_input(BenchmarkId::new(encoding_name, name), &text, |b, text| {
                b.iter(|| encoding.count(text));
            });
        }
    }
    for bytes in [64, 512, 4 << 10, 16 << 10] {
        let text = english(bytes);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_with_input(
            BenchmarkId::new("o200k/english", bytes),
            &text,
            |b, text| {
                b.iter(|| Encoding::O200kBase.count(text));
            },
        );
    }
    group.finish();
}

fn hostile(c: &mut Criterion) {
    let mut group = c.benchmark_group("hostile 1 MiB");
    let letters: Vec<String> = (b'a'..=b'z')
        .map(|letter| char::from(letter).to_string())
        .collect();
    let base64: Vec<String> = ('a'..='z')
        .chain('A'..='Z')
        .chain('0'..='9')
        .map(String::from)
        .collect();
    let marks: Vec<String> = "!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~"
        .chars()
        .map(String::from)
        .collect();
    let han: Vec<String> = ('\u{4e00}'..'\u{9fa0}').map(String::from).collect();
    let random =
        |pieces: &[String]| walk(&pieces.iter().map(String::as_str).collect::<Vec<_>>(), MIB);
    for (name, text) in [
        ("one letter", "a".repeat(MIB)),
        ("spaces", " ".repeat(MIB)),
        ("newlines", "\n".repeat(MIB)),
        ("punctuation", "!".repeat(MIB)),
        ("emoji", "👩‍👩‍👧‍👦🏽🇩🇪".repeat(MIB / 37)),
        ("random letters", random(&letters)),
        ("random base64", random(&base64)),
        ("random punctuation", random(&marks)),
        ("random han", random(&han)),
        ("combining marks", "e\u{301}\u{302}".repeat(MIB / 5)),
    ] {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_with_input(BenchmarkId::new("o200k", name), &text, |b, text| {
            b.iter(|| Encoding::O200kBase.count(text));
        });
    }
    group.finish();
}

fn bound(c: &mut Criterion) {
    let mut group = c.benchmark_group("bound");
    let chat = |text: &str| {
        serde_json::json!({"model": "gpt-4o", "messages": [{"role": "user", "content": text}]})
            .to_string()
    };
    let image = serde_json::json!({"model": "gpt-4o", "messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{}", "A".repeat(20 * MIB))}}]}]});
    for (name, body) in [
        ("chat of 200 B", chat(&english(128))),
        ("chat of 4 KiB", chat(&english(4 << 10))),
        ("chat of 16 KiB", chat(&english(15 << 10))),
        ("chat of 1 MiB", chat(&english(MIB))),
        ("image of 20 MiB", image.to_string()),
    ] {
        let tokenizer = Tokenizer::for_model("gpt-4o", None);
        group.bench_with_input(
            BenchmarkId::new("upper_bound_input", name),
            &body,
            |b, body| {
                b.iter(|| {
                    upper_bound_input(
                        &Endpoint::ChatCompletions,
                        tokenizer,
                        "gpt-4o",
                        body.as_bytes(),
                    )
                });
            },
        );
        group.bench_with_input(BenchmarkId::new("extent", name), &body, |b, body| {
            b.iter(|| Extent::of(body.as_bytes()));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(1));
    targets = ordinary, hostile, bound
}
criterion_main!(benches);
