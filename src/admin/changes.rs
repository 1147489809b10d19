//! The change log: who changed what, when and why. Reading only; lines are written by the stores with each change.

use super::{Admin, AdminError};
use crate::store::{ChangeQuery, ChangeRow};

/// Most lines one call returns.
pub const MAX_CHANGE_ROWS: usize = 1_000;

/// Furthest line an answer with page numbers reaches.
const MAX_PAGED_ROWS: usize = 10_000;

/// A page of the change log.
#[derive(Debug, Clone, Default)]
pub struct ChangePage {
    /// In the order that was asked for.
    pub rows: Vec<ChangeRow>,
    /// Lines there are in all, for the same filters.
    pub total: u64,
    /// Where to go on, as the next query's `before`, or `after` if the oldest come first.
    pub next: Option<i64>,
}

impl Admin {
    /// Lines from `query.before` or `query.after` on.
    pub async fn changes(&self, query: &ChangeQuery) -> Result<ChangePage, AdminError> {
        let mut query = query.clone();
        let limit = query.limit.clamp(1, MAX_CHANGE_ROWS);
        query.limit = limit;
        let total = self.parts.stores.changes.count_changes(&query).await?;
        let rows = self.parts.stores.changes.changes(&query).await?;
        let next = if rows.len() == limit { rows.last().map(|row| row.id) } else { None };
        Ok(ChangePage { rows, total, next })
    }

    /// Lines by page number, from 1.
    pub async fn changes_page(&self, query: &ChangeQuery, page: usize, limit: usize) -> Result<ChangePage, AdminError> {
        let skip = page.saturating_sub(1).saturating_mul(limit);
        if skip + limit > MAX_PAGED_ROWS {
            return Err(AdminError::invalid(
                "page",
                format!(
                    "pages end after {MAX_PAGED_ROWS} lines; narrow by table_name, record_id, user, from or to, or go on by cursor"
                ),
            ));
        }
        let query = ChangeQuery { skip, limit, ..query.clone() };
        self.changes(&query).await
    }
}
