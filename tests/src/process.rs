//! Runs a program, reads its output, ends it.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How long anything may take that should take a moment: generous, so that no test fails on a slow machine.
pub const TIMEOUT: Duration = Duration::from_secs(240);
/// How long a client of ours keeps a connection that it does not use: less than any server of ours does, or both might
/// use and close it in the same moment.
pub const IDLE: Duration = Duration::from_secs(5);

/// The program `name`, beside the test executable (`target/<profile>/deps/…`) or beside a binary of
/// this crate (`target/<profile>/…`).
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let candidates = own.ancestors().skip(1).take(2).map(|directory| directory.join(name));
    let found = candidates.into_iter().find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no program {name} near {}: build the workspace first", own.display()))
}

/// Waits until `condition` gives something.
pub fn wait_for<T>(what: &str, timeout: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {timeout:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A running program. Dropping it kills it.
pub struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
    stderr: Arc<Mutex<String>>,
    stderr_reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts a program; its output is collected.
    pub fn spawn(command: &mut Command) -> Process {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        // Reads to the end even if no test reads on, so that the program never blocks on its output.
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line))));
        let stderr = Arc::new(Mutex::new(String::new()));
        let stderr_reader = Some(collect(child.stderr.take().unwrap(), Arc::clone(&stderr)));
        Process { child, lines, stderr, stderr_reader }
    }

    /// The next line of standard output; `None` when there is none within `timeout`.
    pub fn line(&self, timeout: Duration) -> Option<String> {
        self.lines.recv_timeout(timeout).ok()
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    pub fn terminate(&self) {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success(), "kill -TERM");
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end, with standard error read to its end.
    pub fn wait(&mut self, timeout: Duration) -> ExitStatus {
        let status = wait_for("the program to end", timeout, || self.child.try_wait().unwrap());
        if let Some(reader) = self.stderr_reader.take() {
            reader.join().unwrap();
        }
        status
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn collect(mut from: impl std::io::Read + Send + 'static, into: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            into.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    })
}
