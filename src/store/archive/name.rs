//! How archive files are called: `events-2026-01-31.ndjson.zst`, and `events-2026-01-31.2.ndjson.zst` for a day's second
//! file. No name is used twice. Pure.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::model::{Day, InvalidName};

/// The name of an archive file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName {
    /// The day of its events.
    pub day: Day,
    /// Which of the day's files, from 1.
    pub number: u32,
}

impl FileName {
    /// Its folder below the archive's: the year.
    pub(super) fn folder(self, archive: &Path) -> PathBuf {
        archive.join(format!("{:04}", self.day.year()))
    }

    /// Where it lies.
    pub(super) fn path(self, archive: &Path) -> PathBuf {
        self.folder(archive).join(self.to_string())
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "events-{}", self.day)?;
        if self.number > 1 {
            write!(f, ".{}", self.number)?;
        }
        f.write_str(".ndjson.zst")
    }
}

impl FromStr for FileName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let parsed = || {
            let middle = text.strip_prefix("events-")?.strip_suffix(".ndjson.zst")?;
            let (day, number) = match middle.split_once('.') {
                Some((day, number)) => (day, number.parse().ok()?),
                None => (middle, 1),
            };
            let name = Self { day: day.parse().ok()?, number };
            (name.to_string() == text).then_some(name)
        };
        parsed().ok_or_else(|| InvalidName {
            kind: "archive",
            text: text.chars().take(60).collect(),
            why: "archives are called events-2026-01-31.ndjson.zst",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_it_prints_and_nothing_else_is_one() {
        for text in ["events-2026-01-31.ndjson.zst", "events-2026-01-31.12.ndjson.zst"] {
            assert_eq!(text.parse::<FileName>().expect("a name").to_string(), text);
        }
        for text in [
            "events-2026-01-31.1.ndjson.zst",
            "events-2026-01-31.02.ndjson.zst",
            "events-2026-02-31.ndjson.zst",
            "../events-2026-01-31.ndjson.zst",
            "events-2026-01-31.ndjson.zst.partial",
            "",
        ] {
            assert!(text.parse::<FileName>().is_err(), "{text}");
        }
    }
}
