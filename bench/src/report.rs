//! The report. It is made from the results alone, so that it can be rendered again.

use std::fmt::Write as _;
use std::path::Path;

use crate::aims::{self, Bound};
use crate::cases::{self, CASES, Case, Load};
use crate::charts::{self, Chart};
use crate::contenders::Contender::{self, Direct, Juggler, JugglerPipeline};
use crate::problem::{Outcome, about};
use crate::results::{Results, Run};
use crate::table::{Table, count, figure};
use crate::view::{Figure, View, beside_ratio, cpu, held_kib, p50, p90, p99, rate};

/// Writes benchmarks.md, and the charts beside the JSON.
pub(crate) fn write(results: &Results, out: &Path) -> Outcome<()> {
    let charts = charts::draw(results, &charts::folder(out)?)?;
    let file = out.join("benchmarks.md");
    std::fs::write(&file, render(results, &charts)).map_err(about(file.display()))
}

/// The report without charts.
pub(crate) fn text(results: &Results) -> String {
    render(results, &[])
}

fn render(results: &Results, charts: &[Chart]) -> String {
    let view = View(results);
    let mut page = Page::default();
    page.text(include_str!("../text/head.md"));
    machine(&mut page, results);
    missing(&mut page, results);
    page.section(
        "Aims",
        "The figure is the median of the rounds' ratios of juggler to the better peer. The better \
         peer of a case is the one of nginx, HAProxy and HAProxy with `maxconn` that has the \
         highest median throughput. Where no peer is named, the figure is juggler's own median.",
        &aims(view),
    );
    let chart = |page: &mut Page, file: &str| {
        if let Some(chart) = charts.iter().find(|chart| chart.file == file) {
            page.text(&format!("![{}](benchmarks/{file})\n\n", chart.title));
        }
    };
    page.section(
        "Throughput",
        "Requests per second, medians of all rounds. The ratios are medians of the rounds' ratios \
         to the better peer. The highest figure (not counting the server itself) is in bold.",
        &throughput(view),
    );
    chart(&mut page, "throughput.svg");
    page.section(
        "CPU time",
        "User and system time of all processes of a contender, in microseconds for each request, \
         and its ratio to that of the better peer (the one with the higher throughput). The lowest \
         figure is in bold.",
        &cpu_time(view),
    );
    chart(&mut page, "cpu.svg");
    page.section(
        "Latency",
        "Milliseconds: median / 90 % / 99 %, medians of all rounds, and the ratio of the 99 % to \
         those of the better peer. This is a closed loop: clients wait for each response. There \
         latency is little more than clients divided by throughput, except for the distance of \
         the percentiles.",
        &latency(view),
    );
    for file in ["latency-64.svg", "latency-1024.svg"] {
        chart(&mut page, file);
    }
    page.section(
        "Open loop",
        "Requests come at set times, independent of the responses, and latency counts from these \
         times. A response that is missing at the end counts with the time waited so far (so there \
         is no coordinated omission). The rate is the same for all: the given share of what the \
         weakest proxy bears in that round. \"Added\" is the difference to the server itself in \
         the same round. Milliseconds, medians.",
        &open_loop(view),
    );
    chart(&mut page, "latency-open.svg");
    page.section(
        "Memory",
        "Resident memory at its peak during the run, in MiB, medians. Where a contender has \
         several processes, shared memory counts for each of them.",
        &memory(view),
    );
    chart(&mut page, "memory.svg");
    page.section(
        "Clients beside the load",
        "Idle clients have had one response and wait. Each contender is started anew before. \
         Memory for each client is the growth of resident memory while they connect. Throughput \
         is that of 64 busy connections beside them, against the same without them right before.",
        &beside(view),
    );
    page.section(
        "TLS sessions resumed",
        "Share of the handshakes that were resumed. Clients keep tickets as a browser does.",
        &resumed(view),
    );
    page.section(
        "Connections to the servers",
        "Towards the end of the run. In brackets: how many the three servers accepted during the \
         run. Medians.",
        &connections(view),
    );
    page.section(
        "Context switches",
        "For each request, voluntary and not, from the first quarter of a run until near its \
         end. Switches of threads that ended in between are lost.",
        &by_contender(view, |_| true, |run| run.switches),
    );
    page.section(
        "System calls",
        "For each request, counted by strace in a pass of its own at 64 connections. strace slows \
         everything down and makes batches smaller, so these are upper bounds.",
        &syscalls(results),
    );
    page.section(
        "Errors",
        "Connections refused or broken, responses other than 200, and requests that took more \
         than 10 s, in all rounds together. A contender without a row had none.",
        &errors(results),
    );
    page.text(include_str!("../text/tail.md"));
    page.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn text(&mut self, text: &str) {
        self.0.push_str(text);
    }

    /// Adds a section, unless its table is empty.
    fn section(&mut self, title: &str, text: &str, table: &Table) {
        if !table.is_empty() {
            let _ = write!(
                self.0,
                "## {title}\n\n{}\n\n{}\n",
                wrap(text),
                table.render()
            );
        }
    }
}

