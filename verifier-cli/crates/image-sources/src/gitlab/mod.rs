//! GitLab CI: the `image` and the `services` of each job, with everything that can give its variables a value
//! (docs.gitlab.com, "CI/CD YAML syntax reference" and "CI/CD variables").

mod choices;
mod expand;
mod merge;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashSet};

use self::{
    choices::{Choices, Steps},
    merge::Merged,
};
use super::{
    model::SourceError,
    scan::{FileScan, WrittenName},
    yaml::Node,
};

/// Keys of the whole pipeline that are no jobs.
const NO_JOBS: [&str; 9] =
    ["image", "services", "variables", "include", "stages", "workflow", "cache", "before_script", "after_script"];
/// What only a job has.
const JOB_KEYS: [&str; 4] = ["script", "stage", "trigger", "extends"];
/// How to get one pipeline out of several files.
const MERGED: &str = "give the merged pipeline, as with 'glab ci config compile | taglog … -f -'";

/// Whether a document says of itself that it is a pipeline.
pub fn is_pipeline(document: &Node) -> bool {
    let listed = document.get("stages").is_some_and(|stages| stages.items().next().is_some());
    let is_job =
        |job: &Node| job.get("script").is_some() || (listed && JOB_KEYS.iter().any(|key| job.get(key).is_some()));
    document.is_mapping() && document.values().any(is_job)
}

/// The inputs that the header of a file declares (`spec:inputs`), a document before the pipeline itself.
pub fn declared_inputs<'a>(mut documents: impl Iterator<Item = &'a Node>) -> Option<&'a Node> {
    documents.find_map(|document| document.at(&["spec", "inputs"]))
}

/// Finds the images of the jobs. Templates (`.name`) and the defaults count where jobs of this file use them; those that
/// none uses may be there for other files, and are read as they stand. What `!reference` takes from elsewhere in the file
/// has the place where it is written.
///
/// # Errors
/// An image with a template in it.
pub fn read(document: &Node, inputs: Option<&Node>, scan: &mut FileScan) -> Result<(), SourceError> {
    let include = document.get("include").filter(|include| !include.is_null());
    if let Some(include) = include {
        // Jobs, defaults and variables of one file are changed by the others: read alone, each would give wrong names.
        scan.leave_out(include.line, &format!("included files change what this one means: {MERGED}"));
    }
    let mut reader = Reader {
        merged: Merged::new(document),
        inputs,
        incomplete: include.is_some(),
        read: HashSet::new(),
        steps: Steps::default(),
    };
    // Only the header of a file has inputs under `spec`: in a pipeline it is the name of a job like any other.
    let is_header = |key: &str, value: &Node| key == "spec" && value.get("inputs").is_some();
    let jobs = || {
        let entries = document.entries().filter(|(_, job)| job.is_mapping());
        entries.filter(|(key, job)| !NO_JOBS.contains(key) && !is_header(key, job))
    };
    let is_job = |key: &str| !key.starts_with('.') && key != "default";
    for (_, job) in jobs().filter(|(key, _)| is_job(key)) {
        reader.read_job(job, Holder::Job, scan)?;
    }
    reader.read_job(document, Holder::Template, scan)?;
    for (_, job) in jobs().filter(|(key, _)| !is_job(key)) {
        reader.read_job(job, Holder::Template, scan)?;
    }
    Ok(())
}

/// What names images.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// A job: it takes the defaults of the pipeline, and each image is read with its variables.
    Job,
    /// A template, or the defaults: only images that no job has used are read.
    Template,
}

struct Reader<'a> {
    merged: Merged<'a>,
    inputs: Option<&'a Node>,
    /// Whether a note says already that more is needed than this file.
    incomplete: bool,
    /// The names of images that were read, by their address in the tree.
    read: HashSet<*const Node>,
    steps: Steps,
}

