//! The meter: reads an answer as it passes, leaves its bytes alone, and says what was used.
