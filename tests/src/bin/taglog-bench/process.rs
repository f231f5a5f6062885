//! What the kernel says of a process.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use crate::BenchResult;

/// Linux counts processor time for programs in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// Memory of a process, in MiB.
pub struct Memory {
    /// Resident now.
    pub resident: f64,
    /// The most that was ever resident.
    pub peak: f64,
}

/// `VmRSS` and `VmHWM`.
pub fn memory(process: u32) -> BenchResult<Memory> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let mib = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        kib.map(|kib| kib / 1024.0).ok_or_else(|| format!("no {key} in /proc/{process}/status"))
    };
    Ok(Memory { resident: mib("VmRSS")?, peak: mib("VmHWM")? })
}

/// Processor time of a process, all threads, ended ones too.
pub fn cpu(process: u32) -> BenchResult<Duration> {
    Ok(cpu_of(Path::new(&format!("/proc/{process}")))?.1)
}

/// Processor time of the living threads, by their names.
pub fn cpu_by_thread(process: u32) -> BenchResult<BTreeMap<String, Duration>> {
    let mut times = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread may end while it is read.
        let Ok((name, time)) = cpu_of(&task?.path()) else { continue };
        *times.entry(name).or_default() += time;
    }
    Ok(times)
}

/// Name and processor time from a `stat` file: `pid (name) state …`, where the name may hold anything.
fn cpu_of(directory: &Path) -> BenchResult<(String, Duration)> {
    let stat = fs::read_to_string(directory.join("stat"))?;
    let malformed = || format!("cannot read {}/stat", directory.display());
    let (head, tail) = stat.rsplit_once(") ").ok_or_else(malformed)?;
    let name = head.split_once('(').map_or("", |(_, name)| name).to_owned();
    let fields: Vec<&str> = tail.split(' ').collect();
    // Fields 14 and 15 of proc(5), of which two came before the tail.
    let ticks = |field: usize| fields.get(field).and_then(|text| text.parse::<u32>().ok()).ok_or_else(malformed);
    Ok((name, TICK * (ticks(11)? + ticks(12)?)))
}

/// Bytes that a process has caused to be written to disk.
pub fn written(process: u32) -> BenchResult<u64> {
    let io = fs::read_to_string(format!("/proc/{process}/io"))?;
    let bytes = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok());
    Ok(bytes.ok_or_else(|| format!("no write_bytes in /proc/{process}/io"))?)
}

/// The load average of the last minute.
pub fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// Bytes that files under a directory take on disk. Files that vanish meanwhile count nothing.
pub fn disk_bytes(directory: &Path) -> BenchResult<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut total = 0;
    for file in fs::read_dir(directory)? {
        let file = file?;
        match file.metadata() {
            Ok(metadata) if metadata.is_dir() => total += disk_bytes(&file.path())?,
            // Linux counts blocks of 512 bytes here, whatever the file system's are.
            Ok(metadata) => total += metadata.blocks() * 512,
            Err(_) => {}
        }
    }
    Ok(total)
}
