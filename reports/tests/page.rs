//! The page as a reader opens it.

#[path = "support/synthetic.rs"]
mod synthetic;

use std::fs;
use std::path::Path;

use reports::record::{Interval, Served};
use reports::{Bitmaps, PageExtras, ReportError, RunRecord, write_page};
use synthetic::{ELEVEN, FOUR, Model, THREE, many_variants, records, run};

/// The experiment of eleven backends at a tenth of its rate, which is quick and looks the same.
const SMALL: Model = Model { rate: 100, ..ELEVEN };

fn page(records: &[RunRecord], extras: &PageExtras) -> String {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = write_page(records, extras, dir.path()).expect("a page");
    fs::read_to_string(path).expect("the page can be read")
}

/// Everything that must hold for any page.
fn assert_sound(html: &str) {
    let body = html.split_once("<body>").expect("a body").1;
    let (body, script) = body.split_once("<script>").expect("a script");
    let wrong = ["NaN", "inf ", ">inf", "http://", "https://", "<script", "null, null"];
    // A zero with a sign, and not the beginning of a small number.
    let signed = ["-0.0,", "-0.0]", "-0.0<", "-0.0 ", "-0.0&", ">-0<", " -0 "];
    for bad in wrong.into_iter().chain(signed) {
        assert!(!body.contains(bad), "the page contains {bad}");
    }
    assert_eq!(script.matches("</script>").count(), 1, "nothing ends the script early");
    assert_well_formed(body);
}

