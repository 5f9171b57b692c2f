//! Where a database is, as people write it.

use std::path::PathBuf;

use crate::postgresql;

/// `postgres://user:password@host/database` or `sqlite:path`.
#[derive(Debug, Clone)]
pub enum Address {
    Postgresql(Box<postgresql::Address>),
    Sqlite(PathBuf),
}

impl Address {
    /// # Errors
    /// What is wrong with it. The text, which may have a password, is not repeated.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            let is_path = !path.is_empty();
            return is_path.then(|| Self::Sqlite(path.into())).ok_or_else(|| "sqlite: without a path".to_owned());
        }
        if !postgresql::is_address(text) {
            return Err("not postgres://user:password@host/database or sqlite:path".to_owned());
        }
        Ok(Self::Postgresql(Box::new(postgresql::Address::parse(text, "gw")?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_kinds_of_address_are_known() {
        assert!(matches!(Address::parse("sqlite:spend.sqlite"), Ok(Address::Sqlite(path)) if path == *"spend.sqlite"));
        for text in ["postgres://gw:word@db/spend", "postgresql://gw@%2Frun%2Fpostgresql/spend"] {
            assert!(matches!(Address::parse(text), Ok(Address::Postgresql(_))), "{text}");
        }
        for text in ["", "sqlite:", "mysql://host/spend", "postgres://host:port/spend", "spend.sqlite"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }
}
