//! The house keeps its shape: dependencies between its crates point one way (ARCHITECTURE.md, "Map"), and a
//! reference to a document leads somewhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
    process::Command,
};

use serde_json::Value;

const FOUNDATIONS: [&str; 3] = ["common-events", "service-runtime", "messaging"];
/// Folders that hold nothing of ours.
const FOREIGN: [&str; 3] = ["target", ".git", "node_modules"];
/// How files that can name a document end; those without an ending are looked at, too.
const TEXTS: [&str; 18] = [
    "rs",
    "sql",
    "md",
    "toml",
    "sh",
    "yaml",
    "json",
    "lua",
    "html",
    "js",
    "env",
    "example",
    "py",
    "ts",
    "css",
    "xml",
    "txt",
    "properties",
];
const DECISIONS: &str = "docs/decisions";

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
    let tests = ["test-support", "choreography", "system", "load", "bench"];
    for (name, dependencies) in dependencies() {
        if !tests.contains(&name.as_str()) {
            assert!(!dependencies.iter().any(|dependency| tests.contains(&dependency.as_str())), "{name}");
        }
    }
}

fn house() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|extension| extension == ending)
}

/// Every text of the house by its path in it: sources, documents, scripts, settings. What is no UTF-8 is no text.
fn texts() -> BTreeMap<PathBuf, String> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![PathBuf::new()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(house().join(&folder)).expect("a folder") {
            let entry = entry.expect("an entry");
            let (kind, path) = (entry.file_type().expect("a type"), folder.join(entry.file_name()));
            let is_text = path.extension().is_none() || TEXTS.iter().any(|ending| has_ending(&path, ending));
            if kind.is_dir() && !FOREIGN.iter().any(|name| path.ends_with(name)) {
                folders.push(path);
            } else if kind.is_file() && is_text {
                let bytes = fs::read(entry.path()).expect("a file");
                found.extend(String::from_utf8(bytes).ok().map(|text| (path, text)));
            }
        }
    }
    found
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::Normal(name) => plain.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    plain
}

/// A document that is named, and what is said of it next.
struct Mention<'t> {
    name: &'t str,
    after: &'t str,
}

impl Mention<'_> {
    /// Where it lies: beside whoever names it, as links say it, or from the root of the house.
    fn document(&self, folder: &Path, documents: &BTreeMap<PathBuf, String>) -> Option<PathBuf> {
        let from_root = self.name.trim_start_matches(['.', '/']);
        let ways = [plain(&folder.join(self.name)), plain(Path::new(from_root))];
        ways.into_iter().find(|way| documents.contains_key(way))
    }

    /// The numbers of its sections that are named: `§2, §5`.
    fn sections(&self) -> Vec<&str> {
        let mut sections = Vec::new();
        let mut rest = self.after.trim_start_matches('`').trim_start();
        while let Some(number) = rest.strip_prefix('§') {
            let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
            sections.push(&number[..end]);
            rest = number[end..].trim_start_matches(',').trim_start_matches(" and").trim_start();
        }
        sections
    }

    /// The heading that is named: `, "The law"`.
    fn heading(&self) -> Option<&str> {
        Some(self.after.trim_start_matches(['`', ')']).strip_prefix(", \"")?.split_once('"')?.0)
    }
}

/// Every document that a text names. Those at other addresses are nobody's business here.
fn mentions(text: &str) -> Vec<Mention<'_>> {
    let is_of_path = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
    let ends = text.match_indices(".md").map(|(at, ending)| at + ending.len());
    let whole = ends.filter(|end| !text[*end..].starts_with(char::is_alphanumeric));
    let named = whole.map(|end| {
        let start = text[..end].trim_end_matches(is_of_path).len();
        Mention { name: &text[start..end], after: &text[end..] }
    });
    named.filter(|mention| has_ending(Path::new(mention.name), "md") && !mention.name.contains("//")).collect()
}

/// Where the links of a document lead, but for those to other addresses: a path, which is empty for the document itself,
/// and the place in it.
fn links(text: &str) -> Vec<(&str, Option<&str>)> {
    let targets = text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    let ours = targets.filter(|target| !target.contains("://"));
    ours.map(|target| target.split_once('#').map_or((target, None), |(path, place)| (path, Some(place)))).collect()
}

/// What a heading is called in a link to it.
fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The decisions that are named by their number: `(0015)`, `decision 0015`, `docs/decisions/0015`.
fn decisions(text: &str) -> Vec<&str> {
    let named = [("(", ")"), ("decision ", ""), ("decisions ", ""), ("docs/decisions/", "")].map(|(start, end)| {
        let numbers = text.split(start).skip(1).filter_map(|rest| Some((rest.get(..4)?, rest.get(4..)?)));
        let ours = numbers.filter(move |(number, after)| {
            let is_number = number.starts_with('0') && number.chars().all(|c| c.is_ascii_digit());
            is_number && after.starts_with(end) && !after.starts_with(char::is_alphanumeric)
        });
        ours.map(|(number, _)| number).collect::<Vec<_>>()
    });
    named.concat()
}

fn headings(document: &str) -> impl Iterator<Item = &str> {
    document.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim())
}

