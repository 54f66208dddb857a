//! Where a body ends (RFC 9112, 6.3).

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

/// How many bytes the extensions of all chunks of a body may take: nobody uses them.
const EXTENSION_BYTES_MAX: usize = 16 * 1024;
/// The bounds on what may follow the last chunk.
const TRAILER_BYTES_MAX: usize = 16 * 1024;
const TRAILERS_MAX: usize = 100;

/// What is left of a body.
#[derive(Debug)]
pub enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Box<Chunked>),
    /// Whatever comes until the connection is closed.
    UntilClose,
}

/// Where in its chunks a body stands.
#[derive(Debug, Default)]
pub struct Chunked {
    next: Next,
    extension_bytes: usize,
    trailer: BytesMut,
    trailers: Option<HeaderMap>,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// A digit of a chunk's size, what was read of it, and of how many digits.
    Size(u64, u8),
    /// Space behind a size.
    Space(u64),
    /// Something to pass over until the line's end.
    Extension(u64),
    /// The end of the line with the size.
    SizeEnd(u64),
    /// Bytes of a chunk.
    Data(u64),
    /// The end of the line behind a chunk: `\r`, then `\n`.
    DataReturn,
    DataEnd,
    /// Trailers, up to an empty line.
    Trailer,
    /// Nothing.
    End,
    /// Nothing that can be read. What came before it was handed on.
    Broken(FramingError),
}

impl Default for Next {
    fn default() -> Next {
        Next::Size(0, 0)
    }
}

/// A body that is not framed as it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// A chunk's size is no number, or too large a one.
    #[error("the size of a chunk is not valid")]
    Size,
    /// A chunk is not followed by the end of a line.
    #[error("a chunk does not end where its size says")]
    Data,
    /// Extensions of chunks beyond reason.
    #[error("the extensions of chunks are longer than {EXTENSION_BYTES_MAX} bytes")]
    Extensions,
    /// What follows the last chunk are no headers, or too many.
    #[error("the trailers are not valid")]
    Trailers,
}

impl Framing {
    /// A body in chunks.
    pub fn chunked() -> Framing {
        Framing::Chunked(Box::default())
    }

    /// Whether the body is at its end.
    pub fn is_end(&self) -> bool {
        match self {
            Framing::Length(left) => *left == 0,
            Framing::Chunked(chunked) => chunked.next == Next::End,
            Framing::UntilClose => false,
        }
    }

    /// What is left, where that is known.
    pub fn left(&self) -> Option<u64> {
        match self {
            Framing::Length(left) => Some(*left),
            Framing::Chunked(chunked) => (chunked.next == Next::End).then_some(0),
            Framing::UntilClose => None,
        }
    }

    /// Takes what belongs to the body off the front of `input`, and gives the data in it. All of the input is taken unless
    /// the body ends before it does, or turns out to be broken behind data: that is said when it is asked for more.
    ///
    /// # Errors
    /// See [`FramingError`].
    pub fn decode(&mut self, input: &mut Bytes) -> Result<Bytes, FramingError> {
        match self {
            Framing::Length(left) => {
                let here = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                *left -= here as u64;
                Ok(input.split_to(here))
            }
            Framing::Chunked(chunked) => chunked.decode(input),
            Framing::UntilClose => Ok(std::mem::take(input)),
        }
    }

    /// Whether there are headers behind the last chunk.
    pub fn has_trailers(&self) -> bool {
        matches!(self, Framing::Chunked(chunked) if chunked.trailers.is_some())
    }

    /// The headers behind the last chunk.
    pub fn trailers(&mut self) -> Option<HeaderMap> {
        match self {
            Framing::Chunked(chunked) => chunked.trailers.take(),
            Framing::Length(_) | Framing::UntilClose => None,
        }
    }
}

impl Chunked {
    fn decode(&mut self, input: &mut Bytes) -> Result<Bytes, FramingError> {
        // One chunk is handed on as it lies there; several are put together.
        let mut first = Bytes::new();
        let mut several = BytesMut::new();
        while !input.is_empty() && self.next != Next::End {
            if let Next::Broken(error) = self.next {
                return Err(error);
            }
            if let Next::Data(left) = self.next {
                let here = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
                let left = left - here as u64;
                self.next = if left == 0 {
                    Next::DataReturn
                } else {
                    Next::Data(left)
                };
                let data = input.split_to(here);
                if first.is_empty() {
                    first = data;
                    continue;
                }
                if several.is_empty() {
                    several.reserve(first.len() + data.len() + input.len());
                    several.extend_from_slice(&first);
                }
                several.extend_from_slice(&data);
            } else if let Some(bytes) = self.leap(input) {
                input.advance(bytes);
            } else if let Some(byte) = input.first() {
                if let Err(error) = self.step(*byte) {
                    self.next = Next::Broken(error);
                    break;
                }
                input.advance(1);
            }
        }
        if input.is_empty() {
            // What is cut off to its end lets go of the buffer; what is passed over does not.
            *input = Bytes::new();
        }
        match self.next {
            Next::Broken(error) if first.is_empty() => Err(error),
            _ if several.is_empty() => Ok(first),
            _ => Ok(several.freeze()),
        }
    }

