//! The archive: days that have left the audit, one compressed file each, for years.
//!
//! **Files.** `YYYY/events-YYYY-MM-DD.ndjson.zst`, further ones of the same day numbered. A file is zstd frames of about a
//! mebibyte of lines ([`record`]) and, last, a skippable frame with an index ([`index`]); `zstdcat` gives the lines, and
//! nothing of this program is needed to read them. Files are never changed: what has to be taken out of one makes another.
//!
//! **Manifest.** Everything that is done is a line of a hash chain ([`manifest`]), and what there is follows from the lines
//! alone. The order of work is always the same: write into `unfinished/`, sync, read back and compare, enter into the
//! manifest, move into place. So after a crash a file in `unfinished/` either is known and only has to be moved, or
//! was never answered for and is thrown away; a file in its place that the manifest once had and has no more is deleted. See [`Archive::recover`].
//!
//! It never removes an event from anywhere else. A disk that is full fails the call and leaves everything as it was.

mod index;
mod manifest;
mod name;
mod reader;
mod record;
mod search;
mod writer;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

pub use index::{Frame, Index};
pub use manifest::{Act, Entry, FileState, Manifest, Reason};
pub use name::FileName;
pub use reader::{ReadFault, Reader, read_back};
pub use record::{DamagedRow, EventIdText, Record, SCHEMA};
pub use search::ArchiveHits;
pub use writer::{FileFacts, Writer};

use super::sqlite::TrailKey;
use super::{StoreError, StoreResult};
use crate::clock::Clock;
use crate::model::{Day, Timestamp};

/// What the archive is called in errors and logs.
const STORE: &str = "archive";
/// What is said of a file that is whole and not the one that was archived.
const ANOTHER: &str = "it is not what the manifest says";
/// Where files are written before they have their place.
const UNFINISHED: &str = "unfinished";

/// The archive of one node.
#[derive(Debug)]
pub struct Archive {
    folder: PathBuf,
    manifest: Mutex<Manifest>,
    clock: Clock,
}

/// What taking events out of a file came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// The file that stands in its place; none if nothing was left.
    pub file: Option<FileFacts>,
    /// Events that were taken out.
    pub removed: u64,
}

/// What does not fit between manifest and files.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ArchiveFault {
    /// The file; none if the manifest is at fault.
    pub name: Option<String>,
    /// What is wrong.
    pub why: String,
}

