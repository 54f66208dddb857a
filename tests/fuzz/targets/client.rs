//! A client's request is read the same however it arrives, and takes no more than it says.
#![no_main]

mod pieces;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use weir::listen::http1::head::{self, Head};

/// The longest head that is read.
const HEAD_BYTES_MAX: usize = 16 * 1024;

fuzz_target!(|data: &[u8]| {
    let Some((&first, request)) = data.split_first() else {
        return;
    };
    let request = Bytes::copy_from_slice(request);
    let read = |input: &Bytes| head::read(input, HEAD_BYTES_MAX);
    let Ok(Some(Head {
        framing, length, ..
    })) = read(&request)
    else {
        return;
    };
    assert!(length <= request.len().min(HEAD_BYTES_MAX));
    // The head is whole at its end and not before.
    let before = read(&request.slice(..length - 1));
    assert!(
        !matches!(before, Ok(Some(_))),
        "the head is whole too early"
    );
    let again = read(&request.slice(..length));
    assert!(matches!(again, Ok(Some(head)) if head.length == length));

    let body = request.slice(length..);
    let whole = pieces::decode(framing, &body, body.len().max(1));
    let Ok(Some(Head { framing, .. })) = read(&request) else {
        unreachable!("it was read a moment ago");
    };
    let pieces = pieces::decode(framing, &body, usize::from(first) + 1);
    assert_eq!(whole, pieces);
});
