//! Words of others in messages of ours.

/// What another program said, for a message: one line, without control characters.
pub(crate) fn plain(text: &str) -> String {
    const LONG: usize = 400;
    let clean: String =
        text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONG).collect();
    clean.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_others_become_one_line() {
        assert_eq!(plain(" a\u{1b}[31m\n\n b\t"), "a [31m b");
    }
}
