//! `taglog verify` of a whole deployment, as a process that starts cold: against a local log and a real registry.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use taglog_proto::{entry::Seen, tile::encode_bundle};
use taglog_tests::{Registry, Witness, push_quickly, witness::now};

use crate::{
    BenchResult,
    report::{Bound, Report, Row},
    server::{ANYWHERE, Server, Settings},
};

/// Images of the deployment, and the repositories that they are spread over.
const IMAGES: usize = 100;
const REPOSITORIES: usize = 10;
/// How often each run is measured; the median counts, the worst is told.
const RUNS: usize = 11;
/// Requests at once, of the verifier and of what it is compared with.
const PARALLEL: usize = 32;

/// The benchmark of the verifier.
pub struct VerifyBenchmark<'a> {
    /// The `taglog` program.
    pub program: &'a Path,
    /// The server's program.
    pub server: &'a Path,
    /// Where log, state and files are made.
    pub directory: &'a Path,
    /// How long the log collects a batch.
    pub batch_interval_ms: u64,
}

impl VerifyBenchmark<'_> {
    /// Makes a registry and a log that knows its images, and verifies them.
    pub async fn measure(&self, report: &mut Report) -> BenchResult<()> {
        eprintln!("pushing {IMAGES} images to a registry, and logging them");
        let registry = Registry::start();
        let witness = Witness::new(1);
        let settings = Settings {
            program: self.server,
            directory: self.directory,
            witnesses: vec![witness.vkey().to_string()],
            batch_interval_ms: self.batch_interval_ms,
            connections: 64,
            listen: ANYWHERE.to_owned(),
            without_cosigner: None,
        };
        let mut log = Server::start(&settings)?;
        let images = fill(&registry, &witness, &log).await?;
        fs::write(self.trust(), format!("log {} {}\nquorum none\n", log.key, log.url))?;
        let file = self.directory.join("deployment.yaml");
        fs::write(&file, deployment(&images))?;

        eprintln!("verifying");
        let all: Vec<&str> = images.iter().map(String::as_str).collect();
        let whole = self.times(&all)?;
        let of_file = self.times(&["-f", file.to_str().ok_or("the directory's name is not UTF-8")?])?;
        let one = self.times(&all[..1])?;
        let heads = plain_heads(&images).await?;
        log.stop()?;

        let goal = Bound::AtMost(1000.0);
        let row = Row::new("verify of 100 images, cold", whole.median, "ms").goal(goal);
        let row = row.beside(format!("{:.1} × plain HEAD of each, {:.0} ms", whole.median / heads, heads));
        report
            .add(row.note(format!("one process, its start and end included; worst of {RUNS}: {:.0} ms", whole.worst)));
        let row = Row::new("… named by a file", of_file.median, "ms").goal(goal);
        report.add(row.note(format!("worst {:.0} ms", of_file.worst)));
        let row = Row::new("verify of one image, cold", one.median, "ms").goal(Bound::AtMost(50.0));
        report.add(row.note(format!("the registry's answer included; worst {:.0} ms", one.worst)));
        Ok(())
    }

    fn trust(&self) -> PathBuf {
        self.directory.join("trust")
    }

    fn times(&self, arguments: &[&str]) -> BenchResult<Times> {
        let mut times = Vec::with_capacity(RUNS);
        for run in 0..RUNS {
            times.push(self.time(arguments, &self.directory.join(format!("state-{run}")))?);
        }
        times.sort();
        let milliseconds = |time: &Duration| time.as_secs_f64() * 1e3;
        let worst = times.last().map(milliseconds).unwrap_or_default();
        Ok(Times { median: milliseconds(&times[RUNS / 2]), worst })
    }

    /// One run, which remembers nothing of any before.
    fn time(&self, arguments: &[&str], state: &Path) -> BenchResult<Duration> {
        let mut command = Command::new(self.program);
        command.arg("verify").args(arguments).current_dir(self.directory).env_clear().env("HOME", self.directory);
        command.env("TAGLOG_TRUST", self.trust()).env("TAGLOG_STATE", state).stdin(Stdio::null());
        let start = Instant::now();
        let ran = command.output()?;
        let time = start.elapsed();
        fs::remove_dir_all(state)?;
        match ran.status.success() {
            true => Ok(time),
            false => Err(format!("verify failed: {}", String::from_utf8_lossy(&ran.stderr)).into()),
        }
    }
}

/// Of several runs, in milliseconds.
struct Times {
    median: f64,
    worst: f64,
}

/// Pushes the images and logs them; their names.
async fn fill(registry: &Registry, witness: &Witness, log: &Server) -> BenchResult<Vec<String>> {
    let (mut names, mut notes) = (Vec::new(), Vec::new());
    for repository in 0..REPOSITORIES {
        let path = format!("bench/app{repository}");
        let images: Vec<(String, String)> =
            (0..IMAGES / REPOSITORIES).map(|tag| (format!("1.{tag}"), format!("{repository}.{tag}"))).collect();
        let digests = push_quickly(registry, &path, &images).await;
        for ((tag, _), digest) in images.iter().zip(digests) {
            let name = format!("{}:{tag}", registry.repository(&path));
            // Seen long enough ago to be no news.
            notes.push(witness.see(&name, Seen::Digest(digest), now() - 3 * 86_400));
            names.push(name);
        }
    }
    let bundle = encode_bundle(notes.iter().map(Vec::as_slice))?;
    let request =
        reqwest::Client::builder().no_proxy().build()?.post(format!("{}/api/v1/entries?wait=published", log.url));
    let answer = request.header("content-type", "application/octet-stream").body(bundle).send().await?;
    let answer = answer.error_for_status()?.text().await?;
    match answer.matches("\"added\"").count() == IMAGES {
        true => Ok(names),
        false => Err("the log did not take the observations".into()),
    }
}

/// A pod for each image.
fn deployment(images: &[String]) -> String {
    let pod = |(i, image): (usize, &String)| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p{i}\nspec:\n  containers:\n  - name: c\n    image: {image}\n"
        )
    };
    images.iter().enumerate().map(pod).collect::<Vec<_>>().join("---\n")
}

/// What the registry alone takes, asked in the same way; in milliseconds.
async fn plain_heads(images: &[String]) -> BenchResult<f64> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let start = Instant::now();
    let head = |image: &String| {
        // Host, path and tag are of this benchmark's own making.
        let url = image.rsplit_once(':').and_then(|(name, tag)| {
            let (host, path) = name.split_once('/')?;
            Some(format!("http://{host}/v2/{path}/manifests/{tag}"))
        });
        let request = client.head(url.unwrap_or_default());
        async move {
            let accept = "application/vnd.oci.image.manifest.v1+json";
            BenchResult::Ok(request.header("accept", accept).send().await?.error_for_status().map(drop)?)
        }
    };
    let answers: Vec<BenchResult<()>> = stream::iter(images).map(head).buffer_unordered(PARALLEL).collect().await;
    answers.into_iter().collect::<BenchResult<()>>()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}
