//! The `shell` of a `run` step: what GitHub makes of the value, as program, arguments, file extension
//! and changes to the script.

/// Shells with a template of their own.
pub const BUILT_IN: [&str; 6] = ["bash", "sh", "pwsh", "powershell", "cmd", "python"];

/// A shell that can run a script file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shell {
    /// The program, by name or path.
    pub program: String,
    /// Arguments; `{0}` stands for the script's path.
    pub arguments: Vec<String>,
    /// Extension of the script file with its point; empty when there is none.
    pub extension: &'static str,
}

impl Shell {
    /// From the value of `shell`.
    ///
    /// # Errors
    /// GitHub's sentence, when the value is no built-in shell and has no place for the script.
    ///
    /// ```
    /// use workflows::shell::Shell;
    /// let shell = Shell::parse("bash")?;
    /// assert_eq!(shell.argv("/tmp/x.sh").join(" "), "bash --noprofile --norc -e -o pipefail /tmp/x.sh");
    /// assert!(Shell::parse("bash -l").is_err()); // the script would never run
    /// # Ok::<(), String>(())
    /// ```
    pub fn parse(value: &str) -> Result<Self, String> {
        let value = value.trim();
        let (program, rest) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
        let name = program.to_ascii_lowercase();
        let (arguments, extension) = match name.as_str() {
            "bash" => ("--noprofile --norc -e -o pipefail {0}", ".sh"),
            "sh" => ("-e {0}", ".sh"),
            "pwsh" | "powershell" => ("-command \". '{0}'\"", ".ps1"),
            "cmd" => ("/D /E:ON /V:OFF /S /C \"CALL \"{0}\"\"", ".cmd"),
            "python" => ("{0}", ".py"),
            _ => ("", ""),
        };
        let rest = rest.trim();
        if rest.is_empty() && !arguments.is_empty() {
            return Ok(Self { program: name, arguments: split_arguments(arguments), extension });
        }
        if program.is_empty() || !rest.contains("{0}") {
            return Err(format!(
                "Invalid shell option '{value}'. Shell must be a built-in ({}) or a command with {{0}} in place of the script",
                BUILT_IN.join(", ")
            ));
        }
        Ok(Self { program: program.to_owned(), arguments: split_arguments(rest), extension })
    }

    /// The shell of a step without one: with bash, or where there is none with sh. On a host GitHub
    /// does not set `pipefail` unless `shell: bash` is written.
    pub fn fallback(has_bash: bool) -> Self {
        let program = if has_bash { "bash" } else { "sh" };
        Self {
            program: program.to_owned(),
            arguments: vec!["-e".to_owned(), "{0}".to_owned()],
            extension: ".sh",
        }
    }

    /// Program and arguments for a script at `path`. Doubled braces in arguments are single ones.
    pub fn argv(&self, path: &str) -> Vec<String> {
        let fill = |argument: &String| {
            // A path may itself contain braces, so text around the places is unescaped first.
            let parts: Vec<String> =
                argument.split("{0}").map(|part| part.replace("{{", "{").replace("}}", "}")).collect();
            parts.join(path)
        };
        std::iter::once(self.program.clone()).chain(self.arguments.iter().map(fill)).collect()
    }

    /// The script as it has to stand in the file.
    pub fn prepare_script(&self, script: &str) -> String {
        match self.extension {
            ".ps1" => format!(
                "$ErrorActionPreference = 'stop'\n{script}\nif ((Test-Path -LiteralPath variable:\\LASTEXITCODE)) {{ exit $LASTEXITCODE }}"
            ),
            ".cmd" => format!("@echo off\n{script}").replace("\r\n", "\n").replace('\n', "\r\n"),
            _ => script.to_owned(),
        }
    }
}

/// Splits at white space outside of double quotes; quotes inside a word stay part of it.
fn split_arguments(text: &str) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut current = String::new();
    let (mut quoted, mut started) = (false, false);
    for c in text.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                started = true;
            }
            c if c.is_whitespace() && !quoted => {
                if std::mem::take(&mut started) {
                    arguments.push(std::mem::take(&mut current));
                }
            }
            c => {
                started = true;
                current.push(c);
            }
        }
    }
    if started {
        arguments.push(current);
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(value: &str) -> Vec<String> {
        Shell::parse(value).expect("valid").argv("S")
    }

    #[test]
    fn built_in_shells_have_templates() {
        assert_eq!(argv("bash"), ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "S"]);
        assert_eq!(argv("SH"), ["sh", "-e", "S"]);
        assert_eq!(argv("pwsh"), ["pwsh", "-command", ". 'S'"]);
        assert_eq!(argv("python"), ["python", "S"]);
        assert_eq!(argv("cmd")[0], "cmd");
        assert_eq!(Shell::parse("PowerShell").expect("valid").extension, ".ps1");
    }

    #[test]
    fn own_templates_need_a_place_for_the_script() {
        assert_eq!(argv("bash -x {0}"), ["bash", "-x", "S"]);
        assert_eq!(argv("mytool {0} --log={0} {{x}}"), ["mytool", "S", "--log=S", "{x}"]);
        assert_eq!(argv("perl \"-w x\" {0}"), ["perl", "-w x", "S"]);
        assert_eq!(Shell::parse("bash -x {0}").expect("valid").extension, ".sh");
        assert_eq!(Shell::parse("perl {0}").expect("valid").extension, "");
        for wrong in ["", "bash -l", "perl", "dash"] {
            assert!(Shell::parse(wrong).expect_err("no place").contains("{0}"), "{wrong}");
        }
    }

    #[test]
    fn scripts_are_prepared_and_defaults_exist() {
        assert_eq!(Shell::parse("bash").expect("valid").prepare_script("a\n"), "a\n");
        assert_eq!(Shell::parse("cmd").expect("valid").prepare_script("a\r\nb\n"), "@echo off\r\na\r\nb\r\n");
        assert!(
            Shell::parse("pwsh").expect("valid").prepare_script("x").starts_with("$ErrorActionPreference")
        );
        assert_eq!(Shell::fallback(true).argv("S"), ["bash", "-e", "S"]);
        assert_eq!(Shell::fallback(false).program, "sh");
    }
}
