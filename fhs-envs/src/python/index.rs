//! Indices of Python packages: which files a project has ("Simple repository API": PEP 503 as HTML, PEP 691 as JSON).
//!
//! No index is built in. It is named by the environment, by Hatchway's configuration or by the host's pip, as mirrors of
//! Debian are by apt.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use url::Url;

use super::{html, normal_name};
use crate::digest::Sha256;
use crate::error::Error;
use crate::fetch::Client;

/// The environment variable that names an index.
pub const INDEX_VARIABLE: &str = "HATCHWAY_PYPI_MIRROR";

/// One file of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// Its digest, where the index says it.
    pub sha256: Option<Sha256>,
    /// Bytes, where the index says them.
    pub size: Option<u64>,
    /// Which Pythons it is for: `>=3.9`.
    pub requires_python: Option<String>,
    /// Withdrawn.
    pub yanked: bool,
    /// The digest of its metadata, which then lies beside it.
    pub metadata_sha256: Option<Sha256>,
}

/// Indices, best first.
#[derive(Debug, Clone)]
pub struct Index {
    /// Their roots, without a slash at the end.
    pub urls: Vec<String>,
    /// How they are asked.
    pub client: Client,
}

impl Index {
    /// The files of a project, in the order of the index: of the first index that has the project, so that nobody puts a
    /// file of another into a project by its name.
    ///
    /// # Errors
    /// When no index is known, none can be asked, or its answer makes no sense.
    pub fn project(&self, name: &str) -> Result<Vec<File>, Error> {
        if self.urls.is_empty() {
            return Err(Error::NoPythonIndex);
        }
        let what = format!("the list of files of `{name}`");
        for root in &self.urls {
            let page = format!("{root}/{}/", normal_name(name));
            match self.client.get(std::slice::from_ref(&page), &what) {
                Ok(bytes) => return files(&page, &String::from_utf8_lossy(&bytes), name),
                Err(Error::DownloadStatus { status: 404, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Vec::new())
    }

    /// The metadata of a wheel, where the index keeps it beside the wheel (PEP 658).
    pub(super) fn metadata(&self, file: &File) -> Result<Option<String>, Error> {
        let Some(expected) = file.metadata_sha256 else { return Ok(None) };
        let what = format!("the metadata of `{}`", file.name);
        match self.client.get(&[format!("{}.metadata", file.url)], &what) {
            Ok(bytes) => {
                let found = Sha256::of(&bytes);
                if found != expected {
                    return Err(Error::WrongHash { what, expected, found });
                }
                Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
            }
            // The wheel itself has it too.
            Err(Error::DownloadStatus { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn files(page: &str, text: &str, name: &str) -> Result<Vec<File>, Error> {
    let bad = |reason: String| Error::BadIndex { index: format!("Python's `{name}`"), reason };
    let base = Url::parse(page).map_err(|e| bad(format!("its address cannot be read: {e}")))?;
    if text.trim_start().starts_with('{') {
        let page: Page = serde_json::from_str(text).map_err(|e| bad(format!("its JSON: {e}")))?;
        return Ok(page.files.into_iter().filter_map(|file| file.file(&base)).collect());
    }
    Ok(html::links(text).iter().filter_map(|attributes| file_of_link(attributes, &base)).collect())
}

fn file_of_link(attributes: &html::Attributes, base: &Url) -> Option<File> {
    let get = |name: &str| attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let mut url = base.join(get("href")?).ok()?;
    let sha256 = url.fragment().and_then(digest);
    url.set_fragment(None);
    let metadata = get("data-core-metadata").or_else(|| get("data-dist-info-metadata"));
    Some(File {
        name: file_name(&url)?,
        sha256,
        size: None,
        requires_python: get("data-requires-python").map(str::to_owned),
        yanked: get("data-yanked").is_some(),
        metadata_sha256: metadata.and_then(digest),
        url: url.into(),
    })
}

/// `sha256=…`
fn digest(text: &str) -> Option<Sha256> {
    text.strip_prefix("sha256=")?.parse().ok()
}

/// The last part of the path. What is written in percent there is no name of a wheel.
fn file_name(url: &Url) -> Option<String> {
    let fetchable = matches!(url.scheme(), "http" | "https");
    let name = url.path_segments()?.next_back()?.replace("%2B", "+").replace("%2b", "+").replace("%21", "!");
    (fetchable && !name.is_empty() && !name.contains('%')).then_some(name)
}

/// PEP 691.
#[derive(Debug, Deserialize)]
struct Page {
    files: Vec<JsonFile>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct JsonFile {
    url: String,
    #[serde(default)]
    hashes: BTreeMap<String, String>,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    requires_python: Option<String>,
    /// `false`, `true`, or the reason.
    #[serde(default)]
    yanked: serde_json::Value,
    #[serde(default, alias = "dist-info-metadata")]
    core_metadata: serde_json::Value,
}

impl JsonFile {
    fn file(self, base: &Url) -> Option<File> {
        let url = base.join(&self.url).ok()?;
        Some(File {
            name: file_name(&url)?,
            url: url.into(),
            sha256: self.hashes.get("sha256").and_then(|hex| hex.parse().ok()),
            size: self.size,
            requires_python: self.requires_python,
            yanked: !matches!(self.yanked, serde_json::Value::Null | serde_json::Value::Bool(false)),
            metadata_sha256: self.core_metadata["sha256"].as_str().and_then(|hex| hex.parse().ok()),
        })
    }
}

/// The indices that the host's pip uses: its environment, its configuration files, or else the one it has built in, for
/// which it is asked.
#[must_use]
pub fn from_pip() -> Vec<String> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let mut main = variable("PIP_INDEX_URL");
    let mut extra = variable("PIP_EXTRA_INDEX_URL");
    let own = std::env::var_os("PIP_CONFIG_FILE").map(PathBuf::from);
    for file in configuration_files(own) {
        let Ok(text) = std::fs::read_to_string(file) else { continue };
        let (configured_main, configured_extra) = read_configuration(&text);
        main = if main.is_empty() { configured_main } else { main };
        extra = if extra.is_empty() { configured_extra } else { extra };
    }
    if main.is_empty() {
        main = built_into_pip().unwrap_or_default();
    }
    let all = main.split_whitespace().take(1).chain(extra.split_whitespace());
    all.filter(|url| url.starts_with("http://") || url.starts_with("https://"))
        .map(|url| url.trim_end_matches('/').to_owned())
        .collect()
}

/// The most particular first.
fn configuration_files(own: Option<PathBuf>) -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let user = std::env::var_os("XDG_CONFIG_HOME").map_or_else(|| home.join(".config"), PathBuf::from);
    let mut files: Vec<PathBuf> = own.into_iter().collect();
    files.extend([user.join("pip/pip.conf"), home.join(".pip/pip.conf")]);
    files.extend(["/etc/pip.conf", "/etc/xdg/pip/pip.conf"].map(PathBuf::from));
    files
}

/// `index-url` and `extra-index-url` of `[global]`, `[install]` and `[download]`.
fn read_configuration(text: &str) -> (String, String) {
    let (mut main, mut extra) = (String::new(), String::new());
    let mut section = String::new();
    let mut last = String::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with(['#', ';'])) {
        if let Some(name) = line.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim().to_owned();
            continue;
        }
        // A value goes on in lines that begin with blanks.
        let value = if line.starts_with([' ', '\t']) {
            line.trim()
        } else {
            let Some((key, value)) = line.split_once('=') else { continue };
            last = key.trim().replace('_', "-");
            value.trim()
        };
        if !matches!(section.as_str(), "global" | "install" | "download") {
            continue;
        }
        let target = match last.as_str() {
            "index-url" => &mut main,
            "extra-index-url" => &mut extra,
            _ => continue,
        };
        target.push(' ');
        target.push_str(value);
    }
    (main.trim().to_owned(), extra.trim().to_owned())
}

/// pip knows its index by itself where nobody has configured one. Its module of constants is asked, without the user's
/// site and without the working folder (`-I`).
fn built_into_pip() -> Option<String> {
    let python = ["/usr/bin/python3", "python3"].into_iter().find_map(|python| {
        let script = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)";
        let output = Command::new(python)
            .args(["-I", "-B", "-c", script])
            .current_dir(Path::new("/"))
            .stdin(Stdio::null())
            .output()
            .ok()?;
        output.status.success().then_some(output.stdout)
    })?;
    Some(String::from_utf8(python).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_page_say_the_same() {
        let digest = Sha256::of(b"x");
        let html = format!(
            "<a href=\"../../files/x-1%2Blocal-py3-none-any.whl#sha256={digest}\" data-requires-python=\"&gt;=3.9\" \
             data-yanked=\"broken\" data-core-metadata=\"sha256={digest}\">x</a><a href=\"ftp://h/x.whl\">no</a>"
        );
        let json = format!(
            "{{\"meta\":{{}},\"files\":[{{\"filename\":\"?\",\"url\":\"/files/x-1%2Blocal-py3-none-any.whl\",\
             \"hashes\":{{\"sha256\":\"{digest}\"}},\"requires-python\":\">=3.9\",\"yanked\":\"broken\",\
             \"core-metadata\":{{\"sha256\":\"{digest}\"}}}}]}}"
        );
        let page = "http://index.example/simple/x/";
        let of_html = files(page, &html, "x").unwrap();
        assert_eq!(of_html, files(page, &json, "x").unwrap());
        assert_eq!(of_html.len(), 1);
        assert_eq!(of_html[0].name, "x-1+local-py3-none-any.whl");
        assert_eq!(of_html[0].url, "http://index.example/files/x-1%2Blocal-py3-none-any.whl");
        assert!(files(page, "{ not json", "x").is_err());
    }

    #[test]
    fn pips_configuration() {
        let text = "[global]\n# index-url = no\nindex-url = https://one.example/simple/\nextra_index_url =\n  https://two.example\n  https://three.example\n[list]\nindex-url = https://no.example\n";
        let (main, extra) = read_configuration(text);
        assert_eq!(main, "https://one.example/simple/");
        assert_eq!(extra, "https://two.example https://three.example");
    }
}
