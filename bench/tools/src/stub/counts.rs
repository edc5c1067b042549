//! What the stub saw: requests, connections, and how many requests were ever in flight at once.

#[derive(Debug)]
pub struct Counts {
    pub requests: u64,
    pub connections: u64,
    /// The most requests that one connection ever had unanswered.
    pub most_per_connection: usize,
    /// The most requests that one port, however many its connections, ever had unanswered.
    pub most_per_port: usize,
    round: Vec<usize>,
}

impl Counts {
    pub fn new(ports: usize) -> Self {
        Self {
            requests: 0,
            connections: 0,
            most_per_connection: 0,
            most_per_port: 0,
            round: vec![0; ports],
        }
    }

    pub fn arrived(&mut self, port: usize, requests: usize) {
        self.requests += requests as u64;
        self.most_per_connection = self.most_per_connection.max(requests);
        self.round[port] += requests;
    }

    /// Everything that arrived in this round is about to be answered.
    pub fn end_of_round(&mut self) {
        for arrived in &mut self.round {
            self.most_per_port = self.most_per_port.max(*arrived);
            *arrived = 0;
        }
    }

    /// What was seen since the last call.
    pub fn take(&mut self) -> String {
        let seen = format!(
            r#"{{"requests":{},"connections":{},"most_per_connection":{},"most_per_port":{}}}"#,
            self.requests, self.connections, self.most_per_connection, self.most_per_port
        );
        *self = Self::new(self.round.len());
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_is_seen_within_a_round_only() {
        let mut counts = Counts::new(2);
        counts.arrived(0, 1);
        counts.end_of_round();
        counts.arrived(0, 1);
        counts.arrived(1, 1);
        counts.end_of_round();
        assert_eq!((counts.most_per_connection, counts.most_per_port), (1, 1));
        counts.arrived(1, 1);
        counts.arrived(1, 1);
        counts.end_of_round();
        assert_eq!((counts.most_per_connection, counts.most_per_port), (1, 2));
    }
}
