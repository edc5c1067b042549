//! What a proxy knows of its agents and of the functions on them, and what is to be done so that each function is where it should
//! be. No sockets and no files here: what has happened goes in, what is to be done comes out, and the clock is passed in.

mod agent;
mod function;
mod outcome;
mod plan;
mod state;
#[cfg(test)]
mod tests;

pub use agent::{Agent, AgentName, BadAgentName, Seen, Standing, Status};
pub use function::{Function, Good, Seat, Trial, Version};
pub use plan::Action;
pub use state::{Fleet, Refusal, Trouble};
