//! A configuration file as a list of its keys and values with their places, so that every complaint can point.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

/// A place in the file, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// What stands at a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// Text, number, boolean; `plain` when it is not quoted.
    Scalar { text: String, plain: bool },
    /// A list; its items follow with the same path and an index.
    List,
    /// A mapping; its entries follow with longer paths.
    Map,
}

/// One key with its value. Items of lists have `[n]` as the last part of their path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: Vec<String>,
    pub(super) key: Place,
    pub(super) value: Place,
    /// The value's range in the text, in bytes; of lists and mappings only the start counts.
    pub(super) range: std::ops::Range<usize>,
    pub(super) shape: Shape,
}

impl Entry {
    /// `runner.capacity`
    pub(super) fn dotted(&self) -> String {
        self.path.join(".")
    }

    /// Whether nothing is written there.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.shape, Shape::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }
}

/// One open list or mapping.
struct Open {
    depth: usize,
    list: Option<usize>,
    key: Option<(String, Place)>,
}

/// Reads all keys of the first document. An alias counts as a value of unknown shape and is left out.
pub(super) fn entries(text: &str) -> Result<Vec<Entry>, (Place, String)> {
    // Markers count characters.
    let offsets: Vec<usize> = text.char_indices().map(|(offset, _)| offset).chain([text.len()]).collect();
    let offset = |index: usize| offsets.get(index).copied().unwrap_or(text.len());
    let mut found = Vec::new();
    let mut path: Vec<String> = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| (place_of(*error.marker()), error.info().to_owned()))?;
        let here = place(span);
        let range = offset(span.start.index())..offset(span.end.index());
        match event {
            Event::DocumentEnd => break,
            Event::SequenceEnd | Event::MappingEnd => {
                let depth = open.pop().map_or(0, |frame| frame.depth);
                path.truncate(depth.saturating_sub(1));
                if let Some(frame) = open.last_mut() {
                    frame.key = None;
                }
            }
            Event::Scalar(value, style, ..) => {
                if let Some(frame) = open.last_mut()
                    && frame.list.is_none()
                    && frame.key.is_none()
                {
                    frame.key = Some((value.into_owned(), here));
                    continue;
                }
                let shape = Shape::Scalar { text: value.into_owned(), plain: style == ScalarStyle::Plain };
                if let Some(key) = descend(&mut open, &mut path, here) {
                    found.push(Entry { path: path.clone(), key, value: here, range: range.clone(), shape });
                    path.pop();
                    if let Some(frame) = open.last_mut() {
                        frame.key = None;
                    }
                }
            }
            Event::Alias(_) => {
                if let Some(frame) = open.last_mut() {
                    frame.key = None;
                }
            }
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                let list = matches!(event, Event::SequenceStart(..)).then_some(0);
                if let Some(key) = descend(&mut open, &mut path, here) {
                    let shape = if list.is_some() { Shape::List } else { Shape::Map };
                    found.push(Entry { path: path.clone(), key, value: here, range: range.clone(), shape });
                }
                open.push(Open { depth: path.len(), list, key: None });
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => {}
        }
    }
    Ok(found)
}

/// Steps into the value that begins now: its name goes onto the path. `None` at the root.
fn descend(open: &mut [Open], path: &mut Vec<String>, here: Place) -> Option<Place> {
    let frame = open.last_mut()?;
    if let Some(index) = &mut frame.list {
        path.push(format!("[{index}]"));
        *index += 1;
        return Some(here);
    }
    let (name, place) = frame.key.clone()?;
    path.push(name);
    Some(place)
}

fn place(span: Span) -> Place {
    place_of(span.start)
}

fn place_of(marker: saphyr_parser::Marker) -> Place {
    Place { line: marker.line(), column: marker.col() + 1 }
}

#[cfg(test)]
mod tests {
    use super::{Shape, entries};

    #[test]
    fn every_key_knows_its_place() {
        let text = "runner:\n  capacity: 2\n  labels:\n    - a:host\n    - \"b\"\n  envs:\n    HTTP_PROXY: x\n    http_proxy:\nlog: {level: info}\n";
        let found: Vec<_> = entries(text)
            .expect("this is YAML")
            .into_iter()
            .map(|entry| (entry.dotted(), entry.key.line, entry.value.column, entry.is_null()))
            .collect();
        let wanted = [
            ("runner", 1, 3, false),
            ("runner.capacity", 2, 13, false),
            ("runner.labels", 3, 5, false),
            ("runner.labels.[0]", 4, 7, false),
            ("runner.labels.[1]", 5, 7, false),
            ("runner.envs", 6, 5, false),
            ("runner.envs.HTTP_PROXY", 7, 17, false),
            ("log", 9, 6, false),
            ("log.level", 9, 14, false),
        ];
        for (path, line, column, null) in wanted {
            assert!(found.contains(&(path.to_owned(), line, column, null)), "{path} in {found:?}");
        }
        assert!(
            found.iter().any(|(path, _, _, null)| path == "runner.envs.http_proxy" && *null),
            "{found:?}"
        );
    }

    #[test]
    fn what_is_no_yaml_is_placed_too() {
        let (place, reason) = entries("runner:\n  a: [1\nlog: 2\n").expect_err("the bracket stays open");
        assert!(place.line >= 2 && !reason.is_empty(), "{place:?} {reason}");
    }

    #[test]
    fn quoted_text_is_told_from_plain() {
        let found = entries("a: \"null\"\nb: null\n").expect("this is YAML");
        assert_eq!(found[0].shape, Shape::Scalar { text: "null".into(), plain: false });
        assert!(!found[0].is_null() && found[1].is_null());
    }
}
