#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, StringArray, new_null_array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use super::*;
use crate::lake::Lake;

fn schema() -> SchemaRef {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        field("dt", DataType::Utf8),
        field("ordinal", DataType::Int64),
        field("note", DataType::Utf8),
    ]))
}

fn rows(rows: &[(Option<&str>, i64)]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|(day, _)| *day).collect::<StringArray>()),
        Arc::new(rows.iter().map(|(_, ordinal)| *ordinal).collect::<Int64Array>()),
    ];
    let columns = [columns, vec![new_null_array(&DataType::Utf8, rows.len())]].concat();
    RecordBatch::try_new(schema(), columns).unwrap()
}

struct Days {
    _dir: tempfile::TempDir,
    lake: Lake,
    table: Table,
}

async fn days() -> Days {
    let dir = tempfile::tempdir().unwrap();
    let lake = Lake::create(&format!("file://{}", dir.path().display())).unwrap();
    let table = Table::open_or_create(&lake, "silver/days", &schema(), &["dt"]).await.unwrap();
    Days { _dir: dir, lake, table }
}

impl Days {
    /// The ordinals of each day, file by file as they lie there.
    async fn shown(&self) -> BTreeMap<Option<String>, Vec<i64>> {
        let table = Table::open(&self.lake, "silver/days").await.unwrap().unwrap();
        let rows = session::context().read_table(table.provider().await.unwrap()).unwrap();
        let mut shown: BTreeMap<_, Vec<i64>> = BTreeMap::new();
        for batch in rows.collect().await.unwrap() {
            let days = cast(batch.column_by_name("dt").unwrap(), &DataType::Utf8).unwrap();
            let ordinals = batch.column_by_name("ordinal").unwrap().as_primitive::<Int64Type>();
            assert_eq!(batch.column_by_name("note").unwrap().null_count(), batch.num_rows());
            for (day, ordinal) in days.as_string::<i32>().iter().zip(ordinals.values()) {
                shown.entry(day.map(str::to_owned)).or_default().push(*ordinal);
            }
        }
        shown
    }

    fn files(&self) -> Vec<u64> {
        self.table.partitions(0).unwrap().into_values().map(|files| files.count).collect()
    }

