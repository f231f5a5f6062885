//! Inputs of well-known actions that name images which are then run or built on.

use std::ops::Range;

use crate::{
    scan::{FileScan, WrittenName},
    yaml::Node,
};

/// How an input names images.
#[derive(Clone, Copy)]
enum Form {
    /// The input is the name.
    Name,
    /// Lines, of which those that begin like this go on with a name.
    Lines(&'static str),
    /// Lines of properties (`a=b,c=d`), of which this one has a name.
    Properties(&'static str),
    /// Lines in which `docker-image://` stands before a name.
    Contexts,
}

/// Actions and their inputs, from the `action.yml` of each and, for the forms of the inputs, docs.docker.com ("Buildx
/// drivers", "Build contexts", "SBOM attestations") in November 2026. Images that an action only reads, as scanners do,
/// are not run; those that one deploys are mostly results of the same workflow.
const INPUTS: [(&str, &str, Form); 14] = [
    ("docker/setup-buildx-action", "driver-opts", Form::Lines("image=")),
    ("docker/setup-buildx-action", "append", Form::Properties("image=")),
    ("docker/setup-qemu-action", "image", Form::Name),
    ("docker/build-push-action", "build-contexts", Form::Contexts),
    ("docker/build-push-action", "build-args", Form::Lines("BUILDKIT_SYNTAX=")),
    ("docker/build-push-action", "sbom", Form::Properties("generator=")),
    ("docker/build-push-action", "attests", Form::Properties("generator=")),
    ("docker/bake-action", "set", Form::Contexts),
    ("docker/bake-action", "sbom", Form::Properties("generator=")),
    ("helm/kind-action", "node_image", Form::Name),
    ("addnab/docker-run-action", "image", Form::Name),
    ("uraimo/run-on-arch-action", "base_image", Form::Name),
    ("uraimo/run-on-arch-action", "image", Form::Name),
    ("pyo3/maturin-action", "container", Form::Name),
];

/// A value of `container` of maturin-action that means "none".
const OFF: &str = "off";

/// An image that an input names.
pub struct InputImage<'a> {
    line: usize,
    name: &'a str,
    within: Range<usize>,
    prefix: &'a str,
}

impl InputImage<'_> {
    pub fn written(&self) -> WrittenName<'_> {
        WrittenName { line: self.line, text: self.name, within: self.within.clone(), prefix: self.prefix }
    }
}

/// The images in the inputs of a step that uses this action.
pub fn images<'a>(action: &str, step: &'a Node, scan: &FileScan) -> Vec<InputImage<'a>> {
    let action = action.split('@').next().unwrap_or_default().to_lowercase();
    // Gitea and Forgejo take actions from anywhere, by their address.
    let repository =
        action.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or(&*action, |(_, path)| path);
    let known = INPUTS.iter().filter(|(name, ..)| *name == repository);
    known
        .flat_map(|(_, input, form)| {
            step.at(&["with", input]).map(|node| in_input(node, *form, scan)).unwrap_or_default()
        })
        .collect()
}

fn in_input<'a>(node: &'a Node, form: Form, scan: &FileScan) -> Vec<InputImage<'a>> {
    let Some(text) = node.text() else { return Vec::new() };
    let first = scan.first_line_of(node, text);
    let single = !text.trim_end().contains('\n');
    let found = text.lines().enumerate().filter_map(|(index, line)| {
        let (prefix, name) = in_line(line, form)?;
        let within = if single { node.span() } else { 0..0 };
        Some(InputImage { line: first.map_or(node.line, |first| first + index), name, within, prefix })
    });
    found.collect()
}

/// What stands before a name, and the name. A line that is wholly an expression may be one.
fn in_line(line: &str, form: Form) -> Option<(&str, &str)> {
    let line = line.trim();
    let split = |at: usize, end: usize| Some((line.get(..at)?, line.get(at..end)?));
    let is_expression = line.starts_with("${{") && line.ends_with("}}") && line.matches("${{").count() == 1;
    match form {
        Form::Name => (!line.is_empty() && line != OFF).then_some(("", line)),
        Form::Lines(start) if line.starts_with(start) => split(start.len(), line.len()),
        Form::Contexts if line.contains("docker-image://") => {
            split(line.find("docker-image://")? + "docker-image://".len(), line.len())
        }
        Form::Properties(key) if line.contains(key) => {
            let start = line.find(key)? + key.len();
            let length = line.get(start..)?.find(|c: char| c == ',' || c == ']' || c == '"' || c.is_whitespace());
            split(start, length.map_or(line.len(), |length| start + length))
        }
        // Arguments are too many to be suspected of the one that is an image.
        Form::Lines(start) if is_expression && start != "BUILDKIT_SYNTAX=" => Some(("", line)),
        Form::Contexts if is_expression => Some(("", line)),
        Form::Lines(_) | Form::Contexts | Form::Properties(_) => None,
    }
}
