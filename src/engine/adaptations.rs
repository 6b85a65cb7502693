//! Adaptations: what of a database is restored otherwise than it was, because the server that it goes into is another one.

use std::fmt;

/// What of databases is restored otherwise than it was dumped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adaptations {
    /// To whom everything belongs.
    pub owners: Ownership,
    /// Everything goes into the usual tablespace.
    pub no_tablespaces: bool,
    /// The locale of databases that are made.
    pub locale: Option<String>,
    /// Who defines views, routines, triggers and events.
    pub definer: Option<Account>,
}

/// A user of a server, who comes from some host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The name.
    pub user: String,
    /// The host, or a pattern of hosts.
    pub host: String,
}

impl Account {
    /// Reads `USER@HOST`; the name may have an `@` itself.
    pub fn parse(text: &str) -> Option<Self> {
        let (user, host) = text.rsplit_once('@')?;
        let is_plain = !user.is_empty() && !host.is_empty() && !text.contains(char::is_control);
        is_plain.then(|| Self { user: user.to_owned(), host: host.to_owned() })
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.user, self.host)
    }
}

/// To whom what is restored belongs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Ownership {
    /// To those to whom it belonged, with all grants.
    #[default]
    AsDumped,
    /// To the user who connects, without grants.
    Connecting,
    /// To this role, without grants.
    Role(String),
}

/// A kind of adaptation that not every engine knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adaptation {
    /// [`Ownership::Role`].
    Owner,
    /// [`Adaptations::no_tablespaces`].
    Tablespaces,
    /// [`Adaptations::locale`].
    Locale,
    /// [`Adaptations::definer`].
    Definer,
}

impl Ownership {
    /// Tells whether owners and grants are those of the dump.
    pub fn are_kept(&self) -> bool {
        *self == Ownership::AsDumped
    }

    /// Returns the role that was named.
    pub fn role(&self) -> Option<&str> {
        match self {
            Ownership::Role(role) => Some(role),
            Ownership::AsDumped | Ownership::Connecting => None,
        }
    }

    /// Returns the flag that says so, if one does.
    fn flag(&self) -> Option<&'static str> {
        match self {
            Ownership::AsDumped => None,
            Ownership::Connecting => Some("--no-owner"),
            Ownership::Role(_) => Some(Adaptation::Owner.flag()),
        }
    }
}

impl Adaptation {
    /// Returns the flag that asks for it.
    pub fn flag(self) -> &'static str {
        match self {
            Adaptation::Owner => "--owner",
            Adaptation::Tablespaces => "--no-tablespaces",
            Adaptation::Locale => "--locale",
            Adaptation::Definer => "--definer",
        }
    }
}

impl Adaptations {
    /// Returns those asked for that not every engine knows.
    pub fn special(&self) -> Vec<Adaptation> {
        let asked = [
            (Adaptation::Owner, self.owners.role().is_some()),
            (Adaptation::Tablespaces, self.no_tablespaces),
            (Adaptation::Locale, self.locale.is_some()),
            (Adaptation::Definer, self.definer.is_some()),
        ];
        asked.into_iter().filter(|(_, is_asked)| *is_asked).map(|(adaptation, _)| adaptation).collect()
    }

    /// Returns the flags of those that change what statements of a dump say.
    pub fn of_dumps(&self) -> Vec<&'static str> {
        let tablespaces = self.no_tablespaces.then_some(Adaptation::Tablespaces.flag());
        self.owners.flag().into_iter().chain(tablespaces).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_a_user_and_a_host() {
        let account = |user: &str, host: &str| Some(Account { user: user.into(), host: host.into() });
        assert_eq!(Account::parse("app@%"), account("app", "%"));
        assert_eq!(Account::parse("a@b@10.%"), account("a@b", "10.%"));
        assert_eq!(account("a", "b").map(|it| it.to_string()).as_deref(), Some("a@b"));
        for wrong in ["app", "@%", "app@", "", "a\n@b"] {
            assert_eq!(Account::parse(wrong), None, "{wrong}");
        }
    }
}
