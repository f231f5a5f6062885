//! Which keys and values of objects may name an image, where the kind of the object does not say.

use std::sync::LazyLock;

use regex::Regex;
use taglog_proto::name::Reference;

use super::parameters::has_parameters;

/// What stands before the name of an image in some kinds: KubeVirt's data volumes, skopeo's transports, Flux.
const SCHEMES: [&str; 3] = ["docker://", "oci://", "docker-image://"];

/// Ends of keys, in lower case and without `-` and `_`, whose value may be an image.
const ENDS: [&str; 9] = [
    "image",
    "images",
    "imagename",
    "imageref",
    "imagereference",
    "imageuri",
    "imageurl",
    "imagepath",
    "imagerepository",
];

/// Keys of a mapping under `image` that have the whole name.
const PARTS: [&str; 5] = ["name", "reference", "ref", "uri", "url"];

/// Keys that end in `image` and name another kind of image: of a disk, of a machine, or a picture.
const OTHER_IMAGES: [&str; 20] = [
    "osimage",
    "machineimage",
    "vmimage",
    "diskimage",
    "bootimage",
    "amiimage",
    "coreosimage",
    "cloudimage",
    "backgroundimage",
    "logoimage",
    "iconimage",
    "coverimage",
    "heroimage",
    "headerimage",
    "bannerimage",
    "profileimage",
    "previewimage",
    "updateimage",
    "requireimage",
    "showimage",
];

/// API groups, or their ends, whose `image` may be that of a machine: providers of Cluster API and of clouds (from their
/// CRDs). There only a name with a registry counts.
const MACHINE_GROUPS: [&str; 12] = [
    "cluster.x-k8s.io",
    "cnrm.cloud.google.com",
    "azure.com",
    "upbound.io",
    "services.k8s.aws",
    "metal3.io",
    "machine.openshift.io",
    "hive.openshift.io",
    "tinkerbell.org",
    "gardener.cloud",
    "anywhere.eks.amazonaws.com",
    "awsprovider.k8s.io",
];

/// Ends of names of files, which are pictures or disks.
const FILES: [&str; 13] =
    [".png", ".svg", ".jpg", ".jpeg", ".gif", ".webp", ".ico", ".iso", ".img", ".qcow2", ".raw", ".vmdk", ".vhd"];

/// How surely the values of a key are names of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// `image`: whatever stands there.
    Image,
    /// Its name says so (`initImage`, `imageName`): what can be the name of an image.
    LikeImage,
    /// It has `image` in it (`image_web`, `imageRegistry`): what has a path and can be the name of an image.
    HasImage,
    /// Any other: only a name with a registry, and with a tag or a digest.
    Other,
}

/// What a key says about its value; `below` is the key above it.
pub fn key_kind(key: &str, below: Option<&str>, group: &str) -> KeyKind {
    let normal: String = key.to_ascii_lowercase().chars().filter(|c| !matches!(c, '-' | '_')).collect();
    let machine = MACHINE_GROUPS.iter().any(|end| group.strip_suffix(end).is_some_and(ends_a_label));
    let is_part = below.is_some_and(|below| below.eq_ignore_ascii_case("image")) && PARTS.contains(&key);
    // The image of a RADOS block device (a volume of Kubernetes) is a disk.
    if machine || below == Some("rbd") || OTHER_IMAGES.contains(&normal.as_str()) {
        KeyKind::Other
    } else if normal == "image" || normal == "images" {
        KeyKind::Image
    } else if is_part || ENDS.iter().any(|end| normal.ends_with(end)) {
        KeyKind::LikeImage
    } else if normal.contains("image") {
        KeyKind::HasImage
    } else {
        KeyKind::Other
    }
}

fn ends_a_label(before: &str) -> bool {
    before.is_empty() || before.ends_with('.')
}

/// A name without the scheme before it, and that scheme.
pub fn without_scheme(text: &str) -> (&'static str, &str) {
    let scheme = SCHEMES.into_iter().find(|scheme| text.starts_with(scheme)).unwrap_or("");
    (scheme, &text[scheme.len()..])
}

/// Whether a value may name an image.
pub fn may_name_image(kind: KeyKind, text: &str) -> bool {
    let (scheme, name) = without_scheme(text.trim());
    if name.is_empty() || name.contains("://") || is_file(name) {
        return false;
    }
    match kind {
        _ if !scheme.is_empty() => has_parameters(name) || Reference::parse(name).is_ok(),
        KeyKind::Other => is_full_name(name),
        KeyKind::HasImage => name.contains('/') && Reference::parse(name).is_ok(),
        _ if has_parameters(name) => true,
        KeyKind::LikeImage => !is_plain_value(name) && Reference::parse(name).is_ok(),
        // A pattern or a sentence is no name. What breaks the rules of names otherwise may be an attempt at one.
        KeyKind::Image => !is_plain_value(name) && !name.contains(|c: char| c.is_whitespace() || "*?!<>".contains(c)),
    }
}

/// Whether a name begins with a registry, so that nothing is left to a default.
pub fn has_registry(name: &str) -> bool {
    let host = name.split_once('/').map(|(host, _)| host);
    host.is_some_and(|host| host == "localhost" || host.contains(['.', ':']))
}

/// A registry and a tag or a digest: beyond doubt under any key.
pub fn is_full_name(name: &str) -> bool {
    has_registry(name) && Reference::parse(name).is_ok_and(|name| name.tag.is_some() || name.digest.is_some())
}

fn is_file(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    FILES.iter().any(|end| lower.ends_with(end))
}

/// A truth value or a number.
fn is_plain_value(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    matches!(lower.as_str(), "true" | "false" | "yes" | "no" | "on" | "off" | "none") || text.parse::<f64>().is_ok()
}

/// Whether a text that holds YAML or JSON names an image in it: under a key, or at the end of the path of a JSON patch.
pub fn text_names_image(text: &str) -> bool {
    static NAMES_IMAGE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let image = "[\\w-]*image(?:s|[-_]?(?:name|ref|reference|repository))?";
        let key = format!(r#"(?:^|[\s{{,"'/.]){image}["']?\s*:\s*["']?[^\s"',}}]"#);
        let (repository, path) = (r"^\s*-?\s*repository:\s*\S", r#"/image["']?\s*(?:[,}]|$)"#);
        let patch = format!(r#"\bpath["']?\s*:\s*["']?/(?:[^\s"',}}]*/)?{image}["']?\s*(?:[,}}]|$)"#);
        Regex::new(&format!("(?im){key}|{repository}|{path}|{patch}")).ok()
    });
    let structured = text.contains('\n') || text.trim_start().starts_with(['{', '[']);
    structured && NAMES_IMAGE.as_ref().is_none_or(|names_image| names_image.is_match(text))
}
