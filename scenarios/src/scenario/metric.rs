//! What can be measured of a run, and what each metric looks at. One table; the schema, the checks
//! and the texts are made of it.

use std::fmt;

use reports::record::Unit;

use Look::{Must, No, Yes};

/// Something that can be measured of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Part of the planned requests that were answered well and in time.
    SuccessRate,
    /// Requests answered well and in time, a second; they count when they are answered.
    Goodput,
    /// Answers of any kind, a second; they count when they come.
    Throughput,
    /// Part of the planned requests that were answered with `status`.
    StatusShare,
    /// Answers that carried `flag`.
    Flagged,
    /// Part of the requests to their services that reached the instances.
    Share,
    /// The largest such part of a second.
    PeakShare,
    /// Requests that reached the instances.
    Arrivals,
    /// Requests that reached the first service, for each that was planned and sent.
    Amplification,
    /// How often the request that reached the first service most often did so.
    MostSeen,
    /// How often one request reached one instance, at most.
    MostAtOne,
    /// Requests that reached an instance when their time was up already.
    LateStarts,
    /// Part of the instances' work that was for nothing.
    WastedWork,
    /// From the begin of the first fault of the instances until their share stays low.
    TimeToDetect,
    /// From the end of that fault until their share is back.
    TimeToRecover,
    /// How often a sidecar took an instance out.
    Ejections,
    /// Part of the ejections that hit an instance with a fault.
    EjectionPrecision,
    /// Part of the faults that were answered by an ejection.
    EjectionRecall,
    /// Jain's index of the instances' utilisation: 1 when all are equally busy.
    Jain,
    /// The busiest instance's utilisation, in multiples of the mean.
    MaxOverMean,
    /// The most requests that one instance had at a time.
    PeakInWork,
    /// The most requests that the client had in flight at a time.
    PeakInFlight,
    /// Shortest response time.
    Min,
    /// Mean response time.
    Mean,
    /// A percentile of the response time.
    Response(Percentile),
    /// Longest response time.
    Max,
    /// A percentile of the time that the instances spent on a request, queueing included.
    Work(Percentile),
    /// The longest such time.
    LongestWork,
}

/// A percentile, in thousandths of a percent: above 0 and below 100 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percentile(u32);

impl Percentile {
    /// Reads what stands behind the `p`: `50`, `99.9`; `999` is 99.9 as people write it.
    fn parse(text: &str) -> Option<Self> {
        if text == "999" {
            return Some(Self(99_900));
        }
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(part) || !(1..=2).contains(&whole.len()) || part.len() > 3 {
            return None;
        }
        let thousandths: u32 = format!("{part:0<3}").parse().ok()?;
        let all = whole.parse::<u32>().ok()? * 1000 + thousandths;
        (!part.is_empty() && (1..100_000).contains(&all)).then_some(Self(all))
    }

    /// From 0 to 1.
    pub fn quantile(self) -> f64 {
        f64::from(self.0) / 100_000.0
    }

    /// How many values it takes until one of them lies beyond it.
    pub fn support(self) -> u64 {
        u64::from(100_000_u32.div_ceil(100_000 - self.0))
    }
}

impl fmt::Display for Percentile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", f64::from(self.0) / 1000.0)
    }
}

/// Whether a metric looks at a field of an expectation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    No,
    /// If it is there.
    Yes,
    /// So it has to be there.
    Must,
}

/// The fields that only some metrics look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looks {
    /// `target`, `zone` and `labels`: which instances.
    pub(super) instances: Look,
    /// `method`, `path` and `client`: which requests.
    pub(super) requests: Look,
    pub(super) status: Look,
    pub(super) flag: Look,
}

/// One row of the table.
struct Definition {
    metric: Metric,
    name: &'static str,
    unit: Unit,
    looks: Looks,
    words: &'static str,
    /// For the schema and the documentation.
    about: &'static str,
}

