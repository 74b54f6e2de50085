//! `distance_from_home`: how far the latest place is from the middle of the latest ones.
//!
//! ```text
//! slot       [handle] [places, 32 bits | oldest one's number, 32 bits]
//! object     [us] [LSN] [latitude] [longitude]  x places
//! ```
//! The newest `samples` places by (row time, LSN), in that order, starting with the oldest one and
//! going round at the end: at a full slot a row in order writes over the oldest place and nothing
//! moves. A late row turns the ring until the oldest stands first, and is put in between. So the same
//! rows leave the same places in whatever order they come. Merge is exact, associative and
//! commutative: no two rows share time and LSN.

use super::place::{LAT_FIELD, LON_FIELD, Place, need};
use crate::operators::{
    Accuracy, Compiled, Family, FeatureParams, FieldRule, Operator, Output, Param, ParamKind, Reads, Signature, WindowRule, only,
    reading::Part,
};
use crate::row::FieldType;
use crate::state::{Accumulator, Arena, Demand, Input, Need, Order};
use streamgauge_api::{Code, Value};

/// The operator.
pub(in crate::operators) struct DistanceFromHome;

const SAMPLES: Param = Param {
    name: "samples",
    aliases: &[],
    kind: ParamKind::Int { min: 1, max: 4096, default: Some(100) },
    code: Code::AggregationInvalidParam,
    help: "how many of the latest places make the home",
};

static SIGNATURE: Signature = Signature {
    name: "distance_from_home",
    aliases: &[],
    family: Family::Geo,
    asks: "how far a key is from where it usually is",
    help: "Great circle (haversine, radius 6,371 km), in km, from the latest place to the mean of the latest `samples` \
           ones, itself among them. Latest is by row time, then LSN, not by arrival: exact up to rounding in any order of \
           rows. The mean is that of the degrees, as plain numbers: on both sides of the 180th meridian it lies half \
           around the earth. Rows without a latitude within 90 and a longitude within 180 degrees are passed over. 32 \
           bytes for each place and up to half of them more, 16 for the key. Takes no window. One place: 0.0. Empty: \
           null.",
    field: FieldRule::None,
    reads: Reads::Numbers,
    window: WindowRule::Refused(Code::AggregationInvalidWindow),
    params: &[LAT_FIELD, LON_FIELD, SAMPLES],
    lifetime_bound: None,
    grown: "",
    output: Output::Is(FieldType::F64),
};

impl Operator for DistanceFromHome {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        let Ok(samples) = usize::try_from(feature.params.int(SAMPLES.name)) else { unreachable!("samples were checked") };
        assert!(samples > 0, "a home has a place");
        let places = NewestPlaces { samples };
        Compiled {
            needs: vec![need(places)],
            value: Box::new(move |slots, _now_us| from_home(only(slots).core).map_or(Value::Null, Value::F64)),
            accuracy: Box::new(|_, _now_us| Accuracy::Exact),
        }
    }
}

fn from_home(part: Part<'_>) -> Option<f64> {
    let Ring { places, .. } = Ring::of(part.words);
    let (mut lat, mut lon, mut latest) = (0.0, 0.0, None);
    for entry in entries(part.words, part.arena) {
        let Some(place) = Place::load(&entry[2..]) else { unreachable!("a slot holds places") };
        (lat, lon, latest) = (lat + place.lat, lon + place.lon, Some(place));
    }
    let count = f64::from(places);
    // The mean of equal numbers may be a rounding beyond them.
    let home = Place { lat: (lat / count).clamp(-90.0, 90.0), lon: (lon / count).clamp(-180.0, 180.0) };
    latest.map(|latest| if places == 1 { 0.0 } else { latest.km_to(home) })
}

/// Words of a place in the object.
const ENTRY: usize = 4;

const HANDLE: usize = 0;
const RING: usize = 1;

/// The second word of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ring {
    places: u32,
    oldest: u32,
}

impl Ring {
    #[expect(clippy::cast_possible_truncation, reason = "two fields of 32 bits")]
    fn of(slot: &[u64]) -> Self {
        Self { places: slot[RING] as u32, oldest: (slot[RING] >> 32) as u32 }
    }

    fn word(self) -> u64 {
        u64::from(self.places) | u64::from(self.oldest) << 32
    }

    fn len(self) -> usize {
        self.places as usize
    }

    /// First word of the place with this number, counted from the oldest.
    fn at(self, number: usize) -> usize {
        (self.oldest as usize + number) % self.len() * ENTRY
    }
}

