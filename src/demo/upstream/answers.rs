//! What the simulated provider answers, in the shape of each API.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

/// What was asked.
pub(super) struct Question {
    path: String,
    body: Value,
    model: String,
}

/// An answer: whole, or as the events of a stream.
pub(super) enum Answer {
    Whole(Bytes),
    Stream(Vec<Bytes>),
}

/// Tokens of one answer as the provider counts them.
#[derive(Clone, Copy)]
struct Count {
    input: u64,
    cached: u64,
    output: u64,
    reasoning: u64,
}

impl Question {
    /// Reads a request; `None` if it is none.
    pub(super) fn read(method: &Method, path: &str, body: &[u8]) -> Option<Question> {
        if method == Method::GET && path == "/v1/models" {
            return Some(Question {
                path: path.to_owned(),
                body: Value::Null,
                model: String::new(),
            });
        }
        let body: Value = serde_json::from_slice(body).ok()?;
        let model = body.get("model")?.as_str()?.to_owned();
        Some(Question {
            path: path.to_owned(),
            body,
            model,
        })
    }

    /// The answer.
    pub(super) fn answer(&self) -> Answer {
        match self.path.as_str() {
            "/v1/chat/completions" => self.chat(),
            "/v1/completions" => self.completion(),
            "/v1/responses" => self.response(),
            "/v1/embeddings" => self.embeddings(),
            "/v1/messages" => self.message(),
            "/v1/messages/count_tokens" => whole(&json!({"input_tokens": self.input_tokens()})),
            _ => whole(&json!({"object": "list", "data": []})),
        }
    }

    fn is_streamed(&self) -> bool {
        self.body.get("stream").and_then(Value::as_bool) == Some(true)
    }

    /// The dated name under which providers serve an alias.
    fn served(&self) -> String {
        let dated = [
            ("gpt-4o", "gpt-4o-2024-11-20"),
            ("gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
            ("gpt-4.1-mini", "gpt-4.1-mini-2025-04-14"),
            ("gpt-4.5-preview", "gpt-4.5-preview-2025-02-27"),
            ("gpt-5", "gpt-5-2025-08-07"),
            ("o1", "o1-2024-12-17"),
            ("o3", "o3-2025-04-16"),
            ("claude-opus-4-1", "claude-opus-4-1-20250805"),
            ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929"),
        ];
        let found = dated.iter().find(|(alias, _)| *alias == self.model);
        found.map_or_else(|| self.model.clone(), |(_, dated)| (*dated).to_owned())
    }

    /// Four bytes a token, as a rule of thumb: the provider's word is what is billed, whatever it says.
    fn input_tokens(&self) -> u64 {
        let asked = [
            "messages",
            "input",
            "prompt",
            "system",
            "instructions",
            "tools",
        ];
        let bytes: usize = asked
            .iter()
            .filter_map(|name| self.body.get(name))
            .map(|value| value.to_string().len())
            .sum();
        bytes as u64 / 4 + 3
    }

    fn output_max(&self) -> Option<u64> {
        ["max_completion_tokens", "max_output_tokens", "max_tokens"]
            .iter()
            .find_map(|name| self.body.get(name)?.as_u64())
    }

    fn reasons(&self) -> bool {
        ["o1", "o3", "o4", "gpt-5"]
            .iter()
            .any(|family| self.model.starts_with(family))
    }

    /// The words of the answer and what they count as.
    fn speak(&self) -> (Vec<&'static str>, Count) {
        let most = self.output_max().unwrap_or(u64::MAX);
        let usual = fastrand::u64(60..220);
        let visible = if self.output_max().is_some() {
            // Asked for so much, a model gives most of it; never more than a short read.
            (most * fastrand::u64(55..=95) / 100).clamp(1, 900)
        } else {
            usual
        };
        let reasoning = if self.reasons() {
            (visible * fastrand::u64(1..=4)).min(most.saturating_sub(visible))
        } else {
            0
        };
        let input = self.input_tokens();
        let cached = if input >= 1024 && fastrand::u8(0..10) < 6 {
            input * 3 / 5 / 128 * 128
        } else {
            0
        };
        let words = TEXT.split_inclusive(' ').cycle();
        let words = words
            .take(usize::try_from(visible).unwrap_or(900))
            .collect();
        let count = Count {
            input,
            cached,
            output: visible + reasoning,
            reasoning,
        };
        (words, count)
    }

    fn service_tier(&self) -> &str {
        match self.body.get("service_tier").and_then(Value::as_str) {
            Some(tier @ ("flex" | "priority")) => tier,
            _ => "default",
        }
    }

    fn chat(&self) -> Answer {
        let (words, count) = self.speak();
        let (id, created, model) = (id("chatcmpl-"), now(), self.served());
        let usage = json!({
            "prompt_tokens": count.input, "completion_tokens": count.output,
            "total_tokens": count.input + count.output,
            "prompt_tokens_details": {"cached_tokens": count.cached, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": count.reasoning, "audio_tokens": 0,
                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
        });
        if !self.is_streamed() {
            return whole(&json!({
                "id": id, "object": "chat.completion", "created": created, "model": model,
                "choices": [{"index": 0, "message": {"role": "assistant", "content": words.concat(), "refusal": null},
                    "logprobs": null, "finish_reason": "stop"}],
                "usage": usage, "service_tier": self.service_tier(), "system_fingerprint": "fp_demo",
            }));
        }
        let wants_usage = self.body.pointer("/stream_options/include_usage") == Some(&json!(true));
        let chunk = |choices: Value, usage: Option<&Value>| {
            let mut chunk = json!({
                "id": id, "object": "chat.completion.chunk", "created": created, "model": model,
                "service_tier": self.service_tier(), "system_fingerprint": "fp_demo", "choices": choices,
            });
            if wants_usage && let Some(members) = chunk.as_object_mut() {
                members.insert("usage".into(), usage.cloned().unwrap_or(Value::Null));
            }
            data(&chunk)
        };
        let delta = |delta: Value, finish: Option<&str>| {
            let choice =
                json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]);
            chunk(choice, None)
        };
        let mut events = vec![delta(
            json!({"role": "assistant", "content": "", "refusal": null}),
            None,
        )];
        events.extend(pieces(&words).map(|piece| delta(json!({"content": piece}), None)));
        events.push(delta(json!({}), Some("stop")));
        if wants_usage {
            events.push(chunk(json!([]), Some(&usage)));
        }
        events.push(Bytes::from_static(b"data: [DONE]\n\n"));
        Answer::Stream(events)
    }

