//! Tables for terminals: plain text, no colour.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Table};

use cutplane_units::Nanos;

use crate::chart::axis::grouped;
use crate::compare::CompareRow;

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A table with a header and aligned columns; no column is wider than its longest cell. With a `width`, text wraps so
/// that no line is longer, as far as that goes: numbers stay whole.
pub fn table(columns: &[(&str, Align)], rows: &[Vec<String>], width: Option<u16>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING.header_separator(LineStyle::none().fill('─')));
    table.set_header(columns.iter().map(|(name, _)| *name));
    table.add_rows(rows.iter().cloned());
    for (index, (_, align)) in columns.iter().enumerate() {
        let Some(column) = table.column_mut(index) else { continue };
        column.set_cell_alignment(if *align == Align::Left { CellAlignment::Left } else { CellAlignment::Right });
        if *align == Align::Right {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
    }
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Plans side by side; `*` marks the chosen one. As wide as the terminal when `COLUMNS` says how wide that is.
pub fn compare_table(rows: &[CompareRow]) -> String {
    let width = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    compare_table_within(rows, width)
}

/// [`compare_table`] for a given width in characters; `None` for as wide as it gets.
pub fn compare_table_within(rows: &[CompareRow], width: Option<u16>) -> String {
    use Align::{Left, Right};
    let columns = [
        ("plan", Left),
        ("", Left),
        ("predicted", Right),
        ("measured", Right),
        ("error", Right),
        ("tokens/s", Right),
        ("memory p", Right),
        ("memory m", Right),
    ];
    let time = time_format(rows);
    table(&columns, &rows.iter().map(|row| cells(row, time)).collect::<Vec<_>>(), width)
}

/// One unit for all times of a table where that keeps three digits: milliseconds between 10 ms and 10 s.
fn time_format(rows: &[CompareRow]) -> fn(Nanos) -> String {
    let mut times = rows.iter().flat_map(|row| [row.predicted_step.get(), row.measured_step.get()]);
    if times.all(|time| (10_000_000..10_000_000_000).contains(&time)) {
        return |time| match time.as_millis_f64() {
            ms if ms < 100.0 => format!("{ms:.1} ms"),
            ms => format!("{} ms", grouped(&format!("{ms:.0}"))),
        };
    }
    |time| time.to_string()
}

fn cells(row: &CompareRow, time: fn(Nanos) -> String) -> Vec<String> {
    vec![
        row.name.clone(),
        if row.chosen { "*" } else { "" }.to_owned(),
        time(row.predicted_step),
        time(row.measured_step),
        format!("{:+.1}%", row.error() * 100.0),
        grouped(&format!("{:.0}", row.tokens_per_second())),
        row.predicted_memory.to_string(),
        row.measured_memory.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use cutplane_units::Bytes;

    fn rows() -> Vec<CompareRow> {
        let row = |name: &str, chosen, predicted, measured| CompareRow {
            name: name.to_owned(),
            chosen,
            predicted_step: Nanos::new(predicted),
            measured_step: Nanos::new(measured),
            measured_mad: Nanos::ZERO,
            tokens_per_step: 8192,
            predicted_memory: Bytes::new(300 << 20),
            measured_memory: Bytes::new(310 << 20),
        };
        vec![row("single", false, 812_000_000, 797_000_000), row("data-parallel x2", true, 421_000_000, 414_000_000)]
    }

    #[test]
    fn the_comparison_reads_like_this() {
        let expected = [
            " plan                 predicted  measured  error  tokens/s  memory p  memory m",
            "───────────────────────────────────────────────────────────────────────────────",
            " single                  812 ms    797 ms  +1.9%    10,279   300 MiB   310 MiB",
            " data-parallel x2  *     421 ms    414 ms  +1.7%    19,787   300 MiB   310 MiB",
        ];
        assert_eq!(compare_table_within(&rows(), None).lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_narrow_terminal_wraps_names_and_keeps_numbers_whole() {
        let text = compare_table_within(&rows(), Some(74));
        assert!(text.lines().all(|line| line.chars().count() <= 74), "{text}");
        for word in ["single", "797 ms", "19,787", "+1.7%", "310 MiB", "data-"] {
            assert!(text.contains(word), "{word} in\n{text}");
        }
    }

    #[test]
    fn times_share_a_unit_where_they_can() {
        let mut rows = rows();
        rows[0].measured_step = Nanos::new(1_597_000_000);
        assert!(compare_table_within(&rows, None).contains(" 1,597 ms "));
        rows[0].measured_step = Nanos::new(15_970_000_000);
        assert!(compare_table_within(&rows, None).contains(" 16.0 s "));
    }

    #[test]
    fn no_rows_make_a_header_only() {
        assert_eq!(compare_table_within(&[], None).lines().count(), 2);
    }
}
