//! The text of an answer, kept for counting when nothing is reported.

use std::ops::Range;

use super::super::json::{Walk, each_element, each_member, text};

/// The text of an answer. Bounded: what comes after the bound is only measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputText {
    /// One for each answer (`n`).
    pub choices: Vec<ChoiceText>,
    /// Bytes of text that came after the bound was reached and are not kept.
    pub dropped_bytes: u64,
}

/// The text of one choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChoiceText {
    /// What the model said, a refusal included.
    pub text: String,
    /// Reasoning that the upstream showed.
    pub reasoning: String,
    /// Calls of tools.
    pub tools: Vec<ToolText>,
}

/// One call of a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolText {
    /// The tool's name.
    pub name: String,
    /// The arguments, as the JSON text the model wrote.
    pub arguments: String,
}

impl OutputText {
    /// Whether there is no text at all.
    pub fn is_empty(&self) -> bool {
        self.bytes() == 0
    }

    /// The length of all text, what was dropped included.
    pub fn bytes(&self) -> u64 {
        let kept = self.choices.iter().map(|choice| {
            let tools = choice.tools.iter();
            choice.text.len()
                + choice.reasoning.len()
                + tools
                    .map(|tool| tool.name.len() + tool.arguments.len())
                    .sum::<usize>()
        });
        kept.sum::<usize>() as u64 + self.dropped_bytes
    }
}

/// Collects the text of one answer as its events come.
#[derive(Debug)]
pub(super) struct Collector {
    pub(super) output: OutputText,
    /// For each choice, the provider's number of each tool call, by which deltas name it.
    tool_numbers: Vec<Vec<u64>>,
    bytes_left: usize,
    first_seen: bool,
    grew: bool,
    pieces: Pieces,
}

/// What an element of `choices` says beside its text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chosen<'a> {
    /// Whether the choice is finished.
    pub(super) finished: bool,
    /// Moonshot's Kimi reports here. A raw JSON value.
    pub(super) usage: Option<&'a str>,
}

/// The pieces of text that an event had.
#[derive(Debug, Default)]
enum Pieces {
    #[default]
    None,
    One(Piece),
    /// Or one that is no string.
    Several,
}

/// A piece of text as it stands in an event.
#[derive(Clone, Debug, Default)]
pub(super) struct Piece {
    choice: usize,
    kind: Kind,
    /// The addresses between which its JSON string stands.
    addresses: Range<usize>,
}

impl Piece {
    /// Where it stands in the event that it was taken from.
    pub(super) fn span_in(&self, event: &str) -> Option<Range<usize>> {
        let base = event.as_ptr() as usize;
        let span = self.addresses.start.checked_sub(base)?..self.addresses.end.checked_sub(base)?;
        (span.end <= event.len()).then_some(span)
    }
}

/// More choices or tool calls than this share the last place; they are billed all the same.
const PLACES_MAX: usize = 256;

/// Where a piece of text belongs.
#[derive(Clone, Copy, Debug, Default)]
enum Kind {
    #[default]
    Text,
    Reasoning,
    ToolName(u64),
    ToolArguments(u64),
}

/// The members of a message, or of a piece of one, that have text. Raw JSON values.
#[derive(Default)]
struct Message<'a> {
    content: Option<&'a str>,
    refusal: Option<&'a str>,
    reasoning_content: Option<&'a str>,
    reasoning: Option<&'a str>,
    tool_calls: Option<&'a str>,
    function_call: Option<&'a str>,
    audio: Option<&'a str>,
}

