//! Which paths every server reads in the same way.

use crate::dialect::Endpoint;

/// Whether a path names one thing only, whoever reads it.
///
/// The gateway meters by the path that it sees and forwards that path as it came. A server behind it may merge slashes,
/// resolve dots, decode escapes, cut parameters or ignore case: it would then serve `/v1/chat//completions` as a chat that
/// nobody metered, or leave `base_url` altogether.
pub(super) fn is_plain(path: &str) -> bool {
    // What nearly all clients ask for need not be looked through.
    if matches!(
        path,
        "/v1/chat/completions" | "/v1/messages" | "/v1/responses" | "/v1/embeddings"
    ) {
        return true;
    }
    let trimmed = path.strip_suffix('/').unwrap_or(path);
    let mut segments = trimmed.split('/').skip(1);
    segments.all(|segment| !matches!(segment, "" | "." | "..") && escapes_are_needed(segment))
        && !is_billed_in_capitals(path)
}

/// Whether a segment has only escapes of characters that mean nothing in a path, and none of those raw that do.
fn escapes_are_needed(segment: &str) -> bool {
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
                    return false;
                };
                let meant = u8::try_from(16 * high + low).unwrap_or(0);
                let is_needless = meant.is_ascii_alphanumeric() || b"-._~".contains(&meant);
                if is_needless || meant.is_ascii_control() || b"/\\%;?#".contains(&meant) {
                    return false;
                }
            }
            b'\\' | b';' => return false,
            _ => {}
        }
    }
    true
}

fn is_billed_in_capitals(path: &str) -> bool {
    path.bytes().any(|byte| byte.is_ascii_uppercase())
        && Endpoint::of_path(&path.to_ascii_lowercase())
            .is_some_and(|endpoint| endpoint.is_metered() || endpoint.may_report())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_plain_or_can_be_read_in_two_ways() {
        let plain = [
            "/v1/chat/completions",
            "/v1/chat/completions/",
            "/v1/files/file-A1b%20c",
            "/v1/models/ft:gpt-4o:acme",
            "/v1/models/org%3Aname",
        ];
        let not_plain = [
            "/v1//chat/completions",
            "/v1/chat/completions//",
            "/v1/../x",
            "/v1/./x",
            "/v1/..",
            "/v1/%2e%2e/x",
            "/v1/chat%2fcompletions",
            "/v1/chat/%63ompletions",
            "/v1/a%5cb",
            "/v1/a\\b",
            "/v1/a;b",
            "/v1/a%3Bb",
            "/v1/a%",
            "/v1/a%2",
            "/v1/a%zz",
            "/v1/a%00",
            "/v1/a%252e",
            "/v1/Chat/completions",
        ];
        for path in plain {
            assert!(is_plain(path), "{path}");
        }
        for path in not_plain {
            assert!(!is_plain(path), "{path}");
        }
    }
}
