//! One value of the tree, read as what it should be. A mistake is noted and the answer is `None`.

use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use toml::de::DeValue;

use super::names::{listed, nearest, quoted};
use super::reader::{Document, Table, kind};
use super::units;
use crate::ids::{InvalidId, ModelName};
use crate::money::{Money, MoneyError};
use crate::plan::ModelPattern;

/// A value with its place and its dotted path.
#[derive(Clone)]
pub(super) struct Value<'d> {
    document: &'d Document<'d>,
    path: String,
    at: usize,
    raw: &'d DeValue<'d>,
}

impl<'d> Value<'d> {
    pub(super) fn new(
        document: &'d Document<'d>,
        path: String,
        at: usize,
        raw: &'d DeValue<'d>,
    ) -> Value<'d> {
        Value {
            document,
            path,
            at,
            raw,
        }
    }

    /// Notes a mistake about this value.
    pub(super) fn refuse(&self, message: impl Into<String>) {
        self.document.refuse(self.at, &self.path, message);
    }

    /// Notes that what this value refers to is not there.
    pub(super) fn refuse_absent(&self, message: impl Into<String>) {
        self.document.refuse_absent(self.at, &self.path, message);
    }

    /// Notes that the value has the wrong type.
    pub(super) fn wrong_type<T>(&self, expected: &str) -> Option<T> {
        self.refuse(format!("is {}, expected {expected}", kind(self.raw)));
        None
    }

    /// Notes that the value's text is wrong; the text is shown.
    pub(super) fn wrong<T>(&self, text: &str, expected: &str) -> Option<T> {
        self.refuse(format!("is {}, expected {expected}", quoted(text)));
        None
    }

    /// The document it belongs to.
    pub(super) fn document(&self) -> &'d Document<'d> {
        self.document
    }

    /// Its line, from 1.
    pub(super) fn line(&self) -> usize {
        self.document.position(self.at).line
    }

    /// The text of a string, if it is one.
    pub(super) fn as_text(&self) -> Option<&'d str> {
        match self.raw {
            DeValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it is an array.
    pub(super) fn is_array(&self) -> bool {
        matches!(self.raw, DeValue::Array(_))
    }

    /// Whether it is a table.
    pub(super) fn is_table(&self) -> bool {
        matches!(self.raw, DeValue::Table(_))
    }

    /// The text of a string.
    pub(super) fn text(&self, expected: &str) -> Option<&'d str> {
        self.as_text().or_else(|| self.wrong_type(expected))
    }

    /// `true` or `false`.
    pub(super) fn flag(&self) -> Option<bool> {
        match self.raw {
            DeValue::Boolean(flag) => Some(*flag),
            _ => self.wrong_type("true or false"),
        }
    }

    /// A whole number within bounds.
    pub(super) fn count(&self, allowed: RangeInclusive<u64>) -> Option<u64> {
        let expected = || {
            let (least, most) = (allowed.start(), allowed.end());
            if *most >= COUNT_MAX {
                format!("a whole number of at least {least}")
            } else {
                format!("a whole number from {least} to {most}")
            }
        };
        let DeValue::Integer(integer) = self.raw else {
            return self.wrong_type(&expected());
        };
        match u64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(count) if allowed.contains(&count) => Some(count),
            _ => {
                let shown: String = integer.to_string().chars().take(40).collect();
                self.refuse(format!("is {shown}, expected {}", expected()));
                None
            }
        }
    }

    /// A whole number within bounds, as the machine's own size.
    pub(super) fn size_count(&self, allowed: RangeInclusive<u64>) -> Option<usize> {
        usize::try_from(self.count(allowed)?).ok()
    }

    /// A whole number within bounds that fits 32 bits.
    pub(super) fn small_count(&self, allowed: RangeInclusive<u64>) -> Option<u32> {
        u32::try_from(self.count(allowed)?).ok()
    }

    /// A duration within bounds.
    pub(super) fn duration(&self, allowed: RangeInclusive<Duration>) -> Option<Duration> {
        let Some(text) = self.as_text() else {
            return self.wrong_type("a duration; write it as a string with a unit: \"5s\"");
        };
        match units::duration(text) {
            None => self.wrong(
                text,
                "a duration: a whole number and ms, s, m, h or d, such as \"5s\"",
            ),
            Some(duration) if !allowed.contains(&duration) => self.wrong(
                text,
                &format!(
                    "a duration from {} to {}",
                    units::show_duration(*allowed.start()),
                    units::show_duration(*allowed.end())
                ),
            ),
            Some(duration) => Some(duration),
        }
    }

    /// A number of bytes within bounds: an integer, or a string with a unit.
    pub(super) fn bytes(&self, allowed: RangeInclusive<u64>) -> Option<u64> {
        let (shown, bytes) = match self.raw {
            DeValue::String(text) => (quoted(text), units::size(text)),
            DeValue::Integer(integer) => (
                integer.to_string().chars().take(40).collect(),
                u64::from_str_radix(integer.as_str(), integer.radix()).ok(),
            ),
            _ => return self.wrong_type("a size such as \"32MiB\""),
        };
        match bytes {
            Some(bytes) if allowed.contains(&bytes) => return Some(bytes),
            Some(_) => self.refuse(format!(
                "is {shown}, expected a size from {} to {}",
                units::show_size(*allowed.start()),
                units::show_size(*allowed.end())
            )),
            None => self.refuse(format!(
                "is {shown}, expected a size such as \"32MiB\" or a number of bytes"
            )),
        }
        None
    }

    /// An amount of money, not below zero.
    pub(super) fn money(&self) -> Option<Money> {
        self.money_as(Money::parse)
    }

    /// A price of a million units, not below zero; the answer is the price of one.
    pub(super) fn money_per_million(&self) -> Option<Money> {
        self.money_as(Money::parse_per_million)
    }

    fn money_as(&self, parse: fn(&str) -> Result<Money, MoneyError>) -> Option<Money> {
        let number = match self.raw {
            DeValue::String(text) => {
                match parse(text) {
                    Ok(money) if !money.is_negative() => return Some(money),
                    Ok(_) => {
                        self.refuse(format!("is {}, expected money of at least 0", quoted(text)))
                    }
                    Err(error @ MoneyError::NotDecimal) => {
                        self.refuse(format!("is {}, {error}", quoted(text)));
                    }
                    Err(error) => self.refuse(format!("is {}, which {error}", quoted(text))),
                }
                return None;
            }
            DeValue::Integer(integer) => integer.as_str(),
            DeValue::Float(float) => float.as_str(),
            _ => return self.wrong_type("money as a string such as \"12.50\""),
        };
        let example = Money::parse(number).unwrap_or(Money::from_picos(12_500_000_000_000));
        self.wrong_type(&format!("money; write it as a string: \"{example}\""))
    }

    /// A calendar day.
    pub(super) fn date(&self) -> Option<Date> {
        const EXPECTED: &str = "a date without quotes, such as 2025-03-01";
        let DeValue::Datetime(written) = self.raw else {
            return self.wrong_type(EXPECTED);
        };
        match (written.date, written.time) {
            (Some(date), None) => self.civil(date),
            _ => self.wrong_type(EXPECTED),
        }
    }

    /// A moment: a date with time and offset, or a day's first moment in UTC.
    pub(super) fn moment(&self) -> Option<Timestamp> {
        const EXPECTED: &str =
            "a time with its offset or a date, such as 2025-03-01T12:00:00Z or 2025-03-01";
        let DeValue::Datetime(written) = self.raw else {
            return self.wrong_type(EXPECTED);
        };
        match (written.date, written.time, written.offset) {
            (Some(date), None, None) => {
                let midnight = self.civil(date)?.to_datetime(jiff::civil::Time::midnight());
                jiff::tz::Offset::UTC.to_timestamp(midnight).ok()
            }
            (Some(_), Some(_), Some(_)) => match written.to_string().parse() {
                Ok(moment) => Some(moment),
                Err(_) => self.wrong_type(EXPECTED),
            },
            _ => self.wrong_type(EXPECTED),
        }
    }

    fn civil(&self, date: toml::value::Date) -> Option<Date> {
        let years = 2000..=2999;
        let civil = i16::try_from(date.year)
            .ok()
            .zip(i8::try_from(date.month).ok())
            .zip(i8::try_from(date.day).ok())
            .and_then(|((year, month), day)| Date::new(year, month, day).ok())
            .filter(|date| years.contains(&date.year()));
        if civil.is_none() {
            self.refuse(format!("is {date}, expected a day from 2000 to 2999"));
        }
        civil
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<T> {
        let names = || words.iter().map(|(name, _)| *name);
        let text = self.text(&listed(names()))?;
        let found = words.iter().find(|(name, _)| *name == text);
        if found.is_none() {
            self.unknown_word(text, names());
        }
        found.map(|(_, meaning)| *meaning)
    }

    /// Notes that a text is none of some words.
    pub(super) fn unknown_word<'n>(
        &self,
        text: &str,
        words: impl Iterator<Item = &'n str> + Clone,
    ) {
        let expected = listed(words.clone());
        match nearest(text, words) {
            Some(meant) => self.refuse(format!(
                "is {}, did you mean {meant:?}? Expected {expected}",
                quoted(text)
            )),
            None => self.refuse(format!("is {}, expected {expected}", quoted(text))),
        }
    }

    /// A share above 0 and up to 1, in parts per million.
    pub(super) fn share_ppm(&self) -> Option<u32> {
        const EXPECTED: &str = "a share above 0 and at most 1, such as 0.8";
        let text = match self.raw {
            DeValue::Float(float) => float.as_str(),
            DeValue::Integer(integer) => integer.as_str(),
            _ => return self.wrong_type(EXPECTED),
        };
        let ppm = text
            .parse::<f64>()
            .ok()
            .map(|share| (share * 1e6).round())
            .filter(|ppm| (1.0..=1e6).contains(ppm));
        match ppm {
            Some(ppm) => Some(ppm as u32),
            None => {
                let shown: String = text.chars().take(40).collect();
                self.refuse(format!("is {shown}, expected {EXPECTED}"));
                None
            }
        }
    }

    /// An identifier.
    pub(super) fn id<T>(&self, parse: impl Fn(&str) -> Result<T, InvalidId>) -> Option<T> {
        let text = self.text("an id as a string")?;
        match parse(text) {
            Ok(id) => Some(id),
            Err(_) => self.wrong(
                text,
                "an id of 1 to 128 characters of letters, digits and . _ : @ -",
            ),
        }
    }

    /// A model's name or glob, as it is written.
    pub(super) fn pattern_text(&self) -> Option<&'d str> {
        let text = self.text("a model's name or a glob such as \"gpt-4o-*\"")?;
        let fits = (1..=ModelName::MAX_BYTES).contains(&text.len());
        if !fits {
            return self.wrong(
                text,
                &format!(
                    "a model's name or a glob of 1 to {} bytes",
                    ModelName::MAX_BYTES
                ),
            );
        }
        match text
            .chars()
            .find(|c| c.is_control() || c.is_whitespace() || "[]{}()\\|^$,".contains(*c))
        {
            Some(stray) => {
                self.refuse(format!(
                    "is {}, which has {stray:?}; expected a model's name or a glob of * and ?",
                    quoted(text)
                ));
                None
            }
            None => Some(text),
        }
    }

    /// A model's name or glob.
    pub(super) fn pattern(&self) -> Option<ModelPattern> {
        self.pattern_text().map(ModelPattern::new)
    }

    /// A model's name, no glob.
    pub(super) fn model_name(&self) -> Option<ModelName> {
        let text = self.pattern_text()?;
        if text.contains(['*', '?']) {
            return self.wrong(text, "one model's name, not a glob");
        }
        Some(ModelName::new(text))
    }

    /// The table that it is.
    pub(super) fn table(&self, expected: &str) -> Option<Table<'d>> {
        match self.raw {
            DeValue::Table(entries) => Some(Table::new(
                self.document,
                self.path.clone(),
                self.at,
                entries,
            )),
            _ => self.wrong_type(expected),
        }
    }

    /// The elements of the array that it is.
    pub(super) fn items(&self, expected: &str) -> Option<Vec<Value<'d>>> {
        let DeValue::Array(items) = self.raw else {
            return self.wrong_type(expected);
        };
        let items = items.iter().enumerate().map(|(index, item)| {
            Value::new(
                self.document,
                format!("{}[{index}]", self.path),
                item.span().start,
                item.get_ref(),
            )
        });
        Some(items.collect())
    }
}

/// TOML's own largest integer.
pub(super) const COUNT_MAX: u64 = i64::MAX as u64;
