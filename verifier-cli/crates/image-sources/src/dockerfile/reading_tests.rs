//! What of a file is an instruction, and what an image. Facts of moby/buildkit, frontend/dockerfile/parser (its testfiles
//! and heredoc tests), and differences between builders.

use crate::tests::{read_text, refusal, summary};

/// The images as `LINE name`, without the domain of Docker Hub; nothing may be noted.
fn images(text: &str) -> Vec<String> {
    let (images, notes) = summary("Dockerfile", text);
    assert_eq!(notes, [""; 0], "{text}");
    images.iter().map(|image| image.replace("docker.io/library/", "")).collect()
}

fn excluded(text: &str) -> Vec<String> {
    let found = read_text("Dockerfile", text).unwrap();
    found.excluded.iter().map(|excluded| format!("{} {}", excluded.place.line, excluded.what)).collect()
}

#[test]
fn two_escape_characters_do_not_continue_a_line() {
    for (end, escape) in [("\\\\", ""), ("\\\\ \t", ""), ("\\\\\\", ""), ("``", "# escape=`\n")] {
        let text = format!("{escape}FROM a\nRUN dir C:{end}\nCOPY --from=b / /\n");
        let line = text.lines().count();
        assert_eq!(images(&text), [format!("{} a", line - 2), format!("{line} b")], "{text}");
    }
    assert_eq!(images("FROM \\\n\\\n  a \\\n\n# c \\\n   # d\nAS b\n\\\nCOPY --from=c / /"), ["3 a", "9 c"]);
    assert_eq!(images("FROM a\nRUN something \\"), ["1 a"]);
    assert_eq!(images("FROM a\nRUN x `\nCOPY --from=b / /\n"), ["1 a", "3 b"]);
    // Only blanks and tabs may follow the escape character.
    assert_eq!(images("FROM a\nRUN x \\\u{a0}\nCOPY --from=b / /\n"), ["1 a", "3 b"]);
}

#[test]
fn directives_stand_at_the_top() {
    for (top, escape) in [
        ("# escape=`\n", '`'),
        ("  \u{a0}# escape = ` \n", '`'),
        ("# syntax=x/y:1\n#ESCAPE=`\n", '`'),
        ("# a comment\n# escape=`\n", '\\'),
        ("\n# escape=`\n", '\\'),
        ("#!/bin/x\n# escape=`\n", '\\'),
        ("# escape=\n# escape=`\n", '\\'),
    ] {
        let text = format!("{top}FROM {escape}\n  a\n");
        assert!(images(&text).last().unwrap().ends_with(" a"), "{text}");
    }
    for text in ["# escape=x\nFROM a\n", "# escape=`\n# escape=`\nFROM a\n"] {
        assert_eq!(refusal("Dockerfile", text).0, text.matches("# ").count(), "{text}");
    }
}

#[test]
fn directives_that_versions_read_differently() {
    // A no-break space since BuildKit 0.28; `check` since 0.14.
    for top in ["#\u{a0}escape=`\n", "# check=skip=all\n# escape=`\n"] {
        let text = format!("{top}FROM a\nRUN x \\\nCOPY --from=b / /\nRUN x `\nCOPY --from=c / /\n");
        let line = text.lines().count();
        let want = [format!("{} a", line - 4), format!("{} b", line - 2), format!("{line} c")];
        assert_eq!(images(&text), want, "{text}");
    }
}

#[test]
fn flags_with_quotes_and_escapes() {
    for flag in [
        "--\"from\"=b",
        "--fr\\om=b",
        "--'from=b'",
        "--from='b'\"\"",
        "--from=\"\"b",
        "--link --from=b",
        "--chown='x y' --from=b",
        "--chown=x\\ y --from=b",
        "--chown=\"x\\\" \"--x --from=b",
        "--link\u{a0}--from=b",
        "--link\u{b}--from=b",
        "--link\\\n\\\n --from=b",
    ] {
        let (found, _) = summary("Dockerfile", &format!("FROM a\nCOPY {flag} / /\n"));
        assert!(found.last().unwrap().ends_with("library/b"), "{flag}: {found:?}");
    }
    // Bytes are taken for characters: the second one of `à` is a no-break space.
    assert_eq!(images("FROM a\nCOPY --chown=\u{e0}--from=b / /\n"), ["1 a", "2 b"]);
    for text in [
        "COPY -- --from=b / /",
        "COPY ''--from=b / /",
        "COPY \u{a0}--from=b /",
        "COPY / --from=b /",
        "ADD / / --from=b",
        "COPY --from= / /",
    ] {
        assert_eq!(images(&format!("FROM a\n{text}\n")), ["1 a"], "{text}");
    }
    // Until BuildKit 0.20 the escape directive did not hold for flags.
    let text = "# escape=`\nFROM a\nCOPY --fr`om=b / /\nCOPY --fr\\om=c / /\n";
    let (found, notes) = summary("Dockerfile", text);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(notes.iter().all(|note| note.contains("is not known")), "{notes:?}");
    let (_, notes) = summary("Dockerfile", "FROM a\nRUN --image=b true\nCOPY --From=b / /\nADD --from=b / /\n");
    assert_eq!(notes.len(), 3, "{notes:?}");
}

