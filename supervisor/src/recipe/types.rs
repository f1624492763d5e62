//! The recipe's format. Documentation here becomes the JSON Schema's.

use std::collections::BTreeMap;
use std::fmt;

use hatchway_envs::digest::Sha256;
use schemars::JsonSchema;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::dbus::Dbus;
use super::limits::Limits;
use super::network::Network;
use super::service::{Channel, Service};
use super::vm::Vm;

/// How a vendor's software is installed and run, on any machine.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Recipe {
    /// Version of the format: 1.
    #[schemars(with = "u32")]
    pub schema: Spanned<u32>,
    /// What it is.
    pub package: Package,
    /// The vendor's files; `Depends` among them are satisfied first.
    #[serde(rename = "artifact", default)]
    pub artifacts: Vec<Artifact>,
    /// Further package sources.
    #[serde(rename = "source", default)]
    pub sources: Vec<Source>,
    /// What is around the tool.
    #[serde(default)]
    pub environment: Environment,
    /// How it is run.
    #[serde(default)]
    pub run: Run,
    /// Licences and site files: slots, bound per machine, mounted at launch, never in a digest.
    #[serde(rename = "file", default)]
    pub files: Vec<FileSlot>,
    /// Device slots.
    #[serde(rename = "device", default)]
    pub devices: Vec<DeviceSlot>,
    /// The licence identity that the tool wants to see.
    #[serde(default)]
    pub identity: Option<Identity>,
    /// Streams of I/O.
    #[serde(rename = "channel", default)]
    pub channels: Vec<Channel>,
    /// Only for what stays up.
    #[serde(default)]
    pub service: Option<Service>,
}

/// What the recipe is about.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Package {
    /// Unique name, kebab-case.
    pub name: Name,
    /// The vendor's version.
    #[serde(default)]
    pub version: String,
    /// Who makes it.
    #[serde(default)]
    pub vendor: String,
    /// `proprietary`, or an SPDX expression.
    #[serde(default)]
    pub license: String,
}

/// A name: lower-case letters, digits and dashes, starting with a letter or digit, at most 64.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Name(String);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Makes a name out of any text.
    #[must_use]
    pub fn from_any(text: &str) -> Self {
        let mut name = String::new();
        for c in text.chars().take(64) {
            if c.is_ascii_alphanumeric() {
                name.push(c.to_ascii_lowercase());
            } else if !name.is_empty() && !name.ends_with('-') {
                name.push('-');
            }
        }
        let name = name.trim_end_matches('-');
        Self(if name.is_empty() { "tool".to_owned() } else { name.to_owned() })
    }
}

