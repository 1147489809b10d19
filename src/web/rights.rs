//! What each address of the web port needs: the one table that the guards of pages and API go by.
//!
//! An address that is not in the table can be used by admins only, and a test that walks every route fails. So a handler
//! cannot forget to ask, and nobody can forget to decide.

use axum::http::Method;

use crate::access::Right;

/// Looking at an address, and changing something by it (any method but GET, HEAD and OPTIONS).
struct Needs {
    path: &'static str,
    look: Right,
    change: Right,
}

const fn needs(path: &'static str, look: Right, change: Right) -> Needs {
    Needs { path, look, change }
}

/// Viewers look, operators change.
const fn work(path: &'static str) -> Needs {
    needs(path, Right::Read, Right::Operate)
}

/// Viewers look; nothing is changed there, or what is sent is only a question.
const fn view(path: &'static str) -> Needs {
    needs(path, Right::Read, Right::Read)
}

/// Operators only, because looking at it is the first step of changing.
const fn edit(path: &'static str) -> Needs {
    needs(path, Right::Operate, Right::Operate)
}

/// Viewers look, admins decide.
const fn decide(path: &'static str) -> Needs {
    needs(path, Right::Read, Right::Administer)
}

/// Admins only.
const fn admin(path: &'static str) -> Needs {
    needs(path, Right::Administer, Right::Administer)
}

/// Everyone who is logged in.
const fn own(path: &'static str) -> Needs {
    needs(path, Right::Own, Right::Own)
}

