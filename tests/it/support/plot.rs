//! Draws what a process used over time, as an SVG.

use std::fmt::Write;
use std::path::Path;
use std::{fs, io};

/// What the process used at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Time since the beginning.
    pub(crate) seconds: f64,
    /// Memory in use.
    pub(crate) memory_kib: u64,
    pub(crate) threads: usize,
    pub(crate) files: usize,
}

/// Width and height of one curve's field, and the margin around the field.
const FIELD: (f64, f64, f64) = (800.0, 160.0, 60.0);

/// Writes three curves, one below the other, each from 0 to its greatest value.
pub(crate) fn write(path: &Path, samples: &[Sample]) -> io::Result<()> {
    let curves = [
        (
            "memory, MiB",
            samples
                .iter()
                .map(|one| one.memory_kib as f64 / 1024.0)
                .collect(),
        ),
        (
            "threads",
            samples.iter().map(|one| one.threads as f64).collect(),
        ),
        (
            "open files",
            samples
                .iter()
                .map(|one| one.files as f64)
                .collect::<Vec<_>>(),
        ),
    ];
    let (width, height, margin) = FIELD;
    let duration = samples.last().map_or(1.0, |last| last.seconds.max(1.0));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" \
         fill=\"white\"/>\n",
        width + 2.0 * margin,
        3.0 * (height + margin) + margin
    );
    for (place, (name, values)) in curves.iter().enumerate() {
        let top = margin + place as f64 * (height + margin);
        let most = values.iter().copied().fold(1.0, f64::max);
        let points: Vec<_> = samples
            .iter()
            .zip(values)
            .map(|(sample, value)| {
                let x = margin + width * sample.seconds / duration;
                format!("{x:.1},{:.1}", top + height - height * value / most)
            })
            .collect();
        // Writing to a string cannot fail.
        let _ = write!(
            svg,
            "<text x=\"{margin}\" y=\"{:.0}\">{name}: at most {most:.0}</text>\n<rect \
             x=\"{margin}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" fill=\"none\" \
             stroke=\"#bbb\"/>\n<polyline points=\"{}\" fill=\"none\" stroke=\"#1f6fb4\" \
             stroke-width=\"1.5\"/>\n",
            top - 8.0,
            points.join(" ")
        );
    }
    // Writing to a string cannot fail.
    let _ = write!(
        svg,
        "<text x=\"{margin}\" y=\"{:.0}\">0 to {duration:.0} s</text>\n</svg>\n",
        3.0 * (height + margin) + margin / 2.0
    );
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, svg)
}
