//! `flow --through cats --mib N`, or `flow --through ADDRESS/PATH --mib N`: how long so many MiB take to come back.
//!
//! `cats` are three programs `cat`, one after another, each of which reads from a loopback socket of its own; what the last one
//! writes is read from a pipe. Else it is a POST of HTTP/1.1, whose body is sent while its answer is read.

use std::error::Error;
use std::io::{ErrorKind, Read, Result as IoResult, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tools::args::Args;
use tools::flow::{self, Check, Chunks, BLOCK};

const CATS: usize = 3;
/// Of one read or write.
const TIMEOUT: Duration = Duration::from_secs(60);
const READ: usize = 256 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::from_env(&["through", "mib"])?;
    let through: String = args.need("through")?;
    let blocks = (args.need::<u64>("mib")? << 20).div_ceil(BLOCK as u64);
    let start = Instant::now();
    let bytes = match &*through {
        "cats" => through_cats(blocks)?,
        address => through_http(address, blocks)?,
    };
    let seconds = start.elapsed().as_secs_f64();
    if bytes != blocks * BLOCK as u64 {
        return Err(format!("{bytes} bytes came back of {}", blocks * BLOCK as u64).into());
    }
    println!(r#"{{"bytes":{bytes},"seconds":{seconds:.4}}}"#);
    Ok(())
}

fn through_cats(blocks: u64) -> Result<u64, Box<dyn Error>> {
    let (mut to, mut next) = socket_pair()?;
    let mut cats: Vec<Child> = Vec::new();
    for _ in 1..CATS {
        let (output, input) = socket_pair()?;
        cats.push(cat(next, OwnedFd::from(output).into())?);
        next = input;
    }
    let mut last = cat(next, Stdio::piped())?;
    let mut from: ChildStdout = last.stdout.take().expect("it is piped");
    cats.push(last);

    // Its end is the first one's end of input.
    let writer = thread::spawn(move || flow::write(&mut to, blocks, false));
    let mut check = Check::default();
    let mut buffer = vec![0; READ];
    loop {
        match from.read(&mut buffer)? {
            0 => break,
            n => check.take(&buffer[..n])?,
        }
    }
    writer.join().expect("a writer does not panic")?;
    for mut cat in cats {
        if !cat.wait()?.success() {
            return Err("cat failed".into());
        }
    }
    Ok(check.bytes)
}

fn cat(input: TcpStream, output: Stdio) -> IoResult<Child> {
    let input = OwnedFd::from(input).into();
    Command::new("cat")
        .stdin::<Stdio>(input)
        .stdout(output)
        .spawn()
}

/// Both ends of a connection over loopback.
fn socket_pair() -> IoResult<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let one = TcpStream::connect(listener.local_addr()?)?;
    Ok((one, listener.accept()?.0))
}

fn through_http(target: &str, blocks: u64) -> Result<u64, Box<dyn Error>> {
    let at = target.find('/').ok_or("--through: not ADDRESS/PATH")?;
    let (address, path) = target.split_at(at);
    let address: SocketAddr = address.parse()?;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    let mut to = stream.try_clone()?;
    let writer = thread::spawn(move || flow::write(&mut to, blocks, true));
    let bytes = read_answer(&mut stream)?;
    writer.join().expect("a writer does not panic")?;
    Ok(bytes)
}

/// A 200 in chunks, to its end.
fn read_answer(stream: &mut TcpStream) -> Result<u64, Box<dyn Error>> {
    let mut buffer = vec![0; READ];
    let mut filled = 0;
    let body_at = loop {
        filled += read(stream, &mut buffer[filled..])?;
        if let Some(end) = buffer[..filled].windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..body_at]).to_ascii_lowercase();
    if !head.starts_with("http/1.1 200 ") || !head.contains("\ntransfer-encoding: chunked\r") {
        let told = String::from_utf8_lossy(&buffer[..filled]);
        return Err(format!("not a 200 in chunks: {told}").into());
    }
    let (mut chunks, mut check) = (Chunks::default(), Check::default());
    chunks.take(&buffer[body_at..filled], &mut check)?;
    while !matches!(chunks, Chunks::Ended) {
        let n = read(stream, &mut buffer)?;
        chunks.take(&buffer[..n], &mut check)?;
    }
    Ok(check.bytes)
}

/// The end of what comes is an error.
fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> IoResult<usize> {
    match stream.read(buffer)? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        n => Ok(n),
    }
}
