//! Users and sessions in `config.db`. Password hashes never leave the `users` table; in the change log a new password
//! shows as `password_changed`.

use async_trait::async_trait;
use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde_json::Value;

use super::config::{ConfigDb, Entry, Table, log_change, row_values};
use super::connect::Fault;
use crate::access::Role;
use crate::model::Timestamp;
use crate::store::{Accounts, Change, LiveSession, Session, SessionClock, StoreError, StoreResult, User, UserUpdate};

const USERS: Table = Table {
    name: "users",
    key: "name",
    columns: &["name", "created_at", "role", "enabled", "must_change_password"],
    truths: &["enabled", "must_change_password"],
    rules_decisions: false,
};

/// Every column of a user, as [`read_user`] takes them.
const USER_COLUMNS: &str = "name, password_hash, created_at, role, enabled, must_change_password, last_login";

/// Sessions kept at most; beyond, those that end first are ended: more than any site has browsers.
const MAX_SESSIONS: i64 = 10_000;
/// Sessions told at once, at most.
const SESSIONS_TOLD: i64 = 1_000;

#[async_trait]
impl Accounts for ConfigDb {
    async fn user_count(&self) -> StoreResult<u64> {
        let count: i64 = self
            .read(|connection| Ok(connection.query_row("SELECT count(*) FROM users", [], |row| row.get(0))?))
            .await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    async fn users(&self) -> StoreResult<Vec<User>> {
        self.read(|connection| {
            let mut statement =
                connection.prepare_cached(&format!("SELECT {USER_COLUMNS} FROM users ORDER BY name"))?;
            let rows = statement.query_map([], read_user)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn user(&self, name: &str) -> StoreResult<Option<User>> {
        let name = name.to_owned();
        self.read(move |connection| {
            let mut statement =
                connection.prepare_cached(&format!("SELECT {USER_COLUMNS} FROM users WHERE name = ?1"))?;
            Ok(statement.query_row([name], read_user).optional()?)
        })
        .await
    }

    async fn create_user(&self, user: User, change: &Change) -> StoreResult<()> {
        let change = change.clone();
        self.write(move |transaction, now| {
            if row_values(transaction, USERS, &user.name)?.is_some() {
                return Err(StoreError::Exists { what: "user", key: user.name }.into());
            }
            let insert = format!("INSERT INTO users ({USER_COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL)");
            transaction.execute(
                &insert,
                params![
                    user.name,
                    user.password_hash,
                    user.created_at.as_micros(),
                    user.role.name(),
                    user.enabled,
                    user.must_change_password
                ],
            )?;
            let new = row_values(transaction, USERS, &user.name)?;
            log_change(transaction, now, &change, &Entry { table: USERS, record_id: &user.name, old: None, new })
        })
        .await
    }

    async fn update_user(&self, name: &str, update: UserUpdate, change: &Change) -> StoreResult<User> {
        let (name, change) = (name.to_owned(), change.clone());
        self.write(move |transaction, now| {
            let old = row_values(transaction, USERS, &name)?.ok_or_else(|| missing(&name))?;
            apply(transaction, &name, &update)?;
            admins_remain(transaction)?;
            transaction.execute("DELETE FROM sessions WHERE user = ?1", [&name])?;
            let mut new = row_values(transaction, USERS, &name)?;
            if let (Some(Value::Object(members)), Some(_)) = (&mut new, &update.password) {
                members.insert("password_changed".to_owned(), Value::Bool(true));
            }
            let entry = Entry { table: USERS, record_id: &name, old: Some(old), new };
            log_change(transaction, now, &change, &entry)?;
            let select = format!("SELECT {USER_COLUMNS} FROM users WHERE name = ?1");
            Ok(transaction.query_row(&select, [&name], read_user)?)
        })
        .await
    }

    async fn delete_user(&self, name: &str, change: &Change) -> StoreResult<()> {
        let (name, change) = (name.to_owned(), change.clone());
        self.write(move |transaction, now| {
            let old = row_values(transaction, USERS, &name)?.ok_or_else(|| missing(&name))?;
            transaction.execute("DELETE FROM sessions WHERE user = ?1", [&name])?;
            transaction.execute("DELETE FROM users WHERE name = ?1", [&name])?;
            admins_remain(transaction)?;
            let entry = Entry { table: USERS, record_id: &name, old: Some(old), new: None };
            log_change(transaction, now, &change, &entry)
        })
        .await
    }

    async fn put_session(&self, session: Session, clock: SessionClock) -> StoreResult<()> {
        self.write(move |transaction, _| {
            if row_values(transaction, USERS, &session.user)?.is_none() {
                return Err(missing(&session.user));
            }
            let (now, unused_since) = (clock.now.as_micros(), clock.unused_since.as_micros());
            transaction
                .execute("DELETE FROM sessions WHERE expires_at <= ?1 OR last_seen <= ?2", [now, unused_since])?;
            transaction.execute(
                "INSERT OR REPLACE INTO sessions \
                 (token_hash, user, csrf_token, created_at, last_seen, expires_at, peer) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    session.token_hash,
                    session.user,
                    session.csrf_token,
                    session.created_at.as_micros(),
                    session.last_seen.as_micros(),
                    session.expires_at.as_micros(),
                    session.peer
                ],
            )?;
            transaction.execute("UPDATE users SET last_login = ?1 WHERE name = ?2", params![now, session.user])?;
            transaction.execute(
                "DELETE FROM sessions WHERE token_hash IN \
                 (SELECT token_hash FROM sessions ORDER BY expires_at DESC LIMIT -1 OFFSET ?1)",
                [MAX_SESSIONS],
            )?;
            Ok(())
        })
        .await
    }

    async fn session(&self, token_hash: &[u8; 32], clock: SessionClock) -> StoreResult<Option<LiveSession>> {
        let token_hash = *token_hash;
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT s.token_hash, s.user, s.csrf_token, s.created_at, s.last_seen, s.expires_at, s.peer, u.role, \
                 u.must_change_password FROM sessions s JOIN users u ON u.name = s.user \
                 WHERE s.token_hash = ?1 AND s.expires_at > ?2 AND s.last_seen > ?3 AND u.enabled",
            )?;
            let values = params![token_hash, clock.now.as_micros(), clock.unused_since.as_micros()];
            let session = statement.query_row(values, |row| {
                Ok(LiveSession { session: read_session(row)?, role: role(row, 7)?, must_change_password: row.get(8)? })
            });
            Ok(session.optional()?)
        })
        .await
    }

