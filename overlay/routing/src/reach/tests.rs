//! Tests of one side of a pair.
