//! Operators over places: how fast and how far a key moved, how widely its places are spread, and how
//! far it is from where it usually is.
//!
//! A place is two fields, latitude and longitude in degrees; a row that lacks one of them, or has one
//! that no place on earth has, is passed over. Distances are great circles on a sphere. None of the
//! operators takes a window, so their slots stand in lifetimes and cost a row what they say.
//!
//! - `place`: the parameters, what a place is, and the distance of two;
//! - one file for each operator, with its accumulator.

mod distance_from_home;
mod geo_distance;
mod geo_spread;
mod geo_velocity;
mod place;

pub(super) use distance_from_home::DistanceFromHome;
pub(super) use geo_distance::GeoDistance;
pub(super) use geo_spread::GeoSpread;
pub(super) use geo_velocity::GeoVelocity;