    async fn touch_session(&self, token_hash: &[u8; 32], now: Timestamp) -> StoreResult<()> {
        let token_hash = *token_hash;
        self.write(move |transaction, _| {
            let update = "UPDATE sessions SET last_seen = ?1 WHERE token_hash = ?2 AND last_seen < ?1";
            transaction.execute(update, params![now.as_micros(), token_hash])?;
            Ok(())
        })
        .await
    }

    async fn sessions(&self, clock: SessionClock) -> StoreResult<Vec<Session>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT token_hash, user, csrf_token, created_at, last_seen, expires_at, peer FROM sessions \
                 WHERE expires_at > ?1 AND last_seen > ?2 ORDER BY created_at DESC LIMIT ?3",
            )?;
            let values = [clock.now.as_micros(), clock.unused_since.as_micros(), SESSIONS_TOLD];
            let rows = statement.query_map(values, read_session)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
    }

    async fn end_session(&self, token_hash: &[u8; 32]) -> StoreResult<()> {
        let token_hash = *token_hash;
        self.write(move |transaction, _| {
            transaction.execute("DELETE FROM sessions WHERE token_hash = ?1", [token_hash])?;
            Ok(())
        })
        .await
    }
}

fn apply(transaction: &Transaction<'_>, name: &str, update: &UserUpdate) -> Result<(), Fault> {
    if let Some(role) = update.role {
        transaction.execute("UPDATE users SET role = ?1 WHERE name = ?2", params![role.name(), name])?;
    }
    if let Some(enabled) = update.enabled {
        transaction.execute("UPDATE users SET enabled = ?1 WHERE name = ?2", params![enabled, name])?;
    }
    if let Some((hash, must_change)) = &update.password {
        transaction.execute(
            "UPDATE users SET password_hash = ?1, must_change_password = ?2 WHERE name = ?3",
            params![hash, must_change, name],
        )?;
    }
    Ok(())
}

/// Without an admin who may log in nobody could make one again by the pages.
fn admins_remain(transaction: &Transaction<'_>) -> Result<(), Fault> {
    let admins: i64 =
        transaction.query_row("SELECT count(*) FROM users WHERE role = 'admin' AND enabled", [], |row| row.get(0))?;
    if admins > 0 {
        return Ok(());
    }
    Err(StoreError::Conflict("this is the last admin who may log in; make another user admin first".to_owned()).into())
}

fn missing(name: &str) -> Fault {
    StoreError::NotFound { what: "user", key: name.to_owned() }.into()
}

fn read_user(row: &Row<'_>) -> rusqlite::Result<User> {
    Ok(User {
        name: row.get(0)?,
        password_hash: row.get(1)?,
        created_at: Timestamp::from_micros(row.get(2)?),
        role: role(row, 3)?,
        enabled: row.get(4)?,
        must_change_password: row.get(5)?,
        last_login: row.get::<_, Option<i64>>(6)?.map(Timestamp::from_micros),
    })
}

/// The table's CHECK admits the three roles only; whatever else stands there may do least.
fn role(row: &Row<'_>, column: usize) -> rusqlite::Result<Role> {
    Ok(Role::parse(&row.get::<_, String>(column)?).unwrap_or(Role::Viewer))
}

fn read_session(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session {
        token_hash: row.get(0)?,
        user: row.get(1)?,
        csrf_token: row.get(2)?,
        created_at: Timestamp::from_micros(row.get(3)?),
        last_seen: Timestamp::from_micros(row.get(4)?),
        expires_at: Timestamp::from_micros(row.get(5)?),
        peer: row.get(6)?,
    })
}
