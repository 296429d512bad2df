//! What another revision would have done in a recorded run.
