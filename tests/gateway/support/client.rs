//! A client of the gateway, over HTTP/1.1.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// No request of a test takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client with one key.
#[derive(Clone)]
pub struct Client {
    inner: legacy::Client<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
    key: String,
}

/// A whole answer. `broke_off` when the body did not end properly.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub broke_off: bool,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// `error.code` of a refusal.
    pub fn code(&self) -> String {
        self.json()["error"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

impl Client {
    pub fn new(address: SocketAddr, key: &str) -> Client {
        let inner = legacy::Client::builder(TokioExecutor::new()).build_http();
        Client {
            inner,
            address,
            key: key.to_owned(),
        }
    }

    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.post_with(path, body, &[]).await
    }

    pub async fn post_with(
        &self,
        path: &str,
        body: impl Into<Bytes>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let response = self
            .start(path, body, headers)
            .await
            .expect("the gateway answers");
        finish(response).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path).await
    }

    /// A request without a body.
    pub async fn ask(&self, method: &str, path: &str) -> Answer {
        let request = self.request(method, path, Bytes::new(), &[]);
        let response = tokio::time::timeout(PATIENCE, self.inner.request(request))
            .await
            .unwrap()
            .expect("the gateway answers");
        finish(response).await
    }

    /// Sends a request and returns at the answer's head.
    pub async fn start(
        &self,
        path: &str,
        body: impl Into<Bytes>,
        headers: &[(&str, &str)],
    ) -> Result<http::Response<Incoming>, legacy::Error> {
        let request = self.request("POST", path, body.into(), headers);
        tokio::time::timeout(PATIENCE, self.inner.request(request))
            .await
            .expect("the gateway answers in time")
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        body: Bytes,
        headers: &[(&str, &str)],
    ) -> Request<Full<Bytes>> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address));
        if !self.key.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.key));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request
            .header("content-type", "application/json")
            .body(Full::new(body))
            .unwrap()
    }
}

async fn finish(response: http::Response<Incoming>) -> Answer {
    let (head, mut incoming) = response.into_parts();
    let mut answer = Answer {
        status: head.status,
        headers: head.headers,
        body: Vec::new(),
        broke_off: false,
    };
    let reading = async {
        while let Some(frame) = incoming.frame().await {
            match frame {
                Ok(frame) => answer
                    .body
                    .extend_from_slice(&frame.into_data().unwrap_or_default()),
                Err(_) => answer.broke_off = true,
            }
            if answer.broke_off {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("the answer ends in time");
    answer
}
