//! Samples of the kernel's card for tests as they arrive on the host, and whether they are its waveform.
//!
//! The card's channel 0 is a sawtooth. Source: drivers/comedi/drivers/comedi_test.c of Linux 6.1: an amplitude of 1 V and a period of 0.1 s
//! unless somebody asks for others, samples of 16 bits, and a first range from -10 V to 10 V.

use anyhow::{Context, Result, bail, ensure};

/// Samples that are asked for: five periods.
const COUNT: usize = 1000;
/// Nanoseconds from one to the next.
const EACH_NS: usize = 500_000;
const PERIOD_NS: usize = 100_000_000;
const AMPLITUDE_V: f64 = 1.0;
const RANGE_V: (f64, f64) = (-10.0, 10.0);
const SAMPLE_MAX: f64 = 65_535.0;
/// A sample is a whole number, and the card's rounds down more than once.
const ROUNDING_V: f64 = 0.002;

/// For Perl, which every Debian has: a command of comedi's for so many samples of channel 0 at that distance, and what is then read, in hexadecimal digits.
/// Source: include/uapi/linux/comedi.h: `COMEDI_CMD`, `struct comedi_cmd`, and the triggers now (2), timer (16), count (32).
pub(super) fn program() -> String {
    format!(
        r#"open(my $card, "+<", "/dev/comedi0") or die "open: $!";
my $channels = pack("I", 0);
my $cmd = pack("I12 P4 I x4 Q I x4", 0, 0, 2, 0, 16, {EACH_NS}, 2, 0, 32, 1, 32, {COUNT}, $channels, 1, 0, 0);
defined(ioctl($card, 0x80506409, $cmd)) or die "command: $!";
my $all = "";
while (length($all) < {COUNT} * 2) {{
    my $count = sysread($card, $all, {COUNT} * 2 - length($all), length($all));
    defined($count) or die "read: $!";
    $count or last;
}}
print unpack("H*", $all), "\n";"#
    )
}

/// What a stretch of samples looks like.
pub(super) struct Waveform {
    /// In volts.
    samples: Vec<f64>,
    /// Where it falls back to its beginning.
    falls: Vec<usize>,
}

impl Waveform {
    /// From what [`program`] prints.
    pub(super) fn read(text: &str) -> Result<Self> {
        let digits = text.trim().as_bytes();
        ensure!(digits.len() == COUNT * 4, "{} samples came instead of {COUNT}", digits.len() / 4);
        let samples = digits.chunks(4).map(|four| {
            let number =
                u16::from_str_radix(std::str::from_utf8(four)?, 16).context("no hexadecimal digits")?;
            let (low, high) = RANGE_V;
            Ok(f64::from(number.swap_bytes()) / SAMPLE_MAX * (high - low) + low)
        });
        let samples = samples.collect::<Result<Vec<f64>>>()?;
        let falls = (1..samples.len()).filter(|&at| samples[at] < samples[at - 1] - AMPLITUDE_V).collect();
        Ok(Self { samples, falls })
    }

    /// It rises by the same all the time and falls once in each period, from one end of its amplitude to the other.
    pub(super) fn check(&self) -> Result<()> {
        let each = PERIOD_NS / EACH_NS;
        let steps = self.falls.windows(2).map(|two| two[1] - two[0]);
        // One less where the first sample is a period's first.
        let enough = self.falls.len() + 1 >= COUNT / each;
        if !enough || steps.clone().any(|step| step != each) {
            bail!("it does not fall each {each} samples but at {:?}", self.falls);
        }
        #[expect(clippy::cast_precision_loss, reason = "some hundreds")]
        let rise = 2.0 * AMPLITUDE_V / each as f64;
        let (least, most) = self.ends();
        let is = |value: f64, expected: f64| (value - expected).abs() <= ROUNDING_V;
        // Where in its period it begins is a matter of chance: the last step before a fall may be a part of one.
        if least < -AMPLITUDE_V - ROUNDING_V || least > -AMPLITUDE_V + rise + ROUNDING_V {
            bail!("it begins at {least:.3} V");
        }
        if most > AMPLITUDE_V + ROUNDING_V || most < AMPLITUDE_V - rise - ROUNDING_V {
            bail!("it ends at {most:.3} V");
        }
        for at in (1..self.samples.len()).filter(|at| !self.falls.contains(at)) {
            let step = self.samples[at] - self.samples[at - 1];
            ensure!(is(step, rise), "sample {at} is {step:.4} V above the one before it, not {rise:.4} V");
        }
        Ok(())
    }

    fn ends(&self) -> (f64, f64) {
        self.samples.iter().fold((f64::MAX, f64::MIN), |(least, most), v| (least.min(*v), most.max(*v)))
    }

    /// Its numbers, for a person.
    pub(super) fn describe(&self) -> String {
        let (least, most) = self.ends();
        let period = self.falls.get(..2).map_or(0, |two| (two[1] - two[0]) * EACH_NS / 1_000_000);
        format!("{COUNT} samples of a sawtooth, {least:.2} V to {most:.2} V, {period} ms")
    }

    /// Some of them, from one fall on.
    pub(super) fn shown(&self) -> String {
        let from = self.falls.first().copied().unwrap_or_default();
        let some = self.samples[from..].iter().step_by(20).take(21);
        some.map(|volts| format!("{volts:.2}")).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(of: impl Fn(usize) -> u16) -> String {
        (0..COUNT).map(|at| format!("{:04x}", of(at).swap_bytes())).collect::<String>() + "\n"
    }

    /// As the card makes it, begun at the 37th of 200 steps.
    fn sawtooth(at: usize) -> u16 {
        u16::try_from(29_491 + (at + 37) % 200 * 6552 / 200).unwrap()
    }

    #[test]
    fn a_sawtooth_is_one_and_is_described() {
        let waveform = Waveform::read(&text(sawtooth)).unwrap();
        waveform.check().unwrap();
        // Begun with a period, and with the last of one.
        for begin in [163, 162] {
            Waveform::read(&text(|at| sawtooth(at + begin))).unwrap().check().unwrap();
        }
        assert_eq!(waveform.describe(), "1000 samples of a sawtooth, -1.00 V to 0.99 V, 100 ms");
        assert!(waveform.shown().starts_with("-1.00 -0.80 -0.60"), "{}", waveform.shown());
    }

    #[test]
    fn what_is_no_sawtooth_is_refused() {
        for (of, why) in [
            ((|_| 32_767) as fn(usize) -> u16, "it does not fall"),
            (|at| if at / 100 % 2 == 0 { 29_491 } else { 36_043 }, "above the one before it"),
            (|at| sawtooth(at / 2 * 2), "above the one before it"),
            (|at| sawtooth(at * 2), "it does not fall"),
            (|at| sawtooth(at / 4), "it does not fall"),
            (|at| sawtooth(at) + 1000, "it begins at"),
            (|at| if at == 500 { 32_000 } else { sawtooth(at) }, "above the one before it"),
        ] {
            let error = Waveform::read(&text(of)).unwrap().check().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert!(Waveform::read("00ff\n").is_err());
        assert!(Waveform::read(&text(sawtooth).replace('7', "x")).is_err());
    }
}
