//! Stored credentials, and what is visible only with them.

use taglog_tests::hostile_registry::{FixedResponse, HostileRegistry, ManifestResponse, RecordedRequest};

use taglog_tests::agent_fixture::{AgentFixture, log_in, start_by, wait_logged, watch};

const OPEN: &str = "team/open:1.0";
const SECRET: &str = "team/secret:1.0";
const OTHER_SECRET: &str = "team/other-secret:1.0";

/// Requests that carried a login, or a token that only a login gives.
fn logged_in(registry: &HostileRegistry) -> Vec<RecordedRequest> {
    let with_login =
        |seen: &RecordedRequest| seen.header("authorization").is_some_and(|value| !value.ends_with("for-all"));
    registry.seen().into_iter().filter(with_login).collect()
}

/// Starts the agent of a user who has logged in to the registry.
fn start_logged_in(fixture: &mut AgentFixture) {
    log_in(&fixture.agent, &fixture.registry);
    let mut command = fixture.agent.command("run");
    command.env("DOCKER_CONFIG", fixture.agent.path("docker"));
    start_by(&mut fixture.agent, &mut command);
}

/// What `check-config` says to a user who has logged in: exit code and text.
fn check_config(fixture: &AgentFixture) -> (Option<i32>, String) {
    let mut command = fixture.agent.command("check-config");
    let output = command.env("DOCKER_CONFIG", fixture.agent.path("docker")).output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (output.status.code(), text)
}

fn a_login_is_used_only_where_allowed(
    open: ManifestResponse,
    wants_login: impl Fn(ManifestResponse) -> ManifestResponse,
) {
    let mut fixture = AgentFixture::new();
    let secret = || wants_login(ManifestResponse::serves("secret"));
    fixture.registry.set(OPEN, open);
    fixture.registry.set(SECRET, secret());
    fixture.registry.set(OTHER_SECRET, secret());
    let (open, other_secret) = (watch(&fixture.registry, &[OPEN], ""), watch(&fixture.registry, &[OTHER_SECRET], ""));
    let tables = |more: &str| [open.clone(), watch(&fixture.registry, &[SECRET], more), other_secret.clone()];
    fixture.configure(&[("gone-looks", "2")], &tables(""));
    start_logged_in(&mut fixture);
    for image in [SECRET, OTHER_SECRET] {
        fixture.wait_error(image, &["refuses access"]);
    }
    fixture.wait_logged(OPEN, &["one"]);
    fixture.wait_polls(&[OPEN], 2);
    for image in [SECRET, OTHER_SECRET] {
        assert_eq!(fixture.logged(image), [""; 0], "{image}");
    }
    let (code, text) = check_config(&fixture);
    assert_eq!(code, Some(3), "{text}");
    for image in [SECRET, OTHER_SECRET] {
        let name = fixture.registry.name(image);
        assert!(text.contains(name.rsplit_once(':').unwrap().0), "{image} is not named: {text}");
    }
    assert!(text.contains("private"), "what to write is not said: {text}");
    let leaked = logged_in(&fixture.registry);
    assert!(leaked.is_empty(), "{leaked:?}");

    // Allowed for one repository, it is used for this one and no other of the same registry.
    let tables = [open.clone(), watch(&fixture.registry, &[SECRET], "private = true"), other_secret.clone()];
    fixture.configure(&[("gone-looks", "2")], &tables);
    let (_, text) = check_config(&fixture);
    let repository = fixture.registry.name("team/secret");
    assert!(text.lines().any(|line| line.contains(&repository) && line.to_lowercase().contains("public")), "{text}");
    fixture.agent.hangup();
    fixture.wait_logged(SECRET, &["secret"]);
    fixture.wait_polls(&[OTHER_SECRET], 2);
    fixture.wait_error(OTHER_SECRET, &["refuses access"]);
    assert_eq!(fixture.logged(OTHER_SECRET), [""; 0]);
    let used = logged_in(&fixture.registry);
    let about_secret = |seen: &RecordedRequest| match seen.uri.path() {
        "/token" => {
            seen.uri.query().is_some_and(|query| query.contains("team%2Fsecret") || query.contains("team/secret"))
        }
        path => path.starts_with("/v2/team/secret/"),
    };
    assert!(!used.is_empty() && used.iter().all(about_secret), "{used:?}");
}

