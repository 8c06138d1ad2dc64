//! Whether a query's rows about a user depend on that user's events alone.
//!
//! Then its rows can be kept and followed user by user: after new events, the rows of the users who have them are made anew and
//! all others stay, and the result is what the whole query would give. The analysis goes from the scans upwards and knows, for
//! each node, which columns say whose a row is. The promise about such a column: *the rows that have u there are a function of
//! u's events* (and of whatever else the query reads, which must not have changed). Where that cannot be promised the reason is
//! given in words.
//!
//! It reads optimised plans: subqueries are joins there, and conditions of joins are found.
//!
//! Where a query calls `resolve_user`, a user stands for the person: the promise is then about the events of all ids of a person,
//! and whoever follows it must follow all of them.

use std::collections::BTreeSet;

use datafusion::common::{Column, JoinType};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Aggregate, BinaryExpr, Distinct, Expr, Join, LogicalPlan, Operator, TableScan, Unnest, Window};

/// The function that gives the person behind an id.
pub(super) const RESOLVE_USER: &str = "resolve_user";

/// What a plan's rows depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rows {
    /// Not on the events at all.
    Apart,
    /// On one user's events each; the user is in each of these columns.
    PerUser(BTreeSet<usize>),
}

/// Why rows depend on more than one user's events.
pub(crate) type Reason = String;

/// What the rows of `plan` depend on. `user` says for a scan of the events where the user is (`Some(None)`: it is such a scan,
/// without that column), and `None` for any other.
pub(crate) fn rows_per_user(plan: &LogicalPlan, user: &dyn Fn(&TableScan) -> Option<Option<usize>>) -> Result<Rows, Reason> {
    Analysis { user }.rows(plan)
}

struct Analysis<'a> {
    user: &'a dyn Fn(&TableScan) -> Option<Option<usize>>,
}

