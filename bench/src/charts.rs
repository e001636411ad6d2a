//! The charts of the report, as SVG with a background of their own, for light and dark pages.

use std::fmt::Display;
use std::path::Path;

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use crate::cases::CASES;
use crate::contenders::Contender;
use crate::problem::{Outcome, Problem, about};
use crate::results::{PERCENTILES, Results, Run};
use crate::view::{View, cpu, rate};

const SIZE: (u32, u32) = (900, 500);
const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(225, 225, 225);
const FONT: &str = "sans-serif";

/// The points of one contender.
#[derive(Debug)]
struct Series {
    contender: Contender,
    points: Vec<(f64, f64)>,
}

/// The labels of the axes.
struct Axes<'a> {
    title: &'a str,
    x: &'a str,
    y: &'a str,
    /// The labels of the x axis.
    ticks: Vec<f64>,
    x_label: &'a dyn Fn(&f64) -> String,
    /// Whether the y axis is logarithmic, too.
    log_y: bool,
    /// The place of the legend, away from the lines.
    legend: SeriesLabelPosition,
}

/// A chart that has been drawn.
#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) file: &'static str,
    pub(crate) title: String,
}

/// Draws every chart that has figures.
pub(crate) fn draw(results: &Results, folder: &Path) -> Outcome<Vec<Chart>> {
    let view = View(results);
    let mut drawn = Vec::new();
    let mut add =
        |file: &'static str, title: String, axes: &Axes<'_>, series: Vec<Series>| -> Outcome<()> {
            if !series.is_empty() {
                plot(&folder.join(file), axes, &series)?;
                drawn.push(Chart { file, title });
            }
            Ok(())
        };
    let connections = |x: &f64| format!("{x:.0}");
    let ticks: Vec<_> = CASES
        .iter()
        .filter(|case| case.is_in_series() && view.has(case.id))
        .map(|case| case.connections() as f64)
        .collect();
    for (file, title, y, figure) in [
        (
            "throughput.svg",
            "Throughput, 1 KB",
            "requests per second",
            rate as fn(&Run) -> Option<f64>,
        ),
        (
            "cpu.svg",
            "CPU time for each request, 1 KB",
            "microseconds, user and system",
            cpu,
        ),
        (
            "memory.svg",
            "Memory for each connection, 1 KB",
            "KiB at the peak, over what it takes at rest",
            memory,
        ),
    ] {
        let axes = Axes {
            title,
            x: "connections of clients",
            y,
            ticks: ticks.clone(),
            x_label: &connections,
            log_y: file == "memory.svg",
            legend: match file {
                "throughput.svg" => SeriesLabelPosition::UpperLeft,
                "memory.svg" => SeriesLabelPosition::UpperRight,
                _ => SeriesLabelPosition::UpperMiddle,
            },
        };
        add(
            file,
            title.to_owned(),
            &axes,
            over_connections(view, figure),
        )?;
    }
    for (case, file) in [
        ("c64", "latency-64.svg"),
        ("c1024", "latency-1024.svg"),
        ("open-80", "latency-open.svg"),
    ] {
        let title = match case {
            "c64" => "Latency at 64 connections, 1 KB",
            "c1024" => "Latency at 1024 connections, 1 KB",
            _ => "Latency at 80 % of capacity, open loop, 1 KB",
        };
        let axes = Axes {
            title,
            x: "percentile",
            y: "milliseconds",
            ticks: vec![2.0, 10.0, 100.0, 1000.0, 10_000.0],
            x_label: &percentile,
            log_y: true,
            legend: SeriesLabelPosition::UpperLeft,
        };
        add(file, title.to_owned(), &axes, distribution(view, case))?;
    }
    Ok(drawn)
}

/// Peak memory minus memory at rest, per connection, in KiB.
fn memory(run: &Run) -> Option<f64> {
    let connections = crate::cases::by_id(&run.case)?.connections();
    let kib = run.peak_kib?.saturating_sub(run.rest_kib?);
    (kib > 0).then(|| kib as f64 / connections as f64)
}

fn over_connections(view: View<'_>, figure: fn(&Run) -> Option<f64>) -> Vec<Series> {
    let series = |contender: &Contender| {
        let points: Vec<_> = CASES
            .iter()
            .filter(|case| case.is_in_series())
            .filter_map(|case| {
                Some((
                    case.connections() as f64,
                    view.median(case.id, *contender, figure)?,
                ))
            })
            .collect();
        (!points.is_empty()).then_some(Series {
            contender: *contender,
            points,
        })
    };
    Contender::ALL.iter().filter_map(series).collect()
}

