//! A real server process, in a directory of its own.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use taglog_proto::note::VerifierKey;

use crate::{BenchResult, process};

const ORIGIN: &str = "bench.example/taglog";
/// How long disk use must stay the same to count as settled, and how often it is measured.
const STILL: Duration = Duration::from_secs(3);
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// How to start a server.
pub struct Settings<'a> {
    pub program: &'a Path,
    /// Where its data directory is, or is made.
    pub directory: &'a Path,
    /// The witnesses' vkeys.
    pub witnesses: Vec<String>,
    /// How long a batch collects entries.
    pub batch_interval_ms: u64,
    /// Connections that the benchmark opens.
    pub connections: u16,
    /// Where it is to listen.
    pub listen: String,
    /// The cosigner that it starts without.
    pub without_cosigner: Option<&'a str>,
}

/// Any free port.
pub const ANYWHERE: &str = "127.0.0.1:0";

impl Settings<'_> {
    fn data(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// From the next start on, checkpoints are published when this policy's quorum has cosigned them.
    pub fn demand(&self, policy: &str) -> BenchResult<()> {
        fs::write(self.data().join("policy"), policy)?;
        let config = self.data().join("taglog-server.toml");
        let text = fs::read_to_string(&config)?;
        Ok(fs::write(config, format!("policy = \"policy\"\n{text}"))?)
    }
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    data: PathBuf,
    errors: PathBuf,
    /// Where it listens.
    pub url: String,
    /// Its public key.
    pub key: VerifierKey,
    /// How long it took until it served.
    pub startup: Duration,
}

impl Server {
    /// Makes the data directory if there is none, starts the server, and waits until it serves.
    pub fn start(settings: &Settings<'_>) -> BenchResult<Server> {
        let data = settings.data();
        if !data.exists() {
            init(settings, &data)?;
        }
        let errors = settings.directory.join("server.stderr");
        let start = Instant::now();
        let mut child = Command::new(settings.program)
            .args(["run", "--listen", &settings.listen])
            .args(["--batch-interval-ms", &settings.batch_interval_ms.to_string()])
            .args(settings.without_cosigner.iter().flat_map(|name| ["--without-cosigner", *name]))
            .arg("--data")
            .arg(&data)
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors)?)
            .spawn()?;
        let announced = read_announcement(&mut child);
        let startup = start.elapsed();
        let Some((key, url)) = announced.as_deref().and_then(parse_announcement) else {
            // It may have ended by itself already.
            let _ = child.kill();
            child.wait()?;
            return Err(format!("the server did not start: {}", tail(&errors)).into());
        };
        Ok(Server { child, data, errors, url, key, startup })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(&mut self) -> BenchResult<()> {
        Command::new("kill").args(["-TERM", &self.id().to_string()]).status()?;
        let status = self.child.wait()?;
        if status.success() {
            return Ok(());
        }
        Err(format!("the server ended with {status}: {}", tail(&self.errors)).into())
    }

    /// What its data directory takes on disk once that has stopped to change, and whether it has.
    pub async fn settled_disk_bytes(&self, limit: Duration) -> BenchResult<(u64, bool)> {
        let start = Instant::now();
        let (mut bytes, mut since) = (process::disk_bytes(&self.data)?, start);
        while since.elapsed() < STILL {
            if start.elapsed() > limit {
                return Ok((bytes, false));
            }
            tokio::time::sleep(POLL_INTERVAL).await;
            let now = process::disk_bytes(&self.data)?;
            if now != bytes {
                (bytes, since) = (now, Instant::now());
            }
        }
        Ok((bytes, true))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail when it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn init(settings: &Settings<'_>, data: &Path) -> BenchResult<()> {
    let made = Command::new(settings.program).arg("init").arg(data).args(["--origin", ORIGIN]).output()?;
    if !made.status.success() {
        return Err(format!("taglog-server init: {}", String::from_utf8_lossy(&made.stderr)).into());
    }
    let witnesses: Vec<String> = settings.witnesses.iter().map(|vkey| format!("\"{vkey}\"")).collect();
    // Quotas protect a log from one witness; here a few witnesses are the whole load.
    let config = format!(
        "witnesses = [{}]\nmax-connections = {}\n\n[quota]\nentries-per-second = 10000000\n\
         new-tags-per-hour = 1000000000\nsightings-per-tag-per-hour = 1000000\n",
        witnesses.join(", "),
        u32::from(settings.connections) + 64,
    );
    Ok(fs::write(data.join("taglog-server.toml"), config)?)
}

/// Which RocksDB a server was linked with, from the second line of its `--version`.
pub fn rocksdb(program: &Path) -> BenchResult<String> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rocksdb = text.lines().nth(1).and_then(|line| line.strip_prefix("RocksDB "));
    Ok(rocksdb.ok_or_else(|| format!("{} --version does not name its RocksDB", program.display()))?.to_owned())
}

/// The first line of the server's standard output, or nothing when it ends without one.
fn read_announcement(child: &mut Child) -> Option<String> {
    let mut line = String::new();
    BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
    Some(line)
}

/// Parses `taglog-server: <vkey> at <url>`.
fn parse_announcement(line: &str) -> Option<(VerifierKey, String)> {
    let (vkey, url) = line.trim_end().strip_prefix("taglog-server: ")?.split_once(" at ")?;
    Some((vkey.parse().ok()?, url.to_owned()))
}

/// The last lines that the server wrote.
fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}