impl Analysis<'_> {
    fn rows(&self, plan: &LogicalPlan) -> Result<Rows, Reason> {
        self.subqueries(plan)?;
        match plan {
            LogicalPlan::TableScan(scan) => Ok(match (self.user)(scan) {
                None => Rows::Apart,
                Some(user) => Rows::PerUser(user.into_iter().collect()),
            }),
            LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => Ok(Rows::Apart),
            LogicalPlan::Projection(projection) => {
                let rows = self.rows(&projection.input)?;
                Ok(rows.through(projection.expr.iter().map(|expr| column_of(expr, &projection.input))))
            }
            LogicalPlan::Filter(filter) => self.rows(&filter.input),
            LogicalPlan::SubqueryAlias(alias) => self.rows(&alias.input),
            LogicalPlan::Subquery(subquery) => self.rows(&subquery.subquery),
            LogicalPlan::Repartition(repartition) => self.rows(&repartition.input),
            LogicalPlan::Sort(sort) => match (self.rows(&sort.input)?, sort.fetch) {
                (Rows::PerUser(_), Some(_)) => Err(limited()),
                (rows, _) => Ok(rows),
            },
            LogicalPlan::Limit(limit) => match self.rows(&limit.input)? {
                Rows::Apart => Ok(Rows::Apart),
                Rows::PerUser(_) => Err(limited()),
            },
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Window(window) => self.window(window),
            LogicalPlan::Distinct(Distinct::All(input)) => self.rows(input),
            LogicalPlan::Distinct(Distinct::On(on)) => {
                let rows = self.rows(&on.input)?;
                let chosen = on.on_expr.iter().filter_map(|expr| column_of(expr, &on.input));
                if !rows.has_any(chosen) {
                    return Err("DISTINCT ON chooses among the rows of several users".to_owned());
                }
                Ok(rows.through(on.select_expr.iter().map(|expr| column_of(expr, &on.input))))
            }
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Union(union) => {
                let inputs = union.inputs.iter().map(|input| self.rows(input)).collect::<Result<Vec<_>, _>>()?;
                Ok(inputs.into_iter().fold(Rows::Apart, Rows::and))
            }
            LogicalPlan::Unnest(unnest) => self.unnest(unnest),
            LogicalPlan::RecursiveQuery(_) => Err("it is recursive".to_owned()),
            LogicalPlan::Extension(extension) => Err(format!("{} looks at more than one user's events", extension.node.name())),
            other => Err(format!("{} cannot be followed user by user", other.display())),
        }
    }

    /// Subqueries that are left in expressions may not read the events.
    fn subqueries(&self, plan: &LogicalPlan) -> Result<(), Reason> {
        use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
        let mut failure = None;
        let walked = plan.apply_expressions(|expr| {
            expr.apply(|part| {
                let subquery = match part {
                    Expr::ScalarSubquery(subquery) => subquery,
                    Expr::Exists(exists) => &exists.subquery,
                    Expr::InSubquery(within) => &within.subquery,
                    _ => return Ok(TreeNodeRecursion::Continue),
                };
                match self.rows(&subquery.subquery) {
                    Ok(Rows::Apart) => {}
                    Ok(Rows::PerUser(_)) => failure = Some("a subquery reads the events of all users".to_owned()),
                    Err(reason) => failure = Some(reason),
                }
                Ok(TreeNodeRecursion::Continue)
            })
        });
        match (failure, walked) {
            (Some(reason), _) => Err(reason),
            (None, Err(error)) => Err(error.to_string()),
            (None, Ok(_)) => Ok(()),
        }
    }

    fn aggregate(&self, aggregate: &Aggregate) -> Result<Rows, Reason> {
        let rows = self.rows(&aggregate.input)?;
        if rows == Rows::Apart {
            return Ok(rows);
        }
        if aggregate.group_expr.iter().any(|expr| matches!(expr, Expr::GroupingSet(_))) {
            return Err("GROUPING SETS, ROLLUP and CUBE bring users together".to_owned());
        }
        let grouped = aggregate.group_expr.iter().map(|expr| column_of(expr, &aggregate.input));
        if !rows.has_any(grouped.clone().flatten()) {
            return Err("an aggregate brings users together: GROUP BY has no user".to_owned());
        }
        // Of one user's rows, any of them names the user: DISTINCT ON is planned so.
        let chosen = aggregate.aggr_expr.iter().map(|expr| match unalias(expr) {
            Expr::AggregateFunction(call)
                if matches!(call.func.name(), "first_value" | "last_value" | "min" | "max") && call.params.filter.is_none() =>
            {
                call.params.args.first().and_then(|value| column_of(value, &aggregate.input))
            }
            _ => None,
        });
        Ok(rows.through(grouped.chain(chosen)))
    }

    fn window(&self, window: &Window) -> Result<Rows, Reason> {
        let rows = self.rows(&window.input)?;
        for expr in &window.window_expr {
            let Expr::WindowFunction(function) = unalias(expr) else { return Err("a window that is not known".to_owned()) };
            let partition = function.params.partition_by.iter().filter_map(|expr| column_of(expr, &window.input));
            if !rows.has_any(partition) {
                return Err(format!("{} looks across users: its PARTITION BY has no user", function.fun.name()));
            }
        }
        // The window's own columns come behind the input's.
        Ok(rows)
    }

    fn unnest(&self, unnest: &Unnest) -> Result<Rows, Reason> {
        let rows = self.rows(&unnest.input)?;
        let nested: BTreeSet<usize> =
            unnest.list_type_columns.iter().map(|(column, _)| *column).chain(unnest.struct_type_columns.iter().copied()).collect();
        Ok(rows.through(unnest.dependency_indices.iter().map(|from| (!nested.contains(from)).then_some(*from))))
    }

    fn join(&self, join: &Join) -> Result<Rows, Reason> {
        use JoinType::{Full, Inner, Left, LeftAnti, LeftMark, LeftSemi, Right, RightAnti, RightMark, RightSemi};
        let (left, right) = (self.rows(&join.left)?, self.rows(&join.right)?);
        let pairs = equal_columns(join);
        let width = join.left.schema().fields().len();
        // Columns of the one side that hold the other side's user in every row that meets it.
        let of_left = |right: &BTreeSet<usize>| pairs.iter().filter(|(_, r)| right.contains(r)).map(|(l, _)| *l).collect::<BTreeSet<_>>();
        let of_right = |left: &BTreeSet<usize>| pairs.iter().filter(|(l, _)| left.contains(l)).map(|(_, r)| *r).collect::<BTreeSet<_>>();
        let (lefts, rights) = match (&left, &right) {
            (Rows::Apart, Rows::Apart) => return Ok(Rows::Apart),
            (Rows::PerUser(l), Rows::Apart) => (l.clone(), of_right(l)),
            (Rows::Apart, Rows::PerUser(r)) => (of_left(r), r.clone()),
            (Rows::PerUser(l), Rows::PerUser(r)) => {
                if !pairs.iter().any(|(left, right)| l.contains(left) && r.contains(right)) {
                    return Err("a join brings users together: it does not compare user with user".to_owned());
                }
                (l.clone(), r.clone())
            }
        };
        let shifted = |columns: &BTreeSet<usize>| columns.iter().map(|column| column + width).collect::<BTreeSet<_>>();
        let columns = match join.join_type {
            // An outer side's unmatched rows are whose its own column says.
            Inner => lefts.union(&shifted(&rights)).copied().collect(),
            Left | LeftSemi | LeftAnti | LeftMark => lefts,
            Right => shifted(&rights),
            RightSemi | RightAnti | RightMark => rights,
            Full => return Err("a full join has rows that no column names the user of".to_owned()),
        };
        if columns.is_empty() {
            return Err("a join loses the user".to_owned());
        }
        Ok(Rows::PerUser(columns))
    }
}

