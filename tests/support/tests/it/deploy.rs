//! What `deploy/` says is what the code does: metrics that are counted, variables that are read, ports that are
//! listened on, crates that are allowed.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use common_events::Service;
use serde_json::Value;
use service_runtime::settings::{CommonSettings, Env, default_port};

/// What `metrics-process` tells of every process.
const OF_THE_PROCESS: [&str; 2] = ["process_resident_memory_bytes", "process_cpu_seconds_total"];

fn house() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn text(path: &str) -> String {
    fs::read_to_string(house().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file below a folder whose name ends so.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found
}

/// The names that these are called with in programs, tests aside.
pub(crate) fn called_with(calls: &[&str]) -> BTreeSet<String> {
    let crates = fs::read_dir(house()).expect("the house").map(|entry| entry.expect("an entry").path().join("src"));
    let sources = crates.filter(|folder| folder.is_dir()).flat_map(|folder| files(&folder, ".rs"));
    let sources = sources.filter(|path| !path.ends_with("tests.rs"));
    let mut names = BTreeSet::new();
    for source in sources.map(|path| fs::read_to_string(path).expect("a source")) {
        for call in calls {
            // Not the end of a longer name.
            let is_whole = |at: usize| !source[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            let places = source.match_indices(call).filter(|(at, _)| call.starts_with('.') || is_whole(*at));
            let name = |rest: &str| Some(rest.trim_start().strip_prefix('"')?.split_once('"')?.0.to_owned());
            names.extend(places.filter_map(|(at, _)| name(&source[at + call.len()..])));
        }
    }
    names
}

/// The metrics of an expression of Prometheus': what looks like a word with an underscore and stands before no
/// bracket of a call.
fn metrics_of(expression: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = BTreeSet::new();
    let mut rest = expression;
    while let Some(start) = rest.find(is_part) {
        let word = &rest[start..];
        let end = word.find(|c| !is_part(c)).unwrap_or(word.len());
        let (word, after) = word.split_at(end);
        if word.contains('_') && !word.starts_with("__") && !after.starts_with('(') {
            found.insert(word.to_owned());
        }
        rest = after;
    }
    found
}

#[test]
fn a_dashboard_shows_only_what_is_counted() {
    let counted = called_with(&["counter!(", "gauge!(", "histogram!("]);
    assert!(counted.contains("http_requests_total") && counted.len() > 10, "{counted:?}");
    let mut shown = BTreeSet::new();
    for file in files(&house().join("deploy/dashboards"), ".json") {
        let dashboard: Value = serde_json::from_str(&fs::read_to_string(&file).expect("a dashboard")).expect("JSON");
        let panels = dashboard["panels"].as_array().expect("panels");
        for target in panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten() {
            shown.extend(metrics_of(target["expr"].as_str().expect("an expression")));
        }
    }
    assert!(shown.len() > 10, "{shown:?}");
    for name in shown {
        let bare = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(&name);
        assert!(counted.contains(bare) || OF_THE_PROCESS.contains(&bare), "nobody counts {name}");
    }
}

/// The variables of a file of settings with what they hold, line by line.
fn variables(file: &str) -> Vec<(String, String)> {
    let text = text(file);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).map(|(name, held)| (name.to_owned(), held.to_owned())).collect()
}

/// The variables of `.env.example`.
fn known_variables() -> BTreeSet<String> {
    variables(".env.example").into_iter().map(|(name, _)| name).collect()
}

#[test]
fn a_variable_is_listed_once() {
    for file in [".env.example", "deploy/k8s/settings.env"] {
        let (mut known, listed) = (BTreeSet::new(), variables(file));
        assert!(listed.len() > 5, "{file}: {listed:?}");
        for (name, _) in listed {
            assert!(known.insert(name.clone()), "{file} lists {name} twice");
        }
    }
}

#[test]
fn what_the_example_holds_is_what_counts_when_nothing_is_said() {
    let read = |variables: Vec<(String, String)>| {
        let said = variables.into_iter().filter(|(name, held)| !held.is_empty() && name != "AUTH_MODE");
        let env = Env::of(said.chain([("AUTH_MODE".to_owned(), "header".to_owned())]));
        format!("{:#?}", CommonSettings::read(Service::Order, &env).expect("good settings"))
    };
    assert_eq!(read(variables(".env.example")), read(Vec::new()));
}

#[test]
fn a_variable_that_is_read_is_in_the_example() {
    let known = known_variables();
    let read = called_with(&[".or(", ".required(", ".optional(", ".within(", ".between("]);
    let is_variable = |name: &String| name.contains('_') && name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let read: Vec<_> = read.into_iter().filter(is_variable).collect();
    assert!(read.len() > 20, "{read:?}");
    for name in read {
        assert!(known.contains(&name), ".env.example doesn't say what {name} is");
    }
}

#[test]
fn kubernetes_sets_only_variables_that_are_read() {
    let known = known_variables();
    let settings = text("deploy/k8s/settings.env");
    let mut set: BTreeSet<String> = settings
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once('=').expect("NAME=value").0.to_owned())
        .collect();
    for manifest in files(&house().join("deploy/k8s"), ".yaml") {
        let manifest = fs::read_to_string(manifest).expect("a manifest");
        // Names of variables are the only ones in capitals.
        let names = manifest.split("name: ").skip(1).filter_map(|rest| rest.split([' ', ',', '\n', '}']).next());
        let variables = names.filter(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
        set.extend(variables.map(ToOwned::to_owned));
    }
    assert!(set.contains("DATABASE_URL") && set.contains("DATABASE_URLS") && set.contains("KAFKA_BROKERS"), "{set:?}");
    for name in set {
        assert!(known.contains(&name), "{name} is no variable of .env.example");
    }
}

#[test]
fn kubernetes_runs_every_service_at_its_port() {
    let kustomization = text("deploy/k8s/kustomization.yaml");
    for service in Service::ALL {
        let name = service.name();
        assert!(kustomization.contains(&format!("\n  - {name}\n")), "{name} is among the resources");
        let own = text(&format!("deploy/k8s/{name}/kustomization.yaml"));
        for said in [
            format!("path: /metadata/name, value: {name} }}"),
            format!("path: /spec/template/spec/containers/0/command, value: [{name}] }}"),
            format!("path: /spec/ports/0/port, value: {} }}", default_port(*service)),
            format!("{{ name: databases, key: {name} }}"),
        ] {
            assert!(own.contains(&said), "{name}: {said}");
        }
    }
}

/// `cargo deny` says more; this much holds wherever tests run.
#[test]
fn what_deny_toml_bans_is_not_in_the_lock_file() {
    let named = |text: &str, start: &str| -> BTreeSet<String> {
        text.split(start).skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())).collect()
    };
    let deny = text("deny.toml");
    let (_, bans) = deny.split_once("\n[bans]\n").expect("a section of bans");
    let banned = named(bans, "crate = \"");
    let locked = named(&text("Cargo.lock"), "\nname = \"");
    assert!(banned.contains("rustls") && locked.contains("openssl"));
    let both: Vec<_> = banned.intersection(&locked).collect();
    assert!(both.is_empty(), "{both:?}");
}
