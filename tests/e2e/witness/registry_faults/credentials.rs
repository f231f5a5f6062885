//! Stored credentials, and what only they can see.

use taglog_tests::hostile_registry::{Canned, HostileRegistry, Manner, Seen};

use crate::witness_scene::{Scene, log_in, start_by, wait_logged, watch};

const OPEN: &str = "team/open:1.0";
const SECRET: &str = "team/secret:1.0";
const OTHER_SECRET: &str = "team/other-secret:1.0";

/// Requests that carried a login, or a token that only a login gives.
fn logged_in(registry: &HostileRegistry) -> Vec<Seen> {
    let with_login = |seen: &Seen| seen.header("authorization").is_some_and(|value| !value.ends_with("for-all"));
    registry.seen().into_iter().filter(with_login).collect()
}

/// Starts the agent of a user who has logged in to the registry.
fn start_logged_in(scene: &mut Scene) {
    log_in(&scene.agent, &scene.registry);
    let mut command = scene.agent.command("run");
    command.env("DOCKER_CONFIG", scene.agent.path("docker"));
    start_by(&mut scene.agent, &mut command);
}

/// What `check-config` says to a user who has logged in: exit code and text.
fn check_config(scene: &Scene) -> (Option<i32>, String) {
    let mut command = scene.agent.command("check-config");
    let output = command.env("DOCKER_CONFIG", scene.agent.path("docker")).output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (output.status.code(), text)
}

fn a_login_is_used_only_where_allowed(open: Manner, wants_login: impl Fn(Manner) -> Manner) {
    let mut scene = Scene::new();
    let secret = || wants_login(Manner::serves("secret"));
    scene.registry.set(OPEN, open);
    scene.registry.set(SECRET, secret());
    scene.registry.set(OTHER_SECRET, secret());
    let (open, other_secret) = (watch(&scene.registry, &[OPEN], ""), watch(&scene.registry, &[OTHER_SECRET], ""));
    let tables = |more: &str| [open.clone(), watch(&scene.registry, &[SECRET], more), other_secret.clone()];
    scene.configure(&[("gone-looks", "2")], &tables(""));
    start_logged_in(&mut scene);
    for image in [SECRET, OTHER_SECRET] {
        scene.wait_error(image, &["refuses access"]);
    }
    scene.wait_logged(OPEN, &["one"]);
    scene.wait_looks(&[OPEN], 2);
    for image in [SECRET, OTHER_SECRET] {
        assert_eq!(scene.logged(image), [""; 0], "{image}");
    }
    let (code, text) = check_config(&scene);
    assert_eq!(code, Some(3), "{text}");
    for image in [SECRET, OTHER_SECRET] {
        let name = scene.registry.name(image);
        assert!(text.contains(name.rsplit_once(':').unwrap().0), "{image} is not named: {text}");
    }
    assert!(text.contains("private"), "what to write is not said: {text}");
    let leaked = logged_in(&scene.registry);
    assert!(leaked.is_empty(), "{leaked:?}");

    // Allowed for one repository, it is used for this one and no other of the same registry.
    let tables = [open.clone(), watch(&scene.registry, &[SECRET], "private = true"), other_secret.clone()];
    scene.configure(&[("gone-looks", "2")], &tables);
    let (_, text) = check_config(&scene);
    let repository = scene.registry.name("team/secret");
    assert!(text.lines().any(|line| line.contains(&repository) && line.to_lowercase().contains("public")), "{text}");
    scene.agent.hangup();
    scene.wait_logged(SECRET, &["secret"]);
    scene.wait_looks(&[OTHER_SECRET], 2);
    scene.wait_error(OTHER_SECRET, &["refuses access"]);
    assert_eq!(scene.logged(OTHER_SECRET), [""; 0]);
    let used = logged_in(&scene.registry);
    let about_secret = |seen: &Seen| match seen.uri.path() {
        "/token" => {
            seen.uri.query().is_some_and(|query| query.contains("team%2Fsecret") || query.contains("team/secret"))
        }
        path => path.starts_with("/v2/team/secret/"),
    };
    assert!(!used.is_empty() && used.iter().all(about_secret), "{used:?}");
}

#[test]
fn a_password_is_used_only_where_allowed() {
    a_login_is_used_only_where_allowed(Manner::serves("one"), |inner| Manner::WantsLogin(Box::new(inner)));
}

/// As with Docker Hub: everybody needs a token, and who logs in to the token service gets another one.
#[test]
fn a_token_of_a_login_is_used_only_where_allowed() {
    let open = Manner::WantsToken(Box::new(Manner::serves("one")));
    a_login_is_used_only_where_allowed(open, |inner| Manner::WantsUsersToken(Box::new(inner)));
}

/// Even where the login may be used, it goes to its own registry and nowhere else.
#[test]
fn a_login_does_not_follow_redirects() {
    let mut scene = Scene::new();
    let elsewhere = HostileRegistry::start();
    let (followed, lured) = ("team/followed:1.0", "team/lured:1.0");
    for image in [followed, lured] {
        let away = Manner::SendsTo(format!("http://{}", elsewhere.host));
        scene.registry.set(image, Manner::WantsLogin(Box::new(away)));
    }
    elsewhere.set(followed, Manner::serves("one"));
    let lure = Canned::status(401).header("www-authenticate", "Basic realm=\"give me\"");
    elsewhere.set(lured, Manner::Answers(lure));
    let tables = [followed, lured].map(|image| watch(&scene.registry, &[image], "private = true"));
    scene.configure(&[], &tables);
    start_logged_in(&mut scene);
    scene.wait_error(lured, &["team/lured"]);
    scene.wait_healthy_logged(&["one"]);
    assert_eq!(scene.logged(lured), [""; 0]);
    assert!(!logged_in(&scene.registry).is_empty() && !elsewhere.seen().is_empty(), "else this tests nothing");
    let followed_or_named = |status: &taglog_tests::Status| {
        let name = scene.registry.name(followed);
        status.seen(&name).is_some() || !status.error(&name).is_empty()
    };
    scene.agent.wait_until("the redirect to be followed", followed_or_named);
    for seen in elsewhere.seen() {
        assert!(seen.header("authorization").is_none() && seen.header("cookie").is_none(), "{seen:?}");
    }
}

/// A login that is wrong is an error of the tags that need it.
#[test]
fn a_login_that_cannot_be_used_is_named() {
    let mut scene = Scene::new();
    scene.registry.set(SECRET, Manner::WantsLogin(Box::new(Manner::serves("secret"))));
    scene.registry.set(OPEN, Manner::serves("one"));
    scene.configure(&[], &[watch(&scene.registry, &[SECRET], "private = true"), watch(&scene.registry, &[OPEN], "")]);
    std::fs::create_dir_all(scene.agent.path("docker")).unwrap();
    scene.agent.write("docker/config.json", "{ this is no JSON");
    let mut command = scene.agent.command("run");
    command.env("DOCKER_CONFIG", scene.agent.path("docker"));
    start_by(&mut scene.agent, &mut command);
    scene.wait_error(SECRET, &["credentials", "config.json"]);
    scene.wait_logged(OPEN, &["one"]);
    // Mended without a restart.
    log_in(&scene.agent, &scene.registry);
    let name = scene.registry.name(SECRET);
    wait_logged(&scene.agent, &scene.server, &name, &["secret"]);
}
