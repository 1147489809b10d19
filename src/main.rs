//! `muttd`: parses the arguments and runs the command.

use std::process::ExitCode;

/// Events are made on one thread and dropped on another all day long, and glibc's arenas keep what such a pattern frees:
/// see docs/adr/ADR-007-allocator.md for the figures.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Two arenas serve two cores. What is freed goes back to the system within ten seconds: sooner, and a busy process would
/// give back and fetch again the same pages all the time (ADR-012).
const ALLOCATOR_OPTIONS: &[u8; 48] = b"narenas:2,dirty_decay_ms:10000,muzzy_decay_ms:0\0";

/// jemalloc reads its options from this symbol, a pointer to a C string, before `main` runs.
// SAFETY: the name is jemalloc's own and nobody else defines it; a reference to an array is a thin pointer, and the text
// ends with a NUL.
#[unsafe(export_name = "_rjem_malloc_conf")]
static MALLOC_CONF: &[u8; 48] = ALLOCATOR_OPTIONS;

fn main() -> ExitCode {
    muttd::cli::run()
}
