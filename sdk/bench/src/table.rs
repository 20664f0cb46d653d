//! Printing what was measured.

use serde_json::json;

/// One figure.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) figure: String,
    /// Empty: none, it is there to be compared.
    pub(crate) target: String,
    pub(crate) value: String,
    pub(crate) met: bool,
    /// How it was measured, and against what.
    pub(crate) how: String,
}

impl Row {
    const fn verdict(&self) -> &'static str {
        match (self.target.is_empty(), self.met) {
            (true, _) => "",
            (_, true) => "MET",
            (_, false) => "MISSED",
        }
    }
}

/// As a Markdown table.
pub(crate) fn table(rows: &[Row]) {
    println!("| figure | target | value | verdict | how |");
    println!("|---|---|---|---|---|");
    for row in rows {
        println!("| {} | {} | {} | {} | {} |", row.figure, row.target, row.value, row.verdict(), row.how);
    }
}

/// As one JSON array.
pub(crate) fn json(rows: &[Row]) {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "figure": row.figure, "target": row.target, "value": row.value,
                "verdict": row.verdict(), "how": row.how,
            })
        })
        .collect();
    println!("{:#}", serde_json::Value::Array(rows));
}
