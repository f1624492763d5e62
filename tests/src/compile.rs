//! Programs and libraries from gcc, with symbol versions as a test wants them. Each is compiled once a process.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, OnceLock};

/// A library that exports one function for each symbol version.
#[must_use]
pub fn library(soname: &str, versions: &[&str]) -> Vec<u8> {
    let mut script = String::new();
    let mut source = String::new();
    let mut before = String::new();
    for version in versions {
        source.push_str(&format!("void {}(void) {{}}\n", function(version)));
        script.push_str(&format!("{version} {{ global: {}; }}{before};\n", function(version)));
        before = format!(" {version}");
    }
    if versions.is_empty() {
        source.push_str("void plain(void) {}\n");
        script.push_str("{ global: *; };\n");
    }
    let soname = format!("-Wl,-soname,{soname}");
    let arguments = ["-shared", "-fPIC", "-nostdlib", &soname, "-Wl,--version-script=script"];
    gcc(&source, &arguments, &[("script", script.into_bytes())])
}

/// A program that needs libraries with symbol versions, and cannot be started.
#[must_use]
pub fn program_needing(needs: &[(&str, &[&str])]) -> Vec<u8> {
    let mut source = String::new();
    let mut body = String::new();
    let mut files = Vec::new();
    let mut arguments = vec!["-nostdlib".to_owned(), "-Wl,--no-as-needed".to_owned()];
    for (soname, versions) in needs {
        files.push((*soname, library(soname, versions)));
        arguments.push((*soname).to_owned());
        for version in *versions {
            source.push_str(&format!("void {}(void);\n", function(version)));
            body.push_str(&format!("{}(); ", function(version)));
        }
    }
    source.push_str(&format!("void _start(void) {{ {body} }}\n"));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    gcc(&source, &arguments, &files)
}

/// A program that ends at once, if its loader is there. It needs no library.
#[must_use]
pub fn program_by_loader(loader: &str) -> Vec<u8> {
    let source = "void _start(void) { __asm__ volatile(\"mov $60, %eax; xor %edi, %edi; syscall\"); }\n";
    gcc(source, &["-nostdlib", "-pie", &format!("-Wl,--dynamic-linker={loader}")], &[])
}

/// A program for i386 that needs a library and cannot be started.
#[must_use]
pub fn program_for_i386() -> Vec<u8> {
    let flags = ["-m32", "-nostdlib"];
    let library =
        gcc("void plain(void) {}", &[&flags[..], &["-shared", "-Wl,-soname,libold.so.1"]].concat(), &[]);
    let source = "void plain(void);\nvoid _start(void) { plain(); }\n";
    gcc(source, &[&flags[..], &["-Wl,--no-as-needed", "libold.so.1"]].concat(), &[("libold.so.1", library)])
}

/// A library for i386 that exports `plain`.
#[must_use]
pub fn library_for_i386(soname: &str) -> Vec<u8> {
    let soname = format!("-Wl,-soname,{soname}");
    gcc("void plain(void) {}", &["-m32", "-nostdlib", "-shared", "-fPIC", &soname], &[])
}

/// An ordinary program, linked with the host's libc.
#[must_use]
pub fn program(source: &str) -> Vec<u8> {
    gcc(source, &["-O1"], &[])
}

/// An ordinary program that also needs a library, which exports `plain`.
#[must_use]
pub fn program_with(source: &str, soname: &str) -> Vec<u8> {
    gcc(source, &["-O1", "-Wl,--no-as-needed", soname], &[(soname, library(soname, &[]))])
}

/// A module for programs that load such, linked with the host's libc.
#[must_use]
pub fn module(source: &str) -> Vec<u8> {
    gcc(source, &["-O1", "-shared", "-fPIC"], &[])
}

fn function(version: &str) -> String {
    format!("at_{}", version.replace(['.', '-'], "_"))
}

/// A program that is linked with musl: into itself, or at its start by musl's own loader.
#[must_use]
pub fn with_musl(source: &str, static_linked: bool) -> Vec<u8> {
    compiled("musl-gcc", source, if static_linked { &["-O1", "-static"] } else { &["-O1"] }, &[])
}

/// musl's loader, which is its C library too.
#[must_use]
pub fn musl() -> Vec<u8> {
    let path = "/lib/ld-musl-x86_64.so.1";
    std::fs::read(path).unwrap_or_else(|_| panic!("`{path}` is missing: install the package `musl`"))
}

/// Compiles `source` in a folder that holds `files`.
fn gcc(source: &str, arguments: &[&str], files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    compiled("gcc", source, arguments, files)
}

fn compiled(compiler: &str, source: &str, arguments: &[&str], files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    static DONE: OnceLock<Mutex<HashMap<String, Vec<u8>>>> = OnceLock::new();
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    let key = format!("{compiler}{source}{arguments:?}{names:?}");
    let done = DONE.get_or_init(Mutex::default);
    if let Some(bytes) = done.lock().unwrap().get(&key) {
        return bytes.clone();
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("source.c"), source).unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let output = Command::new(compiler)
        .args(["-fno-stack-protector", "-fcf-protection=none", "-s", "-o", "out", "source.c"])
        .args(arguments)
        .current_dir(folder.path())
        .output()
        .unwrap_or_else(|_| panic!("{compiler} is missing: install the package `gcc` or `musl-tools`"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let bytes = std::fs::read(folder.path().join("out")).unwrap();
    done.lock().unwrap().insert(key, bytes.clone());
    bytes
}

/// The host's bash and the libraries it is loaded with, by their names.
#[must_use]
pub fn hosts_bash() -> (Vec<u8>, Vec<(String, Vec<u8>)>) {
    let output = Command::new("ldd").arg("/bin/bash").output().expect("ldd is missing: install `libc-bin`");
    assert!(output.status.success(), "bash is missing: install the package `bash`");
    let mut libraries = Vec::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let Some(path) = line.split_whitespace().find(|word| word.starts_with('/')) else { continue };
        let name = Path::new(path).file_name().unwrap().to_str().unwrap().to_owned();
        libraries.push((name, std::fs::read(path).unwrap()));
    }
    (std::fs::read("/bin/bash").unwrap(), libraries)
}
