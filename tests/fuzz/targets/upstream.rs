//! An upstream's answer is read the same however it arrives, and takes no more than it says.
#![no_main]

mod pieces;

use bytes::Bytes;
use http::Method;
use libfuzzer_sys::fuzz_target;
use weir::upstream::http1::head::{self, Head};

fuzz_target!(|data: &[u8]| {
    let Some((&first, answer)) = data.split_first() else {
        return;
    };
    let method = if first & 0x80 == 0 {
        Method::POST
    } else {
        Method::HEAD
    };
    let answer = Bytes::copy_from_slice(answer);
    let Ok(Some(Head {
        framing, length, ..
    })) = head::read(&answer, &method)
    else {
        return;
    };
    assert!(length <= answer.len());
    // The head is whole at its end and not before.
    let before = head::read(&answer.slice(..length - 1), &method);
    assert!(
        !matches!(before, Ok(Some(_))),
        "the head is whole too early"
    );
    let again = head::read(&answer.slice(..length), &method);
    assert!(matches!(again, Ok(Some(head)) if head.length == length));

    let body = answer.slice(length..);
    let whole = pieces::decode(framing, &body, body.len().max(1));
    let Ok(Some(Head { framing, .. })) = head::read(&answer, &method) else {
        unreachable!("it was read a moment ago");
    };
    let pieces = pieces::decode(framing, &body, usize::from(first & 0x7f) + 1);
    assert_eq!(whole, pieces);
});
