//! Disks that are full, and files that are damaged: what was signed is not lost, and what cannot be kept is not signed.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use taglog_proto::{name::Digest, time::Timestamp};
use taglog_tests::{
    Status,
    hostile_registry::{Manner, manifest_of_size},
};

use crate::witness_scene::{Scene, digest_of, logged, pending, switch::Switch, wait_patiently, watch};

const KIB: usize = 1 << 10;

/// A scene whose log can be cut off, and several tags.
struct Disk {
    scene: Scene,
    switch: Switch,
    images: Vec<String>,
}

impl Disk {
    /// With the log cut off.
    fn new(settings: &[(&str, &str)], tags: usize) -> Disk {
        let scene = Scene::new();
        let switch = Switch::to(&scene.server.url);
        switch.cut();
        scene.agent.trust("trust", &scene.server.vkey, &switch.url);
        let images: Vec<String> = (0..tags).map(|number| format!("team/app:{number}")).collect();
        scene
            .configure(settings, &[watch(&scene.registry, &images.iter().map(String::as_str).collect::<Vec<_>>(), "")]);
        Disk { scene, switch, images }
    }

    /// Moves all tags to large manifests.
    fn set(&self, content: &str) {
        for image in &self.images {
            self.scene.registry.set(image, Manner::Serves(large(content)));
        }
    }

    fn names(&self) -> Vec<String> {
        self.images.iter().map(|image| self.scene.registry.name(image)).collect()
    }

    /// What of the tags is signed: image, digest, time.
    fn signed(&self, status: &Status) -> Vec<(String, String, Timestamp)> {
        let row = |name: String| {
            let tag = status.tag(&name);
            let (seen, observed) = (tag["seen"].as_str()?.to_owned(), tag["observed"].as_str()?.parse().unwrap());
            Some((name, seen, observed))
        };
        self.names().into_iter().filter_map(row).collect()
    }

    /// Checks that the log has each of these, dated as it was signed.
    fn has_arrived(&self, signed: &[(String, String, Timestamp)]) {
        for (name, seen, observed) in signed {
            wait_patiently(&self.scene.agent, &format!("{seen} of {name}, dated {observed}, in the log"), || {
                logged(&self.scene.server, name).contains(&(seen.clone(), *observed)).then_some(())
            });
        }
    }

    /// Waits until the log has exactly these large contents of every tag.
    fn wait_logged(&self, contents: &[&str]) {
        let want: Vec<String> = contents.iter().map(|content| digest_of_large(content)).collect();
        for name in self.names() {
            let has = wait_patiently(&self.scene.agent, &format!("{contents:?} of {name} in the log"), || {
                let has: Vec<String> = logged(&self.scene.server, &name).into_iter().map(|(seen, _)| seen).collect();
                (has.len() >= want.len()).then_some(has)
            });
            assert_eq!(has, want, "{name}");
        }
    }

    fn wait_alarm(&mut self, kind: &str) -> Status {
        self.scene.agent.wait_until(&format!("the alarm {kind}"), |status| status.alarms().contains(&kind))
    }

    fn wait_calm(&mut self) {
        let server = &self.scene.server;
        let calm = |status: &Status| status.alarms().is_empty() && pending(status, server) == 0;
        self.scene.agent.wait_until("the end of the alarm, and delivery", calm);
    }
}

fn large(content: &str) -> Vec<u8> {
    manifest_of_size(content, 200 * KIB)
}

fn digest_of_large(content: &str) -> String {
    Digest::sha256(&large(content)).to_string()
}

/// The log is away for so long that the spool reaches its limit.
#[test]
fn a_spool_at_its_limit_signs_nothing_more_and_loses_nothing() {
    // An entry takes over half a kilobyte, with what is remembered of its tag.
    let mut disk = Disk::new(&[("spool-limit-mib", "1"), ("gone-looks", "2"), ("interval", "\"5s\"")], 2500);
    for image in &disk.images {
        disk.scene.registry.set(image, Manner::serves("one"));
    }
    disk.scene.start();
    let status = disk.wait_alarm("spool");
    assert_eq!(status.exit_code(), 3);
    let signed = disk.signed(&status);
    assert!(!signed.is_empty() && signed.len() < disk.images.len(), "{} signed", signed.len());

    disk.switch.turn_to(&disk.scene.server.url);
    disk.wait_calm();
    disk.has_arrived(&signed);
    let one = digest_of("one");
    let names = disk.names();
    disk.scene
        .agent
        .wait_until("everything to be signed", |status| names.iter().all(|name| status.seen(name) == Some(&*one)));
    disk.wait_calm();
    for name in &names {
        let has: Vec<String> = logged(&disk.scene.server, name).into_iter().map(|(seen, _)| seen).collect();
        assert_eq!(has, std::slice::from_ref(&one), "{name}");
    }
}

/// Manifests are wanted, entries are needed: where there is no room for both, the entries are kept.
#[test]
fn large_manifests_keep_no_entry_out() {
    let mut disk = Disk::new(&[("spool-limit-mib", "1"), ("gone-looks", "2")], 12);
    for (number, image) in disk.images.iter().enumerate() {
        disk.scene.registry.set(image, Manner::Serves(large(&number.to_string())));
    }
    disk.scene.start();
    let names = disk.names();
    let want: Vec<String> = (0..names.len()).map(|number| digest_of_large(&number.to_string())).collect();
    let status = disk.scene.agent.wait_until("all of them to be signed", |status| {
        names.iter().zip(&want).all(|(name, digest)| status.seen(name) == Some(&**digest))
    });
    assert_eq!(status.alarms(), [""; 0]);
    disk.switch.turn_to(&disk.scene.server.url);
    disk.wait_calm();
}

