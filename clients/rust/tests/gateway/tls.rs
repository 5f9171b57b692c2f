use std::convert::Infallible;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use gw_testkit::{Server, call};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use redis::{Client, ClientTlsConfig, TlsCertificates};
use redis_gateway_client::commands::Quantity;
use redis_gateway_client::{
    AdmitOptions, AllowOptions, Away, CacheOptions, ChargeOptions, EntryOptions, Gateway, LogOptions, Mode, Outcome,
    Settings, Settlement, SlotOptions,
};

use crate::support::*;

/// An authority, and a certificate of it with its key, for the server and for its clients: as PEM.
struct Certificates {
    authority: String,
    own: String,
    key: String,
}

impl Certificates {
    fn new() -> Self {
        let (key, mut authority) = (KeyPair::generate().unwrap(), CertificateParams::default());
        // A certificate with the name of its issuer would be taken for one of its own.
        authority.distinguished_name.push(DnType::CommonName, "authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = authority.self_signed(&key).unwrap();
        let own = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&own, &Issuer::new(authority, key)).unwrap();
        Self { authority: root.pem(), own: leaf.pem(), key: own.serialize_pem() }
    }

    fn client(&self, port: u16, with_certificate: bool) -> Client {
        let (client_cert, client_key) = (self.own.clone().into_bytes(), self.key.clone().into_bytes());
        let client_tls = with_certificate.then_some(ClientTlsConfig { client_cert, client_key });
        let root_cert = Some(self.authority.clone().into_bytes());
        Client::build_with_tls(format!("rediss://localhost:{port}"), TlsCertificates { client_tls, root_cert }).unwrap()
    }
}

/// A server that wants a certificate of its clients, and its port for TLS. None if it was built without TLS.
fn server_with_tls(certificates: &Certificates) -> Option<(Server, u16)> {
    let files = [
        ("tls-ca-cert-file", &certificates.authority),
        ("tls-cert-file", &certificates.own),
        ("tls-key-file", &certificates.key),
    ];
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tls-{port}"));
        std::fs::create_dir_all(&directory).unwrap();
        let mut options = Server::options().config(format!("tls-port {port}")).config("tls-auth-clients yes");
        for (setting, text) in files {
            let file = directory.join(setting);
            std::fs::write(&file, text).unwrap();
            options = options.config(format!("{setting} {}", file.display()));
        }
        let started = options.start();
        // It has read them.
        std::fs::remove_dir_all(&directory).unwrap();
        match started {
            Ok(server) => return Some((server, port)),
            Err(error) if error.to_string().contains("Address already in use") => {}
            Err(error) if error.to_string().contains("Failed finding TLS support") => {
                eprintln!("skipped: this server was built without TLS");
                return None;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls() {
    let certificates = Certificates::new();
    let Some((server, port)) = server_with_tls(&certificates) else { return };
    policies(&server, "a", &[BUDGET, &rpm(5)]);
    let gateway = Gateway::new(&certificates.client(port, true), patient()).unwrap();
    let admission = admitted(&gateway, &["a"], &[("usd", "2")]).await;
    admission.use_so_far("usd", amount("0.5")).unwrap();
    assert_eq!(admission.settle().await.unwrap(), Settlement::Settled);
    assert_eq!(spent_of(&server, "a"), amount("0.5"));
    let cache = gateway.cache("chat", CacheOptions::default());
    let all: Vec<u8> = (0..=255).collect();
    for computed in [all.clone(), b"not again".to_vec()] {
        let compute = || async { Ok::<_, Infallible>(computed) };
        assert_eq!(*cache.get_or_compute("{}", &EntryOptions::default(), compute).await.unwrap(), all);
    }
    let wait = SlotOptions { wait: Duration::from_secs(1), ..SlotOptions::default() };
    assert!(gateway.lock("l", &wait).await.unwrap().release().await.unwrap());
    let logs = gateway.logs("log", LogOptions::default());
    logs.push("{}");
    assert!(logs.flush().await);
    assert_eq!(gateway.allow("k", 1, &AllowOptions::default()).await.unwrap().outcome, Outcome::Admitted);
    assert!(gateway.health().await.ok);
    gateway.close().await;
    // Without a certificate it is not let in.
    let stranger = Gateway::new(&certificates.client(port, false), patient()).unwrap();
    assert_eq!(stranger.health().await.reason.as_deref(), Some("connection"));
}

/// Connections are killed meanwhile, in the middle of whatever they do: nothing is doubled, lost or held.
#[tokio::test(flavor = "multi_thread")]
async fn tls_under_load() {
    const WORKERS: i64 = 10;
    const ROUNDS: i64 = 30;
    let certificates = Certificates::new();
    let Some((server, port)) = server_with_tls(&certificates) else { return };
    let budget = r#"{"name":"month","kind":"budget","amount":"1000000","period":"month"}"#;
    let parallel = r#"{"name":"parallel","kind":"inflight","max":1000}"#;
    let all = r#"{"name":"all","kind":"window","limit":1000000,"per_ms":3600000}"#;
    policies(&server, "{a}", &[budget, all, parallel]);
    let mut settings = Settings { failures: 1_000, ..patient() };
    settings.away = Away { admission: Mode::Open, ..Away::default() };
    settings.kept.every = Duration::from_millis(100);
    let gateway = Gateway::new(&certificates.client(port, true), settings).unwrap();
    let (served, admissions) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let (gateway, served, admissions) = (gateway.clone(), served.clone(), admissions.clone());
            tokio::spawn(async move {
                for round in 0..ROUNDS {
                    let estimates = amounts(&[("usd", "5")]);
                    let admission = gateway.admit(["{a}"], estimates, &AdmitOptions::default()).await.unwrap();
                    assert!(admission.is_ok(), "{admission:?}");
                    admission.use_so_far("usd", amount("0.01")).unwrap();
                    admission.settle().await.unwrap();
                    let options = ChargeOptions { id: Some(format!("{worker}:{round}")), ..ChargeOptions::default() };
                    gateway.charge("{a}:extra", amount("1"), &options).await.unwrap();
                    if admission.outcome() == Outcome::Admitted {
                        admissions.fetch_add(1, Ordering::SeqCst);
                    }
                    served.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let mut admin = server.connect().unwrap();
    for kill in (15..WORKERS * ROUNDS).step_by(30) {
        until("so many to be served", || served.load(Ordering::SeqCst) >= kill).await;
        call!(admin, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes" => ());
    }
    for worker in workers {
        worker.await.unwrap();
    }
    until("what is kept to arrive", || gateway.kept() == 0).await;
    let state = account(&server, "{a}");
    assert_eq!((state.in_flight, state.leases.len()), (0, 0));
    assert_eq!(spent_of(&server, "{a}"), amount("3"));
    assert_eq!(spent_of(&server, "{a}:extra"), amount(&(WORKERS * ROUNDS).to_string()));
    // One that was let through without the server may not have been counted.
    let Quantity::Whole(counted) = state.counts[&b"all"[..]] else { panic!("{state:?}") };
    assert!((admissions.load(Ordering::SeqCst)..=WORKERS * ROUNDS).contains(&counted), "{counted}");
}
