//! The table, or one JSON object per line.

pub(crate) struct Report {
    json: bool,
    missed: usize,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        if !json {
            println!("{:<45} {:>12} {:>12} {:>8}  {:<18} verdict", "figure", "own driver", "stock", "ratio", "target");
        }
        Self { json, missed: 0 }
    }

    /// Less is better; `target` bounds own / stock.
    pub(crate) fn at_most(&mut self, name: &str, unit: &str, own: f64, stock: f64, target: Option<f64>) {
        let text = target.map(|target| format!("<= 1/{:.0} of stock", 1.0 / target));
        self.line(name, unit, own, Some(stock), text, target.map(|target| own / stock <= target));
    }

    /// More is better; `target` bounds own / stock.
    pub(crate) fn at_least(&mut self, name: &str, unit: &str, own: f64, stock: f64, target: Option<f64>) {
        let text = target.map(|target| format!(">= {target:.0} x stock"));
        self.line(name, unit, own, Some(stock), text, target.map(|target| own / stock >= target));
    }

    /// A count that has to be right.
    pub(crate) fn exactly(&mut self, name: &str, own: usize, target: usize) {
        self.line(name, "", own as f64, None, Some(format!("= {target}")), Some(own == target));
    }

    fn line(
        &mut self,
        name: &str,
        unit: &str,
        own: f64,
        stock: Option<f64>,
        target: Option<String>,
        met: Option<bool>,
    ) {
        self.missed += usize::from(met == Some(false));
        if self.json {
            let number = |value: Option<f64>| value.map_or_else(|| "null".to_owned(), |value| format!("{value:.4}"));
            println!(
                r#"{{"figure":"{name}","unit":"{unit}","own":{},"stock":{},"target":{},"met":{}}}"#,
                number(Some(own)),
                number(stock),
                target.map_or_else(|| "null".to_owned(), |target| format!(r#""{target}""#)),
                met.map_or_else(|| "null".to_owned(), |met| met.to_string()),
            );
            return;
        }
        let figure = |value: f64| {
            let digits = if unit.is_empty() {
                0
            } else if value < 10.0 {
                3
            } else {
                1
            };
            format!("{value:.digits$} {unit}")
        };
        println!(
            "{name:<45} {:>12} {:>12} {:>8}  {:<18} {}",
            figure(own),
            stock.map_or_else(|| "-".to_owned(), figure),
            stock.map_or_else(|| "-".to_owned(), |stock| format!("{:.3}", own / stock)),
            target.unwrap_or_default(),
            match met {
                Some(true) => "MET",
                Some(false) => "MISSED",
                None => "",
            },
        );
    }

    /// Ends the process with 1 if a target was missed.
    pub(crate) fn finish(self) {
        if self.missed > 0 {
            std::process::exit(1);
        }
    }
}