    fn completion(&self) -> Answer {
        let (words, count) = self.speak();
        let (id, created) = (id("cmpl-"), now());
        let usage = json!({"prompt_tokens": count.input, "completion_tokens": count.output,
            "total_tokens": count.input + count.output});
        let part = |text: &str, finish: Option<&str>| {
            json!({"id": id, "object": "text_completion", "created": created, "model": self.served(),
                "choices": [{"text": text, "index": 0, "logprobs": null, "finish_reason": finish}]})
        };
        if !self.is_streamed() {
            let mut answer = part(&words.concat(), Some("stop"));
            if let Some(members) = answer.as_object_mut() {
                members.insert("usage".into(), usage);
            }
            return whole(&answer);
        }
        let mut events: Vec<Bytes> = pieces(&words)
            .map(|piece| data(&part(&piece, None)))
            .collect();
        events.push(data(&part("", Some("stop"))));
        if self.body.pointer("/stream_options/include_usage") == Some(&json!(true)) {
            events.push(data(
                &json!({"id": id, "object": "text_completion", "created": created,
                "model": self.served(), "choices": [], "usage": usage}),
            ));
        }
        events.push(Bytes::from_static(b"data: [DONE]\n\n"));
        Answer::Stream(events)
    }

    fn response(&self) -> Answer {
        let (words, count) = self.speak();
        let (id, item, created) = (id("resp_"), id("msg_"), now());
        let text = words.concat();
        let part = json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []});
        let message = json!({"id": item, "type": "message", "status": "completed", "role": "assistant", "content": [part]});
        let state = |status: &str, output: Value, usage: Value| {
            json!({
                "id": id, "object": "response", "created_at": created, "status": status, "background": false,
                "error": null, "incomplete_details": null, "instructions": null, "metadata": {}, "model": self.served(),
                "output": output, "parallel_tool_calls": true, "service_tier": self.service_tier(), "store": false,
                "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0, "usage": usage,
            })
        };
        let usage = json!({
            "input_tokens": count.input, "input_tokens_details": {"cached_tokens": count.cached},
            "output_tokens": count.output, "output_tokens_details": {"reasoning_tokens": count.reasoning},
            "total_tokens": count.input + count.output,
        });
        let done = state("completed", json!([message]), usage);
        if !self.is_streamed() {
            return whole(&done);
        }
        let mut number = 0;
        let mut events = Vec::new();
        let mut send = |kind: &str, mut event: Value| {
            if let Some(members) = event.as_object_mut() {
                members.insert("type".into(), kind.into());
                members.insert("sequence_number".into(), number.into());
            }
            number += 1;
            events.push(named(kind, &event));
        };
        let begun = state("in_progress", json!([]), Value::Null);
        send("response.created", json!({"response": begun}));
        send("response.in_progress", json!({"response": begun}));
        let empty = json!({"id": item, "type": "message", "status": "in_progress", "role": "assistant", "content": []});
        send(
            "response.output_item.added",
            json!({"output_index": 0, "item": empty}),
        );
        let place = |more: Value| {
            let mut place = json!({"item_id": item, "output_index": 0, "content_index": 0});
            if let (Some(members), Value::Object(more)) = (place.as_object_mut(), more) {
                members.extend(more);
            }
            place
        };
        let blank = json!({"type": "output_text", "text": "", "annotations": [], "logprobs": []});
        send("response.content_part.added", place(json!({"part": blank})));
        for piece in pieces(&words) {
            send(
                "response.output_text.delta",
                place(json!({"delta": piece, "logprobs": []})),
            );
        }
        send(
            "response.output_text.done",
            place(json!({"text": text, "logprobs": []})),
        );
        send("response.content_part.done", place(json!({"part": part})));
        send(
            "response.output_item.done",
            json!({"output_index": 0, "item": message}),
        );
        send("response.completed", json!({"response": done}));
        Answer::Stream(events)
    }

    fn embeddings(&self) -> Answer {
        let inputs = match self.body.get("input") {
            Some(Value::Array(several)) if several.first().is_some_and(|one| !one.is_number()) => {
                several.len()
            }
            _ => 1,
        };
        let wide = self
            .body
            .get("dimensions")
            .and_then(Value::as_u64)
            .unwrap_or(1536)
            .min(3072);
        let base64 = self.body.get("encoding_format").and_then(Value::as_str) == Some("base64");
        let vector = || {
            if base64 {
                Value::from(tenths_in_base64(usize::try_from(wide).unwrap_or(0)))
            } else {
                (0..wide).map(|_| Value::from(0.1)).collect()
            }
        };
        let data: Vec<Value> = (0..inputs.min(2048))
            .map(|index| json!({"object": "embedding", "index": index, "embedding": vector()}))
            .collect();
        let tokens = self.input_tokens();
        whole(
            &json!({"object": "list", "data": data, "model": self.served(),
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}),
        )
    }

    fn message(&self) -> Answer {
        let (words, count) = self.speak();
        let (id, model) = (id("msg_"), self.served());
        // Anthropic counts what comes from its cache, and what goes there, beside the input.
        let written = count.cached / 4;
        let fresh = count.input - count.cached - written.min(count.input - count.cached);
        let usage = |output: u64| {
            json!({
                "input_tokens": fresh, "cache_creation_input_tokens": count.input - count.cached - fresh,
                "cache_read_input_tokens": count.cached,
                "cache_creation": {"ephemeral_5m_input_tokens": count.input - count.cached - fresh, "ephemeral_1h_input_tokens": 0},
                "output_tokens": output, "service_tier": "standard",
            })
        };
        let message = |content: Value, stop: Option<&str>, output: u64| {
            json!({"id": id, "type": "message", "role": "assistant", "model": model, "content": content,
                "stop_reason": stop, "stop_sequence": null, "usage": usage(output)})
        };
        if !self.is_streamed() {
            let content = json!([{"type": "text", "text": words.concat()}]);
            return whole(&message(content, Some("end_turn"), count.output));
        }
        let mut events = vec![
            named(
                "message_start",
                &json!({"type": "message_start", "message": message(json!([]), None, 1)}),
            ),
            named(
                "content_block_start",
                &json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            ),
            named("ping", &json!({"type": "ping"})),
        ];
        events.extend(pieces(&words).map(|piece| {
            let delta = json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}});
            named("content_block_delta", &delta)
        }));
        events.push(named(
            "content_block_stop",
            &json!({"type": "content_block_stop", "index": 0}),
        ));
        events.push(named(
            "message_delta",
            &json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
                "usage": {"output_tokens": count.output}}),
        ));
        events.push(named("message_stop", &json!({"type": "message_stop"})));
        Answer::Stream(events)
    }
}

