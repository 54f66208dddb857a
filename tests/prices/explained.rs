//! Where the shipped table differs from a public list, and why ours is taken to be right: by the vendor's announcement or
//! page as far as it was at hand, else because the other lists agree or the list contradicts itself.

/// pydantic's genai-prices of August 2026.
pub(crate) const GENAI: &str = "genai_prices_v2.json";
/// The LiteLLM map of November 2026.
pub(crate) const LITELLM: &str = "model_prices.json";
/// The LiteLLM map of October 2025.
pub(crate) const LITELLM_2025: &str = "model_prices_2025-10.json";

/// List, our entry, class with its tier and threshold, our price, theirs, and the reason.
pub(crate) type Explained = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

#[rustfmt::skip]
pub(crate) const EXPLAINED: &[Explained] = &[
    (LITELLM_2025, "gpt-4o-audio-preview", "audio_input", "40.00", "100.00", AUDIO_ALIAS),
    (LITELLM_2025, "gpt-4o-audio-preview", "audio_output", "80.00", "200.00", AUDIO_ALIAS),
    (GENAI, "gpt-oss-120b", "input", "0.35", "0.039", CEREBRAS),
    (GENAI, "gpt-oss-120b", "output", "0.75", "0.18", CEREBRAS),
    (LITELLM_2025, "codestral-2405", "input", "0.20", "1.00", CODESTRAL),
    (LITELLM_2025, "codestral-2405", "output", "0.60", "3.00", CODESTRAL),
    (LITELLM_2025, "codestral-latest", "input", "0.30", "1.00", CODESTRAL),
    (LITELLM_2025, "codestral-latest", "output", "0.90", "3.00", CODESTRAL),
    (LITELLM, "embed-english-v3.0", "input", "0.10", "100.00", COHERE_UNIT),
    (LITELLM_2025, "deepseek-chat", "cache_read_input", "0.028", "0.06", DEEPSEEK_STALE),
    (LITELLM_2025, "deepseek-chat", "cache_read_input", "0.028", "0.07", DEEPSEEK_STALE),
    (LITELLM_2025, "deepseek-chat", "input", "0.28", "0.27", DEEPSEEK_STALE),
    (LITELLM_2025, "deepseek-chat", "input", "0.28", "0.60", DEEPSEEK_STALE),
    (LITELLM_2025, "deepseek-chat", "output", "0.42", "1.10", DEEPSEEK_STALE),
    (LITELLM_2025, "deepseek-chat", "output", "0.42", "1.70", DEEPSEEK_STALE),
    (LITELLM_2025, "deepseek-reasoner", "cache_read_input", "0.028", "0.06", DEEPSEEK_STALE),
    (LITELLM_2025, "deepseek-reasoner", "input", "0.28", "0.55", DEEPSEEK_STALE),
    (LITELLM_2025, "deepseek-reasoner", "input", "0.28", "0.60", DEEPSEEK_STALE),
    (LITELLM_2025, "deepseek-reasoner", "output", "0.42", "1.70", DEEPSEEK_STALE),
    (LITELLM_2025, "deepseek-reasoner", "output", "0.42", "2.19", DEEPSEEK_STALE),
    (GENAI, "mistral-embed", "output", "0.00", "0.10", EMBEDDING),
    (LITELLM_2025, "ft:gpt-4o-2024-08-06*", "input batch", "2.225", "1.875", FINE_TUNED),
    (LITELLM_2025, "ft:gpt-4o-2024-08-06*", "output batch", "12.50", "7.50", FINE_TUNED),
    (LITELLM_2025, "gemini-2.5-flash-lite", "audio_input", "0.30", "0.50", FLASH_LITE_AUDIO),
    (LITELLM_2025, "gemini-2.0-flash-lite", "cache_read_input", "0.075", "0.01875", FLASH_LITE_CACHE),
    (LITELLM_2025, "gemini-1.5-flash-8b", "input", "0.0375", "0.00", FREE_TIER),
    (LITELLM_2025, "gemini-1.5-flash-8b", "input above 128000", "0.075", "0.00", FREE_TIER),
    (LITELLM_2025, "gemini-1.5-flash-8b", "output", "0.15", "0.00", FREE_TIER),
    (LITELLM_2025, "gemini-1.5-flash-8b", "output above 128000", "0.30", "0.00", FREE_TIER),
    (LITELLM_2025, "gemini-1.5-pro", "input", "1.25", "3.50", GEMINI_1_5),
    (LITELLM_2025, "gemini-1.5-pro", "input above 128000", "2.50", "7.00", GEMINI_1_5),
    (LITELLM_2025, "gemini-1.5-pro", "output", "5.00", "1.05", GEMINI_1_5),
    (LITELLM_2025, "gemini-1.5-pro", "output", "5.00", "10.50", GEMINI_1_5),
    (LITELLM_2025, "gemini-1.5-pro", "output above 128000", "10.00", "21.00", GEMINI_1_5),
    (LITELLM_2025, "gemini-1.5-pro-002", "input", "1.25", "3.50", GEMINI_1_5),
    (LITELLM_2025, "gemini-1.5-pro-002", "input above 128000", "2.50", "7.00", GEMINI_1_5),
    (LITELLM_2025, "gemini-1.5-pro-002", "output", "5.00", "10.50", GEMINI_1_5),
    (LITELLM_2025, "gemini-1.5-pro-002", "output above 128000", "10.00", "21.00", GEMINI_1_5),
    (GENAI, "grok-4.20", "input", "1.25", "2.00", GROK_4_20),
    (GENAI, "grok-4.20", "output", "2.50", "6.00", GROK_4_20),
    (GENAI, "grok-4.5", "cache_read_input", "0.30", "0.50", GROK_4_5),
    (GENAI, "grok-code-fast-1", "cache_read_input", "0.20", "0.02", GROK_CODE),
    (GENAI, "grok-code-fast-1", "input", "1.00", "0.20", GROK_CODE),
    (GENAI, "grok-code-fast-1", "output", "2.00", "1.50", GROK_CODE),
    (LITELLM_2025, "claude-3-5-haiku-20241022", "cache_read_input", "0.08", "0.10", HAIKU_3_5),
    (LITELLM_2025, "claude-3-5-haiku-20241022", "cache_write_input", "1.00", "1.25", HAIKU_3_5),
    (LITELLM_2025, "claude-3-5-haiku-20241022", "input", "0.80", "1.00", HAIKU_3_5),
    (LITELLM_2025, "claude-3-5-haiku-20241022", "output", "4.00", "5.00", HAIKU_3_5),
    (LITELLM_2025, "claude-3-5-haiku-20241022", "cache_write_1h_input", "1.60", "6.00", HOUR_WRITE),
    (LITELLM_2025, "claude-3-haiku-20240307", "cache_write_1h_input", "0.50", "6.00", HOUR_WRITE),
    (LITELLM_2025, "claude-3-opus-20240229", "cache_write_1h_input", "30.00", "6.00", HOUR_WRITE),
    (LITELLM_2025, "mistral-large-2407", "input", "2.00", "3.00", LARGE_2407),
    (LITELLM_2025, "mistral-large-2407", "output", "6.00", "9.00", LARGE_2407),
    (LITELLM, "open-mistral-nemo", "cache_read_input", "0.15", "0.03", NEMO),
    (LITELLM, "open-mistral-nemo", "input", "0.15", "0.30", NEMO),
    (LITELLM, "open-mistral-nemo", "output", "0.15", "0.30", NEMO),
    (LITELLM_2025, "open-mistral-nemo", "input", "0.15", "0.30", NEMO),
    (LITELLM_2025, "open-mistral-nemo", "output", "0.15", "0.30", NEMO),
    (LITELLM_2025, "o1-mini-2024-09-12", "cache_read_input", "0.55", "1.50", O1_MINI),
    (LITELLM_2025, "o1-mini-2024-09-12", "input", "1.10", "3.00", O1_MINI),
    (LITELLM_2025, "o1-mini-2024-09-12", "output", "4.40", "12.00", O1_MINI),
    (GENAI, "o3", "cache_read_input", "2.50", "0.50", O3_CACHE),
    (GENAI, "deepseek-chat", "cache_read_input", "0.028", "0.035", OFF_PEAK_2025),
    (GENAI, "deepseek-chat", "input", "0.28", "0.135", OFF_PEAK_2025),
    (GENAI, "deepseek-chat", "output", "0.42", "0.55", OFF_PEAK_2025),
    (GENAI, "deepseek-reasoner", "cache_read_input", "0.028", "0.035", OFF_PEAK_2025),
    (GENAI, "deepseek-reasoner", "input", "0.28", "0.135", OFF_PEAK_2025),
    (GENAI, "deepseek-reasoner", "output", "0.42", "0.55", OFF_PEAK_2025),
    (LITELLM_2025, "gemini-2.5-pro", "cache_read_input", "0.31", "0.3125", PAGE_ROUNDS),
    (LITELLM_2025, "gemini-2.5-pro-preview-03-25", "cache_read_input", "0.31", "0.3125", PAGE_ROUNDS),
    (LITELLM_2025, "o4-mini", "cache_read_input flex", "0.138", "0.1375", PAGE_ROUNDS),
    (LITELLM_2025, "gemini-2.5-pro-preview-03-25", "audio_input", "1.25", "0.70", PRO_AUDIO),
    (LITELLM_2025, "rerank-2", "request", "0.00", "0.00000005", RERANK),
    (LITELLM_2025, "rerank-2-lite", "request", "0.00", "0.00000002", RERANK),
    (GENAI, "sonar", "request", "0.005", "0.012", SEARCH_CONTEXT),
    (GENAI, "sonar-pro", "request", "0.006", "0.014", SEARCH_CONTEXT),
    (GENAI, "sonar-reasoning", "request", "0.005", "0.012", SEARCH_CONTEXT),
    (GENAI, "sonar-reasoning-pro", "request", "0.006", "0.014", SEARCH_CONTEXT),
    (LITELLM_2025, "gpt-4o-mini", "web_search", "0.025", "0.0275", SEARCH_FLAT),
    (LITELLM_2025, "gpt-4o-mini-search-preview", "web_search", "0.025", "0.0275", SEARCH_FLAT),
    (LITELLM_2025, "gpt-4o-search-preview", "web_search", "0.025", "0.035", SEARCH_FLAT),
    (LITELLM, "gpt-4o-mini-search-preview", "cache_read_input", "0.15", "0.075", SEARCH_PREVIEW),
    (LITELLM, "gpt-4o-search-preview", "cache_read_input", "2.50", "1.25", SEARCH_PREVIEW),
    (LITELLM_2025, "gpt-4o-mini-search-preview", "cache_read_input", "0.15", "0.075", SEARCH_PREVIEW),
    (LITELLM_2025, "gpt-4o-search-preview", "cache_read_input", "2.50", "1.25", SEARCH_PREVIEW),
    (GENAI, "mistral-small-latest", "input", "0.15", "0.10", SMALL_ALIAS),
    (GENAI, "mistral-small-latest", "output", "0.60", "0.30", SMALL_ALIAS),
    (LITELLM, "sonar", "web_search", "0.00", "0.008", SONAR_FEE),
    (LITELLM, "sonar-pro", "web_search", "0.00", "0.01", SONAR_FEE),
    (LITELLM, "sonar-reasoning", "web_search", "0.00", "0.008", SONAR_FEE),
    (LITELLM, "sonar-reasoning-pro", "web_search", "0.00", "0.01", SONAR_FEE),
    (LITELLM_2025, "sonar", "web_search", "0.00", "0.008", SONAR_FEE),
    (LITELLM_2025, "sonar-pro", "web_search", "0.00", "0.01", SONAR_FEE),
    (LITELLM_2025, "sonar-reasoning", "web_search", "0.00", "0.008", SONAR_FEE),
    (LITELLM_2025, "sonar-reasoning-pro", "web_search", "0.00", "0.01", SONAR_FEE),
    (GENAI, "claude-sonnet-5", "cache_read_input", "0.20", "0.30", SONNET_5),
    (GENAI, "claude-sonnet-5", "cache_write_1h_input", "4.00", "6.00", SONNET_5),
    (GENAI, "claude-sonnet-5", "cache_write_input", "2.50", "3.75", SONNET_5),
    (GENAI, "claude-sonnet-5", "input", "2.00", "3.00", SONNET_5),
    (GENAI, "claude-sonnet-5", "output", "10.00", "15.00", SONNET_5),
    (LITELLM_2025, "gemini-1.5-flash", "cache_write_input", "0.075", "1.00", STORAGE),
    (LITELLM_2025, "gemini-1.5-flash-002", "cache_write_input", "0.075", "1.00", STORAGE),
    (LITELLM_2025, "command-r7b-12-2024", "input", "0.0375", "0.15", SWAPPED),
    (LITELLM_2025, "command-r7b-12-2024", "output", "0.15", "0.0375", SWAPPED),
    (GENAI, "gpt-4o-mini-transcribe", "audio_input", "1.25", "3.00", TRANSCRIBE),
    (GENAI, "gpt-4o-transcribe", "audio_input", "2.50", "6.00", TRANSCRIBE),
    (LITELLM, "gpt-4o-mini-tts", "output", "12.00", "10.00", TTS),
    (LITELLM_2025, "gpt-4o-mini-tts", "input", "0.60", "2.50", TTS),
    (LITELLM_2025, "gpt-4o-mini-tts", "output", "12.00", "10.00", TTS),
    (GENAI, "gemini-2.5-flash", "cache_read_input", "0.03", "0.075", CACHE_BEFORE),
    (GENAI, "gemini-2.5-pro", "cache_read_input", "0.125", "0.31", CACHE_BEFORE),
    (GENAI, "gemini-2.5-flash", "cache_write_input", "0.30", "0.3833", STORAGE_AS_WRITE),
    (GENAI, "gemini-2.5-pro", "cache_write_input", "1.25", "1.625", STORAGE_AS_WRITE),
    (GENAI, "gemini-3.1-pro-preview", "cache_write_input", "2.00", "0.375", STORAGE_AS_WRITE),
    (GENAI, "gpt-5-nano", "cache_read_input", "0.005", "0.01", ROUNDED),
    (GENAI, "gpt-5.1", "cache_read_input", "0.125", "0.13", ROUNDED),
    (GENAI, "openai/gpt-oss-120b", "input", "0.15", "0.039", OTHER_HOST),
    (GENAI, "openai/gpt-oss-120b", "output", "0.60", "0.18", OTHER_HOST),
    (GENAI, "openai/gpt-oss-20b", "input", "0.075", "0.029", OTHER_HOST),
    (GENAI, "openai/gpt-oss-20b", "output", "0.30", "0.14", OTHER_HOST),
    (GENAI, "qwen/qwen3-32b", "input", "0.29", "0.10", OTHER_HOST),
    (GENAI, "qwen/qwen3-32b", "output", "0.59", "0.30", OTHER_HOST),
];

