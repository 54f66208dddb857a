//! `weir demo` as somebody meets it: one command, no key, no network, and a plan in loss with what mends it.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

/// A demo that runs. Killed when dropped.
struct Demo {
    process: Child,
    said: String,
}

impl Demo {
    /// Starts it in a directory and waits until it has said everything.
    fn start(directory: &Path) -> Demo {
        Demo::start_with(directory, &[])
    }

    /// The same under the plans of another configuration.
    fn start_under(plans: &Path, directory: &Path) -> Demo {
        Demo::start_with(directory, &["-c", plans.to_str().unwrap()])
    }

    fn start_with(directory: &Path, options: &[&str]) -> Demo {
        let mut process = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(options)
            .args([
                "--history-days",
                "32",
                "--rate",
                "8",
                "--for",
                "600",
                "--dir",
            ])
            .arg(directory)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut demo = Demo {
            process,
            said: String::new(),
        };
        loop {
            let line = receiver
                .recv_timeout(Duration::from_secs(240))
                .unwrap_or_else(|_| panic!("the demo says no more after:\n{}", demo.said));
            demo.said += &line;
            demo.said.push('\n');
            if line.starts_with("Ctrl-C stops it") {
                return demo;
            }
        }
    }

    /// The printed line that begins so.
    fn line(&self, begins: &str) -> &str {
        let found = self
            .said
            .lines()
            .find(|line| line.trim_start().starts_with(begins));
        found.unwrap_or_else(|| panic!("no line {begins:?} in:\n{}", self.said))
    }

    /// Presses Ctrl-C; the exit code.
    fn interrupt(&mut self) -> Option<i32> {
        let id = self.process.id().to_string();
        Command::new("kill").args(["-INT", &id]).status().unwrap();
        for _ in 0..600 {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the demo does not stop");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs a command as it is printed, but for the program's own place, and reads its JSON.
fn run(command: &str) -> Value {
    let program = env!("CARGO_BIN_EXE_weir");
    let command = command
        .trim_start()
        .replacen("weir ", &format!("{program} "), 1);
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn pro(report: &Value) -> &Value {
    let rows = report["rows"].as_array().unwrap();
    rows.iter().find(|row| row["id"] == "pro").unwrap()
}

fn usd(amount: &Value) -> f64 {
    amount.as_str().unwrap().parse().unwrap()
}

#[test]
fn the_demo_shows_a_plan_in_loss_who_causes_it_and_what_mends_it() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("demo");
    let mut demo = Demo::start(&directory);

    // What it prints is what `weir margin` says, but for the requests since.
    let loss = demo.line("pro at $200.00 a month: 60 accounts").to_owned();
    let printed = |name: &str| -> f64 {
        let figure = loss.split(name).nth(1).unwrap().split(", ").next().unwrap();
        figure.replace(',', "").parse().unwrap()
    };
    let margin = demo.line("weir margin").to_owned();
    let report = run(&format!("{margin} --format json"));
    let row = pro(&report);
    assert!(usd(&row["margin_usd"]) < 0.0);
    for (name, member) in [("revenue $", "revenue_usd"), ("cost $", "cost_usd")] {
        let (said, found) = (printed(name), usd(&row[member]));
        assert!(
            (said - found).abs() < found * 0.02,
            "{name}{said} and {found}"
        );
    }
    let share = usd(&row["concentration"]["top_5_percent"]);
    assert!(share > 0.5, "{share}");
    demo.line("5 % of its subscribers, 3 of 60, cause");

    // The curl line works as it stands.
    let answer = run(demo.line("curl "));
    assert!(
        answer["choices"][0]["message"]["content"].is_string(),
        "{answer}"
    );

    // What it advises: a limit, here as a what-if, and a price.
    let advice = run(&format!("{} --format json", demo.line("weir advise")));
    let configuration = directory.join("weir.toml");
    let limit = advice["limits"][0]["limit"].as_str().unwrap();
    let max = limit.strip_prefix("pro:cost=").unwrap();
    let max = max.strip_suffix("/period").unwrap();
    let answer = run(&format!(
        "weir whatif -c {} --limit {limit} --format json",
        configuration.display()
    ));
    assert!(usd(&pro(&answer["whatif"])["margin_usd"]) > 0.0);
    assert!(
        answer["touched_accounts"].as_u64().unwrap() <= 6,
        "few are touched"
    );
    let price = advice["price"]["price_usd"].as_str().unwrap();

    // A price that is put into the file of the running demo holds from then on: what was, stays.
    let text = std::fs::read_to_string(&configuration).unwrap();
    let dearer = text.replace("\"200.00\"", &format!("{price:?}"));
    let past = format!("{margin} --until {} --format json", jiff::Timestamp::now());
    let before = pro(&run(&past)).clone();
    std::fs::write(&configuration, &dearer).unwrap();
    let second = |moment: jiff::Timestamp| {
        let until = moment + jiff::SignedDuration::from_secs(1);
        let report = run(&format!(
            "weir margin -c {} --since {moment} --until {until} --format json",
            configuration.display()
        ));
        usd(&pro(&report)["revenue_usd"])
    };
    let earlier = second(jiff::Timestamp::now() - jiff::SignedDuration::from_secs(60));
    let taken_up = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(300));
        second(jiff::Timestamp::now() - jiff::SignedDuration::from_secs(1)) > earlier * 1.01
    });
    assert!(taken_up, "the gateway does not take the new price up");
    // Requests that were in flight have come in since: their cost, no revenue.
    let after = pro(&run(&past)).clone();
    assert_eq!(before["revenue_usd"], after["revenue_usd"]);

    assert_eq!(demo.interrupt(), Some(0));
    assert!(
        directory.join("weir.db").exists(),
        "a named directory stays"
    );

    // The advice applied: the same past under the dearer plan, and under the limit, turns the margin.
    let limited = text.replacen(
        "on = \"concurrent\"",
        &format!("on = \"cost\"\nmax = \"{max}\"\nper = \"period\"\n[[plans.limits]]\non = \"concurrent\""),
        1,
    );
    for (name, plans) in [("price", dearer), ("limit", limited)] {
        let file = parent.path().join(format!("{name}.toml"));
        std::fs::write(&file, plans).unwrap();
        let mut mended = Demo::start_under(&file, &parent.path().join(name));
        let report = run(&format!("{} --format json", mended.line("weir margin")));
        let row = pro(&report);
        assert!(usd(&row["margin_usd"]) > 0.0, "{name}: {row}");
        assert!(
            !mended.said.contains("Losing money since"),
            "{}",
            mended.said
        );
        assert_eq!(mended.interrupt(), Some(0));
    }
}
