//! Quadlets, Podman's systemd units: `Image=` of `[Container]`, `[Image]` and `[Volume]` (podman-systemd.unit(5), syntax as
//! in systemd.syntax(7)). `Image=` may also name a unit `*.image` or `*.build`, which names its image itself.

use super::guess::has_variable;
use crate::{
    model::{SourceError, SourceProblem},
    scan::{FileScan, WrittenName},
};

/// Sections in which `Image=` names an image.
const SECTIONS: [&str; 3] = ["[Container]", "[Image]", "[Volume]"];
/// How the name of a registry's image may begin; the only transport besides is local.
const DOCKER: &str = "docker://";

/// Finds the images of a unit.
///
/// # Errors
/// It has none of the sections: other files have such names too.
pub fn read(text: &str, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    if !text.lines().any(|line| SECTIONS.contains(&line.trim())) {
        return Err(scan.error(1, SourceProblem::UnknownKind));
    }
    let (mut section, mut start) = ("", 0);
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let trimmed = line.trim();
        if trimmed.starts_with('[') {
            section = trimmed;
        } else if let Some((key, value)) = line.split_once('=').filter(|_| !trimmed.starts_with(['#', ';']))
            && key.trim() == "Image"
            && SECTIONS.contains(&section)
        {
            let within = start + line.len() - value.len()..start + line.len();
            read_value(number, value.trim(), within, scan)?;
        }
        start += line.len();
    }
    Ok(())
}

fn read_value(
    line: usize,
    value: &str,
    within: std::ops::Range<usize>,
    scan: &mut FileScan<'_>,
) -> Result<(), SourceError> {
    if value.is_empty() || value.ends_with(".image") || value.ends_with(".build") {
        return Ok(());
    }
    // Specifiers (%i), and a value that goes on in the next line.
    if has_variable(value) || value.contains('%') || value.ends_with('\\') {
        scan.leave_out(line, &format!("{value:?} is no literal name: only systemd knows the image"));
        return Ok(());
    }
    let (prefix, name) = value.strip_prefix(DOCKER).map_or(("", value), |name| (DOCKER, name));
    scan.image(&WrittenName { line, text: name, within, prefix }, Ok(name.to_owned()))
}
