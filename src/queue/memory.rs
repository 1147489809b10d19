//! A queue in memory, for tests of what uses a queue.
