//! `weir prices list | show MODEL | import FILE`: the price table as it holds on a day.

use std::path::{Path, PathBuf};

use comfy_table::{CellAlignment, Table, presets};
use jiff::Timestamp;
use jiff::civil::Date;

use super::{Failure, load, print};

use crate::price::import::{Imported, import};
use crate::price::listing::{self, Listed, ListedAbove, Prices};
use crate::price::{Class, PriceTable};
use crate::spreadsheet::Sheet;

/// What to do with prices.
#[derive(Debug, clap::Subcommand)]
pub enum PricesCommand {
    /// List every model's price.
    List {
        /// The day (UTC); today without.
        #[arg(long)]
        on: Option<Date>,
        /// How the list is printed.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Show the price of one model, with its tiers and its source.
    Show {
        /// The model.
        model: String,
        /// The day (UTC); today without.
        #[arg(long)]
        on: Option<Date>,
    },
    /// Turn a LiteLLM price map (JSON) into a price table (TOML).
    Import {
        /// The price map.
        file: PathBuf,
        /// The day from which the prices hold; today without.
        #[arg(long)]
        from: Option<Date>,
        /// Only these providers, as the map names them (`litellm_provider`).
        #[arg(long = "provider", value_name = "NAME")]
        providers: Vec<String>,
        /// Where to write the table; standard output without.
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

/// Runs the command.
///
/// # Errors
/// What to tell the user.
pub fn run(command: PricesCommand, config: Option<PathBuf>) -> Result<(), Failure> {
    let today = || jiff::tz::Offset::UTC.to_datetime(Timestamp::now()).date();
    match command {
        PricesCommand::List { on, format } => print(&list(
            &load(config)?.prices,
            on.unwrap_or_else(today),
            format,
        )),
        PricesCommand::Show { model, on } => {
            print(&show(&load(config)?.prices, &model, on.unwrap_or_else(today)).map_err(Failure)?)
        }
        PricesCommand::Import {
            file,
            from,
            providers,
            out,
        } => {
            let named = |path: &Path, error: std::io::Error| {
                Failure(format!("{}: {error}", path.display()))
            };
            let map = std::fs::read_to_string(&file).map_err(|error| named(&file, error))?;
            let (from, today) = (from.unwrap_or_else(today), today());
            let imported = import(&map, from, today, &providers);
            for warning in &imported.warnings {
                eprintln!("{}: {warning}", file.display());
            }
            let table = table_of(&imported, &file, &providers)?;
            eprintln!("{} models imported", imported.models);
            match out {
                Some(out) => std::fs::write(&out, table).map_err(|error| named(&out, error)),
                None => print(table),
            }
        }
    }
}

/// How a list is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people: the standard tier.
    #[default]
    Table,
    /// Everything, one object.
    Json,
    /// Everything, one line for each tier and threshold.
    Csv,
}

/// Every model's price on a day.
pub fn list(table: &PriceTable, day: Date, format: Format) -> String {
    let models = listing::list(table, day);
    match format {
        Format::Table => list_table(&models, day),
        Format::Json => list_json(&models, day),
        Format::Csv => list_csv(&models),
    }
}

/// The price of one model that held on a day, with its tiers and its source.
///
/// # Errors
/// Text for stderr when the table has no such model, or the model no price that early.
pub fn show(table: &PriceTable, model: &str, day: Date) -> Result<String, String> {
    let Some(entry) = table.model(model) else {
        return Err(format!("{model}: no entry of the price table fits"));
    };
    let Some(listed) = listing::on_day(entry, day) else {
        let first = entry.rows.first().map_or_else(String::new, |row| {
            format!("; its first is from {}", row.from)
        });
        return Err(format!("{model} has no price on {day}{first}"));
    };
    let mut text = format!("{model} on {day}\n");
    if *listed.model != *model {
        text.push_str(&format!("entry: {}\n", listed.model));
    }
    let until = listed
        .until
        .map_or_else(String::new, |until| format!(" until {until}"));
    text.push_str(&format!("price: from {}{until}\n", listed.from));
    text.push_str(&format!("source: {}\n\n", listed.source));
    text.push_str(&prices_table(&listed));
    if let Some(max) = listed.max_output_tokens {
        text.push_str(&format!("\nat most {max} output tokens\n"));
    }
    Ok(text)
}

/// The table that a price map gave. One without a model is a wrong file or a wrong provider, and no table at all: written
/// over a good one it would leave every request without a price.
fn table_of<'i>(
    imported: &'i Imported,
    file: &Path,
    providers: &[String],
) -> Result<&'i str, Failure> {
    if imported.models > 0 {
        return Ok(&imported.toml);
    }
    let file = file.display();
    Err(Failure(match providers {
        [] => format!("{file}: no model of a LiteLLM price map is in it, nothing was written"),
        names => format!(
            "{file}: no model of the provider {} could be taken, nothing was written",
            names.join(" or ")
        ),
    }))
}