impl Archive {
    /// Opens the archive in `folder`, which is made if it is not there. `key` is that of the change log beside it.
    pub fn open(folder: &Path, key: TrailKey, clock: Clock) -> StoreResult<Self> {
        let opened = fs::create_dir_all(folder.join(UNFINISHED)).and_then(|()| Manifest::open(folder, key));
        let manifest = opened.map_err(|error| unavailable(&format!("folder `{}`", folder.display()), &error))?;
        if let Some(doubt) = &manifest.doubt {
            tracing::error!(
                "The manifest of the archive is in doubt: {doubt}; nothing is archived or deleted until it is accepted, see RETENTION.md"
            );
        }
        Ok(Self { folder: folder.to_owned(), manifest: Mutex::new(manifest), clock })
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is wrong with the manifest.
    pub fn doubt(&self) -> Option<String> {
        self.manifest.lock().doubt.clone()
    }

    /// Refuses what must not be done while the manifest is in doubt.
    pub fn trusted(&self) -> StoreResult<()> {
        match self.doubt() {
            None => Ok(()),
            Some(doubt) => Err(StoreError::Unavailable {
                store: STORE.to_owned(),
                why: format!(
                    "its manifest is in doubt: {doubt}; look at `muttd archive verify`, then accept it with `muttd archive accept`"
                ),
            }),
        }
    }

    /// Every file there is, oldest day first.
    pub fn files(&self) -> Vec<FileState> {
        self.manifest.lock().state.files.values().cloned().collect()
    }

    /// One file.
    pub fn file(&self, name: FileName) -> Option<FileState> {
        self.manifest.lock().state.files.get(&name).cloned()
    }

    /// Files and their bytes.
    pub fn size(&self) -> (u64, u64) {
        let manifest = self.manifest.lock();
        let bytes = manifest.state.files.values().map(|file| file.facts.bytes).sum();
        (manifest.state.files.len() as u64, bytes)
    }

    /// Lines of the manifest and the hash of the last one.
    pub fn head(&self) -> (u64, String) {
        let manifest = self.manifest.lock();
        (manifest.state.entries, manifest.state.head.clone())
    }

    /// Every line of the manifest, oldest first.
    pub fn entries(&self) -> StoreResult<Vec<Entry>> {
        let found = self.manifest.lock().entries();
        match found {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            found => found.map_err(|error| unavailable("the manifest", &error)),
        }
    }

    /// Where a file lies.
    pub fn path(&self, name: FileName) -> PathBuf {
        name.path(&self.folder)
    }

    /// Opens a file for reading. One that lies there in the place of the one that the manifest knows is no more opened than
    /// one that is cut off; that its lines are what they were is only known when they are read.
    pub fn read(&self, name: FileName) -> Result<Reader, ReadFault> {
        let reader = Reader::open(&self.path(name))?;
        match self.file(name) {
            Some(file) if !reader.claims(&file.facts) => Err(ReadFault::Damaged(ANOTHER.to_owned())),
            _ => Ok(reader),
        }
    }

    /// Brings files and manifest together after a crash. To be called before anything is written, by one caller at a time.
    pub fn recover(&self) -> StoreResult<()> {
        self.look()?;
        self.trusted()?;
        self.tidy().map_err(|error| unavailable("tidying up", &error))
    }

    /// Whether the manifest is still the one that was read and written.
    fn look(&self) -> StoreResult<()> {
        self.manifest.lock().look().map_err(|error| unavailable("the manifest", &error))
    }

    fn tidy(&self) -> io::Result<()> {
        let manifest = self.manifest.lock();
        let unfinished = self.folder.join(UNFINISHED);
        fs::create_dir_all(&unfinished)?;
        for entry in fs::read_dir(&unfinished)? {
            let (entry, path) = entry.map(|entry| (entry.file_name(), entry.path()))?;
            let name = entry.to_str().and_then(|name| name.parse::<FileName>().ok());
            match name {
                Some(name) if manifest.state.files.contains_key(&name) => self.place(&path, name)?,
                _ => fs::remove_file(&path)?,
            }
        }
        for name in self.lying()? {
            if !manifest.state.files.contains_key(&name) && manifest.state.knew(name) {
                fs::remove_file(self.path(name))?;
            }
        }
        Ok(())
    }

    /// The archive files that lie in their places, whether the manifest knows them or not.
    fn lying(&self) -> io::Result<Vec<FileName>> {
        let mut names = Vec::new();
        for year in fs::read_dir(&self.folder)? {
            let year = year?.path();
            let is_year =
                year.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<i32>().is_ok());
            if !is_year {
                continue;
            }
            for entry in fs::read_dir(&year)? {
                names.extend(entry?.file_name().to_str().and_then(|name| name.parse::<FileName>().ok()));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn place(&self, from: &Path, name: FileName) -> io::Result<()> {
        let folder = name.folder(&self.folder);
        if !folder.exists() {
            fs::create_dir_all(&folder)?;
            File::open(&self.folder)?.sync_all()?;
        }
        fs::rename(from, name.path(&self.folder))?;
        point("file placed");
        File::open(&folder)?.sync_all()
    }

    /// Begins the next file of `day`. Only one file is written at a time.
    pub fn create(&self, day: Day) -> StoreResult<Writer> {
        self.trusted()?;
        let name = self.manifest.lock().state.next_name(day);
        let created = Writer::create(&self.folder.join(UNFINISHED), &name.to_string(), day);
        created.map_err(|error| unavailable(&name.to_string(), &error))
    }

    /// Finishes a file, reads it back from the disk, compares it, and enters it. After an error nothing of it is left.
    pub fn commit(&self, writer: Writer, pace: &dyn Fn()) -> StoreResult<FileFacts> {
        let facts = self.finish(writer, pace)?;
        self.enter(&facts, Act::Archived { file: facts.clone() })?;
        Ok(facts)
    }

    /// Adds a line to a file; after an error the file is gone.
    pub fn push(&self, writer: &mut Writer, record: &Record) -> StoreResult<()> {
        writer.push(record).map_err(|error| {
            self.throw_away();
            unavailable("writing a file", &error)
        })
    }

    fn finish(&self, writer: Writer, pace: &dyn Fn()) -> StoreResult<FileFacts> {
        let finished = writer.finish().and_then(|(path, facts)| {
            reader::forget_cached(&path)?;
            point("file synced");
            Ok((path, facts))
        });
        let (path, facts) = finished.map_err(|error| {
            self.throw_away();
            unavailable("writing a file", &error)
        })?;
        let read = read_back(&path, &facts.name, |_| {
            pace();
            Ok(())
        });
        let why = match read {
            Ok(read) if read == facts => return Ok(facts),
            Ok(_) => "what the disk gives back is not what was written".to_owned(),
            Err(fault) => fault.to_string(),
        };
        self.throw_away();
        Err(StoreError::Unavailable {
            store: STORE.to_owned(),
            why: format!("`{}` was written and {why}; nothing was removed", facts.name),
        })
    }

    /// Empties the folder of unfinished files. What cannot be removed is removed by the next run.
    fn throw_away(&self) {
        let entries = fs::read_dir(self.folder.join(UNFINISHED)).into_iter().flatten().filter_map(Result::ok);
        for entry in entries {
            let _ = fs::remove_file(entry.path());
        }
    }

    /// Enters an act that makes a file, and gives the file its place.
    fn enter(&self, facts: &FileFacts, act: Act) -> StoreResult<()> {
        let told = |error: io::Error| unavailable(&facts.name, &error);
        let name: FileName = facts.name.parse().map_err(|error| StoreError::Invalid(format!("{error}")))?;
        let mut manifest = self.manifest.lock();
        manifest.append(self.clock.now(), act).map_err(told)?;
        self.place(&self.folder.join(UNFINISHED).join(&facts.name), name).map_err(told)
    }

    /// Enters that something else was done.
    pub fn note(&self, act: Act) -> StoreResult<()> {
        let noted = self.manifest.lock().append(self.clock.now(), act);
        noted.map(drop).map_err(|error| unavailable("the manifest", &error))
    }

    /// Deletes a file with all that is in it.
    pub fn delete(&self, name: FileName, reason: Reason) -> StoreResult<FileFacts> {
        let Some(file) = self.file(name) else { return Err(not_found(name)) };
        self.note(Act::Deleted { name: name.to_string(), reason, rows: file.facts.rows })?;
        self.unlink(name)?;
        Ok(file.facts)
    }

    fn unlink(&self, name: FileName) -> StoreResult<()> {
        let unlinked = match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => File::open(name.folder(&self.folder)).and_then(|folder| folder.sync_all()),
        };
        point("file deleted");
        unlinked.map_err(|error| unavailable(&name.to_string(), &error))
    }

    /// Writes a file anew without the events that `keep` does not want, and puts it in the place of the old one. A file of
    /// which everything is kept is left alone.
    pub fn rewrite(
        &self,
        name: FileName,
        reason: Reason,
        keep: &dyn Fn(&Record) -> bool,
        pace: &dyn Fn(),
    ) -> StoreResult<Rewrite> {
        let Some(old) = self.file(name) else { return Err(not_found(name)) };
        let read = self.read(name).map_err(|fault| fault_of(name, &fault))?;
        let mut writer = self.create(name.day)?;
        let mut removed = 0;
        let mut any = false;
        read.each(&old.facts, |records| {
            pace();
            for record in records {
                if keep(&record) {
                    self.push(&mut writer, &record)?;
                } else {
                    any = true;
                    removed += u64::from(!matches!(record, Record::Notes(..)));
                }
            }
            Ok::<(), RewriteFault>(())
        })
        .map_err(|fault| match fault {
            RewriteFault::Store(error) => error,
            RewriteFault::Read(fault) => {
                self.throw_away();
                fault_of(name, &fault)
            }
        })?;
        if !any {
            self.throw_away();
            return Ok(Rewrite { file: Some(old.facts), removed: 0 });
        }
        let file = if writer.is_empty() {
            self.throw_away();
            None
        } else {
            Some(self.finish(writer, pace)?)
        };
        let act = Act::Rewritten { name: name.to_string(), file: file.clone(), reason, removed };
        match &file {
            Some(facts) => self.enter(facts, act)?,
            None => self.note(act)?,
        }
        self.unlink(name)?;
        Ok(Rewrite { file, removed })
    }

    /// Reads the whole of a file and compares it with the manifest.
    pub fn verify(&self, name: FileName, pace: &dyn Fn()) -> StoreResult<Option<ArchiveFault>> {
        let Some(file) = self.file(name) else { return Err(not_found(name)) };
        let path = self.path(name);
        let read = reader::forget_cached(&path).map_err(ReadFault::from).and_then(|()| {
            read_back(&path, &file.facts.name, |_| {
                pace();
                Ok(())
            })
        });
        let why = match read {
            Ok(read) if read == file.facts => return Ok(None),
            Ok(_) => ANOTHER.to_owned(),
            Err(ReadFault::Io(error)) if error.kind() == io::ErrorKind::NotFound => "it is missing".to_owned(),
            Err(fault) => fault.to_string(),
        };
        // A run may have taken the file away meanwhile.
        let still_there = self.file(name).is_some_and(|now| now.facts == file.facts);
        Ok(still_there.then_some(ArchiveFault { name: Some(file.facts.name), why }))
    }

    /// What is wrong without looking into files: the manifest, which is read again, files that are missing, have another size or
    /// are not known.
    pub fn overview(&self) -> StoreResult<Vec<ArchiveFault>> {
        self.look()?;
        let lying = self.lying().map_err(|error| unavailable("the folder", &error))?;
        let manifest = self.manifest.lock();
        let mut faults: Vec<ArchiveFault> =
            manifest.doubt.iter().map(|why| ArchiveFault { name: None, why: why.clone() }).collect();
        for name in lying.iter().filter(|name| !manifest.state.files.contains_key(name)) {
            faults.push(ArchiveFault { name: Some(name.to_string()), why: "the manifest does not know it".to_owned() });
        }
        for (name, file) in &manifest.state.files {
            let why = match fs::metadata(self.path(*name)) {
                Ok(meta) if meta.len() == file.facts.bytes => continue,
                Ok(meta) => format!("it has {} bytes instead of {}", meta.len(), file.facts.bytes),
                Err(_) => "it is missing".to_owned(),
            };
            faults.push(ArchiveFault { name: Some(name.to_string()), why });
        }
        Ok(faults)
    }

    /// Accepts what lies there as the archive, after a manifest came into doubt: keeps a copy of the manifest as evidence and
    /// begins a new one with every file that is whole. Answers with the name of the copy and the files that are not.
    pub fn accept(&self, by: &str, pace: &dyn Fn()) -> StoreResult<(String, Vec<ArchiveFault>)> {
        let told = |error: io::Error| unavailable("the manifest", &error);
        if self.doubt().is_none() {
            return Err(StoreError::Invalid("the manifest is not in doubt; there is nothing to accept".into()));
        }
        let (mut whole, mut faults) = (Vec::new(), Vec::new());
        for name in self.lying().map_err(told)? {
            let text = name.to_string();
            let read = read_back(&self.path(name), &text, |_| {
                pace();
                Ok(())
            });
            match read {
                Ok(facts) => whole.push(facts),
                Err(fault) => faults.push(ArchiveFault { name: Some(text), why: fault.to_string() }),
            }
        }
        let now = self.clock.now();
        let evidence = format!("manifest-{}.ndjson", now.to_utc().format("%Y%m%dT%H%M%S%6fZ"));
        self.manifest.lock().begin_anew(now, by, whole, evidence.clone()).map_err(told)?;
        Ok((evidence, faults))
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

enum RewriteFault {
    Store(StoreError),
    Read(ReadFault),
}

impl From<StoreError> for RewriteFault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<ReadFault> for RewriteFault {
    fn from(fault: ReadFault) -> Self {
        Self::Read(fault)
    }
}

fn not_found(name: FileName) -> StoreError {
    StoreError::NotFound { what: "archive", key: name.to_string() }
}

/// A file that cannot be read, in the words of a store: one that is missing or damaged stays so until somebody does something.
pub fn fault_of(name: FileName, fault: &ReadFault) -> StoreError {
    let why = match fault {
        ReadFault::Io(error) if error.kind() == io::ErrorKind::NotFound => "it is missing".to_owned(),
        ReadFault::Io(error) => {
            return StoreError::Unavailable { store: STORE.to_owned(), why: format!("`{name}`: {error}") };
        }
        ReadFault::Damaged(why) => why.clone(),
    };
    StoreError::Conflict(format!("archive `{name}`: {why}; put a whole copy of the file in its place"))
}

fn unavailable(what: &str, error: &io::Error) -> StoreError {
    let hint = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "the disk is full, free some space: ",
        _ => "",
    };
    StoreError::Unavailable { store: STORE.to_owned(), why: format!("{what}: {hint}{error}") }
}

/// Writes a file as a whole or not at all; it is on stable storage when this returns.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// A moment at which a test may end everything, as a power cut would.
#[cfg(not(test))]
pub(crate) const fn point(_name: &'static str) {}

#[cfg(test)]
pub(crate) use cut::point;

/// Ends a test's thread at the n-th point it comes to, by a panic that nothing catches on the way.
#[cfg(test)]
pub(crate) mod cut {
    use std::cell::Cell;

    thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// What is thrown.
    pub(crate) struct Cut(pub(crate) &'static str);

    /// Points from here on until the cut; `None` for no cut.
    pub(crate) fn after(points: Option<u32>) {
        LEFT.set(points);
    }

    pub(crate) fn point(name: &'static str) {
        match LEFT.get() {
            Some(0) => {
                LEFT.set(None);
                std::panic::resume_unwind(Box::new(Cut(name)));
            }
            Some(left) => LEFT.set(Some(left - 1)),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests;
