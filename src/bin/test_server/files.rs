//! Serves the files of a folder.

use std::io;
use std::path::{Path, PathBuf};

use crate::query::Target;
use crate::reply::{After, Reply};
use crate::request::Head;

/// Responds with the file that the target names.
pub(crate) fn serve(
    root: Option<&Path>,
    head: &Head,
    target: &Target,
    reply: &mut Reply<'_>,
) -> io::Result<After> {
    if !matches!(head.method.as_str(), "GET" | "HEAD") {
        reply.common.push("Allow: GET, HEAD".into());
        return reply.text(405, "files can only be read\n");
    }
    let Some(path) = root.and_then(|root| find(root, &target.path)) else {
        return reply.text(404, "no such file\n");
    };
    match std::fs::read(&path) {
        Ok(bytes) => reply.whole(200, content_type(&path), &bytes),
        Err(problem) => reply.text(500, &format!("{problem}\n")),
    }
}

/// Returns the file below the root that a path names. Links are followed, but not out of the root.
fn find(root: &Path, path: &str) -> Option<PathBuf> {
    let relative = path.strip_prefix('/')?;
    if relative.contains('\0') || relative.split('/').any(|part| part == "..") {
        return None;
    }
    // Another leading slash would make the path absolute and drop the root.
    let mut file = root
        .join(relative.trim_start_matches('/'))
        .canonicalize()
        .ok()?;
    if file.is_dir() {
        file = file.join("index.html").canonicalize().ok()?;
    }
    (file.starts_with(root) && file.is_file()).then_some(file)
}

fn content_type(path: &Path) -> &'static str {
    match path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or("")
    {
        "html" => "text/html; charset=utf-8",
        "txt" | "md" => "text/plain; charset=utf-8",
        "css" => "text/css",
        "js" => "text/javascript",
        "json" => "application/json",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "svg" => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_below_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        let root = base.join("root");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        for file in ["secret", "root/a.txt", "root/sub/index.html"] {
            std::fs::write(base.join(file), file).unwrap();
        }
        std::os::unix::fs::symlink("../secret", root.join("link")).unwrap();
        assert_eq!(find(&root, "/a.txt"), Some(root.join("a.txt")));
        assert_eq!(find(&root, "//a.txt"), Some(root.join("a.txt")));
        assert_eq!(find(&root, "/sub"), Some(root.join("sub/index.html")));
        for path in [
            "/../secret",
            "/sub/../../secret",
            "/link",
            "/",
            "",
            "a.txt",
            "*",
            "//etc/passwd",
            "/a.txt/",
            "/a\0",
        ] {
            assert_eq!(find(&root, path), None, "{path:?}");
        }
    }
}