impl TryFrom<String> for Name {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let starts = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        if !starts || text.len() > 64 || !text.chars().all(inside) {
            return Err(format!(
                "`{text}` is not a name: lower-case letters, digits and dashes, at most 64, as `{}`",
                Self::from_any(&text)
            ));
        }
        Ok(Self(text))
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An absolute path inside the sandbox, without `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Inside(String);

impl Inside {
    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Inside {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let clean =
            text.starts_with('/') && !text.contains('\0') && !text.split('/').any(|part| part == "..");
        if clean { Ok(Self(text)) } else { Err(format!("`{text}` is not an absolute path without `..`")) }
    }
}

impl From<Inside> for String {
    fn from(path: Inside) -> Self {
        path.0
    }
}

/// A file a vendor ships.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Artifact {
    /// Its name; the file is in the store, or beside the recipe.
    #[serde(default)]
    pub file: Option<String>,
    /// Where it can be downloaded.
    #[serde(default)]
    pub url: Option<String>,
    /// A package of Debian's archive: `debian:<suite>/<component>/<package>`, with `:i386` behind it for the 32-bit one.
    #[serde(default)]
    pub archive: Option<String>,
    /// Its digest; 64 zeros stand for a file that whoever uses the recipe supplies (`hatchway recipe adopt`).
    #[schemars(with = "String")]
    pub sha256: SpannedDigest,
    /// Where an archive without a layout of its own is unpacked.
    #[serde(default)]
    pub unpack: Option<Inside>,
    /// How many leading folders are cut off.
    #[serde(default)]
    pub strip: u32,
    /// An installer that is run once, offline, in a build sandbox.
    #[serde(default)]
    pub install: Option<Install>,
}

/// A digest that remembers where it was written.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct SpannedDigest(Spanned<Sha256>);

impl SpannedDigest {
    /// The digest.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        *self.0.get_ref()
    }

    /// The digest as text.
    #[must_use]
    pub fn hex(&self) -> String {
        self.digest().hex()
    }

    pub(super) fn span(&self) -> std::ops::Range<usize> {
        self.0.span()
    }
}

/// An installer.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Install {
    /// The command line.
    pub run: Vec<String>,
    /// That the person who wrote the recipe accepts the vendor's licence.
    #[serde(default, alias = "accept-license")]
    pub accept_licence: bool,
}

/// A package source, such as a vendor's apt repository.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Source {
    /// Id, as the lock names it.
    #[schemars(with = "String")]
    pub name: Spanned<Name>,
    /// Its URLs, mirrors of one another.
    pub urls: Vec<String>,
    /// Suite; with a slash at its end a folder that holds the index itself.
    pub suite: String,
    /// Components.
    #[serde(default)]
    pub components: Vec<String>,
    /// The key ring's file, beside the recipe.
    pub key: String,
    /// Whether an expired index is refused.
    #[serde(default = "yes")]
    pub check_valid_until: bool,
}

fn yes() -> bool {
    true
}

/// What is around the tool.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Environment {
    /// `debian:<suite>`, `oci:<path>` or `none`; a suite chosen by evidence where it is missing.
    #[schemars(with = "Option<Base>")]
    pub base: Option<Spanned<Base>>,
    /// `amd64`, and `i386` beside it.
    pub architectures: Vec<Architecture>,
    /// Components of Debian's archive: `main`, and what is asked for beside it (`contrib`, `non-free` …).
    pub components: Vec<String>,
    /// Packages beyond what inspection resolved.
    pub packages: Vec<PackageWish>,
    /// Packages left out wherever they are asked for, and libraries by soname (`libmysqlclient.so.18`) that only a part of
    /// the software wants that nobody uses.
    pub exclude: Vec<String>,
    /// Exact versions.
    pub pin: BTreeMap<String, String>,
    /// A Python with packages, locked by hash.
    pub python: Option<Python>,
    /// Links: path → target.
    pub links: BTreeMap<String, String>,
    /// Patches: path → unified diff beside the recipe, which must fit exactly.
    #[schemars(with = "BTreeMap<Inside, String>")]
    pub patch: BTreeMap<Inside, Spanned<String>>,
    /// Locales beside `C.UTF-8`.
    pub locales: Vec<String>,
    /// How maintainer scripts are treated.
    pub configure: Configure,
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            base: None,
            architectures: vec![Architecture::Amd64],
            components: vec!["main".to_owned()],
            packages: Vec::new(),
            exclude: Vec::new(),
            pin: BTreeMap::new(),
            python: None,
            links: BTreeMap::new(),
            patch: BTreeMap::new(),
            locales: Vec::new(),
            configure: Configure::Builtin,
        }
    }
}

/// What processors an environment has libraries for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// The 32-bit programs of the same processors.
    I386,
}

impl Architecture {
    /// Debian's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::I386 => "i386",
        }
    }

    /// The one of a machine as inspection names it.
    #[must_use]
    pub fn of_machine(machine: &str) -> Option<Self> {
        match machine {
            "x86-64" => Some(Self::Amd64),
            "i386" => Some(Self::I386),
            _ => None,
        }
    }
}

/// A package relation: `libusb-1.0-0`, `zlib1g (>= 1:1.2)`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct PackageWish(String);

impl PackageWish {
    /// The alternatives it names.
    #[must_use]
    pub fn alternatives(&self) -> Vec<hatchway_envs::debian::relation::Relation> {
        // It was checked when it was read.
        let groups = hatchway_envs::debian::relation::parse(&self.0, "amd64").unwrap_or_default();
        groups.into_iter().next().unwrap_or_default()
    }
}

impl TryFrom<String> for PackageWish {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match hatchway_envs::debian::relation::parse(&text, "amd64") {
            Ok(groups) if groups.len() == 1 => Ok(Self(text)),
            Ok(_) => Err(format!("`{text}` does not name one package")),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl From<PackageWish> for String {
    fn from(wish: PackageWish) -> Self {
        wish.0
    }
}

/// What an environment starts from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum Base {
    /// A suite of Debian.
    Debian(String),
    /// An OCI layout or archive beside the recipe, with `:NAME` behind it for one of several images.
    Oci(String),
    /// Nothing but the artifacts.
    None,
}

impl TryFrom<String> for Base {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("debian", suite)) if !suite.is_empty() && !suite.contains('/') => {
                Ok(Self::Debian(suite.to_owned()))
            }
            Some(("oci", path)) if !path.is_empty() => Ok(Self::Oci(path.to_owned())),
            None if text == "none" => Ok(Self::None),
            _ => Err(format!("`{text}` is not a base: `debian:<suite>`, `oci:<path>` or `none`")),
        }
    }
}

impl From<Base> for String {
    fn from(base: Base) -> Self {
        match base {
            Base::Debian(suite) => format!("debian:{suite}"),
            Base::Oci(path) => format!("oci:{path}"),
            Base::None => "none".into(),
        }
    }
}

/// A Python with packages.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Python {
    /// `3.11`
    pub version: String,
    /// `numpy==2.1.0` …
    #[serde(default)]
    pub requirements: Vec<String>,
}

/// How maintainer scripts are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Configure {
    /// Read, never run; what they would do is done by the builder.
    #[default]
    Builtin,
    /// Those of the signed archive are run offline in a build sandbox, twice, and the digests compared.
    Scripts,
}

/// How the tool is run.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Run {
    /// How it is isolated.
    pub rung: Rung,
    /// What executes the program.
    pub runner: Runner,
    /// The program's path inside; `--program` overrides it.
    pub program: Option<Inside>,
    /// Arguments of that program, before those of the command line.
    pub args: Vec<String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Folders that survive; everything else written is thrown away.
    #[schemars(with = "Vec<String>")]
    pub state: Vec<Spanned<Inside>>,
    /// What network it sees.
    pub network: Network,
    /// What display it sees.
    pub display: Display,
    /// Sound: a server of its own (`true`), or the person's (`"shared"`).
    pub audio: Audio,
    /// The host's GPU.
    pub gpu: bool,
    /// Names on D-Bus; no bus at all where this is missing.
    pub dbus: Option<Dbus>,
    /// Capabilities it keeps.
    pub capabilities: Vec<String>,
    /// Real-time priority, 1 to 99.
    #[schemars(with = "Option<u8>")]
    pub realtime: Option<Priority>,
    /// Memory it may lock.
    pub memlock: Option<Size>,
    /// Size of `/dev/shm`.
    pub shm: Option<Size>,
    /// Kernel modules (vm).
    pub modules: Vec<String>,
    /// Units of systemd that are up before the program starts, and stop after it (vm; container where its engine can).
    pub services: Vec<UnitName>,
    /// Limits.
    pub limits: Option<Limits>,
    /// The guest (vm).
    pub vm: Option<Vm>,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            rung: Rung::Auto,
            runner: Runner::None,
            program: None,
            args: Vec::new(),
            env: BTreeMap::new(),
            state: Vec::new(),
            network: Network::Loopback,
            display: Display::None,
            audio: Audio::None,
            gpu: false,
            dbus: None,
            capabilities: Vec::new(),
            realtime: None,
            memlock: None,
            shm: None,
            modules: Vec::new(),
            services: Vec::new(),
            limits: None,
            vm: None,
        }
    }
}

/// How a tool is isolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Rung {
    /// The lowest that the evidence allows, from `fhs` up.
    #[default]
    Auto,
    /// On the host itself; only if asked for.
    Native,
    /// Namespaces over a tree.
    Fhs,
    /// A container engine.
    Container,
    /// A virtual machine.
    Vm,
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Fhs => "fhs",
            Self::Container => "container",
            Self::Vm => "vm",
        })
    }
}

/// What executes the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Runner {
    /// The kernel.
    #[default]
    None,
    /// Wine.
    Wine,
}

impl fmt::Display for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Wine => "wine",
        })
    }
}

/// What sound a tool has: `false`, `true`, or `"shared"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Audio {
    /// None.
    #[default]
    None,
    /// A server of its own, which passes sound on to the person's.
    Own,
    /// The person's server, which loads code for whoever asks.
    Shared,
}

impl<'de> Deserialize<'de> for Audio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Wish;
        impl Visitor<'_> for Wish {
            type Value = Audio;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or \"shared\"")
            }
            fn visit_bool<E: de::Error>(self, wish: bool) -> Result<Audio, E> {
                Ok(if wish { Audio::Own } else { Audio::None })
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Audio, E> {
                match text {
                    "shared" => Ok(Audio::Shared),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Wish)
    }
}