/// The places of a slot, oldest first.
fn entries<'a>(slot: &[u64], arena: &'a Arena) -> impl DoubleEndedIterator<Item = &'a [u64]> + use<'a> {
    let (ring, object) = (Ring::of(slot), arena.get(slot[HANDLE]));
    (0..ring.len()).map(move |number| &object[ring.at(number)..][..ENTRY])
}

/// Its place in time.
#[inline]
fn stamp(entry: &[u64]) -> (i64, u64) {
    (entry[0].cast_signed(), entry[1])
}

/// The newest places.
#[derive(Debug, Clone, Copy)]
struct NewestPlaces {
    samples: usize,
}

impl NewestPlaces {
    fn insert(self, slot: &mut [u64], arena: &mut Arena, entry: [u64; ENTRY]) {
        let ring = Ring::of(slot);
        let full = ring.len() == self.samples;
        // Rows that come in order are later than all others.
        let later = entries(slot, arena).rev().take_while(|held| stamp(held) > stamp(&entry)).count();
        if full && later == ring.len() {
            return;
        }
        if full && later == 0 {
            let at = ring.at(0);
            arena.get_mut(slot[HANDLE])[at..at + ENTRY].copy_from_slice(&entry);
            let oldest = if ring.oldest + 1 == ring.places { 0 } else { ring.oldest + 1 };
            slot[RING] = Ring { oldest, ..ring }.word();
            return;
        }
        if !full {
            slot[HANDLE] = arena.grow(slot[HANDLE], (ring.len() + 1) * ENTRY);
        }
        let object = arena.get_mut(slot[HANDLE]);
        let used = ring.len() * ENTRY;
        object[..used].rotate_left(ring.oldest as usize * ENTRY);
        let at = used - later * ENTRY;
        if full {
            // The oldest one makes room.
            object.copy_within(ENTRY..at, 0);
            object[at - ENTRY..at].copy_from_slice(&entry);
        } else {
            object.copy_within(at..used, at + ENTRY);
            object[at..at + ENTRY].copy_from_slice(&entry);
        }
        slot[RING] = Ring { places: ring.places + u32::from(!full), oldest: 0 }.word();
    }
}

impl Accumulator for NewestPlaces {
    fn identity(&self) -> String {
        format!("newest places/{}", self.samples)
    }

    fn words(&self) -> usize {
        2
    }

