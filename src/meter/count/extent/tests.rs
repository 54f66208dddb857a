use proptest::prelude::*;
use serde_json::json;

use super::*;

fn extent(body: serde_json::Value) -> Extent {
    Extent::of(body.to_string().as_bytes())
}

#[test]
fn a_plain_chat_is_its_bytes() {
    let body =
        r#"{ "model": "gpt-4o", "messages": [ {"role": "user", "content": "Hi \"you\""} ] }"#;
    let extent = Extent::of(body.as_bytes());
    assert_eq!(extent.images, 0);
    assert_eq!(extent.text_bytes, 6 + 4 + 10);
    let dense = body
        .replace(": ", ":")
        .replace(", ", ",")
        .replace("{ ", "{")
        .replace("[ ", "[");
    let dense = dense.replace(" ]", "]").replace(" }", "}");
    assert_eq!(extent.countable_bytes(), dense.len() as u64);
}

#[test]
fn an_image_in_its_original_size_is_bound_by_what_the_model_takes_for_any() {
    let bound = |model: &str, detail: &str| {
        let image =
            json!({"type": "image_url", "image_url": {"url": "https://a/b.png", "detail": detail}});
        extent(json!([image])).media_upper_bound(model)
    };
    // A model that knows no original size bills it as any: gpt-4o-mini, more than any original.
    assert_eq!(
        bound("gpt-4o-mini", "original"),
        bound("gpt-4o-mini", "high")
    );
    assert_eq!(
        bound("gpt-5.6", "original"),
        media::ORIGINAL_IMAGE_TOKENS_MAX
    );
}

#[test]
fn an_image_is_not_its_bytes() {
    let data = "A".repeat(1 << 20);
    for part in [
        json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{data}"), "detail": "high"}}),
        json!({"type": "input_image", "image_url": format!("data:image/png;base64,{data}")}),
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}),
        json!({"source": {"data": data, "type": "base64", "media_type": "image/png"}, "type": "image"}),
        json!({"type": "image_generation_call", "id": "ig_1", "result": data}),
    ] {
        let extent = extent(json!({"messages": [{"role": "user", "content": [part.clone()]}]}));
        assert_eq!(extent.images, 1, "{}", &part.to_string()[..60]);
        assert!(extent.countable_bytes() < 300, "{extent:?}");
        assert!(extent.upper_bound("gpt-4o") < 2_000);
    }
}

#[test]
fn sound_and_documents_are_not_their_bytes() {
    let data = "A".repeat(1 << 20);
    let sound = extent(json!({"messages": [{"content": [
        {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}]}]}));
    assert_eq!(sound.audio_bytes, 786_432);
    assert!(sound.upper_bound("gpt-4o-audio-preview") < 20_000);
    for part in [
        json!({"type": "file", "file": {"filename": "a.pdf", "file_data": format!("data:application/pdf;base64,{data}")}}),
        json!({"type": "input_file", "filename": "a.pdf", "file_data": data}),
        json!({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": data}}),
        json!({"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}),
    ] {
        let extent = extent(json!({"input": [{"content": [part]}]}));
        assert_eq!((extent.documents, extent.images), (1, 0));
        assert!(extent.countable_bytes() < 300 && extent.upper_bound("claude") <= 300_400);
    }
}

#[test]
fn a_plain_text_document_is_text() {
    let extent = extent(json!({"messages": [{"role": "user", "content": [
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x".repeat(5_000)}}]}]}));
    assert!(extent.text_bytes >= 5_000);
}

#[test]
fn text_cannot_pass_for_an_image() {
    let long = "A".repeat(5_000);
    for body in [
        json!({"messages": [{"role": "user", "content": long}]}),
        json!({"messages": [{"role": "user", "content": [{"type": "text", "text": long}]}]}),
        json!({"tools": [{"type": "function", "function": {"parameters": {"image_url": long}}}]}),
        json!({"messages": [{"role": "tool", "content": [{"data": long, "result": long}]}]}),
        json!({"input": [long]}),
    ] {
        assert!(
            extent(body.clone()).text_bytes >= 5_000,
            "{}",
            &body.to_string()[..60]
        );
    }
}

#[test]
fn what_is_no_json_is_text() {
    for body in [&b"{\"a\": \"b"[..], b"}", b"[[[", b"\"\\"] {
        assert_eq!(Extent::of(body).text_bytes, body.len() as u64);
    }
    let deep = "[".repeat(1 << 20);
    assert_eq!(Extent::of(deep.as_bytes()).text_bytes, 1 << 20);
}

#[test]
fn what_is_nested_deeper_than_any_api_needs_is_text() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert_eq!(Extent::of(nested(DEPTH_MAX).as_bytes()).text_bytes, 0);
    let deeper = nested(DEPTH_MAX + 1);
    let extent = Extent::of(deeper.as_bytes());
    assert_eq!(extent.text_bytes, deeper.len() as u64);
}

proptest! {
    #[test]
    fn any_bytes_are_measured(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let extent = Extent::of(&body);
        prop_assert!(extent.countable_bytes() <= body.len() as u64);
    }

    #[test]
    fn long_strings_that_are_known_change_nothing(
        parts in prop::collection::vec((0..4u8, "[aé\\n\"{\\[]{1,3}", 1..6_000usize), 0..6)
    ) {
        let parts: Vec<_> = parts
            .into_iter()
            .map(|(kind, text, times)| {
                let text = text.repeat(times);
                match kind {
                    0 => json!({"type": "text", "text": text}),
                    1 => json!({"type": "image_url", "image_url": {"url": text}}),
                    2 => json!({"type": "input_audio", "input_audio": {"data": text}}),
                    _ => json!({ text: [7, "short"] }),
                }
            })
            .collect();
        let body = json!({"model": "m", "messages": [{"role": "user", "content": parts}]}).to_string();
        let ask = crate::dialect::ask::read(&crate::dialect::Endpoint::ChatCompletions, body.as_bytes()).unwrap();
        let long = body.split('"').any(|piece| piece.len() > 5_000);
        prop_assert!(!long || ask.long_strings.iter().next().is_some());
        prop_assert_eq!(Extent::knowing(body.as_bytes(), &ask.long_strings), Extent::of(body.as_bytes()));
    }
}
