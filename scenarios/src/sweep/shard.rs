//! Which part of a sweep this machine does. Pure: the environment is passed in.

use std::fmt;
use std::str::FromStr;

use super::Item;

/// One of several equal parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 0.
    index: u64,
    /// From 1.
    count: u64,
}

/// A shard and where it was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The part.
    pub shard: Shard,
    /// The environment variable that named it.
    pub by: &'static str,
}

/// What a scheduler calls the parts of a job.
struct Scheduler {
    index: &'static str,
    count: &'static str,
    /// The number of its first part, where that is fixed.
    first: u64,
    /// The variable that has the number of the first part, where it may be any.
    min: Option<&'static str>,
}

/// Kubernetes tells a pod its index and not of how many; [`SHARDS`] has to be set beside it.
const SCHEDULERS: [Scheduler; 5] = [
    Scheduler {
        index: "SLURM_ARRAY_TASK_ID",
        count: "SLURM_ARRAY_TASK_COUNT",
        first: 0,
        min: Some("SLURM_ARRAY_TASK_MIN"),
    },
    Scheduler { index: "JOB_COMPLETION_INDEX", count: SHARDS, first: 0, min: None },
    Scheduler { index: "CI_NODE_INDEX", count: "CI_NODE_TOTAL", first: 1, min: None },
    Scheduler { index: "CIRCLE_NODE_INDEX", count: "CIRCLE_NODE_TOTAL", first: 0, min: None },
    Scheduler {
        index: "BUILDKITE_PARALLEL_JOB",
        count: "BUILDKITE_PARALLEL_JOB_COUNT",
        first: 0,
        min: None,
    },
];

/// The number of completions of an indexed Job.
const SHARDS: &str = "MESHBENCH_SHARDS";

impl Shard {
    /// All of it.
    pub const WHOLE: Shard = Shard { index: 0, count: 1 };

