//! `geo_distance`: how far a key has gone in all, from place to place.
//!
//! Slot: `[state] [latitude] [longitude] [last us] [km]`; `state` is that of [`ends`]. The path goes
//! through the places in order of arrival: a late row is a detour then, which the state remembers.
//! Rows at one time are a step like others. Lifetimes only, so slots are never merged.

use super::place::{LAT_FIELD, LON_FIELD, Place, need};
use crate::operators::ends::{self, EMPTY, state_after};
use crate::operators::{Compiled, Family, FeatureParams, FieldRule, Operator, Output, Reads, Signature, WindowRule, only};
use crate::row::FieldType;
use crate::state::{Accumulator, Arena, Input, Need, Order, f64_of};
use streamgauge_api::{Code, Value};

/// The operator.
pub(in crate::operators) struct GeoDistance;

static SIGNATURE: Signature = Signature {
    name: "geo_distance",
    aliases: &[],
    family: Family::Geo,
    asks: "how far a key has gone in all",
    help: "Length of the path through all places, in km: the sum of the great circles (haversine, radius 6,371 km) from \
           each to the next. Rows without a latitude within 90 and a longitude within 180 degrees are passed over. Exact \
           up to rounding while rows come in order of time; a late one is a detour. 40 bytes. Takes no window. One \
           place, or empty: 0.0.",
    field: FieldRule::None,
    reads: Reads::Numbers,
    window: WindowRule::Refused(Code::AggregationInvalidWindow),
    params: &[LAT_FIELD, LON_FIELD],
    lifetime_bound: None,
    grown: "",
    output: Output::Is(FieldType::F64),
};

impl Operator for GeoDistance {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        Compiled {
            needs: vec![need(Path)],
            value: Box::new(|slots, _now_us| Value::F64(f64_of(only(slots).core.words[KM]))),
            accuracy: Box::new(|slots, _now_us| ends::accuracy(only(slots))),
        }
    }
}

const PLACE: std::ops::Range<usize> = 1..3;
const LAST_US: usize = 3;
const KM: usize = 4;

/// The path.
#[derive(Debug, Clone, Copy)]
struct Path;

impl Accumulator for Path {
    fn identity(&self) -> String {
        "path".into()
    }

    fn words(&self) -> usize {
        5
    }

    fn need(&self) -> Need {
        Need::Value
    }

    fn order(&self) -> Order {
        Order::Ends
    }

    #[inline]
    fn update(&self, slot: &mut [u64], _arena: &mut Arena, input: &Input<'_>) {
        let Some(place) = Place::of(input) else { return };
        let mut gap_us = 0;
        if slot[0] != EMPTY {
            let Some(last) = Place::load(&slot[PLACE]) else { unreachable!("a slot with rows has a place") };
            gap_us = input.time_us.saturating_sub(slot[LAST_US].cast_signed());
            slot[KM] = (f64_of(slot[KM]) + last.km_to(place)).to_bits();
        }
        slot[0] = state_after(slot[0], gap_us);
        slot[PLACE].copy_from_slice(&place.words());
        slot[LAST_US] = input.time_us.cast_unsigned();
    }

    fn verify(&self, slot: &[u64], _arena: &Arena) -> Result<(), &'static str> {
        ends::verify(slot)?;
        let km = f64_of(slot[KM]);
        if Place::load(&slot[PLACE]).is_none() {
            Err("its last place is not on earth")
        } else if !km.is_finite() || km < 0.0 {
            Err("its path has no length")
        } else {
            Ok(())
        }
    }

    fn merge(&self, _slot: &mut [u64], _arena: &mut Arena, _other: &[u64], _from: &Arena) {
        ends::never_merged()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::place::rows::{at, placed, places};
    use super::*;
    use crate::operators::Accuracy;
    use crate::operators::laws::{check_answer, check_extremes, check_lifetime_laws};
    use proptest::prelude::*;

    #[test]
    fn a_path_goes_from_place_to_place() {
        let rows = [at(0.0, 0.0, 0, 1), at(0.0, 1.0, 1, 2), at(0.0, 0.0, 2, 3), at(1.0, 0.0, 2, 4)];
        for (length, km) in [(0, 0.0), (1, 0.0), (2, 111.1949), (3, 222.3899), (4, 333.5848)] {
            check_answer(&GeoDistance, &[], &rows[..length], 0, (Some(km), 1e-4), Accuracy::Exact).unwrap();
        }
    }

    #[test]
    fn it_holds_at_the_ends_of_numbers_and_times() {
        check_extremes(&GeoDistance, &[]);
    }

    #[test]
    fn words_that_no_rows_leave_are_refused() {
        let (one, arena) = (1f64.to_bits(), Arena::default());
        assert_eq!(Path.verify(&[1, one, one, 7, one], &arena), Ok(()));
        for words in [
            [0, 0, 0, 0, one],
            [3, one, one, 7, one],
            [1, 91f64.to_bits(), one, 7, one],
            [1, one, one, 7, (-1f64).to_bits()],
            [1, one, one, 7, f64::NAN.to_bits()],
        ] {
            assert!(Path.verify(&words, &arena).is_err(), "{words:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_is_the_sum_of_all_steps(rows in prop_oneof![places(0, 30).boxed(), places(-30_000_000, 30).boxed()], cut in 0usize..30) {
            let places = placed(&rows);
            let in_order = places.is_sorted_by_key(|(_, time_us)| *time_us);
            let accuracy = if in_order { Accuracy::Exact } else { Accuracy::Unknown };
            let km: f64 = places.windows(2).map(|pair| pair[0].0.km_to(pair[1].0)).sum();
            check_answer(&GeoDistance, &[], &rows, 0, (Some(km), 1e-6), accuracy)?;
            check_lifetime_laws(&Path, &rows, cut)?;
        }
    }
}
