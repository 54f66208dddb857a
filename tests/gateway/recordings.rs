//! Real provider answers pass unchanged and are booked with the very usage that the provider reported.
//!
//! The recordings are other people's and lie beside the repository; where they are absent this test says so.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::{ACME, Asked, Body, Gateway, Reply, Upstream, config};

struct Recording {
    id: String,
    meta: Value,
    body: Vec<u8>,
}

fn recordings() -> Vec<Recording> {
    let shared = std::env::var_os("WEIR_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let Ok(folder) = std::fs::read_dir(shared.join("recordings")) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = folder
        .map(|file| file.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".meta.json"))
        .collect();
    paths.sort();
    let read = |path: PathBuf| {
        let meta: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let body = std::fs::read(path.with_file_name(meta["body_file"].as_str().unwrap())).unwrap();
        Recording {
            id: meta["id"].as_str().unwrap().to_owned(),
            meta,
            body,
        }
    };
    paths.into_iter().map(read).collect()
}

/// The path and a request for a recording: its own where that is known.
fn request(recording: &Recording) -> (&'static str, String) {
    let meta = &recording.meta;
    let api = meta["api"].as_str().unwrap();
    let path = match api {
        "chat" => "/v1/chat/completions",
        "responses" => "/v1/responses",
        "messages" => "/v1/messages",
        "embeddings" => "/v1/embeddings",
        "completions" => "/v1/completions",
        other => panic!("{}: {other}", recording.id),
    };
    let mut body = if meta["request"].is_object() {
        meta["request"].clone()
    } else {
        serde_json::json!({})
    };
    let members = body.as_object_mut().unwrap();
    let model = meta["model_requested"]
        .as_str()
        .or(meta["model_in_body"].as_str())
        .unwrap_or("unknown-model");
    members.insert("model".into(), model.into());
    if meta["streaming"] == true {
        members.insert("stream".into(), true.into());
        if api == "chat" || api == "completions" {
            // Asked for by the client itself: then not a byte may be missing.
            members.insert(
                "stream_options".into(),
                serde_json::json!({ "include_usage": true }),
            );
        }
    }
    (path, body.to_string())
}

/// The totals that are expected, by INTERFACE.md's rule that they contain their parts; every reading that can be defended.
fn expected(meta: &Value) -> Vec<(u64, u64, u64)> {
    // Sound that the provider reports beside its prompt tokens is input all the same.
    let anomalies = meta["expected"]["anomalies"].as_array();
    let outside = anomalies.is_some_and(|all| all.iter().any(|one| one == "audio_outside_prompt"));
    let totals = |usage: &Value| {
        let n = |name: &str| usage[name].as_u64().unwrap_or(0);
        let cached = n("cache_read") + n("cache_write_5m") + n("cache_write_1h") + n("cache_write");
        let sound = if outside { n("audio_input") } else { 0 };
        (
            n("input_uncached") + cached + sound,
            n("cache_read"),
            n("output"),
        )
    };
    let first = &meta["expected"]["usage"];
    let others = meta["expected"]["accept"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|reading| reading.get("usage").unwrap_or(reading));
    std::iter::once(first)
        .chain(others)
        .filter(|usage| usage.is_object())
        .map(totals)
        .collect()
}

fn pieces(body: &[u8], size: usize) -> Vec<Vec<u8>> {
    body.chunks(size.max(1)).map(<[u8]>::to_vec).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_answers_pass_unchanged_in_any_pieces_and_are_booked_as_reported() {
    let recordings = recordings();
    if recordings.is_empty() {
        println!("skipped: there are no recordings beside the repository");
        return;
    }
    let next: Arc<Mutex<Option<Reply>>> = Arc::default();
    let script = Arc::clone(&next);
    let upstream = Upstream::start(move |_: &Asked| script.lock().unwrap().clone().unwrap()).await;
    let gateway = Gateway::start(
        &config(&upstream, ACME)
            .replace(
                "endpoints = [\"messages\", \"messages.count_tokens\"]\n",
                "",
            )
            .replace(
                "models = [\"claude-*\"]",
                "models = [\"*\"]\nendpoints = [\"messages\"]",
            ),
    )
    .await;
    let client = gateway.client();
    let mut wanted = Vec::new();
    for recording in &recordings {
        let (path, request) = request(recording);
        let status = u16::try_from(recording.meta["status"].as_u64().unwrap()).unwrap();
        let kind = recording.meta["response_headers"]["content-type"]
            .as_str()
            .unwrap_or(if recording.meta["streaming"] == true {
                "text/event-stream"
            } else {
                "application/json"
            });
        for (size, gzip) in [
            (usize::MAX, false),
            (7, false),
            (1, false),
            (usize::MAX, true),
            (7, true),
        ] {
            if recording.body.len() > 200_000 && size == 1 {
                continue;
            }
            let sent = if gzip {
                gzipped(&recording.body)
            } else {
                recording.body.clone()
            };
            let mut reply = Reply {
                status,
                headers: vec![("content-type".into(), kind.into())],
                body: Body::Pieces(pieces(&sent, size.min(sent.len()))),
            };
            if gzip {
                reply = reply.header("content-encoding", "gzip");
            }
            *next.lock().unwrap() = Some(reply);
            let answer = client.post(path, request.clone()).await;
            assert_eq!(
                answer.status.as_u16(),
                status,
                "{}: {}",
                recording.id,
                answer.text()
            );
            assert!(
                answer.body == sent,
                "{}: the client got other bytes ({size} gzip {gzip})",
                recording.id
            );
            wanted.push((
                format!("{} in pieces of {size}, gzip {gzip}", recording.id),
                answer.header("x-weir-request-id").unwrap().to_owned(),
                recording,
            ));
        }
    }
    let entries = gateway.ledger_of(wanted.len()).await;
    let mut wrong = Vec::new();
    for (what, id, recording) in &wanted {
        let entry = entries
            .iter()
            .find(|entry| entry["id"] == id.as_str())
            .unwrap();
        let usage = &entry["usage"];
        let n = |name: &str| usage[name].as_u64().unwrap();
        let got = (
            n("input_tokens"),
            n("cache_read_input_tokens"),
            n("output_tokens"),
        );
        let readings = expected(&recording.meta);
        if !readings.is_empty() && (!readings.contains(&got) || entry["usage_source"] != "reported")
        {
            wrong.push(format!(
                "{what}: {got:?} {}, expected {readings:?}",
                entry["usage_source"]
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        wanted.len(),
        wrong.join("\n")
    );
}

fn gzipped(body: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}