/// A small file system of its own. Dropping this unmounts it.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where this user may not mount anything.
    fn mount(path: PathBuf, kib: usize) -> Option<SmallDisk> {
        std::fs::create_dir_all(&path).unwrap();
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"]).arg(&path).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(SmallDisk(path))
    }

    /// Takes all that is free.
    fn fill(&self) {
        let mut ballast = std::fs::File::options().append(true).create(true).open(self.ballast()).unwrap();
        while ballast.write_all(&[0; KIB]).is_ok() {}
    }

    fn empty(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the agent may still hold files open.
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

#[test]
fn a_full_disk_is_named_and_loses_nothing() {
    let mut disk = Disk::new(&[("gone-looks", "2")], 3);
    let Some(small) = SmallDisk::mount(disk.scene.agent.path("state"), 4 * KIB) else {
        println!("skipped: this user may not mount a file system");
        return;
    };
    disk.set("one");
    disk.scene.start();
    let names = disk.names();
    let all_seen = |content: &'static str| {
        let (names, want) = (names.clone(), digest_of_large(content));
        move |status: &Status| names.iter().all(|name| status.seen(name) == Some(&*want))
    };
    let status = disk.scene.agent.wait_until("the first reports", all_seen("one"));
    let signed = disk.signed(&status);

    small.fill();
    disk.set("two");
    let status = disk.wait_alarm("spool");
    assert_eq!(status.exit_code(), 3);
    let images: Vec<&str> = disk.images.iter().map(String::as_str).collect();
    disk.scene.wait_looks(&images, 3);

    small.empty();
    disk.scene.agent.wait_until("the second reports", all_seen("two"));
    disk.switch.turn_to(&disk.scene.server.url);
    disk.has_arrived(&signed);
    disk.wait_logged(&["one", "two"]);
    disk.wait_calm();
}

/// Overwrites the pages that this chooses, by number and content; at least one.
fn overwrite(file: &Path, chosen: impl Fn(usize, &[u8]) -> bool) {
    let mut bytes = std::fs::read(file).unwrap();
    let page = match u16::from_be_bytes([bytes[16], bytes[17]]) {
        1 => 1 << 16,
        size => usize::from(size),
    };
    let mut count = 0;
    for (number, content) in bytes.chunks_mut(page).enumerate() {
        if chosen(number, content) {
            content.fill(0xa5);
            count += 1;
        }
    }
    assert!(count > 0, "nothing to damage");
    std::fs::write(file, bytes).unwrap();
}

fn holds_an_entry(page: &[u8]) -> bool {
    page.windows(19).any(|window| window == b"taglog/observation@")
}

fn damage(chosen: impl Fn(usize, &[u8]) -> bool) {
    let mut disk = Disk::new(&[("gone-looks", "2")], 8);
    for image in &disk.images {
        disk.scene.registry.set(image, Manner::serves("one"));
    }
    disk.scene.start();
    let (names, one) = (disk.names(), digest_of("one"));
    let all_seen = |status: &Status| names.iter().all(|name| status.seen(name) == Some(&*one));
    let status = disk.scene.agent.wait_until("the first reports", all_seen);
    assert!(pending(&status, &disk.scene.server) >= 8, "{status:?}");
    let signed = disk.signed(&status);
    disk.scene.agent.terminate();
    overwrite(&disk.scene.agent.path("state/spool.sqlite"), chosen);

    disk.scene.start();
    let status = disk.wait_alarm("spool-damaged");
    assert_eq!(status.exit_code(), 3);
    let message = status.alarm("spool-damaged").unwrap().to_string();
    let aside = std::fs::read_dir(disk.scene.agent.path("state")).unwrap().map(|entry| entry.unwrap().path());
    let aside: Vec<PathBuf> = aside.filter(|path| path.to_string_lossy().contains("damaged")).collect();
    assert!(aside.iter().any(|path| message.contains(path.to_str().unwrap())), "{message} does not name {aside:?}");

    disk.switch.turn_to(&disk.scene.server.url);
    disk.has_arrived(&signed);
    for image in &disk.images {
        disk.scene.wait_logged(image, &["one"]);
        disk.scene.registry.set(image, Manner::serves("two"));
    }
    for image in &disk.images {
        disk.scene.wait_logged(image, &["one", "two"]);
    }
    // It stays until a person has seen it.
    assert!(disk.scene.agent.status().alarms().contains(&"spool-damaged"));
    let acknowledged = disk.scene.agent.command("status").arg("--acknowledge").status().unwrap();
    assert!(acknowledged.code().is_some());
    disk.wait_calm();
}

#[test]
fn a_spool_without_its_first_page_gives_back_what_was_not_delivered() {
    damage(|number, _| number == 0);
}

#[test]
fn a_spool_of_which_only_entries_are_left_gives_them_back() {
    damage(|_, page| !holds_an_entry(page));
}

/// A database that is none at all, and holds nothing: it is set aside, and the agent begins anew.
#[test]
fn a_spool_that_is_garbage_is_set_aside() {
    let mut disk = Disk::new(&[], 1);
    disk.switch.turn_to(&disk.scene.server.url);
    disk.scene.registry.set(&disk.images[0], Manner::serves("one"));
    std::fs::create_dir_all(disk.scene.agent.path("state")).unwrap();
    disk.scene.agent.write("state/spool.sqlite", &"no database ".repeat(1000));
    disk.scene.start();
    disk.wait_alarm("spool-damaged");
    disk.scene.wait_logged(&disk.images[0], &["one"]);
}
