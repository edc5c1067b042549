//! Where a request's bytes are, at the server that is to take them.

use std::time::Duration;

use hyper::header::HeaderValue;
use hyper::HeaderMap;

use super::fetched::fetch;
use super::give::PATH;
use super::Direct;
use crate::body::Store;
use crate::client::told;
use crate::front::one_time::Token;
use crate::front::reply::Reply;
use crate::sources::replicas::{look_up, Target};
use crate::tls::Peer;
use crate::worker::remote::SOURCE;
use crate::worker::{Address, Connection};

/// How long looking the name up, connecting and shaking hands may take together.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where they are.
pub struct Source {
    /// `None` for here. Whether it is reached with TLS.
    at: Option<(Target, bool)>,
    token: Token,
}

/// The same, as far as it can be had before they are taken.
pub enum Reached {
    Here(Token),
    There(Box<Connection>, HeaderValue, Token),
}

impl Source {
    /// What a request says of it, if it does.
    ///
    /// # Errors
    /// It cannot be understood.
    pub fn of(headers: &HeaderMap) -> Option<Result<Self, String>> {
        let value = headers.get(SOURCE)?.to_str().ok();
        let read = value.and_then(Self::parse);
        Some(read.ok_or_else(|| "where it is cannot be understood".to_owned()))
    }

    fn parse(text: &str) -> Option<Self> {
        let (url, token) = text.split_at(text.find(PATH)?);
        let token = Token::parse(token.strip_prefix(PATH)?)?;
        let at = match url {
            "" => None,
            url => {
                let (scheme, authority) = url.split_once("://")?;
                let tls = match scheme {
                    "http" => false,
                    "https" => true,
                    _ => return None,
                };
                let target = Target::parse(&format!("http://{authority}")).ok()?;
                Some((target, tls))
            }
        };
        Some(Self { at, token })
    }

    /// Connects to where they are.
    ///
    /// # Errors
    /// That is not reached; within a sentence.
    pub async fn reach(self, direct: &Direct, store: &Store) -> Result<Reached, String> {
        let Some((target, tls)) = self.at else {
            return Ok(Reached::Here(self.token));
        };
        let connect = async {
            let peer = match tls {
                true => Some(Peer::new(direct.trust.tls().await?, target.host_name())),
                false => None,
            };
            let found = look_up(&target, None).await;
            let found = found.map_err(|error| error.to_string())?;
            let address = found.addresses.into_iter().next();
            let address = Address::Tcp(address.ok_or("its name has no address")?);
            let opened = Connection::open_to(&address, peer.as_ref()).await;
            opened.map_err(|error| told(&error))
        };
        let connected = tokio::time::timeout(PATIENCE, connect).await;
        let no_time = |_| format!("no connection within {} s", PATIENCE.as_secs());
        let mut connection = connected.map_err(no_time)??;
        connection.count(store.descriptors());
        let host = HeaderValue::from_str(target.authority()).map_err(|error| error.to_string())?;
        Ok(Reached::There(Box::new(connection), host, self.token))
    }
}

impl Reached {
    /// Takes them. `id` is the call's.
    ///
    /// # Errors
    /// They are not there; within a sentence.
    pub async fn take(self, direct: &Direct, id: &HeaderValue) -> Result<Reply, String> {
        match self {
            Self::Here(token) => {
                let taken = direct.kept.take(&token);
                taken.ok_or_else(|| "nothing of that kind is kept here".to_owned())
            }
            Self::There(connection, host, token) => fetch(*connection, host, &token, id).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_is_is_read_or_refused() {
        const TOKEN: &str = "0123456789abcdef0123456789abcdef";
        let read = |text: &str| Source::parse(&text.replace("TOKEN", TOKEN));
        let here = read("/__faucet__/kept/TOKEN").expect("here");
        assert!(here.at.is_none());
        for (text, authority, tls) in [
            (
                "http://10.0.0.7:9000/__faucet__/kept/TOKEN",
                "10.0.0.7:9000",
                false,
            ),
            (
                "https://agent.example:9000/__faucet__/kept/TOKEN",
                "agent.example:9000",
                true,
            ),
            (
                "http://[fd00::7]:9000/__faucet__/kept/TOKEN",
                "[fd00::7]:9000",
                false,
            ),
        ] {
            let at = read(text).and_then(|source| source.at).expect(text);
            assert_eq!((at.0.authority(), at.1), (authority, tls));
        }
        for text in [
            "",
            "http://10.0.0.7:9000/TOKEN",
            "/__faucet__/kept/",
            "/__faucet__/kept/TOKEN/",
            "/__faucet__/kept/TOKEN?a",
            "ftp://agent/__faucet__/kept/TOKEN",
            "agent/../__faucet__/kept/TOKEN ",
        ] {
            assert!(read(text).is_none(), "{text}");
        }
    }
}
