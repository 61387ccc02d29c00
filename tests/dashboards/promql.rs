//! A query, taken apart.

use promql_parser::{
    label::MatchOp,
    parser::{self, Expr, LabelModifier, VectorSelector},
};

use crate::dashboard::Query;

pub(crate) fn parse(query: &Query) -> Expr {
    // Filters stay as they are: within quotes anything is allowed.
    let text = query.over("5m");
    parser::parse(&text).unwrap_or_else(|error| panic!("{}: {error}\n{text}", query.place))
}

/// Visits every part with those that it is in, the whole first.
pub(crate) fn visit<'a>(whole: &'a Expr, seen: &mut dyn FnMut(&'a Expr, &[&'a Expr])) {
    fn go<'a>(part: &'a Expr, within: &mut Vec<&'a Expr>, seen: &mut dyn FnMut(&'a Expr, &[&'a Expr])) {
        seen(part, within);
        within.push(part);
        for child in children(part) {
            go(child, within, seen);
        }
        within.pop();
    }
    go(whole, &mut Vec::new(), seen);
}

fn children(part: &Expr) -> Vec<&Expr> {
    match part {
        Expr::Aggregate(aggregate) => aggregate
            .param
            .iter()
            .chain([&aggregate.expr])
            .map(|child| &**child)
            .collect(),
        Expr::Unary(unary) => vec![&unary.expr],
        Expr::Binary(binary) => vec![&binary.lhs, &binary.rhs],
        Expr::Paren(paren) => vec![&paren.expr],
        Expr::Subquery(subquery) => vec![&subquery.expr],
        Expr::Call(call) => call.args.args.iter().map(|child| &**child).collect(),
        _ => Vec::new(),
    }
}

/// What is selected, and whether over a time.
pub(crate) fn selector(part: &Expr) -> Option<(&VectorSelector, bool)> {
    match part {
        Expr::VectorSelector(selector) => Some((selector, false)),
        Expr::MatrixSelector(matrix) => Some((&matrix.vs, true)),
        _ => None,
    }
}

pub(crate) fn name(selector: &VectorSelector) -> &str {
    selector
        .name
        .as_deref()
        .expect("a selector without a name reads everything")
}

/// Whether the values of `label` are those chosen in the variable of that name.
pub(crate) fn follows_variable(selector: &VectorSelector, label: &str) -> bool {
    // A budget is a probe's or a target's: then the other label is empty.
    let chosen = [format!("${label}"), format!("${label}|")];
    selector.matchers.matchers.iter().any(|matcher| {
        matcher.name == label && matches!(matcher.op, MatchOp::Re(_)) && chosen.contains(&matcher.value)
    })
}

/// The name of a function that is called here.
pub(crate) fn called(part: &Expr) -> Option<&str> {
    match part {
        Expr::Call(call) => Some(call.func.name),
        _ => None,
    }
}

/// The operator of an aggregation.
pub(crate) fn aggregated(part: &Expr) -> Option<String> {
    match part {
        Expr::Aggregate(aggregate) => Some(aggregate.op.to_string()),
        _ => None,
    }
}

/// Whether `label` outlives the aggregation.
pub(crate) fn keeps(part: &Expr, label: &str) -> bool {
    match part {
        Expr::Aggregate(aggregate) => match &aggregate.modifier {
            Some(LabelModifier::Include(labels)) => labels.labels.iter().any(|kept| kept == label),
            Some(LabelModifier::Exclude(labels)) => labels.labels.iter().all(|dropped| dropped != label),
            None => false,
        },
        _ => true,
    }
}

pub(crate) fn any(whole: &Expr, mut holds: impl FnMut(&Expr) -> bool) -> bool {
    let mut found = false;
    visit(whole, &mut |part, _| found |= holds(part));
    found
}
