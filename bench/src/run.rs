//! The course of a benchmark. Each round starts a case's contenders side by side, runs them one
//! after the other, and records the results.

use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::cases::{Beside, Case, Load};
use crate::child::Running;
use crate::contenders::{Contender, Front, Site};
use crate::load::Measured;
use crate::load::beside::{Idle, Stalled};
use crate::load::handshake::Handshakes;
use crate::load::open_loop::OpenLoop;
use crate::problem::{Interrupt, Outcome, Problem};
use crate::process;
use crate::progress::Progress;
use crate::results::{LeftOut, Results, Run, Syscalls};
use crate::strace::Strace;
use crate::wrk::Wrk;

/// Seconds of a run in the quick version, for cases with a length of their own.
const QUICK_LONG: u64 = 4;
/// The time of the search for a contender's capacity.
const CAPACITY: Duration = Duration::from_secs(2);
const SYSCALLS: Duration = Duration::from_secs(2);
/// The files that a process needs besides those of idle clients.
const RESERVED_FILES: u64 = 2000;

/// The plan of a benchmark.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    pub(crate) seconds: u64,
    pub(crate) quick: bool,
    pub(crate) cases: Vec<&'static Case>,
    pub(crate) contenders: Vec<Contender>,
    /// The place of the JSON, which is written after each round.
    pub(crate) json: PathBuf,
}

impl Plan {
    fn time(&self, case: &Case) -> Duration {
        Duration::from_secs(match case.seconds {
            Some(_) if self.quick => QUICK_LONG.max(self.seconds),
            Some(seconds) => seconds.max(self.seconds),
            None => self.seconds,
        })
    }

    /// The contenders of a case, if all are there.
    fn contenders(&self, case: &Case) -> Vec<Contender> {
        let mut contenders = case.contenders.to_vec();
        contenders.retain(|contender| self.contenders.contains(contender));
        if self.quick && !matches!(case.load, Load::Open { .. }) {
            // In other cases no ratio needs the direct figure.
            contenders.retain(|contender| *contender != Contender::Direct);
        }
        contenders
    }

    /// A rough estimate of the seconds of one case in one round.
    fn estimate(&self, case: &Case, contenders: usize) -> f64 {
        let mut each = 0.6;
        if case.load != Load::Nothing {
            each += self.time(case).as_secs_f64();
        }
        match case.beside {
            Beside::Nothing => {}
            Beside::Idle { count, .. } => {
                each += 2.0 + self.time(case).as_secs_f64() + count as f64 / 2000.0;
            }
            Beside::Stalled { .. } => each += 2.0 + self.time(case).as_secs_f64(),
        }
        if matches!(case.load, Load::Open { .. }) {
            each += CAPACITY.as_secs_f64();
        }
        1.0 + each * contenders as f64
    }
}

/// A benchmark in progress.
#[derive(Debug)]
pub(crate) struct Runner {
    pub(crate) plan: Plan,
    pub(crate) site: Site,
    pub(crate) wrk: Option<Wrk>,
    pub(crate) interrupt: Interrupt,
    pub(crate) results: Results,
    pub(crate) progress: Progress,
}

/// The present load of a contender.
struct Turn<'a> {
    case: &'a Case,
    round: u32,
    place: usize,
    /// Requests per second of an open loop.
    offered: Option<f64>,
    capacity: Option<f64>,
}

impl Runner {
    /// Runs all rounds. The results so far are written also after an interruption.
    pub(crate) fn run(&mut self) -> Outcome<()> {
        let _servers = self.site.start_servers(&self.interrupt)?;
        self.leave_out_the_missing()?;
        let estimate: f64 = self.plan.cases.iter().map(|case| self.estimate(case)).sum();
        let syscalls = self
            .plan
            .cases
            .iter()
            .filter(|case| self.counts_syscalls(case));
        let once: f64 = syscalls
            .map(|case| 4.0 * self.present(case).len() as f64)
            .sum();
        self.progress
            .plan(estimate * f64::from(self.plan.rounds) + once);
        for round in 1..=self.plan.rounds {
            for case in self.plan.cases.clone() {
                self.case(case, round)
                    .inspect_err(|_| self.write_what_there_is())?;
            }
            self.results.settings.rounds_done = round;
            self.results.write(&self.plan.json)?;
        }
        Ok(())
    }

    fn write_what_there_is(&self) {
        if let Err(problem) = self.results.write(&self.plan.json) {
            eprintln!("bench: {problem}");
        }
    }

    fn estimate(&self, case: &Case) -> f64 {
        self.plan.estimate(case, self.present(case).len())
    }

