//! The path of a unix socket: what each part of it is, whose, and what we may do with it.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use rustix::process::{getegid, geteuid, getgroups};
use serde::Serialize;

use crate::{
    deadline::{Deadline, blocking},
    text::io_cause,
};

/// How many parts of a path are looked at. A socket's path has at most 107 bytes.
const MAX_PARTS: usize = 54;

/// One part of a path.
#[derive(Debug, Serialize)]
pub(crate) struct Part {
    pub(crate) path: String,
    /// What kind of file it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<&'static str>,
    /// Its user and group, by number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<String>,
    /// Its permissions, in octal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mode: Option<String>,
    /// Why nothing is known about it, or what we may not do with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<String>,
}

/// The path of a socket, from the root down to the first part that does not exist.
#[derive(Debug, Serialize)]
pub(crate) struct SocketPath {
    /// Who we are: user and groups, by number.
    pub(crate) we_are: String,
    pub(crate) parts: Vec<Part>,
}

/// Looks at each part of the path. `None`: the file system does not answer in time.
pub(crate) async fn look(path: &Path, deadline: Deadline) -> Option<SocketPath> {
    let path = path.to_owned();
    let looking = blocking(move || parts_of(&path)).ok()?;
    deadline.bound(looking).await.ok()?.ok()
}

fn parts_of(path: &Path) -> SocketPath {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut ancestors: Vec<PathBuf> = absolute.ancestors().take(MAX_PARTS).map(Path::to_owned).collect();
    ancestors.reverse();
    let we = Ourselves::now();
    let mut parts = Vec::new();
    for ancestor in &ancestors {
        let part = part(ancestor, &we, *ancestor == absolute);
        let is_known = part.kind.is_some();
        parts.push(part);
        if !is_known {
            break;
        }
    }
    SocketPath { we_are: we.describe(), parts }
}

fn part(path: &Path, we: &Ourselves, is_last: bool) -> Part {
    let name = path.display().to_string();
    match fs::metadata(path) {
        Err(error) => {
            let dangling = fs::symlink_metadata(path).is_ok_and(|link| link.is_symlink());
            let cause = if dangling { "a symbolic link to nothing".to_owned() } else { io_cause(&error) };
            Part { path: name, kind: None, owner: None, mode: None, problem: Some(cause) }
        }
        Ok(metadata) => {
            let file_type = metadata.file_type();
            let kind = if file_type.is_socket() {
                "socket"
            } else if file_type.is_dir() {
                "directory"
            } else if file_type.is_file() {
                "regular file"
            } else if file_type.is_fifo() {
                "named pipe"
            } else {
                "device"
            };
            let needed = if is_last { WRITE } else { ENTER };
            let problem = match (is_last, kind) {
                (false, "directory") | (true, "socket") if we.may(needed, &metadata) => None,
                (false, "directory") => Some("we may not enter it".to_owned()),
                (true, "socket") => Some("we may not write to it".to_owned()),
                (false, _) => Some("it is not a directory".to_owned()),
                (true, _) => Some("it is not a socket".to_owned()),
            };
            let owner = Some(format!("{}:{}", metadata.uid(), metadata.gid()));
            Part {
                path: name,
                kind: Some(kind),
                owner,
                mode: Some(format!("{:04o}", metadata.mode() & 0o7777)),
                problem,
            }
        }
    }
}

/// The bits of a mode that let others enter a directory, and write to a file.
const ENTER: u32 = 1;
const WRITE: u32 = 2;

/// The user and the groups of this process.
struct Ourselves {
    user: u32,
    groups: Vec<u32>,
}

impl Ourselves {
    fn now() -> Self {
        let mut groups = vec![getegid().as_raw()];
        groups.extend(getgroups().unwrap_or_default().iter().map(|group| group.as_raw()));
        groups.dedup();
        Self { user: geteuid().as_raw(), groups }
    }

    /// Whether the mode of a file allows us this. Access lists and security policies may say otherwise.
    fn may(&self, bit: u32, file: &fs::Metadata) -> bool {
        let mode = file.mode();
        if self.user == 0 {
            true
        } else if self.user == file.uid() {
            mode >> 6 & bit != 0
        } else if self.groups.contains(&file.gid()) {
            mode >> 3 & bit != 0
        } else {
            mode & bit != 0
        }
    }

    fn describe(&self) -> String {
        let groups: Vec<String> = self.groups.iter().map(ToString::to_string).collect();
        let s = if groups.len() == 1 { "" } else { "s" };
        format!("user {}, group{s} {}", self.user, groups.join(", "))
    }
}
