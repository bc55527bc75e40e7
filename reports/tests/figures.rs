//! The data behind each figure, as it is written beside the page. Pixels are looked at by eye; what
//! they show is held here.

#[path = "support/synthetic.rs"]
mod synthetic;

use std::fs;
use std::path::Path;

use reports::{PageExtras, RunRecord, write_page};
use synthetic::{FOUR, Model, THREE, records};

/// A few seconds of a few requests, so that a change can be read.
const TINY: Model = Model { rate: 40, seconds: 6, fault_s: (2, 4), ..THREE };

fn figures(records: &[RunRecord], check: impl FnOnce(&Path)) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    write_page(records, &PageExtras::default(), dir.path()).expect("a page");
    check(&dir.path().join("figures/gray-failure"));
}

fn names(folder: &Path, ending: &str) -> Vec<String> {
    let files = fs::read_dir(folder).expect("a folder of figures");
    let names = files.map(|f| f.expect("a file").file_name().into_string().expect("a name"));
    let mut names: Vec<String> = names.filter(|name| name.ends_with(ending)).collect();
    names.sort();
    names
}

#[test]
fn the_data_behind_each_figure() {
    let two = [FOUR[0], FOUR[3]];
    let mut all = records(&TINY, &two, &[1, 2]);
    // While the fault lasts, one of them tries again.
    for interval in all.iter_mut().skip(2).flat_map(|run| &mut run.intervals[2..4]) {
        let (Some(said), Some(throughput)) = (&mut interval.said, &mut interval.throughput) else {
            panic!("the model has both");
        };
        (said.retries, said.over_budget) = (8, 2);
        throughput.attempts += 8;
    }
    figures(&all, |folder| {
        for name in names(folder, ".csv") {
            let csv = fs::read_to_string(folder.join(&name)).expect("a file");
            insta::assert_snapshot!(name.trim_end_matches(".csv").to_owned(), csv);
        }
        assert!(names(folder, ".csv").contains(&"amplification-over-time.csv".to_owned()));
        assert!(names(folder, ".csv").contains(&"budget-over-time.csv".to_owned()));
    });
}

#[test]
fn variants_that_differ_in_their_rate_alone_have_a_knee() {
    let mut all = Vec::new();
    for rate in [20, 40, 80] {
        for mut record in records(&Model { rate, ..TINY }, &FOUR[..2], &[1, 2]) {
            record.settings.insert("load.rate".to_owned(), rate.to_string());
            record.settings.insert("balance".to_owned(), record.variant.clone());
            record.variant = format!("{}@{rate}", record.variant);
            all.push(record);
        }
    }
    figures(&all, |folder| {
        let csv = fs::read_to_string(folder.join("knee.csv")).expect("a knee");
        insta::assert_snapshot!("knee", csv);
    });
}

#[test]
fn live_runs_show_what_their_processes_used_and_how_late_the_client_was() {
    let mut all = records(&TINY, &FOUR[..1], &[1]);
    for record in &mut all {
        record.world = reports::record::World::Live;
        record.resources = (1..=6)
            .map(|second| reports::record::ResourceSample {
                at_ms: second * 1000,
                process: "sidecar".to_owned(),
                cpu_us: second * 30_000,
                memory_bytes: (10 + second) << 20,
            })
            .collect();
    }
    figures(&all, |folder| {
        let csv = fs::read_to_string(folder.join("resources.csv")).expect("what was used");
        insta::assert_snapshot!(csv, @"
        variant,process,requests_per_s,cores,memory_mib,us_a_request
        round_robin,sidecar,40,0.03,16,750
        ");
        let csv = fs::read_to_string(folder.join("send-lag-over-time.csv")).expect("the send lag");
        assert_eq!(csv.lines().count(), 1 + 2 * 6, "two lines of six intervals");
    });
}

#[test]
fn every_figure_is_a_picture_too() {
    figures(&records(&TINY, &FOUR[..2], &[1, 2]), |folder| {
        let stems = |ending: &str| -> Vec<String> {
            names(folder, ending).iter().map(|n| n.trim_end_matches(ending).to_owned()).collect()
        };
        assert_eq!(stems(".csv"), stems(".svg"));
        assert_eq!(stems(".csv"), stems(".png"));
        assert!(stems(".png").len() >= 10);
        for name in names(folder, ".png") {
            let file = fs::File::open(folder.join(&name)).expect("a picture");
            let mut reader =
                png::Decoder::new(std::io::BufReader::new(file)).read_info().expect(&name);
            let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
            let info = reader.next_frame(&mut pixels).expect("its pixels");
            assert!(info.width >= 800 && info.height >= 300, "{name} is too small to read");
            let inked = pixels.chunks(3).filter(|p| p.iter().any(|c| *c < 128)).count();
            assert!(inked > 2_000, "{name} is empty");
        }
        for name in names(folder, ".svg") {
            let svg = fs::read_to_string(folder.join(&name)).expect("a drawing");
            assert!(svg.starts_with("<svg xmlns=") && svg.contains("<desc>"), "{name}");
            // The caption may be broken between any two words.
            let words = svg.split('>').filter_map(|rest| rest.split('<').next());
            let words = words.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
            let behind = ["2 runs", "4 runs", "2 pairs"];
            assert!(behind.iter().any(|runs| words.contains(runs)), "{name}: of how many runs?");
        }
    });
}
