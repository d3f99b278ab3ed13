//! Mutants of a predicate: the SQL with one small mistake.
//!
//! Of a comparison's mutants only those are made that imply all others (Kaminski, Ammann, Offutt: Improving
//! logic-based testing, 2013): a set of rows that tells these apart tells every other operator apart too.

use std::collections::BTreeSet;

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, Interval, UnaryOperator, Value};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

/// The smallest step of a timestamp, see [`crate::contract::LogicalType::Timestamp`].
const TIME_STEP: &str = "1 microsecond";

/// The predicate's mutants as SQL; none if it cannot be parsed. `decimals` says how many digits after
/// the point a column's values have, where its type fixes that.
pub fn variants(predicate: &str, decimals: impl Fn(&str) -> Option<usize>) -> Vec<String> {
    let Some(expr) = parse(predicate) else { return Vec::new() };
    let original = expr.to_string();
    let mut seen = BTreeSet::from([original.clone()]);
    let whole = ["FALSE".to_owned(), format!("NOT ({original})")];
    let inside = mutate(&expr, &Step { decimals: &decimals, digits: None });
    whole
        .into_iter()
        .chain(inside.iter().map(Expr::to_string))
        .filter(|sql| seen.insert(sql.clone()))
        .collect()
}

/// Whether the predicate reads the column, written as `reference.column`.
pub fn reads(predicate: &str, column: &str) -> bool {
    let written = predicate.replace('"', "").to_lowercase();
    regex::Regex::new(&format!(r"\b{}\b", regex::escape(&column.to_lowercase())))
        .is_ok_and(|column| column.is_match(&written))
}

/// The literals in the predicate: numbers and texts, as they are written.
pub fn literals(predicate: &str) -> Vec<Value> {
    let Some(expr) = parse(predicate) else { return Vec::new() };
    let mut found = Vec::new();
    collect(&expr, &mut found);
    found
}

/// The number one step lower and one step higher, the step being one in its last digit, or in the given
/// count of digits after the point. None for what is not a plain decimal number.
pub fn steps(number: &str, decimals: Option<usize>) -> Vec<String> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = decimals.unwrap_or(0).max(fraction.len());
    let Ok(scaled) = format!("{whole}{fraction:0<digits$}").parse::<i128>() else { return Vec::new() };
    [-1, 1]
        .into_iter()
        .map(|step| {
            let value = scaled + step;
            let text = format!("{:0>width$}", value.unsigned_abs(), width = digits + 1);
            let (whole, fraction) = text.split_at(text.len() - digits);
            let sign = if value < 0 { "-" } else { "" };
            if digits == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
        })
        .collect()
}

fn parse(predicate: &str) -> Option<Expr> {
    Parser::new(&GenericDialect {}).try_with_sql(predicate).ok()?.parse_expr().ok()
}

/// How far a number is shifted: by the digits of the column that it is compared with.
#[derive(Clone, Copy)]
struct Step<'a> {
    decimals: &'a dyn Fn(&str) -> Option<usize>,
    digits: Option<usize>,
}

impl Step<'_> {
    /// For what stands beside `other` in a comparison.
    fn beside(self, other: &Expr) -> Self {
        let digits = match other {
            Expr::Identifier(name) => (self.decimals)(&name.value),
            Expr::CompoundIdentifier(path) => path.last().and_then(|name| (self.decimals)(&name.value)),
            _ => None,
        };
        Self { digits, ..self }
    }
}

/// The expression with one mistake, in every way.
fn mutate(expr: &Expr, step: &Step<'_>) -> Vec<Expr> {
    let boxed = |expr: &Expr, wrap: &dyn Fn(Box<Expr>) -> Expr| -> Vec<Expr> {
        mutate(expr, step).into_iter().map(|inside| wrap(Box::new(inside))).collect()
    };
    match expr {
        Expr::BinaryOp { left, op, right } => binary(left, op, right, step),
        Expr::Nested(inside) => boxed(inside, &Expr::Nested),
        Expr::UnaryOp { op: UnaryOperator::Not, expr: inside } => {
            let mut mutants = boxed(inside, &|expr| Expr::UnaryOp { op: UnaryOperator::Not, expr });
            mutants.push(inside.as_ref().clone());
            mutants
        }
        Expr::UnaryOp { op: UnaryOperator::Minus, expr: inside } => match inside.as_ref() {
            Expr::Value(number) => shifted(&format!("-{number}"), step),
            _ => boxed(inside, &|expr| Expr::UnaryOp { op: UnaryOperator::Minus, expr }),
        },
        Expr::IsNull(inside) => {
            let mut mutants = boxed(inside, &Expr::IsNull);
            mutants.push(Expr::IsNotNull(inside.clone()));
            mutants
        }
        Expr::IsNotNull(inside) => {
            let mut mutants = boxed(inside, &Expr::IsNotNull);
            mutants.push(Expr::IsNull(inside.clone()));
            mutants
        }
        Expr::InList { expr, list, negated } => {
            let shorter = (0..list.len()).filter(|_| list.len() > 1).map(|gone| {
                let mut list = list.clone();
                list.remove(gone);
                Expr::InList { expr: expr.clone(), list, negated: *negated }
            });
            let flipped = Expr::InList { expr: expr.clone(), list: list.clone(), negated: !negated };
            std::iter::once(flipped).chain(shorter).collect()
        }
        Expr::Between { expr, negated, low, high } => {
            let between = |low: Expr, high: Expr, negated: bool| Expr::Between {
                expr: expr.clone(),
                negated,
                low: Box::new(low),
                high: Box::new(high),
            };
            let (low, high) = (low.as_ref(), high.as_ref());
            let step = step.beside(expr);
            let lows = mutate(low, &step).into_iter().map(|low| between(low, high.clone(), *negated));
            let highs = mutate(high, &step).into_iter().map(|high| between(low.clone(), high, *negated));
            std::iter::once(between(low.clone(), high.clone(), !negated)).chain(lows).chain(highs).collect()
        }
        Expr::Value(value) if matches!(value.value, Value::Number(..)) => shifted(&value.to_string(), step),
        Expr::Interval(interval) => time_shifted(interval),
        _ => Vec::new(),
    }
}

