//! Tests of the expression as a whole: tables of good and bad ones, what a person sees, and properties over generated ones.

mod keys;
mod malformed;
mod malformed_table;
mod properties;
mod rendered;
mod schema;
mod wellformed;
