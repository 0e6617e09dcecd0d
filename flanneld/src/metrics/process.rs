//! What the kernel says of this process (`/proc/self`, proc(5)).

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use super::catalogue;
use super::exposition::{Page, real};

/// `_SC_CLK_TCK`, which Linux keeps at this for every program (`USER_HZ`).
const TICKS: f64 = 100.0;
/// The size of a page is not in any file; `statm` is therefore not read, but `status`, which counts in KiB.
const KIB: u64 = 1024;

/// What is told of a process; what cannot be read is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Process {
    cpu: Option<f64>,
    resident: Option<u64>,
    virtual_size: Option<u64>,
    descriptors: Option<u64>,
}

/// Writes it. `started` is when the daemon was started.
pub(super) fn write(page: &mut Page, started: SystemTime) {
    let read = |name| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    let mut process = Process::parse(&read("stat"), &read("status"));
    // The one that reads the directory is not counted.
    process.descriptors = fs::read_dir("/proc/self/fd")
        .ok()
        .map(|entries| (entries.count() as u64).saturating_sub(1));
    page.metric(&catalogue::PROCESS_CPU).known(&[], process.cpu);
    page.metric(&catalogue::PROCESS_MEMORY)
        .known(&[], process.resident.map(real));
    page.metric(&catalogue::PROCESS_VIRTUAL)
        .known(&[], process.virtual_size.map(real));
    page.metric(&catalogue::PROCESS_FDS)
        .known(&[], process.descriptors.map(real));
    page.metric(&catalogue::PROCESS_START)
        .known(&[], seconds(started));
}

/// Since 1970.
pub(super) fn seconds(time: SystemTime) -> Option<f64> {
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs_f64())
}

impl Process {
    fn parse(stat: &str, status: &str) -> Self {
        // The name of the program, in parentheses, may hold anything.
        let fields: Vec<&str> = stat
            .rsplit_once(") ")
            .map_or("", |(_, rest)| rest)
            .split(' ')
            .collect();
        // Fields 14 and 15 of the page, of which the rest begins with the third.
        let ticks = |field: usize| fields.get(field - 3)?.parse::<u32>().ok();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * KIB)
        };
        Self {
            cpu: ticks(14)
                .zip(ticks(15))
                .map(|(user, system)| (f64::from(user) + f64::from(system)) / TICKS),
            resident: kib("VmRSS:"),
            virtual_size: kib("VmSize:"),
            descriptors: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 2069 0 0 0 150 25 0 0 20 0 4 0 100 1 2 3";
        let status = "Name:\ta) b\nVmSize:\t   20000 kB\nVmRSS:\t    7000 kB\n";
        let expected = Process {
            cpu: Some(1.75),
            resident: Some(7000 * 1024),
            virtual_size: Some(20000 * 1024),
            descriptors: None,
        };
        assert_eq!(Process::parse(stat, status), expected);
        assert_eq!(Process::parse("", "nonsense"), Process::default());
    }
}
