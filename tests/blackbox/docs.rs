//! README and `docs` match the program and each other: flags, variables, kinds, commands, links.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::{repository::variables, support::probe::Probe};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(path)).expect("it is in the repository")
}

/// The pages: those in the root, and those in `docs`.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    for directory in ["", "docs"] {
        for file in fs::read_dir(root().join(directory)).expect("it is in the repository") {
            let path = file.expect("it can be read").path();
            if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path.strip_prefix(root()).expect("it is below the root").to_owned());
            }
        }
    }
    pages.sort();
    pages
}

/// A page without its code blocks and code spans.
fn prose(page: &str) -> String {
    let mut prose = String::new();
    let mut is_fenced = false;
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
        } else if !is_fenced && !line.starts_with("    ") {
            prose += line;
            prose.push('\n');
        }
    }
    prose.split('`').step_by(2).collect()
}

/// The targets of links and pictures.
fn links(page: &str) -> Vec<String> {
    let prose = prose(page);
    prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(str::to_owned).collect()
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> Vec<String> {
    let mut is_fenced = false;
    let mut anchors = Vec::new();
    for line in page.lines() {
        is_fenced ^= line.starts_with("```");
        let heading = line.trim_start_matches('#');
        if is_fenced || heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let kept = heading.trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        anchors.push(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
    }
    anchors
}

#[test]
fn links_lead_somewhere() {
    // A package has only a part of the repository.
    let is_repository = root().join(".ci").exists();
    let mut count = 0;
    for page in pages() {
        let folder = page.parent().expect("it is a file");
        for link in links(&read(&page)) {
            if link.contains("://") {
                continue;
            }
            count += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { root().join(&page) } else { root().join(folder).join(file) };
            if !is_repository && !target.exists() {
                continue;
            }
            assert!(target.exists(), "{} links to {link}, which does not exist", page.display());
            let is_known = anchor.is_empty() || anchors(&read(&target)).iter().any(|known| known == anchor);
            assert!(is_known, "{} links to {link}, and no heading has this anchor", page.display());
        }
    }
    assert!(count > 60, "the links are found: {count}");
}

#[test]
fn pages_are_linked_from_the_start() {
    let index = links(&read("docs/README.md"));
    let readme = links(&read("README.md"));
    for page in pages().into_iter().filter(|page| page.starts_with("docs") && page != Path::new("docs/README.md")) {
        let name = page.file_name().and_then(|name| name.to_str()).expect("names are text");
        let is_linked = index.iter().any(|link| link == name) || readme.iter().any(|link| Path::new(link) == page);
        assert!(is_linked, "{} is linked neither from README.md nor from docs/README.md", page.display());
    }
}

/// An error's kind can be looked up by its anchor: GitHub would number the second of two.
#[test]
fn anchors_are_unique() {
    for page in pages().into_iter().filter(|page| page != Path::new("CHANGELOG.md")) {
        let anchors = anchors(&read(&page));
        let unique: BTreeSet<&String> = anchors.iter().collect();
        assert_eq!(unique.len(), anchors.len(), "{}: {anchors:?}", page.display());
    }
    assert!(anchors(&read("docs/failures.md")).len() > 60);
}

/// The flags that the help has.
fn flags() -> BTreeSet<String> {
    let help = Probe::new(["-help"]).run().stdout;
    let lines = help.lines().filter(|line| line.starts_with("  -"));
    lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn every_flag_is_in_the_table() {
    let flags = flags();
    assert!(flags.len() > 20, "the flags are found: {flags:?}");
    let table = read("docs/flags.md");
    let rows: String = table.lines().filter(|line| line.starts_with("| `-")).collect();
    for flag in flags {
        let is_there = ["`", " "].iter().any(|end| rows.contains(&format!("`{flag}{end}")));
        assert!(is_there, "{flag} has no row in docs/flags.md");
    }
}

#[test]
fn parts_of_a_diagnosis_are_explained() {
    let page = read("docs/diagnose.md");
    let rows: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" | ").next())
        .filter(|row| *row != "part")
        .collect();
    let mut parts = BTreeSet::new();
    for example in fs::read_dir(root().join("tests/blackbox/diagnose")).expect("it is in the repository") {
        let text = read(example.expect("it can be read").path());
        let is_heading = |line: &&str| !line.is_empty() && !line.starts_with([' ', '(']);
        parts.extend(text.lines().filter(is_heading).map(str::to_owned));
    }
    let parts: BTreeSet<&str> = parts.iter().map(String::as_str).collect();
    assert_eq!(rows, parts);
}

/// A name that many Dockerfiles have, and that the probe ignores.
const IGNORED: &str = "GRPC_HEALTH_PROBE_VERSION";

#[test]
fn health_checks_in_the_examples_are_valid() {
    let examples = ["app.Dockerfile", "compose.yaml", "compose.tls.yaml", "kubernetes.yaml"];
    let examples = examples.iter().map(|name| read(format!("docker/{name}")));
    let texts: String = examples.chain(pages().iter().map(read)).collect();
    let mut checks = 0;
    for line in texts.lines() {
        let Some((_, words)) = line.split_once("/grpc_health_probe\"") else { continue };
        // A diagnosis breaks long lines; what it advises is tested by running it.
        if !words.contains(']') {
            continue;
        }
        let words = format!("[\"\"{}]", words.split(']').next().unwrap_or_default());
        let words: Vec<String> = serde_json::from_str(&words).unwrap_or_else(|error| panic!("{line}: {error}"));
        // Health checks without arguments are configured by variables.
        let ran = Probe::new(words.iter().skip(1)).env("GRPC_HEALTH_PROBE_OUTPUT", "json").run();
        let is_configured_by_variables = words.len() == 1;
        assert!(
            is_configured_by_variables || ran.code == Some(0) || ran.json()["error"]["kind"] != "usage",
            "{line}\n{ran}"
        );
        checks += 1;
    }
    // Lists with a word in each line; there a variable has the address.
    for list in texts.split("- /grpc_health_probe\n").skip(1) {
        let flags: Vec<&str> = list.lines().map_while(|line| line.trim_start().strip_prefix("- ")).collect();
        let probe = Probe::new(&flags).env("GRPC_HEALTH_PROBE_OUTPUT", "json").env("GRPC_HEALTH_PROBE_ADDR", ":1");
        let ran = probe.run();
        assert_ne!(ran.json()["error"]["kind"], "usage", "{flags:?}\n{ran}");
        checks += 1;
    }
    assert!(checks > 15, "the health checks are found: {checks}");

    let page = read("docs/man/grpc_health_probe.1");
    let known = variables(&page);
    let used: Vec<&str> = variables(&texts).into_iter().filter(|variable| *variable != IGNORED).collect();
    assert!(used.len() > 10, "the variables are found: {used:?}");
    for variable in used {
        assert!(known.contains(&variable), "{variable} is no variable of the probe");
    }
}

/// Newcomers read README to its end, so that what few need is in `docs`.
#[test]
fn readme_is_short() {
    let length = read("README.md").len();
    assert!(length <= 10 * 1024, "README.md has {length} bytes");
}

/// `-version` then knows the commit.
#[test]
fn commands_that_build_the_image_name_the_commit() {
    let examples = fs::read_dir(root().join("docker")).expect("it is in the repository");
    let examples = examples.map(|file| read(file.expect("it can be read").path()));
    let texts: String = examples.chain(pages().iter().map(read)).collect();
    let is_build = |line: &&str| line.contains(" build ") && line.contains(" -f docker/Dockerfile ");
    let builds: Vec<&str> = texts.lines().filter(is_build).collect();
    assert!(builds.len() > 5, "the commands are found: {builds:?}");
    for build in builds {
        assert!(build.contains("--build-arg REVISION="), "{build}");
    }
}

/// Each exec probe and each health check ends the probe by `-timeout` before it is killed.
#[test]
fn examples_leave_the_probe_time_to_say_why() {
    let seconds = |text: &str, key: &str| -> Option<f64> {
        let value = text.split_once(key)?.1.trim_start_matches([' ', '"']);
        let value = value.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
        value.parse().ok()
    };
    let mut count = 0;
    for page in pages() {
        for block in read(&page).split("```").skip(1).step_by(2) {
            for probe in block.split("Probe:\n").skip(1) {
                let probe = probe.split("volumes:").next().unwrap_or_default();
                let (ours, its) = (seconds(probe, "-timeout="), seconds(probe, "timeoutSeconds:"));
                assert!(ours.is_some() && ours < its, "{}: {ours:?} and {its:?} in\n{probe}", page.display());
                count += 1;
            }
            for check in block.lines().filter(|line| line.starts_with("HEALTHCHECK ") && line.contains("-timeout=")) {
                let (ours, its) = (seconds(check, "\"-timeout="), seconds(check, "--timeout="));
                assert!(ours.is_some() && ours < its, "{}: {check}", page.display());
                count += 1;
            }
        }
    }
    assert!(count > 7, "the probes are found: {count}");
}
