//! `geo_spread`: how widely a key's places lie around their middle.
//!
//! Slot: `[places] [mean latitude] [its m2] [mean longitude] [its m2]`, m2 = sum of squared distances
//! from the mean, updated by Welford's rule (1962) and merged by Chan, Golub and LeVeque's (1979).
//! Both axes are plain numbers of degrees, turned into kilometres at the mean latitude: places on both
//! sides of the 180th meridian are far apart for it. In any order of rows, up to rounding.

use super::place::{LAT_FIELD, LON_FIELD, Place, need};
use crate::operators::{Accuracy, Compiled, Family, FeatureParams, FieldRule, Operator, Output, Reads, Signature, WindowRule, only};
use crate::row::FieldType;
use crate::state::{Accumulator, Arena, Input, Need, SLOT_ROWS_MAX, f64_of};
use streamgauge_api::{Code, Value};

/// The operator.
pub(in crate::operators) struct GeoSpread;

static SIGNATURE: Signature = Signature {
    name: "geo_spread",
    aliases: &[],
    family: Family::Geo,
    asks: "how widely the places of a key are spread",
    help: "Standard deviation of all places around their middle, in km: the root of the squared deviations of latitude \
           (111.32 km a degree) and longitude (times the cosine of the mean latitude), each divided by the number of \
           places. Longitudes are plain numbers: places on both sides of the 180th meridian count as far apart. Rows \
           without a latitude within 90 and a longitude within 180 degrees are passed over. Exact up to rounding in any \
           order of rows, by Welford's update (1962); 40 bytes. Takes no window. Fewer than two places: null.",
    field: FieldRule::None,
    reads: Reads::Numbers,
    window: WindowRule::Refused(Code::AggregationInvalidWindow),
    params: &[LAT_FIELD, LON_FIELD],
    lifetime_bound: None,
    grown: "",
    output: Output::Is(FieldType::F64),
};

impl Operator for GeoSpread {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        Compiled {
            needs: vec![need(Scatter)],
            value: Box::new(|slots, _now_us| spread(only(slots).core.words).map_or(Value::Null, Value::F64)),
            accuracy: Box::new(|_, _now_us| Accuracy::Exact),
        }
    }
}

const KM_PER_DEGREE: f64 = 111.32;

const LAT: usize = 1;
const LON: usize = 3;

#[expect(clippy::cast_precision_loss, reason = "row counts stay below 2^53")]
fn spread(slot: &[u64]) -> Option<f64> {
    let variance = |axis: usize| f64_of(slot[axis + 1]) / slot[0] as f64;
    let cosine = f64_of(slot[LAT]).to_radians().cos();
    let (lat, lon) = (KM_PER_DEGREE, KM_PER_DEGREE * cosine);
    (slot[0] >= 2).then(|| (variance(LAT) * lat * lat + variance(LON) * lon * lon).sqrt())
}

/// Mean and spread of both axes. Merge is associative within rounding.
#[derive(Debug, Clone, Copy)]
struct Scatter;

impl Accumulator for Scatter {
    fn identity(&self) -> String {
        "scatter".into()
    }

    fn words(&self) -> usize {
        5
    }

