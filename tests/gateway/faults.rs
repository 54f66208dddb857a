//! A machine that fails in parts: the gateway never hangs, never serves what it cannot record, and says what is wrong.

mod clock;
mod damage;
mod disk;
mod files;
