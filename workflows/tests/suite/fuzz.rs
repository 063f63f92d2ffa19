//! Bounded fuzzing of the four grammars: seeded mutations of a corpus, the same in every run. What must
//! hold: no panic, places within the text, and what the module's own words promise.
//!
//! By hand for longer: `FUZZ_SECONDS=300 cargo test -p workflows --test suite fuzz`, with a seed from
//! `FUZZ_SEED` to go elsewhere.

use std::time::{Duration, Instant};

use workflows::plan::{Run, RunOptions};
use workflows::{
    Colour, Contexts, Expression, FileKind, LintOptions, Scope, SourceFile, Template, command_files,
    commands, lint, parse_payload, render,
};

/// A small generator of numbers: good enough to choose mutations, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % sides.max(1)
    }
}

/// One to four changes: cut, double, swap, put a word in, flip a byte.
fn mutate(dice: &mut Dice, text: &[u8], words: &[&str]) -> Vec<u8> {
    let mut bytes = text.to_vec();
    for _ in 0..=dice.roll(4) {
        let at = dice.roll(bytes.len() + 1);
        let to = (at + dice.roll(24)).min(bytes.len());
        match dice.roll(6) {
            0 => drop(bytes.drain(at..to)),
            1 => {
                let piece = bytes[at..to].to_vec();
                let place = dice.roll(bytes.len() + 1);
                bytes.splice(place..place, piece);
            }
            2 if at < bytes.len() => bytes[at] = u8::try_from(dice.roll(256)).unwrap_or(0),
            3 => bytes.truncate(at),
            _ => {
                let word = words[dice.roll(words.len())].bytes();
                bytes.splice(at..at, word);
            }
        }
    }
    bytes.truncate(20_000);
    bytes
}

/// Runs `check` on mutations until the number or the time is used up; shows the input of a panic.
fn fuzz(name: &str, corpus: &[&str], words: &[&str], check: impl Fn(&[u8]) + std::panic::RefUnwindSafe) {
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let seed = std::env::var("FUZZ_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x5EED_u64);
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(12));
    let rounds = if seconds.is_some() { usize::MAX } else { 20_000 };
    let mut dice = Dice(seed | 1);
    let mut pool: Vec<Vec<u8>> = corpus.iter().map(|text| text.as_bytes().to_vec()).collect();
    let mut done = 0;
    while done < rounds && (done % 64 != 0 || Instant::now() < until) {
        let chosen = dice.roll(pool.len());
        let input = mutate(&mut dice, &pool[chosen], words);
        let survived = std::panic::catch_unwind(|| check(&input)).is_ok();
        assert!(survived, "{name}: round {done} fails on {:?}", String::from_utf8_lossy(&input));
        // Some results are changed further.
        if dice.roll(8) == 0 {
            let slot = dice.roll(200);
            if slot < pool.len() && slot >= corpus.len() {
                pool[slot] = input;
            } else if pool.len() < 200 {
                pool.push(input);
            }
        }
        done += 1;
    }
    println!("{name}: {done} inputs");
}

const EXAMPLE: &str = include_str!("../../examples/matrix.yml");
const OUTPUTS: &str = include_str!("../../examples/outputs.yml");

#[test]
fn yaml() {
    let corpus = [
        EXAMPLE,
        OUTPUTS,
        "a: &x [1, 'two', \"th\\u0072ee\", ~]\nb: *x\nc:\n  - |\n    lit\n  - >-\n    fol\n    ded\n? k\n: v\n<<: {d: !!int 3}\n",
        "on: {push: {branches: ['**', '!x'], paths: [a/b]}, schedule: [{cron: '0 0 * * *'}]}\njobs: {a: {uses: ./b.yml}}",
        "on:\n  workflow_dispatch:\n    inputs: {n: {type: number, default: 1}}\npermissions: read-all\njobs: {é: {needs: [é], runs-on: [x], container: {image: i}}}\n",
    ];
    let words = [
        "${{ ",
        " }}",
        "github.event.x",
        "*x",
        "&x ",
        "- ",
        ": ",
        "\n  ",
        "\t",
        "'",
        "\"",
        "|\n",
        ">\n",
        "[",
        "]",
        "{",
        "}",
        "<<: ",
        "!!str ",
        "? ",
        "#",
        "---\n",
        "é",
        "漢",
        "\u{feff}",
        "\u{2028}",
        "matrix:",
        "steps:",
        "if: ",
        "run: ",
        "needs: ",
        "\\x",
        "%",
        "@",
    ];
    fuzz("yaml", &corpus, &words, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let source = SourceFile::new("fuzz.yml", &text);
        for kind in [FileKind::Workflow, FileKind::Action] {
            for finding in lint(&source, &LintOptions { kind, ..LintOptions::default() }) {
                assert!(finding.span.start <= finding.span.end, "{finding:?}");
                assert!(!render(&finding, &source, Colour::Never).is_empty());
            }
        }
        if let Ok(workflow) = parse_payload(&source).into_result()
            && let Ok(mut run) = Run::new(workflow, RunOptions::default())
        {
            run.advance();
        }
    });
}

