//! Every series: name, unit, help, labels. The doorway to the `prometheus` crate.
