//! Where a database is: `postgresql://USER@HOST:PORT/DATABASE?PARAMETERS`, the same with `mysql`, as clients take it.
//!
//! Only what is needed is taken apart; hosts and parameters of PostgreSQL go to its client library as they were written,
//! lists of hosts, sockets (`%2Frun%2Fpostgresql`) and services included.

use std::fmt;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use zeroize::Zeroizing;

use crate::database::clients::Clients;
use crate::model::outcome::{Ended, Outcome};

/// What the URLs of an engine look like.
#[derive(Debug, PartialEq, Eq)]
pub struct UrlKind {
    /// The engine's name, as facts and the names of streams have it.
    pub engine: &'static str,
    /// How its URLs may begin; the first is the one that messages name.
    pub schemes: &'static [&'static str],
    /// The parameter that names the database as well, if there is one.
    pub database_parameter: Option<&'static str>,
}

/// A server, and perhaps a database on it. It may hold a password, which it never shows.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    /// What its URLs look like.
    pub kind: &'static UrlKind,
    /// The database, decoded.
    pub database: Option<String>,
    scheme: String,
    /// As written.
    user: Option<String>,
    password: Option<Zeroizing<String>>,
    /// Hosts and ports as written; may be empty.
    hosts: String,
    /// Parameters as written.
    parameters: Vec<(String, String)>,
    /// The programs that talk to it.
    clients: Clients,
}

/// Why a text is no database URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It does not begin as one.
    #[error("a database URL begins with {}", begin_with(known))]
    Scheme {
        /// How it could begin.
        known: Vec<&'static str>,
    },
    /// A part is not percent-encoded UTF-8.
    #[error("the {0} in the database URL is not percent-encoded UTF-8")]
    Encoding(&'static str),
    /// A parameter has no value.
    #[error("the parameter {0:?} in the database URL has no value")]
    Parameter(String),
}

impl Ended for UrlError {
    fn outcome(&self) -> Outcome {
        Outcome::Usage
    }
}

/// Writes how URLs can begin.
fn begin_with(schemes: &[&str]) -> String {
    schemes.iter().map(|scheme| format!("{scheme}://")).collect::<Vec<_>>().join(" or ")
}

impl DatabaseUrl {
    /// Reads a URL of this kind.
    ///
    /// # Errors
    /// [`UrlError`], which never shows what was written: that may hold a password.
    pub fn parse(text: &str, kind: &'static UrlKind) -> Result<Self, UrlError> {
        let of_another = || UrlError::Scheme { known: kind.schemes.first().copied().into_iter().collect() };
        let (scheme, rest) = text.split_once("://").ok_or_else(of_another)?;
        if !kind.schemes.contains(&scheme) {
            return Err(of_another());
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        // A password may hold a slash that nobody encoded, a database name an @: the login has a colon before any slash.
        let is_login =
            |text: &str| !text.contains('/') || text.split('/').next().is_some_and(|name| name.contains(':'));
        let (login, place) = match place.rsplit_once('@') {
            Some((login, place)) if is_login(login) => (Some(login), place),
            _ => (None, place),
        };
        let (hosts, database) = place.split_once('/').unwrap_or((place, ""));
        let secret = |text| decoded(text, "password").map(Zeroizing::new);
        let (user, mut password) = match login.map(|login| login.split_once(':').ok_or(login)) {
            None => (None, None),
            Some(Ok((user, password))) => (Some(user), Some(secret(password)?)),
            Some(Err(user)) => (Some(user), None),
        };
        let mut database = decoded(database, "database")?;
        let mut parameters = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(|| UrlError::Parameter(pair.to_owned()))?;
            match name {
                "password" => password = Some(secret(value)?),
                name if kind.database_parameter == Some(name) => database = decoded(value, "database")?,
                _ => parameters.push((name.to_owned(), value.to_owned())),
            }
        }
        Ok(Self {
            kind,
            scheme: scheme.to_owned(),
            user: user.filter(|user| !user.is_empty()).map(str::to_owned),
            password: password.filter(|password| !password.is_empty()),
            hosts: hosts.to_owned(),
            database: Some(database).filter(|database| !database.is_empty()),
            parameters,
            clients: Clients::default(),
        })
    }

    /// Returns the same place, talked to by these programs.
    pub fn with_clients(self, clients: Clients) -> Self {
        Self { clients, ..self }
    }

