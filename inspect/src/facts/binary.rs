//! What is in binaries other than ELF programs, and what was recognised in all of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::elf::Candidate;

/// A Windows program, library or driver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PeFacts {
    /// Where it is.
    pub path: String,
    /// `x86-64`, `i386`, `aarch64`, or the number.
    pub machine: String,
    /// 32 or 64.
    pub bits: u8,
    /// `native`, `gui`, `console`, `efi-application`, …, or the number.
    pub subsystem: String,
    /// The lowest version of Windows that loads it, as its header says: `6.0`.
    pub windows_version: Option<String>,
    /// Whether it is a kernel driver: the native subsystem, or it imports the kernel or the hardware abstraction layer.
    pub driver: bool,
    /// Whether it is a library.
    pub library: bool,
    /// Whether it can run as a Windows service: it imports `StartServiceCtrlDispatcher`, or its managed code names
    /// `ServiceBase`.
    pub service: bool,
    /// Whether it holds managed (.NET) code.
    pub dotnet: bool,
    /// The runtime its metadata asks for: `v4.0.30319`.
    pub dotnet_runtime: Option<String>,
    /// The framework it was made for, if it says so: `.NETFramework,Version=v4.7.2`.
    pub dotnet_framework: Option<String>,
    /// The libraries it is linked with, in lower case, sorted.
    pub imports: Vec<String>,
    /// The libraries it loads when it first calls them, in lower case, sorted.
    pub delay_imports: Vec<String>,
    /// Further libraries named among its constants, in lower case, sorted, at most 256; it may load some by name.
    pub load_candidates: Vec<Candidate>,
    /// Microsoft's C and C++ runtime libraries among both, sorted: `vcruntime140.dll`.
    pub runtime_libraries: Vec<String>,
    /// `asInvoker`, `highestAvailable` or `requireAdministrator` of its manifest.
    pub execution_level: Option<String>,
    /// `CompanyName` of its version resource.
    pub company: Option<String>,
    /// `ProductName` of its version resource.
    pub product: Option<String>,
    /// `FileVersion` of its version resource, or the numbers of its fixed part.
    pub version: Option<String>,
    /// `FileDescription` of its version resource.
    pub description: Option<String>,
    /// Whether it carries an Authenticode signature (which is not checked).
    pub signed: bool,
    /// What made this installer: `NSIS`, `Inno Setup 6.2.0`, `WiX Burn`, `InstallShield`, `7-Zip SFX`, …
    pub installer: Option<String>,
    /// What packed it: `UPX`, …
    pub packer: Option<String>,
    /// Data behind its last section, the signature left out.
    pub appended: Option<Appended>,
}

/// Data behind the end of a program, which the loader does not look at: the payload of an installer, a file system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Appended {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its bytes.
    pub size: u64,
    /// What it is, by its first bytes: `squashfs`, `zip`, `nsis`, …, or `data`.
    pub what: String,
}

/// A Linux kernel module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KernelModuleFacts {
    /// Where it is.
    pub path: String,
    /// Its name, as `lsmod` shows it.
    pub name: String,
    /// As in [`ElfFacts`](crate::ElfFacts); empty if it could not be unpacked.
    pub machine: String,
    /// The kernel it was built for, with its options: `6.1.0-18-amd64 SMP preempt mod_unload modversions`.
    pub vermagic: Option<String>,
    /// `version`.
    pub version: Option<String>,
    /// `license`.
    pub license: Option<String>,
    /// `description`.
    pub description: Option<String>,
    /// `author`, in order.
    pub authors: Vec<String>,
    /// Other modules it needs.
    pub depends: Vec<String>,
    /// Devices it is for, at most 512: `usb:v1AB1p0588d*`.
    pub aliases: Vec<String>,
    /// Firmware files it loads.
    pub firmware: Vec<String>,
    /// Its parameters, each `name` or `name:description`.
    pub parameters: Vec<String>,
    /// Part of the kernel's own source.
    pub in_tree: bool,
    /// Who signed it, as far as the signature names somebody; the signature is not checked.
    pub signer: Option<String>,
    /// Whether it carries a signature.
    pub signed: bool,
}

/// A piece of technology that was recognised, and by what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Technology {
    /// What it is for.
    pub kind: TechnologyKind,
    /// Its name: `FlexLM`, `Qt 5`, `CUDA`, `serial port`, `UPX`, …
    pub name: String,
    /// By what it was recognised, sorted, at most eight.
    pub evidence: Vec<Evidence>,
}

/// What a [`Technology`] is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TechnologyKind {
    /// A licence manager or a dongle.
    Licence,
    /// A property of the machine by which a licence is bound: network address, host id, disk serial number.
    HostIdentity,
    /// A GUI toolkit or display system.
    Gui,
    /// A way to compute or draw on a GPU.
    Gpu,
    /// A class of devices.
    Device,
    /// Sound.
    Audio,
    /// A language runtime that it brings or wants: Java, Python, .NET, Node.
    Runtime,
    /// What made the installer.
    Installer,
    /// What packed or protects a program.
    Packer,
}

/// One sign of a technology.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// The file.
    pub file: String,
    /// What stands in it, or is true of it: `is linked with libusb-1.0.so.0`, `names LM_LICENSE_FILE`.
    pub what: String,
    /// Where in the file, for a constant.
    pub offset: Option<u64>,
}

/// An absolute path among the constants of a program; of a Windows program, a device path: `\\\\.\\COM3`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HardCodedPath {
    /// The path as it stands there; may hold a format such as `%d`.
    pub path: String,
    /// The file it was found in.
    pub file: String,
    /// Where in that file.
    pub offset: u64,
}

/// A URL, a host or address with a port, a licence server (`27000@licserver`) or the VISA resource string of an
/// instrument, among the constants of a program.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// As it stands there: `https://licence.example.com/v1`, `localhost:5025`, `192.168.0.10:7000`.
    pub text: String,
    /// The file it was found in.
    pub file: String,
    /// Where in that file.
    pub offset: u64,
}