/// The columns of one model: the standard tier, its thresholds, then each service tier with its own.
fn columns(listed: &Listed) -> Vec<(String, &Prices)> {
    let mut columns = vec![("standard".to_owned(), &listed.prices)];
    columns.extend(threshold_columns("standard", &listed.above));
    for (name, tier) in &listed.tiers {
        columns.push((name.to_string(), &tier.prices));
        columns.extend(threshold_columns(name, &tier.above));
    }
    columns
}

fn threshold_columns<'a>(
    tier: &'a str,
    above: &'a [ListedAbove],
) -> impl Iterator<Item = (String, &'a Prices)> {
    above.iter().map(move |above| {
        let title = format!("{tier} above {}", above.input_tokens);
        (title, &above.prices)
    })
}

fn prices_table(listed: &Listed) -> String {
    let columns = columns(listed);
    let mut table = new_table();
    let mut header = vec!["US dollars".to_owned()];
    header.extend(columns.iter().map(|(title, _)| title.clone()));
    table.set_header(header);
    for class in Class::ALL {
        let name = class.name();
        if columns.iter().all(|(_, prices)| prices.get(name).is_none()) {
            continue;
        }
        let unit = match class {
            Class::Request => "a request",
            Class::Image => "an image",
            Class::Second => "a second",
            Class::WebSearch | Class::FileSearch => "a search",
            Class::CodeInterpreter => "a run",
            _ => "a million tokens",
        };
        let mut cells = vec![format!("{name}, {unit}")];
        cells.extend(columns.iter().map(|(_, prices)| cell(prices, name)));
        table.add_row(cells);
    }
    align_right(&mut table, 1..columns.len() + 1);
    let mut text = printed(&table);
    if !listed.tiers.is_empty() {
        text.push_str("\nwhere a tier names no price, the standard one holds\n");
    }
    text
}

fn list_table(models: &[Listed], day: Date) -> String {
    let shown = [
        Class::Input,
        Class::CacheReadInput,
        Class::CacheWriteInput,
        Class::Output,
        Class::Request,
    ];
    let mut table = new_table();
    let mut header = vec!["model".to_owned(), "from".to_owned()];
    header.extend(shown.iter().map(|class| class.name().to_owned()));
    header.push("tiers".to_owned());
    table.set_header(header);
    for listed in models {
        let mut cells = vec![listed.model.to_string(), listed.from.to_string()];
        cells.extend(shown.iter().map(|class| cell(&listed.prices, class.name())));
        let mut tiers: Vec<&str> = listed.tiers.keys().map(|name| &**name).collect();
        if !listed.above.is_empty() {
            tiers.push("long context");
        }
        cells.push(tiers.join(", "));
        table.add_row(cells);
    }
    align_right(&mut table, 2..2 + shown.len());
    format!(
        "Prices on {day}, in US dollars per 1,000,000 tokens (request: each)\n{}{} models\n",
        printed(&table),
        models.len()
    )
}

fn list_json(models: &[Listed], day: Date) -> String {
    let value = serde_json::json!({ "on": day, "models": models });
    format!("{value:#}\n")
}

fn list_csv(models: &[Listed]) -> String {
    let mut sheet = Sheet::new(Vec::new());
    let mut header = vec!["model", "from", "until", "tier"];
    header.extend(Class::ALL.map(Class::name));
    header.push("source");
    // Writing to memory does not fail, and all records have the header's length.
    let _ = sheet.line(&header);
    for listed in models {
        let until = listed
            .until
            .map_or_else(String::new, |until| until.to_string());
        for (tier, prices) in columns(listed) {
            let mut record = vec![
                listed.model.to_string(),
                listed.from.to_string(),
                until.clone(),
                tier,
            ];
            let price = |class: Class| prices.get(class.name()).unwrap_or_default().to_owned();
            record.extend(Class::ALL.map(price));
            record.push(listed.source.to_string());
            let _ = sheet.line(&record);
        }
    }
    sheet.into_text()
}

fn cell(prices: &Prices, class: &str) -> String {
    prices.get(class).unwrap_or_default().to_owned()
}

fn new_table() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table
}

