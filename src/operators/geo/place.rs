//! A place on earth, out of two fields of a row.
//!
//! Latitudes run from -90 to 90 degrees, longitudes from -180 to 180; both ends of the longitudes are
//! the same meridian. Everything else is no place: receivers write 91 and 181, 999 or the like when
//! they have none, and one such value would leave a speed or a path for good that never was. The row
//! is passed over then, as when one of the fields is missing or no number. So are longitudes counted
//! from 0 to 360: a chain step has to subtract before. Sines and their like come from `libm`, which is the same code
//! everywhere: paths and speeds are state. Called by apply, row by row; pure.

use crate::operators::{AccumulatorNeed, Fields, Param, ParamKind, RowsTaken};
use crate::state::{Accumulator, Input, f64_of};
use libm::{atan2, cos, sin};
use std::sync::Arc;
use streamgauge_api::Code;

/// The field with the latitude.
pub(super) const LAT_FIELD: Param = Param {
    name: "lat_field",
    aliases: &["lat"],
    kind: ParamKind::FieldName { default: "lat" },
    code: Code::AggregationInvalidParam,
    help: "field with the latitude, -90 to 90 degrees",
};

/// The field with the longitude.
pub(super) const LON_FIELD: Param = Param {
    name: "lon_field",
    aliases: &["lon"],
    kind: ParamKind::FieldName { default: "lon" },
    code: Code::AggregationInvalidParam,
    help: "field with the longitude, -180 to 180 degrees",
};

/// Kilometres; the mean radius that Beava takes too.
const EARTH_RADIUS_KM: f64 = 6371.0;

/// An accumulator of both fields, fed with the matching rows.
pub(super) fn need(accumulator: impl Accumulator + 'static) -> AccumulatorNeed {
    AccumulatorNeed {
        accumulator: Arc::new(accumulator),
        rows: RowsTaken::Matching,
        fields: Fields::Named(&[LAT_FIELD.name, LON_FIELD.name]),
    }
}

/// Degrees north and east.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    pub(super) lat: f64,
    pub(super) lon: f64,
}

impl Place {
    /// The row's place.
    #[inline]
    pub(super) fn of(input: &Input<'_>) -> Option<Self> {
        let [lon] = input.more else { unreachable!("a place is read from two fields") };
        Self::within(input.cell.number()?, lon.number()?)
    }

    fn within(lat: f64, lon: f64) -> Option<Self> {
        ((-90.0..=90.0).contains(&lat) && (-180.0..=180.0).contains(&lon)).then_some(Self { lat, lon })
    }

    /// The place in two words, when it is one.
    pub(super) fn load(words: &[u64]) -> Option<Self> {
        let &[lat, lon] = words else { unreachable!("a place has two words") };
        Self::within(f64_of(lat), f64_of(lon))
    }

    #[inline]
    pub(super) fn words(self) -> [u64; 2] {
        [self.lat.to_bits(), self.lon.to_bits()]
    }

    /// Length of the great circle to another place, by the haversine formula.
    pub(super) fn km_to(self, other: Self) -> f64 {
        let half_sine = |from: f64, to: f64| sin((to - from).to_radians() / 2.0);
        let (lat, lon) = (half_sine(self.lat, other.lat), half_sine(self.lon, other.lon));
        let a = lat * lat + lon * lon * (cos(self.lat.to_radians()) * cos(other.lat.to_radians()));
        // Roundings bring opposite places beyond 1, where there is no root.
        let a = a.clamp(0.0, 1.0);
        2.0 * EARTH_RADIUS_KM * atan2(a.sqrt(), (1.0 - a).sqrt())
    }
}

/// What the tests of all operators over places share.
#[cfg(test)]
pub(super) mod rows {
    use super::Place;
    use crate::operators::laws::{Datum, Row};
    use proptest::prelude::*;

    fn degrees(most: i64) -> impl Strategy<Value = Datum> {
        let most = most + 1;
        prop_oneof![
            8 => (-most * 100..most * 100).prop_map(|hundredths| Datum::F64(hundredths as f64 / 100.0)),
            2 => (-most..most).prop_map(Datum::I64),
            1 => prop::sample::select(vec![Datum::Null, Datum::Absent, Datum::Str("7".into()), Datum::Bool(true), Datum::F64(999.0)]),
        ]
    }

    /// Rows with places, some of them none; steps in time as given.
    pub(in crate::operators::geo) fn places(least_us: i64, most: usize) -> impl Strategy<Value = Vec<Row>> {
        let step_us = prop_oneof![2 => Just(0i64), 8 => least_us..60_000_000];
        prop::collection::vec((degrees(90), degrees(180), step_us), 0..most).prop_map(|data| {
            let mut time_us = 1_700_000_000_000_000;
            let row = |((lat, lon, step_us), lsn)| {
                time_us += step_us;
                Row { more: vec![lon], ..Row::of(lat, time_us, lsn) }
            };
            data.into_iter().zip(1u64..).map(row).collect()
        })
    }

    /// A row at a place.
    pub(in crate::operators::geo) fn at(lat: f64, lon: f64, time_us: i64, lsn: u64) -> Row {
        Row { more: vec![Datum::F64(lon)], ..Row::of(Datum::F64(lat), time_us, lsn) }
    }

    /// The places of rows that have one, with their times.
    pub(in crate::operators::geo) fn placed(rows: &[Row]) -> Vec<(Place, i64)> {
        let number = |datum: &Datum| datum.cell().number();
        let place = |row: &Row| {
            let (lat, lon) = (number(&row.datum)?, number(&row.more[0])?);
            (lat.abs() <= 90.0 && lon.abs() <= 180.0).then_some((Place { lat, lon }, row.time_us))
        };
        rows.iter().filter_map(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(lat: f64, lon: f64) -> Place {
        Place { lat, lon }
    }

    #[test]
    fn distances_are_those_of_the_globe() {
        let quarter = EARTH_RADIUS_KM * std::f64::consts::FRAC_PI_2;
        for (from, to, km) in [
            (place(0.0, 0.0), place(0.0, 0.0), 0.0),
            (place(90.0, 17.0), place(90.0, -60.0), 0.0),
            (place(0.0, 180.0), place(0.0, -180.0), 0.0),
            (place(0.0, 0.0), place(90.0, 5.0), quarter),
            (place(0.0, -90.0), place(0.0, 90.0), 2.0 * quarter),
            (place(90.0, 0.0), place(-90.0, 0.0), 2.0 * quarter),
            (place(37.5, -170.0), place(-37.5, 10.0), 2.0 * quarter),
            // Berlin to Paris, and Suva to Apia across the 180th meridian.
            (place(52.52, 13.405), place(48.8566, 2.3522), 877.46),
            (place(-18.1416, 178.4419), place(-13.8333, -171.7667), 1150.7),
        ] {
            assert!((from.km_to(to) - km).abs() <= km * 1e-4 + 1e-9, "{from:?} {to:?}: {}", from.km_to(to));
            assert_eq!(from.km_to(to), to.km_to(from));
        }
    }

    #[test]
    fn what_is_not_on_earth_is_no_place() {
        for (lat, lon) in [(90.0, 180.0), (-90.0, -180.0), (0.0, -0.0)] {
            assert!(Place::within(lat, lon).is_some());
        }
        for (lat, lon) in [(90.1, 0.0), (0.0, 180.1), (-91.0, 181.0), (f64::NAN, 0.0), (0.0, f64::INFINITY), (0.0, 270.0)] {
            assert!(Place::within(lat, lon).is_none(), "{lat} {lon}");
        }
    }
}
