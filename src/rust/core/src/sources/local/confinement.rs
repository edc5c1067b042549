//! What a worker's process is kept to: another user, less memory, time to compute.
//!
//! All that takes looking up is done before a process is forked ([`Confinement::resolve`]); what is done in it
//! ([`Confined::apply`]) are system calls alone.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use nix::sys::resource::{setrlimit, Resource};
use nix::unistd::{Gid, Uid};
use serde_json::{json, Value};

/// What is asked for. `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// Whose process it is, by name; the front's own user otherwise. Only root may choose.
    pub user: Option<String>,
    /// Bytes of memory that it may have for its data.
    pub memory: Option<u64>,
    /// How long one call may compute. The worker itself sees to that, call by call.
    pub cpu_time: Option<Duration>,
}

/// The same for one process, with all that is known of the user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confined {
    pub identity: Option<Identity>,
    pub memory: Option<u64>,
    /// Seconds that the process may compute altogether.
    pub cpu_time: Option<u64>,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub uid: Uid,
    pub gid: Gid,
    pub groups: Vec<Gid>,
    pub name: String,
    pub home: String,
}

impl Confinement {
    /// Looks up the user.
    ///
    /// # Errors
    /// There is no such user, or this process may not choose.
    pub fn resolve(&self) -> io::Result<Confined> {
        let identity = match &self.user {
            None => None,
            Some(name) => Identity::named(name)?,
        };
        Ok(Confined {
            identity,
            memory: self.memory,
            cpu_time: None,
        })
    }

    /// The same for a process that is there for one call, and ends when its time to compute is over, to the second.
    ///
    /// # Errors
    /// As above.
    pub fn resolve_for_call(&self) -> io::Result<Confined> {
        let seconds = |time: Duration| time.as_secs() + u64::from(time.subsec_nanos() > 0);
        Ok(Confined {
            cpu_time: self.cpu_time.map(seconds),
            ..self.resolve()?
        })
    }

    /// What the worker is told.
    pub fn variables(&self) -> Option<(String, String)> {
        let seconds = self.cpu_time?.as_secs_f64();
        Some(("FAUCET_CPU_TIME".into(), seconds.to_string()))
    }
}

impl Identity {
    /// None for the user that this process is already.
    #[cfg(not(any(target_os = "macos", target_os = "ios")))]
    fn named(name: &str) -> io::Result<Option<Self>> {
        use nix::unistd::{geteuid, getgrouplist, User};
        let user = User::from_name(name)?.ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("there is no user {name}"))
        })?;
        if user.uid == geteuid() {
            return Ok(None);
        }
        if !geteuid().is_root() {
            let message = format!("only root can run workers as user {name}");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        let text = std::ffi::CString::new(name)?;
        let groups = getgrouplist(&text, user.gid)?;
        Ok(Some(Self {
            uid: user.uid,
            gid: user.gid,
            groups,
            name: user.name,
            home: user.dir.to_string_lossy().into_owned(),
        }))
    }

    /// The system has no safe way for it here.
    #[cfg(any(target_os = "macos", target_os = "ios"))]
    fn named(_: &str) -> io::Result<Option<Self>> {
        let message = "workers cannot run as another user on this system";
        Err(io::Error::new(io::ErrorKind::Unsupported, message))
    }

    /// What programs look into to know who they are.
    pub fn variables(&self) -> BTreeMap<String, String> {
        [
            ("HOME", &self.home),
            ("LOGNAME", &self.name),
            ("USER", &self.name),
        ]
        .map(|(name, value)| (name.to_owned(), value.clone()))
        .into()
    }
}

impl Confined {
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Confines this process, for good. Between fork and exec, or in a forked child: nothing is allocated.
    ///
    /// # Errors
    /// The system refuses: the process must not go on.
    pub fn apply(&self) -> io::Result<()> {
        if let Some(bytes) = self.memory {
            setrlimit(MEMORY, bytes, bytes)?;
        }
        if let Some(seconds) = self.cpu_time {
            setrlimit(Resource::RLIMIT_CPU, seconds, seconds)?;
        }
        match &self.identity {
            None => Ok(()),
            Some(identity) => identity.assume(),
        }
    }

    pub fn to_json(&self) -> Value {
        let identity = self.identity.as_ref();
        json!({
            "memory": self.memory,
            "user": identity.map(|user| json!({
                "uid": user.uid.as_raw(),
                "gid": user.gid.as_raw(),
                "groups": user.groups.iter().map(|group| group.as_raw()).collect::<Vec<_>>(),
                "name": user.name,
                "home": user.home,
            })),
        })
    }

    /// `None` if it is no such JSON.
    pub fn from_json(value: &Value) -> Option<Self> {
        let id = |value: &Value| u32::try_from(value.as_u64()?).ok();
        let identity = match value.get("user")? {
            Value::Null => None,
            user => Some(Identity {
                uid: Uid::from_raw(id(user.get("uid")?)?),
                gid: Gid::from_raw(id(user.get("gid")?)?),
                groups: user
                    .get("groups")?
                    .as_array()?
                    .iter()
                    .map(|group| id(group).map(Gid::from_raw))
                    .collect::<Option<_>>()?,
                name: user.get("name")?.as_str()?.to_owned(),
                home: user.get("home")?.as_str()?.to_owned(),
            }),
        };
        let memory = match value.get("memory")? {
            Value::Null => None,
            memory => Some(memory.as_u64()?),
        };
        Some(Self {
            identity,
            memory,
            cpu_time: None,
        })
    }
}

/// R's heap and what its packages allocate, but not the code that they map.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MEMORY: Resource = Resource::RLIMIT_DATA;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const MEMORY: Resource = Resource::RLIMIT_AS;

impl Identity {
    /// In this order: who is not root any more cannot change the groups.
    #[cfg(not(any(target_os = "macos", target_os = "ios")))]
    fn assume(&self) -> io::Result<()> {
        use nix::unistd::{setgroups, setresgid, setresuid};
        setgroups(&self.groups)?;
        setresgid(self.gid, self.gid, self.gid)?;
        setresuid(self.uid, self.uid, self.uid)?;
        // Otherwise its own files in /proc are root's, until it runs another program.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        nix::sys::prctl::set_dumpable(true)?;
        Ok(())
    }

    #[cfg(any(target_os = "macos", target_os = "ios"))]
    fn assume(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_back() {
        let identity = Identity {
            uid: Uid::from_raw(1),
            gid: Gid::from_raw(2),
            groups: vec![Gid::from_raw(2), Gid::from_raw(3)],
            name: "r".into(),
            home: "/home/r".into(),
        };
        for confined in [
            Confined::default(),
            Confined {
                cpu_time: None,
                identity: Some(identity),
                memory: Some(1 << 40),
            },
        ] {
            assert_eq!(Confined::from_json(&confined.to_json()), Some(confined));
        }
        assert_eq!(Confined::from_json(&json!({"memory": 1})), None);
        assert_eq!(
            Confined::from_json(&json!({"memory": null, "user": {"uid": -1}})),
            None
        );
    }

    #[test]
    fn who_it_is_already_needs_nothing_and_who_is_not_there_is_an_error() {
        let of = |user: &str| {
            let user = Some(user.to_owned());
            let confinement = Confinement {
                user,
                ..Confinement::default()
            };
            confinement.resolve()
        };
        let own = nix::unistd::User::from_uid(nix::unistd::geteuid());
        if let Ok(Some(own)) = own {
            assert_eq!(of(&own.name).ok(), Some(Confined::default()));
        }
        let error = of("no.such.user").expect_err("nobody");
        assert!(error.to_string().contains("no.such.user"), "{error}");
    }
}
