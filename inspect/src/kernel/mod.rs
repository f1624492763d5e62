//! What a kernel module says about itself: its `.modinfo` section and the signature behind it.

mod signature;

use std::collections::BTreeMap;

use crate::KernelModuleFacts;
use crate::elf;

/// Bytes of `.modinfo` that are read; drivers for hundreds of devices have some tens of KiB.
const MODINFO_BYTES: usize = 4 << 20;
/// Bytes of one `key=value`; descriptions of parameters are the longest.
const VALUE_BYTES: usize = 4096;
/// Values kept of a key that may be there more than once.
const ALIASES: usize = 512;
const VALUES: usize = 256;

/// Reads the module in `bytes`, which are not compressed.
///
/// `path` is its name in the facts.
///
/// # Errors
/// The reason why there are no facts: it is no object file, or has no `.modinfo`.
pub fn read(path: &str, bytes: &[u8]) -> Result<KernelModuleFacts, String> {
    let (machine, modinfo) = elf::section_of_object(bytes, ".modinfo")?;
    let modinfo = modinfo.ok_or("it is called like a kernel module and has no `.modinfo` section")?;
    let signature = signature::read(bytes);
    let mut facts = KernelModuleFacts {
        path: path.to_owned(),
        name: name_of_file(path),
        machine,
        signed: signature.is_some(),
        signer: signature.and_then(|signature| signature.signer),
        ..KernelModuleFacts::default()
    };
    let mut parameters = Parameters::default();
    for entry in modinfo[..modinfo.len().min(MODINFO_BYTES)].split(|&byte| byte == 0) {
        let text = String::from_utf8_lossy(&entry[..entry.len().min(VALUE_BYTES)]);
        if let Some((key, value)) = text.split_once('=') {
            enter(&mut facts, &mut parameters, key, value);
        }
    }
    facts.parameters = parameters.described();
    Ok(facts)
}

/// Whether an object file is a kernel module, whatever it is called: `modpost` links the `struct module` of each into a
/// section of its own (Linux, `scripts/mod/modpost.c`).
pub(crate) fn is_module(bytes: &[u8]) -> bool {
    matches!(elf::section_of_object(bytes, ".gnu.linkonce.this_module"), Ok((_, Some(_))))
}

/// The keys are those of `include/linux/module.h`, `moduleparam.h` and of `modpost`.
fn enter(facts: &mut KernelModuleFacts, parameters: &mut Parameters, key: &str, value: &str) {
    let once = |place: &mut Option<String>| {
        place.get_or_insert_with(|| value.to_owned());
    };
    let many = |list: &mut Vec<String>, bound: usize| {
        if list.len() < bound {
            list.push(value.to_owned());
        }
    };
    match key {
        "name" if !value.is_empty() => value.clone_into(&mut facts.name),
        "vermagic" => once(&mut facts.vermagic),
        "version" => once(&mut facts.version),
        "license" => once(&mut facts.license),
        "description" => once(&mut facts.description),
        "author" => many(&mut facts.authors, VALUES),
        "alias" => many(&mut facts.aliases, ALIASES),
        "firmware" => many(&mut facts.firmware, VALUES),
        "depends" => {
            let depends = value.split(',').filter(|name| !name.is_empty());
            facts.depends = depends.take(VALUES).map(str::to_owned).collect();
        }
        "intree" => facts.in_tree = value == "Y",
        "parm" => parameters.describe(value),
        "parmtype" => parameters.name(value),
        _ => {}
    }
}

/// Parameters in the order in which they are first named; the description and the type of one stand apart.
#[derive(Debug, Default)]
struct Parameters {
    order: Vec<String>,
    descriptions: BTreeMap<String, String>,
}

impl Parameters {
    fn describe(&mut self, value: &str) {
        let (name, description) = value.split_once(':').unwrap_or((value, ""));
        if self.enter(name) && !description.is_empty() {
            self.descriptions.entry(name.to_owned()).or_insert_with(|| description.to_owned());
        }
    }

    fn name(&mut self, value: &str) {
        let (name, _) = value.split_once(':').unwrap_or((value, ""));
        self.enter(name);
    }

    /// Whether there is room for it.
    fn enter(&mut self, name: &str) -> bool {
        if self.order.iter().any(|known| known == name) {
            return true;
        }
        if name.is_empty() || self.order.len() >= VALUES {
            return false;
        }
        self.order.push(name.to_owned());
        true
    }

    fn described(self) -> Vec<String> {
        let described = |name: String| match self.descriptions.get(&name) {
            Some(description) => format!("{name}:{description}"),
            None => name,
        };
        self.order.into_iter().map(described).collect()
    }
}

/// Modules older than Linux 4.13 do not say their name: the kernel takes that of the file.
fn name_of_file(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    let name = name.split_once(".ko").map_or(name, |(name, _)| name);
    name.replace('-', "_")
}
