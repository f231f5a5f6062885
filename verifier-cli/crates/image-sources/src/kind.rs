//! Which kind of file a name stands for, and what the content says where the name does not.

use std::path::Path;

use super::formats::{NotRead, Tool};

/// How a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileFormat {
    /// A Dockerfile or Containerfile.
    Dockerfile,
    /// YAML with the name of a Compose file.
    Compose,
    /// YAML with the name of a GitLab CI pipeline, or of a part of one.
    Pipeline,
    /// YAML or JSON with the name of another tool's file.
    Tool(Tool),
    /// YAML whose documents must say what they are.
    Yaml,
    /// JSON that must say what it is.
    Json,
    /// A systemd unit of Podman (quadlet).
    Quadlet,
    /// A kind that is recognised and not read.
    NotRead(NotRead),
}

/// What the name of a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NameKind {
    /// It stands for this kind.
    Format(FileFormat),
    /// It has the word for a Dockerfile in it, and the extension of something else, as `Dockerfile.go`, which may be the
    /// Dockerfile of a Go program, and `Dockerfile.md`, which is none: the content decides.
    PerhapsDockerfile,
    /// Nothing.
    Unknown,
}

/// What a file's name and the directories that it is in say.
pub struct FileName<'p> {
    path: &'p Path,
    /// Its own name, in lower case.
    pub lower: String,
}

impl FileName<'_> {
    /// `None` for what has no name.
    pub fn of(path: &Path) -> Option<FileName<'_>> {
        Some(FileName { path, lower: path.file_name()?.to_string_lossy().to_ascii_lowercase() })
    }

    /// The extension in lower case; empty if there is none.
    pub fn extension(&self) -> &str {
        self.lower.rsplit_once('.').map_or("", |(_, extension)| extension)
    }

    /// Whether it is YAML by its name.
    pub fn is_yaml(&self) -> bool {
        matches!(self.extension(), "yaml" | "yml")
    }

    /// Whether one of the directories that it is in has this name.
    pub fn is_in(&self, directory: &str) -> bool {
        self.path.parent().is_some_and(|parent| parent.iter().any(|part| part == directory))
    }
}

/// The kind of file that a name stands for.
pub fn kind_of_name(path: &Path) -> NameKind {
    let Some(name) = FileName::of(path) else { return NameKind::Unknown };
    let other = || other_format_of(&name).map(NameKind::Format);
    dockerfile_kind(&name).or_else(other).unwrap_or(NameKind::Unknown)
}

/// The kind that a name stands for apart from the word for a Dockerfile in it, as `dockerfile.gitlab-ci.yml`.
pub fn other_format(path: &Path) -> Option<FileFormat> {
    FileName::of(path).and_then(|name| other_format_of(&name))
}

fn other_format_of(name: &FileName<'_>) -> Option<FileFormat> {
    Some(match (Tool::of_name(name), NotRead::of_name(name)) {
        (Some(tool), _) => FileFormat::Tool(tool),
        (None, Some(kind)) => FileFormat::NotRead(kind),
        _ if is_quadlet(name) => FileFormat::Quadlet,
        _ if name.is_yaml() && (name.lower.starts_with("compose") || name.lower.starts_with("docker-compose")) => {
            FileFormat::Compose
        }
        _ if name.lower.ends_with(".gitlab-ci.yml") || name.lower.ends_with(".gitlab-ci.yaml") => FileFormat::Pipeline,
        _ if name.is_yaml() || name.path.file_name().is_some_and(|name| name == "Kustomization") => FileFormat::Yaml,
        _ if name.extension() == "json" => FileFormat::Json,
        _ => return None,
    })
}

/// Whether a file is a Dockerfile by its name or content.
pub fn is_dockerfile(path: &Path, bytes: &[u8]) -> bool {
    kind_of_name(path) == NameKind::Format(FileFormat::Dockerfile)
        || std::str::from_utf8(bytes).is_ok_and(begins_as_dockerfile)
}