/// Wraps to the line length of the other documents.
fn wrap(text: &str) -> String {
    let mut wrapped = String::new();
    let mut length = 0;
    for word in text.split(' ') {
        let word_length = word.chars().count();
        if length > 0 && length + 1 + word_length > 120 {
            wrapped.push('\n');
            length = 0;
        } else if length > 0 {
            wrapped.push(' ');
            length += 1;
        }
        wrapped.push_str(word);
        length += word_length;
    }
    wrapped
}

fn machine(page: &mut Page, results: &Results) {
    let machine = &results.machine;
    let settings = &results.settings;
    let mut text = String::from("## Where and how these figures were made\n\n");
    let _ = writeln!(
        text,
        "- {}: {} cores ({}), {:.1} GiB of memory, {}, Linux {}, {} open files at most.",
        machine.date,
        machine.cores,
        machine.processor,
        machine.memory_mib as f64 / 1024.0,
        machine.system,
        machine.kernel,
        machine.open_files
    );
    for (name, version) in &machine.versions {
        // Most versions contain the program's name.
        let named = version.to_ascii_lowercase().starts_with(name.as_str());
        let _ = writeln!(
            text,
            "- {}{version}",
            if named {
                String::new()
            } else {
                format!("{name}: ")
            }
        );
    }
    let sysctl: Vec<_> = machine
        .sysctl
        .iter()
        .map(|(name, value)| format!("`{name} = {value}`"))
        .collect();
    let _ = writeln!(text, "- {}", sysctl.join(", "));
    let ports: Vec<_> = settings
        .server_ports
        .iter()
        .map(ToString::to_string)
        .collect();
    let _ = writeln!(
        text,
        "- {} of {} rounds, runs of {} s (longer at 4096 connections), servers on ports {}{}.",
        settings.rounds_done,
        settings.rounds,
        settings.seconds,
        ports.join(", "),
        if settings.quick {
            "; the quick version, whose figures are rough"
        } else {
            ""
        }
    );
    if settings.rounds_done < settings.rounds {
        text.push_str("- **Interrupted before its end.**\n");
    }
    for contender in Contender::ALL {
        let _ = writeln!(
            text,
            "- {}: {}.",
            contender.label(),
            contender.description()
        );
    }
    page.text(&text);
    page.text("\n");
}

/// What is left out, and why.
fn missing(page: &mut Page, results: &Results) {
    if results.left_out.is_empty() && results.notes.is_empty() {
        return;
    }
    page.text("### Left out, and other remarks\n\n");
    for one in &results.left_out {
        let who = one.contender.map(Contender::label);
        let what: Vec<_> = who.into_iter().chain(one.case.as_deref()).collect();
        page.text(&format!("- {}: {}\n", what.join(", "), one.why));
    }
    for note in &results.notes {
        page.text(&format!("- {note}\n"));
    }
    page.text("\n");
}

fn aims(view: View<'_>) -> Table {
    let mut table = Table::new(["aim", "for", "wanted", "reached", "against", "met?"]);
    if view.0.runs.is_empty() {
        return table;
    }
    for reached in aims::reached(view) {
        let aim = reached.aim;
        let wanted = match aim.bound {
            Bound::AtLeast(bound) => format!("≥ {bound}{}", aim.unit),
            Bound::AtMost(bound) => format!("≤ {bound}{}", aim.unit),
        };
        table.row(vec![
            aim.what.to_owned(),
            aim.contender.label().to_owned(),
            wanted,
            reached
                .value
                .map_or_else(dash, |value| format!("{}{}", figure(value), aim.unit)),
            reached
                .peer
                .map_or_else(dash, |peer| peer.label().to_owned()),
            match reached.is_met() {
                Some(true) => "met".to_owned(),
                Some(false) => "**missed**".to_owned(),
                None => "not measured".to_owned(),
            },
        ]);
    }
    table
}

fn dash() -> String {
    "–".to_owned()
}

