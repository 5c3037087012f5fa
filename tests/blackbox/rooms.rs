//! The architecture of the source (see ARCHITECTURE.md): imports between rooms point down the list below, and files of one
//! room do not import each other in a circle. The compiler checks neither.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The rooms, as ARCHITECTURE.md shows them. A room may import from those after it only.
const ROOMS: [&str; 26] = [
    "main",
    "lib",
    "properties",
    "cli",
    "config",
    "probe",
    "report",
    "diagnosis",
    "spiffe",
    "handshaker",
    "connection",
    "rpc",
    "tls",
    "alts",
    "http2",
    "net",
    "resolver",
    "trace",
    "file",
    "outcome",
    "deadline",
    "duration",
    "backoff",
    "join_all",
    "signals",
    "text",
];

/// The source files of the program, with their text.
fn sources() -> BTreeMap<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = BTreeMap::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("src can be read") {
            let path = entry.expect("src can be read").path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let name = path.strip_prefix(&root).expect("it is below src").to_owned();
                sources.insert(name, fs::read_to_string(path).expect("sources are text"));
            }
        }
    }
    sources
}

/// The room that a file belongs to: its folder, or its own name.
fn room(file: &Path) -> &str {
    let first = file.components().next().and_then(|first| first.as_os_str().to_str()).expect("paths are text");
    first.strip_suffix(".rs").unwrap_or(first)
}

/// The names that follow `prefix::` anywhere in the code: one name, or all at the first level of a braced list.
fn names_after(source: &str, prefix: &str) -> BTreeSet<String> {
    // A file's own tests import from the file.
    let source = source
        .split(
            "#[cfg(test)]
mod tests {",
        )
        .next()
        .unwrap_or_default();
    let code: String =
        source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut names = BTreeSet::new();
    for (position, _) in code.match_indices(prefix) {
        if code[..position].ends_with(|c: char| is_name(c) || c == ':') {
            continue;
        }
        let rest = &code[position + prefix.len()..];
        if !rest.starts_with('{') {
            names.insert(rest.split(|c| !is_name(c)).next().unwrap_or_default().to_owned());
            continue;
        }
        let (mut depth, mut name, mut is_first) = (0, String::new(), true);
        for character in rest.chars() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            match character {
                ',' | '{' | '}' if depth <= 1 => {
                    names.extend(Some(std::mem::take(&mut name)).filter(|name| !name.is_empty()));
                    is_first = true;
                }
                _ if depth != 1 => {}
                c if is_first && is_name(c) => name.push(c),
                c if c.is_whitespace() && name.is_empty() => {}
                _ => is_first = false,
            }
            if depth == 0 {
                break;
            }
        }
    }
    names
}

#[test]
fn list_of_rooms_is_complete() {
    let found: BTreeSet<String> = sources().keys().map(|file| room(file).to_owned()).collect();
    assert_eq!(found, ROOMS.map(str::to_owned).into());
}

#[test]
fn imports_point_down_the_list() {
    let place = |name: &str| ROOMS.iter().position(|room| *room == name);
    let mut imports = 0;
    for (file, source) in sources() {
        let from = place(room(&file)).expect("every room has its place");
        for prefix in ["crate::", "grpc_health_probe::"] {
            for name in names_after(&source, prefix) {
                let Some(to) = place(&name) else { continue };
                imports += 1;
                assert!(from <= to, "src/{} imports {prefix}{name}, which stands above it", file.display());
            }
        }
    }
    assert!(imports > 100, "the imports are found: {imports}");
}

#[test]
fn no_room_has_circular_imports() {
    let sources = sources();
    let mut imports: BTreeMap<&Path, BTreeSet<PathBuf>> = BTreeMap::new();
    for (file, source) in &sources {
        let room = room(file);
        let (folder, face) = (PathBuf::from(room), PathBuf::from(format!("{room}.rs")));
        let is_face = *file == face;
        let prefix = if is_face { "self::" } else { "super::" };
        for name in names_after(source, prefix) {
            let part = folder.join(format!("{name}.rs"));
            let to = if sources.contains_key(&part) { part } else { face.clone() };
            // A file's own tests import from the file.
            let is_own = name.is_empty() || to == *file || is_face && to == face;
            if !is_own {
                imports.entry(file.as_path()).or_default().insert(to);
            }
        }
    }
    assert!(imports.len() > 15, "the imports are found: {imports:?}");
    // A file is done when all its imports are done. What remains is part of a circle.
    let mut done: BTreeSet<&Path> = BTreeSet::new();
    loop {
        let is_ready = |file: &&Path| {
            !done.contains(*file)
                && imports.get(*file).is_none_or(|imports| imports.iter().all(|to| done.contains(to.as_path())))
        };
        let ready: Vec<&Path> = sources.keys().map(PathBuf::as_path).filter(is_ready).collect();
        if ready.is_empty() {
            break;
        }
        done.extend(ready);
    }
    let circle: Vec<String> = imports
        .iter()
        .filter(|(file, _)| !done.contains(*file))
        .map(|(file, imports)| format!("src/{} imports {imports:?}", file.display()))
        .collect();
    assert!(circle.is_empty(), "these imports are a circle:\n{}", circle.join("\n"));
}

#[test]
fn source_files_are_short() {
    for (file, source) in sources() {
        let lines = source.lines().count();
        let most = if file == Path::new("main.rs") { 79 } else { 400 };
        assert!(lines <= most, "src/{} has {lines} lines, more than {most}", file.display());
    }
}
