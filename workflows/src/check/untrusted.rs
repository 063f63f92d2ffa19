//! Text that strangers can choose: titles, bodies, branch names, messages. In a script it is code.

use crate::context::{Context, ContextName};
use crate::expr::Function;
use crate::expr::ast::{Expr, ExprKind};
use crate::expr::functions::format_parts;

/// Paths below `github`; `*` stands for any item.
const PATHS: &[&[&str]] = &[
    &["event", "issue", "title"],
    &["event", "issue", "body"],
    &["event", "pull_request", "title"],
    &["event", "pull_request", "body"],
    &["event", "comment", "body"],
    &["event", "review", "body"],
    &["event", "review_comment", "body"],
    &["event", "discussion", "title"],
    &["event", "discussion", "body"],
    &["event", "pages", "*", "page_name"],
    &["event", "commits", "*", "message"],
    &["event", "commits", "*", "author", "email"],
    &["event", "commits", "*", "author", "name"],
    &["event", "head_commit", "message"],
    &["event", "head_commit", "author", "email"],
    &["event", "head_commit", "author", "name"],
    &["event", "pull_request", "head", "ref"],
    &["event", "pull_request", "head", "label"],
    &["event", "pull_request", "head", "repo", "default_branch"],
    &["event", "workflow_run", "head_branch"],
    &["event", "workflow_run", "head_commit", "message"],
    &["event", "workflow_run", "head_commit", "author", "email"],
    &["event", "workflow_run", "head_commit", "author", "name"],
    &["event", "workflow_run", "pull_requests", "*", "head", "ref"],
    &["head_ref"],
];

/// A read of such text.
pub(crate) struct Untrusted<'e> {
    pub(crate) expr: &'e Expr,
    pub(crate) path: String,
}

/// The reads whose text can come out of the expression.
pub(crate) fn find(root: &Expr) -> Vec<Untrusted<'_>> {
    let mut found = Vec::new();
    visit(root, &mut found);
    found
}

fn visit<'e>(expr: &'e Expr, found: &mut Vec<Untrusted<'e>>) {
    match &expr.kind {
        ExprKind::Index(pair) => {
            if let Some(path) = path_of(expr)
                && path.first().is_some_and(|first| {
                    first.eq_ignore_ascii_case("event") || first.eq_ignore_ascii_case("head_ref")
                })
                && let Some(known) = PATHS.iter().find(|known| same(known, &path))
            {
                found.push(Untrusted { expr, path: format!("github.{}", known.join(".")) });
                return;
            }
            visit(&pair.0, found);
            visit(&pair.1, found);
        }
        ExprKind::Star { of } => visit(of, found),
        // Comparisons and searches give booleans, which nobody can inject.
        ExprKind::Not(_) | ExprKind::Compare(..) | ExprKind::Literal(_) | ExprKind::Context(_) => {}
        ExprKind::And(items) | ExprKind::Or(items) => items.iter().for_each(|item| visit(item, found)),
        ExprKind::Call { function, arguments } => match function {
            Function::Contains | Function::StartsWith | Function::EndsWith | Function::HashFiles => {}
            Function::Format
                if arguments
                    .first()
                    .and_then(Expr::literal_text)
                    .is_some_and(|f| format_parts(f).is_none()) => {}
            _ => arguments.iter().for_each(|argument| visit(argument, found)),
        },
    }
}

/// The names after `github`, `*` for every item that is not named.
fn path_of(expr: &Expr) -> Option<Vec<&str>> {
    let mut names = Vec::new();
    let mut at = expr;
    loop {
        match &at.kind {
            ExprKind::Index(pair) => {
                let (of, index) = &**pair;
                names.push(index.literal_text().map_or("*", |name| &**name));
                at = of;
            }
            ExprKind::Star { of } => {
                names.push("*");
                at = of;
            }
            ExprKind::Context(ContextName::Known(Context::Github)) => {
                names.reverse();
                return Some(names);
            }
            _ => return None,
        }
    }
}

/// `*` on either side fits anything: `github.event.*.body` reads every body.
fn same(known: &[&str], path: &[&str]) -> bool {
    known.len() == path.len()
        && known
            .iter()
            .zip(path)
            .all(|(known, own)| *known == "*" || *own == "*" || known.eq_ignore_ascii_case(own))
}
