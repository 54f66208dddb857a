//! The configuration that holds where there is no file.

use super::environment::Environment;

/// What is served without any file: the two large providers, each only where its key is in the environment.
pub(super) fn text(environment: &dyn Environment) -> String {
    let mut text = String::new();
    for (id, base_url, variable, models) in UPSTREAMS {
        if environment
            .variable(variable)
            .is_some_and(|key| !key.is_empty())
        {
            text += &format!(
                "[[upstreams]]\nid = {id:?}\ndialect = {id:?}\nbase_url = {base_url:?}\napi_key = {{ env = {variable:?} }}\n\
                 [[routes]]\nmodels = {models:?}\nupstreams = [{id:?}]\n"
            );
        }
    }
    text
}

/// The built-in default's name in mistakes.
pub(super) const NAME: &str = "built-in configuration";

/// Name and dialect, base URL, the variable with its key, its models.
const UPSTREAMS: [(&str, &str, &str, &[&str]); 2] = [
    (
        "openai",
        "https://api.openai.com/v1",
        "OPENAI_API_KEY",
        &[
            "gpt-*",
            "chatgpt-*",
            "o1*",
            "o3*",
            "o4*",
            "text-embedding-*",
        ],
    ),
    (
        "anthropic",
        "https://api.anthropic.com/v1",
        "ANTHROPIC_API_KEY",
        &["claude-*"],
    ),
];
