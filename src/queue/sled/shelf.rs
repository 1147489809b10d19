//! The generations of one queue on the disk: which there are, which are open, what each holds.
//!
//! `<queue>/<first sequence, 20 digits>/` is one generation. Few are open at a time, so memory does not follow the
//! backlog. A generation that is not written to carries its totals in a small file beside sled's, so that a start needs
//! not open it; that file is durably gone before the generation is written to again. The newest directory is never
//! removed before a newer one is durable: its name keeps sequences from being used again.
//!
//! Renaming to `.gone` comes before removing, and `.compact` becomes the generation only once it is complete, so a crash
//! leaves either the old or the new one; [`Shelf::load`] finishes what was begun. Blocking calls only.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk;
use super::generation::{Durability, Generation, Trouble};
use super::layout::{Shape, Stored, Totals, decode_small, encode_small};
use crate::queue::backend::Seq;

/// Sequences left out after a generation that cannot be read any more: more than it can ever have used.
const LEFT_OUT: Seq = 1 << 32;

/// The file with the totals of a generation that is not written to.
const NOTE: &str = "totals";

/// Says that a compacted generation is complete.
const COMPLETE: &str = "complete";

struct Slot {
    totals: Totals,
    open: Option<Arc<Generation>>,
    /// When it was last asked for.
    used: u64,
    /// Whether the file with the totals is there.
    is_noted: bool,
    /// Whether the totals may be wrong, because a write failed.
    is_doubtful: bool,
}

/// An opened generation, and its totals if they are not what was known.
pub(super) struct Opened {
    pub(super) generation: Arc<Generation>,
    pub(super) recounted: Option<Recounted>,
}

/// What a generation turned out to hold.
pub(super) struct Recounted {
    pub(super) totals: Totals,
    /// Records that should be there and are not.
    pub(super) missing: u64,
}

/// A generation that was set aside.
pub(super) struct Quarantined {
    pub(super) why: String,
    pub(super) kept_at: PathBuf,
}

/// See the module's documentation.
pub(super) struct Shelf {
    dir: PathBuf,
    shape: Shape,
    slots: BTreeMap<Seq, Slot>,
    uses: u64,
}

impl Shelf {
    /// Finds what is there; generations that cannot be read are set aside.
    pub(super) fn load(dir: &Path, shape: Shape) -> Result<(Self, Vec<Quarantined>), Trouble> {
        let mut shelf = Self { dir: dir.to_owned(), shape, slots: BTreeMap::new(), uses: 0 };
        shelf.finish_interrupted()?;
        let mut firsts: Vec<Seq> = names(dir)?.iter().filter_map(|name| parse_first(name)).collect();
        firsts.sort_unstable();
        let last = firsts.last().copied();
        let mut quarantined = Vec::new();
        for first in firsts {
            match shelf.load_slot(first) {
                Ok(slot) => {
                    shelf.slots.insert(first, slot);
                    // After a crash some were opened to count them. The next start need not do that again; if the note
                    // cannot be written, it does.
                    if Some(first) != last {
                        drop(shelf.note(first));
                    }
                    shelf.close_least_used();
                }
                Err(Trouble::Broken(why)) => quarantined.push(shelf.quarantine(first, why)?),
                Err(error) => return Err(error),
            }
        }
        Ok((shelf, quarantined))
    }

    fn load_slot(&self, first: Seq) -> Result<Slot, Trouble> {
        let path = self.path(first);
        let noted = fs::read(path.join(NOTE)).ok().and_then(|bytes| decode_small(&bytes));
        let is_noted = noted.is_some();
        let (totals, open) = match noted {
            Some(totals) => (totals, None),
            None if !path.join("begun").exists() => (Totals::empty(first), None),
            None => {
                let generation = Generation::open(&path, first, self.shape)?;
                (generation.totals(first)?, Some(Arc::new(generation)))
            }
        };
        Ok(Slot { totals, open, used: 0, is_noted, is_doubtful: false })
    }

    /// Ends removals and compactions that a crash interrupted.
    fn finish_interrupted(&self) -> io::Result<()> {
        for name in names(&self.dir)? {
            let path = self.dir.join(&name);
            if name.ends_with(".gone") {
                fs::remove_dir_all(path)?;
            } else if let Some(first) = name.strip_suffix(".compact").and_then(parse_first) {
                match path.join(COMPLETE).exists() {
                    true => self.replace_with_compact(first)?,
                    false => fs::remove_dir_all(path)?,
                }
            }
        }
        Ok(())
    }

