//! The figures of a usage report under their many names, and the rules that make a [`Usage`] of them.

use std::cell::Cell;

use super::super::json::{Walk, each_element, each_member};
use crate::tokens::{ABSURD_TOKENS, Usage};

/// What one answer has reported so far, field by field, as the provider counts it.
///
/// Reports are never summed: a later report replaces an earlier one field by field, and never makes a figure smaller
/// (compatible servers send a 0 in one of two reports). The one exception is [`Figures::merge`]'s.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// `prompt_tokens`: cached tokens are inside.
    prompt: Option<u64>,
    /// `input_tokens`: cached tokens are inside (OpenAI's Responses) or beside it (Anthropic).
    input: Option<u64>,
    output: Option<u64>,
    total: Option<u64>,
    /// Cache reads and writes that OpenAI's family reports as parts of the prompt …
    read_inside: Option<u64>,
    write_inside: Option<u64>,
    /// … and those that Anthropic's and Bedrock's report beside it.
    read_beside: Option<u64>,
    write_beside: Option<u64>,
    write_5m: Option<u64>,
    write_1h: Option<u64>,
    /// DeepSeek: what of the prompt was not read from the cache. No write.
    miss: Option<u64>,
    audio_input: Option<u64>,
    image_input: Option<u64>,
    reasoning: Option<u64>,
    /// Reasoning that is no detail of the output: where it is more than all of that, it stands beside it.
    reasoning_at_top: Option<u64>,
    /// What a search found and the model read.
    citations: Option<u64>,
    /// Gemini's own API: thoughts are never inside the candidates, nor tool use inside the prompt.
    thoughts: Option<u64>,
    tool_input: Option<u64>,
    audio_output: Option<u64>,
    image_output: Option<u64>,
    web_searches: Option<u64>,
    /// Of sound that may be billed by its length.
    seconds: Option<u64>,
    /// Whether that is all there is to report: `"type":"duration"`.
    is_duration: bool,
    /// Whether any of them is [`REFUSED`]: then there is no usage to be made of them.
    absurd: bool,
}

/// Stands for a figure that was negative or beyond all reason. It is larger than all that are not.
const REFUSED: u64 = u64::MAX;

/// Which habit a report's figures follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habit {
    /// A `total_tokens` may show what stands outside; what it does not explain is hidden reasoning.
    Chat,
    /// Everything is input.
    Embeddings,
    /// Cache classes stand beside `input_tokens`; there is no total.
    Messages,
}

/// What stands in a usage object beside its figures. Raw JSON values.
#[derive(Debug, Default)]
pub(super) struct Beside<'a> {
    pub(super) service_tier: Option<&'a str>,
    pub(super) speed: Option<&'a str>,
    pub(super) region: Option<&'a str>,
    pub(super) iterations: Option<&'a str>,
    pub(super) model: Option<&'a str>,
}

impl Figures {
    /// Reads one usage object.
    pub(super) fn read(object: &str) -> (Figures, Beside<'_>) {
        let mut figures = Figures::default();
        let mut beside = Beside::default();
        let _ = figures.walk(&mut Walk::new(object), &mut beside);
        (figures, beside)
    }

