//! A PostgreSQL of its own for a test: a new cluster in a temporary folder, reached by its socket there.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use gw_testkit::{DEADLINE, await_until};
use postgres::{Client, NoTls};

/// A running PostgreSQL. It ends with the value, as in a crash.
pub struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    server: Option<Child>,
    /// Of one that is reached over TCP with TLS, too.
    port: Option<u16>,
}

impl Postgres {
    /// Starts one with an empty database; `None`, and a line that says so, if PostgreSQL is not installed.
    pub fn start() -> Option<Self> {
        let mut postgres = Self::prepare()?;
        postgres.start_again();
        Some(postgres)
    }

    /// The same, and over TCP for who speaks TLS. Its certificate is for `localhost`, signed by [`authority`](Self::authority).
    #[allow(dead_code, reason = "for the tests of one database")]
    pub fn start_with_tls() -> Option<Self> {
        let mut postgres = Self::prepare()?;
        // Free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        postgres.port = Some(port);
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        for line in [
            format!("req -x509 {key} -days 2 -subj /CN=authority -keyout authority.key -out authority.pem"),
            format!("req {key} -subj /CN=server -keyout server.key -out server.csr"),
            "x509 -req -in server.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 2 -extfile names -out server.pem".to_owned(),
        ] {
            fs::write(postgres.folder.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
            let mut openssl = postgres.program("openssl");
            assert!(openssl.args(line.split(' ')).status().unwrap().success(), "{}", postgres.log());
        }
        fs::write(
            postgres.folder.join("data/pg_hba.conf"),
            "local all all trust\nhostssl all all 127.0.0.1/32 trust\n",
        )
        .unwrap();
        postgres.start_again();
        Some(postgres)
    }

    /// The certificate of who signed that of the server.
    #[allow(dead_code, reason = "for the tests of one database")]
    pub fn authority(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    /// The address by a host's name, of one with TLS.
    #[allow(dead_code, reason = "for the tests of one database")]
    pub fn tcp_url(&self, host: &str) -> String {
        format!("postgres://test@{host}:{}/postgres", self.port.unwrap())
    }

    fn prepare() -> Option<Self> {
        let Some(programs) = programs() else {
            println!("SKIPPED: there is no PostgreSQL in /usr/lib/postgresql");
            return None;
        };
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("gw-postgres-{}-{number}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        if let Some((user, group)) = owner() {
            std::os::unix::fs::chown(&folder, Some(user), Some(group)).unwrap();
        }
        let postgres = Self { programs, folder, server: None, port: None };
        let mut initdb = postgres.program("initdb");
        let made =
            initdb.args(["-D", "data", "-A", "trust", "-U", "test", "-E", "UTF8", "--no-sync"]).status().unwrap();
        assert!(made.success(), "{}", postgres.log());
        Some(postgres)
    }

    /// The address of its database, for programs and clients.
    pub fn url(&self) -> String {
        // A folder in the host's place is where the socket is.
        let folder = self.folder.to_str().unwrap().replace('/', "%2F");
        format!("postgres://test@{folder}:{}/postgres", self.port.unwrap_or(5432))
    }

    /// Its process, whose children serve the connections.
    #[allow(dead_code, reason = "for benchmarks")]
    pub fn process(&self) -> &Child {
        self.server.as_ref().unwrap()
    }

    /// A connection to its database.
    pub fn connect(&self) -> Client {
        Client::connect(&self.url(), NoTls).unwrap()
    }

    /// Starts it again after [`kill`](Self::kill), with what it had stored.
    pub fn start_again(&mut self) {
        assert!(self.server.is_none(), "it runs");
        let mut server = self.program("postgres");
        server.args(["-D", "data", "-c", "max_connections=50", "-k"]).arg(&self.folder);
        match self.port {
            None => server.args(["-c", "listen_addresses="]),
            Some(port) => {
                let files = ["ssl=on", "ssl_cert_file=../server.pem", "ssl_key_file=../server.key"];
                server
                    .args(["-h", "127.0.0.1", "-p"])
                    .arg(port.to_string())
                    .args(files.iter().flat_map(|one| ["-c", *one]))
            }
        };
        self.server = Some(server.spawn().unwrap());
        let url = self.url();
        await_until("PostgreSQL to answer", DEADLINE, || {
            let ended = self.server.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "PostgreSQL has ended: {}", self.log());
            Client::connect(&url, NoTls).is_ok()
        })
        .unwrap();
    }

    /// Ends it at once, in the middle of whatever it does. What it has committed stays.
    pub fn kill(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        // To its postmaster alone: it ends all its processes by itself, which a SIGKILL would leave behind.
        let told = Command::new("kill").args(["-QUIT", &server.id().to_string()]).status();
        if !told.is_ok_and(|status| status.success()) {
            let _ = server.kill();
        }
        let _ = server.wait();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// One of PostgreSQL's programs, in the folder, not as root.
    fn program(&self, name: &str) -> Command {
        // Those that are not PostgreSQL's own are looked for as usual.
        let own = self.programs.join(name);
        let mut command = Command::new(if own.exists() { own } else { name.into() });
        if let Some((user, group)) = owner() {
            command.uid(user).gid(group);
        }
        // Beside the data; opened by root, so that the test can read it.
        let log = fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log")).unwrap();
        command.current_dir(&self.folder).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The folder of the newest version's programs.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(Result::ok);
    let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.map(|entry| entry.path()).max_by_key(|path| number(path))?.join("bin");
    newest.join("initdb").exists().then_some(newest)
}

/// PostgreSQL does not run as root: then as the user that Debian's package has made. `None` if this is not root.
fn owner() -> Option<(u32, u32)> {
    let id = |arguments: &[&str]| {
        let printed = Command::new("id").args(arguments).output().unwrap().stdout;
        String::from_utf8(printed).unwrap().trim().parse::<u32>()
    };
    if id(&["-u"]) != Ok(0) {
        return None;
    }
    Some((id(&["-u", "postgres"]).unwrap(), id(&["-g", "postgres"]).unwrap()))
}