fn binary(left: &Expr, op: &BinaryOperator, right: &Expr, step: &Step<'_>) -> Vec<Expr> {
    let with = |left: &Expr, op: &BinaryOperator, right: &Expr| Expr::BinaryOp {
        left: Box::new(left.clone()),
        op: op.clone(),
        right: Box::new(right.clone()),
    };
    let mut mutants = match op {
        BinaryOperator::And | BinaryOperator::Or => vec![left.clone(), right.clone()],
        _ => match operators(op) {
            Some((others, constant)) => {
                let constant = Expr::value(Value::Boolean(constant));
                others.iter().map(|op| with(left, op, right)).chain([constant]).collect()
            }
            None => Vec::new(),
        },
    };
    mutants.extend(mutate(left, &step.beside(right)).iter().map(|left| with(left, op, right)));
    mutants.extend(mutate(right, &step.beside(left)).iter().map(|right| with(left, op, right)));
    mutants
}

/// What a comparison is mistaken for: two operators, and a constant.
fn operators(op: &BinaryOperator) -> Option<([BinaryOperator; 2], bool)> {
    use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    match op {
        Lt => Some(([LtEq, NotEq], false)),
        Gt => Some(([GtEq, NotEq], false)),
        LtEq => Some(([Lt, Eq], true)),
        GtEq => Some(([Gt, Eq], true)),
        Eq => Some(([LtEq, GtEq], false)),
        NotEq => Some(([Lt, Gt], true)),
        _ => None,
    }
}

fn shifted(number: &str, step: &Step<'_>) -> Vec<Expr> {
    // Beside a decimal column a bare fraction would be a double, which is not quite the number written.
    let exact = |number: String| match step.digits {
        Some(digits @ 1..) => format!("CAST('{number}' AS DECIMAL(38, {digits}))"),
        _ => number,
    };
    steps(number, step.digits).into_iter().filter_map(|number| parse(&exact(number))).collect()
}

fn time_shifted(interval: &Interval) -> Vec<Expr> {
    ["-", "+"]
        .into_iter()
        .filter_map(|sign| parse(&format!("({interval} {sign} INTERVAL '{TIME_STEP}')")))
        .collect()
}

fn collect(expr: &Expr, found: &mut Vec<Value>) {
    match expr {
        Expr::Value(value) => found.push(value.value.clone()),
        Expr::BinaryOp { left, right, .. } => {
            collect(left, found);
            collect(right, found);
        }
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => {
            if let Expr::Value(number) = expr.as_ref() {
                found.push(Value::Number(format!("-{number}"), false));
            }
        }
        Expr::Nested(inside)
        | Expr::UnaryOp { expr: inside, .. }
        | Expr::IsNull(inside)
        | Expr::IsNotNull(inside) => collect(inside, found),
        Expr::InList { expr, list, .. } => {
            collect(expr, found);
            list.iter().for_each(|item| collect(item, found));
        }
        Expr::Between { expr, low, high, .. } => {
            [expr, low, high].into_iter().for_each(|expr| collect(expr, found));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_range_is_mistaken_in_every_way_once() {
        let decimals = |column: &str| (column == "amount").then_some(2);
        assert_eq!(
            variants("amount <= 0 OR amount > 9", decimals),
            [
                "FALSE",
                "NOT (amount <= 0 OR amount > 9)",
                "amount <= 0",
                "amount > 9",
                "amount < 0 OR amount > 9",
                "amount = 0 OR amount > 9",
                "true OR amount > 9",
                "amount <= CAST('-0.01' AS DECIMAL(38,2)) OR amount > 9",
                "amount <= CAST('0.01' AS DECIMAL(38,2)) OR amount > 9",
                "amount <= 0 OR amount >= 9",
                "amount <= 0 OR amount <> 9",
                "amount <= 0 OR false",
                "amount <= 0 OR amount > CAST('8.99' AS DECIMAL(38,2))",
                "amount <= 0 OR amount > CAST('9.01' AS DECIMAL(38,2))",
            ]
        );
    }

    #[test]
    fn lists_nulls_and_times_are_mistaken() {
        let variants = |sql: &str| variants(sql, |_| None).split_off(2);
        assert_eq!(variants("c NOT IN ('a', 'b')"), ["c IN ('a', 'b')", "c NOT IN ('b')", "c NOT IN ('a')"]);
        assert_eq!(variants("c IS NULL"), ["c IS NOT NULL"]);
        assert_eq!(
            variants("t > now() + INTERVAL '5 minutes'")[3..],
            [
                "t > now() + (INTERVAL '5 minutes' - INTERVAL '1 microsecond')",
                "t > now() + (INTERVAL '5 minutes' + INTERVAL '1 microsecond')",
            ]
        );
        assert!(super::variants("c >", |_| None).is_empty());
    }

    #[test]
    fn a_step_is_one_in_the_last_digit() {
        assert_eq!(steps("-40.0", None), ["-40.1", "-39.9"]);
        assert_eq!(steps("0", Some(2)), ["-0.01", "0.01"]);
        assert_eq!(steps("99", None), ["98", "100"]);
        assert!(steps("1e5", None).is_empty());
    }
}
