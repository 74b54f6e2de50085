//! `geo_velocity`: the highest speed between two consecutive places of a key. It finds journeys that
//! nobody can make.
//!
//! Slot: `[state] [latitude] [longitude] [last us] [highest, km/h]`; `state` is that of
//! [`ends`]. Every row's place takes the place of the one before, whatever its time; only a step
//! forward in time has a speed. So a late row, whose speed to its true neighbours nobody measures, is
//! still a place and a time that were: no speed comes out of it that the key did not have on average
//! between two of its rows. Lifetimes only, so slots are never merged.

use super::place::{LAT_FIELD, LON_FIELD, Place, need};
use crate::operators::ends::{self, EMPTY, state_after};
use crate::operators::{Compiled, Family, FeatureParams, FieldRule, Operator, Output, Reads, Signature, WindowRule, only};
use crate::row::FieldType;
use crate::state::{Accumulator, Arena, Input, Need, Order, f64_of};
use streamgauge_api::{Code, Value};

/// The operator.
pub(in crate::operators) struct GeoVelocity;

static SIGNATURE: Signature = Signature {
    name: "geo_velocity",
    aliases: &[],
    family: Family::Geo,
    asks: "whether a key moved faster than anybody can",
    help: "Highest speed between two consecutive places ever, in km/h: the great circle (haversine, radius 6,371 km) \
           divided by the time between the rows; rows at one time have no speed. Rows without a latitude within 90 and \
           a longitude within 180 degrees are passed over. Exact up to rounding while rows come in order of time; a late \
           one is the place before the next one. 40 bytes. Takes no window. One place: 0.0. Empty: null.",
    field: FieldRule::None,
    reads: Reads::Numbers,
    window: WindowRule::Refused(Code::AggregationInvalidWindow),
    params: &[LAT_FIELD, LON_FIELD],
    lifetime_bound: None,
    grown: "",
    output: Output::Is(FieldType::F64),
};

impl Operator for GeoVelocity {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        Compiled {
            needs: vec![need(HighestSpeed)],
            value: Box::new(|slots, _now_us| {
                let words = only(slots).core.words;
                if words[0] == EMPTY { Value::Null } else { Value::F64(f64_of(words[HIGHEST])) }
            }),
            accuracy: Box::new(|slots, _now_us| ends::accuracy(only(slots))),
        }
    }
}

const PLACE: std::ops::Range<usize> = 1..3;
const LAST_US: usize = 3;
const HIGHEST: usize = 4;

const HOUR_US: f64 = 3_600_000_000.0;

/// The highest speed.
#[derive(Debug, Clone, Copy)]
struct HighestSpeed;

impl Accumulator for HighestSpeed {
    fn identity(&self) -> String {
        "highest speed".into()
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
    #[expect(clippy::cast_precision_loss, reason = "a speed needs no last digit of its time")]
    fn update(&self, slot: &mut [u64], _arena: &mut Arena, input: &Input<'_>) {
        let Some(place) = Place::of(input) else { return };
        let mut gap_us = 0;
        if slot[0] != EMPTY {
            let Some(last) = Place::load(&slot[PLACE]) else { unreachable!("a slot with rows has a place") };
            gap_us = input.time_us.saturating_sub(slot[LAST_US].cast_signed());
            if gap_us > 0 {
                let speed = last.km_to(place) * (HOUR_US / gap_us as f64);
                slot[HIGHEST] = f64_of(slot[HIGHEST]).max(speed).to_bits();
            }
        }
        slot[0] = state_after(slot[0], gap_us);
        slot[PLACE].copy_from_slice(&place.words());
        slot[LAST_US] = input.time_us.cast_unsigned();
    }

    fn verify(&self, slot: &[u64], _arena: &Arena) -> Result<(), &'static str> {
        ends::verify(slot)?;
        let highest = f64_of(slot[HIGHEST]);
        if Place::load(&slot[PLACE]).is_none() {
            Err("its last place is not on earth")
        } else if !highest.is_finite() || highest < 0.0 {
            Err("its speed is none")
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
    use crate::operators::ends::{DISORDERED, ORDERED};
    use crate::operators::laws::{Row, check_answer, check_extremes, check_lifetime_laws};
    use proptest::prelude::*;

    /// The rule as the reference writes it, in order of arrival.
    fn oracle(rows: &[Row]) -> Option<f64> {
        let places = placed(rows);
        let speeds = places.windows(2).filter(|pair| pair[1].1 > pair[0].1).map(|pair| {
            let hours = (pair[1].1 - pair[0].1) as f64 / 3.6e9;
            pair[0].0.km_to(pair[1].0) / hours
        });
        (!places.is_empty()).then(|| speeds.fold(0.0, f64::max))
    }

    #[test]
    fn a_degree_of_the_equator_in_an_hour() {
        let rows = [at(0.0, 0.0, 0, 1), at(0.0, 1.0, 3_600_000_000, 2), at(0.0, 1.5, 7_200_000_000, 3), at(80.0, 1.5, 7_200_000_000, 4)];
        for (length, speed) in [(0, None), (1, Some(0.0)), (2, Some(111.1949)), (3, Some(111.1949)), (4, Some(111.1949))] {
            check_answer(&GeoVelocity, &[], &rows[..length], 0, (speed, 1e-4), Accuracy::Exact).unwrap();
        }
    }

    #[test]
    fn it_holds_at_the_ends_of_numbers_and_times() {
        check_extremes(&GeoVelocity, &[]);
        let rows = [at(0.0, 0.0, 0, 1), at(0.0, 180.0, 1, 2)];
        check_answer(&GeoVelocity, &[], &rows, 0, (Some(7.2054e13), 1e9), Accuracy::Exact).unwrap();
    }

    #[test]
    fn words_that_no_rows_leave_are_refused() {
        let (one, arena) = (1f64.to_bits(), Arena::default());
        assert_eq!(HighestSpeed.verify(&[ORDERED, one, one, 7, one], &arena), Ok(()));
        assert_eq!(HighestSpeed.verify(&[DISORDERED, one, one, 7, 0], &arena), Ok(()));
        for words in [
            [0, one, 0, 0, 0],
            [3, one, one, 7, one],
            [1, 91f64.to_bits(), one, 7, one],
            [1, one, f64::NAN.to_bits(), 7, one],
            [1, one, one, 7, (-1f64).to_bits()],
            [1, one, one, 7, f64::INFINITY.to_bits()],
        ] {
            assert!(HighestSpeed.verify(&words, &arena).is_err(), "{words:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_is_the_highest_of_all_speeds(rows in prop_oneof![places(0, 30).boxed(), places(-30_000_000, 30).boxed()], cut in 0usize..30) {
            let in_order = placed(&rows).is_sorted_by_key(|(_, time_us)| *time_us);
            let accuracy = if in_order { Accuracy::Exact } else { Accuracy::Unknown };
            let expected = oracle(&rows);
            check_answer(&GeoVelocity, &[], &rows, 0, (expected, expected.unwrap_or(0.0) * 1e-9), accuracy)?;
            check_lifetime_laws(&HighestSpeed, &rows, cut)?;
        }
    }
}
