//! What is around every page: its head, the ways to its parts, the words that it uses, and the
//! script.

use super::PageExtras;
use crate::html::escape;
use crate::record::SCHEMA;

/// One page.
pub(super) struct Page {
    /// The heading; plain text.
    pub(super) title: String,
    /// What stands below the heading.
    pub(super) lead: String,
    /// Where the page belongs, if it is one of several: a link.
    pub(super) up: Option<(&'static str, String)>,
    /// Anchor, heading and content of each part, in reading order.
    pub(super) parts: Vec<(&'static str, &'static str, String)>,
}

/// Nothing may be loaded from anywhere, whatever stands in a record.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

impl Page {
    pub(super) fn html(&self, extras: &PageExtras) -> String {
        let mut parts = String::new();
        let mut ways = String::new();
        for (anchor, heading, content) in &self.parts {
            ways.push_str(&format!("<li><a href=\"#{anchor}\">{heading}</a></li>\n"));
            parts.push_str(&format!(
                "<section id=\"{anchor}\" aria-labelledby=\"h-{anchor}\">\n\
                 <h2 id=\"h-{anchor}\">{heading}</h2>\n{content}</section>\n"
            ));
        }
        let up = self.up.as_ref().map_or(String::new(), |(file, name)| {
            format!("<li class=\"up\"><a href=\"{file}\">{}</a></li>\n", escape(name))
        });
        let title = escape(&self.title);
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
             <meta name=\"meshbench-schema\" content=\"{SCHEMA}\">\n\
             <title>{title}</title>\n<style>\n{}</style>\n</head>\n<body>\n\
             <a class=\"skip\" href=\"#content\">Skip to the content</a>\n\
             <header>\n<h1>{title}</h1>\n{}</header>\n\
             <nav aria-label=\"On this page\">\n<ul>\n{up}{ways}</ul>\n</nav>\n\
             <main id=\"content\" tabindex=\"-1\">\n{parts}</main>\n{}\
             <script>\n{}</script>\n</body>\n</html>\n",
            include_str!("style.css"),
            self.lead,
            footer(extras),
            include_str!("script.js"),
        )
    }
}

fn footer(extras: &PageExtras) -> String {
    let generator = match extras.generator.as_str() {
        "" => String::new(),
        name => format!("<p>Written by {}.</p>\n", escape(name)),
    };
    format!("<footer>\n<h2>What the words mean</h2>\n{WORDS}{generator}</footer>\n")
}

const WORDS: &str = "<dl>\n\
<dt>Response time</dt><dd>From the instant at which a request was planned, not from when it was \
sent, to the last byte of its answer. A client that falls behind cannot hide that. Requests without \
an answer count with the time after which they were given up.</dd>\n\
<dt>Success</dt><dd>Answered below 400 and before the deadline, of all that were planned. What was \
never sent counts against it.</dd>\n\
<dt>Late</dt><dd>Answered well, but after the deadline; a failure.</dd>\n\
<dt>Timeout</dt><dd>Given up by the caller; a failure.</dd>\n\
<dt>Abandoned</dt><dd>Requests at a backend that nobody waited for any more.</dd>\n\
<dt>Wasted work</dt><dd>The part of the time that backends worked which came to nothing: it was not \
answered well, nobody was waiting, or the request failed all the same.</dd>\n\
<dt>Amplification</dt><dd>Attempts that sidecars sent to the service that the client calls, for each request \
that the client sent.</dd>\n\
<dt>Time to detect, to recover</dt><dd>From the begin of a fault until the first second in which its target is \
sent less than half of an equal share, and is so for three seconds; from its end until it is sent at least half \
of one again, if it was left. The slowest of a run. By whole seconds, so less than a tenth of one is said as \
such; what never happened counts with the time that there was, after a ≥.</dd>\n\
<dt>Jain index, max/mean</dt><dd>How evenly busy the backends are: 1 when all are equally so. The \
index falls to 1 of n when one does everything; max/mean rises to n.</dd>\n\
<dt>Goodput</dt><dd>Successes per second, by the time at which the requests were planned.</dd>\n\
<dt>Share</dt><dd>Attempts that were sent to one backend, of all that were sent to its service, whether \
or not they arrived: who is down keeps no log. Where no sidecar was asked, what arrived.</dd>\n\
<dt>p99</dt><dd>99 of 100 requests took at most this long. Percentiles of several runs come from \
their merged histograms, never from averages of percentiles.</dd>\n\
</dl>\n";