impl Rows {
    /// After columns were chosen: for each new column the old one that it is.
    fn through(&self, columns: impl Iterator<Item = Option<usize>>) -> Self {
        match self {
            Self::Apart => Self::Apart,
            Self::PerUser(users) => {
                let kept = columns.enumerate().filter(|(_, from)| from.is_some_and(|from| users.contains(&from))).map(|(to, _)| to);
                Self::PerUser(kept.collect())
            }
        }
    }

    /// Whether one of these columns is the user; of rows apart from the events any is.
    fn has_any(&self, mut columns: impl Iterator<Item = usize>) -> bool {
        match self {
            Self::Apart => true,
            Self::PerUser(users) => columns.any(|column| users.contains(&column)),
        }
    }

    /// These rows and those of another: rows apart from the events promise anything of any column.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Apart, rows) | (rows, Self::Apart) => rows,
            (Self::PerUser(one), Self::PerUser(two)) => Self::PerUser(one.intersection(&two).copied().collect()),
        }
    }
}

fn limited() -> Reason {
    "LIMIT chooses among users".to_owned()
}

fn unalias(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unalias(&alias.expr),
        other => other,
    }
}

/// The column of `input` that `expr` is, if it is one and nothing else.
fn column_of(expr: &Expr, input: &LogicalPlan) -> Option<usize> {
    match unalias(expr) {
        Expr::Column(column) => index(column, input),
        Expr::ScalarFunction(call) if call.name() == RESOLVE_USER => call.args.first().and_then(|id| column_of(id, input)),
        _ => None,
    }
}

fn index(column: &Column, plan: &LogicalPlan) -> Option<usize> {
    plan.schema().maybe_index_of_column(column)
}

/// Columns of the left and of the right that are equal in every row of an inner join.
fn equal_columns(join: &Join) -> Vec<(usize, usize)> {
    let pair = |one: &Expr, two: &Expr| {
        let straight = column_of(one, &join.left).zip(column_of(two, &join.right));
        straight.or_else(|| column_of(two, &join.left).zip(column_of(one, &join.right)))
    };
    let conditions = join.filter.iter().flat_map(split_conjunction).filter_map(|condition| match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => pair(left, right),
        _ => None,
    });
    join.on.iter().filter_map(|(left, right)| pair(left, right)).chain(conditions).collect()
}

#[cfg(test)]
#[path = "per_user_tests.rs"]
mod tests;
