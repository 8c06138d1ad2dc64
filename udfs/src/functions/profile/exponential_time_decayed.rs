//! `exponential_time_decayed_sum(decay, value, event_time)`, `…_avg`, `…_count`: ClickHouse's functions, flat. A term is worth 1/e
//! after `decay`, as of the newest time of the group; over a window ordered by time that is the current row.

use std::f64::consts::LN_2;

use arrow::datatypes::DataType;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{AggregateUDFImpl, Documentation, Signature};

use super::decayed::{Decayed, Output, Places, decay};
use crate::error::Result;
use crate::functions::grouped::accumulators;
use crate::functions::typed::{Shape, Want};

const VALUES: &[(&str, Want)] = &[("decay", Want::Duration), ("value", Want::Number), ("event_time", Want::Time)];
const TIMES: &[(&str, Want)] = &[("decay", Want::Duration), ("event_time", Want::Time)];

/// One of the three.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ExponentialTimeDecayed {
    name: &'static str,
    aliases: [String; 2],
    output: Output,
    signature: Signature,
    documentation: &'static Describe,
}

/// What one of them says about itself.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Describe {
    description: &'static str,
    syntax: &'static str,
    example: &'static str,
}

/// Every function's documentation, made once.
static PAGES: std::sync::LazyLock<[Documentation; 3]> = std::sync::LazyLock::new(|| [&SUM, &AVG, &COUNT].map(Describe::page));

static SUM: Describe = Describe {
    description: "ClickHouse's exponentialTimeDecayedSum: the sum of values, each multiplied by e^(−age / decay), as of the newest time.",
    syntax: "exponential_time_decayed_sum(decay, value, event_time)",
    example: "SELECT t, round(exponential_time_decayed_sum(INTERVAL '10 seconds', v, t) OVER (ORDER BY t), 6) AS warm\nFROM (VALUES (1.0, TIMESTAMP '2024-01-01 00:00:00'), (1.0, TIMESTAMP '2024-01-01 00:00:10')) AS e(v, t);\n-- 1, then 1.367879",
};
static AVG: Describe = Describe {
    description: "ClickHouse's exponentialTimeDecayedAvg: the mean of values, each weighing e^(−age / decay).",
    syntax: "exponential_time_decayed_avg(decay, value, event_time)",
    example: "SELECT round(exponential_time_decayed_avg(INTERVAL '10 seconds', v, t), 6) AS warm\nFROM (VALUES (1.0, TIMESTAMP '2024-01-01 00:00:00'), (3.0, TIMESTAMP '2024-01-01 00:00:10')) AS e(v, t);\n-- 2.462117",
};
static COUNT: Describe = Describe {
    description: "ClickHouse's exponentialTimeDecayedCount: the number of events, each counting e^(−age / decay), as of the newest time.",
    syntax: "exponential_time_decayed_count(decay, event_time)",
    example: "SELECT round(exponential_time_decayed_count(INTERVAL '10 seconds', t), 6) AS warm\nFROM (VALUES (TIMESTAMP '2024-01-01 00:00:00'), (TIMESTAMP '2024-01-01 00:00:10')) AS e(t);\n-- 1.367879",
};

impl Describe {
    fn page(&self) -> Documentation {
        let label = datafusion::logical_expr::DocSection { include: true, label: "Profile Functions", description: None };
        let mut page = Documentation::builder(
            label,
            self.description.to_owned() + " As time_decayed_sum, it is exact before its one rounding.",
            self.syntax,
        )
        .with_sql_example(format!("```sql\n{}\n```", self.example))
        .with_argument("decay", "The time after which a term is worth 1/e: an interval, constant.");
        if self.syntax.contains("value") {
            page = page.with_argument("value", "What is summed.");
        }
        page.with_argument("event_time", "When.").build()
    }
}

fn function(name: &'static str, alias: &str, output: Output, documentation: &'static Describe) -> ExponentialTimeDecayed {
    let signature = shape(name, output).signature();
    ExponentialTimeDecayed { name, aliases: [alias.to_owned(), alias.to_lowercase()], output, signature, documentation }
}

/// The sum.
pub(super) fn sum() -> ExponentialTimeDecayed {
    function("exponential_time_decayed_sum", "exponentialTimeDecayedSum", Output::Sum, &SUM)
}

/// The mean.
pub(super) fn avg() -> ExponentialTimeDecayed {
    function("exponential_time_decayed_avg", "exponentialTimeDecayedAvg", Output::Average, &AVG)
}

/// The count.
pub(super) fn count() -> ExponentialTimeDecayed {
    function("exponential_time_decayed_count", "exponentialTimeDecayedCount", Output::Count, &COUNT)
}

fn shape(name: &'static str, output: Output) -> Shape {
    let arguments = if output == Output::Count { TIMES } else { VALUES };
    Shape { name, arguments, required: arguments.len() }
}

impl ExponentialTimeDecayed {
    fn kernel(&self, args: &AccumulatorArgs<'_>) -> Result<Decayed> {
        let length_us = shape(self.name, self.output).constant_duration(args, 0)?;
        let value = (self.output != Output::Count).then_some(1);
        let places = Places { value, time: if value.is_some() { 2 } else { 1 }, as_of: None };
        Ok(Decayed { decay: decay(self.name, length_us as f64 * LN_2)?, output: self.output, places })
    }
}

impl AggregateUDFImpl for ExponentialTimeDecayed {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> DfResult<DataType> {
        shape(self.name, self.output).check(given)?;
        Ok(DataType::Float64)
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(shape(self.name, self.output).coerce(given))
    }

    fn documentation(&self) -> Option<&Documentation> {
        PAGES.iter().find(|page| page.syntax_example == self.documentation.syntax)
    }

    accumulators!();
}
