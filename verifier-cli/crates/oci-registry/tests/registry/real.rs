//! Against the real `docker-registry`, with images pushed by the real `skopeo`.

use std::{os::unix::fs::PermissionsExt as _, process::Command, time::Duration};

use crate::common::{
    Blob, DockerConfig, Layout, PASSWORD, RealRegistry, USER, by_digest, by_tag, client, client_with,
    client_without_login, descriptor, http, sha256, sha512, tagged,
};
use taglog_oci_registry::{ACCEPT, Registry, RegistryError, RegistryOptions, TagResolution};
use taglog_proto::name::Image;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_IMAGE: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn skopeo_raw(image: &Image) -> Vec<u8> {
    let output = Command::new("skopeo")
        .args(["inspect", "--raw", "--tls-verify=false"])
        .arg(format!("docker://{image}"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[tokio::test]
async fn image_and_index_pushed_by_skopeo() {
    let server = RealRegistry::start().await;
    let registry = client(&DockerConfig::none());
    let repository = server.repository("team/app");

    let layout = Layout::new();
    let image = layout.image("amd64");
    layout.main(OCI_IMAGE, &image);
    layout.push(&tagged(&repository, "one"), None);
    let index = layout.index(&["amd64", "arm64"]);
    layout.main(OCI_INDEX, &index);
    layout.push(&tagged(&repository, "multi"), None);

    for (tag, kind, blob) in [("one", OCI_IMAGE, &image), ("multi", OCI_INDEX, &index)] {
        assert_eq!(registry.head(&tagged(&repository, tag)).await.unwrap(), blob.digest);
        for reference in [by_tag(tag), by_digest(blob.digest)] {
            let manifest = registry.manifest(&repository, &reference).await.unwrap();
            assert_eq!(manifest.digest, blob.digest);
            assert_eq!(manifest.media_type, kind);
            assert_eq!(manifest.bytes, blob.bytes);
        }
        assert_eq!(skopeo_raw(&tagged(&repository, tag)), blob.bytes);
    }

    // The tag moves, and so does the answer.
    layout.main(OCI_IMAGE, &image);
    layout.push(&tagged(&repository, "multi"), None);
    assert_eq!(registry.head(&tagged(&repository, "multi")).await.unwrap(), image.digest);
}

#[tokio::test]
async fn docker_manifest_list() {
    let server = RealRegistry::start().await;
    let registry = client(&DockerConfig::none());
    let blob = |text: String| Blob { digest: sha256(text.as_bytes()), bytes: text.into_bytes() };
    let config = blob(r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#.into());
    let image = blob(format!(
        r#"{{"schemaVersion":2,"mediaType":"{DOCKER_IMAGE}","config":{},"layers":[]}}"#,
        descriptor("application/vnd.docker.container.image.v1+json", &config, "")
    ));
    let platform = r#","platform":{"architecture":"amd64","os":"linux"}"#;
    let list = blob(format!(
        r#"{{"schemaVersion":2,"mediaType":"{DOCKER_LIST}","manifests":[{}]}}"#,
        descriptor(DOCKER_IMAGE, &image, platform)
    ));
    server.put_blob("old/app", &config.bytes).await;
    server.put_manifest("old/app", "single", DOCKER_IMAGE, &image.bytes).await;
    server.put_manifest("old/app", "list", DOCKER_LIST, &list.bytes).await;

    let repository = server.repository("old/app");
    for (tag, kind, blob) in [("single", DOCKER_IMAGE, &image), ("list", DOCKER_LIST, &list)] {
        // A registry converts a list for clients that do not accept it: the digest would be another.
        assert_eq!(registry.head(&tagged(&repository, tag)).await.unwrap(), blob.digest);
        let manifest = registry.manifest(&repository, &by_tag(tag)).await.unwrap();
        assert_eq!((manifest.digest, manifest.bytes), (blob.digest, blob.bytes.clone()));
        assert_eq!(manifest.media_type, kind);
    }
}

#[tokio::test]
async fn missing_things() {
    let server = RealRegistry::start().await;
    let registry = client(&DockerConfig::none());
    let repository = server.repository("no/such");
    let expected = |reference: &str| RegistryError::NotFound {
        target: format!("{repository}{reference}"),
        registry: server.host.clone(),
    };
    assert_eq!(registry.head(&tagged(&repository, "latest")).await, Err(expected(":latest")));
    assert_eq!(registry.manifest(&repository, &by_tag("latest")).await, Err(expected(":latest")));
    for digest in [sha256(b"x"), sha512(b"x")] {
        let answer = registry.manifest(&repository, &by_digest(digest)).await;
        assert_eq!(answer, Err(expected(&format!("@{digest}"))));
    }
}

#[tokio::test]
async fn basic_authentication() {
    let server = RealRegistry::start_with_login().await;
    let repository = server.repository("private/app");
    let layout = Layout::new();
    let image = layout.image("amd64");
    layout.main(OCI_IMAGE, &image);
    layout.push(&tagged(&repository, "v1"), Some(&format!("{USER}:{PASSWORD}")));

    let config = DockerConfig::login(&server.host, USER, PASSWORD);
    let good = client(&config);
    assert_eq!(good.head(&tagged(&repository, "v1")).await.unwrap(), image.digest);
    assert_eq!(good.manifest(&repository, &by_tag("v1")).await.unwrap().bytes, image.bytes);
    let missing = good.head(&tagged(&repository, "v2")).await;
    assert!(matches!(missing, Err(RegistryError::NotFound { .. })), "{missing:?}");

    let cases = [
        (DockerConfig::none(), false),
        (DockerConfig::login("other.example", USER, PASSWORD), false),
        (DockerConfig::login(&server.host, USER, "wrong"), true),
    ];
    for (config, expected) in cases {
        let registry = client(&config);
        for answer in [
            registry.head(&tagged(&repository, "v1")).await,
            registry.manifest(&repository, &by_tag("v1")).await.map(|manifest| manifest.digest),
        ] {
            let Err(RegistryError::Unauthorized { logged_in, .. }) = &answer else { panic!("{answer:?}") };
            assert_eq!(*logged_in, expected);
            assert!(!answer.unwrap_err().to_string().contains("wrong"));
        }
    }
}

#[tokio::test]
async fn looking_again() {
    let server = RealRegistry::start().await;
    let registry = client(&DockerConfig::none());
    let image = tagged(&server.repository("team/app"), "v1");
    let layout = Layout::new();
    let first = layout.image("amd64");
    layout.main(OCI_IMAGE, &first);
    layout.push(&image, None);
    let resolve = async |known| {
        let (looked, metadata) = registry.resolve(&image, known).await.unwrap();
        let clock = metadata.date.unwrap();
        assert!(clock.elapsed().unwrap_or_default() < Duration::from_secs(60), "{clock:?}");
        assert_eq!((metadata.pulls, metadata.logged_in), (None, false));
        looked
    };
    assert_eq!(resolve(None).await, TagResolution::Digest(first.digest));
    assert_eq!(resolve(Some(&first.digest)).await, TagResolution::Unchanged);
    // The registry understands the condition, so that this took no digest header.
    let url = format!("http://{}/v2/team/app/manifests/v1", server.host);
    let condition = format!("\"{}\"", first.digest);
    let answer = http().head(url).header("accept", ACCEPT.join(", ")).header("if-none-match", condition).send().await;
    let answer = answer.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers().get("docker-content-digest")), (304, None));

    let second = layout.image("arm64");
    layout.main(OCI_IMAGE, &second);
    layout.push(&image, None);
    assert_eq!(resolve(Some(&first.digest)).await, TagResolution::Digest(second.digest));
}

#[tokio::test]
async fn tags_and_pings() {
    let server = RealRegistry::start_with_login().await;
    let repository = server.repository("private/app");
    let layout = Layout::new();
    layout.main(OCI_IMAGE, &layout.image("amd64"));
    for tag in ["v2", "v1", "latest"] {
        layout.push(&tagged(&repository, tag), Some(&format!("{USER}:{PASSWORD}")));
    }
    let config = DockerConfig::login(&server.host, USER, PASSWORD);
    let registry = client(&config);
    let mut list = registry.tags(&repository, 3).await.unwrap();
    list.tags.sort();
    assert_eq!(list.tags.iter().map(|tag| tag.as_str()).collect::<Vec<_>>(), ["latest", "v1", "v2"]);
    assert_eq!(list.malformed, 0);
    assert!(matches!(registry.tags(&repository, 2).await, Err(RegistryError::TooManyTags { most: 2, .. })));
    let missing = registry.tags(&server.repository("no/such"), 3).await;
    assert!(matches!(missing, Err(RegistryError::NotFound { .. })), "{missing:?}");
    let anonymous = client_without_login(&config);
    let refused = anonymous.tags(&repository, 3).await;
    assert!(matches!(refused, Err(RegistryError::Unauthorized { logged_in: false, .. })), "{refused:?}");

    assert!(anonymous.ping(&repository).await.unwrap().date.is_some(), "401, but a registry");
    let open = RealRegistry::start().await;
    assert!(registry.ping(&open.repository("any/thing")).await.unwrap().date.is_some());
}

/// Run by [`environment`] in a process of its own, since helpers are found by environment variables.
#[tokio::test]
#[ignore = "a part of the test `environment`"]
async fn environment_child() {
    let image = Image::parse(&std::env::var("TEST_IMAGE").unwrap()).unwrap();
    let timeout = Duration::from_secs(std::env::var("TEST_TIMEOUT").unwrap().parse().unwrap());
    let options = RegistryOptions { timeout, ..RegistryOptions::default() };
    match Registry::new(options).unwrap().head(&image).await {
        Ok(digest) => println!("<{digest}>"),
        Err(error) => println!("<{error:?}>"),
    }
}

/// Credential helpers, the credential store, `$DOCKER_CONFIG` and `~/.docker`.
#[tokio::test]
async fn environment() {
    let server = RealRegistry::start_with_login().await;
    let repository = server.repository("private/app");
    let layout = Layout::new();
    let image = layout.image("amd64");
    layout.main(OCI_IMAGE, &image);
    layout.push(&tagged(&repository, "v1"), Some(&format!("{USER}:{PASSWORD}")));

    let programs = tempfile::tempdir().unwrap();
    let helper = |name: &str, script: &str| {
        let path = programs.path().join(format!("docker-credential-{name}"));
        std::fs::write(&path, format!("#!/bin/sh\nread -r host\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let only_here = format!(r#"test "$1 $host" = "get {}" || exit 3"#, server.host);
    helper("good", &format!("{only_here}\necho '{{\"Username\":\"{USER}\",\"Secret\":\"{PASSWORD}\"}}'"));
    helper("empty", "echo 'credentials not found in native keychain'; exit 1");
    helper("broken", "echo 'the keychain is locked'; exit 1");
    helper("babbling", "echo hello");
    helper("hanging", "exec sleep 15");

    let run = |config: &str, variable: &str, timeout: u32| {
        let directory = tempfile::tempdir().unwrap();
        let home_style = directory.path().join(".docker");
        std::fs::create_dir(&home_style).unwrap();
        let place = if variable == "HOME" { &home_style } else { directory.path() };
        std::fs::write(place.join("config.json"), config).unwrap();
        let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").unwrap());
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "real::environment_child", "--ignored", "--nocapture"])
            .env_remove("DOCKER_CONFIG")
            // Nothing listens there: a proxy must never be asked for loopback.
            .env("http_proxy", "http://127.0.0.1:9")
            .env("TEST_IMAGE", format!("{repository}:v1"))
            .env("TEST_TIMEOUT", timeout.to_string())
            .env("PATH", path)
            .env(variable, directory.path())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let from = text.find('<').unwrap_or_else(|| panic!("{text}"));
        text[from + 1..text.rfind('>').unwrap()].to_owned()
    };
    let store = |name: &str| format!(r#"{{"auths":{{"{}":{{}}}},"credsStore":"{name}"}}"#, server.host);
    let only = |name: &str| format!(r#"{{"credHelpers":{{"{}":"{name}"}},"credsStore":"broken"}}"#, server.host);

    let digest = image.digest.to_string();
    assert_eq!(run(&store("good"), "DOCKER_CONFIG", 20), digest);
    assert_eq!(run(&only("good"), "DOCKER_CONFIG", 20), digest);
    assert_eq!(run(&only("good"), "HOME", 20), digest);
    let anonymous = run(&only("empty"), "HOME", 20);
    assert!(anonymous.contains("Unauthorized") && anonymous.contains("logged_in: false"), "{anonymous}");
    let broken = run(&store("broken"), "HOME", 20);
    assert!(broken.contains("Credentials") && broken.contains("the keychain is locked"), "{broken}");
    for name in ["babbling", "not-installed"] {
        let bad = run(&only(name), "HOME", 20);
        assert!(bad.contains("Credentials") && !bad.contains(PASSWORD), "{bad}");
    }
    let hanging = run(&only("hanging"), "HOME", 2);
    assert!(hanging.contains("Credentials") && hanging.contains("did not answer"), "{hanging}");
}

#[tokio::test]
async fn nobody_listens() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let registry = client_with(&DockerConfig::none(), Duration::from_secs(20));
    let answer = registry.head(&Image::parse(&format!("127.0.0.1:{port}/a/b:v1")).unwrap()).await;
    assert!(matches!(answer, Err(RegistryError::Network { .. })), "{answer:?}");
}
