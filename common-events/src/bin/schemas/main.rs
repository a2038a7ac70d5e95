//! `schemas write|check [DIRECTORY]`: the contract as files, for whoever reads the topics without
//! this crate. One JSON Schema per event type and version, and one `AsyncAPI` document over all topics.
//!
//! `check` fails when the files aren't what the types and the catalogue say; a test runs it. `write`
//! makes them so, but never over an incompatible change: that needs a new version of the type.
//! Exit code 0 done, 1 differs or refused, 2 usage.

mod asyncapi;
mod compatibility;
mod event_schema;
mod event_types;
mod files;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use event_types::event_types;
use files::{Files, Finding};

const USAGE: &str = "usage: schemas write|check [DIRECTORY]";
const CHECKED_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas");

enum Command {
    Write,
    Check,
}

fn main() -> ExitCode {
    let Some((command, directory)) = arguments(env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let done = match command {
        Command::Write => write(&directory),
        Command::Check => check(&directory),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}

fn arguments(mut given: impl Iterator<Item = String>) -> Option<(Command, PathBuf)> {
    let command = match given.next()?.as_str() {
        "write" => Command::Write,
        "check" => Command::Check,
        _ => return None,
    };
    let directory = given.next().unwrap_or_else(|| CHECKED_IN.to_owned());
    given.next().is_none().then(|| (command, directory.into()))
}

fn check(directory: &Path) -> io::Result<ExitCode> {
    let kept = read(directory)?;
    let wanted = files::generate(&event_types())?;
    let stale = files::stale(&kept, &wanted);
    let refused = files::refused(&kept, &wanted);
    if stale.is_empty() && refused.is_empty() {
        println!("{} files in {} are up to date", wanted.len(), directory.display());
        return Ok(ExitCode::SUCCESS);
    }
    report(directory, stale.iter().chain(&refused));
    if refused.is_empty() {
        eprintln!("run `cargo run -p common-events --bin schemas -- write`");
    } else {
        eprintln!("{}", files::WAY_OUT);
    }
    Ok(ExitCode::FAILURE)
}

fn write(directory: &Path) -> io::Result<ExitCode> {
    fs::create_dir_all(directory)?;
    let kept = read(directory)?;
    let wanted = files::generate(&event_types())?;
    let refused = files::refused(&kept, &wanted);
    if !refused.is_empty() {
        report(directory, &refused);
        eprintln!("nothing was written: {}", files::WAY_OUT);
        return Ok(ExitCode::FAILURE);
    }
    for (name, text) in wanted.iter().filter(|(name, text)| kept.get(*name) != Some(text)) {
        fs::write(directory.join(name), text)?;
        println!("wrote {}", directory.join(name).display());
    }
    Ok(ExitCode::SUCCESS)
}

fn report<'a>(directory: &Path, findings: impl IntoIterator<Item = &'a Finding>) {
    for Finding { file, what } in findings {
        eprintln!("{}: {what}", directory.join(file).display());
    }
}

fn read(directory: &Path) -> io::Result<Files> {
    let mut kept = Files::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let ours = path.extension().is_some_and(|extension| extension == "json" || extension == "yaml");
        if let (true, Some(name)) = (ours, path.file_name().and_then(|name| name.to_str())) {
            kept.insert(name.to_owned(), fs::read_to_string(&path)?);
        }
    }
    Ok(kept)
}
