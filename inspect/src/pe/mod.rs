//! What a Windows program, library or driver says about itself.
//!
//! The loader's own tolerance is the measure: headers must be right, and tables that packers and old linkers damage are
//! read as far as they go.

mod constants;
mod dotnet;
mod image;
mod imports;
pub(crate) mod linkage;
mod maker;
mod manifest;
mod overlay;
mod resources;
mod version;
pub(crate) mod windows;

use crate::PeFacts;
use crate::elf::Candidate;

pub(crate) use self::constants::Constants;
use self::image::Image;
use self::imports::Imports;
use self::resources::Resources;
use self::version::Version;

/// `IMAGE_FILE_DLL` ("Characteristics").
const LIBRARY: u16 = 0x2000;
/// "Windows Subsystem": native, and the four of EFI.
const NATIVE: u16 = 1;
const EFI: std::ops::RangeInclusive<u16> = 10..=13;

/// What only kernel code is linked with.
const KERNEL: [&str; 26] = [
    "ntoskrnl.exe",
    "ntkrnlpa.exe",
    "hal.dll",
    "ndis.sys",
    "netio.sys",
    "fwpkclnt.sys",
    "tdi.sys",
    "wdfldr.sys",
    "wpprecorder.sys",
    "wmilib.sys",
    "usbd.sys",
    "usbport.sys",
    "ucx01000.sys",
    "hidclass.sys",
    "hidparse.sys",
    "storport.sys",
    "scsiport.sys",
    "ataport.sys",
    "videoprt.sys",
    "dxgkrnl.sys",
    "win32k.sys",
    "fltmgr.sys",
    "ks.sys",
    "portcls.sys",
    "ksecdd.sys",
    "cng.sys",
];

/// What was read of a Windows program.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) facts: PeFacts,
    pub(crate) constants: Constants,
}

/// Reads the file in `bytes`, which may be the beginning of one of `size` bytes. The error is the reason why its facts are
/// missing; a plain DOS program has none.
pub(crate) fn read(path: &str, bytes: &[u8], size: u64) -> Result<Reading, String> {
    let image = Image::read(bytes, size).map_err(|e| format!("not a well-formed Windows program: {e}"))?;
    let imports = imports::read(&image);
    let constants = constants::scan(&image);
    let managed = dotnet::read(&image);
    let managed_service = managed.as_ref().is_some_and(|managed| managed.service);
    let (dotnet_runtime, dotnet_framework) = managed
        .as_ref()
        .map(|managed| (managed.runtime.clone(), managed.framework.clone()))
        .unwrap_or_default();
    let mut facts = PeFacts {
        path: path.to_owned(),
        machine: machine(image.machine),
        bits: if image.wide { 64 } else { 32 },
        subsystem: subsystem(image.subsystem),
        windows_version: windows_version(&image),
        driver: is_driver(&image, &imports),
        library: image.characteristics & LIBRARY != 0,
        service: imports.service || managed_service,
        dotnet: managed.is_some(),
        dotnet_runtime,
        dotnet_framework,
        load_candidates: candidates(&image, &imports, &constants),
        runtime_libraries: imports::runtime(&imports),
        imports: imports.libraries.into_iter().collect(),
        delay_imports: imports.delayed.into_iter().collect(),
        signed: overlay::is_signed(&image),
        packer: maker::packer(&image),
        ..PeFacts::default()
    };
    describe(&image, &mut facts);
    Ok(Reading { facts, constants })
}

/// Fills in what resources and appended data say.
fn describe(image: &Image<'_>, facts: &mut PeFacts) {
    let resources = Resources::of(image);
    let of_type = |number| resources.iter().flat_map(move |tree| tree.of_type(number));
    let version = of_type(resources::VERSION).find_map(Version::read);
    let manifests: Vec<String> = of_type(resources::MANIFEST).take(4).map(manifest::text).collect();
    facts.execution_level = manifests.iter().find_map(|text| manifest::execution_level(text));
    if let Some(version) = &version {
        facts.company = version.text("CompanyName");
        facts.product = version.text("ProductName");
        facts.description = version.text("FileDescription");
        facts.version = version.file_version();
    }
    let (appended, behind) = overlay::find(image).unzip();
    facts.installer = maker::installer(&maker::Signs {
        image,
        version: version.as_ref(),
        manifest: manifests.first().map_or("", String::as_str),
        types: &resources.as_ref().map(Resources::named_types).unwrap_or_default(),
        appended: behind.unwrap_or_default(),
    });
    facts.appended = appended;
}

/// Native programs that run before Windows does (`autochk`) are linked with `ntdll`; drivers never are.
fn is_driver(image: &Image<'_>, imports: &Imports) -> bool {
    let kernel = imports.libraries.iter().any(|name| KERNEL.contains(&name.as_str()));
    kernel || (image.subsystem == NATIVE && !imports.libraries.contains("ntdll.dll"))
}

/// Libraries among the constants that it is not linked with.
fn candidates(image: &Image<'_>, imports: &Imports, constants: &Constants) -> Vec<Candidate> {
    let own = imports::own_name(image);
    let linked = |name: &String| {
        imports.libraries.contains(name) || imports.delayed.contains(name) || own.as_ref() == Some(name)
    };
    let names = constants.libraries.iter().filter(|(name, _)| !linked(name));
    names.map(|(name, offset)| Candidate { name: name.clone(), offset: *offset }).collect()
}

/// "Machine Types".
fn machine(number: u16) -> String {
    let name = match number {
        0x8664 => "x86-64",
        0x14c => "i386",
        0xaa64 => "aarch64",
        0x1c0 | 0x1c2 | 0x1c4 => "arm",
        other => return format!("machine-{other:#06x}"),
    };
    name.to_owned()
}

/// "Windows Subsystem".
fn subsystem(number: u16) -> String {
    let name = match number {
        NATIVE => "native",
        2 => "gui",
        3 => "console",
        9 => "windows-ce",
        10 => "efi-application",
        11 => "efi-boot-driver",
        12 => "efi-runtime-driver",
        13 => "efi-rom",
        16 => "boot-application",
        other => return format!("subsystem-{other}"),
    };
    name.to_owned()
}

/// The subsystem's version is what the loader compares with its own.
fn windows_version(image: &Image<'_>) -> Option<String> {
    let (major, minor) = image.subsystem_version;
    let said = major != 0 && !EFI.contains(&image.subsystem);
    said.then(|| format!("{major}.{minor}"))
}

/// Roughly the memory these facts take.
pub(crate) fn weight(reading: &Reading) -> u64 {
    let facts = &reading.facts;
    let names = facts.imports.iter().chain(&facts.delay_imports).chain(&facts.runtime_libraries);
    let candidates = facts.load_candidates.iter().map(|candidate| &candidate.name);
    let said = [&facts.company, &facts.product, &facts.version, &facts.description];
    let said: usize = said.into_iter().flatten().map(String::len).sum();
    (1024 + said + names.chain(candidates).map(|name| name.len() + 64).sum::<usize>()) as u64
}
