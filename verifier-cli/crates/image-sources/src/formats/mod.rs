//! Files of further tools. A format that is plain YAML, JSON or a systemd unit is read; any other is recognised and named
//! as not read where it can name an image.

mod azure;
mod bake;
mod bitbucket;
mod circleci;
mod cloud_build;
mod devcontainer;
mod guess;
mod json;
mod not_read;
pub mod quadlet;
mod skaffold;
mod steps;
#[cfg(test)]
mod tests;
mod unknown;

use super::{kind::FileName, model::SourceError, scan::FileScan, yaml::Node};

pub use self::{
    json::{may_name_images, without_comments},
    not_read::{NotRead, read as read_not_read},
    unknown::note as note_unknown,
};

/// A tool whose files are YAML or JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tool {
    Woodpecker,
    Drone,
    CircleCi,
    Azure,
    Bitbucket,
    CloudBuild,
    DevContainer,
    Bake,
    Skaffold,
}

/// How a tool's files are recognised and read.
struct ToolFormat {
    tool: Tool,
    /// Whether a file of this name is the tool's.
    is_named: fn(&FileName<'_>) -> bool,
    /// Whether a document says of itself that it is the tool's.
    is: fn(&Node) -> bool,
    /// Keys of the tool's documents that Compose files, pipelines of GitLab and values of Helm do not have by custom.
    own_keys: &'static [&'static str],
    /// Keys under which the word image stands for something else, as a virtual machine or what is built.
    other_images: &'static [&'static str],
    read: fn(&Node, &mut FileScan<'_>) -> Result<(), SourceError>,
}

/// Every module names the documentation that it follows.
const TOOLS: [ToolFormat; 9] = [
    ToolFormat {
        tool: Tool::Skaffold,
        is_named: |_| false,
        is: skaffold::is,
        own_keys: &["apiVersion"],
        other_images: &[],
        read: skaffold::read,
    },
    ToolFormat {
        tool: Tool::Drone,
        is_named: |name| matches!(name.lower.as_str(), ".drone.yml" | ".drone.yaml" | "drone.yml"),
        is: steps::is_drone,
        own_keys: &["kind", "steps", "pipeline", "clone"],
        other_images: &[],
        read: steps::read,
    },
    ToolFormat {
        tool: Tool::Woodpecker,
        is_named: |name| {
            name.is_yaml()
                && (name.is_in(".woodpecker") || matches!(name.lower.as_str(), ".woodpecker.yml" | ".woodpecker.yaml"))
        },
        is: steps::is_woodpecker,
        own_keys: &["steps", "pipeline", "clone", "matrix"],
        other_images: &[],
        read: steps::read,
    },
    ToolFormat {
        tool: Tool::CircleCi,
        is_named: |name| name.is_yaml() && name.is_in(".circleci"),
        is: circleci::is,
        own_keys: &["jobs", "executors", "orbs", "workflows", "commands"],
        other_images: &["machine"],
        read: circleci::read,
    },
    ToolFormat {
        tool: Tool::Azure,
        is_named: |name| name.is_yaml() && name.lower.trim_start_matches('.').starts_with("azure-pipelines"),
        is: azure::is,
        own_keys: &["stages", "jobs", "steps", "resources", "trigger", "pool", "extends", "variables", "parameters"],
        other_images: &["pool", "variables", "inputs", "env"],
        read: azure::read,
    },
    ToolFormat {
        tool: Tool::Bitbucket,
        is_named: |name| name.is_yaml() && name.lower.starts_with("bitbucket-pipelines"),
        is: bitbucket::is,
        own_keys: &["pipelines", "definitions"],
        other_images: &["variables"],
        read: bitbucket::read,
    },
    ToolFormat {
        tool: Tool::CloudBuild,
        is_named: |name| {
            let stem = name.lower.rsplit_once('.').map_or("", |(stem, _)| stem);
            (name.is_yaml() || name.extension() == "json")
                && (stem.starts_with("cloudbuild") || stem.ends_with("cloudbuild"))
        },
        is: cloud_build::is,
        own_keys: &["steps"],
        other_images: &["substitutions"],
        read: cloud_build::read,
    },
    ToolFormat {
        tool: Tool::DevContainer,
        is_named: |name| matches!(name.lower.as_str(), "devcontainer.json" | ".devcontainer.json"),
        is: |_| false,
        own_keys: &["build", "dockerFile", "dockerComposeFile", "features", "customizations"],
        other_images: &[],
        read: devcontainer::read,
    },
    ToolFormat {
        tool: Tool::Bake,
        is_named: |name| name.extension() == "json" && name.lower.starts_with("docker-bake"),
        is: bake::is,
        own_keys: &["target", "group"],
        other_images: &["args"],
        read: bake::read,
    },
];

impl Tool {
    /// The tool whose files have this name.
    pub fn of_name(name: &FileName<'_>) -> Option<Tool> {
        TOOLS.iter().find(|format| (format.is_named)(name)).map(|format| format.tool)
    }

    /// The tool that a document says it is for.
    pub fn of_document(document: &Node) -> Option<Tool> {
        TOOLS.iter().find(|format| (format.is)(document)).map(|format| format.tool)
    }

    /// Whether a document has a key that marks it as one of this tool.
    pub fn has_own_key(self, document: &Node) -> bool {
        self.format().is_some_and(|format| format.own_keys.iter().any(|key| document.get(key).is_some()))
    }

    /// Finds the images of a document of this tool. One in which the tool's reader finds nothing is searched for what looks
    /// like an image all the same: it may be something else.
    ///
    /// # Errors
    /// A template in the name of an image.
    pub fn read(self, document: &Node, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
        let Some(format) = self.format() else { return Ok(()) };
        let before = scan.count();
        (format.read)(document, scan)?;
        if scan.count() == before {
            let is_own = (format.is)(document) || self.has_own_key(document);
            let except = if is_own { format.other_images } else { &[] };
            unknown::note_except(document, "a file in which no image was found where its tool has them", except, scan);
        }
        Ok(())
    }

    fn format(self) -> Option<&'static ToolFormat> {
        TOOLS.iter().find(|format| format.tool == self)
    }
}

/// Adds the image that a value names. One with a variable is left out, since only the tool (`who`) knows it.
fn literal(value: &Node, who: &str, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    match value.text().filter(|text| guess::has_variable(text)) {
        Some(text) => {
            scan.leave_out(value.line, &format!("{text:?} has a variable that only {who} can replace"));
            Ok(())
        }
        None => scan.yaml_image(value),
    }
}

/// The image of a mapping, under this key.
fn literal_at(holder: &Node, key: &str, who: &str, scan: &mut FileScan<'_>) -> Result<(), SourceError> {
    holder.get(key).map_or(Ok(()), |value| literal(value, who, scan))
}

/// What stands below a key, in a list or by name.
fn each_below<'a>(holder: &'a Node, key: &str) -> impl Iterator<Item = &'a Node> {
    holder.get(key).into_iter().flat_map(|below| below.items().chain(below.values()))
}

/// Replaces `${NAME}` and `$NAME`; `None` if a name has no value.
fn substitute(text: &str, value_of: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let mut replaced = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        replaced += before;
        let (name, next) = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}')?,
            None => {
                let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
                after.split_at(end)
            }
        };
        replaced += &value_of(name)?;
        rest = next;
    }
    Some(replaced + rest)
}