/// Medians of each percentile from the 50th on. The x axis is the number of requests of which one
/// takes longer.
fn distribution(view: View<'_>, case: &str) -> Vec<Series> {
    let series = |contender: &Contender| {
        let points: Vec<_> = PERCENTILES
            .iter()
            .enumerate()
            .filter(|(_, percentile)| (50.0..100.0).contains(*percentile))
            .filter_map(|(index, percentile)| {
                let runs = view
                    .0
                    .runs
                    .iter()
                    .filter(|run| run.case == case && run.contender == *contender);
                let us = crate::stats::median(
                    runs.filter_map(|run| run.latency_us.get(index))
                        .map(|us| *us as f64),
                )?;
                Some((100.0 / (100.0 - percentile), (us / 1000.0).max(0.001)))
            })
            .collect();
        (!points.is_empty()).then_some(Series {
            contender: *contender,
            points,
        })
    };
    Contender::ALL.iter().filter_map(series).collect()
}

fn percentile(one_in: &f64) -> String {
    let percentile = 100.0 - 100.0 / one_in;
    // No more digits than needed.
    let text = format!("{percentile:.3}");
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// The colour of a contender, the same in all charts.
fn colour(contender: Contender) -> RGBColor {
    // Colours that colour-blind readers can tell apart, too (Okabe and Ito).
    match contender {
        Contender::Juggler => RGBColor(213, 94, 0),
        Contender::JugglerPipeline => RGBColor(230, 159, 0),
        Contender::Nginx => RGBColor(0, 158, 115),
        Contender::Haproxy => RGBColor(0, 114, 178),
        Contender::HaproxyMaxconn => RGBColor(86, 180, 233),
        Contender::Direct => RGBColor(120, 120, 120),
    }
}

fn plot(file: &Path, axes: &Axes<'_>, series: &[Series]) -> Outcome<()> {
    let points = || series.iter().flat_map(|one| &one.points);
    let most = points().map(|(_, y)| *y).fold(0.0, f64::max);
    let least = points().map(|(_, y)| *y).fold(f64::INFINITY, f64::min);
    let y = if axes.log_y {
        // From one power of ten to another, so that there are labels at both ends.
        (
            10f64.powf(least.log10().floor()),
            10f64.powf(most.log10().ceil()).max(least * 10.0),
        )
    } else {
        // Room for the legend.
        (0.0, most * 1.3)
    };
    let drawn = if axes.log_y {
        plot_on(file, axes, series, (y.0..y.1).log_scale())
    } else {
        plot_on(file, axes, series, y.0..y.1)
    };
    drawn.map_err(|text| Problem::new(format!("{}: {text}", file.display())))
}

fn plot_on<Y>(file: &Path, axes: &Axes<'_>, series: &[Series], y: Y) -> Result<(), String>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let ticks = &axes.ticks;
    let (first, last) = (
        ticks.first().copied().unwrap_or(1.0),
        ticks.last().copied().unwrap_or(2.0),
    );
    let x = (first * 0.85..last.max(first * 2.0) * 1.2)
        .log_scale()
        .with_key_points(ticks.clone());

    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(text)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(axes.title, (FONT, 22).into_font().color(&INK))
        .margin(15)
        .x_label_area_size(50)
        .y_label_area_size(80)
        .build_cartesian_2d(x, y)
        .map_err(text)?;
    chart
        .configure_mesh()
        .axis_style(INK)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .label_style((FONT, 14).into_font().color(&INK))
        .axis_desc_style((FONT, 15).into_font().color(&INK))
        .x_desc(axes.x)
        .y_desc(axes.y)
        .x_label_formatter(axes.x_label)
        .y_label_formatter(&|value| {
            crate::table::figure(*value)
                .trim_end_matches(".00")
                .to_owned()
        })
        .draw()
        .map_err(text)?;
    for one in series {
        let style = colour(one.contender).stroke_width(2);
        chart
            .draw_series(LineSeries::new(one.points.iter().copied(), style))
            .map_err(text)?
            .label(one.contender.label())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], style.stroke_width(3)));
        chart
            .draw_series(
                one.points
                    .iter()
                    .map(|point| Circle::new(*point, 3, style.filled())),
            )
            .map_err(text)?;
    }
    chart
        .configure_series_labels()
        .position(axes.legend.clone())
        .background_style(WHITE.mix(0.9))
        .border_style(GRID)
        .legend_area_size(32)
        .margin(8)
        .label_font((FONT, 14).into_font().color(&INK))
        .draw()
        .map_err(text)?;
    root.present().map_err(text)
}

fn text(error: impl Display) -> String {
    error.to_string()
}

/// Makes the folder of the charts.
pub(crate) fn folder(out: &Path) -> Outcome<std::path::PathBuf> {
    let folder = out.join("benchmarks");
    std::fs::create_dir_all(&folder).map_err(about(folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn percentiles_are_named_by_what_lies_above_them() {
        let names = [2.0, 10.0, 100.0, 1000.0, 10_000.0].map(|one_in| percentile(&one_in));
        assert_eq!(names, ["50 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }

    #[test]
    fn everybody_has_a_colour() {
        let colours: HashSet<_> = Contender::ALL
            .iter()
            .map(|one| colour(*one).rgb())
            .collect();
        assert_eq!(colours.len(), Contender::ALL.len());
    }
}
