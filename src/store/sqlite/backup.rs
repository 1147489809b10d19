//! Copies of databases that are in use, made by SQLite itself: whole, compact, and without the write-ahead log.
//!
//! A crash leaves a copy that is not whole and that nobody uses.

use std::fs;
use std::io;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::connect::Fault;
use crate::store::{StoreError, StoreResult};

/// Copies a database through a connection to it.
pub(super) fn copy_into(connection: &Connection, to: &Path) -> Result<(), Fault> {
    connection.execute("VACUUM INTO ?1", [to.to_string_lossy()])?;
    Ok(())
}

/// Copies the database `from`, which may be in use. Blocks.
pub fn copy_database(from: &Path, to: &Path) -> StoreResult<()> {
    let name = from.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let copied = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
        .map_err(Fault::from)
        .and_then(|connection| copy_into(&connection, to));
    copied.map_err(|fault| match fault {
        Fault::Told(error) => error,
        fault @ Fault::Sql(_) => StoreError::Unavailable { store: name.clone(), why: fault.of(&name).to_string() },
    })
}

/// Copies the files of a folder, if it is there.
pub(super) fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
