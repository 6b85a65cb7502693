//! Decorators over a store, each with one concern.
