//! How the builders of the last years differ in what they take for an instruction.
//!
//! A file is read as each of them reads it, and what any of them would use is checked: who verifies a file does not say
//! which builder will run it.

/// Which words begin a here-document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HereDocuments {
    /// None: the lines after the instruction are instructions.
    None,
    /// `<<EOF`.
    Tight,
    /// `<<EOF` and `<< EOF`.
    Blank,
}

/// Which comments at the top are directives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directives {
    /// `syntax`, `escape` and, where it is known, `check`.
    BuildKit { check: bool, unicode_blanks: bool },
    /// `escape` in the first line only.
    Podman,
}

/// How one generation of builders reads a Dockerfile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    pub here_documents: HereDocuments,
    pub directives: Directives,
    /// Whether two escape characters at the end of a line continue it.
    pub escaped_escape_continues: bool,
    /// Whether flags follow the `escape` directive; otherwise their escape character is always `\`.
    pub escape_in_flags: bool,
    /// Whether a JSON array may have other text after it.
    pub json_prefix: bool,
    /// Whether `${A#b}`, `${A%b}` and `${A/b/c}` are known.
    pub patterns: bool,
    /// Whether the word after an operator in `${…}` drops what was read of the word around it.
    pub shared_word_buffer: bool,
    /// Whether raw double quotes repeat the escape character before characters that need none.
    pub raw_escapes_doubled: bool,
}

/// BuildKit 0.34.
pub const CURRENT: Dialect = Dialect {
    here_documents: HereDocuments::Blank,
    directives: Directives::BuildKit { check: true, unicode_blanks: true },
    escaped_escape_continues: false,
    escape_in_flags: true,
    json_prefix: false,
    patterns: true,
    shared_word_buffer: true,
    raw_escapes_doubled: false,
};

const BUILDKIT_0_28: Dialect = Dialect { raw_escapes_doubled: true, ..CURRENT };

const ASCII_BLANKS: Directives = Directives::BuildKit { check: true, unicode_blanks: false };
const NO_CHECK: Directives = Directives::BuildKit { check: false, unicode_blanks: false };

const BUILDKIT_0_22: Dialect = Dialect { directives: ASCII_BLANKS, ..BUILDKIT_0_28 };
const BUILDKIT_0_17: Dialect =
    Dialect { here_documents: HereDocuments::Tight, escape_in_flags: false, ..BUILDKIT_0_22 };
const BUILDKIT_0_14: Dialect = Dialect { json_prefix: true, shared_word_buffer: false, ..BUILDKIT_0_17 };
const BUILDKIT_0_12: Dialect = Dialect { directives: NO_CHECK, patterns: false, ..BUILDKIT_0_14 };
const BUILDKIT_0_8: Dialect = Dialect { here_documents: HereDocuments::None, ..BUILDKIT_0_12 };
const LEGACY: Dialect = Dialect { escaped_escape_continues: true, ..BUILDKIT_0_8 };
const PODMAN: Dialect = Dialect {
    directives: Directives::Podman,
    escaped_escape_continues: true,
    here_documents: HereDocuments::Tight,
    patterns: true,
    ..BUILDKIT_0_12
};
const PODMAN_CURRENT: Dialect =
    Dialect { here_documents: HereDocuments::Blank, raw_escapes_doubled: false, shared_word_buffer: true, ..PODMAN };

/// The newest that takes no blank after `<<`.
pub const BEFORE_BLANKS: Dialect = BUILDKIT_0_17;

/// All, the newest first. Compared were moby/buildkit `frontend/dockerfile/{parser,shell}` at v0.12.5, v0.14.1, v0.17.3,
/// v0.20.2, v0.22.0, v0.23.2, v0.28.1 and v0.34.2, and openshift/imagebuilder `dockerfile/parser` at v1.2.19.
pub const ALL: [Dialect; 10] = [
    CURRENT,
    BUILDKIT_0_28,
    BUILDKIT_0_22,
    BUILDKIT_0_17,
    BUILDKIT_0_14,
    BUILDKIT_0_12,
    BUILDKIT_0_8,
    LEGACY,
    PODMAN,
    PODMAN_CURRENT,
];
