//! A DNS server of the test's own: dnsmasq on a high port of the loopback interface, which asks nobody else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::PATIENCE;

/// Whose address tells which of our changes the server has read.
const SERIAL: &str = "serial.harness.test";

/// Ports below those that the system hands out: nobody gets ours by chance while the server is down.
const PORTS: std::ops::Range<u16> = 10_000..30_000;

/// A running DNS server, which ends with this value.
pub struct Dns {
    pub address: SocketAddr,
    dir: TempDir,
    names: BTreeMap<String, Vec<IpAddr>>,
    /// What it reads only at its start.
    records: Vec<String>,
    ttl: u32,
    serial: u32,
    child: Option<Child>,
}

impl Dns {
    /// Starts a server whose records may be kept for no time at all.
    pub fn start_new() -> Self {
        Self::with_ttl(0)
    }

    pub fn with_ttl(ttl: u32) -> Self {
        let mut dns = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            dir: tempfile::tempdir().expect("a directory"),
            names: BTreeMap::new(),
            records: Vec::new(),
            ttl,
            serial: 0,
            child: None,
        };
        let start = Instant::now();
        loop {
            dns.address.set_port(free_port());
            if dns.try_start() {
                return dns;
            }
            assert!(start.elapsed() < PATIENCE, "dnsmasq does not start");
        }
    }

    /// The same with one name.
    pub fn of(name: &str, addresses: &[IpAddr]) -> Self {
        let mut dns = Self::start_new();
        dns.set(name, addresses);
        dns
    }

    /// The name has exactly these addresses from now on.
    pub fn set(&mut self, name: &str, addresses: &[IpAddr]) {
        assert!(name.ends_with(".test"), "{name}: only `test` is ours");
        self.names.insert(name.to_owned(), addresses.to_vec());
        self.reread();
    }

    /// There is no such name from now on: NXDOMAIN; REFUSED if it is below `refused.test`.
    pub fn remove(&mut self, name: &str) {
        self.names.remove(name);
        self.reread();
    }

    /// The name exists and has no address: NODATA.
    pub fn empty(&mut self, name: &str) {
        self.set(name, &[]);
    }

    /// The name's services are these hosts and ports. Starts the server anew.
    pub fn srv(&mut self, name: &str, services: &[(&str, u16)]) {
        let option = format!("--srv-host={name},");
        self.records.retain(|record| !record.starts_with(&option));
        for (host, port) in services {
            self.records.push(format!("{option}{host},{port}"));
        }
        self.restart();
    }

    /// The name is another name's alias. Starts the server anew.
    pub fn alias(&mut self, name: &str, of: &str) {
        self.records.push(format!("--cname={name},{of}"));
        self.restart();
    }

    /// Nobody answers from now on.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("our own process");
            child.wait().expect("our own process");
        }
    }

    /// Answers again, on the same port.
    pub fn start(&mut self) {
        let start = Instant::now();
        while !self.try_start() {
            assert!(start.elapsed() < PATIENCE, "dnsmasq does not start again");
        }
    }

    fn restart(&mut self) {
        self.stop();
        self.start();
    }

    /// How often a name was asked for, whatever the kind of record.
    pub fn queries(&self, name: &str) -> usize {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let name = format!(" {name} from ");
        log.lines()
            .filter(|line| line.contains(" query[") && line.contains(&name))
            .count()
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn hosts(&self) -> PathBuf {
        self.dir.path().join("hosts")
    }

    fn write_hosts(&mut self) {
        self.serial += 1;
        let mut hosts = format!("{} {SERIAL}\n", Ipv4Addr::from(self.serial));
        for (name, addresses) in &self.names {
            for address in addresses {
                writeln!(hosts, "{address} {name}").expect("a string");
            }
            if addresses.is_empty() {
                // A name exists if there is one below it.
                writeln!(hosts, "127.0.0.1 below.{name}").expect("a string");
            }
        }
        fs::write(self.hosts(), hosts).expect("written");
    }

    /// Whether it has come up: its port may be taken.
    fn try_start(&mut self) -> bool {
        self.write_hosts();
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
        let child = Command::new("dnsmasq")
            .args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--listen-address=127.0.0.1",
                "--bind-interfaces",
                "--no-resolv",
                "--no-hosts",
                "--local=/#/",
                "--server=/refused.test/#",
                "--user=root",
                "--pid-file=",
                "--log-queries",
            ])
            .arg(format!("--port={}", self.address.port()))
            .arg(format!("--addn-hosts={}", self.hosts().display()))
            .arg(format!("--log-facility={}", self.log().display()))
            .arg(format!("--local-ttl={}", self.ttl))
            .args(&self.records)
            // Where Debian has it, which is not on everybody's path.
            .env("PATH", path)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dnsmasq: `tools/setup test` installs it");
        self.child = Some(child);
        self.until_read()
    }

    fn reread(&mut self) {
        self.write_hosts();
        let Some(child) = &self.child else {
            // It reads them at its start.
            return;
        };
        kill(Pid::from_raw(child.id() as i32), Signal::SIGHUP).expect("our own process");
        assert!(self.until_read(), "dnsmasq has ended");
    }

    /// Waits until the server knows our last change; whether it still runs.
    fn until_read(&mut self) -> bool {
        let wanted = Ipv4Addr::from(self.serial);
        let start = Instant::now();
        while self.lookup(SERIAL) != Some(wanted) {
            assert!(start.elapsed() < PATIENCE, "dnsmasq does not answer");
            let child = self.child.as_mut().expect("just started");
            if child.try_wait().expect("our own process").is_some() {
                self.child = None;
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }

    /// A name's only address.
    fn lookup(&self, name: &str) -> Option<Ipv4Addr> {
        // A number for the query, one query, recursion wanted (RFC 1035, 4.1.1).
        let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            query.push(label.len() as u8);
            query.extend_from_slice(label.as_bytes());
        }
        // The end of the name; A records of the Internet.
        query.extend_from_slice(&[0, 0, 1, 0, 1]);
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).ok()?;
        socket.connect(self.address).ok()?;
        socket.send(&query).ok()?;
        let mut answer = [0; 512];
        // Refused at once while nobody listens.
        let length = socket.recv(&mut answer).ok()?;
        let record = answer
            .get(query.len()..length)
            .filter(|it| !it.is_empty())?;
        // Its data is the last that there is.
        let address: [u8; 4] = record[record.len() - 4..].try_into().ok()?;
        Some(address.into())
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A port on which nobody listens now, neither for datagrams nor for connections, and that no other server of this
/// process ever had: one that starts beside ours, or while ours is down, would answer in its place.
fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().expect("nobody panics with it");
    use std::hash::{BuildHasher, Hasher};
    let random = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish();
    let start = (random % PORTS.len() as u64) as u16;
    let port = (0..PORTS.len() as u16)
        .map(|step| PORTS.start + (start + step) % PORTS.len() as u16)
        .filter(|port| !given.contains(port))
        .find(|port| {
            UdpSocket::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()
                && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()
        })
        .expect("a free port");
    given.insert(port);
    port
}