    /// Reads what stands between the data of two chunks at once, where all of it is there and as plain as it usually is.
    /// Returns how many bytes that were.
    fn leap(&mut self, input: &[u8]) -> Option<usize> {
        let line = match self.next {
            Next::DataReturn => input.strip_prefix(b"\r\n")?,
            Next::Size(0, 0) => input,
            _ => return None,
        };
        let mut size = 0;
        let mut behind = line;
        while let [digit, rest @ ..] = behind
            && let Some(digit) = char::from(*digit).to_digit(16)
            && line.len() - rest.len() < 16
        {
            size = size << 4 | u64::from(digit);
            behind = rest;
        }
        let has_digits = behind.len() < line.len();
        self.next = match behind.strip_prefix(b"\r\n") {
            Some(rest) if has_digits => {
                behind = rest;
                if size == 0 {
                    Next::Trailer
                } else {
                    Next::Data(size)
                }
            }
            // The line may go on in what comes next.
            _ => {
                behind = line;
                Next::Size(0, 0)
            }
        };
        Some(input.len() - behind.len()).filter(|bytes| *bytes > 0)
    }

    /// Reads a byte between the data of chunks.
    fn step(&mut self, byte: u8) -> Result<(), FramingError> {
        self.next = match (self.next, byte) {
            (Next::Size(size, digits), _) if byte.is_ascii_hexdigit() => {
                // Sixteen digits are all that fit.
                if digits == 16 {
                    return Err(FramingError::Size);
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                Next::Size(size << 4 | u64::from(digit), digits + 1)
            }
            (Next::Size(_, 0), _) => return Err(FramingError::Size),
            (Next::Size(size, _) | Next::Space(size) | Next::Extension(size), b'\r') => {
                Next::SizeEnd(size)
            }
            (Next::Size(size, _) | Next::Space(size), b' ' | b'\t') => Next::Space(size),
            (Next::Size(size, _) | Next::Space(size), b';') => Next::Extension(size),
            (Next::Extension(size), byte) if byte != b'\n' => {
                self.extension_bytes += 1;
                if self.extension_bytes > EXTENSION_BYTES_MAX {
                    return Err(FramingError::Extensions);
                }
                Next::Extension(size)
            }
            (Next::SizeEnd(0), b'\n') => Next::Trailer,
            (Next::SizeEnd(size), b'\n') => Next::Data(size),
            (Next::DataReturn, b'\r') => Next::DataEnd,
            (Next::DataEnd, b'\n') => Next::Size(0, 0),
            (Next::DataReturn | Next::DataEnd, _) => return Err(FramingError::Data),
            (Next::Trailer, _) => self.trailer(byte)?,
            _ => return Err(FramingError::Size),
        };
        Ok(())
    }

    fn trailer(&mut self, byte: u8) -> Result<Next, FramingError> {
        if self.trailer.len() == TRAILER_BYTES_MAX {
            return Err(FramingError::Trailers);
        }
        self.trailer.extend_from_slice(&[byte]);
        match &*self.trailer {
            b"\r\n" => Ok(Next::End),
            block if block.ends_with(b"\r\n\r\n") => {
                let block = std::mem::take(&mut self.trailer).freeze();
                let mut places = [httparse::EMPTY_HEADER; TRAILERS_MAX];
                let fields = match httparse::parse_headers(&block, &mut places) {
                    // To a lenient reader an empty line without `\r` ends them earlier, and hides what is behind it.
                    Ok(httparse::Status::Complete((length, fields))) if length == block.len() => {
                        fields
                    }
                    _ => return Err(FramingError::Trailers),
                };
                let trailers = super::fields::headers(&block, fields, 0);
                self.trailers = Some(trailers.map_err(|_| FramingError::Trailers)?);
                Ok(Next::End)
            }
            _ => Ok(Next::Trailer),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decodes a body that arrives in pieces of the given size, and what was left behind its end.
    fn decode(
        framing: &mut Framing,
        body: &[u8],
        piece: usize,
    ) -> Result<(Vec<u8>, Vec<u8>), FramingError> {
        let (mut data, mut rest) = (Vec::new(), Vec::new());
        for piece in body.chunks(piece) {
            let mut input = Bytes::copy_from_slice(piece);
            data.extend_from_slice(&framing.decode(&mut input)?);
            if !input.is_empty() && !framing.is_end() {
                // Broken behind what it gave.
                framing.decode(&mut input)?;
            }
            rest.extend_from_slice(&input);
        }
        Ok((data, rest))
    }

    /// The error of a body, the same in whatever pieces it arrives.
    fn error(body: &str) -> FramingError {
        let error = |piece| decode(&mut Framing::chunked(), body.as_bytes(), piece).unwrap_err();
        let whole = error(body.len());
        for piece in 1..body.len().min(24) {
            assert_eq!(error(piece), whole, "{body:?} in pieces of {piece}");
        }
        whole
    }

    #[test]
    fn a_body_of_a_known_length_ends_there() {
        let mut framing = Framing::Length(5);
        let (data, rest) = decode(&mut framing, b"hello world", 4).unwrap();
        assert_eq!((&*data, &*rest), (&b"hello"[..], &b" world"[..]));
        assert!(framing.is_end());
    }

    #[test]
    fn chunks_are_put_together_and_end_with_the_empty_one() {
        let body = b"5\r\nhello\r\n6 ; name=\"value\"\r\n world\r\n0\r\n\r\nHTTP/1.1";
        for piece in 1..=body.len() {
            let mut framing = Framing::chunked();
            let (data, rest) = decode(&mut framing, body, piece).unwrap();
            assert_eq!((&*data, &*rest), (&b"hello world"[..], &b"HTTP/1.1"[..]));
            assert!(framing.is_end() && framing.trailers().is_none());
        }
    }

    #[test]
    fn trailers_are_read() {
        let mut framing = Framing::chunked();
        let body = b"1\r\nx\r\n0\r\nX-Checksum: 1\r\nx-other:2\r\n\r\n";
        assert_eq!(decode(&mut framing, body, 7).unwrap().0, b"x");
        let trailers = framing.trailers().unwrap();
        assert_eq!(trailers["x-checksum"], "1");
        assert_eq!(trailers["x-other"], "2");
    }

    #[test]
    fn a_body_at_its_end_holds_no_buffer() {
        let buffer = Bytes::from(b"1\r\nx\r\n0\r\n\r\n".to_vec());
        for length in [buffer.len(), 6] {
            let mut input = buffer.slice(..length);
            drop(Framing::chunked().decode(&mut input).unwrap());
            assert!(buffer.is_unique(), "{input:?}");
        }
    }

    #[test]
    fn what_is_not_framed_as_it_must_be_is_refused() {
        for body in [
            "\r\n",
            "x\r\n",
            ";a\r\n",
            "1\n",
            "-1\r\n",
            "0x1\r\n",
            "1 1\r\n",
            "1;a\nb\r\n",
            "1\r\r",
        ] {
            assert_eq!(error(body), FramingError::Size, "{body:?}");
        }
        assert_eq!(error("11111111111111111\r\n"), FramingError::Size);
        assert_eq!(error("1\r\nxy\r\n"), FramingError::Data);
        assert_eq!(error("1\r\nx\ry"), FramingError::Data);
        assert_eq!(error("0\r\nno header\r\n\r\n"), FramingError::Trailers);
        for hidden in ["a: b\n\n", "a: b\r\n\n", "\n", "\r\r\n"] {
            let body = format!("0\r\n{hidden}GET / HTTP/1.1\r\nhost: g\r\n\r\n");
            assert_eq!(error(&body), FramingError::Trailers, "{hidden:?}");
        }
        let long = format!("1;{}\r\n", "a".repeat(EXTENSION_BYTES_MAX + 1));
        assert_eq!(error(&long), FramingError::Extensions);
        let long = format!("0\r\na: {}", "a".repeat(TRAILER_BYTES_MAX));
        assert_eq!(error(&long), FramingError::Trailers);
        // What came before is not lost, however much came at once.
        for body in ["1\r\nx\r\n?", "1\r\nx\r\n1\r\ny?"] {
            let mut framing = Framing::chunked();
            let mut input = Bytes::from(body);
            let data = framing.decode(&mut input).unwrap();
            assert!(data == "x" || data == "xy");
            assert!(!input.is_empty() && !framing.is_end());
            assert!(framing.decode(&mut input).is_err());
        }
        // No size that a body states is reserved before it is there.
        let mut framing = Framing::chunked();
        let (data, _) = decode(&mut framing, b"ffffffffffffffff\r\nab", 64).unwrap();
        assert_eq!(data, b"ab");
        assert!(!framing.is_end());
    }

    proptest! {
        #[test]
        fn chunks_say_the_same_however_they_arrive(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            piece in 1_usize..50,
            upper in any::<bool>(),
        ) {
            let mut body = Vec::new();
            for chunk in &chunks {
                let size = if upper { format!("{:X}", chunk.len()) } else { format!("0{:x}", chunk.len()) };
                body.extend_from_slice(size.as_bytes());
                body.extend_from_slice(b"\r\n");
                body.extend_from_slice(chunk);
                body.extend_from_slice(b"\r\n");
            }
            body.extend_from_slice(b"0\r\n\r\nrest");
            let mut framing = Framing::chunked();
            let (data, rest) = decode(&mut framing, &body, piece).unwrap();
            prop_assert_eq!(data, chunks.concat());
            prop_assert_eq!(rest, b"rest");
        }
    }
}
