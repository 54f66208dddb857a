//! Which requests their provider bills, by path and method.

use http::Method;

use crate::dialect::Endpoint;

/// How a request is billed by its provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// By the usage of its answer.
    Metered,
    /// By what its answer reports (tokens, seconds) or is (images); where it tells nothing, by the request or not at all, as
    /// the model's price says.
    Reported,
    /// Not: it fetches a response that was made before. One that was made in the background reports its usage only then, and
    /// is billed by it, once.
    Fetched,
    /// Not: it looks at, changes or ends what was made before. What usage it shows was billed when that was made.
    Free,
    /// Nobody knows: a path that is only passed through.
    Unknown,
}

impl Charge {
    /// How a request is billed.
    pub fn of(endpoint: &Endpoint, method: &Method) -> Charge {
        match endpoint {
            Endpoint::CountTokens | Endpoint::Models => Charge::Free,
            Endpoint::Other(name) if &**name == "responses.id" && method == Method::GET => {
                Charge::Fetched
            }
            Endpoint::Other(name) if *method != Method::POST || is_about_another(name) => {
                Charge::Free
            }
            Endpoint::Other(_) if endpoint.may_report() => Charge::Reported,
            Endpoint::Other(_) => Charge::Unknown,
            _ => Charge::Metered,
        }
    }
}

/// Whether a POST to a path is about something that is there: its metadata, its end, or how large a request would be.
fn is_about_another(name: &str) -> bool {
    name.ends_with(".id") || name.ends_with(".id.cancel") || name == "responses.input_tokens"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_billed_and_looking_at_it_is_free() {
        for (method, path, expected) in [
            (Method::POST, "/v1/chat/completions", Charge::Metered),
            (Method::GET, "/v1/chat/completions", Charge::Free),
            (Method::GET, "/v1/chat/completions/chatcmpl-1", Charge::Free),
            (
                Method::POST,
                "/v1/chat/completions/chatcmpl-1",
                Charge::Free,
            ),
            (Method::POST, "/v1/batches", Charge::Unknown),
            (Method::GET, "/v1/batches/batch_1", Charge::Free),
            (Method::POST, "/v1/batches/batch_1/cancel", Charge::Free),
            (Method::GET, "/v1/messages/batches/msgbatch_1", Charge::Free),
            (Method::GET, "/v1/threads/thread_1/runs/run_1", Charge::Free),
            (Method::POST, "/v1/threads/thread_1/runs", Charge::Unknown),
            (Method::GET, "/v1/responses/resp_1", Charge::Fetched),
            (Method::GET, "/v1/responses/resp_abc", Charge::Fetched),
            (Method::POST, "/v1/responses/resp_abc/cancel", Charge::Free),
            (Method::DELETE, "/v1/responses/resp_1", Charge::Free),
            (Method::POST, "/v1/responses/resp_1/cancel", Charge::Free),
            (Method::POST, "/v1/responses/input_tokens", Charge::Free),
            (Method::POST, "/v1/responses/compact", Charge::Metered),
            (Method::POST, "/v1/messages/count_tokens", Charge::Free),
            (Method::POST, "/v1/audio/transcriptions", Charge::Reported),
            (Method::POST, "/v1/images/generations", Charge::Reported),
            (Method::POST, "/v1/rerank", Charge::Reported),
            (Method::POST, "/v1/files", Charge::Unknown),
            (Method::GET, "/v1/files", Charge::Free),
        ] {
            let endpoint = Endpoint::of_request(&method, path).unwrap();
            assert_eq!(Charge::of(&endpoint, &method), expected, "{method} {path}");
        }
    }
}
