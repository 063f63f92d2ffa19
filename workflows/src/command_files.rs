//! Command files: what a step writes to `$GITHUB_ENV`, `$GITHUB_OUTPUT`, `$GITHUB_STATE` and
//! `$GITHUB_PATH`. Pure grammar, byte for byte as GitHub's runner on Linux reads it.

use std::cmp::Ordering;

/// Largest command file that is read, in bytes.
pub const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The pairs of a file up to its first error; they count even when there is one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pairs {
    /// Names and values in order; a later one of the same name wins.
    pub pairs: Vec<(String, String)>,
    /// The sentence with which the step fails, below `Unable to process file command '…' successfully.`
    pub error: Option<String>,
}

/// Reads an ENV, OUTPUT or STATE file.
///
/// ```
/// use workflows::command_files::parse_env_file;
/// let file = parse_env_file(b"A=1\nB<<END\nx\ny\nEND\n");
/// assert_eq!(file.pairs, [("A".into(), "1".into()), ("B".into(), "x\ny".into())]);
/// assert_eq!(file.error, None);
/// ```
pub fn parse_env_file(bytes: &[u8]) -> Pairs {
    let mut pairs = Vec::new();
    let error = decode(bytes).and_then(|text| read_pairs(&text, &mut pairs)).err();
    Pairs { pairs, error }
}

/// Reads a PATH file: every line that is not empty, in order; each is to be put in front of the others.
///
/// # Errors
/// One sentence when the file is larger than [`MAX_BYTES`].
pub fn parse_path_file(bytes: &[u8]) -> Result<Vec<String>, String> {
    let text = decode(bytes)?;
    Ok(text
        .replace("\r\n", "\n")
        .split(['\n', '\r'])
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect())
}

/// Text by its byte order mark; UTF-8 without one, bad bytes replaced.
///
/// # Errors
/// One sentence when there are more than [`MAX_BYTES`].
pub fn decode(bytes: &[u8]) -> Result<String, String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("the file is larger than {} MiB, which is the limit", MAX_BYTES / 1024 / 1024));
    }
    let wide = |rest: &[u8], unit: fn([u8; 2]) -> u16| {
        let (units, odd) = rest.as_chunks::<2>();
        let mut text: String = char::decode_utf16(units.iter().copied().map(unit))
            .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect();
        if !odd.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
        text
    };
    let wider = |rest: &[u8], unit: fn([u8; 4]) -> u32| {
        let (units, _) = rest.as_chunks::<4>();
        units
            .iter()
            .map(|bytes| char::from_u32(unit(*bytes)).unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect()
    };
    Ok(match bytes {
        [0xEF, 0xBB, 0xBF, rest @ ..] => String::from_utf8_lossy(rest).into_owned(),
        [0xFF, 0xFE, 0, 0, rest @ ..] => wider(rest, u32::from_le_bytes),
        [0, 0, 0xFE, 0xFF, rest @ ..] => wider(rest, u32::from_be_bytes),
        [0xFF, 0xFE, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => wide(rest, u16::from_be_bytes),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    })
}

/// The next line and whether a line break ended it; `None` at the end.
fn next_line<'t>(rest: &mut &'t str) -> Option<(&'t str, bool)> {
    if rest.is_empty() {
        return None;
    }
    match rest.split_once('\n') {
        Some((line, after)) => {
            *rest = after;
            Some((line, true))
        }
        None => Some((std::mem::take(rest), false)),
    }
}

fn read_pairs(text: &str, pairs: &mut Vec<(String, String)>) -> Result<(), String> {
    let mut rest = text;
    while let Some((line, _)) = next_line(&mut rest) {
        if line.is_empty() {
            continue;
        }
        let equals = line.find('=').unwrap_or(usize::MAX);
        let heredoc = line.find("<<").unwrap_or(usize::MAX);
        match equals.cmp(&heredoc) {
            Ordering::Less => pairs.push((line[..equals].to_owned(), line[equals + 1..].to_owned())),
            Ordering::Greater => {
                let (name, delimiter) = (&line[..heredoc], &line[heredoc + 2..]);
                if name.is_empty() || delimiter.is_empty() {
                    return Err(format!(
                        "Invalid format '{line}'. Name must not be empty and delimiter must not be empty"
                    ));
                }
                pairs.push((name.to_owned(), read_heredoc(&mut rest, delimiter)?.to_owned()));
            }
            Ordering::Equal => return Err(format!("Invalid format '{line}'")),
        }
    }
    Ok(())
}