    /// The quick version counts system calls in one case only, because each count takes as long as
    /// another case.
    fn counts_syscalls(&self, case: &Case) -> bool {
        case.syscalls && (!self.plan.quick || case.id == "c64")
    }

    /// Starts every contender once, to learn which are there.
    fn leave_out_the_missing(&mut self) -> Outcome<()> {
        for contender in self.plan.contenders.clone() {
            match self.site.start(contender, &self.interrupt) {
                Ok(front) => stop(vec![front]),
                Err(Problem::Interrupted) => return Err(Problem::Interrupted),
                Err(problem) => self.leave_out(Some(contender), None, &problem),
            }
        }
        if self.wrk.is_none() {
            let without: Vec<_> = self
                .plan
                .cases
                .iter()
                .filter(|case| case.needs_wrk())
                .collect();
            for case in without.iter().map(|case| case.id).collect::<Vec<_>>() {
                self.leave_out(None, Some(case), &Problem::new("wrk is not installed"));
            }
            self.plan.cases.retain(|case| !case.needs_wrk());
        }
        if self
            .plan
            .cases
            .iter()
            .all(|case| self.present(case).is_empty())
        {
            return Err(Problem::new("nothing can be measured"));
        }
        Ok(())
    }

    fn leave_out(&mut self, contender: Option<Contender>, case: Option<&str>, why: &Problem) {
        let one = LeftOut {
            contender,
            case: case.map(str::to_owned),
            why: crate::child::without_folder(&why.to_string(), &self.site.folder),
        };
        let who = contender.map_or("all", Contender::id);
        self.progress.say(&format!(
            "left out: {who}, {}: {}",
            case.unwrap_or("all cases"),
            one.why
        ));
        let known = |known: &LeftOut| known.contender == contender && known.case == one.case;
        if !self.results.left_out.iter().any(known) {
            self.results.left_out.push(one);
        }
    }

    fn present(&self, case: &Case) -> Vec<Contender> {
        let mut contenders = self.plan.contenders(case);
        contenders.retain(|contender| {
            !self.results.left_out.iter().any(|one| {
                one.contender == Some(*contender)
                    && one.case.as_ref().is_none_or(|named| named == case.id)
            })
        });
        contenders
    }

    /// Runs one case of one round.
    fn case(&mut self, case: &'static Case, round: u32) -> Outcome<()> {
        let mut order = self.present(case);
        if order.is_empty() {
            return Ok(());
        }
        // The first place rotates.
        let first = (round as usize - 1) % order.len();
        order.rotate_left(first);
        let estimate = self.estimate(case);
        let mut fronts = Vec::new();
        for contender in order {
            match self.site.start(contender, &self.interrupt) {
                Ok(front) => fronts.push(front),
                Err(Problem::Interrupted) => return Err(Problem::Interrupted),
                Err(problem) => self.leave_out(Some(contender), Some(case.id), &problem),
            }
        }
        let capacities = self.capacities(case, &fronts)?;
        let weakest = fronts
            .iter()
            .zip(&capacities)
            .filter(|(front, _)| front.contender != Contender::Direct)
            .filter_map(|(_, capacity)| *capacity)
            .reduce(f64::min);
        for (place, front) in fronts.iter().enumerate() {
            let offered = match case.load {
                Load::Open { share, .. } => weakest.map(|weakest| weakest * share),
                _ => None,
            };
            let turn = Turn {
                case,
                round,
                place,
                offered,
                capacity: capacities.get(place).copied().flatten(),
            };
            match self.turn(&turn, front) {
                Ok(run) => {
                    self.progress.run(&run, self.plan.rounds);
                    self.results.runs.push(run);
                }
                Err(Problem::Interrupted) => return Err(Problem::Interrupted),
                Err(problem) => self.leave_out(Some(front.contender), Some(case.id), &problem),
            }
        }
        self.progress.done(estimate);
        if self.counts_syscalls(case) && round == 1 {
            self.count_syscalls(case, &fronts)?;
            self.progress.done(4.0 * fronts.len() as f64);
        }
        stop(fronts);
        Ok(())
    }

    /// Measures each contender's capacity with the generator of the open loops.
    fn capacities(&self, case: &Case, fronts: &[Front]) -> Outcome<Vec<Option<f64>>> {
        let Load::Open { connections, .. } = case.load else {
            return Ok(Vec::new());
        };
        fronts
            .iter()
            .map(|front| {
                let load = OpenLoop {
                    address: front.http,
                    path: "/1k.png",
                    connections,
                    rate: None,
                    time: CAPACITY,
                };
                match load.run(&self.interrupt) {
                    Ok(measured) => Ok(Some(measured.rate())),
                    Err(Problem::Interrupted) => Err(Problem::Interrupted),
                    // The contender's own run will report the reason.
                    Err(Problem::Failed(_)) => Ok(None),
                }
            })
            .collect()
    }

