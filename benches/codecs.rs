//! The cost of reading and writing heads and chunks, one step at a time.

#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    missing_docs,
    reason = "a benchmark is no library"
)]

mod samples;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use juggler::http::{FieldId, Method, RequestHead, ResponseHead, Version};
use juggler::proto::h1::{
    ChunkEvent, ChunkedDecoder, HeadScanner, Persistence, RequestRewrite, ResponseRewrite,
    parse_request, parse_response, write_request, write_response,
};

use samples::{DATE, LIMITS};

fn scan(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scan");
    let requests = samples::requests().map(|sample| (sample, HeadScanner::default()));
    let responses = samples::responses().map(|sample| (sample, HeadScanner::for_response()));
    for ((name, text), mut scanner) in requests.into_iter().chain(responses) {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), &text, |bencher, text| {
            bencher.iter(|| {
                scanner.reset();
                let found = scanner.scan(black_box(text), &LIMITS);
                assert_eq!(found, Ok(Some(text.len())));
            });
        });
    }
}

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse_request");
    for (name, text) in samples::requests() {
        let mut head = RequestHead::default();
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), &text, |bencher, text| {
            bencher.iter(|| parse_request(black_box(text), &LIMITS, &mut head).unwrap());
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("parse_response");
    for (name, text) in samples::responses() {
        let mut head = ResponseHead::default();
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), &text, |bencher, text| {
            bencher
                .iter(|| parse_response(black_box(text), Method::Get, &LIMITS, &mut head).unwrap());
        });
    }
}

fn field_names(criterion: &mut Criterion) {
    let names: [&[u8]; 8] = [
        b"Host",
        b"User-Agent",
        b"Accept",
        b"Accept-Language",
        b"Connection",
        b"Cookie",
        b"Content-Length",
        b"X-Forwarded-Proto",
    ];
    criterion.bench_function("field_id/8_names", |bencher| {
        bencher.iter(|| names.map(|name| FieldId::from_name(black_box(name))));
    });
}

fn write(criterion: &mut Criterion) {
    let mut out = Vec::new();
    let edits = samples::forwarded();
    let mut group = criterion.benchmark_group("write_request");
    for (name, text) in samples::requests() {
        let mut head = RequestHead::default();
        parse_request(&text, &LIMITS, &mut head).unwrap();
        let rewrite = RequestRewrite {
            framing: head.framing,
            edits: &edits,
            upgrade: None,
        };
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), &text, |bencher, text| {
            bencher.iter(|| {
                out.clear();
                write_request(&mut out, black_box(text), &head, &rewrite);
                black_box(&out);
            });
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("write_response");
    for (name, text) in samples::responses() {
        let mut head = ResponseHead::default();
        parse_response(&text, Method::Get, &LIMITS, &mut head).unwrap();
        let rewrite = ResponseRewrite {
            framing: head.framing,
            persistence: Persistence::of(false, Version::Http11),
            date: DATE,
            append: &[],
        };
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), &text, |bencher, text| {
            bencher.iter(|| {
                out.clear();
                write_response(&mut out, black_box(text), &head, &rewrite);
                black_box(&out);
            });
        });
    }
}

fn chunked(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chunked");
    for (name, content, chunk) in [
        ("one_of_100", 100, 100),
        ("1M_in_4K", 1024 * 1024, 4096),
        ("64K_in_1", 64 * 1024, 1),
    ] {
        let body = samples::chunked(content, chunk);
        group.throughput(Throughput::Bytes(content as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), &body, |bencher, body| {
            bencher.iter(|| assert_eq!(decode(black_box(body)), content));
        });
    }
}

/// Decodes a whole body and returns how much content it has.
fn decode(body: &[u8]) -> usize {
    let mut decoder = ChunkedDecoder::new(LIMITS);
    let mut rest = body;
    let mut content = 0;
    loop {
        let (used, event) = decoder.next(rest).unwrap();
        rest = &rest[used..];
        match event {
            ChunkEvent::Data(range) => content += black_box(range).len(),
            ChunkEvent::End => return content,
            ChunkEvent::More => unreachable!("the body is whole"),
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = scan, parse, field_names, write, chunked
}
criterion_main!(benches);
