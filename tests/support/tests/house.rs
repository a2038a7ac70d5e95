//! The house keeps its shape: dependencies between its crates point one way (DESIGN §1).

use std::{collections::BTreeMap, process::Command};

use serde_json::Value;

const FOUNDATIONS: [&str; 3] = ["common-events", "service-runtime", "messaging"];

/// What each crate of the workspace depends on within it, tests aside.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let name = |value: &Value| value["name"].as_str().expect("a name").to_owned();
    let ours: Vec<String> = packages.iter().map(name).collect();
    let of = |package: &Value| {
        let all = package["dependencies"].as_array().expect("dependencies");
        let real = all.iter().filter(|dependency| dependency["kind"] != "dev");
        real.map(name).filter(|dependency| ours.contains(dependency)).collect()
    };
    packages.iter().map(|package| (name(package), of(package))).collect()
}

#[test]
fn a_foundation_depends_only_on_those_below_it() {
    let dependencies = dependencies();
    for (height, crate_name) in FOUNDATIONS.iter().enumerate() {
        for dependency in &dependencies[*crate_name] {
            assert!(FOUNDATIONS[..height].contains(&dependency.as_str()), "{crate_name} depends on {dependency}");
        }
    }
}

#[test]
fn no_service_knows_another() {
    let is_service = |name: &str| name.ends_with("-service") || ["data-platform", "saga-monitor"].contains(&name);
    let dependencies = dependencies();
    let services: Vec<_> = dependencies.iter().filter(|(name, _)| is_service(name)).collect();
    assert!(!services.is_empty());
    for (service, dependencies) in services {
        for dependency in dependencies {
            assert!(FOUNDATIONS.contains(&dependency.as_str()), "{service} depends on {dependency}");
        }
    }
}

#[test]
fn nothing_that_is_shipped_depends_on_tests() {
    let tests = ["test-support", "choreography", "system", "load"];
    for (name, dependencies) in dependencies() {
        if !tests.contains(&name.as_str()) {
            assert!(!dependencies.iter().any(|dependency| tests.contains(&dependency.as_str())), "{name}");
        }
    }
}