#[test]
fn a_password_is_used_only_where_allowed() {
    a_login_is_used_only_where_allowed(ManifestResponse::serves("one"), |inner| {
        ManifestResponse::WantsLogin(Box::new(inner))
    });
}

/// As with Docker Hub: everybody needs a token, and who logs in to the token service gets another one.
#[test]
fn a_token_of_a_login_is_used_only_where_allowed() {
    let open = ManifestResponse::WantsToken(Box::new(ManifestResponse::serves("one")));
    a_login_is_used_only_where_allowed(open, |inner| ManifestResponse::WantsUsersToken(Box::new(inner)));
}

/// Even where the login may be used, it goes to its own registry and nowhere else.
#[test]
fn a_login_does_not_follow_redirects() {
    let mut fixture = AgentFixture::new();
    let elsewhere = HostileRegistry::start();
    let (followed, lured) = ("team/followed:1.0", "team/lured:1.0");
    for image in [followed, lured] {
        let away = ManifestResponse::SendsTo(format!("http://{}", elsewhere.host));
        fixture.registry.set(image, ManifestResponse::WantsLogin(Box::new(away)));
    }
    elsewhere.set(followed, ManifestResponse::serves("one"));
    let lure = FixedResponse::status(401).header("www-authenticate", "Basic realm=\"give me\"");
    elsewhere.set(lured, ManifestResponse::Answers(lure));
    let tables = [followed, lured].map(|image| watch(&fixture.registry, &[image], "private = true"));
    fixture.configure(&[], &tables);
    start_logged_in(&mut fixture);
    fixture.wait_error(lured, &["team/lured"]);
    fixture.wait_healthy_logged(&["one"]);
    assert_eq!(fixture.logged(lured), [""; 0]);
    assert!(!logged_in(&fixture.registry).is_empty() && !elsewhere.seen().is_empty(), "else this tests nothing");
    let followed_or_named = |status: &taglog_tests::Status| {
        let name = fixture.registry.name(followed);
        status.seen(&name).is_some() || !status.error(&name).is_empty()
    };
    fixture.agent.wait_until("the redirect to be followed", followed_or_named);
    for seen in elsewhere.seen() {
        assert!(seen.header("authorization").is_none() && seen.header("cookie").is_none(), "{seen:?}");
    }
}

/// A login that is wrong is an error of the tags that need it.
#[test]
fn a_login_that_cannot_be_used_is_named() {
    let mut fixture = AgentFixture::new();
    fixture.registry.set(SECRET, ManifestResponse::WantsLogin(Box::new(ManifestResponse::serves("secret"))));
    fixture.registry.set(OPEN, ManifestResponse::serves("one"));
    fixture.configure(
        &[],
        &[watch(&fixture.registry, &[SECRET], "private = true"), watch(&fixture.registry, &[OPEN], "")],
    );
    std::fs::create_dir_all(fixture.agent.path("docker")).unwrap();
    fixture.agent.write("docker/config.json", "{ this is no JSON");
    let mut command = fixture.agent.command("run");
    command.env("DOCKER_CONFIG", fixture.agent.path("docker"));
    start_by(&mut fixture.agent, &mut command);
    fixture.wait_error(SECRET, &["credentials", "config.json"]);
    fixture.wait_logged(OPEN, &["one"]);
    // Repaired without a restart.
    log_in(&fixture.agent, &fixture.registry);
    let name = fixture.registry.name(SECRET);
    wait_logged(&fixture.agent, &fixture.server, &name, &["secret"]);
}