/// What leads nowhere in one text, and how many references it has.
fn lost_in(path: &Path, text: &str, texts: &BTreeMap<PathBuf, String>) -> (Vec<String>, usize) {
    let folder = path.parent().unwrap_or(Path::new(""));
    let (mut lost, mut followed) = (Vec::new(), 0);
    for mention in mentions(text) {
        followed += 1;
        let Some(document) = mention.document(folder, texts) else {
            lost.push(mention.name.to_owned());
            continue;
        };
        let headings: Vec<&str> = headings(&texts[&document]).collect();
        for section in mention.sections() {
            if !headings.iter().any(|heading| heading.starts_with(&format!("{section}. "))) {
                lost.push(format!("{} §{section}", mention.name));
            }
        }
        if let Some(wanted) = mention.heading().filter(|wanted| !headings.contains(wanted)) {
            lost.push(format!("{}, {wanted:?}", mention.name));
        }
    }
    if has_ending(path, "md") {
        for (target, place) in links(text) {
            followed += 1;
            let document = plain(&folder.join(target));
            let within = if target.is_empty() { Some(text) } else { texts.get(&document).map(|text| &**text) };
            let is_there = within.is_some() || house().join(&document).exists();
            let has = |place| within.is_some_and(|text| headings(text).any(|heading| slug(heading) == place));
            if !is_there || !place.is_none_or(has) {
                lost.push(place.map_or_else(|| target.to_owned(), |place| format!("{target}#{place}")));
            }
        }
    }
    let pages: BTreeSet<&str> =
        texts.keys().filter_map(|path| path.strip_prefix(DECISIONS).ok()?.to_str()?.get(..4)).collect();
    let numbers = decisions(text);
    followed += numbers.len();
    lost.extend(
        numbers.into_iter().filter(|number| !pages.contains(number)).map(|number| format!("decision {number}")),
    );
    (lost, followed)
}

#[test]
fn a_reference_to_a_document_leads_somewhere() {
    let texts = texts();
    assert!(texts.len() > 300, "{} texts", texts.len());
    let (mut lost, mut followed) = (Vec::new(), 0);
    for (path, text) in &texts {
        let (missing, references) = lost_in(path, text, &texts);
        lost.extend(missing.into_iter().map(|name| format!("{}: {name}", path.display())));
        followed += references;
    }
    assert!(followed > 150, "{followed} references were found");
    assert!(lost.is_empty(), "these lead nowhere:\n  {}", lost.join("\n  "));
}

/// They lay outside of the repository, where nobody who reads it finds them.
#[test]
fn nothing_refers_to_the_papers_this_was_built_from() {
    let papers = ["CONTRACT", "DESIGN"].map(|paper| [format!("{paper} §"), format!("{paper}.md")]).concat();
    for (path, text) in texts() {
        for paper in &papers {
            assert!(!text.contains(paper.as_str()), "{} refers to {paper}", path.display());
        }
        let numbered = text.split("issue ").skip(1).any(|after| after.starts_with(|c: char| c.is_ascii_digit()));
        assert!(!numbered, "{} refers to an issue by its number", path.display());
    }
}

/// What is written here would be looked for in the house, too, so a `~` stands in each name.
#[test]
fn a_reference_that_leads_nowhere_is_noticed() {
    let said = |masked: &str| masked.replace('~', "");
    let texts = BTreeMap::from([
        (PathBuf::from(said("docs/rules.~md")), "# Rules\n## 2. Who is asking\n".to_owned()),
        (PathBuf::from(said("docs/decisions/0001-facts.~md")), "# 0001 Facts\n".to_owned()),
    ]);
    let lost = |masked: &str| lost_in(Path::new(&said("docs/page.~md")), &said(masked), &texts).0;
    for fine in [
        "docs/rules.~md §2.",
        "(docs/rules.~md, \"Rules\")",
        "[rules](rules.~md), \"Rules\"",
        "[who](rules.~md#2-who-is-asking)",
        "# Here\n[above](#here)",
        "`docs/rules.~md` §2",
        "rules.~md, ../docs/rules.~md",
        "https://elsewhere.example/lost.~md",
        "(0001), decision 0001, docs/decisions/0001",
        "2026, (2048) and 0o644",
    ] {
        assert_eq!(lost(fine), [""; 0], "{fine}");
    }
    for (broken, missing) in [
        ("docs/lost.~md", "docs/lost.~md"),
        ("docs/rules.~md §2, §7", "docs/rules.~md §7"),
        ("docs/rules.~md, \"The law\"", "docs/rules.~md, \"The law\""),
        ("[a page](lost.html)", "lost.html"),
        ("[rules](rules.~md), \"The law\"", "rules.~md, \"The law\""),
        ("[who](rules.~md#3-who)", "rules.~md#3-who"),
        ("# Here\n[above](#there)", "#there"),
        ("as (0002) says", "decision 0002"),
        ("docs/decisions/0003", "decision 0003"),
    ] {
        assert_eq!(lost(broken), [said(missing)], "{broken}");
    }
}

/// Tests are run by nextest, which runs no examples of documentation: what looks like one would be skipped in silence.
#[test]
fn no_example_in_a_comment_is_taken_for_a_test() {
    const NOT_RUN: [&str; 4] = ["ignore", "json", "text", "sh"];
    for (path, text) in texts().into_iter().filter(|(path, _)| has_ending(path, "rs")) {
        let comments = text.lines().filter_map(|line| {
            let line = line.trim_start();
            line.strip_prefix("///").or_else(|| line.strip_prefix("//!"))
        });
        let fences = comments.filter_map(|comment| comment.trim_start().strip_prefix("```"));
        // Each second one closes.
        for language in fences.step_by(2) {
            assert!(NOT_RUN.contains(&language), "{}: ```{language} is a doc test, and nobody runs it", path.display());
        }
    }
}
