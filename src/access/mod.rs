//! Who may do what: the roles of people, the scopes of API keys, and the rights that both come down to.
//!
//! Plain data, and the ring of keys that inputs and API look callers up in. Nothing here knows HTTP or a database, and
//! nothing is kept: after a crash the ring is filled from the store again.

mod keyring;
mod network;

use std::fmt;

pub use keyring::{Hash, KeyRing, Refusal, RingKey, Verdict, hash_of};
pub use network::Network;

/// What a person may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Looks at everything but users, keys and secrets.
    Viewer,
    /// Also works with rules, hosts, teams, dead letters and targets.
    Operator,
    /// Also decides on settings, secrets, users and keys.
    Admin,
}

impl Role {
    /// Every role, least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The word used in the database, the API and on pages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == text)
    }

    /// Whether it includes `right`.
    pub const fn has(self, right: Right) -> bool {
        match right {
            Right::Own | Right::Read => true,
            Right::Operate => !matches!(self, Self::Viewer),
            Right::Administer => matches!(self, Self::Admin),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// To be someone: one's own account.
    Own,
    /// To look.
    Read,
    /// To do an operator's work.
    Operate,
    /// To decide who may do what, and how the appliance works.
    Administer,
}

impl Right {
    /// Its name in the API's description.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Administer => "administer",
        }
    }

    /// The least role that includes it.
    pub fn least_role(self) -> Role {
        Role::ALL.into_iter().find(|role| role.has(self)).unwrap_or(Role::Admin)
    }

    /// The scope that a key needs for it.
    pub const fn scope(self) -> Scope {
        match self {
            Self::Own | Self::Read => Scope::Read,
            Self::Operate => Scope::Write,
            Self::Administer => Scope::Admin,
        }
    }
}

/// What an API key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Send events.
    Ingest,
    /// Look, as a viewer.
    Read,
    /// Change, as an operator.
    Write,
    /// Everything, as an admin.
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 4] = [Self::Ingest, Self::Read, Self::Write, Self::Admin];

    /// The word used in the database, the API and on pages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }

    /// The scope of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == text)
    }
}

/// The scopes of one key. Who may write may read, and who has `admin` may do everything.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// These scopes, each once and in the order of [`Scope::ALL`].
    pub fn new(scopes: impl IntoIterator<Item = Scope>) -> Self {
        let mut scopes: Vec<Scope> = scopes.into_iter().collect();
        scopes.sort_unstable();
        scopes.dedup();
        Self(scopes)
    }

    /// Reads a list separated by commas; the error is the word that is no scope.
    pub fn parse(text: &str) -> Result<Self, String> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let scopes: Result<Vec<Scope>, String> =
            words.map(|word| Scope::parse(word).ok_or_else(|| word.to_owned())).collect();
        Ok(Self::new(scopes?))
    }

    /// Whether they include `wanted`.
    pub fn allow(&self, wanted: Scope) -> bool {
        self.0.contains(&Scope::Admin)
            || self.0.contains(&wanted)
            || (wanted == Scope::Read && self.0.contains(&Scope::Write))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = Scope> {
        self.0.iter().copied()
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Scope::name).collect();
        f.write_str(&names.join(","))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scopes({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_includes_the_one_below() {
        for (role, rights) in [
            (Role::Viewer, [true, true, false, false]),
            (Role::Operator, [true, true, true, false]),
            (Role::Admin, [true, true, true, true]),
        ] {
            let all = [Right::Own, Right::Read, Right::Operate, Right::Administer];
            assert_eq!(all.map(|right| role.has(right)), rights, "{role}");
            assert_eq!(Role::parse(role.name()), Some(role));
        }
        assert_eq!((Right::Operate.least_role(), Right::Read.least_role()), (Role::Operator, Role::Viewer));
        assert_eq!(Role::parse("root"), None);
    }

    #[test]
    fn scopes_include_what_follows_from_them() {
        let check = |scopes: &str, allowed: [bool; 4]| {
            let scopes = Scopes::parse(scopes).expect("scopes");
            assert_eq!(Scope::ALL.map(|scope| scopes.allow(scope)), allowed, "{scopes}");
        };
        check("ingest", [true, false, false, false]);
        check("read", [false, true, false, false]);
        check("write", [false, true, true, false]);
        check("write, ingest", [true, true, true, false]);
        check("admin", [true, true, true, true]);
        check("", [false, false, false, false]);
        assert_eq!(Scopes::parse("write,ingest,write").expect("scopes").to_string(), "ingest,write");
        assert_eq!(Scopes::parse("read,root"), Err("root".to_owned()));
    }
}
