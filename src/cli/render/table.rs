//! Lists in columns.

use comfy_table::{ContentArrangement, Table, presets};

use super::style;

/// A table without lines: a header and rows.
pub fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.map(str::to_uppercase));
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text = table.to_string();
    let mut lines = text.lines().map(str::trim_end);
    let header = lines.next().map(style::dim);
    header.into_iter().chain(lines.map(str::to_owned)).collect::<Vec<_>>().join("\n")
}

/// Names and values, one pair a line, values aligned.
pub fn pairs<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let rows: Vec<_> = rows.into_iter().collect();
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let lines = rows.iter().map(|(name, value)| {
        let indent = format!("\n{:width$}  ", "");
        format!("{}  {}", style::label(format!("{name:width$}")), value.replace('\n', &indent))
    });
    lines.collect::<Vec<_>>().join("\n")
}
