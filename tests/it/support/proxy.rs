//! A proxy on the loopback that does to chosen requests what networks and gateways do in the field.
//!
//! Each connection carries one request and is closed after it. A request that nothing is planned for goes to the server
//! behind it and back, unchanged.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Wire {
    /// It is answered with these bytes, and the server never sees it.
    Answer(String),
    /// The connection is reset before the server sees it.
    Reset,
    /// The server does what was asked, and the connection is reset instead of an answer.
    LoseAnswer,
    /// The server's answer is cut off after so many bytes of its body.
    CutBody(usize),
    /// The server's answer comes with a pause before each piece of so many bytes.
    Slow(usize, Duration),
    /// The request is taken in pieces of so many bytes, with a pause before each.
    SlowSending(usize, Duration),
    /// The connection stays open and nothing is ever answered.
    Stall,
}

/// Makes an HTTP answer.
pub fn answer(status: &str, headers: &[&str], body: &str) -> Wire {
    let mut text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
    for header in headers {
        text += &format!("{header}\r\n");
    }
    Wire::Answer(format!("{text}\r\n{body}"))
}

/// Makes an S3 error of that code.
pub fn s3_error(status: &str, code: &str) -> Wire {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>planned</Message>\
         <RequestId>1</RequestId></Error>"
    );
    answer(status, &["Content-Type: application/xml"], &body)
}

#[derive(Default)]
struct Script {
    plan: Vec<(String, Wire)>,
    rules: Vec<(String, String, Wire)>,
    log: Vec<String>,
}

/// A running proxy; it ends when dropped, and what was planned must have happened by then.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    script: Arc<Mutex<Script>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy before the server at `upstream`.
    pub async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let script = Arc::<Mutex<Script>>::default();
        let shared = script.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let script = shared.clone();
                connections.spawn(async move {
                    let _ = serve(socket, upstream, &script).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, script, task }
    }

    /// Plans `wire` for the next request of that method for which nothing else is planned.
    pub fn plan(&self, method: &str, wire: Wire) {
        self.script.lock().expect("no panic while held").plan.push((method.to_owned(), wire));
    }

    /// Does `wire` from now on to every request of that method (to all, where it is empty) whose path contains `part`, unless
    /// something is planned for it.
    pub fn always(&self, method: &str, part: &str, wire: Wire) {
        let rule = (method.to_owned(), part.to_owned(), wire);
        self.script.lock().expect("no panic while held").rules.push(rule);
    }

    /// Drops what is planned still.
    pub fn forget_plan(&self) {
        self.script.lock().expect("no panic while held").plan.clear();
    }

    /// Returns the methods of the requests so far.
    pub fn log(&self) -> Vec<String> {
        self.script.lock().expect("no panic while held").log.clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        if !std::thread::panicking() {
            let left = &self.script.lock().expect("no panic while held").plan;
            assert!(left.is_empty(), "planned wire faults that never happened: {left:?}");
        }
    }
}

async fn serve(mut client: TcpStream, upstream: SocketAddr, script: &Mutex<Script>) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let Some(mut request) = read_head(&mut client).await? else { return Ok(()) };
    let line = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
    let (method, path) = line.split_once(' ').map(|(method, rest)| (method.to_owned(), rest)).unwrap_or_default();
    let wire = {
        let mut script = script.lock().expect("no panic while held");
        script.log.push(method.clone());
        let planned = script.plan.iter().position(|(wanted, _)| *wanted == method);
        let applies =
            |rule: &&(String, String, Wire)| (rule.0.is_empty() || rule.0 == method) && path.contains(&rule.1);
        let ruled = script.rules.iter().find(applies).map(|rule| rule.2.clone());
        planned.map(|index| script.plan.remove(index).1).or(ruled)
    };
    let pace = match &wire {
        Some(Wire::SlowSending(piece, pause)) => Some((*piece, *pause)),
        _ => None,
    };
    if !read_body(&mut client, &mut request, pace).await? {
        return Ok(());
    }
    match wire {
        Some(Wire::Answer(text)) => client.write_all(text.as_bytes()).await,
        Some(Wire::Reset) => client.set_zero_linger(),
        Some(Wire::Stall) => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            Ok(())
        }
        Some(Wire::LoseAnswer) => {
            forward(&request, upstream).await?;
            client.set_zero_linger()
        }
        Some(Wire::CutBody(bytes)) => {
            let answer = forward(&request, upstream).await?;
            let end = (head_length(&answer).unwrap_or(0) + bytes).min(answer.len());
            client.write_all(&answer[..end]).await?;
            client.shutdown().await
        }
        Some(Wire::Slow(piece, pause)) => {
            for piece in forward(&request, upstream).await?.chunks(piece) {
                tokio::time::sleep(pause).await;
                client.write_all(piece).await?;
            }
            client.shutdown().await
        }
        None | Some(Wire::SlowSending(..)) => {
            client.write_all(&forward(&request, upstream).await?).await?;
            client.shutdown().await
        }
    }
}

/// Sends a request to the server and returns all that it answers.
async fn forward(request: &[u8], upstream: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(upstream).await?;
    let line = request.windows(2).position(|window| window == b"\r\n").unwrap_or(0) + 2;
    server.write_all(&request[..line]).await?;
    server.write_all(b"Connection: close\r\n").await?;
    server.write_all(&request[line..]).await?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await?;
    Ok(answer)
}

/// Reads the head of one request, with what of its body came along, or nothing where the client has gone.
async fn read_head(socket: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut message = Vec::new();
    while head_length(&message).is_none() {
        if socket.read_buf(&mut message).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(message))
}

/// Reads the rest of a request, no faster than `pace` says; `false` where the client has gone.
async fn read_body(
    socket: &mut TcpStream,
    message: &mut Vec<u8>,
    pace: Option<(usize, Duration)>,
) -> std::io::Result<bool> {
    let head = head_length(message).expect("the head was read");
    let text = String::from_utf8_lossy(&message[..head]).to_ascii_lowercase();
    let length: Option<usize> = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let (piece, pause) = pace.unwrap_or((1 << 20, Duration::ZERO));
    let mut buffer = vec![0; piece];
    while message.len() < head + length.unwrap_or(0) {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        match socket.read(&mut buffer).await? {
            0 => return Ok(false),
            read => message.extend_from_slice(&buffer[..read]),
        }
    }
    Ok(true)
}

fn head_length(message: &[u8]) -> Option<usize> {
    message.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}
