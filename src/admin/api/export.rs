//! The ledger as a file, streamed: the answer is written while the ledger is read, in bounded memory.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use clap::ValueEnum as _;
use http_body::Frame;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::Console;
use super::ask::Ask;
use super::error::ApiError;
use super::ledger::{FILTER, filter};
use super::operation::Param;
use crate::ledger::export::{self, Format};

/// The parameters of an export.
pub(super) const QUERY: &[Param] = &[
    Param::new(
        "format",
        "ExportFormat",
        "`jsonl` as without, `csv`, or `focus`: the FinOps community's columns",
    ),
    FILTER[0],
    FILTER[1],
    FILTER[2],
    FILTER[3],
    FILTER[4],
    FILTER[5],
];

/// Bytes that are written at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that wait for the client.
const CHUNKS: usize = 4;
/// A client that takes nothing for so long has gone: the ledger is not kept open for it.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) async fn export(
    State(console): State<Arc<Console>>,
    ask: Ask,
) -> Result<Response, ApiError> {
    let format = ask.parsed("format", "jsonl, csv or focus", |text| {
        Format::from_str(text, false).ok()
    })?;
    let format = format.unwrap_or_default();
    let filter = filter(&ask)?;
    let (sender, receiver) = mpsc::channel(CHUNKS);
    let runtime = Handle::current();
    let gateway = Arc::clone(&console.gateway);
    tokio::task::spawn_blocking(move || {
        let mut out = Chunks {
            sender,
            runtime,
            chunk: Vec::with_capacity(CHUNK_BYTES),
        };
        let journal = gateway.snapshot().config.store.journal.clone();
        let store = gateway.store.as_ref();
        let written = export::write(store, Some(&journal), &filter, format, &mut out);
        let ended = written.map_err(|error| error.to_string());
        let ended = ended.and_then(|_| out.flush().map_err(|error| error.to_string()));
        if let Err(reason) = ended {
            tracing::warn!(%reason, "an export of the ledger ended early");
            out.fail(reason);
        }
    });
    let (kind, name) = match format {
        Format::Jsonl => ("application/x-ndjson", "ledger.jsonl"),
        Format::Csv => ("text/csv; charset=utf-8", "ledger.csv"),
        Format::Focus => ("text/csv; charset=utf-8", "focus.csv"),
    };
    let mut response = Response::new(Body::new(Stream(receiver)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Ok(name) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

type Chunk = Result<Bytes, io::Error>;

/// Where the export is written to.
struct Chunks {
    sender: mpsc::Sender<Chunk>,
    runtime: Handle,
    chunk: Vec<u8>,
}

impl Chunks {
    fn send(&self, chunk: Chunk) -> io::Result<()> {
        let sent = tokio::time::timeout(CHUNK_TIMEOUT, self.sender.send(chunk));
        match self.runtime.block_on(sent) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Breaks the answer off, so that the client does not take a part for the whole.
    fn fail(&self, reason: String) {
        // Whether it is still there to hear it does not matter.
        let _ = self.send(Err(io::Error::other(reason)));
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_BYTES));
        self.send(Ok(full.into()))
    }
}

/// The body that the chunks make.
struct Stream(mpsc::Receiver<Chunk>);

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0
            .poll_recv(context)
            .map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }
}