const fn row(
    (metric, name, unit): (Metric, &'static str, Unit),
    [instances, requests, status, flag]: [Look; 4],
    words: &'static str,
    about: &'static str,
) -> Definition {
    Definition {
        metric,
        name,
        unit,
        looks: Looks { instances, requests, status, flag },
        words,
        about,
    }
}

/// All but the percentiles. The columns of letters: instances, requests, status, flag.
#[rustfmt::skip]
static DEFINITIONS: [Definition; 26] = [
    row((Metric::SuccessRate, "success_rate", Unit::Share), [No, Yes, No, No],
        "success rate", "planned requests that were answered well and in time"),
    row((Metric::Goodput, "goodput", Unit::PerSecond), [No, Yes, No, No],
        "goodput", "answers that were good and in time, a second"),
    row((Metric::Throughput, "throughput", Unit::PerSecond), [No, Yes, No, No],
        "throughput", "answers of any kind, a second"),
    row((Metric::StatusShare, "status_share", Unit::Share), [No, Yes, Must, No],
        "share of status", "planned requests that were answered with `status`"),
    row((Metric::Flagged, "flagged", Unit::Count), [No, Yes, No, Must],
        "answers flagged", "answers in whose x-sidecar-flags `flag` stands"),
    row((Metric::Share, "share", Unit::Share), [Must, Yes, No, No],
        "share of requests", "the instances' part of what reached their services"),
    row((Metric::PeakShare, "peak_share", Unit::Share), [Must, No, No, No],
        "largest share of a second's requests", "the largest such part of a second"),
    row((Metric::Arrivals, "arrivals", Unit::Count), [Yes, Yes, No, No],
        "requests that arrived", "requests that reached the instances"),
    row((Metric::Amplification, "amplification", Unit::Factor), [No, Yes, No, No],
        "attempts for each request", "arrivals at the first service for each request sent"),
    row((Metric::MostSeen, "most_seen", Unit::Count), [No, Yes, No, No],
        "most arrivals of one request", "how often any one request reached the first service"),
    row((Metric::MostAtOne, "most_at_one", Unit::Count), [Yes, Yes, No, No],
        "most arrivals of one request at one instance",
        "how often any one request reached the same instance"),
    row((Metric::LateStarts, "late_starts", Unit::Count), [Yes, Yes, No, No],
        "attempts past the deadline", "requests that arrived when their time was up already"),
    row((Metric::WastedWork, "wasted_work", Unit::Share), [Yes, Yes, No, No],
        "share of work for nothing",
        "the part of the work time whose answer nobody could use: cancelled, or too late"),
    row((Metric::TimeToDetect, "time_to_detect", Unit::Time), [Must, No, No, No],
        "time to detect the fault",
        "from the begin of the first fault until less than half of a fair share arrives there for \
         three seconds; what is down logs nothing, so of a crash this says little"),
    row((Metric::TimeToRecover, "time_to_recover", Unit::Time), [Must, No, No, No],
        "time to recover from the fault",
        "from the end of that fault until the share is at least half of a fair one"),
    row((Metric::Ejections, "ejections", Unit::Count), [Yes, No, No, No],
        "ejections", "how often a sidecar took an instance out"),
    row((Metric::EjectionPrecision, "ejection_precision", Unit::Share), [Yes, No, No, No],
        "precision of ejections", "the part of the ejections that hit an instance with a fault"),
    row((Metric::EjectionRecall, "ejection_recall", Unit::Share), [Yes, No, No, No],
        "recall of ejections", "the part of the faults during which the instance was taken out"),
    row((Metric::Jain, "jain", Unit::Number), [Yes, No, No, No],
        "Jain index of utilisation", "1 when all instances are equally busy, 1/n when one is"),
    row((Metric::MaxOverMean, "max_over_mean", Unit::Factor), [Yes, No, No, No],
        "utilisation of the busiest instance over the mean",
        "how many times as busy as the mean the busiest instance is"),
    row((Metric::PeakInWork, "peak_in_work", Unit::Count), [Yes, No, No, No],
        "most requests at one instance at a time", "the most requests that one instance had"),
    row((Metric::PeakInFlight, "peak_in_flight", Unit::Count), [No, Yes, No, No],
        "most requests in flight", "the most requests that the client had sent and not settled"),
    row((Metric::Min, "min", Unit::Time), [No, Yes, Yes, No],
        "shortest response time", "the shortest response time"),
    row((Metric::Mean, "mean", Unit::Time), [No, Yes, Yes, No],
        "mean response time", "the mean response time"),
    row((Metric::Max, "max", Unit::Time), [No, Yes, Yes, No],
        "longest response time", "the longest response time"),
    row((Metric::LongestWork, "longest_work", Unit::Time), [Yes, Yes, No, No],
        "longest work at an instance", "the longest time of a request at an instance, queueing included"),
];

const OF_RESPONSES: Looks = Looks { instances: No, requests: Yes, status: Yes, flag: No };
const OF_WORK: Looks = Looks { instances: Yes, requests: Yes, status: No, flag: No };

impl Metric {
    /// The metric of this name.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(row) = DEFINITIONS.iter().find(|row| row.name == name) {
            return Some(row.metric);
        }
        match name.strip_prefix("work_p") {
            Some(percentile) => Percentile::parse(percentile).map(Metric::Work),
            None => Percentile::parse(name.strip_prefix('p')?).map(Metric::Response),
        }
    }

    /// Names to choose from: all, with some of the percentiles.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::documented().map(|(name, _)| name)
    }

    /// The same, and what each of them is.
    pub fn documented() -> impl Iterator<Item = (&'static str, &'static str)> {
        let percentiles = [
            ("p50", "the median response time"),
            ("p90", "the time within which 90 % were over; any percentile is written so"),
            ("p99", "the time within which 99 % were over"),
            ("p99.9", "the time within which 99.9 % were over"),
            ("work_p50", "the median time of a request at an instance, queueing included"),
            ("work_p99", "the time within which instances were done with 99 %"),
        ];
        DEFINITIONS.iter().map(|row| (row.name, row.about)).chain(percentiles)
    }

    fn definition(self) -> Option<&'static Definition> {
        DEFINITIONS.iter().find(|row| row.metric == self)
    }

    /// As scenario files name it.
    pub fn name(self) -> String {
        match (self, self.definition()) {
            (_, Some(row)) => row.name.to_owned(),
            (Metric::Work(percentile), None) => format!("work_{percentile}"),
            (Metric::Response(percentile), None) => percentile.to_string(),
            _ => format!("{self:?}"),
        }
    }

    /// What it is a number of.
    pub fn unit(self) -> Unit {
        self.definition().map_or(Unit::Time, |row| row.unit)
    }

    pub(super) fn looks(self) -> Looks {
        match (self, self.definition()) {
            (_, Some(row)) => row.looks,
            (Metric::Work(_), None) => OF_WORK,
            _ => OF_RESPONSES,
        }
    }

    /// In words, for reports.
    pub fn words(self) -> String {
        match (self, self.definition()) {
            (_, Some(row)) => row.words.to_owned(),
            (Metric::Work(percentile), None) => format!("{percentile} work at an instance"),
            (metric, None) => format!("{} response time", metric.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back() {
        for name in Metric::names() {
            assert_eq!(Metric::parse(name).unwrap().name(), name);
        }
        assert_eq!(Metric::parse("p999"), Metric::parse("p99.9"));
        assert_eq!(Metric::parse("p99.9").unwrap().words(), "p99.9 response time");
        assert_eq!(Metric::parse("work_p50").unwrap().words(), "p50 work at an instance");
    }

    #[test]
    fn percentiles_lie_between_0_and_100() {
        let quantile = |text: &str| Percentile::parse(text).map(Percentile::quantile);
        assert_eq!(quantile("50"), Some(0.5));
        assert_eq!(quantile("99.95"), Some(0.9995));
        assert_eq!(quantile("0.5"), Some(0.005));
        for wrong in ["", "0", "100", "9999", "99.", ".5", "99.9999", "-1", "5e1", "９", "99.9.9"]
        {
            assert_eq!(quantile(wrong), None, "{wrong}");
        }
        let support = |text: &str| Percentile::parse(text).map(Percentile::support);
        assert_eq!(
            [support("50"), support("99"), support("99.9")],
            [Some(2), Some(100), Some(1000)]
        );
    }

    #[test]
    fn each_metric_has_one_row() {
        for (place, row) in DEFINITIONS.iter().enumerate() {
            assert!(!DEFINITIONS[..place].iter().any(|earlier| earlier.metric == row.metric));
            assert!(!row.words.is_empty() && !row.about.is_empty());
        }
    }
}
