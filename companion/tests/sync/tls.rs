//! A database that is reached over TLS: the certificate and the name are checked.

use gw_testkit::{Server, call};

use crate::companion::Companion;
use crate::postgres::Postgres;

#[test]
fn the_database_is_reached_over_tls_and_only_if_it_is_the_right_one() {
    let (Some(postgres), Some(other)) = (Postgres::start_with_tls(), Postgres::start_with_tls()) else { return };
    let server = Server::start().unwrap();
    let mut client = server.connect().unwrap();
    call!(client, "GW.ADDCOST", "k", "0.25" => ());
    let companion = |to: &str| Companion::new(server.dir(), &format!("redis://127.0.0.1:{}", server.port()), to);
    let required = |host: &str, authority: &Postgres| {
        format!("{}?sslmode=require&sslrootcert={}", postgres.tcp_url(host), authority.authority().display())
    };
    for (wrong, reason) in [
        // Not a name of the certificate; signed by somebody else, or by nobody that the web trusts; not encrypted.
        (required("127.0.0.1", &postgres), "certificate"),
        (required("localhost", &other), "certificate"),
        (format!("{}?sslmode=require", postgres.tcp_url("localhost")), "certificate"),
        (postgres.tcp_url("localhost"), "pg_hba.conf"),
    ] {
        let refused = companion(&wrong).command(&["sync"]).output().unwrap();
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            !refused.status.success() && told.contains("cannot connect") && told.contains(reason),
            "{wrong}: {told}"
        );
    }
    companion(&required("localhost", &postgres)).catch_up();
    let row = postgres.connect().query_one("SELECT amount::text FROM gw_spend WHERE period = 'TOTAL'", &[]).unwrap();
    assert_eq!(row.get::<_, &str>(0), "0.250000000000");
}
