//! The generator on the command line: what `cargo run -p common-events --bin schemas` does.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const CHECKED_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas");

fn schemas(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_schemas")).args(arguments).output().expect("the generator starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn texts(directory: &Path) -> BTreeMap<String, String> {
    let files = fs::read_dir(directory).expect("is there").map(|entry| entry.expect("can be listed").path());
    files
        .map(|file| {
            let name = file.file_name().expect("has a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(file).expect("is text"))
        })
        .collect()
}

/// A copy of the checked-in files, with `from` replaced in one of them.
fn altered_copy(test: &str, file: &str, from: &str, to: &str) -> PathBuf {
    let directory = empty(test);
    for (name, mut text) in texts(Path::new(CHECKED_IN)) {
        if name == file {
            assert!(text.contains(from), "{file} has no {from}");
            text = text.replace(from, to);
        }
        fs::write(directory.join(name), text).expect("can be written");
    }
    directory
}

fn empty(test: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    if directory.exists() {
        fs::remove_dir_all(&directory).expect("can be removed");
    }
    fs::create_dir_all(&directory).expect("can be made");
    directory
}

fn run(command: &str, directory: &Path) -> Output {
    schemas(&[command, directory.to_str().expect("is text")])
}

#[test]
fn the_checked_in_files_are_what_the_types_and_the_catalogue_say() {
    let check = schemas(&["check"]);
    assert!(check.status.success(), "{}", said(&check));
}

#[test]
fn write_makes_just_the_checked_in_files() {
    let directory = empty("write_makes");
    assert_eq!(run("write", &directory).status.code(), Some(0));
    assert_eq!(texts(&directory), texts(Path::new(CHECKED_IN)));
    assert_eq!(said(&run("write", &directory)), "", "there is nothing more to write");
}

#[test]
fn check_names_a_stale_file_and_write_renews_it() {
    let directory = altered_copy("check_names", "asyncapi.yaml", "partitions: 3", "partitions: 6");
    let check = run("check", &directory);
    assert_eq!(check.status.code(), Some(1));
    assert!(
        said(&check).contains("asyncapi.yaml: line 8 is `partitions: 6`, would be `partitions: 3`"),
        "{}",
        said(&check)
    );

    assert_eq!(run("write", &directory).status.code(), Some(0));
    assert_eq!(texts(&directory), texts(Path::new(CHECKED_IN)));
}

#[test]
fn words_and_new_optional_fields_are_written() {
    let directory = altered_copy(
        "words_are_written",
        "order-cancelled.v1.json",
        "What the person who cancelled said, if anything.",
        "A note.",
    );
    let file = directory.join("order-cancelled.v1.json");
    let mut before: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&file).expect("is text")).expect("is JSON");
    before["properties"]["data"]["properties"].as_object_mut().expect("an object").remove("note");
    fs::write(&file, before.to_string()).expect("can be written");

    assert_eq!(run("write", &directory).status.code(), Some(0));
    assert_eq!(texts(&directory), texts(Path::new(CHECKED_IN)));
}

#[test]
fn an_incompatible_overwrite_is_refused_and_nothing_is_written() {
    let directory = altered_copy("incompatible", "stock-deducted.v1.json", "\"maximum\": 10000", "\"maximum\": 9999");
    fs::remove_file(directory.join("asyncapi.yaml")).expect("is there");
    let before = texts(&directory);

    for command in ["write", "check"] {
        let output = run(command, &directory);
        assert_eq!(output.status.code(), Some(1));
        let difference = "stock-deducted.v1.json: $.data.quantity: maximum was 9999, would be 10000";
        assert!(said(&output).lines().any(|line| line.ends_with(difference)), "{}", said(&output));
    }
    assert_eq!(texts(&directory), before);
}

#[test]
fn what_is_no_command_is_told_the_usage() {
    for arguments in [&[][..], &["update"], &["check", "there", "too"]] {
        let output = schemas(arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(said(&output).starts_with("usage: schemas write|check"));
    }
    assert_eq!(run("check", Path::new("/nowhere")).status.code(), Some(1));
}
