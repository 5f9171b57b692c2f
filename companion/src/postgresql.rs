//! PostgreSQL: addresses, and connections with and without TLS.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use postgres::config::SslMode;
use postgres::{Client, Config, NoTls};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

/// A database, and whom to trust there.
#[derive(Debug, Clone)]
pub struct Address {
    config: Config,
    /// The file with the authorities that may have signed the server's certificate; those of the web if there is none.
    roots: Option<PathBuf>,
}

/// The parameter that libpq has for the file of authorities; the client library does not know it.
const ROOTS: &str = "sslrootcert";

/// Whether the text is the address of a PostgreSQL.
pub fn is_address(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

impl Address {
    /// # Errors
    /// What is wrong with it. The text, which may have a password, is not repeated.
    pub fn parse(text: &str, application: &str) -> Result<Self, String> {
        let (text, roots) = without_roots(text)?;
        let mut config = Config::from_str(&text).map_err(|error| error.to_string())?;
        if roots.is_some() && config.get_ssl_mode() != SslMode::Require {
            return Err(format!("{ROOTS} without sslmode=require"));
        }
        if config.get_application_name().is_none() {
            config.application_name(application);
        }
        Ok(Self { config, roots })
    }

    /// With `sslmode=require` the connection is encrypted, and the server's certificate and name are checked. Otherwise it
    /// is not: a certificate that is not checked would protect from nobody who can answer in the server's place.
    ///
    /// # Errors
    /// If the database cannot be reached or trusted, or refuses.
    pub fn connect(&self) -> Result<Client> {
        self.connect_by(&self.config)
    }

    /// The same, but gives up after this time. A connection that is cut off later is noticed after this time, too.
    ///
    /// # Errors
    /// Those of [`Self::connect`].
    pub fn connect_within(&self, time: Duration) -> Result<Client> {
        let mut config = self.config.clone();
        config.connect_timeout(time).tcp_user_timeout(time);
        self.connect_by(&config)
    }

    fn connect_by(&self, config: &Config) -> Result<Client> {
        let client = match config.get_ssl_mode() {
            SslMode::Require => config.connect(MakeRustlsConnect::new(self.tls()?)),
            _ => config.connect(NoTls),
        };
        client.context("cannot connect to the database")
    }

    fn tls(&self) -> Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        match &self.roots {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(path) => {
                let mut read = || -> Result<()> {
                    for certificate in CertificateDer::pem_file_iter(path)? {
                        roots.add(certificate?)?;
                    }
                    anyhow::ensure!(!roots.is_empty(), "there is no certificate");
                    Ok(())
                };
                read().with_context(|| format!("{ROOTS} {}", path.display()))?;
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }
}

/// The address without the file of authorities, and the file.
fn without_roots(text: &str) -> Result<(String, Option<PathBuf>), String> {
    let Some((address, query)) = text.split_once('?') else { return Ok((text.to_owned(), None)) };
    let is_roots = |part: &&str| part.split('=').next() == Some(ROOTS);
    let (roots, others): (Vec<&str>, Vec<&str>) = query.split('&').partition(is_roots);
    let roots = match *roots {
        [] => None,
        [one] => url::form_urlencoded::parse(one.as_bytes()).next().map(|(_, path)| PathBuf::from(&*path)),
        _ => return Err(format!("several {ROOTS}")),
    };
    let text = if others.is_empty() { address.to_owned() } else { format!("{address}?{}", others.join("&")) };
    Ok((text, roots))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_authorities_is_taken_out_of_the_address() {
        let address = Address::parse("postgres://gw@db/x?sslrootcert=/etc/a%20b.pem&sslmode=require", "gw").unwrap();
        assert_eq!(address.roots.as_deref(), Some("/etc/a b.pem".as_ref()));
        assert_eq!(address.config.get_ssl_mode(), SslMode::Require);
        assert_eq!(address.config.get_application_name(), Some("gw"));
        let own = Address::parse("postgres://gw@db/x?application_name=own", "gw").unwrap();
        assert_eq!((own.config.get_application_name(), own.roots), (Some("own"), None));
        for wrong in [
            "postgres://host:port/spend",
            "postgres://gw@db/x?sslrootcert=/a",
            "postgres://gw@db/x?sslmode=verify-full",
            "postgres://gw@db/x?sslmode=require&sslrootcert=/a&sslrootcert=/b",
        ] {
            assert!(Address::parse(wrong, "gw").is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_are_told_from_folders() {
        assert!(is_address("postgres://a") && is_address("postgresql://a") && !is_address("/var/postgres"));
    }

    #[test]
    fn a_file_without_certificates_is_named() {
        let address =
            Address::parse("postgres://gw@127.0.0.1:1/x?sslmode=require&sslrootcert=/dev/null", "gw").unwrap();
        let error = format!("{:#}", address.connect().err().unwrap());
        assert_eq!(error, "sslrootcert /dev/null: there is no certificate");
    }
}