#[test]
fn expressions() {
    let corpus = [
        "github.event.commits.*.author['name'] == 'x' && !contains(fromJSON('[1, \"a\"]'), 0x1F)",
        "format('{0}-{{{1}}}', join(a.*.b, ', '), toJSON(matrix)) || case(1 < 2, -1.5e3, NaN)",
        "success() && (failure('a') || always()) && hashFiles('**/x', '!y') != null",
        "((((a))))[b[c.d]].*[*][1] >= 'it''s' <= true",
    ];
    let words = [
        "(",
        ")",
        "[",
        "]",
        ".",
        "*",
        "'",
        "''",
        ",",
        "==",
        "&&",
        "||",
        "!",
        "<=",
        "format(",
        "join(",
        "fromJSON(",
        "toJSON(",
        "case(",
        "null",
        "true",
        "1e9",
        "0x",
        "-",
        "{0}",
        "{",
        "}",
        "}}",
        "ı",
        "github",
        "a-b",
        " ",
        "\n",
    ];
    let contexts = Contexts::new()
        .with("github", serde_json::json!({"event": {"commits": [{"author": {"name": "X"}}, 1, null]}}))
        .with("a", serde_json::json!([{"b": 1}, {"b": "two"}]))
        .with("matrix", serde_json::json!({"x": [1, 2, {"y": "z"}]}));
    fuzz("expressions", &corpus, &words, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let scope = Scope::new(&contexts);
        match Expression::parse(&text) {
            Ok(expression) => {
                // A value has a text, a number, and is equal to itself unless it is NaN.
                if let Ok(value) = expression.eval(&scope) {
                    let _ = (value.to_number(), value.to_json());
                    assert!(value.loose_equals(&value) || value.to_text() == "NaN", "{value:?}");
                    assert_eq!(expression.eval(&scope).map(|again| again.to_text()), Ok(value.to_text()));
                }
            }
            Err(error) => {
                assert!(error.range.start <= error.range.end && error.range.end <= text.len(), "{error:?}");
            }
        }
        let template = Template::parse(&format!("x ${{{{ {text} }}}} y"));
        let _ = template.eval_string(&scope);
        for (expression, offset) in template.expressions() {
            assert!(template.raw()[offset..].starts_with(expression.source()));
        }
    });
}

#[test]
fn commands_in_lines() {
    let corpus = [
        "::set-output name=a,b=c%2C::d%0Ae",
        "  ::warning file=a.rs,line=1,endLine=2,col=3::text",
        "x ##[error file=a;line=2]b%5D",
        "::stop-commands::token",
        "::add-mask::%25",
    ];
    let words = [
        "::", "##[", "]", "%0A", "%25", "%2C", "=", ",", ";", "name=", "echo", "group", "endgroup", " ", "é",
    ];
    fuzz("commands", &corpus, &words, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let mut reader = commands::CommandReader::new();
        for line in text.lines() {
            if let commands::Line::Command(command) = reader.read(line) {
                assert!(commands::NAMES.contains(&command.name.as_str()), "{command:?}");
                if let Ok(commands::Command::StopCommands(token)) = command.interpret() {
                    let _ = reader.stop(&token, false);
                }
            }
        }
        // White space at the end of the last property is trimmed, so another one stands behind it.
        let (title, data) = (commands::escape_property(&text), commands::escape_data(&text));
        let line = format!("::notice title={title},line=1::{data}");
        let again = commands::parse_line(&line).expect("an escaped command");
        assert_eq!((again.property("title"), again.data.as_str()), (Some(&*text), &*text));
    });
}

#[test]
fn command_file_pairs() {
    let corpus = ["A=b\nC<<E\nx\n\ny\nE\nD=\n", "A<<E\r\nx\r\nE\r\n", "=x\n<<\n", "\u{feff}A=é\n"];
    let words = ["<<", "=", "\n", "\r\n", "E\n", "E", "\u{0}", " ", "A<<E\n", "é"];
    fuzz("command files", &corpus, &words, |bytes| {
        let file = command_files::parse_env_file(bytes);
        let text = command_files::decode(bytes).expect("small");
        for (name, value) in &file.pairs {
            assert!(text.contains(name.as_str()) && text.contains(value.as_str()), "{name:?} {value:?}");
        }
        assert!(file.error.is_none_or(|error| !error.is_empty()));
        let paths = command_files::parse_path_file(bytes).expect("small");
        assert!(paths.iter().all(|path| !path.is_empty() && !path.contains('\n')));
    });
}
