//! The meter against real answers of many providers, with the usage that a person read from their bytes.
//!
//! They are other people's published fixtures and no part of this repository: looked for in `WEIR_SHARED`, then beside the checkout.

use std::path::PathBuf;

use bytes::Bytes;
use serde_json::Value;

use super::tests::{ENCODINGS, encoded, endpoint_of, meter, pieces, read_whole};
use super::*;

struct Recording {
    name: String,
    body: Bytes,
    event_stream: bool,
    endpoint: Endpoint,
    expected: Value,
}

fn recordings() -> Vec<Recording> {
    let shared = std::env::var_os("WEIR_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let folder = shared.join("recordings");
    let Ok(files) = std::fs::read_dir(&folder) else {
        println!("skipped: no recordings in {}", folder.display());
        return Vec::new();
    };
    let mut recordings: Vec<Recording> = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".meta.json"))
        .map(|path| {
            let meta: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let body = folder.join(meta["body_file"].as_str().unwrap());
            Recording {
                name: meta["id"].as_str().unwrap().to_owned(),
                body: std::fs::read(body).unwrap().into(),
                event_stream: meta["streaming"].as_bool().unwrap(),
                endpoint: endpoint_of(meta["api"].as_str().unwrap()),
                expected: meta["expected"].clone(),
            }
        })
        .collect();
    recordings.sort_by(|a, b| a.name.cmp(&b.name));
    recordings
}

/// The recording's own words in ours. `audio_input` stands inside the input, or beside it where that is noted.
fn usage_of(expected: &Value) -> Option<crate::tokens::Usage> {
    let figures = expected["usage"].as_object()?;
    let figure = |name: &str| figures[name].as_u64().unwrap();
    let write = figure("cache_write_5m") + figure("cache_write_1h") + figure("cache_write");
    let notes = expected["anomalies"].to_string();
    let audio_beside = notes.contains("audio_outside_prompt");
    Some(crate::tokens::Usage {
        input_tokens: figure("input_uncached")
            + figure("cache_read")
            + write
            + if audio_beside {
                figure("audio_input")
            } else {
                0
            },
        cache_read_input_tokens: figure("cache_read"),
        cache_write_input_tokens: write,
        cache_write_1h_input_tokens: figure("cache_write_1h"),
        audio_input_tokens: figure("audio_input"),
        output_tokens: figure("output"),
        reasoning_output_tokens: figure("reasoning"),
        audio_output_tokens: figure("audio_output"),
        ..crate::tokens::Usage::default()
    })
}

#[test]
fn every_recording_reports_what_a_person_reads_in_it_however_it_is_cut_and_encoded() {
    for recording in recordings() {
        let Recording {
            name,
            body,
            event_stream,
            endpoint,
            expected,
        } = &recording;
        let mut whole = None;
        for encoding in ENCODINGS {
            let wire = encoded(body, encoding);
            for size in [usize::MAX, 1000, 7, 1] {
                let mut meter = meter(endpoint, *event_stream, encoding);
                let mut passed = Vec::new();
                for piece in pieces(&wire, size) {
                    let out = meter.push(piece.clone());
                    assert_eq!(out.as_ptr(), piece.as_ptr(), "{name}: bytes are not copied");
                    passed.extend_from_slice(&out);
                }
                passed.extend_from_slice(&meter.held());
                assert!(passed == wire, "{name}: bytes pass unchanged");
                let reading = meter.finish(End::Complete);
                let mut usage = reading.usage;
                if let Some(usage) = &mut usage {
                    usage.web_search_requests = 0;
                    usage.audio_seconds = 0;
                }
                assert_eq!(usage, usage_of(expected), "{name} {encoding:?} {size}");
                assert_eq!(
                    reading.failed.is_some(),
                    !expected["error"].is_null(),
                    "{name}: {:?}",
                    reading.failed
                );
                let tier = expected["service_tier"].as_str();
                assert_eq!(reading.service_tier.as_deref(), tier, "{name}");
                assert!(!reading.gave_up && !reading.absurd, "{name}");
                assert_eq!(
                    whole.get_or_insert_with(|| reading.clone()),
                    &reading,
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn a_recording_stripped_of_usage_loses_the_usage_chunk_and_nothing_else() {
    for recording in recordings() {
        if !recording.event_stream || recording.endpoint != Endpoint::ChatCompletions {
            continue;
        }
        let (plain, _) = read_whole(&recording.endpoint, &recording.body, usize::MAX, true);
        for size in [1000, 7, 1] {
            let (passed, _) = read_whole(&recording.endpoint, &recording.body, size, true);
            assert!(passed == plain, "{} in pieces of {size}", recording.name);
        }
        let events = |body: &[u8]| {
            let text = String::from_utf8(body.to_vec()).unwrap();
            let events = text.replace("\r\n", "\n");
            events.split("\n\n").map(str::to_owned).collect::<Vec<_>>()
        };
        let is_usage_chunk = |event: &str| {
            let json = event
                .strip_prefix("data: ")
                .and_then(|data| serde_json::from_str(data).ok());
            json.is_some_and(|json: Value| {
                json["choices"] == serde_json::json!([]) && json["usage"].is_object()
            })
        };
        let mut expected = events(&recording.body);
        expected.retain(|event| !is_usage_chunk(event));
        let expected: Vec<String> = expected
            .iter()
            .map(|event| {
                event
                    .replace(",\"usage\":null", "")
                    .replace("\"usage\":null,", "")
            })
            .collect();
        assert_eq!(events(&plain), expected, "{}", recording.name);
    }
}
