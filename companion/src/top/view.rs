//! A sample as a screen, and as text.

use std::fmt::Write;

use anyhow::Result;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table};

use crate::watch::Sample;

/// A table: its title, the heads of its columns, and its rows. The first column is text, the others are numbers.
struct Part {
    title: &'static str,
    heads: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

fn parts(sample: &Sample) -> [Part; 5] {
    let rates = sample.rates.iter().map(|rate| {
        let [admitted, refused] = [rate.admitted_per_second, rate.refused_per_second];
        vec![rate.what.to_owned(), format!("{admitted:.1}"), format!("{refused:.1}")]
    });
    let by = sample.refused_by.iter().map(|(by, count)| vec![by.clone(), count.to_string()]);
    let refused = sample
        .refused
        .iter()
        .map(|row| vec![format!("{} ({})", row.key, row.by), row.last_minute.to_string(), row.last_hour.to_string()]);
    let spenders =
        sample.spenders.iter().map(|row| vec![row.key.clone(), row.last_minute.clone(), row.last_hour.clone()]);
    let queues = sample.queues.iter().map(|row| {
        let numbers = [row.length, row.leased, row.dead].map(|number| number.to_string());
        let oldest = format!("{:.1} s", row.oldest_age_ms as f64 / 1_000.0);
        let rates = [row.pushed_per_minute, row.acked_per_minute].map(|number| number.to_string());
        [vec![row.key.clone()], numbers.to_vec(), vec![oldest], rates.to_vec()].concat()
    });
    let part = |title, heads: &[&'static str], rows: Vec<_>| Part { title, heads: heads.to_vec(), rows };
    [
        part("Calls a second", &["", "admitted", "refused"], rates.collect()),
        part("Refused by, last minute", &["policy or command", "refusals"], by.collect()),
        part("Refused most", &["key", "minute", "hour"], refused.collect()),
        part("Charged most, USD", &["key", "minute", "hour"], spenders.collect()),
        part("Log queues", &["key", "waiting", "leased", "dead", "oldest", "in/min", "out/min"], queues.collect()),
    ]
}

fn headline(sample: &Sample) -> String {
    let hits = sample.hit_rate.map_or("no cache reads".to_owned(), |rate| format!("{:.1} % cache hits", rate * 100.0));
    let nodes = match sample.nodes.as_slice() {
        [node] => node.clone(),
        nodes => format!("{} primaries", nodes.len()),
    };
    format!("{nodes} | {} USD/min | {hits} | {} USD saved by the cache", sample.usd_per_minute, sample.usd_saved)
}

/// For `--once`.
pub fn text(sample: &Sample) -> String {
    let mut out = headline(sample) + "\n";
    for Part { title, heads, rows } in parts(sample) {
        let _ = writeln!(out, "\n{title}");
        let lines: Vec<Vec<String>> =
            [heads.iter().map(ToString::to_string).collect()].into_iter().chain(rows).map(safe).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..heads.len()).map(width).collect();
        for line in &lines {
            let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            let _ = writeln!(out, "  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
    }
    out
}

/// Keys may contain what a terminal would obey.
fn safe(cells: Vec<String>) -> Vec<String> {
    let replace = |cell: String| cell.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    cells.into_iter().map(replace).collect()
}

/// The last sample, or why there is none.
pub fn draw(frame: &mut Frame, shown: &Result<Sample>) {
    let [head, body] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(frame.area());
    match shown {
        Err(error) => {
            let message = safe(vec![format!("{error:#}")]).concat();
            frame.render_widget(Paragraph::new(Line::from(message).red()), head);
            frame.render_widget(Paragraph::new("trying again; q to quit"), body);
        }
        Ok(sample) => {
            frame.render_widget(Paragraph::new(Line::from(headline(sample)).bold()), head);
            draw_parts(frame, body, parts(sample));
        }
    }
}

fn draw_parts(frame: &mut Frame, body: Rect, [rates, by, refused, spenders, queues]: [Part; 5]) {
    let [first, second, third] =
        Layout::vertical([Constraint::Length(8), Constraint::Fill(1), Constraint::Fill(1)]).areas(body);
    let halves = |area| Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas::<2>(area);
    let ([left, right], [lower_left, lower_right]) = (halves(first), halves(second));
    for (area, part) in [(left, rates), (right, by), (lower_left, refused), (lower_right, spenders), (third, queues)] {
        let numbers = part.heads.len() - 1;
        let widths = [Constraint::Fill(1)].into_iter().chain((0..numbers).map(|_| Constraint::Length(10)));
        let row = |cells: Vec<String>| {
            Row::new(safe(cells).into_iter().enumerate().map(|(column, text)| match column {
                0 => Cell::from(text),
                _ => Cell::from(Line::from(text).right_aligned()),
            }))
        };
        let head = row(part.heads.iter().map(ToString::to_string).collect()).style(Style::new().dim());
        let table = Table::new(part.rows.into_iter().map(row), widths).header(head);
        frame.render_widget(table.block(Block::bordered().title(part.title)), area);
    }
}
