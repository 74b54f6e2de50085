//! What operators over fading rows and over places make of rows in order of time, by weights and
//! vectors: nothing here knows a recursion, a merge or the haversine formula.

/// Half life of every feature that has one.
pub(super) const HALF_LIFE_US: i64 = 600_000_000;

/// What is left of a weight.
fn left(after_us: i64) -> f64 {
    0.5f64.powf(after_us as f64 / HALF_LIFE_US as f64)
}

/// What an operator makes of numbers and their times, in order.
pub(super) fn of_points(op: &str, points: &[(i64, f64)], now_us: i64) -> Option<f64> {
    let &(last_us, last) = points.last()?;
    match op {
        "decayed_sum" | "decayed_count" => Some(points.iter().map(|(time_us, number)| number * left(now_us.max(last_us) - time_us)).sum()),
        "twa" => {
            let time = (last_us - points[0].0) as f64;
            let area: f64 = points.windows(2).map(|pair| pair[0].1 * (pair[1].0 - pair[0].0) as f64).sum();
            Some(if time > 0.0 { area / time } else { last })
        }
        _ => of_weights(op, points, last),
    }
}

fn of_weights(op: &str, points: &[(i64, f64)], last: f64) -> Option<f64> {
    let at_once = if op == "ewma" { 0.5 } else { 0.0 };
    let mut weights = vec![1.0];
    for pair in points.windows(2) {
        let after_us = pair[1].0 - pair[0].0;
        let old = if after_us > 0 { left(after_us) } else { 1.0 - at_once };
        weights.iter_mut().for_each(|weight| *weight *= old);
        weights.push(1.0 - old);
    }
    let weighed = || weights.iter().zip(points).map(|(weight, (_, number))| (*weight, *number));
    let mean: f64 = weighed().map(|(weight, number)| weight * number).sum();
    if op == "ewma" {
        return Some(mean);
    }
    let mut numbers = weighed().filter(|(weight, _)| *weight > 0.0).map(|(_, number)| number);
    let first = numbers.next()?;
    let are_equal = numbers.all(|number| number == first);
    let variance: f64 = if are_equal { 0.0 } else { weighed().map(|(weight, number)| weight * (number - mean).powi(2)).sum() };
    let apart: f64 = weighed().map(|(weight, number)| weight * (last - number)).sum();
    if op == "ewvar" { Some(variance) } else { (!are_equal).then(|| apart / variance.sqrt()) }
}

/// A place: degrees north and east.
type Place = (f64, f64);

/// What an operator makes of places and their times, in order.
pub(super) fn of_places(op: &str, places: &[(i64, Place)]) -> Option<f64> {
    let steps = || places.windows(2).map(|pair| (pair[1].0 - pair[0].0, km(pair[0].1, pair[1].1)));
    let mean =
        |of: &dyn Fn(&Place) -> f64, places: &[(i64, Place)]| places.iter().map(|(_, place)| of(place)).sum::<f64>() / places.len() as f64;
    let middle = |places: &[(i64, Place)]| (mean(&|place| place.0, places), mean(&|place| place.1, places));
    match op {
        "geo_distance" => Some(steps().map(|(_, km)| km).sum()),
        "geo_velocity" => {
            let speeds = steps().filter(|(us, _)| *us > 0).map(|(us, km)| km / (us as f64 / 3.6e9));
            places.last().map(|_| speeds.fold(0.0, f64::max))
        }
        "geo_spread" => {
            let (lat, lon) = middle(places);
            let of_lat = mean(&|place| (place.0 - lat).powi(2), places) * 111.32f64.powi(2);
            let of_lon = mean(&|place| (place.1 - lon).powi(2), places) * (111.32 * lat.to_radians().cos()).powi(2);
            (places.len() > 1).then(|| (of_lat + of_lon).sqrt())
        }
        "distance_from_home" => {
            let latest = &places[places.len().saturating_sub(5)..];
            latest.last().map(|(_, place)| km(*place, middle(latest)))
        }
        other => panic!("{other} is no operator over places"),
    }
}

/// The great circle between two places, by their chord.
fn km(from: Place, to: Place) -> f64 {
    let vector = |(lat, lon): Place| {
        let (lat, lon) = (lat.to_radians(), lon.to_radians());
        [lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()]
    };
    let (from, to) = (vector(from), vector(to));
    let chord = (0..3).map(|axis| (from[axis] - to[axis]).powi(2)).sum::<f64>().sqrt();
    2.0 * 6371.0 * (chord / 2.0).min(1.0).asin()
}
