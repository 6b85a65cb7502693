//! A real Ceph gateway on the loopback, as Hetzner runs one: started by the first test that asks, ended with the
//! process.
//!
//! Where the Ceph packages are not installed, tests that need it say so and pass, unless `COFFRE_REQUIRE_SERVERS=1`.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

/// The key of the bucket's owner.
pub const OWNER: (&str, &str) = ("RGWOWNER000000000000", "ownersecret0000000000000000000000000000");
/// A key of the owner's that a policy denies all but put, get and list.
pub const LIMITED: (&str, &str) = ("RGWLIMITED0000000000", "limitedsecret00000000000000000000000000");
/// A plain bucket.
pub const BUCKET: &str = "append";
/// A bucket with versions and object lock.
pub const LOCKED_BUCKET: &str = "append-locked";

/// A running gateway.
pub struct Ceph {
    port: u16,
    directory: PathBuf,
    /// Stops the gateway when this process ends, however it does: its standard input is a pipe from here.
    _watchdog: Child,
}

static CEPH: LazyLock<Option<Ceph>> = LazyLock::new(start);

/// Returns the gateway, or `None` after saying on standard error that the test is skipped.
///
/// # Panics
/// When there is none and `COFFRE_REQUIRE_SERVERS=1`.
pub fn ceph() -> Option<&'static Ceph> {
    let ceph = CEPH.as_ref();
    if ceph.is_none() {
        let required = std::env::var("COFFRE_REQUIRE_SERVERS").is_ok_and(|value| value == "1");
        assert!(!required, "the Ceph packages are not installed, and COFFRE_REQUIRE_SERVERS=1");
        eprintln!("skipped: the Ceph packages (ceph-mon, ceph-osd, radosgw, ceph-common) are not installed");
    }
    ceph
}

impl Ceph {
    /// Returns a location over plain HTTP.
    pub fn http(&self, bucket: &str, prefix: &str) -> String {
        format!("s3+http://127.0.0.1:{}/{bucket}/{prefix}", self.port)
    }

    /// Returns a location over HTTPS; the certificate is [`Ceph::ca_file`]'s.
    pub fn https(&self, bucket: &str, prefix: &str) -> String {
        format!("s3://127.0.0.1:{}/{bucket}/{prefix}", self.port + 1)
    }

    /// Returns the file of the certificate that the gateway shows.
    pub fn ca_file(&self) -> PathBuf {
        self.directory.join("cert.pem")
    }
}

fn start() -> Option<Ceph> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = |program: &str| {
        std::env::split_paths(&path).chain(["/usr/sbin".into()]).any(|directory| directory.join(program).is_file())
    };
    if !["ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph", "monmaptool"].into_iter().all(installed) {
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/ceph-rgw");
    let directory = std::env::temp_dir().join(format!("coffre-ceph-{}", std::process::id()));
    let port = free_ports();
    let output = Command::new(&script)
        .arg("start")
        .arg(&directory)
        .env("CEPH_RGW_PORT", port.to_string())
        .env("CEPH_RGW_TLS", "1")
        .env_remove("CEPH_RGW_SUITE")
        .env_remove("CEPH_RGW_KEEP")
        .stdin(Stdio::null())
        .output()
        .expect("the script runs");
    assert!(output.status.success(), "ceph-rgw start failed:\n{}", String::from_utf8_lossy(&output.stderr));
    let watchdog = Command::new("sh")
        .args(["-c", "cat >/dev/null; exec \"$0\" stop \"$1\""])
        .arg(&script)
        .arg(&directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh runs");
    Some(Ceph { port, directory, _watchdog: watchdog })
}

/// Returns a port that is free together with those the gateway needs beside it (1 and 2 further, then 10 to 40).
///
/// They lie below the range that outgoing connections take theirs from.
fn free_ports() -> u16 {
    let offset = std::process::id() as u16 % 200;
    (0..200)
        .map(|n| 20_000 + (offset + n) % 200 * 50)
        .find(|base| [0, 1, 2, 10, 11, 12, 13].iter().all(|n| TcpListener::bind(("127.0.0.1", base + n)).is_ok()))
        .expect("some ports are free")
}
