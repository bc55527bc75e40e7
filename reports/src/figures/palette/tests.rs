use super::*;

/// A colour as linear light, 0 to 1 a channel (IEC 61966-2-1).
type Linear = [f64; 3];

const STYLE: &str = include_str!("../../page/style.css");

/// Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision
/// Deficiency" (2009), severity 1.
const DEUTERANOPIA: [[f64; 3]; 3] = [
    [0.367_322, 0.860_646, -0.227_968],
    [0.280_085, 0.672_501, 0.047_413],
    [-0.011_820, 0.042_940, 0.968_881],
];
const PROTANOPIA: [[f64; 3]; 3] = [
    [0.152_286, 1.052_583, -0.204_868],
    [0.114_503, 0.786_281, 0.099_216],
    [-0.003_882, -0.048_116, 1.051_998],
];
const TRITANOPIA: [[f64; 3]; 3] = [
    [1.255_528, -0.076_749, -0.178_779],
    [-0.078_411, 0.930_809, 0.147_602],
    [0.004_733, 0.691_367, 0.303_900],
];
const NORMAL: [[f64; 3]; 3] = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];

fn linear(hex: &str) -> Linear {
    [0, 2, 4].map(|i| {
        let value = u8::from_str_radix(&hex[i..i + 2], 16).expect("a colour");
        match f64::from(value) / 255.0 {
            c if c <= 0.040_45 => c / 12.92,
            c => ((c + 0.055) / 1.055).powf(2.4),
        }
    })
}

fn luminance([r, g, b]: Linear) -> f64 {
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

/// As the Web Content Accessibility Guidelines define it.
fn contrast(a: &str, b: &str) -> f64 {
    let (a, b) = (luminance(linear(a)), luminance(linear(b)));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

/// Lightness and the two opponent axes of CIE L*a*b*, under daylight.
fn lab([r, g, b]: Linear) -> [f64; 3] {
    let f = |t: f64| if t > 0.008_856 { t.cbrt() } else { 7.787 * t + 16.0 / 116.0 };
    let x = f((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.950_47);
    let y = f(luminance([r, g, b]));
    let z = f((0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.088_83);
    [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
}

/// How far apart two colours are for an eye; 2 can just be told apart side by side.
fn distance(a: &str, b: &str, eye: [[f64; 3]; 3]) -> f64 {
    let seen = |hex: &str| {
        let light = linear(hex);
        lab(eye
            .map(|row| (row[0] * light[0] + row[1] * light[1] + row[2] * light[2]).clamp(0.0, 1.0)))
    };
    let (a, b) = (seen(a), seen(b));
    (0..3).map(|i| (a[i] - b[i]).powi(2)).sum::<f64>().sqrt()
}

/// The values of a variable of the style sheet: in light, then in dark.
fn variable(name: &str) -> [String; 2] {
    let before = format!("--{name}: #");
    let found = STYLE.split(&before).skip(1).map(|rest| rest[..6].to_owned());
    let found: Vec<String> = found.collect();
    [found[0].clone(), found[1].clone()]
}

#[test]
fn series_stand_out_from_the_paper_and_from_each_other_for_every_eye() {
    for mode in [0, 1] {
        let paper = &variable("paper")[mode];
        let series: Vec<String> =
            (0..6).map(|i| variable(&format!("v{i}"))[mode].clone()).collect();
        for (i, color) in series.iter().enumerate() {
            assert!(contrast(color, paper) >= 3.0, "{color} vanishes on {paper}");
            for other in &series[..i] {
                for (eye, least) in
                    [(NORMAL, 20.0), (DEUTERANOPIA, 20.0), (PROTANOPIA, 20.0), (TRITANOPIA, 12.0)]
                {
                    let apart = distance(color, other, eye);
                    assert!(apart >= least, "{color} and {other} are {apart:.1} apart");
                }
            }
        }
    }
}

#[test]
fn text_can_be_read() {
    for mode in [0, 1] {
        for text in ["ink", "muted", "link", "pass", "fail"] {
            for ground in ["paper", "soft"] {
                let (text, ground) = (&variable(text)[mode], &variable(ground)[mode]);
                assert!(contrast(text, ground) >= 4.5, "{text} on {ground}");
            }
        }
    }
}

#[test]
fn the_style_sheet_knows_every_colour() {
    let all = [INK, MUTED, GRID, SHADE, PAPER, LIMIT].into_iter().chain(SERIES);
    for RGBColor(r, g, b) in all {
        let hex = format!("#{r:02X}{g:02X}{b:02X}");
        assert!(STYLE.contains(&format!("\"{hex}\"")), "{hex} has no dark counterpart");
    }
    for (i, RGBColor(r, g, b)) in SERIES.into_iter().enumerate() {
        assert_eq!(variable(&format!("v{i}"))[0], format!("{r:02x}{g:02x}{b:02x}"));
    }
}

#[test]
fn thirty_variants_look_different() {
    for i in 0..30 {
        assert!((0..i).all(|j| look(i) != look(j)));
    }
}
