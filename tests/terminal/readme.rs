//! The README shows what the program really prints.
