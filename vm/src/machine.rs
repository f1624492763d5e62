//! What a guest is given, whoever makes it: one type, two drivers (QEMU, VirtualBox).
//!
//! Everything here is checked when it is made, so that a driver only has to write it down. What a driver cannot give it
//! refuses ([`crate::Error::Driver`]); nothing is left out silently.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::usb;
pub use crate::uuid::Uuid;

/// A PC has four serial ports at fixed addresses.
pub const SERIAL_MAX: usize = 4;
/// Disks: as many as the chipset's AHCI controller has ports.
pub const DISKS_MAX: usize = 6;
/// Bytes of a text in a machine's tables: what firmware of real machines has, and no program expects more.
const SMBIOS_TEXT_MAX: usize = 64;

/// A guest's machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its name, for people and process lists.
    pub name: String,
    /// Processors.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// Disks, in the order in which the guest sees them.
    pub disks: Vec<Disk>,
    /// What runs in it: decides on a clock in local time and the like.
    pub system: System,
    /// Serial lines, COM1 first.
    pub serial: Vec<Serial>,
    /// How far its network card reaches.
    pub network: Network,
    /// TCP ports of this host that lead into the guest.
    pub forwards: Vec<Forward>,
    /// USB devices of this host that are the guest's.
    pub usb: Vec<usb::Name>,
    /// Folders of this host that the guest sees.
    pub shares: Vec<Share>,
    /// What licences are bound to.
    pub identity: Identity,
    /// Its screen.
    pub display: Display,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            name: "guest".to_owned(),
            cpus: 1,
            memory: 512 << 20,
            disks: Vec::new(),
            system: System::Other,
            serial: Vec::new(),
            network: Network::Restricted,
            forwards: Vec::new(),
            usb: Vec::new(),
            shares: Vec::new(),
            identity: Identity::default(),
            display: Display::None,
        }
    }
}

impl Machine {
    /// Its memory in MiB, the unit of both drivers, rounded up.
    #[must_use]
    pub fn memory_mib(&self) -> u64 {
        self.memory.div_ceil(1 << 20)
    }
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The file.
    pub path: PathBuf,
    /// Its format. Never guessed from its content, which is the guest's.
    pub format: Format,
    /// Writes are refused.
    pub read_only: bool,
}

/// How a disk is stored in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Sector by sector.
    Raw,
    /// QEMU's.
    Qcow2,
    /// VirtualBox's.
    Vdi,
    /// VMware's.
    Vmdk,
}

impl Format {
    /// Its name, as QEMU and people write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vdi => "vdi",
            Self::Vmdk => "vmdk",
        }
    }

    /// By the end of a file's name: whoever brings a file says by it what it is.
    #[must_use]
    pub fn of_name(path: &Path) -> Option<Self> {
        let end = path.extension()?.to_str()?.to_ascii_lowercase();
        match end.as_str() {
            "img" => Some(Self::Raw),
            other => other.parse().ok(),
        }
    }
}

impl FromStr for Format {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Raw, Self::Qcow2, Self::Vdi, Self::Vmdk];
        let found = all.into_iter().find(|format| format.name() == text);
        found.ok_or_else(|| format!("`{text}` is no format of disk images: raw, qcow2, vdi or vmdk"))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What runs in a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum System {
    /// Anything that boots from a disk.
    #[default]
    Other,
    /// Linux.
    Linux,
    /// Windows, whose hardware clock shows local time.
    Windows,
}

/// Where a serial line of the guest ends on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Serial {
    /// A unix socket that the driver listens at.
    Socket(PathBuf),
    /// A pseudo terminal of the kernel's choice.
    Pty,
}

/// How far a guest's network card reaches. Forwards work wherever there is a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// No card.
    None,
    /// Nowhere: what comes in by a forward is answered, nothing else goes out.
    #[default]
    Restricted,
    /// Wherever the host reaches, behind translated addresses.
    Open,
}

/// A TCP port of this host that leads into the guest: `127.0.0.1:8080:80`, or `8080:80`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// Where the host listens.
    pub listen: SocketAddrV4,
    /// The guest's port.
    pub port: u16,
}

impl FromStr for Forward {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("`{text}` is no forward of a port: [ADDRESS:]PORT:GUEST-PORT, as in `127.0.0.1:8080:80`")
        };
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(wrong);
        let (rest, guest) = text.rsplit_once(':').ok_or_else(wrong)?;
        let (address, host) = match rest.rsplit_once(':') {
            Some((address, host)) => (address.parse().map_err(|_| wrong())?, host),
            None => (Ipv4Addr::LOCALHOST, rest),
        };
        Ok(Self { listen: SocketAddrV4::new(address, port(host)?), port: port(guest)? })
    }
}

/// A folder of this host that the guest sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The guest's name for it.
    pub name: String,
    /// The folder.
    pub path: PathBuf,
    /// Writes are refused.
    pub read_only: bool,
}