    fn need(&self) -> Need {
        Need::Value
    }

    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "row counts stay below 2^53")]
    fn update(&self, slot: &mut [u64], _arena: &mut Arena, input: &Input<'_>) {
        let Some(place) = Place::of(input) else { return };
        slot[0] += 1;
        let places = slot[0] as f64;
        for (axis, degrees) in [(LAT, place.lat), (LON, place.lon)] {
            let before = degrees - f64_of(slot[axis]);
            let mean = f64_of(slot[axis]) + before / places;
            slot[axis + 1] = (f64_of(slot[axis + 1]) + before * (degrees - mean)).to_bits();
            slot[axis] = mean.to_bits();
        }
    }

    fn verify(&self, slot: &[u64], _arena: &Arena) -> Result<(), &'static str> {
        if slot[0] > SLOT_ROWS_MAX || (slot[0] == 0 && slot.iter().any(|&word| word != 0)) {
            return Err("its count of places is not theirs");
        }
        for axis in [LAT, LON] {
            // A rounding or two beyond the last degree may be left of places that all lie there.
            if !(f64_of(slot[axis]).abs() <= 181.0 && f64_of(slot[axis + 1]) >= 0.0 && f64_of(slot[axis + 1]).is_finite()) {
                return Err("its places lie nowhere");
            }
        }
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "row counts stay below 2^53")]
    fn merge(&self, slot: &mut [u64], _arena: &mut Arena, other: &[u64], _from: &Arena) {
        if slot[0] == 0 || other[0] == 0 {
            if slot[0] == 0 {
                slot.copy_from_slice(other);
            }
            return;
        }
        let (here, there) = (slot[0] as f64, other[0] as f64);
        for axis in [LAT, LON] {
            let apart = f64_of(other[axis]) - f64_of(slot[axis]);
            let m2 = f64_of(slot[axis + 1]) + f64_of(other[axis + 1]) + apart * apart * (here * there / (here + there));
            slot[axis] = (f64_of(slot[axis]) + apart * (there / (here + there))).to_bits();
            slot[axis + 1] = m2.to_bits();
        }
        slot[0] += other[0];
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::place::rows::{at, placed, places};
    use super::*;
    use crate::operators::laws::{Row, check_answer, check_any_order, check_extremes, check_laws, near_words};
    use proptest::prelude::*;

    /// In two passes.
    fn oracle(rows: &[Row]) -> Option<f64> {
        let places = placed(rows);
        let mean = |numbers: &[f64]| numbers.iter().sum::<f64>() / numbers.len() as f64;
        let variance = |numbers: &[f64]| mean(&numbers.iter().map(|number| (number - mean(numbers)).powi(2)).collect::<Vec<_>>());
        let lats: Vec<f64> = places.iter().map(|(place, _)| place.lat).collect();
        let lons: Vec<f64> = places.iter().map(|(place, _)| place.lon).collect();
        let cosine = mean(&lats).to_radians().cos();
        (places.len() >= 2).then(|| (variance(&lats) * 111.32f64.powi(2) + variance(&lons) * (111.32 * cosine).powi(2)).sqrt())
    }

    #[test]
    fn two_places_are_half_their_distance_from_the_middle() {
        let rows = [at(-1.0, 5.0, 0, 1), at(1.0, 5.0, 0, 2), at(0.0, 5.0, 0, 3)];
        for (length, km) in [(0, None), (1, None), (2, Some(111.32)), (3, Some(111.32 * (2.0f64 / 3.0).sqrt()))] {
            check_answer(&GeoSpread, &[], &rows[..length], 0, (km, 1e-9), Accuracy::Exact).unwrap();
        }
    }

    #[test]
    fn it_holds_at_the_ends_of_numbers_and_times() {
        check_extremes(&GeoSpread, &[]);
    }

    #[test]
    fn words_that_no_rows_leave_are_refused() {
        let (one, arena) = (1f64.to_bits(), Arena::default());
        assert_eq!(Scatter.verify(&[1, one, one, one, one], &arena), Ok(()));
        for words in [
            [0, one, 0, 0, 0],
            [SLOT_ROWS_MAX + 1, one, one, one, one],
            [1, 200f64.to_bits(), one, one, one],
            [1, one, (-1f64).to_bits(), one, one],
            [1, one, one, f64::NAN.to_bits(), one],
            [1, one, one, one, f64::INFINITY.to_bits()],
        ] {
            assert!(Scatter.verify(&words, &arena).is_err(), "{words:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_is_the_deviation_of_all_places(rows in places(-30_000_000, 40), cuts in (0usize..40, 0usize..40)) {
            check_answer(&GeoSpread, &[], &rows, 0, (oracle(&rows), 1e-6), Accuracy::Exact)?;
            check_laws(&Scatter, &rows, cuts, &near_words(&[1, 2, 3, 4], 1e-6))?;
            check_any_order(&Scatter, &rows, &near_words(&[1, 2, 3, 4], 1e-6))?;
        }
    }
}
