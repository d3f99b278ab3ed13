//! `quantile(value, q)`: the exact quantile, linear between ranks, as an aggregate for gold.
//!
//! DataFusion's own `percentile_cont` cuts its interpolation weight and is off by some 1e-7; gold must be
//! what an analyst computes from silver. Holds a group's values in memory: 8 bytes a row.

use std::mem::size_of_val;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, ListArray};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::cast::as_list_array;
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

/// The aggregate, ready to be registered.
pub fn quantile() -> AggregateUDF {
    AggregateUDF::from(Quantile {
        signature: Signature::exact(vec![DataType::Float64, DataType::Float64], Volatility::Immutable),
    })
}

/// The `q` quantile of sorted values: `q (n - 1)` is the rank, and between two ranks the line.
pub fn of_sorted(values: &[f64], q: f64) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    let rank = q.clamp(0.0, 1.0) * last as f64;
    let below = rank.floor();
    let (low, high) = (values[below as usize], values[(below as usize + 1).min(last)]);
    Some(low + (high - low) * (rank - below))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Quantile {
    signature: Signature,
}

impl AggregateUDFImpl for Quantile {
    fn name(&self) -> &str {
        "quantile"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::<Values>::default())
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let values = DataType::List(Arc::new(Field::new("item", DataType::Float64, true)));
        Ok(vec![
            Arc::new(Field::new(format!("{}[values]", args.name), values, true)),
            Arc::new(Field::new(format!("{}[q]", args.name), DataType::Float64, true)),
        ])
    }
}

#[derive(Debug, Default)]
struct Values {
    values: Vec<f64>,
    q: Option<f64>,
}

impl Values {
    fn take_q(&mut self, column: &ArrayRef) -> Result<()> {
        let column = column.as_primitive::<Float64Type>();
        for q in column.iter().flatten() {
            match self.q {
                Some(known) if known != q => {
                    return exec_err!("quantile wants one q for all rows, found {known} and {q}");
                }
                _ => self.q = Some(q),
            }
        }
        Ok(())
    }
}

impl Accumulator for Values {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        self.values.extend(columns[0].as_primitive::<Float64Type>().iter().flatten());
        self.take_q(&columns[1])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for values in as_list_array(&states[0])?.iter().flatten() {
            self.values.extend(values.as_primitive::<Float64Type>().iter().flatten());
        }
        self.take_q(&states[1])
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values: ArrayRef = Arc::new(Float64Array::from(std::mem::take(&mut self.values)));
        let list = ListArray::new(
            Arc::new(Field::new("item", DataType::Float64, true)),
            OffsetBuffer::from_lengths([values.len()]),
            values,
            None,
        );
        Ok(vec![ScalarValue::List(Arc::new(list)), ScalarValue::Float64(self.q)])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.values.sort_by(f64::total_cmp);
        Ok(ScalarValue::Float64(self.q.and_then(|q| of_sorted(&self.values, q))))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.capacity() * size_of::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::of_sorted;

    #[test]
    fn between_ranks_the_line_is_taken() {
        let values = [1.0, 2.0, 4.0, 8.0];
        assert_eq!(of_sorted(&values, 0.5), Some(3.0));
        assert_eq!(of_sorted(&values, 0.0), Some(1.0));
        assert_eq!(of_sorted(&values, 1.0), Some(8.0));
        assert_eq!(of_sorted(&[], 0.5), None);
    }
}