/// What licences are bound to. What is not given is left to the driver.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// The machine's own number, in the tables of its firmware.
    pub uuid: Option<Uuid>,
    /// The network card's address.
    pub mac: Option<Mac>,
    /// Who made the machine.
    pub manufacturer: Option<SmbiosText>,
    /// Which machine it is.
    pub product: Option<SmbiosText>,
    /// Its serial number.
    pub serial: Option<SmbiosText>,
}

/// A guest's screen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Display {
    /// A card that nobody sees.
    #[default]
    None,
    /// VNC at a unix socket: whoever may open the file may see and type.
    Vnc(PathBuf),
}

impl Uuid {
    /// One that a name always gets: version 8, "custom", of the name's digest.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        let digest = hatchway_envs::digest::Sha256::of(name.as_bytes()).hex();
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digest.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).unwrap_or("00");
            *byte = u8::from_str_radix(pair, 16).unwrap_or(0);
        }
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }
}

/// A network card's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mac([u8; 6]);

impl Mac {
    /// Twelve digits in a row, as VirtualBox writes them.
    #[must_use]
    pub fn digits(self) -> String {
        self.to_string().replace(':', "").to_ascii_uppercase()
    }
}

impl FromStr for Mac {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{text}` is no address of a network card: {why}");
        let shape = "six pairs of hexadecimal digits with colons between";
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(|| wrong(shape))?;
            if !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(wrong(shape));
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong(shape))?;
        }
        match () {
            () if parts.next().is_some() => Err(wrong(shape)),
            () if bytes[0] & 1 == 1 => Err(wrong("it is one of a group (its first byte is odd)")),
            () if bytes == [0; 6] => Err(wrong("it is all zeros")),
            () => Ok(Self(bytes)),
        }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A text in the tables of a machine's firmware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmbiosText(String);

impl SmbiosText {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SmbiosText {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let plain = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if text.is_empty() || text.len() > SMBIOS_TEXT_MAX || !plain {
            return Err(format!(
                "`{}` is no text for a machine's tables: 1 to {SMBIOS_TEXT_MAX} characters of ASCII",
                text.escape_debug()
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forwards_listen_on_this_machine_unless_told() {
        let forward: Forward = "8080:80".parse().unwrap();
        assert_eq!((forward.listen.to_string().as_str(), forward.port), ("127.0.0.1:8080", 80));
        let forward: Forward = "0.0.0.0:22:2222".parse().unwrap();
        assert_eq!((forward.listen.to_string().as_str(), forward.port), ("0.0.0.0:22", 2222));
        for wrong in
            ["", "80", ":80", "80:", "0:80", "80:0", "a:80", "::1:80:80", "1.2.3.4.5:80:80", "65536:1"]
        {
            assert!(wrong.parse::<Forward>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_of_cards_are_those_of_one_card() {
        let mac: Mac = "52:54:00:aB:cd:0F".parse().unwrap();
        assert_eq!((mac.to_string().as_str(), mac.digits().as_str()), ("52:54:00:ab:cd:0f", "525400ABCD0F"));
        let wrong = [
            "",
            "52:54:00:ab:cd",
            "52:54:00:ab:cd:0f:00",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "+2:54:00:ab:cd:0f",
        ];
        for wrong in wrong {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_files_name_says_its_format() {
        let of = |name: &str| Format::of_name(Path::new(name));
        assert_eq!(of("win10.QCOW2"), Some(Format::Qcow2));
        assert_eq!((of("a.img"), of("a.vdi")), (Some(Format::Raw), Some(Format::Vdi)));
        assert_eq!((of("a.iso"), of("qcow2"), of("a")), (None, None, None));
    }

    #[test]
    fn a_name_always_gets_the_same_uuid() {
        assert_eq!(Uuid::of_name("acme"), Uuid::of_name("acme"));
        assert_ne!(Uuid::of_name("acme"), Uuid::of_name("acme2"));
        let text = Uuid::of_name("acme").to_string();
        assert_eq!((&text[14..15], text.parse()), ("8", Ok(Uuid::of_name("acme"))));
    }

    #[test]
    fn texts_of_tables_are_short_and_plain() {
        assert_eq!("ACME, Inc. =7".parse::<SmbiosText>().unwrap().as_str(), "ACME, Inc. =7");
        for wrong in ["", "a\nb", "ä", &"a".repeat(65)] {
            assert!(wrong.parse::<SmbiosText>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(bytes: [u8; 16], text in "\\PC{0,40}") {
            let uuid = Uuid(bytes);
            prop_assert_eq!(uuid.to_string().parse(), Ok(uuid));
            // Whatever comes in, an answer comes out.
            drop((text.parse::<Uuid>(), text.parse::<Mac>(), text.parse::<Forward>(), text.parse::<SmbiosText>()));
        }
    }
}
