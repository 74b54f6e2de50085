//! How the values of a field spread over categories: `entropy` and `event_type_mix`. Both read the counters of `top_k`.

mod entropy;
mod event_type_mix;
mod valued;

pub(super) use entropy::Entropy;
pub(super) use event_type_mix::EventTypeMix;
