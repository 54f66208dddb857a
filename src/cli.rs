//! The command line: one file a command. A command takes its parsed arguments and what it reads, and answers with what
//! goes to standard output; `main` opens the store, prints, and turns an error into an exit code.

pub mod check;
pub mod margin;
pub mod prices;
mod progress;
pub mod whatif;
pub mod when;
