//! Whether a change of an image is consistent with a rebuild of it on a newer base.

use serde_json::{Map, Value};

use super::base::{LoggedBase, OwnContent, PlatformImage};

/// Checks whether the change of an image is consistent with a rebuild, and returns the facts that were established.
/// Both images have the base of one name.
///
/// # Errors
/// What differs, for users.
pub(super) fn rebuild(
    from: (&PlatformImage, &LoggedBase),
    to: (&PlatformImage, &LoggedBase),
) -> Result<Vec<String>, String> {
    let ((old, old_base), (new, new_base)) = (from, to);
    check_base_is_newer(old_base, new_base)?;
    let old_own = old.own_content(&old_base.content).map_err(|error| format!("of the older image, {error}"))?;
    let new_own = new.own_content(&new_base.content)?;
    if let Some(part) = differing_part(&old_own, &new_own) {
        return Err(format!("{part} changed"));
    }
    if old.configuration.target != new.configuration.target {
        return Err("its target platform changed".to_owned());
    }
    if let Some(part) = differing_setting(&old.configuration.run, &new.configuration.run) {
        return Err(format!("{part} changed"));
    }
    Ok(rebuild_facts(old_base, new_base, &new_own))
}

/// A rebuild is on a newer base. An unchanged base gives no reason for a rebuild, and an older base brings back what
/// was fixed.
fn check_base_is_newer(old: &LoggedBase, new: &LoggedBase) -> Result<(), String> {
    if old.content.digest == new.content.digest {
        return Err(format!("the image changed, but its base image {} did not", new.image));
    }
    if new.position <= old.position {
        return Err(format!("it went back to an older revision of its base image {}", new.image));
    }
    Ok(())
}

/// The part of the image's own content that differs.
fn differing_part(old: &OwnContent, new: &OwnContent) -> Option<&'static str> {
    match () {
        () if old.steps != new.steps => Some("its history"),
        () if old.layers != new.layers => Some("the number of its layers"),
        () if old.environment != new.environment => Some("its environment"),
        () if old.labels != new.labels => Some("its labels"),
        () => None,
    }
}

/// The setting in `config` that differs, except for those that [`OwnContent`] contains.
fn differing_setting(old: &Map<String, Value>, new: &Map<String, Value>) -> Option<String> {
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

/// The facts about a rebuild, the most important first.
fn rebuild_facts(old: &LoggedBase, new: &LoggedBase, own: &OwnContent) -> Vec<String> {
    vec![
        format!("the base moved from {} to {} (both logged)", old.content.digest, new.content.digest),
        format!("the first {} layers are those of the base", new.content.layers.len()),
        format!("the {} build steps on top of it and the settings are unchanged", own.steps.len()),
        format!("the {} layers on top of it are new, and their content was not inspected", own.layers),
    ]
}