    /// Returns the programs that talk to it.
    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    /// Returns the password, if the URL has one.
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref().map(String::as_str)
    }

    /// Returns the same place with this password.
    pub fn with_password(self, password: Zeroizing<String>) -> Self {
        Self { password: Some(password), ..self }
    }

    /// Returns the same place with this database.
    pub fn with_database(&self, database: &str) -> Self {
        Self { database: Some(database.to_owned()), ..self.clone() }
    }

    /// Returns the user, decoded.
    pub fn user(&self) -> Option<String> {
        self.user.as_deref().and_then(|user| decoded(user, "user").ok())
    }

    /// Returns the host without its port, decoded, and the port, of a URL with one host.
    pub fn host_and_port(&self) -> (Option<String>, Option<u16>) {
        let (host, port) = match self.hosts.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => (host, port.parse().ok()),
            _ => (self.hosts.as_str(), None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (decoded(host, "host").ok().filter(|host| !host.is_empty()), port)
    }

    /// Tells whether the server is on this machine, so that its directories are ours.
    pub fn is_local(&self) -> bool {
        match self.host_and_port().0 {
            None => true,
            Some(host) => host == "localhost" || host == "::1" || host.starts_with("127.") || host.starts_with('/'),
        }
    }

    /// Returns the parameters, decoded.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, String)> {
        self.parameters.iter().map(|(name, value)| (name.as_str(), decoded(value, "parameter").unwrap_or_default()))
    }

    /// Returns what a command line may hold: the URL without its password.
    pub fn for_command_line(&self) -> String {
        let parameters: Vec<String> = self.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let query = if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) };
        let database = self.database.as_deref().unwrap_or_default();
        format!("{}/{}{query}", self.server(), utf8_percent_encode(database, NON_ALPHANUMERIC))
    }

    /// Returns the server without database, parameters and password: `postgresql://joe@host:5432`.
    pub fn server(&self) -> String {
        let user = self.user.as_ref().map_or_else(String::new, |user| format!("{user}@"));
        format!("{}://{user}{}", self.scheme, self.hosts)
    }

    /// Returns the hosts as written, or `local` for the machine's own socket.
    pub fn host_label(&self) -> &str {
        if self.hosts.is_empty() { "local" } else { &self.hosts }
    }

    /// Returns the name that snapshots list as their source: stable, short and without user and secrets. `*` stands for all
    /// databases.
    pub fn source_name(&self, all_databases: bool) -> String {
        let database = self.database.as_deref().filter(|_| !all_databases).unwrap_or("*");
        format!("{}://{}/{database}", self.kind.engine, self.host_label())
    }
}

impl fmt::Display for DatabaseUrl {
    /// Writes server and database, without parameters and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.server())?;
        self.database.as_ref().map_or(Ok(()), |database| write!(f, "/{database}"))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

fn decoded(text: &str, what: &'static str) -> Result<String, UrlError> {
    percent_decode_str(text).decode_utf8().map(Into::into).map_err(|_| UrlError::Encoding(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POSTGRES: UrlKind =
        UrlKind { engine: "postgres", schemes: &["postgresql", "postgres"], database_parameter: Some("dbname") };
    const MYSQL: UrlKind = UrlKind { engine: "mysql", schemes: &["mysql", "mariadb"], database_parameter: None };

    fn parse(text: &str) -> Result<DatabaseUrl, UrlError> {
        DatabaseUrl::parse(text, if text.starts_with("postgres") { &POSTGRES } else { &MYSQL })
    }

    fn url(text: &str) -> DatabaseUrl {
        parse(text).expect("a database URL")
    }

    #[test]
    fn a_password_is_taken_out_wherever_it_stands() {
        for text in [
            "postgresql://joe:ge%2Fheim@h1:5432/shop?sslmode=require",
            "postgres://joe:ge/heim@h1:5432/shop?sslmode=require",
            "postgres://joe@h1:5432/shop?sslmode=require&password=ge%2Fheim",
        ] {
            let url = url(text);
            assert_eq!(url.password(), Some("ge/heim"));
            assert!(url.for_command_line().ends_with("://joe@h1:5432/shop?sslmode=require"));
            assert!(!format!("{url} {url:?} {}", url.source_name(false)).contains("heim"));
        }
    }

    #[test]
    fn databases_are_decoded_and_encoded() {
        let url = url("postgresql://%2Frun%2Fpostgresql,other:5433/Gr%C3%BC%C3%9Fe%2F1");
        assert_eq!(url.database.as_deref(), Some("Grüße/1"));
        assert_eq!(url.for_command_line(), "postgresql://%2Frun%2Fpostgresql,other:5433/Gr%C3%BC%C3%9Fe%2F1");
        assert_eq!(url.with_database("a b").for_command_line(), "postgresql://%2Frun%2Fpostgresql,other:5433/a%20b");
    }

    #[test]
    fn a_server_without_host_or_database_is_the_local_one() {
        let local = url("mysql:///");
        assert_eq!((local.host_and_port(), local.database.clone()), ((None, None), None));
        assert_eq!(local.source_name(true), "mysql://local/*");
        let six = url("mysql://root@[::1]:3307/shop?ssl-ca=/etc/ca.pem");
        assert_eq!(six.host_and_port(), (Some("::1".to_owned()), Some(3307)));
        assert_eq!(six.user().as_deref(), Some("root"));
        assert_eq!(six.parameters().collect::<Vec<_>>(), [("ssl-ca", "/etc/ca.pem".to_owned())]);
    }

    #[test]
    fn what_is_no_database_url_is_refused() {
        for other in ["http://h/db", "shop"] {
            assert_eq!(parse(other), Err(UrlError::Scheme { known: vec!["mysql"] }));
            assert_eq!(parse(other).expect_err("no scheme of ours").to_string(), "a database URL begins with mysql://");
        }
        assert!(matches!(parse("mysql://h/%ff"), Err(UrlError::Encoding("database"))));
        assert!(matches!(parse("mysql://h/x?ssl"), Err(UrlError::Parameter(_))));
    }

    #[test]
    fn a_parameter_names_the_database_only_where_clients_understand_it() {
        assert_eq!(url("postgresql://h/?dbname=shop").database.as_deref(), Some("shop"));
        assert_eq!(url("mysql://h/?dbname=shop").database, None);
    }

    #[test]
    fn a_server_elsewhere_has_other_disks() {
        let local = |text: &str| url(text).is_local();
        assert!(local("mysql:///x") && local("postgresql://%2Frun%2Fpostgresql/x") && local("mysql://u@127.0.0.1:1/x"));
        assert!(!local("postgresql://db1/x"));
    }
}
