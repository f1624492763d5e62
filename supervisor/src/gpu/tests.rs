//! Manifests of made-up hosts; libraries that are real ELF files are in `tests/tests/it/graphics.rs`.
use super::*;

fn library(soname: &str) -> Library {
    Library {
        host: PathBuf::from("/nowhere"),
        machine: "x86-64".to_owned(),
        soname: soname.to_owned(),
        others: BTreeSet::new(),
        needed: Vec::new(),
    }
}

fn collected(files: &[(&str, &str)], sonames: &[&str]) -> Graphics {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let mut found = Graphics {
        module: Some("550.54.14".to_owned()),
        libraries: sonames.iter().map(|soname| library(soname)).collect(),
        ..Graphics::default()
    };
    manifests::collect(&Root::at(folder.path()).unwrap(), &mut found);
    found
}

#[test]
fn a_manifest_names_the_library_and_no_path_of_the_host() {
    let icd = r#"{"file_format_version": "1.0.1", "ICD": {"library_path": "/usr/lib64/libGLX_nvidia.so.0"}}"#;
    let layers = r#"{"layers": [{"name": "a", "library_path": "libGLX_nvidia.so.0"}, {"name": "b"}]}"#;
    let files = [
        ("etc/OpenCL/vendors/nvidia.icd", "/usr/lib/libnvidia-opencl.so.1\n"),
        ("etc/vulkan/icd.d/nvidia_icd.json", icd),
        ("usr/share/vulkan/implicit_layer.d/nvidia_layers.json", layers),
    ];
    let mut found = collected(&files, &["libGLX_nvidia.so.0", "libnvidia-opencl.so.1"]);
    found.manifests.sort_by(|a, b| a.at.cmp(&b.at));
    let at: Vec<String> = found.manifests.iter().map(|manifest| manifest.at.clone()).collect();
    assert_eq!(at, files.map(|(path, _)| format!("/{path}")));
    assert_eq!(found.manifests[0].content, "libnvidia-opencl.so.1\n");
    for manifest in &found.manifests[1..] {
        let said: serde_json::Value = serde_json::from_str(&manifest.content).unwrap();
        assert!(!manifest.content.contains("/usr"), "{said}");
        assert!(manifest.content.contains("\"library_path\": \"libGLX_nvidia.so.0\""), "{said}");
    }
    assert!(found.notes.is_empty(), "{:?}", found.notes);
}

#[test]
fn manifests_of_others_stay_and_missing_ones_are_said() {
    let mesa = r#"{"ICD": {"library_path": "/usr/lib/x86_64-linux-gnu/libvulkan_radeon.so"}}"#;
    let gone = r#"{"ICD": {"library_path": "libnvidia-vksc-core.so.1"}}"#;
    let mixed = r#"{"layers": [{"library_path": "libGLX_nvidia.so.0"}, {"library_path": "/etc/shadow"}]}"#;
    let files = [
        ("usr/share/vulkan/icd.d/radeon_icd.json", mesa),
        ("usr/share/vulkan/icd.d/broken.json", "{"),
        ("usr/share/vulkan/icd.d/nvidia_icd.json.disabled", gone),
        ("usr/share/vulkan/implicit_layer.d/mixed.json", mixed),
        ("usr/share/vulkansc/icd.d/nvidia_icd_vksc.json", gone),
        ("etc/OpenCL/vendors/pocl.icd", "libpocl.so.2\n"),
    ];
    let found = collected(&files, &["libGLX_nvidia.so.0", "libcuda.so.1"]);
    assert!(found.manifests.is_empty(), "{:?}", found.manifests);
    assert_eq!(found.notes.len(), 2, "{:?}", found.notes);
    assert!(found.notes[0].contains("names `libnvidia-vksc-core.so.1`, which the driver does not have here"));
    assert!(found.notes[1].contains("no Vulkan manifest for `libGLX_nvidia`"));
}