impl JsonSchema for Audio {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Audio".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "What sound a tool has: none, a server of its own that passes sound on, or the person's.",
            "enum": [false, true, "shared"],
        })
    }
}

/// The name of a unit of systemd (systemd.unit(5)): `acmed.service`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct UnitName(String);

impl UnitName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for UnitName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        const KINDS: [&str; 5] = ["path", "service", "socket", "target", "timer"];
        let known =
            text.rsplit_once('.').is_some_and(|(name, kind)| !name.is_empty() && KINDS.contains(&kind));
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@:\\".contains(&b));
        if known && plain && text.len() <= 255 && !text.starts_with('.') {
            Ok(Self(text))
        } else {
            Err(format!("`{text}` is not the name of a unit of systemd, as `acmed.service`"))
        }
    }
}

impl From<UnitName> for String {
    fn from(name: UnitName) -> Self {
        name.0
    }
}

/// A real-time priority of Linux: 1 to 99.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct Priority(u8);

impl Priority {
    /// The number.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<i64> for Priority {
    type Error = String;
    fn try_from(number: i64) -> Result<Self, String> {
        let fits = u8::try_from(number).ok().filter(|number| (1..=99).contains(number));
        fits.map(Self).ok_or_else(|| format!("`{number}` is no real-time priority: it is 1 to 99"))
    }
}

