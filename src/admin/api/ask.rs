//! What a request asks: its query, read strictly, and its JSON body.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use jiff::Timestamp;
use jiff::civil::Date;
use serde::Deserialize as _;
use serde::de::DeserializeOwned;

use super::error::ApiError;
use crate::cli::when::moment;
use crate::ids::AccountId;

/// The query of a request. Names that the operation does not declare were refused before; see
/// [`super::operation::Operation`].
#[derive(Clone, Debug, Default)]
pub(super) struct Ask {
    pairs: Vec<(String, String)>,
}

impl Ask {
    /// Reads a query string.
    pub(super) fn of(query: Option<&str>) -> Result<Ask, ApiError> {
        let uri = axum::http::Uri::builder()
            .path_and_query(format!("/?{}", query.unwrap_or_default()))
            .build()
            .map_err(|_| ApiError::unfit("query", "is no query string"))?;
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri)
            .map_err(|_| ApiError::unfit("query", "is no query string"))?;
        Ok(Ask { pairs: pairs.0 })
    }

    /// Members of a body that are read like parameters.
    pub(super) fn of_members<const N: usize>(members: [(&str, Option<String>); N]) -> Ask {
        let given = members
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Ask {
            pairs: given.collect(),
        }
    }

    /// The names that were given.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.pairs.iter().map(|(name, _)| name.as_str())
    }

    /// Every value of a parameter.
    pub(super) fn all(&self, name: &'static str) -> impl Iterator<Item = &str> {
        let named = self.pairs.iter().filter(move |(given, _)| given == name);
        named.map(|(_, value)| value.as_str())
    }

    /// The value of a parameter.
    pub(super) fn text(&self, name: &'static str) -> Result<Option<&str>, ApiError> {
        let mut values = self.all(name);
        let value = values.next();
        if values.next().is_some() {
            return Err(ApiError::unfit(name, "is given twice, expected once"));
        }
        Ok(value)
    }

    /// A text of so many characters at most, not empty.
    pub(super) fn short_text(
        &self,
        name: &'static str,
        chars_max: usize,
    ) -> Result<Option<&str>, ApiError> {
        let value = self.text(name)?;
        match value.map(|text| text.chars().count()) {
            Some(chars) if chars == 0 || chars > chars_max => Err(ApiError::unfit(
                name,
                format!("expected a text of 1 to {chars_max} characters"),
            )),
            _ => Ok(value),
        }
    }

    /// An id.
    pub(super) fn id(&self, name: &'static str) -> Result<Option<&str>, ApiError> {
        let value = self.text(name)?;
        match value.map(AccountId::parse) {
            Some(Err(error)) => Err(ApiError::unfit(name, error.to_string())),
            _ => Ok(value),
        }
    }

    /// The value of a parameter as something.
    pub(super) fn parsed<T>(
        &self,
        name: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let unfit = || ApiError::unfit(name, format!("{text:?}: expected {expected}"));
        parse(text).map(Some).ok_or_else(unfit)
    }

    /// A moment: RFC 3339, or a date, which is its midnight in UTC.
    pub(super) fn time(&self, name: &'static str) -> Result<Option<Timestamp>, ApiError> {
        const EXPECTED: &str =
            "a date (2025-03-01) or an RFC 3339 time (2025-03-01T12:00:00Z) from 2000 to 2999";
        self.parsed(name, EXPECTED, |text| moment(text).ok().filter(in_range))
    }

    /// A day.
    pub(super) fn day(&self, name: &'static str) -> Result<Option<Date>, ApiError> {
        self.parsed(name, "a date such as 2025-03-01 from 2000 to 2999", day)
    }

    /// A whole number within bounds.
    pub(super) fn count(
        &self,
        name: &'static str,
        allowed: std::ops::RangeInclusive<usize>,
    ) -> Result<Option<usize>, ApiError> {
        let expected = format!(
            "a whole number from {} to {}",
            allowed.start(),
            allowed.end()
        );
        self.parsed(name, &expected, |text| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let count = digits.then(|| text.parse().ok()).flatten()?;
            allowed.contains(&count).then_some(count)
        })
    }

    /// How many items a page has.
    pub(super) fn page_limit(&self) -> Result<usize, ApiError> {
        Ok(self.count("limit", 1..=1_000)?.unwrap_or(100))
    }

    /// Where the last page ended.
    pub(super) fn cursor(&self) -> Result<Option<String>, ApiError> {
        self.parsed("cursor", "the \"next\" of an earlier page", |text| {
            String::from_utf8(unhex(text)?).ok()
        })
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() || !text.len().is_multiple_of(2) || text.len() > 1_024 {
        return None;
    }
    let pairs = text.as_bytes().chunks_exact(2);
    pairs
        .map(|pair| {
            let hex = pair.iter().all(u8::is_ascii_hexdigit);
            let pair = std::str::from_utf8(pair).ok().filter(|_| hex)?;
            u8::from_str_radix(pair, 16).ok()
        })
        .collect()
}

/// Years that a ledger can hold: sums over other ones would not end.
fn in_range(at: &Timestamp) -> bool {
    let year = jiff::tz::Offset::UTC.to_datetime(*at).year();
    (2000..=2999).contains(&year)
}

/// A day as `2025-03-01` within the years that a ledger can hold.
pub(super) fn day(text: &str) -> Option<Date> {
    let day: Date = text.parse().ok().filter(|_| text.len() == 10)?;
    (2000..=2999).contains(&day.year()).then_some(day)
}

impl<S: Send + Sync> FromRequestParts<S> for Ask {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Ask, ApiError> {
        Ask::of(parts.uri.query())
    }
}

/// The name in a path: `/accounts/{account}`.
pub(super) struct Named(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Named, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(name)| Named(name))
            .map_err(|_| ApiError::unfit("path", "is no UTF-8"))
    }
}

/// A JSON body.
pub(super) struct Json<T>(pub(super) T);

/// The largest body: a plan of a few hundred limits fits.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Json<T>, ApiError> {
        let content_type = request.headers().get(CONTENT_TYPE);
        let is_json = content_type
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
        if !is_json {
            return Err(ApiError::not_json());
        }
        let bytes = read(request.into_body()).await?;
        let value = serde_json::from_slice(&bytes).map_err(|error| {
            let place = format!("body, line {} column {}", error.line(), error.column());
            ApiError::unfit(place, error.to_string())
        })?;
        Ok(Json(value))
    }
}

async fn read(body: Body) -> Result<Bytes, ApiError> {
    let whole = Limited::new(body, BODY_BYTES_MAX).collect();
    match tokio::time::timeout(BODY_TIMEOUT, whole).await {
        Err(_) => Err(ApiError::too_slow()),
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(ApiError::too_large(BODY_BYTES_MAX))
        }
        Ok(Err(_)) => Err(ApiError::unfit("body", "cannot be read")),
    }
}

/// Whether a member was given, and whether as `null`: `Some(None)` is `null`. For members that a change may clear.
pub(super) fn given<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: serde::Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}