    /// Reads the usage object that stands here, and walks past it.
    pub(super) fn walk<'a>(&mut self, walk: &mut Walk<'a>, beside: &mut Beside<'a>) -> Option<()> {
        walk.members(|name, walk| {
            let place = match &*name {
                "service_tier" => &mut beside.service_tier,
                "speed" => &mut beside.speed,
                "inference_geo" => &mut beside.region,
                "iterations" => &mut beside.iterations,
                "model" => &mut beside.model,
                name => return self.member(name, walk),
            };
            *place = Some(walk.value()?);
            Some(())
        })
    }

    fn member(&mut self, name: &str, walk: &mut Walk<'_>) -> Option<()> {
        let field = match name {
            "prompt_tokens" | "promptTokenCount" => &mut self.prompt,
            "input_tokens" | "inputTokens" => &mut self.input,
            "completion_tokens" | "output_tokens" | "outputTokens" | "candidatesTokenCount" => {
                &mut self.output
            }
            "total_tokens" | "totalTokens" | "totalTokenCount" => &mut self.total,
            // DeepSeek, Kimi, Mistral, Gemini.
            "prompt_cache_hit_tokens"
            | "cached_tokens"
            | "num_cached_tokens"
            | "cachedContentTokenCount" => &mut self.read_inside,
            "prompt_cache_miss_tokens" => &mut self.miss,
            "cache_read_input_tokens" | "cacheReadInputTokens" => &mut self.read_beside,
            "cache_creation_input_tokens" | "cacheWriteInputTokens" => &mut self.write_beside,
            // Perplexity: neither is inside the totals.
            "reasoning_tokens" => &mut self.reasoning_at_top,
            "citation_tokens" => &mut self.citations,
            "num_search_queries" => &mut self.web_searches,
            "type" => {
                self.is_duration |= walk.value()? == "\"duration\"";
                return Some(());
            }
            // Qwen, OpenAI; Mistral.
            "seconds" | "prompt_audio_seconds" => {
                self.absurd |= take(&mut self.seconds, whole(walk.value()?));
                return Some(());
            }
            "thoughtsTokenCount" => &mut self.thoughts,
            "toolUsePromptTokenCount" => &mut self.tool_input,
            "prompt_tokens_details"
            | "input_tokens_details"
            | "prompt_token_details"
            | "input_token_details" => return self.part(walk, Figures::input_detail),
            "completion_tokens_details"
            | "output_tokens_details"
            | "completion_token_details"
            | "output_token_details" => return self.part(walk, Figures::output_detail),
            "cache_creation" => return self.part(walk, Figures::lifetime),
            "server_tool_use" => return self.part(walk, Figures::server_tool),
            "cacheDetails" | "cache_details" => {
                each_element(walk.value()?, |detail| self.bedrock_detail(detail));
                return Some(());
            }
            _ => return walk.value().map(drop),
        };
        self.absurd |= take(field, walk.value()?);
        Some(())
    }

    /// Reads the object that stands here, which is a part of the report, member by member.
    fn part(
        &mut self,
        walk: &mut Walk<'_>,
        member: impl Fn(&mut Figures, &str, &mut Walk<'_>) -> Option<()>,
    ) -> Option<()> {
        walk.value_read_by(|walk| walk.members(|name, walk| member(self, &name, walk)))
            .map(drop)
    }

    fn input_detail(&mut self, name: &str, walk: &mut Walk<'_>) -> Option<()> {
        let field = match name {
            "cached_tokens" => &mut self.read_inside,
            // OpenAI; OpenRouter; Alibaba's Qwen.
            "cache_write_tokens" | "cache_creation_tokens" | "cache_creation_input_tokens" => {
                &mut self.write_inside
            }
            "audio_tokens" => &mut self.audio_input,
            "image_tokens" => &mut self.image_input,
            "cache_creation_token_details" | "cache_creation" => {
                return self.part(walk, Figures::lifetime);
            }
            _ => return walk.value().map(drop),
        };
        self.absurd |= take(field, walk.value()?);
        Some(())
    }

    fn output_detail(&mut self, name: &str, walk: &mut Walk<'_>) -> Option<()> {
        let field = match name {
            "reasoning_tokens" | "thinking_tokens" => &mut self.reasoning,
            "audio_tokens" => &mut self.audio_output,
            "image_tokens" => &mut self.image_output,
            _ => return walk.value().map(drop),
        };
        self.absurd |= take(field, walk.value()?);
        Some(())
    }

    fn lifetime(&mut self, name: &str, walk: &mut Walk<'_>) -> Option<()> {
        let field = match name {
            "ephemeral_5m_input_tokens" => &mut self.write_5m,
            "ephemeral_1h_input_tokens" => &mut self.write_1h,
            _ => return walk.value().map(drop),
        };
        self.absurd |= take(field, walk.value()?);
        Some(())
    }

    fn server_tool(&mut self, name: &str, walk: &mut Walk<'_>) -> Option<()> {
        let value = walk.value()?;
        if name == "web_search_requests" {
            self.absurd |= take(&mut self.web_searches, value);
        }
        Some(())
    }

    /// Bedrock: `{"ttl": "1h", "inputTokens": 5}`.
    fn bedrock_detail(&mut self, detail: &str) {
        let mut hour = false;
        let mut tokens = None;
        each_member(detail, |name, value| match &*name {
            "ttl" => hour = value == "\"1h\"",
            "inputTokens" => tokens = Some(value),
            _ => {}
        });
        let field = if hour {
            &mut self.write_1h
        } else {
            &mut self.write_5m
        };
        if let Some(tokens) = tokens {
            self.absurd |= take(field, tokens);
        }
    }

    /// Whether there is a report at all; a report of zeros is one.
    pub(super) fn is_report(&self) -> bool {
        let input = self.prompt.or(self.input);
        let tokens = input.or(self.output).or(self.total);
        tokens.is_some() || (self.is_duration && self.seconds.is_some())
    }

    /// Whether the output is reported.
    pub(super) fn has_output(&self) -> bool {
        self.output.is_some()
    }

    /// Whether a figure was negative or beyond all reason, and no later report has a sane one in its place.
    pub(super) fn is_absurd(&self) -> bool {
        self.absurd
    }

    /// Takes in a later report.
    ///
    /// A later report that moves input from one of Anthropic's classes to another (first all of it as `input_tokens`, at
    /// the end split into input and cache) replaces those classes together: class by class the larger would count twice.
    pub(super) fn merge(&mut self, later: &Figures) {
        let refused = self.absurd || later.absurd;
        let resplit = if refused && (self.has_refused_input() || later.has_refused_input()) {
            None
        } else {
            self.resplit(later)
        };
        *self = if refused {
            self.merged_by_what_is_sane(later)
        } else {
            self.merged(later, Option::max)
        };
        if let Some([input, read, write]) = resplit {
            self.input = Some(input);
            self.read_beside = Some(read);
            self.write_beside = Some(write);
            let split =
                |figures: &Figures| figures.write_5m.unwrap_or(0) + figures.write_1h.unwrap_or(0);
            if split(later) > 0 || split(self) > write {
                (self.write_5m, self.write_1h) = (later.write_5m, later.write_1h);
            }
        }
    }

    fn merged(
        &self,
        later: &Figures,
        of: impl Fn(Option<u64>, Option<u64>) -> Option<u64>,
    ) -> Figures {
        Figures {
            prompt: of(self.prompt, later.prompt),
            input: of(self.input, later.input),
            output: of(self.output, later.output),
            total: of(self.total, later.total),
            read_inside: of(self.read_inside, later.read_inside),
            write_inside: of(self.write_inside, later.write_inside),
            read_beside: of(self.read_beside, later.read_beside),
            write_beside: of(self.write_beside, later.write_beside),
            write_5m: of(self.write_5m, later.write_5m),
            write_1h: of(self.write_1h, later.write_1h),
            miss: of(self.miss, later.miss),
            audio_input: of(self.audio_input, later.audio_input),
            image_input: of(self.image_input, later.image_input),
            reasoning: of(self.reasoning, later.reasoning),
            reasoning_at_top: of(self.reasoning_at_top, later.reasoning_at_top),
            citations: of(self.citations, later.citations),
            thoughts: of(self.thoughts, later.thoughts),
            tool_input: of(self.tool_input, later.tool_input),
            audio_output: of(self.audio_output, later.audio_output),
            image_output: of(self.image_output, later.image_output),
            web_searches: of(self.web_searches, later.web_searches),
            seconds: of(self.seconds, later.seconds),
            is_duration: self.is_duration || later.is_duration,
            absurd: false,
        }
    }

    /// A figure that was refused stands until a later report has a sane one in its place.
    fn merged_by_what_is_sane(&self, later: &Figures) -> Figures {
        let absurd = Cell::new(false);
        let mut merged = self.merged(later, |before, after| {
            let figure = match (before, after) {
                (Some(REFUSED), Some(_)) | (_, Some(REFUSED)) => after,
                _ => before.max(after),
            };
            absurd.set(absurd.get() || figure == Some(REFUSED));
            figure
        });
        merged.absurd = absurd.get();
        merged
    }

    /// Whether one of the classes that input is divided among was refused.
    fn has_refused_input(&self) -> bool {
        let classes = [
            self.input,
            self.read_beside,
            self.write_beside,
            self.write_5m,
            self.write_1h,
        ];
        classes.contains(&Some(REFUSED))
    }

    /// What Anthropic's classes are, where a later report divides the same input among them anew: input, read, written.
    fn resplit(&self, later: &Figures) -> Option<[u64; 3]> {
        let before =
            [self.input, self.read_beside, self.write_beside].map(Option::unwrap_or_default);
        let named = [later.input, later.read_beside, later.write_beside];
        let mut after = before;
        for (after, named) in after.iter_mut().zip(named) {
            *after = named.unwrap_or(*after);
        }
        let sum = |classes: [u64; 3]| classes.iter().sum::<u64>();
        let [input, read, write] = after;
        let cache_is_new = sum(before) == before[0] && read + write > 0;
        if cache_is_new && later.input.is_none() && is_about(read + write, before[0]) {
            // All that was input is cache now.
            return Some([0, read, write]);
        }
        // An estimate that knew of no cache may well have been larger than what is so.
        let is_estimate = cache_is_new
            && later.input.is_some()
            && (input > 0 || is_about(sum(after), sum(before)));
        let one_is_smaller = std::iter::zip(before, after).any(|(before, after)| after < before);
        let is_no_smaller = sum(after) > 0 && sum(after) >= sum(before);
        (is_estimate || (one_is_smaller && is_no_smaller)).then_some(after)
    }

    /// Totals that contain their parts.
    pub(super) fn usage(&self, habit: Habit) -> Usage {
        let given = |field: Option<u64>| field.unwrap_or(0);
        let split = given(self.write_5m) + given(self.write_1h);
        let read = given(self.read_inside).max(given(self.read_beside));
        let write = given(self.write_inside)
            .max(given(self.write_beside))
            .max(split);
        let totals = self.totals(habit, read, write);
        let read = read.min(totals.input);
        let write = write.min(totals.input);
        Usage {
            // Reads and writes each fit, but together they can still exceed the prompt: nothing is left uncached then.
            input_tokens: totals.input.max(read + write),
            cache_read_input_tokens: read,
            cache_write_input_tokens: write,
            cache_write_1h_input_tokens: given(self.write_1h).min(write),
            audio_input_tokens: given(self.audio_input).min(totals.input),
            image_input_tokens: given(self.image_input).min(totals.input),
            output_tokens: totals.output,
            reasoning_output_tokens: totals.reasoning.min(totals.output),
            audio_output_tokens: given(self.audio_output).min(totals.output),
            image_output_tokens: given(self.image_output).min(totals.output),
            web_search_requests: given(self.web_searches),
            audio_seconds: given(self.seconds),
            ..Usage::default()
        }
    }

    fn totals(&self, habit: Habit, read: u64, write: u64) -> Totals {
        let given = |field: Option<u64>| field.unwrap_or(0);
        let output = given(self.output);
        let reasoning = given(self.reasoning.max(self.reasoning_at_top));
        let cache_is_beside = given(self.prompt) == 0
            && self.read_beside.or(self.write_beside).is_some()
            && (habit == Habit::Messages || self.total != Some(given(self.input) + output));
        if habit == Habit::Messages || cache_is_beside {
            // `prompt_tokens`, where a server reports both, contains its cache everywhere.
            let input = given(self.input) + read + write;
            return Totals {
                input: input.max(given(self.prompt)),
                output,
                reasoning,
            };
        }
        let miss = self.miss.map(|miss| miss + given(self.read_inside));
        let input = self.prompt.max(self.input).or(miss).or_else(|| {
            let total = self.total?;
            Some(total.saturating_sub(output))
        });
        let beside = self
            .reasoning_at_top
            .filter(|tokens| *tokens > output || self.citations.is_some());
        let mut totals = Totals {
            input: given(input) + given(self.tool_input) + given(self.citations),
            output: output + given(self.thoughts) + given(beside),
            reasoning: reasoning.max(given(self.thoughts)),
        };
        let seen = totals.input + totals.output;
        let unseen = given(self.total).saturating_sub(seen);
        if unseen > 0 {
            self.add_unseen(&mut totals, habit, unseen, read, write);
        } else if self.total.is_none() && reasoning > totals.output {
            // More reasoning than output can only stand beside it.
            totals.output += reasoning;
        }
        totals
    }

    /// The reported total is larger than its parts: finds the classes that the provider keeps outside.
    fn add_unseen(&self, totals: &mut Totals, habit: Habit, unseen: u64, read: u64, write: u64) {
        let outside = [
            totals.reasoning,
            self.audio_input.unwrap_or(0),
            read,
            write,
            self.audio_output.unwrap_or(0),
        ];
        let is_in = |set: u32, class: usize| set & (1 << class) != 0;
        let sum = |set: u32| -> u64 {
            let classes = outside.iter().enumerate();
            classes
                .filter(|(class, _)| is_in(set, *class))
                .map(|(_, tokens)| tokens)
                .sum()
        };
        // The fewest classes that explain it, the first named first.
        let explained = (1..1u32 << outside.len())
            .filter(|set| sum(*set) == unseen)
            .min_by_key(|set| set.count_ones());
        match explained {
            Some(set) => {
                for (class, tokens) in outside.iter().enumerate() {
                    match class {
                        _ if !is_in(set, class) => {}
                        1..=3 => totals.input += tokens,
                        _ => totals.output += tokens,
                    }
                }
            }
            None if habit == Habit::Embeddings => totals.input += unseen,
            // Gemini's compatible endpoint shows its thinking nowhere but in the total, and bills it.
            None => {
                totals.output += unseen;
                totals.reasoning = totals.reasoning.max(unseen);
            }
        }
    }
}