    fn load(&self, turn: &Turn<'_>, front: &Front) -> Outcome<Measured> {
        let time = self.plan.time(turn.case);
        match turn.case.load {
            Load::Closed(closed) => match &self.wrk {
                Some(wrk) => wrk.run(&closed, front, time, &self.interrupt),
                None => Err(Problem::new("wrk is not installed")),
            },
            Load::Open { connections, .. } => OpenLoop {
                address: front.http,
                path: "/1k.png",
                connections,
                rate: Some(
                    turn.offered
                        .ok_or_else(|| Problem::new("no capacity is known"))?,
                ),
                time,
            }
            .run(&self.interrupt),
            Load::Handshake { threads, resume } => Handshakes {
                address: front
                    .https
                    .ok_or_else(|| Problem::new("the contender has no TLS"))?,
                path: "/1k.png",
                threads,
                resume,
                time,
            }
            .run(&self.interrupt),
            Load::Nothing => Ok(Measured::default()),
        }
    }

    /// Runs one contender once.
    fn turn(&mut self, turn: &Turn<'_>, front: &Front) -> Outcome<Run> {
        let case = turn.case;
        let group = front.running.as_ref().map(Running::pid);
        let pids = group.map(process::members).unwrap_or_default();
        let rest_kib = process::resident_kib(&pids);
        let has_beside = case.beside != Beside::Nothing && case.load != Load::Nothing;
        let without = if has_beside {
            Some(self.load(turn, front)?.rate())
        } else {
            None
        };

        process::forget_peak(&pids);
        let before_kib = process::resident_kib(&pids);
        let (mut idle, mut stalled, mut held) = (None, None, None);
        match case.beside {
            Beside::Nothing => {}
            Beside::Idle { count, tls } => {
                let count = self.idle_count(count);
                let address = if tls { front.https } else { Some(front.http) };
                let address = address.ok_or_else(|| Problem::new("the contender has no TLS"))?;
                idle = Some(Idle::open(
                    &self.site.test_server,
                    address,
                    count,
                    tls,
                    &self.interrupt,
                )?);
                held = Some(count);
                self.interrupt.sleep(Duration::from_millis(500))?;
            }
            Beside::Stalled { count } => {
                stalled = Some(Stalled::open(front.http, count, &self.interrupt)?);
                held = Some(count);
            }
        }
        let held_kib = held.map(|held| {
            process::resident_kib(&pids).saturating_sub(before_kib) as f64 / held as f64
        });

        let accepted_before = self.site.accepted();
        let ticks_before = process::cpu_ticks(&pids);
        let (measured, sample) = self.watched(turn, front, &pids)?;
        let ticks = process::cpu_ticks(&pids).saturating_sub(ticks_before);
        let accepted = self.site.accepted().zip(accepted_before);
        let peak_kib = process::peak_kib(&pids);
        drop((idle, stalled));

        if front.running.is_some() && process::members(group.unwrap_or(0)).is_empty() {
            return Err(Problem::new("the contender ended during the run"));
        }
        let has_process = !pids.is_empty();
        let rate = measured.rate();
        let cpu_us = ticks as f64 / process::ticks_per_second() * 1e6 / measured.requests as f64;
        Ok(Run {
            round: turn.round,
            case: case.id.to_owned(),
            contender: front.contender,
            place: turn.place,
            seconds: rounded(measured.seconds, 3),
            requests: measured.requests,
            rate: rounded(rate, 1),
            latency_us: measured.latency_us,
            errors: measured.errors,
            cpu_us: (has_process && measured.requests > 0).then(|| rounded(cpu_us, 2)),
            rest_kib: has_process.then_some(rest_kib),
            peak_kib: has_process.then_some(peak_kib),
            threads: sample
                .as_ref()
                .filter(|_| has_process)
                .map(|sample| sample.threads),
            switches: sample
                .as_ref()
                .filter(|_| has_process && rate > 0.0)
                .map(|sample| rounded(sample.switches as f64 / (rate * sample.seconds), 3)),
            server_connections: sample
                .as_ref()
                .filter(|_| has_process)
                .map(|sample| sample.connections),
            // The second reading was a connection, too.
            server_accepted: accepted.map(|(after, before)| after.saturating_sub(before + 1)),
            offered: turn.offered.map(|rate| rounded(rate, 1)),
            capacity: turn.capacity.map(|rate| rounded(rate, 1)),
            without: without.map(|rate| rounded(rate, 1)),
            held: held.map(|held| held as u64),
            held_kib: held_kib.filter(|_| has_process).map(|kib| rounded(kib, 2)),
            resumed: measured.resumed.map(|share| rounded(share, 4)),
        })
    }

