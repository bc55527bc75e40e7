//! What a run leaves behind, in everyone's format.

pub(super) mod csv;
pub(super) mod hdr_log;
pub(super) mod hgrm;
pub(super) mod text;
