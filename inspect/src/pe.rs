//! What a Windows program, library or driver says about itself.

use std::collections::BTreeSet;

use goblin::pe::PE;
use goblin::pe::characteristic::is_dll;
use goblin::pe::header::{COFF_MACHINE_ARM64, COFF_MACHINE_ARMNT, COFF_MACHINE_X86, COFF_MACHINE_X86_64};
use goblin::pe::options::ParseOptions;
use goblin::pe::subsystem;

use crate::PeFacts;

/// Libraries one file may import.
const IMPORTS: usize = 1024;

/// What only kernel code is linked with.
const KERNEL: [&str; 8] = [
    "ntoskrnl.exe",
    "hal.dll",
    "ndis.sys",
    "wdfldr.sys",
    "usbd.sys",
    "usbport.sys",
    "hidclass.sys",
    "storport.sys",
];

/// Reads the file in `bytes`. The error is the reason why its facts are missing; a plain DOS program has none.
pub(crate) fn read(path: &str, bytes: &[u8]) -> Result<PeFacts, String> {
    let pe = parse(bytes)?;
    let imports: BTreeSet<String> =
        pe.libraries.iter().take(IMPORTS).map(|name| name.to_ascii_lowercase()).collect();
    let optional = pe.header.optional_header;
    let number = optional.map(|header| header.windows_fields.subsystem);
    let dotnet = optional.is_some_and(|header| header.data_directories.get_clr_runtime_header().is_some());
    let kernel = imports.iter().any(|name| KERNEL.contains(&name.as_str()));
    Ok(PeFacts {
        path: path.to_owned(),
        machine: machine(pe.header.coff_header.machine),
        bits: if pe.is_64 { 64 } else { 32 },
        subsystem: number.map_or_else(|| "none".to_owned(), subsystem_name),
        // Native programs that run before Windows does (autochk) import only ntdll; drivers never do.
        driver: kernel
            || (number == Some(subsystem::IMAGE_SUBSYSTEM_NATIVE) && !imports.contains("ntdll.dll")),
        library: is_dll(pe.header.coff_header.characteristics),
        dotnet,
        imports: imports.into_iter().collect(),
    })
}

/// Parses headers and imports; when the imports are damaged (packers do that), the headers alone.
fn parse(bytes: &[u8]) -> Result<PE<'_>, String> {
    let mut options = ParseOptions::default();
    // Signatures, resources and thread-local data are of no interest and a frequent source of errors.
    options.parse_attribute_certificates = false;
    options.parse_tls_data = false;
    options.parse_resources = false;
    PE::parse_with_opts(bytes, &options).or_else(|_| {
        options.parse_imports = false;
        options.resolve_rva = false;
        PE::parse_with_opts(bytes, &options).map_err(|e| format!("not a well-formed Windows program: {e}"))
    })
}

fn machine(number: u16) -> String {
    let name = match number {
        COFF_MACHINE_X86_64 => "x86-64",
        COFF_MACHINE_X86 => "i386",
        COFF_MACHINE_ARM64 => "aarch64",
        COFF_MACHINE_ARMNT => "arm",
        other => return format!("machine-{other:#06x}"),
    };
    name.to_owned()
}

fn subsystem_name(number: u16) -> String {
    let name = match number {
        subsystem::IMAGE_SUBSYSTEM_NATIVE => "native",
        subsystem::IMAGE_SUBSYSTEM_WINDOWS_GUI => "gui",
        subsystem::IMAGE_SUBSYSTEM_WINDOWS_CUI => "console",
        subsystem::IMAGE_SUBSYSTEM_EFI_APPLICATION => "efi-application",
        subsystem::IMAGE_SUBSYSTEM_EFI_BOOT_SERVICE_DRIVER => "efi-boot-driver",
        subsystem::IMAGE_SUBSYSTEM_EFI_RUNTIME_DRIVER => "efi-runtime-driver",
        other => return format!("subsystem-{other}"),
    };
    name.to_owned()
}
