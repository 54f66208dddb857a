//! The dashboard: pages that are part of the binary, drawn by the browser from the admin API. No build step makes them and
//! no network but this listener's own is asked for anything.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;

use super::api::{Console, has_session};

/// `/` with a session, `/login` without, and what both need.
pub(super) fn routes(console: &Arc<Console>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/login", get(login))
        .route("/favicon.ico", get(icon))
        .route("/dashboard/{*file}", get(file))
        .with_state(Arc::clone(console))
}

async fn index(State(console): State<Arc<Console>>, request: Request) -> Response {
    if has_session(&console, &request) {
        page(include_str!("dashboard/index.html"))
    } else {
        Redirect::to("/login").into_response()
    }
}

async fn login(State(console): State<Arc<Console>>, request: Request) -> Response {
    if has_session(&console, &request) {
        Redirect::to("/").into_response()
    } else {
        page(include_str!("dashboard/login.html"))
    }
}

async fn icon() -> Redirect {
    Redirect::permanent("/dashboard/icon.svg")
}

async fn file(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(known, _)| *known == name) {
        Some((name, contents)) => answer(kind(name), contents),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn page(contents: &'static str) -> Response {
    answer("text/html; charset=utf-8", contents)
}

fn answer(kind: &'static str, contents: &'static str) -> Response {
    let mut response = Response::new(Body::from(contents));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.') {
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("dashboard/", $name)))),*]
    };
}

/// Everything that the pages load.
const FILES: [(&str, &str); 20] = files![
    "api.js",
    "app.js",
    "chart.js",
    "dom.js",
    "format.js",
    "icon.svg",
    "login.js",
    "pages/account.js",
    "pages/accounts.js",
    "pages/keys.js",
    "pages/ledger.js",
    "pages/live.js",
    "pages/margin.js",
    "pages/plans.js",
    "pages/range.js",
    "pages/whatif.js",
    "style.css",
    // uPlot 1.6.32 as its registry has it (npm, MIT), with the licence beside it.
    "uplot-1.6.32.LICENSE",
    "uplot-1.6.32.css",
    "uplot-1.6.32.js",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The modules and style sheets that a file asks for.
    fn wanted(contents: &str) -> Vec<&str> {
        let quoted = contents.split('"').skip(1).step_by(2);
        quoted
            .filter_map(|text| text.strip_prefix("/dashboard/"))
            .collect()
    }

    #[test]
    fn the_pages_find_all_that_they_load() {
        let pages = [
            include_str!("dashboard/index.html"),
            include_str!("dashboard/login.html"),
        ];
        let files = FILES.iter().map(|(_, contents)| *contents);
        for contents in pages.into_iter().chain(files) {
            for name in wanted(contents) {
                assert!(FILES.iter().any(|(known, _)| *known == name), "{name}");
            }
        }
    }

    #[test]
    fn the_pages_hold_no_inline_script_or_style_and_ask_no_other_host() {
        for page in [
            include_str!("dashboard/index.html"),
            include_str!("dashboard/login.html"),
        ] {
            assert!(!page.contains("<style") && !page.contains(" style="));
            assert!(!page.contains("http:") && !page.contains("https:"));
            let scripts = page.matches("<script").count();
            assert_eq!(
                scripts,
                page.matches("<script type=\"module\" src=").count()
            );
        }
    }
}
