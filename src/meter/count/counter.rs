//! Counting without holding up the threads that serve connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::dialect::Endpoint;
use crate::ids::ModelName;
use crate::meter::OutputText;
use crate::tokens::UsageSource;

use super::encoding::Tokenizer;
use super::extent::Extent;
use super::request::{INLINE_BYTES_MAX, input_tokens};
use super::{Counted, estimate_output, output_tokens};

/// How much counting may go on at once.
#[derive(Clone, Copy, Debug)]
pub struct CounterSettings {
    /// Long texts that are counted at the same time: as many as there are cores.
    pub working_max: usize,
    /// Long texts that are counted or wait for it; one more is estimated.
    pub waiting_max: usize,
    /// How long one may wait and be counted; after that it is estimated.
    pub timeout: Duration,
}

impl Default for CounterSettings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            working_max: cores,
            waiting_max: 64 * cores,
            timeout: Duration::from_secs(5),
        }
    }
}

/// Counts short texts where it is called and long ones on a few threads of the blocking pool. A count always comes: under
/// overload it is an estimate that says so.
#[derive(Debug)]
pub struct Counter {
    working: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    timeout: Duration,
    overloads: AtomicU64,
}

impl Counter {
    /// A counter within these limits.
    pub fn new(settings: CounterSettings) -> Counter {
        Counter {
            working: Arc::new(Semaphore::new(settings.working_max.max(1))),
            waiting: Arc::new(Semaphore::new(settings.waiting_max.max(1))),
            timeout: settings.timeout,
            overloads: AtomicU64::new(0),
        }
    }

    /// The input tokens of a request ([`input_tokens`]).
    pub async fn input(
        &self,
        endpoint: &Endpoint,
        tokenizer: Tokenizer,
        model: &ModelName,
        body: &Bytes,
    ) -> Counted {
        if body.len() as u64 <= INLINE_BYTES_MAX {
            return input_tokens(endpoint, tokenizer, model.as_str(), body);
        }
        let work = {
            let (endpoint, model, body) = (endpoint.clone(), model.clone(), body.clone());
            move || input_tokens(&endpoint, tokenizer, model.as_str(), &body)
        };
        let counted = self.off_thread(work).await;
        counted.unwrap_or_else(|| Counted {
            tokens: Extent::of(body).estimate(model.as_str()),
            source: UsageSource::Estimated,
        })
    }

    /// The tokens of an answer ([`output_tokens`]).
    pub async fn output(&self, tokenizer: Tokenizer, output: OutputText) -> Counted {
        let bytes = output.bytes();
        if bytes <= INLINE_BYTES_MAX {
            return output_tokens(tokenizer, &output);
        }
        let work = move || output_tokens(tokenizer, &output);
        let counted = self.off_thread(work).await;
        counted.unwrap_or_else(|| estimate_output(bytes))
    }

    /// How often a text was only estimated because too much was being counted.
    pub fn overloads(&self) -> u64 {
        self.overloads.load(Ordering::Relaxed)
    }

    /// `None` when there was no room or no time. What has begun is not stopped: it keeps its place until it is done, so that
    /// impatience cannot pile up work.
    async fn off_thread(&self, work: impl FnOnce() -> Counted + Send + 'static) -> Option<Counted> {
        let counted = async {
            let place = Arc::clone(&self.waiting).try_acquire_owned().ok()?;
            let core = Arc::clone(&self.working).acquire_owned().await.ok()?;
            let task = tokio::task::spawn_blocking(move || {
                let counted = work();
                drop((place, core));
                counted
            });
            task.await.ok()
        };
        let counted = tokio::time::timeout(self.timeout, counted).await;
        let counted = counted.ok().flatten();
        if counted.is_none() {
            self.overloads.fetch_add(1, Ordering::Relaxed);
        }
        counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::ChoiceText;

    fn tokenizer() -> Tokenizer {
        Tokenizer::for_model("gpt-4o", None)
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
    }

    fn words(count: usize) -> OutputText {
        OutputText {
            choices: vec![ChoiceText {
                text: "word ".repeat(count),
                ..ChoiceText::default()
            }],
            dropped_bytes: 0,
        }
    }

    #[test]
    fn a_long_text_has_the_count_of_a_short_one() {
        let counter = Counter::new(CounterSettings::default());
        let long = runtime().block_on(counter.output(tokenizer(), words(20_000)));
        assert_eq!(long, output_tokens(tokenizer(), &words(20_000)));
        assert_eq!(long.source, UsageSource::Counted);

        let body =
            serde_json::json!({"messages": [{"role": "user", "content": "word ".repeat(20_000)}]});
        let body = Bytes::from(body.to_string());
        let model = ModelName::from("gpt-4o");
        let counted = runtime().block_on(counter.input(
            &Endpoint::ChatCompletions,
            tokenizer(),
            &model,
            &body,
        ));
        assert_eq!(counted.tokens, long.tokens + 7);
        assert_eq!(counter.overloads(), 0);
    }

    #[test]
    fn what_finds_no_room_is_estimated_and_says_so() {
        let counter = Counter::new(CounterSettings {
            waiting_max: 1,
            ..CounterSettings::default()
        });
        let _taken = Arc::clone(&counter.waiting).try_acquire_owned().unwrap();
        let counted = runtime().block_on(counter.output(tokenizer(), words(20_000)));
        assert_eq!(counted.source, UsageSource::Estimated);
        assert!(counted.tokens.abs_diff(20_000) < 10_000, "{counted:?}");
        assert_eq!(counter.overloads(), 1);
    }

    #[test]
    fn what_waits_too_long_is_estimated_and_gives_its_place_back() {
        // Long enough for the counting itself: only its turn does not come.
        let counter = Counter::new(CounterSettings {
            working_max: 1,
            waiting_max: 1,
            timeout: Duration::from_millis(700),
        });
        let taken = Arc::clone(&counter.working).try_acquire_owned().unwrap();
        let counted = runtime().block_on(counter.output(tokenizer(), words(20_000)));
        assert_eq!(counted.source, UsageSource::Estimated);
        assert_eq!(counter.waiting.available_permits(), 1);
        drop(taken);
    }

    #[test]
    fn a_long_request_takes_its_turn_as_a_long_answer_does() {
        let counter = Counter::new(CounterSettings {
            working_max: 1,
            waiting_max: 1,
            timeout: Duration::from_millis(10),
        });
        let taken = Arc::clone(&counter.working).try_acquire_owned().unwrap();
        let body =
            serde_json::json!({"messages": [{"role": "user", "content": "word ".repeat(20_000)}]});
        let body = Bytes::from(body.to_string());
        let model = ModelName::from("gpt-4o");
        let endpoint = Endpoint::ChatCompletions;
        let counted = runtime().block_on(counter.input(&endpoint, tokenizer(), &model, &body));
        assert_eq!(counted.source, UsageSource::Estimated);
        assert_eq!(counter.overloads(), 1);
        drop(taken);
    }

    #[test]
    fn a_short_text_needs_no_room() {
        let counter = Counter::new(CounterSettings::default());
        counter.waiting.close();
        let counted = runtime().block_on(counter.output(tokenizer(), words(10)));
        assert_eq!(counted.source, UsageSource::Counted);
    }
}
