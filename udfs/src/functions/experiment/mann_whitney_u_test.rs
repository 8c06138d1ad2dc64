//! `mann_whitney_u_test(value, group [, alternative [, method]])`

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{AggregateUDFImpl, Documentation, Signature};
use datafusion_macros::user_doc;

use super::record::{Cell, record_type, records};
use super::two_samples::{GROUP, TwoSamples, VALUE, take};
use crate::error::Result;
use crate::functions::grouped::{Kernel, Rows, States, accumulators};
use crate::functions::typed::{Shape, Want, unknown_word};
use crate::kernels::stats::ranks::{Alternative, Method, mann_whitney};

const SHAPE: Shape =
    Shape { name: "mann_whitney_u_test", arguments: &[VALUE, GROUP, ("alternative", Want::Text), ("method", Want::Text)], required: 2 };
const NUMBERS: &[&str] = &["statistic", "p_value", "superiority"];
const COUNTS: &[&str] = &["n_0", "n_1"];

#[user_doc(
    doc_section(label = "Experiment Functions"),
    description = "The Mann–Whitney U test: whether values of one sample tend to be greater than those of another, whatever their distribution. The result is a record: statistic (U of group 0), p_value, superiority (the probability that a value of group 0 is greater, ties counting half), n_0, n_1. NULL when a sample is empty. The p value is exact when a sample has at most 8 values and nothing is tied, else the normal approximation with corrections for ties and continuity, as in SciPy. It keeps all values in memory. Alias mannWhitneyUTest.",
    syntax_example = "mann_whitney_u_test(value, group [, alternative [, method]])",
    sql_example = "```sql\nSELECT round(mann_whitney_u_test(x, g, 'greater', 'asymptotic')['p_value'], 9) AS p\nFROM (VALUES (10, 0), (11, 0), (12, 0), (1, 1), (2, 1), (3, 1)) AS s(x, g);\n-- 0.040427799\n```",
    argument(name = "value", description = "The measured number."),
    argument(
        name = "group",
        description = "Which sample the value belongs to: 0 or 1, or a boolean. Rows where it or the value is NULL do not count."
    ),
    argument(name = "alternative", description = "`two-sided` by default; `greater` or `less`: how group 0 is expected to be."),
    argument(name = "method", description = "`auto` by default; `asymptotic` is always the normal approximation, as in ClickHouse.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct MannWhitneyUTest {
    signature: Signature,
    aliases: [String; 2],
}

impl MannWhitneyUTest {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature(), aliases: ["mannWhitneyUTest".into(), "mannwhitneyutest".into()] }
    }

    fn kernel(&self, args: &AccumulatorArgs<'_>) -> Result<RankTest> {
        let alternative = match SHAPE.constant_text(args, 2)?.as_deref() {
            None | Some("two-sided") => Alternative::TwoSided,
            Some("less") => Alternative::Less,
            Some("greater") => Alternative::Greater,
            Some(other) => return Err(unknown_word(SHAPE.name, "alternative", other, &["two-sided", "less", "greater"])),
        };
        let method = match SHAPE.constant_text(args, 3)?.as_deref() {
            None | Some("auto") => Method::Auto,
            Some("asymptotic") => Method::Asymptotic,
            Some(other) => return Err(unknown_word(SHAPE.name, "method", other, &["auto", "asymptotic"])),
        };
        Ok(RankTest { alternative, method })
    }
}

#[derive(Debug, Clone)]
struct RankTest {
    alternative: Alternative,
    method: Method,
}

impl Kernel for RankTest {
    type State = TwoSamples<Vec<f64>>;

    fn update(&self, rows: &Rows<'_>, states: &mut States<Self::State>) -> Result<()> {
        take(SHAPE.name, rows, states)
    }

    fn finish(&self, states: &mut [Self::State]) -> Result<ArrayRef> {
        let row = |samples: &mut TwoSamples<Vec<f64>>| {
            if samples.first.is_empty() || samples.second.is_empty() {
                return None;
            }
            let test = mann_whitney(&mut samples.first, &mut samples.second, self.alternative, self.method);
            let numbers = [test.statistic, test.p_value, test.superiority].map(Cell::Number);
            let counts = [samples.first.len(), samples.second.len()].map(|count| Cell::Count(count as u64));
            Some(numbers.into_iter().chain(counts).collect())
        };
        records(NUMBERS, COUNTS, &states.iter_mut().map(row).collect::<Vec<_>>())
    }
}

impl AggregateUDFImpl for MannWhitneyUTest {
    fn name(&self) -> &str {
        SHAPE.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> DfResult<DataType> {
        SHAPE.check(given)?;
        Ok(record_type(NUMBERS, COUNTS))
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(SHAPE.coerce(given))
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    accumulators!();
}