#[test]
fn mounts_are_csv_in_flags() {
    for mount in [
        "--mount=type=bind,\\\"from=b\\\",target=/b",
        "--mount='\"from=b\"'",
        "--mo'unt'=FROM=b",
        "--mount=\"target=/a b,from=b\"",
        "--mount=from=b\\,target=/x",
        "--network=none --mount=target=/x,fro\\m=b",
    ] {
        assert_eq!(images(&format!("FROM a\nRUN {mount} true\n")), ["1 a", "2 b"], "{mount}");
    }
    assert_eq!(images("FROM a\nRUN --mount=from=b,from=c true\n"), ["1 a", "2 b", "2 c"]);
    assert_eq!(images("FROM a AS x\nRUN --mount=from=X --mount=from= true\n"), ["1 a"]);
    assert_eq!(images("FROM a\nRUN --mount=from=0 true\n"), ["1 a", "2 0"]);
    assert_eq!(refusal("Dockerfile", "FROM a\nRUN --mount=from=\\\"b\\\" true\n").0, 2);
}

/// As parser_heredoc_test.go has them.
#[test]
fn here_documents_end_at_their_names() {
    let text = "\
FROM a
USER <<INVALID
RUN <<EMPTY
EMPTY
RUN 3<<EMPTY2
EMPTY2
RUN \"<<NOHEREDOC\"
RUN <<-UNINDENT
\tFROM no
\tUNINDENT
RUN --mount=type=cache,target=/foo <<MOUNT
COPY --from=no / /
 MOUNT
MOUNT
COPY <<X <<Y /dest
Y
X
X
Y
RUN <<eo\\'f
FROM no
eo'f
RUN <<'one two'
FROM no
one two
RUN <<$EOF
$EOF
RUN [\"<<EOF\"]
RUN [ \"<<EOF\" ,\"\\u00e9\\n\" ]
ONBUILD RUN [\"<<EOF\"]
ONBUILD RUN <<EOF
FROM no
EOF
RUN <<\\
EOF
FROM no
EOF
COPY --from=b / /
";
    assert_eq!(images(text), ["1 a".to_owned(), format!("{} b", text.lines().count())]);
    assert_eq!(images(&text.replace('\n', "\r\n")).len(), 2);
    assert_eq!(refusal("Dockerfile", "FROM a\nRUN <<EOF\nEOF x\n").0, 2);
    // Not JSON: there is more after it, or it is of other things than strings.
    assert_eq!(images("FROM a\nRUN [\"x\"] <<EOF\nFROM no\nEOF\nRUN [ -x y ] <<EOF\nEOF\nFROM b\n"), ["1 a", "7 b"]);
}

#[test]
fn a_blank_after_the_sign_of_a_here_document() {
    let text = "FROM a\nRUN cat << EOF\nFROM no\nEOF\nCOPY --from=b / /\n";
    assert_eq!(images(text), ["1 a", "5 b"]);
    assert_eq!(excluded(text), ["3 no"]);
    // Without anything that names an image in it there is nothing to say.
    assert_eq!(excluded("FROM a\nRUN cat << EOF\nx\nEOF\n"), [""; 0]);
    // Both readings are of a whole file: both are checked.
    let text = "FROM a\nRUN cat << \"USER x\"\nCOPY --from=b / /\nUSER x\nRUN y <<Z\nCOPY --from=c / /\nZ\n";
    assert_eq!(images(text), ["1 a", "3 b"]);
    let hidden = "FROM a\nRUN << \"USER x\"\nRUN x <<Z\nUSER x\nCOPY --from=b / /\nRUN << \"USER x\"\nZ\nUSER x\n";
    assert_eq!(images(hidden), ["1 a", "5 b"]);
    // What the newest takes for a here-document without an end is an operator to others.
    assert_eq!(images("FROM a\nRUN echo $((1 << 3))\nCOPY --from=b / /\n"), ["1 a", "3 b"]);
}

/// Builders from before here-documents read instructions there, if all the lines are some.
#[test]
fn here_documents_whose_lines_are_instructions() {
    assert_eq!(images("FROM a\nRUN <<\"USER x\"\nCOPY --from=b / /\nUSER x\n"), ["1 a", "3 b"]);
    assert_eq!(images("FROM a\nRUN <<X\nCOPY --from=b / /\nX\n"), ["1 a"]);
}

#[test]
fn instructions_in_onbuild_are_read_by_a_later_build() {
    assert_eq!(images("FROM a\nONBUILD COPY --from=b / /\nonbuild run --mount=from=c x\n"), ["1 a", "2 b", "3 c"]);
    // There the escape character is `\\` again.
    assert_eq!(images("# escape=`\nFROM a\nONBUILD COPY --fr\\om=b `\n  / /\n"), ["2 a", "3 b"]);
    // Numbers are those of stages of the later build.
    assert_eq!(images("FROM a\nONBUILD COPY --from=7 / /\n"), ["1 a"]);
    for text in
        ["ONBUILD", "ONBUILD FROM b", "ONBUILD ONBUILD RUN x", "ONBUILD --x RUN y", "ONBUILD X", "ONBU\u{130}LD FROM b"]
    {
        assert_eq!(refusal("Dockerfile", &format!("FROM a\n{text}\n")).0, 2, "{text}");
    }
}

#[test]
fn letters_of_other_scripts_in_keywords() {
    assert_eq!(
        images("FROM a a\u{17f} b\nFROM b\nONBU\u{130}LD COPY --from=c / /\nWOR\u{212a}DIR /\n"),
        ["1 a", "3 c"]
    );
    assert_eq!(images("FROM a AS bu\u{130}ld\nCOPY --from=build / /\n"), ["1 a"]);
    assert_eq!(refusal("Dockerfile", "FROM a\nRUN\u{a0}x\n").0, 2);
}

#[test]
fn from_says_what_it_wants() {
    let reason = |text| refusal("Dockerfile", text).1.to_string();
    assert!(reason("FROM a # b\n").contains("a comment cannot follow FROM"));
    assert!(reason("FROM a b\n").contains("AS and a name"));
    assert!(reason("FROM a AS 1b\n").contains("cannot be the name of a stage"));
    assert!(reason("FORM a\n").contains("\"FORM\""));
}

#[test]
fn stages_by_platform() {
    let stages = "FROM a AS base-amd64\nFROM b AS base-arm64\nFROM c AS base-armv7\n";
    for base in ["base-${TARGETARCH}", "base-$BUILDARCH", "base-$TARGETARCH$TARGETVARIANT", "base-${TARGETARCH:-amd64}"]
    {
        let text = format!("{stages}FROM {base}\n");
        assert_eq!(images(&text), ["1 a", "2 b", "3 c"], "{text}");
        assert_eq!(excluded(&text), [format!("4 {base}")]);
    }
    let by_argument = format!("ARG X=base-$TARGETARCH\n{stages}FROM $X\n");
    assert_eq!(images(&by_argument).len(), 3);
    // What is an image on some platform is found.
    let hidden = format!("{stages}FROM ${{TARGETVARIANT:+evil/}}base-amd64\n");
    assert_eq!(images(&hidden).last().unwrap(), "4 docker.io/evil/base-amd64");
    assert!(images("FROM a AS v7\nFROM ${TARGETVARIANT:-b}\n").contains(&"2 b".to_owned()));
    // What is the same everywhere does not depend on the platform.
    assert_eq!(images("FROM a${TARGETARCH:+-b}\n"), ["1 a-b"]);
}

#[test]
fn images_by_platform_are_noted() {
    for (text, variable) in [
        ("FROM a-$TARGETARCH\n", "TARGETARCH"),
        ("FROM a:$BUILDOS\n", "BUILDOS"),
        ("FROM a AS base\nFROM ${TARGETARCH#x}\n", "TARGETARCH"),
        ("FROM a AS base\nFROM base$TARGETSTAGE\n", "TARGETSTAGE"),
        ("FROM a AS base\nFROM base$TARGETOSVERSION\n", "TARGETOSVERSION"),
    ] {
        let (_, notes) = summary("Dockerfile", text);
        assert!(notes.len() == 1 && notes[0].contains(&format!("--build-arg {variable}=")), "{text}: {notes:?}");
    }
}

/// Podman takes variables in `--from`; where ENV and ARG meet, builders differ.
#[test]
fn variables_of_a_stage() {
    assert_eq!(images("FROM a\nENV V=1\nENV W=$V X=y\nENV Y y z\nCOPY --from=b:$W / /\n"), ["1 a", "5 b:1"]);
    for text in [
        "FROM a\nENV V=1\nARG V=2\nCOPY --from=b:$V / /\n",
        "FROM a AS x\nENV V=1\nFROM x\nCOPY --from=b:$V / /\n",
        "FROM a\nARG V=1\nONBUILD COPY --from=b:$V / /\n",
        "ARG V=1\nFROM a\nCOPY --from=b:$V / /\n",
    ] {
        let (images, notes) = summary("Dockerfile", text);
        assert!(
            images.len() == 1 && notes.len() == 1 && notes[0].contains("variable V"),
            "{text}: {images:?} {notes:?}"
        );
    }
    assert_eq!(images("FROM a\nENV V=1\nARG V\n"), ["1 a"]);
}

#[test]
fn variables_that_hold_unknown_ones_are_unknown() {
    let (images, notes) = summary("Dockerfile", "ARG A\nARG B=x$A\nFROM ${B:-c}\nFROM ${B:+d}\nFROM ${B+e}\n");
    assert_eq!((images.len(), notes.len()), (0, 3), "{images:?} {notes:?}");
}
