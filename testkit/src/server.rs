//! One private server process.

use crate::binary::Binary;
use crate::client::try_info;
use crate::clock::Clock;
use crate::error::Error;
use crate::paths::{module_path, new_dir};
use crate::wait::{DEADLINE, await_until};
use redis::{Connection, ProtocolVersion, RedisConnectionInfo};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Options for starting a server. The defaults suit tests: the chosen binary, the release module, no persistence except
/// what a restart needs, DEBUG allowed.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Options {
    binary: Option<Binary>,
    module: Module,
    module_arguments: String,
    config: Vec<String>,
    cluster: Cluster,
    wrapper: Vec<String>,
    sentinel: bool,
}

#[derive(Debug, Clone, Default)]
enum Module {
    #[default]
    Release,
    At(PathBuf),
    None,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Cluster {
    /// No cluster.
    #[default]
    Off,
    /// A cluster of its own, with every slot.
    Whole,
    /// A node without slots, that has met no other.
    Node,
}

impl Options {
    /// Another binary than the one that `GW_SERVER` names.
    pub fn binary(mut self, binary: Binary) -> Self {
        self.binary = Some(binary);
        self
    }

    /// Another build of the module.
    pub fn module(mut self, path: impl Into<PathBuf>) -> Self {
        self.module = Module::At(path.into());
        self
    }

    /// A server without the module.
    pub fn without_module(mut self) -> Self {
        self.module = Module::None;
        self
    }

    /// The arguments after the module's path on its `loadmodule` line.
    pub fn module_arguments(mut self, arguments: impl Into<String>) -> Self {
        self.module_arguments = arguments.into();
        self
    }

    /// A line of redis.conf. It comes after all others, so it wins over the kit's own.
    pub fn config(mut self, line: impl Into<String>) -> Self {
        self.config.push(line.into());
        self
    }

    /// An append-only file from the first command on. Each command is in the file before it is answered, so that a
    /// crash of the process loses nothing: with `appendfsync everysec` a write may wait for an fsync that is under way.
    pub fn aof(self) -> Self {
        self.config("appendonly yes").config("appendfsync no")
    }

    /// A replica of `primary`. It is connected some time after the start: see [`await_in_sync`](crate::await_in_sync).
    pub fn replica_of(self, primary: &Server) -> Self {
        let line = format!("replicaof 127.0.0.1 {}", primary.port());
        self.config(line)
    }

    /// A cluster of one node that owns every slot.
    pub fn cluster(mut self) -> Self {
        self.cluster = Cluster::Whole;
        self
    }

    /// A node that is to become part of a cluster.
    pub(crate) fn cluster_node(mut self) -> Self {
        self.cluster = Cluster::Node;
        self
    }

    /// A Sentinel, which has no data and no module.
    pub(crate) fn sentinel(mut self) -> Self {
        self.sentinel = true;
        self
    }

    /// Runs the server under another program, such as valgrind with its options, that becomes the server's own process.
    pub fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Gives the server a clock that the test can set.
    pub fn clock(mut self, clock: &Clock) -> Self {
        self.wrapper = clock.wrapper().into();
        self
    }

