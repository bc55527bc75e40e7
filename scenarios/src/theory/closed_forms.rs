//! What queueing theory says, in service times. Pure.
//!
//! `load` is the utilisation of each server: arrivals per service time and server. All forms are
//! for Poisson arrivals and hold below a load of 1. They are in any textbook of queueing theory,
//! such as Kleinrock, "Queueing Systems" (1975), or Harchol-Balter, "Performance Modeling and
//! Design of Computer Systems" (2013).

/// Mean response time of M/M/1, which is also each part of a random split.
pub fn mm1(load: f64) -> f64 {
    1.0 / (1.0 - load)
}

/// The time within which this part of the responses of M/M/1 come: they are exponential.
pub fn mm1_quantile(load: f64, part: f64) -> f64 {
    exponential_quantile(mm1(load), part)
}

fn exponential_quantile(mean: f64, part: f64) -> f64 {
    -libm::log(1.0 - part) * mean
}

/// Mean response time of M/M/c: one queue before `servers` of them (Erlang C).
pub fn mmc(load: f64, servers: u32) -> f64 {
    let c = f64::from(servers);
    let offered = c * load;
    // a^k/k!, term by term.
    let (mut term, mut below) = (1.0, 0.0);
    for k in 0..servers {
        below += term;
        term *= offered / f64::from(k + 1);
    }
    let full = term * c / (c - offered);
    let waits = full / (below + full);
    1.0 + waits / (c - offered)
}

/// The root σ of the E_n/M/1 queue that round robin makes of each of `servers` exponential ones:
/// of every n-th arrival of a Poisson stream, the interval is Erlang-n. Exact at any n.
fn round_robin_root(load: f64, servers: u32) -> f64 {
    let n = f64::from(servers);
    let mut sigma = load;
    // A contraction below a load of 1; it gains a digit every few steps.
    for _ in 0..10_000 {
        let next = libm::pow(n * load / (n * load + 1.0 - sigma), n);
        if (next - sigma).abs() < 1e-14 {
            return next;
        }
        sigma = next;
    }
    sigma
}

/// Mean response time of round robin over exponential servers.
pub fn round_robin(load: f64, servers: u32) -> f64 {
    1.0 / (1.0 - round_robin_root(load, servers))
}

/// The time within which this part of its responses come: they are exponential too.
pub fn round_robin_quantile(load: f64, servers: u32, part: f64) -> f64 {
    exponential_quantile(round_robin(load, servers), part)
}

/// Mean response time of the shorter of `choices` random queues, of infinitely many (Vvedenskaya,
/// Dobrushin and Karpelevich 1996; Mitzenmacher 1996). Of finitely many it is longer.
pub fn shortest_of_infinitely_many(load: f64, choices: u32) -> f64 {
    let d = f64::from(choices);
    let terms = (1..64).map(|i| {
        let exponent = (libm::pow(d, f64::from(i)) - d) / (d - 1.0);
        libm::pow(load, exponent)
    });
    terms.sum()
}

/// Mean response time of M/G/1 in order of arrival (Pollaczek and Khinchine). `variation` is the
/// squared coefficient of variation of the service time: 0 if it is constant, 1 if exponential.
pub fn mg1(load: f64, variation: f64) -> f64 {
    1.0 + load * (1.0 + variation) / (2.0 * (1.0 - load))
}

/// Mean response time under processor sharing, whatever the service times are like.
pub fn processor_sharing(load: f64) -> f64 {
    1.0 / (1.0 - load)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(value: f64, want: f64) {
        assert!((value - want).abs() < 6e-4, "{value} is not {want}");
    }

    /// Values that were published or follow from another form.
    #[test]
    fn forms_agree_with_known_values_and_with_each_other() {
        close(mm1(0.7), 3.3333);
        close(mm1_quantile(0.5, 0.5), 2.0 * std::f64::consts::LN_2);
        close(mmc(0.7, 1), mm1(0.7));
        // a = 1.4 on two servers: C = 0.5765.
        close(mmc(0.7, 2), 1.0 + 0.576_47 / 0.6);
        close(round_robin(0.7, 1), mm1(0.7));
        for (load, limit) in [(0.5, 1.266), (0.7, 1.614), (0.9, 2.614)] {
            close(shortest_of_infinitely_many(load, 2), limit);
        }
        close(mg1(0.7, 1.0), mm1(0.7));
        close(mg1(0.5, 0.0), 1.5);
    }

    /// D/M/1 is what round robin over many becomes: σ = e^(−(1−σ)/ρ).
    #[test]
    fn round_robin_over_many_is_regular_arrival() {
        let load = 0.7;
        let sigma = 1.0 - 1.0 / round_robin(load, 100_000);
        close(sigma, libm::exp(-(1.0 - sigma) / load));
    }
}
