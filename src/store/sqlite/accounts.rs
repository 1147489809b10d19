//! Users and sessions in `config.db`. Password hashes never leave the `users` table; in the change log a new password
//! shows as `password_changed`.

use async_trait::async_trait;
use rusqlite::{OptionalExtension, params};
use serde_json::Value;

use super::config::{ConfigDb, Entry, Table, log_change, row_values};
use crate::model::Timestamp;
use crate::store::{Accounts, Change, Session, StoreError, StoreResult, User};

const USERS: Table =
    Table { name: "users", key: "name", columns: &["name", "created_at"], truths: &[], rules_decisions: false };

/// Sessions kept at most; beyond, those that end first are ended: more than any site has browsers.
const MAX_SESSIONS: i64 = 10_000;

#[async_trait]
impl Accounts for ConfigDb {
    async fn user_count(&self) -> StoreResult<u64> {
        let count: i64 = self
            .read(|connection| Ok(connection.query_row("SELECT count(*) FROM users", [], |row| row.get(0))?))
            .await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    async fn user(&self, name: &str) -> StoreResult<Option<User>> {
        let name = name.to_owned();
        self.read(move |connection| {
            let mut statement =
                connection.prepare_cached("SELECT name, password_hash, created_at FROM users WHERE name = ?1")?;
            let user = statement.query_row([name], |row| {
                Ok(User {
                    name: row.get(0)?,
                    password_hash: row.get(1)?,
                    created_at: Timestamp::from_micros(row.get(2)?),
                })
            });
            Ok(user.optional()?)
        })
        .await
    }

    async fn put_user(&self, user: User, change: &Change) -> StoreResult<()> {
        let change = change.clone();
        self.write(move |transaction, now| {
            let old = row_values(transaction, USERS, &user.name)?;
            transaction.execute(
                "INSERT INTO users VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE SET password_hash = excluded.password_hash",
                params![user.name, user.password_hash, user.created_at.as_micros()],
            )?;
            transaction.execute("DELETE FROM sessions WHERE user = ?1", [&user.name])?;
            let mut new = row_values(transaction, USERS, &user.name)?;
            if let (Some(Value::Object(members)), true) = (&mut new, old.is_some()) {
                members.insert("password_changed".to_owned(), Value::Bool(true));
            }
            log_change(transaction, now, &change, &Entry { table: USERS, record_id: &user.name, old, new })
        })
        .await
    }

    async fn put_session(&self, session: Session, now: Timestamp) -> StoreResult<()> {
        self.write(move |transaction, _| {
            if row_values(transaction, USERS, &session.user)?.is_none() {
                return Err(StoreError::NotFound { what: "user", key: session.user }.into());
            }
            transaction.execute("DELETE FROM sessions WHERE expires_at <= ?1", [now.as_micros()])?;
            transaction.execute(
                "INSERT OR REPLACE INTO sessions VALUES (?1, ?2, ?3, ?4)",
                params![session.token_hash, session.user, session.csrf_token, session.expires_at.as_micros()],
            )?;
            transaction.execute(
                "DELETE FROM sessions WHERE token_hash IN \
                 (SELECT token_hash FROM sessions ORDER BY expires_at DESC LIMIT -1 OFFSET ?1)",
                [MAX_SESSIONS],
            )?;
            Ok(())
        })
        .await
    }

    async fn session(&self, token_hash: &[u8; 32], now: Timestamp) -> StoreResult<Option<Session>> {
        let token_hash = *token_hash;
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT user, csrf_token, expires_at FROM sessions WHERE token_hash = ?1 AND expires_at > ?2",
            )?;
            let session = statement.query_row(params![token_hash, now.as_micros()], |row| {
                Ok(Session {
                    token_hash,
                    user: row.get(0)?,
                    csrf_token: row.get(1)?,
                    expires_at: Timestamp::from_micros(row.get(2)?),
                })
            });
            Ok(session.optional()?)
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