/// Every address behind a guard, as the router has it.
const NEEDS: &[Needs] = &[
    view("/"),
    view("/events"),
    view("/events/{id}"),
    work("/rules"),
    edit("/rules/new"),
    view("/rules/test"),
    edit("/rules/bulk"),
    edit("/rules/try"),
    work("/rules/{id}"),
    edit("/rules/{id}/delete"),
    view("/rules/{id}/history"),
    work("/dev-hosts"),
    edit("/dev-hosts/remove"),
    work("/teams"),
    edit("/teams/edit"),
    edit("/teams/remove"),
    view("/changes"),
    view("/changes/verify"),
    view("/changes/file"),
    work("/targets"),
    admin("/targets/edit"),
    admin("/targets/remove"),
    edit("/targets/test"),
    edit("/targets/reset"),
    edit("/outboxes/move"),
    edit("/outboxes/discard"),
    work("/dead-letters"),
    work("/dead-letters/{queue}/{seq}"),
    view("/slo"),
    edit("/logs"),
    view("/status"),
    own("/account"),
    own("/logout"),
    decide("/admin/config"),
    view("/admin/config/history"),
    admin("/admin/config/reset"),
    admin("/admin/config/revert"),
    view("/admin/retention"),
    admin("/admin/retention/run"),
    view("/admin/retention/archives"),
    edit("/admin/retention/archives/verify"),
    admin("/admin/retention/archives/restore"),
    admin("/admin/retention/archives/return"),
    admin("/admin/retention/archives/accept"),
    view("/admin/retention/search"),
    view("/admin/retention/events/{id}"),
    decide("/admin/retention/holds"),
    admin("/admin/retention/holds/lift"),
    admin("/admin/retention/erase"),
    admin("/admin/secrets"),
    admin("/admin/secrets/act"),
    admin("/users"),
    admin("/users/act"),
    admin("/users/remove"),
    admin("/keys"),
    admin("/keys/act"),
    admin("/keys/revoke"),
    work("/api/v2/rules"),
    view("/api/v2/rules/test"),
    view("/api/v2/rules/explain"),
    view("/api/v2/rules/try"),
    edit("/api/v2/rules/bulk"),
    edit("/api/v2/rules/reorder"),
    edit("/api/v2/rules/{id}/enable"),
    edit("/api/v2/rules/{id}/disable"),
    work("/api/v2/rules/{id}"),
    work("/api/v2/dev-hosts"),
    work("/api/v2/dev-hosts/{hostname}"),
    work("/api/v2/teams"),
    work("/api/v2/teams/{hostname}"),
    view("/api/v2/events"),
    view("/api/v2/events/stream"),
    view("/api/v2/events/{id}"),
    view("/api/v2/audit-logs"),
    view("/api/v2/partitions"),
    view("/api/v2/config-audit"),
    view("/api/v2/audit/config"),
    view("/api/v2/export"),
    admin("/api/v2/import"),
    view("/api/v2/config-audit/chain"),
    view("/api/v2/config-audit/chain/verify"),
    admin("/api/v2/config-audit/chain/accept"),
    decide("/api/v2/targets"),
    decide("/api/v2/targets/{name}"),
    edit("/api/v2/targets/{name}/test"),
    edit("/api/v2/targets/{name}/reset"),
    edit("/api/v2/outboxes/{name}"),
    edit("/api/v2/outboxes/{name}/move"),
    view("/api/v2/dead-letters"),
    view("/api/v2/dead-letters/groups"),
    edit("/api/v2/dead-letters/replay"),
    edit("/api/v2/dead-letters/discard"),
    work("/api/v2/dead-letters/{queue}/{seq}"),
    edit("/api/v2/dead-letters/{queue}/{seq}/replay"),
    view("/api/v2/remediation"),
    edit("/api/v2/remediation/run"),
    edit("/api/v2/logs"),
    edit("/api/v2/logs/stream"),
    view("/api/v2/retention"),
    admin("/api/v2/retention/run"),
    view("/api/v2/retention/tasks/{task}"),
    decide("/api/v2/holds"),
    decide("/api/v2/holds/{id}"),
    decide("/api/v2/erasures"),
    view("/api/v2/archives"),
    view("/api/v2/archives/search"),
    work("/api/v2/archives/verify"),
    admin("/api/v2/archives/restore"),
    admin("/api/v2/archives/accept"),
    view("/api/v2/archives/{name}"),
    work("/api/v2/archives/{name}/verify"),
    admin("/api/v2/archives/{name}/return"),
    admin("/api/v2/archives/{name}/file"),
    view("/api/v2/slo"),
    view("/api/v2/slo/status"),
    view("/api/v2/metrics"),
    view("/api/v2/status"),
    view("/api/v2/version"),
    view("/api/v2/health"),
    admin("/api/v2/backup"),
    view("/api/v2/config"),
    view("/api/v2/config/history"),
    decide("/api/v2/config/{key}"),
    admin("/api/v2/config/{key}/revert"),
    admin("/api/v2/secrets"),
    admin("/api/v2/secrets/{name}"),
    admin("/api/v2/secrets/{name}/rotate"),
    admin("/api/v2/secrets/{name}/promote"),
    admin("/api/v2/secrets/{name}/cancel"),
    admin("/api/v2/users"),
    admin("/api/v2/users/{name}"),
    admin("/api/v2/users/{name}/password"),
    admin("/api/v2/sessions"),
    admin("/api/v2/sessions/{id}"),
    admin("/api/v2/keys"),
    admin("/api/v2/keys/{name}"),
    admin("/api/v2/keys/{name}/rotate"),
    admin("/api/v2/keys/{name}/promote"),
    view("/api/v1/metrics"),
    view("/api/v1/version"),
    work("/api/v1/rules"),
    work("/api/v1/rules/{id}"),
    view("/api/v1/audit-logs"),
    work("/api/v1/dev-hosts"),
    work("/api/v1/dev-hosts/{hostname}"),
    work("/api/v1/teams"),
    work("/api/v1/teams/{hostname}"),
    view("/api/v1/config-audit"),
    view("/api/v1/audit/config"),
    view("/api/v1/slo"),
    view("/api/v1/slo/status"),
    view("/api/v1/config"),
    view("/api/v1/config/history"),
    decide("/api/v1/config/{key}"),
];

/// What a request needs, if its address is in the table.
pub(super) fn declared(path: &str, method: &Method) -> Option<Right> {
    let needs = NEEDS.iter().find(|needs| needs.path == path)?;
    Some(if changes_something(method) { needs.change } else { needs.look })
}

/// The addresses of the table.
#[cfg(test)]
pub(super) fn addresses() -> impl Iterator<Item = &'static str> {
    NEEDS.iter().map(|needs| needs.path)
}

/// What a request needs. An address that nothing serves needs no more than being someone.
pub(super) fn needed(path: Option<&str>, method: &Method) -> Right {
    let Some(path) = path else { return Right::Own };
    declared(path, method).unwrap_or_else(|| {
        tracing::error!(path, "No right is declared for this address; it is open to admins only");
        Right::Administer
    })
}

/// Whether a method may change something (RFC 9110 section 9.2.1 calls the others safe).
pub(super) const fn changes_something(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}
