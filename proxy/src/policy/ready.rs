//! Which endpoints of a cluster may be picked now. Pure.
//!
//! A set is made when an endpoint comes or goes, not when a request is placed: picking looks at it
//! without changing or copying it. It is a list, to draw from, and a table, to ask whether an
//! endpoint is a member, so that strategies with an order of their own (a ring, a heap) need not
//! search.

use super::balance::EndpointId;

/// A set of endpoints of one cluster, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadySet {
    list: Vec<EndpointId>,
    /// By place in the cluster.
    member: Vec<bool>,
}

impl ReadySet {
    /// All of a cluster's `endpoints`.
    pub fn all(endpoints: usize) -> Self {
        Self::of(endpoints, |_| true)
    }

    /// Those of a cluster's `endpoints` that `belongs` says yes to.
    pub fn of(endpoints: usize, belongs: impl Fn(EndpointId) -> bool) -> Self {
        let mut new = Self::default();
        new.refill(endpoints, belongs);
        new
    }

    /// Becomes the set of those of a cluster's `endpoints` that `belongs` says yes to, reusing its
    /// memory.
    pub fn refill(&mut self, endpoints: usize, belongs: impl Fn(EndpointId) -> bool) {
        self.list.clear();
        self.member.clear();
        for endpoint in (0..endpoints).map(EndpointId) {
            let is_member = belongs(endpoint);
            self.member.push(is_member);
            if is_member {
                self.list.push(endpoint);
            }
        }
    }

    /// Its members, ascending.
    pub fn as_slice(&self) -> &[EndpointId] {
        &self.list
    }

    /// True when `endpoint` is one of them.
    pub fn contains(&self, endpoint: EndpointId) -> bool {
        self.member.get(endpoint.0).copied().unwrap_or(false)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_and_table_agree() {
        let mut set = ReadySet::of(5, |endpoint| endpoint.0 % 2 == 0);
        assert_eq!(set.as_slice(), [EndpointId(0), EndpointId(2), EndpointId(4)]);
        assert!((0..7).map(EndpointId).all(|e| set.contains(e) == set.as_slice().contains(&e)));
        set.refill(2, |_| false);
        assert!(set.is_empty() && !set.contains(EndpointId(0)));
        assert_eq!(set.len(), 0);
        assert_eq!(ReadySet::all(2).len(), 2);
    }
}
