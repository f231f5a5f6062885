//! Whether a value of a file of an unknown kind looks like the name of an image.

use taglog_proto::name::Reference;

use crate::{scan::FileScan, yaml::Node};

/// Endings of keys that hold names of images, without case and separators.
const KEYS: [&str; 7] = ["image", "imagename", "imageuri", "imageref", "imagereference", "imageurl", "imagerepository"];
/// Files that pages and programs show, and disks of virtual machines.
const OTHER_FILES: [&str; 17] = [
    ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp", ".ico", ".bmp", ".avif", ".tif", ".tiff", ".iso", ".img",
    ".qcow2", ".vmdk", ".raw", ".pdf",
];
/// Directories of such files.
const OTHER_DIRECTORIES: [&str; 7] = ["assets/", "images/", "image/", "img/", "static/", "media/", "public/"];
/// What stands beside the image of something that runs.
const BESIDE: [&str; 14] = [
    "command",
    "commands",
    "entrypoint",
    "args",
    "ports",
    "environment",
    "env",
    "volumes",
    "script",
    "tag",
    "digest",
    "pullPolicy",
    "imagePullPolicy",
    "run",
];

/// Whether a text has something in it that a tool replaces.
pub fn has_variable(text: &str) -> bool {
    text.contains('$') || text.contains("{{") || text.contains("<<")
}

/// Whether a key is one that holds the name of an image. CI systems have it under `container`.
pub fn is_image_key(key: &str) -> bool {
    let plain: String = key.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    plain == "container" || KEYS.iter().any(|ending| plain.ends_with(ending))
}

/// Whether a text, that is no variable, could be the name of an image beyond doubt: with a tag, a digest or a registry.
pub fn is_image_name(text: &str) -> bool {
    let name = text.strip_prefix("docker://").unwrap_or(text);
    let lower = name.to_ascii_lowercase();
    let other = OTHER_FILES.iter().any(|ending| lower.ends_with(ending))
        || OTHER_DIRECTORIES.iter().any(|directory| lower.starts_with(directory));
    let Ok(reference) = Reference::parse(name) else { return false };
    !other && (reference.digest.is_some() || reference.tag.is_some() || name.contains('/'))
}

/// Whether the value of a key for images looks like one. A single word does only beside what runs.
fn is_image_value(text: &str, runs: bool) -> bool {
    let plain = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
    if has_variable(text) {
        return plain(&without_expressions(text));
    }
    is_image_name(text) || (runs && plain(text) && Reference::parse(text).is_ok())
}

/// The text with an `x` for everything in double braces, in which blanks are usual.
fn without_expressions(text: &str) -> String {
    let mut rest = text;
    let mut plain = String::new();
    while let Some((before, (_, after))) =
        rest.split_once("{{").and_then(|(before, rest)| Some((before, rest.split_once("}}")?)))
    {
        plain = plain + before + "x";
        rest = after;
    }
    plain + rest
}

/// The line and the text of the first value below that looks like the name of an image, and how many there are.
pub fn images_below(node: &Node) -> Option<(usize, String, usize)> {
    let mut found = (None, 0);
    search(node, &mut found);
    let (first, count) = found;
    first.map(|(line, text)| (line, text, count))
}

fn search(node: &Node, found: &mut (Option<(usize, String)>, usize)) {
    let runs = BESIDE.iter().any(|key| node.get(key).is_some());
    for (key, child) in node.children() {
        let name = key.filter(|key| is_image_key(key)).and_then(|_| image_in(child, runs));
        if let Some(name) = name {
            found.1 += 1;
            found.0.get_or_insert((child.line, name));
        } else {
            search(child, found);
        }
    }
}

/// The image itself, or a mapping with its repository or name.
fn image_in(value: &Node, runs: bool) -> Option<String> {
    let text = |node: &Node, runs| node.text().filter(|text| is_image_value(text, runs)).map(str::to_owned);
    let parts = ["repository", "name", "repo"].iter().find_map(|key| value.get(key));
    let whole = ["tag", "digest", "version", "registry"].iter().any(|key| value.get(key).is_some());
    text(value, runs).or_else(|| parts.and_then(|part| text(part, whole)))
}

/// Notes what looks like images below a node; whether there is any.
pub fn note(node: &Node, what: &str, scan: &mut FileScan<'_>) -> bool {
    let Some((line, name, count)) = images_below(node) else { return false };
    let more = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
    scan.leave_out(line, &format!("{what} is not read, and seems to name an image here: {name:?}{more}"));
    true
}

/// Build arguments take the place of the defaults of a Dockerfile: one that looks like an image can be the base.
pub fn note_build_args(args: Option<&Node>, scan: &mut FileScan<'_>) {
    for (name, value) in args.into_iter().flat_map(Node::entries) {
        let Some(text) =
            value.text().filter(|text| is_image_name(text) && text.contains(|c: char| c.is_ascii_alphabetic()))
        else {
            continue;
        };
        let reason =
            format!("a build argument that can be an image: verify its Dockerfile with --build-arg {name}={text}");
        scan.leave_out(value.line, &reason);
    }
}
