//! Does a process that starts listen for TCP connections elsewhere than it should?
//!
//! An app may listen on a second port, for metrics or for processes of its own, and work for a long time before it opens
//! the right one. So the port alone proves nothing: it must be the same for a while, in which the process does nothing.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// How long nothing may change before it is told.
const TELL: Duration = Duration::from_secs(2);

/// How long nothing may change before it counts as all that the process will ever do.
const CONCLUDE: Duration = Duration::from_secs(10);

/// Share of one core that a process uses at most that only waits for connections.
const IDLE: f64 = 0.1;

/// What a look at a process and its children has found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Look {
    /// Where they listen.
    listening: BTreeSet<SocketAddr>,
    /// CPU time that they have used.
    used: Duration,
    /// One of them waits for a disk.
    reads: bool,
}

/// What follows from the looks so far.
#[derive(Debug, PartialEq)]
enum Finding {
    /// All may be well.
    Nothing,
    /// For the first time: it seems to listen where nobody asks.
    Suspect,
    Elsewhere,
}

/// Looks at one process, one after the other.
struct Watch {
    /// Where it should listen.
    port: u16,
    last: Option<(Instant, Look)>,
    /// Since when nothing has changed.
    since: Instant,
    told: bool,
}

impl Watch {
    fn new(port: u16, now: Instant) -> Self {
        Self {
            port,
            last: None,
            since: now,
            told: false,
        }
    }

    fn add(&mut self, now: Instant, look: Look) -> Finding {
        let last = self.last.replace((now, look.clone()));
        let waits = last.is_some_and(|(then, last)| {
            let most = now.saturating_duration_since(then).mul_f64(IDLE);
            last.listening == look.listening && look.used.saturating_sub(last.used) <= most
        });
        if !waits || look.reads || strays(&look, self.port).is_empty() {
            self.since = now;
            return Finding::Nothing;
        }
        let unchanged = now.saturating_duration_since(self.since);
        if unchanged >= CONCLUDE {
            Finding::Elsewhere
        } else if unchanged >= TELL && !std::mem::replace(&mut self.told, true) {
            Finding::Suspect
        } else {
            Finding::Nothing
        }
    }
}

/// Where it listens, if it cannot be reached on `port` of 127.0.0.1.
fn strays(look: &Look, port: u16) -> Vec<SocketAddr> {
    let right = |address: &SocketAddr| {
        let ip = address.ip();
        address.port() == port && (ip.is_unspecified() || ip == Ipv4Addr::LOCALHOST)
    };
    match look.listening.iter().any(right) {
        true => Vec::new(),
        false => look.listening.iter().copied().collect(),
    }
}

/// Resolves when the process `pid` listens elsewhere than on `port`, and seems to do nothing else any more. `suspect` is
/// called once, before that.
pub async fn elsewhere(pid: u32, port: u16, suspect: impl Fn(Vec<SocketAddr>)) -> Vec<SocketAddr> {
    let mut watch = Watch::new(port, Instant::now());
    loop {
        tokio::time::sleep(PAUSE).await;
        let look = look(pid).await;
        let strays = strays(&look, port);
        match watch.add(Instant::now(), look) {
            Finding::Nothing => {}
            Finding::Suspect => suspect(strays),
            Finding::Elsewhere => return strays,
        }
    }
}

/// Where the process `pid` listens now, if not on `port`.
pub async fn now(pid: u32, port: u16) -> Vec<SocketAddr> {
    strays(&look(pid).await, port)
}

