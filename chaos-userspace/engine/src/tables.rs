//! The files that have tables of delays: read once, before anything is attached.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;

use super::EngineError;
use murphy_fault::plan::{Plan, Tables};
use murphy_fault::{BadTable, Table, TableFile};

/// A longer file is none of a table; one of as many numbers as there may be is a tenth of it.
const LONGEST: u64 = 1 << 20;

/// Why a file gives no table.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// It cannot be read.
    #[error("{0}")]
    Unread(#[source] io::Error),
    /// A folder, a pipe, a device.
    #[error("it is no regular file")]
    NoFile,
    /// Far longer than a table can be.
    #[error("it has more than {} KiB", LONGEST / 1024)]
    TooLong,
    /// What stands in it.
    #[error(transparent)]
    Bad(#[from] BadTable),
}

/// Reads the tables that a plan's faults name, unless it has them.
///
/// # Errors
///
/// The first file that has none.
pub(super) fn read(mut plan: Plan) -> Result<Plan, EngineError> {
    let mut tables = Tables::default();
    for (file, fault) in plan.table_files() {
        let known = plan.tables.get(file).cloned();
        let table = known.map_or_else(|| table(file), Ok);
        let table = table.map_err(|source| EngineError::NoTable {
            file: file.clone(),
            fault: fault.to_string(),
            source,
        })?;
        tables.set(file.clone(), table);
    }
    plan.tables = tables;
    Ok(plan)
}

fn table(file: &TableFile) -> Result<Table, TableError> {
    // A pipe without a writer would be waited for.
    let mut options = File::options();
    let options = options.read(true).custom_flags(libc::O_NONBLOCK);
    let file = options.open(file.as_str()).map_err(TableError::Unread)?;
    if !file.metadata().map_err(TableError::Unread)?.is_file() {
        return Err(TableError::NoFile);
    }
    let mut bytes = Vec::new();
    let read = file.take(LONGEST + 1).read_to_end(&mut bytes);
    if read.map_err(TableError::Unread)? as u64 > LONGEST {
        return Err(TableError::TooLong);
    }
    Ok(Table::parse(&String::from_utf8_lossy(&bytes))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use murphy_fault::plan::{Options, Target};

    fn plan(file: &str) -> Plan {
        let fault = format!("egress:delay=50ms:jitter=5ms:distribution={file}");
        let faults = vec![fault.parse().unwrap()];
        Plan::new(faults, Target::Command, &Options::default()).unwrap()
    }

    #[test]
    fn a_table_is_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wan.dist");
        std::fs::write(&path, "# two\n-8192 8192\n").unwrap();
        let file = TableFile::new(path.to_str().unwrap()).unwrap();
        let read_once = read(plan(file.as_str())).unwrap();
        let table = read_once.tables.get(&file).unwrap();
        assert_eq!(table.numbers(), [-8192, 8192]);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read(read_once.clone()).unwrap(), read_once);
    }

    #[test]
    fn what_is_no_table_is_refused_by_file_and_reason() {
        let folder = tempfile::tempdir().unwrap();
        let made = |name: &str, text: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        for (file, reason) in [
            (made("empty", b""), "there is no number in it"),
            (made("word", b"1\n2 ms\n"), "line 2: `ms`"),
            (made("binary", &[0xff, 0, 7]), "line 1: `"),
            (made("huge", &[b' '; 1 << 20 | 1]), "more than 1024 KiB"),
            (
                folder.path().to_str().unwrap().to_owned(),
                "no regular file",
            ),
            ("/dev/zero".to_owned(), "no regular file"),
            ("/nowhere/x.dist".to_owned(), "No such file"),
        ] {
            let error = read(plan(&file)).unwrap_err();
            let said = error.to_string();
            for phrase in [&file, reason, "egress:delay=50ms"] {
                assert!(said.contains(phrase), "{said}");
            }
            assert!(error.remedy().is_some());
        }
    }
}