/// Whether a walk looks into a file of this name.
pub fn is_candidate(path: &Path) -> bool {
    kind_of_name(path) != NameKind::Unknown
}

/// What Dockerfiles are called.
const DOCKERFILES: [&str; 2] = ["dockerfile", "containerfile"];
/// Extensions of source code, documents, data and archives: a Dockerfile rarely has one of them, as
/// `Dockerfile.go` for programs in Go.
const OTHER_EXTENSIONS: [&str; 86] = [
    "adoc", "asc", "bash", "bat", "c", "cc", "cfg", "clj", "cmd", "conf", "cpp", "cs", "css", "csv", "d", "dart",
    "diff", "ex", "exs", "fs", "gif", "go", "gradle", "groovy", "gz", "h", "hcl", "hpp", "hs", "htm", "html", "ini",
    "ipynb", "java", "jl", "jpeg", "jpg", "js", "json", "jsonc", "jsx", "kt", "kts", "lock", "log", "lua", "m", "md",
    "mdx", "mjs", "ml", "mm", "patch", "pdf", "php", "pl", "png", "proto", "ps1", "py", "pyi", "r", "rb", "rs", "rst",
    "scala", "scss", "sh", "sql", "sum", "svg", "swift", "swp", "tar", "tf", "toml", "ts", "tsx", "txt", "vim", "vue",
    "xml", "yaml", "yml", "zig", "zip",
];

/// `Dockerfile`, `Dockerfile.dev`, `Dockerfile-dev`, `backend-Dockerfile`, `app.dockerfile`, but not
/// `DockerfileParser.java`.
fn dockerfile_kind(name: &FileName<'_>) -> Option<NameKind> {
    let is_word = |word: &str| DOCKERFILES.contains(&word);
    let begins = DOCKERFILES.iter().any(|word| name.lower.starts_with(word));
    if !(begins || name.lower.split(['.', '-', '_', ' ']).any(is_word)) || name.extension() == "dockerignore" {
        return None;
    }
    let name_is_ambiguous = !is_word(name.extension()) && OTHER_EXTENSIONS.contains(&name.extension());
    Some(if name_is_ambiguous { NameKind::PerhapsDockerfile } else { NameKind::Format(FileFormat::Dockerfile) })
}

/// Units that name images, and the drop-ins of such units (podman-systemd.unit(5)).
fn is_quadlet(name: &FileName<'_>) -> bool {
    let unit = |extension: &str| matches!(extension, "container" | "volume" | "image");
    let directory = name.path.parent().and_then(Path::file_name).and_then(|directory| directory.to_str());
    let drop_in = directory.and_then(|directory| directory.strip_suffix(".d")?.rsplit_once('.'));
    unit(name.extension()) || (name.extension() == "conf" && drop_in.is_some_and(|(_, extension)| unit(extension)))
}

/// The kind of a file whose name says nothing.
pub fn format_by_content(text: &str) -> FileFormat {
    if begins_as_dockerfile(text) { FileFormat::Dockerfile } else { FileFormat::Yaml }
}