/// So many little-endian floats of 0.1, as base64: three of them fill whole groups.
fn tenths_in_base64(count: usize) -> String {
    let rest = match count % 3 {
        0 => "",
        1 => "zczMPQ==",
        _ => "zczMPc3MzD0=",
    };
    "zczMPc3MzD3NzMw9".repeat(count / 3) + rest
}

/// Words as they arrive: several at a time.
fn pieces<'a>(words: &'a [&'static str]) -> impl Iterator<Item = String> + 'a {
    words.chunks(8).map(<[&str]>::concat)
}

fn whole(json: &Value) -> Answer {
    Answer::Whole(Bytes::from(json.to_string()))
}

fn data(json: &Value) -> Bytes {
    Bytes::from(format!("data: {json}\n\n"))
}

fn named(event: &str, json: &Value) -> Bytes {
    Bytes::from(format!("event: {event}\ndata: {json}\n\n"))
}

fn id(prefix: &str) -> String {
    format!(
        "{prefix}{:016x}{:08x}",
        fastrand::u64(..),
        fastrand::u32(..)
    )
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// What it says, over and over.
const TEXT: &str = "This is the simulated provider of the Weir demo. A weir is a low barrier across a river: the height of \
    the water above its crest tells how much of it passes. Millers, boatmen and engineers have read rivers that way for a \
    thousand years. What passes is measured without holding it back, and whoever draws more than a share of it can be told \
    so before the mill pond runs dry. ";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Endpoint;
    use crate::meter::{End, Meter, MeterCaps, MeterSettings};

    fn ask(path: &str, body: &Value) -> Answer {
        Question::read(&Method::POST, path, body.to_string().as_bytes())
            .unwrap()
            .answer()
    }

    fn text(answer: Answer) -> String {
        let bytes = match answer {
            Answer::Whole(json) => json.to_vec(),
            Answer::Stream(events) => events.concat(),
        };
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn usage_comes_in_a_chunk_of_its_own_only_where_it_is_asked_for() {
        let mut body = json!({"model": "gpt-4o", "stream": true, "messages": [{"role": "user", "content": "hello"}]});
        for path in ["/v1/chat/completions", "/v1/completions"] {
            body["stream_options"] = Value::Null;
            assert!(!text(ask(path, &body)).contains("prompt_tokens"));
            body["stream_options"] = json!({"include_usage": true});
            let answer = text(ask(path, &body));
            assert_eq!(answer.matches("prompt_tokens\"").count(), 1, "{answer}");
            assert!(answer.ends_with("data: [DONE]\n\n"));
        }
    }

    #[test]
    fn the_most_that_is_asked_for_is_kept_reasoning_included() {
        for _ in 0..50 {
            let body = json!({"model": "o3", "input": "think", "max_output_tokens": 100});
            let answer: Value = serde_json::from_str(&text(ask("/v1/responses", &body))).unwrap();
            assert!(answer["usage"]["output_tokens"].as_u64().unwrap() <= 100);
        }
    }

    #[test]
    fn every_shape_is_one_that_the_meter_reads_as_final() {
        let long = "word ".repeat(3000);
        let messages = json!([{"role": "user", "content": long}]);
        for (path, endpoint) in [
            ("/v1/chat/completions", Endpoint::ChatCompletions),
            ("/v1/completions", Endpoint::Completions),
            ("/v1/responses", Endpoint::Responses),
            ("/v1/embeddings", Endpoint::Embeddings),
            ("/v1/messages", Endpoint::Messages),
        ] {
            for stream in [false, true] {
                let body = json!({"model": "o3", "stream": stream, "messages": messages, "input": long, "prompt": long,
                    "stream_options": {"include_usage": true}});
                let answer = ask(path, &body);
                let streamed = matches!(answer, Answer::Stream(_));
                let mut meter = Meter::new(MeterSettings {
                    endpoint: endpoint.clone(),
                    dialect: endpoint.error_dialect(),
                    event_stream: streamed,
                    encoding: None,
                    strip_usage: false,
                    caps: MeterCaps::default(),
                });
                meter.push(Bytes::from(text(answer)));
                let reading = meter.finish(End::Complete);
                assert!(reading.usage_final, "{path} {stream}");
                let usage = reading.usage.unwrap();
                assert!(usage.input_tokens > 3000, "{path} {usage:?}");
                assert!(usage.cache_read_input_tokens <= usage.input_tokens);
            }
        }
    }
}
