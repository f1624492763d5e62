//! MDF files: reading, checking, writing.