    /// Starts the server and returns when it answers.
    ///
    /// # Errors
    /// If the binary or the module is missing, or if the server exits: then with the end of its log.
    pub fn start(self) -> Result<Server, Error> {
        // Another process may take a free port before the server binds it: then the next one is tried.
        const TRIES: usize = 5;
        let binary = self.binary.clone().map_or_else(Binary::chosen, Ok)?;
        let mut last = Error::new("no port is free");
        for _ in 0..TRIES {
            let (wrapper, binary) = (self.wrapper.clone(), binary.clone());
            let (port, dir, sentinel) = (free_port()?, new_dir()?, self.sentinel);
            let mut server = Server { binary, wrapper, sentinel, port, dir, process: None, paused: false };
            fs::write(server.dir.join("server.conf"), self.config_file(&server)?)?;
            match server.launch() {
                Ok(()) => {
                    if self.cluster == Cluster::Whole {
                        own_every_slot(&mut server.connect()?)?;
                    }
                    return Ok(server);
                }
                Err(error) if server.log().contains("Address already in use") => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    fn config_file(&self, server: &Server) -> Result<String, Error> {
        let place = [format!("port {}", server.port), "bind 127.0.0.1".into(), format!("dir {}", server.dir.display())];
        if self.sentinel {
            return Ok([&place, self.config.as_slice(), &[String::new()]].concat().join("\n"));
        }
        let mut lines = Vec::from(place);
        lines.extend([
            "enable-debug-command yes".into(),
            // The server saves nothing by itself: a test decides when.
            "save \"\"".into(),
            // Replicas connect at once, and an idle link stays silent, so that only commands move the offset.
            "repl-diskless-sync-delay 0".into(),
            "repl-ping-replica-period 3600".into(),
        ]);
        let module = match &self.module {
            Module::Release => Some(module_path()?),
            Module::At(path) => Some(path.clone()),
            Module::None => None,
        };
        lines.extend(module.map(|path| format!("loadmodule {} {}", path.display(), self.module_arguments)));
        if self.cluster != Cluster::Off {
            lines.extend(["cluster-enabled yes".into(), format!("cluster-port {}", free_port()?)]);
        }
        lines.extend(self.config.iter().cloned());
        lines.push(String::new());
        Ok(lines.join("\n"))
    }
}

/// A running server. Dropping it ends the process, by its own id, and removes its directory.
#[derive(Debug)]
pub struct Server {
    binary: Binary,
    wrapper: Vec<String>,
    sentinel: bool,
    port: u16,
    dir: PathBuf,
    process: Option<Child>,
    paused: bool,
}

impl Server {
    pub fn options() -> Options {
        Options::default()
    }

    /// Starts a server with the default options.
    ///
    /// # Errors
    /// See [`Options::start`].
    pub fn start() -> Result<Self, Error> {
        Self::options().start()
    }

    pub fn binary(&self) -> &Binary {
        &self.binary
    }

    /// The port on 127.0.0.1. It stays the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id; `None` while the server is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// The working directory: dump.rdb, appendonlydir.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The server's whole log, over all restarts.
    pub fn log(&self) -> String {
        fs::read(self.log_path()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// A connection that speaks RESP2.
    ///
    /// # Errors
    /// If the server does not accept it.
    pub fn connect(&self) -> Result<Connection, Error> {
        self.connect_with(RedisConnectionInfo::default())
    }

    /// A connection that speaks RESP3.
    ///
    /// # Errors
    /// If the server does not accept it.
    pub fn connect_resp3(&self) -> Result<Connection, Error> {
        self.connect_with(RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3))
    }

    /// A connection as an ACL user.
    ///
    /// # Errors
    /// If the server does not accept it.
    pub fn connect_as(&self, user: &str, password: &str) -> Result<Connection, Error> {
        self.connect_with(RedisConnectionInfo::default().set_username(user).set_password(password))
    }

    fn connect_with(&self, settings: RedisConnectionInfo) -> Result<Connection, Error> {
        use redis::IntoConnectionInfo;
        // Without the client's own CLIENT SETINFO: a test that reads commandstats sees its own commands only.
        let settings = settings.set_skip_set_lib_name();
        let info = ("127.0.0.1", self.port).into_connection_info()?.set_redis_settings(settings);
        // No time limit on replies: a socket with one fails if the process is stopped and continued (Ctrl-Z, fg; a
        // frozen container).
        Ok(redis::Client::open(info)?.get_connection_with_timeout(DEADLINE)?)
    }

    /// Whether the process is running.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| matches!(process.try_wait(), Ok(None)))
    }

    /// Ends the server as an operator would (`SHUTDOWN SAVE`) and starts it again, in the same place.
    ///
    /// # Errors
    /// If it does not end, or does not start.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.shut_down()?;
        self.launch()
    }

    /// Ends the server at once, as a crash would (`kill -9`), and starts it again, in the same place.
    ///
    /// # Errors
    /// If it does not start.
    pub fn crash_and_restart(&mut self) -> Result<(), Error> {
        self.kill();
        self.launch()
    }

    /// `SHUTDOWN SAVE`: everything is written to the RDB file and to the append-only file, if there is one.
    ///
    /// # Errors
    /// If the process does not end.
    pub fn shut_down(&mut self) -> Result<(), Error> {
        // The server replies by closing the connection. If it did not shut down, its process lives on, which is checked
        // below.
        let _: redis::RedisResult<()> = redis::cmd("SHUTDOWN").arg("SAVE").query(&mut self.connect()?);
        await_until("the server to shut down", DEADLINE, || !self.is_running())
            .map_err(|error| Error::new(format!("{error}\n{}", self.log_end())))?;
        self.process = None;
        Ok(())
    }

    /// Stops the process (SIGSTOP): it keeps its connections and answers nothing, as on a machine that hangs.
    ///
    /// # Errors
    /// If it has ended.
    pub fn pause(&mut self) -> Result<(), Error> {
        self.signal("STOP")?;
        self.paused = true;
        Ok(())
    }

    /// Ends a [`pause`](Self::pause) (SIGCONT).
    ///
    /// # Errors
    /// If it has ended.
    pub fn go_on(&mut self) -> Result<(), Error> {
        self.signal("CONT")?;
        self.paused = false;
        Ok(())
    }

    /// Whether the process is there, and is not paused.
    pub fn can_answer(&self) -> bool {
        self.process.is_some() && !self.paused
    }

    /// Whether it answers that it is a primary.
    pub fn is_primary(&self) -> bool {
        let replication = || try_info(&mut self.connect().ok()?, "replication").ok();
        self.can_answer() && replication().is_some_and(|fields| fields.get("role").is_some_and(|role| role == "master"))
    }

    fn signal(&self, name: &str) -> Result<(), Error> {
        let pid = self.pid().ok_or_else(|| Error::new("the server is not running"))?;
        // A program, because the standard library has no signals; the shell has it built in.
        let status = Command::new("sh").args(["-c", "kill -$0 $1", name, &pid.to_string()]).status()?;
        if status.success() { Ok(()) } else { Err(Error::new(format!("cannot send {name} to process {pid}"))) }
    }

    /// Starts a server that was killed, in the same place.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start_again(&mut self) -> Result<(), Error> {
        self.launch()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.paused = false;
        if let Some(mut process) = self.process.take() {
            // Both fail only if the process has ended already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts the process in this server's directory, and returns when it answers.
    fn launch(&mut self) -> Result<(), Error> {
        // The option `logfile` would miss what the server writes before it has read its configuration.
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let path = self.binary.path.as_os_str();
        let (program, before) = match self.wrapper.split_first() {
            Some((wrapper, options)) => (OsStr::new(wrapper), options.iter().map(OsStr::new).chain([path]).collect()),
            None => (path, Vec::new()),
        };
        let process = Command::new(program)
            .args(before)
            .arg(self.dir.join("server.conf"))
            .args(self.sentinel.then_some("--sentinel"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| Error::new(format!("cannot run {}: {error}", program.display())))?;
        self.process = Some(process);
        let mut ready = false;
        let waited = await_until("the server to answer", DEADLINE, || {
            ready = self.answers();
            ready || !self.is_running()
        });
        match waited {
            Ok(()) if ready => Ok(()),
            Ok(()) => Err(Error::new(format!("{} did not start. Its log ends:\n{}", self.binary, self.log_end()))),
            Err(error) => Err(Error::new(format!("{error}. The log of {} ends:\n{}", self.binary, self.log_end()))),
        }
    }

    /// Whether this process answers, and has finished loading.
    fn answers(&self) -> bool {
        let Ok(mut connection) = self.connect() else { return false };
        match redis::cmd("PING").query::<String>(&mut connection) {
            Ok(_) => {
                // If another process got the port first, this one is about to exit, and the other one's answer does not
                // count.
                let info: String = redis::cmd("INFO").arg("server").query(&mut connection).unwrap_or_default();
                let line = format!("process_id:{}\r", self.pid().unwrap_or_default());
                info.contains(&line)
            }
            // A server that demands a password is up, too.
            Err(error) => error.code() == Some("NOAUTH"),
        }
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    fn log_end(&self) -> String {
        const LINES: usize = 30;
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the log of {} on port {} ends:\n{}", self.binary, self.port, self.log_end());
        }
        self.kill();
        // If it cannot be removed, it stays in the temporary directory.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn own_every_slot(client: &mut Connection) -> Result<(), Error> {
    redis::cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(0).arg(16383).exec(client)?;
    await_until("the cluster to be up", DEADLINE, || {
        let info = redis::cmd("CLUSTER").arg("INFO").query::<String>(client);
        info.is_ok_and(|info| info.contains("cluster_state:ok"))
    })
}

fn free_port() -> Result<u16, Error> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    Ok(listener.local_addr()?.port())
}
