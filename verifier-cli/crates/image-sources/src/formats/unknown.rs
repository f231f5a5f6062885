//! Documents of no known kind: what looks like an image in them is noted, never passed over.

use super::guess;
use crate::{scan::FileScan, yaml::Node};

/// Modules of Ansible that run, pull or build images (docs.ansible.com, collections community.docker and
/// containers.podman), without the names of their collections.
const ANSIBLE_MODULES: [&str; 8] = [
    "docker_container",
    "docker_image",
    "docker_image_pull",
    "docker_swarm_service",
    "podman_container",
    "podman_image",
    "docker_service",
    "podman_pod",
];
/// What a document is that is of no known kind.
const UNKNOWN: &str = "a kind of file that is not known";
/// What a user can do about such a file.
const REMEDY: &str = "name its images to 'taglog verify', and exclude the file in taglog.toml";

/// Notes what could name an image in a document; whether there is any.
pub fn note(document: &Node, scan: &mut FileScan<'_>) -> bool {
    note_except(document, UNKNOWN, &[], scan)
}

/// As [`note`], for a document that is `what`, without what stands under these keys.
pub fn note_except(document: &Node, what: &str, except: &[&str], scan: &mut FileScan<'_>) -> bool {
    if let Some(line) = ansible_module(document) {
        scan.leave_out(line, &format!("an Ansible file is not read, and a module for images is used here: {REMEDY}"));
        return true;
    }
    let Some((line, name, count)) = guess::images_below(document, except) else { return false };
    let more = if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() };
    let reason = format!("{what}, and seems to name an image here: {name:?}{more}: {REMEDY}");
    scan.leave_out(line, &reason);
    true
}

/// The line of the first module for images, in a playbook or a list of tasks.
fn ansible_module(node: &Node) -> Option<usize> {
    let is_module = |key: &str| ANSIBLE_MODULES.contains(&key.rsplit('.').next().unwrap_or(key));
    node.children().into_iter().find_map(|(key, child)| match key {
        Some(key) if is_module(key) && (child.is_mapping() || child.text().is_some()) => Some(child.line),
        _ => ansible_module(child),
    })
}
