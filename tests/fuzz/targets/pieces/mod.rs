//! Bodies that arrive in pieces.

use bytes::Bytes;
use weir::http1::framing::{Framing, FramingError};

/// The data of a body that arrives in pieces, whether it is at its end, and what is left behind it.
pub fn decode(
    mut framing: Framing,
    body: &Bytes,
    piece: usize,
) -> Result<(Vec<u8>, bool, Vec<u8>), FramingError> {
    let (mut data, mut rest) = (Vec::new(), Vec::new());
    for piece in body.chunks(piece) {
        let mut input = Bytes::copy_from_slice(piece);
        data.extend_from_slice(&framing.decode(&mut input)?);
        if !input.is_empty() && !framing.is_end() {
            // Broken behind what it gave: it says so now.
            framing.decode(&mut input)?;
            panic!("input is left though the body goes on");
        }
        rest.extend_from_slice(&input);
    }
    assert!(data.len() + rest.len() <= body.len());
    Ok((data, framing.is_end(), rest))
}