/// In words, the same address of both families once.
pub fn describe(addresses: &[SocketAddr]) -> String {
    let mut words: Vec<String> = Vec::new();
    for address in addresses {
        let word = match address.ip().is_unspecified() {
            true => format!("port {}", address.port()),
            false => address.to_string(),
        };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words.join(" and ")
}

async fn look(pid: u32) -> Look {
    // Where it holds nobody up: a machine may have many processes.
    let look = tokio::task::spawn_blocking(move || system::look(pid)).await;
    look.unwrap_or_default()
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    use std::collections::{BTreeSet, HashSet};
    use std::fs;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    use std::time::Duration;

    use super::Look;

    /// To programs Linux counts CPU time in hundredths of a second, whatever its own clock.
    const TICK: Duration = Duration::from_millis(10);

    /// A process that waits for a disk, and one that listens, in the system's own words.
    const DISK: &str = "D";
    const LISTEN: &str = "0A";

    /// At a worker's process and all others of its group, which are its children.
    pub fn look(pid: u32) -> Look {
        let mut found = Look::default();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|id| id.parse().ok()) else {
                continue;
            };
            let Some(process) = Process::of(id).filter(|process| process.group == pid) else {
                continue;
            };
            found.used += process.used;
            found.reads |= process.state == DISK;
            let sockets: HashSet<u64> = sockets_of(id).collect();
            if sockets.is_empty() {
                continue;
            }
            for table in ["tcp", "tcp6"] {
                let text = fs::read_to_string(format!("/proc/{id}/net/{table}"));
                let text = text.unwrap_or_default();
                found.listening.extend(listeners(&text, &sockets));
            }
        }
        found
    }

    struct Process {
        state: String,
        group: u32,
        used: Duration,
    }

    impl Process {
        fn of(pid: u32) -> Option<Self> {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // Behind the name, which may hold anything: state, ppid, pgrp, ... utime and stime are the 12th and 13th.
            let mut fields = stat.rsplit(") ").next()?.split(' ');
            let state = fields.next()?.to_owned();
            let group = fields.nth(1)?.parse().ok()?;
            let user: u32 = fields.nth(8)?.parse().ok()?;
            let system: u32 = fields.next()?.parse().ok()?;
            Some(Self {
                state,
                group,
                used: TICK * user.saturating_add(system),
            })
        }
    }

    /// The numbers of a process's sockets.
    fn sockets_of(pid: u32) -> impl Iterator<Item = u64> {
        let files = fs::read_dir(format!("/proc/{pid}/fd"));
        files.into_iter().flatten().flatten().filter_map(|file| {
            let target = fs::read_link(file.path()).ok()?;
            let number = target.to_str()?.strip_prefix("socket:[")?;
            number.strip_suffix(']')?.parse().ok()
        })
    }

    /// Of a table of the system's, the addresses at which one of `sockets` listens.
    pub(super) fn listeners(table: &str, sockets: &HashSet<u64>) -> BTreeSet<SocketAddr> {
        let address = |line: &str| {
            // sl, local_address, rem_address, st, tx_queue:rx_queue, tr:tm->when, retrnsmt, uid, timeout, inode.
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let is_one =
                *fields.get(3)? == LISTEN && sockets.contains(&fields.get(9)?.parse().ok()?);
            is_one.then(|| address(fields.get(1)?)).flatten()
        };
        table.lines().filter_map(address).collect()
    }

    /// `0100007F:1F90`: words of 32 bits in this machine's order, and the port.
    fn address(text: &str) -> Option<SocketAddr> {
        let (ip, port) = text.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        let word = |at: usize| {
            let digits = ip.get(at..at + 8)?;
            u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
        };
        let ip: IpAddr = if ip.len() == 8 {
            Ipv4Addr::from(word(0)?).into()
        } else {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            Ipv6Addr::from(bytes).into()
        };
        Some(SocketAddr::new(ip, port))
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod system {
    use super::Look;

    /// The system does not tell.
    pub fn look(_pid: u32) -> Look {
        Look::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: u16 = 40000;

    fn at(addresses: &[&str]) -> BTreeSet<SocketAddr> {
        let parse = |text: &&str| text.parse().expect("an address");
        addresses.iter().map(parse).collect()
    }

    /// What a watch finds, one look a second.
    fn findings(looks: impl IntoIterator<Item = Look>) -> Vec<Finding> {
        let start = Instant::now();
        let mut watch = Watch::new(PORT, start);
        let looks = looks.into_iter().enumerate();
        looks
            .map(|(second, look)| watch.add(start + PAUSE * second as u32, look))
            .collect()
    }

    fn idle(addresses: &[&str]) -> Look {
        Look {
            listening: at(addresses),
            ..Look::default()
        }
    }

    #[test]
    fn one_that_listens_elsewhere_and_only_waits_is_found_out_and_was_told_of_before() {
        let found = findings(vec![idle(&["0.0.0.0:8000"]); 12]);
        let suspect = found.iter().position(|one| *one == Finding::Suspect);
        let certain = found.iter().position(|one| *one == Finding::Elsewhere);
        assert_eq!((suspect, certain), (Some(2), Some(10)));
    }

    #[test]
    fn one_that_works_reads_or_changes_may_still_open_the_right_port() {
        let metrics = idle(&["127.0.0.1:9000"]);
        let works = (0..30).map(|second| Look {
            used: Duration::from_millis(200 * second),
            ..metrics.clone()
        });
        let reads = vec![
            Look {
                reads: true,
                ..metrics.clone()
            };
            30
        ];
        let changes = (0..30).map(|second| idle(&[["0.0.0.0:1", "0.0.0.0:2"][second / 2 % 2]]));
        let listens_nowhere = vec![idle(&[]); 30];
        let right = vec![idle(&["127.0.0.1:9000", "0.0.0.0:40000"]); 30];
        for looks in [
            works.collect(),
            reads,
            changes.collect(),
            listens_nowhere,
            right,
        ] {
            let found = findings(looks);
            assert!(
                found.iter().all(|one| *one == Finding::Nothing),
                "{found:?}"
            );
        }
    }

    #[test]
    fn the_right_port_of_another_address_is_elsewhere() {
        for wrong in ["[::1]:40000", "192.0.2.1:40000"] {
            assert_eq!(strays(&idle(&[wrong]), PORT).len(), 1);
        }
        for right in ["127.0.0.1:40000", "0.0.0.0:40000", "[::]:40000"] {
            assert_eq!(strays(&idle(&[right]), PORT), []);
        }
    }

    #[test]
    fn addresses_are_named_as_people_do() {
        let all: Vec<_> = at(&["0.0.0.0:8000", "[::]:8000", "127.0.0.1:9"])
            .into_iter()
            .collect();
        assert_eq!(describe(&all), "port 8000 and 127.0.0.1:9");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn own_listeners_are_found_and_those_of_others_are_not() {
        use std::collections::HashSet;
        use std::net::{TcpListener, TcpStream};
        use std::os::unix::process::CommandExt;

        let own = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = own.local_addr().expect("an address");
        let _client = TcpStream::connect(address).expect("connected");
        let group = nix::unistd::getpgrp().as_raw() as u32;
        let found = system::look(group);
        assert!(found.listening.contains(&address), "{found:?}");
        #[allow(clippy::disallowed_methods)]
        let mut other = std::process::Command::new("sleep")
            .arg("300")
            .process_group(0)
            .spawn()
            .expect("a process");
        assert_eq!(system::look(other.id()).listening, at(&[]));
        other.kill().expect("killed");
        other.wait().expect("reaped");
        assert_eq!(system::look(u32::MAX), Look::default());

        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 00000000000000000000000001000000:1F90 0:0 0A 0:0 00:0 0 0 0 77 1\n\
             1: 0000000000000000FFFF00000100007F:1F91 0:0 0A 0:0 00:0 0 0 0 78 1\n\
             2: 0100007F:1F92 0:0 01 0:0 00:0 0 0 0 77 1\nodd\n";
        if cfg!(target_endian = "little") {
            let found = system::listeners(table, &HashSet::from([77]));
            assert_eq!(found, at(&["[::1]:8080"]));
        }
    }
}
