//! One live request: who asks, what, and in which mood.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName};
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::demo::chance::Chance;
use crate::demo::tasks::{Api, Task};
use crate::demo::upstream::SIMULATE;
use crate::demo::world::Subscriber;
use crate::headers;
use crate::secret::Secret;

/// A request that is about to be sent.
pub(super) struct Ask {
    path: &'static str,
    method: Method,
    body: String,
    secret: Secret,
    anthropic: bool,
    tags: Option<String>,
    /// How the provider should fail.
    simulate: Option<&'static str>,
    /// The client goes away after so many pieces of the answer.
    pub(super) leaves_after: Option<u64>,
}

/// Live prompts are cut to so many tokens, and answers to so many: a minute of the demo should show many requests, and a
/// night of it should not cost a subscriber a year's price.
const INPUT_TOKENS: u64 = 6_000;
const OUTPUT_TOKENS: u64 = 700;

impl Ask {
    /// What a subscriber asks next.
    pub(super) fn draw(subscriber: &Subscriber, chance: &mut Chance) -> Option<Ask> {
        let habit = subscriber.habit(0)?;
        let task = chance.pick(habit.tasks)?;
        let usage = task.usage(habit.size, chance);
        let mut ask = Ask {
            path: task.api.path(),
            method: Method::POST,
            body: String::new(),
            secret: subscriber.secret.clone(),
            anthropic: task.api == Api::Messages,
            tags: task.feature.map(|feature| format!("feature={feature}")),
            simulate: None,
            leaves_after: None,
        };
        let streamed = chance.permille(task.streamed);
        let prompt = prompt(usage.input_tokens.min(INPUT_TOKENS), chance);
        // Half of the requests say how long the answer may be; of the others the gateway has to know it.
        let most = (usage.output_tokens.clamp(16, OUTPUT_TOKENS)).next_multiple_of(16);
        let most = (chance.permille(500) || ask.anthropic).then_some(most);
        let mut body = body(task, &prompt, streamed, most, chance);
        if subscriber.people > 1 && !ask.anthropic {
            let person = chance.below(subscriber.people) + 1;
            set(&mut body, "user", format!("customer-{person:02}").into());
        }
        ask.body = body.to_string();
        ask.mood(streamed, chance);
        Some(ask)
    }

    /// Something goes otherwise in one request out of eight.
    fn mood(&mut self, streamed: bool, chance: &mut Chance) {
        match chance.below(1000) {
            0..12 => self.simulate = Some("429"),
            12..22 => self.simulate = Some("500"),
            22..30 if streamed => self.simulate = Some("break"),
            30..36 => self.simulate = Some("slow"),
            36..76 if streamed => self.leaves_after = Some(1 + chance.below(8)),
            76..100 if self.anthropic => self.path = "/v1/messages/count_tokens",
            100..110 => {
                self.method = Method::GET;
                self.path = "/v1/models";
                self.body.clear();
            }
            110..114 => self.body = self.body.replace("\"model\":\"", "\"model\":\"no-such-"),
            _ => {}
        }
    }

    /// As it goes over the wire.
    pub(super) fn request(self, gateway: SocketAddr) -> http::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder()
            .method(self.method)
            .uri(format!("http://{gateway}{}", self.path))
            .header(CONTENT_TYPE, "application/json");
        request = if self.anthropic {
            request
                .header("x-api-key", self.secret.expose())
                .header("anthropic-version", "2023-06-01")
        } else {
            request.header(AUTHORIZATION, format!("Bearer {}", self.secret.expose()))
        };
        if let Some(tags) = self.tags {
            request = request.header(headers::TAGS, tags);
        }
        if let Some(simulate) = self.simulate {
            request = request.header(HeaderName::from_static(SIMULATE), simulate);
        }
        request.body(Full::new(Bytes::from(self.body)))
    }
}

fn body(
    task: &Task,
    prompt: &str,
    streamed: bool,
    most: Option<u64>,
    chance: &mut Chance,
) -> Value {
    let messages = json!([{"role": "user", "content": prompt}]);
    let mut body = json!({"model": task.model});
    let most_name = match task.api {
        Api::Chat => {
            set(&mut body, "messages", messages);
            "max_completion_tokens"
        }
        Api::Completions => {
            set(&mut body, "prompt", prompt.into());
            "max_tokens"
        }
        Api::Responses => {
            set(&mut body, "input", prompt.into());
            "max_output_tokens"
        }
        Api::Messages => {
            set(&mut body, "messages", messages);
            "max_tokens"
        }
        Api::Embeddings => {
            set(&mut body, "input", prompt.into());
            return body;
        }
    };
    if let Some(most) = most {
        set(&mut body, most_name, most.into());
    }
    if let Some(tier) = task.tier {
        set(&mut body, "service_tier", tier.into());
    }
    if streamed {
        set(&mut body, "stream", true.into());
        // Some clients ask for usage themselves; for the others the gateway does, and takes it out again.
        if task.api == Api::Chat && chance.permille(400) {
            set(&mut body, "stream_options", json!({"include_usage": true}));
        }
    }
    body
}

fn set(body: &mut Value, name: &str, value: Value) {
    if let Some(members) = body.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
}

/// Text of about so many tokens.
fn prompt(tokens: u64, chance: &mut Chance) -> String {
    let sentences: Vec<(u32, &str)> = SENTENCES.iter().map(|sentence| (1, *sentence)).collect();
    let bytes = usize::try_from(tokens * 4).unwrap_or(0);
    let mut prompt = String::with_capacity(bytes + 128);
    while prompt.len() < bytes {
        prompt.push_str(chance.pick(&sentences).copied().unwrap_or("Hello. "));
    }
    prompt
}

const SENTENCES: [&str; 6] = [
    "Here is a part of the report that I have to hand in on Friday. ",
    "Please keep the tone friendly, and do not make it longer than it is. ",
    "The third paragraph contradicts the table, and I cannot say which of them is right. ",
    "When the river is high, the gauge at the old mill reads half a metre too much. ",
    "What would you change first if you had an hour for it? ",
    "The customer wrote again this morning and asks for an answer by noon. ",
];
