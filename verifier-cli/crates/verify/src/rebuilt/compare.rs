//! Whether a change of an image is consistent with a rebuild of it on a newer base.

use serde_json::{Map, Value};

use super::base::{Logged, Own, Read};

/// Why the change from one image to another is not consistent with a rebuild; else, what speaks for it. Both stand on
/// the base of one name.
pub(super) fn rebuild(from: (&Read, &Logged), to: (&Read, &Logged)) -> Result<Vec<String>, String> {
    let ((old, old_base), (new, new_base)) = (from, to);
    base_moved(old_base, new_base)?;
    let old_own = old.own(&old_base.read).map_err(|error| format!("of the older image, {error}"))?;
    let new_own = new.own(&new_base.read)?;
    if let Some(part) = different(&old_own, &new_own) {
        return Err(format!("{part} changed"));
    }
    if old.configuration.built_for != new.configuration.built_for {
        return Err("what it is built for changed".to_owned());
    }
    if let Some(part) = run_differently(&old.configuration.run, &new.configuration.run) {
        return Err(format!("{part} changed"));
    }
    Ok(reasons(old_base, new_base, &new_own))
}

/// A rebuild follows its base. One on the same base has no such cause, and one on an older base brings back what was
/// mended.
fn base_moved(old: &Logged, new: &Logged) -> Result<(), String> {
    if old.read.digest == new.read.digest {
        return Err(format!("it changed and its base {} did not", new.image));
    }
    if new.place <= old.place {
        return Err(format!("it went back to an older {}", new.image));
    }
    Ok(())
}

/// Which of the image's own parts differs.
fn different(old: &Own, new: &Own) -> Option<&'static str> {
    match () {
        () if old.steps != new.steps => Some("its history"),
        () if old.layers != new.layers => Some("the number of its layers"),
        () if old.environment != new.environment => Some("its environment"),
        () if old.labels != new.labels => Some("its labels"),
        () => None,
    }
}

/// Which part of how it is run differs, aside from what [`Own`] holds.
fn run_differently(old: &Map<String, Value>, new: &Map<String, Value>) -> Option<String> {
    let compared = |key: &&String| *key != "Env" && *key != "Labels";
    let set = |map: &Map<String, Value>, key: &str| map.get(key).filter(|value| !value.is_null()).cloned();
    let mut keys = old.keys().chain(new.keys()).filter(compared);
    keys.find(|key| set(old, key) != set(new, key)).map(|key| match key.as_str() {
        "Entrypoint" => "its entrypoint".to_owned(),
        "Cmd" => "its command".to_owned(),
        "User" => "its user".to_owned(),
        key => format!("{key:?} of its configuration"),
    })
}

/// In the order in which a reader wants to know it.
fn reasons(old: &Logged, new: &Logged, own: &Own) -> Vec<String> {
    vec![
        format!("the base moved from {} to {} (both logged)", old.read.digest, new.read.digest),
        format!("the first {} of the layers are its own", new.read.layers.len()),
        format!("the {} steps on top and the settings are the same", own.steps.len()),
        format!("the {} layers on top are new and were not looked into", own.layers),
    ]
}
