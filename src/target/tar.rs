//! Writing entries as a POSIX tar stream with pax extensions.
