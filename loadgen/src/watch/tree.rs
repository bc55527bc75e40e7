//! A process and all that it started, as `/proc` shows them now.

use std::fs;
use std::time::Duration;

use super::Subject;
use super::procfs::{self, Stat};

/// The most processes of a tree that are looked at, and the most threads of a process: a look has
/// to cost little beside what it looks at.
const MOST_PROCESSES: usize = 256;
const MOST_THREADS: usize = 512;

/// What a tree of processes has used since each of them was started, and what it has now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) cpu: Duration,
    pub(super) memory_bytes: u64,
    pub(super) processes: u64,
}

/// What the kernel says of a process; `None` if there is none.
pub(super) fn stat(pid: u32) -> Option<Stat> {
    procfs::stat(&read(&format!("/proc/{pid}/stat"))?)
}

/// What the process and its descendants use; `None` when it has ended.
pub(super) fn usage(subject: &Subject) -> Option<Usage> {
    let same = |stat: &Stat| stat.is_running() && stat.started == subject.started;
    let mut usage = Usage::default();
    add(&mut usage, subject.pid, &stat(subject.pid).filter(same)?);
    let mut open = children(subject.pid);
    while let Some(pid) = open.pop().filter(|_| usage.processes < MOST_PROCESSES as u64) {
        // One that has ended since it was listed is found in its parent's books next time.
        if let Some(stat) = stat(pid) {
            add(&mut usage, pid, &stat);
            open.extend(children(pid));
        }
    }
    Some(usage)
}

fn add(usage: &mut Usage, pid: u32, stat: &Stat) {
    let threads = threads(pid).into_iter();
    let ran = threads.filter_map(|task| procfs::schedstat(&read(&format!("{task}/schedstat"))?));
    usage.cpu += cpu(Duration::from_nanos(ran.sum()), stat, ticks_per_second());
    let status = read(&format!("/proc/{pid}/status"));
    usage.memory_bytes += status.and_then(|text| procfs::resident_bytes(&text)).unwrap_or(0);
    usage.processes += 1;
}

/// The time of the living threads is known to the nanosecond, that of all, those that have ended
/// included, to a tick of ten milliseconds, rounded down: the truth is no less than either.
fn cpu(living: Duration, stat: &Stat, ticks_per_second: u64) -> Duration {
    let time = |ticks: u64| {
        let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(ticks_per_second.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    };
    living.max(time(stat.own_ticks)).saturating_add(time(stat.reaped_ticks))
}

fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second()
}

/// The folders of a process's threads.
fn threads(pid: u32) -> Vec<String> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let path = |entry: fs::DirEntry| entry.path().to_string_lossy().into_owned();
    entries.flatten().take(MOST_THREADS).map(path).collect()
}

fn children(pid: u32) -> Vec<u32> {
    let lists = threads(pid).into_iter().filter_map(|task| read(&format!("{task}/children")));
    lists.flat_map(|list| procfs::children(&list).collect::<Vec<u32>>()).collect()
}

/// A name of a process need not be UTF-8.
fn read(path: &str) -> Option<String> {
    fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    fn ended(own_ticks: u64, reaped_ticks: u64) -> Stat {
        Stat { name: String::new(), state: 'S', own_ticks, reaped_ticks, started: 0 }
    }

    #[test]
    fn threads_that_ended_are_not_forgotten() {
        let ms = Duration::from_millis;
        assert_eq!(cpu(ms(104), &ended(10, 0), 100), ms(104));
        assert_eq!(cpu(ms(4), &ended(10, 0), 100), ms(100));
        assert_eq!(cpu(ms(4), &ended(10, 7), 100), ms(170));
    }

    /// A shell that has started another process, which both end when they have nothing to read.
    fn family() -> Child {
        let mut shell = Command::new("sh");
        shell.args(["-c", "cat; exit 0"]).stdin(std::process::Stdio::piped());
        shell.spawn().unwrap()
    }

    #[test]
    fn children_count_with_who_started_them_until_it_ends() {
        let mut shell = family();
        let subject = Subject::find(shell.id(), None).unwrap();
        // However long it takes until the shell has started its child.
        let usage = loop {
            let usage = usage(&subject).unwrap();
            if usage.processes == 2 && usage.memory_bytes > 0 {
                break usage;
            }
            assert!(shell.try_wait().unwrap().is_none(), "it ended");
            std::thread::yield_now();
        };
        let own = stat(shell.id()).unwrap();
        assert!(usage.cpu >= cpu(Duration::ZERO, &own, ticks_per_second()), "{usage:?}");
        drop(shell.stdin.take());
        assert!(shell.wait().unwrap().success());
        assert_eq!(super::usage(&subject), None);
    }

    #[test]
    fn a_number_that_came_back_is_another_process() {
        let me = Subject::find(std::process::id(), None).unwrap();
        assert!(usage(&me).is_some());
        let earlier = Subject { started: me.started - 1, ..me };
        assert_eq!(usage(&earlier), None);
    }
}