/// What display a tool sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Display {
    /// None.
    #[default]
    None,
    /// A server of its own.
    Nested,
    /// The person's.
    Shared,
}

/// A size: bytes, or with K, M, G (powers of 1024).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Size(u64);

impl Size {
    /// The size in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl TryFrom<String> for Size {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a size: digits, then K, M, G or nothing");
        let (digits, shift) = match text.char_indices().next_back() {
            Some((at, 'K')) => (&text[..at], 10),
            Some((at, 'M')) => (&text[..at], 20),
            Some((at, 'G')) => (&text[..at], 30),
            _ => (text.as_str(), 0),
        };
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(wrong)
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.0.to_string()
    }
}

/// A licence or site file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FileSlot {
    /// The slot's name.
    #[schemars(with = "String")]
    pub name: Spanned<Name>,
    /// Where the tool expects it.
    pub at: Inside,
}

/// A device.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DeviceSlot {
    /// The slot's name.
    #[schemars(with = "String")]
    pub name: Spanned<Name>,
    /// `serial`, `usb`, `comedi`, `hidraw`, `video`, or the kernel's own name of a class
    pub class: String,
    /// Where the tool expects it: `/dev/ttyUSB0`; `/dev/` and the slot's name where it is missing.
    #[serde(default)]
    pub at: Option<Inside>,
    /// Which port a serial device is to a Windows program: `COM3`. Where it is missing, the lowest that is free: the first
    /// slot is `COM1`.
    #[serde(default)]
    pub port: Option<Port>,
}

/// A serial port as Windows names it: `COM1` to `COM255`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Port(u8);

impl Port {
    /// Its number.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }
}

impl TryFrom<String> for Port {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let number = text.strip_prefix("COM").filter(|digits| !digits.starts_with(['0', '+']));
        let number = number.and_then(|digits| digits.parse().ok());
        number.map(Self).ok_or_else(|| format!("`{text}` is no port: `COM1` to `COM255`"))
    }
}

/// What the tool wants to see of the machine.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Identity {
    /// Any of these.
    pub needs: Vec<IdentityItem>,
}

/// Part of a licence identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IdentityItem {
    /// Hardware address.
    Mac,
    /// Interface name.
    Interface,
    /// `/etc/machine-id`
    MachineId,
    /// Host name.
    Hostname,
}

impl fmt::Display for IdentityItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mac => "mac",
            Self::Interface => "interface",
            Self::MachineId => "machine-id",
            Self::Hostname => "hostname",
        })
    }
}
