//! The side-by-side manifest: an XML document among the resources ("Application Manifests" of the Windows API).

use super::image::utf16;

/// Bytes of a manifest worth reading.
const MANIFEST: usize = 1 << 20;
/// What `requestedExecutionLevel` may ask for.
const LEVELS: [&str; 3] = ["asInvoker", "highestAvailable", "requireAdministrator"];

/// The text of a manifest, its comments left out: templates keep the levels one did not choose in one.
pub(super) fn text(bytes: &[u8]) -> String {
    let bytes = bytes.get(..bytes.len().min(MANIFEST)).unwrap_or_default();
    let text = match bytes {
        [0xff, 0xfe, rest @ ..] => utf16(rest, MANIFEST),
        [b'<', 0, ..] => utf16(bytes, MANIFEST),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    };
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, comment)) = rest.split_once("<!--") {
        plain.push_str(before);
        rest = comment.split_once("-->").map_or("", |(_, behind)| behind);
    }
    plain.push_str(rest);
    plain
}

/// The level it asks for.
pub(super) fn execution_level(text: &str) -> Option<String> {
    let (_, element) = text.split_once("requestedExecutionLevel")?;
    let attributes = element.split('>').next()?;
    let (_, value) = attributes.split_once("level")?;
    let value = value.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let level = value.get(1..)?.split(quote).next()?;
    LEVELS.iter().find(|known| known.eq_ignore_ascii_case(level.trim())).map(|known| (*known).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_in_a_comment_does_not_count() {
        let xml = "<trustInfo><!-- <requestedExecutionLevel level=\"requireAdministrator\"/> -->\
            <requestedExecutionLevel\n uiAccess='false' level = 'asInvoker' /></trustInfo>";
        assert_eq!(execution_level(&text(xml.as_bytes())).as_deref(), Some("asInvoker"));
        let wide: Vec<u8> = xml.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(execution_level(&text(&wide)).as_deref(), Some("asInvoker"));
        assert_eq!(execution_level(&text(b"<requestedExecutionLevel level=\"root\"/>")), None);
        assert_eq!(execution_level(&text(b"<!-- requestedExecutionLevel level=\"asInvoker\"")), None);
    }
}
