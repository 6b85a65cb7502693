//! An S3 server in this process, for tests and examples: objects are files in a temporary directory.
//!
//! It stands on its own, so that an example may include it with `#[path]`. It knows two fixed keys: the owner's, and a
//! limited one that may put, get and list but not delete. Both are as public as this file.

use std::net::SocketAddr;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::S3;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// The access key of the owner.
pub const OWNER: (&str, &str) = ("COFFREOWNER0000000000", "owner-secret-for-tests-only-0000000000000");
/// The access key that may not delete.
pub const LIMITED: (&str, &str) = ("COFFRELIMITED00000000", "limited-secret-for-tests-only-00000000000");
/// The bucket that exists.
pub const BUCKET: &str = "coffre";

/// A running server; it ends when dropped.
pub struct S3Server {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

struct Access;

#[async_trait::async_trait]
impl S3Access for Access {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> s3s::S3Result<()> {
        let deletes = context.s3_op().name().starts_with("Delete");
        match context.credentials() {
            Some(credentials) if credentials.access_key == LIMITED.0 && deletes => Err(s3s::s3_error!(AccessDenied)),
            Some(_) => Ok(()),
            None => Err(s3s::s3_error!(AccessDenied)),
        }
    }
}

impl S3Server {
    /// Starts a server with an empty bucket on a free loopback port.
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::create_dir(directory.path().join(BUCKET)).expect("the bucket is made");
        let files = s3s_fs::FileSystem::new(directory.path()).expect("the directory is there");
        let (address, task) = serve(files, Access).await;
        Self { address, task, _directory: directory }
    }

    /// Returns the location of a repository under `prefix` in the bucket.
    pub fn location(&self, prefix: &str) -> String {
        format!("s3+http://{}/{BUCKET}/{prefix}", self.address)
    }
}

/// Serves a bucket on a free loopback port, as long as the task is not aborted.
pub async fn serve(bucket: impl S3, access: impl S3Access) -> (SocketAddr, JoinHandle<()>) {
    let mut auth = SimpleAuth::from_single(OWNER.0, OWNER.1);
    auth.register(LIMITED.0.to_owned(), LIMITED.1.into());
    let mut builder = S3ServiceBuilder::new(bucket);
    builder.set_auth(auth);
    builder.set_access(access);
    let service = builder.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let task = tokio::spawn(async move {
        // Connections end with the server, since the set is dropped with this task.
        let mut connections = JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            let _ = socket.set_nodelay(true);
            let service = service.clone();
            connections.spawn(async move {
                let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
            });
            while connections.try_join_next().is_some() {}
        }
    });
    (address, task)
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
