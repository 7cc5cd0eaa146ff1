//! What the files say that have tables of delays, as far as they have been read.

use std::collections::BTreeMap;

use crate::{Table, TableFile};

/// Files, and the table in each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables(BTreeMap<TableFile, Table>);

impl Tables {
    /// Notes what a file says.
    pub fn set(&mut self, file: TableFile, table: Table) {
        self.0.insert(file, table);
    }

    /// What a file says; `None` if it was not read.
    pub fn get(&self, file: &TableFile) -> Option<&Table> {
        self.0.get(file)
    }

    /// All of them, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (&TableFile, &Table)> {
        self.0.iter()
    }
}
