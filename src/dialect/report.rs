//! Where usage sits in an answer, normalised to totals that contain their parts.
