//! The variables that a build sets by itself (docs.docker.com, "Automatic platform ARGs in the global scope";
//! moby/buildkit, frontend/dockerfile/dockerfile2llb/platform.go).

/// A platform to build for or on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Platform {
    os: &'static str,
    architecture: &'static str,
    variant: &'static str,
}

const fn platform(os: &'static str, architecture: &'static str, variant: &'static str) -> Platform {
    Platform { os, architecture, variant }
}

/// Those that images are built for (github.com/docker-library/official-images, "Architectures other than amd64?"; Go's
/// list of ports), with the variants that containerd knows.
pub const PLATFORMS: [Platform; 22] = [
    platform("linux", "amd64", ""),
    platform("linux", "arm64", ""),
    platform("linux", "arm", "v7"),
    platform("linux", "arm", "v6"),
    platform("linux", "arm", "v5"),
    platform("linux", "arm", ""),
    platform("linux", "386", ""),
    platform("linux", "ppc64le", ""),
    platform("linux", "s390x", ""),
    platform("linux", "riscv64", ""),
    platform("linux", "loong64", ""),
    platform("linux", "mips64le", ""),
    platform("linux", "mips64", ""),
    platform("linux", "amd64", "v2"),
    platform("linux", "amd64", "v3"),
    platform("linux", "amd64", "v4"),
    platform("linux", "arm64", "v8"),
    platform("linux", "arm64", "v9"),
    platform("windows", "amd64", ""),
    platform("windows", "arm64", ""),
    platform("freebsd", "amd64", ""),
    platform("wasi", "wasm", ""),
];

impl Platform {
    /// `linux/arm/v7`.
    pub fn name(self) -> String {
        let variant = if self.variant.is_empty() { String::new() } else { format!("/{}", self.variant) };
        format!("{}/{}{variant}", self.os, self.architecture)
    }

    /// Whether a text is made with a part of this platform's name.
    pub fn is_named_in(self, text: &str) -> bool {
        let parts = [self.os, self.architecture, self.variant];
        parts.iter().any(|part| !part.is_empty() && text.contains(part))
    }

    fn part(self, part: &str) -> Option<String> {
        match part {
            "PLATFORM" => Some(self.name()),
            "OS" => Some(self.os.to_owned()),
            "ARCH" => Some(self.architecture.to_owned()),
            "VARIANT" => Some(self.variant.to_owned()),
            _ => None,
        }
    }
}

/// What a build for one platform on another sets.
#[derive(Clone, Copy, Debug)]
pub struct BuildPlatforms {
    pub build: Platform,
    pub target: Platform,
}

impl BuildPlatforms {
    /// All pairs, the most usual first.
    pub fn all() -> impl Iterator<Item = BuildPlatforms> {
        PLATFORMS
            .iter()
            .flat_map(|target| PLATFORMS.iter().map(|build| BuildPlatforms { build: *build, target: *target }))
    }

    /// The value of an automatic variable.
    pub fn value(self, name: &str) -> Option<String> {
        match (name.strip_prefix("TARGET"), name.strip_prefix("BUILD")) {
            (Some(part), _) => self.target.part(part),
            (None, Some(part)) => self.build.part(part),
            (None, None) => None,
        }
    }
}

/// Automatic variables whose values no list can hold.
pub fn is_open(name: &str) -> bool {
    matches!(name, "TARGETSTAGE" | "TARGETOSVERSION" | "BUILDOSVERSION")
}