    /// Makes the load while a thread watches the contender.
    fn watched(
        &self,
        turn: &Turn<'_>,
        front: &Front,
        pids: &[u32],
    ) -> Outcome<(Measured, Option<Sample>)> {
        let time = self.plan.time(turn.case);
        let ports = self.site.servers;
        thread::scope(|scope| {
            let (done, is_done) = mpsc::channel::<()>();
            let watcher = scope.spawn(move || Sample::take(pids, &ports, time, &is_done));
            let measured = self.load(turn, front);
            drop(done);
            let sample = watcher
                .join()
                .map_err(|_| Problem::new("the watcher has panicked"))?;
            Ok((measured?, sample))
        })
    }

    /// The number of idle clients, as far as the limit of files allows.
    fn idle_count(&mut self, wanted: usize) -> usize {
        let most = usize::try_from(self.site.files.saturating_sub(RESERVED_FILES))
            .unwrap_or(wanted)
            .max(100);
        if most < wanted {
            let note = format!(
                "Only {} open files are allowed, so {most} idle clients in place of {wanted}.",
                self.site.files
            );
            if !self.results.notes.contains(&note) {
                self.results.notes.push(note);
            }
        }
        wanted.min(most)
    }

    fn count_syscalls(&mut self, case: &Case, fronts: &[Front]) -> Outcome<()> {
        for front in fronts {
            let Some(running) = &front.running else {
                continue;
            };
            match self.syscalls_of(case, front, &process::members(running.pid())) {
                Ok(Some(found)) => self.results.syscalls.push(found),
                Ok(None) => self.note("strace is not installed: system calls were not counted."),
                Err(Problem::Interrupted) => return Err(Problem::Interrupted),
                Err(Problem::Failed(why)) => {
                    self.note(&format!(
                        "System calls of {} were not counted: {why}.",
                        front.contender.id()
                    ));
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, note: &str) {
        if !self.results.notes.iter().any(|known| known == note) {
            self.progress.say(note);
            self.results.notes.push(note.to_owned());
        }
    }

    fn syscalls_of(&self, case: &Case, front: &Front, pids: &[u32]) -> Outcome<Option<Syscalls>> {
        let (Load::Closed(closed), Some(wrk)) = (case.load, &self.wrk) else {
            return Ok(None);
        };
        let Some(strace) = Strace::attach(pids, &self.site.folder, &self.interrupt)? else {
            return Ok(None);
        };
        let measured = wrk.run(&closed, front, SYSCALLS, &self.interrupt)?;
        let calls = strace.detach(&self.interrupt)?;
        Ok(Some(Syscalls {
            case: case.id.to_owned(),
            contender: front.contender,
            requests: measured.requests,
            calls,
        }))
    }
}

/// Ends all at once, since each may take a moment.
fn stop(fronts: Vec<Front>) {
    for running in fronts.iter().filter_map(|front| front.running.as_ref()) {
        running.signal(Signal::SIGTERM);
    }
    drop(fronts);
}

/// What the watcher saw of a contender between the first quarter of a run and near its end.
struct Sample {
    switches: u64,
    seconds: f64,
    threads: u64,
    connections: u64,
}

impl Sample {
    /// Returns `None` for a run that ended before.
    fn take(
        pids: &[u32],
        ports: &[u16],
        time: Duration,
        is_done: &mpsc::Receiver<()>,
    ) -> Option<Self> {
        let is_over = |wait| is_done.recv_timeout(wait) != Err(mpsc::RecvTimeoutError::Timeout);
        if is_over(time.mul_f64(0.25)) {
            return None;
        }
        let from = Instant::now();
        let before = process::switches(pids);
        if is_over(time.mul_f64(0.85).saturating_sub(time.mul_f64(0.25))) {
            return None;
        }
        let seconds = from.elapsed().as_secs_f64();
        let after = process::switches(pids);
        Some(Self {
            switches: process::switches_between(&before, &after),
            seconds,
            threads: after.len() as u64,
            connections: process::connections_to(pids, ports),
        })
    }
}

/// Rounds, so that the JSON has no digits without a meaning.
fn rounded(value: f64, digits: i32) -> f64 {
    let factor = 10f64.powi(digits);
    (value * factor).round() / factor
}
