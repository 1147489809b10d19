//! Takes one host's events out of the store of recent events.
//!
//! Finished segments are written anew without them, one after the other, beside the writer; the one being written is finished
//! first. A search that has a segment open while it is replaced may miss a frame of it. What a host sends while this is
//! under way stays. A crash leaves a segment as it was or without the host, and at most a file that the next start removes.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::frame::{Encoder, records};
use super::segment::{Active, Sealed, read_frame};
use super::{Recent, STORE, Shared, writer};
use crate::model::{Judged, host_key};
use crate::store::{StoreError, StoreResult};

/// The ending of a segment that is being written anew.
const FRESH: &str = "fresh";
/// How long the writer has to finish its segment: it may be behind by some seconds.
const PATIENCE: u32 = 600;
/// Time between two looks whether it has.
const LOOK: Duration = Duration::from_millis(100);

impl Recent {
    /// Removes every event of a host that was handed over before. Answers how many there were.
    pub async fn erase_host(&self, key: &str) -> StoreResult<u64> {
        // What was handed over last is written after this time at the latest.
        tokio::time::sleep(2 * writer::FLUSH_AFTER).await;
        self.shared.state.lock().seal_wanted = true;
        self.shared.wake.notify_one();
        for _ in 0..PATIENCE {
            if !self.shared.state.lock().seal_wanted {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        let (shared, key) = (Arc::clone(&self.shared), key.to_owned());
        let erased = tokio::task::spawn_blocking(move || erase(&shared, &key)).await;
        let unavailable = |why: String| StoreError::Unavailable { store: STORE.to_owned(), why };
        erased.map_err(|error| unavailable(error.to_string()))?.map_err(|error| unavailable(error.to_string()))
    }
}

fn erase(shared: &Shared, key: &str) -> io::Result<u64> {
    let segments: Vec<Arc<Sealed>> = shared.state.lock().sealed.iter().cloned().collect();
    let mut erased = 0;
    for segment in segments {
        let kept = match without(&segment, key) {
            Ok(Some(kept)) => kept,
            Ok(None) => continue,
            // The writer deletes segments that are too old.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        erased += kept.erased;
        let mut state = shared.state.lock();
        let place = state.sealed.iter().position(|other| Arc::ptr_eq(other, &segment));
        match (place, kept.file) {
            (Some(place), Some(fresh)) => {
                std::fs::rename(&fresh.path, &segment.path)?;
                state.sealed[place] = Arc::new(Sealed { path: segment.path.clone(), ..fresh });
            }
            (Some(place), None) => {
                std::fs::remove_file(&segment.path)?;
                state.sealed.remove(place);
            }
            (None, fresh) => fresh.map_or(Ok(()), |fresh| std::fs::remove_file(fresh.path))?,
        }
    }
    Ok(erased)
}

/// A segment without a host.
struct Kept {
    erased: u64,
    /// The new file; none if nothing was left.
    file: Option<Sealed>,
}

fn fresh_path(path: &Path) -> PathBuf {
    path.with_extension(FRESH)
}

/// Writes the events of the others; `None` if the host is not in the segment.
fn without(segment: &Sealed, key: &str) -> io::Result<Option<Kept>> {
    let file = File::open(&segment.path)?;
    let fresh = fresh_path(&segment.path);
    if fresh.exists() {
        std::fs::remove_file(&fresh)?;
    }
    let mut encoder = Encoder::new()?;
    let mut written: Option<Active> = None;
    let mut erased = 0;
    // Looked for first, because most segments do not have to be written anew.
    if !segment.frames.iter().any(|frame| read_frame(&file, frame).is_ok_and(|plain| holds(&plain, key))) {
        return Ok(None);
    }
    for frame in segment.frames.iter() {
        // A frame that cannot be read is left out: nobody can read it any more, and it may hold the host.
        let Ok(plain) = read_frame(&file, frame) else { continue };
        let events: Vec<Judged> =
            records(&plain).filter_map(|range| plain.get(range).and_then(|bytes| Judged::read(bytes).ok())).collect();
        let others = events.iter().filter(|judged| host_key(&judged.event.hostname) != key);
        erased += events.len() as u64 - others.clone().count() as u64;
        if let Some(frame) = encoder.encode(others)? {
            let active = match written.take() {
                Some(active) => active,
                None => Active::create_at(&fresh)?,
            };
            written.insert(active).append(&frame)?;
        }
    }
    let file = written.map(Active::seal).transpose()?;
    Ok(Some(Kept { erased, file }))
}

fn holds(plain: &[u8], key: &str) -> bool {
    let judged = |range| plain.get(range).and_then(|bytes| Judged::read(bytes).ok());
    records(plain).filter_map(judged).any(|judged| host_key(&judged.event.hostname) == key)
}

/// Removes what an erasure left that did not come to its end.
pub(super) fn tidy(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == FRESH) {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}
