//! `/metrics` stays bounded whatever clients send and however many accounts there are.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::time::Duration;

use crate::support::{Client, Gateway, Reply, Upstream, chat_answer, config};

const ACCOUNTS: usize = 100_000;
const MODELS: usize = 10_000;
const CLIENTS: usize = 20;

/// Plans with limits that never refuse, so that each account has counters too.
fn accounts() -> String {
    let mut text = String::new();
    for plan in ["free", "plus", "pro"] {
        let _ = writeln!(
            text,
            "[[plans]]\nid = \"{plan}\"\nprice = \"20.00\"\n[[plans.limits]]\non = \"tokens\"\nmax = 1000000\nper = \"month\""
        );
    }
    for number in 0..ACCOUNTS {
        let plan = ["free", "plus", "pro"][number % 3];
        let _ = writeln!(
            text,
            "[[accounts]]\nid = \"user-{number}\"\nplan = \"{plan}\"\nsince = 2026-01-01"
        );
        if number < MODELS {
            let _ = writeln!(
                text,
                "keys = [{{ id = \"key-{number}\", secret = \"sk-{number}\" }}]"
            );
        }
    }
    text
}

/// What a page of metrics holds: its series, and how many values each label has in each family.
struct Page {
    series: usize,
    bytes: usize,
    values: HashMap<(String, String), HashSet<String>>,
}

impl Page {
    fn of(text: &str) -> Page {
        let mut page = Page {
            series: 0,
            bytes: text.len(),
            values: HashMap::new(),
        };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            page.series += 1;
            let Some((name, rest)) = line.split_once('{') else {
                continue;
            };
            let labels = rest.rsplit_once('}').unwrap().0;
            for label in labels.split("\",") {
                let (label, value) = label.split_once("=\"").unwrap();
                let place = (name.to_owned(), label.to_owned());
                let value = value.trim_end_matches('"').to_owned();
                page.values.entry(place).or_default().insert(value);
            }
        }
        page
    }

    fn values(&self, family: &str, label: &str) -> &HashSet<String> {
        let place = (family.to_owned(), label.to_owned());
        self.values
            .get(&place)
            .unwrap_or_else(|| panic!("{family} has no {label}"))
    }
}

/// The families that name accounts.
const BY_ACCOUNT: [&str; 2] = ["weir_account_margin_usd", "weir_limit_used_ratio"];

#[tokio::test(flavor = "multi_thread")]
async fn accounts_in_the_file_and_models_made_up_by_clients_do_not_become_series() {
    let upstream =
        Upstream::start(|_| Reply::json(200, chat_answer(10, 5).replace("gpt-4o-mini", "made-up")))
            .await;
    // Both names of the same figures, so that every family is there.
    let more = format!(
        "[metrics]\nalso = [\"gen_ai\", \"litellm\"]\n{}",
        accounts()
    );
    let gateway = Gateway::start(&config(&upstream, &more)).await;
    let address = gateway.address;
    let senders = (0..CLIENTS).map(|sender| {
        tokio::spawn(async move {
            for number in (sender..MODELS).step_by(CLIENTS) {
                // Each by an account of its own, with a model that nobody knows.
                let client = Client::new(address, &format!("sk-{number}"));
                let body = format!(
                    r#"{{"model":"model-{number}","messages":[{{"role":"user","content":"Hi."}}]}}"#
                );
                let reply = client.post("/v1/chat/completions", body).await;
                assert_eq!(reply.status, 200, "{}", reply.text());
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
    // Paths are made up as well; nothing serves them.
    let client = Client::new(address, "sk-0");
    for number in 0..300 {
        let letter = |at: u32| char::from(b'a' + (number / 26_u32.pow(at) % 26) as u8);
        let path = format!("/v1/made-up-{}{}", letter(1), letter(0));
        client.get(&path).await;
    }
    let scraper = Client::new(gateway.admin, "admin-token");
    // Gauges of plans and accounts are computed beside the scrapes.
    let mut page = Page::of("");
    for _ in 0..300 {
        page = Page::of(&scraper.get("/metrics").await.text());
        let is_there = |family: &&str| {
            page.values
                .contains_key(&((*family).to_owned(), "account".to_owned()))
        };
        if BY_ACCOUNT.iter().all(is_there) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!(
        "{ACCOUNTS} accounts, {MODELS} made-up models: {} series, {} bytes",
        page.series, page.bytes
    );
    assert!(page.series < 1_000, "{} series", page.series);
    assert!(page.bytes < 200_000, "{} bytes", page.bytes);
    let models = page.values("weir_requests_total", "model");
    assert!(models.is_subset(&HashSet::from(["other".to_owned(), "none".to_owned()])));
    for (family, label) in [
        ("weir_requests_total", "endpoint"),
        ("weir_request_duration_seconds_count", "endpoint"),
    ] {
        let known = ["chat.completions", "other"].map(str::to_owned);
        assert_eq!(
            page.values(family, label),
            &HashSet::from(known),
            "{family}"
        );
    }
    for family in BY_ACCOUNT {
        assert!(page.values(family, "account").len() <= 100, "{family}");
    }
    for ((family, label), values) in &page.values {
        assert!(values.len() <= 100, "{family}: {} of {label}", values.len());
    }
}
