//! Platforms, as image indexes name them: `linux/amd64`, `linux/arm64/v8`.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// What an image is built for (OCI image index, `platform`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    /// The operating system, such as `linux`.
    pub os: String,
    /// The architecture, by Go's names: `amd64`, `arm64`.
    pub architecture: String,
    /// The variant of the architecture, such as `v7`. `arm64` has only one, `v8`, which is left out.
    pub variant: Option<String>,
}

/// A text that is not a platform.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not a platform: want OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, as in linux/amd64 or linux/arm/v7")]
pub struct PlatformError(String);

impl Platform {
    /// Normalizes the names: lower case, `amd64` for `x86_64`, `arm64` for `aarch64` and for `arm64/v8`.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
        let architecture = match architecture.to_ascii_lowercase().as_str() {
            "x86_64" | "x86-64" => "amd64".to_owned(),
            "aarch64" => "arm64".to_owned(),
            other => other.to_owned(),
        };
        let variant = variant.map(str::to_ascii_lowercase).filter(|variant| !variant.is_empty());
        let variant = variant.filter(|variant| architecture != "arm64" || variant != "v8");
        Platform { os: os.to_ascii_lowercase(), architecture, variant }
    }

    /// The platform of Linux containers on this machine.
    pub fn here() -> Platform {
        Platform::new("linux", std::env::consts::ARCH, None)
    }

    /// Whether an image for `other` runs on this platform. Without a variant here, any variant is accepted.
    pub fn accepts(&self, other: &Platform) -> bool {
        let variant = self.variant.is_none() || self.variant == other.variant;
        self.os == other.os && self.architecture == other.architecture && variant
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Platform, PlatformError> {
        let part =
            |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        let parts: Vec<&str> = text.split('/').collect();
        match parts[..] {
            [os, architecture] if parts.iter().all(part) => Ok(Platform::new(os, architecture, None)),
            [os, architecture, variant] if parts.iter().all(part) => Ok(Platform::new(os, architecture, Some(variant))),
            _ => Err(PlatformError(text.chars().take(80).collect())),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalized() {
        for (text, shown) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/X86_64", "linux/amd64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm/v7", "linux/arm/v7"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), shown);
        }
        for bad in ["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "linux/a b"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_platform_accepts_its_variants() {
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        let accepts = |asked: &str, other: &str| platform(asked).accepts(&platform(other));
        assert!(accepts("linux/arm64", "linux/arm64/v8") && accepts("linux/arm64/v8", "linux/arm64"));
        assert!(accepts("linux/arm", "linux/arm/v6") && !accepts("linux/arm/v7", "linux/arm/v6"));
        assert!(!accepts("linux/amd64", "windows/amd64") && !accepts("linux/amd64", "linux/arm64"));
    }
}
