//! Brotli, driven call by call.
//!
//! The decoder's own writer keeps back what goes beyond its buffer once its input is used up: of an answer that then breaks
//! off, that part would not be counted, and of a stream it would be seen late.

use std::io::{self, Write};

use brotli_decompressor::{
    BrotliDecoderHasMoreOutput, BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc,
};

type State = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

const BUFFER_BYTES: usize = 8 << 10;

/// Writes what it decodes to its sink.
pub(super) struct BrotliDecoder<W> {
    state: State,
    buffer: Box<[u8]>,
    decoded: usize,
    /// The stream is over. What follows it is none of its own, and may have been taken with its last bytes.
    over: bool,
    sink: W,
}

impl<W: Write> BrotliDecoder<W> {
    pub(super) fn new(sink: W) -> Self {
        let alloc = StandardAlloc::default;
        Self {
            state: BrotliState::new(alloc(), alloc(), alloc()),
            buffer: vec![0; BUFFER_BYTES].into(),
            decoded: 0,
            over: false,
            sink,
        }
    }

    pub(super) fn get_ref(&self) -> &W {
        &self.sink
    }

    pub(super) fn get_mut(&mut self) -> &mut W {
        &mut self.sink
    }

    /// Decodes all that can be decoded with this piece.
    ///
    /// # Errors
    /// When it is not brotli, or the sink takes no more.
    pub(super) fn write(&mut self, mut encoded: &[u8]) -> io::Result<()> {
        while !self.over {
            let (mut encoded_left, mut used) = (encoded.len(), 0);
            let (mut room, mut filled) = (self.buffer.len(), 0);
            let result = BrotliDecompressStream(
                &mut encoded_left,
                &mut used,
                encoded,
                &mut room,
                &mut filled,
                &mut self.buffer,
                &mut self.decoded,
                &mut self.state,
            );
            self.sink
                .write_all(self.buffer.get(..filled).unwrap_or_default())?;
            encoded = encoded.get(used..).unwrap_or_default();
            match result {
                BrotliResult::ResultSuccess => self.over = true,
                BrotliResult::ResultFailure => return Err(io::ErrorKind::InvalidData.into()),
                BrotliResult::NeedsMoreOutput => {}
                BrotliResult::NeedsMoreInput => {
                    if filled == 0 || !BrotliDecoderHasMoreOutput(&self.state) {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{"choices":[{"index":0,"message":{"content":"A weir tells how much of the water passes. A weir …"},"finish_reason":
    /// "stop"}],"usage":{"prompt_tokens":7,"completion_tokens":20000}}`, 86,127 bytes, as Node.js 18's zlib compresses it.
    const COMPRESSED: &str = "5b6e5001c27960b7313d745733c30422902598902147daee145850e9f4e9dc52655f67ce62b6640389607030c0194c1698aea707ac6d415b4b6aab255960210596d085f47ac33c1e8f8b88525ee33772094b303a70357c80e23b4c676266ba63fb5cb547adc53c4c25ffbfa3004d8e770b00928a7c3bfa0959e6385c8840a7871d2fc164f44818004a4a06eda90d";

    fn decoded(encoded: &[u8], piece_bytes: usize) -> Vec<u8> {
        let mut decoder = BrotliDecoder::new(Vec::new());
        for piece in encoded.chunks(piece_bytes) {
            decoder.write(piece).unwrap();
        }
        decoder.sink
    }

    #[test]
    fn nothing_of_what_came_is_kept_back() {
        let digit = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        let digits = COMPRESSED.as_bytes().chunks(2).map(digit);
        let whole: Vec<u8> = digits.collect::<Result<_, _>>().unwrap();
        let answer = decoded(&whole, whole.len());
        assert_eq!(answer.len(), 86_127);
        assert!(answer.ends_with(br#""completion_tokens":20000}}"#));

        // All but the usage is in what came of it.
        let cut = &whole[..whole.len() - 12];
        let read = decoded(cut, cut.len());
        assert!(read.len() > 10 * BUFFER_BYTES, "{} bytes", read.len());
        assert_eq!(read, decoded(cut, 1));
        assert!(answer.starts_with(&read));
    }

    #[test]
    fn what_is_no_brotli_is_refused() {
        let mut decoder = BrotliDecoder::new(Vec::new());
        assert!(decoder.write(&[0xff; 64]).is_err());
    }
}