/// Whether two counts are of the same input: one of them may be an estimate.
fn is_about(one: u64, other: u64) -> bool {
    one.abs_diff(other) <= one.max(other) / 32
}

struct Totals {
    input: u64,
    output: u64,
    reasoning: u64,
}

/// Takes a figure, if it is one; says whether the field's is [`REFUSED`]. Within one report a figure that stands in two places
/// (`cached_tokens` at the top and in the details) is the larger.
fn take(field: &mut Option<u64>, value: &str) -> bool {
    *field = (*field).max(figure(value));
    *field == Some(REFUSED)
}

/// What began of a second is a second: none of it would be free.
fn whole(seconds: &str) -> &str {
    match seconds.trim_matches('"').parse::<f64>() {
        Ok(part) if part > 0.0 && part < 1.0 => "1",
        _ => seconds,
    }
}

/// A figure as servers write it: `12`, `12.0`, `"12"`. Anything else (`null`, a text, a flag) is no figure, and one below 0 or
/// above [`ABSURD_TOKENS`] is [`REFUSED`].
fn figure(value: &str) -> Option<u64> {
    let bare = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value);
    if !matches!(bare.as_bytes().first()?, b'0'..=b'9' | b'-') {
        return None;
    }
    let tokens = match bare.parse::<u64>() {
        Ok(tokens) => tokens,
        Err(_) => {
            let tokens = bare.parse::<f64>().ok()?;
            let is_sane = (0.0..=ABSURD_TOKENS as f64).contains(&tokens);
            if is_sane {
                tokens.round() as u64
            } else {
                REFUSED
            }
        }
    };
    Some(if tokens <= ABSURD_TOKENS {
        tokens
    } else {
        REFUSED
    })
}
