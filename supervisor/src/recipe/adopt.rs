//! A vendor's file into a recipe that leaves open which file it is.

use std::path::Path;

use hatchway_envs::digest::Sha256;
use hatchway_envs::lock::write_atomically;

use crate::error::Error;

/// Writes name and digest of a file into the artifact `number` of a recipe; everything else stays as people wrote it.
///
/// # Errors
/// When the recipe cannot be read or written, or has no such artifact.
pub fn adopt(path: &Path, number: usize, file: &str, sha256: Sha256) -> Result<(), Error> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let text = adopted(&text, number, file, sha256)
        .ok_or_else(|| Error::Usage(format!("`{}` has no such artifact", path.display())))?;
    Ok(write_atomically(path, text.as_bytes())?)
}

fn adopted(text: &str, number: usize, file: &str, sha256: Sha256) -> Option<String> {
    let mut recipe: toml_edit::DocumentMut = text.parse().ok()?;
    let artifact = recipe.get_mut("artifact")?.as_array_of_tables_mut()?.get_mut(number)?;
    for (key, value) in [("file", file.to_owned()), ("sha256", sha256.hex())] {
        let there = artifact.get_mut(key)?.as_value_mut()?;
        let decoration = there.decor().clone();
        *there = value.into();
        *there.decor_mut() = decoration;
    }
    Some(recipe.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_everything_else_stay() {
        let text = "# head\nschema = 1\n\n[[artifact]]\nfile = \"a-1.tar\"  # any version\nsha256 = \"0\" # open\nstrip = 1\n";
        let sha256 = Sha256::of(b"x");
        let expected = text.replace("\"a-1.tar\"", "\"a-2.tar\"").replace("\"0\"", &format!("\"{sha256}\""));
        assert_eq!(adopted(text, 0, "a-2.tar", sha256).unwrap(), expected);
        assert_eq!(adopted(text, 1, "a-2.tar", sha256), None);
        assert_eq!(adopted("schema = 1\n", 0, "a-2.tar", sha256), None);
    }
}