const SONNET_5: &str = "Anthropic cancelled the increase to 3/15 announced for 2026-09-01: 2/10 stayed the standard price";
const OFF_PEAK_2025: &str = "the list still has DeepSeek's off-peak price of 2025, before V3.2-Exp";
const EMBEDDING: &str = "embeddings have no output";
const SMALL_ALIAS: &str = "the alias moved to mistral-small-2603";
const TRANSCRIBE: &str =
    "the page no longer asks more for audio; the row from 2025-03-20 has the old figure";
const CEREBRAS: &str =
    "the list has OpenRouter's price; ours is that of Cerebras, whose name it is";
const O3_CACHE: &str =
    "cached input was a quarter of the input, 2.50, before the cut of 2025-06-10";
const SEARCH_CONTEXT: &str =
    "the list has the fee of the largest search context; the default is the smallest";
const GROK_4_20: &str = "the list has the launch price of the multi-agent variant; docs.x.ai asks 1.25/2.50 since May 2026";
const GROK_4_5: &str =
    "docs.x.ai asks 0.30 for 4.5 and 0.50 only for 4.6 (the models page in August 2026)";
const GROK_CODE: &str =
    "served by grok-build-0.1 at its price since 2026-05-15; the row before has the old figures";
const COHERE_UNIT: &str = "the list is a thousandfold off";
const SEARCH_PREVIEW: &str = "the page lists no cached price for the search models";
const TTS: &str = "what the model answers is audio, at 12; the list has text for it, and had an input of another model";
const NEMO: &str = "cut by half on 2024-09-17, which the list has missed";
const SONAR_FEE: &str = "the list books the fee of each request (medium context) as searches; ours is `request`, at low context";
const HOUR_WRITE: &str = "the list has the hour-long write of Sonnet; it is twice the input";
const HAIKU_3_5: &str = "1/5 was the price until 2024-12-03, which the list has kept for the alias";
const SWAPPED: &str = "the list has input and output swapped";
const DEEPSEEK_STALE: &str =
    "0.28/0.42 since V3.2-Exp on 2025-09-29; the list lags behind, or has a reseller's figures";
