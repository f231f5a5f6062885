//! The results, as a table for humans and as JSON for programs.

use serde_json::{Value, json};

use crate::{PROFILE, machine::Machine};

/// A performance goal.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// The value must reach this.
    AtLeast(f64),
    /// The value must not go beyond this.
    AtMost(f64),
}

impl Bound {
    fn is_met(self, value: f64) -> bool {
        match self {
            Bound::AtLeast(goal) => value >= goal,
            Bound::AtMost(goal) => value <= goal,
        }
    }

    fn goal(self) -> f64 {
        match self {
            Bound::AtLeast(goal) | Bound::AtMost(goal) => goal,
        }
    }

    fn sign(self) -> char {
        match self {
            Bound::AtLeast(_) => '≥',
            Bound::AtMost(_) => '≤',
        }
    }
}

/// One measurement.
#[derive(Clone, Debug)]
pub struct Row {
    what: &'static str,
    value: f64,
    unit: &'static str,
    goal: Option<Bound>,
    beside: String,
    note: String,
}

impl Row {
    /// A value without a goal.
    pub fn new(what: &'static str, value: f64, unit: &'static str) -> Row {
        Row { what, value, unit, goal: None, beside: String::new(), note: String::new() }
    }

    /// The value that is wanted.
    pub fn goal(self, goal: Bound) -> Row {
        Row { goal: Some(goal), ..self }
    }

    /// The value relative to the limits of the machine.
    pub fn beside(self, beside: String) -> Row {
        Row { beside, ..self }
    }

    /// The circumstances.
    pub fn note(self, note: String) -> Row {
        Row { note, ..self }
    }

    fn verdict(&self) -> String {
        let Some(goal) = self.goal else { return String::new() };
        let word = if goal.is_met(self.value) { "met" } else { "MISSED" };
        format!("{:.2} {word}", self.value / goal.goal())
    }

    fn cells(&self) -> [String; 6] {
        let goal = |goal: Bound| format!("{} {}", goal.sign(), number(goal.goal(), self.unit));
        [
            self.what.to_owned(),
            number(self.value, self.unit),
            self.goal.map_or_else(String::new, goal),
            self.verdict(),
            self.beside.clone(),
            self.note.clone(),
        ]
    }

    fn json(&self) -> Value {
        let goal = self.goal.map(|goal| {
            let least = matches!(goal, Bound::AtLeast(_));
            json!({
                "bound": if least { "at least" } else { "at most" },
                "value": goal.goal(),
                "ratio": self.value / goal.goal(),
                "met": goal.is_met(self.value),
            })
        });
        json!({
            "what": self.what, "value": self.value, "unit": self.unit,
            "goal": goal, "beside": self.beside, "note": self.note,
        })
    }
}

/// A number with as many digits as mean something, and its unit.
fn number(value: f64, unit: &str) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let groups: Vec<&str> = whole.as_bytes().rchunks(3).rev().filter_map(|g| std::str::from_utf8(g).ok()).collect();
    let space = if unit.starts_with('/') { "" } else { " " };
    format!("{}{fraction}{space}{unit}", groups.join(","))
}

/// All results of one run.
pub struct Report {
    pub machine: Machine,
    /// Which RocksDB the measured server was linked with; `None` where no server is measured.
    pub rocksdb: Option<String>,
    rows: Vec<Row>,
}

impl Report {
    /// A report without measurements.
    pub fn new(machine: Machine) -> Report {
        Report { machine, rocksdb: None, rows: Vec::new() }
    }

    /// Adds a row.
    pub fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    fn machine_rows(&self) -> Vec<(&'static str, String)> {
        let machine = &self.machine;
        vec![
            ("Ed25519 strict, one core", number(machine.strict_one_core, "/s")),
            ("Ed25519 strict, all cores at once", number(machine.strict_all_cores, "/s")),
            ("Ed25519 batches of 256, one core", number(machine.batch_one_core, "/s")),
            ("Ed25519 batches of 256, all cores at once", number(machine.batch_all_cores, "/s")),
            ("SHA-256 tree nodes, one core", number(machine.tree_nodes, "/s")),
            ("4 KiB and fsync, median", number(machine.fsync_ms, "ms")),
            ("sequential write with fsync", number(machine.write_mb, "MB/s")),
        ]
    }

    /// How the measured programs were built.
    fn build_lines(&self) -> String {
        let rocksdb = self.rocksdb.iter().map(|rocksdb| format!("RocksDB of the server: {rocksdb}\n"));
        format!("build profile: {PROFILE}\n{}\n", rocksdb.collect::<String>())
    }

    /// The build, then a table: the machine, then one row for each measurement.
    pub fn table(&self) -> String {
        let mut lines = vec![["this machine", "measured", "", "", "", ""].map(str::to_owned)];
        let blank = String::new;
        let machine = self.machine_rows().into_iter();
        lines.extend(machine.map(|(what, value)| [what.to_owned(), value, blank(), blank(), blank(), blank()]));
        lines.push(std::array::from_fn(|_| blank()));
        lines.push(["taglog", "measured", "goal", "value/goal", "beside the machine", "note"].map(str::to_owned));
        lines.extend(self.rows.iter().map(Row::cells));
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 6] = std::array::from_fn(width);
        self.build_lines() + &lines.iter().map(|line| format_line(line, &widths)).collect::<String>()
    }

    /// The same as JSON.
    pub fn json(&self) -> String {
        let machine = &self.machine;
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        let value = json!({
            "machine": {
                "cores": machine.cores,
                "ed25519StrictOneCore": machine.strict_one_core,
                "ed25519StrictAllCores": machine.strict_all_cores,
                "ed25519BatchOneCore": machine.batch_one_core,
                "ed25519BatchAllCores": machine.batch_all_cores,
                "sha256TreeNodes": machine.tree_nodes,
                "fsyncMs": machine.fsync_ms,
                "sequentialWriteMBps": machine.write_mb,
            },
            "profile": PROFILE,
            "rocksdb": self.rocksdb,
            "rows": rows,
        });
        format!("{value:#}")
    }
}

/// Numbers are aligned to the right, words to the left.
fn format_line(cells: &[String; 6], widths: &[usize; 6]) -> String {
    let [what, value, goal, verdict, beside, note] = cells;
    let [a, b, c, d, e, _] = *widths;
    let line = format!("{what:<a$}  {value:>b$}  {goal:>c$}  {verdict:>d$}  {beside:<e$}  {note}");
    format!("{}\n", line.trim_end())
}