/// The text up to the line that is the delimiter, without the line break before that line.
fn read_heredoc<'t>(rest: &mut &'t str, delimiter: &str) -> Result<&'t str, String> {
    let start = *rest;
    let mut length = 0;
    let mut value_end = 0;
    while let Some((line, ended)) = next_line(rest) {
        if line == delimiter {
            return Ok(&start[..value_end]);
        }
        if !ended {
            return Err("Invalid value. EOF marker missing new line.".to_owned());
        }
        value_end = length + line.len();
        length = value_end + 1;
    }
    Err(format!("Invalid value. Matching delimiter not found '{delimiter}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let file = parse_env_file(text.as_bytes());
        assert_eq!(file.error, None, "{text:?}");
        file.pairs
    }

    fn one(text: &str) -> (String, String) {
        let mut pairs = pairs(text);
        assert_eq!(pairs.len(), 1, "{text:?}");
        pairs.remove(0)
    }

    fn error(text: &str) -> String {
        parse_env_file(text.as_bytes()).error.expect("an error")
    }

    #[test]
    fn names_and_values() {
        let table = [
            ("A=b", "A", "b"),
            ("A=b\r\n", "A", "b\r"),
            ("A=", "A", ""),
            ("=b", "", "b"),
            ("A=b=c", "A", "b=c"),
            ("A=b<<c", "A", "b<<c"),
            (" A = b ", " A ", " b "),
            ("\n\nA=b\n\n", "A", "b"),
            ("A<<E\nE", "A", ""),
            ("A<<E\n\nE\n", "A", ""),
            ("A<<E\n\nx\nE\n", "A", "\nx"),
            ("A<<E\nx\n\nE\n", "A", "x\n"),
            ("A<<E\nx=1\nB<<F\nE\n", "A", "x=1\nB<<F"),
            ("A<<E F\nx\nE F", "A", "x"),
            ("A<<E=\nx\nE=\n", "A", "x"),
            ("A<<E\n E\nE \nE\n", "A", " E\nE "),
            ("A<<E\nx\r\nE\n", "A", "x\r"),
        ];
        for (text, name, value) in table {
            assert_eq!(one(text), (name.to_owned(), value.to_owned()), "{text:?}");
        }
        assert_eq!(pairs(""), []);
        assert_eq!(pairs("A=1\nA=2").len(), 2);
    }

    #[test]
    fn errors_keep_the_pairs_before_them() {
        let file = parse_env_file(b"A=1\n  \nB=2\n");
        assert_eq!(file.pairs, [("A".to_owned(), "1".to_owned())]);
        assert_eq!(file.error.as_deref(), Some("Invalid format '  '"));
        assert_eq!(error("word"), "Invalid format 'word'");
        assert_eq!(
            error("A<<\nx"),
            "Invalid format 'A<<'. Name must not be empty and delimiter must not be empty"
        );
        assert!(error("<<E\nE").contains("Name must not be empty"));
        assert_eq!(error("A<<E\nx\n"), "Invalid value. Matching delimiter not found 'E'");
        assert_eq!(error("A<<E\n"), "Invalid value. Matching delimiter not found 'E'");
        assert_eq!(error("A<<E\nx"), "Invalid value. EOF marker missing new line.");
        assert_eq!(error("A<<E\r\nx\nE\n"), "Invalid value. Matching delimiter not found 'E\r'");
    }

    #[test]
    fn encodings_go_by_their_mark() {
        let expected = [("A".to_owned(), "é".to_owned())];
        let le: Vec<u8> =
            [0xFF, 0xFE].into_iter().chain("A=é".encode_utf16().flat_map(u16::to_le_bytes)).collect();
        let be: Vec<u8> =
            [0xFE, 0xFF].into_iter().chain("A=é".encode_utf16().flat_map(u16::to_be_bytes)).collect();
        let le32: Vec<u8> = [0xFF, 0xFE, 0, 0]
            .into_iter()
            .chain("A=é".chars().flat_map(|c| u32::from(c).to_le_bytes()))
            .collect();
        let be32: Vec<u8> = [0, 0, 0xFE, 0xFF]
            .into_iter()
            .chain("A=é".chars().flat_map(|c| u32::from(c).to_be_bytes()))
            .collect();
        let utf8: Vec<u8> = [0xEF, 0xBB, 0xBF].into_iter().chain("A=é".bytes()).collect();
        for bytes in [le, be, le32, be32, utf8] {
            assert_eq!(parse_env_file(&bytes).pairs, expected);
        }
        assert_eq!(decode(&[0xFF, 0xFE, 0x41]), Ok("\u{fffd}".to_owned()));
        assert_eq!(decode(b"\xff"), Ok("\u{fffd}".to_owned()));
    }

    #[test]
    fn paths_are_lines() {
        assert_eq!(
            parse_path_file(b"/a\r\n\n/b\n /c"),
            Ok(vec!["/a".to_owned(), "/b".to_owned(), " /c".to_owned()])
        );
        assert!(parse_path_file(&vec![b'x'; MAX_BYTES + 1]).expect_err("too large").contains("16 MiB"));
    }
}
