//! Calendar windows and billing periods, in UTC. Pure: every function takes the moment it is asked about.
