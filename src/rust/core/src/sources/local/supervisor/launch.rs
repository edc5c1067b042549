//! A process of a worker to be: forked from a template, or started as an ordinary one, with all that it is told.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::{Instant, SystemTime};

use nix::sys::signal::Signal;

use super::member::{Member, Reason};
use super::start::{ForkFailure, FIRST};
use super::{Event, Supervisor};
use crate::app_metrics;
use crate::environment::SystemError;
use crate::ops::status::{Kind, State};
use crate::sources::local::boot::{ReservedPort, LOOK};
use crate::sources::local::output::{Gate, Outlet};
use crate::sources::local::process::Process;
use crate::sources::local::spawn::Launch;
use crate::sources::local::streams::Streams;
use crate::sources::local::template::{Fork, ForkFailed, ForkOrder};
use crate::sources::local::templates::Ready;
use crate::sources::local::{Confined, Identity};

impl Supervisor {
    /// Forks a process from a template, if there is one, or else starts an ordinary one.
    pub(super) async fn launch(
        &mut self,
        id: u32,
        generation: u64,
        replaces: Option<(u64, Reason)>,
    ) -> io::Result<Member> {
        let confined = self.settings.confinement.resolve()?;
        let owner = confined.identity.as_ref();
        let socket = match self.settings.worker_type {
            Some(Kind::Http) => None,
            _ => Some(self.resources.socket(generation, owner)?),
        };
        let temporary = self.resources.temporary(generation, owner)?;
        let counts = app_metrics::path_in(temporary.path());
        let mut member = Member {
            id,
            state: State::Starting,
            process: None,
            started: SystemTime::now(),
            began: Instant::now(),
            boot: None,
            ready_since: None,
            port: ReservedPort::take()?,
            socket,
            _counted: self.ops.metrics.process(counts),
            temporary,
            inherited: None,
            gate: self.gate_of(id),
            worker: None,
            lease_id: None,
            replaces,
            recycle_after: None,
            fresh: None,
            heavy_until: None,
            idle_since: None,
            requests_seen: 0,
            problem: None,
        };
        let shared = self.settings.shared_template && !reads_at_start(&self.settings.dir);
        let template = match shared {
            true => self.resources.shared_template(),
            false => self.preload.ready(),
        };
        match (template, member.socket.clone()) {
            (Some(template), Some(socket)) => {
                let Ready {
                    serial,
                    line,
                    temporary,
                } = template;
                member.inherited = Some(temporary);
                let (streams, its_streams) = Streams::new()?;
                let order = ForkOrder {
                    id,
                    generation,
                    port: member.port.address.port(),
                    socket,
                    dir: shared.then(|| self.settings.dir.clone()),
                    env: match shared {
                        true => self.env_of(&member, &confined),
                        // The rest is the template's.
                        false => self.own_env(&member, &confined),
                    },
                    confined,
                };
                let fork = Fork {
                    order,
                    streams: its_streams,
                };
                let (sender, outlet) = (self.sender.clone(), self.outlet(&member));
                tokio::spawn(async move {
                    let born = match line.fork(fork).await {
                        Ok(pid) => Process::adopt(pid, streams, line, &outlet)
                            .map_err(|error| ForkFailed::Refused(SystemError(&error).to_string())),
                        Err(failed) => Err(failed),
                    };
                    let failure = |failed| ForkFailure {
                        serial,
                        shared,
                        failed,
                    };
                    // Fails only when the supervisor is gone, and then it ends with its process.
                    let _ = sender.send(Event::Forked(generation, born.map_err(failure)));
                });
            }
            _ => self.spawn(generation, &mut member, confined).await?,
        }
        Ok(member)
    }

    /// Starts an ordinary process.
    async fn spawn(
        &self,
        generation: u64,
        member: &mut Member,
        confined: Confined,
    ) -> io::Result<()> {
        let launch = Launch {
            command: self.settings.command.clone(),
            dir: self.settings.dir.clone(),
            env: self.env_of(member, &confined),
            stdin: None,
            confined,
            orphaned: Signal::SIGINT,
        };
        let outlet = self.outlet(member);
        let (process, exit) = Process::start(&self.resources.spawner, launch, &outlet).await?;
        self.watch(
            generation,
            member.addresses(),
            LOOK,
            process.own_memory(),
            Some(process.pid()),
            exit,
        );
        member.process = Some(process);
        Ok(())
    }

    /// The same for one that was not forked.
    pub(super) async fn spawn_again(&self, generation: u64, member: &mut Member) -> io::Result<()> {
        let confined = self.settings.confinement.resolve()?;
        self.spawn(generation, member, confined).await
    }

    /// Where its lines go.
    fn outlet(&self, member: &Member) -> Outlet {
        Outlet {
            name: self.ops.name_of(&format!("worker {}", member.id)),
            log: self.ops.log.clone(),
            gate: member.gate.clone(),
        }
    }

    /// Until one worker is ready, only the first one's lines are shown at once.
    fn gate_of(&self, id: u32) -> Gate {
        match self.ever_ready || id == FIRST {
            true => Gate::default(),
            false => Gate::closed(),
        }
    }

    /// What a worker is told.
    fn env_of(&self, member: &Member, confined: &Confined) -> BTreeMap<String, String> {
        let mut env = self.settings.process_env(member.id, &member.port);
        if let Some(socket) = &member.socket {
            env.insert("FAUCET_SOCKET".into(), socket.display().to_string());
        }
        env.extend(self.own_env(member, confined));
        env
    }

    /// What of that is not the same for all workers of the app, or not their template's.
    fn own_env(&self, member: &Member, confined: &Confined) -> BTreeMap<String, String> {
        let mut env: BTreeMap<_, _> = member.temporary.variable().into_iter().collect();
        env.extend(self.settings.confinement.variables());
        env.extend(confined.identity.iter().flat_map(Identity::variables));
        if let Some(counts) = app_metrics::path_in(member.temporary.path()).to_str() {
            env.insert("FAUCET_METRICS".into(), counts.into());
        }
        env
    }
}

/// Whether R reads files in this folder when it starts, as `renv` has them: only an ordinary process does.
fn reads_at_start(dir: &Path) -> bool {
    [".Rprofile", ".Renviron"]
        .iter()
        .any(|file| dir.join(file).exists())
}