/// The measured cases whose throughput says something: closed loops and handshakes.
fn loaded(view: View<'_>) -> Vec<&'static Case> {
    let with_load = |case: &&Case| {
        matches!(case.load, Load::Closed(_) | Load::Handshake { .. }) && view.has(case.id)
    };
    CASES.iter().filter(with_load).collect()
}

fn head(further: &[&str]) -> Vec<String> {
    let labels = Contender::ALL.iter().map(|contender| contender.label());
    ["case"]
        .into_iter()
        .chain(labels)
        .chain(further.iter().copied())
        .map(str::to_owned)
        .collect()
}

fn throughput(view: View<'_>) -> Table {
    let mut table = Table::new(head(&["juggler / better peer", "pipelined / better peer"]));
    for case in loaded(view) {
        let proxies: Vec<_> = Contender::ALL
            .into_iter()
            .filter(|one| *one != Direct)
            .collect();
        let ahead = view.ahead(case.id, &proxies);
        table.row(with_ratios(view, case, rate, ahead));
    }
    table
}

fn cpu_time(view: View<'_>) -> Table {
    let mut table = Table::new(head(&["juggler / better peer", "pipelined / better peer"]));
    for case in loaded(view) {
        let least = Contender::ALL
            .into_iter()
            .filter_map(|contender| Some((contender, view.median(case.id, contender, cpu)?)))
            .min_by(|(_, one), (_, other)| one.total_cmp(other))
            .map(|(contender, _)| contender);
        table.row(with_ratios(view, case, cpu, least));
    }
    table
}

/// Medians of all contenders, one of them in bold, and the ratios to the better peer.
fn with_ratios(view: View<'_>, case: &Case, of: Figure, bold: Option<Contender>) -> Vec<String> {
    let mut cells = vec![case.title.to_owned()];
    for contender in Contender::ALL {
        let median = view
            .median(case.id, contender, of)
            .map_or_else(dash, figure);
        cells.push(if bold == Some(contender) {
            format!("**{median}**")
        } else {
            median
        });
    }
    cells.extend([Juggler, JugglerPipeline].map(|one| ratio(view, case, one, of)));
    cells
}

fn ratio(view: View<'_>, case: &Case, one: Contender, of: Figure) -> String {
    let peer = view.better_peer(case.id);
    let ratio = peer.and_then(|peer| view.ratio(case.id, one, peer, of));
    ratio.map_or_else(dash, |ratio| format!("{ratio:.2}"))
}

fn latency(view: View<'_>) -> Table {
    let mut table = Table::new(head(&[
        "p99: juggler / better peer",
        "p99: pipelined / better peer",
    ]));
    for case in loaded(view) {
        let mut cells = vec![case.title.to_owned()];
        for contender in Contender::ALL {
            let of = |figure: Figure| view.median(case.id, contender, figure);
            let all = of(p50).zip(of(p90)).zip(of(p99));
            cells.push(all.map_or_else(dash, |((p50, p90), p99)| {
                [p50, p90, p99].map(|us| figure(us / 1000.0)).join(" / ")
            }));
        }
        cells.extend([Juggler, JugglerPipeline].map(|one| ratio(view, case, one, p99)));
        table.row(cells);
    }
    table
}

fn open_loop(view: View<'_>) -> Table {
    let mut table = Table::new([
        "case",
        "contender",
        "bears, requests/s",
        "offered",
        "p50",
        "p90",
        "p99",
        "added p50",
        "added p99",
    ]);
    for case in CASES
        .iter()
        .filter(|case| matches!(case.load, Load::Open { .. }))
    {
        for contender in Contender::ALL {
            let of = |figure: Figure| view.median(case.id, contender, figure);
            let Some(offered) = of(|run| run.offered) else {
                continue;
            };
            let added = |percentile: Figure| {
                let added = view.difference(case.id, contender, Direct, percentile);
                added
                    .filter(|_| contender != Direct)
                    .map_or_else(dash, |us| figure(us / 1000.0))
            };
            let ms =
                |percentile: Figure| of(percentile).map_or_else(dash, |us| figure(us / 1000.0));
            table.row(vec![
                case.title.to_owned(),
                contender.label().to_owned(),
                of(|run| run.capacity).map_or_else(dash, figure),
                figure(offered),
                ms(p50),
                ms(p90),
                ms(p99),
                added(p50),
                added(p99),
            ]);
        }
    }
    table
}

/// One figure of all contenders, by case.
fn by_contender(view: View<'_>, takes: fn(&Case) -> bool, of: Figure) -> Table {
    let mut table = Table::new(head(&[]));
    for case in CASES.iter().filter(|case| takes(case) && view.has(case.id)) {
        let medians = Contender::ALL.map(|contender| view.median(case.id, contender, of));
        if medians.iter().any(Option::is_some) {
            let cells = medians.map(|median| median.map_or_else(dash, figure));
            table.row([case.title.to_owned()].into_iter().chain(cells).collect());
        }
    }
    table
}

fn memory(view: View<'_>) -> Table {
    by_contender(
        view,
        |_| true,
        |run| run.peak_kib.map(|kib| kib as f64 / 1024.0),
    )
}

fn beside(view: View<'_>) -> Table {
    let mut table = Table::new([
        "case",
        "contender",
        "clients",
        "KiB for each",
        "threads",
        "requests/s beside",
        "without",
        "ratio",
    ]);
    for case in CASES
        .iter()
        .filter(|case| case.beside != cases::Beside::Nothing)
    {
        for contender in Contender::ALL {
            let of = |figure: Figure| view.median(case.id, contender, figure);
            let Some(held) = of(|run| run.held.map(|held| held as f64)) else {
                continue;
            };
            table.row(vec![
                case.title.to_owned(),
                contender.label().to_owned(),
                count(held),
                of(held_kib).map_or_else(dash, figure),
                of(|run| run.threads.map(|threads| threads as f64)).map_or_else(dash, count),
                of(rate).map_or_else(dash, figure),
                of(|run| run.without).map_or_else(dash, figure),
                of(beside_ratio).map_or_else(dash, |ratio| format!("{ratio:.2}")),
            ]);
        }
    }
    table
}

fn resumed(view: View<'_>) -> Table {
    by_contender(
        view,
        |case| matches!(case.load, Load::Handshake { .. }),
        |run| run.resumed,
    )
}

fn connections(view: View<'_>) -> Table {
    let mut table = Table::new(head(&[]));
    for case in CASES.iter().filter(|case| view.has(case.id)) {
        let cell = |contender| {
            let of = |figure: Figure| view.median(case.id, contender, figure);
            let open = of(|run: &Run| run.server_connections.map(|count| count as f64))?;
            let accepted = of(|run: &Run| run.server_accepted.map(|count| count as f64))?;
            Some(format!("{} ({})", count(open), count(accepted)))
        };
        let cells = Contender::ALL.map(cell);
        if cells.iter().any(Option::is_some) {
            let cells = cells.map(|cell| cell.unwrap_or_else(dash));
            table.row([case.title.to_owned()].into_iter().chain(cells).collect());
        }
    }
    table
}

fn syscalls(results: &Results) -> Table {
    let mut table = Table::new(head(&[]));
    for case in CASES {
        let cell = |contender: Contender| {
            let mut all = results.syscalls.iter();
            let found = all.find(|found| found.case == case.id && found.contender == contender)?;
            (found.requests > 0).then(|| figure(found.calls as f64 / found.requests as f64))
        };
        let cells = Contender::ALL.map(cell);
        if cells.iter().any(Option::is_some) {
            let cells = cells.map(|cell| cell.unwrap_or_else(dash));
            table.row([case.title.to_owned()].into_iter().chain(cells).collect());
        }
    }
    table
}

fn errors(results: &Results) -> Table {
    let mut table = Table::new([
        "case",
        "contender",
        "connect",
        "read",
        "write",
        "status",
        "time-out",
        "of requests",
    ]);
    for case in CASES {
        for contender in Contender::ALL {
            let runs = || {
                results
                    .runs
                    .iter()
                    .filter(|run| run.case == case.id && run.contender == contender)
            };
            if runs().all(|run| run.errors.sum() == 0) {
                continue;
            }
            let sum = |of: fn(&Run) -> u64| runs().map(of).sum::<u64>().to_string();
            table.row(vec![
                case.title.to_owned(),
                contender.label().to_owned(),
                sum(|run| run.errors.connect),
                sum(|run| run.errors.read),
                sum(|run| run.errors.write),
                sum(|run| run.errors.status),
                sum(|run| run.errors.timeout),
                sum(|run| run.requests),
            ]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Errors, LeftOut, PERCENTILES};

    fn run(round: u32, case: &str, contender: Contender, rate: f64) -> Run {
        Run {
            round,
            case: case.to_owned(),
            contender,
            place: 0,
            seconds: 3.0,
            requests: 300,
            rate,
            latency_us: PERCENTILES
                .iter()
                .map(|percentile| (percentile * 100.0) as u64)
                .collect(),
            errors: Errors::default(),
            cpu_us: (contender != Direct).then_some(1e6 / rate),
            rest_kib: Some(1000),
            peak_kib: Some(2024),
            threads: Some(3),
            switches: Some(0.5),
            server_connections: Some(15),
            server_accepted: Some(0),
            offered: None,
            capacity: None,
            without: None,
            held: None,
            held_kib: None,
            resumed: None,
        }
    }

    /// nginx leads at 64 connections in two rounds of three, HAProxy with a limit at 1024.
    fn results() -> Results {
        let mut results = Results::default();
        for (round, pace) in [(1, 1.0), (2, 2.0), (3, 0.5)] {
            for (case, juggler, nginx, limited) in [
                ("c64", 900.0, 1000.0, 800.0),
                ("c1024", 1300.0, 900.0, 1000.0),
            ] {
                results.runs.push(run(round, case, Juggler, juggler * pace));
                results
                    .runs
                    .push(run(round, case, Contender::Nginx, nginx * pace));
                results
                    .runs
                    .push(run(round, case, Contender::HaproxyMaxconn, limited * pace));
                results.runs.push(run(round, case, Direct, 5000.0 * pace));
            }
        }
        results
    }

    fn row<'a>(text: &'a str, section: &str, start: &str) -> Vec<&'a str> {
        let (_, rest) = text.split_once(&format!("## {section}\n")).unwrap();
        let line = rest
            .lines()
            .find(|line| line.starts_with(&format!("| {start}")))
            .unwrap();
        line.split('|')
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .collect()
    }

    #[test]
    fn where_a_peer_wins_the_table_says_so() {
        let text = text(&results());
        assert_eq!(
            row(&text, "Throughput", "64 connections"),
            [
                "64 connections, 1 KB",
                "900",
                "–",
                "**1000**",
                "–",
                "800",
                "5000",
                "0.90",
                "–"
            ]
        );
        assert_eq!(
            row(&text, "Throughput", "1024 connections"),
            [
                "1024 connections, 1 KB",
                "**1300**",
                "–",
                "900",
                "–",
                "1000",
                "5000",
                "1.30",
                "–"
            ]
        );
    }

    #[test]
    fn aims_are_judged_against_the_better_peer() {
        let text = text(&results());
        let aim = |start| row(&text, "Aims", start)[2..].to_vec();
        assert_eq!(
            aim("Throughput at 64"),
            ["≥ 0.95", "0.90", "nginx", "**missed**"]
        );
        assert_eq!(
            aim("Throughput at 1024"),
            ["≥ 1.2", "1.30", "HAProxy, maxconn", "met"]
        );
        assert_eq!(
            aim("CPU per request at 1024"),
            ["≤ 0.8", "0.77", "HAProxy, maxconn", "met"]
        );
        assert_eq!(aim("Throughput at 4096"), ["≥ 1", "–", "–", "not measured"]);
    }

    #[test]
    fn errors_and_missing_contenders_are_shown() {
        let mut results = results();
        assert!(!text(&results).contains("## Errors"));
        results.runs[0].errors.timeout = 7;
        results.left_out.push(LeftOut {
            contender: Some(Contender::Haproxy),
            case: Some("idle".to_owned()),
            why: "too many".to_owned(),
        });
        let text = text(&results);
        assert_eq!(
            row(&text, "Errors", "64 connections"),
            [
                "64 connections, 1 KB",
                "juggler",
                "0",
                "0",
                "0",
                "0",
                "7",
                "900"
            ]
        );
        assert!(text.contains("- HAProxy, idle: too many\n"), "{text}");
    }

    #[test]
    fn the_json_gives_the_same_report_again() {
        let results = results();
        let folder = tempfile::tempdir().unwrap();
        let json = folder.path().join("benchmarks/results.json");
        results.write(&json).unwrap();
        let again = Results::read(&json).unwrap();
        assert_eq!(text(&again), text(&results));
        write(&again, folder.path()).unwrap();
        let page = std::fs::read_to_string(folder.path().join("benchmarks.md")).unwrap();
        let charts: Vec<_> = page
            .lines()
            .filter_map(|line| line.split_once("]("))
            .collect();
        assert_eq!(charts.len(), 5, "{charts:?}");
        for (_, file) in charts {
            let svg =
                std::fs::read_to_string(folder.path().join(file.trim_end_matches(')'))).unwrap();
            assert!(svg.contains("<svg") && svg.contains("juggler"), "{file}");
        }
    }
}