    fn path(&self, first: Seq) -> PathBuf {
        self.dir.join(format!("{first:020}"))
    }

    /// The first sequence that was never used.
    pub(super) fn next(&self) -> io::Result<Seq> {
        let last = self.slots.values().next_back().map_or(1, |slot| slot.totals.next);
        let lost = names(&self.dir.join("quarantine")).unwrap_or_default();
        let lost = lost.iter().filter_map(|name| parse_first(name.split('.').next()?));
        Ok(lost.map(|first| first.saturating_add(LEFT_OUT)).fold(last, Seq::max))
    }

    /// The totals of each generation.
    pub(super) fn totals(&self) -> impl Iterator<Item = (Seq, Totals)> + '_ {
        self.slots.iter().map(|(first, slot)| (*first, slot.totals))
    }

    /// The newest generation.
    pub(super) fn last(&self) -> Option<(Seq, Totals)> {
        self.slots.iter().next_back().map(|(first, slot)| (*first, slot.totals))
    }

    /// Begins a generation; sled's files come with its first use.
    pub(super) fn create(&mut self, first: Seq) -> io::Result<()> {
        disk::create_dir(&self.path(first))?;
        let slot = Slot { totals: Totals::empty(first), open: None, used: 0, is_noted: false, is_doubtful: false };
        self.slots.insert(first, slot);
        Ok(())
    }

    /// Opens a generation for reading.
    pub(super) fn open(&mut self, first: Seq) -> Result<Opened, Trouble> {
        self.uses += 1;
        let path = self.path(first);
        let Some(slot) = self.slots.get_mut(&first) else {
            return Err(Trouble::Io("the generation is gone".to_owned()));
        };
        slot.used = self.uses;
        if let Some(generation) = &slot.open {
            return Ok(Opened { generation: Arc::clone(generation), recounted: None });
        }
        let generation = Arc::new(Generation::open(&path, first, self.shape)?);
        let mut totals = generation.totals(first)?;
        // sled takes what it cannot read at the end of its log for never written.
        let missing = slot.totals.holds.records.saturating_sub(totals.holds.records);
        totals.next = totals.next.max(slot.totals.next);
        let is_other = totals != slot.totals;
        slot.totals = totals;
        slot.is_doubtful = false;
        let recounted = is_other.then_some(Recounted { totals, missing });
        slot.open = Some(Arc::clone(&generation));
        self.close_least_used();
        Ok(Opened { generation, recounted })
    }

    /// Opens a generation for writing.
    pub(super) fn open_to_write(&mut self, first: Seq) -> Result<Opened, Trouble> {
        let opened = self.open(first)?;
        let path = self.path(first);
        if let Some(slot) = self.slots.get_mut(&first)
            && slot.is_noted
        {
            fs::remove_file(path.join(NOTE))?;
            disk::sync_dir(&path)?;
            slot.is_noted = false;
        }
        Ok(opened)
    }

    fn close_least_used(&mut self) {
        let last = self.slots.keys().next_back().copied();
        while self.slots.values().filter(|slot| slot.open.is_some()).count() > self.shape.most_open {
            let open = self.slots.iter_mut().filter(|(first, slot)| slot.open.is_some() && Some(**first) != last);
            let Some((_, slot)) = open.min_by_key(|(_, slot)| slot.used) else { return };
            slot.open = None;
        }
    }

    /// Notes what a generation holds after a write.
    pub(super) fn written(&mut self, first: Seq, totals: Totals) {
        if let Some(slot) = self.slots.get_mut(&first) {
            slot.totals = totals;
        }
    }

    /// What a generation holds.
    pub(super) fn totals_of(&self, first: Seq) -> Option<Totals> {
        self.slots.get(&first).map(|slot| slot.totals)
    }

    /// After a failed write: sled refuses everything until it is opened anew, and what it holds must be counted again.
    pub(super) fn doubt(&mut self, first: Seq) {
        if let Some(slot) = self.slots.get_mut(&first) {
            slot.open = None;
            slot.is_doubtful = true;
        }
    }

    /// Writes the totals beside a generation that will not be written to for a while.
    pub(super) fn note(&mut self, first: Seq) -> Result<(), Trouble> {
        let path = self.path(first);
        let Some(slot) = self.slots.get_mut(&first) else { return Ok(()) };
        if slot.is_noted || slot.is_doubtful || !path.join("db").exists() {
            return Ok(());
        }
        if let Some(generation) = &slot.open {
            generation.sync()?;
        }
        let mut file = File::create(path.join(NOTE))?;
        file.write_all(&encode_small(&slot.totals))?;
        file.sync_all()?;
        slot.is_noted = true;
        Ok(())
    }

    /// Removes a generation.
    pub(super) fn discard(&mut self, first: Seq) -> io::Result<()> {
        self.slots.remove(&first);
        self.remove(&self.path(first))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let gone = path.with_extension("gone");
        fs::rename(path, &gone)?;
        fs::remove_dir_all(gone)
    }

    /// Sets a generation aside.
    pub(super) fn quarantine(&mut self, first: Seq, why: String) -> io::Result<Quarantined> {
        self.slots.remove(&first);
        let dir = self.dir.join("quarantine");
        disk::create_dir(&dir)?;
        let free = |number: u32| match number {
            0 => dir.join(format!("{first:020}")),
            _ => dir.join(format!("{first:020}.{number}")),
        };
        let kept_at = (0..).map(free).find(|path| !path.exists()).unwrap_or_else(|| free(0));
        fs::rename(self.path(first), &kept_at)?;
        Ok(Quarantined { why, kept_at })
    }

    /// Writes what is left of a generation anew, so that the space of the rest comes back. Returns records that were
    /// damaged and left out.
    pub(super) fn compact(&mut self, first: Seq) -> Result<Vec<Stored>, Trouble> {
        let old = self.open(first)?.generation;
        let compact = self.path(first).with_extension("compact");
        if compact.exists() {
            fs::remove_dir_all(&compact)?;
        }
        let next = self.totals_of(first).map_or(first, |totals| totals.next);
        let (totals, damaged) = copy(&old, &Generation::open(&compact, first, self.shape)?, first, next)?;
        File::create(compact.join(COMPLETE))?.sync_all()?;
        disk::sync_dir(&compact)?;
        if let Some(slot) = self.slots.get_mut(&first) {
            slot.open = None;
            slot.is_noted = false;
            slot.totals = totals;
        }
        self.replace_with_compact(first)?;
        Ok(damaged)
    }

    fn replace_with_compact(&self, first: Seq) -> io::Result<()> {
        let path = self.path(first);
        let gone = path.with_extension("gone");
        if path.exists() {
            fs::rename(&path, &gone)?;
        }
        fs::rename(path.with_extension("compact"), &path)?;
        disk::sync_dir(&self.dir)?;
        fs::remove_file(path.join(COMPLETE))?;
        if gone.exists() { fs::remove_dir_all(gone) } else { Ok(()) }
    }

    /// Closes every generation, with its totals beside it.
    pub(super) fn close(&mut self) -> Result<(), Trouble> {
        let firsts: Vec<Seq> = self.slots.keys().copied().collect();
        let noted: Vec<_> = firsts.iter().map(|first| self.note(*first)).collect();
        self.slots.values_mut().for_each(|slot| slot.open = None);
        noted.into_iter().collect()
    }
}

/// Copies everything of one generation into another, a megabyte at a time.
fn copy(old: &Generation, new: &Generation, first: Seq, next: Seq) -> Result<(Totals, Vec<Stored>), Trouble> {
    let mut totals = Totals::empty(first);
    let mut damaged = Vec::new();
    loop {
        let stored = old.read(totals.next, next, 1_024, 1 << 20)?;
        let is_last = stored.is_empty();
        let mut change = new.change();
        for Stored { seq, retry, body } in stored {
            totals.next = seq;
            match body {
                Ok(record) => {
                    change.put(seq, &record);
                    retry.into_iter().for_each(|retry| change.put_retry(seq, record.payload.len(), retry));
                    totals.append(&record);
                }
                Err(damage) => {
                    totals.next += 1;
                    damaged.push(Stored { seq, retry, body: Err(damage) });
                }
            }
        }
        if is_last {
            totals.next = next;
        }
        new.commit(change, &totals, Durability::PowerCut)?;
        if is_last {
            return Ok((totals, damaged));
        }
    }
}

fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(dir)?;
    entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned())).collect()
}

/// The first sequence of a generation's directory name.
fn parse_first(name: &str) -> Option<Seq> {
    if name.len() == 20 { name.parse().ok() } else { None }
}