/// Every element that opens closes in order. Enough of a parser for a page that quotes all its
/// attributes and escapes all its text.
fn assert_well_formed(html: &str) {
    let mut open: Vec<&str> = Vec::new();
    for tag in html.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap_or_else(|| panic!("unclosed tag: {tag:.60}"));
        let name = tag.split([' ', '/']).find(|n| !n.is_empty()).unwrap_or_default();
        if tag.starts_with('/') {
            assert_eq!(Some(name), open.pop(), "</{name}> closes another element");
        } else if !tag.ends_with('/') && name != "br" && !name.starts_with('!') {
            assert_eq!(tag.matches('"').count() % 2, 0, "an attribute is not quoted: {tag:.60}");
            open.push(name);
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
}

#[test]
fn a_page_has_every_figure_and_number() {
    let html = page(&records(&SMALL, &FOUR, &[1, 2, 3, 4, 5]), &PageExtras::default());
    assert_sound(&html);
    for figure in [
        "Response time by percentile",
        "Response time over time",
        "Offered load and goodput over time",
        "Share of each backend of web",
        "Share of the backends of web over time",
    ] {
        assert!(html.contains(&format!("<figcaption><b>{figure}</b>")), "{figure} is missing");
    }
    // Percentiles, their distribution, and shares; three differences to the first variant; and four
    // figures of each of the four, beside three of its backends.
    assert_eq!(html.matches("<svg ").count(), 3 + 3 + (4 + 3) * 4);
    assert_eq!(html.matches("role=\"img\"").count(), html.matches("<svg ").count());
    assert_eq!(html.matches("<desc>").count(), html.matches("<svg ").count());
    assert!(html.contains("✗ 20 of 40 expectations failed"));
    assert!(html.contains("web-0 slow: constant 2000 ms"));
    assert!(html.contains("\ndeadline and timeout 1 s\n"));
    assert!(!html.contains("What to distrust"));
    // Every variant against round_robin, with a mark for each metric.
    assert!(html.contains("the baseline</small>"));
    for mark in ["▲ better", "= no difference shown"] {
        assert!(html.contains(mark), "no metric is marked {mark}");
    }
    assert!(html.contains("Against round_robin, with 95 % intervals: "));
    // In the order of the questions that a reader has.
    let places = ["verdict", "comparison", "figures", "told", "reproduce"];
    let places = places.map(|id| html.find(&format!("<section id=\"{id}\"")).expect(id));
    assert!(places.is_sorted());
}

#[test]
fn the_records_lie_beside_the_page_and_make_the_same_page_again() {
    let all = records(&SMALL, &FOUR[..2], &[1, 2]);
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let page = write_page(&all, &PageExtras::default(), first.path()).unwrap();
    let read: Vec<RunRecord> = all
        .iter()
        .map(|r| RunRecord::read(&first.path().join("records").join(r.file_name())).unwrap())
        .collect();
    assert_eq!(read, all);
    for (read, written) in read.iter().zip(&all) {
        assert!(read.to_json().unwrap() == written.to_json().unwrap(), "another text when read");
    }
    let again = write_page(&read, &PageExtras::default(), second.path()).unwrap();
    let (page, again) = (fs::read_to_string(page).unwrap(), fs::read_to_string(again).unwrap());
    assert!(page == again, "the same records gave another page");
    let figures = first.path().join("figures").join("skewed-latency");
    for file in ["percentiles.svg", "percentiles.png", "response-over-time.csv"] {
        let of = |dir: &Path| fs::read(dir.join("figures/skewed-latency").join(file)).expect(file);
        assert!(of(first.path()) == of(second.path()), "{file} differs");
        assert!(page.contains(&format!("href=\"figures/skewed-latency/{file}\"")));
    }
    assert_eq!(fs::read_dir(figures).unwrap().count(), 3 * page.matches("<figure>").count());
    for record in &all {
        assert!(page.contains(&format!("href=\"records/{}\"", record.file_name())));
    }
}

#[test]
fn three_backends_are_drawn_one_by_one() {
    let html = page(&records(&THREE, &FOUR[..2], &[1, 2, 3]), &PageExtras::default());
    assert_sound(&html);
    assert!(html.contains("\nweb-2\n"), "each backend has a named line");
    assert!(!html.contains("\nother 2\n"));
    let eleven = page(&records(&SMALL, &FOUR[..2], &[1, 2, 3]), &PageExtras::default());
    assert!(eleven.contains("\nother 10\n"));
}

#[test]
fn markup_in_names_stays_text() {
    let evil = "<script>alert(1)</script>\"&'";
    let mut all = records(&SMALL, &FOUR[..2], &[1]);
    for record in &mut all {
        record.scenario.name = evil.to_owned();
        record.scenario.title = evil.to_owned();
        record.scenario.about = evil.to_owned();
        record.scenario.text = evil.to_owned();
        record.variant.push_str(evil);
        record.system = evil.to_owned();
        record.replay = evil.to_owned();
        record.plan.arrivals = evil.to_owned();
        record.trace_hash = Some(evil.to_owned());
        record.environment.engine = evil.to_owned();
        record.events[0].detail = evil.to_owned();
        record.checks[0].what = evil.to_owned();
        record.checks[0].wanted = evil.to_owned();
        record.checks[0].measured = evil.to_owned();
        for endpoint in &mut record.endpoints {
            endpoint.name.push_str(evil);
            endpoint.service = evil.to_owned();
        }
    }
    let extras = PageExtras {
        title: evil.to_owned(),
        generator: evil.to_owned(),
        command: evil.to_owned(),
        not_run: vec![evil.to_owned()],
        broken: vec![evil.to_owned()],
        remarks: vec![evil.to_owned()],
        baseline: Some(evil.to_owned()),
        bitmaps: Bitmaps::Written,
    };
    assert_sound(&page(&all, &extras));
}

#[test]
fn what_was_not_run_is_said_at_the_top() {
    let extras = PageExtras {
        not_run: vec!["skewed-latency, peak_ewma, seed 5".to_owned()],
        broken: vec!["skewed-latency, random, seed 2: the engine panicked".to_owned()],
        ..PageExtras::default()
    };
    let html = page(&records(&SMALL, &FOUR[2..], &[1, 2, 3, 4, 5]), &extras);
    let (top, _) = html.split_once("<section id=\"comparison\"").expect("a comparison");
    assert!(top.contains("not everything was run"));
    assert!(top.contains("skewed-latency, peak_ewma, seed 5"));
    assert!(top.contains("the engine panicked"));
    assert!(top.contains("badge plain"), "an incomplete set of runs is no success");
}

#[test]
fn one_run_without_faults_expectations_or_traffic_is_drawn() {
    let mut record = run(&Model { rate: 1, ..SMALL }, &FOUR[0], 1);
    record.events.clear();
    record.checks.clear();
    record.plan.deadline_ms = None;
    let html = page(&[record.clone()], &PageExtras::default());
    assert_sound(&html);
    assert!(html.contains("No fault was injected."));
    assert!(html.contains("Nothing was expected of these runs"));
    assert!(html.contains("only 1 seed per variant"));
    // Silence in the middle of a run, and then a run of nothing else.
    for silent in 10..20 {
        silence(&mut record, silent);
    }
    assert_sound(&page(&[record.clone()], &PageExtras::default()));
    for silent in 0..record.intervals.len() {
        silence(&mut record, silent);
    }
    record.latency = Default::default();
    record.accounting = Default::default();
    record.endpoints.iter_mut().for_each(|e| e.total = Served::default());
    assert_sound(&page(&[record.clone()], &PageExtras::default()));
    record.intervals.clear();
    record.endpoints.clear();
    assert_sound(&page(&[record], &PageExtras::default()));
}

fn silence(record: &mut RunRecord, interval: usize) {
    let Interval { start_ms, length_ms, .. } = record.intervals[interval];
    record.intervals[interval] = Interval { start_ms, length_ms, ..Interval::default() };
    for endpoint in &mut record.endpoints {
        let series = &mut endpoint.series;
        let counts = [&mut series.arrived, &mut series.ok, &mut series.errors];
        counts.into_iter().for_each(|count| count[interval] = 0);
        (series.cancelled[interval], series.crashed[interval]) = (0, 0);
    }
}

#[test]
fn many_variants_services_and_faults_are_drawn() {
    let mut all = Vec::new();
    for i in 0..9 {
        let mut record = run(&Model { rate: 20, ..THREE }, &FOUR[0], 1);
        record.variant = format!("variant number {i} with a name that is much too long to fit");
        let fault = record.events[0].clone();
        for n in 0..6 {
            let target = format!("db-{n}");
            let until_ms = (n % 2 == 0).then_some(29_500);
            let at_ms = 29_000 - n * 4000;
            let detail = format!("loss: {n} %");
            record.events.push(reports::record::Event {
                target,
                at_ms,
                until_ms,
                detail,
                ..fault.clone()
            });
        }
        let web = record.endpoints.clone();
        record.endpoints.extend(web.into_iter().map(|mut e| {
            e.name = e.name.replace("web", "db");
            e.service = "db".to_owned();
            e
        }));
        all.push(record);
    }
    let html = page(&all, &PageExtras::default());
    assert_sound(&html);
    // Percentiles, their distribution, and the shares of two services; the difference to the first
    // of each other variant; four figures of each, and three of each service.
    assert_eq!(html.matches("<svg ").count(), 4 + 8 + 9 * (4 + 2 * 3));
    assert!(html.contains("other faults"));
}

#[test]
fn several_scenarios_have_a_page_each_and_an_index() {
    let mut all = records(&SMALL, &FOUR[..3], &[1, 2]);
    all.extend(records(&THREE, &FOUR[1..], &[1]));
    let extras = PageExtras { not_run: vec!["a, b".to_owned()], ..PageExtras::default() };
    let dir = tempfile::tempdir().unwrap();
    let index = fs::read_to_string(write_page(&all, &extras, dir.path()).unwrap()).unwrap();
    assert_sound(&index);
    for name in ["skewed-latency", "gray-failure"] {
        let file = format!("scenario-{name}.html");
        assert!(index.contains(&format!("<a href=\"{file}\">{name}</a>")));
        let page = fs::read_to_string(dir.path().join(file)).unwrap();
        assert_sound(&page);
        assert!(page.contains("<a href=\"index.html\">All scenarios</a>"));
        assert!(!page.contains("not everything was run"), "that is said on the first page");
    }
    assert!(index.contains("not everything was run"));
    // The two variants that both have are columns; the other two stand in the last one.
    let matrix = index.split_once("<section id=\"matrix\"").expect("a matrix").1;
    let heads = matrix.split_once("</thead>").expect("a head").0;
    assert_eq!(heads.matches("<th scope=\"col\"").count(), 1 + 2 + 1);
    let (held, rest) = matrix.split_once("</h3>").expect("a group");
    assert!(held.ends_with("random, least_request"), "{held}");
    assert_eq!(rest.matches("class=\"chip\"").count(), 3 + 3);
    // Every mark leads to the expectations behind it.
    for link in rest.split("<a href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
        let Some((file, anchor)) = link.split_once('#') else { continue };
        let page = fs::read_to_string(dir.path().join(file)).unwrap();
        assert_eq!(page.matches(&format!("<tbody id=\"{anchor}\"")).count(), 1, "{link}");
    }
    // What is doubtful about one scenario does not stand on the page of another.
    let gray = fs::read_to_string(dir.path().join("scenario-gray-failure.html")).unwrap();
    assert!(gray.contains("only 1 seed per variant"));
    let skewed = fs::read_to_string(dir.path().join("scenario-skewed-latency.html")).unwrap();
    assert!(!skewed.contains("only 1 seed per variant"));
}

#[test]
fn a_variant_that_is_there_to_fail_reads_as_neither_met_nor_missed() {
    let mut all = records(&SMALL, &FOUR[..2], &[1, 2]);
    all.extend(records(&THREE, &FOUR[..2], &[1, 2]));
    for record in &mut all {
        let foil = record.variant == FOUR[0].name;
        for check in &mut record.checks {
            (check.must_fail, check.held) = (foil, !foil);
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let index = fs::read_to_string(write_page(&all, &PageExtras::default(), dir.path()).unwrap());
    let index = index.unwrap();
    let (key, matrix) = index.split_once("<section id=\"matrix\"").expect("a matrix");
    let tables = matrix.split_once("<h3>").expect("a group").1;
    assert!(key.contains("2 variants met all expectations. 2 variants had to miss at least one"));
    assert_eq!(tables.matches("✓ met").count(), 2);
    assert_eq!(tables.matches("◇ fails as meant").count(), 2);
    assert!(!tables.contains("✗"));
    let gray = fs::read_to_string(dir.path().join("scenario-gray-failure.html")).unwrap();
    assert!(gray.contains("missed what had to be missed, and held the rest"));
    assert!(gray.contains("◇ missed, as meant"));
    // What had to fail and did not is missed, and stands first.
    all[0].checks[0].held = true;
    let index = page(&all, &PageExtras::default());
    let verdict = index.split_once("<section id=\"matrix\"").expect("a matrix").0;
    let (top, after) = verdict.split_once("<h3>Not met</h3>").expect("what was missed");
    assert!(!top.contains("met all that was expected"));
    assert!(after.contains("1 of 2 scenarios met all that was expected"));
    assert!(index.contains("✗ 1 missed"));
}

#[test]
fn many_variants_are_folded_and_all_there() {
    let many = many_variants(&Model { rate: 20, ..SMALL }, 18, 1);
    let html = page(&many, &PageExtras::default());
    assert_sound(&html);
    let time = html.split_once("<b>Response time over time</b>").expect("a figure").1;
    let time = time.split_once("</figure>").expect("its end").0;
    let (open, folded) = time.split_once("<details>").expect("what is folded");
    assert_eq!((open.matches("<svg ").count(), folded.matches("<svg ").count()), (6, 12));
    assert!(folded.contains("<summary>12 more, on the same scales</summary>"));
}

#[test]
fn without_bitmaps_nothing_links_to_one() {
    let extras = PageExtras { bitmaps: Bitmaps::LeftOut, ..PageExtras::default() };
    let all = records(&SMALL, &FOUR[..2], &[1]);
    let dir = tempfile::tempdir().unwrap();
    let html = fs::read_to_string(write_page(&all, &extras, dir.path()).unwrap()).unwrap();
    assert!(html.contains(".svg\"") && !html.contains(".png\""));
    assert!(dir.path().join("figures/skewed-latency/percentiles.svg").is_file());
    assert!(!dir.path().join("figures/skewed-latency/percentiles.png").exists());
}

#[test]
fn no_records_and_the_same_run_twice_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let error = write_page(&[], &PageExtras::default(), dir.path()).unwrap_err();
    assert!(matches!(error, ReportError::Empty));
    assert!(error.to_string().contains("nothing to report"));
    let twice = [run(&SMALL, &FOUR[0], 1), run(&SMALL, &FOUR[0], 1)];
    let error = write_page(&twice, &PageExtras::default(), dir.path()).unwrap_err();
    assert!(matches!(error, ReportError::Duplicate { seed: 1, .. }));
    let mut other = run(&SMALL, &FOUR[0], 1);
    other.schema = "meshbench.run/0".to_owned();
    let error = write_page(&[other], &PageExtras::default(), dir.path()).unwrap_err();
    assert!(matches!(error, ReportError::Record(_)));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "a refused page leaves nothing");
}

#[test]
fn the_same_seed_on_two_systems_gets_two_files() {
    let mut other = run(&SMALL, &FOUR[0], 1);
    other.system = "../envoy".to_owned();
    let dir = tempfile::tempdir().unwrap();
    write_page(&[run(&SMALL, &FOUR[0], 1), other], &PageExtras::default(), dir.path()).unwrap();
    let mut files: Vec<String> = fs::read_dir(dir.path().join("records"))
        .unwrap()
        .map(|f| f.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(
        files,
        [
            "skewed-latency--round_robin--seed-1--simulated-_._envoy.json",
            "skewed-latency--round_robin--seed-1.json",
        ]
    );
}

/// What the page of two hundred runs may have.
const MOST_BYTES: u64 = 8 << 20;

#[test]
fn a_report_of_two_hundred_runs_is_small() {
    let long = Model { rate: 20, ..ELEVEN };
    let all = many_variants(&long, 20, 10);
    assert_eq!(all.len(), 200);
    let dir = tempfile::tempdir().unwrap();
    let page = write_page(&all, &PageExtras::default(), dir.path()).unwrap();
    let bytes = fs::metadata(page).unwrap().len();
    assert!(bytes <= MOST_BYTES, "a page of twenty variants has {bytes} bytes");
    let seeds: Vec<u64> = (1..=100).collect();
    let page = write_page(&records(&long, &FOUR[2..], &seeds), &PageExtras::default(), dir.path());
    let bytes = fs::metadata(page.unwrap()).unwrap().len();
    assert!(bytes <= MOST_BYTES / 8, "a page of two variants has {bytes} bytes");
}