/// Whether the first instruction is FROM or ARG, with which every Dockerfile begins, and which is neither YAML nor the
/// `from x import y` of a program.
pub fn begins_as_dockerfile(text: &str) -> bool {
    let significant = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let Some(first) = text.lines().map(str::trim).find(significant) else { return false };
    let mut words = first.split_whitespace();
    let instruction = words.next().unwrap_or_default();
    // The instruction itself may go on in the next line.
    let begun = instruction.strip_suffix(['\\', '`']).unwrap_or("-").to_ascii_lowercase();
    if "from".starts_with(&begun) || "arg".starts_with(&begun) {
        return true;
    }
    let arguments: Vec<&str> = words.skip_while(|word| word.starts_with("--")).collect();
    if instruction.eq_ignore_ascii_case("arg") {
        return !arguments.is_empty();
    }
    instruction.eq_ignore_ascii_case("from")
        && match arguments[..] {
            [_, word, ..] => word.eq_ignore_ascii_case("as") || word.starts_with(['#', '\\', '`']),
            _ => true,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str) -> NameKind {
        kind_of_name(Path::new(name))
    }

    #[test]
    fn names_of_dockerfiles() {
        for name in [
            "Dockerfile",
            "dockerfile",
            "Dockerfile.dev",
            "x/app.Dockerfile",
            "app.dockerfile",
            "Containerfile",
            "docker/Dockerfile.x86_64",
            "backend-Dockerfile",
            "Dockerfile_ci",
            "dockerfile.prod",
            "Dockerfile-dev",
            "build.dockerfile",
            "Dockerfile.alpine.template",
            "Dockerfile2",
            "DOCKERFILE",
            "api.Dockerfile.prod",
            "Dockerfile.j2",
            "Containerfile.fedora",
            "Dockerfile.3.12",
        ] {
            assert_eq!(kind(name), NameKind::Format(FileFormat::Dockerfile), "{name}");
        }
        for name in
            ["DockerfileParser.java", "DockerfileTest.kt", "Dockerfile_test.go", "Dockerfile.md", "Dockerfile.go"]
        {
            assert_eq!(kind(name), NameKind::PerhapsDockerfile, "{name}");
        }
        for name in ["Dockerfile.dockerignore", ".dockerignore", "mydockerfiles", "dockerfiles/readme", "x", "Makefile"]
        {
            let is_dockerfile = !matches!(kind(name), NameKind::Unknown);
            assert!(!is_dockerfile, "{name}");
        }
    }

    #[test]
    fn names_of_other_kinds() {
        for (name, format) in [
            ("docker-compose.prod.yml", FileFormat::Compose),
            ("x.yaml", FileFormat::Yaml),
            ("base/Kustomization", FileFormat::Yaml),
            ("ci/x.gitlab-ci.yml", FileFormat::Pipeline),
            ("x.json", FileFormat::Json),
            (".drone.yml", FileFormat::Tool(Tool::Drone)),
            (".woodpecker/build/x.yaml", FileFormat::Tool(Tool::Woodpecker)),
            (".circleci/config.yml", FileFormat::Tool(Tool::CircleCi)),
            (".devcontainer/devcontainer.json", FileFormat::Tool(Tool::DevContainer)),
            (".devcontainer.json", FileFormat::Tool(Tool::DevContainer)),
            ("docker-bake.json", FileFormat::Tool(Tool::Bake)),
            ("docker-bake.hcl", FileFormat::NotRead(NotRead::Bake)),
            ("main.tf", FileFormat::NotRead(NotRead::Terraform)),
            ("Earthfile", FileFormat::NotRead(NotRead::Earthfile)),
            ("a@.container", FileFormat::Quadlet),
            ("a.container.d/10.conf", FileFormat::Quadlet),
        ] {
            assert_eq!(kind(name), NameKind::Format(format), "{name}");
        }
        for name in ["a.service.d/10.conf", "x.conf", "containers", "package", "x.md", "kustomization"] {
            assert_eq!(kind(name), NameKind::Unknown, "{name}");
        }
    }

    #[test]
    fn dockerfiles_by_content() {
        for text in [
            "FROM a",
            "# c\n\nfrom a as b\n",
            "ARG A=1\n",
            "FROM --platform=x a AS b",
            "FROM \\\n a",
            "FR\\\nOM a",
            "\\\nFROM a",
            "",
        ] {
            assert_eq!(begins_as_dockerfile(text), !text.is_empty(), "{text}");
        }
        for text in
            ["from x import y\n", "package main\n", "#!/bin/sh\nARG\n", "services: {}\n", "FROM scratch is fine"]
        {
            assert!(!begins_as_dockerfile(text), "{text}");
        }
    }
}
