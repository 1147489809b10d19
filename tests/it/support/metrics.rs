//! Reading the Prometheus text format, as far as the program writes it.

/// One reading of `/metrics`.
pub struct Metrics(String);

impl Metrics {
    /// Takes the text.
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The sum of every series of `name` that carries all of `labels`; 0 when there is none yet.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.series(name, labels).map(|value| value as u64).sum()
    }

    fn series<'a>(&'a self, name: &'a str, labels: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = f64> + 'a {
        self.0.lines().filter(|line| !line.starts_with('#')).filter_map(move |line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, set) = series.split_once('{').unwrap_or((series, ""));
            let all = labels.iter().all(|(label, wanted)| set.contains(&format!("{label}=\"{wanted}\"")));
            if found == name && all { value.parse().ok() } else { None }
        })
    }

    /// Events that reached the process.
    pub fn received(&self) -> u64 {
        self.sum("mutt_events_received_total", &[])
    }

    /// Events on stable storage.
    pub fn committed(&self) -> u64 {
        self.sum("mutt_events_committed_total", &[])
    }

    /// Events not taken.
    pub fn dropped(&self) -> u64 {
        self.sum("mutt_events_dropped_total", &[])
    }

    /// Events judged.
    pub fn processed(&self) -> u64 {
        self.sum("mutt_alerter_events_processed_total", &[])
    }

    /// Items waiting in `queue`.
    pub fn depth(&self, queue: &str) -> u64 {
        self.sum("mutt_queue_depth", &[("queue", queue)])
    }
}
