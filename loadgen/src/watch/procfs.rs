//! The kernel's text about processes, read. Pure: see proc(5).

/// `/proc/PID/stat`, as far as it is of use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    /// The name of its executable, cut to 15 bytes.
    pub(super) name: String,
    /// `R`, `S`, `D`, …; `Z` for one that has ended and that nobody has waited for.
    pub(super) state: char,
    /// Processor time of all its threads, those that ended included, in ticks.
    pub(super) own_ticks: u64,
    /// That of its children that have ended, and were waited for.
    pub(super) reaped_ticks: u64,
    /// When it was started, in ticks from the start of the system.
    pub(super) started: u64,
}

impl Stat {
    /// Neither ended nor about to be forgotten.
    pub(super) fn is_running(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// Reads `/proc/PID/stat`. The name stands in parentheses, and may itself have parentheses and
/// spaces in it: it ends at the last one.
pub(super) fn stat(text: &str) -> Option<Stat> {
    let (before, after) = text.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    // From the third field of proc(5) on.
    let fields: Vec<&str> = after.split_ascii_whitespace().collect();
    let number = |place: usize| fields.get(place - 3)?.parse::<u64>().ok();
    Some(Stat {
        name: name.to_owned(),
        state: fields.first()?.chars().next()?,
        own_ticks: number(14)?.checked_add(number(15)?)?,
        reaped_ticks: number(16)?.checked_add(number(17)?)?,
        started: number(22)?,
    })
}

/// Reads `/proc/PID/task/TID/schedstat`: the nanoseconds that a thread has run.
pub(super) fn schedstat(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// Reads `/proc/PID/task/TID/children`: who was started by a thread.
pub(super) fn children(text: &str) -> impl Iterator<Item = u32> {
    text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok())
}

/// Reads the resident set from `/proc/PID/status`, in bytes. Kernel threads and processes that have
/// ended have none. (`stat` and `statm` have it too, but leave out what each processor has not yet
/// added up.)
pub(super) fn resident_bytes(text: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &str = "S 1 4711 4711 0 -1 4194560 9000 8000 7 6 120 34 560 78 20 0 4 0 304987 \
                          3133440 354 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0";

    #[test]
    fn a_name_may_have_spaces_and_parentheses() {
        for name in ["nginx", "tmux: server", "a) S 1 (b", ")", "((sd-pam))", ""] {
            let read = stat(&format!("4711 ({name}) {FIELDS}")).unwrap();
            assert_eq!(read.name, name);
            assert_eq!((read.own_ticks, read.reaped_ticks, read.started), (154, 638, 304_987));
            assert!(read.state == 'S' && read.is_running());
        }
    }

    #[test]
    fn what_has_ended_is_not_running() {
        for (state, runs) in [("R", true), ("D", true), ("Z", false), ("X", false)] {
            let read = stat(&format!("1 (a) {state}{}", &FIELDS[1..])).unwrap();
            assert_eq!(read.is_running(), runs, "{state}");
        }
    }

    #[test]
    fn text_that_is_cut_or_something_else_is_none() {
        let whole = format!("4711 (nginx) {FIELDS}");
        let until_start = whole.find("304987").unwrap() + "304987".len();
        assert!(stat(&whole[..until_start]).is_some());
        for end in 0..until_start - "304987".len() {
            assert_eq!(stat(&whole[..end]), None, "{}", &whole[..end]);
        }
        assert_eq!(stat(&whole.replace("120 34", "120 many")), None);
        assert_eq!(stat(&whole.replace("120 34", "18446744073709551615 34")), None);
    }

    #[test]
    fn time_children_and_memory_are_read() {
        assert_eq!(schedstat("73754633 197382073 207\n"), Some(73_754_633));
        assert_eq!(schedstat(""), None);
        assert_eq!(children("12 345 \n").collect::<Vec<_>>(), [12, 345]);
        assert_eq!(children("").count(), 0);
        let status = "Name:\tVmRSS:\nVmHWM:\t   20000 kB\nVmRSS:\t   11268 kB\nThreads:\t4\n";
        assert_eq!(resident_bytes(status), Some(11_268 * 1024));
        assert_eq!(resident_bytes("Name:\tkthreadd\nThreads:\t1\n"), None);
        assert_eq!(resident_bytes("VmRSS:\t 11268 MB\n"), None);
    }
}