fn align_right(table: &mut Table, columns: std::ops::Range<usize>) {
    for (index, column) in table.column_iter_mut().enumerate() {
        if columns.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// The table's lines without the spaces at their ends.
fn printed(table: &Table) -> String {
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price::{Above, PriceRow, PricedModel, Rates, TierRates};
    use jiff::civil::date;

    fn rates(input: &str, output: &str) -> Rates {
        let price = |text| Some(Class::Input.parse_price(text).unwrap());
        Rates {
            input: price(input),
            output: price(output),
            ..Rates::default()
        }
    }

    fn table() -> PriceTable {
        let row = |from, rates, source: &str| PriceRow {
            from,
            rates,
            above: Vec::new(),
            tiers: Default::default(),
            source: source.into(),
        };
        let mut now = row(date(2024, 10, 2), rates("2.50", "10"), "the page");
        now.above.push(Above {
            input_tokens: 272_000,
            rates: rates("5", "15"),
        });
        now.tiers.insert(
            "batch".into(),
            TierRates {
                rates: rates("1.25", "5"),
                above: Vec::new(),
            },
        );
        PriceTable::new([PricedModel {
            model: "gpt-4o".into(),
            aliases: vec!["gpt-4o-latest".into()],
            tokenizer: None,
            max_output_tokens: Some(16_384),
            rows: vec![row(date(2024, 5, 13), rates("5", "15"), "the launch"), now],
        }])
    }

    #[test]
    fn show_prints_the_price_that_held_that_day() {
        let text = show(&table(), "gpt-4o", date(2024, 6, 1)).unwrap();
        let expected = "\
gpt-4o on 2024-06-01
price: from 2024-05-13 until 2024-10-01
source: the launch

 US dollars                standard
 input, a million tokens       5.00
 output, a million tokens     15.00

at most 16384 output tokens
";
        assert_eq!(text, expected);
    }

    #[test]
    fn show_has_a_column_for_each_tier() {
        let text = show(&table(), "gpt-4o-latest", date(2026, 1, 1)).unwrap();
        assert!(
            text.contains("entry: gpt-4o\nprice: from 2024-10-02\n"),
            "{text}"
        );
        assert!(text.contains("standard above 272000"), "{text}");
        assert!(text.contains("2.50"), "{text}");
        assert!(text.contains("1.25"), "{text}");
    }

    #[test]
    fn show_says_why_there_is_no_price() {
        assert_eq!(
            show(&table(), "gpt-4o", date(2023, 1, 1)).unwrap_err(),
            "gpt-4o has no price on 2023-01-01; its first is from 2024-05-13"
        );
        assert_eq!(
            show(&table(), "gpt-9", date(2026, 1, 1)).unwrap_err(),
            "gpt-9: no entry of the price table fits"
        );
    }

    #[test]
    fn list_has_every_model_in_each_format() {
        let day = date(2026, 1, 1);
        let text = list(&table(), day, Format::Table);
        assert!(
            text.contains("gpt-4o") && text.ends_with("1 models\n"),
            "{text}"
        );

        let json: serde_json::Value = list(&table(), day, Format::Json).parse().unwrap();
        assert_eq!(json["models"][0]["prices"]["input"], "2.50");
        assert_eq!(
            json["models"][0]["tiers"]["batch"]["prices"]["output"],
            "5.00"
        );
        assert_eq!(json["models"][0]["above"][0]["prices"]["output"], "15.00");
        assert_eq!(json["models"][0]["from"], "2024-10-02");

        let csv = list(&table(), day, Format::Csv);
        assert_eq!(csv.lines().count(), 4, "{csv}");
        assert!(
            csv.contains("gpt-4o,2024-10-02,,standard above 272000,5.00"),
            "{csv}"
        );
    }

    #[test]
    fn an_import_of_nothing_is_a_failure_that_leaves_the_table_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let (map, out) = (
            directory.path().join("map.json"),
            directory.path().join("p.toml"),
        );
        let import = |text: &str, provider: Option<&str>| {
            std::fs::write(&map, text).unwrap();
            std::fs::write(&out, "as it was").unwrap();
            let command = PricesCommand::Import {
                file: map.clone(),
                from: None,
                providers: provider.into_iter().map(str::to_owned).collect(),
                out: Some(out.clone()),
            };
            let said = run(command, None).map_err(|failure| failure.0);
            (said, std::fs::read_to_string(&out).unwrap())
        };
        const MAP: &str = r#"{"m": {"litellm_provider": "a", "input_cost_per_token": 1e-06}}"#;
        for (text, provider, what) in [
            ("<html>", None, "no model of a LiteLLM price map"),
            ("{}", None, "no model of a LiteLLM price map"),
            (MAP, Some("nope"), "no model of the provider nope"),
        ] {
            let (said, table) = import(text, provider);
            let said = said.unwrap_err();
            assert!(said.contains(what), "{said}");
            assert_eq!(table, "as it was");
        }
        let (said, table) = import(MAP, Some("a"));
        assert!(said.is_ok() && table.contains("[[models]]"), "{table}");
    }

    #[test]
    fn list_before_the_first_price_is_empty() {
        let text = list(&table(), date(2023, 1, 1), Format::Table);
        assert!(text.ends_with("0 models\n"), "{text}");
    }
}
