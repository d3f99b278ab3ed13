//! Plots as SVG text.

use plotters::prelude::*;

use super::{Curves, ReportError};

const SIZE: (u32, u32) = (960, 320);

/// One curve per name over hours.
pub fn curves(unit: &str, curves: &Curves) -> Result<String, ReportError> {
    let points = || curves.values().flatten().filter(|(_, value)| value.is_finite());
    let hours = points().map(|(hour, _)| *hour).fold(1.0, f64::max);
    let low = points().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
    let high = points().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
    let margin = ((high - low) * 0.05).max(0.5);
    draw(unit, |root| {
        let mut chart = ChartBuilder::on(root)
            .margin(10)
            .x_label_area_size(30)
            .y_label_area_size(60)
            .build_cartesian_2d(0.0..hours, (low - margin)..(high + margin))?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc("hours since the first window")
            .y_desc(unit)
            .draw()?;
        for (index, (name, points)) in curves.iter().enumerate() {
            let color = Palette99::pick(index).to_rgba();
            chart
                .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 2, color.filled())))?;
        }
        chart.configure_series_labels().background_style(WHITE.mix(0.8)).draw()?;
        Ok(())
    })
}

/// One bar per name.
pub fn bars(unit: &str, bars: &[(String, f64)]) -> Result<String, ReportError> {
    let most = bars.iter().map(|(_, value)| *value).fold(1.0, f64::max);
    draw(unit, |root| {
        let mut chart = ChartBuilder::on(root)
            .margin(10)
            .x_label_area_size(30)
            .y_label_area_size(60)
            .build_cartesian_2d((0..bars.len().max(1) - 1).into_segmented(), 0.0..most * 1.1)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .y_desc(unit)
            .x_labels(bars.len().max(1))
            .x_label_formatter(&|segment| match segment {
                SegmentValue::CenterOf(index) => {
                    bars.get(*index).map(|(name, value)| format!("{name}: {value}")).unwrap_or_default()
                }
                _ => String::new(),
            })
            .draw()?;
        chart.draw_series(bars.iter().enumerate().map(|(index, (_, value))| {
            let mut bar = Rectangle::new(
                [(SegmentValue::Exact(index), 0.0), (SegmentValue::Exact(index + 1), *value)],
                BLUE.mix(0.6).filled(),
            );
            bar.set_margin(0, 0, 24, 24);
            bar
        }))?;
        Ok(())
    })
}

type Root<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw(
    plot: &str,
    with: impl FnOnce(&Root<'_>) -> Result<(), Box<dyn std::error::Error>>,
) -> Result<String, ReportError> {
    let mut svg = String::new();
    let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    let drawn = with(&root).and_then(|()| Ok(root.present()?));
    drop(root);
    drawn.map_err(|error| ReportError::Plot { plot: plot.to_owned(), reason: error.to_string() })?;
    Ok(svg)
}