    fn handles(&self) -> &'static [usize] {
        &[HANDLE]
    }

    fn need(&self) -> Need {
        Need::Value
    }

    fn order(&self) -> Order {
        Order::TimeLsn
    }

    fn update(&self, slot: &mut [u64], arena: &mut Arena, input: &Input<'_>) {
        if let Some(place) = Place::of(input) {
            let [lat, lon] = place.words();
            self.insert(slot, arena, [input.time_us.cast_unsigned(), input.lsn, lat, lon]);
        }
    }

    fn demand_words_max(&self) -> usize {
        self.samples * ENTRY
    }

    fn demand(&self, slot: &[u64], _arena: &Arena, input: &Input<'_>, before: usize, demand: &mut Demand) {
        let held = Ring::of(slot).len();
        if Place::of(input).is_none() || held == self.samples {
            return;
        }
        let most = (held + before + 1).min(self.samples) * ENTRY;
        if most > Arena::capacity(slot[HANDLE]) {
            demand.object_within((held + 1) * ENTRY, most);
        }
    }

    fn verify(&self, slot: &[u64], arena: &Arena) -> Result<(), &'static str> {
        let (ring, object) = (Ring::of(slot), arena.get(slot[HANDLE]));
        if ring.len() > self.samples || ring.len() * ENTRY > object.len() {
            return Err("its object has no room for its places");
        }
        if (slot[HANDLE] == 0) != (slot[RING] == 0) || (ring.places > 0 && ring.oldest >= ring.places) {
            return Err("its oldest place is not among its places");
        }
        if ring.oldest > 0 && ring.len() < self.samples {
            return Err("it went round before it was full");
        }
        if entries(slot, arena).any(|entry| Place::load(&entry[2..]).is_none()) {
            return Err("one of its places is not on earth");
        }
        if !entries(slot, arena).map(stamp).is_sorted() {
            return Err("its places are not in order of time");
        }
        Ok(())
    }

    fn merge(&self, slot: &mut [u64], arena: &mut Arena, other: &[u64], from: &Arena) {
        for entry in entries(other, from) {
            let Ok(entry) = entry.try_into() else { unreachable!("an entry has {ENTRY} words") };
            self.insert(slot, arena, entry);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::place::rows::{at, places};
    use super::*;
    use crate::operators::ParamValue;
    use crate::operators::laws::{Row, State, check_answer, check_any_order, check_extremes, check_laws};
    use proptest::prelude::*;

    fn held(state: &State) -> Vec<[u64; ENTRY]> {
        entries(&state.words, &state.arena).map(|entry| <[u64; ENTRY]>::try_from(entry).unwrap()).collect()
    }

    /// The rule over all rows in order of (time, LSN).
    fn oracle(rows: &[Row], samples: usize) -> Option<f64> {
        let place = |row: &Row| {
            let (lat, lon) = (row.datum.cell().number()?, row.more[0].cell().number()?);
            (lat.abs() <= 90.0 && lon.abs() <= 180.0).then_some((row.time_us, row.lsn, Place { lat, lon }))
        };
        let mut all: Vec<_> = rows.iter().filter_map(place).collect();
        all.sort_by_key(|&(time_us, lsn, _)| (time_us, lsn));
        let newest: Vec<Place> = all.iter().rev().take(samples).map(|(_, _, place)| *place).collect();
        let count = newest.len() as f64;
        let lat = newest.iter().map(|place| place.lat).sum::<f64>() / count;
        let lon = newest.iter().map(|place| place.lon).sum::<f64>() / count;
        newest.first().map(|latest| latest.km_to(Place { lat, lon }))
    }

    #[test]
    fn home_is_the_mean_of_the_latest_places() {
        let given = [("samples", ParamValue::Int(2))];
        let rows = [at(0.0, 0.0, 5, 1), at(0.0, 2.0, 5, 2), at(0.0, 4.0, 7, 3), at(0.0, 90.0, 4, 4)];
        for (length, km) in [(0, None), (1, Some(0.0)), (2, Some(111.1949)), (3, Some(111.1949)), (4, Some(111.1949))] {
            check_answer(&DistanceFromHome, &given, &rows[..length], 0, (km, 1e-4), Accuracy::Exact).unwrap();
        }
    }

    #[test]
    fn it_holds_at_the_ends_of_numbers_and_times() {
        check_extremes(&DistanceFromHome, &[("samples", ParamValue::Int(3))]);
        let poles: Vec<Row> = (0..7).map(|lsn| at(90.0, 180.0, 0, lsn)).collect();
        check_answer(&DistanceFromHome, &[], &poles, 0, (Some(0.0), 0.0), Accuracy::Exact).unwrap();
    }

    #[test]
    fn words_that_no_rows_leave_are_refused() {
        let places = NewestPlaces { samples: 3 };
        let rows: Vec<Row> = (1..=4).map(|lsn| at(1.0, 2.0, lsn, lsn.cast_unsigned())).collect();
        let state = State::fed(&places, &rows);
        assert_eq!(Ring::of(&state.words), Ring { places: 3, oldest: 1 });
        let refused = |break_it: &dyn Fn(&mut State)| {
            let mut state = state.clone();
            break_it(&mut state);
            places.verify(&state.words, &state.arena).is_err()
        };
        assert!(!refused(&|_| {}));
        assert!(refused(&|state| state.words[RING] = Ring { places: 4, oldest: 1 }.word()));
        assert!(refused(&|state| state.words[RING] = Ring { places: 3, oldest: 3 }.word()));
        assert!(refused(&|state| state.words[RING] = Ring { places: 2, oldest: 1 }.word()));
        assert!(refused(&|state| state.words[RING] = Ring { places: 3, oldest: 0 }.word()));
        assert!(refused(&|state| state.words[RING] = 0));
        assert!(refused(&|state| state.words[HANDLE] = 0));
        assert!(refused(&|state| state.arena.get_mut(state.words[HANDLE])[2] = 91f64.to_bits()));
        assert!(refused(&|state| state.arena.get_mut(state.words[HANDLE])[3] = f64::NAN.to_bits()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_newest_places_stay_in_whatever_order_they_come(
            rows in prop_oneof![places(0, 40).boxed(), places(-30_000_000, 40).boxed()],
            samples in prop::sample::select(vec![1usize, 2, 7, 100]),
            cuts in (0usize..40, 0usize..40),
        ) {
            let places = NewestPlaces { samples };
            check_laws(&places, &rows, cuts, &|left, right| held(left) == held(right))?;
            check_any_order(&places, &rows, &|left, right| held(left) == held(right))?;
            let given = [("samples", ParamValue::Int(samples as i64))];
            check_answer(&DistanceFromHome, &given, &rows, 0, (oracle(&rows, samples), 1e-3), Accuracy::Exact)?;
        }
    }
}
