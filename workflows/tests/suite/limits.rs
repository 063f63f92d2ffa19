//! Files made to hurt: they are refused quickly and in little memory.

use std::fmt::Write as _;

use workflows::{Code, Expression, LintOptions, SourceFile, Template, lint, yaml};

fn refused(text: &str) -> (Code, String) {
    let source = SourceFile::new("a.yml", text);
    let (tree, findings) = yaml::parse(&source, yaml::Limits::default());
    assert!(tree.is_none());
    let finding = findings.last().expect("a finding");
    (finding.code, finding.message.clone())
}

#[test]
fn a_billion_laughs_are_refused() {
    let mut text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..30 {
        let items = vec![format!("*a{}", level - 1); 9].join(", ");
        writeln!(text, "a{level}: &a{level} [{items}]").expect("a string takes everything");
    }
    let (code, message) = refused(&text);
    assert_eq!(code, Code::YamlLimit);
    assert!(message.contains("once aliases are expanded"), "{message}");
}

#[test]
fn depth_and_size_are_bounded() {
    assert_eq!(refused(&"[".repeat(60)).0, Code::YamlLimit);
    let nested = (0..60).map(|depth| " ".repeat(depth)).collect::<Vec<_>>().join("k:\n") + "k:\n";
    assert_eq!(refused(&nested).0, Code::YamlLimit);
    let (code, message) = refused(&"#".repeat(5 * 1024 * 1024));
    assert_eq!(code, Code::YamlLimit);
    assert!(message.contains("4194304 bytes"), "{message}");
    assert_eq!(refused(&"[".repeat(100_000)).0, Code::YamlLimit);
    let long = format!("a: [{}]", "1,".repeat(300_000));
    assert_eq!(refused(&long).0, Code::YamlLimit);
}

#[test]
fn an_alias_of_itself_is_refused() {
    let source = SourceFile::new("a.yml", "on: push\njobs: &j\n  a: *j\n");
    let findings = lint(&source, &LintOptions::default());
    assert!(findings.iter().any(|finding| finding.code == Code::YamlSyntax), "{findings:?}");
}

#[test]
fn expressions_are_bounded_in_length_depth_and_memory() {
    let message = |text: &str| Expression::parse(text).expect_err("refused").message;
    assert_eq!(message(&"a".repeat(21_001)), "Exceeded max expression length 21000");
    assert_eq!(message(&"(".repeat(10_000)), "Exceeded max expression depth 50");
    assert_eq!(message(&format!("{}true", "!".repeat(10_000))), "Exceeded max expression depth 50");
    assert_eq!(message(&format!("a{}", ".b".repeat(5_000))), "Exceeded max expression depth 50");
    // Chains of one operator are one level.
    assert!(Expression::parse(&vec!["a"; 4_000].join(" && ")).is_ok());
    let double = "format('{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}', ";
    let text = format!("{}'{}'{}", double.repeat(7), "x".repeat(100), ")".repeat(7));
    let contexts = workflows::Contexts::new();
    let error = Expression::parse(&text).expect("a valid expression").eval(&workflows::Scope::new(&contexts));
    assert_eq!(error.expect_err("too large").to_string(), "The maximum allowed memory size was exceeded");
}

#[test]
fn templates_with_many_segments_stay_linear() {
    let text = "${{ a }} ".repeat(20_000);
    let template = Template::parse(&text);
    assert_eq!(template.expressions().count(), 20_000);
}
