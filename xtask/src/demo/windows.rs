//! Two programs for Windows out of wheels for it, under Wine: `cargo xtask demo --windows`. They are large, and so is Wine, so
//! that CI leaves them out.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, bail};

use super::Row;
use super::artifacts::{path, ptxas, run_sharing};
use super::stage::Stage;
use crate::sh;
use crate::wheels::{self, Wheel};

const FFMPEG: Wheel = Wheel {
    file: "imageio_ffmpeg-0.8.1-py3-none-win_amd64.whl",
    sha256: "f27ca4cb85e2d4946deedbce1a81245dfd942a2bcf94b53676fb3956aa95bf1b",
};
const PTXAS: Wheel = Wheel {
    file: "nvidia_cuda_nvcc_cu12-12.9.86-py3-none-win_amd64.whl",
    sha256: "8ed7f0b17dea662755395be029376db3b94fed5cbb17c2d35cc866c5b1b84099",
};
/// One second of sound, mono, 16 bits, 44,100 times a second, and the head before it.
const SOUND_BYTES: std::ops::RangeInclusive<usize> = 88_200..=88_400;

/// Makes a sound.
pub(super) fn ffmpeg(stage: &Stage, artifact: &'static str) -> Result<Row> {
    let wheel = wheels::fetch(&stage.wheels(), &FFMPEG)?;
    stage.forget_state(artifact)?;
    let row = stage.prepare(artifact, path(&wheel)?)?;
    let share = stage.shared("ffmpeg-share")?;
    let args =
        ["-hide_banner", "-loglevel", "error", "-f", "lavfi", "-i", "sine=frequency=440:duration=1", "a.wav"];
    run_sharing(stage, artifact, &share, &[], &args)?;
    let sound = fs::read(share.join("a.wav")).context("ffmpeg.exe wrote no sound")?;
    if !sound.starts_with(b"RIFF") || !SOUND_BYTES.contains(&sound.len()) {
        bail!("what ffmpeg.exe wrote is no second of sound: {} bytes", sound.len());
    }
    Ok(stage.done(row, format!("a second of sound, {} bytes", sound.len())))
}

/// Assembles what the assembler for Linux of the same version assembles, and compares section by section.
pub(super) fn ptxas_exe(stage: &Stage, artifact: &'static str) -> Result<Row> {
    ptxas(stage, "ptxas-linux")?;
    let linux = stage.work().with_file_name("ptxas-share").join("vecadd.cubin");
    let linux = fs::read(&linux).with_context(|| format!("cannot read `{}`", linux.display()))?;

    let wheel = wheels::fetch(&stage.wheels(), &PTXAS)?;
    stage.forget_state(artifact)?;
    let row = stage.prepare(artifact, path(&wheel)?)?;
    let share = stage.shared("ptxas-exe-share")?;
    let source = share.join("vecadd.ptx");
    fs::copy(sh::workspace()?.join("tests/fixtures/vecadd.ptx"), &source)?;
    fs::set_permissions(&source, fs::Permissions::from_mode(0o644))?;
    run_sharing(stage, artifact, &share, &[], &["-arch=sm_80", "vecadd.ptx", "-o", "vecadd.cubin"])?;
    let windows = fs::read(share.join("vecadd.cubin")).context("ptxas.exe wrote no object")?;
    let differing = differing(&linux, &windows)?;
    if !differing.is_empty() {
        bail!("the cubins of ptxas and ptxas.exe differ in {}", differing.join(", "));
    }
    let rest = if linux == windows { "byte for byte" } else { "section by section" };
    Ok(stage.done(row, format!("the same cubin as on Linux, {rest}, {} bytes", windows.len())))
}

/// The names of the sections in which two ELF files differ.
fn differing(one: &[u8], other: &[u8]) -> Result<Vec<String>> {
    let (one, other) = (sections(one)?, sections(other)?);
    let names = one.keys().chain(other.keys());
    let mut names: Vec<String> = names.filter(|name| one.get(*name) != other.get(*name)).cloned().collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// The content of each section of a 64-bit ELF file.
fn sections(bytes: &[u8]) -> Result<BTreeMap<String, &[u8]>> {
    /// `SHT_NOBITS`: it has no bytes in the file.
    const NOTHING: u64 = 8;
    let number = |at: usize, width: usize| -> Result<usize> {
        let raw = bytes.get(at..at + width).context("the ELF file is cut off")?;
        let value = raw.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        Ok(usize::try_from(value)?)
    };
    let (table, size, count, names) = (number(40, 8)?, number(58, 2)?, number(60, 2)?, number(62, 2)?);
    let content = |index: usize| -> Result<&[u8]> {
        let header = table + index * size;
        if number(header + 4, 4)? as u64 == NOTHING {
            return Ok(&[]);
        }
        let (offset, length) = (number(header + 24, 8)?, number(header + 32, 8)?);
        bytes.get(offset..offset + length).context("a section is cut off")
    };
    let strings = content(names)?;
    let mut all = BTreeMap::new();
    for index in 0..count {
        let name = strings.get(number(table + index * size, 4)?..).unwrap_or_default();
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        all.insert(String::from_utf8_lossy(name).into_owned(), content(index)?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_that_differ_are_named() {
        let one = fs::read("/proc/self/exe").unwrap();
        assert_eq!(differing(&one, &one).unwrap(), Vec::<String>::new());
        let text = sections(&one).unwrap()[".text"].as_ptr() as usize - one.as_ptr() as usize;
        let mut other = one.clone();
        other[text] ^= 1;
        assert_eq!(differing(&one, &other).unwrap(), [".text"]);
        assert!(sections(&one[..100]).is_err());
    }
}
