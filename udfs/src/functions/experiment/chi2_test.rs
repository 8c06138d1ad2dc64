//! `chi2_test(a, b [, correct])`

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{AggregateUDFImpl, Documentation, Signature};
use datafusion_macros::user_doc;

use super::record::{Cell, record_type, records};
use crate::error::{Code, Error, Result};
use crate::functions::grouped::{Kernel, Rows, State, States, accumulators};
use crate::functions::relation::{Argument, Kind};
use crate::functions::typed::{Shape, Want};
use crate::kernels::stats::table::{CATEGORIES_MAX, Table, TooManyCategories};
use crate::kernels::stats::wire::Reader;

const SHAPE: Shape = Shape { name: "chi2_test", arguments: &[("a", Want::Name), ("b", Want::Name), ("correct", Want::Whole)], required: 2 };
const NUMBERS: &[&str] = &["statistic", "p_value", "degrees_of_freedom", "cramers_v"];
const COUNTS: &[&str] = &["n"];

#[user_doc(
    doc_section(label = "Experiment Functions"),
    description = "Pearson's chi-squared test: whether two categories of the same row are independent. The result is a record: statistic, p_value, degrees_of_freedom, cramers_v (0 is independence, 1 is dependence), n. NULL without rows; its numbers are NULL where one side has a single category. At most 1000 categories on a side, else error 54000. Alias chi2Test.",
    syntax_example = "chi2_test(a, b [, correct])",
    sql_example = "```sql\nSELECT round(chi2_test(\"VisitorType\", \"Revenue\")['statistic'], 6) AS statistic FROM sessions;\n```",
    argument(name = "a", description = "A category; rows where it is NULL do not count."),
    argument(name = "b", description = "Another category; rows where it is NULL do not count."),
    argument(name = "correct", description = "Yates's correction of tables of two by two; true by default, as in SciPy and R.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Chi2Test {
    signature: Signature,
    aliases: [String; 1],
}

impl Chi2Test {
    pub(super) fn new() -> Self {
        // Unquoted names are lower case by then: `chi2Test` arrives as this.
        Self { signature: SHAPE.signature(), aliases: ["chi2test".into()] }
    }

    fn kernel(&self, args: &AccumulatorArgs<'_>) -> Result<Independence> {
        let correct = match SHAPE.bound(args, 2, Kind::Integer)? {
            None => true,
            Some(Argument::Integer(value)) => value != 0,
            Some(_) => return Err(Error::internal("a boolean was expected")),
        };
        Ok(Independence { correct })
    }
}

#[derive(Debug, Clone)]
struct Independence {
    correct: bool,
}

fn too_many(_: TooManyCategories) -> Error {
    Error::new(Code::TooComplex, format!("{} takes at most {CATEGORIES_MAX} categories on a side", SHAPE.name))
        .hint("A column with a value per row is not a category; group its values first.")
}

impl State for Table {
    fn heap_bytes(&self) -> usize {
        self.heap_bytes()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Option<Self> {
        Self::decode(from)
    }

    fn merge(&mut self, other: Self) -> Result<()> {
        (*self).merge(&other).map_err(too_many)
    }
}

impl Kernel for Independence {
    type State = Table;

    fn update(&self, rows: &Rows<'_>, states: &mut States<Self::State>) -> Result<()> {
        let text = |index: usize| {
            let column = rows.column(index)?.as_string_opt::<i32>();
            column.ok_or_else(|| Error::internal(format!("argument {index} is not a text")))
        };
        let (a, b) = (text(0)?, text(1)?);
        for (row, group) in rows.iter().filter(|(row, _)| a.is_valid(*row) && b.is_valid(*row)) {
            states.change(group, |table| table.add(a.value(row), b.value(row)))?.map_err(too_many)?;
        }
        Ok(())
    }

    fn finish(&self, states: &mut [Self::State]) -> Result<ArrayRef> {
        let row = |table: &mut Table| {
            let test = table.test(self.correct).map_err(too_many)?;
            let numbers = [test.statistic, test.p_value, test.degrees_of_freedom, test.cramers_v].map(Cell::Number);
            Ok((test.count > 0).then(|| numbers.into_iter().chain([Cell::Count(test.count)]).collect()))
        };
        records(NUMBERS, COUNTS, &states.iter_mut().map(row).collect::<Result<Vec<_>>>()?)
    }
}

impl AggregateUDFImpl for Chi2Test {
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