    /// The part that a scheduler has given to this process, if one has.
    ///
    /// # Errors
    /// When a scheduler's variables are there and make no sense; the sentence names them.
    pub fn from_environment(
        get: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Assigned>, String> {
        for Scheduler { index: by, count, first, min } in SCHEDULERS {
            let Some(index) = get(by) else { continue };
            let total = get(count).ok_or_else(|| {
                format!(
                    "{by} is set and {count} is not; set it to the number of parts, or say --shard"
                )
            })?;
            let first = match min.and_then(&get) {
                Some(min) => number(min.as_str(), by)?,
                None => first,
            };
            let (index, total) = (number(&index, by)?, number(&total, count)?);
            let shard = index.checked_sub(first).and_then(|index| Shard::new(index, total));
            let shard = shard.ok_or_else(|| {
                format!("{by} is {index} and {count} is {total}, which is no part; say --shard")
            })?;
            return Ok(Some(Assigned { shard, by }));
        }
        Ok(None)
    }

    fn new(index: u64, count: u64) -> Option<Self> {
        (index < count).then_some(Self { index, count })
    }

    /// Whether it does this one. Of each scenario and of each seed it does an equal part.
    pub fn has(&self, item: &Item) -> bool {
        (item.nth_seed + item.scenario as u64) % self.count == self.index
    }

    /// How many of the first `seeds` seeds of a scenario it does.
    pub(super) fn part_of(&self, scenario: usize, seeds: u64) -> u64 {
        let skipped = scenario as u64 % self.count;
        let first = (self.index + self.count - skipped) % self.count;
        seeds.saturating_sub(first).div_ceil(self.count)
    }

    /// True when there is no other.
    pub fn is_whole(&self) -> bool {
        self.count == 1
    }
}

fn number(text: &str, name: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{name} is `{text}`, which is no number; say --shard"))
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index + 1, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    /// `1/4` is the first of four.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/');
        let parts = parts.and_then(|(i, n)| Some((i.parse::<u64>().ok()?, n.parse().ok()?)));
        let shard = parts.and_then(|(i, n)| Shard::new(i.checked_sub(1)?, n));
        shard.ok_or_else(|| {
            "write i/n, such as 1/4 for the first of four and 4/4 for the last".into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Option<String>, String> {
        let get = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let assigned = Shard::from_environment(get)?;
        Ok(assigned.map(|assigned| format!("{} by {}", assigned.shard, assigned.by)))
    }

    #[test]
    fn schedulers_count_from_where_they_count() {
        let slurm = [
            ("SLURM_ARRAY_TASK_ID", "10"),
            ("SLURM_ARRAY_TASK_COUNT", "4"),
            ("SLURM_ARRAY_TASK_MIN", "10"),
        ];
        assert_eq!(of(&slurm).unwrap().unwrap(), "1/4 by SLURM_ARRAY_TASK_ID");
        let gitlab = [("CI_NODE_INDEX", "4"), ("CI_NODE_TOTAL", "4")];
        assert_eq!(of(&gitlab).unwrap().unwrap(), "4/4 by CI_NODE_INDEX");
        let kubernetes = [("JOB_COMPLETION_INDEX", "2"), ("MESHBENCH_SHARDS", "3")];
        assert_eq!(of(&kubernetes).unwrap().unwrap(), "3/3 by JOB_COMPLETION_INDEX");
        let circle = [("CIRCLE_NODE_INDEX", "0"), ("CIRCLE_NODE_TOTAL", "2")];
        assert_eq!(of(&circle).unwrap().unwrap(), "1/2 by CIRCLE_NODE_INDEX");
        let buildkite = [("BUILDKITE_PARALLEL_JOB", "1"), ("BUILDKITE_PARALLEL_JOB_COUNT", "2")];
        assert_eq!(of(&buildkite).unwrap().unwrap(), "2/2 by BUILDKITE_PARALLEL_JOB");
        assert_eq!(of(&[("CI_NODE_TOTAL", "1")]).unwrap(), None, "as GitLab sets it everywhere");
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let lonely = of(&[("JOB_COMPLETION_INDEX", "2")]).unwrap_err();
        assert!(lonely.contains("MESHBENCH_SHARDS"), "{lonely}");
        let beyond = of(&[("CI_NODE_INDEX", "5"), ("CI_NODE_TOTAL", "4")]).unwrap_err();
        assert!(beyond.contains("no part"), "{beyond}");
        let zeroth = of(&[("CI_NODE_INDEX", "0"), ("CI_NODE_TOTAL", "4")]).unwrap_err();
        assert!(zeroth.contains("no part"), "{zeroth}");
        let word = of(&[("CI_NODE_INDEX", "a"), ("CI_NODE_TOTAL", "4")]).unwrap_err();
        assert!(word.contains("no number"), "{word}");
    }

    #[test]
    fn the_parts_are_all_and_do_not_overlap() {
        for wrong in ["0/4", "5/4", "1", "a/b", "1/0", "-1/4"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
        let shards: Vec<Shard> = (1..=4).map(|i| format!("{i}/4").parse().unwrap()).collect();
        let mut done = [[0; 3]; 4];
        for nth_seed in 0..40 {
            for scenario in [0, 1, 2] {
                let item = Item { scenario, seed: nth_seed + 7, nth_seed };
                let of: Vec<_> = (0..4).filter(|&shard| shards[shard].has(&item)).collect();
                assert_eq!(of.len(), 1);
                done[of[0]][scenario] += 1;
            }
        }
        assert_eq!(done, [[10; 3]; 4], "each does an equal part of each scenario");
        for (place, shard) in shards.iter().enumerate() {
            for (scenario, done) in done[place].iter().enumerate() {
                assert_eq!(shard.part_of(scenario, 40), *done);
            }
            let of_three = |nth_seed| shard.has(&Item { scenario: 1, seed: 0, nth_seed });
            assert_eq!(shard.part_of(1, 3), (0..3).filter(|n| of_three(*n)).count() as u64);
        }
    }
}