impl<'a> Message<'a> {
    fn read(walk: &mut Walk<'a>) -> Option<Message<'a>> {
        let mut message = Message::default();
        walk.members(|name, walk| {
            let value = walk.value()?;
            let field = match &*name {
                "content" => &mut message.content,
                "refusal" => &mut message.refusal,
                "reasoning_content" => &mut message.reasoning_content,
                "reasoning" => &mut message.reasoning,
                "tool_calls" => &mut message.tool_calls,
                "function_call" => &mut message.function_call,
                "audio" => &mut message.audio,
                _ => return Some(()),
            };
            *field = Some(value);
            Some(())
        })?;
        Some(message)
    }
}

impl Collector {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            output: OutputText::default(),
            tool_numbers: Vec::new(),
            bytes_left: bytes_max,
            first_seen: false,
            grew: false,
            pieces: Pieces::None,
        }
    }

    /// From here on another event is read.
    pub(super) fn begin_event(&mut self) {
        self.pieces = Pieces::None;
    }

    /// The event's only piece of text.
    pub(super) fn only_piece(&mut self) -> Option<Piece> {
        match std::mem::take(&mut self.pieces) {
            Pieces::One(piece) => Some(piece),
            Pieces::None | Pieces::Several => None,
        }
    }

    /// Takes a JSON string that belongs where another piece did.
    pub(super) fn another(&mut self, piece: &Piece, value: &str) {
        self.take(piece.choice, piece.kind, value);
    }

    /// Whether any output has come.
    pub(super) fn first_seen(&self) -> bool {
        self.first_seen
    }

    /// Whether any has come since this was asked last.
    pub(super) fn take_grew(&mut self) -> bool {
        std::mem::take(&mut self.grew)
    }

    /// One element of `choices`, at which `walk` stands: a whole choice or a piece of one, of a chat or a legacy
    /// completion.
    pub(super) fn choice<'a>(&mut self, walk: &mut Walk<'a>) -> Option<Chosen<'a>> {
        let mut index = 0;
        let mut chosen = Chosen::default();
        let mut message = Message::default();
        let mut legacy = None;
        walk.members(|name, walk| {
            match &*name {
                "delta" | "message" if walk.is_at(b'{') => message = Message::read(walk)?,
                "index" => index = walk.value()?.parse().unwrap_or(0),
                "text" => legacy = Some(walk.value()?),
                "finish_reason" => chosen.finished = walk.value()? != "null",
                "usage" => chosen.usage = Some(walk.value()?),
                _ => {
                    walk.value()?;
                }
            }
            Some(())
        })?;
        if let Some(text) = legacy {
            self.take(index, Kind::Text, text);
        }
        self.message(index, &message);
        Some(chosen)
    }

    fn message(&mut self, choice: usize, message: &Message<'_>) {
        if let Some(content) = message.content {
            match content.starts_with('[') {
                true => each_element(content, |part| self.part(choice, part)),
                false => self.take(choice, Kind::Text, content),
            }
        }
        if let Some(refusal) = message.refusal {
            self.take(choice, Kind::Text, refusal);
        }
        if let Some(calls) = message.tool_calls {
            let mut position = 0;
            each_element(calls, |call| {
                self.tool_call(choice, position, call);
                position += 1;
            });
        }
        if let Some(function) = message.function_call {
            self.function(choice, 0, function);
        }
        if let Some(audio) = message.audio {
            each_string(audio, "transcript", |transcript| {
                self.take(choice, Kind::Text, transcript);
            });
        }
        // Some servers send both, with the same text.
        if let Some(reasoning) = message.reasoning_content.or(message.reasoning) {
            self.take(choice, Kind::Reasoning, reasoning);
        }
    }

    /// A content part: `{"type":"text","text":…}`, or Mistral's `{"type":"thinking","thinking":[parts]}`.
    fn part(&mut self, choice: usize, part: &str) {
        each_member(part, |name, value| match &*name {
            "text" | "refusal" => self.take(choice, Kind::Text, value),
            "thinking" if value.starts_with('[') => each_element(value, |part| {
                each_string(part, "text", |text| {
                    self.take(choice, Kind::Reasoning, text)
                });
            }),
            "thinking" => self.take(choice, Kind::Reasoning, value),
            _ => {}
        });
    }

    fn tool_call(&mut self, choice: usize, position: u64, call: &str) {
        let mut index = position;
        let mut function = None;
        each_member(call, |name, value| match &*name {
            "index" => index = value.parse().unwrap_or(position),
            "function" | "custom" => function = Some(value),
            _ => {}
        });
        if let Some(function) = function {
            self.function(choice, index, function);
        }
    }

    fn function(&mut self, choice: usize, index: u64, function: &str) {
        each_member(function, |name, value| match &*name {
            "name" => self.take(choice, Kind::ToolName(index), value),
            "arguments" | "input" => self.take(choice, Kind::ToolArguments(index), value),
            _ => {}
        });
    }

    /// An event of OpenAI's Responses: `delta` is a string, `kind` the event's type.
    pub(super) fn response_delta(&mut self, kind: &str, output_index: u64, delta: &str) {
        let place = match kind {
            "response.output_text.delta"
            | "response.refusal.delta"
            | "response.audio_transcript.delta"
            | "response.output_audio_transcript.delta" => Kind::Text,
            _ if kind.starts_with("response.reasoning") => Kind::Reasoning,
            "response.audio.delta" | "response.output_audio.delta" => return,
            _ => Kind::ToolArguments(output_index),
        };
        self.take(0, place, delta);
    }

    /// An item that a response begins: the tool's name is known now.
    pub(super) fn response_item_added(&mut self, output_index: u64, item: &str) {
        each_string(item, "name", |name| {
            self.take(0, Kind::ToolName(output_index), name);
        });
    }

    /// A whole item of a response's `output`.
    pub(super) fn response_item(&mut self, output_index: u64, item: &str) {
        each_member(item, |name, value| match &*name {
            "content" => each_element(value, |part| self.part(0, part)),
            "summary" => each_element(value, |part| {
                each_string(part, "text", |text| self.take(0, Kind::Reasoning, text));
            }),
            "name" => self.take(0, Kind::ToolName(output_index), value),
            "arguments" | "input" => self.take(0, Kind::ToolArguments(output_index), value),
            _ => {}
        });
    }

    /// A block of Anthropic's `content`, or the delta of one.
    pub(super) fn block(&mut self, index: u64, block: &str) {
        each_member(block, |name, value| match &*name {
            "text" => self.take(0, Kind::Text, value),
            "thinking" => self.take(0, Kind::Reasoning, value),
            "name" => self.take(0, Kind::ToolName(index), value),
            "partial_json" => self.take(0, Kind::ToolArguments(index), value),
            // Whole, it is an object; at the start of a stream it is empty and says nothing.
            "input" if value != "{}" => {
                self.pieces = Pieces::Several;
                self.push(0, Kind::ToolArguments(index), value);
            }
            _ => {}
        });
    }

    /// Takes a JSON string; other values have no text.
    fn take(&mut self, choice: usize, kind: Kind, value: &str) {
        let Some(text) = text(value) else { return };
        let start = value.as_ptr() as usize;
        self.pieces = match self.pieces {
            Pieces::None => Pieces::One(Piece {
                choice,
                kind,
                addresses: start..start + value.len(),
            }),
            Pieces::One(_) | Pieces::Several => Pieces::Several,
        };
        self.push(choice, kind, &text);
    }

    fn push(&mut self, choice: usize, kind: Kind, piece: &str) {
        if piece.is_empty() {
            return;
        }
        self.first_seen = true;
        self.grew = true;
        let kept = piece.floor_char_boundary(self.bytes_left.min(piece.len()));
        self.bytes_left -= kept;
        self.output.dropped_bytes += (piece.len() - kept) as u64;
        let Some(piece) = piece.get(..kept).filter(|piece| !piece.is_empty()) else {
            return;
        };
        let choices = &mut self.output.choices;
        while choices.len() <= choice && choices.len() < PLACES_MAX {
            choices.push(ChoiceText::default());
            self.tool_numbers.push(Vec::new());
        }
        let choice = choice.min(choices.len().saturating_sub(1));
        let (Some(choice), Some(numbers)) =
            (choices.get_mut(choice), self.tool_numbers.get_mut(choice))
        else {
            return;
        };
        let place = match kind {
            Kind::Text => Some(&mut choice.text),
            Kind::Reasoning => Some(&mut choice.reasoning),
            Kind::ToolName(number) => tool(choice, numbers, number).map(|tool| &mut tool.name),
            Kind::ToolArguments(number) => {
                tool(choice, numbers, number).map(|tool| &mut tool.arguments)
            }
        };
        if let Some(place) = place {
            place.push_str(piece);
        }
    }
}

/// The call of that number, begun if it is new.
fn tool<'c>(
    choice: &'c mut ChoiceText,
    numbers: &mut Vec<u64>,
    number: u64,
) -> Option<&'c mut ToolText> {
    let known = numbers.iter().rposition(|known| *known == number);
    let at = known.unwrap_or(numbers.len()).min(PLACES_MAX - 1);
    if at == choice.tools.len() {
        choice.tools.push(ToolText::default());
        numbers.push(number);
    }
    choice.tools.get_mut(at)
}

fn each_string<'a>(object: &'a str, wanted: &str, mut each: impl FnMut(&'a str)) {
    each_member(object, |name, value| {
        if name == wanted {
            each(value);
        }
    });
}
