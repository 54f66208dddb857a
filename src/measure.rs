//! What an answer used: as reported, else counted, else estimated.

mod charge;
mod estimate;

use bytes::Bytes;

use crate::dialect::Endpoint;
use crate::dialect::ask::Ask;
use crate::ids::ModelName;
use crate::meter::count::{Counter, Tokenizer};
use crate::meter::{Reading, ServedPart};
use crate::price::{PriceTable, Rates};
use crate::tokens::{Usage, UsageSource};

pub use charge::Charge;

/// What was asked, kept until the answer is over in case that its tokens must be counted.
#[derive(Clone, Debug)]
pub struct Question {
    /// Where it was asked.
    pub endpoint: Endpoint,
    /// What the gateway read of it.
    pub ask: Ask,
    /// The model that the upstream was asked for (after rename and downgrade).
    pub model: Option<ModelName>,
    /// The client's body.
    pub body: Bytes,
    /// How it is billed.
    pub charge: Charge,
}

impl Question {
    /// In which shape the answer reports its usage.
    pub fn metered_as(&self) -> Endpoint {
        match self.charge {
            Charge::Fetched => Endpoint::Responses,
            _ => self.endpoint.clone(),
        }
    }
}

/// The tokens of a request, and how they came about.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// All of it.
    pub usage: Usage,
    /// By the model that served it.
    pub parts: Vec<ServedPart>,
    /// How the figures came about.
    pub source: UsageSource,
    /// What the ledger should say of it.
    pub note: Option<&'static str>,
    /// Something was used as well that is billed beside the usage.
    pub billed_beside: bool,
}

impl Measured {
    /// Of what was not reported, keeps what these rates ask for: pieces, which were counted or are likely, or else tokens,
    /// which are a guess.
    pub fn keep_what_is_asked(&mut self, rates: &Rates) {
        let usage = &mut self.usage;
        let by_the_piece = rates.request.is_some()
            || (usage.images > 0 && rates.image.is_some())
            || (usage.audio_seconds > 0 && rates.second.is_some());
        if by_the_piece {
            *usage = Usage {
                images: usage.images,
                audio_seconds: usage.audio_seconds,
                ..Usage::default()
            };
        } else if usage.total_tokens() > 0 {
            self.source = UsageSource::Estimated;
        }
        if let Some(part) = self.parts.first_mut() {
            part.usage = self.usage;
        }
    }

    fn one(usage: Usage, model: Option<ModelName>, source: UsageSource) -> Measured {
        Measured {
            usage,
            parts: vec![ServedPart {
                model,
                usage,
                by_tool: false,
            }],
            source,
            note: None,
            billed_beside: false,
        }
    }
}

/// What an entry says whose upstream reported a figure that none can be. Where the same answer then reported a sane one, that
/// one counts.
const REFUSED: &str = "the upstream reported an absurd usage, which was refused";

/// The status that the ledger has for a client that left before any head was sent (nginx's 499): the upstream had the
/// request, and bills it.
pub const CLIENT_CLOSED_REQUEST: u16 = 499;

/// What an answer used, where that is known without counting; else the reading is given back for [`count`].
pub fn without_counting(
    question: &Question,
    reading: Reading,
    status: u16,
) -> Result<Measured, Box<Reading>> {
    if question.charge == Charge::Free {
        return Ok(Measured::default());
    }
    // Some servers put zeros where they know nothing.
    let nothing_told = |usage: &Usage| reading.images > 0 && *usage == Usage::default();
    let reported = reading
        .usage
        .filter(|usage| reading.usage_final && !nothing_told(usage));
    if let Some(mut usage) = reported {
        usage.images = reading.images;
        let mut parts = reading.parts;
        if let Some(part) = parts.first_mut() {
            part.usage.images = reading.images;
        }
        return Ok(Measured {
            usage,
            parts,
            source: UsageSource::Reported,
            note: reading.absurd.then_some(REFUSED),
            billed_beside: reading.billed_beside,
        });
    }
    // A redirection did no work; neither did what was refused.
    let refused = status >= 300 && status != CLIENT_CLOSED_REQUEST;
    if question.charge == Charge::Unknown && !refused {
        return Ok(Measured::one(
            Usage::default(),
            reading.served_model,
            UsageSource::Estimated,
        ));
    }
    if question.charge == Charge::Reported && !refused && reading.failed.is_none() {
        let (usage, source) = match reading.images {
            0 => (estimate::likely(question), UsageSource::Estimated),
            images => (estimate::of_images(images), UsageSource::Counted),
        };
        let mut measured = Measured::one(usage, reading.served_model, source);
        measured.note = reading.absurd.then_some(REFUSED);
        return Ok(measured);
    }
    if refused || !question.endpoint.is_metered() || reading.queued {
        return Ok(Measured::default());
    }
    // An error in place of an answer, and nothing of an answer: nothing was to be paid.
    if reading.failed.is_some() && reading.usage.is_none() && reading.output.is_empty() {
        return Ok(Measured::default());
    }
    Err(Box::new(reading))
}

/// Counts what an answer did not report. Bounded in time and memory for any input: long texts are counted off the async
/// threads, and estimated when there are too many of them. `earlier_tokens` are those of earlier turns that the body does not
/// show.
pub async fn count(
    counter: &Counter,
    prices: &PriceTable,
    question: &Question,
    earlier_tokens: u64,
    reading: Reading,
) -> Measured {
    let model = reading
        .served_model
        .clone()
        .or_else(|| question.model.clone())
        .unwrap_or_else(|| ModelName::new(""));
    let tokenizer = Tokenizer::for_model(
        model.as_str(),
        prices.model(model.as_str()).map(|entry| &**entry),
    );
    let output = counter.output(tokenizer, reading.output).await;
    let mut usage = reading.usage.unwrap_or_default();
    let mut source = output.source;
    usage.output_tokens = usage.output_tokens.max(output.tokens);
    // Else the upstream reported the input, and of the output only how it began. No input at all is a placeholder.
    if usage.input_tokens == 0 {
        let input = counter
            .input(&question.endpoint, tokenizer, &model, &question.body)
            .await;
        usage.input_tokens = input.tokens.saturating_add(earlier_tokens);
        source = match input.source {
            // What earlier turns are in this one is a guess: tools and reasoning were billed with them.
            UsageSource::Counted if earlier_tokens > 0 => UsageSource::Estimated,
            UsageSource::Counted => source,
            other => other,
        };
    }
    // What the start of an answer reports is from before its calls of tools.
    reading.calls.add_to(&mut usage);
    let mut measured = Measured::one(usage, reading.served_model, source);
    measured.billed_beside = reading.billed_beside;
    if reading.absurd {
        measured.note = Some(REFUSED);
    } else if reading.gave_up {
        measured.source = UsageSource::Estimated;
        measured.note =
            Some("the answer was too long or encoded in a way that could not be read to its end");
    }
    measured
}