const FINE_TUNED: &str =
    "the page lists 2.225/12.50 for batches of the fine-tuned model, as the list of 2026-11 has it";
const STORAGE: &str = "the list has the price of an hour of cache storage in the place of a write";
const FREE_TIER: &str = "the list has the free tier";
const GEMINI_1_5: &str = "the price before the cut of 2024-10-01, which the list has missed";
const FLASH_LITE_CACHE: &str = "the page offers no context caching for this model";
const FLASH_LITE_AUDIO: &str =
    "audio became 40% cheaper when the model left its preview, 2025-07-22";
const PAGE_ROUNDS: &str =
    "the page prints it with fewer digits, and the printed price is the price";
const PRO_AUDIO: &str = "audio costs what text costs; the list has the figure of 2.0 Flash";
const AUDIO_ALIAS: &str = "the alias moved to the December snapshot at 40/80";
const SEARCH_FLAT: &str =
    "25 dollars per 1,000 whatever the context size, which the list had at medium size";
const CODESTRAL: &str = "cut with codestral-2501; the list has the price of 2024-05";
const LARGE_2407: &str = "cut by a third on 2024-09-17, which the list has missed";
const O1_MINI: &str = "cut to the price of o3-mini on 2025-01-31 together with the alias";
const RERANK: &str = "the list has the price of a token as that of a request";
const CACHE_BEFORE: &str =
    "a quarter of the input until the autumn of 2025; the list has kept it for OpenRouter";
const STORAGE_AS_WRITE: &str =
    "OpenRouter books the storage of a cache as writes; Google asks it by the hour, and no write";
const ROUNDED: &str = "OpenRouter's page rounds to cents; OpenAI's own has the tenth of the input";
const OTHER_HOST: &str = "OpenRouter's cheapest host; the entry is Groq's, which has the same id";