impl<'a> Reader<'a> {
    fn read_job(&mut self, job: &'a Node, holder: Holder, scan: &mut FileScan) -> Result<(), SourceError> {
        let layers = self.merged.layers(job);
        if let Some(base) = layers.incomplete.filter(|_| !self.incomplete) {
            self.incomplete = true;
            let reason =
                format!("extends what is not in this file, so that its images and variables are unknown: {MERGED}");
            scan.leave_out(base.line, &reason);
        }
        let layers = layers.nodes;
        self.note_functions(&layers, scan);
        let mut names = Vec::new();
        for key in ["image", "services"] {
            let own = self.merged.get(&layers, key);
            let inherits = holder == Holder::Job && self.merged.inherits(&layers, "default", key);
            match own {
                Err(line) => note_reference(line, scan),
                Ok(Some(value)) => self.image_names(&value, key, &mut names, scan),
                // A job that triggers another pipeline runs in no image.
                Ok(None) if inherits && !matches!(self.merged.get(&layers, "trigger"), Ok(Some(_))) => {
                    match self.merged.default(key) {
                        Err(line) => note_reference(line, scan),
                        Ok(value) => self.image_names(&value.unwrap_or_default(), key, &mut names, scan),
                    }
                }
                Ok(None) => {}
            }
        }
        if holder == Holder::Template {
            names.retain(|name| !self.read.contains(&std::ptr::from_ref(*name)));
        }
        self.read_names(&names, &layers, scan)
    }

    /// The values that name images under `image` or `services`.
    fn image_names(&self, value: &[&'a Node], key: &str, names: &mut Vec<&'a Node>, scan: &mut FileScan) {
        match value {
            [list] if key == "services" && list.is_sequence() => {
                for item in self.merged.items(list) {
                    match item {
                        Err(line) => note_reference(line, scan),
                        Ok(item) => self.image_name(&item, names, scan),
                    }
                }
            }
            other => self.image_name(other, names, scan),
        }
    }

    /// An image is its name, or a mapping with `name`.
    fn image_name(&self, value: &[&'a Node], names: &mut Vec<&'a Node>, scan: &mut FileScan) {
        match value {
            [mapping, ..] if mapping.is_mapping() => match self.merged.get(value, "name") {
                Err(line) => note_reference(line, scan),
                Ok(name) => names.extend(name.unwrap_or_default()),
            },
            other => names.extend(other.iter().filter(|node| !node.is_null())),
        }
    }

    /// Reads names with every combination of values that the variables of the job can have.
    fn read_names(&mut self, names: &[&'a Node], layers: &[&'a Node], scan: &mut FileScan) -> Result<(), SourceError> {
        let mut choices = None;
        for &name in names {
            let known = !self.read.insert(std::ptr::from_ref(name));
            match name.text() {
                Some(text) if text.contains('$') => {
                    let choices = choices
                        .get_or_insert_with(|| Choices::of_job(&self.merged, layers, self.inputs, &self.steps, scan));
                    let results = choices.results(text, &self.steps);
                    add_results(name, text, results, scan)?;
                }
                _ if known => {}
                Some(text) => add_results(name, text, BTreeSet::from([Ok(text.to_owned())]), scan)?,
                None => scan.leave_out(name.line, "the name of the image is not a text"),
            }
        }
        Ok(())
    }

    /// Functions (`run:`) are OCI images themselves, unless they are files of the repository or built in.
    fn note_functions(&self, layers: &[&'a Node], scan: &mut FileScan) {
        let Ok(Some(run)) = self.merged.get(layers, "run") else { return };
        for step in run.iter().flat_map(|run| run.items()).filter_map(|item| item.get("step")) {
            let is_local = |text: &str| text.starts_with('.') || text.starts_with("builtin://");
            if !step.text().is_some_and(is_local) {
                scan.leave_out(step.line, "the function of this step may be an image, and is not read");
            }
        }
    }
}

fn add_results(
    name: &Node,
    text: &str,
    results: BTreeSet<Result<String, String>>,
    scan: &mut FileScan,
) -> Result<(), SourceError> {
    let written = WrittenName { line: name.line, text, within: name.span(), prefix: "" };
    results.into_iter().try_for_each(|result| scan.image_or_reason(&written, result))
}

fn note_reference(line: usize, scan: &mut FileScan) {
    scan.leave_out(line, "a !reference to what is not in this file, so that only GitLab knows which image it is");
}
