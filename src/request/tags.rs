//! `x-weir-tags: feature=search,env=prod`: what a caller attributes a request to.

use std::sync::Arc;

use http::HeaderMap;

use crate::headers;

/// More tags of one request are left out: they are kept with every entry.
const TAGS: usize = 16;
/// Longer names and values are cut.
const TEXT_BYTES: usize = 128;

/// The request's tags. What is not `name=value` is left out: attribution never fails a request.
pub(super) fn read(headers: &HeaderMap) -> Vec<(Arc<str>, Arc<str>)> {
    let mut tags: Vec<(Arc<str>, Arc<str>)> = Vec::new();
    let values = headers
        .get_all(headers::TAGS)
        .iter()
        .filter_map(|value| value.to_str().ok());
    for pair in values.flat_map(|value| value.split(',')) {
        let Some((name, value)) = pair.split_once('=') else {
            continue;
        };
        let (name, value) = (cut(name.trim()), cut(value.trim()));
        if name.is_empty() || tags.iter().any(|(known, _)| **known == *name) {
            continue;
        }
        if tags.len() == TAGS {
            break;
        }
        tags.push((name.into(), value.into()));
    }
    tags
}

fn cut(text: &str) -> &str {
    // `to_str` let only visible ASCII through, so every index is a boundary.
    text.get(..TEXT_BYTES).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn pairs_are_read_and_the_rest_is_left_out() {
        let mut map = HeaderMap::new();
        map.append(
            headers::TAGS,
            HeaderValue::from_static("feature=search, env = prod,broken,=x,feature=again"),
        );
        let tags = read(&map);
        let tags: Vec<(&str, &str)> = tags
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        assert_eq!(tags, [("feature", "search"), ("env", "prod")]);
    }

    #[test]
    fn texts_are_cut_and_what_is_no_plain_text_is_left_out() {
        let mut map = HeaderMap::new();
        let long = format!("{}={}", "n".repeat(500), "v".repeat(500));
        map.append(headers::TAGS, HeaderValue::from_str(&long).unwrap());
        map.append(
            headers::TAGS,
            HeaderValue::from_bytes("a=é".as_bytes()).unwrap(),
        );
        let tags = read(&map);
        let lengths: Vec<_> = tags
            .iter()
            .map(|(name, value)| (name.len(), value.len()))
            .collect();
        assert_eq!(lengths, [(TEXT_BYTES, TEXT_BYTES)]);
    }

    #[test]
    fn no_request_has_more_than_sixteen() {
        let many: String = (0..100).map(|n| format!("t{n}=v,")).collect();
        let mut map = HeaderMap::new();
        map.append(headers::TAGS, HeaderValue::from_str(&many).unwrap());
        assert_eq!(read(&map).len(), TAGS);
    }
}
