//! What a process takes of the machine, by what the kernel says.

use std::{fs, path::Path};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) threads: usize,
    /// Sockets, and whatever else is open.
    pub(crate) files: usize,
    pub(crate) memory: u64,
}

/// What may be more at the end: connections that are kept for the next burst, threads that wait for more to do.
const MORE_THREADS: usize = 8;
const MORE_FILES: usize = 16;
const MORE_MEMORY: u64 = 16 << 20;

impl Health {
    pub(crate) fn of(process: u32) -> Self {
        let folder = Path::new("/proc").join(process.to_string());
        let count = |name: &str| fs::read_dir(folder.join(name)).unwrap().count();
        let status = fs::read_to_string(folder.join("status")).unwrap();
        let memory = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        let memory: u64 = memory.split_whitespace().next().unwrap().parse().unwrap();
        Self {
            threads: count("task"),
            files: count("fd"),
            memory: memory << 10,
        }
    }

    /// What has grown since `before`.
    pub(crate) fn grown(self, before: Self) -> Option<String> {
        let has_grown = self.threads > before.threads + MORE_THREADS
            || self.files > before.files + MORE_FILES
            || self.memory > before.memory + MORE_MEMORY;
        has_grown.then(|| format!("{self:?} after {before:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_of_each_kind_is_found() {
        let before = Health {
            threads: 5,
            files: 20,
            memory: 20 << 20,
        };
        let more = |threads, files, memory| {
            Health {
                threads,
                files,
                memory,
            }
            .grown(before)
        };
        assert_eq!(more(13, 36, 36 << 20), None);
        for grown in [
            more(14, 20, 20 << 20),
            more(5, 37, 20 << 20),
            more(5, 20, 37 << 20),
        ] {
            assert!(grown.is_some());
        }
        let own = Health::of(std::process::id());
        assert!(own.threads >= 1 && own.files >= 3 && own.memory > 0, "{own:?}");
    }
}
