//! What must hold of any bytes: no panic, bounded memory, and what each target asserts beside it.

pub mod files;
pub mod headers;
pub mod streams;
