//! The small files by which loaders find a driver: they are read in full by the environment's loaders, so they are made
//! anew, with the library's name in the place of a path of the host.

use serde_json::Value;

use super::nvidia::stem;
use super::{Graphics, Root};

/// Folders of JSON manifests. Khronos' loaders for Vulkan and GLVND look into all of these.
const JSON_FOLDERS: [&str; 12] = [
    "/usr/share/vulkan/icd.d",
    "/etc/vulkan/icd.d",
    "/usr/share/vulkan/implicit_layer.d",
    "/etc/vulkan/implicit_layer.d",
    "/usr/share/vulkan/explicit_layer.d",
    "/etc/vulkan/explicit_layer.d",
    "/usr/share/vulkansc/icd.d",
    "/etc/vulkansc/icd.d",
    "/usr/share/glvnd/egl_vendor.d",
    "/etc/glvnd/egl_vendor.d",
    "/usr/share/egl/egl_external_platform.d",
    "/etc/egl/egl_external_platform.d",
];
/// Where OpenCL's loader looks: files that hold nothing but a library's name.
const OPENCL_FOLDER: &str = "/etc/OpenCL/vendors";
/// A manifest has a few hundred bytes.
const BYTES_MAX: u64 = 64 << 10;
/// A library, and the folder without whose manifest nobody finds it.
const EXPECTED: [(&str, &str, &str); 3] = [
    ("libGLX_nvidia", "vulkan/icd.d", "Vulkan"),
    ("libEGL_nvidia", "glvnd/egl_vendor.d", "EGL"),
    ("libnvidia-opencl", "OpenCL/vendors", "OpenCL"),
];

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Where, on the host and inside.
    pub at: String,
    /// What it says inside.
    pub content: String,
}

/// What a manifest is about.
enum Names {
    /// Libraries of the driver: this is what it says inside.
    Ours(String),
    /// A library of NVIDIA's that is not among them.
    Missing(String),
    /// Somebody else's.
    Others,
}

/// Collects those that name libraries of the driver, and says which are missing.
pub(super) fn collect(root: &Root, found: &mut Graphics) {
    let mut manifests = Vec::new();
    let mut notes = Vec::new();
    let mut take = |folder: &str, suffix: &str, read: &dyn Fn(&str) -> Names| {
        for name in root.names(folder).into_iter().filter(|name| name.ends_with(suffix)) {
            let at = format!("{folder}/{name}");
            let Some(text) = root.text(&at, BYTES_MAX) else { continue };
            match read(&text) {
                Names::Ours(content) => manifests.push(Manifest { at, content }),
                Names::Missing(library) => {
                    notes.push(format!("`{at}` names `{library}`, which the driver does not have here"));
                }
                Names::Others => {}
            }
        }
    };
    for folder in JSON_FOLDERS {
        take(folder, ".json", &|text| json(text, found));
    }
    take(OPENCL_FOLDER, ".icd", &|text| opencl(text, found));
    let has = |wanted: &str| found.libraries.iter().any(|library| stem(&library.soname) == Some(wanted));
    for (library, folder, what) in EXPECTED {
        if has(library) && !manifests.iter().any(|manifest: &Manifest| manifest.at.contains(folder)) {
            notes.push(format!(
                "the host has no {what} manifest for `{library}`: {what} programs will not find the driver"
            ));
        }
    }
    found.manifests = manifests;
    found.notes.extend(notes);
}

/// Every `library_path` in it gets the bare name.
fn json(text: &str, found: &Graphics) -> Names {
    let Ok(mut value) = serde_json::from_str::<Value>(text) else { return Names::Others };
    let mut paths = Vec::new();
    library_paths(&mut value, &mut paths);
    if paths.is_empty() {
        return Names::Others;
    }
    for path in paths {
        match known(path.as_str().unwrap_or_default(), found) {
            Names::Ours(name) => *path = Value::String(name),
            other => return other,
        }
    }
    Names::Ours(format!("{value:#}\n"))
}

fn library_paths<'v>(value: &'v mut Value, paths: &mut Vec<&'v mut Value>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == "library_path" { paths.push(value) } else { library_paths(value, paths) }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| library_paths(item, paths)),
        _ => {}
    }
}

fn opencl(text: &str, found: &Graphics) -> Names {
    match known(text.trim(), found) {
        Names::Ours(name) => Names::Ours(format!("{name}\n")),
        other => other,
    }
}

fn known(path: &str, found: &Graphics) -> Names {
    let name = path.rsplit('/').next().unwrap_or_default();
    match (found.names().contains(name), stem(name)) {
        (true, _) => Names::Ours(name.to_owned()),
        (false, Some(_)) => Names::Missing(name.to_owned()),
        (false, None) => Names::Others,
    }
}
