//! The codecs allocate nothing once their buffers have grown. This test binary stands alone because
//! it counts in the allocator.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

#[path = "../benches/samples/mod.rs"]
mod samples;

use allocation_counter::measure;
use juggler::base::buffers::BufferPool;
use juggler::http::{Method, RequestHead, ResponseHead, Version};
use juggler::proto::h1::{
    ChunkEvent, ChunkedDecoder, HeadScanner, Persistence, RequestRewrite, ResponseRewrite,
    parse_request, parse_response, write_request, write_response,
};

use samples::{DATE, LIMITS};

/// The allocations of the second run. In the first one buffers grow.
fn allocations(mut work: impl FnMut()) -> u64 {
    let first = measure(&mut work).count_total;
    assert!(
        first > 0,
        "the allocator counts nothing, or the work does nothing"
    );
    measure(&mut work).count_total
}

#[test]
fn requests_are_read_and_rewritten_without_allocating() {
    for (name, text) in samples::requests() {
        let mut scanner = HeadScanner::default();
        let mut head = RequestHead::default();
        let edits = samples::forwarded();
        let mut out = Vec::new();
        let count = allocations(|| {
            scanner.reset();
            out.clear();
            let length = scanner.scan(&text, &LIMITS).unwrap().unwrap();
            parse_request(&text[..length], &LIMITS, &mut head).unwrap();
            let rewrite = RequestRewrite {
                framing: head.framing,
                edits: &edits,
                upgrade: None,
            };
            write_request(&mut out, &text, &head, &rewrite);
        });
        assert_eq!(count, 0, "{name}");
        assert!(out.len() > text.len());
    }
}

#[test]
fn responses_are_read_and_rewritten_without_allocating() {
    for (name, text) in samples::responses() {
        let mut scanner = HeadScanner::for_response();
        let mut head = ResponseHead::default();
        let mut out = Vec::new();
        let count = allocations(|| {
            scanner.reset();
            out.clear();
            let length = scanner.scan(&text, &LIMITS).unwrap().unwrap();
            parse_response(&text[..length], Method::Get, &LIMITS, &mut head).unwrap();
            let rewrite = ResponseRewrite {
                framing: head.framing,
                persistence: Persistence::of(true, Version::Http11),
                date: DATE,
                append: &[],
            };
            write_response(&mut out, &text, &head, &rewrite);
        });
        assert_eq!(count, 0, "{name}");
        assert!(!out.is_empty());
    }
}

#[test]
fn chunks_are_decoded_into_buffers_of_the_pool_without_allocating() {
    let pool = BufferPool::new(64 * 1024, 16 * 1024);
    let body = samples::chunked(10_000, 1000);
    let count = allocations(|| {
        let mut buffer = pool.take().unwrap();
        let mut decoder = ChunkedDecoder::new(LIMITS);
        let mut rest = &body[..];
        loop {
            let (used, event) = decoder.next(rest).unwrap();
            match event {
                ChunkEvent::Data(range) => assert!(buffer.append(&rest[range]) > 0),
                ChunkEvent::End => break,
                ChunkEvent::More => panic!("the body is whole"),
            }
            rest = &rest[used..];
        }
        assert_eq!(buffer.len(), 10_000);
    });
    assert_eq!(count, 0);
}