    /// Rows that are held and rows that are not come to the same.
    async fn replace(&mut self, by: &RecordBatch, replaced: Replaced<'_>) -> Result<(), CommitError> {
        self.table.replace(by.clone(), replaced, &[]).await?;
        let held = self.shown().await;
        let streamed = session::context().read_batch(by.clone()).unwrap();
        self.table.replace_streamed(streamed, replaced, &[]).await?;
        assert_eq!(self.shown().await, held);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_many_days_in_any_order_become_one_file_a_day_and_keep_their_order() {
    let mut days_of = days().await;
    let days: Vec<String> = (1..=28).map(|day| format!("2026-02-{day:02}")).collect();
    let of = |at: i64| (at % 29 < 28).then(|| days[usize::try_from(at % 29).unwrap()].as_str());
    let all: Vec<_> = (0..290).map(|at| (of(at * 17), at)).collect();
    days_of.table.append(rows(&all), &[]).await.unwrap();

    let shown = days_of.shown().await;
    let mut expected: BTreeMap<Option<String>, Vec<i64>> = BTreeMap::new();
    for (day, ordinal) in &all {
        expected.entry(day.map(str::to_owned)).or_default().push(*ordinal);
    }
    assert_eq!(shown, expected);
    assert_eq!(days_of.files(), [1; 29]);

    days_of.table.append(rows(&all[..3]), &[]).await.unwrap();
    days_of.table.append(rows(&[]), &[]).await.unwrap();
    assert_eq!(days_of.shown().await.into_values().map(|rows| rows.len()).sum::<usize>(), 293);
    assert_eq!(days_of.files().iter().sum::<u64>(), 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_days_are_replaced_and_no_others() {
    let mut days = days().await;
    let [first, second, third] = ["2026-01-01", "2026-01-02", "2026-01-03"];
    let before = [(Some(first), 1), (Some(second), 2), (None, 3), (Some(third), 4)];
    days.table.append(rows(&before), &[]).await.unwrap();
    days.table.append(rows(&[(Some(second), 5)]), &[]).await.unwrap();

    let two = BTreeSet::from([first.to_owned(), second.to_owned()]);
    days.replace(&rows(&[(Some(second), 20), (Some(first), 10)]), Replaced::Days(&two)).await.unwrap();
    let after = |rows: &[(Option<&str>, i64)]| -> BTreeMap<Option<String>, Vec<i64>> {
        rows.iter().map(|(day, ordinal)| (day.map(str::to_owned), vec![*ordinal])).collect()
    };
    let expected = after(&[(Some(first), 10), (Some(second), 20), (None, 3), (Some(third), 4)]);
    assert_eq!(days.shown().await, expected);

    // None is some days, too.
    let version = days.table.version();
    days.replace(&rows(&[]), Replaced::Days(&BTreeSet::new())).await.unwrap();
    assert_eq!((days.shown().await, days.table.version()), (expected, version + 2));

    let nowhere = Partition::from([("dt".to_owned(), None)]);
    days.replace(&rows(&[]), Replaced::One(&nowhere)).await.unwrap();
    assert_eq!(days.shown().await, after(&[(Some(first), 10), (Some(second), 20), (Some(third), 4)]));
    days.replace(&rows(&[(Some(third), 7)]), Replaced::All).await.unwrap();
    assert_eq!(days.shown().await, after(&[(Some(third), 7)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_do_not_belong_are_refused() {
    let mut days = days().await;
    days.table.append(rows(&[(Some("2026-01-01"), 1)]), &[]).await.unwrap();
    let one = BTreeSet::from(["2026-01-01".to_owned()]);
    let stray = days.replace(&rows(&[(Some("2026-01-02"), 2)]), Replaced::Days(&one)).await.unwrap_err();
    assert!(stray.to_string().contains("do not replace dt IN ('2026-01-01')"), "{stray}");

    let good = rows(&[(Some("2026-01-01"), 2)]);
    let column: ArrayRef = Arc::new(Float64Array::from(vec![20.7]));
    let with = |at: usize, name: &str, column: &ArrayRef| {
        let mut columns: Vec<(String, ArrayRef)> =
            schema().fields().iter().map(|field| field.name().clone()).zip(good.columns().to_vec()).collect();
        columns.splice(at..=at, [(name.to_owned(), Arc::clone(column))]);
        RecordBatch::try_from_iter(columns).unwrap()
    };
    let fewer = good.project(&[0, 1]).unwrap();
    for (rows, problem) in [
        (with(2, "other", &column), "the rows have a column other, the table has not"),
        (with(1, "ordinal", &column), "the column ordinal is Int64 in the table and Float64 now"),
        (fewer, "the table has a column note, the rows have not"),
    ] {
        let refused = days.table.append(rows, &[]).await.unwrap_err().to_string();
        assert!(refused.contains(problem), "{refused}");
    }
    assert_eq!(days.shown().await.into_values().collect::<Vec<_>>(), [vec![1]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_writers_on_one_snapshot_a_replacement_yields_and_added_rows_do_not() {
    let mut days = days().await;
    let day = Some("2026-01-01");
    days.table.append(rows(&[(day, 1)]), &[]).await.unwrap();
    let mut other = days.table.clone();
    days.replace(&rows(&[(day, 2)]), Replaced::All).await.unwrap();
    let late = other.replace(rows(&[(day, 3)]), Replaced::All, &[]).await.unwrap_err();
    assert!(matches!(late, CommitError::Conflict { .. }), "{late}");

    other.refresh().await.unwrap();
    days.table.append(rows(&[(day, 4)]), &[]).await.unwrap();
    other.append(rows(&[(day, 5)]), &[]).await.unwrap();
    let shown = days.shown().await;
    assert_eq!(shown.into_values().flatten().collect::<BTreeSet<_>>(), BTreeSet::from([2, 4, 5]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_written_anew_is_one_file_of_some_megabytes() {
    let mut days = days().await;
    for part in 0..4_i64 {
        let noise = (0..100_000).map(|at| {
            (Some("2026-01-01"), (part * 100_000 + at).wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed()))
        });
        days.table.append(rows(&noise.collect::<Vec<_>>()), &[]).await.unwrap();
    }
    assert_eq!(days.files(), [4]);
    let (partition, files) = days.table.partitions(0).unwrap().pop_first().unwrap();
    assert!(files.bytes > 3_000_000, "{files:?}");
    days.table.rewrite(&partition, &["ordinal"]).await.unwrap();
    assert_eq!(days.files(), [1]);
    let shown = days.shown().await.into_values().next().unwrap();
    assert!(shown.len() == 400_000 && shown.is_sorted());
}
