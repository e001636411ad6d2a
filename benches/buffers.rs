//! The cost of taking a buffer and giving it back, alone and while another thread does the same.

#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    missing_docs,
    reason = "a benchmark is no library"
)]

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use juggler::base::buffers::BufferPool;

const SIZE: usize = 16 * 1024;

fn alone(criterion: &mut Criterion) {
    let pool = BufferPool::new(64 * SIZE, SIZE);
    criterion.bench_function("buffers/take_drop", |bencher| {
        bencher.iter(|| drop(black_box(pool.take().unwrap())));
    });
}

fn used_up(criterion: &mut Criterion) {
    let pool = BufferPool::new(SIZE, SIZE);
    let held = pool.take();
    criterion.bench_function("buffers/used_up", |bencher| {
        bencher.iter(|| assert!(black_box(pool.take()).is_none()));
    });
    drop(held);
}

fn contended(criterion: &mut Criterion) {
    let pool = BufferPool::new(64 * SIZE, SIZE);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                drop(black_box(pool.take()));
            }
        });
        criterion.bench_function("buffers/take_drop_beside_another", |bencher| {
            bencher.iter(|| drop(black_box(pool.take().unwrap())));
        });
        is_over.store(true, Ordering::Relaxed);
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = alone, used_up, contended
}
criterion_main!(benches);
