//! Requests at set times over many keep-alive connections, from one thread.
//!
//! A request that is due goes out on the connection that has been free longest. When none is free
//! it waits, and its latency still counts from the time at which it was due. Without a rate the
//! load is a closed loop, which finds the rate that a contender bears.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::Measured;
use super::latencies::{Latencies, Schedule};
use super::response::{Progress, Response};
use crate::problem::{Interrupt, Outcome, Problem, about};
use crate::results::Errors;

/// How long responses that are missing at the end may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often to look whether the user wants an end.
const LOOK: u16 = 50;
const TIMER: u64 = u64::MAX;

/// An open loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenLoop<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) path: &'a str,
    pub(crate) connections: usize,
    /// Requests per second. `None` is as many as possible.
    pub(crate) rate: Option<f64>,
    pub(crate) time: Duration,
}

impl OpenLoop<'_> {
    /// Runs the load.
    pub(crate) fn run(&self, interrupt: &Interrupt) -> Outcome<Measured> {
        let mut state = State::open(self)?;
        let started = Instant::now();
        state.fill(self, Duration::ZERO)?;
        let mut events = vec![EpollEvent::empty(); 256];
        let end = self.time + PATIENCE;
        loop {
            let found = match state.epoll.wait(&mut events, EpollTimeout::from(LOOK)) {
                Ok(found) => found,
                Err(nix::errno::Errno::EINTR) => 0,
                Err(error) => return Err(Problem::new(format!("epoll: {error}"))),
            };
            interrupt.check()?;
            for event in &events[..found] {
                if event.data() != TIMER {
                    // The time of each response, not of the first one of the same batch.
                    state.receive(event.data() as usize, started, self)?;
                }
            }
            let now = started.elapsed();
            if now >= end || (state.is_idle() && state.has_sent_all(self, now)) {
                break;
            }
            state.fill(self, now)?;
        }
        Ok(state.close(self, started.elapsed()))
    }

    fn request(&self) -> String {
        format!("GET {} HTTP/1.1\r\nHost: bench\r\n\r\n", self.path)
    }
}

struct Connection {
    stream: TcpStream,
    response: Response,
    /// When its present request was due.
    intended: Option<Duration>,
}

struct State {
    epoll: Epoll,
    timer: TimerFd,
    connections: Vec<Connection>,
    /// Free connections, with the longest free one in front.
    free: VecDeque<usize>,
    schedule: Option<Schedule>,
    request: String,
    /// The number of the next request.
    next: u64,
    done: u64,
    latencies: Latencies,
    errors: Errors,
    buffer: Vec<u8>,
}

impl State {
    fn open(load: &OpenLoop<'_>) -> Outcome<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(about("epoll"))?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)
            .map_err(about("timer"))?;
        // Edge-triggered, so no read is needed here.
        let edge = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, TIMER);
        epoll.add(&timer, edge).map_err(about("epoll"))?;
        let mut connections = Vec::with_capacity(load.connections);
        for index in 0..load.connections {
            let stream = connect(load.address).map_err(about("connect"))?;
            let event = EpollEvent::new(EpollFlags::EPOLLIN, index as u64);
            epoll.add(&stream, event).map_err(about("epoll"))?;
            connections.push(Connection {
                stream,
                response: Response::default(),
                intended: None,
            });
        }
        Ok(Self {
            epoll,
            timer,
            free: (0..connections.len()).collect(),
            connections,
            schedule: load.rate.map(Schedule::new),
            request: load.request(),
            next: 0,
            done: 0,
            latencies: Latencies::new()?,
            errors: Errors::default(),
            buffer: vec![0; 64 << 10],
        })
    }

    fn is_idle(&self) -> bool {
        self.free.len() == self.connections.len()
    }

    fn has_sent_all(&self, load: &OpenLoop<'_>, now: Duration) -> bool {
        self.schedule
            .map_or(now, |schedule| schedule.intended(self.next))
            >= load.time
    }

    /// Sends all requests that are due, as far as connections are free, and sets the timer for the
    /// next one.
    fn fill(&mut self, load: &OpenLoop<'_>, now: Duration) -> Outcome<()> {
        loop {
            let intended = self
                .schedule
                .map_or(now, |schedule| schedule.intended(self.next));
            if intended >= load.time || self.free.is_empty() {
                return Ok(());
            }
            if intended > now {
                return self.wake_in(intended - now);
            }
            if let Some(index) = self.free.pop_front() {
                self.next += 1;
                self.send(index, intended, load)?;
            }
        }
    }

    fn wake_in(&self, time: Duration) -> Outcome<()> {
        let once = Expiration::OneShot(time.max(Duration::from_nanos(1)).into());
        self.timer
            .set(once, TimerSetTimeFlags::empty())
            .map_err(about("timer"))
    }

    fn send(&mut self, index: usize, intended: Duration, load: &OpenLoop<'_>) -> Outcome<()> {
        let connection = &mut self.connections[index];
        connection.intended = Some(intended);
        // Such a short request goes in at once, or never.
        if connection
            .stream
            .write_all(self.request.as_bytes())
            .is_err()
        {
            self.errors.write += 1;
            self.replace(index, load)?;
        }
        Ok(())
    }

    fn receive(&mut self, index: usize, started: Instant, load: &OpenLoop<'_>) -> Outcome<()> {
        let connection = &mut self.connections[index];
        let progress = match connection.stream.read(&mut self.buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => connection.response.take(&self.buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Progress::More),
            Err(error) => Err(error),
        };
        match progress {
            Ok(Progress::More) => {}
            Ok(Progress::Done { ok }) => {
                if let Some(intended) = connection.intended.take() {
                    self.latencies.record(intended, started.elapsed());
                    self.done += 1;
                    self.errors.status += u64::from(!ok);
                    self.free.push_back(index);
                }
            }
            Err(_) => {
                // A contender may close an idle connection.
                self.errors.read += u64::from(connection.intended.is_some());
                self.replace(index, load)?;
            }
        }
        Ok(())
    }

    /// Opens a connection in place of a broken one.
    fn replace(&mut self, index: usize, load: &OpenLoop<'_>) -> Outcome<()> {
        let stream = connect(load.address).map_err(about("connect"))?;
        let event = EpollEvent::new(EpollFlags::EPOLLIN, index as u64);
        self.epoll.add(&stream, event).map_err(about("epoll"))?;
        let connection = &mut self.connections[index];
        connection.stream = stream;
        connection.response = Response::default();
        if connection.intended.take().is_some() {
            self.free.push_back(index);
        }
        Ok(())
    }

    /// Requests without a response count with the time that they have waited.
    fn close(mut self, load: &OpenLoop<'_>, now: Duration) -> Measured {
        for connection in &self.connections {
            if let Some(intended) = connection.intended {
                self.latencies.record(intended, now);
                self.errors.timeout += 1;
            }
        }
        if let Some(schedule) = self.schedule {
            while schedule.intended(self.next) < load.time {
                self.latencies.record(schedule.intended(self.next), now);
                self.errors.timeout += 1;
                self.next += 1;
            }
        }
        Measured {
            seconds: now.as_secs_f64(),
            requests: self.done,
            latency_us: self.latencies.percentiles(),
            errors: self.errors,
            resumed: None,
        }
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}
