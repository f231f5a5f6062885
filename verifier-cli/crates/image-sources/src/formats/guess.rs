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
/// What an image of GitLab or Bitbucket can have besides its name.
const NAME_KEYS: [&str; 7] = ["name", "entrypoint", "docker", "kubernetes", "pull_policy", "username", "password"];
/// Words that a key `image` has as its value where it says whether or what, and not which.
const NO_NAMES: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "none", "null", "image"];

/// Whether a text has something in it that a tool replaces.
pub fn has_variable(text: &str) -> bool {
    text.contains('$') || text.contains("{{") || text.contains("<<")
}

/// Whether a key is one that holds the name of an image. CI systems have it under `container`.
pub fn is_image_key(key: &str) -> bool {
    let plain: String = key.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    plain == "container" || KEYS.iter().any(|ending| plain.ends_with(ending))
}

/// Whether a text without variables is the name of an image beyond doubt: with a tag, a digest or a path. The ID of an image
/// is none.
pub fn is_image_name(text: &str) -> bool {
    let name = text.strip_prefix("docker://").unwrap_or(text);
    let Ok(reference) = Reference::parse(name) else { return false };
    reads_as_image(name) && (reference.digest.is_some() || reference.tag.is_some() || name.contains('/'))
}

/// Whether a text without variables can be the name of an image, be it a single word.
pub fn reads_as_image(text: &str) -> bool {
    let name = text.strip_prefix("docker://").unwrap_or(text);
    let lower = name.to_ascii_lowercase();
    let Ok(reference) = Reference::parse(name) else { return false };
    let bare = reference.digest.is_none() && reference.tag.is_none();
    let other = name.starts_with("sha256:")
        || NO_NAMES.contains(&lower.as_str())
        || is_other_file(name)
        || (bare && OTHER_DIRECTORIES.iter().any(|directory| lower.starts_with(directory)));
    !other && name.contains(|c: char| c.is_ascii_alphabetic())
}

/// Whether a text is the name of a picture, a document or a disk.
pub fn is_other_file(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    OTHER_FILES.iter().any(|ending| lower.ends_with(ending))
}

/// Whether the value of a key for images looks like one. A single word does only beside what runs, or where the key is
/// `image` itself (`any_word`).
fn is_image_value(text: &str, any_word: bool) -> bool {
    if has_variable(text) {
        let plain = without_expressions(text);
        return !plain.is_empty() && !plain.contains(char::is_whitespace);
    }
    is_image_name(text) || (any_word && reads_as_image(text))
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

/// The line and the text of the first value below that looks like the name of an image, and how many there are. What stands
/// under the keys `except` does not count.
pub fn images_below(node: &Node, except: &[&str]) -> Option<(usize, String, usize)> {
    let mut found = (None, 0);
    search(node, except, &mut found);
    let (first, count) = found;
    first.map(|(line, text)| (line, text, count))
}

fn search(node: &Node, except: &[&str], found: &mut (Option<(usize, String)>, usize)) {
    let runs = BESIDE.iter().any(|key| node.get(key).is_some());
    for (key, child) in node.children() {
        if key.is_some_and(|key| except.contains(&key)) {
            continue;
        }
        let name = match key {
            Some("services") => service_in(child),
            Some(key) if is_image_key(key) => image_in(child, runs || key == "image"),
            _ => parts_in(child),
        };
        if let Some(name) = name {
            found.1 += 1;
            found.0.get_or_insert((child.line, name));
        } else {
            search(child, except, found);
        }
    }
}

/// The image itself, or a mapping with its repository or name.
fn image_in(value: &Node, any_word: bool) -> Option<String> {
    let text = |node: &Node, any_word| node.text().filter(|text| is_image_value(text, any_word)).map(str::to_owned);
    let parts = ["repository", "name", "repo"].iter().find_map(|key| value.get(key));
    let whole = ["tag", "digest", "version", "registry"].iter().any(|key| value.get(key).is_some());
    let only_name = any_word && value.entries().all(|(key, _)| NAME_KEYS.contains(&key));
    text(value, any_word).or_else(|| parts.and_then(|part| text(part, whole || only_name)))
}

/// A repository with a tag or a digest beside it, under any key, as charts of Helm have them.
fn parts_in(value: &Node) -> Option<String> {
    let is_whole = value.get("tag").is_some() || value.get("digest").is_some();
    let repository = value.get("repository").filter(|_| is_whole)?;
    repository.text().filter(|text| is_image_value(text, true)).map(str::to_owned)
}

/// The first image of a list of services, as jobs of GitLab have it.
fn service_in(list: &Node) -> Option<String> {
    let name = |service: &Node| service.get("name").unwrap_or(service).text().map(str::to_owned);
    list.items().filter_map(name).find(|name| !has_variable(name) && is_image_name(name))
}

/// Notes what looks like images below a node; whether there is any.
pub fn note(node: &Node, what: &str, scan: &mut FileScan<'_>) -> bool {
    let Some((line, name, count)) = images_below(node, &[]) else { return false };
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
