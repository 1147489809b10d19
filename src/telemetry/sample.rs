//! Reading the program's own metrics back, as `/metrics` shows them: pages and service levels go by the same numbers as a
//! Prometheus does. Reads lines that this program wrote, no others.

/// One line of the text format.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample<'a> {
    /// The series' name, with `_bucket`, `_sum` or `_count` for histograms.
    pub name: &'a str,
    /// What stands between the braces.
    labels: &'a str,
    /// Its value.
    pub value: f64,
}

impl<'a> Sample<'a> {
    /// Reads a line; `None` for comments and empty ones.
    fn of_line(line: &'a str) -> Option<Self> {
        if line.starts_with('#') {
            return None;
        }
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}')?),
            None => (series, ""),
        };
        Some(Self { name, labels, value: value.parse().ok()? })
    }

    /// The value of a label; values are names of ours, without quotes or commas inside.
    pub fn label(&self, name: &str) -> Option<&'a str> {
        let mut pairs = self.labels.split(',').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.trim_matches('"'))
    }

    /// A counter's value: whole, however it is written.
    pub fn count(&self) -> u64 {
        // Saturates; counters are never negative.
        self.value as u64
    }
}

/// Every sample of a text.
pub fn samples(text: &str) -> impl Iterator<Item = Sample<'_>> {
    text.lines().filter_map(Sample::of_line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_and_without_labels() {
        let text = "# HELP a_total x\na_total 3\n\nb_bucket{le=\"0.5\",queue=\"ingest\"} 3e2\nbroken\nc{x=\"1\" 2\n";
        let read: Vec<Sample<'_>> = samples(text).collect();
        assert_eq!(read.len(), 2, "{read:?}");
        assert_eq!((read[0].name, read[0].count(), read[0].label("le")), ("a_total", 3, None));
        assert_eq!((read[1].name, read[1].count()), ("b_bucket", 300));
        assert_eq!(
            (read[1].label("le"), read[1].label("queue"), read[1].label("e")),
            (Some("0.5"), Some("ingest"), None)
        );
    }
}
