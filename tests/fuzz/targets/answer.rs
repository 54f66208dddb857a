//! However an answer is split, it passes unchanged (or, with our usage chunk taken out, the same), it is read the same, and
//! what is read can be billed.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use weir::dialect::{Dialect, Endpoint};
use weir::meter::{ContentEncoding, End, Meter, MeterCaps, MeterSettings, Reading, Report};
use weir::tokens::ABSURD_TOKENS;

fuzz_target!(|data: &[u8]| {
    let [kind, step, answer @ ..] = data else {
        return;
    };
    let settings = settings(*kind);
    let (passed, reading) = pass(&settings, std::iter::once(answer));
    let (split_passed, split_reading) = pass(&settings, answer.chunks(1 + usize::from(*step)));
    assert_eq!(passed, split_passed);
    assert_eq!(reading.gave_up, split_reading.gave_up);
    // How much of a broken encoding can be read before the break is the decoder's affair.
    if !reading.gave_up {
        assert_eq!(reading, split_reading);
    }
    if !settings.strip_usage {
        assert_eq!(passed, answer);
    }
    let report = || {
        Report::new(
            &settings.endpoint,
            settings.dialect,
            settings.caps.text_bytes,
        )
    };
    says_the_same_again(report(), report(), answer);
    if let Some(usage) = reading.usage {
        for (class, tokens) in usage.classes() {
            assert!(tokens <= 16 * ABSURD_TOKENS, "{class} is {tokens}");
        }
        assert!(usage.cache_write_1h_input_tokens <= usage.cache_write_input_tokens);
        assert!(usage.cache_read_input_tokens <= usage.input_tokens);
        assert!(usage.audio_input_tokens <= usage.input_tokens);
        assert!(usage.reasoning_output_tokens <= usage.output_tokens);
        assert!(usage.audio_output_tokens <= usage.output_tokens);
    }
});

/// What an event says does not depend on whether it repeats the one before: an empty one in between says nothing, and has the
/// next one read anew.
fn says_the_same_again(mut quick: Report, mut slow: Report, answer: &[u8]) {
    let lines = answer.split(|byte| *byte == b'\n');
    for line in lines.flat_map(|line| [line, line]) {
        let data = line.strip_prefix(b"data: ").unwrap_or(line);
        slow.event(b"", b"{}");
        assert_eq!(quick.event(b"", data), slow.event(b"", data));
        assert_eq!(quick.saw_first_output(), slow.saw_first_output());
    }
    assert_eq!(quick.finish(End::Complete), slow.finish(End::Complete));
}

fn settings(kind: u8) -> MeterSettings {
    let (endpoint, dialect) = match kind % 5 {
        0 => (Endpoint::ChatCompletions, Dialect::OpenAi),
        1 => (Endpoint::Responses, Dialect::OpenAi),
        2 => (Endpoint::Messages, Dialect::Anthropic),
        3 => (Endpoint::Embeddings, Dialect::OpenAi),
        _ => (Endpoint::Completions, Dialect::Azure),
    };
    let encoding = match kind / 5 % 8 {
        0 => Some(ContentEncoding::Gzip),
        1 => Some(ContentEncoding::Deflate),
        2 => Some(ContentEncoding::Brotli),
        3 => Some(ContentEncoding::Zstd),
        _ => None,
    };
    MeterSettings {
        endpoint,
        dialect,
        event_stream: kind / 40 % 3 != 0,
        encoding,
        strip_usage: kind / 120 == 1,
        // Small, so that the fuzzer reaches them.
        caps: MeterCaps {
            line_bytes: 4 << 10,
            body_bytes: 32 << 10,
            decoded_bytes: 64 << 10,
            text_bytes: 1 << 10,
        },
    }
}

fn pass<'a>(
    settings: &MeterSettings,
    chunks: impl Iterator<Item = &'a [u8]>,
) -> (Vec<u8>, Reading) {
    let mut meter = Meter::new(settings.clone());
    let mut passed = Vec::new();
    for chunk in chunks {
        passed.extend(meter.push(Bytes::copy_from_slice(chunk)));
    }
    passed.extend(meter.held());
    (passed, meter.finish(End::Complete))
}
